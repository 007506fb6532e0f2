# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.PackageTest do
  # Not async: one test changes the arguments of the system.
  use EMLX.Case, async: false

  describe "the module EMLX" do
    test "has documentation and types of every function" do
      {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(EMLX)
      {:ok, specs} = Code.Typespec.fetch_specs(EMLX)

      described =
        for {{:function, name, arity}, _, _, %{"en" => _}, meta} <- docs,
            given <- (arity - Map.get(meta, :defaults, 0))..arity,
            do: {name, given}

      callbacks =
        EMLX.module_info(:attributes)[:behaviour]
        |> Enum.flat_map(& &1.behaviour_info(:callbacks))

      functions = EMLX.__info__(:functions) -- callbacks
      assert functions -- described == []
      assert functions -- for({function, _spec} <- specs, do: function) == []
    end

    test "describes functions that are there" do
      names = Keyword.keys(EMLX.__info__(:functions))
      assert EMLX.PairDocs.names() -- names == []
    end
  end

  describe "the package" do
    test "names what it needs, also where that is installed, and where to read on" do
      arguments = System.argv()
      System.argv(["hex.build"])
      project = EMLX.MixProject.project()
      System.argv(arguments)

      assert Enum.sort(for dep <- project[:deps], do: elem(dep, 0)) == [
               :elixir_make,
               :nx,
               :telemetry
             ]

      assert map_size(project[:package][:links]) > 0
      for file <- project[:package][:files], do: assert(File.exists?(file), file)
    end

    test "has all that its pages link to" do
      project = EMLX.MixProject.project()
      pages = for page <- project[:docs][:extras], Path.extname(page) == ".md", do: page

      for page <- pages,
          [_, link] <- Regex.scan(~r/\]\(([^)#:]+)(?:#[^)]*)?\)/, File.read!(page)) do
        path =
          page |> Path.dirname() |> Path.join(link) |> Path.expand() |> Path.relative_to_cwd()

        files = project[:package][:files]
        assert File.exists?(path), "#{page} links to #{link}"
        assert Enum.any?(files, &(path == &1 or String.starts_with?(path, &1 <> "/"))), path

        if Path.extname(path) == ".md",
          do: assert(path in project[:docs][:extras], "#{path} is no page of the documentation")
      end
    end
  end

  # `mix run` in another environment would build there; that of the tests has its own protocols.
  test "protocols of Nx are found where it lies in Erlang's path" do
    Mix.env(:dev)
    assert EMLX.MixProject.project()[:consolidate_protocols]
  after
    Mix.env(:test)
  end
end
