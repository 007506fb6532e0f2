# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Weights do
  @moduledoc false
  # Weights of decoders, from checkpoints with Hugging Face's names, or from parameters of Bumblebee.
  # Those of a checkpoint stay in its files, which are mapped into memory, unless they are cast.

  # The parts of a layer, in the order of a layer's tuple: its key, the name in a checkpoint, that in
  # Bumblebee, and what it is.
  @parts [
    {:input_norm, "input_layernorm", "self_attention_norm", :norm},
    {:output_norm, "post_attention_layernorm", "output_norm", :norm},
    {:q_norm, "self_attn.q_norm", "self_attention.query_norm", :head_norm},
    {:k_norm, "self_attn.k_norm", "self_attention.key_norm", :head_norm},
    {:q, "self_attn.q_proj", "self_attention.query", :kernel},
    {:k, "self_attn.k_proj", "self_attention.key", :kernel},
    {:v, "self_attn.v_proj", "self_attention.value", :kernel},
    {:o, "self_attn.o_proj", "self_attention.output", :kernel},
    {:gate, "mlp.gate_proj", "ffn.gate", :kernel},
    {:up, "mlp.up_proj", "ffn.intermediate", :kernel},
    {:down, "mlp.down_proj", "ffn.output", :kernel}
  ]

  @types [nil, :f16, :bf16, :f32]

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
    tensor = fn name -> tensors |> fetch(name <> ".weight") |> cast(type) end
    kernel = fn name -> quantized(tensors, name, config) || tensor.(name) end
    embedding = tensors |> quantized("model.embed_tokens", config) |> dense(type)
    embedding = embedding || tensor.("model.embed_tokens")

    layers =
      for i <- 0..(config.num_hidden_layers - 1) do
        for {key, name, _, kind} <- parts(family), into: %{} do
          name = "model.layers.#{i}.#{name}"
          {key, if(kind == :kernel, do: kernel.(name), else: tensor.(name))}
        end
      end

    %{
      embed_tokens: embedding,
      layers: List.to_tuple(layers),
      norm: tensor.("model.norm"),
      lm_head: head(tensors, config, kernel) || embedding,
      freqs: EMLXAxon.Rope.freqs(config)
    }
    |> beside()
  end

  # The periods go where the weights are.
  defp beside(model),
    do: Map.update!(model, :freqs, &Nx.backend_copy(&1, EMLXAxon.Decoder.backend(model)))

  # One that is tied to the embedding has its kernel, packed where that is.
  defp head(tensors, config, kernel) do
    cond do
      config.tie_word_embeddings -> quantized(tensors, "model.embed_tokens", config)
      not is_map_key(tensors, "lm_head.weight") -> nil
      true -> kernel.("lm_head")
    end
  end

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

  @doc "The packed tensor's elements; nil stays nil."
  def dense(nil, _type), do: nil
  def dense(packed, type), do: packed |> EMLX.Quantization.dequantize() |> cast(type)

  ## Parameters of Bumblebee

  @doc "The model of a Bumblebee model's parameters, whose kernels are `{in, out}`."
  def from_params(family, config, params) do
    layers =
      for i <- 0..(config.num_hidden_layers - 1) do
        for {key, _, name, kind} <- parts(family), into: %{} do
          name = "decoder.blocks.#{i}.#{name}"
          {key, param(params, name, if(kind == :kernel, do: "kernel", else: "weight"))}
        end
      end

    embedding = param(params, "embedder.token_embedding", "kernel")

    %{
      embed_tokens: embedding,
      layers: List.to_tuple(layers),
      norm: param(params, "output_norm", "weight"),
      lm_head: if(config.tie_word_embeddings, do: embedding) || head_param(params),
      freqs: EMLXAxon.Rope.freqs(config)
    }
    |> beside()
  end

  defp head_param(params), do: param(params, "language_modeling_head.output", "kernel")

  defp param(params, layer, name) do
    case params do
      %{^layer => %{^name => tensor}} -> tensor
      _ -> raise ArgumentError, "the parameters have no #{layer}.#{name}"
    end
  end
end
