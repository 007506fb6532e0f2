# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Weights do
  @moduledoc false
  # Weights of decoders, from checkpoints with Hugging Face's names, or from parameters of Bumblebee.
  # Those of a checkpoint stay in its files, which are mapped into memory, unless they are cast.

  # The parts of a layer, in the order of a layer's tuple: its key, the name in a checkpoint, that in
  # Bumblebee, and what it is: a kernel by what comes out and goes in.
  @parts [
    {:input_norm, "input_layernorm", "self_attention_norm", :norm},
    {:output_norm, "post_attention_layernorm", "output_norm", :norm},
    {:q_norm, "self_attn.q_norm", "self_attention.query_norm", :head_norm},
    {:k_norm, "self_attn.k_norm", "self_attention.key_norm", :head_norm},
    {:q, "self_attn.q_proj", "self_attention.query", {:heads, :hidden}},
    {:k, "self_attn.k_proj", "self_attention.key", {:groups, :hidden}},
    {:v, "self_attn.v_proj", "self_attention.value", {:groups, :hidden}},
    {:o, "self_attn.o_proj", "self_attention.output", {:hidden, :heads}},
    {:gate, "mlp.gate_proj", "ffn.gate", {:inner, :hidden}},
    {:up, "mlp.up_proj", "ffn.intermediate", {:inner, :hidden}},
    {:down, "mlp.down_proj", "ffn.output", {:hidden, :inner}}
  ]

  @types [nil, :f16, :bf16, :f32]

  defp width(:hidden, config), do: config.hidden_size
  defp width(:inner, config), do: config.intermediate_size
  defp width(:heads, config), do: config.num_attention_heads * config.head_dim
  defp width(:groups, config), do: config.num_key_value_heads * config.head_dim

  # The shape of a part, a kernel as it lies in a checkpoint.
  defp part_shape(:norm, config), do: {config.hidden_size}
  defp part_shape(:head_norm, config), do: {config.head_dim}
  defp part_shape({out, into}, config), do: {width(out, config), width(into, config)}

  defp table_shape(config), do: {config.vocab_size, config.hidden_size}

  defp check_shape(tensor, shape, name) do
    if Nx.shape(tensor) != shape do
      raise ArgumentError,
            "the tensor #{name} has the shape #{inspect(Nx.shape(tensor))}, " <>
              "and the configuration expects #{inspect(shape)}"
    end

    tensor
  end

  @doc "The parts of a family's layer: only Qwen3 norms the heads of queries and keys."
  def parts(:qwen3), do: @parts
  def parts(:llama), do: Enum.reject(@parts, &(elem(&1, 3) == :head_norm))

  ## Checkpoints

  @doc "All files of weights in a folder, in their order."
  def shards(folder) do
    case folder |> Path.join("*.safetensors") |> Path.wildcard() |> Enum.sort() do
      [] -> {:error, "there is no file *.safetensors in #{folder}"}
      paths -> {:ok, paths}
    end
  end

  @doc "Loads a model of a family: `{:ok, {model, config}}`, or `{:error, text}`."
  def load(family, config_path, paths, options) do
    options = Keyword.validate!(options, [:type, :device])

    with :ok <- check_type(options[:type]),
         :ok <- check_paths(paths),
         {:ok, config} <- EMLXAxon.Config.read(config_path, family) do
      {:ok, {build(family, config, read(paths, options), options[:type]), config}}
    end
  rescue
    error -> {:error, Exception.message(error)}
  end

  defp check_type(type) when type in @types, do: :ok

  defp check_type(type),
    do: {:error, "expected :type to be one of #{inspect(@types)}, got: #{inspect(type)}"}

  defp check_paths([]), do: {:error, "no files of weights are given"}
  defp check_paths(_paths), do: :ok

  defp read(paths, options) do
    device = Keyword.take(options, [:device])
    Enum.reduce(paths, %{}, &Map.merge(&2, EMLX.load_tensors(&1, device)))
  end

  defp build(family, config, tensors, type) do
    tensor = fn name, shape ->
      tensors |> fetch(name <> ".weight") |> check_shape(shape, name) |> cast(type)
    end

    kernel = fn name, shape ->
      packed = quantized(tensors, name, config)
      if packed, do: check_shape(packed, shape, name), else: tensor.(name, shape)
    end

    table = &kernel.(&1, table_shape(config))
    embedding = dense(table.("model.embed_tokens"), type)

    layers =
      for i <- 0..(config.num_hidden_layers - 1) do
        for {key, name, _, kind} <- parts(family), into: %{} do
          name = "model.layers.#{i}.#{name}"
          part = if is_tuple(kind), do: kernel, else: tensor
          {key, part.(name, part_shape(kind, config))}
        end
      end

    %{
      embed_tokens: embedding,
      layers: List.to_tuple(layers),
      norm: tensor.("model.norm", part_shape(:norm, config)),
      lm_head: head(tensors, config, table) || embedding,
      freqs: EMLXAxon.Rope.freqs(config)
    }
    |> beside()
  end

  # The periods go where the weights are.
  defp beside(model),
    do: Map.update!(model, :freqs, &Nx.backend_copy(&1, EMLXAxon.Decoder.backend(model)))

  # One that is tied to the embedding has its kernel, packed where that is.
  defp head(tensors, %{tie_word_embeddings: true} = config, _table),
    do: quantized(tensors, "model.embed_tokens", config)

  defp head(_tensors, _config, table), do: table.("lm_head")

  defp fetch(tensors, name) do
    case tensors do
      %{^name => tensor} -> tensor
      _ -> raise ArgumentError, "the checkpoint has no tensor #{name}"
    end
  end

  defp cast(tensor, nil), do: tensor
  defp cast(tensor, type), do: Nx.as_type(tensor, type)

  @doc """
  The packed kernel of that name, `{out, in}`, or nil where it is not packed: MLX's checkpoints have
  scales and biases beside it.
  """
  def quantized(tensors, name, config) do
    with %{} = scales <- tensors[name <> ".scales"] do
      setting = config.quantization || %{}
      size = setting["group_size"] || 64
      {rows, groups} = Nx.shape(scales)

      [weight, scales, biases] =
        for part <- ~w(weight scales biases), do: reference(tensors, "#{name}.#{part}")

      EMLX.Quantization.quantized_tensor(weight, scales, biases, {rows, groups * size},
        type: {:s, setting["bits"] || 4},
        group_size: size
      )
    end
  end

  defp reference(tensors, name), do: tensors |> fetch(name) |> EMLX.Backend.from_nx()

  # The elements of what may be packed.
  defp dense(tensor, type) do
    if EMLX.Quantization.quantized?(tensor),
      do: tensor |> EMLX.Quantization.dequantize() |> cast(type),
      else: tensor
  end

  ## Parameters of Bumblebee

  @doc "The model of a Bumblebee model's parameters, whose kernels are `{in, out}`."
  def from_params(family, config, params) do
    layers =
      for i <- 0..(config.num_hidden_layers - 1) do
        for {key, _, name, kind} <- parts(family), into: %{} do
          name = "decoder.blocks.#{i}.#{name}"
          {key, part(params, name, kind, config)}
        end
      end

    table = &(params |> param(&1, "kernel") |> check_shape(table_shape(config), &1))
    embedding = table.("embedder.token_embedding")

    %{
      embed_tokens: embedding,
      layers: List.to_tuple(layers),
      norm: part(params, "output_norm", :norm, config),
      lm_head:
        if(config.tie_word_embeddings,
          do: embedding,
          else: table.("language_modeling_head.output")
        ),
      freqs: EMLXAxon.Rope.freqs(config)
    }
    |> beside()
  end

  # Kernels of Bumblebee are the other way round.
  defp part(params, name, {out, into}, config) do
    shape = part_shape({into, out}, config)
    params |> param(name, "kernel") |> check_shape(shape, name)
  end

  defp part(params, name, kind, config),
    do: params |> param(name, "weight") |> check_shape(part_shape(kind, config), name)

  defp param(params, layer, name) do
    case params do
      %{^layer => %{^name => tensor}} -> tensor
      _ -> raise ArgumentError, "the parameters have no #{layer}.#{name}"
    end
  end
end
