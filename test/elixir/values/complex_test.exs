# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.ComplexTest do
  # Complex numbers against Nx.BinaryBackend: random ones, special ones, and on branch cuts.
  use EMLX.Case, async: true

  @types [:c64, :c128]
  @math [:exp, :expm1, :log, :log1p, :sigmoid, :cos, :sin, :tan, :cosh, :sinh, :tanh, :acos] ++
          [:asin, :atan, :acosh, :asinh, :atanh, :sqrt, :rsqrt, :cbrt]
  @plain [:abs, :negate, :conjugate, :real, :imag, :phase, :is_nan, :is_infinity, :logical_not]
  @binary [:add, :subtract, :multiply, :divide, :pow, :equal, :not_equal] ++
            [:logical_and, :logical_or, :logical_xor]

  # Every pair of these as real and imaginary part.
  @parts [:neg_infinity, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 2.0, :infinity, :nan]

  for op <- @math ++ @plain, type <- @types do
    test "#{op} of #{type}" do
      t = random({40}, unquote(type), 1)
      assert_as_reference(&apply(Nx, unquote(op), [&1]), [t])
    end
  end

  for op <- @binary, type <- @types do
    test "#{op} of #{type}" do
      a = random({3, 1, 4}, unquote(type), 2)
      b = random({5, 1}, unquote(type), 3)
      assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [a, b])
    end

    test "#{op} of #{type} with other types" do
      z = random({6}, unquote(type), 4)

      for other <- [:u8, :s64, :bf16, :f32, :f64] do
        x = random({6}, other, 5, range: {1, 4})
        assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [z, x])
        assert_as_reference(&apply(Nx, unquote(op), [&1, &2]), [x, z])
      end
    end
  end

  ## Special values

  # Where the reference cannot be followed: it raises, or it is one of the known differences, each
  # of which docs/differences.md names.
  defp differs?(:cbrt, {re, im}), do: :nan in [re, im] or re == :neg_infinity
  defp differs?(op, {re, im}) when op in [:abs, :log, :log1p], do: nan_or_below?(re, im)
  defp differs?(:phase, {re, _im}), do: re == :neg_infinity
  # The poles.
  defp differs?(:atan, {re, im}), do: re == 0 and abs_is_one?(im)
  defp differs?(:atanh, {re, im}), do: im == 0 and abs_is_one?(re)
  defp differs?(_op, _number), do: false

  defp nan_or_below?(re, im), do: :nan in [re, im] or re == :neg_infinity
  defp abs_is_one?(x), do: x in [1.0, -1.0]

  defp number({re, im}, backend) do
    [re, im]
    |> Enum.map(&Nx.tensor(&1, type: :f64, backend: Nx.BinaryBackend))
    |> Enum.map_join(&Nx.to_binary/1)
    |> Nx.from_binary(:c128, backend: backend)
    |> Nx.reshape({})
  end

  defp assert_special(fun, numbers) do
    expected = with_reference(fn -> fun.(Enum.map(numbers, &number(&1, Nx.BinaryBackend))) end)
    assert_close(fun.(Enum.map(numbers, &number(&1, EMLX.Backend))), expected)
  end

  for op <- (@math ++ @plain) -- [:sign] do
    test "#{op} of special numbers" do
      for re <- @parts, im <- @parts, not differs?(unquote(op), {re, im}) do
        assert_special(fn [z] -> apply(Nx, unquote(op), [z]) end, [{re, im}])
      end
    end
  end

  for op <- [:add, :subtract, :multiply, :divide, :pow, :logical_and, :logical_or] do
    test "#{op} of special numbers" do
      parts = [:neg_infinity, -2.0, 0.0, 1.0, :infinity, :nan]
      numbers = for re <- parts, im <- parts, do: {re, im}

      for x <- numbers, y <- numbers do
        assert_special(fn [x, y] -> apply(Nx, unquote(op), [x, y]) end, [x, y])
      end
    end
  end

  defp assert_same_bits(op, numbers) do
    bits = fn backend -> apply(Nx, op, Enum.map(numbers, &number(&1, backend))) end
    expected = with_reference(fn -> Nx.to_binary(bits.(Nx.BinaryBackend)) end)
    assert Nx.to_binary(bits.(EMLX.Backend)) == expected
  end

  test "signs of zeros" do
    for x <- [{1.0, 0.0}, {1.0, -0.0}, {-2.0, 0.0}, {-4.0, -0.0}] do
      assert_same_bits(:conjugate, [x])
      assert_same_bits(:sqrt, [x])

      for op <- [:multiply, :divide],
          y <- [{-2.0, 0.0}, {0.0, 1.0}],
          do: assert_same_bits(op, [x, y])
    end

    assert inspect(Nx.conjugate(1)) =~ "1.0-0.0i"
    assert inspect(Nx.negate(Nx.tensor(Complex.new(1.0, 0.0)))) =~ "-1.0-0.0i"
  end

  # The reference's 1 for every complex number and infinity for half a NaN are mistakes.
  test "sign and abs" do
    z = Nx.tensor([Complex.new(3, 4), Complex.new(0, 0), Complex.new(0, -2)])
    expected = [Complex.new(0.6, 0.8), Complex.new(0.0, 0.0), Complex.new(0.0, -1.0)]
    assert_all_near(Nx.sign(z), expected)
    assert Nx.to_number(Nx.abs(number({:nan, 1.0}, EMLX.Backend))) == :nan
    assert Nx.to_number(Nx.abs(number({:nan, :infinity}, EMLX.Backend))) == :infinity
  end

  defp assert_all_near(tensor, expected) do
    assert_close(tensor, with_reference(fn -> Nx.tensor(expected, type: tensor.type) end))
  end

  # Digits that the reference loses.
  test "accurate forms" do
    near = fn t, expected -> assert_in_delta Nx.to_number(Nx.real(t)) / expected, 1.0, 1.0e-15 end
    near.(Nx.log1p(number({1.0e-12, 0.0}, EMLX.Backend)), 9.999999999995e-13)
    near.(Nx.expm1(number({1.0e-12, 0.0}, EMLX.Backend)), 1.0000000000005e-12)

    huge = number({3.0e300, 4.0e300}, EMLX.Backend)
    assert Nx.to_number(Nx.divide(huge, huge)) == Complex.new(1.0, 0.0)
    near.(Nx.abs(huge), 5.0e300)
  end

  ## Creation and casts

  test "constants and iota" do
    for type <- @types do
      for value <- [Complex.new(1, -2), 3, -0.5, Complex.new(:infinity, 1.5)] do
        assert_as_reference(fn -> Nx.broadcast(Nx.tensor(value, type: type), {2, 3}) end, [])
      end

      for value <- [:nan, :infinity, :neg_infinity] do
        assert_as_reference(fn -> Nx.tensor(value, type: type) end, [])
      end

      assert_as_reference(fn -> Nx.iota({4, 5}, axis: 1, type: type) end, [])
      assert_as_reference(fn -> Nx.eye({3, 4}, type: type) end, [])
    end
  end

  test "casts" do
    z = random({30}, :c128, 6, range: {0.0, 100.0})

    for from <- [:c64, :c128], to <- [:u8, :s16, :s64, :f16, :f32, :f64, :c64, :c128] do
      z = with_reference(fn -> Nx.as_type(z, from) end)
      assert_as_reference(&Nx.as_type(&1, to), [z])
    end

    for from <- [:u8, :s64, :bf16, :f32, :f64], to <- @types do
      assert_as_reference(&Nx.as_type(&1, to), [random({30}, from, 7)])
    end
  end

  import Nx.Defn

  defn turn(z, steps) do
    {z, _} =
      while {z, steps}, steps > 0 do
        {z * Complex.new(0, 1), steps - 1}
      end

    z + Complex.new(0.5, -0.25) / Nx.sum(z)
  end

  @tag :tmp_dir
  test "programs with loops and literals are saved and run again", %{tmp_dir: directory} do
    for type <- @types do
      args = [random({3, 2}, type, 20), Nx.tensor(3, backend: Nx.BinaryBackend)]
      assert_as_reference(&turn/2, args)
      path = Path.join(directory, "#{type}.safetensors")
      assert EMLX.export(&turn/2, [z: hd(args), steps: List.last(args)], path) == :ok
      program = EMLX.load(path)
      result = EMLX.run(program, %{"z" => hd(args), "steps" => List.last(args)})
      expected = with_reference(fn -> apply(&turn/2, args) end)
      assert_close(result |> Map.values() |> hd(), expected)
    end
  end

  ## Everything else

  for type <- @types do
    test "folds of #{type}" do
      t = random({4, 5, 3}, unquote(type), 8, range: {-1.5, 1.5})
      assert_as_reference(&Nx.sum/1, [t])
      assert_as_reference(&Nx.mean/1, [t])
      assert_as_reference(&Nx.sum(&1, axes: [0, 2]), [t])
      assert_as_reference(&Nx.product(&1, axes: [1], keep_axes: true), [t])
      assert_as_reference(&Nx.all(&1, axes: [1]), [t])
      assert_as_reference(&Nx.any/1, [t])
      # The reference rounds on the way.
      assert_as_reference(&Nx.cumulative_sum(&1, axis: 1), [t], tolerance: 1.0e-5)
      assert_as_reference(&Nx.cumulative_product(&1, axis: 2, reverse: true), [t])
      assert_as_reference(&Nx.window_sum(&1, {2, 2, 1}, padding: :same), [t])
      assert_as_reference(&Nx.window_product(&1, {1, 2, 3}, strides: [2, 1, 1]), [t])
      assert_as_reference(&Nx.window_mean(&1, {2, 2, 1}), [t])
    end

    test "products of #{type}" do
      a = random({4, 5}, unquote(type), 9)
      b = random({5, 3}, unquote(type), 10)
      assert_as_reference(&Nx.dot/2, [a, b])
      assert_as_reference(&Nx.dot(&1, [0], &2, [1]), [b, a])
      assert_as_reference(&Nx.outer/2, [a, b])
      assert_as_reference(&Nx.dot/2, [random({4, 5}, :f32, 11), b])
      input = random({2, 3, 6, 5}, unquote(type), 12)
      kernel = random({4, 3, 3, 2}, unquote(type), 13)
      assert_as_reference(&Nx.conv(&1, &2, padding: :same, strides: [2, 1]), [input, kernel])
    end

    test "movement of #{type}" do
      t = random({3, 4}, unquote(type), 14)
      i = Nx.tensor([[2, 0], [1, 3], [2, 0]], backend: Nx.BinaryBackend)
      updates = random({3}, unquote(type), 15)
      assert_as_reference(&Nx.transpose/1, [t])
      assert_as_reference(&Nx.reverse(&1, axes: [1]), [t])
      assert_as_reference(&Nx.slice(&1, [1, 0], [2, 3]), [t])
      assert_as_reference(&Nx.put_slice(&1, [1, 1], Nx.slice(&1, [0, 0], [2, 2])), [t])
      assert_as_reference(&Nx.concatenate([&1, Nx.real(&1)]), [t])
      assert_as_reference(&Nx.pad(&1, 1.5, [{1, -1, 0}, {0, 2, 1}]), [t])
      assert_as_reference(&Nx.gather/2, [t, i])
      assert_as_reference(&Nx.take(&1, Nx.tensor([2, 0]), axis: 1), [t])
      assert_as_reference(&Nx.indexed_add/3, [t, i, updates])

      assert_as_reference(&Nx.indexed_put(&1, Nx.slice(&2, [0, 0], [2, 2]), &3[0..1]), [
        t,
        i,
        updates
      ])

      assert_as_reference(&Nx.select(Nx.greater(Nx.real(&1), 0), &1, 0), [t])
      assert_as_reference(&Nx.LinAlg.adjoint/1, [t])
    end
  end

  test "atan2 takes real numbers only" do
    seven = Nx.tensor(Complex.new(7, 0))
    assert_all_near(Nx.atan2(seven, 2), Complex.new(:math.atan2(7, 2), 0.0))
    message = ~r/only accepts real numbers/

    assert_raise ArithmeticError, "Complex.atan2 only accepts real numbers as arguments", fn ->
      Nx.atan2(Nx.tensor(Complex.new(7, 1)), 2)
    end

    pending = Nx.add(seven, Complex.new(0, 1))
    assert_raise ArithmeticError, message, fn -> Nx.to_number(Nx.atan2(pending, 2)) end
  end
end
