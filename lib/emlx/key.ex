# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Key do
  @moduledoc false
  # What a function is remembered by in the cache of compiled programs.
  #
  # The function itself would do, but for those that hold expressions, such as the
  # stages of `Nx.Defn.Graph`: an expression shares its parts, and hashing or
  # comparing a term visits a part each time it is referred to, which may be
  # exponentially often. Every node of an expression has a reference that no other
  # has, which is all that is kept.

  alias Nx.Tensor, as: T

  @doc "A term that is equal for equal functions, and quick to hash."
  @spec new(term) :: term
  def new(fun) when is_function(fun) do
    case :erlang.fun_info(fun, :env) do
      {:env, []} -> fun
      {:env, environment} -> {:fun, identity(fun), new(environment)}
    end
  end

  # Erlang before version 27 takes 0.0 and -0.0 for the same key.
  def new(float) when is_float(float), do: {:float, <<float::float>>}

  def new(%T{data: %Nx.Defn.Expr{id: id}} = tensor), do: {:expression, id, %{tensor | data: nil}}
  def new([head | tail]), do: [new(head) | new(tail)]
  def new(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> new() |> List.to_tuple()
  def new(%_{} = struct), do: struct |> Map.from_struct() |> new_struct(struct)
  def new(%{} = map), do: :maps.map(fn _key, value -> new(value) end, map)
  def new(other), do: other

  defp new_struct(fields, %module{}), do: {module, new(fields)}

  # An external function has no environment, so this is a local one.
  defp identity(fun) do
    for item <- [:module, :new_index, :new_uniq, :arity], do: :erlang.fun_info(fun, item)
  end
end
