# SPDX-License-Identifier: Apache-2.0
# Tokens a second by how many texts are drawn side by side and by how long they are, of a model of
# Qwen3-0.6B's shape with made-up weights, one JSON object a line:
#
#     cd emlx_axon && MIX_ENV=prod mix run ../bench/tokens.exs [LAYERS] >tokens.json
#     bench/plot.py emlx_axon/tokens.json >guides/assets/tokens.svg
#
# A figure is the better of two runs of some tokens. Caches are as if they were filled.

defmodule Tokens do
  @moduledoc false
  alias EMLXAxon.{Decoder, Draw}

  @size %{hidden: 1024, inner: 3072, heads: 16, groups: 8, head: 128, vocabulary: 151_936}
  @tokens 8
  @rows [1, 2, 4, 8, 16]
  @lengths [64, 256, 512, 1024, 2048]

  def main(arguments) do
    layers = if arguments == [], do: 28, else: arguments |> hd() |> String.to_integer()
    Nx.default_backend(EMLX.Backend)
    model = model(layers)

    for {name, model} <- [{"bf16", model}, {"4 bits", packed(model)}] do
      for rows <- @rows, do: report(name, model, rows, hd(@lengths))
      for length <- tl(@lengths), do: report(name, model, 1, length)
    end
  end

  # Numbers of the size of weights, none like its neighbour.
  defp matrix(shape) do
    Nx.iota(shape, type: :f32)
    |> Nx.multiply(0.7)
    |> Nx.sin()
    |> Nx.multiply(0.03)
    |> Nx.as_type(:bf16)
    |> tap(&EMLX.eval/1)
  end

  defp ones(count), do: Nx.broadcast(Nx.tensor(1, type: :bf16), {count})

  defp model(count) do
    %{hidden: hidden, inner: inner, heads: heads, groups: groups, head: head} = @size
    table = matrix({@size.vocabulary, hidden})

    layer = fn ->
      %{
        input_norm: ones(hidden),
        output_norm: ones(hidden),
        q_norm: ones(head),
        k_norm: ones(head),
        q: matrix({heads * head, hidden}),
        k: matrix({groups * head, hidden}),
        v: matrix({groups * head, hidden}),
        o: matrix({hidden, heads * head}),
        gate: matrix({inner, hidden}),
        up: matrix({inner, hidden}),
        down: matrix({hidden, inner})
      }
    end

    %{
      embed_tokens: table,
      norm: ones(hidden),
      lm_head: table,
      layers: List.to_tuple(for _ <- 1..count, do: layer.()),
      freqs: EMLXAxon.Rope.freqs(config(count)) |> Nx.backend_copy(EMLX.Backend)
    }
  end

  defp config(layers) do
    %{
      num_hidden_layers: layers,
      num_key_value_heads: @size.groups,
      head_dim: @size.head,
      rms_norm_eps: 1.0e-6,
      kernel_layout: :out_in,
      rope_theta: 1.0e6
    }
  end

  defp packed(model) do
    pack = &EMLX.Quantization.quantize(&1, type: {:s, 4}, group_size: 64)
    kernels = &Map.new(&1, fn {name, t} -> {name, if(Nx.rank(t) == 2, do: pack.(t), else: t)} end)
    layers = model.layers |> Tuple.to_list() |> Enum.map(kernels) |> List.to_tuple()
    %{model | layers: layers, lm_head: pack.(model.lm_head)}
  end

  defp report(name, model, rows, length) do
    config = config(tuple_size(model.layers))
    cache = Decoder.new_cache(model, config, length + 2 * @tokens, rows)
    run = %{model: model, backend: EMLX.Backend, defn_options: []}
    settings = [config: config, sampler: :greedy, stop: []]
    first = Nx.broadcast(Nx.s32(7), {rows})
    offsets = if rows == 1, do: Nx.s32(length), else: Nx.broadcast(Nx.s32(length), {rows})
    at = {first, offsets, Nx.Random.key(1), Nx.broadcast(Nx.u8(0), {rows})}

    {_cache, times} =
      Enum.reduce(0..2, {cache, []}, fn _, {cache, times} ->
        started = System.monotonic_time()
        {_tokens, _at, cache} = Draw.tokens(run, cache, at, {1.0, 1.0}, settings, @tokens)
        {cache, [System.monotonic_time() - started | times]}
      end)

    # The first run compiles.
    best = times |> Enum.drop(-1) |> Enum.min() |> System.convert_time_unit(:native, :microsecond)
    rate = rows * @tokens * 1.0e6 / best
    line = %{weights: name, rows: rows, length: length, rate: Float.round(rate, 1)}
    IO.puts(JSON.encode!(line))
  end
end

Tokens.main(System.argv())
