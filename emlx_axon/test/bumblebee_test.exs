# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.BumblebeeTest do
  # Bumblebee's own generation on EMLX, rewritten or not, against Nx's reference.
  use ExUnit.Case, async: true

  @moduletag :bumblebee
  @moduletag timeout: 300_000

  @sizes [
    vocab_size: 60,
    hidden_size: 16,
    num_blocks: 2,
    max_positions: 32,
    num_attention_heads: 4
  ]
  @gated [num_key_value_heads: 2, attention_head_size: 4, intermediate_size: 24]

  # What each family has of its own.
  @families [
    {Bumblebee.Text.Gpt2, :for_causal_language_modeling, [intermediate_size: 24]},
    {Bumblebee.Text.Llama, :for_causal_language_modeling, @gated},
    {Bumblebee.Text.Qwen3, :for_causal_language_modeling, @gated},
    {Bumblebee.Text.Mistral, :for_causal_language_modeling,
     Keyword.delete(@gated, :attention_head_size) ++ [attention_window_size: 4]},
    {Bumblebee.Text.T5, :for_conditional_generation,
     [
       attention_head_size: 4,
       intermediate_size: 24,
       encoder_num_blocks: 2,
       decoder_num_blocks: 2,
       encoder_num_attention_heads: 4,
       decoder_num_attention_heads: 4,
       tie_word_embeddings: false
     ]}
  ]

  # The second row is padded: on the left, as decoders have it.
  @ids [[11, 25, 7, 40, 3, 18], [0, 0, 31, 9, 52, 4]]
  @mask [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]
  @count 6

  for {module, architecture, sizes} <- @families do
    test "greedy tokens of #{inspect(module)} are those of Nx's reference" do
      spec = spec(unquote(module), unquote(architecture), unquote(sizes))
      model = apply(Bumblebee, :build_model, [spec])
      params = params(model)
      reference = tokens(model, spec, params, Nx.BinaryBackend, Nx.Defn.Evaluator)
      # Else little would be told apart.
      assert reference |> List.flatten() |> Enum.uniq() |> length() > 3
      assert tokens(model, spec, params, EMLX.Backend, EMLX) == reference
      assert tokens(EMLXAxon.rewrite(model), spec, params, EMLX.Backend, EMLX) == reference
    end
  end

  defp spec(module, architecture, sizes) do
    sizes = Enum.filter(@sizes ++ sizes, fn {key, _} -> Map.has_key?(struct(module), key) end)
    apply(Bumblebee, :configure, [%{struct(module) | architecture: architecture}, sizes])
  end

  # Matrices far from each other, so that tokens differ and no two are about as likely.
  defp params(model) do
    Nx.with_default_backend(Nx.BinaryBackend, fn ->
      {init, _predict} = Axon.build(model, compiler: Nx.Defn.Evaluator)
      empty = init.(inputs(model), Axon.ModelState.empty())
      {data, _key} = scatter(empty.data, Nx.Random.key(7))
      %{empty | data: data}
    end)
  end

  defp scatter(%Nx.Tensor{} = tensor, key) do
    {noise, key} = Nx.Random.normal(key, 0.0, 1.0, shape: Nx.shape(tensor), type: :f32)
    {if(Nx.rank(tensor) > 1, do: noise, else: Nx.add(tensor, Nx.multiply(noise, 0.2))), key}
  end

  defp scatter(map, key) do
    Enum.reduce(Enum.sort(map), {%{}, key}, fn {name, value}, {out, key} ->
      {value, key} = scatter(value, key)
      {Map.put(out, name, value), key}
    end)
  end

  defp inputs(model) do
    all = %{"input_ids" => Nx.tensor(@ids), "attention_mask" => Nx.tensor(@mask)}

    if Map.has_key?(Axon.get_inputs(model), "decoder_input_ids"),
      do: Map.put(all, "decoder_input_ids", Nx.tensor([[0], [0]])),
      else: all
  end

  defp tokens(model, spec, params, backend, compiler) do
    config =
      apply(Bumblebee, :configure, [
        struct(Bumblebee.Text.GenerationConfig),
        [max_new_tokens: @count, pad_token_id: 0, eos_token_id: 1, decoder_start_token_id: 0]
      ])

    Nx.with_default_backend(backend, fn ->
      generate =
        apply(Bumblebee.Text.Generation, :build_generate, [model, spec, config])

      inputs = %{
        "input_ids" => Nx.tensor(@ids),
        "attention_mask" => Nx.tensor(@mask),
        "seed" => Nx.tensor([0, 0])
      }

      params = Nx.backend_copy(params, backend)
      %{token_ids: ids} = Nx.Defn.jit_apply(generate, [params, inputs], compiler: compiler)
      Nx.to_list(ids)
    end)
  end
end
