# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.BackendTest do
  # Not async: printing is configured for the whole application.
  use EMLX.Case, async: false

  doctest EMLX.Backend
  doctest EMLX

  describe "inspect" do
    test "shows the backend, the device and the reference" do
      Application.put_env(:emlx, :add_backend_on_inspect, true)
      text = inspect(Nx.tensor([1, 2]))
      assert text =~ ~r/s32\[2\]\n  EMLX\.Backend<cpu, 0\.[\d.]+>\n  \[1, 2\]/
    after
      Application.put_env(:emlx, :add_backend_on_inspect, false)
    end

    test "reads no more than is shown" do
      assert inspect(Nx.iota({1000})) =~ "48, 49, ..."
      assert inspect(Nx.iota({1000}), limit: :infinity) =~ "998, 999]"
    end
  end

  describe "moving" do
    test "between backends" do
      t = Nx.tensor([1, 2, 3], backend: Nx.BinaryBackend)
      native = Nx.backend_transfer(t, EMLX.Backend)
      assert %EMLX.Backend{ref: {:cpu, _}} = native.data
      back = Nx.backend_transfer(native, Nx.BinaryBackend)
      assert back == t
      assert_raise ArgumentError, ~r/deallocated/, fn -> Nx.to_binary(native) end
    end

    test "to where it is already changes nothing" do
      t = Nx.tensor([1, 2, 3])
      assert Nx.backend_transfer(t, EMLX.Backend) == t
      assert Nx.backend_transfer(t, {EMLX.Backend, device: :cpu}) == t
    end

    test "a copy is another tensor" do
      t = Nx.iota({1000})
      copy = Nx.backend_copy(t, EMLX.Backend)
      assert Nx.backend_deallocate(t) == :ok
      assert Nx.backend_deallocate(t) == :already_deallocated
      assert Nx.to_number(copy[999]) == 999
    end

    test "vectorized tensors" do
      t = Nx.vectorize(Nx.iota({2, 3}), :rows)
      assert %{vectorized_axes: [rows: 2]} = copy = Nx.backend_copy(t, Nx.BinaryBackend)
      assert copy |> Nx.devectorize(keep_names: false) |> Nx.to_list() == [[0, 1, 2], [3, 4, 5]]
      assert Nx.to_binary(t) == Nx.to_binary(copy)
    end
  end

  test "operands of the reference backend are taken" do
    other = Nx.tensor([10, 20], backend: Nx.BinaryBackend)
    t = Nx.tensor([1, 2])
    assert Nx.to_list(Nx.add(t, other)) == [11, 22]
    assert Nx.to_list(Nx.add(other, t)) == [11, 22]
    assert Nx.to_list(Nx.concatenate([other, t])) == [10, 20, 1, 2]
  end

  test "batches" do
    batches = fn options ->
      Nx.iota({5}) |> Nx.to_batched(2, options) |> Enum.map(&Nx.to_list/1)
    end

    assert batches.([]) == [[0, 1], [2, 3], [4, 0]]
    assert batches.(leftover: :discard) == [[0, 1], [2, 3]]
    assert Nx.iota({3}) |> Nx.to_batched(3) |> Enum.map(&Nx.to_list/1) == [[0, 1, 2]]
    assert Nx.iota({2}) |> Nx.to_batched(1) |> Enum.take(1) |> Enum.map(&Nx.to_list/1) == [[0]]
  end

  describe "types below a byte" do
    for {type, bits} <- [u2: <<0x6C, 1::2>>, s4: <<0x8F, 7::4>>, u4: <<0x07, 0xF1>>] do
      test "#{type} is packed at the boundary" do
        bits = unquote(Macro.escape(bits))
        type = Nx.Type.normalize!(unquote(type))
        count = div(bit_size(bits), elem(type, 1))
        out = Nx.template({count}, type)
        t = EMLX.Backend.from_binary(out, bits, device: :cpu)
        assert Nx.to_binary(t) == bits
        assert Nx.as_type(t, :s32).type == {:s, 32}
      end
    end
  end

  test "constants of every kind" do
    assert Nx.to_number(Nx.tensor(0xFFFFFFFFFFFFFFFF, type: :u64)) == 0xFFFFFFFFFFFFFFFF
    assert Nx.to_number(Nx.tensor(300, type: :u8)) == 44

    assert Nx.to_number(Nx.tensor(:nan)) == :nan
    assert Nx.to_number(Nx.tensor(:neg_infinity, type: :bf16)) == :neg_infinity
    assert Nx.to_list(Nx.broadcast(Nx.Constants.infinity(), {2})) == [:infinity, :infinity]
  end

  describe "errors" do
    test "of values" do
      assert_raise ArithmeticError, fn ->
        Nx.to_list(Nx.quotient(Nx.tensor([1, 2]), Nx.tensor([1, 0])))
      end

      assert_raise ArgumentError, "cannot right shift by -1", fn ->
        Nx.right_shift(Nx.tensor([1, 2]), -1)
      end

      assert_raise ArgumentError, ~r/index 5 is out of bounds for axis 0 in shape \{2\}/, fn ->
        Nx.to_list(Nx.take(Nx.tensor([1, 2]), Nx.tensor([5])))
      end

      assert_raise ArgumentError, ~r/cannot left shift by -1/, fn ->
        Nx.to_list(Nx.left_shift(Nx.tensor([1, 2]), Nx.tensor([-1, 0])))
      end
    end

    test "of an op that there is not" do
      others =
        [:init, :block, :inspect, :backend_copy, :backend_deallocate, :backend_transfer] ++
          [:from_binary, :from_pointer, :to_batched, :to_binary, :to_pointer]

      for {name, _arity} <- Nx.Backend.behaviour_info(:callbacks),
          name not in others,
          do: assert(EMLX.Ops.member?(name), "no operation #{name}")

      assert_raise ArgumentError, ~r/EMLX 0.1.0 has no operation nothing/, fn ->
        EMLX.Call.new(:nothing, nil, [])
      end
    end

    test "of options" do
      wrong = {EMLX.Backend, colour: 1}

      for call <- [
            fn -> Nx.default_backend(wrong) end,
            fn -> Nx.tensor(1, backend: wrong) end,
            fn -> Nx.tensor([1, 2], backend: wrong) end,
            fn -> Nx.iota({2}, backend: wrong) end,
            fn -> Nx.backend_transfer(Nx.tensor(1), wrong) end,
            fn -> Nx.backend_copy(Nx.tensor(1), wrong) end
          ] do
        assert_raise ArgumentError,
                     ~r/unknown keys \[:colour\].*allowed keys are: \[:device, :engine\]/,
                     call
      end

      assert_raise ArgumentError, ~r/GPU/, fn ->
        Nx.tensor(1, backend: {EMLX.Backend, device: {:gpu, 99}})
      end
    end
  end

  test "all callbacks are there" do
    for {name, arity} <- Nx.Backend.behaviour_info(:callbacks) do
      assert function_exported?(EMLX.Backend, name, arity)
    end
  end

  test "serializes" do
    t = {Nx.tensor([1, 2]), %{a: Nx.tensor(1.5)}}
    assert {a, %{a: b}} = t |> Nx.serialize() |> Nx.deserialize()
    assert {Nx.to_list(a), Nx.to_number(b)} == {[1, 2], 1.5}
  end
end
