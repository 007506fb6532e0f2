# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.HooksTest do
  use EMLX.Case, async: true

  import Nx.Defn

  defmodule Pair do
    @derive {Nx.Container, containers: [:a, :b], keep: [:label]}
    defstruct [:a, :b, :label]
  end

  # Sends what a hook gets to its own process, in the order of the calls.
  def tell(name, value) do
    send(self(), {:told, name, plain(value)})
    :ignored
  end

  defp plain(%Nx.Tensor{} = t), do: {t.shape, t.type, t.vectorized_axes, list(t)}
  defp plain(%Pair{a: a, b: b, label: label}), do: {label, plain(a), plain(b)}
  defp plain(tuple) when is_tuple(tuple), do: tuple |> Tuple.to_list() |> Enum.map(&plain/1)
  defp plain(%{} = map), do: Map.new(map, fn {key, value} -> {key, plain(value)} end)

  defp list(t),
    do: t |> Nx.devectorize() |> Nx.backend_copy(Nx.BinaryBackend) |> Nx.to_flat_list()

  defp told(acc \\ []) do
    receive do
      {:told, name, value} -> told([{name, value} | acc])
    after
      0 -> Enum.reverse(acc)
    end
  end

  # The same result and the same calls in the same order as with Nx's evaluator.
  defp assert_same_calls(fun, args, options \\ []) do
    {expected, calls} =
      with_reference(fn -> {Nx.Defn.jit_apply(fun, args, options), told()} end)

    for _ <- 1..2 do
      assert_close(Nx.Defn.jit_apply(fun, args, [compiler: EMLX] ++ options), expected)
      assert told() == calls
    end

    calls
  end

  defn(plain_hook(a, b), do: hook(a + b, :sum, &tell(:sum, &1)) * 2)

  defn containers(a, b) do
    {x, y} = hook({a, b}, :tuple, &tell(:tuple, &1))
    %{z: z} = hook(%{z: x + y, c: {x}}, &tell(:map, &1))
    z
  end

  # Nx's main branch has no tokens, but calls of this name.
  @tokens? Code.ensure_loaded?(Nx.Defn.Token)
  @io_calls? Code.ensure_loaded!(Nx) |> function_exported?(:io_call, 2)

  if @tokens? do
    defn tokens(a, b) do
      token = create_token()
      {token, b} = hook_token(token, b + 1, :b, &tell(:b, &1))
      {token, a} = hook_token(token, a + b, :a, &tell(:a, &1))
      attach_token(token, {a, b})
    end
  end

  defn in_branches(x) do
    shared = hook(x + 1, &tell(:shared, &1))

    y =
      cond do
        hook(x > 10, &tell(:first, &1)) -> hook(x * 2, &tell(:large, &1)) + shared
        hook(x > 0, &tell(:second, &1)) -> hook(x * 3, &tell(:small, &1)) + shared
        true -> hook(-x, &tell(:negative, &1))
      end

    y + shared
  end

  defn in_loops(n) do
    {_, _, total} =
      while {i = 0, n, total = 0}, hook(i < n, &tell(:outer?, &1)) do
        {_, inner} =
          while {j = 0, inner = i}, j < 2 do
            {j + 1, hook(inner + j, &tell(:inner, &1))}
          end

        total = if Nx.remainder(i, 2) == 0, do: hook(total + inner, &tell(:even, &1)), else: total
        {i + 1, n, hook(total, &tell(:total, &1))}
      end

    total
  end

  describe "hooks" do
    test "get their data, and pass it on" do
      assert [{:sum, {{2}, {:s, 32}, [], [11, 22]}}] =
               assert_same_calls(&plain_hook/2, [tensor([1, 2]), tensor([10, 20])])

      assert [{:tuple, _}, {:map, %{z: _, c: [_]}}] =
               assert_same_calls(&containers/2, [tensor(1.5), tensor([1, 2])])
    end

    test "of containers get them rebuilt" do
      fun = fn a, b -> Nx.Defn.Kernel.hook(%Pair{a: a, b: b, label: "x"}, &tell(:pair, &1)).b end
      assert [{:pair, {"x", _, _}}] = assert_same_calls(fun, [tensor(1), tensor([2, 3])])
    end

    test "of vectorized tensors get them vectorized" do
      fun = &Nx.Defn.Kernel.hook(Nx.add(&1, 1), fn t -> tell(:rows, t) end)
      result = Nx.Defn.jit_apply(fun, [Nx.vectorize(Nx.tensor([[1, 2], [3, 4]]), :rows)])
      assert result.vectorized_axes == [rows: 2]
      assert told() == [rows: {{2}, {:s, 32}, [rows: 2], [2, 3, 4, 5]}]
    end

    if @tokens? do
      test "of tokens" do
        assert [{:b, _}, {:a, _}] = assert_same_calls(&tokens/2, [tensor(1), tensor(2)])
      end
    end

    if @io_calls? do
      test "as io_call, by name and not" do
        fun = fn a, b ->
          {a, b} = Nx.io_call({Nx.add(a, 1), b}, :pair, &tell(:default, &1))
          Nx.multiply(Nx.io_call(a, &tell(:sum, &1)), b)
        end

        args = [tensor([1, 2]), tensor([10, 20])]
        assert [{:default, [_, _]}, {:sum, _}] = assert_same_calls(fun, args)

        other = [hooks: %{pair: &tell(:other, &1)}]
        assert [{:other, [_, _]}, {:sum, _}] = assert_same_calls(fun, args, other)
      end
    end

    test "in branches are called when the branch is taken" do
      for {x, names} <- [
            {20, [:shared, :first, :large]},
            {5, [:shared, :first, :second, :small]},
            {-5, [:shared, :first, :second, :negative]}
          ] do
        calls = assert_branch_calls(x)
        assert calls |> Enum.map(&elem(&1, 0)) |> Enum.sort() == Enum.sort(names)
      end
    end

    # What a branch shares with the code around it is computed before the cond
    # here, and when it is first needed by the evaluator.
    defp assert_branch_calls(x) do
      {expected, calls} =
        with_reference(fn -> {Nx.Defn.jit_apply(&in_branches/1, [tensor(x)]), told()} end)

      assert_close(Nx.Defn.jit_apply(&in_branches/1, [tensor(x)]), expected)
      own = told()
      without = &Enum.reject(&1, fn {name, _} -> name == :shared end)
      assert without.(own) == without.(calls)
      assert Enum.sort(own) == Enum.sort(calls)
      own
    end

    test "in loops are called each time" do
      calls = assert_same_calls(&in_loops/1, [tensor(4)])
      assert Enum.count(calls, &(elem(&1, 0) == :inner)) == 4
      assert [{:outer?, {{}, {:u, 8}, [], [0]}}] = assert_same_calls(&in_loops/1, [tensor(0)])
    end

    test "are called where nothing but them depends on a value" do
      fun = fn x ->
        {kept, _} = Nx.Defn.Kernel.hook({x, Nx.exp(x)}, &tell(:both, &1))
        kept
      end

      assert [{:both, [_, _]}] = assert_same_calls(fun, [tensor(1.0)])
    end

    test "by name are overridden by an option, whose functions are not part of the key" do
      own = fn name -> [hooks: %{sum: &tell(name, &1)}] end
      args = [tensor(1), tensor(2)]

      fun = fn a, b ->
        send(self(), :traced)
        plain_hook(a, b)
      end

      assert [{:mine, _}] = assert_same_calls(fun, args, own.(:mine))
      assert_received :traced
      assert [{:other, _}] = assert_same_calls(fun, args, own.(:other))
      refute_received :traced
      assert [{:sum, _}] = assert_same_calls(fun, args, hooks: %{unrelated: nil})
    end

    test "without a function are nothing" do
      fun = &Nx.Defn.Kernel.hook(&1, :nobody)
      assert assert_same_calls(fun, [tensor(1)]) == []

      assert [{:late, _}] =
               assert_same_calls(fun, [tensor(1)], hooks: %{nobody: &tell(:late, &1)})

      assert assert_same_calls(fun, [tensor(1)]) == []
      assert_raise ArgumentError, fn -> Nx.Defn.jit_apply(fun, [1], hooks: :no_map) end
    end

    test "run in the process that calls, also for compiled functions" do
      compiled = Nx.Defn.compile(&plain_hook/2, [Nx.template({}, :s32), Nx.template({}, :s32)])

      for _ <- 1..2 do
        task = Task.async(fn -> {Nx.to_number(compiled.(1, 2)), told()} end)
        assert {6, [{:sum, {{}, {:s, 32}, [], [3]}}]} = Task.await(task)
      end

      assert told() == []
    end

    test "may compile and run functions" do
      hook = fn t ->
        nested = Nx.Defn.jit_apply(&plain_hook/2, [t, t], compiler: EMLX)
        tell(:nested, Nx.sum(Nx.multiply(nested, 10)))
      end

      queue = EMLX.CommandQueue.new!(EMLX.default_device())

      for options <- [[], [command_queue: queue]] do
        args = [Nx.tensor([1, 2]), Nx.tensor([3, 4])]
        result = Nx.Defn.jit_apply(&plain_hook/2, args, [hooks: %{sum: hook}] ++ options)
        assert Nx.to_list(result) == [8, 12]
        assert [{:sum, {_, _, _, [8, 12]}}, {:nested, {_, _, _, [400]}}] = told()
      end

      EMLX.CommandQueue.with_queue(queue, fn ->
        args = [Nx.tensor([1, 2]), Nx.tensor([3, 4])]
        Nx.Defn.jit_apply(&plain_hook/2, args, hooks: %{sum: hook})
        assert [{:sum, _}, {:nested, {_, _, _, [400]}}] = told()
      end)
    end

    test "keep what they get" do
      hook = fn t -> send(self(), {:kept, t}) end
      loop = fn x -> Nx.add(Nx.Defn.Kernel.hook(Nx.multiply(x, 2), hook), 1) end
      result = Nx.Defn.jit_apply(loop, [Nx.iota({100_000})])
      assert_received {:kept, t}
      assert Nx.to_number(t[99_999]) == 199_998
      assert Nx.to_number(result[99_999]) == 199_999
    end

    test "in gradients" do
      fun = fn t ->
        Nx.Defn.grad(t, &Nx.sum(Nx.Defn.Kernel.hook(Nx.pow(&1, 2), fn x -> tell(:g, x) end)))
      end

      assert_close(Nx.Defn.jit_apply(fun, [Nx.tensor([3.0])]), tensor([6.0]))
    end
  end

  describe "a callback that fails" do
    test "fails the call, and the run is given up" do
      big = fn x -> Nx.multiply(Nx.Defn.Kernel.hook(Nx.add(x, 1), fn _ -> fail() end), 2) end
      # Larger than what tests beside this one hold.
      x = Nx.iota({8_000_000}, type: :f64)
      EMLX.eval(x)

      for {how, check} <- [
            {:raise, &assert_raise(RuntimeError, "hook", &1)},
            {:throw, &(catch_throw(&1.()) == :hook)},
            {:exit, &(catch_exit(&1.()) == :hook)}
          ] do
        Process.put(:how, how)
        before = EMLX.memory_info().active_memory
        assert check.(fn -> Nx.Defn.jit_apply(big, [x]) end)
        # The reference to the run is still on this process' heap, but not its memory.
        assert eventually(fn -> EMLX.memory_info().active_memory < before + 32_000_000 end)
      end
    end

    defp fail do
      case Process.get(:how) do
        :raise -> raise "hook"
        :throw -> throw(:hook)
        :exit -> exit(:hook)
      end
    end

    test "leaves the program as it was" do
      bad = %{sum: fn _ -> raise "no" end}
      args = [Nx.tensor(1), Nx.tensor(2)]
      assert_raise RuntimeError, fn -> Nx.Defn.jit_apply(&plain_hook/2, args, hooks: bad) end

      assert [{:own, _}] =
               assert_same_calls(&plain_hook/2, [tensor(1), tensor(2)],
                 hooks: %{sum: &tell(:own, &1)}
               )
    end
  end

  describe "runtime_call" do
    test "gives the function's result" do
      fun = fn x, y ->
        out = Nx.template({2}, :s32)
        r = Nx.runtime_call(out, {x, %{y: y}}, [by: 3], &__MODULE__.scale/2)
        Nx.add(r, 1)
      end

      assert_same_calls(fun, [tensor([1, 2]), tensor(10)])
      assert Nx.to_list(Nx.Defn.jit_apply(fun, [Nx.tensor([1, 2]), Nx.tensor(10)])) == [34, 37]
    end

    test "gives containers" do
      fun = fn x ->
        out = %{a: Nx.template({}, :f32), b: {Nx.template({3}, :s32)}}

        %{a: a, b: {b}} =
          Nx.runtime_call(out, x, [], fn x, [] -> %{a: Nx.sum(x), b: {Nx.iota({3})}} end)

        {b, Nx.add(a, 1)}
      end

      assert_same_calls(fun, [tensor([1.0, 2.0])])
    end

    test "in loops and branches" do
      assert_same_calls(&loop_of_calls/1, [tensor(5)])
    end

    test "may give tensors of another backend, pending ones and numbers" do
      for make <- [
            fn x, _ -> Nx.backend_copy(x, Nx.BinaryBackend) end,
            fn x, _ -> Nx.add(Nx.as_type(x, :s32), 0) end,
            fn _, _ -> 7 end
          ] do
        fun = fn x -> Nx.add(Nx.runtime_call(Nx.template({}, :s32), x, [], make), 1) end
        assert Nx.to_number(Nx.Defn.jit_apply(fun, [Nx.tensor(7)])) == 8
      end
    end

    test "checks the result" do
      for wrong <- [
            fn x, _ -> Nx.as_type(x, :f32) end,
            fn x, _ -> Nx.new_axis(x, 0) end,
            fn x, _ -> {x, x} end
          ] do
        fun = &Nx.runtime_call(Nx.template({2}, :s32), &1, [], wrong)

        assert_raise RuntimeError, ~r/match the given output template/, fn ->
          Nx.Defn.jit_apply(fun, [Nx.tensor([1, 2])])
        end
      end
    end
  end

  def scale({x, %{y: y}}, by: factor), do: Nx.multiply(Nx.add(x, y), factor)
  def next(x, _options), do: Nx.subtract(x, 1)

  defn loop_of_calls(n) do
    {_, total} =
      while {n, total = 0}, n > 0 do
        total =
          if Nx.remainder(n, 2) == 0, do: total + Nx.runtime_call(n, n, [], &next/2), else: total

        {Nx.runtime_call(n, n, [], &next/2), total}
      end

    total
  end

  describe "branches that are not taken" do
    test "do not run, whatever they hold" do
      assert Nx.to_number(Nx.Defn.jit_apply(&endless_branch/1, [Nx.tensor(1)])) == 2
      assert told() == []
    end
  end

  defn endless_branch(x) do
    if x > 0 do
      x + 1
    else
      {_, y} =
        while {i = 0, x}, i < 2_000_000_000 do
          {i, hook(x + 1, &tell(:never, &1))}
        end

      y
    end
  end

  test "a thousand processes with hooks in loops and branches" do
    tasks =
      for i <- 1..1000 do
        Task.async(fn ->
          n = rem(i, 4)
          result = Nx.Defn.jit_apply(&in_loops/1, [n], compiler: EMLX)
          {n, Nx.to_number(result), told()}
        end)
      end

    results = Task.await_many(tasks, 60_000)

    for {n, group} <- Enum.group_by(results, &elem(&1, 0)) do
      {value, calls} =
        with_reference(fn ->
          {Nx.to_number(Nx.Defn.jit_apply(&in_loops/1, [n])), told()}
        end)

      assert Enum.uniq(group) == [{n, value, calls}]
    end
  end

  # In the function of a fold a hook fires once a step.
  defn in_a_reduction(t) do
    Nx.reduce(t, 1, [axes: [1]], fn x, acc ->
      hook(x * 10 + acc, :step, &tell(:step, &1)) - acc
    end)
  end

  defn in_a_window(t) do
    Nx.window_reduce(t, 0, {1, 2}, [strides: [1, 2], padding: [{0, 0}, {1, 0}]], fn x, acc ->
      hook(x + 2 * acc, :step, &tell(:step, &1))
    end)
  end

  defn in_a_reduction_in_a_branch(t) do
    if Nx.sum(t) > 3 do
      Nx.reduce(t + 1, 1, [keep_axes: true], fn x, acc ->
        x = hook(x, :inside, &tell(:inside, &1))
        x + Nx.reduce(Nx.stack([acc, x]), 1, fn y, z -> hook(y * z, :deep, &tell(:deep, &1)) end)
      end)
    else
      Nx.reshape(t[0][0], {1, 1})
    end
  end

  for name <- [:in_a_reduction, :in_a_window, :in_a_reduction_in_a_branch] do
    test "#{name}" do
      fun = &apply(__MODULE__, unquote(name), [&1])
      t = tensor([[1, 2, 3], [4, 5, 6]])
      {expected, calls} = with_reference(fn -> {Nx.Defn.jit_apply(fun, [t]), told()} end)
      assert length(calls) >= 6
      result = Nx.Defn.jit_apply(fun, [t], compiler: EMLX)
      assert told() == calls
      assert_close(result, expected)
    end
  end

  test "programs with calls are not exported" do
    path = Path.join(System.tmp_dir!(), "emlx_hooks_test.safetensors")

    assert_raise ArgumentError, ~r/cannot be exported/, fn ->
      EMLX.export(&plain_hook/2, [Nx.template({}, :s32), Nx.template({}, :s32)], path)
    end

    refute File.exists?(path)
  end

  defp tensor(value), do: Nx.tensor(value, backend: Nx.BinaryBackend)
end
