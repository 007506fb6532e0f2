# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Call do
  @moduledoc false
  # How the arguments of an Nx operation become the operands and attributes of
  # the op of that name. The backend and the compiler both go through here.
  #
  # Most clauses are generated: Nx's backend callbacks say how many arguments an
  # operation takes, the op table how many of them are operands and what the
  # attributes are called.

  alias EMLX.{Fast, Ops}
  alias Nx.Tensor, as: T

  # The integers that the native library takes as they are.
  @native -0x8000000000000000..0xFFFFFFFFFFFFFFFF

  @windows [:window_sum, :window_product, :window_max, :window_min]
  @window_scatters [:window_scatter_max, :window_scatter_min]
  @window_options [:padding, :strides, :window_dilations]

  # Operations whose arguments do not map one to one are written out below.
  by_hand =
    @windows ++
      @window_scatters ++
      [
        :constant,
        :iota,
        :eye,
        :dot,
        :slice,
        :put_slice,
        :gather,
        :indexed_add,
        :indexed_put,
        :reduce,
        :window_reduce
      ]

  callbacks = Nx.Backend.behaviour_info(:callbacks)

  generated =
    for %{name: name} = op <- Ops.all(),
        name not in by_hand,
        {^name, arity} <- callbacks,
        do: {op, arity - 1}

  @doc """
  Operands and attributes of the operation `name` with the output template `out`.

  `arguments` are those of the backend callback after `out`, and without the
  options of the backend.
  """
  @spec new(atom, T.t(), list) :: {[T.t()], keyword}
  def new(name, out, arguments)

  for {%{name: name, most: :any, attributes: attributes}, arity} <- generated do
    positional = for %{name: attribute} <- attributes, do: {attribute, Macro.var(attribute, nil)}
    ^arity = 1 + length(positional)

    def new(unquote(name), _out, [operands | unquote(Keyword.values(positional))]),
      do: {operands, unquote(positional)}
  end

  for {%{name: name, most: count, attributes: attributes}, arity} <- generated,
      is_integer(count) do
    operands = Macro.generate_arguments(count, __MODULE__)
    names = for attribute <- attributes, do: attribute.name
    required? = Enum.all?(attributes, & &1.required)

    cond do
      # Only operands: a shape is that of the output.
      arity == count and names in [[], [:shape]] ->
        if names == [] do
          def new(unquote(name), _out, unquote(operands)), do: {unquote(operands), []}
        else
          def new(unquote(name), out, unquote(operands)),
            do: {unquote(operands), [shape: out.shape]}
        end

      # Every attribute is an argument of its own.
      arity == count + length(names) and required? ->
        positional = for name <- names, do: {name, Macro.var(name, nil)}

        def new(unquote(name), _out, unquote(operands ++ Keyword.values(positional))),
          do: {unquote(operands), unquote(positional)}

      # The attributes are options; others that Nx passes mean nothing here.
      arity == count + 1 ->
        def new(unquote(name), _out, unquote(operands) ++ [options]),
          do: {unquote(operands), Keyword.take(options, unquote(names))}

      true ->
        raise "EMLX.Call has no rule for the arguments of #{name}"
    end
  end

  def new(:constant, out, [number]),
    do: {[], shape: out.shape, value: number(number, out.type)}

  def new(:iota, out, [axis]), do: {[], shape: out.shape, axis: axis}
  def new(:eye, out, []), do: {[], shape: out.shape}

  def new(:dot, _out, [left, contract_left, batch_left, right, contract_right, batch_right]) do
    {[left, right],
     contract_left: contract_left,
     batch_left: batch_left,
     contract_right: contract_right,
     batch_right: batch_right}
  end

  def new(:slice, _out, [tensor, starts, lengths, strides]) do
    if Enum.all?(starts, &is_integer/1),
      do: {[tensor], starts: starts, lengths: lengths, strides: strides},
      else: {[tensor | scalars(starts)], lengths: lengths, strides: strides}
  end

  def new(:put_slice, _out, [tensor, starts, slice]) do
    if Enum.all?(starts, &is_integer/1),
      do: {[tensor, slice], starts: starts},
      else: {[tensor, slice | scalars(starts)], []}
  end

  def new(:gather, _out, [tensor, indices, options]),
    do: {[tensor, indices], Keyword.take(options, [:axes])}

  def new(name, _out, [target, indices, updates, options])
      when name in [:indexed_add, :indexed_put],
      do: {[target, indices, updates], Keyword.take(options, [:axes])}

  def new(name, _out, [tensor, window, options]) when name in @windows,
    do: {[tensor], [window: window] ++ Keyword.take(options, @window_options)}

  # Nx has no dilation here.
  def new(name, _out, [tensor, source, init, window, options]) when name in @window_scatters do
    options = Keyword.take(options, [:padding, :strides])
    {[tensor, source, init], [window: window] ++ options}
  end

  def new(:reduce, _out, [tensor, start, options, fun]),
    do: {[tensor, start], [function: fun] ++ Keyword.take(options, [:axes, :keep_axes])}

  def new(:window_reduce, _out, [tensor, start, window, options, fun]) do
    options = Keyword.take(options, @window_options)
    {[tensor, start], [function: fun, window: window] ++ options}
  end

  def new(name, _out, _arguments), do: missing(name)

  @doc """
  The op that computes a block such as `Nx.Block.LogicalNot` natively, with its
  attributes, or nil.
  """
  @spec block(struct) :: {atom, keyword} | nil
  def block(struct)

  for %{name: name, attributes: attributes} <- Ops.all(),
      text = Atom.to_string(name),
      group <- [Nx.Block, Nx.Block.LinAlg],
      module <- Enum.uniq([Macro.camelize(text), String.upcase(text)]),
      module = Module.concat(group, module),
      Code.ensure_loaded?(module) do
    names = for attribute <- attributes, do: attribute.name

    def block(%unquote(module){} = struct),
      do: plain(unquote(name), struct |> Map.take(unquote(names)) |> Map.to_list())
  end

  # Blocks of our own have an op's attributes as their fields.
  for {name, module} <- [
        softmax: Fast.Softmax,
        logsumexp: Fast.LogSumExp,
        rms_norm: Fast.RMSNorm,
        layer_norm: Fast.LayerNorm,
        swiglu: Fast.SwiGLU,
        rope: Fast.Rope,
        attention: Fast.Attention
      ],
      do: def(block(%unquote(module){} = struct), do: plain(unquote(name), fields(struct)))

  def block(_struct), do: nil

  defp fields(struct),
    do: for({_name, value} = field <- Map.from_struct(struct), value != nil, do: field)

  # Attributes are numbers; where one is a tensor, Nx's own definition is used.
  defp plain(name, attributes) do
    unless Enum.any?(attributes, &match?({_name, %T{}}, &1)), do: {name, attributes}
  end

  @doc "Raises that this version has no such operation."
  @spec missing(atom) :: no_return
  def missing(name) do
    raise ArgumentError,
          "EMLX #{unquote(Mix.Project.config()[:version])} has no operation #{name}; to compute " <>
            "it elsewhere, transfer its operands with Nx.backend_transfer/1"
  end

  # Where some starts are tensors, all are operands.
  defp scalars(starts) do
    for start <- starts do
      if is_integer(start),
        do: Nx.tensor(start, type: :s64, backend: Nx.BinaryBackend),
        else: start
    end
  end

  # Integers are brought into the range of 64 bits, as only those are kept.
  defp number(%Complex{re: re, im: im}, _type), do: {re, im}
  defp number(number, {kind, _}) when is_integer(number) and kind in [:u, :s], do: wrap(number)
  defp number(number, _type) when number in @native, do: number
  defp number(number, type) when is_integer(number), do: to_float(number, type)
  defp number(number, _type), do: number

  defp wrap(number) when number in @native, do: number
  defp wrap(number), do: Bitwise.band(number, 0xFFFFFFFFFFFFFFFF)

  # Types narrower than a double round what they are given: it has the bits of a double, the last
  # of them standing for all that follow, so that nothing is rounded twice.
  defp to_float(integer, type) do
    kept = if type in [{:f, 64}, {:c, 128}], do: 64, else: 53
    size = abs(integer)
    shift = length(Integer.digits(size, 2)) - kept

    if shift <= 0 do
      integer * 1.0
    else
      top = Bitwise.bsr(size, shift)
      odd = if Bitwise.bsl(top, shift) == size, do: top, else: Bitwise.bor(top, 1)
      scale(odd, shift, integer < 0)
    end
  end

  defp scale(_odd, shift, negative?) when shift > 1000,
    do: if(negative?, do: :neg_infinity, else: :infinity)

  defp scale(odd, shift, negative?) do
    size = odd * :math.pow(2, shift)
    if negative?, do: -size, else: size
  rescue
    ArithmeticError -> scale(odd, 1001, negative?)
  end
end
