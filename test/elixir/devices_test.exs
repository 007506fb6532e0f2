# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DevicesTest do
  # Which device is meant by what, what is handed over, and computing on MLX where that is installed.
  # Settings are global.
  use EMLX.Case, async: false

  alias EMLX.{Backend, CommandQueue, Device, Native, NIF}

  test ":gpu is Metal on a Mac and CUDA elsewhere, unless an engine is asked for" do
    all = ["cpu", "mlx-cpu:0", "cuda:0", "cuda:1", "mlx:0"]
    [mac, linux] = [{:unix, :darwin}, {:unix, :linux}]
    assert Device.gpus(all, nil, mac) == ["mlx:0"]
    assert Device.gpus(all, nil, linux) == ["cuda:0", "cuda:1"]
    assert Device.gpus(all, :mlx, linux) == ["mlx:0"]
    assert Device.gpus(all, "native", mac) == ["cuda:0", "cuda:1"]
    assert Device.gpus(["cpu", "mlx:0"], nil, linux) == ["mlx:0"]
    # MLX's CPU is no GPU.
    assert Device.gpus(["cpu", "mlx-cpu:0"], nil, linux) == []
    assert Device.gpus(["cpu", "cuda:0"], nil, mac) == []
  end

  @words %{
    device:
      "a device must be :cpu, :gpu, {:gpu, number} or the name of one as an atom, got: \"cpu\"",
    engine: "an engine is :native or :mlx, got: :metal",
    cpu:
      "an :engine says which GPU is meant by device: :gpu, got: :cpu; " <>
        "MLX's own CPU is device: :\"mlx-cpu\""
  }

  test "what is no device or engine is refused by every way in, in one sentence" do
    for {options, words} <- [
          {[device: "cpu"], @words.device},
          {[device: {:gpu, -1}], String.replace(@words.device, "\"cpu\"", "{:gpu, -1}")},
          {[device: {:cpu, 0}], String.replace(@words.device, "\"cpu\"", "{:cpu, 0}")},
          {[device: :gpu, engine: :metal], @words.engine},
          {[device: :cpu, engine: :metal], @words.engine},
          {[device: :cpu, engine: :mlx], @words.cpu},
          {[engine: :mlx], @words.cpu}
        ],
        call <- [
          fn -> Nx.tensor(1, backend: {Backend, options}) end,
          fn -> Nx.default_backend({Backend, options}) end,
          fn -> Nx.Defn.jit_apply(&Nx.add(&1, 1), [2], [compiler: EMLX] ++ options) end,
          fn -> EMLX.load("none", options) end
        ] do
      assert_raise ArgumentError, words, call
    end

    assert_raise ArgumentError, @words.device, fn -> CommandQueue.new!("cpu") end
  end

  test "the CPU is our own engine, also where that is said" do
    x = Nx.tensor([1, 2], backend: {Backend, device: :cpu, engine: :native})
    assert {:cpu, _} = Backend.from_nx(x)
    assert {Backend, device: :cpu} = Nx.Defn.to_backend(compiler: EMLX, engine: :native)
  end

  # A machine without a GPU has words for it, another one computes there.
  test "{:gpu, number} is a device of the engine's, by its own name" do
    case Device.gpus(NIF.devices(), nil) do
      [] ->
        for device <- [:gpu, {:gpu, 0}, {:gpu, 1}], function <- [&Native.device/1, &on/1] do
          assert_raise ArgumentError, ~r/^there is no GPU .*only cpu/, fn -> function.(device) end
        end

      gpus ->
        assert {:gpu, _} = Backend.from_nx(on({:gpu, 0}))
        last = length(gpus) - 1
        wanted = if last == 0, do: :gpu, else: gpus |> List.last() |> String.to_atom()
        assert {^wanted, _} = Backend.from_nx(on({:gpu, last}))
        assert_raise ArgumentError, ~r/^there is no {:gpu, /, fn -> on({:gpu, last + 1}) end
    end
  end

  defp on(device), do: Nx.tensor([1, 2], backend: {Backend, device: device})

  test "config :emlx, engine: and EMLX_ENGINE say which GPU is meant" do
    in_environment("EMLX_ENGINE", "metal", fn ->
      assert_raise ArgumentError, ~r/:native or :mlx, got: "metal"/, fn -> on({:gpu, 1}) end

      with_setting(:engine, :native, fn ->
        assert Device.gpus(["mlx:0", "cuda:0"], nil) == ["cuda:0"]
      end)
    end)
  end

  defp in_environment(name, value, fun) do
    before = System.get_env(name)
    System.put_env(name, value)

    try do
      fun.()
    after
      if before, do: System.put_env(name, before), else: System.delete_env(name)
    end
  end

  defp with_setting(key, value, fun) do
    before = Application.fetch_env(:emlx, key)
    Application.put_env(:emlx, key, value)

    try do
      fun.()
    after
      with {:ok, value} <- before, do: Application.put_env(:emlx, key, value)
      if before == :error, do: Application.delete_env(:emlx, key)
    end
  end

  defp with_none_open(fun) do
    open = for {{Native, _} = key, device} <- :persistent_term.get(), do: {key, device}
    for {key, _} <- open, do: :persistent_term.erase(key)

    try do
      fun.()
    after
      for {key, device} <- open, do: :persistent_term.put(key, device)
    end
  end

  ## What is handed over

  test "a setting of hand-overs that is none is refused in one sentence" do
    words = "config :emlx, handover: must be :allow or :error, got: :never"

    with_setting(:handover, :never, fn ->
      assert_raise ArgumentError, words, &Device.refuses_handovers?/0
      assert {:missing, "hand-overs", ^words} = List.keyfind(EMLX.Doctor.lines(), "hand-overs", 1)

      # The same where no device has been opened yet.
      lines = with_none_open(&EMLX.Doctor.lines/0)

      for subject <- ["hand-overs", "memory limit", "device :cpu", "a product on :cpu"],
          do: assert({:missing, ^subject, ^words} = List.keyfind(lines, subject, 1))
    end)
  end

  describe "an engine that is picky" do
    @describetag skip: unless("picky:0" in NIF.devices(), do: "EMLX_ENGINES names no picky.so")

    # A call is always the host's.
    defp folded(x), do: Nx.reduce(x, 1, &Nx.multiply(&1, Nx.sum(&2)))

    test "has what it hands over counted" do
      x = Nx.tensor([1, 2, 3], backend: {Backend, device: :picky})
      before = EMLX.handovers(:picky)["reduce"] || 0

      assert Nx.Defn.jit_apply(&folded/1, [x], compiler: EMLX, device: :picky)
             |> Nx.to_number() == 6

      assert EMLX.handovers(:picky)["reduce"] > before

      :telemetry.attach(__MODULE__, [:emlx, :handover, :stats], &__MODULE__.heard/4, self())
      %{count: count} = EMLX.Telemetry.handover_stats(:picky)
      :telemetry.detach(__MODULE__)
      assert_received {:heard, %{count: ^count}, %{device: :picky, ops: %{"reduce" => _}}}
    end

    test "raises with handover: :error, naming op and device" do
      x = Nx.tensor([1, 2, 3], backend: {Backend, device: :picky})
      :persistent_term.erase({Native, :picky})

      with_setting(:handover, :error, fn ->
        assert_raise EMLX.Error, ~r/^reduce: device picky:0 cannot compute s32/, fn ->
          Nx.Defn.jit_apply(&Nx.add(folded(&1), 7), [x], compiler: EMLX, device: :picky)
        end
      end)
    after
      :ok = NIF.refuse_handovers(false)
    end
  end

  describe "tensors that move" do
    @describetag skip: unless("late:1" in NIF.devices(), do: "EMLX_ENGINES names no late.so")

    test "go from device to device, not through a binary" do
      :telemetry.attach(__MODULE__, [:emlx, :to_binary, :start], &__MODULE__.heard/4, self())
      x = Nx.iota({2, 3}, names: [:a, :b], backend: {Backend, device: :late}) |> Nx.add(1)
      y = Nx.backend_copy(x, {Backend, device: :"late:1"})
      z = Nx.backend_transfer(y, {Backend, device: :cpu})
      back = z |> Nx.vectorize(:a) |> Nx.backend_transfer({Backend, device: :late})
      refute_received {:heard, _, _}
      :telemetry.detach(__MODULE__)

      assert {:"late:1", _} = Backend.from_nx(y)
      assert_raise ArgumentError, ~r/deallocated/, fn -> Nx.to_list(y) end
      assert {:late, _} = Backend.from_nx(back)
      assert back.vectorized_axes == [a: 2]
      for t <- [x, Nx.devectorize(back)], do: assert(Nx.to_list(t) == [[1, 2, 3], [4, 5, 6]])
      assert x.names == [:a, :b]
    end

    test "count where they lie, within that device's limit" do
      before = EMLX.memory_info(:late).active_memory
      other = EMLX.memory_info(:"late:1").active_memory
      x = Nx.iota({1000}, type: :s64, backend: {Backend, device: :late}) |> EMLX.eval()
      assert EMLX.memory_info(:late).active_memory >= before + 8000
      assert EMLX.memory_info(:"late:1").active_memory == other
      assert EMLX.set_memory_limit(1, :"late:1") == 0

      assert_raise EMLX.Error, ~r/the limit is 1 bytes/, fn ->
        Nx.backend_copy(x, {Backend, device: :"late:1"})
      end

      assert EMLX.set_memory_limit(0, :"late:1") == 1
      assert :ok = EMLX.reset_peak_memory(:late)
      assert :ok = EMLX.clear_cache(:late)
    end

    test "do not move where they cannot be computed" do
      x = Nx.tensor([1, 2, 3], backend: {Backend, device: :late})
      wrong = Nx.take(x, Nx.add(x, 7))
      assert_raise ArgumentError, ~r/out of bounds/, fn -> Nx.backend_copy(wrong, Backend) end
    end
  end

  test "a copy on the same device does not go with its original" do
    x = Nx.tensor([1, 2, 3])
    y = Nx.backend_copy(Nx.add(x, 1), Backend)
    z = Nx.backend_copy(y, Backend)
    Nx.backend_deallocate(y)
    assert Nx.to_list(z) == [2, 3, 4]
  end

  def heard(_event, measurements, metadata, process),
    do: send(process, {:heard, measurements, metadata})

  if "mlx-cpu:0" in EMLX.NIF.devices() do
    test "MLX computes what is eager and what is compiled, and hands over what it cannot" do
      assert "mlx-cpu:0" in NIF.devices()
      opts = {EMLX.Backend, device: :"mlx-cpu"}
      x = Nx.tensor([[2.0, 1.0], [1.0, 3.0]], backend: opts)
      assert x |> Nx.dot(x) |> Nx.add(1) |> Nx.to_flat_list() == [6.0, 6.0, 6.0, 11.0]

      fun = fn x -> {Nx.sum(Nx.exp(x)), Nx.LinAlg.determinant(x)} end
      {sum, det} = Nx.Defn.jit_apply(fun, [x], compiler: EMLX, device: :"mlx-cpu")
      assert_in_delta Nx.to_number(sum), :math.exp(2) + 2 * :math.exp(1) + :math.exp(3), 1.0e-4
      assert_in_delta Nx.to_number(det), 5.0, 1.0e-5
    end

    test "an index out of bounds on MLX is an error of who reads it" do
      opts = {EMLX.Backend, device: :"mlx-cpu"}
      x = Nx.tensor([1, 2, 3], backend: opts)
      index = Nx.add(Nx.tensor(2, backend: opts), 5)

      assert_raise ArgumentError, ~r/out of bounds/, fn ->
        x |> Nx.take(index) |> Nx.to_number()
      end

      assert x |> Nx.take(1) |> Nx.to_number() == 2
    end
  end

  describe "frame captures" do
    test "are Metal's: elsewhere that is said in a sentence" do
      if Device.gpus(NIF.devices(), :mlx) == [] do
        for call <- [fn -> EMLX.metal_start_capture("none") end, &EMLX.metal_stop_capture/0] do
          assert_raise EMLX.Error, ~r/captures are Metal's, .* no device mlx: \w+/, call
        end
      end

      assert {:error, :unsupported, message} = Native.device(:cpu) |> ended_capture()
      assert message =~ "device cpu cannot be captured"
      assert_raise FunctionClauseError, fn -> EMLX.metal_start_capture(nil) end
    end

    @plain Path.expand("../../build/test/engines/mlx_plain.so", __DIR__)

    # A VM of its own, as what MLX is gets decided once.
    @tag skip: not File.exists?(@plain) && "the tests in C are not built"
    @tag :tmp_dir
    test "are written where there is Metal", %{tmp_dir: folder} do
      file = Path.join(folder, "step.gputrace")

      code = """
      {:ok, _} = Application.ensure_all_started([:nx, :emlx])
      EMLX.metal_start_capture(#{inspect(file)})
      Nx.to_number(Nx.add(Nx.tensor(1, backend: {EMLX.Backend, device: :gpu, engine: :mlx}), 1))
      EMLX.metal_stop_capture()
      """

      paths = for path <- :code.get_path(), do: ["-pa", to_string(path)]

      assert {_, 0} =
               System.cmd("elixir", List.flatten(paths) ++ ["-e", code],
                 env: [{"EMLX_MLX_ADAPTER", @plain}],
                 stderr_to_stdout: true
               )

      assert File.read!(file) == "begins\nends\n"
    end

    defp ended_capture(device) do
      reference = make_ref()
      :wait = NIF.device_capture(device, "", reference)
      assert_receive {^reference, result}
      result
    end
  end
end
