# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.FFTTest do
  # Fourier transforms against Nx.BinaryBackend. Nx's documentation of them is in doctest_test.exs.
  use EMLX.Case, async: true

  # Parts that cancel are compared with what cancelled.
  @loose [tolerance: 2.0e-3]

  defp numbers(shape, type, seed) when type in [:c64, :c128] do
    part = if type == :c64, do: :f32, else: :f64
    complex = Nx.complex(random(shape, part, seed), random(shape, part, seed + 1))
    Nx.backend_copy(complex, Nx.BinaryBackend)
  end

  defp numbers(shape, type, seed), do: random(shape, type, seed, range: {0, 5})

  for type <- [:u8, :s32, :bf16, :f16, :f32, :f64, :c64, :c128] do
    test "transforms of #{type}" do
      t = numbers({3, 4, 6}, unquote(type), 1)

      for op <- [:fft, :ifft],
          options <- [[], [axis: 1], [axis: 1, length: 7], [length: 3], [length: :power_of_two]],
          do: assert_as_reference(&apply(Nx, op, [&1, options]), [t], @loose)

      for op <- [:fft2, :ifft2],
          options <- [[], [axes: [2, 1], lengths: [5, 2]]],
          do: assert_as_reference(&apply(Nx, op, [&1, options]), [t], @loose)

      for options <- [[], [axis: 1, length: 5], [length: 12]] do
        assert_as_reference(&Nx.irfft(&1, options), [t], @loose)

        unless unquote(type) in [:c64, :c128],
          do: assert_as_reference(&Nx.rfft(&1, options), [t], @loose)
      end
    end
  end

  # The reference mixes up the axes in front of the last two.
  test "the first of three axes" do
    t = numbers({3, 4, 6}, :f64, 8)
    last = &Nx.transpose(&1, axes: [1, 2, 0])
    expected = with_reference(fn -> t |> last.() |> Nx.fft(length: 5) end)
    assert_close(t |> native() |> Nx.fft(axis: 0, length: 5) |> last.(), expected)
    expected = with_reference(fn -> t |> last.() |> Nx.fft2(axes: [2, 1]) end)
    assert_close(t |> native() |> Nx.fft2(axes: [0, 2]) |> last.(), expected, @loose)
  end

  defp native(t), do: Nx.backend_copy(t, EMLX.Backend)

  test "lengths with large primes" do
    for n <- [37, 74, 101] do
      assert_as_reference(&Nx.fft/1, [numbers({2, n}, :c128, n)], tolerance: 1.0e-9)
      assert_as_reference(&Nx.rfft/1, [numbers({2, n}, :f64, n)], tolerance: 1.0e-9)
    end
  end

  test "eps, and none" do
    t = Nx.tensor([1.0, 1.0, -1.0, -1.25], backend: Nx.BinaryBackend)
    assert_as_reference(&Nx.fft(&1, eps: 0.25), [t])
    assert_as_reference(&Nx.ifft(&1, eps: 0), [t])

    assert Nx.fft(native(t), eps: nil) |> Nx.real() |> Nx.to_flat_list() == [
             -0.25,
             2.0,
             0.25,
             2.0
           ]
  end

  test "vectorized and named tensors" do
    t = numbers({2, 3, 4}, :f32, 5)
    assert_as_reference(&Nx.fft(Nx.vectorize(&1, :x), axis: 0), [t], @loose)
    assert_as_reference(&Nx.fft2(Nx.vectorize(&1, :x)), [t], @loose)
    assert_as_reference(&Nx.rfft(Nx.rename(&1, [:x, :y, :z]), axis: :y), [t], @loose)
  end

  test "there and back, beyond the lengths that the reference can do" do
    t = native(numbers({50_021}, :f64, 6))
    back = t |> Nx.fft() |> Nx.ifft() |> Nx.real()
    assert Nx.to_number(Nx.reduce_max(Nx.abs(Nx.subtract(back, t)))) < 1.0e-13

    assert Nx.to_number(
             Nx.reduce_max(Nx.abs(Nx.subtract(Nx.irfft(Nx.rfft(t), length: 50_021), t)))
           ) < 1.0e-13
  end

  test "gradients" do
    t = numbers({6}, :f64, 7)
    loss = fn t -> t |> Nx.fft() |> Nx.abs() |> Nx.pow(2) |> Nx.sum() end
    assert_as_reference(&Nx.Defn.grad(&1, loss), [t], tolerance: 1.0e-9)
  end
end
