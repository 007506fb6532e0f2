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

  # Limits of the whole library are no business of random terms.
  @skipped [:load, :memory_set_limit, :memory_set_cache_limit, :module_info, :__info__]

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

  test "limits must be numbers of bytes" do
    for bad <- [-1, 1.0, nil, 0x10000000000000000, "1"] do
      assert {:error, :invalid, _} = NIF.memory_set_limit(bad)
      assert {:error, :invalid, _} = NIF.memory_set_cache_limit(bad)
    end
  end

  defp good(name) do
    tensor = s32([1, 2, 3, 4], [2, 2])
    block = {[{"x", :s32, {2, 2}}], [{:add, [0, 0], [], :s32}], [{"y", 1}]}
    path = Path.join(System.tmp_dir!(), "emlx_terms_test.safetensors")

    case name do
      :device_open -> ["cpu", make_ref()]
      :device_describe -> [cpu()]
      :memory_relieve -> [true, make_ref()]
      :from_binary -> [cpu(), :s32, {2}, <<1::64>>, make_ref()]
      :binary_address -> [<<1>>]
      :to_binary -> [tensor, 16]
      :deallocate -> [tensor]
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
