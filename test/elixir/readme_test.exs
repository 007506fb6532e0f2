# SPDX-License-Identifier: Apache-2.0
defmodule MyModel do
  # What the README calls a model.
  def predict(params, x), do: Nx.dot(x, params.kernel) |> Nx.add(params.bias)
end

defmodule EMLX.ReadmeTest do
  # What the README shows runs as it stands there, one thing on what the one before has left.
  use EMLX.Case, async: false

  @readme File.read!("README.md")

  # Fenced code of a language, joined.
  defp code(language) do
    for [_, text] <- Regex.scan(~r/^```#{language}\n(.*?)^```/ms, @readme), do: text
  end

  defp example(language, part), do: Enum.find(code(language), &(&1 =~ part))

  setup do
    folder = Path.join(System.tmp_dir!(), "emlx-readme-#{System.pid()}")
    File.mkdir_p!(folder)
    on_exit(fn -> File.rm_rf!(folder) end)
    %{folder: folder, root: File.cwd!()}
  end

  test "the first lines" do
    {tensor, _} = Code.eval_string(example("elixir", "Nx.tanh"))
    assert_close(tensor, Nx.tensor([0.7615942, 0.9640276, 0.9950548]))
  end

  test "a program as a file, from Elixir to the shell and to C", %{folder: folder, root: root} do
    params = %{
      kernel: Nx.iota({64, 3}, type: :f32, backend: Nx.BinaryBackend),
      bias: Nx.tensor([1.0, 2.0, 3.0], backend: Nx.BinaryBackend)
    }

    x = Nx.broadcast(Nx.tensor(1.0, backend: Nx.BinaryBackend), {1, 64})
    expected = MyModel.predict(params, x)

    File.cd!(folder, fn ->
      Code.eval_string(example("elixir", "EMLX.export"), params: params)
      File.write!("x.npy", npy(x))

      [line] = Regex.run(~r/^    emlx run .*$/m, @readme)

      command =
        String.replace(String.trim(line), "emlx", Path.join(root, "build/emlx"), global: false)

      assert {_, 0} = System.shell(command, stderr_to_stdout: true)
      assert File.read!("y.npy") =~ "(1, 3)"
      bytes = Nx.to_binary(expected)

      assert binary_part(File.read!("y.npy"), File.stat!("y.npy").size, -byte_size(bytes)) ==
               bytes

      assert c_program(example("c", "emlx_program_run"), root) == bytes
    end)
  end

  # The lines in a main that writes the output's elements.
  defp c_program(lines, root) do
    {includes, body} =
      lines |> String.split("\n") |> Enum.split_with(&String.starts_with?(&1, "#"))

    File.write!("readme.c", """
    #{Enum.join(includes, "\n")}
    #include <stdio.h>
    int main(void) {
    #{Enum.join(body, "\n")}
        const void *data;
        if (emlx_tensor_data(output, &data, &err) != EMLX_OK) return 1;
        return fwrite(data, 1, emlx_tensor_bytes(output), stdout) == 0;
    }
    """)

    flags = ~w(-Wall -Werror -I#{root}/include readme.c -o readme #{root}/build/libemlx.so)

    assert {"", 0} =
             System.cmd("cc", flags ++ ["-Wl,-rpath,#{root}/build"], stderr_to_stdout: true)

    {output, 0} = System.cmd(Path.expand("readme"), [])
    output
  end

  defp npy(tensor) do
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 64), }"
    header = String.pad_trailing(header, 117) <> "\n"
    <<0x93, "NUMPY", 1, 0, byte_size(header)::16-little>> <> header <> Nx.to_binary(tensor)
  end
end
