# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.WholeOps do
  @moduledoc """
  The part of the generator for ops whose elements depend on many others: products, indexing,
  order, transforms and linear algebra.
  """

  import Recorder.Calls
  import Recorder.Tensors

  alias Recorder.Store

  @doc "Records cases of an op; false when there is no rule for it here."
  def rule(op) when op in [:sort, :argsort], do: sort(op)
  def rule(op) when op in [:indexed_add, :indexed_put], do: each(types(), &indexed(op, &1))
  def rule(:dot), do: each(types(), &dot/1)
  def rule(:conv), do: each(types(), &conv/1)
  def rule(:gather), do: each(types(), &gather/1)
  def rule(:take), do: each(types(), &take/1)
  def rule(:take_along_axis), do: each(types(), &take_along_axis/1)
  def rule(:top_k), do: each(reals(), &top_k/1)
  def rule(op) when op in [:fft, :ifft], do: each(types(), &fft(op, &1))
  def rule(op) when op in [:fft2, :ifft2], do: each(types(), &fft2(op, &1))
  def rule(:rfft), do: each(reals(), &rfft/1)
  def rule(:irfft), do: each(types(), &irfft/1)
  def rule(:triangular_solve), do: each(types(), &triangular_solve/1)

  def rule(op) when op in [:cholesky, :solve, :determinant, :qr, :lu],
    do: each(types(), &matrix(op, &1))

  def rule(:all_close), do: each(types(), &all_close/1)
  def rule(op) when op in [:softmax, :logsumexp], do: each(fused(), &exponents(op, &1))
  def rule(op) when op in [:rms_norm, :layer_norm], do: each(fused(), &norm(op, &1))
  def rule(:swiglu), do: each(fused(), &gate/1)
  def rule(:rope), do: each(fused(), &rope/1)
  def rule(:attention), do: each(fused(), &attention/1)
  # Recorded as programs.
  def rule(op) when op in [:reduce, :window_reduce, :eigh, :svd], do: true
  def rule(_op), do: false

  ## Products

  @dots [
    {{7}, [0], [], {7}, [0], []},
    {{65}, [0], [], {65}, [0], []},
    {{3, 5}, [1], [], {5}, [0], []},
    {{3, 5}, [1], [], {5, 2}, [0], []},
    {{5, 3}, [0], [], {2, 5}, [1], []},
    {{17, 33}, [1], [], {33, 9}, [0], []},
    {{1, 257}, [1], [], {257, 1}, [0], []},
    {{2, 3}, [], [], {4}, [], []},
    {{2, 3, 4}, [2], [0], {2, 4, 5}, [1], [0]},
    {{2, 3, 4}, [1, 2], [], {4, 3}, [1, 0], []},
    {{2, 2, 3, 4}, [3], [0, 1], {2, 2, 4, 1}, [2], [0, 1]},
    {{1, 3, 1}, [1], [0], {1, 3, 1}, [1], [0]}
  ]

  defp dot(type) do
    for {{left, lc, lb, right, rc, rb}, seed} <- Enum.with_index(@dots) do
      call(fn ->
        Nx.dot(
          tensor(type, left, :plain, seed),
          lc,
          lb,
          tensor(type, right, :plain, seed + 50),
          rc,
          rb
        )
      end)
    end

    for other <- [:u8, :s32, :f32, :f64],
        do:
          call(fn ->
            Nx.dot(tensor(type, {3, 5}, :plain, 1), tensor(other, {5, 2}, :plain, 2))
          end)

    call(fn -> Nx.dot(tensor(type, {5}, :special, 1), tensor(type, {5, 3}, :plain, 2)) end)
  end

  @convs [
    {{1, 1, 5}, {1, 1, 3}, []},
    {{2, 3, 9}, {4, 3, 3}, [padding: :same]},
    {{1, 2, 9}, {2, 2, 2}, [strides: [2]]},
    {{1, 2, 9}, {2, 2, 3}, [kernel_dilation: [2]]},
    {{1, 2, 5}, {2, 2, 3}, [input_dilation: [2], padding: [{1, 2}]]},
    {{1, 4, 7}, {4, 2, 3}, [feature_group_size: 2]},
    {{4, 2, 7}, {4, 2, 3}, [batch_group_size: 2]},
    {{1, 2, 5, 5}, {3, 2, 3, 3}, []},
    {{2, 1, 6, 5}, {2, 1, 2, 3}, [strides: [2, 1], padding: [{1, 0}, {-1, 2}]]},
    {{1, 5, 5, 2}, {3, 2, 2, 2},
     [input_permutation: [0, 3, 1, 2], output_permutation: [0, 3, 1, 2]]},
    {{1, 2, 5, 5}, {2, 2, 2, 3}, [kernel_permutation: [3, 0, 1, 2]]},
    {{1, 1, 3, 3, 3}, {1, 1, 2, 2, 2}, []},
    {{2, 3, 4}, {5, 3, 1}, []}
  ]

  defp conv(type) do
    for {{input, kernel, options}, seed} <- Enum.with_index(@convs) do
      call(fn ->
        Nx.conv(
          tensor(type, input, :plain, seed),
          tensor(type, kernel, :plain, seed + 50),
          options
        )
      end)
    end
  end

  ## Indexing and order

  @gathers [
    {{9}, {5, 1}, [0]},
    {{3, 5}, {4, 2}, [0, 1]},
    {{3, 5}, {4, 1}, [0]},
    {{3, 5}, {2, 3, 1}, [1]},
    {{2, 3, 4}, {3, 2}, [0, 2]},
    {{65}, {33, 1}, [0]},
    {{2, 1, 2, 1, 2, 3}, {4, 2}, [2, 5]}
  ]

  defp gather(type) do
    for {{shape, indices, axes}, seed} <- Enum.with_index(@gathers), kind <- [:s32, :u8] do
      indices = indices(kind, shape, indices, axes, seed)
      call(fn -> Nx.gather(tensor(type, shape, :plain, seed), indices, axes: axes) end)
    end

    call(fn ->
      Nx.gather(tensor(type, {3, 5}, :plain, 0), of(:s64, {2, 1}, [1, 7]), axes: [0])
    end)

    call(fn ->
      Nx.gather(tensor(type, {3, 5}, :plain, 0), of(:s64, {2, 1}, [-1, 1]), axes: [1])
    end)
  end

  # Index vectors within the bounds of the axes.
  defp indices(kind, shape, index_shape, axes, seed) do
    bounds = Enum.map(axes, &elem(shape, &1))
    rows = div(Tuple.product(index_shape), length(axes))

    values =
      for row <- 0..(rows - 1),
          {bound, i} <- Enum.with_index(bounds),
          do: rem(row * 7 + seed + i * 3, bound)

    of(kind, index_shape, values)
  end

  defp take(type) do
    for {shape, axis, indices} <- [
          {{9}, 0, {5}},
          {{9}, 0, {}},
          {{3, 5}, 0, {2, 2}},
          {{3, 5}, 1, {4}},
          {{2, 3, 4}, 1, {3}},
          {{65}, 0, {33}},
          {{2, 1, 2, 1, 2, 3}, 5, {1, 2}}
        ],
        kind <- [:s32, :u8] do
      count = Tuple.product(indices)
      values = for i <- 0..(count - 1), do: rem(i * 5 + 1, elem(shape, axis))

      call(fn ->
        Nx.take(tensor(type, shape, :plain, 0), of(kind, indices, values), axis: axis)
      end)
    end

    call(fn -> Nx.take(tensor(type, {4}, :plain, 0), of(:s32, {2}, [0, 4])) end)
  end

  defp take_along_axis(type) do
    for {shape, axis, length} <- [
          {{9}, 0, 5},
          {{3, 5}, 0, 2},
          {{3, 5}, 1, 7},
          {{2, 3, 4}, 1, 3},
          {{65}, 0, 33}
        ] do
      index_shape = put_elem(shape, axis, length)
      values = for i <- 0..(Tuple.product(index_shape) - 1), do: rem(i * 5 + 1, elem(shape, axis))

      call(fn ->
        Nx.take_along_axis(tensor(type, shape, :plain, 0), of(:s32, index_shape, values),
          axis: axis
        )
      end)
    end

    call(fn ->
      Nx.take_along_axis(tensor(type, {4}, :plain, 0), of(:s32, {2}, [0, 4]), axis: 0)
    end)
  end

  defp indexed(op, type) do
    for {{shape, index_shape, axes}, seed} <- Enum.with_index(@gathers),
        tuple_size(index_shape) == 2,
        kind <- [:s32, :u16] do
      indices = indices(kind, shape, index_shape, axes, seed)
      rest = for axis <- 0..(tuple_size(shape) - 1)//1, axis not in axes, do: elem(shape, axis)
      updates = List.to_tuple([elem(index_shape, 0) | rest])
      other = if kind == :u16, do: :u8, else: type

      call(fn ->
        apply(Nx, op, [
          tensor(type, shape, :plain, seed),
          indices,
          tensor(other, updates, :plain, seed),
          [axes: axes]
        ])
      end)
    end

    call(fn ->
      apply(Nx, op, [
        tensor(type, {4}, :plain, 0),
        of(:s32, {2, 1}, [0, 4]),
        tensor(type, {2}, :plain, 1)
      ])
    end)
  end

  @sorted [
    {{1}, 0},
    {{9}, 0},
    {{65}, 0},
    {{3, 5}, 0},
    {{3, 5}, 1},
    {{2, 3, 4}, 1},
    {{255}, 0},
    {{2, 1, 2, 1, 2, 3}, 4}
  ]

  defp sort(op) do
    each(reals(), fn type ->
      for {shape, axis} <- @sorted, direction <- [:asc, :desc], style <- [:few, :special] do
        call(fn ->
          apply(Nx, op, [
            tensor(type, shape, style, 0),
            [axis: axis, direction: direction, stable: true]
          ])
        end)
      end
    end)
  end

  defp all_close(type) do
    for {left, right} <- [{{7}, {7}}, {{}, {9}}, {{3, 1}, {1, 5}}, {{65}, {65}}, {{2, 1, 3}, {}}],
        # Sums of others would be rounded on the way.
        style <-
          if(Recorder.Numbers.truncated?(type), do: [:few], else: [:plain, :few, :special]),
        options <- [[], [equal_nan: true], [rtol: 0.5, atol: 2.0]] do
      left = tensor(type, left, style, 1)
      call(fn -> Nx.all_close(left, tensor(type, right, style, 1), options) end)
      call(fn -> Nx.all_close(left, left, options) end)
      call(fn -> Nx.all_close(left, tensor(:f32, right, style, 2), options) end)
    end
  end

  defp top_k(type) do
    for {shape, k} <- [{{9}, 3}, {{3, 5}, 2}, {{65}, 65}, {{2, 3, 4}, 1}],
        do: call(fn -> Nx.top_k(tensor(type, shape, :few, 0), k: k) end)
  end

  ## Functions of language models

  alias EMLX.Fast

  defp fused, do: floats() -- [{:f, 8}, {:f8_e4m3fn, 8}]

  defp exponents(op, type) do
    for {shape, axes} <- [
          {{1}, [0]},
          {{65}, [0]},
          {{3, 8}, [1]},
          {{3, 8}, [0]},
          {{2, 3, 17}, [0, 2]},
          {{2, 300}, [1]}
        ],
        style <- [:plain, :few] do
      x = tensor(type, shape, style, 1)
      call(fn -> apply(Fast, op, [x, [axes: axes]]) end)
      if op == :logsumexp, do: call(fn -> Fast.logsumexp(x, axes: axes, keep_axes: true) end)
    end
  end

  defp norm(op, type) do
    for {shape, eps} <- [
          {{1}, 0.25},
          {{65}, 1.0e-5},
          {{3, 8}, 0.25},
          {{5, 1}, 1.0e-5},
          {{2, 3, 17}, 1.0e-5},
          {{2, 300}, 1.0e-6}
        ],
        other <- Enum.uniq([type, :f32]) do
      x = tensor(type, shape, :plain, 1)

      [w, b] =
        for seed <- 2..3, do: tensor(other, {elem(shape, tuple_size(shape) - 1)}, :plain, seed)

      call(fn -> apply(Fast, op, [x, w, eps]) end)
      if op == :layer_norm, do: call(fn -> Fast.layer_norm(x, w, b, eps) end)
    end
  end

  defp gate(type) do
    for shape <- [{}, {7}, {65}, {3, 5}, {2, 3, 17}],
        style <- [:plain, :few],
        other <- Enum.uniq([type, :f32]),
        do:
          call(fn ->
            Fast.swiglu(tensor(type, shape, style, 1), tensor(other, shape, :plain, 2))
          end)
  end

  defp rope(type) do
    for {shape, dims} <- [{{1, 2}, 2}, {{2, 3, 8}, 8}, {{2, 3, 2, 10}, 4}, {{1, 5, 3, 64}, 64}],
        traditional <- [true, false] do
      x = tensor(type, shape, :plain, 1)
      call(fn -> Fast.rope(x, dims, traditional, 10_000.0, 1.0, of(:s32, {}, [3])) end)
      call(fn -> Fast.rope(x, dims, traditional, 100, 0.5, of(:s64, {}, [0])) end)

      if tuple_size(shape) > 2 do
        {batch, length} = {elem(shape, 0), elem(shape, 1)}
        at = of(:s32, {batch, length}, for(i <- 1..(batch * length), do: rem(i * 5, 11)))
        freqs = of(:f32, {div(dims, 2)}, for(i <- 1..div(dims, 2), do: 0.5 + i))
        call(fn -> Fast.rope_with_positions(x, at, dims, traditional, 1.0e6, 1.0) end)
        call(fn -> Fast.rope_with_freqs(x, at, dims, traditional, 1.0, freqs) end)
      end
    end
  end

  # Batch, heads, groups, queries, keys, size, size of a value.
  @attentions [
    {1, 1, 1, 1, 1, 1, 1},
    {2, 4, 2, 3, 5, 8, 8},
    {1, 2, 2, 1, 33, 16, 16},
    {1, 3, 1, 7, 7, 5, 9},
    {2, 2, 1, 17, 40, 4, 3}
  ]

  defp attention(type) do
    for {batch, heads, groups, queries, keys, size, width} <- @attentions do
      q = tensor(type, {batch, heads, queries, size}, :unit, 1)
      k = tensor(type, {batch, groups, keys, size}, :unit, 2)
      v = tensor(type, {batch, groups, keys, width}, :plain, 3)
      # As f32 it is what it is.
      scale = if size > 4, do: 0.25, else: 1.0
      sinks = [sinks: tensor(:f32, {heads}, :unit, 4)]
      seen = of(:u8, {batch, keys}, for(i <- 1..(batch * keys), do: rem(i * 3, 4)))
      mask = of(:u8, {queries, keys}, for(i <- 1..(queries * keys), do: rem(i * 5, 3)))
      added = tensor(:f32, {heads, 1, keys}, :plain, 5)
      at = of(:s32, {batch}, for(i <- 1..batch, do: max(keys - queries - i, 0)))
      call(fn -> Fast.scaled_dot_product_attention(q, k, v, scale) end)
      call(fn -> Fast.scaled_dot_product_attention(q, k, v, scale, mask) end)
      call(fn -> Fast.scaled_dot_product_attention(q, k, v, scale, added, sinks) end)
      call(fn -> Fast.scaled_dot_product_attention_causal(q, k, v, scale) end)
      call(fn -> Fast.scaled_dot_product_attention_causal(q, k, v, scale, sinks) end)
      call(fn -> Fast.scaled_dot_product_attention_causal_key_masked(q, k, v, scale, seen) end)
      call(fn -> Fast.scaled_dot_product_attention_from(q, k, v, scale, at, sinks) end)
    end
  end

  ## Transforms and linear algebra

  defp fft(op, type) do
    for {shape, options} <- [
          {{1}, []},
          {{8}, []},
          {{9}, []},
          {{17}, []},
          {{8}, [length: 5]},
          {{5}, [length: 8]},
          {{3, 4}, [axis: 0]},
          {{2, 3, 4}, [axis: 1]},
          {{65}, [eps: 1.0e-5]},
          {{2, 64}, []}
        ],
        do: call(fn -> apply(Nx, op, [tensor(type, shape, :plain, 0), options]) end)
  end

  defp fft2(op, type) do
    for {shape, options} <- [
          {{3, 4}, []},
          {{8, 8}, []},
          {{2, 3, 5}, []},
          {{3, 4, 2}, [axes: [0, 1]]},
          {{3, 4}, [lengths: [4, 2]]}
        ],
        do: call(fn -> apply(Nx, op, [tensor(type, shape, :plain, 0), options]) end)
  end

  defp rfft(type) do
    for {shape, options} <- [{{8}, []}, {{9}, []}, {{17}, [length: 12]}, {{3, 6}, [axis: 0]}],
        do: call(fn -> Nx.rfft(tensor(type, shape, :plain, 0), options) end)
  end

  defp irfft(type) do
    for {shape, options} <- [{{5}, []}, {{9}, []}, {{5}, [length: 7]}, {{3, 6}, [axis: 0]}],
        do: call(fn -> Nx.irfft(tensor(type, shape, :plain, 0), options) end)
  end

  # Strong diagonals keep the conditions small.
  defp strong(type, batch, size, seed) do
    shape = List.to_tuple(batch ++ [size, size])
    count = Enum.product(batch) * size * size
    state = :rand.seed_s(:exsss, {seed, size, 5})

    {values, _state} =
      Enum.map_reduce(0..(count - 1), state, fn i, state ->
        {x, state} = :rand.uniform_s(5, state)
        place = rem(i, size * size)
        diagonal = if rem(place, size + 1) == 0, do: 4 * size, else: 0
        {part(type, diagonal + x - 3), state}
      end)

    of(type, shape, values)
  end

  # What a type below a byte holds, and a negative number of an unsigned type, would not be strong.
  defp part({:c, _}, x), do: {x * 1.0, 0.0}
  defp part({kind, size}, x) when kind in [:u, :s] and size < 8, do: if(x > 3, do: 1, else: 0)
  defp part({:u, _}, x), do: max(x, 0)
  defp part({:s, _}, x), do: x
  defp part(_type, x), do: x * 1.0

  defp triangular_solve(type) do
    for size <- [1, 3, 9],
        left <- [true, false],
        lower <- [true, false],
        transform <- [:none, :transpose] do
      b = if left, do: {size, 2}, else: {2, size}
      options = [left_side: left, lower: lower, transform_a: transform]

      call(fn ->
        Nx.LinAlg.triangular_solve(strong(type, [], size, 1), tensor(type, b, :plain, 2), options)
      end)
    end

    call(fn ->
      Nx.LinAlg.triangular_solve(strong(type, [2], 3, 1), tensor(type, {2, 3, 2}, :plain, 2))
    end)

    call(fn ->
      Nx.LinAlg.triangular_solve(strong(type, [], 4, 1), tensor(type, {4}, :plain, 2))
    end)
  end

  defp matrix(op, type) do
    for {batch, size} <- [
          {[], 1},
          {[], 2},
          {[], 3},
          {[], 4},
          {[], 9},
          {[2], 3},
          {[2, 2], 4},
          {[], 17}
        ] do
      a = strong(type, batch, size, 1)
      b = tensor(type, List.to_tuple(batch ++ [size, 2]), :plain, 2)

      call(fn ->
        case op do
          :cholesky -> Nx.LinAlg.cholesky(symmetric(a))
          :solve -> Nx.LinAlg.solve(a, b)
          :determinant -> Nx.LinAlg.determinant(a)
          :lu -> Nx.LinAlg.lu(a)
          :qr -> Nx.LinAlg.qr(a)
        end
      end)
    end

    if op == :qr do
      for {shape, mode} <- [{{5, 3}, :reduced}, {{5, 3}, :complete}, {{2, 4, 2}, :reduced}],
          do: call(fn -> Nx.LinAlg.qr(tensor(type, shape, :plain, 3), mode: mode) end)
    end
  end

  defp symmetric(a) do
    Store.paused(fn ->
      axes =
        Enum.to_list(0..(tuple_size(a.shape) - 3)//1) ++
          [tuple_size(a.shape) - 1, tuple_size(a.shape) - 2]

      Nx.divide(Nx.add(a, Nx.transpose(a, axes: axes)), 2) |> Nx.as_type(a.type)
    end)
  end
end
