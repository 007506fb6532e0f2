# SPDX-License-Identifier: Apache-2.0
# What calls from Elixir cost: an eager op, and a compiled function that is in the cache.
# Run by `make bench` where Nx is installed, as: mix run bench/calls.exs
defmodule Calls do
  @calls 20_000

  def median(name, fun) do
    times = for _ <- 1..9, do: time(fun)
    microseconds = Enum.at(Enum.sort(times), 4)
    IO.puts("#{String.pad_trailing(name, 44)} #{Float.round(microseconds, 2)} us")
  end

  defp time(fun) do
    {microseconds, _} = :timer.tc(fn -> repeat(fun, @calls) end)
    microseconds / @calls
  end

  defp repeat(_, 0), do: :ok

  defp repeat(fun, n) do
    fun.()
    repeat(fun, n - 1)
  end
end

Nx.default_backend({EMLX.Backend, device: :cpu})
a = Nx.tensor([1.0, 2.0, 3.0, 4.0])
b = Nx.tensor([4.0, 3.0, 2.0, 1.0])
function = fn a, b -> Nx.tanh(Nx.add(Nx.multiply(a, b), a)) end
jitted = Nx.Defn.jit(function, compiler: EMLX)
compiled = Nx.Defn.compile(function, [a, b], compiler: EMLX)

native = EMLX.Native.device(:cpu)
refs = [EMLX.Backend.from_nx(a), EMLX.Backend.from_nx(b)] |> Enum.map(&elem(&1, 1))

Calls.median("the native call that appends an add", fn ->
  EMLX.NIF.apply(:add, native, refs, [], :f32)
end)

Calls.median("Nx.add/2 of 4 elements, appended", fn -> Nx.add(a, b) end)
Calls.median("the same, and read", fn -> Nx.to_binary(Nx.add(a, b)) end)
Calls.median("a jitted function of three ops", fn -> jitted.(a, b) end)
Calls.median("the same, compiled by Nx.Defn.compile/3", fn -> compiled.(a, b) end)
