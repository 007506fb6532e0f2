# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :emlx_axon,
      version: @version,
      elixir: "~> 1.17",
      start_permanent: Mix.env() == :prod,
      # Mix hides applications that are no dependencies.
      prune_code_paths: not installed?(:axon),
      consolidate_protocols: Mix.env() != :test,
      deps: [emlx() | fetched()],
      description:
        "Language models on EMLX: rewritten Axon graphs, quantized weights, generation",
      package: [
        licenses: ["Apache-2.0"],
        links: %{"EMLX" => "https://hexdocs.pm/emlx"},
        files: ~w(lib mix.exs README.md)
      ]
    ]
  end

  def application do
    names = for dep <- needed(), do: elem(dep, 0)
    [extra_applications: [:logger | Enum.filter(names, &installed?/1)]]
  end

  # Within the repository the package of this checkout, else the published one.
  defp emlx do
    if File.exists?(Path.expand("../nif", __DIR__)),
      do: {:emlx, path: ".."},
      else: {:emlx, "~> 0.1"}
  end

  defp needed do
    [
      {:nx, "~> 0.13 or ~> 1.0"},
      {:axon, "~> 0.7 or ~> 1.0"},
      {:bumblebee, "~> 0.7", optional: true}
    ]
  end

  # A machine that has the others in Erlang's own library path goes without what is optional.
  defp fetched do
    Enum.reject(needed(), fn dep ->
      installed?(elem(dep, 0)) or (elem(dep, 0) == :bumblebee and installed?(:axon))
    end)
  end

  # A library that lies in Erlang's own library path is taken from there.
  defp installed?(app) do
    case :code.lib_dir(app) do
      {:error, :bad_name} -> false
      path -> String.starts_with?(List.to_string(path), List.to_string(:code.lib_dir()))
    end
  end
end
