#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# runs_test.sh - C tests of what lies above the door hold on the test engines, too: evaluation, runs,
# events, programs, and what ops mean. Those that were not built are skipped.
cli=${EMLX_CLI:-$(dirname "$0")/../../build/emlx}
tests=$(dirname "$cli")/test
output=$(mktemp)
trap 'rm -f "$output"' EXIT
passed=0 failed=0 skipped=0
export EMLX_LATE_DELAY="${EMLX_LATE_DELAY:-50}"

# run ENGINE TEST...
run() {
    engine=$1
    shift
    for name; do
        if [ ! -x "$tests/${name}_test" ]; then
            skipped=$((skipped + 1))
        elif EMLX_ENGINES="$tests/engines/$engine.so" EMLX_TEST_DEVICE=$engine \
            "$tests/${name}_test" >"$output" 2>&1; then
            count=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$output")
            passed=$((passed + count))
        else
            failed=$((failed + 1))
            echo "$name on $engine:"
            cat "$output"
        fi
    done
}

run late run/call run/either run/eval run/event run/locks run/null run/random program/block \
    program/program ops/attention ops/fused ops/indexing ops/packed ops/starts ops/table \
    plan/either plan/fusion files/weights
run picky run/call run/random program/program ops/starts plan/fusion
run plain ops/starts ops/table
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
