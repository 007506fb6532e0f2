# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.WindowTest do
  # Windows and running folds against Nx.BinaryBackend, over random options.
  use EMLX.Case, async: true

  @types [:u8, :s8, :u32, :u64, :s32, :s64, :bf16, :f16, :f32, :f64]
  @floats [:bf16, :f16, :f32, :f64]

  for op <- [:window_sum, :window_product, :window_max, :window_min], type <- @types do
    test "#{op} of #{type}" do
      :rand.seed(:exsss, {1, 2, 3})

      for _ <- 1..12 do
        {shape, window, options} = window_options([:window_dilations])
        t = whole(unquote(op), shape, unquote(type))
        assert_as_reference(&apply(Nx, unquote(op), [&1, window, options]), [t])
      end
    end
  end

  for op <- [:window_scatter_max, :window_scatter_min], type <- @types do
    test "#{op} of #{type}" do
      :rand.seed(:exsss, {4, 5, 6})

      for _ <- 1..12 do
        {shape, window, options} = window_options([])
        t = whole(op = unquote(op), shape, unquote(type))
        windows = with_reference(fn -> Nx.shape(Nx.window_max(t, window, options)) end)
        source = whole(op, windows, Enum.random([unquote(type), :f32, :s32]))
        init = initial(Enum.random(0..3), unquote(type))
        assert_as_reference(&apply(Nx, op, [&1, &2, &3, window, options]), [t, source, init])
      end
    end
  end

  test "the winner of a window is its last, also in the padding, and a NaN only where it is first" do
    for t <- [[1, 1, 1, 1], [-1.0, -2.0, -3.0, 0.0], [:nan, 2.0, 3.0, :nan]],
        op <- [:window_scatter_max, :window_scatter_min],
        padding <- [[{0, 0}], [{1, 1}], [{2, 0}]] do
      t = Nx.tensor(t, backend: Nx.BinaryBackend)
      windows = with_reference(fn -> Nx.shape(Nx.window_max(t, {2}, padding: padding)) end)
      source = Nx.iota(windows, backend: Nx.BinaryBackend)
      assert_as_reference(&apply(Nx, op, [&1, &2, 0, {2}, [padding: padding]]), [t, source])
    end
  end

  test "padding by name, means, and windows of only padding" do
    t = random({2, 5, 6}, :f32, 1)

    for fun <- [
          &Nx.window_sum(&1, {1, 2, 2}, padding: :same),
          &Nx.window_mean(&1, {1, 3, 2}, strides: [1, 2, 2], padding: :same),
          &Nx.window_max(&1, {1, 1, 1}, padding: [{1, 0}, {0, 0}, {0, 2}]),
          &Nx.window_min(Nx.as_type(&1, :s32), {1, 1, 1}, padding: [{1, 0}, {0, 0}, {0, 2}]),
          &Nx.window_max(&1, {2, 5, 6})
        ] do
      assert_as_reference(fun, [t])
    end
  end

  test "NaN and infinities" do
    t = Nx.tensor([1.0, :nan, 2.0, :infinity, 3.0, :neg_infinity, 4.0], backend: Nx.BinaryBackend)

    for op <- [:window_max, :window_min] do
      assert_as_reference(&apply(Nx, op, [&1, {2}]), [t])
      assert_as_reference(&apply(Nx, op, [&1, {3}, [padding: [{2, 2}]]]), [t])
    end

    for op <- [:cumulative_max, :cumulative_min], reverse <- [false, true] do
      assert_as_reference(&apply(Nx, op, [&1, [reverse: reverse]]), [t])
    end
  end

  test "vectorized tensors" do
    t = random({3, 4, 5}, :f32, 2)
    assert_as_reference(&Nx.window_sum(Nx.vectorize(&1, :x), {2, 2}, strides: [1, 2]), [t])
    assert_as_reference(&Nx.cumulative_sum(Nx.vectorize(&1, :x), axis: 1), [t])

    scatter = fn t ->
      t = Nx.vectorize(t, :x)
      Nx.window_scatter_max(t, Nx.window_sum(t, {2, 2}), 0, {2, 2})
    end

    assert_as_reference(scatter, [t])
  end

  test "gradients of pooling" do
    t = random({1, 4, 6}, :f32, 3)

    for pool <- [
          &Nx.window_max(&1, {1, 2, 2}, strides: [1, 2, 2]),
          &Nx.window_min(&1, {1, 2, 3}),
          &Nx.window_sum(&1, {1, 2, 2}, padding: :same),
          &Nx.cumulative_sum(&1, axis: 2)
        ] do
      gradient = &Nx.Defn.grad(&1, fn t -> t |> pool.() |> Nx.sin() |> Nx.sum() end)
      assert_as_reference(gradient, [t], tolerance: 1.0e-4)
    end
  end

  for op <- [:cumulative_sum, :cumulative_product, :cumulative_max, :cumulative_min],
      type <- @types do
    test "#{op} of #{type}" do
      t = whole(unquote(op), {4, 5, 3}, unquote(type))

      for axis <- 0..2, reverse <- [false, true] do
        options = [axis: axis, reverse: reverse]
        assert_as_reference(&apply(Nx, unquote(op), [&1, options]), [t])
      end
    end
  end

  # The reference rounds every sum on the way, and drops bits of bf16.
  for type <- @floats do
    test "running sums and products of fractions in #{type}" do
      tolerance = %{bf16: 1.0e-1, f16: 1.0e-2, f32: 1.0e-5, f64: 1.0e-12}[unquote(type)]
      t = random({3, 20}, unquote(type), 4, range: {0.7, 1.3})

      for op <- [:cumulative_sum, :cumulative_product] do
        assert_as_reference(&apply(Nx, op, [&1, [axis: 1]]), [t], tolerance: tolerance)
      end
    end
  end

  test "running sums are one native operation, rounded once an element" do
    assert EMLX.Call.block(%Nx.Block.CumulativeSum{axis: 1, reverse: true}) ==
             {:cumulative_sum, [axis: 1, reverse: true]}

    sums = Nx.cumulative_sum(Nx.tensor([16_777_216.0, 1.0, 1.0, 1.0]))
    assert Nx.to_list(sums) == [16_777_216.0, 16_777_216.0, 16_777_218.0, 16_777_220.0]
    assert Nx.to_list(Nx.cumulative_sum(Nx.u8([255, 1, 1]))) == [255, 0, 1]
  end

  test "the largest, taken, and taken along an axis" do
    t = random({4, 7}, :f32, 5)
    indices = Nx.tensor([[0, 3, 1], [2, 2, 0]], backend: Nx.BinaryBackend)
    rows = random({2, 7}, :s32, 6, range: {0, 3})

    assert_as_reference(&Nx.top_k(&1, k: 3), [t])
    assert_as_reference(&Nx.take(&1, &2, axis: 1), [t, indices])
    assert_as_reference(&Nx.take_along_axis(&1, &2, axis: 0), [t, rows])
    assert_raise ArgumentError, ~r/out of bounds/, fn -> Nx.take(Nx.iota({3}), Nx.tensor([3])) end
  end

  # Random operand shapes with windows that fit.
  defp window_options(more) do
    rank = Enum.random(1..3)
    draw = fn range -> for _ <- 1..rank, do: Enum.random(range) end
    shape = draw.(2..6)
    window = draw.(1..3)
    padding = for _ <- 1..rank, do: {Enum.random(-1..2), Enum.random(-1..2)}

    options =
      [strides: draw.(1..3), padding: padding] ++ for name <- more, do: {name, draw.(1..2)}

    dilations = options[:window_dilations] || List.duplicate(1, rank)

    fits? =
      [shape, window, padding, dilations]
      |> Enum.zip()
      |> Enum.all?(fn {length, window, {low, high}, dilation} ->
        length + low + high >= (window - 1) * dilation + 1
      end)

    if fits?,
      do: {List.to_tuple(shape), List.to_tuple(window), options},
      else: window_options(more)
  end

  # The reference misreads padded integers when the initial value is a float.
  defp initial(number, type) do
    type = if type in @floats, do: Enum.random([:s32, :f32]), else: :s32
    Nx.tensor(number, type: type, backend: Nx.BinaryBackend)
  end

  # Small whole numbers, exact in every type in any order; few, so that some are equal.
  defp whole(op, shape, type) do
    numbers =
      cond do
        op in [:window_product, :cumulative_product] -> [1, 2]
        match?({:u, _}, Nx.Type.normalize!(type)) -> 0..5
        true -> -3..3
      end

    values = for _ <- 1..Tuple.product(shape), do: Enum.random(numbers)
    values |> Nx.tensor(type: type, backend: Nx.BinaryBackend) |> Nx.reshape(shape)
  end
end
