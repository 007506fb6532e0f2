# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.TelemetryTest do
  use ExUnit.Case, async: true

  alias EMLXAxon.{Qwen3, Server, TestModel, TextGeneration}

  @moduletag timeout: 300_000
  @generated [:emlx_axon, :generate, :stop]
  @drawn [:emlx_axon, :server, :draw]

  defp letters, do: %{encode: &String.to_charlist/1, decode: &Enum.join(&1, " ")}

  setup_all do: %{state: TestModel.loaded(Qwen3)}

  # Handlers run in the process that reports, of which other tests have some too.
  defp listen(event, of) do
    id = make_ref()
    :ok = :telemetry.attach(id, event, &__MODULE__.told/4, {self(), of})
    on_exit(fn -> :telemetry.detach(id) end)
  end

  def told(_event, measured, metadata, {test, of}),
    do: if(of.(metadata), do: send(test, {:told, measured, metadata}))

  test "a text is told of", %{state: state} do
    test = self()
    listen(@generated, fn _ -> self() == test end)

    %{results: [%{num_tokens: count}], finish_reason: reason} =
      TextGeneration.run(letters(), state, "abc", max_new_tokens: 9)

    assert_received {:told, measured, %{finish_reason: ^reason, server: nil}}
    assert measured.tokens == count
    assert measured.cache_used == 3 + count - 1
    assert measured.cache_length >= measured.cache_used
    assert 0 < measured.time_to_first_token and measured.time_to_first_token <= measured.duration
    assert measured.tokens_per_second > 0
    refute_received {:told, _, _}
  end

  test "a server tells of its texts, of those that nobody waits for, and of its rows", %{
    state: state
  } do
    options = [tokenizer: letters(), state: state, slots: 2, max_len: 200, chunk: 5]
    server = start_supervised!({Server, options})
    listen(@generated, &(&1.server == server))
    Server.run(server, "abc", max_new_tokens: 12)
    assert_receive {:told, %{tokens: 12, cache_used: 14} = measured, %{finish_reason: :length}}
    assert measured.cache_length >= 200
    assert 0 < measured.time_to_first_token and measured.time_to_first_token <= measured.duration
    assert [_, _] = server |> Server.stream("abc", max_new_tokens: 150) |> Enum.take(2)
    assert_receive {:told, %{tokens: tokens}, %{finish_reason: :cancelled}}
    assert tokens in 1..150

    listen(@drawn, &(&1.server == server))
    Server.run(server, "abc", max_new_tokens: 6)
    assert_receive {:told, %{rows: 1, slots: 2, waiting: 0, tokens: 5} = measured, _}
    assert measured.duration > 0
  end
end
