# SPDX-License-Identifier: Apache-2.0
defmodule EMLXAxon.Llama.Sampler do
  @moduledoc "As EMLXAxon.Sampler."
  defdelegate greedy(logits), to: EMLXAxon.Sampler
  defdelegate top_p(logits, key, temperature, top_p), to: EMLXAxon.Sampler
end
