# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.CacheTest do
  use EMLX.Case, async: false

  alias EMLX.Cache

  test "tells closures apart by what they hold" do
    for values <- [[1, 2], [10, 20], [1, 2]] do
      a = Nx.tensor(values, backend: Nx.BinaryBackend)
      fun = &Nx.add(&1, a)
      assert Nx.to_list(Nx.Defn.jit_apply(fun, [Nx.tensor(1)])) == Nx.to_list(Nx.add(a, 1))
    end

    make = fn k -> fn t -> Nx.multiply(t, k) end end
    for k <- [2, 3, 2.5], do: assert(Nx.to_number(Nx.Defn.jit_apply(make.(k), [2])) == 2 * k)
  end

  test "tells large tensors apart that a function holds, and finds equal ones" do
    large = :binary.copy(<<1::float-32-native>>, 50_000)

    for {position, sum} <- [{25_001, 50_009}, {25_007, 50_009}, {0, 50_009}], _ <- 1..2 do
      <<before::binary-size(position)-unit(32), _::32, rest::binary>> = large
      changed = before <> <<10::float-32-native>> <> rest
      held = Nx.from_binary(changed, :f32, backend: Nx.BinaryBackend)
      at = &{Nx.sum(Nx.multiply(&1, held)), held[position]}
      {total, element} = Nx.Defn.jit_apply(at, [1])
      assert {Nx.to_number(total), Nx.to_number(element)} == {sum, 10}
    end

    misses = Cache.stats().misses
    kept = Nx.from_binary(large, :f32, backend: Nx.BinaryBackend)
    copy = Nx.from_binary(:binary.copy(large), :f32, backend: Nx.BinaryBackend)
    sum = fn held -> &Nx.sum(Nx.add(&1, held)) end
    for held <- [kept, copy, kept], do: Nx.Defn.jit_apply(sum.(held), [1])
    assert Cache.stats().misses == misses + 1
  end

  test "survives settings that are none" do
    keeper = Process.whereis(Cache)

    for wrong <- [-1, "many", nil, 1.5] do
      log =
        ExUnit.CaptureLog.capture_log(fn ->
          Application.put_env(:emlx, :compile_cache_max_items, wrong)
          assert Cache.fetch({:wrong, wrong}, fn -> wrong end) == wrong
          Application.put_env(:emlx, :compile_cache_ttl, wrong)
          send(keeper, :sweep)
          _ = :sys.get_state(keeper)
        end)

      assert log =~ "compile_cache_max_items must be a non-negative integer or :infinity"
      assert log =~ "compile_cache_ttl must be"
    end

    assert Process.whereis(Cache) == keeper
  after
    Application.delete_env(:emlx, :compile_cache_max_items)
    Application.delete_env(:emlx, :compile_cache_ttl)
  end

  test "counts" do
    fun = fn t -> Nx.add(t, make_ref() |> :erlang.phash2()) end
    before = Cache.stats()
    for _ <- 1..3, do: Nx.Defn.jit_apply(fun, [Nx.tensor(1)])
    later = Cache.stats()
    # Other tests use it at the same time.
    assert later.misses >= before.misses + 1
    assert later.hits >= before.hits + 2
    assert later.size > 0
  end

  test "is bounded, and what falls out lets go of its memory" do
    listen([[:emlx, :cache, :evict]])
    limit = Application.get_env(:emlx, :compile_cache_max_items)
    Application.put_env(:emlx, :compile_cache_max_items, 4)

    try do
      before = Cache.stats().evictions
      for i <- 1..10, do: Cache.fetch({:bound, i}, fn -> i end)
      stats = Cache.stats()
      assert stats.size <= 4
      assert stats.evictions >= before + 6
      assert_received {[:emlx, :cache, :evict], %{count: 1, size: 4}, %{reason: :full}}
      assert Cache.fetch({:bound, 10}, fn -> :made_again end) == 10
    after
      if limit,
        do: Application.put_env(:emlx, :compile_cache_max_items, limit),
        else: Application.delete_env(:emlx, :compile_cache_max_items)
    end
  end

  test "forgets what nobody used for long" do
    key = make_ref()
    Cache.fetch(key, fn -> :first end)
    assert Cache.sweep(60_000) == :ok
    assert Cache.fetch(key, fn -> :second end) == :first
    Process.sleep(5)
    listen([[:emlx, :cache, :evict]])
    size = Cache.stats().size
    Cache.sweep(2)
    assert_received {[:emlx, :cache, :evict], %{count: count, size: left}, %{reason: :unused}}
    assert count >= 1 and left == size - count
    Cache.sweep(2)
    refute_received {[:emlx, :cache, :evict], _, _}
    assert Cache.fetch(key, fn -> :third end) == :third
  end

  test "a hundred processes compile one function once" do
    test = self()

    fun = fn t ->
      send(test, :traced)
      Enum.reduce(1..200, t, fn i, t -> Nx.sin(Nx.add(t, i)) end)
    end

    before = Cache.stats().misses

    tasks =
      for _ <- 1..100 do
        Task.async(fn -> Nx.to_number(Nx.Defn.jit_apply(fun, [1.0], compiler: EMLX)) end)
      end

    assert [_same] = Enum.uniq(Task.await_many(tasks, 30_000))
    assert_received :traced
    refute_received :traced
    assert Cache.stats().misses == before + 1
  end

  test "what is cleared lives on with its users" do
    compiled = Nx.Defn.compile(&Nx.add(&1, 1), [Nx.template({}, :s32)])
    Nx.Defn.jit_apply(&Nx.add(&1, 2), [1])
    Cache.clear()
    assert Cache.stats().size == 0
    assert Nx.to_number(compiled.(1)) == 2
  end

  test "keeps what literals need, and no longer than the program" do
    size = 32_000_000
    before = :erlang.memory(:binary)

    in_process(fn ->
      literal = Nx.from_binary(:binary.copy(<<1>>, size), :u8, backend: Nx.BinaryBackend)
      Nx.Defn.jit_apply(fn t -> Nx.sum(Nx.add(t, literal)) end, [1], compiler: EMLX)
    end)

    assert :erlang.memory(:binary) > before + div(size, 2)
    Cache.clear()
    assert eventually(fn -> :erlang.memory(:binary) < before + div(size, 2) end)
  end
end
