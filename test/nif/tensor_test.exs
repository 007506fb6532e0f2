# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.TensorTest do
  use NIFCase, async: true

  describe "binaries" do
    test "of every size come back as they were" do
      for size <- [1, 2, 63, 64, 65, 255, 256, 257, 1000, 4096, 1_000_003] do
        binary = :crypto.strong_rand_bytes(size)
        tensor = Native.from_binary(cpu(), :u8, [size], binary)
        assert Native.to_binary(tensor, size) == binary
        assert Native.to_binary(tensor, 2 * size) == binary
        assert Native.to_binary(tensor, div(size, 2)) == binary_part(binary, 0, div(size, 2))
      end
    end

    test "need not be aligned" do
      <<_, rest::binary>> =
        <<0, for(x <- 1..1000, into: <<>>, do: <<x::float-64-native>>)::binary>>

      tensor = Native.from_binary(cpu(), :f64, {1000}, rest)
      doubled = Native.to_binary(apply_op(:add, [tensor, tensor]), 8000)
      assert for(<<x::float-64-native <- doubled>>, do: x) == for(x <- 1..1000, do: 2.0 * x)
    end

    test "that alias a tensor outlive it" do
      values = Enum.map(1..1000, &(&1 * 1.0))
      tensor = f32(values)
      sum = apply_op(:add, [tensor, tensor])
      binary = Native.to_binary(sum, 4000)
      assert Native.deallocate(sum) == :ok
      # Whoever gets the memory next must not write into the binary.
      for _ <- 1..20, do: Native.eval([apply_op(:negate, [tensor])])
      assert for(<<x::float-32-native <- binary>>, do: x) == Enum.map(values, &(&1 * 2))
    end

    test "that are large and must be copied are copied on another thread" do
      size = 1_000_000
      values = for i <- 1..size, into: <<>>, do: <<i::32-native>>
      <<_, unaligned::binary>> = <<0>> <> values
      reference = make_ref()
      assert NIF.from_binary(cpu(), :s32, {size}, unaligned, reference) == :wait
      assert_receive {^reference, {:ok, tensor}}
      assert Native.to_binary(tensor, 4 * size) == values
      assert {:ok, _} = NIF.from_binary(cpu(), :u8, {4 * size}, unaligned, make_ref())
      assert {:ok, _} = NIF.from_binary(cpu(), :s32, {size}, values, make_ref())

      assert Native.to_binary(Native.from_binary(cpu(), :s32, {size}, unaligned), 4) ==
               <<1::32-native>>

      assert_raise ArgumentError, ~r/4000000 bytes of data/, fn ->
        Native.from_binary(cpu(), :s32, {size + 1}, unaligned)
      end
    end

    test "of another size than the shape's are refused" do
      for size <- [0, 4, 8, 13, 4000] do
        assert_raise ArgumentError, fn ->
          Native.from_binary(cpu(), :f32, [3], :binary.copy(<<0>>, size))
        end
      end
    end

    test "a tensor that is not computed yet is pending" do
      tensor = apply_op(:add, [f32([1.0]), f32([2.0])])
      assert NIF.to_binary(tensor, 4, make_ref()) == :pending
      assert Native.eval([tensor]) == :ok
      assert NIF.to_binary(tensor, 4, make_ref()) == {:ok, <<3.0::float-32-native>>}
      assert NIF.eval([tensor], nil, false, make_ref()) == :ok
    end
  end

  describe "attributes" do
    test "of every kind" do
      assert f32_list(apply_op(:constant, [], [shape: {2}, value: 1.5], :f32)) == [1.5, 1.5]
      assert s32_list(apply_op(:constant, [], [shape: [2], value: -3], :s32)) == [-3, -3]
      assert s32_list(apply_op(:iota, [], [shape: {2, 2}, axis: nil], :s32)) == [0, 1, 2, 3]
      assert s32_list(apply_op(:iota, [], [shape: {2, 2}, axis: 1], :s32)) == [0, 1, 0, 1]
      t = s32([3, 1, 2])
      assert s32_list(apply_op(:sort, [t], axis: 0, direction: :desc)) == [3, 2, 1]
      assert s32_list(apply_op(:sort, [t], axis: 0, direction: nil)) == [1, 2, 3]
      assert {:s32, [1], _, _} = Native.tensor_info(apply_op(:sum, [t], keep_axes: true))

      assert s32_list(apply_op(:pad, [t, s32([9], [])], padding: [{1, 0, 1}])) ==
               [9, 3, 9, 1, 9, 2]
    end

    test "special numbers" do
      for {value, bits} <- [
            nan: <<0, 0, 0xC0, 0x7F>>,
            infinity: <<0, 0, 0x80, 0x7F>>,
            neg_infinity: <<0, 0, 0x80, 0xFF>>
          ] do
        tensor = apply_op(:constant, [], [shape: {}, value: value], :f32)
        assert Native.to_binary(tensor, 4) == bits
      end

      big = apply_op(:constant, [], [shape: {}, value: 0xFFFFFFFFFFFFFFFF], :u64)
      assert Native.to_binary(big, 8) == :binary.copy(<<255>>, 8)
    end

    test "that are wrong are named" do
      t = s32([1, 2])

      for {attributes, text} <- [
            {[axis: 1.5], "sort: attribute axis must be a 64-bit integer"},
            {[axis: 0, direction: "asc"], "sort: attribute direction must be an atom"},
            {[axis: 0, colour: 1], "sort: there is no attribute colour"},
            {[], "axis is missing"},
            {:none, "sort: attributes must be a keyword list"},
            {[{:axis, 0} | 1], "sort: attributes must be a keyword list"},
            {[:axis], "sort: attributes must be a keyword list"},
            {List.duplicate({:axis, 0}, 17), "sort: an attribute is given twice"}
          ] do
        assert {:error, :invalid, message} = NIF.apply(:sort, nil, [t], attributes, nil)
        assert message =~ text
      end
    end
  end

  describe "errors" do
    test "become the exceptions of Elixir" do
      assert_raise ArgumentError, ~r/^add: .*/, fn -> apply_op(:add, [s32([1])]) end

      assert_raise ArgumentError, fn ->
        apply_op(:gather, [s32([1, 2]), s32([5], [1, 1])], axes: [0]) |> s32_list()
      end

      assert_raise ArithmeticError, fn ->
        apply_op(:quotient, [s32([1, 2]), s32([0, 1])]) |> s32_list()
      end

      assert_raise EMLX.Error, ~r/has no op frobnicate/, fn -> apply_op(:frobnicate, []) end
    end

    test "of a pending operand come with the read, each time" do
      divisor = apply_op(:subtract, [s32([1]), s32([1])])
      quotient = apply_op(:quotient, [s32([1]), divisor])
      sum = apply_op(:add, [quotient, s32([1])])

      for _ <- 1..2 do
        assert_raise ArithmeticError, fn -> Native.to_binary(sum, 4) end
      end

      assert s32_list(divisor) == [0]
    end

    test "use after deallocation" do
      tensor = f32([1.0])
      assert Native.deallocate(tensor) == :ok
      assert Native.deallocate(tensor) == :already_deallocated

      for use <- [
            fn -> Native.to_binary(tensor, 4) end,
            fn -> Native.tensor_info(tensor) end,
            fn -> Native.eval([tensor]) end,
            fn -> apply_op(:negate, [tensor]) end
          ] do
        assert_raise ArgumentError, ~r/deallocated/, use
      end
    end

    test "deallocating an operand leaves what was made of it" do
      tensor = f32([1.0])
      negated = apply_op(:negate, [tensor])
      assert Native.deallocate(tensor) == :ok
      assert f32_list(negated) == [-1.0]
    end
  end

  test "a long chain is computed on the way" do
    tensor = Enum.reduce(1..20_000, s32([0]), fn _, t -> apply_op(:add, [t, s32([1])]) end)
    {_, _, _, depth} = Native.tensor_info(tensor)
    assert depth < 1000
    assert s32_list(tensor) == [20_000]
  end
end
