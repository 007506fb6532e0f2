# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Expr do
  @moduledoc false
  # Flattens an Nx.Defn.Expr into the plain term from which the native library
  # builds a program: {inputs, instructions, outputs}, with blocks inside for
  # `cond` and `while`. One pass; a node is visited once in each scope.
  #
  # A scope becomes a block. Within it, value -1 - i is its i-th input and value
  # n its n-th result; closing the scope, when all inputs are known, turns them
  # into the native numbering, inputs first.
  #
  # `while` scopes are closed: their inputs are the state. The branches of a
  # `cond` are open: a node that also belongs to a scope around them is computed
  # there, once, and becomes an input of every block of that `cond`. What a branch
  # has for itself stays inside it and runs when the branch is taken. EMLX.Liveness
  # tells the two apart.
  #
  # Nx's gradient of a `while` carries what it adds up in a type that may be narrower
  # than that of what the body gives for it. Such a state is carried in both, merged; so
  # is what is computed from it, and what leaves the program is cast to the type that
  # Nx declares. A scope knows the types of these nodes.
  #
  # Quantized weights are what is unpacked of their parts, which only those do who need their
  # numbers. So branches and loops get the parts: a value that is such weights is known by its
  # scope (`packed`); a block that takes it captures the parts, and a loop that hands it on as it is
  # has them in its state.
  #
  # A hook or runtime call becomes a `call` instruction with a number, where the
  # program stops and asks; what to do then is collected beside the block.

  alias EMLX.{Backend, Call, Liveness, Ops, Packed, Quantization, Scope, Steps, Types}
  alias Nx.Defn.{Composite, Expr}
  alias Nx.Tensor, as: T

  @type block :: {list, list, list}
  @type call ::
          {:hook, callback :: tuple, template :: Nx.Container.t()}
          | {:runtime_call, function, options :: term, template :: Nx.Container.t(),
             result :: Nx.Container.t()}

  @doc """
  Flattens a composite of expressions.

  Returns the block, the indices of the parameters that became its inputs (those
  that are used, or `0..(parameters - 1)` when `:keep` says how many there are),
  and what its calls ask for, by number. Options: `:device`, where literals are
  placed; `:hooks`, the names of hooks that have a function whatever the
  expression says; `:input_names` and `:output_names`; `:quantized`, how parameters are, by
  number; `:bound`, tensors that are parts of the program, by the number of the parameter.
  """
  @spec flatten(Nx.Container.t(), keyword) ::
          {block, [non_neg_integer], %{non_neg_integer => call}}
  def flatten(expr, options) do
    outputs = Composite.flatten_list([expr])

    env = %{
      device: options[:device],
      hooks: options[:hooks] || [],
      quantized: options[:quantized] || %{},
      bound: options[:bound] || %{}
    }

    root = %Scope{params: :inputs, outputs: outputs, env: env}
    {values, scopes} = emit_all(outputs, [root])
    {values, [root]} = cast_all(outputs, values, types(outputs), scopes)

    used = root.captures |> Enum.sort() |> keep(options[:keep], env)
    indices = Enum.map(used, &elem(&1, 0))
    position = indices |> Enum.with_index() |> Map.new()
    names = options[:input_names]

    inputs =
      for {i, spec} <- used, do: put_elem(spec, 0, names && Packed.input_name(names, i))

    block = close(root, inputs, values, options[:output_names], &Map.fetch!(position, &1))
    {block, indices, root.calls}
  end

  @doc """
  Traces a function of scalars of the given types into a block, as ops take one.

  Options are those of `flatten/2`.
  """
  @spec trace(function, [Nx.Type.t()], keyword) :: block
  def trace(fun, types, options) do
    params = Enum.map(types, &Nx.template({}, &1))
    expr = Nx.Defn.debug_expr_apply(fun, params)
    {block, _indices, calls} = flatten(expr, [keep: Enum.map(params, &spec/1)] ++ options)

    if calls != %{} do
      raise ArgumentError,
            "a function that is traced by itself cannot have hooks or runtime calls"
    end

    block
  end

  defp keep(used, nil, _env), do: used

  defp keep(used, specs, env) do
    used = Map.new(used)

    for {spec, i} <- Enum.with_index(specs),
        not is_map_key(env.bound, i),
        {input, spec} <- Packed.inputs(i, spec, env.quantized[i]) do
      {input, Map.get(used, input, spec)}
    end
  end

  @doc "Name (none), type and shape of an input that stands for a tensor."
  def spec(%T{type: type} = tensor), do: {nil, Types.to_native(type), shape(tensor)}

  defp shape(%T{vectorized_axes: [], shape: shape}), do: shape
  defp shape(%T{} = tensor), do: Nx.devectorize(tensor).shape

  ## Values

  defp emit_all(tensors, scopes), do: Enum.map_reduce(tensors, scopes, &emit/2)

  # A node of several results has a tuple of values, which only :elem looks into.
  defp emit(%T{data: %Expr{id: id}} = tensor, [scope | _] = scopes) do
    case scope.memo do
      %{^id => value} ->
        {value, scopes}

      %{} ->
        built =
          if outside?(tensor, scope), do: capture(tensor, scopes), else: build(tensor, scopes)

        case built do
          {value, scopes} -> {value, remember(scopes, id, value)}
          {value, type, scopes} -> {value, scopes |> remember(id, value) |> retype(id, type)}
        end
    end
  end

  defp remember([scope | outer], id, value),
    do: [%{scope | memo: Map.put(scope.memo, id, value)} | outer]

  ## Types that are not the declared ones

  defp retype([scope | outer], id, type),
    do: [%{scope | types: Map.put(scope.types, id, type)} | outer]

  # What `build` gives for a value of this type.
  defp typed(value, %T{type: type}, type, scopes), do: {value, scopes}
  defp typed(value, %T{}, type, scopes), do: {value, type, scopes}

  # The same for several results, whose declared types are those of `tensors`.
  defp typed_all(tensor, values, tensors, types, scopes) do
    value = results(tensor, values)

    cond do
      types == types(tensors) -> {value, scopes}
      is_tuple(value) -> {value, List.to_tuple(types), scopes}
      true -> {value, hd(types), scopes}
    end
  end

  defp types(tensors), do: Enum.map(tensors, & &1.type)

  # A node that has been emitted, with the type of its value.
  defp actual(%T{data: %Expr{id: id}} = tensor, [%Scope{types: types} | _]) do
    case types do
      %{^id => type} when is_atom(elem(type, 0)) -> %{tensor | type: type}
      _declared -> tensor
    end
  end

  defp actual_types(tensors, scopes), do: for(tensor <- tensors, do: actual(tensor, scopes).type)

  # Values of emitted nodes in these types.
  defp cast_all(tensors, values, types, scopes) do
    [tensors, values, types]
    |> Enum.zip()
    |> Enum.map_reduce(scopes, fn {tensor, value, type}, scopes ->
      if actual(tensor, scopes).type == type,
        do: {value, scopes},
        else: add({:as_type, [value], [], Types.to_native(type)}, scopes)
    end)
  end

  defp declared(tensors, values, scopes), do: cast_all(tensors, values, types(tensors), scopes)

  # The type of an operation's result, given what its operands are.
  defp result_type(_op, %T{type: type}, _operands, [%Scope{types: types} | _])
       when types == %{},
       do: type

  # The numbers of quantized weights are floats, whatever is declared.
  defp result_type(op, %T{type: {:s, size} = type}, operands, scopes)
       when size <= 8 and op not in [:as_type, :bitcast] do
    Enum.find_value(operands, type, fn operand ->
      actual = actual(operand, scopes).type
      if operand.type == type and Nx.Type.float?(actual), do: actual
    end)
  end

  defp result_type(op, %T{type: {class, _} = type}, _operands, _scopes)
       when op in [:as_type, :bitcast] or class in [:u, :s],
       do: type

  defp result_type(:select, tensor, [_predicate | operands], scopes),
    do: result_type(:add, tensor, operands, scopes)

  defp result_type(op, tensor, operands, scopes) do
    for operand <- operands, %{type: type} = actual(operand, scopes), type != operand.type do
      if op in [:abs, :real, :imag], do: Nx.Type.to_real(type), else: type
    end
    |> Enum.reduce(tensor.type, &Nx.Type.merge/2)
  end

  ## Scopes

  defp outside?(%T{data: %Expr{op: :parameter}}, scope), do: scope.params == :outer

  defp outside?(
         %T{data: %Expr{op: :elem, id: id, args: [%T{data: %Expr{id: tuple}}, _i]}},
         scope
       ),
       do: is_map_key(scope.outer, id) or is_map_key(scope.outer, tuple)

  defp outside?(%T{data: %Expr{id: id}}, scope), do: is_map_key(scope.outer, id)

  # Captures are shared by the blocks of one cond: value in the outer scope to
  # position and spec.
  defp capture(tensor, [scope | outer]) do
    {value, outer} = emit(tensor, outer)
    actual = actual(tensor, outer)

    {value, scopes} =
      case hd(outer).packed do
        %{^value => packed} ->
          {parts, scope} = Enum.map_reduce(packed.parts, scope, &capture_part/2)
          add_packed(%{packed | parts: parts}, [scope | outer])

        _none ->
          {position, scope} = add_capture(scope, value, spec(actual))
          {-1 - position, [scope | outer]}
      end

    typed(value, tensor, actual.type, scopes)
  end

  defp capture_part({value, spec}, scope) do
    {position, scope} = add_capture(scope, value, spec)
    {{-1 - position, spec}, scope}
  end

  defp add_capture(scope, value, spec) do
    case scope.captures do
      %{^value => {position, _spec}} ->
        {position, scope}

      captures ->
        position = map_size(captures)
        {position, %{scope | captures: Map.put(captures, value, {position, spec})}}
    end
  end

  defp push([scope | outer], instruction, count \\ 1) do
    scope = %{scope | code: [instruction | scope.code], next: scope.next + count}
    [scope | outer]
  end

  defp add(instruction, [%Scope{next: next} | _] = scopes), do: {next, push(scopes, instruction)}

  # Several results have the types that Nx gives them.
  defp add_op(%T{type: {:tuple, count}} = tensor, op, values, attributes, scopes),
    do: add_many({op, values, attributes, nil}, tensor, count, scopes)

  defp add_op(%T{type: type}, op, values, attributes, scopes),
    do: add({op, values, attributes, Types.to_native(type)}, scopes)

  # One value, or a tuple of them where the node is a tuple.
  defp add_many(instruction, tensor, count, scopes) do
    {values, scopes} = add_all(instruction, count, scopes)
    {results(tensor, values), scopes}
  end

  defp add_all(instruction, count, [%Scope{next: next} | _] = scopes),
    do: {Enum.to_list(next..(next + count - 1)//1), push(scopes, instruction, count)}

  defp results(%T{type: {:tuple, _}}, values), do: List.to_tuple(values)
  defp results(%T{}, [value]), do: value

  ## Quantized weights

  # Their numbers, which a product does not ask for.
  defp add_packed(%Packed{attributes: attributes, type: type} = packed, scopes) do
    {value, scopes} = add({:dequantize, Packed.values(packed), attributes, type}, scopes)

    {value, [scope | outer]} =
      if packed.turned?,
        do: add({:transpose, [value], [axes: [1, 0]], type}, scopes),
        else: {value, scopes}

    {value, [%{scope | packed: Map.put(scope.packed, value, packed)} | outer]}
  end

  # Of a literal.
  defp build_packed(tensor, literal, scopes) do
    {_specs, _turned?, _attributes, type} = signature = Quantization.signature(literal)

    {values, scopes} =
      literal
      |> Quantization.tensors()
      |> Enum.map_reduce(scopes, fn part, [scope | _] = scopes ->
        add({:tensor, Backend.native(part, scope.env.device)}, scopes)
      end)

    {value, scopes} = add_packed(Packed.new(signature, values), scopes)
    typed(value, tensor, Types.from_native(type), scopes)
  end

  ## Nodes

  # A parameter whose tensor is part of the program.
  defp build(
         %T{data: %Expr{op: :parameter, args: [i]}} = tensor,
         [%Scope{params: :inputs, inputs: nil, env: %{bound: bound} = env} | _] = scopes
       )
       when is_map_key(bound, i) do
    literal = Map.fetch!(bound, i)

    if Quantization.quantized?(literal),
      do: build_packed(tensor, literal, scopes),
      else: add({:tensor, Backend.native(literal, env.device)}, scopes)
  end

  defp build(
         %T{data: %Expr{op: :parameter, args: [i]}} = tensor,
         [%Scope{params: :inputs, inputs: nil, env: %{quantized: quantized}} = scope | outer]
       )
       when is_map_key(quantized, i) do
    {_specs, _turned?, _attributes, type} = signature = Map.fetch!(quantized, i)
    parts = Packed.inputs(i, nil, signature)
    captures = Enum.into(parts, scope.captures)
    packed = Packed.new(signature, for({input, _spec} <- parts, do: -1 - input))
    {value, scopes} = add_packed(packed, [%{scope | captures: captures} | outer])
    typed(value, tensor, Types.from_native(type), scopes)
  end

  defp build(
         %T{data: %Expr{op: :parameter, args: [i]}} = tensor,
         [%Scope{params: :inputs, inputs: nil} = scope | outer]
       ) do
    {-1 - i, [%{scope | captures: Map.put(scope.captures, i, spec(tensor))} | outer]}
  end

  defp build(
         %T{data: %Expr{op: :parameter, args: [i]}} = tensor,
         [%Scope{params: :inputs, inputs: inputs} | _] = scopes
       ) do
    {place, type, packed} = elem(inputs, i)
    {value, scopes} = if packed, do: add_packed(packed, scopes), else: {-1 - place, scopes}
    typed(value, tensor, type, scopes)
  end

  defp build(
         %T{data: %Expr{op: :parameter, args: [i]}} = tensor,
         [%Scope{params: values} | _] = scopes
       ) do
    {value, type} = elem(values, i)
    typed(value, tensor, type, scopes)
  end

  defp build(%T{data: %Expr{op: :tensor, args: [literal]}}, [scope | _] = scopes),
    do: add({:tensor, Backend.native(literal, scope.env.device)}, scopes)

  defp build(%T{data: %Expr{op: :metadata, args: [expr, _metadata]}} = tensor, scopes) do
    tensors = Composite.flatten_list([expr])
    {values, scopes} = emit_all(tensors, scopes)
    typed_all(tensor, values, tensors, actual_types(tensors, scopes), scopes)
  end

  defp build(%T{data: %Expr{op: :elem, args: [tuple, i]}} = tensor, scopes) do
    {values, [scope | _] = scopes} = emit(tuple, scopes)
    types = scope.types[tuple.data.id]
    typed(elem(values, i), tensor, if(types, do: elem(types, i), else: tensor.type), scopes)
  end

  defp build(%T{data: %Expr{op: :cond, args: [clauses, last]}} = tensor, scopes),
    do: build_cond(tensor, clauses, last, scopes)

  defp build(%T{data: %Expr{op: :while, args: [initial, arg, condition, body]}} = tensor, scopes) do
    [initial, params, body] = Enum.map([initial, arg, body], &Composite.flatten_list([&1]))
    {state, scopes} = emit_all(initial, scopes)
    slots = slots(initial, state, params, body, scopes)
    {body, slots, scopes} = loop_body(body, params, slots, scopes)
    {condition, scopes} = closed_block([condition], params, slots, [condition.type], scopes)
    types = for {type, _packed} <- slots, do: type
    {cast, scopes} = cast_all(initial, state, types, scopes)
    operands = Enum.zip(slots, cast) |> Enum.flat_map(&state_operands/1)
    {values, scopes} = add_all({:while, condition, body, operands}, length(operands), scopes)
    typed_all(tensor, loop_results(slots, state, values), initial, types, scopes)
  end

  defp build(%T{data: %Expr{op: :block, args: [struct, args, default, _]}} = tensor, scopes) do
    operands = Enum.take_while(args, &is_struct(&1, T))
    {values, scopes} = emit_all(operands, scopes)
    types = actual_types(operands, scopes)

    # The native op gives what Nx declares, its definition what the operands make of it.
    case types == types(operands) && Call.block(struct) do
      {op, attributes} -> add_op(tensor, op, values, attributes, scopes)
      _none -> inline(tensor, default, Enum.zip(values, types), scopes)
    end
  end

  # Nx 0.13 calls the node `hook`, the 1.0 line `io_call`.
  defp build(%T{data: %Expr{op: op, args: [expr, callback, _template, _]}} = tensor, scopes)
       when op in [:hook, :io_call] do
    tensors = Composite.flatten_list([expr])
    {values, scopes} = emit_all(tensors, scopes)
    types = actual_types(tensors, scopes)
    typed_all(tensor, values, tensors, types, call_hook(callback, expr, values, scopes))
  end

  defp build(%T{data: %Expr{op: :runtime_call, args: args}} = tensor, scopes) do
    [expr, function, result, options] = args
    tensors = Composite.flatten_list([expr])
    {values, scopes} = emit_all(tensors, scopes)
    {values, scopes} = declared(tensors, values, scopes)
    specs = for output <- Composite.flatten_list([result]), do: output |> spec() |> result_spec()
    call = {:runtime_call, function, options, templates(expr), result}
    {number, scopes} = add_call(call, scopes)
    add_many({:call, number, specs, values}, tensor, length(specs), scopes)
  end

  # A fold cannot stop for a call, which a loop can.
  defp build(%T{data: %Expr{op: op, args: args}} = tensor, scopes)
       when op in [:reduce, :window_reduce] do
    if calls?(List.last(args), scopes),
      do: emit(Steps.loop(tensor), scopes),
      else: build_op(tensor, scopes)
  end

  defp build(tensor, scopes), do: build_op(tensor, scopes)

  defp build_op(%T{data: %Expr{op: op, args: args}} = tensor, scopes) do
    unless Ops.member?(op), do: Call.missing(op)
    {operands, attributes} = Call.new(op, %{tensor | shape: shape(tensor)}, static(op, args))
    {values, scopes} = emit_all(operands, scopes)
    attributes = Enum.map(attributes, &function(&1, scopes))
    # These read bits, or have a function of given types.
    as_declared? = op in [:bitcast, :reduce, :window_reduce]

    {values, scopes} =
      if as_declared?, do: declared(operands, values, scopes), else: {values, scopes}

    type = if as_declared?, do: tensor.type, else: result_type(op, tensor, operands, scopes)
    {value, scopes} = add({op, values, attributes, Types.to_native(type)}, scopes)
    typed(value, tensor, type, scopes)
  end

  # The result of a function may have another type than the fold.
  defp function({name, %T{type: type, data: %Expr{op: :fun, args: [params, body, _]}}}, scopes) do
    body = if body.type == type, do: body, else: Nx.as_type(body, type)
    {block, _scopes} = closed_block([body], params, slots(params), [type], scopes)
    {name, block}
  end

  defp function(attribute, _scopes), do: attribute

  defp calls?(%T{data: %Expr{op: :fun, args: [params, body, _]}}, scopes) do
    {_scope, _values, after_scopes} = open_block([body], slots(params), scopes)
    List.last(after_scopes).calls != List.last(scopes).calls
  end

  # Constant starts make a slice a view.
  defp static(op, [tensor, starts | rest]) when op in [:slice, :put_slice] do
    numbers = Enum.map(starts, &constant/1)
    [tensor, if(Enum.all?(numbers), do: numbers, else: starts) | rest]
  end

  defp static(_op, args), do: args

  defp constant(%T{data: %Expr{op: :constant, args: [number]}}) when is_integer(number),
    do: number

  defp constant(number) when is_integer(number), do: number
  defp constant(_expr), do: nil

  ## Calls to Elixir

  # A hook passes its data on and is told of it, or of another expression that is
  # attached to it. Without a function it is nothing.
  defp call_hook({:token_hook, hooked, callback}, _expr, _values, scopes) do
    {values, scopes} = emit_all(Composite.flatten_list([hooked]), scopes)
    call_hook(callback, hooked, values, scopes)
  end

  defp call_hook(callback, expr, values, [scope | _] = scopes) do
    if called?(callback, scope.env.hooks) do
      {values, scopes} = declared(Composite.flatten_list([expr]), values, scopes)
      {number, scopes} = add_call({:hook, callback, templates(expr)}, scopes)
      push(scopes, {:call, number, [], values}, 0)
    else
      scopes
    end
  end

  defp called?({:named, name, function}, hooks), do: function != nil or name in hooks
  defp called?({:fn, _function}, _hooks), do: true

  defp add_call(call, [%Scope{calls: calls} = root]) do
    number = map_size(calls)
    {number, [%{root | calls: Map.put(calls, number, call)}]}
  end

  defp add_call(call, [scope | outer]) do
    {number, outer} = add_call(call, outer)
    {number, [scope | outer]}
  end

  defp templates(container), do: Composite.traverse(container, &Nx.to_template/1)
  defp result_spec({nil, type, shape}), do: {type, shape}

  ## Blocks' defaults

  # The default of a block is a closed scope of expressions, but needs no native
  # block of its own: its parameters are values of the current one.
  defp inline(tensor, default, values, [scope | outer]) do
    outputs = Composite.flatten_list([default])
    frame = %{scope | params: List.to_tuple(values), outputs: outputs, ids: nil}
    {results, [frame | outer]} = emit_all(outputs, [frame | outer])
    scopes = [%{frame | params: scope.params, outputs: scope.outputs, ids: scope.ids} | outer]
    types = actual_types(outputs, scopes)
    finish_inline(tensor, outputs, types, results, scopes)
  end

  # A default may give another type than the block declares.
  defp finish_inline(%T{type: {:tuple, _}}, _outputs, types, results, scopes),
    do: {List.to_tuple(results), List.to_tuple(types), scopes}

  defp finish_inline(tensor, [%T{type: declared}], [type], [value], scopes)
       when type != declared or tensor.type == declared,
       do: typed(value, tensor, type, scopes)

  defp finish_inline(%T{type: type}, [_output], [_type], [value], scopes),
    do: add({:as_type, [value], [], Types.to_native(type)}, scopes)

  ## Control flow

  # The native library takes some more blocks than these within each other.
  @most_nested 60

  # What the second predicate and the branches after it have in common would run twice,
  # so they become a cond of their own, within the last branch of this one.
  defp build_cond(tensor, [first | clauses], last, [scope | outer]) do
    scope = Scope.with_ids(scope)
    scopes = [scope | outer]
    room? = clauses != [] and length(scopes) + length(clauses) <= @most_nested

    if room? and Liveness.shared?(clauses, last, scope.ids),
      do: flat_cond(tensor, [first], inner_cond(tensor, clauses, last), scopes),
      else: flat_cond(tensor, [first | clauses], last, scopes)
  end

  defp inner_cond(tensor, clauses, last) do
    inner = node(tensor, :cond, [clauses, last])

    case tensor.type do
      {:tuple, _count} ->
        {elements, _count} =
          Composite.traverse(last, 0, &{node(&1, :elem, [inner, &2]), &2 + 1})

        elements

      _type ->
        inner
    end
  end

  defp node(tensor, op, args),
    do: %{tensor | data: %Expr{id: make_ref(), op: op, args: args, context: nil}}

  # The first predicate is computed by the scope around the cond, as it is always
  # needed; its block only hands it on.
  defp flat_cond(tensor, [{predicate, body} | clauses], last, scopes) do
    {first, scopes} = emit(predicate, scopes)
    captures = %{first => {0, spec(actual(predicate, scopes))}}

    parts = [
      {:body, body} | Enum.flat_map(clauses, fn {p, b} -> [{:predicate, p}, {:body, b}] end)
    ]

    {branches, {captures, scopes}} =
      Enum.map_reduce(parts ++ [{:body, last}], {captures, scopes}, fn {kind, part}, acc ->
        {branch, acc} = open_branch(part, acc)
        {{kind, branch}, acc}
      end)

    operands = Enum.sort_by(captures, fn {_value, {position, _spec}} -> position end)
    inputs = for {_value, {_position, spec}} <- operands, do: spec
    outputs = Composite.flatten_list([last])
    types = branch_types(for {:body, branch} <- branches, do: branch)

    close = fn {scope, outputs, values}, types ->
      {values, [scope]} = cast_all(outputs, values, types, [scope])
      close(scope, inputs, values, nil, & &1)
    end

    predicates =
      for {:predicate, {_, [output], _} = branch} <- branches, do: close.(branch, [output.type])

    bodies = for {:body, branch} <- branches, do: close.(branch, types)
    values = for {value, _} <- operands, do: value
    handed_on = close(%Scope{params: :outer, outputs: []}, inputs, [-1], nil, & &1)

    {results, scopes} =
      add_all({:cond, [handed_on | predicates], bodies, values}, length(outputs), scopes)

    typed_all(tensor, results, outputs, types, scopes)
  end

  # All branches give the same types.
  defp branch_types(branches) do
    branches
    |> Enum.map(fn {scope, outputs, _values} -> actual_types(outputs, [scope]) end)
    |> Enum.zip_with(fn types -> Enum.reduce(types, &Nx.Type.merge/2) end)
  end

  defp open_branch(expr, {captures, [outer | _] = scopes}) do
    outputs = Composite.flatten_list([expr])

    branch = %Scope{
      params: :outer,
      outputs: outputs,
      outer: outer.ids,
      captures: captures,
      env: outer.env
    }

    {values, [branch | scopes]} = emit_all(outputs, [branch | scopes])
    {{branch, outputs, values}, {branch.captures, scopes}}
  end

  ## Closed blocks

  # What a parameter of a closed block is: its type, and the weights where it is quantized ones,
  # which are several inputs of the block.
  defp slots(params), do: for(type <- types(params), do: {type, nil})

  # Of a loop. Weights that it hands on as they are stay packed.
  defp slots(initial, state, params, body, [scope | _] = scopes) do
    [actual_types(initial, scopes), types(params), state, Enum.with_index(body)]
    |> Enum.zip_with(fn [actual, declared, value, next] ->
      case {next, scope.packed} do
        {{%T{data: %Expr{op: :parameter, args: [i]}}, i}, %{^value => packed}} ->
          {actual, packed}

        _changed ->
          {Nx.Type.merge(actual, declared), nil}
      end
    end)
  end

  # Slots with the first input of each, of which weights have their parts.
  defp placed(slots) do
    {placed, _count} =
      Enum.map_reduce(slots, 0, fn
        {type, nil}, place ->
          {{place, type, nil}, place + 1}

        {type, packed}, place ->
          {{place, type, Packed.at(packed, place)}, place + length(packed.parts)}
      end)

    placed
  end

  # The outputs of the block have the types that are wanted.
  defp closed_block(outputs, params, slots, wanted, scopes) do
    {scope, values, scopes} = open_block(outputs, slots, scopes)
    {values, [scope]} = cast_all(outputs, values, wanted, [scope])
    {close_block(scope, values, params), scopes}
  end

  defp open_block(outputs, slots, [outer | _] = scopes) do
    inputs = List.to_tuple(placed(slots))
    scope = %Scope{params: :inputs, inputs: inputs, outputs: outputs, env: outer.env}
    {values, [scope | scopes]} = emit_all(outputs, [scope | scopes])
    {scope, values, scopes}
  end

  defp close_block(scope, values, params) do
    inputs =
      [params, Tuple.to_list(scope.inputs)]
      |> Enum.zip()
      |> Enum.flat_map(fn
        {param, {_place, type, nil}} -> [spec(%{param | type: type})]
        {_param, {_place, _type, packed}} -> Packed.specs(packed)
      end)

    close(scope, inputs, values, nil, & &1)
  end

  # Types are widened until the body gives what it takes.
  defp loop_body(body, params, slots, scopes) do
    own = for {output, {_type, nil}} <- Enum.zip(body, slots), do: output
    {scope, values, after_scopes} = open_block(own, slots, scopes)

    case wider(slots, actual_types(own, [scope])) do
      ^slots ->
        wanted = for {type, nil} <- slots, do: type
        {values, [scope]} = cast_all(own, values, wanted, [scope])
        {close_block(scope, next_state(scope, values), params), slots, after_scopes}

      wider ->
        loop_body(body, params, wider, scopes)
    end
  end

  defp wider(slots, actual) do
    {wider, []} =
      Enum.map_reduce(slots, actual, fn
        {type, nil}, [actual | others] -> {{Nx.Type.merge(actual, type), nil}, others}
        packed, others -> {packed, others}
      end)

    wider
  end

  defp next_state(scope, values) do
    {outputs, []} =
      scope.inputs
      |> Tuple.to_list()
      |> Enum.flat_map_reduce(values, fn
        {_place, _type, nil}, [value | values] -> {[value], values}
        {_place, _type, packed}, values -> {Packed.values(packed), values}
      end)

    outputs
  end

  defp state_operands({{_type, nil}, value}), do: [value]
  defp state_operands({{_type, packed}, _value}), do: Packed.values(packed)

  # Weights that were handed on are what they were.
  defp loop_results(slots, state, values) do
    values = List.to_tuple(values)

    for {{place, _type, packed}, before} <- Enum.zip(placed(slots), state),
        do: if(packed, do: before, else: elem(values, place))
  end

  ## Native numbering

  defp close(scope, inputs, outputs, names, position) do
    count = length(inputs)
    number = fn value -> if value < 0, do: position.(-1 - value), else: value + count end

    code =
      Enum.reduce(scope.code, [], fn
        {:tensor, _} = literal, code ->
          [literal | code]

        {op, operands, attributes, type}, code when op not in [:cond, :while, :call] ->
          [{op, Enum.map(operands, number), attributes, type} | code]

        {:call, call, results, operands}, code ->
          [{:call, call, Enum.map(operands, number), results} | code]

        {op, first, second, operands}, code ->
          [{op, first, second, Enum.map(operands, number)} | code]
      end)

    {inputs, code, name_outputs(Enum.map(outputs, number), names)}
  end

  defp name_outputs(values, nil), do: Enum.map(values, &{nil, &1})
  defp name_outputs(values, names), do: Enum.zip(names, values)
end
