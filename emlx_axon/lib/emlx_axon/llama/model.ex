# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Llama.Model do
  @moduledoc "Decoders of the family of Llama: their weights, and the caches of their attention."

  defmodule State do
    @moduledoc """
    Weights and configuration of a model.

    `embed_tokens` and `lm_head` are `{vocabulary, hidden}`, `layers` is a tuple of one map of tensors
    a layer, `freqs` has the periods of rotary positions. In `config`, `kernel_layout` says whether
    kernels are `:out_in`, as in checkpoints, or `:in_out`, as in Bumblebee.
    """
    @enforce_keys [:embed_tokens, :layers, :norm, :lm_head, :freqs, :config]
    defstruct [:embed_tokens, :layers, :norm, :lm_head, :freqs, :config]

    @type t :: %__MODULE__{
            embed_tokens: Nx.Tensor.t(),
            layers: tuple,
            norm: Nx.Tensor.t(),
            lm_head: Nx.Tensor.t(),
            freqs: Nx.Tensor.t(),
            config: map
          }
  end

  @doc """
  An empty cache for at least `max_len` positions: a tuple of `{keys, values}` a layer, each
  `{1, groups, length, size}`.
  """
  @spec init_kv_cache(State.t(), pos_integer) :: tuple
  def init_kv_cache(%State{} = state, max_len) do
    length = max_len |> EMLXAxon.Generate.count!(:max_len) |> EMLXAxon.Generate.bucket()
    EMLXAxon.Decoder.new_cache(state, state.config, length)
  end

  @doc """
  Takes tokens `{1, count}` at position `offset` on; gives the logits `{1, vocabulary}` after the
  last, and the cache with these positions filled in.
  """
  @spec forward(Nx.Tensor.t(), tuple, non_neg_integer, State.t()) :: {Nx.Tensor.t(), tuple}
  def forward(tokens, cache, offset, %State{config: config} = state) do
    model = state |> Map.from_struct() |> Map.delete(:config)
    run = &EMLXAxon.Decoder.forward(&1, config, &2, &3, &4)
    Nx.Defn.jit_apply(run, [model, tokens, cache, Nx.s32(offset)], compiler: EMLX)
  end
end
