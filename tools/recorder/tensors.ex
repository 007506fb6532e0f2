# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Tensors do
  @moduledoc """
  Reproducible tensors on the recording backend, without recording how they are made.
  """

  import Bitwise

  alias Recorder.Numbers

  @unsigned for size <- [2, 4, 8, 16, 32, 64], do: {:u, size}
  @signed for size <- [2, 4, 8, 16, 32, 64], do: {:s, size}
  @floats [{:f, 8}, {:f8_e4m3fn, 8}, {:bf, 16}, {:f, 16}, {:f, 32}, {:f, 64}]
  @complex [{:c, 64}, {:c, 128}]

  def integers, do: @unsigned ++ @signed
  def floats, do: @floats

  @doc "The complex types, or none where the library cannot hold them."
  def complex, do: Enum.filter(@complex, &known?/1)
  def reals, do: integers() ++ @floats
  def types, do: reals() ++ complex()

  @doc "Whether the library computes with a type."
  def known?({:c, size}) do
    device = EMLX.Native.device(:cpu)
    attributes = [shape: {}, value: 0]
    match?({:ok, _}, EMLX.NIF.apply(:constant, device, [], attributes, :"c#{size}"))
  end

  def known?(_type), do: true

  @doc """
  A tensor whose elements depend on the arguments only.

  Styles: `:plain`, small numbers of both signs; `:positive`; `:unit`, between -1 and 1; `:few`,
  with many equal ones; `:special`, with the ends of the type's range, infinities and NaN.
  """
  def tensor(type, shape, style, seed) do
    type = Nx.Type.normalize!(type)
    state = :rand.seed_s(:exsss, :erlang.phash2({type, shape, style, seed}))

    {values, _state} =
      Enum.map_reduce(1..Tuple.product(shape)//1, state, &value(type, style, &1, &2))

    new(type, shape, encode(type, values))
  end

  @doc "A tensor of given numbers."
  def of(type, shape, values) do
    type = Nx.Type.normalize!(type)
    new(type, shape, encode(type, values))
  end

  defp new(type, shape, bits),
    do: %{Nx.template(shape, type) | data: %Recorder.Backend{state: bits}}

  defp encode({:c, 64}, values),
    do: Numbers.encode({:f, 32}, Enum.flat_map(values, &Tuple.to_list/1))

  defp encode({:c, 128}, values),
    do: Numbers.encode({:f, 64}, Enum.flat_map(values, &Tuple.to_list/1))

  defp encode(type, values), do: Numbers.encode(type, values)

  ## Elements

  defp value({:c, size}, style, index, state) do
    {re, state} =
      value({:f, div(size, 2)}, if(style == :special, do: :plain, else: style), index, state)

    {im, state} = value({:f, div(size, 2)}, :plain, index, state)
    {{re, im}, state}
  end

  defp value(type, :special, _index, state) do
    specials = specials(type)
    {place, state} = :rand.uniform_s(length(specials) + 2, state)

    case Enum.at(specials, place - 1) do
      nil -> value(type, :plain, 0, state)
      special -> {special, state}
    end
  end

  defp value({kind, size}, style, _index, state) when kind in [:u, :s] do
    {low, high} = range(kind, size)
    high = if style == :few, do: min(high, 2), else: min(high, 100)

    low =
      if style == :positive,
        do: min(1, high),
        else: max(low, if(style == :few, do: -2, else: -100))

    {x, state} = :rand.uniform_s(high - low + 1, state)
    {low + x - 1, state}
  end

  defp value(type, style, _index, state) do
    {x, state} = :rand.uniform_s(state)

    x =
      case style do
        :plain -> 8.0 * x - 4.0
        :positive -> 0.125 + 6.0 * x
        :unit -> 1.96 * x - 0.98
        :few -> Float.round(4.0 * x - 2.0)
      end

    {type |> Numbers.encode([settle(type, x)]) |> then(&hd(Numbers.decode(type, &1))), state}
  end

  # The reference reads the smallest numbers of f8 wrongly.
  defp settle({:f, 8}, x) when abs(x) < 0.001, do: 0.5
  defp settle(_type, x), do: x

  defp range(:u, size), do: {0, (1 <<< size) - 1}
  defp range(:s, size), do: {-(1 <<< (size - 1)), (1 <<< (size - 1)) - 1}

  defp specials({kind, size}) when kind in [:u, :s] do
    {low, high} = range(kind, size)
    Enum.uniq([low, high, 0, 1, max(low, -1), high - 1, low + 1])
  end

  defp specials({:f8_e4m3fn, 8}),
    do: [:nan, 0.0, zero(-1.0), 1.0, -1.0, 448.0, -448.0, 0.015625, 2.5]

  defp specials(type) do
    largest = %{
      8 => 57344.0,
      16 => 65504.0,
      32 => 3.4028234663852886e38,
      64 => 1.7976931348623157e308
    }

    smallest = %{8 => 6.103515625e-5, 16 => 6.0e-5, 32 => 1.0e-40, 64 => 1.0e-310}
    size = elem(type, 1)
    top = if type == {:bf, 16}, do: 3.3895313892515355e38, else: largest[size]

    [:nan, :infinity, :neg_infinity, 0.0, zero(-1.0), 1.0, -1.0, 0.5, -0.5, 2.5, -1.5, top, -top] ++
      Enum.map([smallest[size], -smallest[size]], fn x ->
        hd(Numbers.decode(type, Numbers.encode(type, [x])))
      end)
  end

  # As literals, the two zeros may become one.
  defp zero(sign), do: 0.0 * sign
end
