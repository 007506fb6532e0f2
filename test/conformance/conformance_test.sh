#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# conformance_test.sh - the recorded cases pass, with the same bits on one thread and on all, and
# every op has some.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(dirname "$0")/../..
cli=${EMLX_CLI:-$root/build/emlx}
"$root/scripts/conformance" "$folder/cases" || exit 1

"$cli" conformance "$folder/cases" --digest --coverage >"$folder/table"
status=$?
EMLX_NUM_THREADS=1 "$cli" conformance "$folder/cases" --digest --threads 1 >"$folder/one"
[ $? -eq $status ] || status=1

check() {
    if eval "$2"; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "not so: $1"
    fi
}

# The table of coverage ends with the row of the programs.
sed '1,/^programs /d' "$folder/table" >"$folder/all"
sed '$d' "$folder/all"
counts=$(tail -n 1 "$folder/all")
passed=${counts%% passed*} failed=${counts#*, } failed=${failed% failed}
check "the results are the same on one thread and on all" \
    '[ "$(grep "^digest: " "$folder/all")" = "$(grep "^digest: " "$folder/one")" ]'
# Nx has no packed weights to record; what they are to the bit is in test/ops/packed_test.c.
check "every op of Nx has cases" \
    '[ "$(grep "^no cases:" "$folder/all")" = "no cases: quantize, dequantize" ]'
echo "$passed passed, $failed failed"
[ "$status" -eq 0 ] && [ "$failed" -eq 0 ]
