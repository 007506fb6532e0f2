# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DevicesTest do
  # Which device :gpu is, and computing on MLX where that is installed.
  use EMLX.Case, async: true

  alias EMLX.{NIF, Native}

  test ":gpu is Metal on a Mac and CUDA elsewhere, unless an engine is asked for" do
    all = ["cpu", "mlx-cpu:0", "cuda:0", "cuda:1", "mlx:0"]
    [mac, linux] = [{:unix, :darwin}, {:unix, :linux}]
    assert Native.gpu_name(all, mac, nil) == "mlx:0"
    assert Native.gpu_name(all, linux, nil) == "cuda:0"
    assert Native.gpu_name(all, linux, :mlx) == "mlx:0"
    assert Native.gpu_name(all, linux, "native") == "cuda:0"
    assert Native.gpu_name(["cpu", "mlx:0"], linux, nil) == "mlx:0"
    # MLX's CPU is no GPU.
    assert Native.gpu_name(["cpu", "mlx-cpu:0"], linux, nil) == nil
    assert Native.gpu_name(["cpu", "cuda:0"], mac, nil) == nil
    assert_raise ArgumentError, ~r/:native or :mlx/, fn -> Native.gpu_name(all, linux, :metal) end
  end

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
end
