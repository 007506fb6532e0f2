# SPDX-License-Identifier: Apache-2.0
# One workload an op: what it takes to compute, the operands being there. Writes lines of a name and
# milliseconds to the file given, for peers.py to set others beside.
# Run by `make bench` where Nx is installed, as: mix run bench/ops.exs FILE [NAMES]
defmodule Ops do
  @runs 9

  # Numbers from -1 to 1 without order, the same as in peers.py.
  def wave(shape, type \\ :f32) do
    Nx.iota(shape, type: :s64)
    |> Nx.multiply(7919)
    |> Nx.remainder(20011)
    |> Nx.divide(10006)
    |> Nx.subtract(1)
    |> Nx.as_type(type)
    |> ready()
  end

  def ready(%Nx.Tensor{} = t) do
    EMLX.eval(EMLX.Backend.from_nx(t))
    t
  end

  def ready(tuple), do: tuple |> Tuple.to_list() |> Enum.each(&ready/1)

  defp softmax(t) do
    e = Nx.exp(Nx.subtract(t, Nx.reduce_max(t, axes: [-1], keep_axes: true)))
    Nx.divide(e, Nx.sum(e, axes: [-1], keep_axes: true))
  end

  defp layer_norm(t) do
    mean = Nx.mean(t, axes: [-1], keep_axes: true)
    variance = Nx.variance(t, axes: [-1], keep_axes: true)
    Nx.divide(Nx.subtract(t, mean), Nx.sqrt(Nx.add(variance, 1.0e-5)))
  end

  defp definite(n) do
    a = wave({n, n}, :f64)
    a |> Nx.dot(Nx.transpose(a)) |> Nx.add(Nx.multiply(Nx.eye(n), n)) |> ready()
  end

  def element_wise do
    a = wave({4096, 4096})
    row = wave({4096})
    d = wave({2048, 2048}, :f64)
    i = a |> Nx.multiply(1000) |> Nx.as_type(:s32) |> ready()
    h = a |> Nx.as_type(:bf16) |> ready()

    [
      {"add f32", fn -> Nx.add(a, a) end},
      {"add a row f32", fn -> Nx.add(a, row) end},
      {"add s32", fn -> Nx.add(i, i) end},
      {"multiply bf16", fn -> Nx.multiply(h, h) end},
      {"quotient s32", fn -> Nx.quotient(i, 7) end},
      {"select f32", fn -> Nx.select(Nx.less(a, row), a, row) end},
      {"exp f32", fn -> Nx.exp(a) end},
      {"sin f32", fn -> Nx.sin(a) end},
      {"pow f32", fn -> Nx.pow(Nx.abs(a), row) end},
      {"exp f64", fn -> Nx.exp(d) end},
      {"sin f64", fn -> Nx.sin(d) end},
      {"tanh f64", fn -> Nx.tanh(d) end},
      {"f32 as bf16", fn -> Nx.as_type(a, :bf16) end}
    ]
  end

  def folds do
    a = wave({4096, 4096})
    short = a |> Nx.reshape({1_048_576, 16}) |> ready()
    i = a |> Nx.multiply(1000) |> Nx.as_type(:s32) |> ready()
    image = wave({32, 64, 56, 56})

    [
      {"sum f32", fn -> Nx.sum(a) end},
      {"sum s32", fn -> Nx.sum(i) end},
      {"sum rows", fn -> Nx.sum(a, axes: [1]) end},
      {"sum columns", fn -> Nx.sum(a, axes: [0]) end},
      {"sum rows of 16", fn -> Nx.sum(short, axes: [1]) end},
      {"max rows of 16", fn -> Nx.reduce_max(short, axes: [1]) end},
      {"argmax rows", fn -> Nx.argmax(a, axis: 1) end},
      {"argmax columns", fn -> Nx.argmax(a, axis: 0) end},
      {"variance", fn -> Nx.variance(a) end},
      {"softmax", fn -> softmax(a) end},
      {"softmax rows of 16", fn -> softmax(short) end},
      {"layer norm", fn -> layer_norm(a) end},
      {"running sum of rows", fn -> Nx.cumulative_sum(a, axis: 1) end},
      {"max pool 2x2", fn -> Nx.window_max(image, {1, 1, 2, 2}, strides: [1, 1, 2, 2]) end},
      {"mean pool 3x3", fn -> Nx.window_mean(image, {1, 1, 3, 3}) end}
    ]
  end

  def movement do
    a = wave({4096, 4096})
    table = a |> Nx.slice_along_axis(0, 64, axis: 1) |> Nx.add(0) |> ready()
    at = {100_000} |> Nx.iota() |> Nx.multiply(7919) |> Nx.remainder(4096) |> ready()
    v = wave({1_000_000})
    m = wave({1024, 1024})

    [
      {"transpose", fn -> Nx.transpose(a) end},
      {"reverse", fn -> Nx.reverse(a, axes: [1]) end},
      {"concatenate", fn -> Nx.concatenate([a, a], axis: 1) end},
      {"pad", fn -> Nx.pad(a, 0.0, [{1, 1, 0}, {1, 1, 0}]) end},
      {"take rows", fn -> Nx.take(table, at) end},
      {"sort 1M", fn -> Nx.sort(v) end},
      {"argsort 1M", fn -> Nx.argsort(v) end},
      {"sort rows", fn -> Nx.sort(m, axis: 1) end},
      {"top 10 of 1M", fn -> Nx.top_k(v, k: 10) end}
    ]
  end

  def products do
    a = wave({4096, 4096})
    row = wave({4096})
    m = wave({1024, 1024})
    d = m |> Nx.as_type(:f64) |> ready()
    i = {512, 512} |> wave() |> Nx.multiply(100) |> Nx.as_type(:s32) |> ready()
    batch = wave({64, 128, 128})

    [
      {"dot f32 1024", fn -> Nx.dot(m, m) end},
      {"dot f64 1024", fn -> Nx.dot(d, d) end},
      {"dot s32 512", fn -> Nx.dot(i, i) end},
      {"dot 64 of 128", fn -> Nx.dot(batch, [2], [0], batch, [1], [0]) end},
      {"matrix times vector", fn -> Nx.dot(a, row) end},
      {"vector times matrix", fn -> Nx.dot(row, a) end}
    ]
  end

  def algebra do
    m = wave({1024, 1024})
    square = wave({512, 512}, :f64)
    large = definite(512)
    symmetric = definite(256)
    small = {10_000, 8, 8} |> wave(:f64) |> Nx.add(Nx.multiply(Nx.eye(8), 10)) |> ready()
    key = Nx.Random.key(42)

    [
      {"fft 1024 of 1024", fn -> Nx.fft(m) end},
      {"rfft 1024 of 1024", fn -> Nx.rfft(m) end},
      {"fft2 1024", fn -> Nx.fft2(m) end},
      {"cholesky 512", fn -> Nx.LinAlg.cholesky(large) end},
      {"qr 512", fn -> Nx.LinAlg.qr(square) end},
      {"svd 256", fn -> Nx.LinAlg.svd(symmetric) end},
      {"eigh 256", fn -> Nx.LinAlg.eigh(symmetric) end},
      {"solve 512", fn -> Nx.LinAlg.solve(large, square) end},
      {"determinants 8x8", fn -> Nx.LinAlg.determinant(small) end},
      {"uniform 1M", fn -> key |> Nx.Random.uniform(shape: {1_000_000}) |> elem(0) end}
    ]
  end

  defp milliseconds(fun) do
    ready(fun.())

    times =
      for _ <- 1..@runs do
        # Results go when they are dropped elsewhere; so the next one gets the memory of the last.
        :erlang.garbage_collect()
        {time, _} = :timer.tc(fn -> ready(fun.()) end)
        time / 1000
      end

    times |> Enum.sort() |> Enum.at(div(@runs, 2))
  end

  def run(path, names) do
    families = [&element_wise/0, &folds/0, &movement/0, &products/0, &algebra/0]

    # A family's operands are garbage when the next one makes its own.
    lines =
      for family <- families, {name, fun} <- family.(), name =~ names do
        "#{name}\t#{Float.round(milliseconds(fun), 3)}\n"
      end

    File.write!(path, lines)
  end
end

Nx.default_backend(EMLX.Backend)
Nx.Defn.default_options(compiler: EMLX)
[path | names] = System.argv()
Ops.run(path, Regex.compile!(Enum.join(names, "|")))
