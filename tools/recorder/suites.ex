# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Suites do
  @moduledoc """
  Runs Nx's doctests, and the tests of a checkout of Nx, with the recording backend and compiler.

  Whether they pass does not matter, as some look into the reference's own data.
  """

  alias Recorder.Store

  # Tests about numbers; others are about processes and printing.
  @files ~w(nx_test nx/lin_alg_test nx/non_finite_test nx/complex_test nx/floating_test) ++
           ~w(nx/random_test nx/vectorize_test nx/optional_test nx/defn_test)

  @doctests [Nx, Nx.LinAlg, Nx.Constants]

  def start do
    ExUnit.start(autorun: false, formatters: [], seed: 0, timeout: :infinity)
    Nx.global_default_backend(Recorder.Backend)
    Nx.Defn.global_default_options(compiler: Recorder.Compiler)
  end

  def doctests do
    Code.eval_quoted(
      for module <- @doctests do
        quote do
          defmodule unquote(Module.concat(Recorder.Doctests, module)) do
            use ExUnit.Case, async: false
            doctest unquote(module)
          end
        end
      end
    )

    Store.recording("doctest", [most_elements: 600], &ExUnit.run/0)
  end

  def tests(checkout) do
    for file <- ~w(helpers nx_case container backends),
        do: require_file(checkout, "support/#{file}.ex")

    for file <- @files, do: require_file(checkout, file <> ".exs")
    Store.recording("nx test", [most_elements: 300], &ExUnit.run/0)
  end

  defp require_file(checkout, name) do
    path = Path.join([checkout, "test", name])

    if File.exists?(path),
      do: path |> File.read!() |> fix_seeds() |> Code.compile_string(path),
      else: Store.note("no file #{name}")
  rescue
    error in CompileError -> Store.note("#{name} left out: #{Exception.message(error)}")
  end

  # Some tests draw other numbers in each run.
  defp fix_seeds(source) do
    source
    |> String.replace(~r/doctest Nx.Random$/m, "doctest Nx.Random, except: [:moduledoc]")
    |> String.replace(~r/System\.(unique_integer|os_time|system_time)\([^)]*\)/, "42")
  end
end
