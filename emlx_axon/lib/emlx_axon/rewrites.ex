# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Rewrites do
  @moduledoc false
  # Functions for Axon.rewrite_nodes/2, a name each: from a node to :skip, or to what stands in its
  # place. Layers of Bumblebee without a name of their own are known by their functions.

  import Nx.Defn, only: [deftransform: 2]

  alias Axon.Node

  @doc "All by their names, those that EMLXAxon.rewrite/2 applies unasked first."
  def table do
    [
      rms_norm: &rms_norm/1,
      layer_norm: &layer_norm/1,
      rotary_embedding: &rotary_embedding/1,
      sdpa: &sdpa/1,
      dropout: &dropout/1,
      swiglu: &swiglu/1,
      attn_weights: &attn_weights/1,
      if_present: &if_present/1,
      gqa_cache_fix: &gqa_cache_fix/1
    ]
  end

  @doc "Those that have to be asked for."
  def extra, do: [:if_present, :gqa_cache_fix]

  ## Norms and gates

  def rms_norm(%Node{op_name: :rms_norm, opts: opts, parameters: parameters} = node) do
    if Keyword.get(opts, :shift, 0.0) == 0.0 and Keyword.get(opts, :channel_index, -1) == -1 do
      eps = Keyword.get(opts, :epsilon, 1.0e-6)
      norm = fn x, weight, _opts -> EMLX.Fast.rms_norm(x, weight, eps) end
      fn [x], _ -> layer(norm, [x | parameters], node, :fast_rms_norm) end
    else
      :skip
    end
  end

  def rms_norm(_node), do: :skip

  def layer_norm(%Node{op_name: :layer_norm, opts: opts, parameters: parameters} = node) do
    eps = Keyword.get(opts, :epsilon, 1.0e-5)

    cond do
      Keyword.get(opts, :channel_index, -1) != -1 -> :skip
      length(parameters) == 1 -> fn [x], _ -> norm_layer(x, parameters, eps, node) end
      length(parameters) == 2 -> fn [x], _ -> norm_layer(x, parameters, eps, node) end
      true -> :skip
    end
  end

  def layer_norm(_node), do: :skip

  defp norm_layer(x, [_weight] = parameters, eps, node) do
    norm = fn x, weight, _opts -> EMLX.Fast.layer_norm(x, weight, eps) end
    layer(norm, [x | parameters], node, :fast_layer_norm)
  end

  defp norm_layer(x, [_weight, _bias] = parameters, eps, node) do
    norm = fn x, weight, bias, _opts -> EMLX.Fast.layer_norm(x, weight, bias, eps) end
    layer(norm, [x | parameters], node, :fast_layer_norm)
  end

  # A product of a container of two, of which one is silu of a gate.
  def swiglu(%Node{op_name: :multiply, parent: [_container]} = node) do
    fn [container], _ ->
      case gate_and_up(container) do
        nil ->
          multiply = fn {a, b}, _opts -> Nx.multiply(a, b) end
          layer(multiply, [container], node, :multiply)

        {gate, up} ->
          layer(
            fn gate, up, _opts -> EMLX.Fast.swiglu(gate, up) end,
            [gate, up],
            node,
            :fast_swiglu
          )
      end
    end
  end

  def swiglu(_node), do: :skip

  defp gate_and_up(%Axon{output: id, nodes: nodes} = container) do
    with %Node{op_name: :container, parent: [a, b]} <- nodes[id] do
      case {nodes[a], nodes[b]} do
        {%Node{op_name: :silu, parent: [gate]}, _} -> {at(container, gate), at(container, b)}
        {_, %Node{op_name: :silu, parent: [gate]}} -> {at(container, gate), at(container, a)}
        _ -> nil
      end
    else
      _ -> nil
    end
  end

  ## Rotary positions

  def rotary_embedding(%Node{op: op, opts: opts, parent: [_, _, _ | _]} = node) do
    size = opts[:size]

    with true <- bumblebee?(op, "apply_rotary_embedding"),
         {:ok, freqs} <- periods(size, Keyword.get(opts, :base, 10_000), opts[:scaling_strategy]) do
      turn = &EMLX.Fast.rope_with_freqs(&1, &2, size, false, 1.0, freqs)
      both = fn q, k, positions, _opts -> {turn.(q, positions), turn.(k, positions)} end

      fn [q, k, positions | _mask], _ ->
        layer(both, [q, k, positions], node, :fast_rotary_embedding)
      end
    else
      _ -> :skip
    end
  end

  def rotary_embedding(_node), do: :skip

  # Other scalings depend on the length of the sequence, or scale sines and cosines too.
  defp periods(size, base, nil), do: {:ok, EMLXAxon.Rope.periods(size, base, nil)}

  defp periods(size, base, %{type: :llama3} = scaling),
    do: {:ok, EMLXAxon.Rope.periods(size, base, scaling)}

  defp periods(_size, _base, _scaling), do: :error

  ## Attention

  # The product of weights and values, where the weights come from attention_weights_impl, perhaps
  # through a dropout that drops nothing.
  def sdpa(%Node{op: op, opts: opts, parent: [weights, _]} = node) do
    if bumblebee?(op, "attention_output_impl") and Keyword.get(opts, :dropout_rate, 0.0) == 0.0,
      do: fn [_, values] = inputs, _ -> attention(values, weights, inputs, node) end,
      else: :skip
  end

  def sdpa(_node), do: :skip

  defp attention(values, weights, inputs, node) do
    with %Node{opts: opts, parent: [q, k | rest]} <- weights_node(values.nodes, weights),
         nil <- opts[:window_size] do
      parents = for id <- [q, k], do: at(values, id)
      rest = for id <- rest, do: at(values, id)
      causal = opts[:causal] || false
      scale = opts[:scale]

      attend = fn q, k, v, key_mask, head_mask, bias, offset, _opts ->
        attend(q, k, v, key_mask, head_mask, bias, offset, {causal, scale})
      end

      Axon.layer(attend, parents ++ [values | rest], name: node.name, op_name: :fast_sdpa)
    else
      _ -> Axon.layer(node.op, inputs, [name: node.name, op_name: node.op_name] ++ node.opts)
    end
  end

  defp weights_node(nodes, id) do
    case nodes[id] do
      %Node{op_name: name, parent: [parent]} when name in [:dropout, :dropout_identity] ->
        weights_node(nodes, parent)

      %Node{op: op, parent: [_, _, _, _, _, _]} = node ->
        if bumblebee?(op, "attention_weights_impl"), do: node

      _ ->
        nil
    end
  end

  # Queries, keys and values are {batch, positions, heads, size}; the others may be %Axon.None{}.
  deftransform attend(q, k, v, key_mask, head_mask, bias, offset, {causal, scale}) do
    [q, k, v] = for t <- [q, k, v], do: Nx.transpose(t, axes: [0, 2, 1, 3])
    scale = scale || 1 / :math.sqrt(Nx.axis_size(q, 3))
    seen = key_mask |> keys_seen() |> both(if(causal, do: past(q, k, offset)))

    attended =
      case mask(seen, bias, q) do
        nil -> EMLX.Fast.scaled_dot_product_attention(q, k, v, scale)
        mask -> EMLX.Fast.scaled_dot_product_attention(q, k, v, scale, mask)
      end

    attended |> weigh_heads(head_mask) |> Nx.transpose(axes: [0, 2, 1, 3])
  end

  defp keys_seen(%Axon.None{}), do: nil

  defp keys_seen(mask) do
    case Nx.rank(mask) do
      2 -> mask |> Nx.new_axis(1) |> Nx.new_axis(1)
      4 -> mask
    end
  end

  defp past(q, k, offset) do
    offset = if match?(%Axon.None{}, offset), do: 0, else: Nx.reshape(offset, {})
    row = Nx.iota({1, 1, Nx.axis_size(q, 2), 1}) |> Nx.add(offset)
    Nx.less_equal(Nx.iota({1, 1, 1, Nx.axis_size(k, 2)}), row)
  end

  defp both(nil, seen), do: seen
  defp both(seen, nil), do: seen
  defp both(a, b), do: Nx.logical_and(a, b)

  defp mask(seen, %Axon.None{}, _q), do: seen
  defp mask(nil, bias, _q), do: bias

  defp mask(seen, bias, q) do
    shape = Nx.shape(Nx.add(seen, bias))
    lowest = Nx.Constants.min_finite(Nx.type(q))
    Nx.select(Nx.broadcast(seen, shape), bias, lowest)
  end

  # A factor of a head's weights is one of its result.
  defp weigh_heads(attended, %Axon.None{}), do: attended
  defp weigh_heads(attended, mask), do: Nx.multiply(attended, Nx.reshape(mask, {1, :auto, 1, 1}))

  ## What inference does not need

  def dropout(%Node{op_name: :dropout} = node),
    do: fn [x], _ -> layer(fn x, _opts -> x end, [x], node, :dropout_identity) end

  def dropout(_node), do: :skip

  # Weights that are given back beside the result of attention: a zero stands for them.
  def attn_weights(%Node{op_name: :bb_attn_weights}) do
    fn [weights], _ ->
      %Axon{output: id, nodes: nodes} = Axon.constant(Nx.tensor(0.0))
      %Axon{output: id, nodes: Map.merge(weights.nodes, nodes)}
    end
  end

  def attn_weights(_node), do: :skip

  # The branch with what is there; in generation the cache always is.
  def if_present(%Node{op_name: :if_present, parent: [_, _, _]}) do
    fn [_condition, present, _absent], _ ->
      case present.nodes[present.output] do
        %Node{op_name: :optional, parent: [id]} -> at(present, id)
        _ -> present
      end
    end
  end

  def if_present(_node), do: :skip

  # Heads that are repeated for a cache which has none repeated.
  def gqa_cache_fix(%Node{op: op, parent: [_, _, _, _]} = node) do
    if bumblebee?(op, "update_attention_cache") do
      fn [k, v, cache, offset], _ ->
        inputs = [unrepeated(k), unrepeated(v), cache, offset]
        Axon.layer(op, inputs, [name: node.name, op_name: node.op_name] ++ node.opts)
      end
    else
      :skip
    end
  end

  def gqa_cache_fix(_node), do: :skip

  defp unrepeated(%Axon{output: id, nodes: nodes} = axon) do
    case nodes[id] do
      %Node{op: op, parent: [parent]} ->
        if bumblebee?(op, "repeat_interleave"), do: at(axon, parent), else: axon

      _ ->
        axon
    end
  end

  ## Shared

  defp layer(fun, inputs, node, op_name),
    do: Axon.layer(fun, inputs, name: node.name, op_name: op_name)

  defp at(axon, id), do: %{axon | output: id}

  # Functions that are captured or within others have their name within that of the capture.
  defp bumblebee?(op, name) do
    case EMLXAxon.function_info(op) do
      {module, function, _arity} when module in [Bumblebee.Layers, Bumblebee.Layers.Decoder] ->
        function |> Atom.to_string() |> String.contains?(name)

      _ ->
        false
    end
  end
end
