# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.StackTest do
  # What callers give is never followed so far that a scheduler's stack could end: here the stacks
  # are the smallest that the VM allows.
  use NIFCase, async: true

  @smallest "+sss 20 +sssdcpu 20 +sssdio 20"

  # Functions that fold with functions that fold, so many deep.
  @nested """
  nest = fn depth ->
    Enum.reduce(1..depth//1, {[{nil, :s32, {}}, {nil, :s32, {}}], [{:add, [0, 1], [], :s32}], [{nil, 2}]},
      fn _, inner ->
        {[{nil, :s32, {}}, {nil, :s32, {}}],
         [{:reshape, [0], [shape: {1}], nil}, {:reduce, [2, 1], [function: inner], :s32}],
         [{nil, 3}]}
      end)
  end

  cpu = Native.device(:cpu)
  s32 = fn values, shape ->
    Native.from_binary(cpu, :s32, shape, for(x <- values, into: <<>>, do: <<x::signed-32-native>>))
  end
  fold = fn block -> NIF.apply(:reduce, nil, [s32.([1, 2, 3], {3}), s32.([10], {})], [function: block], :s32) end
  value = fn {:ok, t} -> <<x::signed-32-native>> = Native.to_binary(t, 4); x end
  """

  defp prints(code) do
    {output, status} = in_vm(@nested <> code, @smallest)
    assert status == 0, output
    output
  end

  test "functions nested too deep are refused" do
    code = "for depth <- [64, 65, 160, 199, 1000, 100_000], do: IO.inspect(fold.(nest.(depth)))"
    lines = String.split(prints(code), "\n", trim: true)
    assert length(lines) == 6
    for line <- lines, do: assert(line =~ ~r/{:error, :invalid.*64/, line)
  end

  test "functions nested as deep as allowed compute" do
    assert prints("IO.inspect(value.(fold.(nest.(62))))") == "16\n"
  end

  test "functions of long chains compute" do
    lengths = [255, 256, 257, 20_000]

    code = """
    for length <- #{inspect(lengths)} do
      steps = for i <- 2..length//1, do: {:add, [i, 1], [], :s32}
      one = {[{nil, :s32, {}}, {nil, :s32, {}}], [{:add, [0, 1], [], :s32} | steps], [{nil, length + 1}]}
      IO.inspect(value.(fold.(one)))
    end
    """

    # Every step adds the second argument, which is the value so far, once more.
    expected =
      for length <- lengths,
          do: Enum.reduce([1, 2, 3], 10, fn x, sum -> wrap(x + sum * length) end)

    assert prints(code) == Enum.map_join(expected, &"#{&1}\n")
  end

  defp wrap(x), do: (<<y::signed-32>> = <<x::32>>) && y

  test "control flow nested too deep is refused, at the depth allowed it runs" do
    code = """
    nest = fn depth ->
      leaf = {[{"0", :s32, {}}], [{:add, [0, 0], [], :s32}], [{"0", 1}]}
      no = {[{"0", :s32, {}}], [{:equal, [0, 0], [], :u8}], [{"0", 1}]}
      Enum.reduce(1..depth//1, leaf, fn _, inner ->
        {[{"0", :s32, {}}], [{:cond, [no], [inner, leaf], [0]}], [{"0", 1}]}
      end)
    end
    for depth <- [63, 64, 199, 100_000] do
      ref = make_ref()
      case NIF.program_compile(cpu, nest.(depth), ref) do
        :wait -> receive do {^ref, {:ok, program}} -> [t] = Native.run(program, [s32.([4], {})]); IO.inspect(value.({:ok, t}))
                            {^ref, error} -> IO.inspect(error) end
        error -> IO.inspect(error)
      end
    end
    """

    assert ["8", refused | others] = String.split(prints(code), "\n", trim: true)
    for line <- [refused | others], do: assert(line =~ "{:error, :invalid", line)
  end
end
