# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Backend do
  @moduledoc """
  An Nx backend that has `Nx.BinaryBackend` compute everything and records what it was asked.
  """

  @behaviour Nx.Backend

  defstruct [:state]

  alias Nx.Tensor, as: T
  alias Recorder.{Case, Store}

  @impl true
  def init(_options), do: []

  @impl true
  def block(struct, out, arguments, default) do
    tensors = Enum.filter(arguments, &is_struct(&1, T))

    compute = fn arguments -> apply(default, [struct | arguments]) end
    # What a native block replaces is its own business.
    native? = EMLX.Call.block(struct) != nil

    result =
      attempt(fn ->
        if native?,
          do: Store.paused(fn -> compute.(arguments) end),
          else: compute.(arguments)
      end)

    Case.record_block(struct, out, Enum.map(tensors, &plain/1), plain_result(result), compute)
    finish(result)
  end

  # What reads or moves tensors is not an operation.
  @moves [:backend_copy, :backend_transfer, :backend_deallocate, :to_binary, :to_batched] ++
           [:inspect, :from_pointer, :to_pointer, :from_binary]
  @creations [:constant, :iota, :eye]

  callbacks = Nx.Backend.behaviour_info(:callbacks)

  for {name, arity} <- callbacks, name not in [:init, :block] do
    [out | arguments] = Macro.generate_arguments(arity, __MODULE__)

    @impl true
    def unquote(name)(unquote(out), unquote_splicing(arguments)),
      do: run(unquote(name), unquote(out), unquote(arguments))
  end

  defp run(name, tensor, arguments) when name in [:backend_copy, :backend_transfer] do
    [module, options] = arguments
    tensor = plain(tensor)

    if module == Nx.BinaryBackend,
      do: tensor,
      else: module.from_binary(tensor, tensor.data.state, options)
  end

  defp run(name, out, arguments) when name in @moves do
    result = apply(Nx.BinaryBackend, name, [plain(out) | Enum.map(arguments, &plain/1)])
    if name == :to_batched, do: Enum.map(result, &wrap/1), else: wrap(result)
  end

  defp run(name, out, arguments) do
    out = plain(out)
    arguments = Enum.map(arguments, &plain/1)
    result = attempt(fn -> apply(Nx.BinaryBackend, name, [out | arguments]) end)
    Case.record(name, out, without_options(name, arguments), plain_result(result))
    finish(result)
  end

  # A creation's last argument are the options of the backend.
  defp without_options(name, arguments) when name in @creations, do: Enum.drop(arguments, -1)
  defp without_options(_name, arguments), do: arguments

  defp attempt(fun) do
    {:ok, fun.()}
  rescue
    exception -> {:raised, exception, __STACKTRACE__}
  end

  defp plain_result({:ok, result}), do: plain(result)
  defp plain_result({:raised, exception, _stack}), do: exception

  defp finish({:ok, result}), do: wrap(result)
  defp finish({:raised, exception, stack}), do: reraise(exception, stack)

  defp plain(%T{data: %__MODULE__{state: state}} = tensor),
    do: %{tensor | data: %Nx.BinaryBackend{state: state}}

  defp plain(list) when is_list(list), do: Enum.map(list, &plain/1)

  defp plain(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&plain/1) |> List.to_tuple()

  defp plain(other), do: other

  defp wrap(%T{data: %Nx.BinaryBackend{state: state}} = tensor),
    do: %{tensor | data: %__MODULE__{state: state}}

  defp wrap(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.map(&wrap/1) |> List.to_tuple()

  defp wrap(other), do: other
end
