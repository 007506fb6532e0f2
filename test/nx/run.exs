# SPDX-License-Identifier: Apache-2.0
# Runs the tests of Nx itself with EMLX as default backend and compiler.
#
#     MIX_ENV=test mix run test/nx/run.exs [FILE...]
#
# The files are read from a checkout of the installed version of Nx: NX_SOURCE, or the directory
# in which a dependency lies. Nothing there is changed: the code is rewritten after it is read.
#
# Tests that are known to fail stand in known.txt with the reason. A test that fails and is not
# there fails the run, and so does one that is there and passes; NX_TESTS_PRUNE=1 takes the latter
# out of the list. Lines that begin with [0.13] or [main] are for this line of Nx only: 0.13.1 and
# the main branch have the same version, and are told apart by what there is. Tests of the lines
# with [literal] are run once more with Nx's reference backend as default, and must then pass.

defmodule NxTests.View do
  @moduledoc false
  # Nx's tests compare tensors with `==`, and the backend's data is a part of that. So both sides
  # are looked at as tensors of the reference backend, which are equal when types, shapes, names
  # and bytes are.

  def equal?(left, right), do: view(left) == view(right)

  def view(%Nx.Tensor{data: %EMLX.Backend{}} = tensor),
    do: Nx.backend_copy(tensor, Nx.BinaryBackend)

  def view(%Nx.Tensor{} = tensor), do: tensor
  def view(%_{} = struct), do: struct |> Map.from_struct() |> view() |> Map.merge(name(struct))
  def view(%{} = map), do: Map.new(map, fn {key, value} -> {view(key), view(value)} end)
  def view([head | tail]), do: [view(head) | view(tail)]
  def view(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> view() |> List.to_tuple()
  def view(other), do: other

  @doc false
  # The messages of this process, as above and in the same order.
  def view_messages, do: Enum.each(messages(), &send(self(), view(&1)))

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end

  defp name(%module{}), do: %{__struct__: module}
end

defmodule NxTests.Rewrite do
  @moduledoc false
  # What is changed in the code of a test file:
  # - comparisons outside of guards and numerical definitions, which have an `==` of their own;
  # - matches that compare values or name the reference backend, which see such tensors, and so do
  #   those of messages;
  # - the evaluator, which most tests ask for by name, becomes our compiler;
  # - the options that a serving is said to start with include our compiler.

  alias NxTests.View

  @comparisons %{==: true, ===: true, !=: false, !==: false}
  @numerical [:defn, :defnp]

  def file(path) do
    path
    |> File.read!()
    |> Code.string_to_quoted!(file: path, columns: true)
    |> code()
  end

  defp code({numerical, _, _} = definition) when numerical in @numerical,
    do: compiler(definition)

  defp code({:when, meta, arguments}) do
    {patterns, [guard]} = Enum.split(arguments, -1)
    {:when, meta, code(patterns) ++ [guard]}
  end

  defp code({operator, meta, [left, right]}) when is_map_key(@comparisons, operator) do
    call = call(meta, :equal?, [code(left), code(right)])
    if @comparisons[operator], do: call, else: {:not, meta, [call]}
  end

  defp code({:assert, meta, [{:=, match, [pattern, value]}]}) do
    value = code(value)
    value = if bytes?(pattern), do: call(meta, :view, [value]), else: value
    {:assert, meta, [{:=, match, [pattern, value]}]}
  end

  defp code({:assert_received, meta, [pattern | message]}) do
    pins = for {:^, _, [variable]} <- Macro.prewalker(pattern), do: variable
    views = for variable <- pins, do: {:=, meta, [variable, call(meta, :view, [variable])]}
    views = if views == [], do: [], else: views ++ [call(meta, :view_messages, [])]
    pattern = Macro.prewalk(pattern, &serving_options/1)
    {:__block__, meta, views ++ [{:assert_received, meta, [pattern | message]}]}
  end

  defp code({:alias, _, _} = directive), do: directive
  defp code({:__aliases__, _, _} = name), do: compiler(name)
  defp code({call, meta, arguments}), do: {code(call), meta, code(arguments)}
  defp code({left, right}), do: {code(left), code(right)}
  defp code(list) when is_list(list), do: Enum.map(list, &code/1)
  defp code(other), do: other

  defp call(meta, name, arguments), do: {{:., meta, [View, name]}, meta, arguments}

  defp bytes?(pattern) do
    nodes = pattern |> Macro.prewalker() |> Enum.to_list()
    variables = for {name, _, context} when is_atom(context) and name != :_ <- nodes, do: name

    variables != Enum.uniq(variables) or
      Enum.any?(nodes, &(match?({:^, _, _}, &1) or &1 == :BinaryBackend))
  end

  defp serving_options([{:batch_keys, keys} | rest]),
    do: [{:batch_keys, keys}, {:compiler, EMLX} | rest]

  defp serving_options(node), do: node

  defp compiler(code) do
    Macro.prewalk(code, fn
      {:__aliases__, _, [:Nx, :Defn, :Evaluator]} -> EMLX
      {:__aliases__, _, [:Evaluator]} -> EMLX
      node -> node
    end)
  end
end

defmodule NxTests.Report do
  @moduledoc false
  # An ExUnit formatter: prints what is not as the list says, and one line with the counts.
  use GenServer

  alias ExUnit.Formatter

  @impl true
  def init(options) do
    known = Application.fetch_env!(:emlx, __MODULE__)
    {:ok, %{known: known, seen: %{}, passed: 0, expected: 0, failed: 0, options: options}}
  end

  @impl true
  def handle_cast({:test_finished, test}, state), do: {:noreply, finished(test, state)}

  def handle_cast({:module_finished, %{state: {:failed, failures}} = module}, state) do
    text = Formatter.format_test_all_failure(module, failures, state.failed, 100, &plain/2)
    IO.puts(text)
    {:noreply, %{state | failed: state.failed + 1}}
  end

  def handle_cast({:suite_finished, _times}, state) do
    Application.put_env(:emlx, __MODULE__, state)
    {:noreply, state}
  end

  def handle_cast(_event, state), do: {:noreply, state}

  defp finished(%{state: nil} = test, state), do: passed(name(test), state)

  defp finished(%{state: {:failed, reasons}} = test, state),
    do: failed(name(test), test, reasons, state)

  defp finished(_left_out, state), do: state

  defp passed(name, state) when is_map_key(state.known, name) do
    IO.puts("passes, but is listed in known.txt: #{name}")
    %{state | failed: state.failed + 1, seen: Map.put(state.seen, name, :passed)}
  end

  defp passed(_name, state), do: %{state | passed: state.passed + 1}

  defp failed(name, _test, _reasons, state) when is_map_key(state.known, name),
    do: %{state | expected: state.expected + 1, seen: Map.put(state.seen, name, :failed)}

  defp failed(name, test, reasons, state) do
    failed = state.failed + 1
    IO.puts(Formatter.format_test_failure(test, reasons, failed, 100, &plain/2))
    IO.puts("     listed as: #{name}")
    %{state | failed: failed}
  end

  defp plain(_key, text), do: text

  defp name(%{name: name, tags: %{file: file}}), do: "#{Path.relative_to_cwd(file)} | #{name}"
end

defmodule NxTests do
  @moduledoc false

  alias NxTests.{Report, Rewrite}

  @known Path.join(__DIR__, "known.txt")

  # Of the two lines of Nx, only the main branch has Nx.io_call/2.
  @main? Code.ensure_loaded!(Nx) |> function_exported?(:io_call, 2)
  @mark if @main?, do: "[main] ", else: "[0.13] "

  # Documentation of Nx that the suites in test/elixir run as well.
  @elsewhere ["test/nx/doctest_test.exs", "test/nx/constants_test.exs"]

  def main(arguments) do
    case source() do
      {:ok, source} -> run(source, arguments)
      {:skip, reason} -> IO.puts("skipped: Nx's own tests; #{reason}")
    end
  end

  # The first directory with tests of the version that is loaded.
  defp source do
    version = Application.spec(:nx, :vsn) |> List.to_string()
    candidates = [System.get_env("NX_SOURCE"), Application.app_dir(:nx), Path.expand("deps/nx")]
    found = Enum.find(candidates, &(&1 && File.regular?(Path.join(&1, "test/nx_test.exs"))))

    cond do
      found == nil ->
        {:skip, "set NX_SOURCE to a checkout of Nx #{version}, its directory nx"}

      not contains?(found, "mix.exs", ~s(@version "#{version}")) or
          contains?(found, "lib/nx.ex", "def io_call(") != @main? ->
        {:skip, "#{found} is not Nx #{@mark}#{version}, which is loaded"}

      true ->
        {:ok, found}
    end
  end

  defp contains?(source, file, text), do: File.read!(Path.join(source, file)) =~ text

  defp run(source, arguments) do
    all =
      Path.wildcard(Path.join(source, "test/**/*_test.exs"))
      |> Enum.map(&Path.relative_to(&1, source))

    files =
      if arguments == [], do: all -- @elsewhere, else: Enum.filter(all, &chosen?(&1, arguments))

    known = known(files)

    Application.put_env(:emlx, :add_backend_on_inspect, false)
    Application.put_env(:emlx, Report, known)
    Code.put_compiler_option(:ignore_module_conflict, true)

    # Failures are reported below; what supervisors say of them is too much.
    :logger.remove_handler(:default)

    File.cd!(source, fn ->
      support =
        for file <- Path.wildcard("test/support/*.ex"), module <- compile(file), do: module

      exclude = if cluster(support), do: [], else: [:distributed]

      ExUnit.start(
        autorun: false,
        assert_receive_timeout: 1000,
        formatters: [Report],
        exclude: exclude
      )

      modules = Map.new(files, &{&1, compile(&1)})

      # Only now: tensors in module attributes must be literals.
      Nx.global_default_backend(EMLX.Backend)
      Nx.Defn.global_default_options(compiler: EMLX)
      ExUnit.run()
      report = Application.fetch_env!(:emlx, Report)
      finish(report, run_literals(report, modules))
    end)
  end

  # Nx turns no other tensors into expressions than those of its reference backend.
  defp run_literals(report, modules) do
    names = for {name, :literal} <- report.known, do: String.split(name, " | ", parts: 2)
    chosen = for [_file, test] <- names, do: {:test, String.to_atom(test)}

    modules =
      for file <- Enum.uniq(for [file, _test] <- names, do: file),
          {module, _code} <- modules[file],
          function_exported?(module, :__ex_unit__, 0),
          do: module

    Nx.global_default_backend(Nx.BinaryBackend)
    Application.put_env(:emlx, Report, %{})
    ExUnit.configure(exclude: [:test], include: chosen)
    if names != [], do: ExUnit.run(modules)
    Map.merge(%{passed: 0, failed: 0}, Application.fetch_env!(:emlx, Report))
  end

  defp chosen?(file, arguments), do: Enum.any?(arguments, &String.contains?(file, &1))

  # Warnings about Nx's tests are Nx's business.
  defp compile(file) do
    compile = fn -> Code.compile_quoted(Rewrite.file(file), Path.expand(file)) end
    {modules, _warnings} = Code.with_diagnostics([log: false], compile)
    modules
  end

  # Nx's tests of servings want two more nodes, one of them hidden.
  defp cluster(support) do
    if match?({"", 0}, System.cmd("epmd", ["-daemon"])) and
         match?({:ok, _}, Node.start(:"primary@127.0.0.1", :longnames)) do
      {:ok, _, second} = :peer.start(%{name: :"secondary@127.0.0.1"})
      {:ok, _, third} = :peer.start(%{name: :"tertiary@127.0.0.1", args: [~c"-hidden"]})
      Enum.each([second, third], &prepare(&1, support))
      true
    else
      IO.puts("skipped: Nx's tests of several nodes; epmd or a local network is missing")
      false
    end
  end

  defp prepare(node, support) do
    true = :erpc.call(node, :code, :set_path, [:code.get_path()])
    {:ok, _} = :erpc.call(node, :application, :ensure_all_started, [:emlx])
    :ok = :erpc.call(node, Nx, :global_default_backend, [EMLX.Backend]) |> then(fn _ -> :ok end)
    _ = :erpc.call(node, Nx.Defn, :global_default_options, [[compiler: EMLX]])
    for {module, code} <- support, do: :erpc.call(node, :code, :load_binary, [module, ~c"", code])
  end

  ## The list: lines "file | test", and comments with the reasons

  defp known(files) do
    for line <- String.split(File.read!(@known), "\n", trim: true),
        {line, kind} = entry(line),
        not String.starts_with?(line, ["#", "["]),
        [file | _] = String.split(line, " | "),
        file in files,
        into: %{},
        do: {line, kind}
  end

  defp entry(@mark <> line), do: entry(line)
  defp entry("[literal] " <> line), do: {line, :literal}
  defp entry(line), do: {line, :other}

  defp finish(report, literals) do
    gone = for {name, _kind} <- report.known, not is_map_key(report.seen, name), do: name
    Enum.each(gone, &IO.puts("is listed in known.txt, but there is no such test: #{&1}"))
    if System.get_env("NX_TESTS_PRUNE") == "1", do: prune(report, gone)

    IO.puts("#{report.expected - literals.passed} more failed as known.txt says")
    failed = report.failed + literals.failed + length(gone)
    IO.puts("#{report.passed + literals.passed} passed, #{failed} failed")
    if failed > 0, do: System.halt(1)
  end

  defp prune(report, gone) do
    stale = MapSet.new(gone ++ for({name, :passed} <- report.seen, do: name))

    lines =
      @known |> File.read!() |> String.split("\n") |> Enum.reject(&(elem(entry(&1), 0) in stale))

    File.write!(@known, Enum.join(lines, "\n"))
  end
end

NxTests.main(System.argv())
