#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# late.sh EBIN BUILD - the BEAM with a device whose every piece of work takes 300 ms
# (test/engines/late.c): late.exs looks at what waits for it, and who is told of what.
folder=$(dirname "$0")
EMLX_ENGINES=$(cd "$2" && pwd)/test/engines/late.so
if [ ! -f "$EMLX_ENGINES" ]; then
    echo "skipped: the engine late, which make tests builds, is not there"
    exit 0
fi
export EMLX_ENGINES EMLX_LATE_LEAST=300000 EMLX_LATE_DELAY=300000
exec elixir -pa "$1" -e 'ExUnit.start()' -r "$folder/support.exs" -r "$folder/late.exs"
