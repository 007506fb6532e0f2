# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctestTest do
  # Nx's own documentation, run on this backend and compiler. What is left out needs an operation
  # that this version has not got; each comes back by itself with that operation.
  use EMLX.Case, async: true

  needs = [
    conv: [conv: 3],
    reduce: [reduce: 4],
    window_reduce: [window_reduce: 5],
    window_sum: [window_sum: 3, window_mean: 3],
    window_max: [window_max: 3],
    window_min: [window_min: 3],
    window_product: [window_product: 3],
    window_scatter_max: [window_scatter_max: 5],
    window_scatter_min: [window_scatter_min: 5],
    fft: [fft: 2, fft2: 2, rfft: 2],
    ifft: [ifft: 2, ifft2: 2, irfft: 2]
  ]

  missing = for {op, functions} <- needs, not EMLX.Ops.member?(op), do: functions

  doctest Nx, except: [:moduledoc] ++ List.flatten(missing)
  doctest Nx.Constants
  doctest Nx.Random
end
