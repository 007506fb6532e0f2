# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Quantization do
  @moduledoc """
  Weights of few bits.

  A quantized tensor has the shape of its weights and a type of a few bits, `{:s, 4}` say;
  its `EMLX.Backend` holds the packed elements, and an `EMLX.Quantization.Config` the
  scales. It is a value like others: `Nx.dot/2` with one on the right reads the packed
  weights once, in eager code and in `defn`; `Nx.take/2` of rows unpacks only these; every other
  operation sees the numbers.

      weight = EMLX.Quantization.quantize(dense, type: {:s, 4}, group_size: 64)
      Nx.dot(x, [-1], weight, [1])

  ## Modes

  | mode | bits | group | scales |
  |---|---|---|---|
  | `"affine"` | 2, 3, 4, 6, 8 | 32, 64, 128 | and biases, in the type of the weights |
  | `"mxfp4"`, `"mxfp8"` | 4, 8 | 32 | powers of two |
  | `"nvfp4"` | 4 | 16 | floats of 8 bits |
  | `"q4_0"`, `"q8_0"`, `"q4_k"`, `"q6_k"` | 4, 8, 4, 6 | 32, 32, 32, 16 | among the elements, as in GGUF files |

  The first four are packed as MLX packs them, to the bit. The K modes can be read, not made.

  ## Precision

  A product with few vectors computes with whole numbers of 16 bits where the CPU has the
  instructions for it (level `vnni`: up to 128 vectors, `amx`: up to 32, of `mxfp8` none):
  each 64 numbers of a vector get a step of their own,
  and the result errs by less than 2^-15 of the sum of its terms' sizes, before it is
  rounded to its type. Other products convert weights to the type of the activations.

  ## In `defn`

  Quantized tensors are arguments of compiled functions. There a function cannot make one:
  `quantize/2` works outside of `defn` only. Branches of a `cond` and bodies of a `while` that
  hand one on as it is get it packed, too.
  """

  import Nx.Defn
  alias EMLX.{Backend, Native}
  alias EMLX.Quantization.Config
  alias Nx.Tensor, as: T

  @modes ~w(affine mxfp4 mxfp8 nvfp4 q4_0 q8_0 q4_k q6_k)
  @fixed %{
    "mxfp4" => {32, 4},
    "mxfp8" => {32, 8},
    "nvfp4" => {16, 4},
    "q4_0" => {32, 4},
    "q8_0" => {32, 8},
    "q4_k" => {32, 4},
    "q6_k" => {16, 6}
  }

  @doc """
  Packs a matrix of floats.

  ## Options

    * `:type` - `{:s, 2}`, `{:s, 4}` (the default) or `{:s, 8}`
    * `:bits` - in place of it, also 3 and 6, which count as `{:s, 4}` and `{:s, 8}`
    * `:group_size` - 32, 64 or 128 weights along the last axis share a scale. Defaults to 64,
      or to what the mode has.
    * `:mode` - `"affine"` by default

  ## Examples

      iex> w = Nx.iota({2, 64}, type: :f32, backend: EMLX.Backend)
      iex> q = EMLX.Quantization.quantize(w, group_size: 32)
      iex> {Nx.shape(q), Nx.type(q), EMLX.Quantization.quantized?(q)}
      {{2, 64}, {:s, 4}, true}

  """
  deftransform quantize(tensor, options \\ []) do
    if match?(%T{data: %Nx.Defn.Expr{}}, tensor) do
      raise ArgumentError,
            "EMLX.Quantization.quantize/2 makes quantized tensors outside of defn only; pass them " <>
              "as arguments"
    end

    how = options!(options)

    if Nx.rank(tensor) != 2 do
      raise ArgumentError, "a rank-2 tensor can be quantized, got rank #{Nx.rank(tensor)}"
    end

    {_rows, columns} = shape = Nx.shape(tensor)

    if rem(columns, how.group_size) != 0 do
      raise ArgumentError,
            "the last axis, of length #{columns}, must be divisible by group_size (#{how.group_size})"
    end

    {packed, scales, biases} =
      pack(Backend.from_nx(tensor), how.group_size, how.bits, how.mode)

    new(packed, scales, biases, shape, how)
  end

  @doc "As `quantize/2` with its defaults."
  @spec from_dense(T.t()) :: T.t()
  def from_dense(%T{} = tensor), do: quantize(tensor)

  @doc false
  # Three references; those that the mode has not are nil.
  def pack({device, ref}, group_size, bits, mode) do
    attributes = attributes(mode, bits, group_size)
    {packed, scales, biases} = Native.apply(:quantize, nil, [ref], attributes, nil)
    parts = parts(mode)

    {{device, packed}, if(parts > 1, do: {device, scales}), if(parts > 2, do: {device, biases})}
  end

  @doc false
  def unpack({device, _ref} = packed, scales, biases, group_size, bits, mode, type \\ nil) do
    refs = for {_device, ref} <- [packed, scales, biases], do: ref
    attributes = attributes(mode, bits, group_size)
    type = type && EMLX.Types.to_native(type)
    {device, Native.apply(:dequantize, nil, refs, attributes, type || dense(mode, scales))}
  end

  # The native library has names as atoms.
  @names Map.new(@modes, &{&1, String.to_atom(&1)})

  defp attributes(mode, bits, group_size),
    do: [
      mode: Map.get_lazy(@names, mode, fn -> no_mode(mode) end),
      bits: bits,
      group_size: group_size
    ]

  defp no_mode(mode) do
    raise ArgumentError,
          ":mode must be one of #{Enum.join(@modes, ", ")}, got: #{inspect(mode)}"
  end

  # What numbers become where nobody asks for a type: that of the scales, or what holds them.
  defp dense("affine", {_device, scales}), do: Native.type(scales)
  defp dense("q" <> _, _scales), do: :f32
  defp dense(_mode, _scales), do: :bf16

  defp parts("affine"), do: 3
  defp parts("q" <> _), do: 1
  defp parts(_mode), do: 2

  @doc """
  A quantized tensor of packed elements, scales and biases, as a checkpoint has them: pairs of a
  device and a reference, or tensors; `nil` for what the mode has not.

  `shape` is that of the weights. Options are those of `quantize/2`.
  """
  @spec quantized_tensor(term, term, term, tuple, keyword) :: T.t()
  def quantized_tensor(packed, scales, biases, shape, options \\ []),
    do: new(pair(packed), pair(scales), pair(biases), shape, options!(options))

  defp pair(%T{} = tensor), do: Backend.from_nx(tensor)
  defp pair(other), do: other

  defp new({_device, _ref} = packed, scales, biases, shape, how) do
    # A wrong combination is refused here rather than where it is used.
    values = unpack(packed, scales, biases, how.group_size, how.bits, how.mode)
    dense = Backend.to_nx(values)

    if dense.shape != shape do
      raise ArgumentError,
            "the packed elements are those of shape #{inspect(dense.shape)}, not #{inspect(shape)}"
    end

    config = %Config{
      scales: scales && Backend.to_nx(scales),
      biases: biases && Backend.to_nx(biases),
      group_size: how.group_size,
      bits: how.bits,
      mode: how.mode
    }

    stored = Backend.to_nx(packed)
    %{Nx.template(shape, how.type) | data: %{stored.data | quantization_config: config}}
  end

  @doc """
  The numbers of a quantized tensor.

  They are in the type of the scales, for microscaled modes in bf16, for those of GGUF in f32; in
  `defn` in f32.
  """
  deftransform dequantize(tensor) do
    case tensor do
      %T{data: %Backend{quantization_config: %Config{}}} -> tensor |> native() |> Backend.to_nx()
      %T{data: %Nx.Defn.Expr{}} -> Nx.as_type(tensor, :f32)
    end
  end

  @doc """
  The product of activations with the rows of a quantized tensor: `activation . weights^T`.
  """
  deftransform quantized_matmul(activation, weights) do
    if quantized?(activation) do
      raise ArgumentError,
            "the activation of quantized_matmul/2 must be dense, got two quantized tensors; " <>
              "dequantize one of them"
    end

    unless quantized?(weights) or match?(%T{data: %Nx.Defn.Expr{}}, weights) do
      raise ArgumentError, "the second argument of quantized_matmul/2 must be a quantized tensor"
    end

    product = Nx.dot(activation, [-1], weights, [1])
    Nx.as_type(product, product_type(activation, weights))
  end

  # Scales of floats count among the operands.
  defp product_type(x, %T{data: %Backend{quantization_config: %Config{mode: "affine"} = config}}),
    do: Nx.Type.merge(Nx.type(x), Nx.type(config.scales))

  defp product_type(x, weights), do: Nx.Type.merge(Nx.type(x), Nx.type(weights))

  @doc "Whether a value is a quantized tensor."
  @spec quantized?(term) :: boolean
  def quantized?(%T{data: %Backend{quantization_config: %Config{}}}), do: true
  def quantized?(_other), do: false

  ## For the backend and the compiler

  @doc false
  # The device and the reference of the numbers, which are not computed unless something asks for
  # more than products with them.
  def native(%T{data: %Backend{ref: packed, quantization_config: %Config{} = c}} = tensor) do
    scales = part(c.scales)
    type = dense_type(tensor)
    {device, ref} = unpack(packed, scales, part(c.biases), c.group_size, c.bits, c.mode, type)

    if c.transpose == true,
      do: {device, Native.apply(:transpose, nil, [ref], [axes: [1, 0]], Native.type(ref))},
      else: {device, ref}
  end

  defp part(nil), do: nil
  defp part(tensor), do: Backend.from_nx(tensor)

  @doc false
  # The tensors that a quantized one consists of.
  def tensors(%T{data: %Backend{ref: packed, quantization_config: %Config{} = c}}),
    do: [Backend.to_nx(packed) | Enum.filter([c.scales, c.biases], & &1)]

  @doc false
  # What a program has to know: the parts' types and shapes, and how they are unpacked.
  def signature(%T{data: %Backend{quantization_config: %Config{} = c}} = tensor) do
    specs = for part <- tensors(tensor), do: {nil, EMLX.Types.to_native(part.type), part.shape}
    attributes = attributes(c.mode, c.bits, c.group_size)
    {specs, c.transpose == true, attributes, tensor |> dense_type() |> EMLX.Types.to_native()}
  end

  @doc false
  # The type of the numbers: that of the tensor where it says a float.
  def dense_type(%T{type: type, data: %Backend{quantization_config: %Config{} = c}}) do
    if Nx.Type.float?(type),
      do: type,
      else: c.mode |> dense(part(c.scales)) |> EMLX.Types.from_native()
  end

  @doc false
  def describe(%Config{} = c), do: "#{c.mode}, #{c.bits} bits in groups of #{c.group_size}"

  ## Options

  defp options!(options) do
    options = Keyword.validate!(options, [:type, :bits, :group_size, mode: "affine"])
    mode = options[:mode]

    if mode not in @modes, do: no_mode(mode)
    {group_size, fixed_bits} = Map.get(@fixed, mode, {64, 4})
    type = options[:type] && Nx.Type.normalize!(options[:type])
    bits = options[:bits] || (type && elem(type, 1)) || fixed_bits
    how = %{mode: mode, bits: bits, group_size: options[:group_size] || group_size, type: type}
    check_fixed(how, @fixed[mode])
    %{how | type: type || storage(bits)}
  end

  defp check_fixed(_how, nil), do: :ok

  defp check_fixed(%{mode: mode} = how, {group_size, bits}) do
    if how.group_size != group_size do
      raise ArgumentError,
            "mode #{mode} requires group_size=#{group_size}, got: #{how.group_size}"
    end

    if how.bits != bits do
      raise ArgumentError, "mode #{mode} requires bits=#{bits}, got: #{how.bits}"
    end
  end

  defp storage(bits) when bits <= 2, do: {:s, 2}
  defp storage(bits) when bits <= 4, do: {:s, 4}
  defp storage(_bits), do: {:s, 8}
end
