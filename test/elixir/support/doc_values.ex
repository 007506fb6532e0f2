# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DocValues do
  @moduledoc """
  Examples in documentation whose printed digits are the reference's own rounding: what is printed
  must be the same but for the numbers, and those must be close.
  """

  import ExUnit.Assertions

  @number ~r/-?\d+\.\d+(?:e-?\d+)?/

  @doc """
  Runs all examples of a function. An expected result that contains one of the `:skip` texts is
  not compared.
  """
  def assert_examples(module, function, tolerance, options \\ []) do
    compared =
      for {code, expected} <- examples(module, function), reduce: {[], 0} do
        {binding, count} ->
          {result, binding} = run(code, binding)
          skip? = Enum.any?(options[:skip] || [], &String.contains?(expected, &1))
          unless skip? or expected == "", do: assert_shown(result, expected, code, tolerance)
          {binding, if(skip? or expected == "", do: count, else: count + 1)}
      end

    assert elem(compared, 1) > 0, "#{function} has no examples"
  end

  defp run(code, binding) do
    {value, binding} = Code.eval_string("import Nx, only: :sigils\n" <> code, binding)
    {inspect(value), binding}
  rescue
    error in [ArgumentError] -> {"** (ArgumentError) " <> Exception.message(error), binding}
  end

  defp assert_shown(shown, expected, code, tolerance) do
    message = "#{code}\ngives\n#{shown}\nexpected\n#{expected}"
    assert Regex.replace(@number, shown, "_") == Regex.replace(@number, expected, "_"), message

    for {a, b} <- Enum.zip(numbers(shown), numbers(expected)),
        do: assert(abs(a - b) <= tolerance * max(1.0, abs(b)), message)
  end

  defp numbers(text) do
    for [number] <- Regex.scan(@number, text), do: String.to_float(number)
  end

  # Pairs of code and what is expected to be printed, "" for nothing.
  defp examples(module, function) do
    {:docs_v1, _, _, _, _, _, docs} = Code.fetch_docs(module)

    for {{:function, ^function, _arity}, _, _, %{"en" => text}, _} <- docs,
        example <- text |> String.split("\n") |> Enum.map(&unindent/1) |> collect(),
        do: example
  end

  defp unindent("    " <> line), do: line
  defp unindent(_text), do: ""

  defp collect(lines) do
    lines
    |> Enum.chunk_while([], &chunk/2, &{:cont, Enum.reverse(&1), []})
    |> Enum.reject(&(&1 == []))
    |> Enum.map(fn [first | rest] ->
      {code, shown} = Enum.split_while(rest, &String.starts_with?(&1, "...>"))
      code = Enum.map_join([first | code], "\n", &String.slice(&1, 5..-1//1))
      {code, shown |> Enum.take_while(&(&1 != "")) |> Enum.join("\n")}
    end)
  end

  # A chunk begins with its prompt; text before the first is dropped.
  defp chunk("iex>" <> _ = line, []), do: {:cont, [line]}
  defp chunk("iex>" <> _ = line, lines), do: {:cont, Enum.reverse(lines), [line]}
  defp chunk(_line, []), do: {:cont, []}
  defp chunk(line, lines), do: {:cont, [line | lines]}
end
