# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.ServerTest do
  use ExUnit.Case, async: true

  alias EMLXAxon.{Llama, Server, TestModel, TextGeneration}

  @moduletag timeout: 300_000

  defp letters,
    do: %{encode: &String.to_charlist/1, decode: fn t -> Enum.map_join(t, " ", &to_string/1) end}

  setup_all do: %{state: TestModel.loaded(Llama)}

  defp started(state, options) do
    options = Keyword.merge([tokenizer: letters(), state: state, max_len: 200], options)
    start_supervised!({Server, options})
  end

  @texts ["a", "hello", "abc", "zebra crossing", "q", "to be or not to be"]

  test "texts side by side are what each is alone, however many rows there are", %{state: state} do
    expected =
      for {text, i} <- Enum.with_index(@texts),
          do: TextGeneration.run(letters(), state, text, max_new_tokens: 5 + 7 * i)

    for slots <- [1, 3, 6] do
      server = started(state, slots: slots)

      got =
        @texts
        |> Enum.with_index()
        |> Enum.map(fn {text, i} ->
          Task.async(fn -> Server.run(server, text, max_new_tokens: 5 + 7 * i) end)
        end)
        |> Task.await_many(120_000)

      assert got == expected
      stop_supervised!(Server)
    end
  end

  test "a stream gives the same tokens, and leaves when it is not read to its end", %{
    state: state
  } do
    server = started(state, slots: 1)

    %{results: [%{generated_text: text}]} =
      TextGeneration.run(letters(), state, "abc", max_new_tokens: 23)

    assert server |> Server.stream("abc", max_new_tokens: 23) |> Enum.join(" ") == text
    assert [_, _] = server |> Server.stream("abc", max_new_tokens: 150) |> Enum.take(2)
    assert %{results: [_]} = Server.run(server, "abc", max_new_tokens: 3)
  end

  test "the row of one who died is given to the next", %{state: state} do
    server = started(state, slots: 1)
    test = self()

    pid =
      spawn(fn ->
        server |> Server.stream("abc", max_new_tokens: 190) |> Enum.each(&send(test, {:part, &1}))
      end)

    assert_receive {:part, _}, 60_000
    Process.exit(pid, :kill)
    assert %{results: [%{num_tokens: 2}]} = Server.run(server, "abc", max_new_tokens: 2)
    assert %{rows: %{0 => nil}} = :sys.get_state(server)
  end

  test "what is too long is said, and a server that ends ends those who wait", %{state: state} do
    server = started(state, slots: 1)

    assert_raise ArgumentError, ~r/the prompt has 300 tokens, and a text may have 200/, fn ->
      Server.run(server, String.duplicate("a", 300))
    end

    assert_raise ArgumentError, ~r/:max_new_tokens/, fn ->
      Server.run(server, "a", max_new_tokens: 0)
    end

    assert_raise ArgumentError, ~r/:slots/, fn ->
      Server.start_link(tokenizer: letters(), state: state, slots: 0)
    end

    stop_supervised!(Server)
    server = started(state, slots: 1, max_len: 20_000)
    task = Task.async(fn -> catch_exit(Server.run(server, "abc", max_new_tokens: 19_000)) end)
    seated(server)
    stop_supervised!(Server)
    assert {_, {Server, :next, []}} = Task.await(task)
  end

  defp seated(server) do
    unless :sys.get_state(server).rows[0], do: seated(server)
  end
end
