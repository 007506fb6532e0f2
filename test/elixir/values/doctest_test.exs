# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctestTest do
  # Nx's own documentation, all of it, run on this backend and compiler. Linear algebra, whose
  # digits are in part the reference's own, is in linalg_test.exs; the values of the few other
  # examples that no backend can give as printed are compared here.
  use EMLX.Case, async: true

  import EMLX.DocValues
  import ExUnit.CaptureIO
  import Nx.Defn.Kernel, only: [assert_keys: 2, keyword!: 2]

  # The last digit of the f64 that these print is that of the reference's formula or of libm, half a
  # unit to one and a half off; ours is that of the exact result.
  @by_value [:acosh, :atanh, :erfc, :expm1, :sigmoid, :sinh]

  doctest Nx, except: for(name <- @by_value, do: {name, 1})

  for name <- @by_value do
    test "examples of #{name}" do
      assert_examples(Nx, unquote(name), 1.0e-15)
    end
  end

  test "the last digits of what is compared by value" do
    exact = [
      acosh: {2.0, 1.3169578969248168},
      atanh: {0.5, 0.5493061443340549},
      erfc: {2.0, 0.004677734981047266},
      expm1: {1.0, 1.7182818284590453},
      sigmoid: {2.0, 0.8807970779778824},
      sinh: {2.0, 3.6268604078470186}
    ]

    for {name, {x, result}} <- exact do
      assert Nx.to_number(apply(Nx, name, [Nx.tensor(x, type: :f64)])) == result
    end
  end

  doctest Nx.Batch
  doctest Nx.Constants
  doctest Nx.Defn
  # One compares lists of tensors by `===`, which looks at references.
  doctest Nx.Defn.Composite, except: [flatten_list: 2]

  # The inputs of a later stage come in the order of references, which depends on the schedulers that
  # the process was on when it made them.
  doctest Nx.Defn.Graph, except: [split: 2]
  doctest Nx.Defn.Kernel
  doctest Nx.Floating
  doctest Nx.Random
  # Examples in its introduction print while they run, and use modules that are not defined.
  doctest Nx.Serving, except: [:moduledoc]
  doctest Nx.Shape
  doctest Nx.Type

  test "Nx.Defn.Composite.flatten_list/2" do
    flatten = &Nx.Defn.Composite.flatten_list/2
    assert flatten.([1, {2, 3}], []) == [1, 2, 3]
    assert [1, 2, 3, four] = flatten.([1, {2, 3}], [Nx.tensor(4)])
    assert Nx.to_number(four) == 4
    assert [pair] = flatten.([%{a: Nx.tensor([1, 2])}], [])
    assert_close(pair, reference([1, 2]))
  end

  test "Nx.Defn.Graph.split/2" do
    expr = Nx.Defn.debug_expr(&(&1 |> Nx.negate() |> Nx.sin() |> Nx.cos() |> Nx.add(&2))).(1, 2)
    before_cos = fn t -> if t.data.op == :cos, do: :before, else: :none end
    assert [%{expr: {sin}}, %{expr: sum}] = Nx.Defn.Graph.split(expr, before_cos)

    assert operations(sin) == [
             "parameter a:0   s32",
             "b = negate a    s32",
             "c = sin b       f32"
           ]

    assert [a, c, "b = cos a       f32", "d = add b, c    f32"] = operations(sum)

    assert [a, c] in [
             ["parameter a:1   f32", "parameter c:0   s32"],
             ["parameter a:0   f32", "parameter c:1   s32"]
           ]
  end

  defp operations(expr) do
    [_, text] = expr |> inspect() |> String.split("Nx.Defn.Expr\n")
    for line <- String.split(text, "\n"), line = String.trim(line), line != ">", do: line
  end

  describe "the introduction of Nx.Serving" do
    defmodule MyDefn do
      import Nx.Defn

      defn print_and_multiply(x) do
        x = print_value(x, label: "debug")
        x * 2
      end
    end

    defmodule MyServing do
      @behaviour Nx.Serving

      @impl true
      def init(_inline_or_process, :unused_arg, [defn_options]),
        do: {:ok, Nx.Defn.jit(&MyDefn.print_and_multiply/1, defn_options)}

      @impl true
      def handle_batch(batch, 0, function),
        do: {:execute, fn -> {function.(batch), :server_info} end, function}
    end

    test "a function" do
      serving = Nx.Serving.new(fn opts -> Nx.Defn.jit(&MyDefn.print_and_multiply/1, opts) end)
      batch = Nx.Batch.stack([Nx.tensor([1, 2, 3])])
      result = assert_printed([[1, 2, 3]], fn -> Nx.Serving.run(serving, batch) end)
      assert_close(result, reference([[2, 4, 6]]))
    end

    test "preprocessing and postprocessing" do
      serving =
        Nx.Serving.jit(&MyDefn.print_and_multiply/1)
        |> Nx.Serving.client_preprocessing(fn input -> {Nx.Batch.stack(input), :client_info} end)
        |> Nx.Serving.client_postprocessing(&{&1, &2})

      inputs = [Nx.tensor([1, 2]), Nx.tensor([3, 4])]
      run = fn -> Nx.Serving.run(serving, inputs) end
      assert {{result, :server_info}, :client_info} = assert_printed([[1, 2], [3, 4]], run)
      assert_close(result, reference([[2, 4], [6, 8]]))
    end

    test "a process" do
      options = [name: __MODULE__.Process, batch_size: 10, batch_timeout: 100]
      batch = Nx.Batch.stack([Nx.tensor([1, 2, 3]), Nx.tensor([4, 5, 6])])

      # The process prints where the one that starts it does.
      run = fn ->
        serving = Nx.Serving.jit(&MyDefn.print_and_multiply/1)
        {:ok, _} = Nx.Serving.start_link([serving: serving] ++ options)
        Nx.Serving.batched_run(__MODULE__.Process, batch)
      end

      result = assert_printed([[1, 2, 3], [4, 5, 6]], run)
      assert_close(result, reference([[2, 4, 6], [8, 10, 12]]))
    end

    test "a module" do
      serving = Nx.Serving.new(MyServing, :unused_arg)
      batch = Nx.Batch.stack([Nx.tensor([1, 2, 3])])
      result = assert_printed([[1, 2, 3]], fn -> Nx.Serving.run(serving, batch) end)
      assert_close(result, reference([[2, 4, 6]]))
    end

    test "batch keys" do
      args = [Nx.template({10}, :s32)]

      serving =
        Nx.Serving.new(fn
          :double, opts -> Nx.Defn.compile(&Nx.multiply(&1, 2), args, opts)
          :half, opts -> Nx.Defn.compile(&Nx.divide(&1, 2), args, opts)
        end)

      run = &Nx.Serving.run(serving, Nx.Batch.key(Nx.Batch.concatenate([Nx.iota({10})]), &1))
      assert_close(run.(:double), reference(Enum.map(0..9, &(&1 * 2))))
      assert_close(run.(:half), reference(Enum.map(0..9, &(&1 / 2))))
    end
  end

  defp reference(list), do: Nx.tensor(list, backend: Nx.BinaryBackend)

  # Runs a function that prints a tensor as its documentation says, but for the type, which is
  # that of an earlier Nx there.
  defp assert_printed(list, fun) do
    {result, printed} = with_io(fun)
    assert printed == "debug: #{inspect(reference(list))}\n"
    result
  end
end
