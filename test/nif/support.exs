# SPDX-License-Identifier: Apache-2.0
# Helpers for the tests of the native functions. They need neither Nx nor Mix.
defmodule NIFCase do
  use ExUnit.CaseTemplate

  alias EMLX.{Native, NIF}

  using do
    quote do
      import NIFCase
      alias EMLX.{Native, NIF}
    end
  end

  def cpu, do: Native.device(:cpu)

  def f32(values, dims \\ nil) do
    binary = for x <- values, into: <<>>, do: <<x::float-32-native>>
    Native.from_binary(cpu(), :f32, dims || [length(values)], binary)
  end

  def s32(values, dims \\ nil) do
    binary = for x <- values, into: <<>>, do: <<x::signed-32-native>>
    Native.from_binary(cpu(), :s32, dims || [length(values)], binary)
  end

  def f32_list(tensor) do
    for <<x::float-32-native <- Native.to_binary(tensor, 1_000_000_000)>>, do: x
  end

  def s32_list(tensor) do
    for <<x::signed-32-native <- Native.to_binary(tensor, 1_000_000_000)>>, do: x
  end

  def apply_op(op, operands, attributes \\ [], type \\ nil),
    do: Native.apply(op, if(operands == [], do: cpu()), operands, attributes, type)

  def active_bytes, do: elem(NIF.memory_info(), 0)

  @doc "Bytes in use once what earlier tests left behind is gone."
  def settled_bytes(last \\ nil) do
    :erlang.garbage_collect()

    case active_bytes() do
      ^last ->
        last

      bytes ->
        Process.sleep(100)
        settled_bytes(bytes)
    end
  end

  @doc "Whether a condition becomes true within five seconds."
  def eventually(fun, tries \\ 500) do
    cond do
      fun.() ->
        true

      tries == 0 ->
        false

      true ->
        Process.sleep(10)
        eventually(fun, tries - 1)
    end
  end

  @doc """
  Runs code in a VM of its own, which is given flags; returns what it prints and its exit status.
  """
  def in_vm(code, flags \\ "", options \\ []) do
    ebin = Path.dirname(:code.which(NIF))

    System.cmd(
      "elixir",
      ["--erl", flags, "-pa", ebin, "-e", "alias EMLX.{Native, NIF}; " <> code],
      [stderr_to_stdout: true] ++ options
    )
  end

  @doc "Runs a function in a process of its own and waits for its end, so that its garbage goes."
  def in_process(fun) do
    {pid, monitor} = spawn_monitor(fun)

    receive do
      {:DOWN, ^monitor, :process, ^pid, reason} -> reason
    end
  end
end
