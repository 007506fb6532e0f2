# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.OpsTest do
  # Every operation and type against Nx.BinaryBackend, with random inputs.
  use EMLX.Case, async: true

  @integers [:u8, :u32, :u64, :s32, :s64]
  @floats [:bf16, :f16, :f32, :f64]
  @types @integers ++ @floats

  # Where the reference raises, because Erlang's floats have no NaN: the domain it can do.
  @domains %{
    log: {0.1, 4.0},
    log1p: {-0.5, 4.0},
    acos: {-1.0, 1.0},
    asin: {-1.0, 1.0},
    acosh: {1.0, 4.0},
    atanh: {-0.9, 0.9},
    sqrt: {0.0, 4.0},
    rsqrt: {0.1, 4.0},
    erf_inv: {-0.9, 0.9}
  }

  @math [:exp, :expm1, :log, :log1p, :sigmoid, :cos, :sin, :tan, :cosh, :sinh, :tanh, :acos] ++
          [:asin, :atan, :acosh, :asinh, :atanh, :sqrt, :rsqrt, :cbrt, :erf, :erfc, :erf_inv]

  for op <- @math, type <- @floats do
    test "#{op} of #{type}" do
      t = random({40}, unquote(type), 1, range: @domains[unquote(op)])
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
    end
  end

  for op <- @math -- [:acos, :asin, :atanh, :erf_inv] do
    test "#{op} of integers" do
      t = Nx.tensor([1, 2, 3, 5], type: :u8, backend: Nx.BinaryBackend)
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
      t = Nx.tensor([1, 2, 3, 5], type: :s64, backend: Nx.BinaryBackend)
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
    end
  end

  for op <- [:abs, :negate, :sign, :floor, :ceil, :round, :is_nan, :is_infinity, :logical_not],
      type <- @types do
    test "#{op} of #{type}" do
      t = random({3, 7}, unquote(type), 2)
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
    end
  end

  for op <- [:bitwise_not, :population_count, :count_leading_zeros], type <- @integers do
    test "#{op} of #{type}" do
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [random({20}, unquote(type), 3)])
    end
  end

  @binary [:add, :subtract, :multiply, :max, :min, :equal, :not_equal, :less, :less_equal] ++
            [:greater, :greater_equal, :logical_and, :logical_or, :logical_xor, :atan2, :divide]

  for op <- @binary, type <- @types do
    test "#{op} of #{type}" do
      a = random({4, 5}, unquote(type), 4)
      b = Nx.add(random({5}, unquote(type), 5), 1) |> Nx.max(1) |> Nx.as_type(unquote(type))
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, b])
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, Nx.squeeze(b[0..0])])
    end
  end

  for op <- @binary, {left, right} <- [{:u8, :s32}, {:u64, :s64}, {:s64, :f32}, {:bf16, :f64}] do
    test "#{op} of #{left} and #{right}" do
      a = random({3, 1, 4}, unquote(left), 6)
      b = Nx.max(random({2, 1}, unquote(right), 7), 1) |> Nx.as_type(unquote(right))
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, b])
    end
  end

  for op <- [:quotient, :remainder, :bitwise_and, :bitwise_or, :bitwise_xor], type <- @integers do
    test "#{op} of #{type}" do
      a = random({4, 5}, unquote(type), 8)
      b = random({5}, unquote(type), 9, range: {1, 9})
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, b])
    end
  end

  for type <- @floats do
    test "remainder of #{type}" do
      a = random({20}, unquote(type), 8)
      assert_as_reference(&Nx.remainder/2, [a, random({20}, unquote(type), 9, range: {1, 3})])
    end
  end

  for op <- [:left_shift, :right_shift], type <- @integers do
    test "#{op} of #{type}" do
      a = random({30}, unquote(type), 10)
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, random({30}, :u8, 11)])
    end
  end

  for type <- @types do
    test "pow of #{type}" do
      base = random({20}, unquote(type), 12, range: {1, 5})
      assert_as_reference(&Nx.pow/2, [base, random({20}, unquote(type), 13, range: {0, 6})])
    end
  end

  for op <- [:sum, :product, :reduce_max, :reduce_min, :all, :any], type <- @types do
    test "#{op} of #{type}" do
      t = random({3, 4, 2}, unquote(type), 14)
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
      assert_as_reference(&apply(Nx, unquote(op), [&1, [axes: [1]]]), [t])
      assert_as_reference(&apply(Nx, unquote(op), [&1, [axes: [2, 0], keep_axes: true]]), [t])
    end
  end

  for op <- [:argmax, :argmin], type <- @types do
    test "#{op} of #{type}" do
      t = random({5, 6}, unquote(type), 15, range: {0, 4})
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
      assert_as_reference(&apply(Nx, unquote(op), [&1, [axis: 1, tie_break: :high]]), [t])
      assert_as_reference(&apply(Nx, unquote(op), [&1, [axis: 0, keep_axis: true]]), [t])
      assert_as_reference(&apply(Nx, unquote(op), [&1, [axis: 0, type: :u8]]), [t])
    end
  end

  for type <- @types do
    test "dot of #{type}" do
      a = random({3, 4}, unquote(type), 16)
      b = random({4, 5}, unquote(type), 17)
      assert_as_reference(&Nx.dot/2, [a, b], tolerance: dot_tolerance(unquote(type)))

      a = random({2, 3, 4}, unquote(type), 16)
      b = random({2, 4, 3}, unquote(type), 17)
      dot = &Nx.dot(&1, [2, 1], [0], &2, [1, 2], [0])
      assert_as_reference(dot, [a, b], tolerance: dot_tolerance(unquote(type)))
      assert_as_reference(&Nx.outer/2, [a[0], b[0]])
    end

    test "conv of #{type}" do
      options = [tolerance: dot_tolerance(unquote(type)) || 1.0e-5]
      options = if unquote(type) in [:bf16, :f16, :f64], do: [], else: options
      x = random({4, 6, 7, 5}, unquote(type), 27, range: {0, 9})
      k = random({6, 6, 3, 2}, unquote(type), 28, range: {0, 9})
      grouped = Nx.slice_along_axis(k, 0, 2, axis: 1)

      for {kernel, given} <- [
            {k, []},
            {k, padding: :same, strides: [2, 1]},
            {k, padding: [{1, -1}, {-2, 3}], input_dilation: [2, 3], kernel_dilation: 2},
            {k, input_permutation: [0, 1, 3, 2], output_permutation: [3, 0, 2, 1]},
            {k, kernel_permutation: [1, 0, 2, 3], batch_group_size: 2, padding: :same},
            {grouped, feature_group_size: 3, padding: [{0, 1}, {2, 0}]}
          ] do
        assert_as_reference(&Nx.conv(&1, &2, given), [x, kernel], options)
      end

      last = random({2, 9, 8, 3}, unquote(type), 29, range: {0, 9})
      kernel = random({3, 3, 3, 20}, unquote(type), 30, range: {0, 9})

      axon =
        &Nx.conv(&1, &2,
          padding: :same,
          input_permutation: [0, 3, 1, 2],
          kernel_permutation: [3, 2, 0, 1],
          output_permutation: [0, 3, 1, 2]
        )

      assert_as_reference(axon, [last, kernel], options)
      line = &Nx.conv(Nx.squeeze(&1[[.., .., 0..0]]), &2[0], kernel_permutation: [2, 0, 1])
      assert_as_reference(line, [Nx.transpose(last, axes: [0, 3, 2, 1]), kernel], options)
    end

    test "sort and argsort of #{type}" do
      t = random({5, 8}, unquote(type), 18, range: {0, 5})

      for op <- [:sort, :argsort], axis <- [0, 1], direction <- [:asc, :desc] do
        assert_as_reference(&apply(Nx, op, [&1, [axis: axis, direction: direction]]), [t])
      end
    end

    test "select and clip of #{type}" do
      t = random({4, 5}, unquote(type), 19)
      u = random({5}, unquote(type), 20)
      assert_as_reference(&Nx.select(Nx.greater(&1, 1), &1, &2), [t, u])
      assert_as_reference(&Nx.select(1, &1, &2), [t, u])
      assert_as_reference(&Nx.clip(&1, 1, 3), [t])
    end

    test "gather and indexed operations of #{type}" do
      t = random({4, 5}, unquote(type), 21)
      indices = Nx.tensor([[0, 1], [3, 4], [0, 1]], backend: Nx.BinaryBackend)
      assert_as_reference(&Nx.gather/2, [t, indices])
      assert_as_reference(&Nx.gather(&1, &2, axes: [1]), [t, indices[[.., 0..0]]])
      assert_as_reference(&Nx.take(&1, &2, axis: 1), [t, indices])

      updates = random({3}, unquote(type), 22, range: {0, 4})
      assert_as_reference(&Nx.indexed_add/3, [t, indices, updates])
      assert_as_reference(&Nx.indexed_put/3, [t, indices, updates])

      rows = random({3, 5}, unquote(type), 23, range: {0, 4})
      put = &Nx.indexed_put(&1, &2, &3, axes: [0])
      assert_as_reference(put, [t, indices[[.., 0..0]], rows])
    end

    test "shapes of #{type}" do
      t = random({2, 3, 4}, unquote(type), 24)
      s = random({2, 1, 4}, unquote(type), 25)

      for fun <- [
            &Nx.reshape(&1, {4, 6}),
            &Nx.transpose/1,
            &Nx.transpose(&1, axes: [1, 2, 0]),
            &Nx.reverse(&1, axes: [0, 2]),
            &Nx.broadcast(&1, {5, 2, 3, 4}),
            &Nx.broadcast(&1[0], {3, 4, 2}, axes: [0, 1]),
            &Nx.squeeze(&1[[.., 1..1, ..]]),
            &Nx.pad(&1, 1, [{1, 0, 0}, {0, 2, 1}, {-1, 1, 0}]),
            &Nx.slice(&1, [1, 0, 1], [1, 2, 3], strides: [1, 2, 2]),
            &Nx.slice(&1, [Nx.tensor(7), 0, Nx.tensor(1)], [1, 2, 3]),
            &Nx.put_slice(&1, [0, 1, 2], Nx.tensor([[[1, 2]]])),
            &Nx.put_slice(&1, [Nx.tensor(5), 0, -1], Nx.tensor([[[1, 2]]])),
            &Nx.tile(&1, [1, 2, 1]),
            &Nx.as_type(&1, :f32),
            &Nx.as_type(&1, :u8),
            &Nx.as_type(&1, :s64),
            &Nx.diff/1
          ] do
        assert_as_reference(fun, [t])
      end

      batches = fn t -> t |> Nx.to_batched(2) |> Enum.to_list() |> List.to_tuple() end
      expected = with_reference(fn -> batches.(t) end)
      assert_close(batches.(Nx.backend_copy(t, EMLX.Backend)), expected)

      assert_as_reference(&Nx.concatenate([&1, &2], axis: 1), [t, s])
      assert_as_reference(&Nx.stack([&1, &1], axis: 2), [t])
    end

    test "creation of #{type}" do
      for fun <- [
            fn -> Nx.iota({3, 4}, type: unquote(type)) end,
            fn -> Nx.iota({3, 4}, axis: 0, type: unquote(type)) end,
            fn -> Nx.eye({2, 3}, type: unquote(type)) end,
            fn -> Nx.broadcast(Nx.tensor(3, type: unquote(type)), {2, 2}) end,
            fn -> Nx.tensor([1, 2, 3], type: unquote(type)) end
          ] do
        assert_as_reference(fun, [])
      end
    end
  end

  for {from, to} <- [f32: :u32, u64: :f64, bf16: :s16, u8: :s8] do
    test "bitcast of #{from} to #{to}" do
      assert_as_reference(&Nx.bitcast(&1, unquote(to)), [random({9}, unquote(from), 26)])
    end
  end

  test "conv as in Nx's documentation" do
    x = Nx.iota({1, 1, 3, 3}, backend: Nx.BinaryBackend)

    for {shape, given} <- [
          {{4, 1, 1, 1}, [strides: [1, 1]]},
          {{4, 1, 2, 1}, [strides: 2, padding: :same, kernel_dilation: [2, 1]]}
        ] do
      k = Nx.iota(shape, backend: Nx.BinaryBackend)
      assert_as_reference(&Nx.conv(&1, &2, given), [x, k], tolerance: 0.0)
    end
  end

  test "conv of mixed types, vectorized and differentiated" do
    x = random({2, 3, 6, 6}, :u8, 31)
    k = random({4, 3, 3, 3}, :f32, 32)
    options = [tolerance: 1.0e-5]
    assert_as_reference(&Nx.conv/2, [x, k], options)

    assert_as_reference(&Nx.conv/2, [
      random({2, 3, 6, 6}, :s64, 31),
      random({4, 3, 3, 3}, :bf16, 32)
    ])

    vectorized = fn x, k -> Nx.conv(Nx.vectorize(Nx.new_axis(x, 1), :v), k, padding: :same) end
    assert_as_reference(vectorized, [x, k], options)

    for given <- [
          [],
          [strides: 2, padding: :same],
          [kernel_dilation: 2, padding: [{1, 0}, {2, 2}]]
        ] do
      loss = fn x, k -> x |> Nx.conv(k, given) |> Nx.sin() |> Nx.sum() end
      gradient = &Nx.Defn.grad({&1, &2}, fn {x, k} -> loss.(x, k) end)
      assert_as_reference(gradient, [random({2, 3, 6, 6}, :f32, 33), k], tolerance: 1.0e-4)
    end
  end

  test "casts that leave the range" do
    t = Nx.tensor([300.7, -1.5, -0.9, 200.0, 3.0e9], type: :f64, backend: Nx.BinaryBackend)
    for type <- [:u8, :s8, :s32, :u64], do: assert_as_reference(&Nx.as_type(&1, type), [t])

    t = Nx.tensor([:nan, :infinity, :neg_infinity], type: :f32, backend: Nx.BinaryBackend)
    for type <- [:u8, :s8, :s64, :f16], do: assert_as_reference(&Nx.as_type(&1, type), [t])
  end

  # The digits that accumulation in another order can change.
  defp dot_tolerance(:f32), do: 1.0e-5
  defp dot_tolerance(_type), do: nil
end
