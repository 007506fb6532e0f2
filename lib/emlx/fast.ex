# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Fast do
  @moduledoc """
  Fused functions of language models: softmax, norms, rotary positions, attention, gates.

  All of them can be called on tensors, inside `defn` and from layers of Axon. Each is a block
  (`Nx.block/4`) with a definition in plain Nx: an engine that has a kernel for the whole takes the
  block, every other backend, compiler and `Nx.Defn.grad/2` work with the definition. But for
  `einsum/2` and `kv_cache_sdpa_update/8` results have the type and, unless said otherwise, the shape of the first argument;
  what is narrower than f32 is computed in f32 and rounded once.

  Attention takes queries `{batch, heads, queries, size}` and keys and values
  `{batch, groups, keys, size}`, where `heads` is a multiple of `groups`: each group of keys serves
  `heads / groups` neighbouring heads. `scale` is usually `1 / sqrt(size)`. Where a query may attend
  to no key at all its result is the mean of the values.

  The option `:sinks` is a tensor of one logit a head, `{heads}`: a key without a value, which takes
  its share of the softmax.
  """

  import Nx.Defn

  defmodule Softmax do
    @moduledoc false
    defstruct [:axes]
  end

  defmodule LogSumExp do
    @moduledoc false
    defstruct [:axes, :keep_axes]
  end

  defmodule RMSNorm do
    @moduledoc false
    defstruct eps: 1.0e-6
  end

  defmodule LayerNorm do
    @moduledoc false
    defstruct eps: 1.0e-5
  end

  defmodule Rope do
    @moduledoc false
    defstruct [:dims, :traditional, :base, :scale]
  end

  defmodule SwiGLU do
    @moduledoc false
    defstruct []
  end

  defmodule Attention do
    @moduledoc false
    # Query i sees keys up to `first` + i. The others say which arguments there are after query,
    # key and value, in this order.
    defstruct [
      :scale,
      :first,
      causal: false,
      offset: false,
      mask: false,
      key_mask: false,
      sinks: false
    ]
  end

  ## Sums of powers

  @doc """
  `exp(x) / sum(exp(x))` over the last axis, or over `:axes`.

  ## Examples

      iex> EMLX.Fast.softmax(Nx.tensor([[0.0, 0.0], [0.0, 1.0e3]])) |> Nx.to_flat_list()
      [0.5, 0.5, 0.0, 1.0]
  """
  deftransform softmax(x, options \\ []) do
    options = Keyword.validate!(options, axes: [-1])
    x = to_float(x)

    block(%Softmax{axes: axes(x, options[:axes])}, [x], fn %{axes: axes}, x ->
      powers = Nx.exp(Nx.subtract(x, Nx.reduce_max(x, axes: axes, keep_axes: true)))
      Nx.divide(powers, Nx.sum(powers, axes: axes, keep_axes: true))
    end)
  end

  @doc """
  `log(sum(exp(x)))` over all axes, or over `:axes`, which stay with `keep_axes: true`.

  ## Examples

      iex> EMLX.Fast.logsumexp(Nx.tensor([1.0e3, -1.0e3])) |> Nx.to_number()
      1000.0
  """
  deftransform logsumexp(x, options \\ []) do
    options = Keyword.validate!(options, [:axes, keep_axes: false])
    x = to_float(x)
    axes = axes(x, options[:axes] || Nx.axes(x))

    block(%LogSumExp{axes: axes, keep_axes: options[:keep_axes]}, [x], fn struct, x ->
      most = Nx.reduce_max(x, axes: struct.axes, keep_axes: true)
      most = Nx.select(Nx.is_infinity(most), 0, most)
      sum = x |> Nx.subtract(most) |> Nx.exp() |> Nx.sum(axes: struct.axes, keep_axes: true)
      result = Nx.add(Nx.log(sum), most)
      if struct.keep_axes, do: result, else: Nx.squeeze(result, axes: struct.axes)
    end)
  end

  defp axes(x, axes), do: Enum.map(axes, &Nx.axis_index(x, &1))

  defp to_float(x) do
    x = Nx.to_tensor(x)
    if Nx.Type.integer?(Nx.type(x)), do: Nx.as_type(x, :f32), else: x
  end

  ## Norms

  @doc """
  Root mean square normalisation over the last axis: `x / sqrt(mean(x * x) + eps) * weight`.

  ## Examples

      iex> EMLX.Fast.rms_norm(Nx.tensor([[3.0, 4.0]]), Nx.tensor([1.0, 2.0]), 0.0)
      ...> |> Nx.multiply(12.5) |> Nx.pow(2) |> Nx.round() |> Nx.to_flat_list()
      [113.0, 800.0]
  """
  deftransform rms_norm(x, weight, eps) do
    block(%RMSNorm{eps: eps}, [x, weight], fn %{eps: eps}, x, weight ->
      mean = x |> Nx.multiply(x) |> Nx.mean(axes: [-1], keep_axes: true)
      x |> Nx.multiply(Nx.rsqrt(Nx.add(mean, eps))) |> Nx.multiply(weight)
    end)
  end

  @doc "As `layer_norm/4`, with no bias."
  deftransform layer_norm(x, weight, eps) do
    block(%LayerNorm{eps: eps}, [x, weight], fn %{eps: eps}, x, weight ->
      Nx.multiply(standardize(x, eps), weight)
    end)
  end

  @doc """
  Layer normalisation over the last axis: `(x - mean) / sqrt(variance + eps) * weight + bias`.

  ## Examples

      iex> x = Nx.tensor([[1.0, 3.0]])
      iex> EMLX.Fast.layer_norm(x, Nx.tensor([1.0, 2.0]), Nx.tensor([0.0, 1.0]), 0.0)
      ...> |> Nx.to_flat_list()
      [-1.0, 3.0]
  """
  deftransform layer_norm(x, weight, bias, eps) do
    block(%LayerNorm{eps: eps}, [x, weight, bias], fn %{eps: eps}, x, weight, bias ->
      x |> standardize(eps) |> Nx.multiply(weight) |> Nx.add(bias)
    end)
  end

  defp standardize(x, eps) do
    centered = Nx.subtract(x, Nx.mean(x, axes: [-1], keep_axes: true))
    variance = centered |> Nx.multiply(centered) |> Nx.mean(axes: [-1], keep_axes: true)
    Nx.multiply(centered, Nx.rsqrt(Nx.add(variance, eps)))
  end

  ## Gates

  @doc """
  The gate of a feed-forward layer: `gate * sigmoid(gate) * up`.

  ## Examples

      iex> EMLX.Fast.swiglu(Nx.tensor([0.0, 100.0]), Nx.tensor([5.0, 2.0])) |> Nx.to_flat_list()
      [0.0, 200.0]
  """
  deftransform swiglu(gate, up) do
    block(%SwiGLU{}, [gate, up], fn _struct, gate, up ->
      gate |> Nx.multiply(Nx.sigmoid(gate)) |> Nx.multiply(up)
    end)
  end

  ## Rotary positions

  @doc """
  Rotary positions of `{..., positions, size}`: the axis before the last counts them from `offset`.

  The first `dims` elements of the last axis are turned in pairs, by `position * scale` times
  `base ** (-2 * i / dims)` for pair `i`: with `traditional` neighbours are pairs, else an element
  of the first half and one of the second.

  ## Examples

      iex> x = Nx.tensor([[[1.0, 0.0], [1.0, 0.0]]])
      iex> EMLX.Fast.rope(x, 2, false, 10_000, 1.0, 0) |> Nx.multiply(100) |> Nx.round()
      ...> |> Nx.to_flat_list()
      [100.0, 0.0, 54.0, 84.0]
  """
  deftransform(rope(x, dims, traditional, base, scale, offset),
    do: turn(x, offset |> Nx.to_tensor() |> Nx.reshape({}), dims, traditional, scale, base: base)
  )

  @doc """
  As `rope/6` for `{batch, positions, ..., size}`, each position being given by a tensor
  `{batch, positions}` of integers.
  """
  deftransform(rope_with_positions(x, positions, dims, traditional, base, scale),
    do: turn(x, positions, dims, traditional, scale, base: base)
  )

  @doc """
  As `rope_with_positions/6`, with a tensor `{dims / 2}` of the periods by which positions are
  divided, where `rope/6` has `base ** (2 * i / dims)`.
  """
  deftransform(rope_with_freqs(x, positions, dims, traditional, scale, freqs),
    do: turn(x, positions, dims, traditional, scale, freqs: freqs)
  )

  defp turn(x, positions, dims, traditional, scale, periods) do
    size = Nx.axis_size(x, -1)

    if rem(dims, 2) != 0 or dims > size do
      raise ArgumentError,
            "rope turns an even number of dims, at most the last axis' #{size}, got: #{dims}"
    end

    struct = %Rope{dims: dims, traditional: traditional, base: periods[:base], scale: scale}

    case periods[:freqs] do
      nil -> block(struct, [x, positions], &turned(&1, &2, &3, nil))
      freqs -> block(struct, [x, positions, freqs], &turned/4)
    end
  end

  defp turned(%{dims: dims} = struct, x, positions, freqs) do
    angles = angles(struct, x, positions, frequencies(struct, Nx.type(x), freqs))
    turned = turn_pairs(struct, Nx.slice_along_axis(x, 0, dims, axis: -1), angles)
    rest = Nx.axis_size(x, -1) - dims

    if rest == 0,
      do: turned,
      else: Nx.concatenate([turned, Nx.slice_along_axis(x, dims, rest, axis: -1)], axis: -1)
  end

  defp frequencies(%{dims: dims, base: base}, type, nil) do
    exponents = Nx.iota({div(dims, 2)}, type: type) |> Nx.multiply(-2 / dims)
    Nx.pow(base * 1.0, exponents)
  end

  defp frequencies(_struct, type, freqs), do: Nx.divide(1.0, Nx.as_type(freqs, type))

  # {positions..., pairs}, with axes of length 1 where positions do not differ.
  defp angles(%{scale: scale}, x, positions, frequencies) do
    type = Nx.type(x)
    positions = Nx.as_type(positions, type)
    [count | front] = x |> Nx.shape() |> Tuple.to_list() |> Enum.reverse() |> tl()

    {positions, shape} =
      if Nx.rank(positions) == 0,
        do:
          {Nx.add(Nx.iota({count}, type: type), positions),
           Enum.map(front, fn _ -> 1 end) ++ [count]},
        else:
          {positions, Tuple.to_list(Nx.shape(positions)) ++ List.duplicate(1, length(front) - 1)}

    positions
    |> Nx.multiply(scale)
    |> Nx.reshape(List.to_tuple(shape ++ [1]))
    |> Nx.multiply(frequencies)
  end

  defp turn_pairs(%{dims: dims, traditional: traditional}, x, angles) do
    half = div(dims, 2)
    {cos, sin} = {Nx.cos(angles), Nx.sin(angles)}
    front = x |> Nx.shape() |> Tuple.delete_at(Nx.rank(x) - 1) |> Tuple.to_list()
    # {..., 2, half}, or {..., half, 2} of neighbours
    axis = if traditional, do: -1, else: -2
    lengths = if traditional, do: [half, 2], else: [2, half]
    pairs = Nx.reshape(x, List.to_tuple(front ++ lengths))

    [a, b] =
      for i <- 0..1,
          do: pairs |> Nx.slice_along_axis(i, 1, axis: axis) |> Nx.squeeze(axes: [axis])

    [
      Nx.subtract(Nx.multiply(a, cos), Nx.multiply(b, sin)),
      Nx.add(Nx.multiply(a, sin), Nx.multiply(b, cos))
    ]
    |> Nx.stack(axis: axis)
    |> Nx.reshape(x)
  end

  ## Attention

  @doc "Attention of every query to every key."
  deftransform(scaled_dot_product_attention(q, k, v, scale),
    do: scaled_dot_product_attention(q, k, v, scale, [])
  )

  @doc """
  Attention with a mask, or with options (`:sinks`).

  The mask has a shape that stretches to `{batch, heads, queries, keys}`. Integers say with 0 where a
  query may not look; floats are added to the scores.

  ## Examples

      iex> q = Nx.tensor([[[[1.0, 0.0]]]])
      iex> k = Nx.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
      iex> v = Nx.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
      iex> EMLX.Fast.scaled_dot_product_attention(q, k, v, 1.0, Nx.u8([0, 1])) |> Nx.to_flat_list()
      [3.0, 4.0]
      iex> EMLX.Fast.scaled_dot_product_attention(q, k, v, 1.0) |> Nx.to_flat_list()
      [2.0, 3.0]
  """
  deftransform(scaled_dot_product_attention(q, k, v, scale, options) when is_list(options),
    do: attention(q, k, v, scale, [], options)
  )

  deftransform(scaled_dot_product_attention(q, k, v, scale, mask),
    do: scaled_dot_product_attention(q, k, v, scale, mask, [])
  )

  @doc "Attention with a mask and options (`:sinks`)."
  deftransform(scaled_dot_product_attention(q, k, v, scale, mask, options),
    do: attention(q, k, v, scale, [mask: mask], options)
  )

  @doc """
  Attention of each query to the keys up to its own: of `n` keys and `m` queries the last query sees
  all, the one before it `n - 1`.
  """
  deftransform(scaled_dot_product_attention_causal(q, k, v, scale),
    do: scaled_dot_product_attention_causal(q, k, v, scale, [])
  )

  @doc "As `scaled_dot_product_attention_causal/4`, with options (`:sinks`)."
  deftransform scaled_dot_product_attention_causal(q, k, v, scale, options) do
    attention(q, k, v, scale, [first: Nx.axis_size(k, 2) - Nx.axis_size(q, 2)], options)
  end

  @doc """
  Causal attention to the keys that `key_mask`, `{batch, keys}`, has a 1 for.

  A single query sees all of them, as when one token is added to a cache. Several queries are the
  first ones: query `i` sees keys 0 to `i`.
  """
  deftransform(scaled_dot_product_attention_causal_key_masked(q, k, v, scale, key_mask),
    do: scaled_dot_product_attention_causal_key_masked(q, k, v, scale, key_mask, [])
  )

  @doc "As `scaled_dot_product_attention_causal_key_masked/5`, with options (`:sinks`)."
  deftransform scaled_dot_product_attention_causal_key_masked(q, k, v, scale, key_mask, options) do
    first = if Nx.axis_size(q, 2) == 1, do: Nx.axis_size(k, 2) - 1, else: 0
    attention(q, k, v, scale, [first: first, key_mask: key_mask], options)
  end

  @doc """
  Writes keys and values of new positions into their caches, and attends to what is there.

  `q`, `new_k`, `new_v` are `{batch, positions, heads, size}`, the caches
  `{batch, length, heads, size}`, `offset` is where the new positions begin and `key_mask`,
  `{batch, length}`, has a 1 for each position that can be seen. Gives the attention,
  `{batch, heads, positions, size}`, and both caches; where nobody else holds the old ones they are
  written in place.
  """
  deftransform kv_cache_sdpa_update(q, new_k, new_v, k_cache, v_cache, offset, key_mask, scale) do
    offset = offset |> Nx.reshape({}) |> Nx.as_type(:s32)
    [k, v] = for {cache, new} <- [{k_cache, new_k}, {v_cache, new_v}], do: put(cache, offset, new)
    [qt, kt, vt] = for t <- [q, k, v], do: Nx.transpose(t, axes: [0, 2, 1, 3])
    {scaled_dot_product_attention_causal_key_masked(qt, kt, vt, scale, key_mask), k, v}
  end

  defp put(cache, offset, new),
    do: Nx.put_slice(cache, [0, offset, 0, 0], Nx.as_type(new, Nx.type(cache)))

  @doc """
  Attention to a cache of which only a part is filled: query `i` sees keys up to number `offset` + `i`,
  an integer or a tensor `{}` or `{batch}` of integers. No more than these keys are read.

  ## Examples

      iex> q = Nx.tensor([[[[1.0]]]])
      iex> k = Nx.tensor([[[[1.0], [1.0], [1.0]]]])
      iex> v = Nx.tensor([[[[1.0], [3.0], [100.0]]]])
      iex> EMLX.Fast.scaled_dot_product_attention_from(q, k, v, 1.0, 1) |> Nx.to_flat_list()
      [2.0]
  """
  deftransform(scaled_dot_product_attention_from(q, k, v, scale, offset),
    do: scaled_dot_product_attention_from(q, k, v, scale, offset, [])
  )

  @doc "As `scaled_dot_product_attention_from/5`, with options (`:sinks`)."
  deftransform(scaled_dot_product_attention_from(q, k, v, scale, offset, options),
    do: attention(q, k, v, scale, [offset: Nx.to_tensor(offset)], options)
  )

  @doc false
  # Attention with `:first` (causal), `:offset`, `:mask`, `:key_mask` and `:sinks`.
  def attend_to_cache(q, k, v, scale, what) do
    {options, what} = Keyword.split(what, [:sinks])
    attention(q, k, v, scale, what, options)
  end

  @extras [:offset, :mask, :key_mask, :sinks]

  defp attention(q, k, v, scale, what, options) do
    what = what ++ Keyword.validate!(options, [:sinks])
    extra = for name <- @extras, what[name] != nil, do: {name, what[name]}
    check_heads(Nx.shape(q), Nx.shape(k), Nx.shape(v))

    struct = %Attention{
      scale: scale,
      causal: what[:first] != nil,
      first: what[:first]
    }

    struct = struct!(struct, for({name, _} <- extra, do: {name, true}))
    block(struct, [q, k, v | Keyword.values(extra)], attention_of(length(extra)))
  end

  # A block's definition takes its arguments one by one.
  defp attention_of(0), do: fn s, q, k, v -> attend(s, q, k, v, []) end
  defp attention_of(1), do: fn s, q, k, v, a -> attend(s, q, k, v, [a]) end
  defp attention_of(2), do: fn s, q, k, v, a, b -> attend(s, q, k, v, [a, b]) end

  defp check_heads({batch, heads, _, size}, {batch, groups, n, size}, {batch, groups, n, _})
       when rem(heads, groups) == 0,
       do: :ok

  defp check_heads(q, k, v) do
    raise ArgumentError,
          "attention takes queries {batch, heads, queries, size} and keys and values " <>
            "{batch, groups, keys, size} with heads a multiple of groups, got: " <>
            "#{inspect(q)}, #{inspect(k)}, #{inspect(v)}"
  end

  defp attend(%Attention{} = struct, q, k, v, extra) do
    extra = Enum.zip(for(name <- @extras, Map.fetch!(struct, name), do: name), extra)
    {batch, heads, queries, size} = Nx.shape(q)
    {_, groups, keys, _} = Nx.shape(k)
    width = Nx.axis_size(v, 3)
    # Heads of a group are rows of one product, so that keys and values are not repeated.
    rows = {batch, groups, div(heads, groups) * queries, size}

    scores =
      q
      |> Nx.reshape(rows)
      |> Nx.dot([3], [0, 1], k, [3], [0, 1])
      |> Nx.multiply(struct.scale)
      |> Nx.reshape({batch, heads, queries, keys})
      |> mask(struct, extra)

    scores
    |> weights(extra[:sinks])
    |> Nx.reshape(put_elem(rows, 3, keys))
    |> Nx.dot([3], [0, 1], v, [2], [0, 1])
    |> Nx.reshape({batch, heads, queries, width})
  end

  defp mask(scores, struct, extra) do
    scores = if struct.causal, do: up_to(scores, struct.first), else: scores

    Enum.reduce(extra, scores, fn
      {:offset, offset}, scores ->
        up_to(
          scores,
          if(Nx.rank(offset) == 1, do: Nx.reshape(offset, {:auto, 1, 1, 1}), else: offset)
        )

      {:key_mask, seen}, scores ->
        keep(scores, seen |> Nx.not_equal(0) |> Nx.new_axis(1) |> Nx.new_axis(1))

      {:mask, mask}, scores ->
        if Nx.Type.integer?(Nx.type(mask)), do: keep(scores, mask), else: Nx.add(scores, mask)

      {:sinks, _}, scores ->
        scores
    end)
  end

  # Keys up to a number that grows with the query.
  defp up_to(scores, first) do
    {_, _, queries, keys} = Nx.shape(scores)
    row = Nx.iota({queries, 1}) |> Nx.add(first)
    keep(scores, Nx.less_equal(Nx.iota({1, keys}), row))
  end

  # The lowest finite number: rows that see nothing have equal weights rather than NaN.
  defp keep(scores, seen) do
    lowest = Nx.Constants.min_finite(Nx.type(scores))
    Nx.select(Nx.broadcast(seen, scores), scores, lowest)
  end

  defp weights(scores, sinks) do
    most = Nx.reduce_max(scores, axes: [-1], keep_axes: true)
    sinks = sinks && sinks |> Nx.as_type(Nx.type(scores)) |> Nx.reshape({1, :auto, 1, 1})
    most = if sinks, do: Nx.max(most, sinks), else: most
    powers = Nx.exp(Nx.subtract(scores, most))
    sum = Nx.sum(powers, axes: [-1], keep_axes: true)
    sum = if sinks, do: Nx.add(sum, Nx.exp(Nx.subtract(sinks, most))), else: sum
    Nx.divide(powers, sum)
  end

  ## Einstein sums

  @doc """
  Einstein summation of a list of tensors, in the notation of NumPy.

  ## Examples

      iex> EMLX.Fast.einsum("ij,j->i", [Nx.tensor([[1, 2], [3, 4]]), Nx.tensor([1, 1])])
      ...> |> Nx.to_flat_list()
      [3, 7]
  """
  @spec einsum(String.t(), [Nx.Tensor.t()]) :: Nx.Tensor.t()
  def einsum(subscripts, operands) when is_binary(subscripts) and is_list(operands),
    do: EMLX.Einsum.einsum(subscripts, operands)

  ## Callbacks
  #
  # The same functions with the tensors in a tuple, and numbers as options.

  @doc false
  def rms_norm_callback({x, weight}, options), do: rms_norm(x, weight, options[:eps])

  @doc false
  def layer_norm_callback({x, weight, bias}, options),
    do: layer_norm(x, weight, bias, options[:eps])

  @doc false
  def layer_norm_no_bias_callback({x, weight}, options), do: layer_norm(x, weight, options[:eps])

  @doc false
  def swiglu_callback({gate, up}, _options), do: swiglu(gate, up)

  @doc false
  def rope_callback(x, o),
    do: rope(x, o[:dims], o[:traditional], o[:base], o[:scale], o[:offset])

  for name <- [:rope_with_positions_callback, :rope_with_positions_fast_callback] do
    @doc false
    def unquote(name)({x, positions}, o),
      do: rope_with_positions(x, positions, o[:dims], o[:traditional], o[:base], o[:scale])
  end

  for name <- [:rope_with_freqs_callback, :rope_with_freqs_fast_callback] do
    @doc false
    def unquote(name)({x, positions, freqs}, o),
      do: rope_with_freqs(x, positions, o[:dims], o[:traditional], o[:scale], freqs)
  end

  @doc false
  def sdpa_callback({q, k, v}, o), do: attend_to_cache(q, k, v, o[:scale], [])

  @doc false
  def sdpa_sinks_callback({q, k, v, sinks}, o),
    do: attend_to_cache(q, k, v, o[:scale], sinks: sinks)

  @doc false
  def sdpa_masked_callback({q, k, v, mask}, o),
    do: attend_to_cache(q, k, v, o[:scale], mask: mask)

  @doc false
  def sdpa_masked_sinks_callback({q, k, v, mask, sinks}, o),
    do: attend_to_cache(q, k, v, o[:scale], mask: mask, sinks: sinks)

  @doc false
  def sdpa_causal_callback({q, k, v}, o),
    do: scaled_dot_product_attention_causal(q, k, v, o[:scale])

  @doc false
  def sdpa_causal_sinks_callback({q, k, v, sinks}, o),
    do: scaled_dot_product_attention_causal(q, k, v, o[:scale], sinks: sinks)

  @doc false
  def sdpa_causal_key_masked_callback({q, k, v, key_mask}, o),
    do: attend_to_cache(q, k, v, o[:scale], first: o[:kv_offset], key_mask: key_mask)

  @doc false
  def sdpa_causal_key_masked_sinks_callback({q, k, v, key_mask, sinks}, o) do
    what = [first: o[:kv_offset], key_mask: key_mask, sinks: sinks]
    attend_to_cache(q, k, v, o[:scale], what)
  end

  @doc false
  def kv_cache_sdpa_update_callback({q, new_k, new_v, k_cache, v_cache, offset, key_mask}, o),
    do: kv_cache_sdpa_update(q, new_k, new_v, k_cache, v_cache, offset, key_mask, o[:scale])

  ## Blocks

  # The definition sees floats of at least 32 bits; the result has the first argument's type.
  defp block(struct, args, definition) do
    args = args |> Enum.map(&Nx.to_tensor/1) |> traced()
    [first | _] = args
    arity = length(args) + 1

    fun =
      wrap(arity, fn struct, args ->
        type = args |> hd() |> Nx.type()
        definition |> apply([struct | Enum.map(args, &widen/1)]) |> Nx.as_type(type)
      end)

    output = apply_shape(struct, args, Nx.to_template(first))
    Nx.block(struct, args, output, fun)
  end

  # Inside of defn all arguments of a block are expressions, constants too.
  defp traced(args) do
    if Enum.any?(args, &match?(%{data: %Nx.Defn.Expr{}}, &1)),
      do: Enum.map(args, &Nx.Defn.Expr.tensor/1),
      else: args
  end

  defp apply_shape(%Attention{}, [q, _k, v | _], output),
    do: %{output | shape: put_elem(Nx.shape(q), 3, Nx.axis_size(v, 3))}

  defp apply_shape(%LogSumExp{} = struct, [x], _output) do
    kept =
      for {length, axis} <- x |> Nx.shape() |> Tuple.to_list() |> Enum.with_index(),
          folded <- [axis in struct.axes],
          struct.keep_axes or not folded,
          do: if(folded, do: 1, else: length)

    Nx.template(List.to_tuple(kept), Nx.type(x))
  end

  defp apply_shape(_struct, _args, output), do: output

  defp wrap(2, f), do: fn s, a -> f.(s, [a]) end
  defp wrap(3, f), do: fn s, a, b -> f.(s, [a, b]) end
  defp wrap(4, f), do: fn s, a, b, c -> f.(s, [a, b, c]) end
  defp wrap(5, f), do: fn s, a, b, c, d -> f.(s, [a, b, c, d]) end
  defp wrap(6, f), do: fn s, a, b, c, d, e -> f.(s, [a, b, c, d, e]) end

  defp widen(tensor) do
    case Nx.type(tensor) do
      {kind, bits} when kind in [:f, :bf, :f8_e4m3fn] and bits < 32 -> Nx.as_type(tensor, :f32)
      _ -> tensor
    end
  end
end
