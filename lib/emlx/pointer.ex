# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Pointer do
  @moduledoc false
  # `Nx.Pointer`s to tensors, and tensors from them.

  alias EMLX.{Native, Types}
  alias Nx.Pointer

  @doc """
  A pointer to the memory of a tensor: by address, or for other processes of the system
  to a copy of it in shared memory. Memory of a device has an address there, and a handle of its
  driver, which names the memory itself.
  """
  @spec new(reference, Nx.Type.t(), atom, keyword) :: Pointer.t()
  def new(ref, type, device, options) do
    options = Keyword.validate!(options, mode: :local, permissions: 0o400)
    whole_bytes!(type)
    host? = device |> Native.device() |> Native.host_memory?()

    case options[:mode] do
      :local when not host? ->
        {address, bytes} = Native.device_address(ref)
        %Pointer{kind: :local, address: address, data_size: bytes}

      :ipc when not host? ->
        {handle, bytes} = Native.device_export(ref)
        %Pointer{kind: :ipc, handle: handle, data_size: bytes}

      :local ->
        {address, bytes} = Native.address(ref)
        %Pointer{kind: :local, address: address, data_size: bytes}

      :ipc ->
        remove_leftovers()
        name = name()
        bytes = Native.shm_write(ref, name, options[:permissions])
        %Pointer{kind: :ipc, handle: name, data_size: bytes}

      other ->
        raise ArgumentError, "mode must be :local or :ipc, got: #{inspect(other)}"
    end
  end

  # Creating it fails where there is one of that name. It goes when it has been read, with the
  # tensor, or when the VM ends.
  defp name, do: "/emlx-#{namespace()}-#{System.pid()}-#{Base.encode16(:rand.bytes(12))}"

  # Process numbers mean something within a namespace only.
  defp namespace do
    case File.read_link("/proc/self/ns/pid") do
      {:ok, text} -> String.replace(text, ~r/\D/, "")
      _error -> "0"
    end
  end

  # A VM that was killed could not remove its own.
  defp remove_leftovers do
    namespace = namespace()

    with true <- namespace != "0", {:ok, names} <- File.ls("/dev/shm") do
      for "emlx-" <> rest = name <- names,
          [^namespace, pid, _random] <- [String.split(rest, "-")],
          not File.exists?("/proc/#{pid}"),
          do: Native.shm_unlink("/" <> name)
    end
  end

  @doc """
  A native reference to the memory at a pointer. Shared memory is copied, and its
  name removed; memory of a device is read where it is.
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

    device = Native.device(device)
    type = Types.to_native(type)

    if Native.host_memory?(device),
      do: follow(pointer, type, shape, bytes, device),
      else: follow_there(pointer, type, shape, device)
  end

  defp follow_there(%Pointer{kind: :local, address: address}, type, shape, device)
       when is_integer(address),
       do: Native.device_memory_open(device, type, shape, address)

  defp follow_there(%Pointer{kind: :ipc, handle: handle}, type, shape, device)
       when is_binary(handle),
       do: Native.device_memory_open(device, type, shape, handle)

  defp follow_there(pointer, _type, _shape, _device), do: no_pointer!(pointer)

  defp follow(%Pointer{kind: :local, address: address}, type, shape, bytes, device)
       when is_integer(address),
       do: Native.from_address(device, type, shape, address, bytes)

  defp follow(%Pointer{kind: :ipc, handle: name}, type, shape, _bytes, device)
       when is_binary(name) do
    tensor = Native.shm_read(device, type, shape, name)
    Native.shm_unlink(name)
    tensor
  end

  defp follow(pointer, _type, _shape, _bytes, _device), do: no_pointer!(pointer)

  defp no_pointer!(pointer) do
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
