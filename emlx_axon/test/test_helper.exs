# SPDX-License-Identifier: Apache-2.0
# Bumblebee is optional; its models are rewritten where it is.
exclude = if Code.ensure_loaded?(Bumblebee), do: [], else: [:bumblebee]
Nx.default_backend(EMLX.Backend)
ExUnit.start(exclude: exclude, assert_receive_timeout: 5000)
Code.require_file("support.exs", __DIR__)
