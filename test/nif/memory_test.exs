# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.MemoryTest do
  # Garbage is never the reason for being out of memory. These limit the whole process, and so have
  # VMs of their own.
  use NIFCase, async: true

  @setup """
  cpu = Native.device(:cpu)
  ones = fn n -> Native.apply(:add, nil, [Native.apply(:iota, cpu, [], [shape: {n}], :f32), Native.apply(:constant, cpu, [], [shape: {}, value: 1], :f32)], [], :f32) end
  active = fn -> elem(NIF.memory_info(), 0) end
  """

  defp prints(code) do
    {output, status} = in_vm(@setup <> code)
    assert status == 0, output
    output
  end

  test "results that were dropped are no reason for being out of memory" do
    code = """
    Native.set_memory_limit(Native.device(:cpu), 20_000_000)
    {:ok, failures} = {:ok, for(_ <- 1..200, reduce: 0) do
      n -> try do Native.eval([ones.(2_000_000)]); n rescue EMLX.Error -> n + 1 end
    end}
    IO.puts("failures \#{failures}")
    """

    assert prints(code) == "failures 0\n"
  end

  test "nor are those that other processes have dropped" do
    code = """
    Native.set_memory_limit(Native.device(:cpu), 20_000_000)
    parent = self()
    for _ <- 1..20 do
      spawn(fn -> Native.eval([ones.(2_000_000)]); send(parent, :done); Process.sleep(:infinity) end)
      receive do :done -> :ok end
    end
    IO.puts("all done")
    """

    assert prints(code) == "all done\n"
  end

  test "nor is what small results that nobody has read need" do
    code = """
    Native.set_memory_limit(Native.device(:cpu), 20_000_000)
    sums = for i <- 1..30 do
      x = ones.(2_000_000)
      Native.eval([x])
      Native.apply(:slice, nil, [x], [starts: [i], lengths: [1]], :f32)
    end
    right? = fn {s, i} -> <<x::float-32-native>> = Native.to_binary(s, 4); x == i + 1.0 end
    IO.puts(Enum.all?(Enum.zip(sums, 1..30), right?))
    """

    assert prints(code) == "true\n"
  end

  test "small results that nobody has read keep no large operands" do
    code = """
    sums = for _ <- 1..200 do
      x = ones.(2_500_000)
      Native.eval([x])
      sum = Native.apply(:sum, nil, [x], [], :f32)
      Native.deallocate(x)
      sum
    end
    Enum.reduce_while(1..500, 0, fn _, _ ->
      if active.() < 300_000_000, do: {:halt, 0}, else: {:cont, Process.sleep(10)}
    end)
    IO.puts("\#{length(sums)} sums, below 300 MB: \#{active.() < 300_000_000}")
    """

    assert prints(code) == "200 sums, below 300 MB: true\n"
  end

  test "what does not fit is still an error" do
    code = """
    Native.set_memory_limit(Native.device(:cpu), 20_000_000)
    try do Native.eval([ones.(6_000_000)]) rescue e in EMLX.Error -> IO.inspect(e.kind) end
    Native.eval([ones.(1000)])
    """

    assert prints(code) == ":out_of_memory\n"
  end
end
