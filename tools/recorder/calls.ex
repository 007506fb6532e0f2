# SPDX-License-Identifier: Apache-2.0
defmodule Recorder.Calls do
  @moduledoc """
  How the generator calls Nx.
  """

  alias Recorder.Store

  @doc "Calls a function with each type; true, as there is a rule."
  def each(types, fun) do
    Enum.each(types, fun)
    true
  end

  @doc "What Nx or the reference refuses is not recorded, or as an error that is expected."
  def call(fun) do
    fun.()
  rescue
    error -> Store.note("refused with #{inspect(error.__struct__)}")
  end
end
