#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mlx_test.sh - the recorded cases through MLX on its CPU, within the tolerances of cli/tolerances.def
# for it, and, with the functions handed over of which it gives fewer digits, within those of all
# engines. Needs `make mlx`.
cd "$(dirname "$0")/../.." || exit 1
cli=${EMLX_CLI:-build/emlx}
if ! "$cli" info | grep -q '^device mlx-cpu'; then
    echo "skipped: the recorded cases through MLX; $("$cli" info | grep '^no device mlx-cpu')"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
cases=$(mktemp -d)
trap 'rm -rf "$cases"' EXIT
scripts/conformance "$cases" >/dev/null
passed=0 failed=0
# A lane's name, options and environment; prints what failed, and what was the host's.
lane() {
    echo "$1"
    strict=$2
    shift 2
    env "$@" "$cli" conformance "$cases" --device mlx-cpu $strict >"$cases/out"
    sed '$d' "$cases/out"
    counts=$(tail -n 1 "$cases/out")
    passed=$((passed + ${counts%% passed*}))
    counts=${counts#*, }
    failed=$((failed + ${counts% failed}))
}
lane "within the tolerances of MLX:" "" EMLX_NUM_THREADS=2
lane "functions of which MLX gives fewer digits handed over, within those of all engines:" \
    --strict EMLX_MLX_EXACT=1
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
