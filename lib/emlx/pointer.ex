# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Pointer do
  @moduledoc false
  # `Nx.Pointer`s to tensors, and tensors from them.

  alias EMLX.{Native, Types}
  alias Nx.Pointer

  @doc "A pointer to the memory of a tensor, or to a copy of it in shared memory."
  @spec new(reference, Nx.Type.t(), keyword) :: Pointer.t()
  def new(ref, type, options) do
    options = Keyword.validate!(options, mode: :local, permissions: 0o400)
    whole_bytes!(type)

    case options[:mode] do
      :local ->
        {address, bytes} = Native.address(ref)
        %Pointer{kind: :local, address: address, data_size: bytes}

      :ipc ->
        name = name()
        bytes = Native.shm_write(ref, name, options[:permissions])
        %Pointer{kind: :ipc, handle: name, data_size: bytes}

      other ->
        raise ArgumentError, "mode must be :local or :ipc, got: #{inspect(other)}"
    end
  end

  # Creating it fails where there is one of that name.
  defp name, do: "/emlx-#{System.pid()}-#{Base.encode16(:rand.bytes(12))}"

  @doc """
  A native reference to the memory at a pointer. Shared memory is copied, and its
  name removed.
  """
  @spec read(Pointer.t(), Nx.Type.t(), tuple, atom) :: reference
  def read(pointer, type, shape, device) do
    whole_bytes!(type)
    bytes = Types.bytes(type, Tuple.product(shape))

    if pointer.data_size not in [nil, bytes] do
      raise ArgumentError,
            "the pointer is to #{inspect(pointer.data_size)} bytes, but " <>
              "#{Nx.Type.to_string(type)} #{inspect(shape)} has #{bytes}"
    end

    follow(pointer, Types.to_native(type), shape, bytes, Native.device(device))
  end

  defp follow(%Pointer{kind: :local, address: address}, type, shape, bytes, device)
       when is_integer(address),
       do: Native.from_address(device, type, shape, address, bytes)

  defp follow(%Pointer{kind: :ipc, handle: name}, type, shape, _bytes, device)
       when is_binary(name) do
    tensor = Native.shm_read(device, type, shape, name)
    Native.shm_unlink(name)
    tensor
  end

  defp follow(pointer, _type, _shape, _bytes, _device) do
    raise ArgumentError,
          "a pointer must be :local with an address, or :ipc with a handle, got: " <>
            inspect(pointer)
  end

  defp whole_bytes!({_class, size}) when size >= 8, do: :ok

  defp whole_bytes!(type) do
    raise ArgumentError,
          "there are no pointers to #{Nx.Type.to_string(type)}, as Nx packs several of them " <>
            "into a byte and EMLX does not; use Nx.as_type/2 first"
  end
end
