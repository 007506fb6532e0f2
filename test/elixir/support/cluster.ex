# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Cluster do
  @moduledoc """
  Other nodes for tests, on this machine.
  """

  @doc "Makes this a node that others can be started from; says why where it cannot be."
  def start do
    name = :"emlx_test_#{System.pid()}@127.0.0.1"

    cond do
      Node.alive?() -> :ok
      not match?({_, 0}, System.cmd("epmd", ["-daemon"])) -> {:error, "epmd does not start"}
      true -> with {:ok, _pid} <- Node.start(name, :longnames), do: :ok
    end
  rescue
    error in ErlangError -> {:error, "epmd: #{inspect(error.original)}"}
  end

  @doc "A node with EMLX as default backend and compiler, and what gives it its end."
  def peer do
    {:ok, peer, node} = :peer.start(%{name: :peer.random_name(), host: ~c"127.0.0.1"})
    true = :erpc.call(node, :code, :set_path, [:code.get_path()])
    {:ok, _} = :erpc.call(node, :application, :ensure_all_started, [:emlx])
    :erpc.call(node, Nx, :global_default_backend, [EMLX.Backend])
    :erpc.call(node, Nx.Defn, :global_default_options, [[compiler: EMLX]])
    {peer, node}
  end

  ## What is called on the other node

  @doc "Starts a process that holds a tensor, and sends the tensor."
  def hold(parent, values) do
    spawn(fn ->
      tensor = Nx.add(Nx.tensor(values), 1)
      send(parent, {:held, self(), tensor})
      Process.flag(:trap_exit, true)

      receive do
        :stop -> Nx.to_list(tensor)
      end
    end)
  end

  @doc "A tensor that nobody holds once it has been sent."
  def orphan do
    parent = self()
    spawn(fn -> send(parent, {:orphan, Nx.add(Nx.tensor([1]), 1)}) end)

    receive do
      {:orphan, tensor} -> Nx.Defn.Composite.flatten_list([tensor])
    end
  end

  @doc "Starts a serving that doubles, gives values back, and stays until stopped."
  def serve(name, delay \\ 0) do
    parent = self()

    pid =
      spawn(fn ->
        {:ok, _pid} = Nx.Serving.start_link(serving: doubling(delay), name: name, batch_size: 4)
        send(parent, :serving)
        Process.sleep(:infinity)
      end)

    receive do
      :serving -> pid
    end
  end

  defp doubling(delay) do
    Nx.Serving.new(fn options ->
      double = Nx.Defn.jit(&Nx.multiply(&1, 2), options)

      fn batch ->
        Process.sleep(delay)
        double.(batch)
      end
    end)
    |> Nx.Serving.distributed_postprocessing(&Nx.backend_transfer(&1, Nx.BinaryBackend))
  end
end
