# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctestTest do
  # Nx's own documentation, run on this backend and compiler. What is left out needs an operation
  # or a type that this version has not got; each comes back by itself with that operation.
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

  complex? =
    match?(
      {:ok, _},
      EMLX.NIF.apply(:constant, EMLX.Native.device(:cpu), [], [shape: {}, value: 0], :c64)
    )

  complex = [complex: 2, conjugate: 1, phase: 1, real: 1, imag: 1, as_type: 2, is_nan: 1]
  complex = complex ++ [is_infinity: 1, tensor: 2, sigil_MAT: 2, conv: 3]
  complex_random = [normal: 4, uniform: 4]

  doctest Nx,
    except: [:moduledoc] ++ List.flatten(missing) ++ if(complex?, do: [], else: complex)

  doctest Nx.Constants, except: if(complex?, do: [], else: [i: 2])
  doctest Nx.Random, except: if(complex?, do: [], else: complex_random)
end
