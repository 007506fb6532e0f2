# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Tokenizer do
  @moduledoc """
  Text to tokens and back.

  A tokenizer is one of Bumblebee's, or a map of two functions: `:encode`, from a text to a list of
  tokens, and `:decode`, from a list of tokens to a text.
  """

  @type t :: struct | %{encode: (String.t() -> [integer]), decode: ([integer] -> String.t())}

  @doc """
  The tokens of a text, `{1, count}`.

  ## Examples

      iex> letters = %{encode: &String.to_charlist/1, decode: &List.to_string/1}
      iex> EMLXAxon.Tokenizer.encode(letters, "ab") |> Nx.to_list()
      [[97, 98]]
  """
  @spec encode(t, String.t()) :: Nx.Tensor.t()
  def encode(%{__struct__: _} = tokenizer, text) do
    Nx.with_default_backend(Nx.BinaryBackend, fn ->
      apply(Bumblebee, :apply_tokenizer, [tokenizer, [text]])["input_ids"]
    end)
  end

  def encode(%{encode: encode}, text),
    do: Nx.tensor([encode.(text)], type: :s32, backend: Nx.BinaryBackend)

  @doc """
  The text of tokens.

  ## Examples

      iex> letters = %{encode: &String.to_charlist/1, decode: &List.to_string/1}
      iex> EMLXAxon.Tokenizer.decode(letters, [97, 98])
      "ab"
  """
  @spec decode(t, [integer]) :: String.t()
  def decode(%{__struct__: _} = tokenizer, tokens),
    do: apply(Bumblebee.Tokenizer, :decode, [tokenizer, tokens])

  def decode(%{decode: decode}, tokens), do: decode.(tokens)
end
