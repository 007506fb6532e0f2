# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.RandomTest do
  # Random programs, called and compiled, against Nx's reference. RANDOM_SECONDS of them (5), and
  # RANDOM_SEED repeats a run. A program is a list of steps, `{name, function, numbers of the
  # operands}`; each makes one more tensor. It is made while the reference runs it, so that each step
  # knows its operands' shapes.
  use EMLX.Case, async: true

  import Nx.Defn

  @steps 14

  @tag timeout: :infinity
  test "random programs" do
    seconds = String.to_integer(System.get_env("RANDOM_SECONDS", "5"))
    seed = String.to_integer(System.get_env("RANDOM_SEED", "#{:os.system_time(:second)}"))
    until = System.monotonic_time(:second) + seconds

    programs =
      Stream.iterate(seed, &(&1 + 1))
      |> Stream.take_while(fn _ -> System.monotonic_time(:second) < until end)
      |> Stream.map(&compare/1)
      |> Enum.count()

    IO.puts("#{programs} random programs, RANDOM_SEED=#{seed}")
    assert programs > 0
  end

  defp compare(seed) do
    {kind, inputs, steps, expected, wanted} = with_reference(fn -> program(seed) end)
    native = Enum.map(inputs, &Nx.backend_copy(&1, EMLX.Backend))
    expected = pick(expected, wanted)

    message = fn how ->
      "RANDOM_SEED=#{seed}, #{how}: #{inspect(for {name, _, at} <- steps, do: {name, at})}"
    end

    assert_same(kind, native |> run(steps) |> pick(wanted), expected, message.("called"))

    compiled =
      Nx.Defn.jit(fn inputs ->
        inputs |> Tuple.to_list() |> run(steps) |> pick(wanted) |> List.to_tuple()
      end)

    outputs = native |> List.to_tuple() |> compiled.() |> Tuple.to_list()
    assert_same(kind, outputs, expected, message.("compiled"))
  end

  defp pick(tensors, wanted), do: Enum.map(wanted, &Enum.at(tensors, &1))

  # Tensors are kept with the newest last.
  defp run(inputs, steps) do
    Enum.reduce(steps, inputs, fn {_name, fun, at}, tensors ->
      tensors ++ [apply(fun, pick(tensors, at))]
    end)
  end

  defp assert_same(kind, actual, expected, message) do
    for {a, b} <- Enum.zip(actual, expected) do
      assert {a.type, a.shape} == {b.type, b.shape}, message
      close = Enum.zip_with(Nx.to_flat_list(a), Nx.to_flat_list(b), &close?(kind, &1, &2))
      assert Enum.all?(close), "#{message}\n#{inspect(a)}\n#{inspect(b)}"
    end
  end

  defp close?(:exact, a, b), do: a == b
  defp close?(:smooth, a, b), do: abs(a - b) <= 2.0e-3 * max(1.0, abs(b))

  ## Programs

  defp program(seed) do
    :rand.seed(:exsss, {seed, 0, 0})
    kind = Enum.random([:exact, :exact, :smooth])

    inputs =
      for _ <- 1..3,
          do: input(kind, Enum.random([{}, {3}, {4}, {2, 3}, {3, 4}, {2, 2, 3}, {1}, {5, 1}]))

    {steps, tensors} =
      Enum.reduce(1..@steps, {[], inputs}, fn _, {steps, tensors} ->
        {_name, fun, at} = step = step(kind, tensors)
        {steps ++ [step], tensors ++ [apply(fun, pick(tensors, at))]}
      end)

    # The last one always; others are read or only pass by.
    last = length(tensors) - 1
    wanted = [last | for(i <- 3..(last - 1), :rand.uniform(4) == 1, do: i)]
    {kind, inputs, steps, tensors, wanted}
  end

  # Whole numbers, so that no step rounds and any order of a sum is the same.
  defp input(:exact, shape) do
    type = Enum.random([:u8, :s32, :s64, :f32, :f64])
    low = if type == :u8, do: 0, else: -4
    filled(shape, type, fn -> Enum.random(low..4) end)
  end

  defp input(:smooth, shape),
    do: filled(shape, Enum.random([:f32, :f64]), fn -> :rand.normal() end)

  defp filled(shape, type, fun) do
    for(_ <- 1..Tuple.product(shape), do: fun.()) |> Nx.tensor(type: type) |> Nx.reshape(shape)
  end

  defp step(kind, tensors) do
    at = :rand.uniform(length(tensors)) - 1
    x = Enum.at(tensors, at)

    makers =
      if kind == :exact,
        do: [&exact/3, &exact/3, &moved/3, &indexed/3],
        else: [&smooth/3, &moved/3]

    case Enum.random(makers).(x, at, tensors) do
      # Not on such a tensor.
      no when no in [nil, false] -> step(kind, tensors)
      step -> step
    end
  end

  # Another tensor of the same shape, or a scalar.
  defp other(x, tensors) do
    Enum.random(for {y, i} <- Enum.with_index(tensors), y.shape in [x.shape, {}], do: i)
  end

  defp bound(x), do: if(Nx.Type.float?(x.type), do: Nx.clip(x, -64, 64), else: x)

  defp exact(x, at, tensors) do
    integer? = Nx.Type.integer?(x.type)
    pair = [at, other(x, tensors)]
    integers? = Enum.all?(pair, &Nx.Type.integer?(Enum.at(tensors, &1).type))

    Enum.random([
      {:add, &bound(Nx.add(&1, &2)), pair},
      {:subtract, &bound(Nx.subtract(&1, &2)), pair},
      {:multiply, &bound(Nx.multiply(&1, &2)), pair},
      {:min, &Nx.min/2, pair},
      {:max, &Nx.max/2, pair},
      {:less, &Nx.less/2, pair},
      {:equal, &Nx.equal/2, pair},
      {:select, &Nx.select(Nx.greater(&1, 0), &1, &2), pair},
      {:abs, &Nx.abs/1, [at]},
      {:sign, &Nx.sign/1, [at]},
      {:not, &Nx.logical_not/1, [at]},
      {:wider, &Nx.as_type(&1, if(integer?, do: :s64, else: :f64)), [at]},
      {:turns, &turns/1, [at]},
      {:branch, &branch/1, [at]},
      integers? && {:quotient, &Nx.quotient(&1, Nx.max(&2, 1)), pair},
      integers? && {:remainder, &Nx.remainder(&1, Nx.max(&2, 1)), pair},
      integers? && {:and, &Nx.bitwise_and/2, pair},
      integers? && {:xor, &Nx.bitwise_xor/2, pair}
    ])
  end

  defp smooth(x, at, tensors) do
    pair = [at, other(x, tensors)]

    Enum.random([
      {:add, &Nx.tanh(Nx.add(&1, &2)), pair},
      {:subtract, &Nx.subtract(&1, Nx.multiply(&2, 0.5)), pair},
      {:multiply, &Nx.sin(Nx.multiply(&1, &2)), pair},
      {:divide, &Nx.tanh(Nx.divide(&1, Nx.add(Nx.abs(&2), 1))), pair},
      {:exp, &Nx.exp(Nx.negate(Nx.abs(&1))), [at]},
      {:log, &Nx.log(Nx.add(Nx.abs(&1), 1)), [at]},
      {:sqrt, &Nx.sqrt(Nx.add(Nx.abs(&1), 1)), [at]},
      {:sigmoid, &Nx.sigmoid/1, [at]},
      {:atan2, &Nx.atan2(&1, Nx.add(Nx.abs(&2), 1)), pair},
      {:mean, &Nx.mean/1, [at]},
      {:softmax, &(Nx.exp(Nx.tanh(&1)) |> then(fn e -> Nx.divide(e, Nx.sum(e)) end)), [at]}
    ])
  end

  # What changes the shape, or folds.
  defp moved(%{shape: {}}, at, _tensors) do
    Enum.random([
      {:broadcast, &Nx.broadcast(&1, {2, 3}), [at]},
      {:new_axis, &Nx.new_axis(&1, 0), [at]}
    ])
  end

  defp moved(x, at, tensors) do
    axis = :rand.uniform(Nx.rank(x)) - 1
    length = elem(x.shape, axis)
    small? = Nx.size(x) <= 60
    pair = [at, other(x, tensors)]
    same? = Enum.at(tensors, List.last(pair)).shape == x.shape

    Enum.random([
      {:transpose, &Nx.transpose/1, [at]},
      {:flatten, &Nx.flatten/1, [at]},
      {:reverse, &Nx.reverse(&1, axes: [axis]), [at]},
      {:slice, &Nx.slice_along_axis(&1, div(length, 2), length - div(length, 2), axis: axis),
       [at]},
      {:sum, &bound(Nx.sum(&1, axes: [axis])), [at]},
      {:all_sum, &bound(Nx.sum(&1)), [at]},
      {:reduce_max, &Nx.reduce_max(&1, axes: [axis], keep_axes: true), [at]},
      {:reduce_min, &Nx.reduce_min(&1, axes: [axis]), [at]},
      {:cumulative_sum, &bound(Nx.cumulative_sum(&1, axis: axis)), [at]},
      {:sort, &Nx.sort(&1, axis: axis), [at]},
      small? &&
        {:pad,
         &Nx.pad(
           &1,
           0 |> Nx.tensor() |> Nx.as_type(&1.type),
           List.duplicate({1, 0, 0}, Nx.rank(&1))
         ), [at]},
      small? && same? && {:concatenate, &Nx.concatenate([&1, &2, &1], axis: axis), pair},
      small? && same? && {:stack, &Nx.stack([&1, &2]), pair},
      same? && {:dot, &bound(Nx.dot(Nx.flatten(&1), Nx.flatten(&2))), pair},
      {:window_sum,
       &bound(
         Nx.window_sum(&1, Tuple.duplicate(1, Nx.rank(&1)) |> put_elem(axis, min(2, length)))
       ), [at]}
    ])
  end

  # What reads or writes where a computed number says.
  defp indexed(x, at, tensors) do
    scalars =
      for {%{shape: {}} = y, i} <- Enum.with_index(tensors), Nx.Type.integer?(y.type), do: i

    flat = elem(Nx.shape(Nx.flatten(x)), 0)

    cond do
      scalars == [] ->
        {:argmax, &Nx.argmax/1, [at]}

      Nx.rank(x) == 0 ->
        nil

      true ->
        pair = [at, Enum.random(scalars)]

        Enum.random([
          {:argmax, &Nx.argmax/1, [at]},
          {:element, fn x, i -> Nx.flatten(x)[within(i, flat)] end, pair},
          {:take, fn x, i -> Nx.take(Nx.flatten(x), Nx.stack([within(i, flat), 0])) end, pair},
          {:gather, fn x, i -> Nx.gather(Nx.flatten(x), Nx.reshape(within(i, flat), {1, 1})) end,
           pair},
          {:put_slice,
           fn x, i ->
             Nx.put_slice(
               Nx.flatten(x),
               [within(i, flat)],
               Nx.reshape(Nx.as_type(i, x.type), {1})
             )
           end, pair},
          {:indexed_add,
           fn x, i ->
             update = Nx.broadcast(Nx.tensor(1, type: x.type), {1})
             Nx.indexed_add(Nx.flatten(x), Nx.reshape(within(i, flat), {1, 1}), update)
           end, pair}
        ])
    end
  end

  defp within(i, length), do: i |> Nx.as_type(:s64) |> Nx.remainder(length) |> Nx.max(0)

  defnp turns(x) do
    {x, _} =
      while {x, i = 0}, i < 3 do
        {Nx.min(Nx.max(x, Nx.reverse(x)), 100), i + 1}
      end

    x
  end

  defnp branch(x) do
    if Nx.sum(x) > 0 do
      Nx.reverse(x)
    else
      Nx.max(x, 1)
    end
  end
end
