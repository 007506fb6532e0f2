# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Refs do
  @moduledoc false
  # The functions of `EMLX` on `{device, reference}` pairs: the values that
  # `EMLX.Backend.from_nx/1` gives, for code that was written against them.
  #
  # A function is a line: its arguments, and the Nx call that it is. Arguments
  # called `tensor...` are pairs, or lists of them; so are the results. What has
  # only operands and the name of an Nx function comes from the op table.

  alias EMLX.{Backend, Ops}

  @types %{
    bool: :u8,
    uint8: :u8,
    uint16: :u16,
    uint32: :u32,
    uint64: :u64,
    int8: :s8,
    int16: :s16,
    int32: :s32,
    int64: :s64,
    float16: :f16,
    bfloat16: :bf16,
    float32: :f32,
    float64: :f64,
    complex64: :c64,
    complex128: :c128
  }

  @doc "Nx's type of a type, which may have one of MLX's names."
  @spec type(term) :: Nx.Type.t()
  def type(type), do: Nx.Type.normalize!(Map.get(@types, type, type))

  @doc "MLX's name of a type, where it has one."
  @spec type_name(Nx.Type.t()) :: atom
  def type_name(type) do
    native = EMLX.Types.to_native(type)
    Enum.find_value(@types, native, fn {name, of} -> name != :bool and of == native and name end)
  end

  @doc "Operations whose arguments are all operands, with the number of these."
  @spec operations() :: [{atom, 1..3}]
  def operations do
    Code.ensure_loaded!(Nx)

    # In these functions max and min fold a tensor, as reduce_max and reduce_min do.
    for %{name: name, fewest: count, most: count, attributes: []} <- Ops.all(),
        count in 1..3,
        name not in [:as_type, :bitcast, :max, :min, :select, :window_scatter_max],
        function_exported?(Nx, name, count),
        do: {name, count}
  end

  @doc "Pairs of tensors, and of containers and lists of them."
  def wrap(%Nx.Tensor{} = tensor), do: Backend.from_nx(tensor)
  def wrap(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> wrap() |> List.to_tuple()
  def wrap(list) when is_list(list), do: Enum.map(list, &wrap/1)

  @doc "The tensors of pairs, and of lists of them."
  def unwrap({device, ref}) when is_atom(device) and is_reference(ref),
    do: Backend.to_nx({device, ref})

  def unwrap(list) when is_list(list), do: Enum.map(list, &unwrap/1)

  def unwrap(other) do
    raise ArgumentError,
          "expected a tensor as a {device, reference} pair, got: #{inspect(other)}"
  end

  @doc "Defines functions on pairs: `name(arguments) -> call` lines."
  defmacro pairs(do: lines) do
    for {:->, _, [[{name, _, arguments}], call]} <- lines, do: definition(name, arguments, call)
  end

  @doc "Defines functions on pairs for the operations of the op table."
  defmacro pairs_of_operations do
    for {name, count} <- operations() do
      arguments = for i <- 1..count, do: Macro.var(:"tensor#{i}", __MODULE__)
      call = quote(do: Nx.unquote(name)(unquote_splicing(arguments)))
      definition(name, arguments, call)
    end
  end

  defp definition(name, arguments, call) do
    opened =
      for {argument, _, _} = variable <- arguments,
          String.starts_with?(Atom.to_string(argument), "tensor"),
          do: quote(do: unquote(variable) = EMLX.Refs.unwrap(unquote(variable)))

    quote do
      def unquote(name)(unquote_splicing(arguments)) do
        unquote_splicing(opened)
        EMLX.Refs.wrap(unquote(call))
      end
    end
  end

  ## What takes more than one call

  @doc "Elements at `offset` + the sum of index * stride, in row-major order."
  def as_strided(tensor, shape, strides, offset) do
    shape = List.to_tuple(shape_list(shape))

    index =
      strides
      |> shape_list()
      |> Enum.with_index()
      |> Enum.reduce(Nx.broadcast(Nx.tensor(offset, type: :s64), shape), fn {stride, axis}, sum ->
        Nx.add(sum, Nx.multiply(Nx.iota(shape, type: :s64, axis: axis), stride))
      end)

    tensor |> Nx.flatten() |> Nx.take(index)
  end

  defp shape_list(shape) when is_tuple(shape), do: Tuple.to_list(shape)
  defp shape_list(shape), do: shape

  @doc "Whether elements are close, one by one."
  def close(left, right, rtol, atol, equal_nan) do
    margin = Nx.add(atol, Nx.multiply(rtol, Nx.abs(right)))
    finite = Nx.less_equal(Nx.abs(Nx.subtract(left, right)), margin)
    close = Nx.logical_or(Nx.equal(left, right), finite)
    nans = Nx.logical_and(Nx.is_nan(left), Nx.is_nan(right))
    if equal_nan, do: Nx.logical_or(close, nans), else: close
  end

  @doc "Convolution with the channels last, as MLX has them."
  def conv(input, kernel, strides, low, high, kernel_dilation, input_dilation, groups) do
    rank = Nx.rank(input)
    channels_last = [0, rank - 1 | Enum.to_list(1..(rank - 2)//1)]

    input
    |> Nx.conv(kernel,
      strides: strides,
      padding: Enum.zip(low, high),
      kernel_dilation: kernel_dilation,
      input_dilation: input_dilation,
      feature_group_size: groups,
      input_permutation: channels_last,
      kernel_permutation: channels_last
    )
    |> Nx.transpose(axes: [0 | Enum.to_list(2..(rank - 1)//1)] ++ [1])
  end

  @doc "Pads some axes."
  def pad(tensor, axes, low, high, value) do
    widths = [axes, low, high] |> Enum.zip() |> Map.new(fn {axis, l, h} -> {axis, {l, h, 0}} end)

    config =
      for axis <- 0..(Nx.rank(tensor) - 1)//1,
          do: Map.get(widths, axis, Map.get(widths, axis - Nx.rank(tensor), {0, 0, 0}))

    Nx.pad(tensor, value, config)
  end

  @doc "A running fold, of all up to an element or, when not `inclusive`, of all before it."
  def cumulative(fun, tensor, axis, reverse, true),
    do: apply(Nx, fun, [tensor, [axis: axis, reverse: reverse]])

  def cumulative(fun, tensor, axis, reverse, false) do
    whole = cumulative(fun, tensor, axis, reverse, true)
    axis = Nx.axis_index(whole, axis)
    shift = if reverse, do: {-1, 1, 0}, else: {1, -1, 0}
    config = for i <- 0..(Nx.rank(whole) - 1), do: if(i == axis, do: shift, else: {0, 0, 0})
    Nx.pad(whole, Nx.as_type(of_nothing(fun, whole.type), whole.type), config)
  end

  defp of_nothing(:cumulative_sum, _type), do: Nx.tensor(0)
  defp of_nothing(:cumulative_product, _type), do: Nx.tensor(1)

  defp of_nothing(:cumulative_max, {class, _} = type) when class in [:u, :s],
    do: Nx.Constants.min(type)

  defp of_nothing(:cumulative_min, {class, _} = type) when class in [:u, :s],
    do: Nx.Constants.max(type)

  defp of_nothing(:cumulative_max, _type), do: Nx.Constants.neg_infinity()
  defp of_nothing(:cumulative_min, _type), do: Nx.Constants.infinity()

  @doc "The backend option of a device."
  def on(device), do: {Backend, device: device}

  @doc "A tensor of elements in whole bytes."
  def blob(blob, shape, type, device) do
    names = List.duplicate(nil, tuple_size(shape))
    out = %Nx.Tensor{type: type, shape: shape, names: names, data: nil}
    %{data: %Backend{ref: ref}} = Backend.from_blob(out, blob, device)
    Backend.to_nx(ref)
  end

  @doc "A number or a pair, everywhere."
  def filled({device, ref}, shape, type, _device) when is_atom(device) and is_reference(ref),
    do: {device, ref} |> unwrap() |> Nx.as_type(type(type)) |> Nx.broadcast(shape)

  def filled(value, shape, type, device),
    do: value |> Nx.tensor(type: type(type), backend: on(device)) |> Nx.broadcast(shape)

  @doc "Numbers from `start` to before `stop`."
  def range(start, stop, step, integer?, device)

  def range(start, stop, step, _integer?, _device) when step == 0 do
    raise ArgumentError, "arange from #{start} to #{stop} needs a step that is not 0"
  end

  def range(start, stop, step, integer?, device) do
    count = max(ceil((stop - start) / step), 0)
    type = if integer?, do: {:s, 32}, else: {:f, 32}
    steps = Nx.iota({count}, type: type, backend: on(device))
    Nx.as_type(Nx.add(start, Nx.multiply(steps, step)), type)
  end

  @doc "Lengths from starts and ends."
  def lengths(starts, stops), do: Enum.zip_with(stops, starts, &-/2)

  @doc "Overwrites a part; `stops` only has to fit the update."
  def slice_update(tensor, update, starts, stops) do
    if lengths(starts, stops) != Tuple.to_list(update.shape) do
      raise ArgumentError,
            "slice_update from #{inspect(starts)} to #{inspect(stops)} does not fit an update " <>
              "of shape #{inspect(update.shape)}"
    end

    Nx.put_slice(tensor, starts, update)
  end

  @doc "Slices of the given sizes, with an index tensor for each of `axes`; the others start at 0."
  def gather(tensor, indices, axes, slice_sizes) do
    rows =
      for {size, axis} <- Enum.with_index(Tuple.to_list(tensor.shape)),
          do: if(axis in axes, do: 1, else: size)

    shape = List.to_tuple(Tuple.to_list(hd(indices).shape) ++ slice_sizes)

    if slice_sizes == rows,
      do: tensor |> Nx.gather(Nx.stack(indices, axis: -1), axes: axes) |> Nx.reshape(shape),
      else: gather_each(tensor, indices, axes, slice_sizes, shape)
  end

  # What are no whole rows is taken element by element.
  defp gather_each(tensor, indices, axes, slice_sizes, shape) do
    %{shape: outer} = first = hd(indices)
    ones = List.to_tuple(Tuple.to_list(outer) ++ List.duplicate(1, length(slice_sizes)))
    starts = axes |> Enum.zip(indices) |> Map.new()

    index =
      for axis <- 0..(Nx.rank(tensor) - 1) do
        within = Nx.iota(shape, type: :s64, axis: Nx.rank(first) + axis)
        start = starts[axis]
        if start, do: Nx.add(within, Nx.reshape(start, ones)), else: within
      end

    Nx.gather(tensor, Nx.stack(index, axis: -1))
  end

  @doc "Writes or adds updates, shaped as what `gather/4` would take."
  def scatter(fun, tensor, indices, updates, axes) do
    index = Nx.stack(indices, axis: -1)
    count = Tuple.product(hd(indices).shape)

    rest =
      for {size, axis} <- Enum.with_index(Tuple.to_list(tensor.shape)), axis not in axes, do: size

    index = Nx.reshape(index, {count, length(axes)})
    updates = Nx.reshape(updates, List.to_tuple([count | rest]))
    apply(Nx, fun, [tensor, index, updates, [axes: axes]])
  end

  @doc "Singular values alone, or all three parts."
  def svd(tensor, true), do: Nx.LinAlg.svd(tensor)
  def svd(tensor, false), do: tensor |> Nx.LinAlg.svd() |> elem(1)

  @doc "A lower triangular factor, or the upper one that is its adjoint."
  def upper(tensor, false), do: tensor
  def upper(tensor, true), do: Nx.LinAlg.adjoint(tensor)
end
