# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.QuantizeParams do
  @moduledoc """
  Packs the kernels of an Axon model's parameters: products with them read a quarter of the bytes.

      params = EMLXAxon.QuantizeParams.quantize(model_info.params)
      model_info = %{model_info | params: params}

  A tensor is packed if it is a matrix `{in, out}`, `in` is a multiple of the group's size, both are
  twice as long as a group or longer, and `in` is below `:skip_vocab_threshold`, so that tables of
  embeddings stay as they are.
  """

  @options [bits: 4, group_size: 64, skip_vocab_threshold: 100_000]

  @doc """
  Parameters with their kernels packed: of `Axon.ModelState`, or of nested maps and lists.

  Options: `:bits` (4), `:group_size` (64), `:skip_vocab_threshold` (100,000).
  """
  @spec quantize(params, keyword) :: params when params: term
  def quantize(params, options \\ []) do
    options = Keyword.validate!(options, @options)
    walk(params, &if(fits?(&1, options), do: pack(&1, options), else: &1))
  end

  defp fits?(tensor, options) do
    size = options[:group_size]

    case Nx.shape(tensor) do
      {rows, columns} ->
        not EMLX.Quantization.quantized?(tensor) and Nx.Type.float?(Nx.type(tensor)) and
          rem(rows, size) == 0 and rows >= 2 * size and columns >= 2 * size and
          rows < options[:skip_vocab_threshold]

      _ ->
        false
    end
  end

  # Groups run along the axis that products add over, which is to be the last one.
  defp pack(kernel, options) do
    settings = [type: {:s, options[:bits]}, group_size: options[:group_size]]
    kernel |> Nx.transpose() |> EMLX.Quantization.quantize(settings) |> turned(kernel)
  end

  # The packed rows are `out`; Axon's layers see `{in, out}`.
  defp turned(packed, %{shape: shape, type: type}) do
    config = %{packed.data.quantization_config | transpose: true}
    %{packed | data: %{packed.data | quantization_config: config}, shape: shape, type: type}
  end

  defp walk(%Nx.Tensor{} = tensor, fun), do: fun.(tensor)
  defp walk(%Axon.ModelState{data: data} = state, fun), do: %{state | data: walk(data, fun)}

  defp walk(map, fun) when is_map(map) and not is_struct(map),
    do: Map.new(map, fn {k, v} -> {k, walk(v, fun)} end)

  defp walk(list, fun) when is_list(list), do: Enum.map(list, &walk(&1, fun))
  defp walk(other, _fun), do: other
end
