# SPDX-License-Identifier: Apache-2.0
[
  inputs: [
    "{mix,.formatter}.exs",
    "lib/**/*.ex",
    "test/elixir/**/*.{ex,exs}",
    "test/nif/**/*.exs",
    "test/{nx,eco}/*.exs"
  ],
  line_length: 98
]
