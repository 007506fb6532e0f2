# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Sampler do
  @moduledoc """
  How next tokens are chosen from logits `{batch, vocabulary}`.

  `:greedy` takes the most likely one. `:top_p_cpu` and `:top_p_gpu`, which are the same here, draw
  one from the nucleus: the most likely tokens whose probabilities, at a temperature, come to `top_p`.
  """

  import Nx.Defn

  @samplers [:greedy, :top_p_cpu, :top_p_gpu]

  @doc false
  def check!(options) do
    unless options[:sampler] in @samplers do
      raise ArgumentError,
            "expected :sampler to be one of #{inspect(@samplers)}, " <>
              "got: #{inspect(options[:sampler])}"
    end

    chance!(options[:temperature], options[:top_p], ":temperature", ":top_p")
  end

  defp chance!(temperature, top_p, temperature_name, top_p_name) do
    unless is_number(temperature) and temperature > 0 do
      raise ArgumentError,
            "expected #{temperature_name} to be a positive number, got: #{inspect(temperature)}"
    end

    unless is_number(top_p) and top_p > 0 and top_p <= 1 do
      raise ArgumentError,
            "expected #{top_p_name} to be greater than 0 and at most 1, got: #{inspect(top_p)}"
    end
  end

  @doc """
  A token of the nucleus of logits `{1, vocabulary}`, a scalar, drawn by what `:rand` gives.

  ## Examples

      iex> EMLXAxon.Sampler.top_p_cpu(Nx.tensor([[9.0, -50.0, -50.0]])) |> Nx.to_number()
      0
  """
  def top_p_cpu(logits, temperature \\ 0.95, top_p \\ 0.9) do
    chance!(temperature, top_p, "temperature", "top_p")
    key = Nx.Random.key(:rand.uniform(0x7FFFFFFF))
    draw(logits, key, temperature, top_p)
  end

  @doc """
  A token of the nucleus of logits `{1, vocabulary}`, a scalar, drawn by a key of `Nx.Random`.
  Options: `:temperature` (0.95) and `:top_p` (1.0, which is all tokens).

  ## Examples

      iex> key = Nx.Random.key(7)
      iex> EMLXAxon.Sampler.top_p_gpu(Nx.tensor([[9.0, -50.0, -50.0]]), key) |> Nx.to_number()
      0
  """
  def top_p_gpu(logits, key, options \\ []) do
    options = Keyword.validate!(options, temperature: 0.95, top_p: 1.0)
    chance!(options[:temperature], options[:top_p], "temperature", "top_p")
    draw(logits, key, options[:temperature], options[:top_p])
  end

  defp draw(logits, key, temperature, top_p) do
    {token, _key} = top_p(logits, key, temperature, top_p)
    Nx.squeeze(token, axes: [0])
  end

  @doc """
  The most likely token of each row, `{batch}`.

  ## Examples

      iex> EMLXAxon.Sampler.greedy(Nx.tensor([[0.1, 2.0, 0.3], [5.0, 0.0, 0.0]])) |> Nx.to_list()
      [1, 0]
  """
  defn(greedy(logits), do: Nx.argmax(logits, axis: 1, type: :s32))

  @doc """
  A token of each row's nucleus, `{batch}`, and the state of the random numbers after it.

  ## Examples

      iex> logits = Nx.tensor([[9.0, 8.9, -50.0, -50.0]])
      iex> {token, _key} = EMLXAxon.Sampler.top_p(logits, Nx.Random.key(1), 0.95, 0.9)
      iex> Nx.to_number(token[0]) in [0, 1]
      true
  """
  defn top_p(logits, key, temperature, top_p) do
    scaled = logits / temperature
    order = Nx.argsort(scaled, axis: 1, direction: :desc)
    scores = Nx.take_along_axis(scaled, order, axis: 1)
    chances = EMLX.Fast.softmax(scores)
    # A token is in while those before it do not come to top_p, so that one always is.
    before = Nx.cumulative_sum(chances, axis: 1) - chances
    scores = Nx.select(before < top_p, scores, Nx.Constants.neg_infinity(Nx.type(scores)))
    # The greatest of scores with Gumbel's noise is drawn with the probability of its softmax.
    {uniform, key} = Nx.Random.uniform(key, 1.0e-10, 1.0, shape: Nx.shape(scores), type: :f32)
    chosen = Nx.argmax(scores - Nx.log(-Nx.log(uniform)), axis: 1, keep_axis: true)
    token = order |> Nx.take_along_axis(chosen, axis: 1) |> Nx.squeeze(axes: [1])
    {Nx.as_type(token, :s32), key}
  end

  @doc false
  deftransform sample(logits, key, {temperature, top_p}, opts) do
    if opts[:sampler] == :greedy,
      do: {greedy(logits), key},
      else: top_p(logits, key, temperature, top_p)
  end
end
