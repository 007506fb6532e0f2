#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# beam.sh [BUILD] - MLX's CPU on the BEAM: it starts no program and catches no signal; the Elixir
# suites and Nx's own tests (NX_SOURCE) pass there but for test/mlx/known.txt and the lines of
# test/nx/known.txt that begin with [mlx]; processes that share, serve and are killed by the thousand
# leave nothing behind (STRESS_SECONDS, 5); a release has MLX in itself. QUICK=1 leaves out Nx's own
# tests and the longer half of the suites. Needs `make mlx`.
cd "$(dirname "$0")/../.." || exit 1
build=${1:-build}
skip() {
    echo "skipped: MLX on the BEAM; $1"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
}
command -v elixir >/dev/null || skip "there is no Elixir here"
[ -f priv/libemlx_mlx.so ] || [ -f priv/libemlx_mlx.dylib ] || skip "make mlx has built no adapter"
unset MAKEFLAGS MAKELEVEL MFLAGS EMLX_MLX_ADAPTER
status=0
app=$build/beam/emlx
test/nif/app "$app" priv || exit 1
test/nif/children.sh "$app/ebin" mlx-cpu || status=1

reason=$(scripts/have-nx) || skip "$reason"
EMLX_TEST_DEVICE=mlx-cpu
export EMLX_TEST_DEVICE
lives="test/elixir/serving_test.exs test/elixir/life_test.exs test/elixir/sharing_test.exs
    test/elixir/stress_test.exs"
if [ -n "${QUICK:-}" ]; then
    # The doctests of all operations are among these.
    mix test test/elixir/values/doctest_test.exs test/elixir/values/fast_test.exs \
        test/elixir/values/quantization_test.exs test/elixir/defn/loops_test.exs \
        test/elixir/defn/branches_test.exs $lives || status=1
else
    mix test test/elixir/values test/elixir/defn test/elixir/pairs_test.exs $lives || status=1
    MIX_ENV="test" mix run test/nx/run.exs || status=1
fi
test/mlx/release.sh || status=1
exit $status
