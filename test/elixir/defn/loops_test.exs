# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.LoopTypesTest do
  # Nx's gradient of a loop adds up in f32 what the body may give in a wider type. The same functions
  # written out have the right types, and are what the loops are compared with.
  use EMLX.Case, async: true

  import Nx.Defn

  defn powers(x) do
    {a, _} =
      while {a = x, i = 0}, i < 3 do
        {a * a, i + 1}
      end

    Nx.sum(a)
  end

  defn powers_written_out(x) do
    a = x * x
    a = a * a
    Nx.sum(a * a)
  end

  # Shapes, folds and branches between what is multiplied.
  defn shapes(x) do
    {a, _} =
      while {a = x, i = 0}, i < 2 do
        {shapes_turn(a), i + 1}
      end

    Nx.sum(a)
  end

  defn(shapes_written_out(x), do: Nx.sum(shapes_turn(shapes_turn(x))))

  defn shapes_turn(a) do
    b = Nx.reshape(Nx.transpose(Nx.reshape(a, {2, 1})), {2})
    c = Nx.sum(Nx.stack([a, Nx.sin(b)]), axes: [0])
    Nx.select(a > 1.2, c * Nx.cos(a), Nx.concatenate([a[0..0], c[1..1]]) + Nx.exp(-a))
  end

  defn nested(x) do
    {a, _} =
      while {a = x, i = 0}, i < 2 do
        {b, _} =
          while {b = a, j = 0}, j < 2 do
            {Nx.sin(b) * b, j + 1}
          end

        {b + a, i + 1}
      end

    Nx.sum(a)
  end

  defn(nested_written_out(x), do: Nx.sum(nested_turn(nested_turn(x))))

  defn nested_turn(a) do
    b = Nx.sin(a) * a
    Nx.sin(b) * b + a
  end

  defn branching(x) do
    {a, _} =
      while {a = x, i = 0}, i < 3 do
        a = if Nx.sum(a) > 3, do: Nx.sqrt(a), else: a * a * 1.5
        {a, i + 1}
      end

    if Nx.sum(x) > 0, do: Nx.sum(a), else: Nx.sum(x)
  end

  defn(branching_written_out(x), do: Nx.sum(branch(branch(branch(x)))))

  defn branch(a) do
    big = Nx.sum(a) > 3
    Nx.select(big, Nx.sqrt(a), a * a * 1.5)
  end

  # Through a complex state and back.
  defn turning(x) do
    z = Nx.complex(x, Nx.sin(x))

    {z, _} =
      while {z, i = 0}, i < 2 do
        {z * Nx.reshape(Nx.reshape(z, {1, 2}), {2}), i + 1}
      end

    Nx.sum(Nx.real(z) + 2 * Nx.imag(z))
  end

  defn turning_written_out(x) do
    z = Nx.complex(x, Nx.sin(x))
    z = z * z
    z = z * z
    Nx.sum(Nx.real(z) + 2 * Nx.imag(z))
  end

  loops = [:powers, :shapes, :nested, :branching, :turning]

  for loop <- loops, type <- [:f32, :f64] do
    test "the gradient of #{loop} at #{type}" do
      x = Nx.tensor([1.0, 1.5], type: unquote(type))
      assert_same_gradient(unquote(loop), unquote(:"#{loop}_written_out"), x)
    end
  end

  for type <- [:c64, :c128] do
    test "the gradient of powers at #{type}" do
      x = Nx.tensor([Complex.new(1.0, 1.0), Complex.new(0.5, 2.0)], type: unquote(type))
      assert_same_gradient(:powers, :powers_written_out, x)
    end
  end

  # What is carried is f64, though Nx declares f32 for the result.
  test "nothing is rounded on the way" do
    x = Nx.tensor([1.0 + 1.0e-9], type: :f64)

    sharp =
      Nx.Defn.jit(
        fn x -> Nx.multiply(Nx.subtract(Nx.Defn.grad(x, &powers/1), 8.0), 1.0e9) end,
        compiler: EMLX
      )

    assert_in_delta Nx.to_number(sharp.(x)[0]), 56.0, 0.1
  end

  test "the gradient that was reported" do
    x = Nx.tensor([1.0, 1.5], type: :f64)
    assert Nx.to_list(gradient(&powers/1, x)) == [8.0, 136.6875]
  end

  test "hooks see the declared types" do
    test = self()

    loud = fn x ->
      Nx.Defn.Kernel.hook(Nx.Defn.grad(x, &powers/1), :gradient, &send(test, {:told, &1}))
    end

    x = Nx.tensor([1.0, 1.5], type: :f64)
    Nx.Defn.jit_apply(loud, [x], compiler: EMLX)
    assert_received {:told, gradient}
    assert {gradient.type, Nx.to_list(gradient)} == {{:f, 32}, [8.0, 136.6875]}
  end

  # A tensor's bits are never read as another type, as Nx's evaluator would have them here.
  test "a declared type that is not that of the data raises" do
    x = Nx.tensor([1.0, 1.5], type: :f64)

    wrong =
      Nx.Defn.jit_apply(&Nx.Defn.grad(&1, fn x -> powers(x) end), [x],
        compiler: Nx.Defn.Evaluator
      )

    assert wrong.type == {:f, 32}
    message = ~r/declared as f32\[2\], and its data is f64/

    for read <- [
          &Nx.to_binary/1,
          &Nx.to_list/1,
          &Nx.backend_copy(&1, Nx.BinaryBackend),
          &Nx.to_pointer/1,
          &Nx.to_pointer(&1, mode: :ipc)
        ] do
      assert_raise ArgumentError, message, fn -> read.(wrong) end
    end

    assert inspect(wrong) =~ message

    # Its values are there.
    assert Nx.to_list(EMLX.Backend.to_nx(EMLX.Backend.from_nx(wrong))) == [8.0, 136.6875]
    assert Nx.to_list(Nx.add(wrong, 0)) == [8.0, 136.6875]
  end

  defp assert_same_gradient(loop, written_out, x) do
    wanted = gradient(&apply(__MODULE__, written_out, [&1]), x)
    actual = gradient(&apply(__MODULE__, loop, [&1]), x)
    assert_close(actual, Nx.as_type(wanted, actual.type), tolerance: 1.0e-6)
  end

  defp gradient(fun, x),
    do: Nx.Defn.jit_apply(fn x -> Nx.Defn.grad(x, fun) end, [x], compiler: EMLX)
end
