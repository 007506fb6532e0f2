# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.PackedBlocksTest do
  # Quantized weights in loops and branches, in files: nobody unpacks what is only handed on.
  use EMLX.Case, async: false

  import Nx.Defn

  @moduletag :tmp_dir

  defn turns(x, w, opts \\ []) do
    {_, x, _} =
      while {i = 0, x, w}, i < opts[:count] do
        {i + 1, Nx.tanh(Nx.dot(x, [1], w, [1])), w}
      end

    x
  end

  # Weights in a container, a loop within a loop, and both after the loop.
  defn nested(x, model) do
    {_, x, model} =
      while {i = 0, x, model}, i < 2 do
        {_, x, model} =
          while {j = 0, x, model}, j < 2 do
            {j + 1, Nx.tanh(Nx.dot(x, [1], model.a, [1])), model}
          end

        {i + 1, Nx.tanh(Nx.dot(x, model.b)), model}
      end

    Nx.dot(x, [1], model.a, [1])
  end

  defn branch(x, w, v, flag) do
    if flag > 0, do: Nx.dot(x, [1], w, [1]), else: Nx.dot(x, [1], v, [1]) - 1
  end

  defn branch_in_loop(x, w, v) do
    {_, x, _, _} =
      while {i = 0, x, w, v}, i < 4 do
        x = if rem(i, 2) == 0, do: Nx.dot(x, [1], w, [1]), else: Nx.dot(x, [1], v, [1])
        {i + 1, Nx.tanh(x), w, v}
      end

    x
  end

  # Each turn has other weights, so that they are numbers.
  defn changing(x, w) do
    {_, x, _} =
      while {i = 0, x, w = Nx.as_type(w, :f32)}, i < 3 do
        {i + 1, Nx.tanh(Nx.dot(x, [1], w, [1])), w * 0.5}
      end

    x
  end

  defn swapped(x, w, v) do
    {_, x, _, _} =
      while {i = 0, x, w, v}, i < 3 do
        {i + 1, Nx.tanh(Nx.dot(x, [1], w, [1])), v, w}
      end

    x
  end

  defp weights(size, seed, options \\ []),
    do: {size, size} |> random(:f32, seed) |> Nx.multiply(0.02) |> EMLX.quantize(options)

  defp compiled(fun), do: Nx.Defn.jit(fun, compiler: EMLX)

  defp close!(found, wanted, atol: atol) do
    difference = found |> Nx.subtract(wanted) |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number()
    assert difference <= atol
  end

  defp same(fun, arguments) do
    numbers = fn t -> if EMLX.Quantization.quantized?(t), do: EMLX.dequantize(t), else: t end

    dense =
      Enum.map(arguments, fn
        %Nx.Tensor{} = t -> numbers.(t)
        %{} = map -> Map.new(map, fn {k, t} -> {k, numbers.(t)} end)
      end)

    found = apply(compiled(fun), arguments)
    close!(found, apply(compiled(fun), dense), atol: 1.0e-3)
    found
  end

  test "loops" do
    x = random({2, 128}, :f32, 1)

    for options <- [[], [type: {:s, 8}], [mode: "mxfp4"], [mode: "nvfp4"]] do
      same(&turns(&1, &2, count: 5), [x, weights(128, 2, options)])
    end

    same(&turns(&1, &2, count: 0), [x, weights(128, 2)])
    model = %{a: weights(128, 3), b: Nx.transpose(weights(128, 4))}
    same(&nested/2, [x, model])
    same(&changing/2, [x, weights(128, 5)])
    same(&swapped/3, [x, weights(128, 5), weights(128, 6)])
  end

  test "branches" do
    x = random({2, 128}, :f32, 1)
    {w, v} = {weights(128, 2), weights(128, 3, type: {:s, 8})}
    for flag <- [0, 1], do: same(&branch/4, [x, w, v, Nx.tensor(flag)])
    same(&branch_in_loop/3, [x, w, v])
  end

  # What memory is taken tells whether the numbers were written out: 16 MB.
  test "nothing is unpacked" do
    w = weights(2048, 7)
    x = random({1, 2048}, :f32, 8)

    for fun <- [
          compiled(&turns(&1, &2, count: 4)),
          compiled(fn x, w -> branch(x, w, w, Nx.u8(1)) end),
          compiled(&branch_in_loop(&1, &2, &2))
        ] do
      Nx.backend_transfer(fun.(x, w))
      :erlang.garbage_collect()
      before = EMLX.memory_info().active_memory
      EMLX.reset_peak_memory()
      fun.(x, w)
      assert EMLX.memory_info().peak_memory - before < 4_000_000
    end
  end

  test "programs in files", %{tmp_dir: folder} do
    x = random({2, 128}, :f32, 1)
    w = weights(128, 2)
    wanted = compiled(&turns(&1, &2, count: 3)).(x, w)

    # The weights are inputs.
    path = Path.join(folder, "open.safetensors")
    assert EMLX.export(&turns(&1, &2, count: 3), [x: x, w: w], path) == :ok
    program = EMLX.load(path)
    assert Enum.map(program.inputs, & &1.name) == ["x", "w", "w.scales", "w.biases"]
    close!(EMLX.run(program, %{x: x, w: w})["output"], wanted, atol: 0)
    assert [output] = EMLX.run(program, [x, w])
    close!(output, wanted, atol: 0)

    # In a container, of one part only.
    blocks = weights(128, 3, mode: "nvfp4")
    path = Path.join(folder, "container.safetensors")
    fun = fn m, x -> Nx.dot(x, [1], m.kernel, [1]) end
    assert EMLX.export(fun, [m: %{bias: x, kernel: blocks}, x: x], path) == :ok
    program = EMLX.load(path)
    names = ["m.bias", "m.kernel", "m.kernel.scales", "x"]
    assert Enum.map(program.inputs, & &1.name) == names
    given = %{"m.bias" => x, "m.kernel" => blocks, "x" => x}
    close!(EMLX.run(program, given)["output"], Nx.dot(x, [1], blocks, [1]), atol: 0)

    # They are part of the file, in as many bytes as they take.
    path = Path.join(folder, "closed.safetensors")
    fun = &turns(&1, &2, count: 3)
    assert EMLX.export(fun, [x: x, w: w], path, constants: [:w]) == :ok
    assert File.stat!(path).size < 128 * 128
    close!(EMLX.run(EMLX.load(path), [x]) |> hd(), wanted, atol: 0)

    # So are dense ones, in a container.
    dense = %{kernel: random({128, 128}, :f32, 9), bias: random({128}, :f32, 10)}
    fun = fn m, x -> Nx.add(Nx.dot(x, m.kernel), m.bias) end
    assert EMLX.export(fun, [m: dense, x: x], path, constants: [:m]) == :ok
    assert [%{name: "x"}] = EMLX.load(path).inputs
    close!(EMLX.run(EMLX.load(path), [x]) |> hd(), fun.(dense, x), atol: 1.0e-3)

    assert_raise ArgumentError, "no argument is called n; there are m, x", fn ->
      EMLX.export(fun, [m: dense, x: x], path, constants: [:n])
    end
  end
end
