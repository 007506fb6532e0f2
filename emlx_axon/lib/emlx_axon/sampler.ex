# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Sampler do
  @moduledoc """
  How the next token is chosen from logits `{1, vocabulary}`.

  `:greedy` takes the most likely one. `:top_p_cpu` and `:top_p_gpu`, which are the same here, draw
  one from the nucleus: the most likely tokens whose probabilities, at a temperature, come to `top_p`.
  """

  import Nx.Defn

  @samplers [:greedy, :top_p_cpu, :top_p_gpu]

  @doc "The names of samplers."
  def samplers, do: @samplers

  @doc """
  The most likely token, a scalar.

  ## Examples

      iex> EMLXAxon.Sampler.greedy(Nx.tensor([[0.1, 2.0, 0.3]])) |> Nx.to_number()
      1
  """
  defn(greedy(logits), do: logits |> Nx.squeeze(axes: [0]) |> Nx.argmax(axis: 0, type: :s32))

  @doc """
  A token of the nucleus, and the state of the random numbers after it.

  ## Examples

      iex> logits = Nx.tensor([[9.0, 8.9, -50.0, -50.0]])
      iex> {token, _key} = EMLXAxon.Sampler.top_p(logits, Nx.Random.key(1), 0.95, 0.9)
      iex> Nx.to_number(token) in [0, 1]
      true
  """
  defn top_p(logits, key, temperature, top_p) do
    scaled = Nx.squeeze(logits, axes: [0]) / temperature
    order = Nx.argsort(scaled, direction: :desc)
    scores = Nx.take(scaled, order)
    chances = EMLX.Fast.softmax(scores)
    # A token is in while those before it do not come to top_p, so that one always is.
    before = Nx.cumulative_sum(chances) - chances
    scores = Nx.select(before < top_p, scores, Nx.Constants.neg_infinity(Nx.type(scores)))
    # The greatest of scores with Gumbel's noise is drawn with the probability of its softmax.
    {uniform, key} = Nx.Random.uniform(key, 1.0e-10, 1.0, shape: Nx.shape(scores), type: :f32)
    chosen = Nx.argmax(scores - Nx.log(-Nx.log(uniform)), axis: 0)
    {order |> Nx.take(chosen) |> Nx.as_type(:s32), key}
  end

  @doc false
  deftransform sample(logits, key, {temperature, top_p}, opts) do
    if opts[:sampler] == :greedy,
      do: {greedy(logits), key},
      else: top_p(logits, key, temperature, top_p)
  end
end
