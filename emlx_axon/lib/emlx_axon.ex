# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon do
  @moduledoc """
  Language models on EMLX: models of Axon whose layers are fused, packed weights, generation.

  `rewrite/2` puts fused functions (`EMLX.Fast`) in place of layers that Axon and Bumblebee compose:

    * `:rms_norm` - without a shift, over the last axis
    * `:layer_norm` - over the last axis
    * `:rotary_embedding` - Bumblebee's, unscaled or scaled as for Llama 3
    * `:sdpa` - Bumblebee's attention, but for windows; masks, biases and head masks are kept
    * `:dropout` - nothing is dropped
    * `:swiglu` - `up * silu(gate)`
    * `:attn_weights` - weights that models give back beside the result are a zero

  and, only if asked for:

    * `:if_present` - Bumblebee's choices take what may be there, such as a cache. A compiled program
      has chosen anyway; the model is of no use without it then
    * `:gqa_cache_fix` - heads are cached before they are repeated

  The model's parameters stay what they are. Rewritten models are for inference.

  `EMLXAxon.TextGeneration` runs decoders of Qwen3 and Llama without Axon.
  """

  alias EMLXAxon.Rewrites

  @doc """
  Rewrites a model; `:only` names what to rewrite.

  ## Examples

      iex> model = Axon.input("x", shape: {nil, 4}) |> Axon.layer_norm()
      iex> rewritten = EMLXAxon.rewrite(model)
      iex> for {_, node} <- rewritten.nodes, node.op_name != :input, do: node.op_name
      [:fast_layer_norm]
  """
  @spec rewrite(Axon.t(), keyword) :: Axon.t()
  def rewrite(%Axon{} = model, options \\ []) do
    options = Keyword.validate!(options, only: Keyword.keys(Rewrites.table()) -- Rewrites.extra())
    rewriters = for name <- options[:only], do: rewriter(name)
    Axon.rewrite_nodes(model, fn node -> Enum.find_value(rewriters, :skip, &found(&1.(node))) end)
  end

  defp found(:skip), do: nil
  defp found(fun), do: fun

  defp rewriter(name) do
    table = Rewrites.table()

    table[name] ||
      raise ArgumentError,
            "unknown rewrite #{inspect(name)}, the names are #{inspect(Keyword.keys(table))}"
  end

  for name <- Keyword.keys(Rewrites.table()) do
    @doc "The function for `Axon.rewrite_nodes/2` that `rewrite/2` has as `#{inspect(name)}`."
    @spec unquote(:"#{name}_rewriter")() :: (Axon.Node.t() -> :skip | function)
    def unquote(:"#{name}_rewriter")(), do: rewriter(unquote(name))
  end

  @doc """
  A model of Bumblebee with the weights of a checkpoint that MLX packed, its kernels packed again for
  Axon's layers: `{:ok, model_info}`. Options are those of `Bumblebee.load_model/2`.
  """
  @spec load_quantized({:local, Path.t()}, keyword) :: {:ok, map} | {:error, String.t()}
  def load_quantized({:local, path}, options \\ []) do
    options = Keyword.merge([backend: EMLX.Backend, type: :bf16], options)

    with {:ok, info} <- apply(Bumblebee, :load_model, [{:local, Path.expand(path)}, options]) do
      packed = path |> EMLXAxon.MLX4BitParams.load() |> EMLXAxon.QuantizeParams.quantize()
      {:ok, %{info | params: %{info.params | data: packed.data}}}
    end
  end

  @doc """
  Module, name and arity of a function; nil for what is none.

  ## Examples

      iex> EMLXAxon.function_info(&String.length/1)
      {String, :length, 1}
  """
  @spec function_info(term) :: mfa | nil
  def function_info(fun) when is_function(fun) do
    info = Function.info(fun)
    {info[:module], info[:name], info[:arity]}
  end

  def function_info(_other), do: nil
end
