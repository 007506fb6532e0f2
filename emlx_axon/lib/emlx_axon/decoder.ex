# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Decoder do
  @moduledoc false
  # The forward pass of decoders of the families of Llama and Qwen3, in plain Nx and EMLX.Fast.
  #
  # A model is a map of weights: `embed_tokens` `{vocabulary, hidden}`, `norm`, `lm_head`, `freqs`, and
  # `layers`, a tuple of one map a layer. Its configuration (EMLXAxon.Config) comes apart from it, as
  # it is no data. A cache is a tuple of `{keys, values}` a layer, `{batch, groups, length, size}` each,
  # of which the positions before `offset` are filled: a scalar, or for single tokens a number each,
  # `{batch}`.

  import Nx.Defn

  @doc "The weights of a state: all but its configuration."
  def model(state), do: state |> Map.from_struct() |> Map.delete(:config)

  @doc """
  Takes tokens `{batch, count}` at position `offset` on, and gives the logits `{batch, vocabulary}`
  after the last of each row, of type f32, and the cache with these positions filled in.
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
    offset = if Nx.rank(offset) == 1, do: Nx.new_axis(offset, 1), else: offset
    count = Nx.iota({Nx.axis_size(x, 0), Nx.axis_size(x, 2)}, axis: 1, type: :s32)

    x
    |> Nx.transpose(axes: [0, 2, 1, 3])
    |> EMLX.Fast.rope_with_freqs(Nx.add(count, offset), config.head_dim, false, 1.0, freqs)
    |> Nx.transpose(axes: [0, 2, 1, 3])
  end

  defp keep(cache, new, offset) do
    new = Nx.as_type(new, Nx.type(cache))

    if Nx.rank(offset) == 0,
      do: Nx.put_slice(cache, [0, 0, offset, 0], new),
      else: keep_each(cache, new, offset)
  end

  # A row of each head goes to the position of its sequence.
  defp keep_each(cache, new, offset) do
    {batch, groups, 1, size} = Nx.shape(new)
    shape = {batch, groups, 1}

    places =
      [Nx.iota(shape, axis: 0), Nx.iota(shape, axis: 1), Nx.reshape(offset, {batch, 1, 1})]
      |> Enum.map(&(&1 |> Nx.as_type(:s32) |> Nx.broadcast(shape)))
      |> Nx.concatenate(axis: 2)
      |> Nx.reshape({batch * groups, 3})

    Nx.indexed_put(cache, places, Nx.reshape(new, {batch * groups, size}), axes: [0, 1, 2])
  end

  ## Several tokens

  @doc """
  Draws tokens one after another, at most `:count` of them, each from the logits after the one before.

  `at` is `{token, offset, key, done}`: the last token of each row, `{batch}`, the positions that they
  go to, a scalar or `{batch}`, the state of the random numbers, and a 1 for each row that has ended,
  `{batch}`. Gives the tokens, `{batch, count}` with -1 for those that were not drawn after an end
  token of `:stop`, where it stands then, and the cache.
  """
  defn draw(model, cache, at, chance, opts \\ []) do
    {token, _, _, _} = at
    tokens = Nx.broadcast(Nx.s32(-1), {Nx.size(token), opts[:count]})

    {_, tokens, at, cache, _, _} =
      while {i = 0, tokens, at, cache, model, chance}, i < opts[:count] and not ended(at) do
        {drawn, at, cache} = step(model, cache, at, chance, opts)
        {i + 1, Nx.put_slice(tokens, [0, i], Nx.new_axis(drawn, 1)), at, cache, model, chance}
      end

    {tokens, at, cache}
  end

  defnp(ended({_, _, _, done}), do: Nx.all(done))

  @doc "One turn of `draw/5`, with the tokens that it drew, `{batch}`."
  defn step(model, cache, at, chance, opts \\ []) do
    {token, offset, key, done} = at
    {logits, cache} = forward(model, opts[:config], Nx.new_axis(token, 1), cache, offset)
    {next, key} = EMLXAxon.Sampler.sample(logits, key, chance, sampler: opts[:sampler])
    offset = further(offset, done)
    ends = Nx.as_type(done or last(next, offset, opts), :u8)
    at = {Nx.select(done, token, next), offset, key, ends}
    {Nx.select(done, -1, next), at, cache}
  end

  # Rows that have ended stay where they are.
  deftransformp further(offset, done) do
    step = if Nx.rank(offset) == 0, do: 1, else: Nx.subtract(1, done)
    offset |> Nx.add(step) |> Nx.as_type(Nx.type(offset))
  end

  @doc """
  Takes prompts of the same length, at position `offset` on, and draws the first token of each:
  `{token, key, cache}`.
  """
  defn begin(model, cache, offset, tokens, key, chance, opts \\ []) do
    {logits, cache} = forward(model, opts[:config], tokens, cache, offset)
    {token, key} = EMLXAxon.Sampler.sample(logits, key, chance, sampler: opts[:sampler])
    {token, key, cache}
  end

  @doc "As `begin/7` for one prompt that gets row `row` of a cache."
  defn admit(model, cache, row, tokens, key, chance, opts \\ []) do
    {token, key, taken} = begin(model, fresh(cache), 0, tokens, key, chance, opts)
    {token, key, put_row(cache, taken, row)}
  end

  # An empty cache of one row as long as the others.
  deftransformp fresh(cache) do
    empty = fn t -> Nx.broadcast(Nx.tensor(0, type: Nx.type(t)), put_elem(Nx.shape(t), 0, 1)) end

    cache
    |> Tuple.to_list()
    |> Enum.map(fn {k, v} -> {empty.(k), empty.(v)} end)
    |> List.to_tuple()
  end

  deftransformp put_row(cache, taken, row) do
    put = fn to, from -> Nx.put_slice(to, [row, 0, 0, 0], from) end

    [Tuple.to_list(cache), Tuple.to_list(taken)]
    |> Enum.zip_with(fn [{k, v}, {new_k, new_v}] -> {put.(k, new_k), put.(v, new_v)} end)
    |> List.to_tuple()
  end

  # Whether a token ends its row: by what it is, or by its position where `:limit` names the last one.
  deftransformp last(token, offset, opts) do
    stops = stops(token, stop: opts[:stop])

    if limit = opts[:limit],
      do: Nx.logical_or(stops, Nx.greater_equal(offset, limit)),
      else: stops
  end

  @doc "Which tokens are among those of `:stop`."
  deftransform stops(token, opts) do
    none = Nx.broadcast(Nx.u8(0), token)
    Enum.reduce(opts[:stop], none, &Nx.logical_or(&2, Nx.equal(token, &1)))
  end

  @doc "A cache of `batch` rows without anything in it, on the model's device."
  def new_cache(model, config, length, batch \\ 1) do
    shape = cache_shape(config, batch, length)
    type = Nx.type(model.norm)
    empty = fn -> Nx.broadcast(Nx.tensor(0, type: type), shape) end

    Nx.with_default_backend(backend(model), fn ->
      List.to_tuple(for _ <- 1..config.num_hidden_layers, do: {empty.(), empty.()})
    end)
  end

  @doc """
  Prompts of the same length and what follows them, as one function of the model: the tokens drawn,
  `{batch, count + 1}`, -1 after an end.
  """
  defn generate(model, tokens, key, chance, opts \\ []) do
    cache = empty_cache(tokens, config: opts[:config], type: opts[:type], count: opts[:count])
    {token, key, cache} = begin(model, cache, 0, tokens, key, chance, opts)
    at = {token, Nx.s32(Nx.axis_size(tokens, 1)), key, stops(token, stop: opts[:stop])}
    {more, _at, _cache} = draw(model, cache, at, chance, opts)
    Nx.concatenate([Nx.new_axis(token, 1), more], axis: 1)
  end

  deftransformp empty_cache(tokens, opts) do
    {batch, prompt} = Nx.shape(tokens)
    shape = cache_shape(opts[:config], batch, prompt + opts[:count])
    cache(opts[:config], Nx.broadcast(Nx.tensor(0, type: opts[:type]), shape))
  end

  defp cache_shape(config, batch, length),
    do: {batch, config.num_key_value_heads, length, config.head_dim}

  defp cache(config, part),
    do: List.to_tuple(for _ <- 1..config.num_hidden_layers, do: {part, part})

  @doc """
  A turn of generation by a host that calls it until `state.done` is 1: the first, whose state is
  zeros, reads the prompt and draws one token, each other one at most `:count` of them,
  until `:limit` is the position of the last. `drawn` is `{1, count}`, with -1 behind the last.
  """
  defn turn(model, tokens, state, key, chance, opts \\ []) do
    {drawn, at, cache} =
      if state.offset == 0 do
        {token, key, cache} = begin(model, state.cache, 0, tokens, key, chance, opts)
        offset = Nx.s32(Nx.axis_size(tokens, 1))
        none = Nx.broadcast(Nx.s32(-1), {1, opts[:count]})
        done = Nx.as_type(last(token, offset, opts), :u8)
        {Nx.put_slice(none, [0, 0], Nx.new_axis(token, 1)), {token, offset, key, done}, cache}
      else
        at = {state.token, state.offset, state.key, state.done}
        draw(model, state.cache, at, chance, opts)
      end

    {token, offset, key, done} = at
    state = %{token: token, offset: offset, key: key, done: done, cache: cache}
    %{drawn: drawn, state: state}
  end

  @doc "What the state of `turn/6` looks like, for a cache of that many positions."
  def turn_state(config, type, length) do
    %{
      token: Nx.template({1}, :s32),
      offset: Nx.template({}, :s32),
      key: Nx.template({2}, :u32),
      done: Nx.template({1}, :u8),
      cache: cache(config, Nx.template(cache_shape(config, 1, length), type))
    }
  end

  @doc "The backend that a model's weights are on."
  def backend(%{norm: %Nx.Tensor{data: %EMLX.Backend{ref: {device, _}}}}),
    do: {EMLX.Backend, device: device}

  def backend(%{norm: %Nx.Tensor{data: %backend{}}}), do: backend
end
