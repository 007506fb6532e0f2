# SPDX-License-Identifier: Apache-2.0
# Records conformance cases; tools/README.md says how to use it.

{:ok, _modules, _warnings} =
  [__DIR__, "recorder", "*.ex"]
  |> Path.join()
  |> Path.wildcard()
  |> Kernel.ParallelCompiler.compile(return_diagnostics: true)

{options, []} = OptionParser.parse!(System.argv(), strict: [out: :string, nx: :string])
directory = Keyword.get(options, :out, "test/conformance")

alias Recorder.{Archive, Generator, Programs, Store, Suites}

Store.start()
Suites.start()
Store.recording("generator", [most_elements: 5000], &Generator.run/0)
IO.puts("ops")
Store.recording("generator", [most_elements: 5000], &Programs.run/0)
IO.puts("programs")
Suites.doctests()
IO.puts("doctests")
if options[:nx], do: Suites.tests(options[:nx])

ops = Store.by_op()
programs = Store.programs()

files =
  for({op, cases} <- ops, do: {Atom.to_string(op), Archive.encode(cases)}) ++
    for {name, metadata, entries, runs} <- programs,
        do: {name, Archive.encode(runs, metadata, entries)}

Archive.write(directory, files)

for [what, count] <- Store.notes(), do: IO.puts("#{count} #{what}")
cases = for {_op, cases} <- ops, do: length(cases)
runs = for {_name, _metadata, _entries, runs} <- programs, do: length(runs)

IO.puts(
  "#{Enum.sum(cases)} cases of #{length(ops)} ops, #{Enum.sum(runs)} runs of #{length(programs)} programs"
)
