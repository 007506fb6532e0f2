# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.ExportTest do
  use EMLX.Case, async: true

  import Nx.Defn

  @moduletag :tmp_dir

  defn predict(params, %{pixels: x}) do
    hidden = Nx.max(Nx.dot(x, params.dense.kernel) + params.dense.bias, 0)
    %{logits: hidden, best: Nx.argmax(hidden, axis: 1), scale: {Nx.sum(hidden), 2}}
  end

  defn factorial(n) do
    {_, result} =
      while {n, result = 1}, n > 1 do
        {n - 1, result * n}
      end

    result
  end

  defp params do
    %{dense: %{kernel: random({4, 3}, :f32, 1), bias: random({3}, :f32, 2)}}
  end

  test "names inputs and outputs after their containers", %{tmp_dir: directory} do
    path = Path.join(directory, "model.safetensors")
    input = %{pixels: random({2, 4}, :f32, 3)}
    assert EMLX.export(&predict/2, [params: params(), input: input], path) == :ok
    program = EMLX.load(path)

    assert Enum.map(program.inputs, & &1.name) ==
             ["params.dense.bias", "params.dense.kernel", "input.pixels"]

    assert Enum.map(program.outputs, & &1.name) == ["best", "logits", "scale.0", "scale.1"]
    assert %{type: {:f, 32}, shape: {4, 3}} = Enum.at(program.inputs, 1)

    result =
      EMLX.run(program, %{
        "params.dense.kernel" => params().dense.kernel,
        "params.dense.bias" => params().dense.bias,
        "input.pixels" => input.pixels
      })

    expected = with_reference(fn -> predict(params(), input) end)
    assert_close(result["logits"], expected.logits)
    assert_close(result["best"], expected.best)
    assert_close(result["scale.1"], elem(expected.scale, 1))
  end

  test "keeps weights that the function closes over", %{tmp_dir: directory} do
    path = Path.join(directory, "closed.safetensors")
    weights = Nx.iota({1000})

    EMLX.export(
      &Nx.dot(&1, Nx.backend_copy(weights, Nx.BinaryBackend)),
      [Nx.template({1000}, :s32)],
      path
    )

    [result] = EMLX.run(EMLX.load(path), [Nx.broadcast(1, {1000})])
    assert Nx.to_number(result) == 499_500
  end

  test "keeps control flow, and inputs that are not used", %{tmp_dir: directory} do
    path = Path.join(directory, "loop.safetensors")
    EMLX.export(fn n, _unused -> factorial(n) end, [Nx.tensor(1), Nx.tensor([1.0])], path)
    program = EMLX.load(path)
    assert Enum.map(program.inputs, & &1.name) == ["arg0", "arg1"]
    assert [result] = EMLX.run(program, [6, Nx.tensor([0.0])])
    assert Nx.to_number(result) == 720
  end

  test "wrong inputs are named", %{tmp_dir: directory} do
    path = Path.join(directory, "add.safetensors")
    EMLX.export(&Nx.add/2, [a: Nx.template({2}, :f32), b: Nx.template({}, :f32)], path)
    program = EMLX.load(path)

    assert_raise ArgumentError, ~r/inputs a, b/, fn -> EMLX.run(program, %{a: 1.0}) end
    assert_raise ArgumentError, ~r/inputs a, b/, fn -> EMLX.run(program, a: 1.0) end
    assert_raise ArgumentError, ~r/takes 2 inputs/, fn -> EMLX.run(program, [1.0]) end

    assert_raise ArgumentError, ~r/input a must be f32 \{2\}, got s32 \{\}/, fn ->
      EMLX.run(program, [1, 2])
    end
  end

  test "files that are not there or not programs", %{tmp_dir: directory} do
    error = assert_raise EMLX.Error, fn -> EMLX.load(Path.join(directory, "none")) end
    assert error.kind == :io
    path = Path.join(directory, "text")
    File.write!(path, "hello, this is text")
    assert %{kind: :format} = assert_raise(EMLX.Error, fn -> EMLX.load(path) end)
  end
end
