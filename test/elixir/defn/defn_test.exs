# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DefnTest do
  use EMLX.Case, async: true

  import Nx.Defn

  defmodule Point do
    @derive {Nx.Container, containers: [:x, :y], keep: [:label]}
    defstruct [:x, :y, :label]
  end

  defmodule Asked do
    # Two arguments that tell who asks for them.
    defstruct [:to]

    defimpl Nx.LazyContainer do
      def traverse(%{to: to}, acc, fun) do
        {a, acc} = argument(:a, to, acc, fun)
        {b, acc} = argument(:b, to, acc, fun)
        {{a, b}, acc}
      end

      defp argument(name, to, acc, fun) do
        fun.(
          Nx.template({2, 2}, :f32),
          fn ->
            send(to, {:asked, name})
            Nx.broadcast(Nx.tensor(3.0), {2, 2})
          end,
          acc
        )
      end
    end
  end

  defn softmax(t) do
    e = Nx.exp(t - Nx.reduce_max(t, axes: [-1], keep_axes: true))
    e / Nx.sum(e, axes: [-1], keep_axes: true)
  end

  defn collatz(n) do
    {_n, steps} =
      while {n, steps = 0}, n != 1 do
        {if(Nx.remainder(n, 2) == 0, do: Nx.quotient(n, 2), else: 3 * n + 1), steps + 1}
      end

    steps
  end

  defn power_of_two(n) do
    {_, _, result} =
      while {i = 0, n, result = 1}, i < n do
        {i + 1, n, result * 2}
      end

    result
  end

  defn count(n) do
    while n, n < 10 do
      n + 3
    end
  end

  # The condition is a member of the state.
  defn triangle(n) do
    {_, total} =
      while {n, total = 0}, n do
        {n - 1, total + n}
      end

    total
  end

  # Body and condition use literals, and the condition what the body has changed.
  defn until_large(x) do
    {_, y, _} =
      while {x, y = x, limit = 100.0}, Nx.sum(y * Nx.tensor([1.0, 2.0])) < limit do
        {x, y * 2 + Nx.tensor([0.5, 0.25]), limit - 1}
      end

    y
  end

  defn nested_loops(n) do
    {_, _, total} =
      while {i = 0, n, total = 0}, i < n do
        {_, _, inner} =
          while {j = 0, i, inner = 0}, j <= i do
            {j + 1, i, inner + j}
          end

        {i + 1, n, total + inner}
      end

    total
  end

  defn sign_name(x) do
    cond do
      x > 0 -> {1, x}
      x < 0 -> {-1, -x}
      true -> {0, x}
    end
  end

  # `shared` is needed on both sides of the cond and after it, `costly` in one branch.
  defn shared_nodes(x) do
    shared = Nx.exp(x)
    costly = Nx.sum(Nx.sin(x))

    y =
      cond do
        Nx.all(shared > 1) -> shared + costly
        Nx.any(shared > 1) -> shared * 2
        true -> shared - x
      end

    y + shared
  end

  defn nested_conds(x) do
    y = x * 2

    if x > 0 do
      if y > 10 do
        y + x
      else
        cond do
          y > 5 -> y - x
          y > 3 -> y * x
          true -> y * y * 2
        end
      end
    else
      -y
    end
  end

  defn loop_in_branch(x) do
    if x > 0 do
      {_, total} =
        while {x, total = 0}, x > 0 do
          {x - 1, total + x}
        end

      total
    else
      x
    end
  end

  defn containers(%Point{x: x, y: y} = point, {a, %{b: b}}) do
    %{point: %{point | x: x + a, y: y * b}, list: {x, {y, 1}}}
  end

  defn loss(w, x, y) do
    Nx.mean((Nx.dot(x, w) - y) ** 2)
  end

  defn(step(w, x, y), do: w - 0.1 * grad(w, &loss(&1, x, y)))

  defn loop_gradient(x) do
    grad(x, fn x ->
      {_, y} =
        while {i = 0, y = x}, i < 3 do
          {i + 1, y * y}
        end

      Nx.sum(y)
    end)
  end

  defn(unused_argument(_a, b), do: b + 1)
  defn(constant_result(_a), do: {1, Nx.tensor([1, 2, 3])})
  defn(identity(a), do: a)
  defn(noise(key), do: Nx.Random.normal(key, shape: {4}))

  test "what a function does not take is not asked for, and what it takes is asked for once" do
    first = fn {a, _b} -> Nx.add(Nx.dot(a, a), a) end

    for _ <- 1..2 do
      result = Nx.Defn.jit_apply(first, [%Asked{to: self()}], compiler: EMLX)
      assert Nx.to_flat_list(result) == [21.0, 21.0, 21.0, 21.0]
      assert_received {:asked, :a}
      refute_received {:asked, _}
    end
  end

  test "plain functions" do
    t = random({3, 5}, :f32, 1)
    assert_as_reference(&softmax/1, [t])
    assert_as_reference(&softmax/1, [random({3, 5}, :bf16, 1)], tolerance: 4.0e-2)
  end

  describe "while" do
    test "until a condition fails" do
      for n <- [1, 2, 7, 27], do: assert_as_reference(&collatz/1, [tensor(n)])
      assert_as_reference(&power_of_two/1, [tensor(10)])
      assert_as_reference(&power_of_two/1, [tensor(0)])
    end

    test "with a single value" do
      assert_as_reference(&count/1, [tensor(5)])
    end

    test "whose condition is of or about the state" do
      for n <- [0, 1, 10], do: assert_as_reference(&triangle/1, [tensor(n)])
      for x <- [1.0, 30.0, 1000.0], do: assert_as_reference(&until_large/1, [tensor([x, x])])
    end

    test "within while" do
      assert_as_reference(&nested_loops/1, [tensor(6)])
    end
  end

  describe "cond" do
    test "takes the first branch that holds" do
      for x <- [-3, 0, 5], do: assert_as_reference(&sign_name/1, [tensor(x)])
    end

    test "shares what is used outside" do
      for values <- [[1.0, 2.0], [-1.0, 2.0], [-1.0, -2.0]],
          do: assert_as_reference(&shared_nodes/1, [tensor(values)])
    end

    test "within cond" do
      for x <- [-1, 1, 2, 4, 6], do: assert_as_reference(&nested_conds/1, [tensor(x)])
    end

    test "holds loops" do
      for x <- [-1, 4], do: assert_as_reference(&loop_in_branch/1, [tensor(x)])
    end

    test "a predicate that is NaN holds" do
      nan = Nx.tensor(:nan, backend: Nx.BinaryBackend)
      assert_as_reference(&if_nonzero/1, [nan])
    end
  end

  defn(if_nonzero(x), do: if(x, do: 1, else: 2))

  describe "containers" do
    test "go in and come out" do
      point = %Point{x: Nx.tensor([1, 2]), y: Nx.tensor(3.0), label: "here"}
      result = containers(point, {Nx.tensor(10), %{b: 2}})
      assert %{point: %Point{label: "here", x: x, y: y}, list: {first, {second, third}}} = result
      assert Nx.to_list(x) == [11, 12]
      assert Nx.to_number(y) == 6.0
      assert Nx.to_list(first) == [1, 2]
      assert {Nx.to_number(second), Nx.to_number(third)} == {3.0, 1}
    end

    test "an input may be a result, and a result constant" do
      t = Nx.tensor([1, 2])
      assert Nx.to_list(identity(t)) == [1, 2]
      assert {one, list} = constant_result(t)
      assert {Nx.to_number(one), Nx.to_list(list)} == {1, [1, 2, 3]}
      assert Nx.to_list(Nx.Defn.jit_apply(fn a, b -> {b, a, a} end, [t, t]) |> elem(2)) == [1, 2]
    end

    test "may be empty" do
      assert Nx.Defn.jit_apply(fn _ -> {} end, [Nx.tensor(1)]) == {}
    end

    test "names stay" do
      t = Nx.tensor([[1, 2]], names: [:a, :b])
      assert Nx.Defn.jit_apply(&Nx.sum(&1, axes: [:a]), [t]).names == [:b]
    end
  end

  test "gradients" do
    w = random({3}, :f32, 2)
    x = random({5, 3}, :f32, 3)
    y = random({5}, :f32, 4)
    assert_as_reference(&step/3, [w, x, y], tolerance: 1.0e-5)
    assert_as_reference(&loop_gradient/1, [tensor([1.0, 2.0])])
  end

  test "random numbers are the reference's" do
    key = with_reference(fn -> Nx.Random.key(42) end)
    uniform = &Nx.Random.uniform(&1, shape: {10})
    assert_as_reference(uniform, [key], tolerance: 0.0)
    assert_as_reference(&Nx.Random.randint(&1, 0, 100, shape: {10}), [key], tolerance: 0.0)
    assert_as_reference(&noise/1, [key])
  end

  test "vectorized tensors" do
    t = random({3, 4}, :f32, 5)
    vectorized = Nx.vectorize(Nx.backend_copy(t, EMLX.Backend), :rows)
    sums = Nx.Defn.jit_apply(&Nx.sum/1, [vectorized])
    assert sums.vectorized_axes == [rows: 3]
    expected = with_reference(fn -> Nx.sum(t, axes: [1]) end)
    assert_close(Nx.devectorize(sums, keep_names: false), expected)

    absolute = fn x -> Nx.Defn.jit_apply(&vectorized_cond/1, [x]) end
    result = absolute.(Nx.vectorize(Nx.tensor([-1, 0, 2]), :rows))
    assert result |> Nx.devectorize() |> Nx.to_list() == [1, 0, 2]
  end

  defn vectorized_cond(x) do
    cond do
      x < 0 -> -x
      x > 0 -> x
      true -> 0
    end
  end

  describe "arguments" do
    test "that are not used are not asked for" do
      fun = EMLX.__compile__(:key, [parameter({2}, 0), parameter({2}, 1)], &sum_first/1, [])
      first = fn -> Nx.tensor([1, 2]) end
      assert [result] = fun.([[first, fn -> flunk("not needed") end]])
      assert Nx.to_number(result) == 3
      assert Nx.to_number(unused_argument(Nx.tensor(1), Nx.tensor(2))) == 3
    end

    test "may live on another backend, or be numbers" do
      assert Nx.to_number(unused_argument(1, Nx.tensor(2, backend: Nx.BinaryBackend))) == 3
      assert Nx.to_number(unused_argument(1, 2)) == 3
    end

    test "cannot be expressions" do
      fun = fn _ -> Nx.Defn.jit_apply(&identity/1, [Nx.tensor(1)], on_conflict: :force) end
      assert_raise ArgumentError, fn -> Nx.Defn.jit_apply(fun, [Nx.tensor(1)]) end
    end
  end

  defp parameter(shape, i), do: Nx.Defn.Expr.parameter(Nx.template(shape, :s32), :root, i)
  defp sum_first([a, _b]), do: Nx.sum(a)

  describe "compiled functions" do
    test "are traced once" do
      test = self()

      fun = fn t ->
        send(test, :traced)
        Nx.add(t, 1)
      end

      compiled = Nx.Defn.compile(fun, [Nx.template({2}, :s32)])
      for i <- 1..3, do: assert(Nx.to_list(compiled.(Nx.tensor([i, 0]))) == [i + 1, 1])
      assert_received :traced
      refute_received :traced
    end

    test "run with one native call" do
      x = Nx.tensor([1, 2])
      compiled = Nx.Defn.compile(&Nx.add(&1, 1), [x])
      test = self()

      listener =
        spawn_link(fn ->
          for _ <- Stream.cycle([:ok]) do
            receive do
              {:trace, ^test, :call, {EMLX.NIF, name, _}} -> send(test, {:called, name})
            end
          end
        end)

      :erlang.trace_pattern({EMLX.NIF, :_, :_}, true, [:local])
      :erlang.trace(test, true, [:call, {:tracer, listener}])
      result = compiled.(x)
      :erlang.trace(test, false, [:call])
      :erlang.trace_pattern({EMLX.NIF, :_, :_}, false, [:local])
      assert Nx.to_list(result) == [2, 3]
      assert_receive {:called, :program_run}
      refute_receive {:called, _}, 50
    end

    test "work in other processes" do
      compiled = Nx.Defn.compile(&softmax/1, [Nx.template({2}, :f32)])
      t = Nx.tensor([1.0, 1.0])
      tasks = for _ <- 1..50, do: Task.async(fn -> Nx.to_list(compiled.(t)) end)
      assert Enum.uniq(Task.await_many(tasks)) == [[0.5, 0.5]]
    end
  end

  describe "the cache" do
    test "compiles once for many processes" do
      test = self()
      unique = make_ref()

      fun = fn t ->
        send(test, {unique, :traced})
        Process.sleep(50)
        Nx.add(t, 1)
      end

      tasks =
        for _ <- 1..20 do
          Task.async(fn ->
            Nx.default_backend(EMLX.Backend)
            Nx.to_number(Nx.Defn.jit_apply(fun, [Nx.tensor(1)], compiler: EMLX))
          end)
        end

      assert Enum.uniq(Task.await_many(tasks)) == [2]
      assert_received {^unique, :traced}
      refute_received {^unique, :traced}
    end

    test "tells types, shapes and names apart" do
      fun = &Nx.add(&1, 1)

      for t <- [
            Nx.tensor(1),
            Nx.tensor([1]),
            Nx.tensor([1], type: :u8),
            Nx.tensor([1], names: [:a])
          ] do
        result = Nx.Defn.jit_apply(fun, [t])
        assert {result.shape, result.type, result.names} == {t.shape, t.type, t.names}
      end
    end

    test "passes the work on when a process fails or dies" do
      key = make_ref()
      test = self()

      assert_raise RuntimeError, fn -> EMLX.Cache.fetch(key, fn -> raise "no" end) end

      first =
        spawn(fn ->
          EMLX.Cache.fetch(key, fn ->
            send(test, :first)
            Process.sleep(:infinity)
          end)
        end)

      assert_receive :first
      second = Task.async(fn -> EMLX.Cache.fetch(key, fn -> :value end) end)
      Process.sleep(20)
      Process.exit(first, :kill)
      assert Task.await(second) == :value
      assert EMLX.Cache.fetch(key, fn -> :other end) == :value
    end
  end

  describe "options" do
    test "say where results live" do
      assert Nx.Defn.to_backend(compiler: EMLX) == {EMLX.Backend, device: EMLX.default_device()}
      assert Nx.Defn.to_backend(compiler: EMLX, device: :cpu) == {EMLX.Backend, device: :cpu}
      assert EMLX.__partitions_options__(max_concurrency: 3) |> length() == 3
    end

    # Of Nx.Serving, the evaluator, Axon.build/2, Axon.predict/4, Bumblebee's servings, and EXLA.
    @foreign [batch_keys: [:default], garbage_collect: true, mode: :inference, seed: 1] ++
               [
                 debug: true,
                 print_values: true,
                 global_layer_options: [output_hidden_states: true]
               ] ++
               [force_garbage_collection?: true, cache: "model", lazy_transfers: :always] ++
               [client: :host, device_id: 0, precision: :high, run_options: [], ordinal: 0] ++
               [module_compilation: :to_mlir, preallocate_params: true, type: :f32]

    test "of others are left alone" do
      for options <- [@foreign | Enum.map(@foreign, &[&1])] do
        assert Nx.to_number(Nx.Defn.jit_apply(&Nx.add/2, [1, 2], options)) == 3
        assert Nx.to_number(Nx.Defn.compile(&Nx.add/2, [1, 2], options).(1, 2)) == 3
      end
    end

    test "that are nearly ours are refused" do
      for name <-
            [:devise, :divice, :devices, :dveice, :devic, :hook, :hoooks, :command_queues] ++
              [:commandqueue, :max_concurency, :max_concurrecny] do
        message = ~r/has no option \{:#{name}, :cpu\}; it takes :device, :engine, :hooks/

        assert_raise ArgumentError, message, fn ->
          Nx.Defn.jit_apply(&Nx.add/2, [1, 2], [{name, :cpu}])
        end

        assert_raise ArgumentError, message, fn ->
          Nx.Defn.compile(&Nx.add/2, [1, 2], [{:debug, true}, {name, :cpu}])
        end
      end
    end

    test "that are wrong are refused" do
      for count <- [0, -1, "2"],
          message = ~r/:max_concurrency must be a positive integer, got: / do
        options = [compiler: EMLX, max_concurrency: count]
        assert_raise ArgumentError, message, fn -> EMLX.__partitions_options__(options) end

        assert_raise ArgumentError, message, fn ->
          Nx.Defn.jit_apply(&Nx.add/2, [1, 2], options)
        end
      end

      assert_raise ArgumentError, ~r/the hook :sum must be a function of one argument/, fn ->
        Nx.Defn.jit_apply(&Nx.add/2, [1, 2], hooks: %{sum: &Nx.add/2})
      end
    end

    test "a device that is not there is refused" do
      assert_raise ArgumentError, ~r/GPU/, fn ->
        Nx.Defn.jit_apply(&Nx.add/2, [1, 2], device: {:gpu, 99})
      end
    end
  end

  describe "a graph cut into stages" do
    test "gives what the whole gives" do
      fun = fn x, y ->
        shared = Nx.exp(Nx.add(x, y))
        first = Nx.sum(shared)
        Nx.multiply(Nx.dot(shared, Nx.sin(x)), Nx.add(first, y))
      end

      args = [random({4}, :f32, 7), random({4}, :f32, 8)]
      expr = apply(Nx.Defn.debug_expr(fun), args)

      for op <- [:dot, :sum] do
        graph = split_before(expr, op)
        assert length(graph) > 1

        assert_close(
          Nx.Defn.Graph.run(graph, args, compiler: EMLX),
          with_reference(fn -> apply(fun, args) end)
        )
      end
    end

    defp split_before(expr, op) do
      Nx.Defn.Graph.split(expr, fn
        %Nx.Tensor{data: %Nx.Defn.Expr{op: ^op}} -> :before
        _node -> :none
      end)
    end
  end

  if Code.ensure_loaded!(Nx) |> function_exported?(:donatable, 1) do
    test "what is returned is not marked as donated" do
      fun = Nx.Defn.jit(fn a, b -> {a, Nx.add(a, b)} end)
      {same, sum} = fun.(Nx.donatable(tensor([1, 2])), tensor([3, 4]))
      assert {Nx.to_list(same), Nx.to_list(sum)} == {[1, 2], [4, 6]}
      refute Nx.donatable?(same) or Nx.donatable?(sum)
    end
  end

  test "a serving runs with it" do
    serving =
      Nx.Serving.new(&Nx.Defn.jit(fn %{x: x} -> Nx.multiply(x, 2) end, &1), compiler: EMLX)
      |> Nx.Serving.batch_size(4)

    batch = Nx.Batch.stack([%{x: Nx.tensor([1, 2])}, %{x: Nx.tensor([3, 4])}])
    assert serving |> Nx.Serving.run(batch) |> Nx.to_list() == [[2, 4], [6, 8]]
  end

  defp tensor(value), do: Nx.tensor(value, backend: Nx.BinaryBackend)
end
