# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Case do
  @moduledoc """
  Makes a recorded case of a backend call: operands and attributes by the same code that the
  backend uses, the expected result from `Recorder.Expected`.
  """

  alias EMLX.{Call, Ops, Types}
  alias Nx.Tensor, as: T
  alias Recorder.{Expected, Store}

  # Classes of tolerance, as cli/tolerances.def describes them.
  @fold [:sum, :product, :cumulative_sum, :cumulative_product, :window_sum, :window_product] ++
          [:indexed_add, :window_scatter_max, :window_scatter_min, :reduce, :window_reduce]
  @fft [:fft, :ifft, :fft2, :ifft2, :rfft, :irfft]
  @linear_algebra [:triangular_solve, :cholesky, :qr, :lu, :determinant, :solve]
  @fused [:softmax, :logsumexp, :rms_norm, :layer_norm, :swiglu, :rope, :attention]
  @elementwise [:exp, :expm1, :log, :log1p, :sigmoid, :cos, :sin, :tan, :cosh, :sinh, :tanh] ++
                 [:acos, :asin, :atan, :acosh, :asinh, :atanh, :sqrt, :rsqrt, :cbrt, :erf] ++
                 [:erfc, :erf_inv, :add, :subtract, :multiply, :divide, :pow, :remainder] ++
                 [:atan2, :phase]

  @classes Map.new(
             for(op <- @fold, do: {op, "fold"}) ++
               for(op <- @fft, do: {op, "fft"}) ++
               for(op <- @linear_algebra, do: {op, "linear_algebra"}) ++
               for(op <- @fused, do: {op, "fused"}) ++
               for(op <- @elementwise, do: {op, "elementwise"}) ++ [dot: "dot", conv: "dot"]
           )

  # Folds by a function of the user's are recorded as programs, and so are factorisations whose
  # vectors may have either sign: a program puts the matrix together again.
  @as_programs [:reduce, :window_reduce, :eigh, :svd]

  @doc """
  Records a call of a backend callback whose operands live on `Nx.BinaryBackend`. `reference` is
  the reference's result, or the exception it raised.
  """
  def record(name, out, arguments, reference) do
    if recorded?(name) and Ops.member?(name) do
      {operands, attributes} = Call.new(name, out, arguments)

      add(name, [out], operands, attributes, reference, fn ->
        Expected.call(name, out, arguments, reference)
      end)
    end
  end

  @doc """
  As `record/4` for a block that is an op, with a tuple of templates if it has several results.
  `default` computes it from other tensors in place of these.
  """
  def record_block(struct, out, tensors, reference, default) do
    with {name, attributes} <- Call.block(struct), true <- recorded?(name) do
      outs = if is_tuple(out), do: Tuple.to_list(out), else: [out]

      add(name, outs, tensors, attributes, reference, fn ->
        Expected.block(struct, name, outs, tensors, reference, default)
      end)
    else
      _ -> :ok
    end
  end

  defp recorded?(name), do: name not in @as_programs and Store.state() != nil

  defp add(name, outs, operands, attributes, reference, expected) do
    {origin, most} = Store.state()
    sizes = for tensor <- outs ++ operands, do: Nx.size(tensor.shape)
    types = for tensor <- outs ++ operands, do: tensor.type

    if Enum.all?(sizes, &(&1 <= most)) and Enum.all?(types, &Recorder.Tensors.known?/1) do
      inputs = Enum.map(operands, &stored/1)
      attrs = attrs(name, attributes)
      type = asked_type(outs)
      key = Store.key(name, attrs, inputs, type)

      unless Store.member?(key) do
        recorded = %{op: name, attrs: attrs, type: type, inputs: inputs, origin: origin}
        recorded = Map.put(recorded, :class, class(name, operands))
        finish(key, recorded, outs, reference, Store.paused(expected))
      end
    end

    :ok
  end

  # The types of several results follow from those of the operands.
  defp asked_type([out]), do: Types.to_native(out.type)
  defp asked_type(_outs), do: nil

  defp finish(key, recorded, outs, _reference, {:ok, bits, decided}) do
    outputs =
      for {out, bits} <- Enum.zip(outs, List.wrap(bits)),
          do: stored(%{out | data: %Nx.BinaryBackend{state: bits}})

    Store.put(key, Map.merge(recorded, %{outputs: outputs, decided: decided}))
  end

  defp finish(key, recorded, _outs, _reference, {:fails, code, decided}),
    do: Store.put(key, Map.merge(recorded, %{outputs: [], fails: code, decided: decided}))

  defp finish(_key, recorded, _outs, reference, :unknown) do
    Store.note(
      "left out: #{recorded.op} where the reference raises #{inspect(reference.__struct__)}"
    )
  end

  # The absolute value of a complex number is a square root.
  defp class(op, operands) when op in [:abs, :sign] do
    if Enum.any?(operands, &match?({:c, _}, &1.type)), do: "elementwise", else: "exact"
  end

  defp class(op, _operands), do: Map.get(@classes, op, "exact")

  @doc "A tensor on `Nx.BinaryBackend` as it is stored."
  def stored(%T{data: %{state: bits}} = tensor) do
    tensor = Nx.devectorize(tensor)
    {Types.to_native(tensor.type), tensor.shape, Types.unpack(bits, tensor.type)}
  end

  ## Attributes as JSON, by the kinds of the op table

  defp attrs(name, attributes) do
    %{attributes: known} = Enum.find(Ops.all(), &(&1.name == name))

    for %{name: attribute, kind: kind} <- known,
        {:ok, value} when value != nil <- [Keyword.fetch(attributes, attribute)],
        into: %{},
        do: {attribute, attr(kind, value)}
  end

  defp attr(:ints, value), do: flatten(value)
  defp attr(:text, value), do: to_string(value)
  defp attr(:number, {re, im}), do: [real(re), real(im)]

  defp attr(:number, value) when is_integer(value) and value > 0x7FFFFFFFFFFFFFFF,
    do: to_string(value)

  defp attr(:number, value) when is_integer(value), do: value
  defp attr(:number, value), do: real(value)
  defp attr(kind, value) when kind in [:int, :bool], do: value

  defp flatten(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> flatten()
  defp flatten(list) when is_list(list), do: Enum.flat_map(list, &flatten/1)
  defp flatten(integer) when is_integer(integer), do: [integer]

  defp real(:nan), do: "nan"
  defp real(:infinity), do: "inf"
  defp real(:neg_infinity), do: "-inf"
  defp real(number), do: number * 1.0
end
