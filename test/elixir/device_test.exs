# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DeviceTest do
  # The memory and the life of the device that tests run on (EMLX_TEST_DEVICE, else the CPU).
  use EMLX.Case, async: false

  defp device, do: EMLX.default_device()

  test "what lies at an address is read where it is" do
    t = Nx.iota({1000}, type: :f32, backend: {EMLX.Backend, device: device()}) |> Nx.add(1)
    assert %Nx.Pointer{kind: :local, data_size: 4000} = pointer = Nx.to_pointer(t)
    same = Nx.from_pointer({EMLX.Backend, device: device()}, pointer, :f32, {1000})
    assert Nx.to_binary(Nx.add(same, same)) == Nx.to_binary(Nx.multiply(t, 2))
    assert Nx.to_pointer(same).address == pointer.address
  end

  test "addresses of nothing are refused" do
    pointer = %Nx.Pointer{kind: :local, address: 64, data_size: 4000}

    assert_raise ArgumentError, ~r/at address 0x40/, fn ->
      Nx.from_pointer({EMLX.Backend, device: device()}, pointer, :f32, {1000})
    end
  end

  test "a handle names the memory for other processes" do
    t = Nx.iota({1000}, type: :f32, backend: {EMLX.Backend, device: device()})
    assert %Nx.Pointer{kind: :ipc, handle: handle, data_size: 4000} = Nx.to_pointer(t, mode: :ipc)
    assert is_binary(handle)
  end

  test "an error names what is wrong with a pointer" do
    assert_raise ArgumentError, ~r/a pointer must be/, fn ->
      pointer = %Nx.Pointer{kind: :local, handle: "x", data_size: 4}
      Nx.from_pointer({EMLX.Backend, device: device()}, pointer, :f32, {1})
    end
  end

  test "a device is opened anew, and computes" do
    assert EMLX.reset_device(device()) == :ok
    t = Nx.tensor([1, 2, 3], backend: {EMLX.Backend, device: device()})
    assert Nx.to_flat_list(Nx.add(t, 1)) == [2, 3, 4]
  end

  test "memory is counted where it is" do
    before = EMLX.memory_info(device()).active_memory
    t = Nx.iota({1_000_000}, type: :u8, backend: {EMLX.Backend, device: device()})
    Nx.to_binary(t)
    assert EMLX.memory_info(device()).active_memory >= before + 1_000_000
    Nx.backend_deallocate(t)
  end
end
