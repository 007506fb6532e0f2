# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.ProgramTest do
  use NIFCase, async: true

  defp constant(value, shape \\ {}, type \\ :s32),
    do: {:constant, [], [shape: shape, value: value], type}

  # x + x, and its sum
  defp double do
    {[{"x", :s32, {3}}], [{:add, [0, 0], [], :s32}, {:sum, [1], [], :s32}],
     [{"doubled", 1}, {"total", 2}]}
  end

  # The factorial of x.
  defp factorial do
    state = [{nil, :s32, {}}, {nil, :s32, {}}]
    condition = {state, [constant(1), {:greater, [0, 2], [], :u8}], [{nil, 3}]}

    body =
      {state, [{:multiply, [0, 1], [], :s32}, constant(1), {:subtract, [0, 3], [], :s32}],
       [{nil, 4}, {nil, 2}]}

    {[{"x", :s32, {}}], [constant(1), {:while, condition, body, [0, 1]}], [{"factorial", 3}]}
  end

  # -x below zero, 0 at zero, x / 1 above
  defp magnitude do
    input = [{nil, :s32, {}}]
    below = {input, [constant(0), {:less, [0, 1], [], :u8}], [{nil, 2}]}
    at = {input, [constant(0), {:equal, [0, 1], [], :u8}], [{nil, 2}]}
    negate = {input, [{:negate, [0], [], :s32}], [{nil, 1}]}
    zero = {input, [constant(0)], [{nil, 1}]}
    same = {input, [], [{nil, 0}]}

    {[{nil, :s32, {}}], [{:cond, [below, at], [negate, zero, same], [0]}], [{nil, 1}]}
  end

  defp run_s32(block, inputs) do
    program = Native.compile(cpu(), block)
    Enum.map(Native.run(program, inputs), &s32_list/1)
  end

  test "runs, again and again" do
    program = Native.compile(cpu(), double())

    for i <- 1..100 do
      assert [doubled, total] = Native.run(program, [s32([i, i, i])])
      assert s32_list(doubled) == [2 * i, 2 * i, 2 * i]
      assert s32_list(total) == [6 * i]
    end
  end

  # x + what the host gives for 2 * x; brief, or too long to be done within the call.
  defp calling(shape) do
    {[{"x", :s32, shape}],
     [
       {:add, [0, 0], [], :s32},
       {:call, 7, [1], [{:s32, shape}]},
       {:add, [0, 2], [], :s32}
     ], [{"y", 3}]}
  end

  defp outcome(:wait, reference) do
    receive do
      {^reference, result} -> result
    end
  end

  defp outcome(result, _reference), do: result

  test "stops at calls and goes on with their results" do
    for size <- [3, 100_000] do
      program = Native.compile(cpu(), calling({size}))
      x = s32(Enum.to_list(1..size))
      reference = make_ref()

      {:call, run, 7, [twice]} =
        outcome(NIF.program_run(program, [x], nil, false, reference), reference)

      assert s32_list(twice) == Enum.map(1..size, &(2 * &1))

      wrong = s32([1, 2])
      assert {:error, :invalid, text} = NIF.program_resume(run, [wrong], nil, make_ref())
      assert text =~ "result 0 of a call is s32 {2}"
      assert {:error, :invalid, _} = NIF.program_resume(run, [], nil, make_ref())

      # The result is a pending tensor.
      given = apply_op(:add, [twice, x])
      {:ok, [y]} = outcome(NIF.program_resume(run, [given], nil, reference), reference)
      assert s32_list(y) == Enum.map(1..size, &(4 * &1))

      assert {:error, :invalid, text} = NIF.program_resume(run, [given], nil, make_ref())
      assert text =~ "does not wait"
      assert NIF.program_drop(run) == :ok
    end
  end

  test "of two processes that answer a call one is refused" do
    program = Native.compile(cpu(), calling({3}))

    for _ <- 1..50 do
      {:call, run, 7, [twice]} =
        NIF.program_run(program, [s32([1, 2, 3])], nil, false, make_ref())

      answer = fn -> NIF.program_resume(run, [twice], nil, make_ref()) end
      results = Task.await_many([Task.async(answer), Task.async(answer)])
      assert Enum.count(results, &match?({:ok, [_]}, &1)) == 1
      assert Enum.count(results, &match?({:error, :invalid, _}, &1)) == 1
    end
  end

  test "that nobody goes on with leave nothing behind" do
    before = settled_bytes()

    in_process(fn ->
      program = Native.compile(cpu(), calling({100_000}))
      reference = make_ref()
      x = s32(Enum.to_list(1..100_000))

      {:call, run, 7, [_]} =
        outcome(NIF.program_run(program, [x], nil, false, reference), reference)

      send(self(), run)
    end)

    assert eventually(fn -> active_bytes() <= before end)
  end

  test "runs in many processes at once" do
    program = Native.compile(cpu(), double())

    1..200
    |> Enum.map(fn i ->
      Task.async(fn -> program |> Native.run([s32([i, 0, 1])]) |> Enum.map(&s32_list/1) end)
    end)
    |> Task.await_many(60_000)
    |> Enum.with_index(1)
    |> Enum.each(fn {result, i} -> assert result == [[2 * i, 0, 2], [2 * i + 2]] end)
  end

  test "takes pending inputs" do
    pending = apply_op(:add, [s32([1, 2, 3]), s32([1, 1, 1])])
    assert run_s32(double(), [pending]) == [[4, 6, 8], [18]]
  end

  test "loops" do
    assert run_s32(factorial(), [s32([5], [])]) == [[120]]
    assert run_s32(factorial(), [s32([0], [])]) == [[1]]
  end

  test "branches" do
    assert run_s32(magnitude(), [s32([-7], [])]) == [[7]]
    assert run_s32(magnitude(), [s32([0], [])]) == [[0]]
    assert run_s32(magnitude(), [s32([9], [])]) == [[9]]
  end

  test "holds tensors" do
    tensor = s32(Enum.to_list(1..1000))
    program = Native.compile(cpu(), {[], [{:tensor, tensor}, {:sum, [0], [], :s32}], [{nil, 1}]})
    Native.deallocate(tensor)
    assert [sum] = Native.run(program, [])
    assert s32_list(sum) == [500_500]
  end

  test "tells its inputs and outputs" do
    program = Native.compile(cpu(), double())

    assert {[{"x", :s32, [3]}], [{"doubled", :s32, [3]}, {"total", :s32, []}], kernels, 2} =
             Native.program_info(program)

    assert kernels > 0
  end

  @tag :tmp_dir
  test "is saved and loaded", %{tmp_dir: directory} do
    for {block, input} <- [
          {double(), s32([1, 2, 3])},
          {factorial(), s32([6], [])},
          {magnitude(), s32([-3], [])}
        ] do
      path = Path.join(directory, "program.safetensors")
      assert Native.save(block, path) == :ok
      program = Native.load(cpu(), path)
      assert program |> Native.run([input]) |> Enum.map(&s32_list/1) == run_s32(block, [input])
    end
  end

  @tag :tmp_dir
  test "files that cannot be used say why", %{tmp_dir: directory} do
    missing = Path.join(directory, "missing.safetensors")
    error = assert_raise EMLX.Error, fn -> Native.load(cpu(), missing) end
    assert error.kind == :io
    assert error.message =~ "No such file"

    broken = Path.join(directory, "broken.safetensors")
    File.write!(broken, "this is not a program")
    assert_raise EMLX.Error, fn -> Native.load(cpu(), broken) end
    assert_raise EMLX.Error, fn -> Native.save(double(), Path.join(directory, "no/such/dir")) end
  end

  test "wrong inputs are refused" do
    program = Native.compile(cpu(), double())

    for inputs <- [[], [s32([1])], [f32([1.0, 2.0, 3.0])], [s32([1, 2, 3]), s32([1])]] do
      assert_raise ArgumentError, fn -> Native.run(program, inputs) end
    end
  end

  test "wrong blocks are refused" do
    for block <- [
          nil,
          {},
          {[], []},
          {[{nil, :s32}], [], []},
          {[{nil, :s33, {}}], [], []},
          {[{nil, :s32, {}}], [{:add, [0, 1], [], :s32}], [{nil, 1}]},
          {[{nil, :s32, {}}], [{:add, [0, -1], [], :s32}], [{nil, 1}]},
          {[{nil, :s32, {}}], [{:add, [0], [], :s32}], [{nil, 1}]},
          {[{nil, :s32, {}}], [{:frobnicate, [0], [], :s32}], [{nil, 1}]},
          {[{nil, :s32, {}}], [], [{nil, 1}]},
          {[{nil, :s32, {}}], [{:tensor, make_ref()}], [{nil, 0}]},
          {[], [:constant], []}
        ] do
      assert {:error, kind, message} = compile(block)
      assert kind in [:invalid, :unsupported, :out_of_bounds]
      assert is_binary(message)
    end
  end

  test "blocks nested too deeply are refused" do
    leaf = {[{nil, :u8, {}}], [], [{nil, 0}]}

    deep =
      Enum.reduce(1..300, leaf, fn _, inner ->
        {[{nil, :u8, {}}], [{:while, leaf, inner, [0]}], [{nil, 1}]}
      end)

    assert {:error, :invalid, message} = compile(deep)
    assert message =~ "nest"
  end

  defp compile(block) do
    reference = make_ref()

    case NIF.program_compile(cpu(), block, reference) do
      :wait ->
        receive do
          {^reference, result} -> result
        end

      result ->
        result
    end
  end
end
