# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.IndicesTest do
  # Indices and bases that are still being computed, by every way in.
  use EMLX.Case, async: true

  import Nx.Defn

  @moduletag :tmp_dir

  defn(element_and_index(t, i), do: with_index(t, i + 1))
  defn(all_and_element(t, i), do: with_element(t * 3, i + 1))
  defn(put_and_read(t, i), do: put(t * 2, i + 1))

  defnp(with_index(t, k), do: t[k] + k)
  defnp(with_element(a, k), do: a + a[k])
  defnp(put(a, k), do: Nx.put_slice(a, [k], Nx.new_axis(a[k] + k, 0)) + a[k])

  @cases [
    {&__MODULE__.element_and_index/2, 32},
    {&__MODULE__.all_and_element/2, [120, 150, 180, 210]},
    {&__MODULE__.put_and_read/2, [80, 100, 122, 140]}
  ]

  for {{fun, expected}, n} <- Enum.with_index(@cases) do
    @fun fun
    @expected expected

    test "case #{n}: eager, by the evaluator, compiled and exported", %{tmp_dir: directory} do
      args = [Nx.tensor([10, 20, 30, 40], type: :s64), Nx.s64(1)]
      path = Path.join(directory, "program.safetensors")
      :ok = EMLX.export(@fun, args, path)
      [exported] = EMLX.run(EMLX.load(path), args)

      for result <- [
            apply(@fun, args),
            Nx.Defn.jit_apply(@fun, args, compiler: Nx.Defn.Evaluator),
            Nx.Defn.jit_apply(@fun, args, compiler: EMLX),
            exported
          ],
          do: assert(result |> Nx.to_flat_list() == List.wrap(@expected))
    end
  end
end
