#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# plain_test.sh - the recorded cases on the engine that is written to be read, within the tolerances
# of all engines. What it leaves to the host is eigenvalues and singular values.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(dirname "$0")/../..
cli=${EMLX_CLI:-$root/build/emlx}
"$root/scripts/conformance" "$folder/cases" || exit 1
EMLX_ENGINES="$(dirname "$cli")/test/engines/plain.so"
export EMLX_ENGINES
"$cli" conformance "$folder/cases" --device plain >"$folder/own"
status=$?
cat "$folder/own"
grep -q "^handed over to the host: .* of 2 ops" "$folder/own" || status=1
exit $status
