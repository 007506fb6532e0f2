# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Remote do
  @moduledoc false
  # Tensors of other nodes. What arrives in a message from there is a reference that
  # only the other node can follow, so that node is asked. It does not keep the tensor
  # alive: whoever sends one has to hold on to it, or better sends a copy on
  # `Nx.BinaryBackend`.

  alias Nx.Tensor, as: T

  @doc "Whether a native reference belongs to another node."
  defguard is_remote(ref) when node(ref) != node()

  @doc "Calls a function on the node where a tensor lives."
  @spec call(T.t(), module, atom, list) :: term
  def call(%T{data: %{ref: {_device, ref}}} = tensor, module, function, arguments) do
    :erpc.call(node(ref), module, function, arguments)
  rescue
    error -> reraise describe(error, tensor), __STACKTRACE__
  end

  defp describe(error, %T{type: type, shape: shape, data: %{ref: {_device, ref}}}) do
    %EMLX.Error{
      kind: :remote,
      message:
        "could not read the tensor #{Nx.Type.to_string(type)} #{inspect(shape)} of node " <>
          "#{inspect(node(ref))} (#{reason(error)}); tensors do not keep their memory alive on " <>
          "other nodes, transfer them with Nx.backend_transfer/1 before they are sent"
    }
  end

  defp reason(%ErlangError{original: {:exception, %{message: message}, _stack}}), do: message
  defp reason(%ErlangError{original: {:erpc, reason}}), do: inspect(reason)
  defp reason(error), do: Exception.message(error)
end
