# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Llama do
  @moduledoc "Decoders of the family of Llama: EMLXAxon.Family has what they share."
  use EMLXAxon.Family, :llama
end
