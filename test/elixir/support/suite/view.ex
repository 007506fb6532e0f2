# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Suite.View do
  @moduledoc """
  Tensors as those of Nx's reference backend.

  Tests of others compare tensors with `==`, and the backend's data is a part of that. So both sides
  are looked at as tensors of the reference backend, which are equal when types, shapes, names
  and bytes are.
  """

  def equal?(left, right), do: view(left) == view(right)

  def view(%Nx.Tensor{data: %EMLX.Backend{}} = tensor),
    do: Nx.backend_copy(tensor, Nx.BinaryBackend)

  def view(%Nx.Tensor{} = tensor), do: tensor
  def view(%_{} = struct), do: struct |> Map.from_struct() |> view() |> Map.merge(name(struct))
  def view(%{} = map), do: Map.new(map, fn {key, value} -> {view(key), view(value)} end)
  def view([head | tail]), do: [view(head) | view(tail)]
  def view(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> view() |> List.to_tuple()
  def view(other), do: other

  @doc false
  # The messages of this process, as above and in the same order.
  def view_messages, do: Enum.each(messages(), &send(self(), view(&1)))

  defp messages do
    receive do
      message -> [message | messages()]
    after
      0 -> []
    end
  end

  defp name(%module{}), do: %{__struct__: module}
end
