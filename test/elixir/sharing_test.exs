# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.SharingTest do
  # Many processes on one machine: who dies, who waits for whom, ordered queues.
  use EMLX.Case, async: false

  import Nx.Defn

  alias EMLX.CommandQueue

  defn endless(x) do
    {_, y} =
      while {i = 0, y = x}, i < 1 do
        {i, y + 1}
      end

    y
  end

  defn(told(x), do: hook(x * 2, :told))

  # Has run for a moment when this returns, and never ends by itself.
  defp start_endless do
    test = self()

    pid =
      spawn(fn ->
        send(test, {:started, self()})
        Nx.Defn.jit_apply(&endless/1, [Nx.iota({250_000}, backend: EMLX.Backend)], compiler: EMLX)
      end)

    on_exit(fn -> Process.exit(pid, :kill) end)
    assert_receive {:started, ^pid}
    Process.sleep(20)
    pid
  end

  defp stop(pids), do: for(pid <- pids, do: Process.exit(pid, :kill))

  test "what a killed process waited for is not computed any further" do
    before = settled()
    pids = for _ <- 1..20, do: start_endless()
    assert active() > before
    stop(pids)
    assert eventually(fn -> active() <= before end)
  end

  test "a process killed in a hook leaves nothing behind" do
    before = settled()
    test = self()

    pids =
      for _ <- 1..20 do
        spawn(fn ->
          wait = fn t ->
            send(test, {:in_hook, Nx.size(t)})
            Process.sleep(:infinity)
          end

          x = Nx.iota({100_000}, backend: EMLX.Backend)
          Nx.Defn.jit_apply(&told/1, [x], compiler: EMLX, hooks: %{told: wait})
        end)
      end

    for _ <- pids, do: assert_receive({:in_hook, 100_000}, 5000)
    assert active() >= before + 20 * 400_000
    stop(pids)
    assert eventually(fn -> active() <= before end)
  end

  test "long computations hold no short ones up" do
    pids = for _ <- 1..16, do: start_endless()

    tasks =
      for i <- 1..100 do
        Task.async(fn ->
          # The first two are done within the call, the others are queued.
          t = Nx.tensor([i, 1], backend: EMLX.Backend)
          large = Nx.broadcast(t, {10_000, 2})
          twice = &Nx.sum(Nx.multiply(&1, 2), axes: [0])
          jitted = for x <- [t, large], do: Nx.Defn.jit_apply(twice, [x], compiler: EMLX)

          {Enum.map(jitted, &Nx.to_flat_list/1), Nx.to_list(Nx.add(t, 1)),
           Nx.to_number(Nx.sum(large))}
        end)
      end

    assert Task.await_many(tasks, 60_000) ==
             for(
               i <- 1..100,
               do: {[[2 * (i + 1)], [20_000 * i, 20_000]], [i + 1, 2], 10_000 * (i + 1)}
             )

    assert Enum.all?(pids, &Process.alive?/1)
    stop(pids)
  end

  describe "a command queue" do
    test "does work in its order" do
      queue = CommandQueue.new!(:cpu)
      test = self()

      # Each is queued before the next starts, and shorter than it.
      for i <- 1..20 do
        pid =
          spawn_link(fn ->
            CommandQueue.with_queue(queue, fn ->
              t = Nx.iota({(21 - i) * 20_000}, type: :f32, backend: EMLX.Backend)
              send(test, {:queued, self()})
              EMLX.eval(Nx.sum(Nx.sin(t)))
              send(test, {:done, i})
            end)
          end)

        assert_receive {:queued, ^pid}
      end

      assert CommandQueue.synchronize(queue) == :ok
    end

    test "is waited for" do
      queue = CommandQueue.new!(EMLX.default_device())
      t = Nx.iota({2_000_000}, type: :f32)
      sum = Nx.sum(Nx.sin(t))
      {_device, ref} = EMLX.Backend.from_nx(sum)
      assert EMLX.NIF.eval([ref], queue.ref, false, make_ref()) == :wait
      CommandQueue.synchronize(queue)
      assert {:ok, {:f32, [], true, _depth}} = EMLX.NIF.tensor_info(ref)
    end

    test "is an option of the compiler" do
      queue = CommandQueue.new!(EMLX.default_device())
      args = [Nx.tensor(1), Nx.tensor(2)]
      assert Nx.to_number(Nx.Defn.jit_apply(&Nx.add/2, args, command_queue: queue)) == 3

      assert_raise ArgumentError, ~r/must be an EMLX.CommandQueue/, fn ->
        Nx.Defn.jit_apply(&Nx.add/2, args, command_queue: :none)
      end

      assert_raise ArgumentError,
                   ~r/runs on :"?[\w:-]+"?, but its :command_queue is for :gpu/,
                   fn ->
                     Nx.Defn.jit_apply(&Nx.add/2, args, command_queue: %{queue | device: :gpu})
                   end
    end

    test "is in use only within its function" do
      queue = CommandQueue.new!(:cpu)
      other = CommandQueue.new!(:cpu)
      current = fn -> Process.get(:emlx_command_queue) end

      CommandQueue.with_queue(queue, fn ->
        CommandQueue.with_queue(other, fn -> assert current.() == {other.ref, :cpu} end)
        assert current.() == {queue.ref, :cpu}
        assert catch_throw(CommandQueue.with_queue(other, fn -> throw(:out) end)) == :out
        assert current.() == {queue.ref, :cpu}
      end)

      assert current.() == nil
    end

    test "needs a device" do
      assert {:error, %ArgumentError{}} = CommandQueue.new({:gpu, 99})
      assert {:error, %EMLX.Error{kind: :unsupported}} = CommandQueue.new(:abacus)
      assert_raise ArgumentError, fn -> CommandQueue.new!({:gpu, 99}) end
      assert {:ok, %CommandQueue{device: :cpu}} = CommandQueue.new(:cpu)
    end
  end

  describe "shards" do
    test "are computed each by itself" do
      mesh = %Nx.Mesh{name: "mesh", shape: {2, 2}}
      fun = Nx.Defn.shard_jit(fn a, b -> {Nx.add(a, b), Nx.sum(a)} end, mesh, compiler: EMLX)
      shards = for i <- 1..4, do: [Nx.tensor([i, i + 1]), Nx.tensor(10 * i)]

      for {{sums, total}, i} <- Enum.with_index(fun.(shards), 1) do
        assert Nx.to_list(sums) == [11 * i, 11 * i + 1]
        assert Nx.to_number(total) == 2 * i + 1
      end

      assert_raise ArgumentError, ~r/needs arguments for 4 shards, got: 3/, fn ->
        fun.(tl(shards))
      end

      assert_raise ArgumentError, ~r/the first, which has 2 tensors; shard 2 has 1/, fn ->
        fun.(List.update_at(shards, 2, &tl/1))
      end
    end

    test "must have the shapes of the first, and a wrong one leaves no messages behind" do
      mesh = %Nx.Mesh{name: "mesh", shape: {3}}
      fun = Nx.Defn.shard_jit(&Nx.sort(Nx.multiply(&1, 2)), mesh, compiler: EMLX)
      large = Nx.iota({300_000})

      for wrong <- [Nx.iota({3}), Nx.iota({300_000}, type: :f32)] do
        assert_raise ArgumentError, ~r/s32 \{300000\} expected/, fn ->
          fun.([[large], [wrong], [large]])
        end

        refute_receive _any, 500
      end
    end

    test "of which one fails in a hook leave no messages behind" do
      mesh = %Nx.Mesh{name: "mesh", shape: {3}}
      test = self()

      hook = fn t ->
        send(test, {:hook, Nx.to_number(t[0])})
        raise "no"
      end

      hooks = %{told: hook}
      fun = &Nx.sort(Nx.multiply(told(&1), 2))
      fun = Nx.Defn.shard_jit(fun, mesh, compiler: EMLX, hooks: hooks)
      shards = for i <- 1..3, do: [Nx.add(Nx.iota({100_000}), i)]
      assert_raise RuntimeError, "no", fn -> fun.(shards) end
      assert_received {:hook, 2}
      refute_receive _any, 500
    end

    test "are no parts of larger arguments" do
      mesh = %Nx.Mesh{name: "mesh", shape: {2}}
      fun = Nx.Defn.shard_jit(&Nx.sum/1, mesh, compiler: EMLX, input_shardings: [%{0 => [0]}])

      assert_raise ArgumentError, ~r/takes no :input_shardings; for a function of whole/, fn ->
        fun.([[Nx.iota({2})], [Nx.iota({2})]])
      end
    end

    test "of one function run at the same time, and hooks are called in the calling process" do
      mesh = %Nx.Mesh{name: "mesh", shape: {3}}
      hooks = %{told: &send(self(), {:told, Nx.to_number(&1)})}
      fun = Nx.Defn.shard_jit(&told/1, mesh, compiler: EMLX, hooks: hooks)
      assert Enum.map(fun.([[1], [2], [3]]), &Nx.to_number/1) == [2, 4, 6]
      for i <- [2, 4, 6], do: assert_received({:told, ^i})
    end
  end

  defp active, do: EMLX.memory_info().active_memory
end
