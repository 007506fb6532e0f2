# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Decoder do
  @moduledoc false
  # The forward pass of decoders of the families of Llama and Qwen3, in plain Nx and EMLX.Fast.
  #
  # A model is a map of weights: `embed_tokens` `{vocabulary, hidden}`, `norm`, `lm_head`, `freqs`, and
  # `layers`, a tuple of one map a layer. Its configuration (EMLXAxon.Config) comes apart from it, as
  # it is no data. A cache is a tuple of `{keys, values}` a layer, `{1, groups, length, size}` each,
  # of which the positions before `offset` are filled.

  import Nx.Defn

  @doc """
  Takes tokens `{1, count}` at position `offset` on, and gives the logits `{1, vocabulary}` after the
  last of them, of type f32, and the cache with these positions filled in.
  """
  deftransform forward(model, config, tokens, cache, offset) do
    x = Nx.take(model.embed_tokens, tokens)
    layers = Enum.zip(Tuple.to_list(model.layers), Tuple.to_list(cache))

    {cache, x} =
      Enum.map_reduce(layers, x, fn {layer, kept}, x ->
        {attended, kept} =
          attention(layer, config, model.freqs, norm(x, layer.input_norm, config), kept, offset)

        x = Nx.add(x, attended)
        {kept, Nx.add(x, feed_forward(layer, config, norm(x, layer.output_norm, config)))}
      end)

    last = Nx.slice_along_axis(x, Nx.axis_size(x, 1) - 1, 1, axis: 1)
    logits = last |> norm(model.norm, config) |> Nx.squeeze(axes: [1]) |> linear(model.lm_head, 1)
    {Nx.as_type(logits, :f32), List.to_tuple(cache)}
  end

  defp norm(x, weight, config), do: EMLX.Fast.rms_norm(x, weight, config.rms_norm_eps)

  # {..., in} by {in, out}, or by {out, in} where `axis` is 1
  defp linear(x, kernel, axis), do: Nx.dot(x, [-1], kernel, [axis])

  defp project(x, kernel, config),
    do: linear(x, kernel, if(config.kernel_layout == :out_in, do: 1, else: 0))

  defp feed_forward(layer, config, x) do
    project(x, layer.gate, config)
    |> EMLX.Fast.swiglu(project(x, layer.up, config))
    |> project(layer.down, config)
  end

  defp attention(layer, config, freqs, x, {keys, values}, offset) do
    q = x |> project(layer.q, config) |> heads(config) |> head_norm(layer[:q_norm], config)
    k = x |> project(layer.k, config) |> heads(config) |> head_norm(layer[:k_norm], config)
    v = x |> project(layer.v, config) |> heads(config)
    {q, k} = {turn(q, config, freqs, offset), turn(k, config, freqs, offset)}
    {keys, values} = {keep(keys, k, offset), keep(values, v, offset)}
    scale = 1 / :math.sqrt(config.head_dim)

    q
    |> EMLX.Fast.scaled_dot_product_attention_from(keys, values, scale, offset)
    |> Nx.transpose(axes: [0, 2, 1, 3])
    |> Nx.flatten(axes: [2, 3])
    |> project(layer.o, config)
    |> then(&{&1, {keys, values}})
  end

  # {1, heads, positions, size}
  defp heads(x, config) do
    {batch, positions, width} = Nx.shape(x)

    x
    |> Nx.reshape({batch, positions, div(width, config.head_dim), config.head_dim})
    |> Nx.transpose(axes: [0, 2, 1, 3])
  end

  defp head_norm(x, nil, _config), do: x
  defp head_norm(x, weight, config), do: norm(x, weight, config)

  defp turn(x, config, freqs, offset) do
    positions = Nx.add(Nx.iota({1, Nx.axis_size(x, 2)}, type: :s32), offset)

    x
    |> Nx.transpose(axes: [0, 2, 1, 3])
    |> EMLX.Fast.rope_with_freqs(positions, config.head_dim, false, 1.0, freqs)
    |> Nx.transpose(axes: [0, 2, 1, 3])
  end

  defp keep(cache, new, offset),
    do: Nx.put_slice(cache, [0, 0, offset, 0], Nx.as_type(new, Nx.type(cache)))

  ## Several tokens

  @doc """
  Draws tokens one after another, at most `:count` of them, each from the logits after the one before.

  `at` is `{token, offset, key}`: the last token, the position that it goes to, and the state of the
  random numbers. Gives the tokens, `{count}` with -1 for those that were not drawn after an end token
  of `:stop`, where it stands then, and the cache.
  """
  defn draw(model, cache, at, chance, opts \\ []) do
    {token, offset, key} = at
    count = opts[:count]
    tokens = Nx.broadcast(Nx.s32(-1), {count})
    done = Nx.u8(0)

    {_, tokens, token, offset, key, _, cache, _, _} =
      while {i = 0, tokens, token, offset, key, done, cache, model, chance},
            i < count and not done do
        {logits, cache} = forward(model, opts[:config], Nx.reshape(token, {1, 1}), cache, offset)
        {token, key} = EMLXAxon.Sampler.sample(logits, key, chance, sampler: opts[:sampler])
        tokens = Nx.put_slice(tokens, [i], Nx.reshape(token, {1}))
        done = stops(token, stop: opts[:stop])
        {i + 1, tokens, token, offset + 1, key, done, cache, model, chance}
      end

    {tokens, {token, offset, key}, cache}
  end

  @doc "Takes the prompt, and draws the first token: `{token, key, cache}`."
  defn begin(model, cache, tokens, offset, key, chance, opts \\ []) do
    {logits, cache} = forward(model, opts[:config], tokens, cache, offset)
    {token, key} = EMLXAxon.Sampler.sample(logits, key, chance, sampler: opts[:sampler])
    {token, key, cache}
  end

  deftransformp stops(token, opts) do
    Enum.reduce(opts[:stop], Nx.u8(0), &Nx.logical_or(&2, Nx.equal(token, &1)))
  end

  @doc "A cache without anything in it, for `length` positions, on the model's device."
  def new_cache(model, config, length) do
    shape = {1, config.num_key_value_heads, length, config.head_dim}
    type = Nx.type(model.norm)
    empty = fn -> Nx.broadcast(Nx.tensor(0, type: type), shape) end

    Nx.with_default_backend(backend(model), fn ->
      List.to_tuple(for _ <- 1..config.num_hidden_layers, do: {empty.(), empty.()})
    end)
  end

  @doc "The backend that a model's weights are on."
  def backend(%{norm: %Nx.Tensor{data: %EMLX.Backend{ref: {device, _}}}}),
    do: {EMLX.Backend, device: device}

  def backend(%{norm: %Nx.Tensor{data: %backend{}}}), do: backend
end
