# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.CommandQueue do
  @moduledoc """
  Ordered work.

  Without a queue, what different processes compute runs side by side. Work given
  to one queue is done in the order it was given, one piece after another. A queue
  is used by `with_queue/2`, or by the option `:command_queue` of the compiler.

  A compiled function that stops for a hook or runtime call lets the work behind
  it go on; the rest of it is queued anew.

  ## Examples

      iex> queue = EMLX.CommandQueue.new!(:cpu)
      iex> EMLX.CommandQueue.with_queue(queue, fn ->
      ...>   Nx.tensor([1, 2], backend: EMLX.Backend) |> Nx.add(1) |> Nx.to_list()
      ...> end)
      [2, 3]
      iex> EMLX.CommandQueue.synchronize(queue)
      :ok

  """

  alias EMLX.{Device, Native}

  @key :emlx_command_queue

  @enforce_keys [:ref, :device]
  defstruct [:ref, :device]

  @type t :: %__MODULE__{ref: reference, device: atom}

  @doc """
  A new queue for a device: `{:ok, queue}`, or `{:error, exception}` when there is
  no such device.
  """
  @spec new(atom | {:gpu, non_neg_integer}) :: {:ok, t} | {:error, Exception.t()}
  def new(device) do
    {:ok, new!(device)}
  rescue
    error in [ArgumentError, EMLX.Error] -> {:error, error}
  end

  @doc """
  As `new/1`, but returns the queue, and raises when there is no such device.
  """
  @spec new!(atom | {:gpu, non_neg_integer}) :: t
  def new!(device) do
    device = Device.chosen(device: device)
    %__MODULE__{ref: Native.queue_new(Native.device(device)), device: device}
  end

  @doc """
  Waits until all work given to the queue before is done.
  """
  @spec synchronize(t) :: :ok
  def synchronize(%__MODULE__{ref: ref}), do: Native.queue_sync(ref)

  @doc """
  Calls `fun` with the queue in use: what the calling process computes meanwhile on
  the queue's device goes through it.
  """
  @spec with_queue(t, (-> result)) :: result when result: term
  def with_queue(%__MODULE__{ref: ref, device: device}, fun) when is_function(fun, 0) do
    previous = Process.put(@key, {ref, device})

    try do
      fun.()
    after
      if previous, do: Process.put(@key, previous), else: Process.delete(@key)
    end
  end

  @doc false
  # The native queue in which a compiled function is to run, or nil.
  @spec native(keyword, atom) :: reference | nil
  def native(options, device) do
    case options[:command_queue] do
      nil -> current(Process.get(@key), device)
      %__MODULE__{ref: ref, device: ^device} -> ref
      other -> refuse(other, device)
    end
  end

  defp current({ref, device}, device), do: ref
  defp current(_none_or_another_device, _device), do: nil

  defp refuse(%__MODULE__{device: other}, device) do
    raise ArgumentError,
          "the function runs on #{inspect(device)}, but its :command_queue is for " <>
            inspect(other)
  end

  defp refuse(other, _device) do
    raise ArgumentError,
          ":command_queue must be an EMLX.CommandQueue, got: #{inspect(other)}"
  end
end
