# SPDX-License-Identifier: Apache-2.0
# Runs the tests of a library that builds on Nx with EMLX as default backend and compiler.
#
#     AXON_SOURCE=path MIX_ENV=test mix run test/eco/run.exs axon [FILE...]
#
# The files are read from a checkout of the version of the library that is installed. EMLX.Suite
# says how they run, and what the list of the library means, axon.txt beside this file. What fails
# on Nx's reference backend as well is not our fault; it is listed with the mark [reference].

defmodule EcoTests do
  @moduledoc false

  @support %{
    "axon" => ["test/support/*.ex", "test/support/cases/*.ex"],
    "polaris" => ["test/support/*.ex"],
    "scholar" => ["test/support/*.ex"]
  }

  def main([library | chosen]) do
    variable = String.upcase(library) <> "_SOURCE"

    with {:ok, source} <- System.fetch_env(variable),
         :ok <- check(String.to_atom(library), source) do
      run(library, source, chosen)
    else
      :error -> IO.puts("skipped: #{variable} names no checkout")
      {:error, reason} -> Mix.raise("#{variable}: #{reason}")
    end
  end

  defp check(app, source) do
    with {:ok, _} <- Application.ensure_all_started(app),
         version = Application.spec(app, :vsn),
         {:ok, mix} <- File.read(Path.join(source, "mix.exs")) do
      if mix =~ ~s("#{version}"),
        do: :ok,
        else: {:error, "#{source} is not #{app} #{version}, which is installed"}
    else
      {:error, {missing, _reason}} -> {:error, "#{missing} is not installed"}
      {:error, _reason} -> {:error, "#{source} is no checkout of #{app}"}
    end
  end

  defp run(library, source, chosen) do
    suite = %EMLX.Suite{
      source: source,
      list: Path.join(__DIR__, library <> ".txt"),
      # Where the suites have a choice, it is by this variable, and between EXLA and the reference.
      names: [{[:EXLA], EMLX}, {[:EXLA, :Backend], EMLX.Backend}],
      compiler: Nx.Defn.Evaluator,
      examples: :near
    }

    System.put_env("USE_EXLA", "1")
    files = for file <- below(source, "test/**/*_test.exs"), chosen?(file, chosen), do: file

    EMLX.Suite.run(suite, Enum.flat_map(@support[library], &below(source, &1)), files, fn
      :reference ->
        System.delete_env("USE_EXLA")
        []

      # Axon leaves them out as well: models that are trained from the seed of the moment.
      _support ->
        [:integration]
    end)
  end

  defp below(source, pattern),
    do: source |> Path.join(pattern) |> Path.wildcard() |> Enum.map(&Path.relative_to(&1, source))

  defp chosen?(_file, []), do: true
  defp chosen?(file, chosen), do: Enum.any?(chosen, &String.contains?(file, &1))
end

EcoTests.main(System.argv())
