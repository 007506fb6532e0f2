# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Family do
  @moduledoc false
  # The modules of a family of decoders, which differ in their names and in what EMLXAxon.Weights
  # knows of the family: `use EMLXAxon.Family, :llama` in EMLXAxon.Llama makes EMLXAxon.Llama.Model,
  # .Model.State, .DenseLoader, .Generate and .Sampler.

  alias EMLXAxon.{Config, Decoder, Generate, Weights}

  defmacro __using__(family) do
    name = __CALLER__.module |> Module.split() |> List.last()
    state = Module.concat([__CALLER__.module, Model, State])
    spec = Module.concat(Bumblebee.Text, name)

    [
      model(name),
      loader(name, family, state, spec),
      generate(name, state),
      sampler()
    ]
  end

  defp model(name) do
    quote do
      defmodule Model do
        @moduledoc "Decoders of the family of #{unquote(name)}: their weights, and the caches of their attention."

        defmodule State do
          @moduledoc """
          Weights and configuration of a model.

          `embed_tokens` and `lm_head` are `{vocabulary, hidden}`, `layers` is a tuple of one map of
          tensors a layer, `freqs` has the periods of rotary positions. In `config`, `kernel_layout`
          says whether kernels are `:out_in`, as in checkpoints, or `:in_out`, as in Bumblebee.
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
        An empty cache for `max_len` positions: a tuple of `{keys, values}` a layer, each
        `{1, groups, length, size}`.
        """
        @spec init_kv_cache(State.t(), pos_integer) :: tuple
        def init_kv_cache(%State{} = state, max_len), do: Generate.exact_cache(state, max_len)

        @doc """
        Takes tokens `{1, count}` at position `offset` on; gives the logits `{1, vocabulary}` after
        the last, and the cache with these positions filled in.
        """
        @spec forward(Nx.Tensor.t(), tuple, non_neg_integer, State.t()) :: {Nx.Tensor.t(), tuple}
        def forward(tokens, cache, offset, %State{config: config} = state) do
          run = &Decoder.forward(&1, config, &2, &3, &4)
          arguments = [Decoder.model(state), tokens, cache, Nx.s32(offset)]
          Nx.Defn.jit_apply(run, arguments, compiler: EMLX)
        end
      end
    end
  end

  defp loader(name, family, state, spec) do
    quote do
      defmodule DenseLoader do
        @moduledoc """
        Models of the family of #{unquote(name)} from checkpoints with Hugging Face's names, or from
        Bumblebee.

        Weights stay in their files, which are mapped into memory, unless `:type` asks for another
        type.
        """

        @doc """
        From a folder with `config.json` and files of `.safetensors`: `{:ok, state}` or
        `{:error, text}`.

        Options: `:type` (`:f16`, `:bf16`, `:f32`) and `:device`.
        """
        @spec from_safetensors_dir(Path.t(), keyword) ::
                {:ok, unquote(state).t()} | {:error, String.t()}
        def from_safetensors_dir(path, options \\ []) do
          path = Path.expand(path)

          with {:ok, paths} <- Weights.shards(path),
               do: from_safetensors_files(Path.join(path, "config.json"), paths, options)
        end

        @doc "As `from_safetensors_dir/2`, from the files by themselves."
        @spec from_safetensors_files(Path.t(), [Path.t()], keyword) ::
                {:ok, unquote(state).t()} | {:error, String.t()}
        def from_safetensors_files(config_path, paths, options \\ []) do
          with {:ok, {model, config}} <-
                 Weights.load(unquote(family), config_path, paths, options),
               do: {:ok, struct!(unquote(state), Map.put(model, :config, config))}
        end

        @doc """
        From what `Bumblebee.load_model/2` gives. Options: `:eos_token_id` and `:bos_token_id`, or
        `:generation_config`, which has them.
        """
        @spec from_model_info(map, keyword) :: {:ok, unquote(state).t()} | {:error, String.t()}
        def from_model_info(info, options \\ [])

        def from_model_info(
              %{params: %{data: params}, spec: %{__struct__: unquote(spec)} = spec},
              options
            ) do
          config = Map.merge(Config.from_spec(spec), Config.end_tokens(options))
          model = Weights.from_params(unquote(family), config, params)
          {:ok, struct!(unquote(state), Map.put(model, :config, config))}
        rescue
          error -> {:error, Exception.message(error)}
        end

        def from_model_info(%{spec: spec}, _options) do
          {:error, "expected a specification #{inspect(unquote(spec))}, got: #{inspect(spec)}"}
        end

        def from_model_info(_info, _options),
          do: {:error, "expected a map with :params and :spec, as Bumblebee.load_model/2 gives"}
      end
    end
  end

  defp generate(name, state) do
    quote do
      defmodule Generate do
        @moduledoc "Tokens after tokens, by a model of the family of #{unquote(name)}."

        @doc """
        Draws tokens after `input_ids`, `{1, count}`: `{tokens, metadata}`. An end token is the last
        one.

        ## Options

          * `:max_new_tokens` - how many at most, 100
          * `:max_len` - positions of the cache at most, 2048
          * `:kv_cache` - a cache of `Model.init_kv_cache/2` to use
          * `:sampler` - `:greedy`, `:top_p_cpu` or `:top_p_gpu` (EMLXAxon.Sampler)
          * `:temperature`, `:top_p` - 0.95 and 0.9
          * `:seed` - 42, or `:rng_key`, a key of `Nx.Random`
          * `:host_sync` - `:per_token`, `{:chunk, n}` or `:end`: when the host hears of tokens
          * `:token_callback`, `:chunk_callback` - functions of a token, and of a list of them; with
            the first the host hears of every token. `:chunk_callback_first_token` gives the first
            at once
          * `:profile_timing` - the time of each token in `metadata.timing.per_token_ms`
          * `:return_kv_cache` - the cache in `metadata.kv_cache`
          * `:defn_options` - for the compiler
        """
        @spec generate(Nx.Tensor.t(), unquote(state).t(), keyword) :: {[non_neg_integer], map}
        def generate(input_ids, %unquote(state){} = state, options \\ []),
          do: EMLXAxon.Generate.generate(input_ids, state, options)
      end
    end
  end

  defp sampler do
    quote do
      defmodule Sampler do
        @moduledoc "As EMLXAxon.Sampler."
        defdelegate greedy(logits), to: EMLXAxon.Sampler
        defdelegate top_p(logits, key, temperature, top_p), to: EMLXAxon.Sampler
        defdelegate top_p_cpu(logits, temperature \\ 0.95, top_p \\ 0.9), to: EMLXAxon.Sampler
        defdelegate top_p_gpu(logits, key, options \\ []), to: EMLXAxon.Sampler
      end
    end
  end
end
