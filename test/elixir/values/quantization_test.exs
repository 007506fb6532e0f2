# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.QuantizationTest do
  use EMLX.Case, async: true

  alias EMLX.Quantization

  doctest EMLX.Quantization

  # Mode, group size, bits.
  @modes [
    {"affine", 32, 2},
    {"affine", 64, 3},
    {"affine", 64, 4},
    {"affine", 128, 6},
    {"affine", 64, 8},
    {"mxfp4", 32, 4},
    {"mxfp8", 32, 8},
    {"nvfp4", 16, 4},
    {"q4_0", 32, 4},
    {"q8_0", 32, 8}
  ]

  defp normal(shape, seed, type \\ :f32) do
    {values, _key} = Nx.Random.normal(Nx.Random.key(seed), shape: shape)
    values |> Nx.as_type(type) |> Nx.backend_transfer(EMLX.Backend)
  end

  defp packed({mode, group_size, bits}, weights),
    do: EMLX.quantize(weights, mode: mode, group_size: group_size, bits: bits)

  defp close!(a, b, tolerance) do
    difference = Nx.subtract(a, b) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
    assert difference <= tolerance, "they differ by #{difference}"
  end

  for {mode, group_size, bits} = how <- @modes do
    @how how

    test "#{mode}, #{bits} bits, groups of #{group_size}: products are those with the numbers" do
      x = normal({1, 4, 128}, 1)
      q = packed(@how, normal({64, 128}, 2))
      {mode, group_size, bits} = @how
      config = q.data.quantization_config
      assert {config.mode, config.group_size, config.bits} == {mode, group_size, bits}
      assert Quantization.quantized?(q)
      assert Nx.shape(q) == {64, 128}

      dense = Quantization.dequantize(q) |> Nx.as_type(:f32)
      expected = Nx.dot(x, [2], dense, [1])
      # The sum of the sizes of terms is about 100.
      close!(Nx.dot(x, [2], q, [1]), expected, 0.004)
      assert Nx.shape(EMLX.quantized_matmul(x, q)) == {1, 4, 64}
      close!(EMLX.quantized_matmul(x, q), expected, 0.004)

      compiled = Nx.Defn.jit(fn x, q -> Nx.dot(x, [2], q, [1]) end, compiler: EMLX)
      close!(compiled.(x, q), Nx.dot(x, [2], q, [1]), 0)
      evaluated = Nx.Defn.jit(fn x, q -> Nx.dot(x, [2], q, [1]) end, compiler: Nx.Defn.Evaluator)
      close!(evaluated.(x, q), Nx.dot(x, [2], q, [1]), 0)
    end

    test "#{mode}, #{bits} bits, groups of #{group_size}: other operations see the numbers" do
      q = packed(@how, normal({64, 128}, 3))
      dense = Quantization.dequantize(q) |> Nx.as_type(:f32)
      rows = Nx.tensor([[5, 0], [63, 5]], backend: EMLX.Backend)
      close!(Nx.take(q, rows), Nx.take(dense, rows), 0)
      close!(q[3], dense[3], 0)
      close!(Nx.add(q, 0.5), Nx.add(dense, 0.5), 0.01)

      compiled =
        Nx.Defn.jit(fn q, rows -> {Nx.take(q, rows) |> Nx.as_type(:f32), Nx.multiply(q, 2.0)} end,
          compiler: EMLX
        )

      {taken, twice} = compiled.(q, rows)
      close!(taken, Nx.take(dense, rows), 0)
      close!(twice, Nx.multiply(dense, 2.0), 0.04)
    end
  end

  test "bits of MLX" do
    ramp =
      Nx.remainder(Nx.multiply(Nx.iota({1, 32}), 7), 16) |> Nx.subtract(7) |> Nx.as_type(:f32)

    ramp = Nx.backend_transfer(ramp, EMLX.Backend)
    {words, scales, biases} = EMLX.quantize(EMLX.Backend.from_nx(ramp), 32, 4)
    words = EMLX.Backend.to_nx(words)
    assert Nx.type(words) == {:u, 32}
    assert Nx.to_flat_list(words) == [0xE5C3A18F, 0x6D4B2907, 0xE5C3A18F, 0x6D4B2907]
    assert EMLX.Backend.to_nx(scales) |> Nx.to_flat_list() == [-1.0]
    assert EMLX.Backend.to_nx(biases) |> Nx.to_flat_list() == [8.0]
    {_codes, scales, nil} = EMLX.quantize(EMLX.Backend.from_nx(ramp), 32, 4, "mxfp4")
    assert EMLX.Backend.to_nx(scales) |> Nx.to_flat_list() == [128]
  end

  test "activations in bf16" do
    x = normal({2, 128}, 4, :bf16)
    q = EMLX.quantize(normal({64, 128}, 5, :bf16), [])
    assert Nx.type(q.data.quantization_config.scales) == {:bf, 16}
    result = Nx.dot(x, [1], q, [1])
    assert Nx.type(result) == {:bf, 16}
    dense = q |> Quantization.dequantize() |> Nx.as_type(:f32)
    close!(Nx.as_type(result, :f32), Nx.dot(Nx.as_type(x, :f32), [1], dense, [1]), 0.3)
  end

  test "a kernel of a dense layer, whose groups run along its first axis" do
    x = normal({2, 128}, 11)
    kernel = normal({128, 64}, 12)
    q = kernel |> Nx.transpose() |> EMLX.quantize(type: {:s, 8}) |> Nx.transpose()
    assert Nx.shape(q) == {128, 64}
    assert Quantization.quantized?(q)
    close!(Quantization.dequantize(q), kernel, 0.05)
    close!(Nx.dot(x, q), Nx.dot(x, Quantization.dequantize(q)), 0.004)
    compiled = Nx.Defn.jit(&Nx.dot/2, compiler: EMLX)
    close!(compiled.(x, q), Nx.dot(x, q), 0)
    close!(Nx.dot(x, [1], Nx.transpose(q), [1]), Nx.dot(x, q), 0)
    # One that says it is a matrix of floats is one.
    float = %{q | type: {:f, 32}}
    close!(compiled.(x, float), Nx.dot(x, q), 0)
    close!(Nx.dot(x, float), Nx.dot(x, q), 0)
  end

  test "tensors made of what a checkpoint has" do
    weights = normal({64, 128}, 6)
    {words, scales, biases} = EMLX.quantize(EMLX.Backend.from_nx(weights), 64, 4)
    q = Quantization.quantized_tensor(words, scales, biases, {64, 128})
    close!(EMLX.dequantize(q), EMLX.dequantize(EMLX.quantize(weights, [])), 0)
    x = normal({3, 128}, 7)

    pair =
      EMLX.quantized_matmul(EMLX.Backend.from_nx(x), words, scales, biases, true, 64, 4)

    close!(EMLX.Backend.to_nx(pair), Nx.dot(x, [1], q, [1]), 0)

    assert_raise ArgumentError, ~r/those of shape \{64, 128\}/, fn ->
      Quantization.quantized_tensor(words, scales, biases, {64, 256})
    end
  end

  test "inside a cond, a while and beside dense weights" do
    x = normal({1, 128}, 8)
    q = EMLX.quantize(normal({128, 128}, 9), [])
    dense = EMLX.dequantize(q)

    step = fn x, w ->
      x = Nx.tanh(Nx.dot(x, [1], w, [1]))
      Nx.select(Nx.greater(Nx.sum(x), 0), x, Nx.dot(x, [1], w, [1]))
    end

    compiled = Nx.Defn.jit(step, compiler: EMLX)
    close!(compiled.(x, q), compiled.(x, dense), 0.01)
    # The same function of dense weights is another program.
    assert Nx.type(compiled.(x, Nx.as_type(dense, :f32))) == {:f, 32}
  end

  test "what is refused" do
    weights = normal({64, 64}, 10)
    q = EMLX.quantize(weights, [])
    assert_raise ArgumentError, ~r/quantized left operand/, fn -> Nx.dot(q, [1], weights, [0]) end
    assert_raise ArgumentError, ~r/two quantized tensors/, fn -> EMLX.quantized_matmul(q, q) end
    assert_raise ArgumentError, ~r/rank-2/, fn -> EMLX.quantize(normal({2, 2, 64}, 1), []) end
    assert_raise ArgumentError, ~r/divisible/, fn -> EMLX.quantize(normal({2, 70}, 1), []) end
    assert_raise ArgumentError, ~r/:mode must be/, fn -> EMLX.quantize(weights, mode: "mxfp6") end
    assert_raise ArgumentError, ~r/no elements to be read/, fn -> Nx.to_binary(q) end

    for {mode, group_size} <- [{"mxfp4", 32}, {"mxfp8", 32}, {"nvfp4", 16}] do
      assert_raise ArgumentError, ~r/requires group_size=#{group_size}/, fn ->
        EMLX.quantize(weights, mode: mode, group_size: 64)
      end
    end

    assert inspect(q) =~ "affine, 4 bits in groups of 64"
    refute Quantization.quantized?(weights)
    refute Quantization.quantized?(nil)
  end
end
