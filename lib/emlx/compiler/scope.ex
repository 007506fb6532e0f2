# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Scope do
  @moduledoc false
  # A scope of an expression while EMLX.Expr flattens it.
  #
  # params: :inputs (a closed scope), a tuple of values and types (the default of a block is being
  # inlined) or :outer (an open scope). inputs: of a closed scope within another, for each of its
  # parameters the first input of the block, the type, and the weights where it is such. packed:
  # the values that are quantized weights. outputs: what the scope computes. ids: what belongs to
  # it or to one around it, once it is asked for. outer: what belongs to one around it. types: of
  # the nodes whose type is not the declared one, a tuple for a node of several results. calls: by
  # number, in the outermost scope only, those of the whole program.

  alias EMLX.Liveness

  @enforce_keys [:params, :outputs]
  defstruct [
    :params,
    :outputs,
    :ids,
    :env,
    :inputs,
    packed: %{},
    outer: %{},
    memo: %{},
    types: %{},
    code: [],
    next: 0,
    captures: %{},
    calls: %{}
  ]

  @doc "The scope with its `ids`. Only branches ask for them, and most scopes have none."
  @spec with_ids(%__MODULE__{}) :: %__MODULE__{}
  def with_ids(%__MODULE__{ids: nil} = scope),
    do: %{scope | ids: Liveness.ids(scope.outputs, scope.outer)}

  def with_ids(scope), do: scope
end
