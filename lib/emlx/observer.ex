# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Observer do
  @moduledoc false
  # The process that is told what happens in the native library, and makes telemetry of it.

  use GenServer

  alias EMLX.NIF

  def start_link(_options), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  @spec observe(boolean) :: :ok
  def observe(on?), do: GenServer.call(__MODULE__, {:observe, on?})

  @impl true
  def init(nil) do
    Process.flag(:trap_exit, true)
    if Application.get_env(:emlx, :observe, false), do: NIF.observe(self())
    {:ok, nil}
  end

  @impl true
  def handle_call({:observe, on?}, _from, state) do
    {:reply, NIF.observe(if(on?, do: self())), state}
  end

  @impl true
  def handle_info({:emlx_event, kind, device, op, numbers}, state) do
    :telemetry.execute([:emlx, :library, kind], measurements(kind, numbers), %{
      device: device,
      op: op
    })

    {:noreply, state}
  end

  def handle_info(_other, state), do: {:noreply, state}

  @impl true
  def terminate(_reason, _state), do: NIF.observe(nil)

  defp measurements(kind, {count, _bytes, _refused, nanoseconds})
       when kind in [:compiled, :evaluated] do
    %{count: count, duration: System.convert_time_unit(nanoseconds, :nanosecond, :native)}
  end

  defp measurements(:memory, {_count, bytes, refused, _nanoseconds}) do
    %{bytes: bytes, refused: refused}
  end

  defp measurements(_kind, {count, _bytes, _refused, _nanoseconds}), do: %{count: count}
end
