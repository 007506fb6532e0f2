# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Generate do
  @moduledoc false
  # One token after another, for any decoder. The prompt is one program, and so is a chunk of tokens:
  # a loop that draws, writes its cache in place, and stops at an end token, so that the host hears
  # of a chunk and not of each token.

  alias EMLXAxon.{Decoder, Draw, Sampler, Telemetry}
  import EMLXAxon.Telemetry, only: [now: 0, since: 1]

  @options [
    :kv_cache,
    :token_callback,
    :chunk_callback,
    :rng_key,
    seed: 42,
    max_new_tokens: 100,
    max_len: 2048,
    sampler: :greedy,
    temperature: 0.95,
    top_p: 0.9,
    profile_timing: false,
    chunk_callback_first_token: false,
    return_kv_cache: false,
    host_sync: :per_token,
    defn_options: []
  ]

  # Caches have a multiple of this many positions, so that few programs serve all lengths.
  @bucket 256

  # Where the model names no end token, as Qwen3's.
  @default_stop 151_645

  @doc "Tokens after `input_ids` `{1, count}`, and a map with `:timing` and `:finish_reason`."
  def generate(input_ids, state, options) do
    options = Keyword.validate!(options, @options)
    check_ids!(input_ids)
    Sampler.check!(options)
    count!(options[:max_new_tokens], :max_new_tokens)
    count!(options[:max_len], :max_len)
    chunk = chunk!(options)
    prompt = Nx.axis_size(input_ids, 1)
    run = start(state, prompt, options)
    started = now()
    {token, run} = first(run, input_ids)
    prefill = since(started)
    run = emit_first(run, token)
    {run, spent} = more(run, chunk, [])
    finish(run, started, prefill, spent)
  end

  defp check_ids!(input_ids) do
    case Nx.shape(input_ids) do
      {1, count} when count > 0 ->
        :ok

      {batch, _count} when batch > 1 ->
        raise ArgumentError,
              "generation takes one sequence of tokens: batch size 1, got batch size #{batch}"

      shape ->
        raise ArgumentError,
              "generation takes one sequence of tokens, {1, count}, got: #{inspect(shape)}"
    end
  end

  @doc false
  def count!(value, _name) when is_integer(value) and value > 0, do: value

  def count!(value, name) do
    raise ArgumentError,
          "expected #{inspect(name)} to be a positive integer, got: #{inspect(value)}"
  end

  # Tokens between two looks of the host.
  defp chunk!(options) do
    case {options[:token_callback], options[:host_sync]} do
      {callback, :end} when callback == nil -> options[:max_new_tokens]
      {callback, {:chunk, n}} when callback == nil and is_integer(n) and n > 0 -> n
      {_, sync} when sync in [:per_token, :end] -> 1
      {_, {:chunk, n}} when is_integer(n) and n > 0 -> 1
      {_, other} -> raise ArgumentError, bad_sync(other)
    end
  end

  defp bad_sync(other) do
    "expected :host_sync to be :per_token, :end or {:chunk, n} with a positive integer n, got: " <>
      inspect(other)
  end

  defp start(state, prompt, options) do
    {model, config} = {Decoder.model(state), state.config}
    wanted = min(options[:max_len], prompt + options[:max_new_tokens] - 1)
    cache = options[:kv_cache] || new_cache(state, wanted)
    room = if options[:kv_cache], do: min(options[:max_len], room(cache)), else: wanted

    if prompt > room do
      raise ArgumentError,
            "the input length is #{prompt} tokens, and the cache has room for #{room}"
    end

    %{
      model: model,
      config: config,
      cache: cache,
      backend: Decoder.backend(model),
      at: nil,
      prompt: prompt,
      tokens: [],
      left: min(options[:max_new_tokens], room - prompt + 1),
      stop: stop_tokens(config),
      options: options,
      defn_options: options[:defn_options]
    }
  end

  @doc "An empty cache of `batch` rows for at least `length` positions."
  def new_cache(state, length, batch \\ 1),
    do: exact_cache(state, div(count!(length, :max_len) + @bucket - 1, @bucket) * @bucket, batch)

  @doc "An empty cache of `batch` rows for so many positions."
  def exact_cache(state, length, batch \\ 1),
    do: Decoder.new_cache(Decoder.model(state), state.config, count!(length, :max_len), batch)

  @doc "Positions that a cache has."
  def room(cache), do: cache |> elem(0) |> elem(0) |> Nx.axis_size(2)

  @doc false
  def stop_tokens(config), do: List.wrap(Map.get(config, :eos_token_id) || @default_stop)

  defp key(options), do: options[:rng_key] || Nx.Random.key(options[:seed])

  defp chance(options), do: {options[:temperature], options[:top_p]}

  ## Steps

  defp first(run, input_ids) do
    {chance, sampler} = {chance(run.options), run.options[:sampler]}

    {token, key, cache} =
      Draw.first(run, &Decoder.begin/7, 0, input_ids, key(run.options), chance, sampler)

    at = {Nx.s32([token]), Nx.s32(Nx.axis_size(input_ids, 1)), key, Nx.u8([0])}
    {token, %{run | cache: cache, at: at}}
  end

  defp more(%{left: 0} = run, _chunk, spent), do: {run, Enum.reverse(spent)}

  defp more(run, chunk, spent) do
    if stopped?(run) do
      {run, Enum.reverse(spent)}
    else
      started = now()
      # The first token is part of the first chunk, unless it was heard of by itself.
      {tokens, run} = chunk(run, min(max(chunk - length(run.waiting), 1), run.left))
      each = since(started) / length(tokens)
      run = emit(run, tokens)
      more(run, chunk, List.duplicate(each, length(tokens)) ++ spent)
    end
  end

  defp chunk(run, count) do
    settings = [config: run.config, sampler: run.options[:sampler], stop: run.stop]
    chance = chance(run.options)
    {[drawn], at, cache} = Draw.tokens(run, run.cache, run.at, chance, settings, count)
    {drawn, %{run | cache: cache, at: at}}
  end

  defp stopped?(%{tokens: [last | _], stop: stop}), do: last in stop

  ## What the caller hears

  defp emit_first(run, token) do
    {chunked, now?} = {run.options[:chunk_callback], run.options[:chunk_callback_first_token]}
    if each = run.options[:token_callback], do: each.(token)
    if chunked && now?, do: chunked.([token])
    waiting = if chunked && not now?, do: [token], else: []
    run |> Map.merge(%{tokens: [token], left: run.left - 1}) |> Map.put(:waiting, waiting)
  end

  defp emit(run, tokens) do
    if each = run.options[:token_callback], do: Enum.each(tokens, each)
    if chunked = run.options[:chunk_callback], do: chunked.(run.waiting ++ tokens)
    left = run.left - length(tokens)
    %{run | tokens: Enum.reverse(tokens, run.tokens), left: left, waiting: []}
  end

  defp finish(run, started, prefill, spent) do
    if run.waiting != [], do: run.options[:chunk_callback].(run.waiting)
    spent = if run.options[:profile_timing], do: spent, else: []
    timing = %{prefill_ms: prefill, per_token_ms: spent, total_ms: since(started)}
    reason = if stopped?(run), do: :stop, else: :length
    tokens = Enum.reverse(run.tokens)
    report(run, timing, reason)
    metadata = %{timing: timing, finish_reason: reason}

    if run.options[:return_kv_cache],
      do: {tokens, Map.put(metadata, :kv_cache, run.cache)},
      else: {tokens, metadata}
  end

  # The last token is in no cache yet.
  defp report(run, timing, reason) do
    tokens = length(run.tokens)

    Telemetry.generated(
      %{
        first: timing.prefill_ms,
        duration: timing.total_ms,
        tokens: tokens,
        used: run.prompt + tokens - 1,
        room: room(run.cache)
      },
      reason,
      nil
    )
  end
end
