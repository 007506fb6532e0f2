# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.FastPairsTest do
  # The fused functions on pairs and as callbacks give what EMLX.Fast gives; caches are written and
  # attended to as sequences that are there as a whole are.
  use EMLX.Case, async: true

  alias EMLX.{Backend, Fast}

  defp uniform(shape, seed, type \\ :f32) do
    {t, _} = Nx.Random.uniform(Nx.Random.key(seed), -1.0, 1.0, shape: shape)
    Nx.as_type(t, type)
  end

  defp pair(tensor), do: Backend.from_nx(tensor)

  defp assert_same(pair, tensor) do
    result = EMLX.to_nx(pair)
    assert Nx.type(result) == Nx.type(tensor)
    assert Nx.to_list(result) == Nx.to_list(tensor)
  end

  defp assert_near(a, b) do
    assert Nx.shape(a) == Nx.shape(b)
    assert Nx.to_number(Nx.all_close(a, b, atol: 1.0e-5, rtol: 1.0e-5)) == 1
  end

  test "norms and gates" do
    [x, w, b] = [uniform({2, 8}, 1), uniform({8}, 2), uniform({8}, 3)]
    [px, pw, pb] = Enum.map([x, w, b], &pair/1)
    assert_same(EMLX.fast_rms_norm(px, pw, 1.0e-5), Fast.rms_norm(x, w, 1.0e-5))
    assert_same(EMLX.fast_layer_norm(px, pw, pb, 1.0e-5), Fast.layer_norm(x, w, b, 1.0e-5))
    assert_same(EMLX.fast_layer_norm_no_bias(px, pw, 1.0e-5), Fast.layer_norm(x, w, 1.0e-5))
    assert_same(EMLX.fast_swiglu(px, px), Fast.swiglu(x, x))
    assert_same(pair(Fast.rms_norm_callback({x, w}, eps: 0.1)), Fast.rms_norm(x, w, 0.1))
    assert_same(pair(Fast.swiglu_callback({x, x}, [])), Fast.swiglu(x, x))

    assert_same(
      pair(Fast.layer_norm_callback({x, w, b}, eps: 0.1)),
      Fast.layer_norm(x, w, b, 0.1)
    )
  end

  test "rotary positions: every head is turned as it is alone" do
    x = uniform({2, 3, 4, 8}, 4)
    offsets = Nx.tensor([6, 1], type: :s32)
    positions = Nx.tensor([[6, 7, 8], [1, 2, 3]], type: :s32)
    freqs = Nx.tensor([0.1, 0.2, 0.3, 0.4])
    [px, po, pp, pf] = Enum.map([x, offsets, positions, freqs], &pair/1)
    turned = Fast.rope_with_positions(x, positions, 8, false, 1.0e4, 1.0)

    assert_same(EMLX.fast_rope_ids(px, 8, false, 1.0e4, 1.0, po), turned)
    assert_same(EMLX.fast_rope_positions(px, 8, false, 1.0e4, 1.0, pp), turned)
    by_freqs = Fast.rope_with_freqs(x, positions, 8, false, 1.0, freqs)
    assert_same(EMLX.fast_rope_with_freqs(px, 8, false, 1.0, po, pf), by_freqs)
    assert_same(EMLX.fast_rope(px, 8, true, 100, 1.0, 2), Fast.rope(x, 8, true, 100, 1.0, 2))

    options = [dims: 8, traditional: true, base: 100, scale: 1.0, offset: 2]
    assert_same(pair(Fast.rope_callback(x, options)), Fast.rope(x, 8, true, 100, 1.0, 2))

    for head <- 0..3 do
      alone =
        Fast.rope_with_positions(x[[.., .., head..head, ..]], positions, 8, false, 1.0e4, 1.0)

      assert Nx.to_list(alone) == Nx.to_list(turned[[.., .., head..head, ..]])
    end
  end

  test "attention" do
    [q, k, v] = [uniform({1, 4, 3, 8}, 5), uniform({1, 2, 6, 8}, 6), uniform({1, 2, 6, 8}, 7)]
    [mask, seen] = [uniform({1, 1, 3, 6}, 8), Nx.tensor([[1, 1, 0, 1, 1, 1]])]
    sinks = Nx.tensor([0.1, -0.2, 0.5, 0.0])
    [pq, pk, pv, pm, ps, pn] = Enum.map([q, k, v, mask, seen, sinks], &pair/1)

    for {sinks, pair} <- [{[], nil}, {[sinks: sinks], pn}] do
      plain = Fast.scaled_dot_product_attention(q, k, v, 0.3, sinks)
      assert_same(EMLX.fast_sdpa(pq, pk, pv, 0.3, pair), plain)
      masked = Fast.scaled_dot_product_attention(q, k, v, 0.3, mask, sinks)
      assert_same(EMLX.fast_sdpa_masked(pq, pk, pv, pm, 0.3, pair), masked)
      causal = Fast.scaled_dot_product_attention_causal(q, k, v, 0.3, sinks)
      assert_same(EMLX.fast_sdpa_causal(pq, pk, pv, 0.3, pair), causal)
      keys = Fast.scaled_dot_product_attention_causal_key_masked(q, k, v, 0.3, seen, sinks)
      assert_same(EMLX.fast_sdpa_causal_key_masked(pq, pk, pv, 0.3, ps, 0, pair), keys)
    end

    assert_same(EMLX.fast_sdpa(pq, pk, pv, 0.3), Fast.scaled_dot_product_attention(q, k, v, 0.3))
    options = [scale: 0.3, kv_offset: 0]

    assert_same(
      pair(Fast.sdpa_causal_key_masked_sinks_callback({q, k, v, seen, sinks}, options)),
      Fast.scaled_dot_product_attention_causal_key_masked(q, k, v, 0.3, seen, sinks: sinks)
    )
  end

  test "left padding makes no NaN" do
    [q, k, v] =
      [uniform({1, 4, 80, 32}, 9), uniform({1, 2, 80, 32}, 10), uniform({1, 2, 80, 32}, 11)]
      |> Enum.map(&Nx.as_type(&1, :bf16))

    seen = Nx.greater_equal(Nx.iota({1, 80}), 61)
    out = Fast.scaled_dot_product_attention_causal_key_masked(q, k, v, 0.2, seen)
    assert Nx.to_number(Nx.any(Nx.is_nan(out))) == 0
  end

  # Tokens one by one, and some at once, give what all of them at once give.
  test "caches: positions before heads" do
    [q, k, v] = [uniform({1, 5, 4, 8}, 12), uniform({1, 5, 2, 8}, 13), uniform({1, 5, 2, 8}, 14)]
    cache = pair(Nx.broadcast(0.0, {1, 7, 2, 8}))
    part = fn t, from, count -> pair(Nx.slice_along_axis(t, from, count, axis: 1)) end
    ones = fn count -> pair(Nx.broadcast(Nx.u8(1), {1, count})) end

    {first, kc, vc} =
      EMLX.causal_kv_attention(part.(q, 0, 3), part.(k, 0, 3), part.(v, 0, 3), cache, cache, 0,
        scale: 0.3
      )

    {second, kc, vc} =
      EMLX.causal_kv_attention(part.(q, 3, 1), part.(k, 3, 1), part.(v, 3, 1), kc, vc, 3,
        scale: 0.3,
        key_mask: ones.(4)
      )

    {third, kc, _vc} =
      EMLX.kv_cache_attention(part.(q, 4, 1), part.(k, 4, 1), part.(v, 4, 1), kc, vc, 4, 0.3)

    [qt, kt, vt] = for t <- [q, k, v], do: Nx.transpose(t, axes: [0, 2, 1, 3])

    whole =
      qt
      |> Fast.scaled_dot_product_attention_causal(kt, vt, 0.3)
      |> Nx.transpose(axes: [0, 2, 1, 3])

    assert_near(Nx.concatenate(Enum.map([first, second, third], &EMLX.to_nx/1), axis: 1), whole)
    assert_near(Nx.slice_along_axis(EMLX.to_nx(kc), 0, 5, axis: 1), k)
    assert Nx.shape(EMLX.to_nx(kc)) == {1, 7, 2, 8}
  end

  test "caches: heads before positions" do
    [q, k, v] = [uniform({1, 2, 3, 4}, 15), uniform({1, 1, 3, 4}, 16), uniform({1, 1, 3, 4}, 17)]
    cache = pair(Nx.broadcast(0.0, {1, 1, 5, 4}))
    {out, kc, vc} = EMLX.kv_cache_sdpa_update(pair(q), pair(k), pair(v), cache, cache, 0, 0.5)
    assert_near(EMLX.to_nx(out), Fast.scaled_dot_product_attention_causal(q, k, v, 0.5))
    assert_near(Nx.slice_along_axis(EMLX.to_nx(kc), 0, 3, axis: 2), k)
    assert_near(Nx.slice_along_axis(EMLX.to_nx(vc), 0, 3, axis: 2), v)
  end

  test "a cache of which a part is filled, at run time" do
    [q, k, v] = [uniform({2, 2, 1, 4}, 18), uniform({2, 1, 9, 4}, 19), uniform({2, 1, 9, 4}, 20)]
    fun = &Fast.scaled_dot_product_attention_from(&1, &2, &3, 0.5, &4)
    compiled = Nx.Defn.jit(fun, compiler: EMLX)

    for offset <- [0, 3, 8] do
      [kf, vf] = for t <- [k, v], do: Nx.slice_along_axis(t, 0, offset + 1, axis: 2)
      whole = Fast.scaled_dot_product_attention(q, kf, vf, 0.5)
      assert_near(compiled.(q, k, v, Nx.tensor(offset)), whole)
      assert_near(fun.(q, k, v, Nx.tensor([offset, offset])), whole)
    end
  end

  test "softmax and its logarithm" do
    x = uniform({3, 5}, 21)
    powers = Nx.exp(x)
    sums = Nx.sum(powers, axes: [1], keep_axes: true)
    assert_near(Fast.softmax(x), Nx.divide(powers, sums))
    assert_near(Fast.softmax(x, axes: [0]), Nx.divide(powers, Nx.sum(powers, axes: [0])))
    assert_near(Fast.logsumexp(x, axes: [-1], keep_axes: true), Nx.log(sums))
    assert_near(Nx.Defn.jit(&Fast.logsumexp/1, compiler: EMLX).(x), Nx.log(Nx.sum(powers)))
    assert Nx.type(Fast.softmax(Nx.tensor([1, 2]))) == {:f, 32}
  end
end
