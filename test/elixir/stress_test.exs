# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.StressTest do
  # A thousand processes for STRESS_SECONDS (5 unless set), each doing random pieces of work with
  # a known result, and pausing between them as clients do: eager operations, compiled functions,
  # hooks, a serving, products that keep all cores busy. Others are killed in the middle. In the end
  # every result was right, no process is stuck, and memory is what it was.
  use EMLX.Case, async: false

  @processes 1000
  # The longest pause, in milliseconds: two cores are then busy most of the time.
  @pause String.to_integer(System.get_env("STRESS_PAUSE", "400"))
  @seconds String.to_integer(System.get_env("STRESS_SECONDS", "5"))

  @tag timeout: (@seconds + 120) * 1000
  test "a thousand processes" do
    start_supervised!(
      {Nx.Serving,
       serving: Nx.Serving.jit(&Nx.multiply(&1, 3), compiler: EMLX),
       name: __MODULE__,
       batch_size: 16,
       batch_timeout: 5}
    )

    warm_up()
    before = settled_memory()
    # One waits its turn among the thousand; the other, of high priority, is late only when a
    # scheduler is held, by a native call or by the threads that compute.
    tickers = for priority <- [:normal, :high], do: {priority, start_ticker(priority)}
    until = System.monotonic_time(:millisecond) + @seconds * 1000

    workers = for seed <- 1..@processes, do: spawn_monitor(fn -> work(seed, until, 0) end)
    killers = workers |> Enum.take_every(5) |> Enum.map(fn {pid, _} -> kill_later(pid) end)
    outcomes = Enum.map(workers, &outcome(&1, until + 60_000))
    Enum.each(killers, &Task.await(&1, 60_000))

    Enum.each(tickers, fn {_, ticker} -> send(ticker.pid, :stop) end)
    report(outcomes, for({priority, ticker} <- tickers, do: {priority, Task.await(ticker)}))

    wrong = Enum.reject(outcomes, &(match?({:done, _}, &1) or &1 == :killed))
    assert wrong == []
    # All that were not killed came to their end, after some work.
    assert Enum.count(outcomes, &match?({:done, count} when count > 0, &1)) >= @processes * 0.75
    # Those that were killed may have work under way.
    assert eventually(fn -> settled_memory() - before < 2_000_000 end, 30)
  end

  defp outcome({pid, monitor}, until) do
    receive do
      {:DOWN, ^monitor, _, _, {:shutdown, {:done, count}}} -> {:done, count}
      {:DOWN, ^monitor, _, _, :killed} -> :killed
      {:DOWN, ^monitor, _, _, reason} -> {:failed, reason}
    after
      max(until - System.monotonic_time(:millisecond), 0) ->
        {:stuck, Process.info(pid, [:current_stacktrace, :message_queue_len])}
    end
  end

  defp kill_later(pid) do
    Task.async(fn ->
      Process.sleep(:rand.uniform(@seconds * 1000))
      Process.exit(pid, :kill)
    end)
  end

  ## Work

  defp work(seed, until, count) do
    if count == 0 do
      :rand.seed(:exsss, {seed, 1, 2})
      Nx.default_backend(EMLX.Backend)
    end

    if System.monotonic_time(:millisecond) >= until do
      exit({:shutdown, {:done, count}})
    else
      n = :rand.uniform(50)
      Process.sleep(:rand.uniform(@pause + 1) - 1)
      piece(:rand.uniform(8), n)
      work(seed, until, count + 1)
    end
  end

  # Sums of 0..n-1 and the like: exact, and cheap to know.
  defp piece(1, n) do
    t = Nx.iota({n}, type: :s64)
    equal!(t |> Nx.add(1) |> Nx.multiply(2) |> Nx.sum() |> Nx.to_number(), n * (n + 1))
  end

  defp piece(2, n) do
    t = Enum.reduce(1..300, Nx.tensor(0, type: :s64), fn i, t -> Nx.add(t, i * n) end)
    equal!(Nx.to_number(t), n * 45_150)
  end

  defp piece(3, n) do
    # Few shapes, so that the cache of programs is used as well as filled.
    size = rem(n, 4) + 1
    fun = fn x, y -> Nx.sum(Nx.add(Nx.multiply(x, 2), y)) end
    t = Nx.broadcast(Nx.tensor(n), {size})
    equal!(Nx.to_number(Nx.Defn.jit_apply(fun, [t, 1], compiler: EMLX)), size * (2 * n + 1))
  end

  defp piece(4, n) do
    values = Nx.tensor([n, -n])
    result = Nx.Serving.batched_run(__MODULE__, Nx.Batch.stack([values]))
    equal!(Nx.to_list(result), [[3 * n, -3 * n]])
  end

  defp piece(5, n) do
    a = Nx.broadcast(Nx.tensor(1.0), {n, 64})
    equal!(Nx.to_number(Nx.sum(Nx.dot(a, Nx.transpose(a)))), 64.0 * n * n)
    :erlang.garbage_collect()
  end

  defp piece(6, n) do
    t = Nx.iota({n * 1000}, type: :s32)
    # Not read: garbage that is pending.
    _ = Nx.sum(Nx.multiply(t, 2))
    if rem(n, 2) == 0, do: Nx.backend_deallocate(t)
    Process.sleep(rem(n, 3))
  end

  defp piece(7, n) do
    me = self()
    fun = fn x -> Nx.Defn.Kernel.hook(Nx.add(x, 1), :sum, &send(me, {:hooked, &1})) end
    hooks = %{sum: &send(me, {:hooked, Nx.to_number(&1)})}
    result = Nx.Defn.jit_apply(fun, [n], compiler: EMLX, hooks: hooks)
    equal!(Nx.to_number(result), n + 1)

    receive do
      {:hooked, value} -> equal!(value, n + 1)
    after
      30_000 -> exit({:wrong, :no_hook, n})
    end
  end

  defp piece(8, n) do
    # Several milliseconds on every core; one process in eight of those that come here.
    size = if rem(n, 8) == 0, do: 512, else: 32
    a = Nx.broadcast(Nx.tensor(1.0), {size, size})
    equal!(Nx.to_number(Nx.sum(Nx.dot(a, a))), size * size * size * 1.0)
  end

  defp equal!(left, right) do
    if left != right, do: exit({:wrong, left, right})
  end

  defp warm_up, do: for(i <- 1..8, n <- 1..8, do: piece(i, n))

  defp settled_memory do
    Process.sleep(200)
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    Process.sleep(100)
    EMLX.memory_info().active_memory
  end

  ## How late a process is that wants to run every millisecond

  defp start_ticker(priority) do
    Task.async(fn ->
      Process.flag(:priority, priority)
      tick(System.monotonic_time(:microsecond), [], 0)
    end)
  end

  defp tick(last, late, count) do
    receive do
      :stop -> Enum.sort(late)
    after
      1 ->
        now = System.monotonic_time(:microsecond)
        # One in ten is enough, and does not grow large in ten minutes.
        late = if rem(count, 10) == 0, do: [max(now - last - 1000, 0) | late], else: late
        tick(now, late, count + 1)
    end
  end

  defp report(outcomes, tickers) do
    pieces = for {:done, count} <- outcomes, reduce: 0, do: (sum -> sum + count)
    killed = Enum.count(outcomes, &(&1 == :killed))
    IO.puts("\nstress: #{pieces} pieces of work in #{@seconds} s, #{killed} processes killed")

    for {priority, late} <- tickers do
      at = fn part -> Float.round(Enum.at(late, trunc(part * (length(late) - 1))) / 1000, 1) end

      IO.puts(
        "stress: a 1 ms ticker of #{priority} priority was late by #{at.(0.5)} ms (median), " <>
          "#{at.(0.99)} ms (99 %), #{at.(1.0)} ms (worst)"
      )
    end
  end
end
