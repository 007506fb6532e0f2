# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.TextGeneration do
  @moduledoc """
  Text after text, by a decoder whose weights are at hand.

      {:ok, state} = EMLXAxon.Qwen3.DenseLoader.from_safetensors_dir("~/models/Qwen3-0.6B")
      {:ok, tokenizer} = Bumblebee.load_tokenizer({:local, "~/models/Qwen3-0.6B"})

      EMLXAxon.TextGeneration.run(tokenizer, state, "The capital of France is")
      EMLXAxon.TextGeneration.stream(tokenizer, state, "Once upon a time", &IO.write/1)

      serving = EMLXAxon.TextGeneration.serving(tokenizer, state, max_new_tokens: 100)
      Nx.Serving.run(serving, "The capital of France is")

  The tokenizer is one of Bumblebee's or a map of functions (`EMLXAxon.Tokenizer`). Options are those
  of `EMLXAxon.Qwen3.Generate.generate/3`, and:

    * `:output_format` - `:native`, which is `%{generated_text: text, num_tokens: n}`, or `:bumblebee`,
      `%{text: text, token_summary: %{input: n, output: n, padding: 0}}`
    * `:return_timing` - whether `run/4` and `stream/5` say what time it took, as `:timing`
    * `:stream_chunking` - `:stable`, so that words come whole, or `:token`
    * `:stream_host_sync` - `:per_token` or `{:chunk, n}`: how often a stream looks for new tokens. The
      first one comes at once

  When the process that asked dies, work on its text ends.
  """

  alias EMLXAxon.{Decoder, Generate, Llama, Qwen3, Sampler, Tokenizer}

  @own [
    output_format: :native,
    return_timing: false,
    stream_chunking: :stable,
    stream_host_sync: {:chunk, 5}
  ]

  @drawing [sampler: :greedy, temperature: 0.95, top_p: 0.9, seed: 42]

  # Tokens that are drawn at most before the host looks for an end.
  @chunk 31

  @doc """
  Text after `input`, a text or a map with `:text`: a map with `:results` and `:finish_reason`, and, if
  asked for, `:timing` and `:kv_cache`.
  """
  @spec run(Tokenizer.t(), struct, String.t() | %{text: String.t()}, keyword) :: map
  def run(tokenizer, state, input, options \\ []) do
    {own, options} = split(options)
    check_state!(state)
    ids = Tokenizer.encode(tokenizer, text!(input))
    {tokens, metadata} = generate(state, ids, options)
    output = result(tokenizer, tokens, Nx.axis_size(ids, 1), own[:output_format])
    outcome(%{results: [output]}, metadata, own)
  end

  @doc """
  As `run/4`, with the text given to `emit` as it comes: a map with `:token_summary`, and what `run/4`
  adds.
  """
  @spec stream(
          Tokenizer.t(),
          struct,
          String.t() | %{text: String.t()},
          (String.t() -> any),
          keyword
        ) ::
          map
  def stream(tokenizer, state, input, emit, options \\ []) when is_function(emit, 1) do
    {own, options} = split(options)
    check_state!(state)
    ids = Tokenizer.encode(tokenizer, text!(input))
    words = words!(own[:stream_chunking])
    key = {__MODULE__, make_ref()}
    Process.put(key, "")
    heard = fn tokens -> hear(key, words, emit, Tokenizer.decode(tokenizer, tokens)) end

    try do
      {tokens, metadata} = generate(state, ids, heard_by(options, own[:stream_host_sync], heard))
      if (rest = Process.get(key)) != "", do: emit.(rest)
      summary = %{input: Nx.axis_size(ids, 1), output: length(tokens), padding: 0}
      outcome(%{token_summary: summary}, metadata, own)
    after
      Process.delete(key)
    end
  end

  defp heard_by(options, :per_token, heard),
    do: options ++ [host_sync: :per_token, token_callback: &heard.([&1])]

  defp heard_by(options, {:chunk, n} = sync, heard) when is_integer(n) and n > 0,
    do: options ++ [host_sync: sync, chunk_callback: heard, chunk_callback_first_token: true]

  defp heard_by(_options, other, _heard) do
    raise ArgumentError,
          "expected :stream_host_sync to be :per_token or {:chunk, positive_integer}, got: " <>
            inspect(other)
  end

  defp words!(:stable), do: true
  defp words!(:token), do: false

  defp words!(other) do
    raise ArgumentError,
          "expected :stream_chunking to be :stable or :token, got: #{inspect(other)}"
  end

  # What follows the last space or end of line is kept until more comes.
  defp hear(_key, false, emit, text), do: emit.(text)

  defp hear(key, true, emit, text) do
    text = Process.get(key) <> text

    case :binary.matches(text, [" ", "\n"]) do
      [] ->
        Process.put(key, text)

      matches ->
        {at, _} = List.last(matches)
        at = if binary_part(text, at, 1) == "\n", do: at + 1, else: at
        <<ready::binary-size(at), rest::binary>> = text
        Process.put(key, rest)
        if ready != "", do: emit.(ready)
    end
  end

  @doc """
  A serving of one text at a time, for `Nx.Serving`, with the options of `run/4`. Its answers are those
  of `run/4`.
  """
  @spec serving(Tokenizer.t(), struct, keyword) :: Nx.Serving.t()
  def serving(tokenizer, state, options \\ []) do
    {own, options} = split(options)
    check_state!(state)
    format!(own[:output_format])
    Generate.count!(Keyword.get(options, :max_new_tokens, 100), :max_new_tokens)

    Nx.Serving.new(fn _serving_options -> &answer(state, options, &1) end)
    |> Nx.Serving.client_preprocessing(fn input ->
      ids = Tokenizer.encode(tokenizer, text!(input))
      {Nx.Batch.concatenate([%{"input_ids" => ids}]), Nx.axis_size(ids, 1)}
    end)
    |> Nx.Serving.client_postprocessing(fn {%{tokens: tokens, stopped: stopped}, _}, prompt ->
      tokens = Nx.to_flat_list(tokens)
      reason = if Nx.to_flat_list(stopped) == [1], do: :stop, else: :length
      output = result(tokenizer, tokens, prompt, own[:output_format])
      %{results: [output], finish_reason: reason}
    end)
  end

  # A batch is not a tensor before something is computed of it.
  defp answer(state, options, batch) do
    %{"input_ids" => ids} = Nx.Defn.jit_apply(&Function.identity/1, [batch], compiler: EMLX)
    {tokens, metadata} = generate(state, ids, options)
    stopped = if metadata.finish_reason == :stop, do: 1, else: 0

    %{
      tokens: Nx.tensor([tokens], type: :s32, backend: Nx.BinaryBackend),
      stopped: Nx.tensor([stopped], type: :u8, backend: Nx.BinaryBackend)
    }
  end

  @doc "The serving of a checkpoint of Qwen3 whose kernels MLX packed, from its folder."
  @spec from_mlx4bit(Path.t(), Tokenizer.t(), keyword) :: Nx.Serving.t()
  def from_mlx4bit(path, tokenizer, options \\ []) do
    case Qwen3.Loader.load(path) do
      {:ok, state} -> serving(tokenizer, state, options)
      {:error, text} -> raise ArgumentError, text
    end
  end

  @doc """
  Writes generation, weights included, as a program file, which `emlx run`, the C library and
  `EMLX.load/2` run without Elixir's help, and without a copy of the weights, as the file is mapped.

  Its input `tokens` is a prompt, s32 `{1, prompt_length}`; its output the tokens that follow, of which
  those after an end token are -1. Options: `:prompt_length` (required), `:max_new_tokens` (100),
  `:sampler`, `:temperature`, `:top_p` and `:seed` as for `run/4`, and `:chunk`.

  With `chunk: n` the program gives some tokens at a time. Beside `tokens` it has inputs `state...`, all
  zeros in the first turn, and outputs of the same names, which are the inputs of the next. The output
  `drawn`, s32 `{1, n}`, has the first token after the first turn and up to `n` after each other one,
  behind which it is -1; `state.done` is 1 after the last. `emlx run --repeat` runs such a program, and
  so does `examples/generate.c`.
  """
  @spec export(struct, Path.t(), keyword) :: :ok
  def export(state, path, options) do
    check_state!(state)

    options =
      Keyword.validate!(options, [:prompt_length, :chunk, max_new_tokens: 100] ++ @drawing)

    Sampler.check!(options)
    prompt = Generate.count!(options[:prompt_length], :prompt_length)
    count = Generate.count!(options[:max_new_tokens], :max_new_tokens) - 1
    {model, config} = {Decoder.model(state), state.config}
    type = Nx.type(model.norm)
    settings = [config: config, sampler: options[:sampler], stop: Generate.stop_tokens(config)]
    tokens = Nx.template({1, prompt}, :s32)

    drawing = [
      key: Nx.Random.key(options[:seed]),
      chance: {options[:temperature], options[:top_p]}
    ]

    {run, inputs} =
      if chunk = options[:chunk] do
        settings = settings ++ [count: Generate.count!(chunk, :chunk), limit: prompt + count]
        kept = Decoder.turn_state(config, type, prompt + count)
        {&Decoder.turn(&1, &2, &3, &4, &5, settings), [tokens: tokens, state: kept]}
      else
        settings = settings ++ [type: type, count: count]
        {&Decoder.generate(&1, &2, &3, &4, settings), [tokens: tokens]}
      end

    EMLX.export(run, [model: model] ++ inputs ++ drawing, path,
      constants: [:model, :key, :chance]
    )
  end

  ## Shared

  defp split(options) do
    {own, options} = Keyword.split(options, Keyword.keys(@own))
    {Keyword.merge(@own, own), options}
  end

  defp check_state!(%Qwen3.Model.State{}), do: :ok
  defp check_state!(%Llama.Model.State{}), do: :ok

  defp check_state!(other) do
    raise ArgumentError, "expected a state of Qwen3 or Llama, got: #{inspect(other)}"
  end

  defp text!(text) when is_binary(text), do: text
  defp text!(%{text: text}) when is_binary(text), do: text

  defp text!(inputs) when is_list(inputs),
    do: raise(ArgumentError, "text is generated for one input at a time, got a list")

  defp text!(other) do
    raise ArgumentError, "expected input to be a text or a map with :text, got: #{inspect(other)}"
  end

  defp generate(state, ids, options) do
    defaults = [host_sync: {:chunk, min(Keyword.get(options, :max_new_tokens, 100), @chunk)}]
    Generate.generate(ids, state, Keyword.merge(defaults, options))
  end

  defp result(tokenizer, tokens, prompt, format) do
    text = Tokenizer.decode(tokenizer, tokens)

    case format!(format) do
      :native ->
        %{generated_text: text, num_tokens: length(tokens)}

      :bumblebee ->
        summary = %{input: prompt, output: length(tokens), padding: 0}
        %{text: text, token_summary: summary}
    end
  end

  defp format!(format) when format in [:native, :bumblebee], do: format

  defp format!(other) do
    raise ArgumentError,
          "expected :output_format to be :native or :bumblebee, got: #{inspect(other)}"
  end

  defp outcome(output, metadata, own) do
    timing = if own[:return_timing], do: [:timing], else: []
    Map.merge(output, Map.take(metadata, [:finish_reason, :kv_cache] ++ timing))
  end
end
