# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.MLX4BitParams do
  @moduledoc """
  The weights of a checkpoint of Qwen3 that MLX packed, as parameters for Bumblebee's model.

  Kernels come unpacked, `{in, out}`, in the type of their scales; `EMLXAxon.QuantizeParams` packs them
  again the way that Axon's layers read them.
  """

  alias EMLXAxon.Weights

  @doc "Loads a folder with `config.json` and files of `.safetensors`."
  @spec load(Path.t()) :: Axon.ModelState.t()
  def load(path) do
    path = Path.expand(path)

    with {:ok, paths} <- Weights.shards(path),
         {:ok, {model, config}} <-
           Weights.load(:qwen3, Path.join(path, "config.json"), paths, []) do
      %Axon.ModelState{data: params(model, config)}
    else
      {:error, text} -> raise ArgumentError, text
    end
  end

  defp params(model, config) do
    layers =
      for {layer, i} <- Enum.with_index(Tuple.to_list(model.layers)),
          {key, _, name, kind} <- Weights.parts(:qwen3),
          into: %{} do
        {"decoder.blocks.#{i}.#{name}", param(layer[key], kind)}
      end

    Map.merge(layers, %{
      "embedder.token_embedding" => %{"kernel" => model.embed_tokens},
      "output_norm" => %{"weight" => model.norm},
      "language_modeling_head.output" => %{"kernel" => head(model, config)}
    })
  end

  defp param(tensor, {_out, _into}), do: %{"kernel" => tensor |> unpacked() |> Nx.transpose()}
  defp param(tensor, _norm), do: %{"weight" => tensor}

  defp head(model, %{tie_word_embeddings: true}), do: model.embed_tokens
  defp head(model, _config), do: unpacked(model.lm_head)

  defp unpacked(tensor) do
    if EMLX.Quantization.quantized?(tensor),
      do: EMLX.Quantization.dequantize(tensor),
      else: tensor
  end
end
