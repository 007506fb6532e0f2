# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Config do
  @moduledoc false
  # What a decoder needs to know besides its weights, from a checkpoint's `config.json` or from a
  # specification of Bumblebee.

  @families %{"qwen3" => :qwen3, "llama" => :llama}

  @doc "Reads a `config.json`; its `model_type` has to be the one given."
  def read(path, family) do
    with {:ok, text} <- read_file(path),
         {:ok, raw} <- decode(text, path),
         :ok <- check_family(raw["model_type"], family, path) do
      from_json(raw)
    end
  end

  defp read_file(path) do
    with {:error, reason} <- File.read(path),
         do: {:error, "cannot read #{path}: #{:file.format_error(reason)}"}
  end

  @doc "Decodes JSON by what there is: Elixir's own module, or Jason."
  def decode(text, path) do
    case Enum.find([JSON, Jason], &Code.ensure_loaded?/1) do
      nil -> {:error, "reading #{path} needs Elixir 1.18 or the package jason"}
      module -> decoded(module.decode(text), path)
    end
  end

  defp decoded({:ok, %{} = raw}, _path), do: {:ok, raw}
  defp decoded(_other, path), do: {:error, "#{path} is not an object of JSON"}

  # A configuration without the key is taken for what the caller loads.
  defp check_family(nil, _family, _path), do: :ok

  defp check_family(type, family, path) do
    if @families[type] == family,
      do: :ok,
      else: {:error, "#{path}: expected model_type \"#{family}\", got: #{inspect(type)}"}
  end

  @required ~w(hidden_size intermediate_size num_attention_heads num_hidden_layers vocab_size)

  def from_json(raw) do
    case Enum.reject(@required, &is_integer(raw[&1])) do
      [] -> with :ok <- check_kind(raw), do: build(raw)
      missing -> {:error, "the configuration has no whole number for #{Enum.join(missing, ", ")}"}
    end
  end

  # What other models of these families have and these decoders have not. Left out silently it would
  # give other tokens.
  defp check_kind(raw) do
    window = raw["use_sliding_window"] != false && raw["sliding_window"]

    cond do
      raw["attention_bias"] not in [nil, false] -> not_known("attention_bias=true")
      raw["mlp_bias"] not in [nil, false] -> not_known("mlp_bias=true")
      window -> not_known("sliding_window=#{inspect(window)}")
      true -> check_activation(raw["hidden_act"])
    end
  end

  defp not_known(what),
    do: {:error, "the configuration has more than is known here: this does not support #{what}"}

  defp check_activation(name) when name in [nil, "silu"], do: :ok

  defp check_activation(name),
    do: {:error, "expected hidden_act \"silu\", got: #{inspect(name)}"}

  # Newer files have all about rotary positions in one place.
  defp build(raw) do
    raw = Map.merge(raw, Map.take(raw["rope_parameters"] || %{}, ["rope_theta"]))
    heads = raw["num_attention_heads"]

    with {:ok, scaling} <- rope_scaling(raw["rope_scaling"] || raw["rope_parameters"]) do
      {:ok,
       %{
         hidden_size: raw["hidden_size"],
         intermediate_size: raw["intermediate_size"],
         num_attention_heads: heads,
         num_key_value_heads: raw["num_key_value_heads"] || heads,
         head_dim: raw["head_dim"] || div(raw["hidden_size"], heads),
         num_hidden_layers: raw["num_hidden_layers"],
         vocab_size: raw["vocab_size"],
         rms_norm_eps: (raw["rms_norm_eps"] || 1.0e-6) * 1.0,
         rope_theta: (raw["rope_theta"] || 10_000.0) * 1.0,
         rope_scaling: scaling,
         tie_word_embeddings: raw["tie_word_embeddings"] || false,
         eos_token_id: raw["eos_token_id"],
         bos_token_id: raw["bos_token_id"],
         quantization: raw["quantization"] || raw["quantization_config"],
         kernel_layout: :out_in
       }}
    end
  end

  defp rope_scaling(nil), do: {:ok, nil}

  defp rope_scaling(%{} = raw) do
    case raw["rope_type"] || raw["type"] do
      type when type in [nil, "default"] ->
        {:ok, nil}

      "llama3" ->
        {:ok,
         %{
           type: :llama3,
           factor: raw["factor"] || 8.0,
           low_frequency_factor: raw["low_freq_factor"] || 1.0,
           high_frequency_factor: raw["high_freq_factor"] || 4.0,
           original_max_positions: raw["original_max_position_embeddings"] || 8192
         }}

      other ->
        {:error,
         "rotary positions are scaled by #{inspect(other)}; this supports nil or llama3 rope scaling"}
    end
  end

  @doc "From a specification of Bumblebee, whose kernels are `{in, out}`."
  def from_spec(spec) do
    if spec.activation != :silu,
      do:
        raise(
          ArgumentError,
          "this supports activation :silu only, got: #{inspect(spec.activation)}"
        )

    %{
      hidden_size: spec.hidden_size,
      intermediate_size: spec.intermediate_size,
      num_attention_heads: spec.num_attention_heads,
      num_key_value_heads: spec.num_key_value_heads,
      head_dim: spec.attention_head_size || div(spec.hidden_size, spec.num_attention_heads),
      num_hidden_layers: spec.num_blocks,
      vocab_size: spec.vocab_size,
      rms_norm_eps: spec.layer_norm_epsilon * 1.0,
      rope_theta: spec.rotary_embedding_base * 1.0,
      rope_scaling: spec |> Map.get(:rotary_embedding_scaling_strategy) |> strategy(),
      tie_word_embeddings: spec.tie_word_embeddings,
      eos_token_id: nil,
      bos_token_id: nil,
      quantization: nil,
      kernel_layout: :in_out
    }
  end

  @doc "The tokens that begin and end a text, from options of theirs or a `:generation_config`."
  def end_tokens(options) do
    unless Keyword.keyword?(options),
      do: raise(ArgumentError, "expected opts to be a keyword list, got: #{inspect(options)}")

    options = Keyword.validate!(options, [:generation_config, :eos_token_id, :bos_token_id])
    generation = options[:generation_config] || %{}

    for key <- [:eos_token_id, :bos_token_id], into: %{} do
      {key, options[key] || Map.get(generation, key)}
    end
  end

  defp strategy(nil), do: nil
  defp strategy(%{type: :llama3} = strategy), do: strategy

  defp strategy(other) do
    raise ArgumentError,
          "rotary positions are scaled by #{inspect(other)}; only :llama3 is known"
  end
end
