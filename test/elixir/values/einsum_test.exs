# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.EinsumTest do
  # Sums of products against loops over all indices.
  use EMLX.Case, async: false

  defp pair(tensor), do: tensor |> Nx.backend_copy(EMLX.Backend) |> EMLX.Backend.from_nx()

  # All combinations of indices, one product each.
  defp by_hand(inputs, output, tensors) do
    lengths =
      for {t, labels} <- Enum.zip(tensors, inputs),
          pair <- Enum.zip(labels, Tuple.to_list(t.shape)),
          into: %{},
          do: pair

    labels = Map.keys(lengths)
    values = Enum.map(tensors, &(&1 |> Nx.as_type(:s64) |> Nx.to_flat_list()))

    sums =
      for index <- indices(Enum.map(labels, &lengths[&1])), reduce: %{} do
        sums ->
          at = labels |> Enum.zip(index) |> Map.new()

          product =
            Enum.zip_with([tensors, inputs, values], fn [t, names, list] ->
              Enum.at(list, offset(t.shape, Enum.map(names, &at[&1])))
            end)
            |> Enum.product()

          Map.update(sums, Enum.map(output, &at[&1]), product, &(&1 + product))
      end

    for index <- indices(Enum.map(output, &lengths[&1])), do: Map.fetch!(sums, index)
  end

  defp indices([]), do: [[]]

  defp indices([length | rest]),
    do: for(i <- 0..(length - 1), tail <- indices(rest), do: [i | tail])

  defp offset(shape, index) do
    shape
    |> Tuple.to_list()
    |> Enum.zip(index)
    |> Enum.reduce(0, fn {length, i}, sum -> sum * length + i end)
  end

  test "is the sum over all indices of the products" do
    lengths = %{?a => 2, ?b => 3, ?c => 4, ?d => 1, ?e => 2}

    for {text, inputs, output} <- [
          {"ab,bc->ac", ["ab", "bc"], "ac"},
          {"ab,cb", ["ab", "cb"], "ac"},
          {"ba", ["ba"], "ab"},
          {"aa", ["aa"], ""},
          {"aa->a", ["aa"], "a"},
          {"abab->ba", ["abab"], "ba"},
          {"aaba->ab", ["aaba"], "ab"},
          {"abc->", ["abc"], ""},
          {"eab,ebc->eac", ["eab", "ebc"], "eac"},
          {"bea,cbe -> aec", ["bea", "cbe"], "aec"},
          {"a,b->ba", ["a", "b"], "ba"},
          {"a,a->a", ["a", "a"], "a"},
          {",ab->ba", ["", "ab"], "ba"},
          {"ab,bc,cd->ad", ["ab", "bc", "cd"], "ad"},
          {"ab,bb,cda->dc", ["ab", "bb", "cda"], "dc"},
          {"abc,b,cab,e->ae", ["abc", "b", "cab", "e"], "ae"},
          {"ab,ab,ab->", ["ab", "ab", "ab"], ""}
        ],
        type <- [:s32, :u8, :f32] do
      tensors =
        for {labels, i} <- Enum.with_index(inputs) do
          shape = labels |> String.to_charlist() |> Enum.map(&lengths[&1]) |> List.to_tuple()
          random(shape, :s32, i, range: {0, 3}) |> Nx.as_type(type)
        end

      letters = &String.graphemes/1
      expected = by_hand(Enum.map(inputs, letters), letters.(output), tensors)
      expected = Nx.as_type(Nx.tensor(expected, type: :s64), type)

      actual =
        tensors
        |> Enum.map(&pair(Nx.backend_copy(&1, EMLX.Backend)))
        |> EMLX.einsum(text)
        |> EMLX.to_nx()

      assert {text, actual.type} == {text, expected.type}

      assert actual.shape ==
               output |> String.to_charlist() |> Enum.map(&lengths[&1]) |> List.to_tuple()

      assert {text, Nx.to_flat_list(actual)} == {text, Nx.to_flat_list(expected)}
    end
  end

  test "multiplies a chain from its cheap end" do
    [a, b] = for shape <- [{2000, 2}, {2, 2000}], do: pair(random(shape, :f32, 1))
    before = EMLX.memory_info().active_memory
    EMLX.reset_peak_memory()
    result = EMLX.einsum([a, b, a], "ij,jk,kl->il")
    EMLX.eval(result)
    # The product of the first two has 4,000,000 elements.
    assert EMLX.memory_info().peak_memory - before < 4_000_000
    assert EMLX.shape(result) == {2000, 2}
  end

  test "dots stand for the other axes" do
    a = random({2, 3, 4}, :f32, 1)
    b = random({4, 5}, :f32, 2)
    row = random({1, 4}, :f32, 3)
    product = Nx.dot(a, b)

    for {text, operands, wanted} <- [
          {"...j,jk->...k", [a, b], product},
          {"...j,jk", [a, b], product},
          {"i...->...i", [a], Nx.transpose(a, axes: [1, 2, 0])},
          {"...->...", [a], a},
          {"i...->i", [a], Nx.sum(a, axes: [1, 2])},
          {"...,...->...", [a, row], Nx.multiply(a, row)},
          {"...,...", [row, a], Nx.multiply(a, row)},
          {"...j,...j->...", [a, row], Nx.sum(Nx.multiply(a, row), axes: [2])},
          {"...ij->...ji", [a], Nx.transpose(a, axes: [0, 2, 1])},
          {"ij...->ij", [b], b}
        ] do
      actual = EMLX.to_nx(EMLX.einsum(Enum.map(operands, &pair/1), text))
      assert actual.shape == wanted.shape, text
      assert_close(actual, wanted)
    end
  end

  test "says what is wrong" do
    t = pair(Nx.iota({2, 3}))

    for {text, operands, message} <- [
          {"ij,jk", [t], ~r/einsum "ij,jk" describes 2 operands, got: 1/},
          {"ijk->i", [t], ~r/names 3 axes of operand 0, whose shape is \{2, 3\}/},
          {"ij,ij->k", [t, t], ~r/has "k" in the result/},
          {"ij->ii", [t], ~r/has "i" in the result/},
          {"ii->i", [t], ~r/gives "i" the lengths 2 and 3/},
          {"ij,jk->ik", [t, t], ~r/gives "j" the lengths 3 and 2/},
          {"i.->i", [t], ~r/has ".", and only letters name axes/},
          {"...i...->i", [t], ~r/has dots twice for one tensor/},
          {"ijk...->i", [t], ~r/names 3 axes of operand 0, whose shape is \{2, 3\}/},
          {"i...,...->...", [t, pair(Nx.iota({2}))], ~r/the lengths 3 and 2/},
          {"ij->i->j", [t], ~r/more than one arrow/},
          {"", [], ~r/describes 1 operands, got: 0/}
        ] do
      assert_raise ArgumentError, message, fn -> EMLX.einsum(operands, text) end
    end
  end
end
