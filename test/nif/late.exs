# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.LateTest do
  # Run by late.sh: each piece of work of the device takes 300 ms.
  use NIFCase, async: false

  # What keeps a scheduler for so long has waited for the device. Others that compute on this
  # machine may keep one for some tens of milliseconds.
  @too_long 180

  defp late, do: Native.device(:late)

  defp s64(values, dims) do
    binary = for x <- values, into: <<>>, do: <<x::signed-64-native>>
    Native.from_binary(late(), :s64, dims, binary)
  end

  defp values(tensor), do: for(<<x::signed-64-native <- Native.to_binary(tensor, 1_000)>>, do: x)
  defp twice(tensor), do: apply_op(:add, [tensor, tensor])
  defp constant(value), do: {:constant, [], [shape: {}, value: value], :s64}

  # Takes element 100 of three, which only the device finds out.
  defp failing, do: apply_op(:take, [s64([1, 2, 3], {3}), twice(s64([50], {1}))], axis: 0)

  # Adds 1 for ever to what is not negative.
  defp endless do
    state = [{nil, :s64, {}}]
    condition = {state, [constant(0), {:greater_equal, [0, 1], [], :u8}], [{nil, 2}]}
    body = {state, [constant(1), {:add, [0, 1], [], :s64}], [{nil, 2}]}
    {state, [{:while, condition, body, [0]}], [{nil, 1}]}
  end

  # How many plans the device has run.
  defp plans_done do
    {:ok, {"late:0", text}} = NIF.device_describe(late())
    [_, count] = Regex.run(~r/(\d+) plans done/, text)
    String.to_integer(count)
  end

  ## Schedulers

  # Whatever `fun` does on a scheduler for longer than the limit: where the process was.
  defp held(fun) do
    test = self()

    watcher =
      spawn_link(fn ->
        :erlang.system_monitor(self(), long_schedule: @too_long)
        send(test, :watching)
        watch([])
      end)

    assert_receive :watching
    fun.()
    # The VM reports a process when it leaves its scheduler.
    Process.sleep(100)
    send(watcher, {:seen, self()})
    assert_receive {:held, list}
    list
  end

  defp watch(seen) do
    receive do
      {:monitor, _pid, :long_schedule, info} -> watch([info | seen])
      {:seen, from} -> send(from, {:held, seen})
    end
  end

  # Comparing is one step for the VM, and here one of 2^depth pairs.
  defp pairs(depth), do: Enum.reduce(1..depth, [1], fn _, pair -> [pair | pair] end)

  test "the watchdog barks" do
    assert [_ | _] = held(fn -> true = pairs(28) == pairs(28) end)
  end

  # An answer is a message, if there is one.
  defp await({:wait, reference}) do
    receive do
      {^reference, result} -> result
    end
  end

  defp await({result, _reference}), do: result

  defp start(call) do
    reference = make_ref()
    {call.(reference), reference}
  end

  test "no call waits for the device" do
    before = plans_done()

    seen =
      held(fn ->
        x = s64([1, 2, 3], {3})
        y = twice(x)
        {:wait, _} = computing = start(&NIF.eval([y], nil, false, &1))
        Process.sleep(100)

        # From here on y is promised, or being computed.
        {:ok, {:s64, [3], false, _}} = NIF.tensor_info(y)
        {:pending, _} = start(&NIF.to_binary(y, 24, &1))
        z = apply_op(:take, [twice(y), s64([1], {})], axis: 0)
        view = apply_op(:slice, [y], starts: [1], lengths: [2], strides: [1])
        more = for t <- [z, view, y], do: start(&NIF.eval([t], nil, false, &1))

        block = {[{"x", :s64, {3}}], [{:tensor, z}, {:add, [0, 1], [], :s64}], [{"y", 2}]}
        compiled = start(&NIF.program_compile(late(), block, &1))
        {:ok, queue} = NIF.queue_new(late())
        queued = start(&NIF.eval([twice(z)], queue, false, &1))
        synced = start(&NIF.queue_sync(queue, &1))
        {:ok, program} = await(compiled)
        run = start(&NIF.program_run(program, [twice(view_of(y))], nil, false, &1))

        dropped = twice(y)
        {:wait, _} = start(&NIF.eval([dropped], nil, false, &1))
        _ = NIF.deallocate(dropped)
        _ = {NIF.memory_info(), NIF.memory_clear_cache(), NIF.handovers(late())}
        :erlang.garbage_collect()

        for started <- [computing, queued, synced | more], do: :ok = await(started)
        {:ok, [result]} = await(run)
        assert values(result) == [12, 16, 20]
        assert values(view) == [4, 6]
      end)

    assert seen == []
    # It was late indeed.
    assert plans_done() - before >= 6
  end

  defp view_of(t), do: apply_op(:reshape, [t], shape: {3})

  ## Errors

  test "an error reaches those whose work failed, and nobody else" do
    shared = twice(s64([1, 2, 3], {3}))
    wrong = failing()

    results =
      for i <- 1..6 do
        Task.async(fn ->
          work =
            case rem(i, 3) do
              0 -> apply_op(:add, [shared, s64([i], {1})])
              1 -> apply_op(:add, [shared, failing()])
              2 -> apply_op(:add, [shared, wrong])
            end

          outcome =
            try do
              values(work)
            rescue
              error -> {:failed, Exception.message(error)}
            end

          # What comes next has nothing to do with it.
          {rem(i, 3), outcome, values(twice(s64([i], {1}))) == [2 * i], i}
        end)
      end
      |> Task.await_many(60_000)

    for {kind, outcome, next?, i} <- results do
      assert next?

      if kind == 0 do
        assert outcome == [2 + i, 4 + i, 6 + i]
      else
        assert {:failed, "take: index 100 is out of bounds" <> _} = outcome
      end
    end

    assert values(shared) == [2, 4, 6]
  end

  ## Killed processes

  test "what a killed process has begun is dropped" do
    program = Native.compile(late(), endless())
    queue = Native.queue_new(late())

    pids =
      for queue <- [nil, nil, queue] do
        spawn(fn ->
          NIF.program_run(program, [s64([1], {})], queue, false, make_ref()) |> wait()
        end)
      end

    before = plans_done()
    assert eventually(fn -> plans_done() >= before + 4 end)
    for pid <- pids, do: Process.exit(pid, :kill)

    # The queue goes on, and what had been begun ends; then the device has nothing to do.
    assert Native.queue_sync(queue) == :ok
    Process.sleep(2_000)
    rest = plans_done()
    Process.sleep(1_500)
    assert plans_done() == rest
    assert values(twice(s64([4], {1}))) == [8]
  end

  defp wait(:wait), do: Process.sleep(:infinity)
end
