# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Liveness do
  @moduledoc false
  # Which nodes of an expression a scope computes itself, and which are left to the branches of
  # its conds, to run when the branch is taken. A scope computes
  #
  #   - what its results need whatever branches are taken. Of a cond that is its first predicate,
  #     and what all of its branches need;
  #   - what the branches of two of its conds have in common: it would run twice otherwise.
  #
  # `Nx.Defn.Tree.scope_ids/2` answers the same question for Nx's evaluator, which computes a
  # node no sooner than it is asked for. It counts too much for us: all that is in the branches
  # of a cond which is needed both by the scope and by a branch of another cond. And it leaves
  # what all branches of a cond need to each of them, which doubles a chain of conds with each.

  alias Nx.Defn.{Composite, Expr, Tree}
  alias Nx.Tensor, as: T

  # Nodes by their ids, and conds whose branches have not been looked at.
  defstruct [:outer, nodes: %{}, conds: []]

  @type ids :: %{reference => term}

  @doc """
  The ids of the nodes that a scope with these results computes, and those of the scopes around
  it, which are given.
  """
  @spec ids([Nx.Container.t()], ids) :: ids
  def ids(results, outer \\ %{}) do
    %{nodes: nodes, conds: conds} = reach(results, outer)
    outer |> Map.merge(nodes) |> settle(conds, [])
  end

  defp settle(ids, [], conds) do
    case common(conds, ids) do
      [] -> ids
      tensors -> add(ids, tensors, conds)
    end
  end

  defp settle(ids, new, conds), do: add(ids, Enum.flat_map(new, &always(&1, ids)), new ++ conds)

  defp add(ids, tensors, conds) do
    %{nodes: nodes, conds: new} = reach(tensors, ids)
    ids |> Map.merge(nodes) |> settle(new, conds)
  end

  ## Without branches

  defp reach(containers, outer), do: Enum.reduce(containers, %__MODULE__{outer: outer}, &walk/2)

  defp walk(container, acc), do: Composite.reduce(container, acc, &visit/2)

  defp visit(%T{data: %Expr{id: id, op: op} = expr} = tensor, acc) do
    cond do
      known?(acc, id, op) ->
        acc

      op == :cond ->
        [[{predicate, _body} | _clauses], _last] = expr.args
        visit(predicate, %{put(acc, id, tensor) | conds: [tensor | acc.conds]})

      true ->
        visit_args(tensor, put(acc, id, tensor), &visit/2)
    end
  end

  # Constants belong nowhere: they are made where they are used.
  defp known?(_acc, _id, :constant), do: true
  defp known?(acc, id, _op), do: is_map_key(acc.nodes, id) or is_map_key(acc.outer, id)

  defp put(acc, id, tensor), do: %{acc | nodes: Map.put(acc.nodes, id, tensor)}

  defp visit_args(tensor, acc, visit) do
    {_args, acc} = Tree.apply_args(tensor, :scope, acc, &{&1, visit.(&1, &2)})
    acc
  end

  @doc """
  Whether the predicates and branches of these clauses have in common what no scope around them
  computes.
  """
  @spec shared?([{T.t(), Nx.Container.t()}], Nx.Container.t(), ids) :: boolean
  def shared?(clauses, last, ids) do
    parts = [last | Enum.flat_map(clauses, &Tuple.to_list/1)]

    {_seen, shared} =
      Enum.reduce(parts, {%{}, %{}}, &share(walk_inside(&1, %__MODULE__{outer: ids}, %{}), &2))

    Enum.any?(shared, fn {_id, %T{data: %Expr{op: op}}} -> op not in [:parameter, :tensor] end)
  end

  defp share(%{nodes: nodes}, {seen, shared}),
    do: {Map.merge(seen, nodes), Map.merge(shared, both(nodes, seen))}

  ## What all branches of a cond need: the first, and the second predicate with what follows it

  defp always(%T{data: %Expr{args: [[{_predicate, body} | clauses], last]}}, ids) do
    others =
      clauses
      |> Enum.reverse()
      |> Enum.reduce(nodes(last, ids), fn {predicate, body}, rest ->
        Map.merge(nodes(predicate, ids), both(nodes(body, ids), rest))
      end)

    body |> nodes(ids) |> both(others) |> Map.values()
  end

  defp nodes(container, ids), do: reach([container], ids).nodes
  defp both(left, right), do: Map.take(left, Map.keys(right))

  ## What the branches of several conds have in common

  defp common([], _ids), do: []
  defp common([_one], _ids), do: []

  defp common(conds, ids) do
    {_seen, shared} = Enum.reduce(conds, {%{}, %{}}, &share(inside(&1, ids, %{}), &2))

    if shared == %{}, do: [], else: Enum.flat_map(conds, &met(&1, ids, shared))
  end

  # Of these nodes those that the scope would compute: what only the branches of a shared cond
  # have is that cond's.
  defp met(tensor, ids, shared) do
    nodes = inside(tensor, ids, shared).nodes
    nodes |> both(shared) |> Map.values()
  end

  # All that is in the branches of a cond, but not in those of conds in `closed`.
  defp inside(%T{data: %Expr{args: [[{_predicate, body} | clauses], last]}}, ids, closed) do
    parts = Enum.flat_map(clauses, fn {predicate, body} -> [predicate, body] end)
    Enum.reduce([body, last | parts], %__MODULE__{outer: ids}, &walk_inside(&1, &2, closed))
  end

  defp walk_inside(container, acc, closed),
    do: Composite.reduce(container, acc, &visit_inside(&1, &2, closed))

  defp visit_inside(%T{data: %Expr{id: id, op: op}} = tensor, acc, closed) do
    cond do
      known?(acc, id, op) -> acc
      is_map_key(closed, id) -> put(acc, id, tensor)
      true -> visit_args(tensor, put(acc, id, tensor), &visit_inside(&1, &2, closed))
    end
  end
end
