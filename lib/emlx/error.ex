# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Error do
  @moduledoc """
  Raised when the native library could not do what it was asked, although the
  arguments were right: a type or device it lacks, too little memory, a file
  that cannot be read.

  Mistakes in the arguments raise `ArgumentError`, and integer division by zero
  raises `ArithmeticError`, as elsewhere in Nx.

  The field `kind` is one of `:unsupported`, `:out_of_memory`, `:io`, `:format`,
  `:cancelled`, `:lost` (see `EMLX.reset_device/1`), `:not_loaded`, `:remote` (a tensor of another
  node) and `:internal`.
  """

  defexception [:kind, :message]

  @type t :: %__MODULE__{kind: atom, message: String.t()}

  @doc false
  @spec raise_as(atom | {atom, atom, String.t()}, String.t()) :: no_return
  def raise_as({kind, _fault, _cause}, message), do: raise_as(kind, message)

  def raise_as(kind, message) when kind in [:invalid, :out_of_bounds],
    do: raise(ArgumentError, message)

  # Nx's own words.
  def raise_as(:singular, _message),
    do: raise(ArgumentError, "can't solve for singular matrix")

  def raise_as(:arithmetic, message), do: raise(ArithmeticError, message: message)
  def raise_as(kind, message), do: raise(__MODULE__, kind: kind, message: message)
end
