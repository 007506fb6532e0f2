# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Pairs do
  @moduledoc false
  # What `EMLX` offers on `{device, reference}` pairs; it delegates here.

  import EMLX.Pair, only: [pairs: 1, pairs_of_operations: 0]

  alias EMLX.{Backend, Fast, Native, Pair}

  @on_definition Pair
  Module.register_attribute(__MODULE__, :documented, accumulate: true)

  @doc """
  The number in a scalar.

  ## Examples

      iex> 3 |> EMLX.scalar_tensor(:int32, :cpu) |> EMLX.item()
      3

  """
  @spec item(Backend.ref()) :: number | Complex.t() | :infinity | :neg_infinity | :nan
  def item(tensor) do
    EMLX.Profiling.count(:item)
    tensor |> Pair.unwrap() |> Nx.to_number()
  end

  @doc "The elements as a binary, each in whole bytes: all, or the first `limit`."
  @spec to_blob(Backend.ref()) :: binary
  @spec to_blob(Backend.ref(), pos_integer | :infinity) :: binary
  def to_blob({device, ref}, limit \\ :infinity)
      when is_atom(device) and is_reference(ref) and
             (limit == :infinity or (is_integer(limit) and limit >= 0)) do
    {type, _dims, _ready, _depth} = Native.tensor_info(ref)
    # The library gives no more than there is.
    count = if limit == :infinity, do: 0xFFFFFFFFFFFF, else: limit
    bytes = EMLX.Types.bytes(EMLX.Types.from_native(type), count)
    Native.to_binary(ref, bytes, &Backend.evaluate(&1, device))
  end

  @doc "The tensor of a pair."
  @spec to_nx(Backend.ref()) :: Nx.Tensor.t()
  def to_nx(tensor), do: Pair.unwrap(tensor)

  @doc "The same tensor on another device."
  @spec to_device(Backend.ref(), atom) :: Backend.ref()
  def to_device({device, ref}, device) when is_atom(device) and is_reference(ref),
    do: {device, ref}

  def to_device(tensor, device),
    do: tensor |> Pair.unwrap() |> Nx.backend_copy({Backend, device: device}) |> Pair.wrap()

  @doc "Frees a tensor now: `:ok` or `:already_deallocated`. Using it afterwards raises."
  @spec deallocate(Backend.ref()) :: :ok | :already_deallocated
  def deallocate({device, ref}) when is_atom(device) and is_reference(ref),
    do: Native.deallocate(ref)

  @doc "Axis lengths."
  @spec shape(Backend.ref()) :: tuple
  def shape(tensor), do: Pair.unwrap(tensor).shape

  @doc "For each axis how many elements lie from one index to the next; memory is always dense."
  @spec strides(Backend.ref()) :: [pos_integer]
  def strides(tensor) do
    {strides, _size} =
      tensor
      |> shape()
      |> Tuple.to_list()
      |> List.foldr({[], 1}, &{[elem(&2, 1) | elem(&2, 0)], &1 * elem(&2, 1)})

    strides
  end

  @doc """
  The type, by the name that MLX has for it.

  ## Examples

      iex> EMLX.scalar_type(EMLX.ones({2}, :f32, :cpu))
      :float32

  """
  @spec scalar_type(Backend.ref()) :: atom
  def scalar_type(tensor), do: Pair.type_name(Pair.unwrap(tensor).type)

  @doc "The value of `:ok` or `{:ok, value}`; raises `EMLX.NIFError` for `{:error, reason}`."
  @spec unwrap!(:ok | {:ok, value} | {:error, term}) :: :ok | value when value: term
  def unwrap!(:ok), do: :ok
  def unwrap!({:ok, value}), do: value
  def unwrap!({:error, reason}), do: raise(EMLX.NIFError, message: to_string(reason))

  @doc "The address of a tensor's memory and its bytes; valid while the tensor is held."
  @spec tensor_data_ptr(Backend.ref()) :: {non_neg_integer, non_neg_integer}
  def tensor_data_ptr(tensor) do
    pointer = tensor |> Pair.unwrap() |> Nx.to_pointer()
    {pointer.address, pointer.data_size}
  end

  @doc "Copies a tensor to new shared memory: its name and bytes. See `shm_unlink/1`."
  @spec tensor_to_shm(Backend.ref(), non_neg_integer) :: {String.t(), non_neg_integer}
  def tensor_to_shm(tensor, permissions) do
    pointer = tensor |> Pair.unwrap() |> Nx.to_pointer(mode: :ipc, permissions: permissions)
    {pointer.handle, pointer.data_size}
  end

  @doc """
  Removes the name of shared memory, which reading it with `Nx.from_pointer/5` does by
  itself. No error if it is gone already.
  """
  @spec shm_unlink(String.t()) :: :ok
  def shm_unlink(name), do: Native.shm_unlink(name)

  @doc """
  The sum of products that `subscripts` describe in Einstein's notation: a letter for
  each axis, operands between commas, and the result after an arrow. Labels that the
  result lacks are summed over; an operand that repeats one is read along its diagonal.
  Without an arrow the result has the labels that occur once, in alphabetical order. Three
  dots stand for all axes without a letter, which stretch as in other operations.

  ## Examples

      iex> a = EMLX.reshape(EMLX.arange(0, 6, 1, true, :cpu), {2, 3})
      iex> EMLX.einsum([a, a], "ij,kj->ik") |> EMLX.to_nx() |> Nx.to_list()
      [[5, 14], [14, 50]]
      iex> EMLX.einsum([a], "ij->j") |> EMLX.to_nx() |> Nx.to_list()
      [3, 5, 7]

  """
  @spec einsum([Backend.ref()], String.t()) :: Backend.ref()
  def einsum(tensors, subscripts) when is_list(tensors) and is_binary(subscripts),
    do: einsum_of(Pair.unwrap(tensors), subscripts)

  defp einsum_of(tensors, subscripts),
    do: Pair.wrap(Pair.beside(tensors, fn -> EMLX.Einsum.einsum(subscripts, tensors) end))

  @doc """
  `kv_cache_attention/7` with `:scale` as an option, or, given `:key_mask`,
  `kv_cache_attention_masked/8`.
  """
  @spec causal_kv_attention(
          Backend.ref(),
          Backend.ref(),
          Backend.ref(),
          Backend.ref(),
          Backend.ref(),
          non_neg_integer,
          keyword
        ) :: {Backend.ref(), Backend.ref(), Backend.ref()}
  def causal_kv_attention(query, key, value, keys, values, offset, options)
      when is_integer(offset) and offset >= 0 and is_list(options) do
    options = Keyword.validate!(options, [:scale, :key_mask])
    scale = Keyword.fetch!(options, :scale)

    case options[:key_mask] do
      nil ->
        kv_cache_attention(query, key, value, keys, values, offset, scale)

      mask ->
        kv_cache_attention_masked(query, key, value, keys, values, offset, scale, mask)
    end
  end

  pairs_of_operations()

  pairs do
    eye(m, n, type, device) ->
      Nx.eye({m, n}, type: Pair.type(type), backend: Pair.on(device))

    from_blob(blob, shape, type, device) ->
      Pair.blob(blob, shape, type, device)

    scalar_tensor(value, type, device) ->
      Pair.scalar(value, type, device)

    ones(shape, type, device) ->
      Pair.filled(1, shape, type, device)

    full(value, shape, type, device) ->
      Pair.filled(value, shape, type, device)

    arange(start, stop, step, integer?, device) ->
      Pair.range(start, stop, step, integer?, device)

    remainder(tensor_a, tensor_b) ->
      Pair.remainder(tensor_a, tensor_b)

    quotient(tensor_a, tensor_b) ->
      Pair.quotient(tensor_a, tensor_b)

    round(tensor) ->
      Pair.round(tensor)

    reshape(tensor, shape) ->
      Nx.reshape(tensor, shape)

    broadcast_to(tensor, shape) ->
      Nx.broadcast(tensor, shape)

    copy(tensor) ->
      Nx.backend_copy(tensor, {Backend, device: elem(tensor.data.ref, 0)})

    astype(tensor, type) ->
      Pair.cast(tensor, type)

    view(tensor, type) ->
      Pair.view(tensor, type)

    as_strided(tensor, shape, strides, offset) ->
      Pair.as_strided(tensor, shape, strides, offset)

    transpose(tensor, axes) ->
      Nx.transpose(tensor, axes: axes)

    squeeze(tensor, axes) ->
      Nx.squeeze(tensor, axes: axes)

    pad(tensor, axes, low, high, tensor_value) ->
      Pair.pad(tensor, axes, low, high, tensor_value)

    stack(tensors, axis) ->
      Nx.stack(tensors, axis: axis)

    concatenate(tensors, axis) ->
      Nx.concatenate(tensors, axis: axis)

    minimum(tensor_a, tensor_b) ->
      Nx.min(tensor_a, tensor_b)

    maximum(tensor_a, tensor_b) ->
      Nx.max(tensor_a, tensor_b)

    where(tensor_pred, tensor_a, tensor_b) ->
      Nx.select(tensor_pred, tensor_a, tensor_b)

    take(tensor, tensor_indices, axis) ->
      Nx.take(tensor, Pair.along(tensor, tensor_indices, axis), axis: axis)

    take_along_axis(tensor, tensor_indices, axis) ->
      Nx.take_along_axis(tensor, Pair.along(tensor, tensor_indices, axis), axis: axis)

    sort(tensor, axis) ->
      Nx.sort(tensor, axis: axis)

    argsort(tensor, axis) ->
      Nx.argsort(tensor, axis: axis)

    all(tensor, axes, keep) ->
      Nx.all(tensor, axes: Pair.folded(axes), keep_axes: keep)

    any(tensor, axes, keep) ->
      Nx.any(tensor, axes: Pair.folded(axes), keep_axes: keep)

    sum(tensor, axes, keep) ->
      Nx.sum(tensor, axes: Pair.folded(axes), keep_axes: keep)

    product(tensor, axes, keep) ->
      Nx.product(tensor, axes: Pair.folded(axes), keep_axes: keep)

    max(tensor, axes, keep) ->
      Nx.reduce_max(tensor, axes: axes, keep_axes: keep)

    min(tensor, axes, keep) ->
      Nx.reduce_min(tensor, axes: axes, keep_axes: keep)

    argmax(tensor, keep) ->
      Nx.argmax(tensor, keep_axis: keep)

    argmax(tensor, axis, keep) ->
      Nx.argmax(tensor, axis: axis, keep_axis: keep)

    argmin(tensor, keep) ->
      Nx.argmin(tensor, keep_axis: keep)

    argmin(tensor, axis, keep) ->
      Nx.argmin(tensor, axis: axis, keep_axis: keep)

    cumulative_sum(tensor, axis, reverse, inclusive) ->
      Pair.cumulative(:cumulative_sum, tensor, axis, reverse, inclusive)

    cumulative_product(tensor, axis, reverse, inclusive) ->
      Pair.cumulative(:cumulative_product, tensor, axis, reverse, inclusive)

    cumulative_max(tensor, axis, reverse, inclusive) ->
      Pair.cumulative(:cumulative_max, tensor, axis, reverse, inclusive)

    cumulative_min(tensor, axis, reverse, inclusive) ->
      Pair.cumulative(:cumulative_min, tensor, axis, reverse, inclusive)

    slice(tensor, starts, stops, strides) ->
      Pair.slice(tensor, starts, stops, strides)

    slice_update(tensor, tensor_update, starts, stops) ->
      Pair.slice_update(tensor, tensor_update, starts, stops)

    tensordot(tensor_a, tensor_b, axes_a, axes_b) ->
      Nx.dot(tensor_a, axes_a, tensor_b, axes_b)

    allclose(tensor_a, tensor_b, rtol, atol, equal_nan) ->
      Nx.all(Pair.close(tensor_a, tensor_b, rtol, atol, equal_nan))

    isclose(tensor_a, tensor_b, rtol, atol, equal_nan) ->
      Pair.close(tensor_a, tensor_b, rtol, atol, equal_nan)

    conv_general(
      tensor,
      tensor_kernel,
      strides,
      low,
      high,
      kernel_dilation,
      input_dilation,
      groups
    ) ->
      Pair.conv(
        tensor,
        tensor_kernel,
        strides,
        low,
        high,
        kernel_dilation,
        input_dilation,
        groups
      )

    window_scatter_max(tensor, tensor_source, tensor_init, window, low, high, strides) ->
      Nx.window_scatter_max(tensor, tensor_source, tensor_init, window,
        padding: Enum.zip(low, high),
        strides: strides
      )

    window_scatter_min(tensor, tensor_source, tensor_init, window, low, high, strides) ->
      Nx.window_scatter_min(tensor, tensor_source, tensor_init, window,
        padding: Enum.zip(low, high),
        strides: strides
      )

    gather(tensor, tensor_indices, axes, slice_sizes) ->
      Pair.gather(tensor, tensor_indices, axes, slice_sizes)

    scatter(tensor, tensor_indices, tensor_updates, axes) ->
      Pair.scatter(:indexed_put, tensor, tensor_indices, tensor_updates, axes)

    scatter_add(tensor, tensor_indices, tensor_updates, axes) ->
      Pair.scatter(:indexed_add, tensor, tensor_indices, tensor_updates, axes)

    fft(tensor, n, axis) ->
      Nx.fft(tensor, length: n, axis: axis)

    ifft(tensor, n, axis) ->
      Nx.ifft(tensor, length: n, axis: axis)

    fft2(tensor, lengths, axes) ->
      Nx.fft2(tensor, lengths: lengths, axes: axes)

    ifft2(tensor, lengths, axes) ->
      Nx.ifft2(tensor, lengths: lengths, axes: axes)

    linalg_lu(tensor) ->
      Pair.lu(tensor)

    linalg_qr(tensor) ->
      Nx.LinAlg.qr(tensor)

    linalg_svd(tensor, compute_uv) ->
      Pair.svd(tensor, compute_uv)

    linalg_cholesky(tensor, upper) ->
      tensor |> Nx.LinAlg.cholesky() |> Pair.upper(upper)

    linalg_eigh(tensor, uplo) ->
      Pair.eigh(tensor, uplo)

    linalg_inv(tensor) ->
      Nx.LinAlg.invert(tensor)

    linalg_pinv(tensor) ->
      Nx.LinAlg.pinv(tensor)

    linalg_solve(tensor_a, tensor_b) ->
      Nx.LinAlg.solve(tensor_a, tensor_b)

    linalg_solve_triangular(tensor_a, tensor_b, upper) ->
      Nx.LinAlg.triangular_solve(tensor_a, tensor_b, lower: not upper)

    tri_inv(tensor, upper) ->
      Pair.inverse(tensor, upper)

    fast_rms_norm(tensor, tensor_weight, eps) ->
      Fast.rms_norm(tensor, tensor_weight, eps)

    fast_layer_norm(tensor, tensor_weight, tensor_bias, eps) ->
      Fast.layer_norm(tensor, tensor_weight, tensor_bias, eps)

    fast_layer_norm_no_bias(tensor, tensor_weight, eps) ->
      Fast.layer_norm(tensor, tensor_weight, eps)

    fast_swiglu(tensor_gate, tensor_up) ->
      Fast.swiglu(tensor_gate, tensor_up)

    fast_rope(tensor, dims, traditional, base, scale, offset) ->
      Fast.rope(tensor, dims, traditional, base, scale, offset)

    fast_rope_ids(tensor, dims, traditional, base, scale, tensor_offsets) ->
      Fast.rope_with_positions(
        tensor,
        Pair.positions(tensor, tensor_offsets),
        dims,
        traditional,
        base,
        scale
      )

    fast_rope_positions(tensor, dims, traditional, base, scale, tensor_positions) ->
      Fast.rope_with_positions(tensor, tensor_positions, dims, traditional, base, scale)

    fast_rope_with_freqs(tensor, dims, traditional, scale, tensor_offsets, tensor_freqs) ->
      Fast.rope_with_freqs(
        tensor,
        Pair.positions(tensor, tensor_offsets),
        dims,
        traditional,
        scale,
        tensor_freqs
      )

    fast_sdpa(tensor_q, tensor_k, tensor_v, scale) ->
      Fast.scaled_dot_product_attention(tensor_q, tensor_k, tensor_v, scale)

    fast_sdpa(tensor_q, tensor_k, tensor_v, scale, sinks) ->
      Fast.scaled_dot_product_attention(tensor_q, tensor_k, tensor_v, scale, Pair.sinks(sinks))

    fast_sdpa_masked(tensor_q, tensor_k, tensor_v, tensor_mask, scale) ->
      Fast.scaled_dot_product_attention(tensor_q, tensor_k, tensor_v, scale, tensor_mask)

    fast_sdpa_masked(tensor_q, tensor_k, tensor_v, tensor_mask, scale, sinks) ->
      Fast.scaled_dot_product_attention(
        tensor_q,
        tensor_k,
        tensor_v,
        scale,
        tensor_mask,
        Pair.sinks(sinks)
      )

    fast_sdpa_causal(tensor_q, tensor_k, tensor_v, scale) ->
      Fast.scaled_dot_product_attention_causal(tensor_q, tensor_k, tensor_v, scale)

    fast_sdpa_causal(tensor_q, tensor_k, tensor_v, scale, sinks) ->
      Fast.scaled_dot_product_attention_causal(
        tensor_q,
        tensor_k,
        tensor_v,
        scale,
        Pair.sinks(sinks)
      )

    fast_sdpa_causal_key_masked(tensor_q, tensor_k, tensor_v, scale, tensor_key_mask, offset) ->
      Fast.attend_to_cache(tensor_q, tensor_k, tensor_v, scale,
        first: offset,
        key_mask: tensor_key_mask
      )

    fast_sdpa_causal_key_masked(
      tensor_q,
      tensor_k,
      tensor_v,
      scale,
      tensor_key_mask,
      offset,
      sinks
    ) ->
      Fast.attend_to_cache(
        tensor_q,
        tensor_k,
        tensor_v,
        scale,
        [first: offset, key_mask: tensor_key_mask] ++ Pair.sinks(sinks)
      )

    kv_cache_sdpa_update(tensor_q, tensor_k, tensor_v, tensor_keys, tensor_values, offset, scale) ->
      Pair.attend([tensor_q, tensor_k, tensor_v, tensor_keys, tensor_values], 2, offset, scale)

    kv_cache_attention(tensor_q, tensor_k, tensor_v, tensor_keys, tensor_values, offset, scale) ->
      Pair.attend([tensor_q, tensor_k, tensor_v, tensor_keys, tensor_values], 1, offset, scale)

    kv_cache_attention_masked(
      tensor_q,
      tensor_k,
      tensor_v,
      tensor_keys,
      tensor_values,
      offset,
      scale,
      tensor_mask
    ) ->
      Pair.attend(
        [tensor_q, tensor_k, tensor_v, tensor_keys, tensor_values],
        1,
        offset,
        scale,
        tensor_mask
      )
  end

  @documented_all Map.new(@documented)

  # No documentation of its own: what EMLX says of each function, and its types.
  @doc false
  def documented, do: unquote(Macro.escape(@documented_all))
end
