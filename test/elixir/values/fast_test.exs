# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.FastTest do
  # Fused functions against formulas in plain Elixir, by every way in, and their gradients.
  use EMLX.Case, async: true

  import Nx.Defn
  alias EMLX.Fast

  doctest EMLX.Fast

  defp uniform(shape, seed, type \\ :f32) do
    {t, _} = Nx.Random.uniform(Nx.Random.key(seed), -1.0, 1.0, shape: shape)
    Nx.as_type(t, type)
  end

  # Eager, by the evaluator, compiled, and on Nx's own backend; all must agree.
  defp every_way(fun, args) do
    eager = apply(fun, args)
    binary = Enum.map(args, &Nx.backend_copy(&1, Nx.BinaryBackend))

    for other <- [
          Nx.Defn.jit_apply(fun, args, compiler: Nx.Defn.Evaluator),
          Nx.Defn.jit_apply(fun, args, compiler: EMLX),
          Nx.Defn.jit_apply(fun, binary, compiler: Nx.Defn.Evaluator)
        ],
        do: assert_near(other, eager, tolerance(eager))

    eager
  end

  defp tolerance(t), do: if(Nx.type(t) in [{:bf, 16}, {:f, 16}], do: 2.0e-2, else: 2.0e-6)

  defp assert_near(a, b, tolerance) do
    assert Nx.type(a) == Nx.type(b)
    assert Nx.shape(a) == Nx.shape(b)

    for {x, y} <- Enum.zip(Nx.to_flat_list(a), Nx.to_flat_list(b)),
        do: assert_in_delta(x, y, tolerance * (1 + abs(y)))
  end

  ## Attention, one query at a time

  defp attend(q, k, v, scale, seen, add, sinks) do
    {batch, heads, queries, _} = Nx.shape(q)
    groups = Nx.axis_size(k, 1)
    [q, k, v] = Enum.map([q, k, v], &nested/1)

    for b <- 0..(batch - 1), h <- 0..(heads - 1), i <- 0..(queries - 1) do
      g = div(h, div(heads, groups))
      keys = k |> Enum.at(b) |> Enum.at(g)
      query = q |> Enum.at(b) |> Enum.at(h) |> Enum.at(i)

      scores =
        for {key, j} <- Enum.with_index(keys) do
          if seen.(b, i, j), do: scale * dot(query, key) + add.(b, h, i, j), else: -1.0e30
        end

      most = Enum.max(if sinks, do: [Enum.at(sinks, h) | scores], else: scores)
      powers = Enum.map(scores, &:math.exp(&1 - most))
      sum = Enum.sum(powers) + if(sinks, do: :math.exp(Enum.at(sinks, h) - most), else: 0.0)
      values = v |> Enum.at(b) |> Enum.at(g)

      Enum.zip_with(powers, values, fn p, value -> Enum.map(value, &(&1 * p / sum)) end)
      |> Enum.zip_with(&Enum.sum/1)
    end
    |> List.flatten()
  end

  defp dot(a, b), do: a |> Enum.zip_with(b, &*/2) |> Enum.sum()
  defp nested(t), do: Nx.to_list(t)

  defp check(result, expected),
    do:
      for(
        {x, y} <- Enum.zip(Nx.to_flat_list(result), expected),
        do: assert_in_delta(x, y, 1.0e-5)
      )

  @all &__MODULE__.all/3
  @none &__MODULE__.none/4
  def all(_, _, _), do: true
  def none(_, _, _, _), do: 0.0

  test "attention, with heads that share keys" do
    [q, k, v] = [uniform({2, 4, 3, 5}, 1), uniform({2, 2, 6, 5}, 2), uniform({2, 2, 6, 7}, 3)]
    result = every_way(&Fast.scaled_dot_product_attention(&1, &2, &3, 0.4), [q, k, v])
    assert Nx.shape(result) == {2, 4, 3, 7}
    check(result, attend(q, k, v, 0.4, @all, @none, nil))
  end

  test "causal attention: the last query sees every key" do
    [q, k, v] = [uniform({1, 2, 3, 4}, 4), uniform({1, 1, 5, 4}, 5), uniform({1, 1, 5, 4}, 6)]
    result = every_way(&Fast.scaled_dot_product_attention_causal(&1, &2, &3, 0.5), [q, k, v])
    check(result, attend(q, k, v, 0.5, fn _, i, j -> j <= i + 2 end, @none, nil))
  end

  test "masks that choose, masks that add, sinks" do
    [q, k, v] = [uniform({1, 2, 2, 4}, 7), uniform({1, 2, 3, 4}, 8), uniform({1, 2, 3, 4}, 9)]
    sinks = Nx.tensor([0.5, -1.0])
    added = uniform({1, 1, 2, 3}, 10)
    list = nested(added) |> List.flatten()
    chosen = Nx.u8([[1, 0, 1], [0, 1, 1]])

    result =
      every_way(&Fast.scaled_dot_product_attention(&1, &2, &3, 0.5, &4, sinks: &5), [
        q,
        k,
        v,
        added,
        sinks
      ])

    add = fn _, _, i, j -> Enum.at(list, 3 * i + j) end
    check(result, attend(q, k, v, 0.5, @all, add, [0.5, -1.0]))

    result = every_way(&Fast.scaled_dot_product_attention(&1, &2, &3, 0.5, &4), [q, k, v, chosen])
    seen = fn _, i, j -> chosen |> nested() |> Enum.at(i) |> Enum.at(j) == 1 end
    check(result, attend(q, k, v, 0.5, seen, @none, nil))

    result =
      every_way(&Fast.scaled_dot_product_attention(&1, &2, &3, 0.5, sinks: &4), [q, k, v, sinks])

    check(result, attend(q, k, v, 0.5, @all, @none, [0.5, -1.0]))
  end

  test "key masks, and queries that see nothing" do
    [q, k, v] = [uniform({2, 1, 3, 4}, 11), uniform({2, 1, 3, 4}, 12), uniform({2, 1, 3, 4}, 13)]
    mask = Nx.tensor([[0, 1, 1], [1, 1, 0]])
    fun = &Fast.scaled_dot_product_attention_causal_key_masked(&1, &2, &3, 0.5, &4)
    result = every_way(fun, [q, k, v, mask])
    seen = fn b, i, j -> j <= i and mask |> nested() |> Enum.at(b) |> Enum.at(j) == 1 end
    check(result, attend(q, k, v, 0.5, seen, @none, nil))
    # The first query of the first sequence sees nothing: the mean of the values.
    mean = v[0][0] |> Nx.mean(axes: [0]) |> Nx.to_flat_list()
    check(result[0][0][0], mean)
  end

  test "a cache is written and read" do
    [q, nk, nv] = for i <- 1..3, do: uniform({1, 1, 2, 4}, 20 + i)
    [kc, vc] = for i <- 1..2, do: uniform({1, 5, 2, 4}, 30 + i)
    mask = Nx.tensor([[1, 1, 1, 0, 0]])
    fun = &Fast.kv_cache_sdpa_update(&1, &2, &3, &4, &5, &6, &7, 0.5)
    args = [q, nk, nv, kc, vc, Nx.tensor(2), mask]
    {out, k, v} = apply(fun, args)
    {out2, k2, v2} = Nx.Defn.jit_apply(fun, args, compiler: EMLX)
    for {a, b} <- [{out, out2}, {k, k2}, {v, v2}], do: assert_near(a, b, 1.0e-6)
    assert Nx.to_flat_list(k) == Nx.to_flat_list(Nx.put_slice(kc, [0, 2, 0, 0], nk))
    [qt, kt, vt] = for t <- [q, k, v], do: Nx.transpose(t, axes: [0, 2, 1, 3])
    check(out, attend(qt, kt, vt, 0.5, fn _, _, j -> j < 3 end, @none, nil))
  end

  test "narrow floats are computed in f32 and rounded once" do
    for type <- [:bf16, :f16] do
      [q, k, v] = for i <- 1..3, do: uniform({1, 2, 4, 8}, 40 + i, type)
      result = every_way(&Fast.scaled_dot_product_attention(&1, &2, &3, 0.3), [q, k, v])

      wide =
        Fast.scaled_dot_product_attention(
          Nx.as_type(q, :f32),
          Nx.as_type(k, :f32),
          Nx.as_type(v, :f32),
          0.3
        )

      assert Nx.to_flat_list(result) == wide |> Nx.as_type(type) |> Nx.to_flat_list()
    end
  end

  ## Norms, gates, positions

  test "norms" do
    [x, w, b] = [uniform({3, 4}, 50), uniform({4}, 51), uniform({4}, 52)]
    rows = nested(x)
    weights = nested(w)

    expected =
      for row <- rows do
        r = 1 / :math.sqrt(Enum.sum(Enum.map(row, &(&1 * &1))) / 4 + 1.0e-5)
        Enum.zip_with(row, weights, &(&1 * r * &2))
      end

    check(every_way(&Fast.rms_norm(&1, &2, 1.0e-5), [x, w]), List.flatten(expected))

    plain =
      for row <- rows do
        mean = Enum.sum(row) / 4
        r = 1 / :math.sqrt(Enum.sum(Enum.map(row, &((&1 - mean) * (&1 - mean)))) / 4 + 1.0e-5)
        Enum.zip_with(row, weights, &((&1 - mean) * r * &2))
      end

    check(every_way(&Fast.layer_norm(&1, &2, 1.0e-5), [x, w]), List.flatten(plain))
    biased = for row <- plain, do: Enum.zip_with(row, nested(b), &+/2)
    check(every_way(&Fast.layer_norm(&1, &2, &3, 1.0e-5), [x, w, b]), List.flatten(biased))
  end

  test "rotary positions, both kinds of pairs, part of the axis" do
    x = uniform({1, 2, 3, 6}, 60)

    for traditional <- [false, true] do
      result = every_way(&Fast.rope(&1, 4, traditional, 100, 0.5, 7), [x])

      expected =
        for head <- nested(x[0]), {[a, b, c, d, e, f], i} <- Enum.with_index(head) do
          [t, u] = for n <- 0..1, do: (7 + i) * 0.5 * :math.pow(100, -2 * n / 4)

          turn = fn x, y, t ->
            [x * :math.cos(t) - y * :math.sin(t), x * :math.sin(t) + y * :math.cos(t)]
          end

          if traditional do
            turn.(a, b, t) ++ turn.(c, d, u) ++ [e, f]
          else
            [[a, c], [b, d]] = [turn.(a, c, t), turn.(b, d, u)]
            [a, b, c, d, e, f]
          end
        end

      check(result, List.flatten(expected))
    end
  end

  test "rotary positions by tensor are those of the same numbers" do
    x = uniform({1, 3, 2, 4}, 61)
    by_offset = x |> Nx.transpose(axes: [0, 2, 1, 3]) |> Fast.rope(4, false, 10_000, 1.0, 5)
    positions = Nx.tensor([[5, 6, 7]])
    result = every_way(&Fast.rope_with_positions(&1, &2, 4, false, 10_000, 1.0), [x, positions])
    assert_near(Nx.transpose(result, axes: [0, 2, 1, 3]), by_offset, 1.0e-6)

    periods = Nx.pow(10_000.0, Nx.tensor([0.0, 0.5]))
    again = every_way(&Fast.rope_with_freqs(&1, &2, 4, false, 1.0, &3), [x, positions, periods])
    assert_near(again, result, 1.0e-6)
  end

  test "gates" do
    [gate, up] = [uniform({5}, 70), uniform({5}, 71)]

    expected =
      Enum.zip_with(nested(gate), nested(up), fn g, u -> g / (1 + :math.exp(-g)) * u end)

    check(every_way(&Fast.swiglu/2, [gate, up]), expected)
  end

  ## Gradients, and what is refused

  test "gradients are those of differences" do
    [q, k, v] = for i <- 1..3, do: uniform({1, 1, 2, 3}, 80 + i, :f64)

    functions = [
      {&Fast.scaled_dot_product_attention_causal(&1, &2, &3, 0.5), [q, k, v]},
      {fn x, w, _ -> Fast.rms_norm(x, w, 1.0e-5) end, [q, Nx.f64([1, 2, 3]), v]},
      {fn x, g, _ -> Fast.swiglu(x, g) end, [q, k, v]}
    ]

    for {fun, args} <- functions, compiler <- [EMLX, Nx.Defn.Evaluator] do
      loss = fn args ->
        fun |> apply(Tuple.to_list(args)) |> Nx.multiply(Nx.iota({3}, type: :f64)) |> Nx.sum()
      end

      grads = Nx.Defn.jit_apply(Nx.Defn.grad(loss), [List.to_tuple(args)], compiler: compiler)
      grad = grads |> elem(0) |> Nx.to_flat_list()
      [x | rest] = args
      at = fn x -> [x | rest] |> List.to_tuple() |> loss.() end

      for i <- 0..5 do
        step = x |> Nx.shape() |> Nx.iota() |> Nx.equal(i) |> Nx.multiply(1.0e-6)
        difference = Nx.subtract(at.(Nx.add(x, step)), at.(Nx.subtract(x, step)))
        assert_in_delta Enum.at(grad, i), Nx.to_number(difference) / 2.0e-6, 1.0e-6
      end
    end
  end

  defn(inside(x, w), do: Fast.rms_norm(x * 2, w, 1.0e-6) + 1)

  test "inside defn" do
    x = uniform({2, 3}, 90)
    w = Nx.tensor([1.0, 1.0, 1.0])
    assert_near(inside(x, w), Nx.add(Fast.rms_norm(Nx.multiply(x, 2), w, 1.0e-6), 1), 1.0e-6)
  end

  test "a constant beside what is traced" do
    x = Nx.tensor([[[1.0, 2.0, 3.0, 4.0]]])
    freqs = Nx.tensor([1.0, 10.0], backend: Nx.BinaryBackend)
    positions = Nx.tensor([[3]], backend: Nx.BinaryBackend)
    turn = &EMLX.Fast.rope_with_freqs(&1, positions, 4, false, 1.0, freqs)

    for compiler <- [EMLX, Nx.Defn.Evaluator],
        do:
          assert(
            Nx.Defn.jit_apply(turn, [x], compiler: compiler) |> Nx.to_list() ==
              Nx.to_list(turn.(x))
          )
  end

  test "wrong shapes and options are named" do
    q = uniform({1, 3, 2, 4}, 91)
    k = uniform({1, 2, 2, 4}, 92)

    assert_raise ArgumentError, ~r/multiple of groups/, fn ->
      Fast.scaled_dot_product_attention(q, k, k, 1.0)
    end

    assert_raise ArgumentError, ~r/:sink/, fn ->
      Fast.scaled_dot_product_attention(q, q, q, 1.0, sink: 1)
    end

    assert_raise ArgumentError, ~r/even number of dims/, fn ->
      Fast.rope(q, 3, false, 10, 1.0, 0)
    end
  end
end
