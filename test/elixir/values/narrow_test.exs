# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NarrowTest do
  # Every op with elements of 2 and 4 bits against Nx.BinaryBackend. Elements live in a byte each
  # and must come out wrapped to their width, whatever an op computes them in.
  use EMLX.Case, async: true

  @types [:u2, :u4, :s2, :s4]

  # Nx functions by op: of one tensor, of two, or given what they need below.
  @unary [:exp, :expm1, :log1p, :sigmoid, :cos, :sin, :tan, :cosh, :sinh, :tanh, :atan] ++
           [:asinh, :cbrt, :erf, :erfc, :abs, :negate, :sign, :floor, :ceil, :round] ++
           [:bitwise_not, :population_count, :is_nan, :is_infinity] ++
           [:logical_not, :sum, :product, :reduce_max, :reduce_min, :all, :any, :argmax] ++
           [:argmin, :cumulative_sum, :cumulative_product, :cumulative_max, :cumulative_min] ++
           [:reverse, :transpose, :sort, :argsort]
  # Functions that the reference takes of these numbers only.
  @domains [log: 1..3, acos: 0..1, asin: 0..1, acosh: 1..3, atanh: 0..0, sqrt: 0..3] ++
             [rsqrt: 1..3, erf_inv: 0..0]
  @binary [:add, :subtract, :multiply, :atan2, :max, :min, :bitwise_and, :bitwise_or] ++
            [:bitwise_xor, :equal, :not_equal, :less, :less_equal, :greater, :greater_equal] ++
            [:logical_and, :logical_or, :logical_xor, :all_close]
  # The second operand is positive.
  @divisions [:divide, :quotient, :remainder, :left_shift, :right_shift, :pow]
  # Those that need more than tensors: see options/1.
  @optional [
    :as_type,
    :bitcast,
    :constant,
    :iota,
    :eye,
    :reshape,
    :squeeze,
    :broadcast,
    :slice,
    :put_slice,
    :concatenate,
    :stack,
    :pad,
    :select,
    :clip,
    :sum,
    :dot,
    :conv,
    :gather,
    :take,
    :take_along_axis,
    :top_k,
    :indexed_add,
    :indexed_put,
    :window_sum,
    :window_product,
    :window_max,
    :window_min,
    :window_scatter_max,
    :window_scatter_min,
    :reduce,
    :cumulative_sum
  ]

  # Computed in floats from the start.
  @floating [:real, :imag, :phase, :conjugate, :fft, :ifft, :rfft, :irfft, :fft2, :ifft2] ++
              [:cholesky, :triangular_solve, :solve, :determinant, :qr, :lu, :eigh, :svd] ++
              [:softmax, :logsumexp, :rms_norm, :layer_norm, :swiglu, :rope, :attention] ++
              [:quantize, :dequantize]

  # Where an operation has two operands, the reference of Nx's main branch cannot put results of
  # such elements together.
  @without_reference [:add, :subtract, :multiply, :max, :min, :all_close, :pow] ++
                       [:quotient, :remainder, :left_shift, :right_shift] ++
                       [:bitwise_and, :bitwise_or, :bitwise_xor] ++
                       [:cumulative_sum, :cumulative_product, :cumulative_max, :cumulative_min]
  @reason "Nx.BinaryBackend fails with elements of two and four bits"
  @skipped if narrow_reference?(), do: [], else: @without_reference

  test "every op has its case" do
    named = @unary ++ Keyword.keys(@domains) ++ @binary ++ @divisions ++ @optional ++ @floating

    # Leading zeros are tested below. Window functions are given bare numbers by the reference; see
    # function_test.exs.
    named = named ++ [:window_reduce, :count_leading_zeros]
    assert Enum.map(EMLX.Ops.all(), & &1.name) -- named == []
  end

  for type <- @types do
    for op <- Enum.uniq(@unary) do
      @tag skip: op in @skipped and @reason
      test "#{op} of #{type}" do
        check(&apply(Nx, unquote(op), [&1]), [narrow(unquote(type), 1)])
      end
    end

    for {op, domain} <- @domains do
      test "#{op} of #{type}" do
        check(&apply(Nx, unquote(op), [&1]), [
          narrow(unquote(type), 2, unquote(Macro.escape(domain)))
        ])
      end
    end

    for op <- @binary do
      @tag skip: op in @skipped and @reason
      test "#{op} of #{type}" do
        check(&apply(Nx, unquote(op), [&1, &2]), [
          narrow(unquote(type), 3),
          narrow(unquote(type), 4)
        ])
      end
    end

    for op <- @divisions do
      @tag skip: op in @skipped and @reason
      test "#{op} of #{type}" do
        divisors = narrow(unquote(type), 6, 1..3)
        check(&apply(Nx, unquote(op), [&1, &2]), [narrow(unquote(type), 5), divisors])
      end
    end

    for op <- @optional do
      @tag skip: op in @skipped and @reason
      test "#{op} of #{type}, with options" do
        functions = Keyword.fetch!(options(unquote(type)), unquote(op))
        for fun <- functions, do: check(fun, [narrow(unquote(type), 7)])
      end
    end
  end

  test "leading zeros, which the reference does not count" do
    # Two of them do not fit into s2.
    for {type, expected} <- [
          u2: [2, 1, 0, 0],
          s2: [-2, 1, 0, 0],
          u4: [4, 3, 2, 2],
          s4: [4, 3, 2, 2]
        ] do
      t = Nx.as_type(Nx.iota({4}), type)
      assert t |> Nx.count_leading_zeros() |> Nx.as_type(:s32) |> Nx.to_list() == expected
    end
  end

  # The reference cannot list them, so both sides are widened first.
  defp check(fun, args), do: assert_as_reference(wide(fun, length(args)), args)

  defp wide(fun, 1), do: fn a -> widen(fun.(a)) end
  defp wide(fun, 2), do: fn a, b -> widen(fun.(a, b)) end

  defp widen(%Nx.Tensor{type: {class, size}} = t) when class in [:u, :s] and size < 8,
    do: {Nx.as_type(t, :s32), Nx.as_type(t, :u8)}

  defp widen(t), do: t

  defp options(type) do
    [
      as_type: [&Nx.as_type(&1, :s32), &Nx.as_type(Nx.multiply(Nx.as_type(&1, :s64), 37), type)],
      bitcast: [&Nx.bitcast(&1, if(type in [:u2, :s2], do: :u2, else: :s4))],
      constant: [fn _ -> Nx.add(Nx.tensor(1, type: type), Nx.iota({3}, type: type)) end],
      iota: [fn _ -> Nx.iota({5, 4}, type: type) end],
      eye: [fn _ -> Nx.eye(3, type: type) end],
      reshape: [&Nx.reshape(&1, {6, 4})],
      squeeze: [&Nx.squeeze(&1[[.., 0..0]])],
      broadcast: [&Nx.broadcast(&1, {2, 4, 6})],
      slice: [&Nx.slice(&1, [1, 2], [2, 3], strides: [1, 2])],
      put_slice: [&Nx.put_slice(&1, [1, 2], Nx.slice(&1, [0, 0], [2, 2]))],
      concatenate: [&Nx.concatenate([&1, &1], axis: 1)],
      stack: [&Nx.stack([&1, &1])],
      pad: [&Nx.pad(&1, Nx.tensor(1, type: type), [{1, 0, 1}, {-1, 2, 0}])],
      select: [&Nx.select(Nx.greater(&1, 0), &1, Nx.reverse(&1))],
      clip: [&Nx.clip(&1, Nx.tensor(0, type: type), Nx.tensor(1, type: type))],
      sum: [&Nx.sum(&1, axes: [0]), &Nx.sum(&1, axes: [1])],
      dot: [&Nx.dot(&1, Nx.transpose(&1)), &Nx.dot(&1, [0], &1, [0])],
      conv: [
        &Nx.conv(Nx.reshape(&1, {1, 2, 3, 4}), Nx.reshape(&1[0..1], {3, 2, 1, 2})),
        &Nx.conv(Nx.reshape(&1, {1, 2, 3, 4}), Nx.reshape(&1[0], {2, 1, 1, 3}),
          feature_group_size: 2,
          padding: :same
        )
      ],
      gather: [&Nx.gather(&1, Nx.tensor([[0, 1], [3, 5]]))],
      take: [&Nx.take(&1, Nx.tensor([2, 0, 0]), axis: 1)],
      take_along_axis: [&Nx.take_along_axis(&1, Nx.argsort(&1, axis: 1), axis: 1)],
      top_k: [&Nx.top_k(&1, k: 2)],
      indexed_add: [&Nx.indexed_add(&1, indices(), &1[0])],
      indexed_put: [&Nx.indexed_put(&1, indices(), &1[0])],
      window_sum: [&Nx.window_sum(&1, {2, 2}), &Nx.window_sum(&1, {3, 3}, padding: :same)],
      window_product: [&Nx.window_product(&1, {2, 3})],
      window_max: [&Nx.window_max(&1, {2, 2}, padding: :same)],
      window_min: [&Nx.window_min(&1, {2, 2}, padding: :same)],
      window_scatter_max: [&scatter(:window_scatter_max, &1, type)],
      window_scatter_min: [&scatter(:window_scatter_min, &1, type)],
      reduce: [
        &Nx.reduce(&1, Nx.tensor(1, type: type), [axes: [1]], fn x, acc ->
          Nx.subtract(x, acc)
        end)
      ],
      cumulative_sum: [&Nx.cumulative_sum(&1, axis: 1, reverse: true)]
    ]
  end

  defp indices, do: Nx.tensor([[0, 1], [3, 5], [0, 1], [2, 2], [0, 1], [2, 2]])

  defp scatter(op, t, type) do
    source = Nx.window_max(t, {2, 2}, strides: [2, 2])
    apply(Nx, op, [t, source, Nx.tensor(1, type: type), {2, 2}, [strides: [2, 2]]])
  end

  defp narrow(type, seed, domain \\ nil) do
    {class, size} = Nx.Type.normalize!(type)
    count = Integer.pow(2, size)
    {low, high} = if class == :u, do: {0, count - 1}, else: {-div(count, 2), div(count, 2) - 1}
    first..last//1 = domain || low..high
    bounds = {first, min(last, high)}
    random({4, 6}, :s8, seed, range: bounds) |> Nx.as_type(type)
  end
end
