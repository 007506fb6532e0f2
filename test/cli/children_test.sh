#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# children_test.sh - running a program starts no other program and installs no signal handler.
# What needs strace is left out where that cannot be used.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(dirname "$0")/../..
log=$folder/log
passed=0 failed=0
check() {
    if [ "$2" -eq 0 ]; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "not so: $1"; fi
}

trace="strace -f -qq -e trace=execve,execveat,fork,vfork,rt_sigaction -o $log"
strace -f -o "$log" true 2>/dev/null || { trace="" && echo "skipped: strace cannot be used here"; }

# The leak check of a sanitized build cannot be traced.
ASAN_OPTIONS=detect_leaks=0
export ASAN_OPTIONS
$trace "$EMLX_CLI" run "$root/examples/digits-setup.safetensors" \
    --input arg0="$root/examples/data/digits.npy" --output output1="$folder/held_out.npy"
check "the program runs" $?
[ -s "$folder/held_out.npy" ]
check "its output is written" $?
if [ -n "$trace" ]; then
    "$root/test/cli/no_children" "$log" 1
    check "it keeps to itself" $?
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
