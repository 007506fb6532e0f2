# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctorTest do
  # Not async: it changes the environment.
  use EMLX.Case, async: false

  import ExUnit.CaptureIO

  defp line(subject), do: List.keyfind(EMLX.Doctor.lines(), subject, 1)

  test "nothing is missing where the tests run" do
    text = capture_io(fn -> Mix.Tasks.Emlx.Doctor.run([]) end)
    assert text =~ ~r/^ok +libemlx: \d+\.\d+\.\d+$/m
    assert text =~ ~r/^ok +device :cpu: .+$/m
    assert text =~ ~r/^ok +Nx: \d/m
    assert text =~ ~r/^ok +a product on :cpu: computed$/m
    refute text =~ "MISSING"
  end

  test "a default device that is not there is missing" do
    Application.put_env(:emlx, :default_device, :tpu)
    assert {:missing, _, "there is no device" <> _} = line("default device")

    assert_raise Mix.Error, ~r/must be mended/, fn ->
      capture_io(fn -> Mix.Tasks.Emlx.Doctor.run([]) end)
    end
  after
    Application.delete_env(:emlx, :default_device)
  end

  test "the doctor lives with a default device that this build lacks" do
    Application.put_env(:emlx, :default_device, :gpu)
    assert {:missing, _, "there is no GPU" <> _} = line("default device")
    assert {:ok, _, "computed"} = line("a product on :cpu")
  after
    Application.delete_env(:emlx, :default_device)
  end

  test "wrong devices of Nx's defaults are missing" do
    assert {:ok, _, ":cpu"} = line("Nx's default backend")
    assert {:ok, _, ":cpu"} = line("Nx's default compiler")

    for {options, message} <- [
          {[device: :tpu], ~r/there is no device "tpu"/},
          {[device: "cpu"], ~r/a device must be :cpu/},
          {[devise: :cpu], ~r/unknown keys \[:devise\]|has no option {:devise, :cpu}/}
        ] do
      assert {:missing, _, text} = configured(:default_backend, {EMLX.Backend, options})
      assert text =~ message
      assert {:missing, _, text} = configured(:default_defn_options, [compiler: EMLX] ++ options)
      assert text =~ message
    end
  end

  # What the doctor says of a default of Nx where nothing but the configuration sets it.
  defp configured(key, value) do
    before = Application.fetch_env!(:nx, key)
    Application.put_env(:nx, key, value)
    subject = if key == :default_backend, do: "backend", else: "compiler"

    try do
      Task.await(Task.async(fn -> line("Nx's default #{subject}") end))
    after
      Application.put_env(:nx, key, before)
    end
  end

  test "defaults that are not ours are left alone" do
    Nx.default_backend(Nx.BinaryBackend)
    Nx.Defn.default_options(compiler: Nx.Defn.Evaluator)
    assert line("Nx's default backend") == nil
    assert line("Nx's default compiler") == nil
  end

  test "settings that mean nothing are named" do
    for {key, value, words} <- [
          {:defualt_device, :cpu, "is no setting of ours"},
          {:compile_cache_ttl, -1, "is -1; it should be a number"},
          {:compile_cache_max_items, "9", ~s(is "9"; it should be a number)},
          {:detect_non_finites, :yes, "is :yes; it should be true or false"}
        ] do
      Application.put_env(:emlx, key, value)
      assert {:note, _, text} = line("config #{key}")
      Application.delete_env(:emlx, key)
      assert text =~ words
      assert line("config #{key}") == nil
    end
  end

  test "variables that mean nothing are named" do
    for {name, value, words} <- [
          {"EMLX_NUM_THREADS", "many",
           "which counts as none; it should be a number from 1 to 1024"},
          {"EMLX_NUM_THREADS", "0", "which counts as none"},
          {"EMLX_NICE", "20", "which counts as none"},
          {"EMLX_CPU_LEVEL", "sse", "baseline, avx2, madd, avx512"},
          {"EMLX_PROFILE_EVAL", "yes", "0 or 1"},
          {"EMLX_THREADS", "2", "is no variable of ours"}
        ] do
      before = System.get_env(name)
      System.put_env(name, value)
      result = line(name)
      if before, do: System.put_env(name, before), else: System.delete_env(name)
      assert {:note, _, text} = result
      assert text =~ words
    end

    System.put_env("EMLX_NICE", "19")
    assert line("EMLX_NICE") == nil
  after
    System.delete_env("EMLX_NICE")
  end

  # What is read and the doctor does not know would be called unknown.
  test "the doctor knows all settings that are read" do
    doctor = File.read!("lib/emlx/doctor.ex")
    sources = Path.wildcard("{lib,src,nif}/**/*.{ex,c}") -- ["lib/emlx/doctor.ex"]
    read = ~r/(?:get_env\(:emlx, :|setting\(:|getenv\("|get_env\("|setting\(")(\w+)/

    settings =
      for file <- sources, [_, name] <- Regex.scan(read, File.read!(file)), uniq: true, do: name

    assert "default_device" in settings and "compile_cache_ttl" in settings
    assert "EMLX_NICE" in settings and "EMLX_CPU_LEVEL" in settings

    for name <- settings,
        not String.match?(name, ~r/^(EMLX_(CUDA|MLX)_|HOME$|XDG_)/),
        do: assert(doctor =~ name, "the doctor does not know #{name}")
  end

  test "what other builds read is named" do
    assert line("LIBMLX_VERSION") == nil
    System.put_env("LIBMLX_VERSION", "1.2")
    Application.put_env(:emlx, :warn_cross_device, true)
    assert {:note, _, "is set" <> _} = line("LIBMLX_VERSION")
    assert {:note, _, "is true" <> _} = line("config warn_cross_device")
  after
    System.delete_env("LIBMLX_VERSION")
    Application.delete_env(:emlx, :warn_cross_device)
  end
end
