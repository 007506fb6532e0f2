# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Qwen3.Loader do
  @moduledoc """
  Models of Qwen3 from checkpoints of MLX, whose kernels are packed in 4 bits (or as `config.json`
  says), and stay so.
  """

  @doc "From a folder: `{:ok, state}` or `{:error, text}`."
  @spec load(Path.t()) :: {:ok, EMLXAxon.Qwen3.Model.State.t()} | {:error, String.t()}
  def load(path), do: EMLXAxon.Qwen3.DenseLoader.from_safetensors_dir(path)
end
