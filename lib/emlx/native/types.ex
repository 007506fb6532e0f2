# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Types do
  @moduledoc false
  # Nx's types as the native library names them, and the one difference in how
  # elements are stored: those narrower than a byte take a byte each there,
  # while Nx packs them.

  types =
    for {class, sizes} <- [
          u: [2, 4, 8, 16, 32, 64],
          s: [2, 4, 8, 16, 32, 64],
          f: [8, 16, 32, 64],
          bf: [16],
          c: [64, 128]
        ],
        size <- sizes do
      {{class, size}, :"#{class}#{size}"}
    end ++ [{{:f8_e4m3fn, 8}, :f8_e4m3fn}]

  @doc false
  @spec to_native(Nx.Type.t()) :: atom
  def to_native(type)

  @doc false
  @spec from_native(atom) :: Nx.Type.t()
  def from_native(name)

  for {type, name} <- types do
    def to_native(unquote(type)), do: unquote(name)
    def from_native(unquote(name)), do: unquote(type)
  end

  @doc false
  @spec bytes(Nx.Type.t(), non_neg_integer) :: non_neg_integer
  def bytes({_class, size}, count), do: count * max(div(size, 8), 1)

  @doc false
  @spec unpack(bitstring, Nx.Type.t()) :: binary
  def unpack(bits, {:u, size}) when size < 8,
    do: for(<<x::size(size) <- bits>>, into: <<>>, do: <<x>>)

  def unpack(bits, {:s, size}) when size < 8,
    do: for(<<x::signed-size(size) <- bits>>, into: <<>>, do: <<x>>)

  def unpack(binary, _type), do: binary

  @doc false
  @spec pack(binary, Nx.Type.t()) :: bitstring
  def pack(bytes, {_class, size}) when size < 8,
    do: for(<<x <- bytes>>, into: <<>>, do: <<x::size(size)>>)

  def pack(binary, _type), do: binary
end
