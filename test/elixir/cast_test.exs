# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.CastTest do
  # Casts and bitcasts between real types against Nx.BinaryBackend. The reference cuts off what
  # does not fit into bf16, f8 and f8_e4m3fn where we round, so that those are sources only; every
  # pair is tried bit by bit in test/ops/cast_test.c.
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

  # Around the limits of every type that the type has.
  defp elements(type) when type in @integers do
    {class, size} = Nx.Type.normalize!(type)

    {low, high} =
      if class == :u, do: {0, 2 ** size - 1}, else: {-(2 ** (size - 1)), 2 ** (size - 1) - 1}

    limits = for bits <- 1..64, near <- -1..1, sign <- [-1, 1], do: sign * 2 ** bits + near

    numbers =
      for n <- Enum.uniq([0, 65_519, 65_520, 2 ** 60 + 2 ** 36 + 1 | limits]),
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
