# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Numbers do
  @moduledoc """
  Elements as Elixir numbers, and back: the recorder's own reading and rounding, so that what is
  recorded does not go through the library under test.

  A real number is a float, `:nan`, `:infinity` or `:neg_infinity`, as in Nx.
  """

  import Bitwise

  # Bits of the exponent and of the mantissa.
  @layouts %{
    {:f, 8} => {5, 2},
    {:f8_e4m3fn, 8} => {4, 3},
    {:bf, 16} => {8, 7},
    {:f, 16} => {5, 10},
    {:f, 32} => {8, 23},
    {:f, 64} => {11, 52}
  }

  @doc "Whether the elements of a type are real floating-point numbers."
  def float?(type), do: is_map_key(@layouts, type)

  @doc "Whether the reference drops bits of a type that we round to nearest."
  def truncated?(type), do: type in [{:bf, 16}, {:f, 8}, {:f8_e4m3fn, 8}]

  @doc "The elements of Nx's own binary of a real type."
  def decode({:u, size}, bits), do: for(<<x::unsigned-native-size(size) <- bits>>, do: x)
  def decode({:s, size}, bits), do: for(<<x::signed-native-size(size) <- bits>>, do: x)

  def decode({_, size} = type, bits) do
    {exponent, mantissa} = Map.fetch!(@layouts, type)

    for <<x::unsigned-native-size(size) <- bits>>,
      do: decode_float(x, exponent, mantissa, type == {:f8_e4m3fn, 8})
  end

  defp decode_float(bits, exponent_bits, mantissa_bits, finite_only?) do
    mantissa = band(bits, (1 <<< mantissa_bits) - 1)
    exponent = bits >>> mantissa_bits &&& (1 <<< exponent_bits) - 1
    negative? = bits >>> (mantissa_bits + exponent_bits) == 1
    last = (1 <<< exponent_bits) - 1
    bias = last >>> 1

    cond do
      exponent == last and finite_only? and mantissa == (1 <<< mantissa_bits) - 1 ->
        :nan

      exponent == last and not finite_only? and mantissa != 0 ->
        :nan

      exponent == last and not finite_only? ->
        if negative?, do: :neg_infinity, else: :infinity

      exponent == 0 ->
        signed(scale(mantissa, 1 - bias - mantissa_bits), negative?)

      true ->
        signed(
          scale(mantissa + (1 <<< mantissa_bits), exponent - bias - mantissa_bits),
          negative?
        )
    end
  end

  # Subtracting from zero would lose the sign of zero.
  defp signed(value, true), do: value * -1.0
  defp signed(value, false), do: value

  # integer * 2 ** power, in two steps as the power alone may not be a float.
  defp scale(integer, power) when power < -1000,
    do: integer * :math.pow(2.0, -1000) * :math.pow(2.0, power + 1000)

  defp scale(integer, power), do: integer * :math.pow(2.0, power)

  @doc "Nx's own binary of real elements, floats rounded to nearest, ties to even."
  def encode({kind, size}, values) when kind in [:u, :s],
    do: for(x <- values, into: <<>>, do: <<x::native-size(size)>>)

  def encode({_, size} = type, values),
    do: for(x <- values, into: <<>>, do: <<float_bits(type, x)::unsigned-native-size(size)>>)

  defp float_bits({:f8_e4m3fn, 8}, :nan), do: 0x7F
  defp float_bits({:f8_e4m3fn, 8}, :infinity), do: 0x7E
  defp float_bits({:f8_e4m3fn, 8}, :neg_infinity), do: 0xFE

  defp float_bits(type, value) do
    {exponent_bits, mantissa_bits} = Map.fetch!(@layouts, type)
    infinity = ((1 <<< exponent_bits) - 1) <<< mantissa_bits
    sign = 1 <<< (exponent_bits + mantissa_bits)

    case value do
      :nan -> infinity + (1 <<< (mantissa_bits - 1))
      :infinity -> infinity
      :neg_infinity -> sign + infinity
      number -> finite_bits(type, number * 1.0, exponent_bits, mantissa_bits, infinity, sign)
    end
  end

  # The exponent and the mantissa are one number: a carry out of the mantissa is right as it is.
  defp finite_bits(type, number, exponent_bits, mantissa_bits, infinity, sign) do
    <<negative::1, exponent::11, fraction::52>> = <<number::float-64>>
    bias = (1 <<< (exponent_bits - 1)) - 1

    {whole, power} =
      if exponent == 0, do: {fraction, -1074}, else: {fraction + (1 <<< 52), exponent - 1075}

    lowest = 1 - bias - mantissa_bits
    # The weight of the last bit kept, which subnormal numbers share.
    last = max(power + 52 - mantissa_bits, lowest)
    rounded = if whole == 0, do: 0, else: shift_to_even(whole, last - power)
    bits = rounded + ((last - lowest) <<< mantissa_bits)

    highest = if type == {:f8_e4m3fn, 8}, do: 0x7E, else: infinity
    min(bits, highest) + negative * sign
  end

  defp shift_to_even(whole, by) when by <= 0, do: whole <<< -by

  defp shift_to_even(whole, by) do
    half = 1 <<< (by - 1)
    rest = band(whole, (1 <<< by) - 1)
    down = whole >>> by
    if rest > half or (rest == half and rem(down, 2) == 1), do: down + 1, else: down
  end
end
