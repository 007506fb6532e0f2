# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctestTest do
  # Nx's own documentation, run on this backend and compiler. What is left out needs an operation
  # that this version has not got; each comes back by itself with that operation.
  use EMLX.Case, async: true

  import EMLX.DocValues

  # The last digit of the f64 that these print is that of the reference's formula or of libm, half a
  # unit to one and a half off; ours is that of the exact result.
  @by_value [:acosh, :atanh, :erfc, :expm1, :sigmoid, :sinh]

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

  doctest Nx,
    except: [:moduledoc] ++ for(name <- @by_value, do: {name, 1}) ++ List.flatten(missing)

  for name <- @by_value do
    test "examples of #{name}" do
      assert_examples(Nx, unquote(name), 1.0e-15)
    end
  end

  test "the last digits of what is compared by value" do
    exact = [
      acosh: {2.0, 1.3169578969248168},
      atanh: {0.5, 0.5493061443340549},
      erfc: {2.0, 0.004677734981047266},
      expm1: {1.0, 1.7182818284590453},
      sigmoid: {2.0, 0.8807970779778824},
      sinh: {2.0, 3.6268604078470186}
    ]

    for {name, {x, result}} <- exact do
      assert Nx.to_number(apply(Nx, name, [Nx.tensor(x, type: :f64)])) == result
    end
  end

  doctest Nx.Constants
  doctest Nx.Random
end
