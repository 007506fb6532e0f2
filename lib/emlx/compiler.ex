# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Compiler do
  @moduledoc false
  # Programs made from expressions: compile, run, save. EMLX delegates here.

  alias EMLX.{
    Backend,
    Cache,
    CommandQueue,
    Device,
    Expr,
    Key,
    Native,
    Packed,
    Quantization,
    Telemetry
  }

  alias Nx.Defn.Composite

  # What is needed to run: the native program (nil when there is nothing to run),
  # the indices of the parameters it takes, those of them that are matrices, the result with
  # templates for tensors, and what its calls to Elixir ask for.
  @enforce_keys [:ref, :device, :inputs, :matrices, :template, :calls]
  defstruct [:ref, :device, :inputs, :matrices, :template, :calls]

  @options [:device, :engine, :hooks, :command_queue, :max_concurrency]
  @option_names Enum.map(@options, &Atom.to_string/1)

  def jit(key, vars, fun, args_list, options) do
    program = fetch(key, vars, fun, options)
    {args_list, quantized} = ask(program.matrices, args_list)
    program = if quantized == %{}, do: program, else: fetch(key, vars, fun, options, quantized)
    Enum.map(args_list, &run(program, &1, options))
  end

  # Of the arguments that the program takes, matrices may be quantized, which makes another program.
  # They are asked for once: what is lazy may be expensive.
  defp ask([_ | _] = matrices, [args | rest]) do
    {args, quantized} = ask_for(args, 0, matrices, %{})
    {[args | rest], quantized}
  end

  defp ask(_matrices, args_list), do: {args_list, %{}}

  defp ask_for(args, _number, [], quantized), do: {args, quantized}

  defp ask_for([arg | args], number, [number | matrices], quantized) do
    tensor = arg.()

    quantized =
      if Quantization.quantized?(tensor),
        do: Map.put(quantized, number, Quantization.signature(tensor)),
        else: quantized

    {args, quantized} = ask_for(args, number + 1, matrices, quantized)
    {[fn -> tensor end | args], quantized}
  end

  defp ask_for([arg | args], number, matrices, quantized) do
    {args, quantized} = ask_for(args, number + 1, matrices, quantized)
    {[arg | args], quantized}
  end

  def compile_to_function(vars, fun, options) do
    check_options(options)
    program = compile(vars, fun, options)
    fn args_list -> Enum.map(args_list, &run(program, &1, options)) end
  end

  @doc """
  Runs a function on each shard by itself, all of them at the same time.
  """
  def shard_jit(key, mesh, vars, fun, args_list, options) do
    shards = Tuple.product(mesh.shape)

    if length(args_list) != shards do
      raise ArgumentError,
            "the mesh #{inspect(mesh.name)} of shape #{inspect(mesh.shape)} needs arguments for " <>
              "#{shards} shards, got: #{length(args_list)}"
    end

    check_shards(args_list)
    program = fetch(key, vars, fun, options)
    run_all(program, args_list, options)
  end

  defp check_shards([first | rest]) do
    count = length(first)

    for {args, i} <- Enum.with_index(rest, 1), length(args) != count do
      raise ArgumentError,
            "every shard needs the arguments of the first, which has #{count} tensors; " <>
              "shard #{i} has #{length(args)}"
    end
  end

  # `quantized`: how matrices are quantized, by the number of the argument.
  defp fetch(key, vars, fun, options, quantized \\ %{}) do
    check_options(options)
    options = [quantized: quantized] ++ options
    {key, binaries} = Key.new(key)
    key = cache_key(key, vars, options)
    Cache.fetch(key, binaries, fn -> compile(vars, fun, options) end)
  end

  # Hooks are kept out of the key but for their names: the functions change from
  # call to call. Other options do not change the program.
  defp cache_key(key, vars, options),
    do: {key, signatures(vars), device(options), hook_names(options), options[:quantized]}

  # A tuple of a signature's parts hashes faster than a tensor, and no container is
  # taken for it, as the tensors in those are templates.
  defp signatures([%Nx.Tensor{} = var | rest]),
    do: [{var.shape, var.type, var.names, var.vectorized_axes} | signatures(rest)]

  defp signatures([container | rest]), do: [template(container) | signatures(rest)]
  defp signatures([]), do: []

  defp hook_names(options) do
    case options[:hooks] do
      nil -> []
      hooks -> for {name, function} <- hooks, function != nil, do: name
    end
  end

  @doc "Raises where an option of ours is wrong, or nearly one of ours."
  @spec check_options(keyword) :: :ok
  def check_options([{:max_concurrency, _} | rest] = options) do
    _ = partitions(options)
    check_options(rest)
  end

  def check_options([{:hooks, %{} = hooks} | rest]) do
    for {name, hook} <- hooks, hook != nil and not is_function(hook, 1) do
      raise ArgumentError,
            "the hook #{inspect(name)} must be a function of one argument, got: #{inspect(hook)}"
    end

    check_options(rest)
  end

  def check_options([{name, _value} | rest]) when name in @options, do: check_options(rest)
  def check_options([]), do: :ok

  # EXLA's way of saying that the shards are parts of the function's arguments.
  def check_options([{:input_shardings, _} | _rest]) do
    raise ArgumentError,
          "the EMLX compiler computes each shard by itself and takes no :input_shardings; for a " <>
            "function of whole tensors join their shards with Nx.concatenate/2, and use Nx.Defn.jit/2"
  end

  # What others pass is left alone: Nx.Serving adds its batch keys, Axon and Bumblebee hand on the
  # options that they were given, and a program that changes its compiler has those of the last one.
  # But what is nearly one of ours is a slip.
  def check_options([{name, _value} = option | rest]) when is_atom(name) do
    if nearly_ours?(Atom.to_string(name)), do: no_option(option)
    check_options(rest)
  end

  def check_options([unknown | _rest]), do: no_option(unknown)

  defp no_option(unknown) do
    raise ArgumentError,
          "the EMLX compiler has no option #{inspect(unknown)}; " <>
            "it takes #{Enum.map_join(@options, ", ", &inspect/1)}"
  end

  # Equal but for two letters in a row: "devise", "devices" and "hook", but not EXLA's "device_id".
  defp nearly_ours?(name), do: Enum.any?(@option_names, &(differing(name, &1) <= 2))

  defp differing(a, b) do
    prefix = :binary.longest_common_prefix([a, b])
    length = max(byte_size(a), byte_size(b)) - prefix
    shorter = min(byte_size(a), byte_size(b)) - prefix
    length - min(:binary.longest_common_suffix([a, b]), shorter)
  end

  defp compile(vars, fun, options) do
    metadata = %{device: device(options), arguments: length(vars)}
    Telemetry.span(:compile, metadata, fn -> build(vars, fun, options) end)
  end

  defp build(vars, fun, options) do
    device = device(options)
    result = fun.(vars)

    {block, inputs, calls} =
      Expr.flatten(result,
        device: device,
        hooks: hook_names(options),
        quantized: options[:quantized]
      )

    # Without results there is still something to do if there are calls.
    ref =
      if match?({_, _, []}, block) and calls == %{},
        do: nil,
        else: Native.compile(Native.device(device), block)

    %__MODULE__{
      ref: ref,
      device: device,
      inputs: inputs,
      matrices: matrices(vars, inputs),
      template: template(result),
      calls: calls
    }
  end

  defp matrices(vars, inputs) do
    taken = MapSet.new(inputs)

    for {%Nx.Tensor{shape: {_, _}}, i} <- Enum.with_index(Composite.flatten_list(vars)),
        i in taken,
        do: i
  end

  # Nx's main branch marks arguments that may be donated; what is returned has no such mark.
  defp template(container),
    do:
      Composite.traverse(container, &(&1 |> Nx.to_template() |> Map.replace(:donatable?, false)))

  defp run(%__MODULE__{ref: nil, template: template}, _args, _options), do: template

  defp run(%__MODULE__{device: device} = program, args, options) do
    outputs =
      Native.run(
        program.ref,
        inputs(program, args),
        CommandQueue.native(options, device),
        &answer(program, &1, &2, options)
      )

    tensors(program.template, outputs, device)
  end

  defp run_all(%__MODULE__{ref: nil, template: template}, args_list, _options),
    do: Enum.map(args_list, fn _args -> template end)

  defp run_all(%__MODULE__{device: device} = program, args_list, options) do
    program.ref
    |> Native.run_all(
      Enum.map(args_list, &inputs(program, &1)),
      CommandQueue.native(options, device),
      &answer(program, &1, &2, options)
    )
    |> Enum.map(&tensors(program.template, &1, device))
  end

  # Only the arguments that the program takes are asked for: others may be
  # expensive, or raise.
  defp inputs(%__MODULE__{inputs: indices, device: device}, args) do
    args = List.to_tuple(args)
    for i <- indices, do: input(args, Packed.parameter(i), device)
  end

  defp input(args, {i, nil}, device), do: Backend.input(elem(args, i).(), device)

  defp input(args, {i, part}, device) do
    parts = Quantization.tensors(elem(args, i).())
    parts |> Enum.at(part) |> Backend.native(device)
  end

  # Native references as the tensors of a container.
  defp tensors(template, refs, device) do
    {result, []} =
      Composite.traverse(template, refs, fn template, [ref | rest] ->
        {Backend.put(template, device, ref), rest}
      end)

    result
  end

  def device(options), do: Device.chosen(options)

  @doc "How many partitions a serving has."
  @spec partitions(keyword) :: pos_integer
  def partitions(options) do
    case options[:max_concurrency] do
      nil ->
        1

      count when is_integer(count) and count > 0 ->
        count

      other ->
        raise ArgumentError, ":max_concurrency must be a positive integer, got: #{inspect(other)}"
    end
  end

  ## Calls: in the process that runs the program

  defp answer(%__MODULE__{calls: calls, device: device}, number, operands, options) do
    case Map.fetch!(calls, number) do
      {:hook, callback, template} ->
        function = hook_function(callback, options[:hooks] || %{})
        function.(tensors(template, operands, device))
        []

      {:runtime_call, function, call_options, template, result} ->
        template
        |> tensors(operands, device)
        |> function.(call_options)
        |> results(result, device)
    end
  end

  defp hook_function({:fn, function}, _hooks), do: function
  defp hook_function({:named, name, function}, hooks), do: hooks[name] || function

  defp results(given, template, device) do
    unless Nx.compatible?(template, given) do
      raise "expected the runtime_call function to match the given output template " <>
              "#{inspect(template)}, got: #{inspect(given)}"
    end

    for tensor <- Composite.flatten_list([given]),
        do: tensor |> Nx.to_tensor() |> Backend.native(device)
  end

  ## Export: Nx.Defn.compile/3 is asked to compile with this module

  @doc """
  What is known of the tensors of some arguments, by their number: how they are quantized, and those
  of the arguments that are to be part of the program, by name.
  """
  @spec known([{String.t(), term}], [String.t()]) :: keyword
  def known(arguments, constants) do
    leaves = Enum.flat_map(arguments, &leaves/1) |> Enum.with_index()

    quantized =
      for {{_name, tensor}, i} <- leaves,
          Quantization.quantized?(tensor),
          into: %{},
          do: {i, Quantization.signature(tensor)}

    bound = for {{name, tensor}, i} <- leaves, name in constants, into: %{}, do: {i, tensor}
    [quantized: quantized, bound: bound]
  end

  # As Nx takes arguments apart.
  defp leaves({name, argument}) do
    {_argument, leaves} =
      Nx.LazyContainer.traverse(argument, [], fn _template, tensor, leaves ->
        {nil, [{name, tensor.()} | leaves]}
      end)

    Enum.reverse(leaves)
  end

  def __compile__(_key, vars, fun, options) do
    result = fun.(vars)

    {block, _inputs, calls} =
      Expr.flatten(result,
        device: :cpu,
        hooks: hook_names(options),
        quantized: options[:quantized],
        bound: options[:bound],
        keep: vars |> Composite.flatten_list() |> Enum.map(&Expr.spec/1),
        input_names:
          options |> Keyword.fetch!(:names) |> Enum.zip(vars) |> Enum.flat_map(&paths/1),
        output_names: paths({nil, result})
      )

    if calls != %{} do
      raise ArgumentError,
            "a function with hooks (print_value/1 is one) or Nx.runtime_call/4 cannot be " <>
              "exported: where the program runs, there is no Elixir to call"
    end

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
