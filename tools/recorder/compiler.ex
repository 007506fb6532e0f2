# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Compiler do
  @moduledoc """
  A `defn` compiler that has `Nx.Defn.Evaluator` compute on `Nx.BinaryBackend`, and records the
  function as a program file with what it was given and what came out.

  ## Options

    * `:program` - the name to record it under. Otherwise only functions with control flow are
      recorded, under a name made from their code.

    * `:expected` - the results to record instead of the evaluator's own.

    * `:covers` - the op that the program is a case of.
  """

  @behaviour Nx.Defn.Compiler

  alias Nx.Defn.{Composite, Evaluator}
  alias Recorder.{Archive, Case, Store}

  # Beyond these, a program tells nothing new.
  @most_bytes 200_000
  @most_programs 500

  @impl true
  def __jit__(key, vars, fun, args_list, options) do
    {own, options} = Keyword.split(options, [:program, :expected, :covers])

    results =
      if own[:expected],
        do: [own[:expected]],
        else: Evaluator.__jit__(key, vars, fun, args_list, options)

    if Store.state() != nil,
      do: Store.paused(fn -> record(vars, fun, args_list, results, own) end)

    results
  end

  @impl true
  def __compile__(_key, vars, fun, options) do
    fn args_list -> __jit__(make_ref(), vars, fun, args_list, options) end
  end

  @impl true
  def __to_backend__(_options), do: {Recorder.Backend, []}

  @impl true
  def __partitions_options__(options), do: [options]

  defp record(vars, fun, [args], [result], own) do
    path = Path.join(System.tmp_dir!(), "emlx-record-#{System.unique_integer([:positive])}")

    try do
      export(vars, fun, path)
      {metadata, entries} = path |> File.read!() |> Archive.decode()
      add(metadata, entries, args, own[:expected] || result, own)
    rescue
      error in [ArgumentError, EMLX.Error] ->
        if own[:program],
          do: Store.note("programs left out: #{first_line(error)}")
    after
      File.rm(path)
    end
  end

  defp record(_vars, _fun, _args_list, _results, _own), do: :ok

  defp first_line(error), do: error |> Exception.message() |> String.split("\n") |> hd()

  defp export(vars, fun, path) do
    names = for i <- 0..(length(vars) - 1)//1, do: "arg#{i}"
    EMLX.Compiler.__compile__(nil, vars, fun, path: path, names: names, hooks: %{})
  end

  defp add(metadata, entries, args, result, own) do
    name = own[:program]
    {"emlx", text} = List.keyfind(metadata, "emlx", 0)
    inputs = for arg <- args, do: stored(arg.())
    outputs = for tensor <- Composite.flatten_list([result]), do: stored(tensor)
    {origin, most} = Store.state!()
    bytes = for {_type, _shape, bytes} <- inputs ++ outputs, do: byte_size(bytes)
    bytes = Enum.sum(bytes) + byte_size(text)

    if bytes <= @most_bytes and (name != nil or (control_flow?(text) and bytes <= most * 8)) do
      name = name || "test-" <> digest(text)
      recorded = %{inputs: inputs, outputs: outputs, class: class(name, text), origin: origin}
      recorded = Map.put(recorded, :covers, own[:covers])
      Store.put_program("program-" <> name, metadata, entries, recorded, @most_programs)
    end
  end

  defp class("linalg-" <> _, _text), do: "linear_algebra"
  defp class("fft-" <> _, _text), do: "fft"

  defp class(_name, text),
    do: if(text =~ ~s("eigh") or text =~ ~s("svd"), do: "linear_algebra", else: "program")

  defp control_flow?(text), do: text =~ ~s("cond") or text =~ ~s("while")

  defp digest(text),
    do: text |> :erlang.md5() |> Base.encode16(case: :lower) |> String.slice(0, 10)

  defp stored(tensor),
    do: tensor |> Nx.to_tensor() |> Nx.backend_copy(Nx.BinaryBackend) |> Case.stored()
end
