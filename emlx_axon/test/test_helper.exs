# SPDX-License-Identifier: Apache-2.0
# Bumblebee is optional; its models are rewritten where it is.
exclude = if Code.ensure_loaded?(Bumblebee), do: [], else: [:bumblebee]

# What names no device runs on that one, as in EMLX's own suite.
with name when name != nil <- System.get_env("EMLX_TEST_DEVICE"),
     do: Application.put_env(:emlx, :default_device, String.to_atom(name))

Nx.default_backend(EMLX.Backend)
ExUnit.start(exclude: exclude, assert_receive_timeout: 5000)
Code.require_file("support.exs", __DIR__)
