# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.EdgesTest do
  # The edges of Nx's operations, by hand: what wraps, truncates, ties, is not finite or out of
  # range. Each function is called and compiled; the numbers are what Nx documents or its
  # reference gives, and otherwise as docs/differences.md says.
  use EMLX.Case, async: true

  @inf :infinity
  @neg :neg_infinity
  @nan :nan
  @max64 0xFFFFFFFFFFFFFFFF

  defp t(values, type), do: Nx.tensor(values, type: type)

  # A function of tensors, its arguments as {values, type}, and the elements of the result.
  defp assert_elements(fun, arguments, expected) do
    arguments = for {values, type} <- arguments, do: t(values, type)
    assert elements(apply(fun, arguments)) == expected
    assert elements(Nx.Defn.jit_apply(fun, arguments)) == expected
  end

  # Zeros are told apart, which patterns of older Erlang versions do not do.
  defp elements(tensor) do
    tensor = Nx.backend_copy(tensor, Nx.BinaryBackend)

    for x <- Nx.to_flat_list(tensor),
        do: if(is_float(x) and <<x::float>> == <<-0.0::float>>, do: :minus_zero, else: x)
  end

  describe "casts" do
    for {from, values, to, expected} <- [
          {:s32, [256, -1], :u8, [0, 255]},
          {:s32, [128, -9], :s8, [-128, -9]},
          {:s32, [-9, 9], :s4, [7, -7]},
          {:u64, [0xFFFFFFFFFFFFFFFF], :s64, [-1]},
          {:f32, [300.7, -1.5, -0.9], :u8, [44, 255, 0]},
          {:f32, [200.0], :s8, [-56]},
          {:f32, [3.0e9, 1.0e20], :s32, [-1_294_967_296, 0]},
          {:f64, [-1.0e20], :u64, [10_680_464_442_257_309_696]},
          {:f32, [:nan, :infinity, :neg_infinity], :s32, [0, 2_147_483_647, -2_147_483_648]},
          {:f32, [:nan, :infinity, :neg_infinity], :u64, [0, 0xFFFFFFFFFFFFFFFF, 0]},
          {:f32, [:nan, :infinity, :neg_infinity], :s4, [0, 7, -8]},
          {:f32, [:nan, :infinity, :neg_infinity], :u2, [0, 3, 0]},
          {:f64, [1.0009765634313226, 65519.0, 65520.0], :f16,
           [1.0009765625, 65504.0, :infinity]},
          {:f64, [511.0, 0.1, -1.999], :bf16, [512.0, 0.10009765625, -2.0]},
          {:f32, [1.95, 464.0, 500.0, :infinity, :neg_infinity, :nan], :f8_e4m3fn,
           [2.0, 448.0, 448.0, 448.0, -448.0, :nan]},
          {:f32, [3.9, 57344.0, 65536.0, :nan], :f8, [4.0, 57344.0, :infinity, :nan]},
          {:s32, [65520, 65519], :f16, [:infinity, 65504.0]},
          {:s64, [1_152_921_573_326_323_713], :f32, [1.1529216420458004e18]},
          {:c64, [Complex.new(:infinity, 2.0), Complex.new(1.5, :nan)], :f32, [:infinity, 1.5]},
          {:c64, [Complex.new(:nan, 2.0), Complex.new(:infinity, 0.0)], :s8, [0, 127]}
        ] do
      test "#{from} #{inspect(values)} to #{to}" do
        cast = &Nx.as_type(&1, unquote(to))
        values = unquote(Macro.escape(values))
        assert_elements(cast, [{values, unquote(from)}], unquote(expected))
      end
    end
  end

  describe "arithmetic" do
    test "wraps to the result's type, from the operands' own" do
      assert_elements(&Nx.add/2, [{[127], :s8}, {[1], :s8}], [-128])
      assert_elements(&Nx.subtract/2, [{[0], :u8}, {[1], :u8}], [255])
      assert_elements(&Nx.negate/1, [{[1], :u8}], [255])
      assert_elements(&Nx.abs/1, [{[-128], :s8}], [-128])
      quotient = [0x7FFFFFFFFFFFFFFF]
      assert_elements(&Nx.quotient/2, [{[@max64], :u64}, {[2], :s64}], quotient)
      assert_elements(&Nx.remainder/2, [{[@max64], :u64}, {[10], :s64}], [5])
      assert_elements(&Nx.quotient/2, [{[-7, -128], :s8}, {[2, -1], :s8}], [-3, -128])
      least = -0x8000000000000000
      assert_elements(&Nx.quotient/2, [{[least], :s64}, {[-1], :s64}], [least])
      assert_elements(&Nx.remainder/2, [{[-128, -7], :s8}, {[-1, 2], :s8}], [0, -1])
      assert_elements(&Nx.max/2, [{[@max64], :u64}, {[-1], :s64}], [-1])
      assert_elements(&Nx.min/2, [{[@max64], :u64}, {[-1], :s64}], [-1])
      assert_elements(&Nx.bitwise_and/2, [{[255], :u8}, {[-2], :s8}], [254])

      assert_elements(&Nx.multiply/2, [{[9_007_199_254_740_993], :s64}, {[1.0], :f64}], [
        2.0 ** 53
      ])
    end

    test "powers" do
      assert_elements(&Nx.pow/2, [{[2, 0], :u8}, {[9, 0], :u8}], [0, 1])
      assert_elements(&Nx.pow/2, [{[3], :s32}, {[40], :s32}], [689_956_897])

      assert_elements(&Nx.pow/2, [{[1, -1, -1, 2], :s32}, {[-3, -3, -2, -1], :s32}], [1, -1, 1, 0])

      powers = [
        {[-2.0, 0.0, @inf, 1.0, @nan, -8.0, 0.0], :f32},
        {[3, 0, 0, @inf, 0, 0.5, -1], :f32}
      ]

      assert_elements(&Nx.pow/2, powers, [-8.0, 1.0, 1.0, 1.0, 1.0, @nan, @inf])
    end

    test "remainders of floats have the dividend's sign" do
      operands = [{[7.5, -4.0, 5.0, 1.0, @inf], :f32}, {[-2.0, 2.0, @inf, 0.0, 2.0], :f32}]
      assert_elements(&Nx.remainder/2, operands, [1.5, :minus_zero, 5.0, @nan, @nan])
    end

    test "zeros, infinities and NaN" do
      operands = [{[@inf, @inf, -1.0, 0.0], :f32}, {[0.0, @inf, 0.0, 0.0], :f32}]
      assert_elements(&Nx.multiply/2, operands, [@nan, @inf, :minus_zero, 0.0])
      assert_elements(&Nx.divide/2, operands, [@inf, @nan, @neg, @nan])
      assert_elements(&Nx.max/2, [{[0.0, @nan], :f32}, {[-0.0, 1.0], :f32}], [0.0, @nan])
      assert_elements(&Nx.max/2, [{[-0.0], :f32}, {[0.0], :f32}], [:minus_zero])
      assert_elements(&Nx.min/2, [{[0.0, 1.0], :f32}, {[-0.0, @nan], :f32}], [0.0, @nan])
      signs = [@nan, -1.0, 1.0, :minus_zero]
      assert_elements(&Nx.sign/1, [{[@nan, @neg, @inf, -0.0], :f32}], signs)
      assert_elements(&Nx.tanh/1, [{[@inf, @neg], :f32}], [1.0, -1.0])
      assert_elements(&Nx.sqrt/1, [{[-0.0, -1.0, @inf], :f32}], [:minus_zero, @nan, @inf])
      assert_elements(&Nx.log/1, [{[0.0, -0.0, -1.0], :f32}], [@neg, @neg, @nan])
      assert_elements(&Nx.erf_inv/1, [{[1, -1, 0, 2], :f32}], [@inf, @neg, 0.0, @nan])
      assert_elements(&Nx.round/1, [{[2.5, -0.5, -0.4, @nan], :f32}], [3.0, -1.0, 0.0, @nan])
      floors = [:minus_zero, -1.0, @neg]
      assert_elements(&Nx.floor/1, [{[-0.0, -0.5, @neg], :f32}], floors)
      assert_elements(&Nx.ceil/1, [{[-0.5, @inf], :f32}], [:minus_zero, @inf])
    end

    test "shifts" do
      assert_elements(&Nx.left_shift/2, [{[1, 1, 1], :s32}, {[31, 32, 100], :s32}], [
        -0x80000000,
        0,
        0
      ])

      half = [0x7FFFFFFFFFFFFFFF]
      assert_elements(&Nx.right_shift/2, [{[@max64], :u64}, {[1], :s64}], half)
      assert_elements(&Nx.right_shift/2, [{[-5, 5], :s8}, {[9, 9], :u8}], [-1, 0])
    end

    test "bits are counted in the type's width" do
      assert_elements(&Nx.population_count/1, [{[-1], :s8}], [8])
      assert_elements(&Nx.population_count/1, [{[-1], :s4}], [4])
      assert_elements(&Nx.count_leading_zeros/1, [{[1, 0], :s16}], [15, 16])
      assert_elements(&Nx.count_leading_zeros/1, [{[1, 0, 8], :u4}], [3, 4, 0])
    end
  end

  describe "comparison" do
    test "is exact across types" do
      assert_elements(&Nx.greater/2, [{[@max64], :u64}, {[-1], :s64}], [1])
      assert_elements(&Nx.equal/2, [{[@max64], :u64}, {[-1], :s64}], [0])
      assert_elements(&Nx.equal/2, [{[9_007_199_254_740_993], :s64}, {[2.0 ** 53], :f64}], [0])
      assert_elements(&Nx.equal/2, [{[16_777_217], :s32}, {[16_777_216], :f32}], [0])
      assert_elements(&Nx.less/2, [{[0x7FFFFFFFFFFFFFFF], :s64}, {[2.0 ** 63], :f64}], [1])
      assert_elements(&Nx.equal/2, [{[0.1], :f32}, {[0.1], :f64}], [0])
    end

    test "with NaN, zeros and complex numbers" do
      operands = [{[@nan, 0.0], :f32}, {[@nan, -0.0], :f32}]
      assert_elements(&Nx.equal/2, operands, [0, 1])
      assert_elements(&Nx.not_equal/2, operands, [1, 0])
      assert_elements(&Nx.less_equal/2, operands, [0, 1])
      z = {[Complex.new(2.0, 0.0), Complex.new(2.0, 1.0)], :c64}
      assert_elements(&Nx.equal/2, [{[2, 2], :s32}, z], [1, 0])
      truth = [{[@nan, -0.0, 0.5], :f32}, {[1, 1, 1], :u8}]
      assert_elements(&Nx.logical_and/2, truth, [1, 0, 1])
      z = {[Complex.new(0.0, 1.0), Complex.new(0.0, 0.0)], :c64}
      assert_elements(&Nx.logical_not/1, [z], [0, 1])
      assert_elements(&Nx.select/3, [z, {[1, 2], :s32}, {[3, 4], :s32}], [1, 4])
    end

    test "clip" do
      clip = &Nx.clip(&1, &2, &3)
      assert_elements(clip, [{[@nan, -9.0, 9.0], :f32}, {-1, :f32}, {1, :f32}], [-1.0, -1.0, 1.0])
      assert_elements(clip, [{[0.0, 5.0], :f32}, {3, :f32}, {1, :f32}], [1.0, 1.0])
      assert_elements(clip, [{[3, 200], :u8}, {-1, :s32}, {300, :s32}], [3, 200])
    end
  end

  describe "reductions" do
    test "widen and wrap" do
      assert_elements(&Nx.sum/1, [{[255, 255], :u8}], [510])
      assert_elements(&Nx.sum/1, [{[@max64], :u64}], [-1])
      assert_elements(&Nx.sum/1, [{[-0.0], :f32}], [0.0])
      assert_elements(&Nx.product/1, [{[-0.0], :f32}], [:minus_zero])
      assert_elements(&Nx.sum/1, [{[60000, 60000, -60000], :f16}], [60000.0])
      assert_elements(&Nx.sum/1, [{[2.0 ** 24, 1, 1], :f32}], [16_777_218.0])
      assert_elements(&Nx.dot/2, [{[200, 200], :u8}, {[2, 2], :u8}], [32])
      assert_elements(&Nx.dot/2, [{[100, 100], :s8}, {[2, 2], :s8}], [-112])
      assert_elements(&Nx.cumulative_sum/1, [{[255, 1, 1], :u8}], [255, 0, 1])
      assert_elements(&Nx.window_sum(&1, {2}), [{[255, 255], :u8}], [254])
    end

    # Numbers of bf16 that f16 does not have.
    test "of narrow floats hold what each operand may be" do
      large = {[3.0e38, -3.0e38, 1.0], :bf16}
      small = {[1.0, 1.0, 2.0], :f16}
      assert_elements(&Nx.dot/2, [large, small], [2.0])
      conv = &Nx.conv(Nx.reshape(&1, {1, 1, 3}), Nx.reshape(&2, {1, 1, 3}))
      assert_elements(conv, [large, small], [2.0])
      add = &Nx.indexed_add(&2, Nx.tensor([[0], [0], [0]]), &1)
      assert_elements(add, [large, {[0.0, 1.0], :f16}], [1.0, 1.0])
    end

    test "extremes and their places" do
      values = {[@nan, 1.0, @nan, 3.0], :f32}
      assert_elements(&Nx.argmax/1, [values], [2])
      assert_elements(&Nx.argmin(&1, tie_break: :high), [values], [2])
      assert_elements(&Nx.reduce_max/1, [values], [@nan])
      assert_elements(&Nx.argmax/1, [{[0.0, -0.0, 0.0], :f32}], [0])
      assert_elements(&Nx.argmax(&1, tie_break: :high), [{[@inf, 1, @inf], :f32}], [2])
      assert_elements(&Nx.cumulative_max/1, [{[1.0, @nan, 2.0], :f32}], [1.0, @nan, @nan])
      assert Nx.argmax(t([[1, 2]], :s32), keep_axis: true).shape == {}
    end

    test "all and any with no axes" do
      assert_elements(&Nx.all(&1, axes: []), [{[5], :s32}], [5])
      assert_elements(&Nx.any(&1, axes: []), [{[256], :s32}], [0])
      assert_elements(&Nx.all/1, [{[@nan, 1.0], :f32}], [1])
      assert_elements(&Nx.any/1, [{[-0.0], :f32}], [0])
    end
  end

  describe "windows" do
    test "of padding only" do
      window = [padding: [{2, 0}], strides: [3]]
      assert_elements(&Nx.window_max(&1, {2}, window), [{[1, 2, 3], :s32}], [-0x80000000, 3])
      low = [{1.0, 2.0, 3.0} |> Tuple.to_list(), :f32] |> List.to_tuple()
      assert_elements(&Nx.window_min(&1, {2}, window), [low], [@inf, 2.0])

      assert_elements(&Nx.window_max(&1, {1}, padding: [{1, 0}]), [{[1.0], :f8_e4m3fn}], [
        -448.0,
        1.0
      ])
    end

    test "with a function, whose start value pads" do
      fold = fn x ->
        Nx.window_reduce(x, 7, {2}, [padding: [{1, 1}]], &Nx.add(Nx.multiply(&2, 10), &1))
      end

      assert [771 | _] = elements(fold.(t([1, 2, 3], :s32)))
    end

    test "that scatter" do
      scatter = fn f, options ->
        &apply(Nx, f, [&1, &2, &3, {2}, options])
      end

      for f <- [:window_scatter_max, :window_scatter_min] do
        operands = [{[1, 1, 1, 1], :s32}, {[5, 7], :s32}, {0, :s32}]
        scattered = scatter.(f, strides: [2], padding: :valid)
        assert_elements(scattered, operands, [0, 5, 0, 7])
      end

      padded = scatter.(:window_scatter_max, strides: [1], padding: [{1, 0}])
      operands = [{[-1, -2, -3], :s32}, {[5, 7, 9], :s32}, {0, :s32}]
      assert_elements(padded, operands, [7, 9, 0])
      valid = scatter.(:window_scatter_max, strides: [1], padding: :valid)
      operands = [{[1, 3, 2], :s32}, {[5, 7], :s32}, {10, :s32}]
      assert_elements(valid, operands, [10, 22, 10])
      # The reference compares these in 32 bits.
      operands = [{[0, 0x7FFFFFFFFFFFFFFF, 1], :s64}, {[5, 7], :s64}, {0, :s64}]
      assert_elements(valid, operands, [0, 12, 0])
      operands = [{[0, @max64, 1], :u64}, {[5, 7], :s64}, {0, :s64}]
      assert_elements(valid, operands, [0, 12, 0])
    end
  end

  describe "movement" do
    test "pads with gaps and crops" do
      pad = fn x, value, config -> Nx.pad(x, value, config) end
      assert_elements(&pad.(&1, 0, [{-2, 0, 1}]), [{[1, 2, 3], :s32}], [2, 0, 3])
      assert_elements(&pad.(&1, 1.5, [{1, 0, 0}]), [{[1, 2], :s32}], [1.5, 1.0, 2.0])
      assert_elements(&pad.(&1, 9, [{-5, 4, 0}]), [{[1, 2, 3], :s32}], [9, 9])
      assert pad.(t([1, 2, 3], :s32), 0, [{-3, 0, 0}]).shape == {0}

      for config <- [[{-3, -2, 2}], [{-1, -1, 0}]] do
        message = ~r/pad: padding \{-\d, -\d, \d\} removes more of axis 0 than its length 1/
        assert_raise ArgumentError, message, fn -> pad.(t([1], :s32), 0, config) end
        jit = fn -> Nx.Defn.jit_apply(&pad.(&1, 0, config), [t([1], :s32)]) end
        assert_raise ArgumentError, message, jit
      end
    end

    test "clamps starts" do
      slice = &Nx.slice(&1, [&2], [2])
      assert_elements(slice, [{[1, 2, 3], :s32}, {-3, :s64}], [1, 2])
      assert_elements(slice, [{[1, 2, 3], :s32}, {@max64, :u64}], [2, 3])
      put = &Nx.put_slice(&1, [&3], &2)
      assert_elements(put, [{[1, 2, 3], :s32}, {[8, 9], :s32}, {30, :s32}], [1, 8, 9])
      assert_elements(put, [{[1, 2, 3], :s32}, {[8, 9], :s32}, {-30, :s32}], [8, 9, 3])
      assert_elements(&Nx.slice(&1, [-3], [2]), [{[1, 2, 3], :s32}], [1, 2])
    end

    test "casts what it joins" do
      join = &Nx.concatenate([&1, &2])
      assert_elements(join, [{[@max64], :u64}, {[2], :s64}], [-1, 2])
      assert_elements(&Nx.stack([&1, &2]), [{[1], :u8}, {[0.5], :f32}], [1.0, 0.5])
    end

    test "iota and eye" do
      assert List.last(elements(Nx.iota({258}, type: :u8))) == 1
      assert elements(Nx.eye({2, 3}, type: :u2)) == [1, 0, 0, 0, 1, 0]
    end
  end

  describe "order" do
    test "is stable both ways, NaN at the end or first" do
      assert_elements(&Nx.argsort(&1, direction: :desc), [{[2, 1, 2, 1], :s32}], [0, 2, 1, 3])
      values = {[@nan, 1.0, @neg, @inf, 0.0, -0.0], :f32}
      ascending = [@neg, 0.0, :minus_zero, 1.0, @inf, @nan]
      assert_elements(&Nx.sort/1, [values], ascending)
      descending = [@nan, @inf, 1.0, 0.0, :minus_zero, @neg]
      assert_elements(&Nx.sort(&1, direction: :desc), [values], descending)
      assert_elements(&elem(Nx.top_k(&1, k: 2), 1), [values], [0, 3])
    end
  end

  describe "indices" do
    test "that repeat" do
      operands = [{[1, 2], :s32}, {[[1], [1]], :s32}, {[5, 7], :s32}]
      assert_elements(&Nx.indexed_add/3, operands, [1, 14])
      assert_elements(&Nx.indexed_put/3, operands, [1, 7])
    end

    test "of updates smaller than the target" do
      put = &Nx.indexed_put(&1, &2, &3, axes: [0])
      target = {[[0, 0, 0], [0, 0, 0]], :s32}
      assert_elements(put, [target, {[[1]], :s32}, {[[10, 20]], :s32}], [0, 0, 0, 10, 20, 0])
    end
  end

  describe "linear algebra" do
    test "what is read of a matrix" do
      solve = &Nx.LinAlg.triangular_solve(&1, &2, lower: true)
      assert_elements(solve, [{[[2, 7], [1, 4]], :f32}, {[2, 5], :f32}], [1.0, 1.0])
      assert_elements(&Nx.LinAlg.determinant/1, [{[[1, 2], [3, 4]], :u8}], [-2.0])
      cholesky = &Nx.LinAlg.cholesky/1
      assert_elements(cholesky, [{[[4.0, 99.0], [2.0, 2.0]], :f64}], [2.0, 0.0, 1.0, 1.0])
      assert {p, _, _} = Nx.LinAlg.lu(t([[0, 1], [1, 0]], :u8))
      assert p.type == {:u, 8}

      assert_elements(&elem(Nx.LinAlg.eigh(&1), 0), [{[[1.0, 0.0], [0.0, -5.0]], :f64}], [
        -5.0,
        1.0
      ])
    end

    test "all_close of unsigned integers" do
      assert_elements(&Nx.all_close(&1, &2, atol: 1.5), [{[1], :u8}, {[2], :u8}], [1])
    end
  end

  # What depends on values is an error at the call, at the read of what is pending, and in a
  # compiled function.
  describe "errors that depend on values" do
    for {name, error, message, fun, operands} <- [
          {"take", ArgumentError, "index 5 is out of bounds for axis 0 in shape {2}", &Nx.take/2,
           [[1, 2], [0, 5]]},
          {"take along an axis", ArgumentError,
           "index -1 is out of bounds for axis 0 in shape {2}", &Nx.take_along_axis/2,
           [[1, 2], [-1, 0]]},
          {"gather", ArgumentError, "index 2 is out of bounds for axis 0 in shape {2}",
           &Nx.gather/2, [[1, 2], [[0], [2]]]},
          {"indexed_add", ArgumentError, "index 9 is out of bounds for axis 0 in shape {2}",
           &Nx.indexed_add/3, [[1, 2], [[9]], [1]]},
          {"indexed_put", ArgumentError, "index -7 is out of bounds for axis 0 in shape {2}",
           &Nx.indexed_put/3, [[1, 2], [[-7]], [1]]},
          {"left shift", ArgumentError, "cannot left shift by", &Nx.left_shift/2,
           [[1, 2], [0, -3]]},
          {"right shift", ArgumentError, "cannot right shift by", &Nx.right_shift/2,
           [[1, 2], [0, -3]]},
          {"quotient", ArithmeticError, "zero", &Nx.quotient/2, [[1, 2], [1, 0]]},
          {"remainder", ArithmeticError, "zero", &Nx.remainder/2, [[1, 2], [1, 0]]},
          {"a singular triangle", ArgumentError, "can't solve for singular matrix",
           &Nx.LinAlg.triangular_solve/2, [[[1, 0], [1, 0]], [1, 2]]}
        ] do
      test name do
        fun = unquote(fun)
        error = unquote(error)
        message = ~r/#{Regex.escape(unquote(message))}/
        known = Enum.map(unquote(Macro.escape(operands)), &t(&1, :s32))
        assert_raise error, message, fn -> apply(fun, known) end

        pending = fn -> Enum.map(known, &Nx.subtract(Nx.add(&1, &1), &1)) end
        assert_raise error, message, fn -> fun |> apply(pending.()) |> Nx.to_binary() end

        compiled = fn -> fun |> Nx.Defn.jit_apply(known) |> Nx.to_binary() end
        assert_raise error, message, compiled
      end
    end
  end
end
