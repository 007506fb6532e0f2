# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.NIFError do
  @moduledoc """
  Raised by `EMLX.unwrap!/1`.

  The rest of EMLX raises `EMLX.Error`, `ArgumentError` or `ArithmeticError`.
  """

  defexception [:message]
end
