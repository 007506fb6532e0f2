#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# release.sh - a release of an application whose engine is MLX has what it needs in itself: built by Mix
# alone from a copy of this tree, with a cache of MLX and no index, it runs in another folder when the
# copy and the cache are gone. Needs `make mlx`.
cd "$(dirname "$0")/../.." || exit 1
skip() {
    echo "skipped: a release with MLX; $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
command -v mix >/dev/null || skip "there is no Mix here"
reason=$(scripts/have-nx) || skip "$reason"
[ -e priv/mlx/mlx/lib ] || skip "make mlx has built no adapter"
unset MAKEFLAGS MAKELEVEL MFLAGS EMLX_MLX_ADAPTER EMLX_ENGINE
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
ok() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "failed: $1"
        tail -n 20 "$work/out" | sed 's/^/    /'
    fi
}

# What the package has and what is built, so that the library is not compiled again; MLX in a cache of
# its own.
mkdir -p "$work/emlx/build" "$work/app/lib" "$work/elsewhere"
cp -a lib nif src include cli scripts priv Makefile mix.exs .formatter.exs "$work/emlx/"
cp -al build/obj "$work/emlx/build/" 2>/dev/null || cp -a build/obj "$work/emlx/build/"
cp -a build/emlx build/libemlx* "$work/emlx/build/"
rm -rf "$work"/emlx/priv/mlx "$work"/emlx/priv/libemlx_mlx.* "$work"/emlx/build/libemlx_mlx.*
mkdir -p "$work/cache/trees"
cp -R "$(cd priv/mlx && pwd -P)" "$work/cache/trees/"

cat >"$work/app/mix.exs" <<'ELIXIR'
defmodule Tiny.MixProject do
  use Mix.Project

  # Nx lies in Erlang's own library path, where there is no Hex.
  def project do
    [app: :tiny, version: "0.1.0", deps: [{:emlx, path: "../emlx"}], prune_code_paths: false]
  end

  def application, do: [extra_applications: [:logger]]
end
ELIXIR
cat >"$work/app/lib/tiny.ex" <<'ELIXIR'
defmodule Tiny do
  import Nx.Defn
  defn softmax(x), do: Nx.exp(x) / Nx.sum(Nx.exp(x))

  def run(device) do
    Nx.default_backend({EMLX.Backend, device: device})
    x = Nx.tensor([0.0, 0.0, 0.0, 0.0])
    sum = Nx.Defn.jit_apply(&softmax/1, [x], compiler: EMLX, device: device) |> Nx.sum()
    IO.puts("sum #{Nx.to_number(sum)} on #{EMLX.default_device()}, handed over #{inspect(EMLX.handovers(device))}")
    maps = File.read("/proc/self/maps")
    with {:ok, text} <- maps, [path] <- Regex.run(~r{/\S*/libmlx\.so}, text), do: IO.puts("from #{path}")
    for line <- EMLX.Doctor.lines(), do: IO.puts(inspect(line))
  end
end
ELIXIR

mkdir "$work/app/config"
printf 'import Config\nconfig :emlx, engine: :mlx\n' >"$work/app/config/config.exs"
(cd "$work/app" && env MIX_ENV=prod LIBMLX_CACHE="$work/cache" PIP_NO_INDEX=1 mix release --quiet) \
    >"$work/out" 2>&1
ok "a release is built" $?
mv "$work/app/_build/prod/rel/tiny" "$work/elsewhere/tiny" 2>>"$work/out"
ok "in a folder of its own" $?
rm -rf "$work/emlx" "$work/app" "$work/cache"
priv=$(echo "$work"/elsewhere/tiny/lib/emlx-*/priv)
[ -f "$priv/mlx/mlx/lib/libmlx.so" ] || { [ -f "$priv/mlx/mlx/lib/libmlx.dylib" ] && [ -f "$priv/mlx/mlx/lib/mlx.metallib" ]; }
ok "it has MLX, on a Mac with its shaders" $?
[ -z "$(find "$work/elsewhere/tiny" -type l ! -path '*/bin/*' | head -n 3)" ]; ok "and leads nowhere else" $?

device=mlx-cpu
[ "$(uname)" != Darwin ] || device=gpu
cd "$work/elsewhere" || exit 1
tiny/bin/tiny eval "Tiny.run(:\"$device\")" >"$work/out" 2>&1
ok "it runs" $?
grep -q '^sum 1.0 on' "$work/out"; ok "on MLX" $?
[ "$(uname)" = Darwin ] || grep -q "^from $work/elsewhere/tiny/lib/emlx-.*/libmlx.so" "$work/out"
ok "of its own" $?
tiny/bin/tiny eval 'Tiny.run(:cpu)' >"$work/out" 2>&1 && grep -q '^sum 1.0 on' "$work/out"
ok "and on the CPU" $?
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
