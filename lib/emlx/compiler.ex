# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Compiler do
  @moduledoc false
  # Programs made from expressions: compile, run, save. EMLX delegates here.

  alias EMLX.{Backend, Cache, Expr, Key, Native, Telemetry}
  alias Nx.Defn.Composite

  # What is needed to run: the native program (nil without outputs), the indices
  # of the parameters it takes, and the result with templates for tensors.
  @enforce_keys [:ref, :device, :inputs, :template]
  defstruct [:ref, :device, :inputs, :template]

  def jit(key, vars, fun, args_list, options) do
    program = Cache.fetch(cache_key(key, vars, options), fn -> compile(vars, fun, options) end)
    Enum.map(args_list, &run(program, &1))
  end

  def compile_to_function(vars, fun, options) do
    program = compile(vars, fun, options)
    fn args_list -> Enum.map(args_list, &run(program, &1)) end
  end

  # Hooks are kept out of the key but for their names: the functions change from
  # call to call. Other options do not change the program.
  defp cache_key(key, vars, options) do
    hooks = options |> Keyword.get(:hooks, %{}) |> Map.keys()
    {Key.new(key), Enum.map(vars, &template/1), device(options), hooks}
  end

  defp compile(vars, fun, options) do
    metadata = %{device: device(options), arguments: length(vars)}
    Telemetry.span(:compile, metadata, fn -> build(vars, fun, options) end)
  end

  defp build(vars, fun, options) do
    device = device(options)
    result = fun.(vars)
    {block, inputs} = Expr.flatten(result, device: device, hooks: options[:hooks])

    ref =
      if match?({_, _, []}, block), do: nil, else: Native.compile(Native.device(device), block)

    %__MODULE__{ref: ref, device: device, inputs: inputs, template: template(result)}
  end

  defp template(container), do: Composite.traverse(container, &Nx.to_template/1)

  # Only the arguments that the program takes are asked for: others may be
  # expensive, or raise.
  defp run(%__MODULE__{ref: nil, template: template}, _args), do: template

  defp run(%__MODULE__{device: device} = program, args) do
    args = List.to_tuple(args)
    inputs = for i <- program.inputs, do: Backend.native(elem(args, i).(), device)
    outputs = Native.run(program.ref, inputs)

    {result, []} =
      Composite.traverse(program.template, outputs, fn template, [ref | rest] ->
        {Backend.put(template, device, ref), rest}
      end)

    result
  end

  def device(options), do: options[:device] || EMLX.default_device()

  ## Export: Nx.Defn.compile/3 is asked to compile with this module

  def __compile__(_key, vars, fun, options) do
    result = fun.(vars)

    {block, _inputs} =
      Expr.flatten(result,
        device: :cpu,
        hooks: options[:hooks],
        keep: vars |> Composite.flatten_list() |> Enum.map(&Expr.spec/1),
        input_names:
          options |> Keyword.fetch!(:names) |> Enum.zip(vars) |> Enum.flat_map(&paths/1),
        output_names: paths({nil, result})
      )

    :ok = Native.save(block, Keyword.fetch!(options, :path))
    fn _args -> raise "an exported function cannot be called" end
  end

  # The names of a container's tensors: "params.dense.kernel", "state.0".
  defp paths({name, %Nx.Tensor{}}), do: [name || "output"]

  defp paths({name, container}) do
    for {key, child} <- children(container),
        path <- paths({join(name, key), child}),
        do: path
  end

  defp children(tuple) when is_tuple(tuple),
    do: tuple |> Tuple.to_list() |> Enum.with_index() |> Enum.map(fn {v, i} -> {i, v} end)

  defp children(%_{} = struct) do
    fields = struct |> Map.from_struct() |> Map.to_list()

    struct
    |> Nx.Container.reduce([], &[&1 | &2])
    |> Enum.reverse()
    |> name_children(fields, 0)
  end

  defp children(%{} = map), do: map |> Map.to_list() |> Enum.sort()

  # A container protocol says what its children are, not what they are called.
  defp name_children([child | rest], fields, index) do
    case Enum.find(fields, fn {_field, value} -> value === child end) do
      {field, _value} = found ->
        [{field, child} | name_children(rest, List.delete(fields, found), index + 1)]

      nil ->
        [{index, child} | name_children(rest, fields, index + 1)]
    end
  end

  defp name_children([], _fields, _index), do: []

  # A bare number would read as a position.
  defp join(nil, key) when is_integer(key), do: "output#{key}"
  defp join(nil, key), do: to_name(key)
  defp join(name, key), do: name <> "." <> to_name(key)

  defp to_name(key) when is_binary(key) or is_atom(key) or is_integer(key), do: to_string(key)
  defp to_name(key), do: inspect(key)
end
