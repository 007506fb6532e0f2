# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Backend do
  @moduledoc """
  An `Nx.Backend` whose tensors live in the native library.

      Nx.default_backend(EMLX.Backend)
      Nx.default_backend({EMLX.Backend, device: :gpu})

  Operations are lazy: they check their operands, are recorded, and return in
  microseconds. What a tensor needs is computed together, fused, when the tensor
  is read, for example by `Nx.to_binary/1` or by printing it. Reading waits in
  the calling process only; no scheduler of the VM is ever blocked.

  Operands that live on `Nx.BinaryBackend` are copied to the device of the other
  operands.

  ## Options

    * `:device` - `:cpu`, or `:gpu` for the GPU that this build can use; `{:gpu, 1}` is the
      second one. Defaults to `EMLX.default_device/0`. The names that `mix emlx.doctor` lists
      are devices as well, as `:"cuda:1"` is, and what a tensor on `{:gpu, 1}` says it is on.

    * `:engine` - whose GPU is meant: `:native`, which is EMLX's own engine for CUDA, or `:mlx`.
      Defaults to `config :emlx, engine:`, then to the environment variable `EMLX_ENGINE`, then
      to MLX on a Mac, and elsewhere to the first of the two that has a device.

  ## Errors

  An index out of bounds, an integer division by zero and a negative shift depend
  on values. They are raised by the call when the operand is known, as a literal
  is, and otherwise by the read that needs the result.
  """

  @behaviour Nx.Backend

  defstruct [:ref, :shape, :type, :data, :quantization_config, given: false]

  @typedoc "A tensor's device and its native reference."
  @type ref :: {atom, reference}
  @type t :: %__MODULE__{
          ref: ref,
          shape: tuple,
          type: Nx.Type.t(),
          data: nil,
          quantization_config: EMLX.Quantization.Config.t() | nil,
          given: boolean
        }

  import EMLX.Remote, only: [is_remote: 1]

  alias EMLX.{Call, Debug, Device, Expr, Native, Ops, Pointer}
  alias EMLX.{Quantization, Remote, Telemetry, Types}
  alias EMLX.Quantization.Config
  alias __MODULE__, as: B
  alias Nx.Tensor, as: T

  ## Creation

  @impl true
  def init(options), do: [device: device(options)]

  @impl true
  def constant(out, number, options), do: create(:constant, out, [number], options)

  @impl true
  def iota(out, axis, options), do: create(:iota, out, [axis], options)

  @impl true
  def eye(out, options), do: create(:eye, out, [], options)

  @impl true
  def from_binary(%T{type: type} = out, binary, options),
    do: from_blob(out, Types.unpack(binary, type), device(options))

  @doc false
  # Elements in whole bytes, as they lie in memory.
  @spec from_blob(T.t(), binary, atom) :: T.t()
  def from_blob(%T{type: type, shape: shape} = out, blob, device) do
    ref = Native.from_binary(Native.device(device), Types.to_native(type), shape, blob)
    put(out, device, ref)
  end

  defp device([]), do: EMLX.default_device()
  defp device(device: device) when is_atom(device) and device != nil, do: device
  defp device(options), do: options |> Keyword.validate!([:device, :engine]) |> Device.chosen()

  ## Reading and moving

  @impl true
  def to_binary(%T{data: %B{ref: {_device, ref}}} = tensor, limit) when is_remote(ref),
    do: Remote.call(tensor, __MODULE__, :to_binary, [tensor, limit])

  def to_binary(%T{type: type, shape: shape, data: %B{ref: {device, ref}}} = tensor, limit) do
    check_type(tensor)
    if Debug.enabled?(), do: Debug.check!(tensor, "a tensor that is read")
    bytes = Types.bytes(type, limit)
    metadata = %{device: device, shape: shape, dtype: type, byte_size: bytes}

    Telemetry.span(:to_binary, metadata, fn ->
      ref |> Native.to_binary(bytes, &evaluate(&1, device)) |> Types.pack(type)
    end)
  end

  @doc false
  @spec evaluate([reference], atom) :: :ok
  def evaluate(refs, device) do
    metadata = %{device: device, count: length(refs)}
    Telemetry.span(:eval, metadata, fn -> Native.eval(refs) end)
  end

  @impl true
  def from_pointer(pointer, type, shape, backend_options, options) do
    device = device(backend_options)
    out = %T{type: type, shape: shape, names: options[:names], data: nil}
    put(out, device, Pointer.read(pointer, type, shape, device))
  end

  @impl true
  def to_pointer(%T{data: %B{ref: {device, ref}}} = tensor, options) do
    if is_remote(ref) do
      raise ArgumentError, "a pointer to a tensor of node #{node(ref)} can only be made there"
    end

    check_type(tensor)
    Pointer.new(ref, tensor.type, device, options)
  end

  # The bits of a quantized tensor are no elements.
  defp check_type(%T{data: %B{quantization_config: %Config{}}}) do
    raise ArgumentError,
          "a quantized tensor has no elements to be read; EMLX.Quantization.dequantize/1 gives its numbers"
  end

  # Bits mean something in their own type only. Nx's evaluator may give a tensor another one, as
  # for the gradient of a loop.
  defp check_type(%T{type: type, data: %B{ref: {_device, ref}}} = tensor) do
    case Native.type(ref) |> Types.from_native() do
      ^type ->
        :ok

      other ->
        raise ArgumentError,
              "a tensor is declared as #{Nx.Type.to_string(type)}#{shape_text(tensor)}, and its " <>
                "data is #{Nx.Type.to_string(other)}; Nx.as_type/2 of EMLX.Backend.to_nx/1 of " <>
                "EMLX.Backend.from_nx/1 of it converts what it holds"
    end
  end

  defp shape_text(%T{shape: shape}),
    do: Kernel.inspect(Tuple.to_list(shape), charlists: :as_lists)

  # Between our devices there is no binary on the way.
  @impl true
  def backend_copy(%T{data: %B{ref: {from, ref}}} = tensor, __MODULE__, options)
      when not is_remote(ref) do
    check_type(tensor)
    device = device(options)
    tensor |> Nx.devectorize() |> put(device, copy(ref, from, device))
  end

  def backend_copy(%T{} = tensor, module, options) do
    tensor = Nx.devectorize(tensor)
    module.from_binary(tensor, to_binary(tensor, Nx.size(tensor)), options)
  end

  defp copy(ref, from, device) do
    if device != from, do: evaluate([ref], from)
    Native.copy(ref, Native.device(device))
  end

  @impl true
  def backend_transfer(%T{data: %B{ref: {device, ref}}} = tensor, module, options) do
    if module == __MODULE__ and device(options) == device and not is_remote(ref) do
      tensor
    else
      copy = backend_copy(tensor, module, options)
      backend_deallocate(tensor)
      copy
    end
  end

  @impl true
  def backend_deallocate(%T{data: %B{ref: {_device, ref}}} = tensor) when is_remote(ref),
    do: Remote.call(tensor, __MODULE__, :backend_deallocate, [tensor])

  def backend_deallocate(%T{data: %B{ref: {_device, ref}}}), do: Native.deallocate(ref)

  @impl true
  def to_batched(%T{} = out, %T{} = tensor, options) do
    batch = elem(out.shape, 0)
    total = elem(tensor.shape, 0)
    full = div(total, batch)

    leftover =
      if Keyword.get(options, :leftover, :repeat) == :repeat, do: rem(total, batch), else: 0

    # A stream, so that a batch lives no longer than its consumer wants it.
    Stream.map(0..(full + min(leftover, 1) - 1)//1, fn
      ^full -> repeat(out, tensor, total, leftover, batch)
      index -> rows(out, tensor, index * batch, batch)
    end)
  end

  defp rows(out, %T{shape: shape} = tensor, start, count) do
    rank = tuple_size(shape)
    starts = [start | List.duplicate(0, rank - 1)]
    lengths = [count | tl(Tuple.to_list(shape))]
    out = %{out | shape: put_elem(shape, 0, count)}
    run(:slice, out, [tensor, starts, lengths, List.duplicate(1, rank)])
  end

  # The last batch is completed with the first rows.
  defp repeat(out, tensor, total, rest, batch) do
    run(:concatenate, out, [
      [rows(out, tensor, total - rest, rest), rows(out, tensor, 0, batch - rest)],
      0
    ])
  end

  @impl true
  def inspect(%T{data: %B{quantization_config: %Config{} = config}} = tensor, _options),
    do: add_header(Quantization.describe(config), tensor)

  def inspect(%T{} = tensor, inspect_options) do
    limit = inspect_options.limit
    size = Nx.size(tensor)
    count = if limit == :infinity, do: size, else: min(size, limit + 1)

    tensor
    |> Nx.Backend.inspect(to_binary(tensor, count), inspect_options)
    |> add_header(tensor)
  end

  defp add_header(document, %T{data: %B{ref: {device, ref}}}) do
    if Application.get_env(:emlx, :add_backend_on_inspect, true) do
      "#Ref<" <> rest = ref |> :erlang.ref_to_list() |> List.to_string()

      Inspect.Algebra.concat([
        "EMLX.Backend<#{device}, #{rest}",
        Inspect.Algebra.line(),
        document
      ])
    else
      document
    end
  end

  ## Functions
  #
  # A function that is given to a fold is traced into expressions, which the fold then has
  # inside. One that cannot be, as it looks at values, is called for each element.

  @impl true
  def reduce(out, tensor, start, options, fun),
    do: fold(:reduce, out, [tensor, start, options], tensor.type, fun)

  @impl true
  def window_reduce(out, tensor, start, window, options, fun),
    do: fold(:window_reduce, out, [tensor, start, window, options], out.type, fun)

  defp fold(op, out, [tensor, start | rest] = arguments, type, fun) do
    case trace(&as_tensor(fun.(&1, &2), out.type), [type, out.type], device_of([tensor, start])) do
      {:ok, block} ->
        run(op, out, arguments ++ [block])

      :error ->
        [tensor, start] = Enum.map([tensor, start], &Nx.backend_copy(&1, Nx.BinaryBackend))
        fun = &call(fun, value(&1, type), value(&2, out.type), out.type)
        result = apply(Nx.BinaryBackend, op, [out, tensor, start | rest] ++ [fun])
        Nx.backend_transfer(result, {__MODULE__, device: device_of(arguments)})
    end
  end

  defp call(fun, x, acc, type),
    do: fun.(x, acc) |> as_tensor(type) |> Nx.backend_copy(Nx.BinaryBackend)

  defp value(x, type), do: x |> as_tensor(type) |> Nx.as_type(type)

  defp as_tensor(%T{} = tensor, _type), do: tensor
  defp as_tensor(number, type), do: Nx.tensor(number, type: type, backend: Nx.BinaryBackend)

  defp trace(fun, types, device) do
    {:ok, Expr.trace(fun, types, device: device)}
  rescue
    _ -> :error
  end

  ## Blocks

  @impl true
  def block(struct, out, arguments, default) do
    case Call.block(struct) do
      {op, attributes} ->
        run_op(op, typed(op, out), Enum.filter(arguments, &is_struct(&1, T)), attributes)

      nil ->
        apply(default, [struct | arguments])
    end
  end

  # Nx declares the real type of the operand, but its own definition, and with it a compiled
  # function, has that of the transform's parts.
  defp typed(:irfft, %T{type: type} = out),
    do: %{out | type: type |> Nx.Type.to_complex() |> Nx.Type.to_real()}

  defp typed(_op, out), do: out

  # The transpose of a quantized matrix is one as well.
  @impl true
  def transpose(out, %T{data: %B{quantization_config: %Config{} = config} = data}, [1, 0]) do
    config = %{config | transpose: config.transpose != true}
    %{out | data: %{data | quantization_config: config}}
  end

  def transpose(out, tensor, axes), do: run(:transpose, out, [tensor, axes])

  ## All other operations, from the op table

  callbacks = Nx.Backend.behaviour_info(:callbacks)

  for {name, arity} <- callbacks, not Module.defines?(__MODULE__, {name, arity}) do
    [out | arguments] = Macro.generate_arguments(arity, __MODULE__)

    @impl true
    if Ops.member?(name) do
      def unquote(name)(unquote(out), unquote_splicing(arguments)),
        do: run(unquote(name), unquote(out), unquote(arguments))
    else
      def unquote(name)(unquote(out), unquote_splicing(arguments)) do
        _ = unquote([out | arguments])
        Call.missing(unquote(name))
      end
    end
  end

  defp create(op, out, arguments, options) do
    device = device(options)
    {[], attributes} = Call.new(op, out, arguments)
    apply_native(op, out, device, Native.device(device), [], attributes)
  end

  defp run(:dot, _out, [%T{data: %B{quantization_config: %Config{}}} | _rest]) do
    raise ArgumentError,
          "a quantized left operand of dot is not supported; put it on the right, or give " <>
            "EMLX.Quantization.dequantize/1 of it"
  end

  # The sources of most overflows, and few enough to be computed one by one.
  defp run(op, out, arguments) when op in [:dot, :conv] do
    result = record(op, out, arguments)
    if Debug.enabled?(), do: Debug.check!(result, "the result of #{op}"), else: result
  end

  defp run(op, out, arguments), do: record(op, out, arguments)

  defp record(op, out, arguments) do
    {operands, attributes} = Call.new(op, out, arguments)
    run_op(op, out, operands, attributes)
  end

  defp run_op(op, out, operands, attributes) do
    device = device_of(operands)
    out = of_numbers(out, operands)
    apply_native(op, out, device, nil, native_operands(operands, device), attributes)
  end

  # What would have the type of a quantized operand has that of its numbers.
  defp of_numbers(%T{type: {:s, size} = type} = out, operands) when size <= 8 do
    case Enum.find(
           operands,
           &match?(%T{type: ^type, data: %B{quantization_config: %Config{}}}, &1)
         ) do
      nil -> out
      quantized -> %{out | type: Quantization.dense_type(quantized)}
    end
  end

  defp of_numbers(out, _operands), do: out

  defp apply_native(op, %T{type: type} = out, device, native_device, operands, attributes) do
    put(out, device, Native.apply(op, native_device, operands, attributes, Types.to_native(type)))
  end

  # Several results have the types that Nx gives them.
  defp apply_native(op, outs, device, native_device, operands, attributes) when is_tuple(outs) do
    refs = Native.apply(op, native_device, operands, attributes, nil)
    outs = Enum.zip_with(Tuple.to_list(outs), Tuple.to_list(refs), &put(&1, device, &2))
    List.to_tuple(outs)
  end

  defp native_operands([operand | rest], device),
    do: [native(operand, device) | native_operands(rest, device)]

  defp native_operands([], _device), do: []

  defp device_of([%T{data: %B{ref: {device, _ref}}} | _rest]), do: device
  defp device_of([_operand | rest]), do: device_of(rest)
  defp device_of([]), do: EMLX.default_device()

  ## For the compiler and for users of references

  @doc false
  @spec put(T.t(), atom, reference) :: T.t()
  def put(%T{} = out, device, ref),
    do: %{out | data: %B{ref: {device, ref}, shape: out.shape, type: out.type}}

  @doc false
  # The native reference of a tensor on a device; other tensors are copied there.
  @spec native(T.t(), atom) :: reference
  def native(%T{data: %B{quantization_config: %Config{}}} = tensor, _device),
    do: tensor |> Quantization.native() |> elem(1)

  def native(%T{data: %B{ref: {device, ref}}}, device) when not is_remote(ref), do: ref

  def native(%T{data: %B{ref: {from, ref}}}, device) when not is_remote(ref),
    do: copy(ref, from, device)

  def native(%T{data: %Nx.Defn.Expr{}} = tensor, _device) do
    raise ArgumentError,
          "cannot pass a tensor expression as argument to defn, got: #{Kernel.inspect(tensor)}"
  end

  def native(%T{data: %module{}} = tensor, device) do
    %{data: %B{ref: {_device, ref}}} =
      tensor
      |> Nx.devectorize()
      |> from_binary(module.to_binary(tensor, flat_size(tensor)), device: device)

    ref
  end

  @doc false
  # The same as an input of a program, which may be given to it.
  @spec input(T.t(), atom) :: reference | {:given, reference}
  def input(%T{data: %B{ref: {device, ref}, given: true}}, device), do: {:given, ref}
  def input(tensor, device), do: native(tensor, device)

  @doc false
  @spec give(T.t()) :: T.t()
  def give(%T{data: %B{ref: {_device, ref}, quantization_config: nil} = data} = tensor)
      when not is_remote(ref),
      do: %{tensor | data: %{data | given: true}}

  def give(tensor), do: tensor

  defp flat_size(tensor), do: tensor |> Nx.devectorize() |> Nx.size()

  @doc """
  The device and native reference of a tensor on this backend.
  """
  @spec from_nx(T.t()) :: ref
  def from_nx(%T{data: %B{ref: ref}}), do: ref
  def from_nx(%T{} = tensor), do: tensor |> Nx.backend_copy(EMLX.Backend) |> from_nx()

  @doc """
  A tensor from a device and native reference.

  ## Examples

      iex> t = Nx.tensor([1, 2], backend: EMLX.Backend)
      iex> t |> EMLX.Backend.from_nx() |> EMLX.Backend.to_nx() |> Nx.to_list()
      [1, 2]

  """
  @spec to_nx(ref) :: T.t()
  def to_nx({device, ref}) when is_remote(ref) do
    raise ArgumentError, "the reference on #{inspect(device)} is one of node #{node(ref)}"
  end

  def to_nx({device, ref}) do
    {type, dims, _ready, _depth} = Native.tensor_info(ref)

    put(
      %T{
        type: Types.from_native(type),
        shape: List.to_tuple(dims),
        names: List.duplicate(nil, length(dims)),
        data: nil
      },
      device,
      ref
    )
  end

  @doc """
  As `to_nx/1`, with the names and vectorized axes of a template.
  """
  @spec to_nx(ref, T.t()) :: T.t()
  def to_nx(ref, %T{} = template) do
    tensor = to_nx(ref)
    expected = Nx.devectorize(template)

    if {tensor.type, tensor.shape} != {expected.type, expected.shape} do
      raise ArgumentError,
            "expected a tensor #{Nx.Type.to_string(expected.type)} #{Kernel.inspect(expected.shape)}, " <>
              "got #{Nx.Type.to_string(tensor.type)} #{Kernel.inspect(tensor.shape)}"
    end

    %{template | data: %{tensor.data | shape: template.shape}}
  end
end
