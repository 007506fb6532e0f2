# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Qwen3 do
  @moduledoc "Decoders of the family of Qwen3: EMLXAxon.Family has what they share."
  use EMLXAxon.Family, :qwen3
end
