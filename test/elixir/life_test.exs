# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.LifeTest do
  # Moving, freeing and sharing tensors, and the limits on memory. Not async: the memory of the
  # whole VM is measured and limited.
  use EMLX.Case, async: false

  @types for {class, sizes} <-
               [u: [2, 4, 8, 16, 32, 64], s: [2, 4, 8, 16, 32, 64]] ++
                 [f: [8, 16, 32, 64], bf: [16]],
             size <- sizes,
             do: {class, size}
  @types @types ++ [{:f8_e4m3fn, 8}]

  # Bytes in use after all garbage of all processes is gone, which an engine may let go of later.
  defp active_memory do
    Enum.each(Process.list(), &:erlang.garbage_collect/1)
    settled()
  end

  describe "deallocation" do
    test "is final, and told apart from the second time" do
      t = Nx.iota({1000})
      sum = Nx.sum(t)
      assert Nx.backend_deallocate(t) == :ok
      assert Nx.backend_deallocate(t) == :already_deallocated
      deallocated = ~r/the tensor has been deallocated/
      assert_raise ArgumentError, deallocated, fn -> Nx.to_binary(t) end
      assert_raise ArgumentError, deallocated, fn -> Nx.add(t, 1) end
      assert_raise ArgumentError, deallocated, fn -> Nx.backend_copy(t) end
      assert_raise ArgumentError, deallocated, fn -> Nx.to_pointer(t) end
      assert_raise ArgumentError, deallocated, fn -> Nx.Defn.jit_apply(&Nx.add/2, [t, 1]) end
      # What was made of it before does not need the handle.
      assert Nx.to_number(sum) == 499_500
    end

    test "of a container" do
      container = {Nx.tensor(1), %{a: Nx.tensor([2])}}
      assert Nx.backend_deallocate(container) == :ok
      assert_raise ArgumentError, fn -> Nx.to_number(elem(container, 0)) end
    end

    test "gives memory back at once" do
      t = EMLX.eval(Nx.broadcast(Nx.tensor(1, type: :u8), {1_000_000}))
      before = EMLX.memory_info().active_memory
      Nx.backend_deallocate(t)
      assert before - EMLX.memory_info().active_memory >= 1_000_000
    end

    test "by many processes at once happens once" do
      for _ <- 1..50 do
        t = Nx.iota({100})
        tasks = for _ <- 1..8, do: Task.async(fn -> Nx.backend_deallocate(t) end)
        assert tasks |> Task.await_many() |> Enum.count(&(&1 == :ok)) == 1
      end
    end
  end

  test "transfer frees the source, copy does not" do
    t = Nx.tensor([1, 2, 3])
    copy = Nx.backend_copy(t, {EMLX.Backend, device: :cpu})
    assert copy.data.ref != t.data.ref
    moved = Nx.backend_transfer(t, Nx.BinaryBackend)
    assert moved == Nx.tensor([1, 2, 3], backend: Nx.BinaryBackend)
    assert Nx.backend_deallocate(t) == :already_deallocated
    assert Nx.to_list(copy) == [1, 2, 3]
  end

  for type <- @types do
    test "#{Nx.Type.to_string(type)} goes through serialization" do
      type = unquote(Macro.escape(type))
      # Of a type narrower than a byte Nx takes whole bytes only.
      t = Nx.tensor([[0, 1], [1, 0], [1, 1], [0, 0]], type: type, names: [:rows, nil])
      data = {t, %{a: Nx.sum(t)}, Nx.vectorize(Nx.tensor([1.5, 2.5]), :x)}
      assert {back, %{a: sum}, vector} = data |> Nx.serialize() |> Nx.deserialize()
      assert {back.type, back.names, back.shape} == {type, [:rows, nil], {4, 2}}
      assert Nx.to_binary(back) == Nx.to_binary(t)
      assert Nx.to_number(sum) == Nx.to_number(Nx.sum(t))
      assert vector.vectorized_axes == [x: 2]
    end
  end

  describe "pointers" do
    test "to memory of this process" do
      t = Nx.add(Nx.iota({2, 3}, type: :f32), 1)
      assert %Nx.Pointer{kind: :local, address: address, data_size: 24} = p = Nx.to_pointer(t)
      assert address > 0
      same = Nx.from_pointer(EMLX.Backend, p, :f32, {2, 3}, names: [:a, nil])
      assert same.names == [:a, nil]
      assert Nx.to_list(same) == [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
      assert Nx.to_pointer(same).address == address
      assert Nx.to_list(Nx.multiply(same, t)) == [[1.0, 4.0, 9.0], [16.0, 25.0, 36.0]]

      # Pointers of others need not say their size.
      p = %Nx.Pointer{kind: :local, address: address}
      bits = Nx.from_pointer({EMLX.Backend, device: :cpu}, p, :u32, {6})
      assert Nx.to_list(bits) |> hd() == 0x3F800000
      assert Nx.to_list(t) |> hd() |> hd() == 1.0
    end

    test "to shared memory" do
      t = Nx.iota({1000}, type: :s64)
      assert %Nx.Pointer{kind: :ipc, handle: "/" <> name, data_size: 8000} = p = ipc(t)
      path = Path.join("/dev/shm", name)
      shm? = File.dir?("/dev/shm")
      if shm?, do: assert(Bitwise.band(File.stat!(path).mode, 0o777) == 0o400)

      back = Nx.from_pointer(EMLX.Backend, p, :s64, {10, 100})
      assert Nx.to_binary(back) == Nx.to_binary(t)
      if shm?, do: refute(File.exists?(path))

      assert_raise EMLX.Error, ~r/could not open the shared memory/, fn ->
        read(p, :s64, {1000})
      end

      p = Nx.to_pointer(t, mode: :ipc, permissions: 0o600)
      if shm?, do: assert(Bitwise.band(File.stat!("/dev/shm" <> p.handle).mode, 0o777) == 0o600)
      assert EMLX.shm_unlink(p.handle) == :ok
      assert EMLX.shm_unlink(p.handle) == :ok
    end

    test "to shared memory that nobody reads go with their tensor" do
      if File.dir?("/dev/shm") do
        parent = self()

        spawn(fn ->
          p = ipc(Nx.tensor([1, 2, 3], type: :u8, backend: EMLX.Backend))
          send(parent, {p, File.exists?("/dev/shm" <> p.handle)})
        end)

        assert_receive {p, true}, 5000
        assert gone?(p)

        t = Nx.tensor([1, 2, 3], type: :u8)
        p = ipc(t)
        assert Nx.backend_deallocate(t) == :ok
        assert gone?(p)
      end
    end

    test "to shared memory that nobody reads go with the VM, also one that was killed" do
      if File.dir?("/dev/shm") do
        paths = Enum.flat_map(:code.get_path(), &["-pa", List.to_string(&1)])

        vm = fn ending ->
          code = """
          t = Nx.tensor([1, 2, 3], type: :u8, backend: EMLX.Backend)
          IO.puts(Nx.to_pointer(t, mode: :ipc).handle)
          #{ending}
          IO.puts(inspect(t).__struct__)
          """

          {output, _status} = System.cmd("elixir", paths ++ ["-e", code], stderr_to_stdout: true)
          assert [handle] = Regex.run(~r"^/emlx-.*$"m, output)
          %Nx.Pointer{kind: :ipc, handle: handle, data_size: 3}
        end

        assert gone?(vm.("System.halt(0)"))
        killed = vm.(~s|System.cmd("kill", ["-9", System.pid()]); Process.sleep(:infinity)|)
        p = ipc(Nx.tensor([1, 2, 3], type: :u8))
        if File.exists?("/proc/self/ns/pid"), do: assert(gone?(killed))
        EMLX.shm_unlink(killed.handle)
        assert Nx.to_list(read(p, :u8, {3})) == [1, 2, 3]
      end
    end

    # Destructors run some time later.
    defp gone?(pointer, tries \\ 500) do
      cond do
        not File.exists?("/dev/shm" <> pointer.handle) ->
          true

        tries == 0 ->
          false

        true ->
          Process.sleep(10)
          gone?(pointer, tries - 1)
      end
    end

    test "to pages that must not be read are refused" do
      with {:ok, maps} <- File.read("/proc/self/maps") do
        for [_, from, to] <- Regex.scan(~r/^([0-9a-f]+)-([0-9a-f]+) ---p/m, maps) do
          [from, to] = Enum.map([from, to], &String.to_integer(&1, 16))
          before = from - 8

          for {address, count} <- [{from, 2}, {to - 8, 2}, {before, 4}] do
            wrong = %Nx.Pointer{kind: :local, address: address}
            assert_raise ArgumentError, ~r/no access/, fn -> read(wrong, :f32, {count}) end
          end
        end
      end
    end

    test "another operating system process can read and fill shared memory" do
      if File.dir?("/dev/shm") do
        p = ipc(Nx.tensor([1, 2, 3], type: :u8))
        assert {<<1, 2, 3>>, 0} = System.cmd("cat", ["/dev/shm" <> p.handle])
        EMLX.shm_unlink(p.handle)

        name = "emlx-test-#{System.pid()}"
        File.write!("/dev/shm/" <> name, <<7, 8>>)
        p = %Nx.Pointer{kind: :ipc, handle: "/" <> name, data_size: 2}
        assert Nx.to_list(read(p, :u8, {2})) == [7, 8]
      end
    end

    test "that are wrong" do
      t = Nx.tensor([1.0, 2.0])
      local = Nx.to_pointer(t)
      size = ~r/the pointer is to 8 bytes, but f32 \{3\} has 12/
      assert_raise ArgumentError, size, fn -> read(local, :f32, {3}) end
      assert_raise ArgumentError, ~r/no memory/, fn -> read(%{local | address: 0}, :f32, {2}) end
      assert_raise ArgumentError, ~r/no memory/, fn -> read(%{local | address: 8}, :f32, {2}) end
      high = 0xFFFFFFFFFFFFFFFF

      assert_raise ArgumentError, ~r/no memory/, fn ->
        read(%{local | address: high}, :f32, {2})
      end

      wrong = %{local | address: high + 1}
      assert_raise ArgumentError, ~r/64-bit/, fn -> read(wrong, :f32, {2}) end
      wrong = %Nx.Pointer{kind: :local}
      assert_raise ArgumentError, ~r/a pointer must/, fn -> read(wrong, :f32, {2}) end

      assert_raise ArgumentError, ~r/u4/, fn -> read(%{local | data_size: nil}, :u4, {2}) end
      assert_raise ArgumentError, ~r/u2/, fn -> Nx.to_pointer(Nx.as_type(t, :u2)) end
      assert_raise ArgumentError, ~r/mode/, fn -> Nx.to_pointer(t, mode: :far) end
      assert_raise ArgumentError, ~r/unknown keys/, fn -> Nx.to_pointer(t, size: 1) end

      assert_raise ArgumentError, fn ->
        Nx.from_pointer({EMLX.Backend, a: 1}, local, :f32, {2})
      end

      ipc = %Nx.Pointer{kind: :ipc, data_size: 8}

      for handle <- ["", "/", "name", "/a/b", "/" <> String.duplicate("a", 300), "/a\0b"] do
        assert_raise ArgumentError, ~r/handle/, fn -> read(%{ipc | handle: handle}, :f32, {2}) end
      end

      missing = %{ipc | handle: "/emlx-there-is-none"}
      assert_raise EMLX.Error, ~r/could not open/, fn -> read(missing, :f32, {2}) end
      short = %{ipc(Nx.tensor([1, 2, 3])) | data_size: nil}
      assert_raise ArgumentError, ~r/12 bytes, not 16/, fn -> read(short, :s32, {4}) end
      EMLX.shm_unlink(short.handle)

      for permissions <- [-1, 0o1000, :all] do
        assert_raise ArgumentError, ~r/permissions/, fn ->
          Nx.to_pointer(t, mode: :ipc, permissions: permissions)
        end
      end
    end
  end

  defp ipc(tensor), do: Nx.to_pointer(tensor, mode: :ipc)
  defp read(pointer, type, shape), do: Nx.from_pointer(EMLX.Backend, pointer, type, shape)

  describe "limits" do
    test "are returned when they are changed" do
      assert EMLX.set_memory_limit(1_000_000_000) == 0
      assert EMLX.memory_info().memory_limit == 1_000_000_000
      assert EMLX.set_memory_limit(0) == 1_000_000_000
      before = EMLX.set_cache_limit(12_345_678)
      assert EMLX.set_cache_limit(before) == 12_345_678
      assert_raise ArgumentError, ~r/number of bytes/, fn -> EMLX.set_memory_limit(-1) end
      assert_raise ArgumentError, ~r/number of bytes/, fn -> EMLX.set_cache_limit(:none) end
    end

    test "the cache can be emptied, and the peak measured anew" do
      EMLX.eval(Nx.broadcast(1, {2_000_000}))
      active_memory()
      assert EMLX.clear_cache() == :ok
      assert EMLX.memory_info().cache_memory == 0
      assert EMLX.reset_peak_memory() == :ok
      info = EMLX.memory_info()
      assert info.peak_memory == info.active_memory
      EMLX.eval(Nx.broadcast(1, {2_000_000}))
      assert EMLX.memory_info().peak_memory >= info.active_memory + 8_000_000
    end

    test "a hundred processes that ask for more each get an error" do
      before = active_memory()
      EMLX.clear_cache()
      EMLX.set_memory_limit(before + 50_000_000)
      on_exit(fn -> EMLX.set_memory_limit(0) end)

      outcomes =
        1..100
        |> Enum.map(fn _ -> Task.async(&allocate_until_it_fails/0) end)
        |> Task.await_many(60_000)

      assert Enum.uniq(outcomes) == [:out_of_memory]
      # What the last of them held goes when its process has ended.
      assert eventually(fn -> active_memory() - before < 1_000_000 end, 100)
      EMLX.set_memory_limit(0)
      assert Nx.to_number(Nx.sum(Nx.broadcast(1, {1_000_000}))) == 1_000_000
    end
  end

  defp allocate_until_it_fails do
    Nx.default_backend(EMLX.Backend)
    allocate([])
  end

  defp allocate(held) when length(held) < 60 do
    tensor = Nx.broadcast(Nx.tensor(1.0), {500_000}) |> Nx.add(length(held)) |> EMLX.eval()
    allocate([tensor | held])
  rescue
    error in EMLX.Error -> error.kind
  end

  defp allocate(held), do: {:no_error, length(held)}

  test "large garbage is collected before much memory is taken for more" do
    t = Nx.iota({2048, 1024}, type: :f32)
    assert Nx.to_number(Nx.sum(t)) > 0
    EMLX.clear_cache()
    before = active_memory()
    EMLX.reset_peak_memory()
    # Results of 8 MB each, which nobody holds, in a process whose heap has room for all handles.
    work = fn -> for i <- 1..100, do: EMLX.eval(EMLX.Backend.from_nx(Nx.add(t, i))) end
    {pid, monitor} = :erlang.spawn_opt(work, [:monitor, min_heap_size: 4_000_000])
    assert_receive {:DOWN, ^monitor, _, ^pid, :normal}, 20_000
    assert EMLX.memory_info().peak_memory - before < 120_000_000
  end

  test "memory stays flat over many operations" do
    loop = fn count ->
      Enum.reduce(1..count, Nx.iota({256}), fn _, t -> Nx.add(Nx.multiply(t, 0.5), 1) end)
      |> Nx.to_binary()
    end

    loop.(5000)
    active = active_memory()
    resident = resident_memory()
    loop.(20_000)
    # 40 MB were in use at some time; the plans that are kept are large, too.
    assert eventually(fn -> active_memory() - active < 2_000_000 end, 100)
    assert resident_memory() - resident < 20_000_000
  end

  # 0 where the system does not say.
  defp resident_memory do
    case File.read("/proc/self/statm") do
      {:ok, text} -> text |> String.split() |> Enum.at(1) |> String.to_integer() |> Kernel.*(4096)
      {:error, _} -> 0
    end
  end

  test "inspect takes the usual options" do
    assert inspect(Nx.iota({100}), limit: 3) =~ "[0, 1, 2, ...]"
    assert inspect(Nx.iota({3}), limit: :infinity) =~ "[0, 1, 2]"
    assert inspect(Nx.vectorize(Nx.iota({2, 2}), :x)) =~ "vectorized[x: 2]"
    assert inspect(Nx.tensor([1, 2]), structs: false) =~ "__struct__"
  end
end
