# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Draw do
  @moduledoc false
  # What follows a prompt, and some tokens of each row of a batch: a program each, the second a loop.

  alias EMLXAxon.Decoder

  @doc """
  The first token after a prompt, as `begin`, `Decoder.begin/7` or `Decoder.admit/7`, draws it:
  `{token, key, cache}`, the first a number. `run` has `:config` and `:cache` besides.
  """
  def first(run, begin, place, ids, key, chance, sampler) do
    settings = [config: run.config, sampler: sampler]
    arguments = [run.model, run.cache, Nx.s32(place), Nx.as_type(ids, :s32), key, chance]
    {token, key, cache} = compiled(run, &begin.(&1, &2, &3, &4, &5, &6, settings), arguments)
    {Nx.to_number(token[0]), key, cache}
  end

  @doc """
  At most `count` tokens of each row: `{lists, at, cache}`, where `at` is as in `Decoder.draw/5`.
  `run` has `:model`, `:backend` and `:defn_options`, `settings` is what the functions of the decoder
  take. The cache is given to the program, which writes into it.
  """
  def tokens(run, cache, at, chance, settings, count) do
    draw = &Decoder.draw(&1, &2, &3, &4, [count: count] ++ settings)
    {tokens, at, cache} = compiled(run, draw, [run.model, EMLX.give(cache), at, chance])
    {tokens |> Nx.to_list() |> Enum.map(&drawn/1), at, cache}
  end

  defp drawn(tokens), do: Enum.take_while(tokens, &(&1 >= 0))

  @doc "Calls a function of tensors as a program, which is kept for the next time."
  def compiled(run, fun, arguments) do
    options = Keyword.merge([compiler: EMLX], run.defn_options)
    Nx.with_default_backend(run.backend, fn -> Nx.Defn.jit_apply(fun, arguments, options) end)
  end
end
