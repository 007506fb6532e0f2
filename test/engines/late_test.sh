#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# late_test.sh - the recorded cases give the same bits on the engine that is late.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(dirname "$0")/../..
cli=${EMLX_CLI:-$root/build/emlx}
"$root/scripts/conformance" "$folder/cases" || exit 1
export EMLX_ENGINES="$(dirname "$cli")/test/engines/late.so" EMLX_LATE_DELAY=${EMLX_LATE_DELAY:-20}

"$cli" conformance "$folder/cases" --digest --device late --threads 8 >"$folder/late"
status=$?
"$cli" conformance "$folder/cases" --digest >"$folder/cpu"
cat "$folder/late"
[ "$(grep "^digest: " "$folder/late")" = "$(grep "^digest: " "$folder/cpu")" ] || status=1
exit $status
