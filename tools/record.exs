# SPDX-License-Identifier: Apache-2.0
# Records conformance cases; tools/README.md says how to use it.

{:ok, _modules, _warnings} =
  [__DIR__, "recorder", "*.ex"]
  |> Path.join()
  |> Path.wildcard()
  |> Kernel.ParallelCompiler.compile(return_diagnostics: true)

{options, []} = OptionParser.parse!(System.argv(), strict: [out: :string, nx: :string])
directory = Keyword.get(options, :out, "test/conformance")

Recorder.Store.start()
Nx.global_default_backend(Recorder.Backend)
Nx.Defn.global_default_options(compiler: Nx.Defn.Evaluator)

Recorder.Store.recording("generator", [most_elements: 5000], &Recorder.Generator.run/0)

by_op = Recorder.Store.by_op()
files = for {op, cases} <- by_op, do: {Atom.to_string(op), Recorder.Archive.encode(cases)}
Recorder.Archive.write(directory, files)

for [what, count] <- Recorder.Store.notes(), do: IO.puts("#{count} #{what}")
IO.puts("#{by_op |> Enum.map(fn {_op, cases} -> length(cases) end) |> Enum.sum()} cases")
