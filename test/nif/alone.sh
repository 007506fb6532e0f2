#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# alone.sh EBIN - as in a container: the BEAM is process 1 and inherits an ignored SIGCHLD, there is
# no network, and the compilers are gone. Everything must work, evaluation and compilation of
# programs included. Left out where `unshare` may not be used.
ebin=$(cd "$1" && pwd)
if ! unshare --pid --fork --mount --net --mount-proc mount --bind /dev /mnt 2>/dev/null; then
    echo "skipped: unshare cannot be used here, so no BEAM as process 1"
    exit 0
fi
# shellcheck disable=SC2016 # expanded by the inner shell
unshare --pid --fork --mount --net --mount-proc sh -c '
    for name in cc gcc c++ g++ clang tcc as ld; do
        for path in $(command -v "$name") /usr/bin/*-linux-gnu-"$name"*; do
            [ ! -e "$path" ] || mount --bind /dev/null "$(readlink -f "$path")" || exit 1
        done
    done
    trap "" CHLD
    exec elixir -pa "$0" -e "$1"' "$ebin" '
    alias EMLX.{Native, NIF}
    "1" = System.pid()
    status = File.read!("/proc/self/status")
    [_, ignored] = Regex.run(~r/SigIgn:\s+([0-9a-f]+)/, status)
    # Bit 17 - 1 is SIGCHLD.
    true = Bitwise.band(String.to_integer(ignored, 16), 0x10000) != 0
    compilers = for name <- ~w(cc gcc clang), System.find_executable(name), do: name
    [] = compilers
    {:ok, interfaces} = :inet.getifaddrs()
    [] = for {name, flags} <- interfaces, :up in flags[:flags], do: name

    cpu = Native.device(:cpu)
    data = for x <- 1..100_000, into: <<>>, do: <<x::float-32-native>>
    tensor = Native.from_binary(cpu, :f32, {100_000}, data)
    sum = Native.apply(:sum, cpu, [Native.apply(:sqrt, cpu, [tensor], [], :f32)], [], :f32)
    <<sum::float-32-native>> = Native.to_binary(sum, 4)
    true = abs(sum - 21_082_008.97) < 100

    block = {[{"x", :f32, {100_000}}], [{:multiply, [0, 0], [], :f32}, {:sum, [1], [], :f32}], [{"y", 2}]}
    program = Native.compile(cpu, block)
    [result] = Native.run(program, [tensor])
    <<squares::float-32-native>> = Native.to_binary(result, 4)
    true = abs(squares / 333_338_333_350_000 - 1) < 1.0e-5

    # The BEAM itself still starts programs and learns of their end.
    {"here\n", 0} = System.cmd("echo", ["here"])
    {_, 3} = System.cmd("sh", ["-c", "exit 3"])
    IO.puts("alone: process 1, SigIgn #{ignored}, no network, no compiler: all well")'
