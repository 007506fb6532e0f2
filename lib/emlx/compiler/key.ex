# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Key do
  @moduledoc false
  # What a function is remembered by in the cache of compiled programs.
  #
  # The function itself would do, but for those that hold expressions, such as the
  # stages of `Nx.Defn.Graph`: an expression shares its parts, and hashing or
  # comparing a term visits a part each time it is referred to, which may be
  # exponentially often. So the nodes are listed apart, each once, and referred to
  # by their numbers. A node's reference alone would not do: rewritten nodes keep it.
  #
  # Large binaries, such as those of captured tensors, are no part of the key: hashing
  # and comparing them would hold a scheduler at every call. Some of their bytes stand for
  # them, and they are given apart, to be compared with `same?/2`.

  alias EMLX.NIF
  alias Nx.Defn.Expr
  alias Nx.Tensor, as: T

  # What comes up while a term is walked: nodes by their ids, and large binaries.
  defstruct nodes: %{}, binaries: []

  @large 16_384
  @samples 64

  @doc "A term that is equal for equal functions and quick to hash, and its large binaries."
  @spec new(term) :: {term, [binary]}
  def new(term) do
    case walk(term, %__MODULE__{}) do
      {key, %{nodes: nodes, binaries: binaries}} when nodes == %{} ->
        {key, binaries}

      {key, %{nodes: nodes, binaries: binaries}} ->
        nodes = Map.new(nodes, fn {id, seen} -> {id, Enum.map(seen, &elem(&1, 1))} end)
        {{key, nodes}, binaries}
    end
  end

  @doc "Whether the large binaries of two equal keys are equal."
  @spec same?([binary], [binary]) :: boolean
  def same?([], []), do: true

  def same?([left | lefts], [right | rights]) do
    (NIF.binary_address(left) == NIF.binary_address(right) or equal?(left, right)) and
      same?(lefts, rights)
  end

  # Piece by piece, so that other processes have their turn. They are of the same size.
  defp equal?(
         <<left::binary-size(@large), lefts::binary>>,
         <<right::binary-size(@large), rights::binary>>
       ),
       do: left == right and equal?(lefts, rights)

  defp equal?(left, right), do: left == right

  # Every tuple that a term becomes has a tag in front, the terms' own tuples too, so that no
  # term is taken for another.
  defp walk(fun, acc) when is_function(fun) do
    case :erlang.fun_info(fun, :env) do
      {:env, []} ->
        {fun, acc}

      {:env, environment} ->
        {environment, acc} = walk(environment, acc)
        {{:fun, identity(fun), environment}, acc}
    end
  end

  # Erlang before version 27 takes 0.0 and -0.0 for the same key.
  defp walk(float, acc) when is_float(float), do: {{:float, <<float::float>>}, acc}

  defp walk(binary, acc) when is_binary(binary) and byte_size(binary) >= @large do
    sample = for i <- 0..(@samples - 1), do: :binary.part(binary, sample_at(binary, i), 8)
    {{:binary, byte_size(binary), sample}, %{acc | binaries: [binary | acc.binaries]}}
  end

  defp walk(%T{data: %Expr{id: id} = expr} = tensor, acc) do
    seen = Map.get(acc.nodes, id, [])

    case Enum.find_index(seen, fn {other, _args} -> :erts_debug.same(other, expr) end) do
      nil ->
        {args, acc} = walk(expr.args, acc)
        seen = Map.get(acc.nodes, id, []) ++ [{expr, {expr.op, args}}]
        acc = %{acc | nodes: Map.put(acc.nodes, id, seen)}
        {{:expression, id, length(seen) - 1, %{tensor | data: nil}}, acc}

      number ->
        {{:expression, id, number, %{tensor | data: nil}}, acc}
    end
  end

  defp walk([head | tail], acc) do
    {head, acc} = walk(head, acc)
    {tail, acc} = walk(tail, acc)
    {[head | tail], acc}
  end

  defp walk(tuple, acc) when is_tuple(tuple) do
    {list, acc} = tuple |> Tuple.to_list() |> walk(acc)
    {{:tuple, list}, acc}
  end

  defp walk(%module{} = struct, acc) do
    {fields, acc} = struct |> Map.from_struct() |> walk(acc)
    {{:struct, module, fields}, acc}
  end

  defp walk(%{} = map, acc) do
    {list, acc} = map |> :maps.to_list() |> Enum.map_reduce(acc, &walk_pair/2)
    {Map.new(list), acc}
  end

  defp walk(other, acc), do: {other, acc}

  defp walk_pair({key, value}, acc) do
    {value, acc} = walk(value, acc)
    {{key, value}, acc}
  end

  defp sample_at(binary, i), do: div((byte_size(binary) - 8) * i, @samples - 1)

  # An external function has no environment, so this is a local one.
  defp identity(fun) do
    for item <- [:module, :new_index, :new_uniq, :arity], do: :erlang.fun_info(fun, item)
  end
end
