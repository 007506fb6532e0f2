# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Suite.Examples do
  @moduledoc """
  Doctests of others, whose printed digits are those of the machine on which they were written. What
  they give must be the same but for floats, and those must be near.
  """

  alias EMLX.Suite.View

  # Some of the examples are the last step of hundreds. The reference truncates bf16.
  @near 1.0e-3
  @near_bf16 1.6e-2
  @number ~r/-?\d+\.\d+(?:[eE]-?\d+)?/

  @doc "As `ExUnit.DocTest.doctest/2`."
  defmacro doctest(module, options \\ []) do
    quote(do: ExUnit.DocTest.doctest(unquote(module), unquote(options)))
    |> Macro.expand_once(__CALLER__)
    |> Macro.prewalk(fn
      {{:., _, [_, :__doctests__]} = call, meta, arguments} ->
        {put_elem(call, 2, [__MODULE__, :tests]), meta, arguments}

      node ->
        node
    end)
  end

  @doc false
  def tests(module, options) do
    for {name, test, tags} <- ExUnit.DocTest.__doctests__(module, options),
        do: {name, Macro.prewalk(test, &nearly/1), tags}
  end

  defp nearly({{:., _, [_, :__test__]} = call, meta, [value, expected | rest]}) do
    near = quote(do: unquote(__MODULE__).near(unquote(value), unquote(expected)))
    {call, meta, [near, quote(do: unquote(View).view(unquote(expected))) | rest]}
  end

  defp nearly({{:., dot, [module, :__inspect__]}, meta, [value, expected | rest]}) do
    near = quote(do: unquote(__MODULE__).near(inspect(unquote(value)), unquote(expected)))
    {{:., dot, [module, :__test__]}, meta, [near, expected | rest]}
  end

  defp nearly(node), do: node

  @doc "What is expected, where a value is the same but for digits; else the value."
  def near(value, expected) do
    {value, expected} = {View.view(value), View.view(expected)}
    if near?(value, expected), do: expected, else: value
  end

  defp near?(%Nx.Tensor{} = a, %Nx.Tensor{} = b), do: near?(shown(a), shown(b))

  # Digits may be at any place of a text, and a text may show tensors of two bytes an element.
  defp near?(a, b) when is_binary(a) and is_binary(b) do
    margin = if b =~ "bf16", do: @near_bf16, else: @near

    Regex.replace(@number, a, "_") == Regex.replace(@number, b, "_") and
      Enum.zip_with(numbers(a), numbers(b), &(abs(&1 - &2) <= margin * max(1.0, abs(&2))))
      |> Enum.all?()
  end

  defp near?(a, b) when is_float(a) and is_float(b), do: abs(a - b) <= @near * max(1.0, abs(b))
  defp near?(%{} = a, %{} = b), do: near?(:maps.to_list(a), :maps.to_list(b))
  defp near?([a | as], [b | bs]), do: near?(a, b) and near?(as, bs)

  defp near?(a, b) when is_tuple(a) and is_tuple(b),
    do: near?(Tuple.to_list(a), Tuple.to_list(b))

  defp near?(a, b), do: a === b

  defp shown(tensor), do: inspect(tensor, limit: :infinity)

  defp numbers(text),
    do: for([number] <- Regex.scan(@number, text), do: String.to_float(number))
end
