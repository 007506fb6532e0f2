# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.TextGenerationTest do
  use ExUnit.Case, async: true
  doctest EMLXAxon.Tokenizer

  alias EMLXAxon.{Qwen3, TestModel, TextGeneration}

  @moduletag timeout: 300_000

  # Letters, and a space for every sixth.
  defp letters, do: %{encode: &String.to_charlist/1, decode: &decode/1}

  defp decode(tokens) do
    for t <- tokens, into: "", do: if(rem(t, 6) == 0, do: " ", else: <<97 + rem(t, 26)>>)
  end

  setup_all do: %{state: TestModel.loaded(Qwen3)}

  test "text, in both forms", %{state: state} do
    options = [max_new_tokens: 10]
    out = TextGeneration.run(letters(), state, "abc", options)
    assert %{results: [%{generated_text: text, num_tokens: 10}], finish_reason: :length} = out
    assert String.length(text) == 10

    assert %{results: [%{text: ^text, token_summary: %{input: 3, output: 10, padding: 0}}]} =
             TextGeneration.run(
               letters(),
               state,
               %{text: "abc"},
               options ++ [output_format: :bumblebee]
             )

    out = TextGeneration.run(letters(), state, "abc", options ++ [return_timing: true])
    assert out.timing.prefill_ms > 0
  end

  test "a stream gives the same text, whole words at a time or tokens", %{state: state} do
    %{results: [%{generated_text: text}]} =
      TextGeneration.run(letters(), state, "abc", max_new_tokens: 20)

    for chunking <- [:stable, :token], sync <- [:per_token, {:chunk, 5}] do
      options = [max_new_tokens: 20, stream_chunking: chunking, stream_host_sync: sync]
      out = TextGeneration.stream(letters(), state, "abc", &send(self(), {:text, &1}), options)
      assert out.token_summary == %{input: 3, output: 20, padding: 0}
      parts = heard()
      assert Enum.join(parts) == text
      if chunking == :token and sync == :per_token, do: assert(length(parts) == 20)

      if chunking == :stable,
        do: for(part <- tl(parts), do: assert(String.starts_with?(part, " ")))
    end
  end

  defp heard do
    receive do
      {:text, text} -> [text | heard()]
    after
      0 -> []
    end
  end

  test "a serving answers as a call does, many at once too", %{state: state} do
    options = [max_new_tokens: 6]
    serving = TextGeneration.serving(letters(), state, options)

    for text <- ["abc", "hello"] do
      assert Nx.Serving.run(serving, text) == TextGeneration.run(letters(), state, text, options)
    end

    start_supervised!({Nx.Serving, serving: serving, name: __MODULE__.Serving, batch_size: 1})
    expected = TextGeneration.run(letters(), state, "abc", options)

    for answer <-
          Task.await_many(
            for(
              _ <- 1..8,
              do: Task.async(fn -> Nx.Serving.batched_run(__MODULE__.Serving, "abc") end)
            ),
            60_000
          ) do
      assert answer == expected
    end
  end

  test "what cannot be read is said before anything is computed", %{state: state} do
    serving = TextGeneration.serving(letters(), state)

    for {call, words} <- [
          {fn -> TextGeneration.run(letters(), state, ["a", "b"]) end, ~r/one input at a time/},
          {fn -> TextGeneration.run(letters(), state, %{}) end, ~r/a text or a map with :text/},
          {fn -> TextGeneration.run(letters(), %{}, "a") end, ~r/a state of Qwen3 or Llama/},
          {fn -> TextGeneration.run(letters(), state, "a", output_format: :xml) end,
           ~r/:output_format/},
          {fn -> TextGeneration.stream(letters(), state, "a", & &1, stream_chunking: :word) end,
           ~r/:stream_chunking/},
          {fn -> TextGeneration.stream(letters(), state, "a", & &1, stream_host_sync: 3) end,
           ~r/:stream_host_sync/},
          {fn -> Nx.Serving.run(serving, ["a"]) end, ~r/one input at a time/},
          {fn -> TextGeneration.serving(letters(), state, max_new_tokens: -1) end,
           ~r/:max_new_tokens/},
          {fn -> TextGeneration.from_mlx4bit("/nowhere", letters()) end,
           ~r/no file \*.safetensors/}
        ] do
      assert_raise ArgumentError, words, call
    end
  end
end
