# SPDX-License-Identifier: Apache-2.0
# Doctests compare what is printed, and those of Nx know no backend line.
Application.put_env(:emlx, :add_backend_on_inspect, false)

EMLX.Case.choose_device()
# A busy machine sends messages late.
ExUnit.start(exclude: EMLX.Case.exceptions(), assert_receive_timeout: 5000)
