# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.RewriteTest do
  use ExUnit.Case, async: true
  doctest EMLXAxon

  # As Bumblebee makes them.
  defp rms_norm(x, options \\ []) do
    weight = Axon.param("weight", &{elem(&1, tuple_size(&1) - 1)}, initializer: :uniform)

    norm = fn x, weight, options ->
      mean = Nx.mean(Nx.multiply(x, x), axes: [-1], keep_axes: true)
      scaled = Nx.multiply(x, Nx.rsqrt(Nx.add(mean, options[:epsilon])))
      Nx.multiply(scaled, Nx.add(options[:shift], weight))
    end

    options = Keyword.merge([op_name: :rms_norm, epsilon: 1.0e-6, shift: 0.0], options)
    Axon.layer(norm, [x, weight], options)
  end

  defp input, do: Axon.input("x", shape: {nil, 3, 8})
  defp names(model), do: for({_, node} <- model.nodes, do: node.op_name)
  defp data, do: Nx.sin(Nx.iota({2, 3, 8}, type: :f32))

  # Both models with the parameters of the first.
  defp assert_same(model, rewritten, inputs \\ data(), pick \\ & &1) do
    {init, predict} = Axon.build(model)
    params = init.(inputs, Axon.ModelState.empty())
    {_, rewritten} = Axon.build(rewritten)
    expected = pick.(predict.(params, inputs))
    assert_close(expected, pick.(rewritten.(params, inputs)))
  end

  defp assert_close(a, b),
    do: assert(Nx.all_close(a, b, atol: 1.0e-5, rtol: 1.0e-4) |> Nx.to_number() == 1)

  test "norms, with the parameters that they had" do
    for {model, name} <- [
          {rms_norm(input()), :fast_rms_norm},
          {Axon.layer_norm(input()), :fast_layer_norm},
          {Axon.layer_norm(input(), epsilon: 0.5), :fast_layer_norm}
        ] do
      rewritten = EMLXAxon.rewrite(model)
      assert name in names(rewritten)
      assert_same(model, rewritten)
    end
  end

  test "what is computed otherwise stays" do
    shifted = rms_norm(input(), shift: 0.5)
    refute :fast_rms_norm in names(EMLXAxon.rewrite(shifted))
    rows = Axon.layer_norm(input(), channel_index: 1)
    refute :fast_layer_norm in names(EMLXAxon.rewrite(rows))
    product = Axon.multiply(Axon.dense(input(), 8), Axon.dense(input(), 8))
    refute :fast_swiglu in names(EMLXAxon.rewrite(product))
    assert_same(product, EMLXAxon.rewrite(product))
  end

  test "gates, on either side of the product" do
    x = Axon.dense(input(), 8, name: "up")
    gate = input() |> Axon.dense(8, name: "gate") |> Axon.silu()

    for pair <- [{x, gate}, {gate, x}] do
      model = pair |> Axon.container() |> Axon.nx(& &1) |> multiply()
      direct = multiply(Axon.container(pair))
      assert :fast_swiglu in names(EMLXAxon.rewrite(direct))
      assert_same(direct, EMLXAxon.rewrite(direct))
      # something between them is no gate
      refute :fast_swiglu in names(EMLXAxon.rewrite(model))
    end
  end

  defp multiply(pair) do
    Axon.layer(fn {a, b}, _ -> Nx.multiply(a, b) end, [pair], op_name: :multiply)
  end

  test "dropout is passed by" do
    model = input() |> Axon.dense(8) |> Axon.dropout(rate: 0.5)
    rewritten = EMLXAxon.rewrite(model)
    refute :dropout in names(rewritten)
    assert_same(model, rewritten)
  end

  test "only what is asked for" do
    model = input() |> rms_norm() |> Axon.layer_norm() |> Axon.dropout()
    assert names(EMLXAxon.rewrite(model, only: [])) == names(model)
    only = names(EMLXAxon.rewrite(model, only: [:layer_norm]))
    assert :fast_layer_norm in only and :rms_norm in only and :dropout in only

    assert_raise ArgumentError, ~r/unknown rewrite :rms/, fn ->
      EMLXAxon.rewrite(model, only: [:rms])
    end

    rewriter = EMLXAxon.rms_norm_rewriter()
    assert :fast_rms_norm in names(Axon.rewrite_nodes(model, rewriter))
  end

  ## Models of Bumblebee

  @moduletag timeout: 300_000

  defp text_model(:llama) do
    %{struct(Bumblebee.Text.Llama) | architecture: :for_causal_language_modeling}
    |> small()
  end

  defp text_model(:qwen3) do
    %{struct(Bumblebee.Text.Qwen3) | architecture: :for_causal_language_modeling}
    |> small()
  end

  defp small(spec) do
    apply(Bumblebee, :configure, [
      spec,
      [
        vocab_size: 50,
        hidden_size: 32,
        intermediate_size: 48,
        num_blocks: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        attention_head_size: 8
      ]
    ])
  end

  @tag :bumblebee
  test "decoders of Bumblebee give the same logits, padded too" do
    inputs = %{
      "input_ids" => Nx.remainder(Nx.iota({2, 7}), 50),
      "attention_mask" => Nx.tensor([[1, 1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]])
    }

    for family <- [:llama, :qwen3] do
      model =
        family
        |> text_model()
        |> then(&apply(Bumblebee, :build_model, [&1]))

      rewritten = EMLXAxon.rewrite(model)
      got = names(rewritten)

      for name <- [:fast_rms_norm, :fast_sdpa, :fast_rotary_embedding, :fast_swiglu],
          do: assert(name in got)

      assert_same(model, rewritten, inputs, & &1.logits)
    end
  end

  @tag :bumblebee
  test "encoders of Bumblebee give the same states" do
    spec = struct(Bumblebee.Text.Bert)

    spec =
      apply(Bumblebee, :configure, [
        %{spec | architecture: :base},
        [
          vocab_size: 50,
          hidden_size: 32,
          intermediate_size: 48,
          num_blocks: 2,
          num_attention_heads: 4
        ]
      ])

    inputs = %{
      "input_ids" => Nx.remainder(Nx.iota({2, 7}), 50),
      "attention_mask" => Nx.tensor([[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0, 0]])
    }

    model = apply(Bumblebee, :build_model, [spec])
    rewritten = EMLXAxon.rewrite(model)
    assert :fast_layer_norm in names(rewritten)
    assert_same(model, rewritten, inputs, & &1.hidden_state)
  end
end
