# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.GenerateTest do
  use ExUnit.Case, async: true
  doctest EMLXAxon.Sampler

  alias EMLXAxon.{Llama, Qwen3, TestModel}

  @moduletag :tmp_dir
  @moduletag timeout: 300_000

  @families [
    llama: {Llama.DenseLoader, Llama.Model, Llama.Generate},
    qwen3: {Qwen3.DenseLoader, Qwen3.Model, Qwen3.Generate}
  ]

  defp model(family, folder, more \\ %{}, files \\ 1) do
    config = TestModel.config(family, more)
    tensors = TestModel.tensors(family, config)
    TestModel.write(folder, config, tensors, files)
    {loader, module, generate} = @families[family]
    {:ok, state} = loader.from_safetensors_dir(folder)
    {config, tensors, state, module, generate}
  end

  @scaling %{
    "rope_scaling" => %{
      "rope_type" => "llama3",
      "factor" => 4.0,
      "low_freq_factor" => 1.0,
      "high_freq_factor" => 4.0,
      "original_max_position_embeddings" => 64
    }
  }

  test "logits are the oracle's, with a cache that grows", %{tmp_dir: folder} do
    for {family, more} <- [llama: %{}, qwen3: %{}, llama: @scaling] do
      {config, tensors, state, module, _} = model(family, folder, more)
      tokens = [3, 17, 99, 5, 64, 2]
      cache = module.init_kv_cache(state, 16)
      {_, cache} = module.forward(Nx.tensor([Enum.take(tokens, 3)]), cache, 0, state)

      Enum.reduce(3..5, cache, fn at, cache ->
        {logits, cache} = module.forward(Nx.tensor([[Enum.at(tokens, at)]]), cache, at, state)
        expected = TestModel.logits(family, config, tensors, Enum.take(tokens, at + 1))
        assert_close(expected, logits)
        cache
      end)
    end
  end

  defp assert_close(expected, got) do
    got = Nx.to_flat_list(got)
    most = expected |> Enum.map(&abs/1) |> Enum.max()
    for {a, b} <- Enum.zip(expected, got), do: assert_in_delta(a, b, most * 1.0e-5)
  end

  # The likeliest token each time, by the oracle; ties are out of the question.
  defp greedy(family, config, tensors, tokens, count) do
    Enum.reduce_while(1..count, tokens, fn _, tokens ->
      logits = TestModel.logits(family, config, tensors, tokens)
      next = logits |> Enum.with_index() |> Enum.max() |> elem(1)
      step = if next == config["eos_token_id"], do: :halt, else: :cont
      {step, tokens ++ [next]}
    end)
    |> Enum.drop(length(tokens))
  end

  test "greedy tokens are the oracle's, however often the host looks", %{tmp_dir: folder} do
    for {family, files} <- [llama: 1, qwen3: 3] do
      {config, tensors, state, _, generate} = model(family, folder, %{}, files)
      expected = greedy(family, config, tensors, [1, 2, 3], 12)

      for sync <- [:per_token, {:chunk, 5}, {:chunk, 12}, :end] do
        {tokens, metadata} =
          generate.generate(Nx.tensor([[1, 2, 3]]), state, max_new_tokens: 12, host_sync: sync)

        assert tokens == expected
        assert metadata.finish_reason in [:length, :stop]
        assert metadata.timing.total_ms >= metadata.timing.prefill_ms
      end

      File.rm_rf!(folder)
    end
  end

  # A .npy file of a row of s32.
  defp write_row(path, tokens) do
    header = "{'descr': '<i4', 'fortran_order': False, 'shape': (1, #{length(tokens)}), }"
    header = String.pad_trailing(header, 117) <> "\n"
    data = for token <- tokens, into: <<>>, do: <<token::little-signed-32>>
    File.write!(path, [<<0x93, "NUMPY", 1, 0, byte_size(header)::little-16>>, header, data])
  end

  test "generation as a program file, from the shell as well", %{tmp_dir: folder} do
    for family <- [:llama, :qwen3] do
      {config, _tensors, state, _, generate} = model(family, folder)
      prompt = [3, 17, 99, 5]
      {wanted, _} = generate.generate(Nx.tensor([prompt]), state, max_new_tokens: 12)
      path = Path.join(folder, "generate.safetensors")
      options = [prompt_length: 4, max_new_tokens: 12]
      assert EMLXAxon.TextGeneration.export(state, path, options) == :ok
      program = EMLX.load(path)
      assert [%{name: "tokens", shape: {1, 4}}] = program.inputs
      assert [found] = EMLX.run(program, [Nx.tensor([prompt], type: :s32)])
      assert Nx.to_list(found) == [wanted]

      # What follows an end is -1.
      ended = %{state | config: Map.put(state.config, :eos_token_id, Enum.at(wanted, 5))}
      assert EMLXAxon.TextGeneration.export(ended, path, options) == :ok
      assert [found] = EMLX.run(EMLX.load(path), [Nx.tensor([prompt], type: :s32)])
      {kept, _} = generate.generate(Nx.tensor([prompt]), ended, max_new_tokens: 12)
      assert Nx.to_flat_list(found) == kept ++ List.duplicate(-1, 12 - length(kept))
      assert config["vocab_size"] > Enum.max(wanted)

      input = Path.join(folder, "prompt.npy")
      write_row(input, prompt)

      with text when text != nil <- shell("emlx", ["run", path, "-i", "tokens=#{input}"]),
           do: assert(drawn(text) == kept)
    end
  end

  test "a program that gives some tokens at a time", %{tmp_dir: folder} do
    {_, _, state, _, generate} = model(:llama, folder)
    prompt = [3, 17, 99, 5]
    path = Path.join(folder, "turns.safetensors")
    input = Path.join(folder, "prompt.npy")
    write_row(input, prompt)
    drawing = [sampler: :top_p_cpu, temperature: 1.5, top_p: 0.95, seed: 4]
    {all, _} = generate.generate(Nx.tensor([prompt]), state, max_new_tokens: 12)
    ended = %{state | config: Map.put(state.config, :eos_token_id, Enum.at(all, 5))}

    for {state, chunk, most, drawing} <- [
          {state, 5, 12, []},
          {state, 1, 3, []},
          {state, 4, 1, []},
          {ended, 3, 12, []},
          {state, 5, 12, drawing}
        ] do
      options = [max_new_tokens: most] ++ drawing
      {wanted, _} = generate.generate(Nx.tensor([prompt]), state, options)
      options = [prompt_length: 4, chunk: chunk] ++ options
      assert EMLXAxon.TextGeneration.export(state, path, options) == :ok
      assert turns(EMLX.load(path), Nx.tensor([prompt], type: :s32)) == wanted
      arguments = ~w(run #{path} -i tokens=#{input} --repeat 99 --until state.done)
      with text when text != nil <- shell("emlx", arguments), do: assert(drawn(text) == wanted)

      with text when text != nil <- shell("examples/generate", [path, input]),
           do: assert(text |> String.split() |> Enum.map(&String.to_integer/1) == wanted)
    end
  end

  # The state of the first turn is zeros.
  defp turns(program, tokens) do
    inputs =
      Map.new(program.inputs, &{&1.name, Nx.broadcast(Nx.tensor(0, type: &1.type), &1.shape)})

    turns(program, %{inputs | "tokens" => tokens}, [])
  end

  defp turns(program, inputs, before) do
    out = EMLX.run(program, inputs)
    before = before ++ (out["drawn"] |> Nx.to_flat_list() |> Enum.take_while(&(&1 >= 0)))

    if Nx.to_flat_list(out["state.done"]) == [1],
      do: before,
      else: turns(program, Map.merge(inputs, Map.delete(out, "drawn")), before)
  end

  # What a program of the library's prints, where it has been built.
  defp shell(name, arguments) do
    program = Path.expand("../../build/#{name}", __DIR__)

    if File.exists?(program) do
      {text, 0} = System.cmd(program, arguments)
      text
    end
  end

  defp drawn(text) do
    for line <- String.split(text, "\n"),
        [tokens] <- [Regex.run(~r/\[\[(.*)\]\]/, line, capture: :all_but_first)],
        token <- String.split(tokens, ", "),
        token != "-1",
        do: String.to_integer(token)
  end

  test "an end token is the last", %{tmp_dir: folder} do
    {config, tensors, _, _, generate} = model(:llama, folder)
    all = greedy(:llama, config, tensors, [1, 2, 3], 8)
    stop = Enum.at(all, 4)
    until = Enum.take(all, Enum.find_index(all, &(&1 == stop)) + 1)

    for stop <- [stop, [500, stop]] do
      TestModel.write(folder, Map.put(config, "eos_token_id", stop), tensors)
      {:ok, state} = Llama.DenseLoader.from_safetensors_dir(folder)

      for sync <- [:per_token, {:chunk, 3}, :end] do
        options = [max_new_tokens: 8, host_sync: sync, chunk_callback: &send(self(), &1)]

        options =
          if sync == {:chunk, 3}, do: options, else: Keyword.delete(options, :chunk_callback)

        {tokens, metadata} = generate.generate(Nx.tensor([[1, 2, 3]]), state, options)
        assert {tokens, metadata.finish_reason} == {until, :stop}
      end
    end
  end

  test "callbacks hear all tokens in order", %{tmp_dir: folder} do
    {_, _, state, _, generate} = model(:llama, folder)
    ids = Nx.tensor([[1, 2, 3]])
    hear = &send(self(), {:heard, List.wrap(&1)})
    {tokens, _} = generate.generate(ids, state, max_new_tokens: 7, token_callback: hear)
    assert heard() == Enum.map(tokens, &[&1])
    options = [max_new_tokens: 7, host_sync: {:chunk, 3}, chunk_callback: hear]
    generate.generate(ids, state, options)
    assert List.flatten(all = heard()) == tokens
    assert Enum.map(all, &length/1) == [3, 3, 1]
    generate.generate(ids, state, options ++ [chunk_callback_first_token: true])
    all = heard()
    assert Enum.map(all, &length/1) == [1, 3, 3]
    assert List.flatten(all) == tokens
  end

  defp heard do
    receive do
      {:heard, tokens} -> [tokens | heard()]
    after
      0 -> []
    end
  end

  test "a cache goes on where it is given again, and bounds what is drawn", %{tmp_dir: folder} do
    {_, _, state, module, generate} = model(:qwen3, folder)
    cache = module.init_kv_cache(state, 8)
    ids = Nx.tensor([[1, 2, 3]])
    options = [max_new_tokens: 4, return_kv_cache: true]
    {tokens, metadata} = generate.generate(ids, state, options)
    {again, _} = generate.generate(ids, state, max_new_tokens: 4, kv_cache: cache)
    assert again == tokens
    {again, _} = generate.generate(ids, state, max_new_tokens: 4, kv_cache: metadata.kv_cache)
    assert again == tokens

    for room <- [[max_len: 5], [kv_cache: module.init_kv_cache(state, 5)]] do
      {few, metadata} = generate.generate(ids, state, [max_new_tokens: 100] ++ room)
      assert length(few) == 3 and metadata.finish_reason == :length
    end

    assert_raise ArgumentError,
                 ~r/the input length is 3 tokens, and the cache has room for 2/,
                 fn ->
                   generate.generate(ids, state, max_len: 2)
                 end
  end

  test "what is drawn from a nucleus depends on the seed alone", %{tmp_dir: folder} do
    {_, _, state, _, generate} = model(:llama, folder)
    ids = Nx.tensor([[1, 2, 3]])

    draw = fn seed, sync ->
      options = [sampler: :top_p_cpu, temperature: 1.5, top_p: 0.95, seed: seed, host_sync: sync]
      elem(generate.generate(ids, state, [max_new_tokens: 12] ++ options), 0)
    end

    drawn = draw.(1, :end)
    for sync <- [:end, :per_token, {:chunk, 5}], do: assert(draw.(1, sync) == drawn)
    assert Task.await(Task.async(fn -> draw.(1, :end) end), 60_000) == drawn
    assert draw.(2, :end) != drawn
  end

  test "a nucleus has the tokens that come to top_p, drawn as likely as they are" do
    logits = Nx.log(Nx.tensor([[0.5, 0.3, 0.15, 0.05]]))

    {counts, _} =
      Enum.reduce(1..1000, {%{}, Nx.Random.key(3)}, fn _, {counts, key} ->
        {token, key} = EMLXAxon.Sampler.top_p(logits, key, 1.0, 0.75)
        {Map.update(counts, Nx.to_number(token[0]), 1, &(&1 + 1)), key}
      end)

    assert counts |> Map.keys() |> Enum.sort() == [0, 1]
    assert_in_delta counts[0] / 1000, 0.625, 0.06
  end

  test "wrong options are named", %{tmp_dir: folder} do
    {_, _, state, _, generate} = model(:llama, folder)
    ids = Nx.tensor([[1, 2, 3]])

    for {options, words} <- [
          {[max_new_tokens: 0], ~r/:max_new_tokens to be a positive integer, got: 0/},
          {[max_new_tokens: "7"], ~r/:max_new_tokens/},
          {[sampler: :best], ~r/:sampler to be one of/},
          {[temperature: 0], ~r/:temperature to be a positive number, got: 0/},
          {[temperature: :hot], ~r/:temperature to be/},
          {[top_p: 1.5], ~r/:top_p to be greater than 0 and at most 1, got: 1.5/},
          {[host_sync: {:chunk, 0}], ~r/:host_sync to be/},
          {[host_sync: :never], ~r/:host_sync to be/},
          {[tokens: 3], ~r/unknown keys \[:tokens\]/}
        ] do
      assert_raise ArgumentError, words, fn -> generate.generate(ids, state, options) end
    end

    for {shape, words} <- [{{2, 1}, ~r/batch size 1, got batch size 2/}, {{3}, ~r/one sequence/}] do
      assert_raise ArgumentError, words, fn -> generate.generate(Nx.iota(shape), state) end
    end
  end

  test "checkpoints that do not fit are told so in a sentence", %{tmp_dir: folder} do
    assert {:error, "there is no file *.safetensors in " <> _} =
             Llama.DenseLoader.from_safetensors_dir(folder)

    config = TestModel.config(:llama)
    tensors = TestModel.tensors(:llama, config)
    load = fn -> Llama.DenseLoader.from_safetensors_dir(folder) end

    narrow = Nx.broadcast(Nx.f32(0), {2, 32})

    for {config, tensors, words} <- [
          {Map.put(config, "model_type", "qwen3"), tensors,
           "expected model_type \"llama\", got: \"qwen3\""},
          {Map.delete(config, "vocab_size"), tensors, "no whole number for vocab_size"},
          {Map.put(config, "rope_scaling", %{"type" => "yarn"}), tensors, "nil or llama3"},
          {Map.put(config, "rope_parameters", %{"rope_type" => "yarn"}), tensors,
           "nil or llama3"},
          {Map.put(config, "attention_bias", true), tensors, "not support attention_bias=true"},
          {Map.put(config, "mlp_bias", true), tensors, "not support mlp_bias=true"},
          {Map.put(config, "sliding_window", 64), tensors, "not support sliding_window=64"},
          {Map.put(config, "hidden_act", "gelu"), tensors, "hidden_act \"silu\", got: \"gelu\""},
          {Map.put(config, "num_hidden_layers", 3), tensors,
           "has no tensor model.layers.2.input_layernorm"},
          {Map.put(config, "tie_word_embeddings", false), Map.delete(tensors, "lm_head.weight"),
           "has no tensor lm_head.weight"},
          {config, Map.put(tensors, "model.layers.0.mlp.up_proj.weight", narrow),
           "the tensor model.layers.0.mlp.up_proj has the shape {2, 32}, and the configuration"}
        ] do
      TestModel.write(folder, config, tensors)
      assert {:error, text} = load.()
      assert text =~ words
    end

    File.write!(Path.join(folder, "config.json"), "[1]")
    assert {:error, text} = load.()
    assert text =~ "is not an object of JSON"
    assert {:error, text} = Llama.DenseLoader.from_safetensors_dir(folder, type: :s8)
    assert text =~ "expected :type"
  end

  test "weights may be cast, and kernels of Bumblebee lie the other way round", %{tmp_dir: folder} do
    {config, tensors, state, module, _} = model(:llama, folder)
    {:ok, cast} = Llama.DenseLoader.from_safetensors_dir(folder, type: :bf16)
    assert Nx.type(elem(cast.layers, 0).q) == {:bf, 16}

    turned =
      for layer <- Tuple.to_list(state.layers) do
        Map.new(layer, fn {key, t} -> {key, if(Nx.rank(t) == 2, do: Nx.transpose(t), else: t)} end)
      end

    turned = %{
      state
      | layers: List.to_tuple(turned),
        config: %{state.config | kernel_layout: :in_out}
    }

    {logits, _} =
      module.forward(Nx.tensor([[1, 2, 3]]), module.init_kv_cache(turned, 8), 0, turned)

    assert_close(TestModel.logits(:llama, config, tensors, [1, 2, 3]), logits)
  end
end
