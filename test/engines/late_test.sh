#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# late_test.sh - the recorded cases give the same bits on the engine that is late.
export EMLX_LATE_DELAY="${EMLX_LATE_DELAY:-20}"
exec "$(dirname "$0")/same_bits" late ""
