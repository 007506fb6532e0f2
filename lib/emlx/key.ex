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

  alias Nx.Defn.Expr
  alias Nx.Tensor, as: T

  @doc "A term that is equal for equal functions, and quick to hash."
  @spec new(term) :: term
  def new(term) do
    case walk(term, %{}) do
      {key, nodes} when nodes == %{} ->
        key

      {key, nodes} ->
        {key, Map.new(nodes, fn {id, seen} -> {id, Enum.map(seen, &elem(&1, 1))} end)}
    end
  end

  defp walk(fun, nodes) when is_function(fun) do
    case :erlang.fun_info(fun, :env) do
      {:env, []} ->
        {fun, nodes}

      {:env, environment} ->
        {environment, nodes} = walk(environment, nodes)
        {{:fun, identity(fun), environment}, nodes}
    end
  end

  # Erlang before version 27 takes 0.0 and -0.0 for the same key.
  defp walk(float, nodes) when is_float(float), do: {{:float, <<float::float>>}, nodes}

  defp walk(%T{data: %Expr{id: id} = expr} = tensor, nodes) do
    seen = Map.get(nodes, id, [])

    case Enum.find_index(seen, fn {other, _args} -> :erts_debug.same(other, expr) end) do
      nil ->
        {args, nodes} = walk(expr.args, nodes)
        seen = Map.get(nodes, id, []) ++ [{expr, {expr.op, args}}]
        {{:expression, id, length(seen) - 1, %{tensor | data: nil}}, Map.put(nodes, id, seen)}

      number ->
        {{:expression, id, number, %{tensor | data: nil}}, nodes}
    end
  end

  defp walk([head | tail], nodes) do
    {head, nodes} = walk(head, nodes)
    {tail, nodes} = walk(tail, nodes)
    {[head | tail], nodes}
  end

  defp walk(tuple, nodes) when is_tuple(tuple) do
    {list, nodes} = tuple |> Tuple.to_list() |> walk(nodes)
    {List.to_tuple(list), nodes}
  end

  defp walk(%module{} = struct, nodes) do
    {fields, nodes} = struct |> Map.from_struct() |> walk(nodes)
    {{module, fields}, nodes}
  end

  defp walk(%{} = map, nodes) do
    {list, nodes} = map |> :maps.to_list() |> Enum.map_reduce(nodes, &walk_pair/2)
    {Map.new(list), nodes}
  end

  defp walk(other, nodes), do: {other, nodes}

  defp walk_pair({key, value}, nodes) do
    {value, nodes} = walk(value, nodes)
    {{key, value}, nodes}
  end

  # An external function has no environment, so this is a local one.
  defp identity(fun) do
    for item <- [:module, :new_index, :new_uniq, :arity], do: :erlang.fun_info(fun, item)
  end
end
