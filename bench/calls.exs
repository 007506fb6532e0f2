# SPDX-License-Identifier: Apache-2.0
# What calls from Elixir cost: an eager op, a compiled function that is in the cache, a function
# that is not, a turn of a loop, and calls beside long computations of other processes.
# Run by `make bench` where Nx is installed, as: mix run bench/calls.exs
defmodule Calls do
  import Nx.Defn

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

  defn turns(x, n) do
    {x, _, _} =
      while {x, i = 0, n}, i < n do
        {x * 0.999 + 1, i + 1, n}
      end

    x
  end

  # A long computation in another process; it ends with that process.
  def start_long do
    spawn(fn ->
      x = Nx.iota({100_000}, type: :f32, backend: EMLX.Backend)
      Nx.Defn.jit_apply(&turns/2, [x, 2_000_000_000], compiler: EMLX)
    end)
  end

  # Each call is timed by itself: the few slow ones are the question.
  def beside(count, fun) do
    pids = for _ <- 1..count//1, do: start_long()
    Process.sleep(100)
    times = Enum.sort(for _ <- 1..1000, do: elem(:timer.tc(fun), 0))
    for pid <- pids, do: Process.exit(pid, :kill)
    name = "a jitted function beside #{count} long ones"
    [median, most, last] = Enum.map([499, 989, 999], &Enum.at(times, &1))

    IO.puts(
      "#{String.pad_trailing(name, 44)} #{median} us, 99 of 100 within #{most}, all within #{last}"
    )
  end

  # Of an expression of about a thousand nodes that is not in the cache.
  def ready(expr) do
    [flatten, compile] =
      for _ <- 1..9 do
        {flatten, {block, _, _}} = :timer.tc(fn -> EMLX.Expr.flatten(expr, device: :cpu) end)
        {compile, _} = :timer.tc(fn -> EMLX.Native.compile(EMLX.Native.device(:cpu), block) end)
        {flatten, compile}
      end
      |> Enum.unzip()
      |> Tuple.to_list()
      |> Enum.map(&Enum.at(Enum.sort(&1), 4))

    nodes = map_size(Nx.Defn.Tree.scope_ids(expr))
    name = "#{nodes} nodes, traced, to a program"

    IO.puts(
      "#{String.pad_trailing(name, 44)} #{flatten + compile} us " <>
        "(#{flatten} in Elixir, #{compile} native)"
    )
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

layers = fn x ->
  Enum.reduce(1..72, x, fn _, x ->
    deviation = Nx.sqrt(Nx.add(Nx.variance(x), 1.0e-5))
    x |> Nx.subtract(Nx.mean(x)) |> Nx.divide(deviation) |> Nx.tanh() |> Nx.add(x)
  end)
end

Calls.ready(Nx.Defn.debug_expr(layers).(a))

turns = 10_000
loop = fn -> Nx.to_binary(Nx.Defn.jit_apply(&Calls.turns/2, [a, turns], compiler: EMLX)) end
loop.()
times = for _ <- 1..9, do: elem(:timer.tc(loop), 0) / turns

IO.puts(
  "#{String.pad_trailing("a turn of a loop", 44)} #{Float.round(Enum.at(Enum.sort(times), 4), 2)} us"
)

for count <- [0, 1, 4, 16], do: Calls.beside(count, fn -> jitted.(a, b) end)
