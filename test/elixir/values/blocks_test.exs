# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.BlocksTest do
  # Nx's blocks that have an op of their own, against their definitions on Nx.BinaryBackend.
  use EMLX.Case, async: true

  @integers [:u8, :u64, :s8, :s32, :s64]
  @floats [:bf16, :f16, :f32, :f64]

  test "they are native" do
    assert {:all_close, attributes} = EMLX.Call.block(%Nx.Block.AllClose{equal_nan: true})
    assert Enum.sort(attributes) == [atol: 1.0e-8, equal_nan: true, rtol: 1.0e-5]
    assert EMLX.Call.block(%Nx.Block.TakeAlongAxis{axis: 1}) == {:take_along_axis, [axis: 1]}
    assert EMLX.Call.block(%Nx.Block.AllClose{rtol: Nx.tensor(0.1)}) == nil
  end

  ## all_close

  for type <- @integers ++ @floats do
    test "all_close of #{type}" do
      a = random({3, 4}, unquote(type), 1, range: {0, 9})

      for {b, options} <- [
            {a, []},
            {Nx.add(a, 1), []},
            {Nx.add(a, 1), [atol: 1.5]},
            {Nx.add(a, 1), [rtol: 2]},
            {Nx.multiply(a, 1.01), [rtol: 0.1]},
            {Nx.multiply(a, 1.01), [rtol: 0.001]},
            {Nx.new_axis(Nx.add(a, 2), 0), [atol: 2]}
          ] do
        # In this order, since the distance of unsigned integers wraps in the reference.
        assert_as_reference(&Nx.all_close(&1, &2, options), [b, a])
      end
    end
  end

  test "all_close with NaN and infinities" do
    values = [1.0, -0.0, :nan, :infinity, :neg_infinity]

    for type <- @floats, x <- values, y <- values, equal_nan <- [false, true] do
      a = Nx.tensor([x], type: type, backend: Nx.BinaryBackend)
      b = Nx.tensor([y], type: type, backend: Nx.BinaryBackend)
      assert_as_reference(&Nx.all_close(&1, &2, equal_nan: equal_nan), [a, b])
    end
  end

  test "the distance of integers does not wrap" do
    for type <- [:u8, :u64], {x, y} <- [{1, 2}, {2, 1}] do
      close = &Nx.all_close(Nx.tensor([x], type: type), Nx.tensor([y], type: type), atol: &1)
      assert Nx.to_number(close.(1.5)) == 1
      assert Nx.to_number(close.(0.5)) == 0
    end

    [low, high] = [-0x8000000000000000, 0x7FFFFFFFFFFFFFFF]
    far = &Nx.all_close(Nx.s64([&1]), Nx.s64([&2]), atol: 10)
    assert Nx.to_number(far.(low, high)) == 0
    assert Nx.to_number(far.(high, high - 9)) == 1
    assert Nx.to_number(Nx.all_close(Nx.u64([3]), Nx.s8([-1]), atol: 10)) == 1
  end

  test "all_close with a tensor as tolerance, vectorized, and of mixed types" do
    t = random({2, 3}, :f32, 2)
    assert_as_reference(&Nx.all_close(&1, Nx.add(&1, 1), atol: Nx.tensor(2.0)), [t])
    assert_as_reference(&Nx.all_close(Nx.vectorize(&1, :x), &1[0]), [t])
    assert_as_reference(&Nx.all_close(&1, Nx.as_type(&1, :s32), atol: 1), [t])
    assert_as_reference(&Nx.all_close(Nx.as_type(&1, :bf16), &1, rtol: 0.01), [t])
  end

  ## take_along_axis

  for type <- [:u4 | @integers] ++ @floats do
    test "take_along_axis of #{type}" do
      t = random({3, 4, 5}, :u8, 3, range: {0, 9}) |> Nx.as_type(unquote(type))

      for {axis, length} <- [{0, 2}, {0, 7}, {1, 1}, {1, 9}, {2, 5}, {2, 8}],
          index_type <- [:u8, :s64] do
        shape = put_elem({3, 4, 5}, axis, length)
        size = elem({3, 4, 5}, axis)
        indices = random(shape, index_type, 4, range: {0, size - 1})
        assert_as_reference(&Nx.take_along_axis(&1, &2, axis: axis), [t, indices])
      end
    end
  end

  test "take_along_axis of what argsort gives, and vectorized" do
    t = random({4, 600}, :f32, 5)
    sorted = fn t -> Nx.take_along_axis(t, Nx.argsort(t, axis: 1), axis: 1) end
    assert_as_reference(sorted, [t])
    assert_as_reference(&sorted.(Nx.vectorize(&1[[.., 0..9]], :x) |> Nx.new_axis(0)), [t])
  end

  test "indices out of bounds, known and not" do
    t = Nx.iota({2, 3})
    message = ~r/index 3 is out of bounds for axis 1 in shape \{2, 3\}/

    for indices <- [Nx.tensor([[0], [3]]), Nx.add(Nx.tensor([[0], [2]]), 1)] do
      take = fn -> t |> Nx.take_along_axis(indices, axis: 1) |> Nx.to_binary() end
      assert_raise ArgumentError, message, take
    end

    assert_raise ArgumentError, ~r/index -1 is out of bounds for axis 0 in shape \{2, 3\}/, fn ->
      Nx.take_along_axis(t, Nx.tensor([[0, 0, -1]]), axis: 0)
    end
  end

  ## top_k

  for type <- @integers ++ @floats do
    test "top_k of #{type}" do
      t = random({3, 9}, unquote(type), 6, range: {0, 4})

      for k <- [1, 4, 9] do
        assert_as_reference(&Nx.top_k(&1, k: k), [t])
        assert_as_reference(&Nx.top_k(&1[0], k: k), [t])
      end
    end
  end

  test "top_k with NaN and infinities" do
    t = Nx.tensor([1.0, :nan, :infinity, 2.0, :neg_infinity, :nan], backend: Nx.BinaryBackend)
    for k <- 1..6, do: assert_as_reference(&Nx.top_k(&1, k: k), [t])
  end
end
