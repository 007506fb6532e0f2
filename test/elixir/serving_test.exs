# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.ServingTest do
  # Nx.Serving on EMLX: inline, as a process, in partitions, and over nodes.
  use EMLX.Case, async: false

  import ExUnit.CaptureLog

  alias EMLX.Cluster
  alias Nx.{Batch, Serving}

  defp doubling(options \\ []), do: Serving.jit(&Nx.multiply(&1, 2), [compiler: EMLX] ++ options)
  defp batch(values), do: Batch.stack([Nx.tensor(values)])

  defp start(serving, name, options \\ []) do
    options = Keyword.merge([batch_size: 4, batch_timeout: 10], options)
    start_supervised!({Serving, [serving: serving, name: name] ++ options})
  end

  test "inline" do
    assert %Nx.Tensor{data: %EMLX.Backend{}} = t = Serving.run(doubling(), batch([1, 2]))
    assert Nx.to_list(t) == [[2, 4]]
  end

  test "a compiled function, padded to the batch size", %{test: name} do
    serving =
      Serving.new(fn options ->
        fun = Nx.Defn.compile(&Nx.sum(&1, axes: [1]), [Nx.template({4, 2}, :s32)], options)
        fn batch -> fun.(Batch.pad(batch, 4 - batch.size)) end
      end)

    start(Serving.defn_options(serving, compiler: EMLX), name)
    assert Nx.to_list(Serving.batched_run(name, batch([3, 4]))) == [7]
    two = Batch.stack([Nx.tensor([1, 2]), Nx.tensor([5, 6])])
    assert Nx.to_list(Serving.batched_run(name, two)) == [3, 11]
  end

  for {title, options, concurrency} <- [
        {"as a process", [], 1},
        {"in partitions", [partitions: true], 3}
      ] do
    test "#{title}, from many clients at once", %{test: name} do
      start(doubling(max_concurrency: unquote(concurrency)), name, unquote(options))

      results =
        1..100
        |> Task.async_stream(
          fn i -> {i, Nx.to_list(Serving.batched_run(name, batch([i, -i])))} end,
          max_concurrency: 50
        )
        |> Enum.map(fn {:ok, result} -> result end)

      assert results == for(i <- 1..100, do: {i, [[2 * i, -2 * i]]})
    end
  end

  test "batches of several keys", %{test: name} do
    serving =
      Serving.new(fn
        :double, options -> Nx.Defn.jit(&Nx.multiply(&1, 2), options)
        :half, options -> Nx.Defn.jit(&Nx.divide(&1, 2), options)
      end)

    start(Serving.defn_options(serving, compiler: EMLX), name, batch_keys: [:double, :half])
    double = Task.async(fn -> Serving.batched_run(name, Batch.key(batch([3]), :double)) end)
    half = Task.async(fn -> Serving.batched_run(name, Batch.key(batch([3]), :half)) end)
    assert Nx.to_list(Task.await(double)) == [[6]]
    assert Nx.to_list(Task.await(half)) == [[1.5]]
  end

  test "a batch that is not full goes when its time is over", %{test: name} do
    start(doubling(), name, batch_timeout: 50, batch_size: 1000)
    {time, t} = :timer.tc(fn -> Serving.batched_run(name, batch([1])) end)
    assert Nx.to_list(t) == [[2]]
    assert time >= 45_000
  end

  test "streaming", %{test: name} do
    start(Serving.streaming(doubling()), name, batch_size: 2)
    stream = Serving.batched_run(name, Batch.concatenate([Nx.tensor([1, 2, 3, 4, 5])]))
    assert stream |> Enum.flat_map(&batch_values/1) == [2, 4, 6, 8, 10]
  end

  defp batch_values({:batch, tensor, _}), do: Nx.to_list(tensor)
  defp batch_values({:batch, tensor}), do: Nx.to_list(tensor)

  test "results outlive the process that computed them", %{test: name} do
    pid = start(doubling(), name)
    results = for i <- 1..20, do: Serving.batched_run(name, batch([i]))
    stop_supervised!(name)
    refute Process.alive?(pid)
    :erlang.garbage_collect()
    assert Enum.map(results, &Nx.to_list/1) == for(i <- 1..20, do: [[2 * i]])
  end

  test "clients that are killed leave the serving well", %{test: name} do
    start(doubling(), name, batch_size: 64)

    for i <- 1..50 do
      pid = spawn(fn -> Serving.batched_run(name, batch([i])) end)
      if rem(i, 2) == 0, do: Process.exit(pid, :kill)
    end

    assert Nx.to_list(Serving.batched_run(name, batch([21]))) == [[42]]
  end

  test "an error in one batch is that batch's alone", %{test: name} do
    serving = Serving.jit(&Nx.quotient(12, &1), compiler: EMLX)
    start(serving, name, batch_size: 1)

    capture_log(fn ->
      assert {{%ArithmeticError{}, _stack}, _call} =
               catch_exit(Serving.batched_run(name, batch([0])))
    end)

    assert Nx.to_list(Serving.batched_run(name, batch([4]))) == [[3]]
  end

  describe "over nodes" do
    setup context do
      case Cluster.start() do
        :ok ->
          {peer, node} = Cluster.peer()
          on_exit(fn -> if Process.alive?(peer), do: :peer.stop(peer) end)
          {:ok, peer: peer, node: node}

        {:error, reason} ->
          if context.first?, do: IO.puts("skipped: tests of several nodes; #{inspect(reason)}")
          {:ok, node: nil}
      end
    end

    @describetag first?: false

    @tag first?: true
    test "a serving on another node", %{node: node, test: name} do
      if node do
        :erpc.call(node, Cluster, :serve, [name])
        wait_for(name)
        results = for i <- 1..10, do: Serving.batched_run({:distributed, name}, batch([i]))
        assert Enum.map(results, &Nx.to_list/1) == for(i <- 1..10, do: [[2 * i]])
      end
    end

    test "a tensor of another node is fetched", %{node: node} do
      if node do
        :erpc.call(node, Cluster, :hold, [self(), [1, 2, 3]])
        assert_receive {:held, holder, t}, 5000
        assert node(elem(t.data.ref, 1)) == node
        assert Nx.to_list(t) == [2, 3, 4]
        assert inspect(t) =~ "[2, 3, 4]"
        assert Nx.to_list(Nx.add(t, Nx.tensor([10, 20, 30]))) == [12, 23, 34]
        assert Nx.to_list(Nx.add(Nx.tensor([10, 20, 30]), t)) == [12, 23, 34]
        assert Nx.to_list(Nx.Defn.jit_apply(&Nx.multiply/2, [t, 2])) == [4, 6, 8]
        assert t |> Nx.to_batched(2) |> Enum.map(&Nx.to_list/1) == [[2, 3], [4, 2]]
        copy = Nx.backend_copy(t, EMLX.Backend)
        assert node(elem(copy.data.ref, 1)) == node()
        assert_raise ArgumentError, ~r/only be made there/, fn -> Nx.to_pointer(t) end

        moved = Nx.backend_transfer(t, EMLX.Backend)
        assert Nx.to_list(moved) == [2, 3, 4]
        assert_raise EMLX.Error, ~r/deallocated/, fn -> Nx.to_list(t) end
        assert Nx.backend_deallocate(t) == :already_deallocated
        send(holder, :stop)
      end
    end

    test "a tensor whose holder is gone is an error that says so", %{node: node, peer: peer} do
      if node do
        [t] = :erpc.call(node, Cluster, :orphan, [])
        assert eventually(fn -> gone?(t) end)
        told = ~r/could not read the tensor s32 \{1\} of node .*transfer them/
        assert_raise EMLX.Error, told, fn -> Nx.to_list(t) end
        assert_raise EMLX.Error, told, fn -> Nx.add(t, 1) end
        :peer.stop(peer)
        assert_raise EMLX.Error, ~r/noconnection/, fn -> Nx.to_list(t) end
      end
    end

    test "a node that is lost during a run", %{node: node, peer: peer, test: name} do
      if node do
        :erpc.call(node, Cluster, :serve, [name, 5000])
        wait_for(name)

        task =
          Task.async(fn -> catch_exit(Serving.batched_run({:distributed, name}, batch([1]))) end)

        Process.sleep(300)
        :peer.stop(peer)
        assert {reason, _} = Task.await(task, 10_000)
        assert reason in [:noproc, :noconnection] or match?({:nodedown, _}, reason)
        assert Nx.to_list(Serving.run(doubling(), batch([4]))) == [[8]]
      end
    end
  end

  defp gone?(tensor) do
    Nx.to_binary(tensor)
    false
  rescue
    EMLX.Error -> true
  end

  # Servings find each other through process groups, which take a moment.
  defp wait_for(name),
    do: assert(eventually(fn -> :pg.get_members(Nx.Serving.PG, name) != [] end))
end
