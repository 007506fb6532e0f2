# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Suite do
  @moduledoc """
  The tests of another project, run with EMLX as default backend and compiler.

  They are read from a checkout. Nothing there is changed: the code is rewritten after it is read
  (`EMLX.Suite.Rewrite`). Tests that are known to fail stand in a list, lines `file | test` below
  comments that give the reason. A test that fails and is not there fails the run, and so does one
  that is there and passes; `NX_TESTS_PRUNE=1` takes the latter out of the list.

  A line may begin with marks in brackets. Marks of versions say where it counts. A mark of a kind
  sends the test to Nx's reference backend as well: what is `[literal]` must pass there, what is
  `[reference]` must fail there too. So are those that fail and are not listed, to tell which they
  are.
  """

  alias EMLX.Suite.{Report, Rewrite}

  @kinds %{"[literal] " => :literal, "[reference] " => :reference}
  @expected %{literal: :passed, reference: :failed}

  @enforce_keys [:source, :list]
  defstruct [:source, :list, versions: [], names: [], compiler: EMLX, examples: :exact]

  @type t :: %__MODULE__{
          source: Path.t(),
          list: Path.t(),
          versions: [String.t()],
          names: [{[atom], module}],
          compiler: module,
          examples: :exact | :near
        }

  @doc """
  Runs test files of a suite, and ends the system where that is not as its list says.

  `names` are modules that the tests name and that are others here, `compiler` is the one on the
  reference backend, and `:near` examples may give other digits (`EMLX.Suite.Examples`).
  `prepare` is called with the modules of the support files before the first run, and with
  `:reference` before the second; it may give tags to exclude.
  """
  @spec run(t, [Path.t()], [Path.t()], (:reference | [module] -> [atom])) :: :ok
  def run(%__MODULE__{} = suite, support, files, prepare) do
    known = for {name, kind} <- lines(suite), file(name) in files, into: %{}, do: {name, kind}
    Application.put_env(:emlx, :add_backend_on_inspect, false)
    Code.put_compiler_option(:ignore_module_conflict, true)

    # Failures are reported below; what supervisors say of them is too much.
    :logger.remove_handler(:default)

    File.cd!(suite.source, fn ->
      support = Enum.flat_map(support, &compile(&1, suite))
      ExUnit.start(autorun: false, assert_receive_timeout: 5000)
      excluded = prepare.(support)
      modules = Map.new(files, &{&1, compile(&1, suite)})

      # Only now: tensors in module attributes must be literals.
      Nx.global_default_backend(EMLX.Backend)
      Nx.Defn.global_default_options(compiler: EMLX)
      {failed, seen} = Report.run(known: known, exclude: excluded)
      prepare.(:reference)
      finish(suite, known, {failed, seen}, on_reference(suite, known, seen, modules))
    end)
  end

  # Warnings about the tests of others are their business.
  defp compile(file, suite) do
    code = Rewrite.file(file, suite.names)
    code = if suite.examples == :near, do: Rewrite.near_examples(code), else: code
    compile = fn -> Code.compile_quoted(code, Path.expand(file)) end
    {modules, _warnings} = Code.with_diagnostics([log: false], compile)
    modules
  end

  defp on_reference(suite, known, seen, modules) do
    names = for({name, kind} <- known, kind != :other, do: name) ++ unknown(known, seen)
    chosen = for name <- names, do: {:test, String.to_atom(test(name))}

    modules =
      for file <- names |> Enum.map(&file/1) |> Enum.uniq(),
          {module, _code} <- modules[file],
          function_exported?(module, :__ex_unit__, 0),
          do: module

    Nx.global_default_backend(Nx.BinaryBackend)
    Nx.Defn.global_default_options(compiler: suite.compiler)
    options = [known: %{}, quiet: true, exclude: [:test], include: chosen]
    if names == [], do: %{}, else: options |> Report.run(modules) |> elem(1)
  end

  defp unknown(known, seen),
    do: for({name, :failed} <- seen, not is_map_key(known, name), do: name)

  ## The list

  defp lines(suite) do
    for line <- suite.list |> File.read!() |> String.split("\n", trim: true),
        {name, kind} = entry(line, suite.versions),
        not String.starts_with?(name, ["#", "["]),
        do: {name, kind}
  end

  defp entry(line, versions) do
    case Enum.find(versions ++ Map.keys(@kinds), &String.starts_with?(line, &1)) do
      nil ->
        {line, :other}

      mark ->
        {name, kind} = line |> String.replace_prefix(mark, "") |> entry(versions)
        {name, Map.get(@kinds, mark, kind)}
    end
  end

  defp file(name), do: name |> String.split(" | ", parts: 2) |> hd()
  defp test(name), do: name |> String.split(" | ", parts: 2) |> List.last()

  ## What came of it

  defp finish(suite, known, {modules, seen}, on_reference) do
    for name <- unknown(known, seen),
        do: IO.puts("on the reference backend it #{on_reference[name]}: #{name}")

    wrong =
      for {name, kind} <- known, text = wrong(seen[name], kind, on_reference[name]) do
        IO.puts("is listed, but #{text}: #{name}")
        name
      end

    if System.get_env("NX_TESTS_PRUNE") == "1", do: prune(suite, known, seen)
    literal = Enum.count(known, fn {_name, kind} -> kind == :literal end)
    passed = Enum.count(seen, fn {_name, result} -> result == :passed end)
    failed = modules + length(unknown(known, seen)) + length(wrong)

    IO.puts("#{map_size(known) - literal} more failed as #{Path.basename(suite.list)} says")

    IO.puts("#{passed + literal} passed, #{failed} failed")
    if failed > 0, do: System.halt(1)
    :ok
  end

  # What is not as a line of the list has it.
  defp wrong(nil, _kind, _on_reference), do: "there is no such test"
  defp wrong(:passed, _kind, _on_reference), do: "passes"

  defp wrong(:failed, kind, on_reference) do
    if on_reference != Map.get(@expected, kind, on_reference),
      do: "#{on_reference} on the reference backend"
  end

  defp prune(suite, known, seen) do
    stale = for {name, _kind} <- known, seen[name] != :failed, do: name

    lines =
      suite.list
      |> File.read!()
      |> String.split("\n")
      |> Enum.reject(&(elem(entry(&1, suite.versions), 0) in stale))

    File.write!(suite.list, Enum.join(lines, "\n"))
  end
end
