# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Ops do
  @moduledoc false
  # The op table of the native library, as `emlx ops` prints it: a line each
  # with name, fewest and most operands ("*" for no limit), and attributes
  # as name:kind, with a "?" where they may be left out.

  @path Path.join(__DIR__, "ops.txt")
  @external_resource @path

  operands = fn
    "*" -> :any
    digits -> String.to_integer(digits)
  end

  attribute = fn text ->
    [name, kind] = String.split(text, ":")

    %{
      name: String.to_atom(name),
      kind: kind |> String.trim_trailing("?") |> String.to_atom(),
      required: not String.ends_with?(kind, "?")
    }
  end

  @ops (for line <- @path |> File.read!() |> String.split("\n", trim: true) do
          [name, fewest, most | attributes] = String.split(line)

          %{
            name: String.to_atom(name),
            fewest: operands.(fewest),
            most: operands.(most),
            attributes: Enum.map(attributes, attribute)
          }
        end)

  @type t :: %{
          name: atom,
          fewest: non_neg_integer,
          most: non_neg_integer | :any,
          attributes: [%{name: atom, kind: atom, required: boolean}]
        }

  @doc false
  @spec all() :: [t]
  def all, do: @ops

  @doc false
  @spec member?(atom) :: boolean
  def member?(name)
  for %{name: name} <- @ops, do: def(member?(unquote(name)), do: true)
  def member?(_name), do: false
end
