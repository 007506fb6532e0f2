# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.FunctionTest do
  # Nx.reduce and Nx.window_reduce, whose step is a function of the user's.
  use EMLX.Case, async: true

  import Nx.Defn

  @types [:u4, :s4, :u8, :u64, :s8, :s32, :s64, :bf16, :f16, :f32, :f64]

  # None of them gives the same in another order, or with its arguments swapped.
  @functions [
    alternating: quote(do: fn x, acc -> Nx.subtract(x, acc) end),
    last: quote(do: fn x, _acc -> x end),
    larger: quote(do: fn x, acc -> Nx.select(Nx.greater(x, acc), Nx.add(x, x), acc) end)
  ]

  for {name, function} <- @functions, type <- @types do
    test "reduce of #{type} with #{name}" do
      fun = unquote(function)
      t = whole({3, 4, 2}, unquote(type), 1)
      start = Nx.tensor(1, type: unquote(type), backend: Nx.BinaryBackend)

      for options <- [[], [axes: [1]], [axes: [2, 0]], [axes: [0, 1], keep_axes: true]] do
        reduce = &Nx.reduce(&1, &2, options ++ [type: unquote(type)], fun)
        assert_same(reduce, [t, start])
      end
    end

    test "window_reduce of #{type} with #{name}" do
      fun = unquote(function)
      t = whole({4, 5}, unquote(type), 2)
      start = Nx.tensor(1, type: unquote(type), backend: Nx.BinaryBackend)

      for options <- [
            [],
            [padding: :same, strides: [2, 1]],
            [padding: [{1, 0}, {0, 2}], window_dilations: [2, 1]]
          ] do
        reduce = &Nx.window_reduce(&1, &2, {2, 2}, options, fun)
        assert_same(reduce, [t, start], &window_reference(&1, &2, {2, 2}, options, fun))
      end
    end
  end

  test "vectorized tensors" do
    t = random({3, 4, 5}, :f32, 3)
    fun = fn x, acc -> Nx.subtract(acc, x) end
    assert_same(&Nx.reduce(Nx.vectorize(&1, :rows), 0, [axes: [0]], fun), [t])
    assert_same(&Nx.window_reduce(Nx.vectorize(&1, :rows), 0.0, {2, 2}, fun), [t])
  end

  defn longest_run(t) do
    Nx.reduce(t, 0, [axes: [1]], fn x, acc -> if x > acc, do: x + acc, else: acc - 1 end)
  end

  defn with_loop(t) do
    Nx.reduce(t, 0, fn x, acc ->
      {x, _} =
        while {x, i = 0}, i < 3 do
          {x + i, i + 1}
        end

      x - acc
    end)
  end

  defn(with_reduction(t), do: Nx.reduce(t, 1, fn x, acc -> Nx.sum(Nx.stack([x, acc])) * 2 end))
  defn(halves(t), do: Nx.reduce(t, 0, fn x, acc -> x / 2 + acc end))

  defn(nested(t),
    do: Nx.reduce(t, 0, fn x, acc -> Nx.reduce(Nx.stack([x, acc]), 1, &Nx.multiply/2) + acc end)
  )

  test "control flow and reductions inside of a function" do
    t = Nx.iota({2, 5})
    assert Nx.to_list(longest_run(t)) == [4, 8]
    assert Nx.to_number(with_loop(t)) == Enum.reduce(0..9, 0, &(&1 + 3 - &2))
    assert Nx.to_number(with_reduction(Nx.iota({4}))) == Enum.reduce(0..3, 1, &((&1 + &2) * 2))
    assert Nx.to_number(nested(Nx.iota({4}))) == Enum.reduce(0..3, 0, &(&1 * &2 + &2))
  end

  test "a compiled function may compute in another type" do
    assert Nx.to_number(halves(Nx.iota({2, 5}))) == Enum.reduce(0..9, 0, &trunc(&1 / 2 + &2))
  end

  @tag :tmp_dir
  test "saved with a program", %{tmp_dir: directory} do
    path = Path.join(directory, "fold.safetensors")
    t = Nx.iota({2, 5})

    for fun <- [&longest_run/1, &with_loop/1, &halves/1] do
      EMLX.export(fun, [t: Nx.template({2, 5}, :s32)], path)
      [result] = EMLX.run(EMLX.load(path), [t])
      assert Nx.to_flat_list(result) == Nx.to_flat_list(Nx.Defn.jit_apply(fun, [t]))
    end
  end

  test "eager functions may use numbers and tensors of their surroundings" do
    scale = Nx.tensor(3)
    literal = Nx.tensor(2, backend: Nx.BinaryBackend)
    t = Nx.iota({2, 3})

    assert Nx.to_number(Nx.reduce(t, 0, fn x, acc -> Nx.add(Nx.multiply(x, scale), acc) end)) ==
             45

    assert Nx.to_number(Nx.reduce(t, 0, fn x, acc -> Nx.add(Nx.pow(x, literal), acc) end)) == 55
    assert Nx.to_number(Nx.reduce(t, 0, fn x, acc -> with_loop(Nx.stack([x, acc])) end)) == -15
    assert Nx.to_number(Nx.reduce(t, 0.5, fn _, _ -> 7 end)) == 7.0
  end

  test "functions that look at values are called for each element" do
    t = Nx.iota({2, 3})
    odd = fn x, acc -> if rem(Nx.to_number(x), 2) == 1, do: Nx.add(acc, x), else: acc end
    assert Nx.to_list(Nx.reduce(t, 1, [axes: [1]], odd)) == [2, 9]

    assert Nx.to_list(Nx.window_reduce(t, 1, {1, 2}, [padding: [{0, 0}, {1, 0}]], odd)) ==
             [[2, 2, 2], [5, 4, 6]]
  end

  test "what a function must give" do
    t = Nx.iota({3})

    for {fun, message} <- [
          {fn x, _ -> Nx.broadcast(x, {2}) end, ~r/gives s32\{2\}, a scalar of s32 expected/},
          {fn x, _ -> Nx.divide(x, 2) end, ~r/gives f32\{\}, a scalar of s32 expected/},
          {fn x, _ -> Nx.tensor(Nx.to_number(x) / 2) end, ~r/scalar tensor of type {:s, 32}/}
        ] do
      assert_raise ArgumentError, message, fn -> Nx.reduce(t, 0, fun) end
    end
  end

  test "errors of a step" do
    quotient = fn x, acc -> Nx.quotient(acc, x) end
    assert_raise ArithmeticError, fn -> Nx.to_number(Nx.reduce(Nx.iota({3}), 1, quotient)) end
  end

  # Exact in every type.
  defp whole(shape, type, seed), do: random(shape, :u8, seed, range: {0, 3}) |> Nx.as_type(type)

  # The evaluator takes no functions of expressions, and the reference calls window functions with
  # bare numbers.
  defp assert_same(fun, args, reference \\ nil) do
    expected = with_reference(fn -> apply(reference || fun, args) end)
    native = Enum.map(args, &Nx.backend_copy(&1, EMLX.Backend))
    assert_close(apply(fun, native), expected)
    assert_close(Nx.Defn.jit_apply(fun, native, compiler: EMLX), expected)
  end

  defp window_reference(t, start, window, options, fun) do
    Nx.window_reduce(t, start, window, options, fn x, acc ->
      fun.(Nx.tensor(x, type: t.type), Nx.as_type(Nx.tensor(acc), t.type))
    end)
  end
end
