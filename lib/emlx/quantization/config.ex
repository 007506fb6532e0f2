# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.Quantization.Config do
  @moduledoc """
  How the elements of a quantized tensor are packed: the field `quantization_config` of
  its `EMLX.Backend`.

  `scales` and `biases` are tensors with a number for each group of elements, or `nil` for
  modes that have none. With `transpose` the tensor is the transpose of the matrix that is packed,
  as `Nx.transpose/1` of a quantized tensor gives it.
  """

  @enforce_keys [:scales, :biases, :group_size, :bits]
  defstruct [:scales, :biases, :group_size, :bits, transpose: nil, mode: "affine"]

  @type t :: %__MODULE__{
          scales: Nx.Tensor.t() | nil,
          biases: Nx.Tensor.t() | nil,
          group_size: pos_integer,
          bits: 2 | 3 | 4 | 6 | 8,
          transpose: boolean | nil,
          mode: String.t()
        }
end
