# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.ProcessTest do
  use NIFCase, async: false

  @size 256 * 1024

  # A computation that takes a while: dependent products of square matrices.
  defp slow(n \\ 20) do
    side = 256
    matrix = apply_op(:constant, [], [shape: {side, side}, value: 0.001], :f32)
    axes = [contract_left: [1], batch_left: [], contract_right: [0], batch_right: []]
    Enum.reduce(1..n, matrix, fn _, t -> apply_op(:dot, [t, matrix], axes) end)
  end

  test "memory of dead handles is given back" do
    before = settled_bytes()

    in_process(fn ->
      for _ <- 1..10 do
        t = apply_op(:iota, [], [shape: {@size}], :f32)
        Native.eval([apply_op(:add, [t, t])])
      end
    end)

    assert eventually(fn -> active_bytes() <= before end)
  end

  test "a binary keeps what it aliases, and nothing more" do
    before = settled_bytes()
    test = self()

    in_process(fn ->
      t = apply_op(:iota, [], [shape: {@size}], :f32)
      send(test, {:binary, Native.to_binary(t, @size * 4)})
    end)

    assert_receive {:binary, binary}
    assert eventually(fn -> active_bytes() <= before + @size * 4 + 4096 end)
    assert <<_::32, 1.0::float-32-native, _::binary>> = binary
    send(self(), byte_size(binary))
    assert active_bytes() >= before + @size * 4
  end

  test "a tensor keeps the binary it was made of" do
    tensor =
      Task.await(
        Task.async(fn ->
          bytes = :binary.copy(<<7>>, @size)
          Native.from_binary(cpu(), :u8, [@size], bytes)
        end)
      )

    for _ <- 1..20, do: :binary.copy(<<1>>, @size)
    :erlang.garbage_collect()
    assert Native.to_binary(tensor, @size) == :binary.copy(<<7>>, @size)
  end

  test "many processes at once" do
    shared = s32(Enum.to_list(1..1000))

    results =
      1..1000
      |> Enum.map(fn i ->
        Task.async(fn ->
          own = apply_op(:constant, [], [shape: {1000}, value: i], :s32)
          sum = apply_op(:sum, [apply_op(:multiply, [shared, own])])
          hd(s32_list(sum))
        end)
      end)
      |> Task.await_many(60_000)

    assert results == Enum.map(1..1000, &(&1 * 500_500))
  end

  test "processes that die while they wait leave nothing behind" do
    before = settled_bytes()

    pids =
      for _ <- 1..50 do
        pid = spawn(fn -> Native.eval([slow()]) end)
        Process.sleep(1)
        pid
      end

    for pid <- pids, do: Process.exit(pid, :kill)
    assert s32_list(apply_op(:add, [s32([1]), s32([2])])) == [3]
    assert eventually(fn -> active_bytes() <= before end, 3000)
  end

  test "schedulers are free while something is computed" do
    # Short enough for its plans, which stay, not to count as data.
    before = settled_bytes()
    task = Task.async(fn -> Native.eval([slow()]) end)
    schedulers = System.schedulers_online()

    pids = for _ <- 1..(2 * schedulers), do: spawn(fn -> Native.eval([slow()]) end)
    # With a scheduler held by each, this process would run again only when all are done.
    Process.sleep(1)
    assert Enum.any?(pids, &Process.alive?/1)
    assert Task.await(task, 60_000) == :ok
    for pid <- pids, do: Process.exit(pid, :kill)
    # The next test should not be charged for what they wanted.
    assert eventually(fn -> active_bytes() <= before end, 3000)
  end

  test "one process may deallocate what others read" do
    for _ <- 1..200 do
      tensor = f32([1.0, 2.0, 3.0])

      readers =
        for _ <- 1..4 do
          Task.async(fn ->
            try do
              f32_list(apply_op(:negate, [tensor]))
            rescue
              ArgumentError -> [-1.0, -2.0, -3.0]
            end
          end)
        end

      Native.deallocate(tensor)
      assert Enum.uniq(Task.await_many(readers)) == [[-1.0, -2.0, -3.0]]
    end
  end

  test "a process with much else on its heap does not pile up dead tensors" do
    before = settled_bytes()
    NIF.memory_reset_peak()
    size = 1024 * 1024

    in_process(fn ->
      heap = Enum.to_list(1..1_000_000)
      one = s32([1])

      Enum.reduce(1..500, apply_op(:iota, [], [shape: {size}], :s32), fn _, t ->
        t = apply_op(:add, [t, one])
        Native.eval([t])
        t
      end)

      send(self(), length(heap))
    end)

    assert elem(NIF.memory_info(), 1) < before + 375 * 4 * size
  end

  test "a limit on memory is an error of the one who passes it" do
    previous = Native.set_memory_limit(Native.device(:cpu), active_bytes() + 64 * 1024 * 1024)

    try do
      big = apply_op(:iota, [], [shape: {256 * 1024 * 1024}], :f32)
      error = assert_raise EMLX.Error, fn -> Native.eval([big]) end
      assert error.kind == :out_of_memory
      assert s32_list(apply_op(:add, [s32([1]), s32([2])])) == [3]
    after
      Native.set_memory_limit(Native.device(:cpu), previous)
    end
  end
end
