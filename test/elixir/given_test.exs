# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.GivenTest do
  # Inputs that are given to a program: its results take their memory, where nobody else holds it.
  use ExUnit.Case, async: true

  defp state, do: Nx.iota({4096}, type: :f32, backend: EMLX.Backend) |> Nx.add(1) |> EMLX.eval()

  defp step, do: Nx.Defn.jit(&Nx.put_slice(&1, [&2], Nx.tensor([-1.0])), compiler: EMLX)

  defp address(tensor), do: Nx.to_pointer(tensor, mode: :local).address

  test "a step writes over the state that it is given" do
    step = step()
    first = state()
    at = address(first)
    last = Enum.reduce(1..5, first, fn i, state -> step.(EMLX.give(state), i) end)
    assert address(last) == at
    assert [1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 7.0 | _] = Nx.to_list(last)
    assert_raise ArgumentError, ~r/deallocated/, fn -> Nx.to_list(first) end
    assert_raise ArgumentError, ~r/deallocated/, fn -> step.(first, 1) end
  end

  test "containers are given whole, and other arguments are not" do
    {a, b, c} = {state(), state(), state()}

    function = fn {x, %{y: y}}, z -> {Nx.add(x, 1), Nx.multiply(y, Nx.sum(z))} end
    {x, y} = EMLX |> jit(function) |> then(& &1.(EMLX.give({a, %{y: b}}), c))
    assert {Nx.to_number(x[0]), Nx.to_number(y[0])} == {2.0, 4096 * 4097 / 2}
    for t <- [a, b], do: assert_raise(ArgumentError, ~r/deallocated/, fn -> Nx.to_list(t) end)
    assert Nx.to_number(c[0]) == 1.0
  end

  test "what others hold stays as it is" do
    first = state()
    waiting = Nx.add(first, 1)
    second = step().(EMLX.give(first), 0)
    assert Nx.to_number(second[0]) == -1.0
    assert Nx.to_number(waiting[0]) == 2.0
  end

  test "tensors elsewhere are copied" do
    there = Nx.iota({8}, type: :f32, backend: Nx.BinaryBackend)
    assert Nx.to_number(step().(EMLX.give(there), 0)[0]) == -1.0
    assert Nx.to_number(there[0]) == 0.0
  end

  test "a program file's inputs are given as well" do
    path = Path.join(System.tmp_dir!(), "given_#{System.unique_integer([:positive])}.safetensors")
    on_exit(fn -> File.rm(path) end)
    first = state()
    EMLX.export(&Nx.add(&1, 1), [first], path)
    program = EMLX.load(path)
    at = address(first)
    [second] = EMLX.run(program, [EMLX.give(first)])
    assert address(second) == at
    assert Nx.to_number(second[0]) == 2.0
  end

  defp jit(compiler, function), do: Nx.Defn.jit(function, compiler: compiler)
end
