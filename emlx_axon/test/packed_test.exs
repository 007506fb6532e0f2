# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.PackedTest do
  use ExUnit.Case, async: true

  alias EMLXAxon.{MLX4BitParams, Qwen3, QuantizeParams, Server, TestModel, TextGeneration}

  @moduletag :tmp_dir
  @moduletag timeout: 300_000

  @sizes %{"hidden_size" => 64, "intermediate_size" => 128, "head_dim" => 16}

  # A checkpoint as MLX writes them, and the tensors that its packed ones stand for.
  defp checkpoint(folder, more) do
    config = TestModel.config(:qwen3, Map.merge(@sizes, more))
    tensors = TestModel.tensors(:qwen3, config)
    %{"bits" => bits, "group_size" => size} = config["quantization"]

    {packed, plain} =
      Enum.flat_map_reduce(tensors, %{}, fn {name, tensor}, plain ->
        if Nx.rank(tensor) == 2 do
          pair = tensor |> Nx.backend_copy(EMLX.Backend) |> EMLX.Backend.from_nx()
          {weight, scales, biases} = EMLX.quantize(pair, size, bits)
          dense = EMLX.dequantize(weight, scales, biases, size, bits)
          base = String.replace_suffix(name, ".weight", "")

          {[
             {name, on_host(weight)},
             {base <> ".scales", on_host(scales)},
             {base <> ".biases", on_host(biases)}
           ], Map.put(plain, name, on_host(dense))}
        else
          {[{name, tensor}], Map.put(plain, name, tensor)}
        end
      end)

    TestModel.write(folder, config, Map.new(packed))
    {config, plain}
  end

  defp on_host(pair), do: pair |> EMLX.Backend.to_nx() |> Nx.backend_copy(Nx.BinaryBackend)

  @kinds [
    %{"quantization" => %{"bits" => 4, "group_size" => 64}, "tie_word_embeddings" => true},
    %{"quantization" => %{"bits" => 8, "group_size" => 32}, "tie_word_embeddings" => false}
  ]

  test "a packed checkpoint stays packed, and means its numbers", %{tmp_dir: folder} do
    for more <- @kinds do
      {config, plain} = checkpoint(folder, more)
      {:ok, state} = Qwen3.Loader.load(folder)
      assert EMLX.Quantization.quantized?(elem(state.layers, 0).q)
      assert EMLX.Quantization.quantized?(state.lm_head)
      tokens = [3, 17, 99]
      cache = Qwen3.Model.init_kv_cache(state, 16)
      {logits, _} = Qwen3.Model.forward(Nx.tensor([tokens]), cache, 0, state)
      expected = TestModel.logits(:qwen3, config, plain, tokens)
      most = expected |> Enum.map(&abs/1) |> Enum.max()

      for {a, b} <- Enum.zip(expected, Nx.to_flat_list(logits)),
          do: assert_in_delta(a, b, most * 1.0e-3)

      path = Path.join(folder, "generate.safetensors")
      {wanted, _} = Qwen3.Generate.generate(Nx.tensor([tokens]), state, max_new_tokens: 6)
      options = [prompt_length: 3, max_new_tokens: 6]
      assert TextGeneration.export(state, path, options) == :ok
      assert [found] = EMLX.run(EMLX.load(path), [Nx.tensor([tokens], type: :s32)])
      assert Nx.to_flat_list(found) |> Enum.take(length(wanted)) == wanted
    end
  end

  defp letters,
    do: %{encode: &String.to_charlist/1, decode: fn t -> Enum.map_join(t, " ", &to_string/1) end}

  test "text by packed weights, however it is asked for", %{tmp_dir: folder} do
    checkpoint(folder, hd(@kinds))
    {:ok, state} = Qwen3.Loader.load(folder)
    run = &TextGeneration.run(letters(), state, "abc", [max_new_tokens: 9] ++ &1)
    out = run.(host_sync: :end)
    assert run.(host_sync: :per_token) == out and run.(host_sync: {:chunk, 4}) == out
    serving = TextGeneration.from_mlx4bit(folder, letters(), max_new_tokens: 9)
    assert Nx.Serving.run(serving, "abc") == out

    server =
      start_supervised!({Server, tokenizer: letters(), state: state, slots: 2, max_len: 40})

    asked = for _ <- 1..3, do: Task.async(fn -> Server.run(server, "abc", max_new_tokens: 9) end)
    assert Enum.uniq(Task.await_many(asked, 60_000)) == [out]
  end

  test "as parameters of Bumblebee's model they are unpacked, the other way round", %{
    tmp_dir: folder
  } do
    for more <- @kinds do
      {_, plain} = checkpoint(folder, more)
      %Axon.ModelState{data: params} = MLX4BitParams.load(folder)
      kernel = params["decoder.blocks.1.ffn.gate"]["kernel"]
      expected = Nx.transpose(plain["model.layers.1.mlp.gate_proj.weight"])

      assert Nx.backend_copy(kernel, Nx.BinaryBackend) ==
               Nx.backend_copy(expected, Nx.BinaryBackend)

      assert Nx.shape(params["language_modeling_head.output"]["kernel"]) == {128, 64}
      assert Nx.shape(params["output_norm"]["weight"]) == {64}
    end
  end

  test "kernels of a model of Axon are packed, and it predicts about the same" do
    model =
      Axon.input("x", shape: {nil, 128}) |> Axon.dense(192, activation: :tanh) |> Axon.dense(3)

    {init, predict} = Axon.build(model)
    x = Nx.sin(Nx.iota({5, 128}, type: :f32))
    params = init.(x, Axon.ModelState.empty())

    for {bits, error} <- [{8, 0.02}, {4, 0.3}] do
      packed = QuantizeParams.quantize(params, bits: bits)
      assert EMLX.Quantization.quantized?(packed.data["dense_0"]["kernel"])
      refute EMLX.Quantization.quantized?(packed.data["dense_1"]["kernel"])
      assert Nx.shape(packed.data["dense_0"]["kernel"]) == {128, 192}

      for predict <- [predict, elem(Axon.build(model, compiler: EMLX), 1)] do
        difference = Nx.subtract(predict.(params, x), predict.(packed, x))
        assert difference |> Nx.abs() |> Nx.reduce_max() |> Nx.to_number() < error
      end
    end

    none = QuantizeParams.quantize(params, skip_vocab_threshold: 128)
    refute EMLX.Quantization.quantized?(none.data["dense_0"]["kernel"])
  end
end
