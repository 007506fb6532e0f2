# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Suite.Rewrite do
  @moduledoc """
  What is changed in the code of a test file, so that it can run on EMLX:

    * comparisons outside of guards and numerical definitions, which have an `==` of their own;
    * matches that compare values or name the reference backend, which see such tensors, and so do
      those of messages;
    * modules by name, as `names` says: the compiler that tests ask for becomes ours;
    * the options that a serving is said to start with include our compiler.
  """

  alias EMLX.Suite.{Examples, View}

  @comparisons %{==: true, ===: true, !=: false, !==: false}
  @numerical [:defn, :defnp]

  @doc "The code of a file. `names` are pairs of an alias's parts and the module that it becomes."
  @spec file(Path.t(), [{[atom], module}]) :: Macro.t()
  def file(path, names) do
    path
    |> File.read!()
    |> Code.string_to_quoted!(file: path, columns: true)
    |> rename(Map.new(names))
    |> code()
  end

  @doc "Code whose doctests are those of `EMLX.Suite.Examples`."
  @spec near_examples(Macro.t()) :: Macro.t()
  def near_examples(code) do
    Macro.prewalk(code, fn
      {:doctest, meta, [_module | _] = arguments} ->
        require = {:require, meta, [Examples]}
        {:__block__, meta, [require, {{:., meta, [Examples, :doctest]}, meta, arguments}]}

      node ->
        node
    end)
  end

  # An alias directive keeps its name: what it names is not called there.
  defp rename({:alias, _, _} = directive, _names), do: directive
  defp rename({:__aliases__, _, parts} = name, names), do: Map.get(names, parts, name)

  defp rename({call, meta, arguments}, names),
    do: {rename(call, names), meta, rename(arguments, names)}

  defp rename({left, right}, names), do: {rename(left, names), rename(right, names)}
  defp rename(list, names) when is_list(list), do: Enum.map(list, &rename(&1, names))
  defp rename(other, _names), do: other

  defp code({numerical, _, _} = definition) when numerical in @numerical, do: definition

  defp code({:when, meta, arguments}) do
    {patterns, [guard]} = Enum.split(arguments, -1)
    {:when, meta, code(patterns) ++ [guard]}
  end

  defp code({operator, meta, [left, right]}) when is_map_key(@comparisons, operator) do
    call = call(meta, :equal?, [code(left), code(right)])
    if @comparisons[operator], do: call, else: {:not, meta, [call]}
  end

  defp code({:assert, meta, [{:=, match, [pattern, value]}]}) do
    value = code(value)
    value = if bytes?(pattern), do: call(meta, :view, [value]), else: value
    {:assert, meta, [{:=, match, [pattern, value]}]}
  end

  defp code({:assert_received, meta, [pattern | message]}) do
    pins = for {:^, _, [variable]} <- Macro.prewalker(pattern), do: variable
    views = for variable <- pins, do: {:=, meta, [variable, call(meta, :view, [variable])]}
    views = if views == [], do: [], else: views ++ [call(meta, :view_messages, [])]
    pattern = Macro.prewalk(pattern, &serving_options/1)
    {:__block__, meta, views ++ [{:assert_received, meta, [pattern | message]}]}
  end

  defp code({:alias, _, _} = directive), do: directive
  defp code({:__aliases__, _, _} = name), do: name
  defp code({call, meta, arguments}), do: {code(call), meta, code(arguments)}
  defp code({left, right}), do: {code(left), code(right)}
  defp code(list) when is_list(list), do: Enum.map(list, &code/1)
  defp code(other), do: other

  defp call(meta, name, arguments), do: {{:., meta, [View, name]}, meta, arguments}

  defp bytes?(pattern) do
    nodes = pattern |> Macro.prewalker() |> Enum.to_list()
    variables = for {name, _, context} when is_atom(context) and name != :_ <- nodes, do: name

    variables != Enum.uniq(variables) or
      Enum.any?(nodes, &(match?({:^, _, _}, &1) or &1 == :BinaryBackend))
  end

  defp serving_options([{:batch_keys, keys} | rest]),
    do: [{:batch_keys, keys}, {:compiler, EMLX} | rest]

  defp serving_options(node), do: node
end
