# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.BranchesTest do
  # What runs, and how often, in conds whose parts have something in common.
  use EMLX.Case, async: true

  import Nx.Defn

  def tell(name, _value), do: send(self(), {:told, name})

  defp told(acc \\ []) do
    receive do
      {:told, name} -> told([name | acc])
    after
      0 -> Enum.sort(acc)
    end
  end

  # The same results and calls as with Nx's evaluator, which computes nothing before it is needed.
  defp assert_same_calls(fun, args) do
    {expected, calls} = with_reference(fn -> {Nx.Defn.jit_apply(fun, args), told()} end)
    assert_close(Nx.Defn.jit_apply(fun, args), expected)
    assert {args, told()} == {args, calls}
  end

  defp flags(count) do
    for bits <- 0..(2 ** count - 1) do
      for i <- 0..(count - 1),
          do: Nx.tensor(Bitwise.band(Bitwise.bsr(bits, i), 1), backend: Nx.BinaryBackend)
    end
  end

  defn needed_in_a_branch_too(p, q) do
    r = if p, do: hook(p + 1, &tell(:yes, &1)), else: hook(p + 2, &tell(:no, &1))
    s = if q, do: r + 1, else: q
    {s, r}
  end

  test "branches of a cond that another cond needs as well" do
    for args <- flags(2), do: assert_same_calls(&needed_in_a_branch_too/2, args)
  end

  defn only_in_branches(p, q) do
    r = if p, do: hook(p + 1, &tell(:yes, &1)), else: hook(p + 2, &tell(:no, &1))
    if q, do: r + 1, else: r * 2
  end

  test "a cond that all branches of another need" do
    for args <- flags(2), do: assert_same_calls(&only_in_branches/2, args)
  end

  defn predicate_and_branch(p, q) do
    slow = hook(q * 3, &tell(:slow, &1))

    cond do
      p -> {p, q}
      slow > 1 -> {slow + 1, hook(q, &tell(:second, &1))}
      true -> {slow + 2, q}
    end
  end

  # The evaluator calls `slow` once more for a branch.
  test "what a later predicate and its branch have in common" do
    for [p, q] = args <- flags(2) do
      {p, q} = {Nx.to_number(p), Nx.to_number(q)}

      {first, second, calls} =
        case {p, q} do
          {1, q} -> {1, q, []}
          {0, 1} -> {4, 1, [:second, :slow]}
          {0, 0} -> {2, 0, [:slow]}
        end

      {a, b} = Nx.Defn.jit_apply(&predicate_and_branch/2, args)
      assert {Nx.to_number(a), Nx.to_number(b), told()} == {first, second, calls}
    end
  end

  defn some_branches(p, q, r) do
    x = hook(r + 5, &tell(:x, &1))

    y =
      cond do
        p -> r
        q -> hook(x * 2, &tell(:double, &1))
        r -> r
        true -> x
      end

    if p, do: hook(y, &tell(:y, &1)), else: y
  end

  test "what some branches have in common" do
    for args <- flags(3), do: assert_same_calls(&some_branches/3, args)
  end

  # Each step is needed by two branches of the next: as a tree the first has 2^100 leaves.
  @tag timeout: 20_000
  test "a long chain of conds that depend on each other" do
    last = fn i, x -> Nx.remainder(Nx.add(Nx.multiply(x, 3), i), 1000) end

    for {make, steps, expected} <- [
          {fn p, _q, i, x -> Nx.Defn.Expr.cond([{p, last.(i, x)}], x) end, 100, 7},
          {fn p, q, i, x -> Nx.Defn.Expr.cond([{p, Nx.tensor(i)}, {q, x}], last.(i, x)) end, 25,
           Enum.reduce(1..25, 7, &rem(&2 * 3 + &1, 1000))}
        ] do
      chain = fn p, q, x -> Enum.reduce(1..steps, x, &make.(p, q, &1, &2)) end
      assert Nx.to_number(Nx.Defn.jit_apply(chain, [0, 0, 7])) == expected
    end
  end

  test "a cond of very many branches" do
    fun = fn x ->
      y = Nx.multiply(x, 10)
      Nx.Defn.Expr.cond(for(i <- 1..150, do: {Nx.equal(x, i), Nx.add(y, i)}), y)
    end

    for {x, result} <- [{0, 0}, {1, 11}, {77, 847}, {150, 1650}],
        do: assert(Nx.to_number(Nx.Defn.jit_apply(fun, [x])) == result)
  end
end
