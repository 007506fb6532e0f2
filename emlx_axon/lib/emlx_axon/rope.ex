# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Rope do
  @moduledoc false
  # The periods of rotary positions, as `EMLX.Fast.rope_with_freqs/6` takes them, on
  # Nx.BinaryBackend, so that a traced function may have them as constants.

  @doc "Periods `{head_dim / 2}` of type f32 for a configuration."
  def freqs(%{head_dim: size, rope_theta: base} = config),
    do: periods(size, base, Map.get(config, :rope_scaling))

  @doc """
  Periods `base ** (2 * i / size)`. With the scaling of Llama 3 those of long waves are `factor` times
  as long, those of short waves as they are, and those between in proportion.
  """
  def periods(size, base, scaling) do
    0..(div(size, 2) - 1)//1
    |> Enum.map(&scaled(:math.pow(base, 2 * &1 / size), scaling))
    |> Nx.tensor(type: :f32, backend: Nx.BinaryBackend)
  end

  defp scaled(period, nil), do: period

  defp scaled(period, %{type: :llama3} = scaling) do
    %{factor: factor, original_max_positions: most} = scaling
    %{low_frequency_factor: low, high_frequency_factor: high} = scaling
    # turns of the wave over all positions of the first training
    turns = most / (2 * :math.pi() * period)
    smooth = ((turns - low) / (high - low)) |> max(0.0) |> min(1.0)
    1 / ((1 - smooth) / (period * factor) + smooth / period)
  end
end
