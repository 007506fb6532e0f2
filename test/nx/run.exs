# SPDX-License-Identifier: Apache-2.0
# Runs the tests of Nx itself with EMLX as default backend and compiler.
#
#     MIX_ENV=test mix run test/nx/run.exs [FILE...]
#
# The files are read from a checkout of the installed version of Nx: NX_SOURCE, or the directory
# in which a dependency lies. EMLX.Suite says how they run and what known.txt means: its lines that
# begin with [0.13] or [main] are for this line of Nx only. 0.13.1 and the main branch have the same
# version, and are told apart by what there is.

defmodule NxTests do
  @moduledoc false

  # Of the two lines of Nx, only the main branch has Nx.io_call/2.
  @main? Code.ensure_loaded!(Nx) |> function_exported?(:io_call, 2)
  @mark if @main?, do: "[main] ", else: "[0.13] "

  # Documentation of Nx that the suites in test/elixir run as well.
  @elsewhere ["test/nx/doctest_test.exs", "test/nx/constants_test.exs"]

  def main(arguments) do
    EMLX.Case.choose_device()

    case source() do
      {:ok, source} -> run(source, arguments)
      {:skip, reason} -> IO.puts("skipped: Nx's own tests; #{reason}")
    end
  end

  # The first directory with tests of the version that is loaded.
  defp source do
    version = Application.spec(:nx, :vsn) |> List.to_string()
    given = System.get_env("NX_SOURCE", "nx")
    candidates = [given, Path.join(given, "nx"), Application.app_dir(:nx), Path.expand("deps/nx")]
    found = Enum.find(candidates, &File.regular?(Path.join(&1, "test/nx_test.exs")))

    cond do
      found == nil ->
        {:skip, "set NX_SOURCE to a checkout of Nx #{version}"}

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

    suite = %EMLX.Suite{
      source: source,
      list: Path.join(__DIR__, "known.txt"),
      versions: [@mark | marks(System.get_env("EMLX_TEST_DEVICE", ""))],
      names: [{[:Nx, :Defn, :Evaluator], EMLX}, {[:Evaluator], EMLX}]
    }

    EMLX.Suite.run(suite, Path.wildcard(Path.join(source, "test/support/*.ex")), files, fn
      :reference -> []
      support -> if cluster(support), do: [], else: [:distributed]
    end)
  end

  defp marks(device),
    do: for(engine <- ["mlx", "cuda"], String.starts_with?(device, engine), do: "[#{engine}] ")

  defp chosen?(file, arguments), do: Enum.any?(arguments, &String.contains?(file, &1))

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
end

NxTests.main(System.argv())
