#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# picky_test.sh - plans divided between an engine of nodes and the host give the bits of undivided
# ones, over the host's memory and by copies. The seed says what is refused: another one each day,
# so that in time all is, and EMLX_PICKY_SEED names one that failed.
EMLX_PICKY_SEED=${EMLX_PICKY_SEED:-$(date +%j)}
export EMLX_PICKY_SEED
passed=0 failed=0
for apart in 0 1; do
    output=$(EMLX_PICKY_APART=$apart "$(dirname "$0")/same_bits" picky "")
    status=$?
    counts=$(echo "$output" | tail -n 1)
    one=${counts#*, } one=${one% failed}
    passed=$((passed + ${counts%% passed*})) failed=$((failed + one))
    [ $status -eq 0 ] && echo "$output" | grep -q "^handed over" || failed=$((failed + 1))
    [ "$failed" -eq 0 ] || echo "seed $EMLX_PICKY_SEED, apart $apart: $output"
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
