# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.IEEE do
  @moduledoc """
  Element-wise functions of real numbers in double precision, with infinities and NaN, where Nx's
  reference raises or loses digits. Written from IEEE 754 and the functions' definitions.
  """

  import Kernel, except: [max: 2, min: 2]

  @pi :math.pi()

  # Results at infinity and minus infinity.
  @limits %{
    exp: {:infinity, 0.0},
    expm1: {:infinity, -1.0},
    log: {:infinity, :nan},
    log1p: {:infinity, :nan},
    sigmoid: {1.0, 0.0},
    cos: {:nan, :nan},
    sin: {:nan, :nan},
    tan: {:nan, :nan},
    cosh: {:infinity, :infinity},
    sinh: {:infinity, :neg_infinity},
    tanh: {1.0, -1.0},
    acos: {:nan, :nan},
    asin: {:nan, :nan},
    atan: {@pi / 2, -@pi / 2},
    acosh: {:infinity, :nan},
    asinh: {:infinity, :neg_infinity},
    atanh: {:nan, :nan},
    sqrt: {:infinity, :nan},
    rsqrt: {0.0, :nan},
    cbrt: {:infinity, :neg_infinity},
    erf: {1.0, -1.0},
    erfc: {0.0, 2.0},
    erf_inv: {:nan, :nan},
    abs: {:infinity, :infinity},
    negate: {:neg_infinity, :infinity},
    sign: {1.0, -1.0},
    floor: {:infinity, :neg_infinity},
    ceil: {:infinity, :neg_infinity},
    round: {:infinity, :neg_infinity},
    as_type: {:infinity, :neg_infinity}
  }

  @unary Map.keys(@limits)
  @binary [:add, :subtract, :multiply, :divide, :remainder, :pow, :atan2, :max, :min]
  # Those that the reference computes by formulas that lose digits.
  @accurate [:expm1, :log1p, :sigmoid, :rsqrt, :cbrt, :sinh, :asinh, :acosh, :atanh]

  def unary?(op), do: op in @unary
  def binary?(op), do: op in @binary
  def accurate?(op), do: op in @accurate

  ## One operand

  def unary(_op, :nan), do: :nan
  def unary(op, :infinity), do: elem(@limits[op], 0)
  def unary(op, :neg_infinity), do: elem(@limits[op], 1)
  def unary(op, x), do: finite(op, x * 1.0)

  defp finite(:exp, x), do: overflow(fn -> :math.exp(x) end, :infinity)

  defp finite(:expm1, x) when abs(x) > 1,
    do: overflow(fn -> :math.exp(x) - 1.0 end, :infinity)

  defp finite(:expm1, x) do
    u = :math.exp(x)

    cond do
      u == 1.0 -> x
      u - 1.0 == -1.0 -> -1.0
      true -> (u - 1.0) * x / :math.log(u)
    end
  end

  defp finite(:log, x) when x == 0, do: :neg_infinity
  defp finite(:log, x) when x < 0, do: :nan
  defp finite(:log, x), do: :math.log(x)
  defp finite(:log1p, x) when x == -1, do: :neg_infinity
  defp finite(:log1p, x) when x < -1, do: :nan
  defp finite(:log1p, x) when x > 1, do: :math.log(1.0 + x)

  defp finite(:log1p, x) do
    u = 1.0 + x
    if u == 1.0, do: x, else: :math.log(u) * x / (u - 1.0)
  end

  defp finite(:sigmoid, x) when x >= 0, do: 1.0 / (1.0 + :math.exp(-x))

  defp finite(:sigmoid, x) do
    e = :math.exp(x)
    e / (1.0 + e)
  end

  defp finite(:sinh, x) when abs(x) < 0.5,
    do:
      odd_series(x, [
        1.0,
        1 / 6,
        1 / 120,
        1 / 5040,
        1 / 362_880,
        1 / 39_916_800,
        1 / 6_227_020_800
      ])

  defp finite(:sinh, x), do: overflow(fn -> :math.sinh(x) end, toward(x))
  defp finite(:cosh, x), do: overflow(fn -> :math.cosh(x) end, :infinity)
  defp finite(op, x) when op in [:acos, :asin] and abs(x) > 1, do: :nan
  defp finite(:acosh, x) when x < 1, do: :nan
  defp finite(:atanh, x) when abs(x) > 1, do: :nan
  defp finite(:atanh, x) when abs(x) == 1, do: toward(x)
  defp finite(:sqrt, x) when x < 0, do: :nan
  defp finite(:rsqrt, x) when x < 0, do: :nan
  defp finite(:rsqrt, x) when x == 0, do: if(negative?(x), do: :neg_infinity, else: :infinity)
  defp finite(:rsqrt, x), do: 1.0 / :math.sqrt(x)
  defp finite(:cbrt, x) when x == 0, do: x

  # One step of Newton's method repairs what the third in the exponent lost.
  defp finite(:cbrt, x) do
    root = :math.pow(abs(x), 1 / 3)
    root = root - (root - abs(x) / (root * root)) / 3.0
    if x < 0, do: -root, else: root
  end

  defp finite(:erf_inv, x) when x == 0, do: x
  defp finite(:erf_inv, x) when abs(x) > 1, do: :nan
  defp finite(:erf_inv, x) when abs(x) == 1, do: toward(x)
  defp finite(:erf_inv, x), do: reference(:erf_inv, [x])
  defp finite(:abs, x), do: if(negative?(x), do: minus(x), else: x)
  defp finite(:negate, x), do: minus(x)
  defp finite(:sign, x) when x == 0, do: x
  defp finite(:sign, x), do: if(x < 0, do: -1.0, else: 1.0)
  defp finite(:as_type, x), do: x
  defp finite(:round, x) when abs(x) < 0.5, do: 0.0
  defp finite(op, x) when op in [:floor, :ceil, :round] and abs(x) >= 0x10000000000000, do: x
  defp finite(:round, x), do: :erlang.round(x) * 1.0
  defp finite(op, x), do: apply(:math, op, [x])

  defp odd_series(x, coefficients) do
    square = x * x
    x * List.foldr(coefficients, 0.0, fn c, sum -> c + square * sum end)
  end

  ## Two operands

  def binary(:pow, x, y), do: pow(to_float(x), to_float(y))
  def binary(op, x, y) when op in [:max, :min], do: extreme(op, x, y)
  def binary(_op, :nan, _y), do: :nan
  def binary(_op, _x, :nan), do: :nan
  def binary(:subtract, x, y), do: add(to_float(x), negated(to_float(y)))
  def binary(:add, x, y), do: add(to_float(x), to_float(y))
  def binary(:multiply, x, y), do: multiply(to_float(x), to_float(y))
  def binary(:divide, x, y), do: divide(to_float(x), to_float(y))
  def binary(:remainder, x, y), do: remainder(to_float(x), to_float(y))
  def binary(:atan2, x, y), do: atan2(to_float(x), to_float(y))

  defp to_float(x) when is_atom(x), do: x
  defp to_float(x), do: x * 1.0

  defp negated(x), do: unary(:negate, x)

  defp add(x, y) when is_atom(x) and is_atom(y), do: if(x == y, do: x, else: :nan)
  defp add(x, _y) when is_atom(x), do: x
  defp add(_x, y) when is_atom(y), do: y
  defp add(x, y), do: overflow(fn -> x + y end, toward(x))

  defp multiply(x, y) when is_atom(x) or is_atom(y),
    do: if(zero?(x) or zero?(y), do: :nan, else: infinity(negative?(x) != negative?(y)))

  defp multiply(x, y), do: overflow(fn -> x * y end, infinity(negative?(x) != negative?(y)))

  defp divide(x, y) do
    negative? = negative?(x) != negative?(y)

    cond do
      is_atom(x) and is_atom(y) -> :nan
      is_atom(x) -> infinity(negative?)
      is_atom(y) -> if negative?, do: minus(0.0), else: 0.0
      y == 0 and x == 0 -> :nan
      y == 0 -> infinity(negative?)
      true -> overflow(fn -> x / y end, infinity(negative?))
    end
  end

  defp remainder(x, y) when is_atom(x) or y == 0, do: :nan
  defp remainder(x, y) when is_atom(y), do: x
  defp remainder(x, y), do: :math.fmod(x, y)

  defp atan2(x, y), do: :math.atan2(bounded(x, y), bounded(y, x))

  # Infinities as finite numbers in the same direction.
  defp bounded(x, _other) when is_atom(x), do: if(negative?(x), do: -1.0, else: 1.0)
  defp bounded(x, other) when is_atom(other), do: if(negative?(x), do: minus(0.0), else: 0.0)
  defp bounded(x, _other), do: x

  defp extreme(_op, x, y) when x == :nan or y == :nan, do: :nan
  defp extreme(:max, x, y), do: if(less?(x, y), do: y, else: x)
  defp extreme(:min, x, y), do: if(less?(y, x), do: y, else: x)

  defp less?(x, y), do: rank(x) < rank(y)
  defp rank(:infinity), do: {1, 0}
  defp rank(:neg_infinity), do: {-1, 0}
  defp rank(x), do: {0, x + 0}

  defp pow(_x, y) when y == 0, do: 1.0
  defp pow(x, _y) when x == 1, do: 1.0
  defp pow(x, y) when x == :nan or y == :nan, do: :nan

  defp pow(x, y) when is_atom(y) do
    size = if is_atom(x), do: 2.0, else: abs(x)

    cond do
      size == 1 -> 1.0
      size > 1 == (y == :infinity) -> :infinity
      true -> 0.0
    end
  end

  defp pow(x, y) when is_atom(x) or x == 0 do
    negative? = negative?(x) and odd?(y)

    if is_atom(x) == y > 0,
      do: infinity(negative?),
      else: if(negative?, do: minus(0.0), else: 0.0)
  end

  defp pow(x, y) do
    if x < 0 and y != Float.floor(y),
      do: :nan,
      else: overflow(fn -> :math.pow(x, y) end, infinity(x < 0 and odd?(y)))
  end

  defp odd?(y) when abs(y) > 0x20000000000000, do: false
  defp odd?(y), do: y == Float.floor(y) and rem(trunc(y), 2) != 0

  ## Parts

  defp zero?(x), do: is_float(x) and x == 0
  defp negative?(:neg_infinity), do: true
  defp negative?(x) when is_atom(x), do: false
  defp negative?(x), do: match?(<<1::1, _::63>>, <<x::float-64>>)

  defp infinity(true), do: :neg_infinity
  defp infinity(false), do: :infinity
  # Zero has a sign, which neither `-x` nor a literal is sure to keep.
  defp minus(x), do: x * -1.0
  defp toward(x), do: infinity(negative?(x))

  defp overflow(fun, otherwise) do
    fun.()
  rescue
    ArithmeticError -> otherwise
  end

  # The reference's own value, in double.
  defp reference(op, values) do
    out = Nx.template({}, :f64)

    operands =
      for x <- values,
          do:
            Nx.from_binary(<<x::float-64-native>>, :f64, backend: Nx.BinaryBackend)
            |> Nx.reshape({})

    result = apply(Nx.BinaryBackend, op, [out | operands])
    hd(Recorder.Numbers.decode({:f, 64}, result.data.state))
  end
end
