# SPDX-License-Identifier: Apache-2.0
# Before the tests, which begin to run when their own module is there.
defmodule EMLX.LinAlgTest.Functions do
  import Nx.Defn

  defn branch(t) do
    {q, r} = Nx.LinAlg.qr(t)
    if Nx.sum(t) > 0, do: Nx.dot(q, r), else: q
  end

  defn loop(t) do
    {t, _} =
      while {t, i = 0}, i < 3 do
        {_q, r} = Nx.LinAlg.qr(t)
        {r / 2, i + 1}
      end

    t
  end

  defn gradients(t) do
    {grad(t, &Nx.sum(Nx.LinAlg.cholesky(&1))), grad(t, &Nx.sum(Nx.LinAlg.invert(&1))),
     grad(t, &Nx.LinAlg.determinant/1)}
  end
end

defmodule EMLX.LinAlgTest do
  # Linear algebra: Nx's documentation, and random matrices against Nx.BinaryBackend.
  use EMLX.Case, async: true

  import EMLX.DocValues

  # The digits that these print are the reference's rounding at every step.
  @by_value [
    cholesky: 1.0e-6,
    solve: 1.0e-6,
    determinant: 1.0e-6,
    qr: 1.0e-6,
    lu: 1.0e-6,
    eigh: 1.0e-6,
    svd: 1.0e-6,
    matrix_power: 1.0e-6,
    least_squares: 2.0e-6,
    # Its eigenvalue iteration is stopped early.
    pinv: 2.0e-5
  ]

  # The vectors of an eigenvalue of multiplicity 2 may be any two.
  @skip [eigh: ["[0.40824828, -0.1825742, 0.8944272]"]]

  doctest Nx.LinAlg,
    except: for({name, _} <- @by_value, arity <- 1..3, do: {name, arity})

  for {name, tolerance} <- @by_value do
    test "examples of #{name}" do
      assert_examples(Nx.LinAlg, unquote(name), unquote(tolerance), skip: @skip[unquote(name)])
    end
  end

  @types [:s32, :u8, :bf16, :f32, :f64, :c64]
  @loose [tolerance: 2.0e-4]

  # A diagonal that dominates keeps reference and native code close.
  defp dominant(shape, type, seed) do
    n = elem(shape, tuple_size(shape) - 1)
    diagonal = Nx.multiply(Nx.eye(n, type: type, backend: Nx.BinaryBackend), 9)
    shape |> numbers(type, seed, {0, 3}) |> Nx.add(diagonal) |> Nx.as_type(type)
  end

  defp numbers(shape, :c64, seed, range) do
    real = random(shape, :f32, seed, range: range)
    imaginary = random(shape, :f32, seed + 100, range: {-2, 2})
    reference(Nx.complex(real, imaginary))
  end

  defp numbers(shape, type, seed, range), do: random(shape, type, seed, range: range)

  defp options(:bf16), do: [tolerance: 3.0e-2]
  defp options(:c64), do: [tolerance: 2.0e-3]
  defp options(_type), do: @loose

  # The reference leaves its rounding errors below the diagonal of what `qr` gives.
  defp beside_errors(options), do: Keyword.update!(options, :tolerance, &max(&1, 1.0e-3))

  for type <- @types do
    test "solving equations in #{type}" do
      a = dominant({2, 4, 4}, unquote(type), 1)
      b = numbers({2, 4, 3}, unquote(type), 2, {1, 5})
      v = numbers({2, 4}, unquote(type), 3, {1, 5})

      for right <- [b, v] do
        assert_as_reference(&Nx.LinAlg.solve/2, [a, right], options(unquote(type)))

        for lower <- [true, false], transform <- [:none, :transpose, :conjugate] do
          solve = &Nx.LinAlg.triangular_solve(&1, &2, lower: lower, transform_a: transform)
          assert_as_reference(solve, [a, right], options(unquote(type)))
        end
      end

      right = &Nx.LinAlg.triangular_solve(&1, &2, left_side: false, lower: false)
      assert_as_reference(right, [a, Nx.transpose(b, axes: [0, 2, 1])], options(unquote(type)))
    end

    test "factors in #{type}" do
      a = dominant({2, 4, 4}, unquote(type), 4)
      tall = numbers({2, 5, 3}, unquote(type), 5, {0, 4})
      options = options(unquote(type))

      for fun <- [&Nx.LinAlg.lu/1, &Nx.LinAlg.determinant/1, &Nx.LinAlg.invert/1],
          do: assert_as_reference(fun, [a], options)

      unless unquote(type) == :bf16 do
        options = beside_errors(options)
        assert_as_reference(&Nx.LinAlg.qr/1, [tall], options)
        assert_as_reference(&Nx.LinAlg.qr(&1, mode: :complete), [tall], options)
      end
    end
  end

  for type <- [:f32, :f64] do
    test "wide matrices in #{type}" do
      wide = numbers({2, 3, 5}, unquote(type), 6, {0, 4})
      options = options(unquote(type))
      options = if unquote(type) == :f32, do: beside_errors(options), else: options
      assert_as_reference(&Nx.LinAlg.qr/1, [wide], options)
    end
  end

  for type <- [:f32, :f64] do
    test "what is built on factors, in #{type}" do
      a = dominant({3, 3}, unquote(type), 6)
      batch = dominant({2, 3, 3}, unquote(type), 7)
      wide = random({2, 3}, unquote(type), 8)
      symmetric = Nx.add(batch, Nx.transpose(batch, axes: [0, 2, 1]))

      for fun <- [
            &Nx.LinAlg.norm(&1, ord: 2),
            &Nx.LinAlg.norm(&1, ord: :nuclear),
            &Nx.LinAlg.matrix_rank/1,
            &Nx.LinAlg.pinv/1,
            &Nx.LinAlg.matrix_power(&1, -2),
            &Nx.LinAlg.adjoint/1
          ] do
        assert_as_reference(fun, [a], tolerance: 1.0e-3)
      end

      for fun <- [
            &Nx.LinAlg.cholesky/1,
            &elem(Nx.LinAlg.eigh(&1), 0),
            &elem(Nx.LinAlg.svd(&1), 1)
          ],
          do: assert_as_reference(fun, [symmetric], tolerance: 1.0e-3)

      thin = &Nx.LinAlg.svd(&1, full_matrices?: false)
      assert_as_reference(&elem(thin.(&1), 1), [wide], tolerance: 1.0e-3)
      assert_as_reference(&Nx.LinAlg.least_squares(&1, Nx.tensor([1, 2])), [wide], @loose)
    end
  end

  test "vectors belong to their values" do
    a = Nx.tensor([[0, 1, 2], [1, 0, 2], [2, 2, 3]])
    {values, vectors} = Nx.LinAlg.eigh(a)
    assert_close(Nx.dot(a, vectors), Nx.multiply(vectors, values) |> reference(), @loose)
    identity = Nx.eye(3, type: :f32, backend: Nx.BinaryBackend)
    assert_close(Nx.dot(Nx.transpose(vectors), vectors), identity, tolerance: 1.0e-2)
  end

  test "Hermitian matrices" do
    a = dominant({2, 3, 3}, :c64, 12)
    hermitian = reference(Nx.dot(a, [2], [0], Nx.LinAlg.adjoint(a), [1], [0]))
    options = [tolerance: 2.0e-3]
    assert_as_reference(&Nx.LinAlg.cholesky/1, [hermitian], options)
    assert_as_reference(&elem(Nx.LinAlg.eigh(&1), 0), [hermitian], options)
    {values, vectors} = Nx.LinAlg.eigh(Nx.backend_copy(hermitian, EMLX.Backend))
    scaled = vectors |> Nx.multiply(Nx.new_axis(values, 1)) |> reference()
    assert_close(Nx.dot(hermitian, [2], [0], vectors, [1], [0]), scaled, options)
  end

  test "a singular matrix is an ArgumentError with Nx's words" do
    a = Nx.tensor([[1, 0], [1, 0]])
    b = Nx.tensor([1, 2])
    message = "can't solve for singular matrix"
    assert_raise ArgumentError, message, fn -> Nx.LinAlg.triangular_solve(a, b) end
    assert_raise ArgumentError, message, fn -> a |> Nx.LinAlg.solve(b) |> Nx.to_binary() end

    for fun <- [&Nx.LinAlg.triangular_solve/2, &Nx.LinAlg.solve/2],
        do: assert_raise(ArgumentError, message, fn -> Nx.Defn.jit_apply(fun, [a, b]) end)
  end

  test "some of the results, in branches and loops" do
    fun = fn t ->
      {q, _r} = Nx.LinAlg.qr(t)
      {_p, _l, u} = Nx.LinAlg.lu(t)
      Nx.add(q, u)
    end

    a = dominant({3, 3}, :f64, 9)
    assert_as_reference(fun, [a], @loose)
    assert_as_reference(&EMLX.LinAlgTest.Functions.branch/1, [a], @loose)
    assert_as_reference(&EMLX.LinAlgTest.Functions.loop/1, [a], @loose)
  end

  test "gradients" do
    a = dominant({3, 3}, :f64, 10)
    symmetric = Nx.dot(a, Nx.transpose(a))
    assert_as_reference(&EMLX.LinAlgTest.Functions.gradients/1, [symmetric], tolerance: 1.0e-5)
  end

  test "vectorized and named matrices" do
    a = dominant({2, 3, 3}, :f32, 11)
    assert_as_reference(&Nx.LinAlg.qr(Nx.vectorize(&1, :x)), [a], @loose)
    assert_as_reference(&Nx.LinAlg.determinant(Nx.rename(&1, [:x, :y, :z])), [a], @loose)
  end

  defp reference(tensor), do: Nx.backend_copy(tensor, Nx.BinaryBackend)
end
