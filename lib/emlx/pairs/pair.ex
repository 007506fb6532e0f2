# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Pair do
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

  @doc "A tensor in a type; one of truth values holds 0 and 1."
  @spec cast(Nx.Tensor.t(), term) :: Nx.Tensor.t()
  def cast(tensor, :bool), do: Nx.not_equal(tensor, 0)
  def cast(tensor, type), do: Nx.as_type(tensor, type(type))

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
        name not in [
          :as_type,
          :bitcast,
          :max,
          :min,
          :select,
          :window_scatter_max,
          :take_along_axis
        ],
        # These are not Nx's.
        name not in [:quotient, :remainder, :round],
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

  # What a call makes besides its result is made where its first tensor is.
  defp definition(name, arguments, call) do
    tensors =
      for {argument, _, _} = variable <- arguments,
          String.starts_with?(Atom.to_string(argument), "tensor"),
          do: variable

    opened =
      for variable <- tensors,
          do: quote(do: unquote(variable) = EMLX.Pair.unwrap(unquote(variable)))

    placed =
      if tensors == [],
        do: call,
        else: quote(do: EMLX.Pair.beside(unquote(hd(tensors)), fn -> unquote(call) end))

    quote do
      @doc unquote(EMLX.PairDocs.sentence(name, call))
      @spec unquote(EMLX.PairDocs.spec(name, arguments))
      def unquote(name)(unquote_splicing(arguments)) do
        unquote_splicing(opened)
        EMLX.Pair.wrap(unquote(placed))
      end
    end
  end

  @doc "Keeps documentation and types of what a module defines, for those that delegate to it."
  def __on_definition__(env, :def, name, arguments, _guards, _body) do
    with {_line, text} <- Module.get_attribute(env.module, :doc) do
      specs =
        for {:spec, spec, _} <- Module.get_attribute(env.module, :spec), of?(spec, name), do: spec

      entry = {{name, length(arguments)}, {text, specs}}
      Module.put_attribute(env.module, :documented, entry)
    end
  end

  def __on_definition__(_env, _kind, _name, _arguments, _guards, _body), do: :ok

  defp of?({:when, _, [spec, _]}, name), do: of?(spec, name)
  defp of?({:"::", _, [{found, _, _}, _]}, name), do: found == name

  @doc "Calls `fun` with the device of a tensor, or of the first of a list, for what it makes."
  def beside([tensor | _tensors], fun), do: beside(tensor, fun)
  def beside([], fun), do: fun.()

  def beside(%Nx.Tensor{data: %{ref: {device, _ref}}}, fun),
    do: Nx.with_default_backend(on(device), fun)

  ## What takes more than one call

  @doc "Elements at `offset` + the sum of index * stride, in row-major order."
  def as_strided(tensor, shape, strides, offset) do
    shape = List.to_tuple(shape_list(shape))

    index =
      strides
      |> shape_list()
      |> Enum.with_index()
      |> Enum.reduce(Nx.tensor(offset, type: :s64), fn {stride, axis}, sum ->
        Nx.add(sum, Nx.multiply(Nx.iota(shape, type: :s64, axis: axis), stride))
      end)

    tensor |> Nx.flatten() |> Nx.take(index)
  end

  defp shape_list(shape) when is_tuple(shape), do: Tuple.to_list(shape)
  defp shape_list(shape), do: shape

  @doc "What is left of a division when the quotient is rounded down: it has the divisor's sign."
  def remainder(a, b) do
    rest = Nx.remainder(a, b)

    case rest.type do
      {:u, _} ->
        rest

      _type ->
        # A divisor of another sign than what is left.
        other? = Nx.not_equal(Nx.less(rest, 0), Nx.less(b, 0))
        Nx.select(Nx.logical_and(Nx.not_equal(rest, 0), other?), Nx.add(rest, b), rest)
    end
  end

  @doc "The quotient: of integers cut off, of floats rounded down."
  def quotient(a, b) do
    if Nx.Type.integer?(a.type) and Nx.Type.integer?(b.type),
      do: Nx.quotient(a, b),
      else: Nx.floor(Nx.divide(a, b))
  end

  @doc "Rounded to the nearest whole number, of two to the even one."
  def round(%{type: {class, _}} = tensor) when class in [:u, :s], do: tensor

  def round(tensor) do
    middle? = Nx.equal(Nx.subtract(tensor, Nx.floor(tensor)), 0.5)
    even = Nx.multiply(2, Nx.round(Nx.multiply(tensor, 0.5)))
    Nx.select(middle?, even, Nx.round(tensor))
  end

  @doc "Indices of which negative ones count from the end of an axis of this length."
  def from_end(%{type: {:s, _}} = indices, length),
    do: Nx.select(Nx.less(indices, 0), Nx.add(indices, length), indices)

  def from_end(indices, _length), do: indices

  @doc "Indices along an axis of a tensor."
  def along(tensor, indices, axis), do: from_end(indices, Nx.axis_size(tensor, axis))

  # One index tensor for each axis.
  defp along_all(tensor, indices, axes),
    do: Enum.zip_with(indices, axes, &along(tensor, &1, &2))

  @doc "The same bits as elements of another type; another width scales the last axis."
  def view(tensor, :bool), do: tensor |> view({:u, 8}) |> cast(:bool)

  def view(%{type: {_, size}} = tensor, type) do
    {_, wanted} = type = type(type)

    cond do
      wanted == size and not Nx.Type.complex?(tensor.type) and not Nx.Type.complex?(type) ->
        Nx.bitcast(tensor, type)

      size < 8 or wanted < 8 ->
        raise ArgumentError,
              "there is no view of #{Nx.Type.to_string(tensor.type)} as #{Nx.Type.to_string(type)}, " <>
                "as elements of less than a byte take a byte each"

      true ->
        {device, _ref} = pair = wrap(tensor)
        blob(EMLX.Pairs.to_blob(pair), viewed(tensor, type), type, device)
    end
  end

  defp viewed(%{shape: shape, type: {_, size}}, {_, wanted}) when size == wanted, do: shape

  defp viewed(%{shape: shape, type: {_, size}} = tensor, {_, wanted} = type) do
    last = tuple_size(shape) - 1
    bits = if last >= 0, do: elem(shape, last) * size

    if last < 0 or rem(bits, wanted) != 0 do
      raise ArgumentError,
            "there is no view of #{Nx.Type.to_string(tensor.type)} #{inspect(shape)} as " <>
              "#{Nx.Type.to_string(type)}, as the last axis has to have whole elements"
    end

    put_elem(shape, last, div(bits, wanted))
  end

  @doc "Axes to fold: none mean all."
  def folded([]), do: nil
  def folded(axes), do: axes

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
  def blob(blob, shape, :bool, device), do: blob |> blob(shape, {:u, 8}, device) |> cast(:bool)

  def blob(blob, shape, type, device) do
    type = type(type)
    names = List.duplicate(nil, tuple_size(shape))
    out = %Nx.Tensor{type: type, shape: shape, names: names, data: nil}
    %{data: %Backend{ref: ref}} = Backend.from_blob(out, blob, device)
    Backend.to_nx(ref)
  end

  @doc "A number or a pair, everywhere."
  def filled({device, ref}, shape, type, _device) when is_atom(device) and is_reference(ref),
    do: {device, ref} |> unwrap() |> cast(type) |> Nx.broadcast(shape)

  def filled(value, shape, type, device),
    do: value |> scalar(type, device) |> Nx.broadcast(shape)

  @doc "A number."
  def scalar(value, :bool, device), do: cast(Nx.tensor(value, backend: on(device)), :bool)
  def scalar(value, type, device), do: Nx.tensor(value, type: type(type), backend: on(device))

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

  @doc "A part of a tensor; starts and ends that are negative count from the end of their axis."
  def slice(tensor, starts, stops, strides) do
    {starts, lengths} = region(tensor, starts, stops)
    Nx.slice(tensor, starts, lengths, strides: strides)
  end

  @doc "Overwrites a part with an update that fits or stretches to it."
  def slice_update(tensor, update, starts, stops) do
    {starts, lengths} = region(tensor, starts, stops)
    Nx.put_slice(tensor, starts, Nx.broadcast(update, List.to_tuple(lengths)))
  rescue
    error in ArgumentError ->
      reraise ArgumentError,
              [
                message:
                  "slice_update from #{inspect(starts)} to #{inspect(stops)} of shape " <>
                    "#{inspect(tensor.shape)} does not fit an update of shape " <>
                    "#{inspect(update.shape)}: #{Exception.message(error)}"
              ],
              __STACKTRACE__
  end

  defp region(tensor, starts, stops) do
    sizes = Tuple.to_list(tensor.shape)
    starts = Enum.zip_with(starts, sizes, &within/2)
    stops = Enum.zip_with(stops, sizes, &within/2)
    {starts, Enum.zip_with(stops, starts, &max(&1 - &2, 0))}
  end

  defp within(index, size) when index < 0, do: max(index + size, 0)
  defp within(index, size), do: min(index, size)

  @doc "Slices of the given sizes, with an index tensor for each of `axes`; the others start at 0."
  def gather(tensor, indices, axes, slice_sizes) do
    indices = along_all(tensor, indices, axes)

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
    index = tensor |> along_all(indices, axes) |> Nx.stack(axis: -1)
    count = Tuple.product(hd(indices).shape)

    rest =
      for {size, axis} <- Enum.with_index(Tuple.to_list(tensor.shape)), axis not in axes, do: size

    index = Nx.reshape(index, {count, length(axes)})
    updates = Nx.reshape(updates, List.to_tuple([count | rest]))
    apply(Nx, fun, [tensor, index, updates, [axes: axes]])
  end

  @doc "Singular values alone, or all three parts, in a list."
  def svd(tensor, true), do: tensor |> Nx.LinAlg.svd() |> Tuple.to_list()
  def svd(tensor, false), do: [tensor |> Nx.LinAlg.svd() |> elem(1)]

  @doc "For each row its place in the product of the other two, a lower and an upper factor."
  def lu(tensor) do
    {p, l, u} = Nx.LinAlg.lu(tensor)
    [Nx.as_type(Nx.argmax(p, axis: -1), {:u, 32}), l, u]
  end

  @doc "Eigenvalues in ascending order and their vectors, of a matrix given by one of its halves."
  def eigh(tensor, uplo) do
    half = half(tensor, uplo |> to_string() |> String.upcase())
    {values, vectors} = half |> Nx.LinAlg.eigh()
    order = Nx.argsort(values, axis: -1)
    columns = order |> Nx.new_axis(-2) |> Nx.broadcast(vectors.shape)

    {Nx.take_along_axis(values, order, axis: -1), Nx.take_along_axis(vectors, columns, axis: -1)}
  end

  defp half(tensor, "L"), do: whole(Nx.tril(tensor), Nx.tril(tensor, k: -1))
  defp half(tensor, "U"), do: whole(Nx.triu(tensor), Nx.triu(tensor, k: 1))

  defp half(_tensor, uplo) do
    raise ArgumentError, "the half of a matrix is :L or :U, got: #{inspect(uplo)}"
  end

  defp whole(half, strict), do: Nx.add(half, Nx.LinAlg.adjoint(strict))

  @doc "The inverse of a triangular matrix, of which the other half is not read."
  def inverse(tensor, upper) do
    one = Nx.eye(tensor.shape, type: Nx.Type.to_floating(tensor.type))
    Nx.LinAlg.triangular_solve(tensor, one, lower: not upper)
  end

  @doc "Positions of `{batch, positions, ...}` that count from an offset for each of the batch."
  def positions(tensor, offsets) do
    count = Nx.iota({1, Nx.axis_size(tensor, 1)}, type: :s32)
    Nx.add(count, Nx.reshape(offsets, {:auto, 1}))
  end

  @doc "The option of attention for a pair of sinks, or for none."
  def sinks(nil), do: []
  def sinks(pair), do: [sinks: unwrap(pair)]

  @doc """
  Writes keys and values of new positions into their caches, whose positions are on an axis of this
  number, and attends to those up to each query's own. The mask has a number for each position that
  is filled then.
  """
  def attend([q, new_k, new_v, k_cache, v_cache], axis, offset, scale, key_mask \\ nil) do
    starts = if axis == 1, do: [0, offset, 0, 0], else: [0, 0, offset, 0]
    [k, v] = for {cache, new} <- [{k_cache, new_k}, {v_cache, new_v}], do: put(cache, starts, new)
    filled = offset + Nx.axis_size(new_k, axis)

    [heads_k, heads_v] =
      for cache <- [k, v], do: cache |> Nx.slice_along_axis(0, filled, axis: axis) |> heads(axis)

    masks = if key_mask, do: [key_mask: key_mask], else: []

    attended =
      EMLX.Fast.attend_to_cache(heads(q, axis), heads_k, heads_v, scale, [first: offset] ++ masks)

    {heads(attended, axis), k, v}
  end

  defp put(cache, starts, new), do: Nx.put_slice(cache, starts, Nx.as_type(new, Nx.type(cache)))

  # Heads before positions; the same turns them back.
  defp heads(tensor, 2), do: tensor
  defp heads(tensor, 1), do: Nx.transpose(tensor, axes: [0, 2, 1, 3])

  @doc "A lower triangular factor, or the upper one that is its adjoint."
  def upper(tensor, false), do: tensor
  def upper(tensor, true), do: Nx.LinAlg.adjoint(tensor)
end
