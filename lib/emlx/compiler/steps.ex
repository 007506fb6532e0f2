# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Steps do
  @moduledoc false
  # A reduction with a function of the user's as a loop, a step a turn: for functions that call
  # Elixir, as a hook in them does, since a program stops for calls and a fold cannot. Results come
  # one after another, and the elements of each in their order, as in Nx's evaluator.

  alias Nx.Defn.Expr
  alias Nx.Tensor, as: T

  # The function's body as a block of two scalars.
  defstruct []

  @doc "The expression of a loop that gives what the `reduce` or `window_reduce` node gives."
  @spec loop(T.t()) :: T.t()
  def loop(%T{data: %Expr{op: op, args: args}} = tensor) do
    tensor = Nx.devectorize(tensor, keep_names: false)
    # Numbers in what follows are no tensors of the default backend.
    Nx.with_default_backend(Nx.BinaryBackend, fn -> loop(op, tensor, args) end)
  end

  defp loop(:reduce, out, [tensor, start, options, fun]) do
    all = Enum.to_list(0..(Nx.rank(tensor) - 1)//1)
    axes = options[:axes] || all
    elements = Nx.transpose(tensor, axes: (all -- axes) ++ axes)
    turns(out, elements, start, fun)
  end

  defp loop(:window_reduce, out, [tensor, start, window, options, fun]) do
    padding = for {low, high} <- options[:padding], do: {low, high, 0}
    tensor = Nx.pad(tensor, Nx.as_type(start, tensor.type), padding)
    strides = options[:strides]
    lengths = Enum.zip_with(Tuple.to_list(out.shape), strides, &((&1 - 1) * &2 + 1))

    elements =
      for place <- places(Tuple.to_list(window)) do
        starts = Enum.zip_with(place, options[:window_dilations], &*/2)
        Nx.slice(tensor, starts, lengths, strides: strides)
      end

    turns(out, Nx.stack(elements, axis: -1), start, fun)
  end

  # All indices within a shape, in order.
  defp places([]), do: [[]]

  defp places([length | rest]),
    do: for(i <- 0..(length - 1), place <- places(rest), do: [i | place])

  # The elements are those of the first result, then those of the second, and so on.
  defp turns(%T{type: type, shape: shape} = out, elements, start, fun) do
    cells = Tuple.product(shape)
    count = Nx.size(elements)
    zero = Expr.tensor(Nx.tensor(0, type: :s64))
    results = start |> Nx.as_type(type) |> Nx.reshape({}) |> Nx.broadcast({cells})
    initial = {zero, Nx.reshape(elements, {count}), results}
    context = {:while, make_ref()}

    {i, elements, results} =
      arg =
      initial
      |> Tuple.to_list()
      |> Enum.with_index(&Expr.parameter(&1, context, &2))
      |> List.to_tuple()

    cell = Nx.quotient(i, max(div(count, cells), 1))
    next = step(fun, at(elements, i), at(results, cell), type)
    body = {Nx.add(i, 1), elements, Nx.put_slice(results, [cell], Nx.reshape(next, {1}))}
    outer = out.data.context
    {_i, _elements, results} = Expr.while(initial, outer, arg, Nx.less(i, count), body)
    Nx.reshape(results, shape)
  end

  defp at(tensor, index), do: tensor |> Nx.slice([index], [1]) |> Nx.reshape({})

  defp step(%T{data: %Expr{args: [[x, acc], body, _]}}, element, result, type) do
    arguments = [Nx.as_type(element, x.type), Nx.as_type(result, acc.type)]
    context = hd(arguments).data.context

    expr = %Expr{
      id: make_ref(),
      op: :block,
      args: [%__MODULE__{}, arguments, body, nil],
      context: context
    }

    Nx.as_type(%{body | data: expr, names: []}, type)
  end
end
