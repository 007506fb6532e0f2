# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Packed do
  @moduledoc false
  # Quantized weights within a program: values and specs of their parts, how these are unpacked, to
  # what type (as ops name it), and whether the result is then transposed. And how the parts of a
  # quantized parameter are numbered and named where they are inputs of the program.
  @enforce_keys [:parts, :attributes, :type, :turned?]
  defstruct @enforce_keys

  @type t :: %__MODULE__{
          parts: [{value :: integer, spec :: tuple}],
          attributes: keyword,
          type: atom,
          turned?: boolean
        }

  @doc "Weights of this signature (see `EMLX.Quantization.signature/1`) with these values as parts."
  @spec new(tuple, [integer]) :: t
  def new({specs, turned?, attributes, type}, values) do
    parts = Enum.zip(values, specs)
    %__MODULE__{parts: parts, attributes: attributes, type: type, turned?: turned?}
  end

  @doc "The same weights as a block has them whose inputs from `place` on are the parts."
  @spec at(t, non_neg_integer) :: t
  def at(%__MODULE__{parts: parts} = packed, place) do
    parts = for {{_value, spec}, i} <- Enum.with_index(parts, place), do: {-1 - i, spec}
    %{packed | parts: parts}
  end

  @doc "The values of the parts."
  @spec values(t) :: [integer]
  def values(%__MODULE__{parts: parts}), do: for({value, _spec} <- parts, do: value)

  @doc "The specs of the parts."
  @spec specs(t) :: [tuple]
  def specs(%__MODULE__{parts: parts}), do: for({_value, spec} <- parts, do: spec)

  ## Parameters of the program

  # A quantized parameter becomes several inputs, with numbers of their own.
  @part 1_000_000
  @parts ["", ".scales", ".biases"]

  @doc "The inputs that the i-th parameter becomes, with their specs: one, or one for each part."
  @spec inputs(non_neg_integer, tuple, tuple | nil) :: [{non_neg_integer, tuple}]
  def inputs(i, spec, nil), do: [{i, spec}]

  def inputs(i, _spec, {specs, _turned?, _attributes, _type}),
    do: for({spec, part} <- Enum.with_index(specs, 1), do: {i + part * @part, spec})

  @doc "Which parameter an input is, and which part of it, or nil for all."
  @spec parameter(non_neg_integer) :: {non_neg_integer, non_neg_integer | nil}
  def parameter(input) when input < @part, do: {input, nil}
  def parameter(input), do: {rem(input, @part), div(input, @part) - 1}

  @doc "What the inputs of a quantized tensor are called, by its name and the number of its parts."
  @spec part_names(String.t(), pos_integer) :: [String.t()]
  def part_names(name, count), do: @parts |> Enum.take(count) |> Enum.map(&(name <> &1))

  @doc "What an input is called, by the names of the parameters."
  @spec input_name([String.t()], non_neg_integer) :: String.t()
  def input_name(names, input) do
    {i, part} = parameter(input)
    Enum.at(names, i) <> Enum.at(@parts, part || 0)
  end
end
