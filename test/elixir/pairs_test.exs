# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.PairsTest do
  # The functions on {device, reference} pairs give what the Nx functions give that they stand for.
  use EMLX.Case, async: true

  require EMLX

  defmodule NoBackend do
    # Not a single tensor can be made on it.
    def init(options), do: options
  end

  doctest EMLX.Pairs

  defp pair(tensor), do: EMLX.Backend.from_nx(tensor)
  defp random_pair(shape, seed), do: shape |> random(:f32, seed) |> pair()

  defp list(pair) do
    tensor = EMLX.to_nx(pair)
    if Nx.rank(tensor) == 0, do: Nx.to_number(tensor), else: Nx.to_list(tensor)
  end

  test "all operations of the op table that take only operands" do
    operations = EMLX.Pair.operations()
    assert {:add, 2} in operations and {:tanh, 1} in operations and {:clip, 3} in operations
    assert length(operations) > 50

    for {name, count} <- operations, count < 3 do
      type = if to_string(name) =~ ~r/bit|shift|count|quotient/, do: :u8, else: :f32
      operands = for i <- 1..count, do: random({3, 4}, type, i, range: {1, 5})
      operands = Enum.map(operands, &Nx.backend_copy(&1, EMLX.Backend))
      actual = apply(EMLX, name, Enum.map(operands, &pair/1))
      assert Nx.to_binary(EMLX.to_nx(actual)) == Nx.to_binary(apply(Nx, name, operands))
    end
  end

  test "creation" do
    assert list(EMLX.eye(2, 3, :int32, :cpu)) == [[1, 0, 0], [0, 1, 0]]
    assert list(EMLX.from_blob(<<1, 2, 3>>, {3}, :uint8, :cpu)) == [1, 2, 3]
    assert list(EMLX.ones({2}, :f64, :cpu)) == [1.0, 1.0]
    assert list(EMLX.full(2.5, {2}, :float32, :cpu)) == [2.5, 2.5]
    assert list(EMLX.full(EMLX.scalar_tensor(3, :int64, :cpu), {2}, :int64, :cpu)) == [3, 3]
    assert list(EMLX.arange(0, 5, 2, true, :cpu)) == [0, 2, 4]
    assert list(EMLX.arange(1, 2, 0.5, false, :cpu)) == [1.0, 1.5]
    assert_raise ArgumentError, ~r/not 0/, fn -> EMLX.arange(1, 2, 0.0, false, :cpu) end
  end

  test "what a tensor is" do
    {device, ref} = t = pair(Nx.iota({2, 3, 4}, type: :s64))
    assert EMLX.is_tensor(device, ref)
    assert EMLX.shape(t) == {2, 3, 4}
    assert EMLX.strides(t) == [12, 4, 1]
    assert EMLX.scalar_type(t) == :int64
    assert EMLX.eval(t) == :ok
    assert EMLX.to_device(t, device) == t
    assert EMLX.to_blob(t, 2) == <<0::64-native, 1::64-native>>
    assert byte_size(EMLX.to_blob(t)) == 24 * 8
    assert EMLX.deallocate(t) == :ok
    assert EMLX.deallocate(t) == :already_deallocated
    assert_raise ArgumentError, ~r/deallocated/, fn -> EMLX.to_blob(t) end
  end

  test "to_nx takes names from a template" do
    t = pair(Nx.iota({2, 3}))
    assert EMLX.Backend.to_nx(t, Nx.template({2, 3}, :s32, names: [:x, :y])).names == [:x, :y]
    v = EMLX.Backend.to_nx(t, Nx.vectorize(Nx.iota({2, 3}), :rows))
    assert v.vectorized_axes == [rows: 2]
    assert Nx.to_list(Nx.devectorize(Nx.add(v, 1))) == [[1, 2, 3], [4, 5, 6]]

    assert_raise ArgumentError, ~r/expected/, fn ->
      EMLX.Backend.to_nx(t, Nx.template({6}, :s32))
    end
  end

  test "shapes" do
    t = pair(Nx.iota({2, 3}))
    assert list(EMLX.reshape(t, {3, 2})) == [[0, 1], [2, 3], [4, 5]]
    assert list(EMLX.transpose(t, [1, 0])) == [[0, 3], [1, 4], [2, 5]]
    assert list(EMLX.slice(t, [0, 1], [2, 3], [1, 1])) == [[1, 2], [4, 5]]
    assert list(EMLX.as_strided(t, {3, 2}, {1, 3}, 0)) == [[0, 3], [1, 4], [2, 5]]
    assert list(EMLX.as_strided(t, [2, 2], [1, 1], 1)) == [[1, 2], [2, 3]]
    assert list(EMLX.pad(t, [1], [1], [0], pair(Nx.tensor(9)))) == [[9, 0, 1, 2], [9, 3, 4, 5]]
    assert list(EMLX.stack([t, t], 0)) |> length() == 2
    assert list(EMLX.concatenate([t, t], 1)) == [[0, 1, 2, 0, 1, 2], [3, 4, 5, 3, 4, 5]]
    assert list(EMLX.astype(t, :float32)) == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert list(EMLX.view(pair(Nx.tensor([1.0])), :int32)) == [0x3F800000]
    assert list(EMLX.broadcast_to(pair(Nx.tensor([1, 2])), {2, 2})) == [[1, 2], [1, 2]]
    update = pair(Nx.tensor([[7, 8]]))
    assert list(EMLX.slice_update(t, update, [1, 0], [2, 2])) == [[0, 1, 2], [7, 8, 5]]
    assert_raise ArgumentError, ~r/fit/, fn -> EMLX.slice_update(t, update, [1, 0], [2, 3]) end
    assert list(EMLX.slice(t, [-1, -2], [2, -1], [1, 1])) == [[4]]

    # An update stretches to the part.
    assert list(EMLX.slice_update(t, update, [0, 1], [2, 3])) == [[0, 7, 8], [3, 7, 8]]
    nine = pair(Nx.tensor(9))
    assert list(EMLX.slice_update(t, nine, [0, -2], [2, 3])) == [[0, 9, 9], [3, 9, 9]]
  end

  test "views to another width" do
    t = pair(Nx.tensor([[1, 2], [3, 4]], type: :u16))
    assert list(EMLX.view(t, :uint8)) == [[1, 0, 2, 0], [3, 0, 4, 0]]
    assert list(EMLX.view(t, :uint32)) == [[0x20001], [0x40003]]
    assert list(EMLX.view(EMLX.add(t, t), :uint32)) == [[0x40002], [0x80006]]
    pairs = EMLX.view(pair(Nx.tensor([1.0, 2.0, 3.0, 4.0])), :complex64)
    assert list(pairs) == [Complex.new(1.0, 2.0), Complex.new(3.0, 4.0)]
    assert list(EMLX.view(pairs, :float32)) == [1.0, 2.0, 3.0, 4.0]
    assert_raise ArgumentError, ~r/whole elements/, fn -> EMLX.view(t, :uint64) end
    assert_raise ArgumentError, ~r/less than a byte/, fn -> EMLX.view(t, :u4) end
  end

  test "truth values are 0 and 1" do
    t = pair(Nx.tensor([0, 2, 256]))
    assert list(EMLX.astype(t, :bool)) == [0, 1, 1]
    assert list(EMLX.astype(pair(Nx.tensor([0.0, -0.0, 0.5, :nan])), :bool)) == [0, 0, 1, 1]
    assert list(EMLX.full(3, {2}, :bool, :cpu)) == [1, 1]
    assert list(EMLX.full(0.5, {1}, :bool, :cpu)) == [1]
    assert list(EMLX.full(EMLX.scalar_tensor(256, :int32, :cpu), {2}, :bool, :cpu)) == [1, 1]
    assert list(EMLX.scalar_tensor(-7, :bool, :cpu)) == 1
    assert list(EMLX.scalar_tensor(Complex.new(0, 2), :bool, :cpu)) == 1
    assert list(EMLX.from_blob(<<0, 3, 255>>, {3}, :bool, :cpu)) == [0, 1, 1]
    assert list(EMLX.view(pair(Nx.tensor([0, 3, 255], type: :u8)), :bool)) == [0, 1, 1]
    assert list(EMLX.ones({2}, :bool, :cpu)) == [1, 1]
    assert list(EMLX.eye(2, 2, :bool, :cpu)) == [[1, 0], [0, 1]]
  end

  test "no axes mean all" do
    t = pair(Nx.tensor([[1, 2], [3, 0]]))
    assert list(EMLX.sum(t, [], false)) == 6
    assert list(EMLX.sum(t, [], true)) == [[6]]
    assert list(EMLX.product(t, [], false)) == 0
    assert list(EMLX.all(t, [], true)) == [[0]]
    assert list(EMLX.any(t, [], false)) == 1
  end

  # As MLX has them, and not as Nx.
  test "divisions round down and halves round to even" do
    a = pair(Nx.tensor([7, -7, 7, -7, 6]))
    b = pair(Nx.tensor([3, 3, -3, -3, -3]))
    assert list(EMLX.remainder(a, b)) == [1, 2, -2, -1, 0]
    assert list(EMLX.quotient(a, b)) == [2, -2, -2, 2, -2]
    x = EMLX.astype(a, :float32)
    y = EMLX.astype(b, :float32)
    assert list(EMLX.remainder(x, y)) == [1.0, 2.0, -2.0, -1.0, 0.0]
    assert list(EMLX.quotient(x, y)) == [2.0, -3.0, -3.0, 2.0, -2.0]
    assert list(EMLX.remainder(pair(Nx.tensor([7], type: :u8)), pair(Nx.u8(4)))) == [3]
    halves = pair(Nx.tensor([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 2.4, -2.6, :infinity, 0.49999997]))

    assert list(EMLX.round(halves)) ==
             [0.0, 2.0, 2.0, -0.0, -2.0, -2.0, 2.0, -3.0, :infinity, 0.0]

    assert list(EMLX.round(a)) == list(a)
  end

  test "negative indices count from the end" do
    t = pair(Nx.iota({3, 4}))
    i = pair(Nx.tensor([-1, 0]))
    assert list(EMLX.take(t, i, 0)) == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert list(EMLX.take(t, i, -1)) == [[3, 0], [7, 4], [11, 8]]
    rows = pair(Nx.tensor([[-1], [0], [-4]]))
    assert list(EMLX.take_along_axis(t, rows, 1)) == [[3], [4], [8]]
    assert list(EMLX.gather(t, [i], [0], [1, 4])) == [[[8, 9, 10, 11]], [[0, 1, 2, 3]]]
    update = pair(Nx.tensor([[[50]], [[60]]]))
    assert list(EMLX.scatter(t, [i, i], update, [0, 1])) |> List.flatten() |> Enum.max() == 60

    assert list(EMLX.scatter_add(t, [i, i], update, [0, 1])) ==
             [[60, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 61]]

    assert_raise ArgumentError, ~r/out of bounds/, fn ->
      EMLX.eval(EMLX.take(t, pair(Nx.tensor([-4])), 0))
    end
  end

  test "linear algebra gives what MLX gives" do
    t = random_pair({3, 3}, 5)
    assert [u, s, vt] = EMLX.linalg_svd(t, true)
    product = Nx.dot(Nx.multiply(EMLX.to_nx(u), EMLX.to_nx(s)), EMLX.to_nx(vt))
    assert_close(product, EMLX.to_nx(t))
    assert [values] = EMLX.linalg_svd(t, false)
    assert_close(EMLX.to_nx(values), EMLX.to_nx(s))

    assert [pivots, l, u] = EMLX.linalg_lu(t)
    assert EMLX.scalar_type(pivots) == :uint32
    assert_close(Nx.take(Nx.dot(EMLX.to_nx(l), EMLX.to_nx(u)), EMLX.to_nx(pivots)), EMLX.to_nx(t))
    assert {_q, _r} = EMLX.linalg_qr(t)

    upper = pair(Nx.tensor([[4.0, 1.0, 2.0], [9.0, 3.0, 0.5], [9.0, 9.0, 1.0]]))
    whole = Nx.tensor([[4.0, 1.0, 2.0], [1.0, 3.0, 0.5], [2.0, 0.5, 1.0]])
    lower = pair(Nx.transpose(EMLX.to_nx(upper)))

    for {matrix, uplo} <- [{upper, :U}, {lower, :L}, {lower, "L"}] do
      {values, vectors} = EMLX.linalg_eigh(matrix, uplo)
      assert list(values) == Enum.sort(list(values))
      w = EMLX.to_nx(vectors)
      assert_close(Nx.dot(whole, w), Nx.multiply(w, EMLX.to_nx(values)))
    end

    assert_raise ArgumentError, ~r/:L or :U/, fn -> EMLX.linalg_eigh(upper, :X) end

    inverse = EMLX.tri_inv(lower, false)
    product = Nx.dot(Nx.tril(EMLX.to_nx(lower)), EMLX.to_nx(inverse))
    assert Nx.to_number(Nx.all_close(product, Nx.eye(3), atol: 1.0e-6)) == 1
    inverse = EMLX.tri_inv(upper, true)
    product = Nx.dot(Nx.triu(EMLX.to_nx(upper)), EMLX.to_nx(inverse))
    assert Nx.to_number(Nx.all_close(product, Nx.eye(3), atol: 1.0e-6)) == 1
    batch = EMLX.stack([lower, EMLX.add(lower, lower)], 0)
    half = EMLX.tri_inv(batch, false) |> EMLX.to_nx() |> then(&Nx.multiply(2, &1[1]))
    assert_close(half, EMLX.to_nx(EMLX.tri_inv(lower, false)))
  end

  # Whatever the default backend is, nothing is computed by the reference.
  test "helpers are made on the operand's device" do
    t = pair(Nx.iota({4, 250_000}))
    matrix = random_pair({3, 3}, 6)

    Nx.with_default_backend(EMLX.PairsTest.NoBackend, fn ->
      assert EMLX.shape(EMLX.as_strided(t, {500_000}, [2], 1)) == {500_000}
      assert EMLX.shape(EMLX.tri_inv(matrix, true)) == {3, 3}
      assert EMLX.shape(EMLX.linalg_pinv(matrix)) == {3, 3}
      assert EMLX.shape(EMLX.linalg_inv(matrix)) == {3, 3}
      assert EMLX.shape(EMLX.cumulative_max(matrix, 0, false, false)) == {3, 3}
      assert EMLX.shape(EMLX.einsum([matrix], "ii->i")) == {3}
      assert EMLX.shape(EMLX.round(matrix)) == {3, 3}
      assert list(EMLX.astype(pair_of_no_default(), :bool)) == [1]
    end)
  end

  defp pair_of_no_default, do: EMLX.full(2, {1}, :int32, :cpu)

  test "folds and sorting" do
    t = pair(Nx.tensor([[3, 1, 2], [4, 6, 5]]))
    assert list(EMLX.sum(t, [1], false)) == [6, 15]
    assert list(EMLX.max(t, [0], true)) == [[4, 6, 5]]
    assert list(EMLX.min(t, [0, 1], false)) == 1
    assert list(EMLX.maximum(t, pair(Nx.tensor(3)))) == [[3, 3, 3], [4, 6, 5]]
    assert list(EMLX.argmax(t, false)) == 4
    assert list(EMLX.argmin(t, 1, false)) == [1, 0]
    assert list(EMLX.sort(t, -1)) == [[1, 2, 3], [4, 5, 6]]
    assert list(EMLX.argsort(t, 1)) == [[1, 2, 0], [0, 2, 1]]
    assert list(EMLX.cumulative_sum(t, 1, false, true)) == [[3, 4, 6], [4, 10, 15]]
  end

  test "running folds of what is before" do
    t = pair(Nx.tensor([[3, 1, 2], [4, 6, 5]]))
    assert list(EMLX.cumulative_sum(t, 1, false, false)) == [[0, 3, 4], [0, 4, 10]]
    assert list(EMLX.cumulative_sum(t, -1, true, false)) == [[3, 2, 0], [11, 5, 0]]
    assert list(EMLX.cumulative_product(t, 0, false, false)) == [[1, 1, 1], [3, 1, 2]]
    low = -0x80000000
    assert list(EMLX.cumulative_max(t, 1, false, false)) == [[low, 3, 3], [low, 4, 6]]
    float = EMLX.astype(t, :float32)

    assert list(EMLX.cumulative_min(float, 0, true, false)) == [
             [4, 6, 5],
             List.duplicate(:infinity, 3)
           ]

    assert list(EMLX.cumulative_max(float, 0, false, false)) |> hd() ==
             List.duplicate(:neg_infinity, 3)
  end

  test "indexing" do
    t = pair(Nx.iota({3, 4}))
    rows = pair(Nx.tensor([2, 0]))
    columns = pair(Nx.tensor([1, 3]))
    assert list(EMLX.take(t, rows, 0)) == [[8, 9, 10, 11], [0, 1, 2, 3]]
    assert list(EMLX.gather(t, [rows, columns], [0, 1], [1, 1])) == [[[9]], [[3]]]
    assert list(EMLX.gather(t, [rows], [0], [1, 4])) == [[[8, 9, 10, 11]], [[0, 1, 2, 3]]]
    ones = pair(Nx.tensor([1, 0], type: :u8))

    assert list(EMLX.gather(t, [ones], [0], [2, 3])) ==
             [[[4, 5, 6], [8, 9, 10]], [[0, 1, 2], [4, 5, 6]]]

    assert list(EMLX.gather(t, [columns, ones], [1, 0], [2, 1])) == [[[5], [9]], [[3], [7]]]
    assert list(EMLX.gather(t, [pair(Nx.tensor(2))], [1], [1, 2])) == [[2, 3]]

    assert_raise ArgumentError, ~r/out of bounds/, fn ->
      EMLX.eval(EMLX.gather(t, [rows], [0], [2, 4]))
    end

    updates = pair(Nx.tensor([[[50]], [[60]]]))

    assert list(EMLX.scatter(t, [rows, columns], updates, [0, 1])) ==
             [[0, 1, 2, 60], [4, 5, 6, 7], [8, 50, 10, 11]]

    assert list(EMLX.scatter_add(t, [rows, columns], updates, [0, 1])) ==
             [[0, 1, 2, 63], [4, 5, 6, 7], [8, 59, 10, 11]]

    assert list(EMLX.where(pair(Nx.tensor([1, 0])), rows, columns)) == [2, 3]
  end

  test "products and convolution" do
    a = random_pair({2, 3}, 1)
    b = random_pair({3, 4}, 2)
    dot = Nx.dot(EMLX.to_nx(a), EMLX.to_nx(b))
    assert Nx.to_binary(EMLX.to_nx(EMLX.tensordot(a, b, [1], [0]))) == Nx.to_binary(dot)

    # One batch of 3 by 3 with two channels last; one filter.
    input = random_pair({1, 3, 3, 2}, 3)
    kernel = random_pair({1, 2, 2, 2}, 4)
    actual = EMLX.conv_general(input, kernel, [1, 1], [0, 0], [1, 0], [1, 1], [1, 1], 1)
    first = &Nx.transpose(EMLX.to_nx(&1), axes: [0, 3, 1, 2])
    expected = Nx.conv(first.(input), first.(kernel), padding: [{0, 1}, {0, 0}])
    assert EMLX.shape(actual) == {1, 3, 2, 1}
    assert_close(Nx.transpose(EMLX.to_nx(actual), axes: [0, 3, 1, 2]), expected)
  end

  test "NaN and infinities of a pair" do
    good = pair(Nx.tensor([1.0]))
    assert EMLX.Debug.check!(good, "x") == good
    bad = EMLX.log(pair(Nx.tensor([0.0])))
    assert_raise EMLX.Error, ~r/x has an infinity/, fn -> EMLX.Debug.check!(bad, "x") end
  end

  test "closeness" do
    a = pair(Nx.tensor([1.0, :nan, :infinity, 2.0]))
    b = pair(Nx.tensor([1.0001, :nan, :infinity, 3.0]))
    assert list(EMLX.isclose(a, b, 1.0e-3, 0.0, false)) == [1, 0, 1, 0]
    assert list(EMLX.isclose(a, b, 1.0e-3, 0.0, true)) == [1, 1, 1, 0]
    assert list(EMLX.allclose(a, a, 0.0, 0.0, true)) == 1
  end

  test "errors" do
    assert_raise ArgumentError, ~r/pair, got: 1/, fn -> EMLX.add(1, 2) end
    assert_raise EMLX.NIFError, "no", fn -> EMLX.unwrap!({:error, "no"}) end
    assert EMLX.unwrap!({:ok, 1}) == 1
    assert_raise EMLX.Error, ~r/unknown|device|only/, fn -> EMLX.ones({1}, :f32, :tpu) end
    assert_raise ArgumentError, ~r/GPU/, fn -> EMLX.ones({1}, :f32, {:gpu, 99}) end
  end
end
