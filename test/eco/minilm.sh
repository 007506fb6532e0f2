#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# minilm.sh - the example with real weights, in the folder that MINILM names: Elixir, C and the
# command line find the same sentences alike. Prints "N passed, N failed".
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT
passed=0 failed=0
check() {
    if [ "$1" = 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "failed: $2"; fi
}
program=$folder/minilm.safetensors
mix run examples/minilm.exs --export "$program" >"$folder/elixir.txt"
check $? "minilm.exs"

# What sentence-transformers gives for these sentences.
[ "$(grep -c -e '^1.000  0.754  0.023 ' -e '^0.754  1.000  -0.016 ' -e '^0.023  -0.016  1.000 ' \
    "$folder/elixir.txt")" = 3 ]
check $? "the model's numbers"

make --no-print-directory build/examples/minilm >/dev/null &&
    build/examples/minilm "$program" "$folder/minilm.ids.npy" "$folder/minilm.mask.npy" |
    sed 's/ *$//' >"$folder/c.txt"
tail -n 3 "$folder/elixir.txt" | sed 's/  [A-Z].*//' | cmp -s - "$folder/c.txt"
check $? "minilm.c gives other numbers"

build/emlx run "$program" --input ids="$folder/minilm.ids.npy" --input mask="$folder/minilm.mask.npy" \
    --output output="$folder/output.npy" >/dev/null && [ -s "$folder/output.npy" ]
check $? "emlx run"
echo "$passed passed, $failed failed"
