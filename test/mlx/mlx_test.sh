#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# mlx_test.sh - the recorded cases through MLX on its CPU: all of them with the functions handed over
# of which MLX gives fewer digits, and all but last digits without. Needs `make mlx`.
cd "$(dirname "$0")/../.." || exit 1
cli=${EMLX_CLI:-build/emlx}
if ! "$cli" info | grep -q '^device mlx-cpu'; then
    echo "skipped: the recorded cases through MLX; $("$cli" info | grep '^no device mlx-cpu')"
    echo "0 passed, 0 failed"
    exit 0
fi
cases=$(mktemp -d)
trap 'rm -rf "$cases"' EXIT
scripts/conformance "$cases" >/dev/null
EMLX_MLX_EXACT=1 "$cli" conformance "$cases" --device mlx-cpu
