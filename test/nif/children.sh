#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# children.sh EBIN [DEVICE] - loading the native functions into a BEAM and computing with them starts no
# program and installs no signal handler. Needs strace; left out where that cannot be used.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log
if ! strace -f -o "$log" true 2>/dev/null; then
    echo "skipped: strace cannot be used here"
    exit 0
fi
strace -f -qq -e trace=execve,execveat,fork,vfork,rt_sigaction,openat -o "$log" \
    elixir -pa "$1" -e '
    [start] = System.argv()
    File.touch!(start)
    alias EMLX.Native
    cpu = Native.device(:"'"${2:-cpu}"'")
    data = for x <- 1..100_000, into: <<>>, do: <<x::float-32-native>>
    tensor = Native.from_binary(cpu, :f32, {100_000}, data)
    root = Native.apply(:sqrt, cpu, [tensor], [], :f32)
    sum = Native.apply(:sum, cpu, [root], [], :f32)
    <<sum::float-32-native>> = Native.to_binary(sum, 4)
    IO.puts("sum of roots: #{sum}")' "$folder/start" &&
    "$(dirname "$0")/../cli/no_children" "$log" 0 "$folder/start" &&
    echo "the BEAM started nothing and caught nothing for us"
