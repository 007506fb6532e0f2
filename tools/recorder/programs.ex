# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Programs do
  @moduledoc """
  Whole functions: control flow, functions as arguments, and blocks, with one result or several.
  """

  import Nx.Defn
  import Recorder.Tensors, only: [tensor: 4, of: 3, types: 0]

  def run do
    Enum.each(control_flow(), &record/1)
    Enum.each(composed(), &record/1)
    Enum.each(with_functions(), &record/1)
    Enum.each(folds_by_function(), &record/1)
    Enum.each(linear_algebra(), &record_accurate/1)
    Enum.each(factorisations(), &record_accurate/1)
    Enum.each(transforms(), &record_accurate/1)
    Enum.each(ordered(), &record/1)
  end

  # A last element is the op whose cases these are.
  defp record({name, fun, args}), do: jit(name, fun, args, [])
  defp record({name, fun, args, op}), do: jit(name, fun, args, covers: op)

  # Iterative algorithms of the reference run in double, on the same numbers.
  defp record_accurate({name, fun, args}), do: record_accurate({name, fun, args, nil, fun})

  # The last function is what the reference runs.
  defp record_accurate({name, fun, args, op, other}) do
    expected =
      Recorder.Store.paused(fn ->
        wide = Nx.Defn.jit_apply(other, Enum.map(args, &widen/1), compiler: Nx.Defn.Evaluator)
        narrow(wide, fun, args)
      end)

    expected = if rebuilt?(other), do: put_elem(expected, 1, as_result(args, expected)), else: expected
    jit(name, fun, args, expected: expected, covers: op)
  end

  # These put their argument together again, which is known better than the reference computes it.
  defp rebuilt?(fun), do: fun in [&eigenvalues/1, &singular_values/1]

  defp as_result([matrix], {_values, other}),
    do: Recorder.Store.paused(fn -> Nx.as_type(matrix, other.type) end)

  defp widen(%Nx.Tensor{type: {:c, _}} = tensor), do: Nx.as_type(tensor, :c128)
  defp widen(%Nx.Tensor{} = tensor), do: Nx.as_type(tensor, :f64)

  defp narrow(wide, fun, args) do
    wide = Nx.Defn.Composite.flatten_list([wide])
    expression = apply(Nx.Defn.debug_expr(fun), args)
    template = Nx.Defn.Composite.flatten_list([expression])
    Enum.zip_with(wide, template, &Nx.as_type(&1, &2.type)) |> List.to_tuple()
  end

  defp jit(name, fun, args, options) do
    Nx.Defn.jit_apply(fun, args, [compiler: Recorder.Compiler, program: name] ++ options)
  rescue
    error ->
      Recorder.Store.note("program #{name}: the reference raises #{inspect(error.__struct__)}")
  end

  ## Control flow

  defp control_flow do
    for n <- [0, 1, 2, 7, 20] do
      {"factorial", &factorial/1, [of(:s64, {}, [n])]}
    end ++
      for(n <- [1, 6, 7, 27], do: {"collatz", &collatz/1, [of(:s32, {}, [n])]}) ++
      for(x <- [-2.0, -0.0, 0.5, 3.0, :nan], do: {"piecewise", &piecewise/1, [of(:f32, {}, [x])]}) ++
      for(
        n <- [0, 1, 2, 3],
        do: {"four-ways", &four_ways/2, [of(:u8, {}, [n]), tensor(:f32, {3, 5}, :plain, n)]}
      ) ++
      for(
        s <- 0..3,
        do:
          {"power-iteration", &power_iteration/2,
           [tensor(:f64, {5, 5}, :positive, s), tensor(:f64, {5}, :positive, s)]}
      ) ++
      for(s <- 0..2, do: {"newton-root", &newton_root/1, [tensor(:f64, {7}, :positive, s)]}) ++
      for(
        s <- 0..2,
        do:
          {"loop-in-branch", &loop_in_branch/2, [of(:s32, {}, [s]), tensor(:f32, {4}, :plain, s)]}
      ) ++
      for(s <- 0..2, do: {"branch-in-loop", &branch_in_loop/1, [tensor(:s32, {9}, :plain, s)]}) ++
      for(s <- 0..2, do: {"loop-in-loop", &loop_in_loop/1, [of(:s32, {}, [s + 2])]}) ++
      for(s <- 0..2, do: {"bubble-sort", &bubble_sort/1, [tensor(:s32, {8}, :plain, s)]}) ++
      for(s <- 0..2, do: {"fill-rows", &fill_rows/1, [tensor(:f32, {4, 3}, :plain, s)]}) ++
      for(
        s <- 0..2,
        do:
          {"shared-outside", &shared_outside/2,
           [tensor(:f32, {6}, :plain, s), of(:u8, {}, [rem(s, 2)])]}
      ) ++
      for(
        s <- 0..2,
        do: {"tuple-state", &tuple_state/2, [tensor(:f64, {3}, :plain, s), of(:s64, {}, [s * 3])]}
      )
  end

  defn factorial(n) do
    {_, result} =
      while {n, result = Nx.tensor(1, type: :s64)}, n > 1 do
        {n - 1, result * n}
      end

    result
  end

  defn collatz(n) do
    {_, steps} =
      while {n, steps = 0}, n != 1 do
        next = if Nx.remainder(n, 2) == 0, do: Nx.quotient(n, 2), else: 3 * n + 1
        {next, steps + 1}
      end

    steps
  end

  defn piecewise(x) do
    cond do
      x < -1.0 -> -x
      x < 0.0 -> x * x
      x < 1.0 -> Nx.sqrt(x)
      true -> Nx.log(x) + 1.0
    end
  end

  defn four_ways(n, x) do
    cond do
      n == 0 -> {Nx.sum(x), x}
      n == 1 -> {Nx.product(x), -x}
      n == 2 -> {Nx.reduce_max(x), Nx.abs(x)}
      true -> {Nx.mean(x), Nx.exp(x)}
    end
  end

  defn power_iteration(a, v) do
    {_, _, v} =
      while {i = 0, a, v}, i < 12 do
        next = Nx.dot(a, v)
        {i + 1, a, next / Nx.sqrt(Nx.sum(next * next))}
      end

    {v, Nx.dot(v, Nx.dot(a, v))}
  end

  defn newton_root(x) do
    {_, root, _} =
      while {x, root = x, error = Nx.tensor(1.0, type: :f64)}, error > 1.0e-10 do
        next = (root + x / root) / 2
        {x, next, Nx.reduce_max(Nx.abs(next - root))}
      end

    root
  end

  defn loop_in_branch(n, x) do
    if n > 0 do
      {_, x} =
        while {n, x}, n > 0 do
          {n - 1, x * 2 + n}
        end

      x
    else
      Nx.negate(x)
    end
  end

  defn branch_in_loop(x) do
    {_, _, even, odd} =
      while {i = 0, x, even = 0, odd = 0}, i < Nx.size(x) do
        if Nx.remainder(x[i], 2) == 0,
          do: {i + 1, x, even + x[i], odd},
          else: {i + 1, x, even, odd - x[i]}
      end

    {even, odd}
  end

  defn loop_in_loop(n) do
    {_, _, total} =
      while {i = 0, n, total = 0}, i < n do
        {_, _, inner} =
          while {j = 0, i, inner = 0}, j <= i do
            {j + 1, i, inner + j * i}
          end

        {i + 1, n, total + inner}
      end

    total
  end

  defn bubble_sort(x) do
    {_, x} =
      while {i = 0, x}, i < Nx.size(x) do
        {_, x} =
          while {j = 0, x}, j < Nx.size(x) - 1 do
            pair = Nx.slice(x, [j], [2])
            sorted = Nx.stack([Nx.reduce_min(pair), Nx.reduce_max(pair)])
            {j + 1, Nx.put_slice(x, [j], sorted)}
          end

        {i + 1, x}
      end

    x
  end

  defn fill_rows(x) do
    {_, out, _} =
      while {i = 0, out = Nx.broadcast(0.0, {4, 3}), x}, i < 4 do
        row = Nx.reshape(Nx.cumulative_sum(x[i]) * (i + 1), {1, 3})
        {i + 1, Nx.put_slice(out, [3 - i, 0], row), x}
      end

    out
  end

  defn shared_outside(x, flag) do
    heavy = Nx.tanh(x * x + 1)
    branch = if flag, do: heavy * 2, else: Nx.exp(heavy)
    {branch, heavy}
  end

  defn tuple_state(x, n) do
    while {x, n, total = Nx.tensor(0.0, type: :f64)}, n > 0 do
      {Nx.reverse(x) * 0.5, n - 1, total + Nx.sum(x)}
    end
  end

  ## Straight-line functions

  defp composed do
    f32 = &tensor(:f32, &1, :plain, 7)

    for(t <- [:f32, :f64], do: {"softmax-#{t}", &softmax/1, [tensor(t, {5, 9}, :plain, 1)]}) ++
      for(
        t <- [:f32, :f64],
        do: {"layer-norm-#{t}", &layer_norm/1, [tensor(t, {4, 17}, :plain, 2)]}
      ) ++
      [
        {"gelu", &gelu/1, [f32.({65})]},
        {"dense", &dense/3,
         [f32.({3, 8}), tensor(:f32, {8, 5}, :plain, 1), tensor(:f32, {5}, :plain, 2)]},
        {"attention", &attention/3,
         [f32.({2, 5, 4}), tensor(:f32, {2, 5, 4}, :plain, 1), tensor(:f32, {2, 5, 4}, :plain, 2)]},
        {"convolution-pool", &convolution_pool/2,
         [f32.({1, 1, 8, 8}), tensor(:f32, {2, 1, 3, 3}, :plain, 3)]},
        {"gradient", &gradient/2, [f32.({4, 3}), tensor(:f32, {3}, :plain, 4)]},
        {"variance", &variance/1, [f32.({6, 7})]},
        {"one-hot", &one_hot/1, [of(:s32, {5}, [0, 2, 1, 3, 2])]},
        {"pairwise", &pairwise/2, [f32.({5, 3}), tensor(:f32, {7, 3}, :plain, 5)]},
        {"all-close", &Nx.all_close/2, [f32.({5}), f32.({5})]},
        {"random-uniform", &random_uniform/1, [of(:u32, {2}, [0, 42])]},
        {"random-normal", &random_normal/1, [of(:u32, {2}, [7, 1])]},
        {"random-shuffle", &random_shuffle/1, [of(:u32, {2}, [3, 9])]}
      ]
  end

  defn softmax(x) do
    e = Nx.exp(x - Nx.reduce_max(x, axes: [-1], keep_axes: true))
    e / Nx.sum(e, axes: [-1], keep_axes: true)
  end

  defn layer_norm(x) do
    centred = x - Nx.mean(x, axes: [-1], keep_axes: true)
    centred * Nx.rsqrt(Nx.mean(centred * centred, axes: [-1], keep_axes: true) + 1.0e-5)
  end

  defn(gelu(x), do: x * 0.5 * (1 + Nx.erf(x / Nx.sqrt(2.0))))
  defn(dense(x, w, b), do: Nx.max(Nx.dot(x, w) + b, 0))

  defn attention(q, k, v) do
    Nx.dot(softmax(Nx.dot(q, [2], [0], k, [2], [0]) / 2.0), [2], [0], v, [1], [0])
  end

  defn convolution_pool(x, k) do
    x
    |> Nx.conv(k, padding: :same)
    |> Nx.max(0)
    |> Nx.window_max({1, 1, 2, 2}, strides: [1, 1, 2, 2])
  end

  defn gradient(x, w) do
    grad(w, fn w -> Nx.sum(Nx.sigmoid(Nx.dot(x, w)) * Nx.tanh(w[0])) end)
  end

  defn(variance(x), do: {Nx.variance(x), Nx.standard_deviation(x, axes: [0]), Nx.median(x)})
  defn(one_hot(x), do: Nx.equal(Nx.new_axis(x, -1), Nx.iota({1, 4})))

  defn pairwise(x, y) do
    d = Nx.new_axis(x, 1) - Nx.new_axis(y, 0)
    Nx.argmin(Nx.sum(d * d, axes: [2]), axis: 1)
  end

  defn(random_uniform(key), do: Nx.Random.uniform(key, -1.0, 1.0, shape: {33}))
  defn(random_normal(key), do: Nx.Random.normal(key, 0.0, 1.0, shape: {33}))
  defn(random_shuffle(key), do: Nx.Random.shuffle(key, Nx.iota({17})))

  ## Functions as arguments

  defp with_functions do
    for(
      {name, fun} <- [
        {"fun-reduce", &reduce_fun/1},
        {"fun-reduce-axis", &reduce_axis_fun/1},
        {"fun-window-reduce", &window_reduce_fun/1}
      ],
      type <- [:f32, :s32],
      do: {"#{name}-#{type}", fun, [tensor(type, {4, 5}, :plain, 1)]}
    )
  end

  defn(reduce_fun(x), do: Nx.reduce(x, 0, fn a, b -> a + 2 * b end))
  defn(reduce_axis_fun(x), do: Nx.reduce(x, 100, [axes: [1]], fn a, b -> Nx.min(a, b) end))
  defn(window_reduce_fun(x), do: Nx.window_reduce(x, 0, {2, 2}, fn a, b -> Nx.max(a, b) + 1 end))

  # Small sums, which every type holds exactly; the order of the elements matters.
  defp folds_by_function do
    for type <- types(),
        {op, fun, shape} <- [
          {:reduce, &alternate/1, {3}},
          {:reduce, &alternate_rows/1, {4, 3}},
          {:reduce, &alternate_some/1, {2, 3, 1, 2}},
          {:window_reduce, &alternate_windows/1, {2, 7}},
          {:window_reduce, &alternate_strides/1, {9}}
        ],
        seed <- 1..3 do
      name = "#{op}-#{tuple_size(shape)}-#{Nx.Type.to_string(type)}"
      {name, fun, [exact(type, shape, seed)], op}
    end
  end

  defp exact({:c, _} = type, shape, seed) do
    values = for i <- 1..Tuple.product(shape), do: {rem(i * seed, 5) - 2.0, rem(i, 3) - 1.0}
    of(type, shape, values)
  end

  defp exact(type, shape, seed), do: tensor(type, shape, :few, seed)

  defn(alternate(x), do: Nx.reduce(x, 1, fn a, acc -> a - acc end))
  defn(alternate_rows(x), do: Nx.reduce(x, 1, [axes: [1]], fn a, acc -> a - acc end))

  defn alternate_some(x),
    do: Nx.reduce(x, 0, [axes: [3, 0], keep_axes: true], fn a, acc -> a - acc end)

  defn(alternate_windows(x), do: Nx.window_reduce(x, 1, {1, 3}, fn a, acc -> a - acc end))

  defn alternate_strides(x) do
    options = [padding: [{1, 2}], strides: [2], window_dilations: [2]]
    # The reference takes padding of another type for bytes of the result's.
    Nx.window_reduce(x, Nx.as_type(0, Nx.type(x)), {3}, options, fn a, acc -> a - acc end)
  end

  ## Linear algebra, transforms, order

  # Of the narrow floats only what they hold exactly: a diagonal.
  defp factorisations do
    for type <- types(),
        {op, fun, reference} <- [
          {:eigh, &native_eigenvalues/1, &eigenvalues/1},
          {:svd, &native_singular_values/1, &singular_values/1}
        ],
        op == :eigh or not match?({:c, _}, type),
        size <- [1, 2, 3] do
      name = "linalg-#{op}-#{size}-#{Nx.Type.to_string(type)}"
      {name, fun, [symmetric(type, size)], op, reference}
    end
  end

  # The reference's definition of these blocks does not compile for every type; one that is native
  # needs it for its types only.
  deftransformp native(block, x, count) do
    type = Nx.Type.to_floating(x.type)
    {size, _} = x.shape
    matrix = Nx.template({size, size}, type)
    vector = Nx.template({size}, type)
    outs = if count == 2, do: {vector, matrix}, else: {matrix, vector, matrix}

    Nx.block(block, [x], outs, fn _block, x ->
      matrix = Nx.as_type(x, type)
      vector = Nx.as_type(Nx.take_diagonal(x), type)
      if count == 2, do: {vector, matrix}, else: {matrix, vector, matrix}
    end)
  end

  defn native_eigenvalues(a) do
    {values, vectors} = native(%Nx.Block.LinAlg.Eigh{}, a, 2)
    {values, Nx.dot(vectors * values, Nx.LinAlg.adjoint(vectors))}
  end

  defn native_singular_values(a) do
    {u, s, vt} = native(%Nx.Block.LinAlg.SVD{}, a, 3)
    {s, Nx.dot(u * s, vt)}
  end

  defp symmetric(type, size) do
    values = for i <- 1..size, j <- 1..size, do: entry(type, i, j)
    of(type, {size, size}, values)
  end

  defp entry({:c, _}, i, j), do: {if(i == j, do: 4.0 * i, else: 1.0), (i - j) * 0.5}
  defp entry({kind, _}, i, j) when kind in [:u, :s], do: if(i == j, do: 1, else: 0)
  defp entry({_, size}, i, i) when size < 32, do: :math.pow(2.0, i)
  defp entry({_, size}, _i, _j) when size < 32, do: 0.0
  defp entry(_type, i, i), do: 4.0 * i
  defp entry(_type, i, j), do: 1.0 / (i + j)

  defp linear_algebra do
    for type <- [:f32, :f64],
        size <- [1, 2, 3, 5, 8],
        {name, fun} <- [
          {"qr", &qr/1},
          {"lu", &lu/1},
          {"determinant", &determinant/1},
          {"invert", &invert/1},
          {"eigenvalues", &eigenvalues/1},
          {"singular-values", &singular_values/1},
          {"cholesky", &cholesky/1},
          {"norm", &norm/1},
          {"matrix-power", &matrix_power/1}
        ],
        do: {"linalg-#{name}-#{type}-#{size}", fun, [matrix(type, size)]}
  end

  # Symmetric, with distinct positive eigenvalues.
  defp matrix(type, size) do
    values =
      for i <- 1..size, j <- 1..size, do: if(i == j, do: 3.0 * i + 2, else: 1.0 / (i + j))

    of(type, {size, size}, values)
  end

  defn(qr(a), do: Nx.LinAlg.qr(a))
  defn(lu(a), do: Nx.LinAlg.lu(a))
  defn(determinant(a), do: Nx.LinAlg.determinant(a))
  defn(invert(a), do: Nx.LinAlg.invert(a))
  defn(cholesky(a), do: Nx.LinAlg.cholesky(a))
  defn(norm(a), do: {Nx.LinAlg.norm(a), Nx.LinAlg.norm(a, ord: 1)})
  defn(matrix_power(a), do: Nx.LinAlg.matrix_power(a, 3))

  # Vectors are compared by what they do, as their signs are free.
  defn eigenvalues(a) do
    {values, vectors} = Nx.LinAlg.eigh(a, eps: 1.0e-12)
    {values, Nx.dot(vectors * values, Nx.LinAlg.adjoint(vectors))}
  end

  defn singular_values(a) do
    {u, s, vt} = Nx.LinAlg.svd(a)
    {s, Nx.dot(u * s, vt)}
  end

  defp transforms do
    for type <- [:f32, :f64],
        length <- [4, 5, 16],
        {name, fun} <- [
          {"fft", &fft/1},
          {"round-trip", &round_trip/1},
          {"rfft", &rfft/1},
          {"fft2", &fft2/1}
        ],
        do: {"fft-#{name}-#{type}-#{length}", fun, [tensor(type, {3, length}, :plain, length)]}
  end

  defn(fft(x), do: Nx.fft(x))
  defn(round_trip(x), do: Nx.real(Nx.ifft(Nx.fft(x))))
  defn(rfft(x), do: Nx.irfft(Nx.rfft(x)))
  defn(fft2(x), do: Nx.fft2(x))

  defp ordered do
    for type <- [:f32, :s32, :u8, :f64],
        k <- [1, 3, 9],
        do:
          {"top-k-#{type}-#{k}",
           if(k == 1, do: &top_1/1, else: if(k == 3, do: &top_3/1, else: &top_9/1)),
           [tensor(type, {4, 9}, :few, k)]}
  end

  defn(top_1(x), do: Nx.top_k(x, k: 1))
  defn(top_3(x), do: Nx.top_k(x, k: 3))
  defn(top_9(x), do: Nx.top_k(x, k: 9))
end
