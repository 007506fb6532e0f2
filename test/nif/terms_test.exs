# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIF.TermsTest do
  # Whatever terms come, the answer is a result, an error or an ArgumentError.
  use NIFCase, async: true

  defp terms do
    tensor = s32([1, 2, 3, 4], [2, 2])

    [
      nil,
      :ok,
      :add,
      :sort,
      :f32,
      :s32,
      0,
      -1,
      2,
      1.5,
      0x7FFFFFFFFFFFFFFF,
      -0x8000000000000000,
      0xFFFFFFFFFFFFFFFF,
      0x123456789ABCDEF0123456789,
      "",
      "cpu",
      "a\0b",
      :binary.copy("x", 10_000),
      <<1::3>>,
      [],
      {},
      {1, 2},
      {2, 2},
      {-1},
      {0x7FFFFFFFFFFFFFFF, 0x7FFFFFFFFFFFFFFF},
      List.to_tuple(Enum.to_list(1..17)),
      List.duplicate(1, 1000),
      [1 | 2],
      [axis: 0],
      [axis: "x"],
      [shape: {2}, value: 1],
      [tensor],
      [tensor, tensor],
      List.duplicate(tensor, 20),
      [tensor, nil],
      [tensor | tensor],
      tensor,
      cpu(),
      make_ref(),
      self(),
      %{},
      %{a: 1},
      fn -> 1 end,
      {[], [], []},
      {[{nil, :s32, {2}}], [{:add, [0, 0], [], :s32}], [{nil, 1}]},
      {[{nil, :s32, {2}}], [{:add, [0, 9], [], :s32}], [{nil, 1}]},
      {[{1, :s32, {2}}], [], []},
      {[], [{:cond, [], [], []}], []},
      {[], [{:while, {}, {}, []}], []},
      {[{nil, :s32, {2}}], [{:call, 1, [0], [{:s32, {2}}]}], [{nil, 1}]},
      {[{nil, :s32, {2}}], [{:call, -1, [0], []}], []},
      {[{nil, :s32, {2}}], [{:call, 1, [0], [{:s32} | 1]}], []},
      {[], [{:call, 1, [], [{:s32, {-1}}, :f32]}], []},
      {[], [{:tensor, tensor}], [{"out", 0}]},
      {[], [{:tensor, 1}], [{"out", 0}]}
    ]
  end

  # Limits of the whole library, and who observes it, are no business of random terms.
  @skipped [:load, :memory_set_limit, :memory_set_cache_limit, :module_info, :__info__] ++
             [:device_memory_set_limit, :device_memory_set_cache_limit, :observe]

  defp functions do
    for {name, arity} <- NIF.__info__(:functions), name not in @skipped, do: {name, arity}
  end

  # A name that is right would become a file where the tests run.
  defp call(:program_save, [block, name | rest]) when name in ["", "cpu"],
    do: call(:program_save, [block, "/" <> name <> "/" | rest])

  defp call(name, arguments) do
    apply(NIF, name, arguments)
  rescue
    ArgumentError -> :badarg
  end

  test "single wrong terms in place of each argument" do
    terms = terms()

    for {name, arity} <- functions(), arity > 0, term <- terms, place <- 0..(arity - 1) do
      arguments = good(name) |> List.replace_at(place, term)
      assert length(arguments) == arity
      call(name, arguments)
    end

    drain()
  end

  test "random terms everywhere" do
    :rand.seed(:exsss, {1, 2, 3})
    terms = terms()

    for {name, arity} <- functions(), _ <- 1..2000 do
      call(name, for(_ <- 1..arity//1, do: Enum.random(terms)))
    end

    drain()
  end

  # FUZZ_SECONDS of this, two where nothing is said; FUZZ_SEED repeats a run. Processes that call die
  # with all that they have begun.
  @tag timeout: :infinity
  test "right arguments with random changes, and random operations" do
    seconds = String.to_integer(System.get_env("FUZZ_SECONDS", "2"))
    seed = String.to_integer(System.get_env("FUZZ_SEED", "#{:os.system_time(:second)}"))
    IO.puts("FUZZ_SEED=#{seed}")
    {:ok, limit} = NIF.memory_set_limit(1_000_000_000)
    until = System.monotonic_time(:second) + seconds

    batches =
      Stream.iterate(seed, &(&1 + 1))
      |> Stream.take_while(fn _ -> System.monotonic_time(:second) < until end)
      |> Stream.map(&batch/1)
      |> Enum.count()

    {:ok, _} = NIF.memory_set_limit(limit)
    IO.puts("#{batches} batches of 400 calls")
    assert batches > 0
  end

  defp batch(seed) do
    :rand.seed(:exsss, {seed, 0, 0})
    life = if :rand.uniform(8) == 1, do: :rand.uniform(20), else: :infinity
    {pid, monitor} = spawn_monitor(fn -> calls(seed) end)

    receive do
      {:DOWN, ^monitor, :process, ^pid, reason} -> assert reason == :normal
    after
      life ->
        Process.exit(pid, :kill)
        assert_receive {:DOWN, ^monitor, :process, ^pid, _reason}, 60_000
    end
  end

  # Addresses are taken at their word, and names would become files and shared memory.
  @unchanged [:from_address, :shm_write, :shm_read, :shm_unlink, :program_load]

  defp calls(seed) do
    :rand.seed(:exsss, {seed, 1, 0})
    terms = terms()
    functions = for {name, arity} <- functions(), arity > 0, name not in @unchanged, do: name
    pool = for type <- [:u8, :s32, :f32, :c64], do: constant(type, {2, 3})

    Enum.reduce(1..400, pool, fn _, pool ->
      if :rand.uniform(2) == 1,
        do: operation(pool, terms),
        else: changed(Enum.random(functions), terms, pool)
    end)
  end

  defp constant(type, shape), do: apply_op(:constant, [], [shape: shape, value: 1], type)

  defp changed(name, terms, pool) do
    arguments = right(name)
    place = if name == :program_save, do: 0, else: :rand.uniform(length(arguments)) - 1
    call(name, List.update_at(arguments, place, &change(&1, terms)))
    answers()
    pool
  end

  defp right(:apply), do: [:add, nil, [constant(:s32, {2, 2}), constant(:s32, {2})], [], :s32]
  defp right(name), do: good(name)

  # An operation on operands that are there; what it gives is there for the next.
  defp operation(pool, terms) do
    {name, fewest, most, attributes} = Enum.random(NIF.ops())
    most = if is_integer(most), do: most, else: 4
    operands = for _ <- 1..Enum.random(fewest..most)//1, do: Enum.random(pool)

    given =
      for {attribute, kind, required} <- attributes,
          required or :rand.uniform(2) == 1,
          do: {attribute, value(kind, terms)}

    type = Enum.random([nil, nil, :u8, :s32, :s64, :bf16, :f32, :f64, :c64])
    device = if operands == [], do: cpu()

    case call(:apply, [name, device, operands, given, type]) do
      {:ok, result} -> result |> computed() |> Enum.reduce(pool, &keep/2)
      _refused -> pool
    end
  end

  defp computed(result) do
    tensors = if is_tuple(result), do: Tuple.to_list(result), else: [result]
    if :rand.uniform(3) == 1, do: call(:eval, [tensors, nil, true, make_ref()])
    if :rand.uniform(3) == 1, do: call(:to_binary, [hd(tensors), 64, make_ref()])
    tensors
  end

  defp keep(tensor, pool) do
    {:ok, {_type, dims, _ready, _depth}} = NIF.tensor_info(tensor)
    dims = if is_tuple(dims), do: Tuple.to_list(dims), else: dims
    if Enum.product(dims) < 100_000, do: [tensor | Enum.take(pool, 20)], else: pool
  end

  defp value(:int, _terms), do: Enum.random([-2, -1, 0, 1, 2, 3, 0x7FFFFFFFFFFFFFFF])
  defp value(:ints, _terms), do: for(_ <- 1..:rand.uniform(4), do: Enum.random(-1..3))
  defp value(:bool, _terms), do: Enum.random([true, false])
  defp value(:number, _terms), do: Enum.random([0, -1, 2.5, :nan, :infinity])
  defp value(:text, _terms), do: Enum.random([:lower, :upper, :none, :asc, :desc, :left])
  defp value(_kind, terms), do: Enum.random(terms)

  # One place in a term, however deep, becomes another term.
  defp change([_ | _] = list, terms) do
    if :rand.uniform(8) == 1 or List.improper?(list) do
      Enum.random(terms)
    else
      place = :rand.uniform(length(list)) - 1

      case :rand.uniform(8) do
        1 -> List.delete_at(list, place)
        2 -> List.insert_at(list, place, Enum.random(terms))
        _ -> List.update_at(list, place, &change(&1, terms))
      end
    end
  end

  defp change(tuple, terms) when is_tuple(tuple) and tuple_size(tuple) > 0 do
    case tuple |> Tuple.to_list() |> change(terms) do
      [_ | _] = list -> if List.improper?(list), do: list, else: List.to_tuple(list)
      other -> other
    end
  end

  defp change(number, terms) when is_integer(number),
    do: Enum.random([number + 1, number - 1, -number, 0, 65, 0x100000000, Enum.random(terms)])

  defp change(_other, terms), do: Enum.random(terms)

  defp answers do
    receive do
      {reference, _result} when is_reference(reference) -> answers()
    after
      0 -> :ok
    end
  end

  test "limits must be numbers of bytes" do
    for bad <- [-1, 1.0, nil, 0x10000000000000000, "1"] do
      assert {:error, :invalid, _} = NIF.memory_set_limit(bad)
      assert {:error, :invalid, _} = NIF.memory_set_cache_limit(bad)
      assert {:error, :invalid, _} = NIF.device_memory_set_limit(cpu(), bad)
      assert {:error, :invalid, _} = NIF.device_memory_set_cache_limit(cpu(), bad)
    end
  end

  defp good(name) do
    tensor = s32([1, 2, 3, 4], [2, 2])
    block = {[{"x", :s32, {2, 2}}], [{:add, [0, 0], [], :s32}], [{"y", 1}]}
    path = Path.join(System.tmp_dir!(), "emlx_terms_test.safetensors")

    case name do
      :device_open -> ["cpu", make_ref()]
      :device_describe -> [cpu()]
      :device_capture -> [cpu(), "", make_ref()]
      :device_address -> [tensor, make_ref()]
      :device_export -> [tensor, make_ref()]
      :device_memory_open -> [cpu(), {:s32, {2, 2}, "no handle"}, make_ref()]
      :device_reset -> [cpu(), make_ref()]
      :device_host_memory -> [cpu()]
      :archive_read -> [cpu(), path, make_ref()]
      :device_memory_info -> [cpu()]
      :device_memory_clear_cache -> [cpu()]
      :device_memory_reset_peak -> [cpu()]
      :handovers -> [cpu()]
      :refuse_handovers -> [false]
      :memory_relieve -> [true, make_ref()]
      :from_binary -> [cpu(), :s32, {2}, <<1::64>>, make_ref()]
      :binary_address -> [<<1>>]
      :to_binary -> [tensor, 16, make_ref()]
      :deallocate -> [tensor]
      :tensor_copy -> [tensor, cpu(), make_ref()]
      :tensor_info -> [tensor]
      :tensor_type -> [tensor]
      :tensor_address -> [tensor]
      :from_address -> [cpu(), :s32, {2, 2}, elem(Native.address(tensor), 0), 16]
      :shm_write -> [{tensor, 0o400}, shm_name(), make_ref()]
      :shm_read -> [cpu(), {:s32, {2, 2}}, shm_name(), make_ref()]
      :shm_unlink -> [shm_name()]
      :apply -> [:sort, nil, [tensor], [axis: 0], :s32]
      :eval -> [[apply_op(:negate, [tensor])], nil, false, make_ref()]
      :program_compile -> [cpu(), block, make_ref()]
      :program_save -> [block, path, make_ref()]
      :program_load -> [cpu(), path, make_ref()]
      :program_info -> [Native.compile(cpu(), block)]
      :program_run -> [Native.compile(cpu(), block), [tensor], nil, false, make_ref()]
      :program_resume -> [waiting_run(tensor), [tensor], nil, make_ref()]
      :program_drop -> [waiting_run(tensor)]
      :queue_new -> [cpu()]
      :queue_sync -> [Native.queue_new(cpu()), make_ref()]
    end
  end

  # No second one can be made while there is one.
  defp shm_name do
    name = "/emlx-terms-#{System.pid()}"
    NIF.shm_unlink(name)
    on_exit(fn -> NIF.shm_unlink(name) end)
    name
  end

  defp waiting_run(tensor) do
    block = {[{"x", :s32, {2, 2}}], [{:call, 7, [0], [{:s32, {2, 2}}]}], [{"y", 1}]}
    program = Native.compile(cpu(), block)
    {:call, run, 7, [_operand]} = NIF.program_run(program, [tensor], nil, false, make_ref())
    run
  end

  # Answers to calls that happened to be right.
  defp drain do
    receive do
      {reference, _result} when is_reference(reference) -> drain()
    after
      500 -> :ok
    end
  end
end
