# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.TestModel do
  # Small decoders with weights of small random numbers, as checkpoints on disk, and an oracle that
  # computes their logits without a cache, in f64, from the definitions.

  @vocabulary 128

  def config(family, more \\ %{}) do
    Map.merge(
      %{
        "model_type" => Atom.to_string(family),
        "hidden_size" => 32,
        "intermediate_size" => 48,
        "num_attention_heads" => 4,
        "num_key_value_heads" => 2,
        "head_dim" => 8,
        "num_hidden_layers" => 2,
        "vocab_size" => @vocabulary,
        "rms_norm_eps" => 1.0e-6,
        "rope_theta" => 10_000,
        "tie_word_embeddings" => family == :llama,
        "eos_token_id" => 127
      },
      more
    )
  end

  @doc "Tensors by Hugging Face's names, f32 on Nx.BinaryBackend."
  def tensors(family, config, seed \\ 7) do
    %{"hidden_size" => hidden, "intermediate_size" => inner, "head_dim" => size} = config
    %{"num_attention_heads" => heads, "num_key_value_heads" => groups} = config

    layers =
      for i <- 0..(config["num_hidden_layers"] - 1), reduce: [] do
        shapes ->
          name = "model.layers.#{i}."

          [
            {name <> "input_layernorm", {hidden}},
            {name <> "post_attention_layernorm", {hidden}},
            {name <> "self_attn.q_proj", {heads * size, hidden}},
            {name <> "self_attn.k_proj", {groups * size, hidden}},
            {name <> "self_attn.v_proj", {groups * size, hidden}},
            {name <> "self_attn.o_proj", {hidden, heads * size}},
            {name <> "mlp.gate_proj", {inner, hidden}},
            {name <> "mlp.up_proj", {inner, hidden}},
            {name <> "mlp.down_proj", {hidden, inner}}
          ] ++ head_norms(family, name, size) ++ shapes
      end

    outside = [{"model.embed_tokens", {@vocabulary, hidden}}, {"model.norm", {hidden}}]
    head = if config["tie_word_embeddings"], do: [], else: [{"lm_head", {@vocabulary, hidden}}]

    Nx.with_default_backend(Nx.BinaryBackend, fn ->
      {tensors, _} =
        Enum.map_reduce(outside ++ head ++ layers, Nx.Random.key(seed), fn {name, shape}, key ->
          {noise, key} = Nx.Random.normal(key, 0.0, 0.3, shape: shape, type: :f32)
          noise = if tuple_size(shape) == 1, do: Nx.add(noise, 1.0), else: noise
          {{name <> ".weight", noise}, key}
        end)

      Map.new(tensors)
    end)
  end

  defp head_norms(:llama, _name, _size), do: []

  defp head_norms(:qwen3, name, size),
    do: [{name <> "self_attn.q_norm", {size}}, {name <> "self_attn.k_norm", {size}}]

  @doc "Writes a checkpoint into a folder; with several files if there are to be several."
  def write(folder, config, tensors, files \\ 1) do
    File.mkdir_p!(folder)
    File.write!(Path.join(folder, "config.json"), JSON.encode!(config))

    tensors
    |> Enum.sort()
    |> Enum.chunk_every(div(map_size(tensors) + files - 1, files))
    |> Enum.with_index(fn part, i ->
      File.write!(Path.join(folder, "model-#{i}.safetensors"), archive(part))
    end)

    folder
  end

  @doc "A small model of EMLXAxon.Llama or Qwen3, of files that go with the tests that ask for it."
  def loaded(module) do
    family = module |> Module.split() |> List.last() |> String.downcase() |> String.to_atom()
    folder = Path.join(System.tmp_dir!(), "emlx_axon_#{System.unique_integer([:positive])}")
    ExUnit.Callbacks.on_exit(fn -> File.rm_rf!(folder) end)
    config = config(family)
    write(folder, config, tensors(family, config))
    {:ok, state} = Module.concat(module, DenseLoader).from_safetensors_dir(folder)
    state
  end

  defp archive(tensors) do
    {entries, {_, data}} =
      Enum.map_reduce(tensors, {0, []}, fn {name, tensor}, {at, data} ->
        bytes = Nx.to_binary(tensor)
        stop = at + byte_size(bytes)
        type = tensor |> Nx.type() |> Nx.Type.to_string() |> String.upcase()
        shape = tensor |> Nx.shape() |> Tuple.to_list()
        {{name, %{dtype: type, shape: shape, data_offsets: [at, stop]}}, {stop, [data, bytes]}}
      end)

    header = JSON.encode!(Map.new(entries))
    header = header <> String.duplicate(" ", rem(8 - rem(byte_size(header), 8), 8))
    [<<byte_size(header)::64-little>>, header, data]
  end

  ## The oracle

  @doc "Logits after the last of a list of tokens, a list of floats."
  def logits(family, config, tensors, tokens) do
    Nx.with_default_backend(Nx.BinaryBackend, fn ->
      t = fn name -> Nx.as_type(Map.fetch!(tensors, name <> ".weight"), :f64) end
      x = Nx.take(t.("model.embed_tokens"), Nx.tensor(tokens))

      x =
        for i <- 0..(config["num_hidden_layers"] - 1), reduce: x do
          x -> layer(family, config, &t.("model.layers.#{i}.#{&1}"), x)
        end

      head = if config["tie_word_embeddings"], do: "model.embed_tokens", else: "lm_head"

      x
      |> norm(t.("model.norm"))
      |> Nx.dot(Nx.transpose(t.(head)))
      |> then(& &1[-1])
      |> Nx.to_list()
    end)
  end

  defp layer(family, config, t, x) do
    h = norm(x, t.("input_layernorm"))
    q = h |> Nx.dot(Nx.transpose(t.("self_attn.q_proj"))) |> heads(config)
    k = h |> Nx.dot(Nx.transpose(t.("self_attn.k_proj"))) |> heads(config)
    v = h |> Nx.dot(Nx.transpose(t.("self_attn.v_proj"))) |> heads(config)
    q = if family == :qwen3, do: norm(q, t.("self_attn.q_norm")), else: q
    k = if family == :qwen3, do: norm(k, t.("self_attn.k_norm")), else: k

    x =
      Nx.add(
        x,
        Nx.dot(attend(turn(q, config), turn(k, config), v), Nx.transpose(t.("self_attn.o_proj")))
      )

    h = norm(x, t.("post_attention_layernorm"))
    gate = Nx.dot(h, Nx.transpose(t.("mlp.gate_proj")))
    up = Nx.dot(h, Nx.transpose(t.("mlp.up_proj")))
    gated = gate |> Nx.multiply(Nx.sigmoid(gate)) |> Nx.multiply(up)
    Nx.add(x, Nx.dot(gated, Nx.transpose(t.("mlp.down_proj"))))
  end

  defp norm(x, weight) do
    mean = Nx.mean(Nx.multiply(x, x), axes: [-1], keep_axes: true)
    x |> Nx.divide(Nx.sqrt(Nx.add(mean, 1.0e-6))) |> Nx.multiply(weight)
  end

  # {heads, positions, size}
  defp heads(x, config) do
    {n, _} = Nx.shape(x)
    x |> Nx.reshape({n, :auto, config["head_dim"]}) |> Nx.transpose(axes: [1, 0, 2])
  end

  defp turn(x, config) do
    {_, n, size} = Nx.shape(x)
    half = div(size, 2)

    periods =
      for i <- 0..(half - 1) do
        scaled(:math.pow(config["rope_theta"], 2 * i / size), config["rope_scaling"])
      end

    angles =
      Nx.tensor(for(p <- 0..(n - 1), do: for(period <- periods, do: p / period)), type: :f64)

    {a, b} = {x[[.., .., 0..(half - 1)]], x[[.., .., half..(size - 1)]]}
    {cos, sin} = {Nx.cos(angles), Nx.sin(angles)}

    Nx.concatenate(
      [
        Nx.subtract(Nx.multiply(a, cos), Nx.multiply(b, sin)),
        Nx.add(Nx.multiply(a, sin), Nx.multiply(b, cos))
      ],
      axis: 2
    )
  end

  # Llama 3's: by the length of the wave beside the positions of the first training.
  defp scaled(period, nil), do: period

  defp scaled(
         period,
         %{"factor" => factor, "low_freq_factor" => low, "high_freq_factor" => high} = s
       ) do
    most = s["original_max_position_embeddings"]
    wave = 2 * :math.pi() * period

    cond do
      wave < most / high ->
        period

      wave > most / low ->
        period * factor

      true ->
        smooth = (most / wave - low) / (high - low)
        1 / ((1 - smooth) / period / factor + smooth / period)
    end
  end

  defp attend(q, k, v) do
    {heads, n, size} = Nx.shape(q)
    times = div(heads, Nx.axis_size(k, 0))

    rows =
      for h <- 0..(heads - 1) do
        {k, v} = {k[div(h, times)], v[div(h, times)]}
        scores = q[h] |> Nx.dot(Nx.transpose(k)) |> Nx.divide(:math.sqrt(size))
        seen = Nx.less_equal(Nx.iota({n, n}, axis: 1), Nx.iota({n, n}, axis: 0))
        powers = Nx.select(seen, Nx.exp(scores), 0.0)
        powers |> Nx.divide(Nx.sum(powers, axes: [1], keep_axes: true)) |> Nx.dot(v)
      end

    Nx.concatenate(rows, axis: 1)
  end
end
