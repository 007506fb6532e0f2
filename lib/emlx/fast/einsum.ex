# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Einsum do
  @moduledoc false
  # Sums of products by Einstein's notation, made of Nx's operations: diagonals for labels that an
  # operand repeats, sums over labels that nobody else has, and then products of two at a time.
  #
  # A term is a tensor with a label for each of its axes.

  @doc "The sum of products that a text such as \"ij,jk->ik\" describes."
  @spec einsum(String.t(), [Nx.Tensor.t()]) :: Nx.Tensor.t()
  def einsum(subscripts, tensors) when is_binary(subscripts) and is_list(tensors) do
    {inputs, output} = parse(subscripts)

    if length(inputs) != length(tensors) or tensors == [] do
      wrong(subscripts, "describes #{length(inputs)} operands, got: #{length(tensors)}")
    end

    terms = Enum.zip(tensors, inputs)
    check_ranks(subscripts, terms)
    {terms, output} = spread(terms, output)
    check_lengths(subscripts, terms)

    {tensor, labels} = terms |> Enum.map(&diagonals/1) |> reduce(output)
    Nx.transpose(tensor, axes: positions(labels, output))
  end

  ## Reading the text

  defp parse(subscripts) do
    {left, right} =
      case subscripts |> String.replace(" ", "") |> String.split("->") do
        [left] -> {left, nil}
        [left, right] -> {left, right}
        _more -> wrong(subscripts, "has more than one arrow")
      end

    inputs = left |> String.split(",") |> Enum.map(&labels(subscripts, &1))
    output = if right, do: labels(subscripts, right), else: once(List.flatten(inputs))
    check_labels(subscripts, inputs, output)
    {inputs, output}
  end

  # Three dots stand for the axes that have no letter.
  defp labels(subscripts, text) do
    labels = for [label] <- Regex.scan(~r/\.\.\.|./u, text), do: label

    if Enum.count(labels, &(&1 == "...")) > 1 do
      wrong(subscripts, "has dots twice for one tensor")
    end

    labels
  end

  # Without an arrow the result has the labels that occur once, in alphabetical order, behind
  # the axes without a letter.
  defp once(labels) do
    {dots, letters} = Enum.split_with(labels, &(&1 == "..."))
    Enum.uniq(dots) ++ for {label, 1} <- Enum.sort(Enum.frequencies(letters)), do: label
  end

  defp check_labels(subscripts, inputs, output) do
    known = List.flatten(inputs)

    for label <- known ++ output, label != "...", not (label =~ ~r/^[a-zA-Z]$/) do
      wrong(subscripts, "has #{inspect(label)}, and only letters name axes")
    end

    for label <- output -- Enum.uniq(known) do
      wrong(
        subscripts,
        "has #{inspect(label)} in the result, where each label of an operand may " <>
          "occur once"
      )
    end
  end

  defp check_ranks(subscripts, terms) do
    for {{tensor, labels}, i} <- Enum.with_index(terms), not fits?(Nx.rank(tensor), labels) do
      wrong(
        subscripts,
        "names #{length(labels -- ["..."])} axes of operand #{i}, whose shape is #{inspect(tensor.shape)}"
      )
    end
  end

  defp fits?(rank, labels) do
    named = length(labels -- ["..."])
    if "..." in labels, do: rank >= named, else: rank == named
  end

  defp check_lengths(subscripts, terms) do
    for {tensor, labels} <- terms,
        {label, length} <- Enum.zip(labels, Tuple.to_list(tensor.shape)),
        reduce: %{} do
      %{^label => other} when other != length ->
        wrong(subscripts, "gives #{inspect(label)} the lengths #{other} and #{length}")

      lengths ->
        Map.put(lengths, label, length)
    end
  end

  @spec wrong(String.t(), String.t()) :: no_return
  defp wrong(subscripts, what), do: raise(ArgumentError, "einsum #{inspect(subscripts)} #{what}")

  ## Axes without letters

  # Each gets its place from the end as its label. As in other operations an axis of length 1
  # stretches to that of the others: it goes, since the others have it.
  defp spread(terms, output) do
    terms = for {tensor, labels} <- terms, do: {tensor, name_axes(labels, Nx.rank(tensor))}
    places = terms |> labels_of() |> Enum.filter(&is_integer/1) |> Enum.uniq() |> Enum.sort()
    long = MapSet.new(for term <- terms, {place, size} <- places(term), size != 1, do: place)
    output = Enum.flat_map(output, &if(&1 == "...", do: places, else: [&1]))
    {Enum.map(terms, &drop_short(&1, long)), output}
  end

  defp name_axes(labels, rank) do
    count = rank - length(labels) + 1
    Enum.flat_map(labels, &if(&1 == "...", do: Enum.to_list(-count..-1//1), else: [&1]))
  end

  defp places({tensor, labels}),
    do:
      for(
        {place, size} <- Enum.zip(labels, Tuple.to_list(tensor.shape)),
        is_integer(place),
        do: {place, size}
      )

  defp drop_short({tensor, labels} = term, long) do
    short = for {place, 1} <- places(term), place in long, do: place
    {Nx.squeeze(tensor, axes: positions(labels, short)), labels -- short}
  end

  ## Computing

  defp diagonals({tensor, labels}) do
    case labels -- Enum.uniq(labels) do
      [] ->
        {tensor, labels}

      [label | _more] ->
        [first, second | _] = for {^label, axis} <- Enum.with_index(labels), do: axis
        # The axis that is made of two goes last.
        kept = Enum.to_list(0..(length(labels) - 1)) -- [first, second]
        diagonal = tensor |> Nx.transpose(axes: kept ++ [first, second]) |> Nx.take_diagonal()
        diagonals({diagonal, Enum.map(kept, &Enum.at(labels, &1)) ++ [label]})
    end
  end

  defp reduce([term], output), do: sum(term, output)

  defp reduce(terms, output) do
    terms =
      for {term, i} <- Enum.with_index(terms),
          do: sum(term, output ++ labels_of(List.delete_at(terms, i)))

    # The pair with the smallest product first.
    indexed = Enum.with_index(terms)
    pairs = for {a, i} <- indexed, {b, j} <- indexed, i < j, do: {a, b, others(terms, i, j)}

    {a, b, rest} =
      Enum.min_by(pairs, fn {a, b, rest} -> size(a, b, output ++ labels_of(rest)) end)

    reduce([product(a, b, output ++ labels_of(rest)) | rest], output)
  end

  defp others(terms, i, j), do: terms |> List.delete_at(j) |> List.delete_at(i)
  defp labels_of(terms), do: Enum.flat_map(terms, &elem(&1, 1))

  # Sums over what nobody wants; the type stays, as with a product.
  defp sum({tensor, labels}, wanted) do
    case Enum.reject(labels, &(&1 in wanted)) do
      [] ->
        {tensor, labels}

      gone ->
        sum = Nx.sum(tensor, axes: positions(labels, gone))
        {Nx.as_type(sum, Nx.type(tensor)), labels -- gone}
    end
  end

  defp size({a, labels_a}, {b, labels_b}, wanted) do
    lengths =
      Map.merge(
        Map.new(Enum.zip(labels_a, Tuple.to_list(a.shape))),
        Map.new(Enum.zip(labels_b, Tuple.to_list(b.shape)))
      )

    for({label, length} <- lengths, label in wanted, do: length) |> Enum.product()
  end

  # Nx wants the axes of a batch in front.
  defp product({a, labels_a}, {b, labels_b}, wanted) do
    {batch, contracted} =
      labels_a |> Enum.filter(&(&1 in labels_b)) |> Enum.split_with(&(&1 in wanted))

    [{a, axes_a, free_a}, {b, axes_b, free_b}] =
      for {tensor, labels} <- [{a, labels_a}, {b, labels_b}] do
        free = labels -- (batch ++ contracted)
        order = batch ++ free ++ contracted
        {Nx.transpose(tensor, axes: positions(labels, order)), positions(order, contracted), free}
      end

    batch_axes = Enum.to_list(0..(length(batch) - 1)//1)
    {Nx.dot(a, axes_a, batch_axes, b, axes_b, batch_axes), batch ++ free_a ++ free_b}
  end

  defp positions(labels, wanted),
    do: for(label <- wanted, do: Enum.find_index(labels, &(&1 == label)))
end
