# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.CastTest do
  # Casts and bitcasts between real types against Nx.BinaryBackend. The reference cuts off what
  # does not fit into bf16, f8 and f8_e4m3fn where we round, so that those are sources only, and it
  # rounds wide integers twice; every pair is tried bit by bit in test/ops/cast_test.c.
  use EMLX.Case, async: true

  @integers [:u2, :u4, :u8, :u16, :u32, :u64, :s2, :s4, :s8, :s16, :s32, :s64]
  @floats [:f16, :f32, :f64]
  @narrow_floats [:f8, :f8_e4m3fn, :bf16]

  for from <- @integers ++ @floats ++ @narrow_floats, to <- @integers ++ @floats do
    test "#{from} to #{to}" do
      # The reference cannot list narrow integers.
      wide = if unquote(to) in [:u2, :u4, :s2, :s4], do: :s32, else: unquote(to)
      cast = fn t -> t |> Nx.as_type(unquote(to)) |> Nx.as_type(wide) end
      assert_as_reference(cast, [elements(unquote(from))], tolerance: 0.0)
    end
  end

  bits = &elem(Nx.Type.normalize!(&1), 1)

  for from <- @integers ++ @floats ++ @narrow_floats,
      to <- @integers ++ @floats,
      bits.(from) == bits.(to) and bits.(to) >= 8 do
    test "bits of #{from} as #{to}" do
      t = elements(unquote(from))
      assert_as_reference(&Nx.bitcast(&1, unquote(to)), [t], tolerance: 0.0)
    end
  end

  # Just above the middle between two numbers of the type.
  @above_the_middle [
    {9_007_199_791_611_905, :f32, 9_007_200_328_482_816.0},
    {-9_007_199_791_611_905, :f32, -9_007_200_328_482_816.0},
    {2 ** 63 + 2 ** 39 + 1, :f32, 2.0 ** 63 + 2.0 ** 40},
    {2 ** 60 + 2 ** 52 + 1, :bf16, 2.0 ** 60 + 2.0 ** 53},
    {2 ** 63 + 2 ** 60 + 1, :f8, :infinity},
    {2 ** 60 + 2 ** 36 + 1, :c64, 2.0 ** 60 + 2.0 ** 37},
    {2 ** 60 + 2 ** 7 + 1, :f64, 2.0 ** 60 + 2.0 ** 8}
  ]

  for {number, type, wanted} <- @above_the_middle do
    test "#{number} is rounded to #{type} once" do
      {number, type, wanted} = {unquote(number), unquote(type), unquote(wanted)}
      tensor = Nx.tensor([number], type: if(number < 0, do: :s64, else: :u64))
      assert number(Nx.as_type(tensor, type)) == wanted
      assert number(Nx.tensor(number, type: type)) == wanted
      assert number(Nx.broadcast(Nx.tensor(number, type: type), {3})[1]) == wanted
      assert number(Nx.Defn.jit_apply(&Nx.as_type(&1, type), [tensor], compiler: EMLX)) == wanted
    end
  end

  # Beyond 64 bits as well.
  test "large numbers are rounded once" do
    assert number(Nx.tensor(2 ** 100 + 2 ** 76 + 1, type: :f32)) == 2.0 ** 100 + 2.0 ** 77
    assert number(Nx.tensor(-(2 ** 100) - 2 ** 47 - 1, type: :f64)) == -(2.0 ** 100) - 2.0 ** 48
    assert number(Nx.tensor(2 ** 1200, type: :f64)) == :infinity
    assert number(Nx.tensor(-(2 ** 1024), type: :f64)) == :neg_infinity
  end

  defp number(tensor) do
    case tensor |> Nx.flatten() |> Nx.to_list() do
      [%Complex{re: re}] -> re
      [number] -> number
    end
  end

  # Around the limits of every type that the type has.
  defp elements(type) when type in @integers do
    {class, size} = Nx.Type.normalize!(type)

    {low, high} =
      if class == :u, do: {0, 2 ** size - 1}, else: {-(2 ** (size - 1)), 2 ** (size - 1) - 1}

    limits = for bits <- 1..64, near <- -1..1, sign <- [-1, 1], do: sign * 2 ** bits + near

    numbers =
      for n <- Enum.uniq([0, 65_519, 65_520 | limits]),
          n in low..high,
          do: n

    Nx.tensor(numbers, type: type, backend: Nx.BinaryBackend)
  end

  # The reference misreads the least numbers of f8.
  defp elements(type) do
    numbers = [300.75, -1.5, -0.9, 0.0, -0.0, 0.5, 1.0, 3.0, 200.0, 255.5, 448.0, -129.0]
    specials = [:nan, :infinity, :neg_infinity]
    large = [3.0e4, -3.3e4, 6.55e4, 3.0e9, -3.0e9, 1.0e18, 1.0e20, -1.0e20, 1.0e38, 1.0e-7]
    more = if type in [:f8, :f8_e4m3fn], do: [], else: large
    # An infinity of f16 is printed as such.
    more = if type == :f16, do: [3.0e4, -3.3e4, 6.55e4], else: more
    Nx.tensor(numbers ++ specials ++ more, type: type, backend: Nx.BinaryBackend)
  end
end
