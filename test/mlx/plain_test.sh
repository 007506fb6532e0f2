#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# plain_test.sh - what is decided for MLX, without MLX: the recorded cases by lists of instructions
# that plain loops obey (test/engines/mlx_plain.c), as an older version and a newer one, as MLX's CPU
# and as a GPU that shares the host's memory and as one that has its own. Where the inexact functions are handed over every result is within the tolerances of
# all engines.
root=$(dirname "$0")/../..
cli=${EMLX_CLI:-$root/build/emlx}
EMLX_MLX_ADAPTER=$(dirname "$cli")/test/engines/mlx_plain.so
export EMLX_MLX_ADAPTER
cases=$(mktemp -d)
trap 'rm -rf "$cases"' EXIT
"$root/scripts/conformance" "$cases" >/dev/null || exit 1
passed=0 failed=0
lane() {
    device=$1 strict=$2
    shift 2
    env "$@" "$cli" conformance "$cases" --device "$device" --threads 8 $strict >"$cases/out"
    status=$?
    counts=$(tail -n 1 "$cases/out")
    one=${counts#*, } one=${one% failed}
    passed=$((passed + ${counts%% passed*})) failed=$((failed + one))
    [ $status -eq 0 ] || echo "$device $strict $*: $(cat "$cases/out")"
}
lane mlx-cpu --strict EMLX_MLX_EXACT=1
lane mlx-cpu "" EMLX_PLAIN_VERSION=0.32.1
lane mlx-cpu "" EMLX_PLAIN_VERSION=0.31.2
lane mlx "" EMLX_PLAIN_VERSION=99.0.0
lane mlx "" EMLX_PLAIN_APART=1
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
