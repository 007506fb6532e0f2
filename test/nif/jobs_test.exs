# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.JobsTest do
  # Work that blocks holds up nothing else.
  use NIFCase, async: true

  @moduletag :tmp_dir

  @block {[{"x", :f32, {2}}], [{:add, [0, 0], [], :f32}], [{"y", 1}]}

  # Pipes that nobody reads, and processes that save to them.
  defp blocked_saves(directory, count) do
    for i <- 1..count do
      pipe = Path.join(directory, "pipe#{i}")
      {_, 0} = System.cmd("mkfifo", [pipe])
      {pipe, Task.async(fn -> Native.save(@block, pipe) end)}
    end
  end

  test "saves that nobody reads hold up neither files nor compiling", %{tmp_dir: directory} do
    saves = blocked_saves(directory, 40)
    file = Path.join(directory, "x.safetensors")
    assert Native.save(@block, file) == :ok
    program = Native.load(cpu(), file)
    assert [y] = Native.run(program, [f32([1.0, 2.0])])
    assert f32_list(y) == [2.0, 4.0]
    assert Native.compile(cpu(), @block)
    reference = make_ref()
    assert NIF.device_open("cpu", reference) == :wait
    assert_receive {^reference, {:ok, _device}}, 60_000
    assert Native.shm_write(y, "/emlx-jobs-test-#{System.pid()}", 0o600) == 8
    assert Native.shm_unlink("/emlx-jobs-test-#{System.pid()}") == :ok

    for {pipe, save} <- saves do
      assert Task.yield(save, 0) == nil
      {written, 0} = System.cmd("cat", [pipe])
      assert byte_size(written) > 8
      assert Task.await(save, 60_000) == :ok
    end
  end

  test "the process that waits for such a save may die", %{tmp_dir: directory} do
    for {_pipe, save} <- blocked_saves(directory, 10), do: Task.shutdown(save, :brutal_kill)
    assert Native.compile(cpu(), @block)
  end

  # What is left of a device's work when its last reference goes is done elsewhere: the only
  # scheduler goes on, while a product takes its time.
  test "no destructor waits on a scheduler" do
    code = """
    spawn(fn ->
      ref = make_ref()
      :wait = NIF.device_open("cpu", ref)
      cpu = receive do {^ref, {:ok, device}} -> device end
      {:ok, a} = NIF.apply(:iota, cpu, [], [shape: {1500, 1500}], :f64)
      dot = [contract_left: [1], batch_left: [], contract_right: [0], batch_right: []]
      b = Enum.reduce(1..10, a, fn _, b -> {_, b} = NIF.apply(:dot, nil, [b, a], dot, :f64); b end)
      ref = make_ref()
      :wait = NIF.eval([b], nil, true, ref)
    end)
    Process.sleep(100)
    for _ <- 1..100, do: (Process.sleep(1); :erlang.garbage_collect())
    IO.puts("ticked")
    System.halt(0)
    """

    assert {"ticked\n", 0} = in_vm(code, "+S 1:1 +SDio 1")
  end
end
