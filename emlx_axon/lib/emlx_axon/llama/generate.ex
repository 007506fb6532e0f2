# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Llama.Generate do
  @moduledoc "Tokens after tokens, by a model of the family of Llama."

  alias EMLXAxon.Llama.Model.State

  @doc """
  Draws tokens after `input_ids`, `{1, count}`: `{tokens, metadata}`. An end token is the last one.

  ## Options

    * `:max_new_tokens` - how many at most, 100
    * `:max_len` - positions of the cache at most, 2048
    * `:kv_cache` - a cache of `Model.init_kv_cache/2` to use
    * `:sampler` - `:greedy`, `:top_p_cpu` or `:top_p_gpu` (EMLXAxon.Sampler)
    * `:temperature`, `:top_p` - 0.95 and 0.9
    * `:seed` - 42, or `:rng_key`, a key of `Nx.Random`
    * `:host_sync` - `:per_token`, `{:chunk, n}` or `:end`: when the host hears of tokens
    * `:token_callback`, `:chunk_callback` - functions of a token, and of a list of them; with the
      first the host hears of every token. `:chunk_callback_first_token` gives the first at once
    * `:profile_timing` - the time of each token in `metadata.timing.per_token_ms`
    * `:return_kv_cache` - the cache in `metadata.kv_cache`
    * `:defn_options` - for the compiler
  """
  @spec generate(Nx.Tensor.t(), State.t(), keyword) :: {[non_neg_integer], map}
  def generate(input_ids, %State{} = state, options \\ []),
    do: EMLXAxon.Generate.generate(input_ids, state, options)
end
