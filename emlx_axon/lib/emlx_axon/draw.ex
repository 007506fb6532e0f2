# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Draw do
  @moduledoc false
  # Some tokens of each row of a batch: one program, a loop. Packed weights would be unpacked before a
  # loop, so that with those each token is a program of its own.

  alias EMLXAxon.Decoder

  @doc """
  At most `count` tokens of each row: `{lists, at, cache}`, where `at` is as in `Decoder.draw/5`.
  `run` has `:model`, `:backend` and `:defn_options`, `settings` is what the functions of the decoder
  take.
  """
  def tokens(run, cache, at, chance, settings, count) do
    if packed?(run.model),
      do: one_by_one(run, cache, at, chance, settings, count),
      else: together(run, cache, at, chance, [count: count] ++ settings)
  end

  defp together(run, cache, at, chance, settings) do
    draw = &Decoder.draw(&1, &2, &3, &4, settings)
    {tokens, at, cache} = compiled(run, draw, [run.model, cache, at, chance])
    {tokens |> Nx.to_list() |> Enum.map(&drawn/1), at, cache}
  end

  defp one_by_one(run, cache, at, chance, settings, count) do
    step = &Decoder.step(&1, &2, &3, &4, settings)

    {columns, {at, cache}} =
      Enum.flat_map_reduce(1..count, {at, cache}, fn _, {at, cache} ->
        if ended?(at) do
          {:halt, {at, cache}}
        else
          {tokens, at, cache} = compiled(run, step, [run.model, cache, at, chance])
          {[Nx.to_list(tokens)], {at, cache}}
        end
      end)

    {columns |> Enum.zip_with(&Function.identity/1) |> Enum.map(&drawn/1), at, cache}
  end

  defp ended?({_, _, _, done}), do: done |> Nx.to_flat_list() |> Enum.all?(&(&1 == 1))
  defp drawn(tokens), do: Enum.take_while(tokens, &(&1 >= 0))

  defp packed?(%{layers: layers}),
    do: layers |> elem(0) |> Map.values() |> Enum.any?(&EMLX.Quantization.quantized?/1)

  @doc "Calls a function of tensors as a program, which is kept for the next time."
  def compiled(run, fun, arguments) do
    options = Keyword.merge([compiler: EMLX], run.defn_options)
    Nx.with_default_backend(run.backend, fn -> Nx.Defn.jit_apply(fun, arguments, options) end)
  end
end
