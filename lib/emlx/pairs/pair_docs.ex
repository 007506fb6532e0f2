# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.PairDocs do
  @moduledoc false
  # What is said of the functions on `{device, reference}` pairs: types by the names of arguments, and
  # a sentence, which is the call of Nx that a function is, or stands here.

  @sentences %{
    eye: "Ones on the diagonal of a matrix of `m` rows and `n` columns, zeros elsewhere.",
    from_blob: "A tensor of elements as they lie in memory, each in whole bytes.",
    scalar_tensor: "A number as a tensor without axes.",
    ones: "Ones everywhere.",
    full: "A number, or a scalar that is a pair, everywhere.",
    arange: "Numbers from `start` to before `stop`, in steps of `step`: s32, or f32.",
    remainder:
      "What is left of a division whose quotient is rounded down: it has the divisor's sign.",
    quotient: "The quotient: of integers cut off, of floats rounded down.",
    round: "Rounded to the nearest whole number, halves to the even one.",
    copy: "The same elements in memory of their own.",
    astype: "The same numbers as another type; of `:bool` all but 0 are 1.",
    view: "The same bits as elements of another type; another width scales the last axis.",
    as_strided:
      "The elements at `offset` plus the sum of index times stride, copied into dense memory.",
    pad: "Pads `axes` with a scalar, by `low` elements in front and `high` behind.",
    take: "Slices along an axis by their indices, of which negative ones count from the end.",
    take_along_axis: "An element for each index along an axis; negative ones count from the end.",
    all: "Whether all elements along `axes` are true; without axes, all of them.",
    any: "Whether an element along `axes` is true; without axes, any of them.",
    sum: "The sum along `axes`; without axes, of all.",
    product: "The product along `axes`; without axes, of all.",
    cumulative_sum: "Running sums along an axis, of the elements up to each, or before each.",
    cumulative_product:
      "Running products along an axis, of the elements up to each, or before each.",
    cumulative_max: "The greatest element up to each along an axis, or before each.",
    cumulative_min: "The least element up to each along an axis, or before each.",
    slice:
      "A part of a tensor; starts and ends that are negative count from the end of their axis.",
    slice_update: "A tensor with a part overwritten by an update that fits or stretches to it.",
    allclose: "Whether all elements are as near to each other as `isclose/5` says.",
    isclose: "For each element whether `abs(a - b) <= atol + rtol * abs(b)`.",
    conv_general: "A convolution with the channels last, in the operand and in the kernel.",
    gather:
      "Slices of `slice_sizes`, with a tensor of starts for each of `axes`; others start at 0.",
    scatter: "A tensor with updates written where `gather/4` would take them from.",
    scatter_add: "A tensor with updates added where `gather/4` would take them from.",
    linalg_lu:
      "For each row its place in the product of the other two, a lower and an upper factor.",
    linalg_svd: "Singular values alone, or all three parts, in a list.",
    linalg_cholesky:
      "The lower factor of a positive definite matrix, or the upper one, its adjoint.",
    linalg_eigh:
      "Eigenvalues and eigenvectors of a symmetric matrix, of which one triangle is read.",
    tri_inv: "The inverse of a triangular matrix.",
    fast_rope_ids:
      "`EMLX.Fast.rope_with_positions/6` whose positions count from `{batch}` offsets.",
    fast_rope_with_freqs:
      "`EMLX.Fast.rope_with_freqs/6` whose positions count from `{batch}` offsets.",
    fast_sdpa_causal_key_masked:
      "Attention of query `i` to the keys up to `offset + i` that the mask, `{batch, keys}`, has a 1 for.",
    kv_cache_sdpa_update:
      "Keys and values written into caches `{batch, groups, length, size}` at `offset`, and causal " <>
        "attention to what is there then: the attention and both caches.",
    kv_cache_attention:
      "As `kv_cache_sdpa_update/7` where positions come before heads, in the result as well.",
    kv_cache_attention_masked:
      "As `kv_cache_attention/7`, to positions that the mask has a 1 for; it is as long as the caches " <>
        "are filled then."
  }

  @results %{
    linalg_lu: [:list],
    linalg_svd: [:list],
    linalg_qr: [:pair],
    linalg_eigh: [:pair],
    kv_cache_sdpa_update: [:three],
    kv_cache_attention: [:three],
    kv_cache_attention_masked: [:three]
  }

  @booleans [
    :traditional,
    :keep,
    :reverse,
    :inclusive,
    :upper,
    :equal_nan,
    :compute_uv,
    :integer?
  ]
  @integers [:m, :n, :dims, :axis, :offset, :groups]
  @numbers [:eps, :base, :scale, :start, :stop, :step, :rtol, :atol]

  @doc "The documentation of a function, given the call that it is."
  def sentence(name, call), do: @sentences[name] || "`#{Macro.to_string(call)}`, on pairs."

  @doc "The names of functions that are described here."
  def names, do: Map.keys(@sentences)

  @doc "Its types."
  def spec(name, arguments) do
    types = for {argument, _, _} <- arguments, do: type(name, argument)
    result = result(@results[name])
    quote(do: unquote(name)(unquote_splicing(types)) :: unquote(result))
  end

  @doc "How many arguments a type specification has."
  def arity({:when, _, [spec, _]}), do: arity(spec)
  def arity({:"::", _, [{_name, _, arguments}, _]}), do: length(arguments)

  defp result(nil), do: pair()
  defp result([:list]), do: [pair()]
  defp result([:pair]), do: {pair(), pair()}
  defp result([:three]), do: quote(do: {unquote(pair()), unquote(pair()), unquote(pair())})

  defp pair, do: quote(do: EMLX.Backend.ref())

  defp type(name, :tensor_indices) when name in [:gather, :scatter, :scatter_add], do: [pair()]
  defp type(_name, :tensors), do: [pair()]
  defp type(_name, :sinks), do: quote(do: EMLX.Backend.ref() | nil)
  defp type(_name, :device), do: quote(do: atom)
  defp type(_name, :type), do: quote(do: atom | Nx.Type.t())
  defp type(_name, :shape), do: quote(do: tuple | [non_neg_integer])
  defp type(_name, :blob), do: quote(do: binary)
  defp type(_name, :uplo), do: quote(do: boolean | String.t() | atom)
  defp type(:full, :value), do: quote(do: number | Complex.t() | EMLX.Backend.ref())
  defp type(_name, :value), do: quote(do: number | boolean | Complex.t())
  defp type(_name, name) when name in @booleans, do: quote(do: boolean)
  defp type(_name, name) when name in @integers, do: quote(do: integer)
  defp type(_name, name) when name in @numbers, do: quote(do: number)

  defp type(_name, name) do
    if name |> Atom.to_string() |> String.starts_with?("tensor"),
      do: pair(),
      else: quote(do: [integer] | tuple)
  end
end
