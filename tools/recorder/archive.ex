# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Archive do
  @moduledoc """
  Writes files of cases (docs/conformance-format.md), compressed, and their manifest.
  """

  # How a type is stored, and the bytes of a stored number.
  @storage %{
    u2: {"U8", 1},
    u4: {"U8", 1},
    u8: {"U8", 1},
    u16: {"U16", 2},
    u32: {"U32", 4},
    u64: {"U64", 8},
    s2: {"I8", 1},
    s4: {"I8", 1},
    s8: {"I8", 1},
    s16: {"I16", 2},
    s32: {"I32", 4},
    s64: {"I64", 8},
    f8: {"F8_E5M2", 1},
    f8_e4m3fn: {"F8_E4M3", 1},
    bf16: {"BF16", 2},
    f16: {"F16", 2},
    f32: {"F32", 4},
    f64: {"F64", 8},
    c64: {"F32", 4},
    c128: {"F64", 8}
  }

  @alignment 64

  @doc """
  The bytes of a file. `metadata` and `entries` are of a program file that the cases run, and come
  before the cases' own tensors.
  """
  def encode(cases, metadata \\ [], entries \\ []) do
    {cases, {tensors, _count}} = Enum.map_reduce(cases, {%{}, 0}, &name_case/2)

    own =
      for {{type, shape, bytes}, index} <- Enum.sort_by(tensors, &elem(&1, 1)) do
        {dtype, width} = Map.fetch!(@storage, type)
        {width, "c#{index}", dtype, dims(type, shape), bytes}
      end

    text = JSON.encode!(%{"version" => 1, "cases" => cases})
    entries = Enum.sort_by(entries ++ own, fn {width, _, _, _, _} -> -width end)
    header = header(metadata ++ [{"conformance", text}], entries)
    padding = rem(@alignment - rem(8 + byte_size(header), @alignment), @alignment)
    length = byte_size(header) + padding
    data = for {_, _, _, _, bytes} <- entries, do: bytes

    IO.iodata_to_binary([<<length::little-64>>, header, String.duplicate(" ", padding), data])
  end

  defp dims(type, shape) when type in [:c64, :c128], do: Tuple.to_list(shape) ++ [2]
  defp dims(_type, shape), do: Tuple.to_list(shape)

  defp name_case(recorded, tensors) do
    {inputs, tensors} = Enum.map_reduce(recorded.inputs, tensors, &name_tensor/2)
    {outputs, tensors} = Enum.map_reduce(recorded.outputs, tensors, &name_tensor/2)

    object =
      recorded
      |> Map.take([:op, :attrs, :type, :class, :origin, :covers, :decided, :fails])
      |> Map.merge(%{inputs: inputs, outputs: outputs})
      |> Map.reject(fn {_key, value} -> value in [nil, %{}] end)

    {object, tensors}
  end

  defp name_tensor({type, _shape, _bytes} = tensor, {known, count}) do
    case known do
      %{^tensor => index} -> {["c#{index}", type], {known, count}}
      %{} -> {["c#{count}", type], {Map.put(known, tensor, count), count + 1}}
    end
  end

  defp header(metadata, entries) do
    texts = for {key, text} <- metadata, do: [JSON.encode!(key), ":", JSON.encode!(text)]

    {arrays, _end} =
      Enum.map_reduce(entries, 0, fn {_, name, dtype, dims, bytes}, at ->
        next = at + byte_size(bytes)
        entry = %{"dtype" => dtype, "shape" => dims, "data_offsets" => [at, next]}
        {[JSON.encode!(name), ":", JSON.encode!(entry)], next}
      end)

    members =
      Enum.intersperse([["\"__metadata__\":{", Enum.intersperse(texts, ","), "}"] | arrays], ",")

    IO.iodata_to_binary(["{", members, "}"])
  end

  @doc "The metadata and the arrays of a safetensors file, as `encode/3` takes them."
  def decode(<<length::little-64, header::binary-size(length), data::binary>>) do
    {metadata, arrays} = header |> JSON.decode!() |> Map.pop("__metadata__", %{})
    widths = Map.new(Map.values(@storage))

    entries =
      for {name, %{"dtype" => dtype, "shape" => dims, "data_offsets" => [from, to]}} <- arrays do
        {widths[dtype], name, dtype, dims, binary_part(data, from, to - from)}
      end

    {Enum.sort(metadata), Enum.sort_by(entries, &elem(&1, 1))}
  end

  @doc "Writes the files, by name, and the manifest that `emlx conformance` checks them against."
  def write(directory, files) do
    File.mkdir_p!(directory)
    for old <- Path.wildcard(Path.join(directory, "*.safetensors.gz")), do: File.rm!(old)

    lines =
      for {name, bytes} <- Enum.sort(files) do
        File.write!(Path.join(directory, name <> ".safetensors.gz"), gzip(bytes))
        sum = bytes |> :erlang.crc32() |> Integer.to_string(16) |> String.downcase()
        "#{String.pad_leading(sum, 8, "0")} #{byte_size(bytes)} #{name}.safetensors\n"
      end

    File.write!(Path.join(directory, "MANIFEST"), lines)
  end

  defp gzip(bytes) do
    stream = :zlib.open()
    # 31: the largest window, and gzip's header without a time.
    :ok = :zlib.deflateInit(stream, :best_compression, :deflated, 31, 9, :default)
    compressed = :zlib.deflate(stream, bytes, :finish)
    :ok = :zlib.deflateEnd(stream)
    :zlib.close(stream)
    IO.iodata_to_binary(compressed)
  end
end
