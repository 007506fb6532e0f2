# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.WeightsTest do
  use EMLX.Case, async: false

  @moduletag :tmp_dir

  # Arrays are {name, dtype, shape, binary}. Data begins so many bytes behind a multiple of 8.
  defp write(path, arrays, past \\ 0) do
    {entries, data, _at} =
      Enum.reduce(arrays, {[], [], 0}, fn {name, dtype, shape, binary}, {entries, data, at} ->
        last = at + byte_size(binary)

        entry =
          ~s("#{name}":{"dtype":"#{dtype}","shape":#{inspect(shape)},"data_offsets":[#{at},#{last}]})

        {[entry | entries], [data, binary], last}
      end)

    header = "{" <> Enum.join(entries, ",") <> "}"
    header = header <> String.duplicate(" ", 8 - rem(byte_size(header), 8) + past)
    File.write!(path, [<<byte_size(header)::64-little>>, header, data])
  end

  test "unaligned arrays, of each type that the format has", %{tmp_dir: dir} do
    path = Path.join(dir, "model.safetensors")

    arrays = [
      {"f", "F32", [2], <<1.5::float-32-little, -2.0::float-32-little>>},
      {"b", "BF16", [], <<0x3F80::16-little>>},
      {"i", "I64", [1, 2], <<7::64-little, -1::64-little>>},
      {"t", "BOOL", [3], <<1, 0, 1>>},
      {"e", "F32", [0, 4], <<>>}
    ]

    write(path, arrays, 1)

    tensors = EMLX.load_tensors(path)
    assert tensors |> Map.keys() |> Enum.sort() == ~w(b e f i t)
    assert Nx.to_list(tensors["f"]) == [1.5, -2.0]
    assert Nx.type(tensors["b"]) == {:bf, 16}
    assert Nx.to_number(tensors["b"]) == 1.0
    assert Nx.to_list(tensors["i"]) == [[7, -1]]
    assert Nx.to_list(tensors["t"]) == [1, 0, 1]
    assert Nx.shape(tensors["e"]) == {0, 4}
  end

  test "a large file takes no memory of its own, and is not written to", %{tmp_dir: dir} do
    path = Path.join(dir, "large.safetensors")
    size = 4_000_000
    write(path, [{"x", "F32", [size], Nx.to_binary(Nx.broadcast(Nx.f32(1), {size}))}])
    sum = :crypto.hash(:sha256, File.read!(path))
    before = EMLX.memory_info().active_memory
    %{"x" => x} = EMLX.load_tensors(path)
    assert EMLX.memory_info().active_memory - before < 4_000_000
    # What is computed in place elsewhere is not here.
    y = x |> Nx.add(1) |> Nx.multiply(2)
    assert Nx.to_number(y[size - 1]) == 4.0
    assert :crypto.hash(:sha256, File.read!(path)) == sum
  end

  test "a model in several files", %{tmp_dir: dir} do
    write(Path.join(dir, "one"), [{"x", "U8", [1], <<1>>}])
    write(Path.join(dir, "two"), [{"y", "U8", [1], <<2>>}])
    index = Path.join(dir, "model.safetensors.index.json")
    File.write!(index, ~s({"metadata": {}, "weight_map": {"x": "one", "y": "two"}}))
    tensors = EMLX.load_tensors(index)
    assert Nx.to_list(tensors["y"]) == [2]
    assert map_size(tensors) == 2
  end

  test "files that are wrong", %{tmp_dir: dir} do
    path = Path.join(dir, "wrong")
    File.write!(path, "GGUF" <> <<9::32-little>>)
    error = assert_raise EMLX.Error, fn -> EMLX.load_tensors(path) end
    assert error.message =~ "version 9 of GGUF, 2 to 3 are read here"
    assert_raise EMLX.Error, ~r/cannot open/, fn -> EMLX.load_tensors(path <> "s") end
    assert_raise ArgumentError, fn -> EMLX.load_tensors(path, devise: :cpu) end
  end
end
