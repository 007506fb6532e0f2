# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.KeyTest do
  # What compiled programs are remembered by.
  use EMLX.Case, async: true

  alias EMLX.Key

  test "the same function is the same key, and its environment is a part of it" do
    adder = fn n -> fn x -> Nx.add(x, n) end end
    assert Key.new(adder.(1)) == Key.new(adder.(1))
    assert Key.new(adder.(1)) != Key.new(adder.(2))
    assert Key.new(adder.(1)) !== Key.new(adder.(1.0))
    assert Key.new(adder.(0.0)) !== Key.new(adder.(-1.0 * 0))
    assert Key.new(&Nx.add/2) == {&Nx.add/2, []}
    assert Key.new(fn -> adder end) != Key.new(adder)
  end

  test "structs and maps in an environment" do
    key = fn value -> Key.new(fn -> value end) end
    assert key.(1..3) == key.(1..3)
    assert key.(1..3) != key.(1..4)
    assert key.(%{a: [1 | 2]}) != key.(%{a: [1 | 3]})
    assert key.(%{first: 1, last: 3, step: 1}) != key.(1..3)
    assert key.({Range, %{first: 1, last: 3, step: 1}}) != key.(1..3)
    assert key.({:float, <<1.0::float>>}) != key.(1.0)
  end

  test "large binaries are given apart, and compared by what they hold" do
    large = :binary.copy(<<1, 2, 3>>, 100_000)
    copy = :binary.copy(large)
    <<first::binary-size(123_456), _, rest::binary>> = large
    changed = first <> <<0>> <> rest
    assert {key, [^large]} = Key.new(fn -> large end)
    assert :erlang.external_size(key) < 4000
    assert Key.same?([large, large], [large, copy])
    refute Key.same?([large, large], [large, changed])
    assert Key.new(fn -> large end) != Key.new(fn -> [large, 1] end)
  end

  # Each step refers to the one before twice: as a tree it has 2^60 leaves. (And that is what
  # it would become when sent to another process.)
  @tag timeout: 20_000
  test "expressions that share their parts are quick to look up" do
    expr =
      Nx.Defn.debug_expr(fn x -> Enum.reduce(1..60, x, fn _, y -> Nx.add(y, Nx.sin(y)) end) end)

    stages = Nx.Defn.Graph.split(expr.(Nx.template({2}, :f32)), fn _ -> :none end)
    x = Nx.tensor([1.0, 2.0])
    assert %Nx.Tensor{shape: {2}} = Nx.Defn.Graph.run(stages, [x], compiler: EMLX)
  end
end
