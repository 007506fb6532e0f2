# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.TelemetryTest do
  # Not async: events of other tests would be counted.
  use EMLX.Case, async: false

  doctest EMLX.Telemetry
  doctest EMLX.Profiling
  doctest EMLX.Debug

  defp span(name), do: for(part <- [:start, :stop, :exception], do: [:emlx, name, part])

  test "reading a pending tensor evaluates it once" do
    t = Nx.add(Nx.iota({2, 3}), 1)
    listen(span(:eval) ++ span(:to_binary))
    Nx.to_binary(t)

    assert_received {[:emlx, :to_binary, :start], %{system_time: _, monotonic_time: _}, read}
    assert %{device: :cpu, shape: {2, 3}, dtype: {:s, 32}, byte_size: 24} = read
    assert_received {[:emlx, :eval, :start], _, %{device: :cpu, count: 1}}
    assert_received {[:emlx, :eval, :stop], %{duration: duration}, _}
    assert duration > 0
    assert_received {[:emlx, :to_binary, :stop], _, %{telemetry_span_context: context}}
    assert context == read.telemetry_span_context

    Nx.to_binary(t)
    assert_received {[:emlx, :to_binary, :stop], _, _}
    refute_received {[:emlx, :eval, :start], _, _}
  end

  test "failures" do
    t = Nx.quotient(Nx.iota({2}), Nx.iota({2}))
    listen(span(:eval))
    assert_raise ArithmeticError, fn -> EMLX.eval(t) end
    assert_received {[:emlx, :eval, :exception], %{duration: _}, %{kind: :error, reason: reason}}
    assert %ArithmeticError{} = reason
  end

  test "compiling, and the cache" do
    listen(span(:compile) ++ for(name <- [:hit, :miss, :stats], do: [:emlx, :cache, name]))
    EMLX.Cache.clear()
    before = EMLX.Telemetry.cache_stats()
    fun = Nx.Defn.jit(fn x, y -> Nx.add(x, Nx.multiply(y, 3)) end)
    assert Nx.to_number(fun.(1, 2)) == 7
    assert_received {[:emlx, :compile, :start], _, _}
    assert_received {[:emlx, :compile, :stop], _, %{device: :cpu, arguments: 2}}
    assert_received {[:emlx, :cache, :miss], %{count: 1, size: 0}, %{}}
    refute_received {[:emlx, :cache, :hit], _, _}
    assert Nx.to_number(fun.(2, 2)) == 8
    refute_received {[:emlx, :compile, :start], _, _}
    assert_received {[:emlx, :cache, :hit], %{count: 1, size: 1}, %{}}
    refute_received {[:emlx, :cache, :miss], _, _}

    stats = EMLX.Telemetry.cache_stats()
    assert_received {[:emlx, :cache, :stats], ^stats, %{}}
    assert stats.misses - before.misses == 1
    assert stats.hits - before.hits == 1
  end

  test "events of the library" do
    library = for kind <- [:compiled, :evaluated, :memory], do: [:emlx, :library, kind]
    listen(library)
    Nx.to_binary(Nx.add(Nx.iota({5077}), 1))
    refute_receive {[:emlx, :library, _], _, _}, 20

    :ok = EMLX.Telemetry.observe(true)
    on_exit(fn -> EMLX.Telemetry.observe(false) end)
    Nx.to_binary(Nx.add(Nx.iota({5079}), 1))

    assert_receive {[:emlx, :library, :compiled], %{count: 1, duration: d},
                    %{device: "cpu", op: nil}}

    assert d > 0
    assert_receive {[:emlx, :library, :evaluated], %{count: 1, duration: _}, %{device: "cpu"}}

    Nx.Defn.jit_apply(&Nx.multiply/2, [Nx.iota({3}), 2])
    assert_receive {[:emlx, :library, :evaluated], %{count: 1}, _}

    EMLX.reset_peak_memory()
    keep = Nx.broadcast(Nx.tensor(1.0, type: :f32), {40 * 1024 * 1024}) |> Nx.add(1)
    EMLX.eval(keep)
    assert_receive {[:emlx, :library, :memory], %{bytes: bytes, refused: 0}, %{device: nil}}
    assert bytes >= 160 * 1024 * 1024
  end

  test "memory" do
    listen([[:emlx, :memory, :stats]])
    stats = EMLX.Telemetry.memory_stats()
    assert_received {[:emlx, :memory, :stats], ^stats, %{}}
  end

  test "profiling counts evaluations, reads and items" do
    assert EMLX.Profiling.read() == {:error, :not_initialized}
    EMLX.Profiling.init()
    on_exit(&EMLX.Profiling.stop/0)
    EMLX.item(EMLX.add(EMLX.ones({}, :f32, :cpu), EMLX.ones({}, :f32, :cpu)))
    assert EMLX.Profiling.read() == {:ok, %{eval: 1, item: 1, to_blob: 1}}
    EMLX.Profiling.reset()
    assert EMLX.Profiling.read() == {:ok, %{eval: 0, item: 0, to_blob: 0}}
    text = ExUnit.CaptureIO.capture_io(fn -> EMLX.Profiling.snapshot("step") end)
    assert text == "EMLX.Profiling step: eval=0 item=0 to_blob=0\n"
  end

  describe "detect_non_finites" do
    setup do
      Application.put_env(:emlx, :detect_non_finites, true)
      on_exit(fn -> Application.delete_env(:emlx, :detect_non_finites) end)
    end

    test "checks what compiled functions return" do
      divide = Nx.Defn.jit(fn x -> {x, %{a: Nx.divide(1, x)}} end)
      assert {_, %{a: a}} = divide.(2)
      assert Nx.to_number(a) == 0.5
      assert_raise EMLX.Error, ~r/has an infinity: f32 \{\}/, fn -> divide.(0) end
      compiled = Nx.Defn.compile(&Nx.divide(1, &1), [Nx.template({}, :s32)], compiler: EMLX)
      assert Nx.to_number(compiled.(4)) == 0.25
      assert_raise EMLX.Error, ~r/^a result of .* has an infinity/, fn -> compiled.(0) end
      sharded = Nx.Defn.shard_jit(&Nx.divide(1, &1), %Nx.Mesh{name: "m", shape: {2}})
      assert [_, _] = sharded.([[1], [2]])
      assert_raise EMLX.Error, ~r/has an infinity/, fn -> sharded.([[1], [0]]) end
    end

    test "checks products at the call" do
      t = Nx.tensor([3.0e38, 3.0e38])
      assert Nx.to_number(Nx.dot(Nx.divide(t, 3.0e38), Nx.tensor([1, 2]))) == 3.0
      assert_raise EMLX.Error, ~r/^the result of dot has an infinity/, fn -> Nx.dot(t, t) end
      input = Nx.reshape(t, {1, 1, 2})
      assert Nx.to_flat_list(Nx.conv(input, Nx.tensor([[[0]]]))) == [0.0, 0.0]

      assert_raise EMLX.Error, ~r/^the result of conv has an infinity/, fn ->
        Nx.conv(input, Nx.tensor([[[1.0, 1.0]]]))
      end
    end

    test "checks the results of other operations when they are read" do
      quotient = Nx.divide(Nx.tensor([0.0, 1.0]), Nx.tensor([0.0, 2.0]))
      later = Nx.greater(quotient, 0)

      for read <- [
            &Nx.to_binary/1,
            &Nx.to_flat_list/1,
            &Nx.backend_copy(&1, Nx.BinaryBackend),
            &Nx.to_number(&1[0]),
            &EMLX.eval/1,
            &EMLX.eval(%{a: {&1}})
          ] do
        assert_raise EMLX.Error, ~r/has NaN: f32 \{(2)?\}/, fn -> read.(quotient) end
      end

      # What is made of it is its own matter.
      assert Nx.to_list(later) == [0, 1]
      assert Nx.to_number(quotient[1]) == 0.5
      complex = Nx.as_type(Nx.divide(1, 0), :c64)
      assert_raise EMLX.Error, ~r/has an infinity: c64/, fn -> Nx.to_number(complex) end
    end

    test "checks nothing where it is not set" do
      Application.put_env(:emlx, :detect_non_finites, false)
      t = Nx.tensor([3.0e38])
      assert Nx.to_number(Nx.dot(t, t)) == :infinity
      assert Nx.to_list(EMLX.eval(Nx.divide(t, 0))) == [:infinity]
    end
  end
end
