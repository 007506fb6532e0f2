# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Expected do
  @moduledoc """
  What a call should give: the reference's result, or, where the project has decided otherwise,
  that value and the reason. Nothing here runs the library under test.

  Answers `{:ok, bits, reason or nil}`, `{:fails, code, reason or nil}` or `:unknown`.
  """

  alias Nx.BinaryBackend, as: B
  alias Nx.Tensor, as: T
  alias Recorder.{IEEE, Numbers}

  @narrow "bf16 and f8 round to nearest, ties to even"
  @ieee "IEEE 754 instead of an exception or a special case of the reference"
  @accurate "computed without the cancellation of the reference's formula"
  @once "a running fold is accumulated in double and rounded once an element"
  @negative_power "integer power with a negative exponent: 1, 1 or -1, else 0"
  @double "the reference's algorithm in double, rounded once"
  @axis "along the axis asked for, in double, rounded once"
  @unasked "what Nx says without asking its backend"
  @zero "the sign of zero is kept"
  @direction "z / abs(z)"
  @distance "the distance of integers does not wrap around"
  @padded "the padded tensor is converted to the type of the result"
  @width "bits are counted in the type's own width"

  # Each of their many steps is rounded by the reference.
  @fused [:softmax, :logsumexp, :rms_norm, :layer_norm, :swiglu, :rope, :attention]
  @iterated [:cholesky, :solve, :determinant, :qr, :lu, :fft2, :ifft2, :rfft, :irfft]

  @doc "The expected result of a backend callback."
  # The reference forgets to convert the padded tensor.
  def call(:pad, %T{type: type} = out, [%T{type: other} = tensor | rest], _reference)
      when other != type do
    {:ok, bits, _reason} =
      call(
        :as_type,
        %{tensor | type: type},
        [tensor],
        attempt(fn -> B.as_type(%{tensor | type: type}, tensor) end)
      )

    cast = %{tensor | type: type, data: %B{state: bits}}

    {:ok, bits, _reason} =
      call(
        :pad,
        out,
        [cast | rest],
        attempt(fn -> B.pad(out, cast, Enum.at(rest, 0), Enum.at(rest, 1)) end)
      )

    {:ok, bits, @padded}
  end

  def call(name, out, arguments, reference) do
    with :same <- failure(name, reference),
         :same <- integers(name, out, arguments, reference),
         :same <- element_wise(name, out, arguments, reference),
         :same <- wide(name, out, arguments, reference),
         do: as_reference(reference)
  end

  defp as_reference(%T{data: %B{state: bits}}), do: {:ok, bits, nil}
  defp as_reference(_exception), do: :unknown

  ## Errors that users see

  defp failure(_name, %ArgumentError{message: "index " <> _}), do: {:fails, "out_of_bounds", nil}

  defp failure(name, %ArgumentError{}) when name in [:left_shift, :right_shift],
    do: {:fails, "invalid", nil}

  defp failure(_name, _reference), do: :same

  ## Integers

  defp integers(name, %T{type: {kind, _}} = out, [left, right], %ArithmeticError{})
       when name in [:quotient, :remainder] and kind in [:u, :s] do
    _ = {out, left}
    if 0 in values(right), do: {:fails, "arithmetic", nil}, else: :same
  end

  defp integers(:pow, %T{type: {kind, _}} = out, [left, right], %ArithmeticError{})
       when kind in [:u, :s] do
    power = fn
      base, exponent when exponent >= 0 -> Integer.pow(base, exponent)
      1, _exponent -> 1
      -1, exponent -> if rem(exponent, 2) == 0, do: 1, else: -1
      _base, _exponent -> 0
    end

    {:ok, Numbers.encode(out.type, map2(out, left, right, power)), @negative_power}
  end

  defp integers(:count_leading_zeros, %T{type: {_, size}} = out, [tensor], _reference)
       when size < 8 do
    zeros = fn x -> size - length(Integer.digits(x, 2)) + if(x == 0, do: 1, else: 0) end
    mask = Integer.pow(2, size) - 1
    result = for x <- values(tensor), do: x |> Bitwise.band(mask) |> zeros.()
    {:ok, Numbers.encode(out.type, result), @width}
  end

  defp integers(_name, _out, _arguments, _reference), do: :same

  ## What Nx answers without its backend

  defp element_wise(name, %T{type: type}, [%T{type: type} = tensor], _reference)
       when name in [:floor, :ceil, :round] and elem(type, 0) in [:u, :s],
       do: {:ok, tensor.data.state, @unasked}

  defp element_wise(:real, out, [%T{type: {kind, _}} = tensor], _reference) when kind != :c,
    do: {:ok, Numbers.encode(out.type, values(tensor)), @unasked}

  defp element_wise(:imag, out, [%T{type: {kind, _}} = tensor], _reference) when kind != :c do
    zeros = List.duplicate(0.0, Nx.size(tensor.shape))
    {:ok, Numbers.encode(out.type, zeros), @unasked}
  end

  ## Element by element

  defp element_wise(:sign, %T{type: {:c, _}} = out, [%T{} = tensor], _reference) do
    parts = values(tensor) |> Enum.chunk_every(2) |> Enum.flat_map(&direction/1)
    {:ok, Numbers.encode(part(out.type), parts), @direction}
  end

  defp element_wise(:conjugate, out, [%T{type: {kind, _}} = tensor], reference) when kind != :c,
    do: conjugated(out, tensor, reference)

  # The real part is converted.
  defp element_wise(:as_type, out, [%T{type: {:c, _}} = tensor], reference) do
    if Numbers.truncated?(out.type) do
      values = values(tensor) |> Enum.take_every(2)
      decide(:as_type, out, [tensor], Numbers.encode(out.type, values), reference)
    else
      :same
    end
  end

  # The reference may read a narrow zero with the wrong sign.
  defp element_wise(:as_type, %T{type: {:c, _}} = out, [tensor], %T{data: %B{state: other}}) do
    parts = Enum.flat_map(values(tensor), &[&1, 0.0])
    bits = Numbers.encode(part(out.type), parts)

    if Numbers.truncated?(tensor.type) and canonical(part(out.type), other) != bits,
      do: {:ok, bits, @zero},
      else: :same
  end

  defp element_wise(name, out, [%T{} = tensor], reference) do
    if IEEE.unary?(name) and Numbers.float?(out.type) and real?(tensor) do
      result = for x <- values(tensor), do: IEEE.unary(name, x)
      decide(name, out, [tensor], Numbers.encode(out.type, result), reference)
    else
      :same
    end
  end

  defp element_wise(name, out, [%T{} = left, %T{} = right], reference) do
    if IEEE.binary?(name) and Numbers.float?(out.type) and real?(left) and real?(right) do
      result = map2(out, left, right, &IEEE.binary(name, &1, &2))
      decide(name, out, [left, right], Numbers.encode(out.type, result), reference)
    else
      :same
    end
  end

  defp element_wise(_name, _out, _arguments, _reference), do: :same

  # A real number has the imaginary part -0.0, special ones too.
  defp conjugated(out, tensor, reference) do
    parts = Enum.flat_map(values(tensor), &[&1, zero(-1.0)])
    decide(:conjugate, out, [tensor], Numbers.encode(part(out.type), parts), reference)
  end

  # As literals, the two zeros may become one.
  defp zero(sign), do: 0.0 * sign

  # z / |z|, and 0 of 0.
  defp direction([re, im]) do
    size = :math.sqrt(re * re + im * im)
    if size == 0, do: [re, im], else: [re / size, im / size]
  end

  # Our own value is recorded only where there is a reason for it to differ.
  defp decide(_name, _out, _operands, bits, %T{data: %B{state: bits}}), do: {:ok, bits, nil}

  defp decide(name, out, operands, bits, reference) do
    cond do
      not is_struct(reference, T) -> {:ok, bits, @ieee}
      same_numbers?(out.type, bits, reference) -> {:ok, reference.data.state, nil}
      Enum.any?([out | operands], &Numbers.truncated?(&1.type)) -> {:ok, bits, @narrow}
      IEEE.accurate?(name) -> {:ok, bits, @accurate}
      Enum.any?(operands, &special?/1) -> {:ok, bits, @ieee}
      true -> disagree(name, out, operands, reference)
    end
  end

  defp disagree(name, out, operands, reference) do
    types = Enum.map_join(operands, ", ", &inspect(&1.type))
    Recorder.Store.note("own value differs: #{name} #{types} as #{inspect(out.type)}")
    as_reference(reference)
  end

  # NaN is NaN whatever its bits are. Bits are compared, as 0.0 and -0.0 are one to Elixir.
  defp same_numbers?(type, bits, %T{data: %B{state: other}}),
    do: canonical(part(type), bits) == canonical(part(type), other)

  defp canonical(type, bits), do: Numbers.encode(type, Numbers.decode(type, bits))

  defp special?(tensor) do
    Numbers.float?(tensor.type) and Enum.any?(values(tensor), &(is_atom(&1) or &1 == 0))
  end

  ## In double, rounded by our own rule

  # These move elements without looking at them, or have an element type of their own.
  @moved [:reshape, :squeeze, :broadcast, :transpose, :reverse, :slice, :bitcast, :sort, :gather] ++
           [:constant, :iota, :eye, :reduce, :window_reduce, :as_type]

  defp wide(:triangular_solve, out, [a, b, options], reference) do
    wide_out = %{out | type: wide_type(out.type)}
    compute = fn [a, b] -> B.triangular_solve(wide_out, a, b, options) end
    in_double([out], [a, b], reference, compute, @double)
  end

  defp wide(name, out, [tensor, options], reference) when name in [:fft, :ifft] do
    compute = fn [tensor] ->
      transform(name, tensor, options[:axis], options[:length], options)
    end

    in_double([out], [tensor], reference, compute, @axis)
  end

  defp wide(name, out, arguments, reference) when name not in @moved do
    if Numbers.truncated?(out.type) do
      wide_out = %{out | type: {:f, 64}}

      case attempt(fn -> apply(B, name, [wide_out | widen(arguments)]) end) do
        %T{data: %B{state: bits}} -> rounded(out, bits, reference)
        _exception -> :unknown
      end
    else
      :same
    end
  end

  defp wide(name, out, arguments, reference) when name in [:constant, :iota] do
    if Numbers.truncated?(out.type) do
      options = [[]]
      %T{data: %B{state: bits}} = apply(B, name, [%{out | type: {:f, 64}} | arguments ++ options])
      rounded(out, bits, reference)
    else
      :same
    end
  end

  defp wide(_name, _out, _arguments, _reference), do: :same

  defp rounded(out, bits, reference) do
    bits = Numbers.encode(out.type, Numbers.decode({:f, 64}, bits))

    if is_struct(reference, T) and same_numbers?(out.type, bits, reference),
      do: as_reference(reference),
      else: {:ok, bits, @narrow}
  end

  defp widen(arguments) when is_list(arguments), do: Enum.map(arguments, &widen/1)

  defp widen(%T{type: type} = tensor) do
    if Numbers.float?(type) do
      bits = Numbers.encode({:f, 64}, values(tensor))
      %{tensor | type: {:f, 64}, data: %B{state: bits}}
    else
      tensor
    end
  end

  defp widen(other), do: other

  ## Blocks

  @doc """
  The expected results of a block that is an op; `default` is how the reference computes it.
  """
  def block(struct, name, outs, tensors, reference, default) do
    cond do
      failure(name, reference) != :same ->
        failure(name, reference)

      name in [:cumulative_sum, :cumulative_product] ->
        axis = [axis: struct.axis, reverse: struct.reverse]

        in_double(
          outs,
          tensors,
          reference,
          fn [tensor] -> apply(Nx, name, [tensor, axis]) end,
          @once
        )

      name in [:fft2, :ifft2] ->
        in_double(outs, tensors, reference, &transforms(name, &1, struct), @axis)

      name == :all_close and integers?(tensors) ->
        all_close(outs, tensors, struct, reference)

      name == :lu and exchanged?(reference) ->
        :unknown

      # The imaginary part, a zero of f8, is read with the wrong sign.
      name == :phase and match?([%T{type: {:f, 8}}], outs) ->
        in_double(outs, tensors, reference, default, @zero)

      name in @fused ->
        {integers, floats} = Enum.split_with(Enum.with_index(tensors), &integers?([elem(&1, 0)]))
        compute = fn wide -> default.(in_order(integers, floats, wide)) end
        in_double(outs, Enum.map(floats, &elem(&1, 0)), reference, compute, @double)

      name in @iterated ->
        in_double(outs, tensors, reference, default, @double)

      is_exception(reference) ->
        :unknown

      true ->
        {:ok, Enum.map(results(reference), & &1.data.state), nil}
    end
  end

  # Along its last axis and as complex numbers the reference transforms well.
  defp transform(name, tensor, axis, length, options) do
    order = Nx.axes(tensor) |> List.delete(axis) |> Kernel.++([axis])
    last = length(order) - 1
    back = Enum.map(0..last, &Enum.find_index(order, fn from -> from == &1 end))
    tensor = tensor |> Nx.as_type(:c128) |> Nx.transpose(axes: order)
    shape = put_elem(tensor.shape, last, length)
    options = [length: length, axis: last, eps: options[:eps]]
    apply(B, name, [%{tensor | shape: shape}, tensor, options]) |> Nx.transpose(axes: back)
  end

  defp transforms(name, [tensor], %{axes: [first, second], lengths: [rows, columns]} = struct) do
    one = if name == :fft2, do: :fft, else: :ifft
    tensor = transform(one, tensor, second, columns, Map.take(struct, [:eps]))
    transform(one, tensor, first, rows, Map.take(struct, [:eps]))
  end

  # Integers are masks and positions, and stay what they are.
  defp in_order(integers, floats, wide) do
    wide = Enum.zip_with(floats, wide, fn {_tensor, index}, tensor -> {tensor, index} end)
    for {tensor, _index} <- Enum.sort_by(integers ++ wide, &elem(&1, 1)), do: tensor
  end

  defp integers?(tensors), do: Enum.all?(tensors, &(elem(&1.type, 0) in [:u, :s]))

  defp all_close([out], [left, right], struct, reference) do
    {shape, _names} = Nx.Shape.binary_broadcast(left.shape, left.names, right.shape, right.names)
    [rtol, atol] = for x <- [struct.rtol, struct.atol], do: as_f32(x)
    close? = fn a, b -> abs(a - b) <= atol + rtol * abs(b) end
    all? = Enum.all?(map2(%{out | shape: shape}, left, right, close?))
    bits = <<if(all?, do: 1, else: 0)>>
    if bits == reference.data.state, do: {:ok, bits, nil}, else: {:ok, bits, @distance}
  end

  defp as_f32(x), do: hd(Numbers.decode({:f, 32}, Numbers.encode({:f, 32}, [x * 1.0])))

  # Which rows of a complex matrix are exchanged depends on how magnitudes are compared.
  defp exchanged?({p, l, _u}) do
    size = elem(p.shape, tuple_size(p.shape) - 1)
    match?({:c, _}, l.type) and Nx.to_number(Nx.all(Nx.equal(p, Nx.eye(size)))) == 0
  end

  defp exchanged?(_exception), do: false

  # Unless the results are integers, the reference computes once more with wider tensors.
  defp in_double(outs, tensors, reference, compute, reason) do
    if Enum.any?(outs, &rounded?(&1.type)) do
      case attempt(fn -> compute.(Enum.map(tensors, &widest/1)) end) do
        %{__exception__: true} -> :unknown
        wide -> narrowed(outs, results(wide), reference, reason)
      end
    else
      {:ok, Enum.map(results(reference), & &1.data.state), nil}
    end
  end

  defp narrowed(outs, wide, reference, reason) do
    bits =
      for {out, wide} <- Enum.zip(outs, wide),
          do: encode(out.type, Numbers.decode(part(wide.type), wide.data.state))

    same? =
      not is_exception(reference) and
        Enum.all?(Enum.zip([outs, bits, results(reference)]), fn {out, bits, other} ->
          out.type == other.type and same_numbers?(out.type, bits, other)
        end)

    if same?,
      do: {:ok, Enum.map(results(reference), & &1.data.state), nil},
      else: {:ok, bits, reason}
  end

  defp encode({kind, _} = type, values) when kind in [:u, :s],
    do: Numbers.encode(type, Enum.map(values, &round/1))

  defp encode(type, values), do: Numbers.encode(part(type), values)

  defp results(tuple) when is_tuple(tuple), do: Tuple.to_list(tuple)
  defp results(result), do: [result]

  defp rounded?({kind, _}), do: kind not in [:u, :s]

  # The real type of a number's parts.
  defp part({:c, size}), do: {:f, div(size, 2)}
  defp part(type), do: type

  defp wide_type({:c, _}), do: {:c, 128}
  defp wide_type(_type), do: {:f, 64}

  defp widest(%T{type: type} = tensor) do
    wide = wide_type(type)
    bits = Numbers.encode(part(wide), values(tensor))
    %{tensor | type: wide, data: %B{state: bits}}
  end

  ## Parts

  defp attempt(fun) do
    fun.()
  rescue
    exception -> exception
  end

  defp real?(%T{type: {:c, _}}), do: false
  defp real?(%T{}), do: true

  defp values(%T{type: type, data: %B{state: bits}}), do: Numbers.decode(part(type), bits)

  defp map2(out, left, right, fun) do
    left = broadcast(left, out.shape)
    right = broadcast(right, out.shape)
    Enum.zip_with(values(left), values(right), fun)
  end

  defp broadcast(tensor, shape),
    do: Nx.broadcast(%{tensor | names: List.duplicate(nil, tuple_size(tensor.shape))}, shape)
end
