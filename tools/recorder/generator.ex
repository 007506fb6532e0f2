# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Generator do
  @moduledoc """
  Calls every op of the table with every type it accepts, over shapes and options. The backend
  records. Ops that the library has not got are left out, as nothing can translate their calls.
  """

  import Recorder.Calls
  import Recorder.Tensors

  alias Recorder.{Store, WholeOps}

  # Around the widths of vectors and beyond a tile.
  @lengths [1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 255, 256, 257]
  @small_shapes [
    {},
    {1},
    {1, 1},
    {2, 1, 3},
    {3, 5, 7},
    {2, 3, 1, 4},
    {2, 1, 2, 1, 3},
    {2, 1, 2, 1, 2, 3}
  ]
  @shapes @small_shapes ++ for(n <- @lengths, n > 1, do: {n})

  @domains %{
    acos: :unit,
    asin: :unit,
    atanh: :unit,
    erf_inv: :unit,
    log: :positive,
    log1p: :positive,
    sqrt: :positive,
    rsqrt: :positive,
    acosh: :positive
  }

  @math [:exp, :expm1, :log, :log1p, :sigmoid, :cos, :sin, :tan, :cosh, :sinh, :tanh, :acos] ++
          [:asin, :atan, :acosh, :asinh, :atanh, :sqrt, :rsqrt, :cbrt]
  @real_math [:erf, :erfc, :erf_inv]
  @parts [:abs, :negate, :sign, :is_nan, :is_infinity, :logical_not]
  @rounding [:floor, :ceil, :round]
  @bits [:bitwise_not, :population_count, :count_leading_zeros]
  @complex_parts [:conjugate, :real, :imag, :phase]
  @arithmetic [:add, :subtract, :multiply, :divide, :pow]
  @real_arithmetic [:remainder, :atan2, :max, :min]
  @equality [:equal, :not_equal, :logical_and, :logical_or, :logical_xor]
  @order [:less, :less_equal, :greater, :greater_equal]
  @bitwise [:bitwise_and, :bitwise_or, :bitwise_xor]
  @shifts [:left_shift, :right_shift]
  @folds [:sum, :product, :all, :any]
  @extremes [:reduce_max, :reduce_min]
  @positions [:argmax, :argmin]
  @cumulative [:cumulative_sum, :cumulative_product]
  @cumulative_order [:cumulative_max, :cumulative_min]
  @windows [:window_sum, :window_product]
  @window_order [:window_max, :window_min]
  @window_scatter [:window_scatter_max, :window_scatter_min]
  @movement [:reshape, :squeeze, :broadcast, :transpose, :reverse, :slice, :put_slice] ++
              [:concatenate, :stack, :pad, :as_type, :bitcast]

  @doc "Records cases of all ops in the table; notes those that it has no rule for."
  def run do
    for %{name: op} <- EMLX.Ops.all() do
      {time, known?} = :timer.tc(fn -> rule(op) end)
      unless known?, do: Store.note("no rule for #{op}")
      if time > 5_000_000, do: IO.puts("#{op}: #{div(time, 1_000_000)} s")
    end

    :ok
  end

  # Returns false when there is no rule.
  defp rule(op) when op in @math, do: unary(op, types())
  defp rule(op) when op in @real_math, do: unary(op, reals())
  defp rule(op) when op in @parts, do: unary(op, types())
  defp rule(op) when op in @rounding, do: unary(op, reals())
  defp rule(op) when op in @bits, do: unary(op, integers())
  defp rule(op) when op in @complex_parts, do: unary(op, types())
  defp rule(op) when op in @arithmetic, do: binary(op, types())
  defp rule(op) when op in @real_arithmetic, do: binary(op, reals()) and real_complex(op)
  defp rule(op) when op in @equality, do: binary(op, types())
  defp rule(op) when op in @order, do: binary(op, reals())
  defp rule(op) when op in [:quotient | @bitwise], do: binary(op, integers())
  defp rule(op) when op in @shifts, do: shift(op)
  defp rule(op) when op in @folds, do: fold(op, types())
  defp rule(op) when op in @extremes, do: fold(op, reals())
  defp rule(op) when op in @positions, do: position(op)
  defp rule(op) when op in @cumulative, do: cumulative(op, types())
  defp rule(op) when op in @cumulative_order, do: cumulative(op, reals())
  defp rule(op) when op in @windows, do: window(op, types())
  defp rule(op) when op in @window_order, do: window(op, reals())
  defp rule(op) when op in @window_scatter, do: window_scatter(op)
  defp rule(op) when op in @movement, do: each(types(), &movement(op, &1))
  defp rule(:constant), do: each(types(), &constant/1)
  defp rule(:iota), do: each(types(), &iota/1)
  defp rule(:eye), do: each(types(), &eye/1)
  defp rule(:select), do: each(types(), &select/1)
  defp rule(:clip), do: each(reals(), &clip/1)

  defp rule(op), do: WholeOps.rule(op)

  ## Calling

  defp shapes_for(op, type, count) do
    spread = :erlang.phash2({op, type}, length(@shapes))
    {first, rest} = Enum.split(@shapes, spread)

    [{}, {3, 5, 7} | Enum.take_every(rest ++ first, max(1, div(length(@shapes), count)))]
    |> Enum.uniq()
  end

  ## Element by element

  defp unary(op, types) do
    each(types, fn type ->
      style = Map.get(@domains, op, :plain)
      for shape <- shapes_for(op, type, 8), do: one(op, tensor(type, shape, style, 0))
      one(op, tensor(type, {33}, :special, 0))
      one(op, tensor(type, {2, 17}, :special, 1))
    end)

    large(fn -> one(op, tensor(List.last(types), {1030}, Map.get(@domains, op, :plain), 2)) end)
  end

  # What Nx answers without asking the backend is asked of it here.
  defp one(op, %{type: {kind, _} = type} = tensor) do
    call(fn ->
      cond do
        op in [:floor, :ceil, :round] and kind in [:u, :s] -> direct(op, tensor, type)
        op == :abs and kind == :u -> direct(op, tensor, type)
        op in [:real, :imag] and kind != :c -> direct(op, tensor, Nx.Type.to_floating(type))
        true -> apply(Nx, op, [tensor])
      end
    end)
  end

  defp direct(op, tensor, type), do: apply(Recorder.Backend, op, [%{tensor | type: type}, tensor])

  defp large(fun) do
    fun.()
    true
  end

  @pairs [
    {{7}, {7}},
    {{}, {9}},
    {{17}, {}},
    {{3, 1}, {1, 5}},
    {{2, 3, 4}, {4}},
    {{4, 1, 3}, {2, 1}},
    {{1, 1, 1, 1, 1, 2}, {2, 1, 2, 1, 3, 1}},
    {{65}, {65}},
    {{33, 1}, {1, 8}}
  ]

  defp binary(op, types) do
    each(types, fn type ->
      for {{left, right}, seed} <- Enum.with_index(@pairs),
          do:
            two(
              op,
              tensor(type, left, domain(op, type), seed),
              tensor(type, right, second(op, type), seed + 1)
            )

      two(op, tensor(type, {7, 1}, :special, 3), tensor(type, {1, 9}, :special, 4))
      two(op, tensor(type, {257}, domain(op, type), 5), tensor(type, {257}, second(op, type), 6))
    end)

    mixed(op, types)

    large(fn ->
      two(op, tensor(hd(types), {2, 515}, :positive, 7), tensor(hd(types), {515}, :positive, 8))
    end)
  end

  # Complex numbers that are real are taken by one of these.
  defp real_complex(:atan2) do
    each(complex(), fn type ->
      two(
        :atan2,
        of(type, {4}, for(x <- [1.0, -2.0, 0.5, 3.0], do: {x, 0.0})),
        of(type, {4}, for(x <- [-4.0, 0.25, 1.0, 2.0], do: {x, 0.0}))
      )
    end)
  end

  defp real_complex(_op), do: true

  # Each type with three others, in both orders.
  defp mixed(op, types) do
    count = length(types)

    for {left, i} <- Enum.with_index(types), step <- [1, 4, 7] do
      right = Enum.at(types, rem(i + step, count))

      two(
        op,
        tensor(left, {2, 5}, domain(op, left), step),
        tensor(right, {5}, second(op, right), step)
      )

      two(op, tensor(left, {6}, :special, step), tensor(right, {6}, :special, step + 1))
    end
  end

  # Exact powers of large integers would not end.
  defp two(:pow, %{type: {kind, _}} = left, %{type: {other, _}} = right)
       when kind in [:u, :s] and other in [:u, :s],
       do: call(fn -> Nx.pow(left, tensor(right.type, right.shape, :few, 9)) end)

  defp two(op, left, right), do: call(fn -> apply(Nx, op, [left, right]) end)

  defp domain(:pow, _type), do: :positive
  defp domain(_op, _type), do: :plain
  defp second(:pow, {kind, _}) when kind in [:u, :s], do: :few
  defp second(op, _type) when op in [:quotient, :remainder, :divide], do: :positive
  defp second(op, _type) when op in [:equal, :less, :logical_and], do: :few
  defp second(_op, _type), do: :plain

  defp shift(op) do
    each(integers(), fn {_, size} = type ->
      for {shape, seed} <- Enum.with_index([{}, {7}, {2, 3, 4}, {65}]) do
        amounts = for i <- 1..Tuple.product(shape)//1, do: rem(i * 5 + seed, size + 2)
        two(op, tensor(type, shape, :plain, seed), of(:s32, shape, amounts))
        two(op, tensor(type, shape, :special, seed), of(:u8, shape, amounts))
      end

      two(op, tensor(type, {3}, :plain, 0), of(:s32, {3}, [1, -1, 0]))
    end)
  end

  defp select(type) do
    for {predicate, left, right} <- [
          {{}, {7}, {7}},
          {{7}, {7}, {}},
          {{2, 3, 4}, {2, 3, 4}, {4}},
          {{65}, {65}, {65}},
          {{3, 5}, {3, 1}, {1, 5}},
          {{2, 1, 2, 1, 2, 3}, {2, 1, 2, 1, 2, 3}, {1}}
        ],
        kind <- [:u8, :f32, :s64] do
      predicate = tensor(kind, predicate, :few, 1)

      call(fn ->
        Nx.select(predicate, tensor(type, left, :plain, 2), tensor(type, right, :plain, 3))
      end)
    end

    call(fn ->
      Nx.select(tensor(type, {9}, :few, 7), tensor(:s32, {}, :plain, 8), tensor(:s32, {9}, :plain, 9))
    end)

    call(fn ->
      Nx.select(
        tensor(:u8, {9}, :few, 4),
        tensor(type, {9}, :special, 5),
        tensor(:s32, {9}, :plain, 6)
      )
    end)
  end

  defp clip(type) do
    for shape <- [{}, {1}, {7}, {3, 5, 7}, {65}, {2, 1, 2, 1, 2, 3}],
        style <- [:plain, :special] do
      call(fn -> Nx.clip(tensor(type, shape, style, 1), of(type, {}, [1]), of(type, {}, [1])) end)

      call(fn ->
        Nx.clip(tensor(type, shape, style, 2), of(type, {}, [0]), tensor(type, {}, :positive, 3))
      end)

      call(fn ->
        Nx.clip(tensor(type, shape, style, 3), of(:s32, {}, [-1]), of(:s32, {}, [1]))
      end)
    end
  end

  ## Creation

  defp constant(type) do
    for shape <- [{}, {3}, {2, 1, 3}, {17}, {2, 1, 2, 1, 2, 3}],
        number <- [0, 1, -1, 300, 1.5, -2.75] do
      unless is_float(number) and elem(type, 0) in [:u, :s] do
        out = Nx.template(shape, type)
        call(fn -> Recorder.Backend.constant(out, number, []) end)
      end
    end
  end

  defp iota(type) do
    for shape <- [{}, {1}, {9}, {257}, {3, 5}, {2, 3, 4}, {2, 1, 2, 1, 2, 3}],
        axis <- [nil | Enum.to_list(0..(tuple_size(shape) - 1)//1)],
        do: call(fn -> Nx.iota(shape, type: type, axis: axis, backend: Recorder.Backend) end)
  end

  defp eye(type) do
    for shape <- [{1, 1}, {3, 3}, {2, 5}, {5, 2}, {2, 3, 3}, {17, 17}, {2, 1, 2, 3}],
        do: call(fn -> Nx.eye(shape, type: type, backend: Recorder.Backend) end)
  end

  ## Moving elements

  defp movement(:reshape, type) do
    for {from, to} <- [
          {{6}, {2, 3}},
          {{}, {1, 1}},
          {{2, 3, 4}, {4, 6}},
          {{65}, {5, 13}},
          {{1, 1}, {}},
          {{2, 1, 2, 1, 2, 3}, {24}}
        ],
        do: call(fn -> Nx.reshape(tensor(type, from, :special, 0), to) end)
  end

  defp movement(:squeeze, type) do
    for {shape, axes} <- [
          {{1}, [0]},
          {{1, 3}, [0]},
          {{2, 1, 3}, [1]},
          {{1, 1}, [0, 1]},
          {{2, 1, 2, 1, 2, 3}, [1, 3]}
        ],
        do: call(fn -> Nx.squeeze(tensor(type, shape, :special, 0), axes: axes) end)
  end

  defp movement(:broadcast, type) do
    for {from, to, axes} <- [
          {{}, {3}, []},
          {{1}, {9}, [0]},
          {{3}, {2, 3}, [1]},
          {{2}, {2, 3}, [0]},
          {{2, 1}, {2, 5, 4}, [0, 2]},
          {{3, 1}, {3, 65}, [0, 1]},
          {{2, 3}, {2, 1, 2, 1, 3, 2}, [0, 4]}
        ],
        do: call(fn -> Nx.broadcast(tensor(type, from, :plain, 0), to, axes: axes) end)
  end

  defp movement(:transpose, type) do
    for {shape, axes} <- [
          {{3, 5}, [1, 0]},
          {{17, 33}, [1, 0]},
          {{2, 3, 4}, [2, 0, 1]},
          {{2, 3, 4}, [1, 0, 2]},
          {{2, 3, 4}, [0, 2, 1]},
          {{1, 7, 1}, [2, 1, 0]},
          {{2, 1, 2, 1, 2, 3}, [5, 3, 1, 0, 2, 4]}
        ],
        do: call(fn -> Nx.transpose(tensor(type, shape, :plain, 0), axes: axes) end)
  end

  defp movement(:reverse, type) do
    for {shape, axes} <- [
          {{1}, [0]},
          {{9}, [0]},
          {{65}, [0]},
          {{3, 5}, [0]},
          {{3, 5}, [1]},
          {{2, 3, 4}, [0, 2]},
          {{2, 1, 2, 1, 2, 3}, [0, 4, 5]}
        ],
        do: call(fn -> Nx.reverse(tensor(type, shape, :special, 0), axes: axes) end)
  end

  defp movement(:slice, type) do
    for {shape, starts, lengths, strides} <- [
          {{9}, [2], [5], [1]},
          {{9}, [20], [5], [2]},
          {{9}, [-3], [4], [1]},
          {{65}, [1], [63], [3]},
          {{3, 5}, [1, 2], [2, 3], [1, 2]},
          {{2, 3, 4}, [0, 1, 1], [2, 2, 3], [1, 1, 2]},
          {{2, 1, 2, 1, 2, 3}, [1, 0, 0, 0, 1, 1], [1, 1, 2, 1, 1, 2], [1, 1, 1, 1, 1, 1]}
        ] do
      call(fn -> Nx.slice(tensor(type, shape, :plain, 0), starts, lengths, strides: strides) end)
      dynamic = Enum.map(starts, &of(:s32, {}, [&1]))
      call(fn -> Nx.slice(tensor(type, shape, :plain, 1), dynamic, lengths, strides: strides) end)
    end
  end

  defp movement(:put_slice, type) do
    for {shape, starts, slice} <- [
          {{9}, [2], {3}},
          {{9}, [30], {4}},
          {{9}, [-30], {4}},
          {{3, 5}, [1, 2], {2, 2}},
          {{2, 3, 4}, [0, 1, 3], {1, 2, 1}},
          {{65}, [0], {65}},
          {{2, 1, 2, 1, 2, 3}, [1, 0, 0, 0, 1, 1], {1, 1, 2, 1, 1, 2}}
        ] do
      target = tensor(type, shape, :plain, 0)
      call(fn -> Nx.put_slice(target, starts, tensor(type, slice, :special, 1)) end)
      dynamic = Enum.map(starts, &of(:s64, {}, [&1]))
      call(fn -> Nx.put_slice(target, dynamic, tensor(type, slice, :plain, 2)) end)
      call(fn -> Nx.put_slice(target, starts, tensor(:u8, slice, :plain, 3)) end)
    end
  end

  defp movement(:concatenate, type) do
    for {shapes, axis} <- [
          {[{3}, {5}], 0},
          {[{1}, {1}, {1}], 0},
          {[{2, 3}, {2, 1}], 1},
          {[{2, 3}, {4, 3}, {1, 3}], 0},
          {[{2, 3, 4}, {2, 2, 4}], 1},
          {[{33}, {31}], 0},
          {[{2, 1, 2, 1, 2, 3}, {2, 1, 2, 1, 2, 2}], 5}
        ] do
      call(fn -> Nx.concatenate(many(shapes, type, type), axis: axis) end)
      call(fn -> Nx.concatenate(many(shapes, type, :s16), axis: axis) end)
    end
  end

  defp movement(:stack, type) do
    for {shape, count, axis} <- [
          {{}, 3, 0},
          {{5}, 2, 0},
          {{5}, 3, 1},
          {{2, 3}, 2, 1},
          {{2, 3}, 2, 2},
          {{1, 2, 1, 2, 3}, 2, 0}
        ] do
      shapes = List.duplicate(shape, count)
      call(fn -> Nx.stack(many(shapes, type, type), axis: axis) end)
      call(fn -> Nx.stack(many(shapes, type, :u8), axis: axis) end)
    end
  end

  defp movement(:pad, type) do
    for {shape, padding} <- [
          {{}, []},
          {{5}, [{1, 2, 0}]},
          {{5}, [{0, 0, 2}]},
          {{5}, [{-1, 3, 1}]},
          {{5}, [{2, -2, 0}]},
          {{3, 5}, [{1, 0, 1}, {0, 2, 0}]},
          {{3, 5}, [{-1, -1, 0}, {-2, 0, 2}]},
          {{2, 3, 4}, [{0, 1, 0}, {1, 1, 1}, {-1, 0, 0}]},
          {{33}, [{15, 17, 1}]},
          {{1, 2, 1, 2, 2, 2}, List.duplicate({1, 0, 0}, 6)}
        ],
        do:
          call(fn ->
            Nx.pad(tensor(type, shape, :plain, 0), of(type, {}, [number(type)]), padding)
          end)
  end

  defp movement(:as_type, type) do
    for to <- types(),
        to != type,
        {shape, style} <- [{{}, :plain}, {{9}, :special}, {{2, 3, 5}, :plain}, {{33}, :special}] do
      call(fn -> Nx.as_type(tensor(type, shape, style, 0), to) end)
    end
  end

  defp movement(:bitcast, {kind, size} = type) when kind != :c do
    for {other, ^size} = to <- reals(),
        {other, size} != type,
        shape <- [{}, {9}, {3, 5}, {65}],
        do: call(fn -> Nx.bitcast(tensor(type, shape, :plain, 0), to) end)
  end

  defp movement(:bitcast, _type), do: :ok

  defp many(shapes, first, rest) do
    for {shape, i} <- Enum.with_index(shapes),
        do: tensor(if(i == 0, do: first, else: rest), shape, :plain, i)
  end

  defp number({:c, _}), do: {2.0, -1.0}
  defp number({kind, _}) when kind in [:u, :s], do: 1
  defp number(_float), do: 1.5

  ## Reductions

  @reductions [
    {{}, nil},
    {{1}, nil},
    {{9}, nil},
    {{65}, [0]},
    {{257}, nil},
    {{3, 5}, [0]},
    {{3, 5}, [1]},
    {{3, 5}, [1, 0]},
    {{17, 33}, [0]},
    {{17, 33}, [1]},
    {{2, 3, 4}, [1]},
    {{2, 3, 4}, [2, 0]},
    {{2, 1, 3}, [1]},
    {{2, 1, 2, 1, 2, 3}, [0, 3, 5]}
  ]

  defp fold(op, types) do
    each(types, fn type ->
      for {{shape, axes}, seed} <- Enum.with_index(@reductions),
          keep <- [false, true],
          keep == (rem(seed, 2) == 1) or seed > 8 do
        style = if op == :product, do: :few, else: :plain

        call(fn ->
          apply(Nx, op, [tensor(type, shape, style, seed), [axes: axes, keep_axes: keep]])
        end)
      end

      call(fn -> apply(Nx, op, [tensor(type, {31}, :special, 1), []]) end)
      call(fn -> apply(Nx, op, [tensor(type, {5, 7}, :special, 2), [axes: [0]]]) end)
      call(fn -> apply(Nx, op, [tensor(type, {8, 9}, :few, 3), [axes: [1]]]) end)
    end)

    large(fn ->
      call(fn -> apply(Nx, op, [tensor(hd(types), {41, 67}, :few, 4), [axes: [0]]]) end)
    end)
  end

  defp position(op) do
    each(reals(), fn type ->
      for {shape, axis} <- [
            {{}, nil},
            {{9}, nil},
            {{65}, 0},
            {{3, 5}, nil},
            {{3, 5}, 0},
            {{3, 5}, 1},
            {{2, 3, 4}, 1},
            {{2, 1, 2, 1, 2, 3}, 4}
          ],
          tie_break <- [:low, :high],
          style <- [:few, :plain] do
        options = [axis: axis, tie_break: tie_break, keep_axis: style == :few and axis != nil]
        call(fn -> apply(Nx, op, [tensor(type, shape, style, 0), options]) end)
      end

      call(fn -> apply(Nx, op, [tensor(type, {31}, :special, 1), [type: :u8]]) end)
      call(fn -> apply(Nx, op, [tensor(type, {5, 7}, :special, 2), [axis: 1, type: :s64]]) end)
    end)
  end

  defp cumulative(op, types) do
    each(types, fn type ->
      for {shape, axis} <- [
            {{1}, 0},
            {{9}, 0},
            {{65}, 0},
            {{3, 5}, 0},
            {{3, 5}, 1},
            {{2, 3, 4}, 1},
            {{17, 2}, 0},
            {{2, 1, 2, 1, 2, 3}, 5}
          ],
          reverse <- [false, true] do
        style = if op == :cumulative_product, do: :few, else: :plain

        call(fn ->
          apply(Nx, op, [tensor(type, shape, style, 0), [axis: axis, reverse: reverse]])
        end)
      end
    end)
  end

  ## Windows

  @window_options [
    {{9}, {3}, []},
    {{9}, {2}, [strides: [2]]},
    {{9}, {3}, [padding: [{1, 2}]]},
    {{9}, {3}, [window_dilations: [2]]},
    {{9}, {2}, [padding: [{-1, 0}]]},
    {{3, 5}, {2, 2}, [padding: :same]},
    {{3, 5}, {1, 3}, [strides: [1, 2], padding: [{0, 0}, {2, 1}]]},
    {{5, 7}, {2, 3}, [window_dilations: [2, 1], strides: [1, 2]]},
    {{2, 3, 4}, {1, 2, 2}, []},
    {{2, 3, 4}, {2, 1, 3}, [padding: [{1, 0}, {0, 0}, {0, 1}]]},
    {{65}, {9}, [strides: [3]]},
    {{1, 1, 2, 1, 2, 3}, {1, 1, 2, 1, 1, 2}, []}
  ]

  defp window(op, types) do
    each(types, fn type ->
      for {{shape, window, options}, seed} <- Enum.with_index(@window_options) do
        style = if op == :window_product, do: :few, else: :plain
        call(fn -> apply(Nx, op, [tensor(type, shape, style, seed), window, options]) end)
      end

      call(fn -> apply(Nx, op, [tensor(type, {17}, :special, 1), {3}, []]) end)
    end)
  end

  defp window_scatter(op) do
    each(reals(), fn type ->
      for {{shape, window, options}, seed} <-
            Enum.with_index([
              {{4, 6}, {2, 3}, [strides: [2, 3]]},
              {{4, 6}, {2, 2}, [strides: [1, 2]]},
              {{9}, {3}, [strides: [3]]},
              {{9}, {3}, [strides: [2]]},
              {{2, 4, 4}, {1, 2, 2}, [strides: [1, 2, 2]]},
              {{33}, {2}, [strides: [2]]}
            ]),
          style <- [:plain, :few] do
        options = [padding: :valid] ++ options

        source =
          Store.paused(fn -> Nx.window_sum(tensor(type, shape, :plain, 0), window, options) end)

        # The reference adds in f32, in which these are exact.
        source = tensor(type, source.shape, :few, seed + 1)

        call(fn ->
          apply(Nx, op, [
            tensor(type, shape, style, seed),
            source,
            of(type, {}, [0]),
            window,
            options
          ])
        end)
      end
    end)
  end
end
