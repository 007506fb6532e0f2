# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Qwen3.DenseLoader do
  @moduledoc """
  Models of the family of Qwen3 from checkpoints with Hugging Face's names, or from Bumblebee.

  Weights stay in their files, which are mapped into memory, unless `:type` asks for another type.
  """

  alias EMLXAxon.{Config, Weights}
  alias EMLXAxon.Qwen3.Model.State

  @doc """
  From a folder with `config.json` and files of `.safetensors`: `{:ok, state}` or `{:error, text}`.

  Options: `:type` (`:f16`, `:bf16`, `:f32`) and `:device`.
  """
  @spec from_safetensors_dir(Path.t(), keyword) :: {:ok, State.t()} | {:error, String.t()}
  def from_safetensors_dir(path, options \\ []) do
    path = Path.expand(path)

    with {:ok, paths} <- Weights.shards(path),
         do: from_safetensors_files(Path.join(path, "config.json"), paths, options)
  end

  @doc "As `from_safetensors_dir/2`, from the files by themselves."
  @spec from_safetensors_files(Path.t(), [Path.t()], keyword) ::
          {:ok, State.t()} | {:error, String.t()}
  def from_safetensors_files(config_path, paths, options \\ []) do
    with {:ok, {model, config}} <- Weights.load(:qwen3, config_path, paths, options),
         do: {:ok, struct!(State, Map.put(model, :config, config))}
  end

  @doc """
  From what `Bumblebee.load_model/2` gives. Options: `:eos_token_id` and `:bos_token_id`, or
  `:generation_config`, which has them.
  """
  @spec from_model_info(map, keyword) :: {:ok, State.t()} | {:error, String.t()}
  def from_model_info(info, options \\ [])

  def from_model_info(
        %{params: %{data: params}, spec: %{__struct__: Bumblebee.Text.Qwen3} = spec},
        options
      ) do
    options = Keyword.validate!(options, [:generation_config, :eos_token_id, :bos_token_id])
    config = spec |> Config.from_spec() |> Map.merge(end_tokens(options))
    model = Weights.from_params(:qwen3, config, params)
    {:ok, struct!(State, Map.put(model, :config, config))}
  rescue
    error -> {:error, Exception.message(error)}
  end

  def from_model_info(%{spec: spec}, _options),
    do: {:error, "expected a specification Bumblebee.Text.Qwen3, got: #{inspect(spec)}"}

  def from_model_info(_info, _options),
    do: {:error, "expected a map with :params and :spec, as Bumblebee.load_model/2 gives"}

  defp end_tokens(options) do
    generation = options[:generation_config] || %{}

    for key <- [:eos_token_id, :bos_token_id], into: %{} do
      {key, options[key] || Map.get(generation, key)}
    end
  end
end
