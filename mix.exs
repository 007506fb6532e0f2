# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.MixProject do
  use Mix.Project

  @version "0.1.0"

  def project do
    [
      app: :emlx,
      version: @version,
      elixir: "~> 1.17",
      compilers: [:elixir_make] ++ Mix.compilers(),
      # Mix hides applications that are no dependencies.
      prune_code_paths: not installed?(:elixir_make),
      # Tests implement protocols of their own.
      consolidate_protocols: Mix.env() != :test and seen_by_mix(),
      make_env: %{"EMLX_VERSION" => @version},
      make_targets: [
        "all" | mlx(System.get_env("EMLX_ENGINE") || Application.get_env(:emlx, :engine))
      ],
      start_permanent: Mix.env() == :prod,
      test_paths: ["test/elixir"],
      elixirc_paths: elixirc_paths(Mix.env()),
      deps:
        Enum.reject(needed(), &(installed?(elem(&1, 0)) and not packed?())) ++ documentation(),
      description: "Runs Nx programs natively: backend, defn compiler, program files",
      package: package(),
      docs: docs()
    ]
  end

  def application do
    installed = for dep <- needed(), elem(dep, 0) != :elixir_make, do: elem(dep, 0)

    [
      mod: {EMLX.Application, []},
      extra_applications: [:logger | Enum.filter(installed, &installed?/1)],
      env: []
    ]
  end

  defp elixirc_paths(:test), do: ["lib", "test/elixir/support"]
  defp elixirc_paths(_env), do: ["lib"]

  defp needed do
    [
      {:nx, "~> 0.13 or ~> 1.0"},
      {:telemetry, "~> 1.0"},
      {:elixir_make, "~> 0.8", runtime: false}
    ]
  end

  # In an environment of its own, so that nothing else asks for it: MIX_ENV=docs mix docs
  defp documentation do
    if Mix.env() == :docs, do: [{:ex_doc, "~> 0.34", runtime: false}], else: []
  end

  defp docs do
    [
      main: "readme",
      extras: [
        "README.md",
        "guides/cuda.md",
        "guides/mlx.md",
        "guides/models.md",
        "guides/models.livemd",
        "guides/moving.md",
        "guides/serving.md",
        "docs/differences.md",
        "docs/architecture.md",
        "docs/program-format.md",
        "docs/conformance-format.md",
        "docs/adding-an-op.md",
        "docs/adding-an-engine.md",
        "docs/glossary.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "LICENSE"
      ],
      assets: %{"guides/assets" => "assets"},
      groups_for_extras: [Guides: ~r"guides/", Reference: ~r"docs/"],
      groups_for_docs: ["On references": &(&1[:group] == "On references")],
      groups_for_modules: [
        Models: [EMLX.Fast],
        "Finding out": [EMLX.Telemetry, EMLX.Profiling, EMLX.Debug],
        Errors: [EMLX.Error, EMLX.NIFError]
      ]
    ]
  end

  # A package names all that it needs.
  defp packed?, do: Enum.any?(System.argv(), &String.starts_with?(&1, "hex."))

  # A library that lies in Erlang's own library path is taken from there, so that
  # a machine without Hex can build and test.
  defp installed?(app) do
    case :code.lib_dir(app) do
      {:error, :bad_name} -> false
      path -> String.starts_with?(List.to_string(path), List.to_string(:code.lib_dir()))
    end
  end

  # Mix consolidates no protocols that lie below Erlang's library path, and calls of Nx would take
  # several times as long. By another name of the same folders it finds them.
  defp seen_by_mix do
    for app <- [:complex | Enum.map(needed(), &elem(&1, 0))], installed?(app) do
      [root, top | _] = parts = app |> :code.lib_dir() |> Path.split()
      :code.add_pathz(to_charlist(Path.join([root, top, ".." | tl(parts)] ++ ["ebin"])))
    end

    true
  end

  # Apple's MLX is fetched where it is the engine that is chosen, as it is on a Mac unless another is.
  defp mlx(engine) when engine in ["mlx", :mlx], do: ["mlx"]
  defp mlx(nil), do: if(:os.type() == {:unix, :darwin}, do: ["mlx-if-any"], else: [])
  defp mlx(_engine), do: []

  defp package do
    [
      licenses: ["Apache-2.0"],
      links: %{
        "Documentation" => "https://hexdocs.pm/emlx",
        "Changelog" => "https://hexdocs.pm/emlx/changelog.html",
        "Nx" => "https://github.com/elixir-nx/nx"
      },
      files:
        ~w(lib nif src include cli examples guides docs Makefile mix.exs .formatter.exs) ++
          ~w(README.md CONTRIBUTING.md SECURITY.md CHANGELOG.md LICENSE scripts/mlx scripts/mlx_versions)
    ]
  end
end
