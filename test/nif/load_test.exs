# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.LoadTest do
  use NIFCase, async: true

  test "the version is that of the header" do
    header = File.read!(Path.expand("../../include/emlx.h", __DIR__))
    assert header =~ ~s(#define EMLX_VERSION "#{NIF.version()}")
  end

  test "the checked-in op table is the library's" do
    printed =
      for {name, fewest, most, attributes} <- NIF.ops(), into: "" do
        limit = if most == :any, do: "*", else: most

        attributes =
          for {attribute, kind, required} <- attributes,
              do: " #{attribute}:#{kind}#{if required, do: "", else: "?"}"

        "#{name} #{fewest} #{limit}#{attributes}\n"
      end

    assert printed == File.read!(Path.expand("../../lib/emlx/native/ops.txt", __DIR__))
  end

  test "the cpu is there and describes itself" do
    assert "cpu" in NIF.devices()
    assert {:ok, {"cpu", text}} = NIF.device_describe(cpu())
    assert byte_size(text) > 0
  end

  test "a device that is not there is refused by name" do
    error = assert_raise EMLX.Error, fn -> Native.device(:abacus) end
    assert error.kind == :unsupported
    assert error.message =~ "abacus"
  end

  test "loading the module again keeps what exists working" do
    tensor = f32([1.0, 2.0])
    path = :code.which(NIF)
    {:ok, binary} = File.read(path)
    assert {:module, NIF} = :code.load_binary(NIF, path, binary)
    assert f32_list(apply_op(:add, [tensor, tensor])) == [2.0, 4.0]
    :code.purge(NIF)
    assert f32_list(tensor) == [1.0, 2.0]
  end

  test "after the module was unloaded devices are opened anew" do
    code = """
    work = fn ->
      cpu = Native.device(:cpu)
      one = Native.from_binary(cpu, :s32, {1}, <<20::32-native>>)
      block = {[{"x", :s32, {1}}], [{:add, [0, 0], [], :s32}], [{"y", 1}]}
      [two] = Native.run(Native.compile(cpu, block), [Native.apply(:add, nil, [one, one], [], :s32)])
      <<x::32-native>> = Native.to_binary(two, 4)
      x
    end
    for _ <- 1..3 do
      80 = work.()
      :code.purge(NIF)
      true = :code.delete(NIF)
      :code.purge(NIF)
    end
    IO.puts(work.())
    """

    assert {"80\n", 0} = in_vm(code)
  end

  @tag :tmp_dir
  test "a missing library says what to do", %{tmp_dir: directory} do
    ebin = Path.join(directory, "emlx/ebin")
    File.mkdir_p!(ebin)

    for file <- Path.wildcard(Path.join(Path.dirname(:code.which(NIF)), "*.beam")),
        do: File.cp!(file, Path.join(ebin, Path.basename(file)))

    code = "try do EMLX.NIF.version() rescue e -> IO.puts(Exception.message(e)) end"
    {output, 0} = System.cmd("elixir", ["-pa", ebin, "-e", code], stderr_to_stdout: true)
    assert output =~ "native library of EMLX could not be loaded"
    assert output =~ "run `mix compile`, or `make`"
  end
end
