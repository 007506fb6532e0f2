#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# beam.sh [BUILD] - MLX's CPU on the BEAM: it starts no program and catches no signal; the Elixir
# suites and Nx's own tests (NX_SOURCE) pass there but for test/mlx/known.txt and the lines of
# test/nx/known.txt that begin with [mlx]; a thousand processes that are killed at random leave nothing
# behind (STRESS_SECONDS, 5). Needs `make mlx`.
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
mix test test/elixir/values test/elixir/defn test/elixir/pairs_test.exs test/elixir/serving_test.exs \
    test/elixir/stress_test.exs || status=1
MIX_ENV="test" mix run test/nx/run.exs || status=1
exit $status
