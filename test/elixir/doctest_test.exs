# SPDX-License-Identifier: Apache-2.0
defmodule EMLX.DoctestTest do
  # Nx's own documentation, run on this backend and compiler.
  use EMLX.Case, async: true

  doctest Nx, except: [:moduledoc]
  doctest Nx.Constants
  doctest Nx.Random
end
