# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Case do
  @moduledoc """
  Tests that run on EMLX: it is the default backend and compiler of each test's process.
  """

  use ExUnit.CaseTemplate

  # What the reference and we may differ by, relative to the larger value: the
  # reference truncates bf16, the others are last digits.
  @tolerance %{bf16: 1.6e-2, f16: 2.0e-3, f32: 2.0e-6, f64: 1.0e-12}
             |> Map.merge(%{c64: 2.0e-6, c128: 1.0e-12})

  using do
    quote do
      import EMLX.Case
    end
  end

  setup do
    Nx.default_backend(EMLX.Backend)
    Nx.Defn.default_options(compiler: EMLX)
    :ok
  end

  @doc """
  What names no device runs on that of EMLX_TEST_DEVICE, such as an engine of test/engines.
  """
  def choose_device do
    with name when name != nil <- System.get_env("EMLX_TEST_DEVICE"),
         do: Application.put_env(:emlx, :default_device, String.to_atom(name))
  end

  @doc """
  What is left out on that device, as ExUnit's filters: the lines of the list of its engine, if it has one.
  """
  def exceptions do
    device = System.get_env("EMLX_TEST_DEVICE", "")

    for {engine, list} <- [{"mlx", "test/mlx/known.txt"}, {"cuda", "test/engines/cuda/known.txt"}],
        String.starts_with?(device, engine),
        line <- list |> File.read!() |> String.split("\n", trim: true),
        not String.starts_with?(line, "#"),
        do: {:test, String.to_atom(line)}
  end

  @doc "Runs a function with Nx's reference backend and evaluator as defaults."
  def with_reference(fun) do
    Task.await(
      Task.async(fn ->
        Nx.default_backend(Nx.BinaryBackend)
        Nx.Defn.default_options(compiler: Nx.Defn.Evaluator)
        fun.()
      end),
      60_000
    )
  end

  @doc """
  Asserts that a function of tensors gives on EMLX, called and compiled, what it gives on
  `Nx.BinaryBackend`. The arguments must be there.
  """
  def assert_as_reference(fun, args, options \\ []) do
    expected = with_reference(fn -> apply(fun, args) end)
    native = Enum.map(args, &to_native/1)

    assert_close(apply(fun, native), expected, options)
    assert_close(Nx.Defn.jit_apply(fun, native, compiler: EMLX), expected, options)
  end

  defp to_native(%Nx.Tensor{} = tensor), do: Nx.backend_copy(tensor, EMLX.Backend)
  defp to_native(other), do: other

  @doc "Asserts that two containers hold the same tensors, within the types' tolerances."
  def assert_close(actual, expected, options \\ []) do
    actual = Nx.Defn.Composite.flatten_list([actual])
    expected = Nx.Defn.Composite.flatten_list([expected])
    assert length(actual) == length(expected)
    Enum.zip_with(actual, expected, &assert_close_tensors(&1, &2, options))
  end

  defp assert_close_tensors(actual, expected, options) do
    assert %Nx.Tensor{data: %EMLX.Backend{}} = actual
    assert actual.type == expected.type
    assert actual.shape == expected.shape
    assert actual.names == expected.names
    assert actual.vectorized_axes == expected.vectorized_axes

    tolerance =
      options[:tolerance] || Map.get(@tolerance, EMLX.Types.to_native(actual.type), 0.0)

    left = actual |> Nx.backend_copy(Nx.BinaryBackend) |> Nx.to_flat_list()
    right = Nx.to_flat_list(expected)

    for {{a, b}, i} <- left |> Enum.zip(right) |> Enum.with_index(),
        not close?(a, b, tolerance) do
      flunk("""
      element #{i} is #{inspect(a)}, expected #{inspect(b)}
      got:      #{inspect(Enum.take(left, 20))}
      expected: #{inspect(Enum.take(right, 20))}
      """)
    end
  end

  defp close?(a, a, _tolerance), do: true
  defp close?(a, b, _tolerance) when is_atom(a) or is_atom(b), do: false

  defp close?(%Complex{} = a, b, tolerance),
    do: close?(a.re, Complex.real(b), tolerance) and close?(a.im, Complex.imag(b), tolerance)

  defp close?(a, b, tolerance), do: abs(a - b) <= tolerance * max(max(abs(a), abs(b)), 1.0e-3)

  @doc "Reproducible numbers on `Nx.BinaryBackend`, small and of both signs where the type has them."
  def random(shape, type, seed, options \\ [])

  def random(shape, {:c, size}, seed, options) do
    re = random(shape, {:f, div(size, 2)}, seed, options)
    im = random(shape, {:f, div(size, 2)}, seed + 1000, options)
    with_reference(fn -> Nx.complex(re, im) end)
  end

  def random(shape, type, seed, options) when type in [:c64, :c128],
    do: random(shape, Nx.Type.normalize!(type), seed, options)

  def random(shape, type, seed, options) do
    state = :rand.seed_s(:exsss, {seed, 7, 11})
    {low, high} = options[:range] || range(type)

    {values, _state} =
      Enum.map_reduce(1..Tuple.product(shape)//1, state, fn _, state ->
        {uniform, state} = :rand.uniform_s(state)
        {low + uniform * (high - low), state}
      end)

    values = if integer?(type), do: Enum.map(values, &round/1), else: values
    values |> Nx.tensor(type: type, backend: Nx.BinaryBackend) |> Nx.reshape(shape)
  end

  @doc "Whether the reference adds elements of two and four bits; that of some versions raises."
  def narrow_reference? do
    t = Nx.tensor([1, 2], type: :u2, backend: Nx.BinaryBackend)
    Nx.add(t, t).type == {:u, 2}
  rescue
    ArgumentError -> false
  end

  @doc "Bytes in use once what earlier tests left behind is gone."
  def settled(last \\ nil) do
    :erlang.garbage_collect()

    case EMLX.memory_info().active_memory do
      ^last ->
        last

      bytes ->
        Process.sleep(100)
        settled(bytes)
    end
  end

  @doc "Runs a function in a process of its own and waits for its end, so that its garbage goes."
  def in_process(fun) do
    {pid, monitor} = spawn_monitor(fun)

    receive do
      {:DOWN, ^monitor, :process, ^pid, reason} -> reason
    end
  end

  @doc "Has telemetry events sent to the test, as `{event, measurements, metadata}`."
  def listen(events) do
    name = make_ref()
    :telemetry.attach_many(name, events, &__MODULE__.forward/4, self())
    ExUnit.Callbacks.on_exit(fn -> :telemetry.detach(name) end)
  end

  @doc false
  def forward(event, measurements, metadata, test),
    do: send(test, {event, measurements, metadata})

  @doc "Whether a condition becomes true within ten seconds."
  def eventually(fun, tries \\ 1000) do
    cond do
      fun.() ->
        true

      tries == 0 ->
        false

      true ->
        Process.sleep(10)
        eventually(fun, tries - 1)
    end
  end

  defp integer?(type), do: elem(Nx.Type.normalize!(type), 0) in [:u, :s]

  defp range(type) do
    case Nx.Type.normalize!(type) do
      {:u, _} -> {0, 100}
      {:s, _} -> {-100, 100}
      _float -> {-4.0, 4.0}
    end
  end
end
