#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# limits_test.sh - where the system gives little, or OpenBLAS is not there, the command ends, and says
# plainly what is missing.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
log=$folder/log
passed=0 failed=0
check() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) && echo "not so: $1" && cat "$log"
    fi
}
# Whatever happens it ends by itself, as a command that worked or with words that it has for it.
ends_plainly() {
    [ "$1" -eq 0 ] || { [ "$1" -le 2 ] && grep -q "$2" "$log"; }
}
cp "$EMLX_CLI" "$folder/emlx"
chmod 755 "$folder" "$folder/emlx"

# A sanitizer needs more address space than there is.
if ldd "$EMLX_CLI" 2>/dev/null | grep -q 'lib[a-z]*san\.so'; then
    echo "skipped: limits, of a build with a sanitizer"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

for kilobytes in 40000 80000 120000 150000 200000; do
    (ulimit -v $kilobytes && timeout 60 "$folder/emlx" info) >"$log" 2>&1
    ends_plainly $? 'OpenBLAS\|memory\|thread\|shared object'
    check "with $kilobytes KB of address space it ends, and says why" $?
done
(ulimit -v 150000 && timeout 60 "$folder/emlx" info) >"$log" 2>&1 && grep -q '^device cpu' "$log"
check "150000 KB of address space are enough" $?

# The super-user may have as many processes as there are.
if setpriv --reuid 65534 --clear-groups prlimit true 2>/dev/null; then
    for most in 1 2 3 5; do
        timeout 60 setpriv --reuid 65534 --clear-groups prlimit --nproc=$most \
            "$folder/emlx" info >"$log" 2>&1
        ends_plainly $? 'starts no thread\|ork'
        check "with $most processes it ends, and says why" $?
    done
else
    echo "skipped: setpriv cannot be used here, so no limits on processes"
fi

if command -v cc >/dev/null 2>&1; then
    echo 'int cblas_nothing;' | cc -shared -fPIC -x c -Wl,-soname,libopenblas.so.0 \
        -o "$folder/libopenblas.so.0" - 2>"$log"
    LD_LIBRARY_PATH=$folder timeout 60 "$folder/emlx" info >"$log" 2>&1
    [ $? -eq 1 ] && grep -q 'OpenBLAS of this system has no function' "$log"
    check "another library of that name is refused" $?
fi

if unshare --mount mount --bind /dev/null "$log" 2>/dev/null; then
    # shellcheck disable=SC2016
    unshare --mount sh -c '
        for path in $(ldconfig -p | sed -n "s/.*libopenblas.so[^ ]* .*=> //p") \
            /usr/lib/*/openblas*/libopenblas.so*; do
            [ ! -e "$path" ] || mount --bind /dev/null "$(readlink -f "$path")" || exit 77
        done
        timeout 60 "$0" info' "$folder/emlx" >"$log" 2>&1
    [ $? -eq 1 ] && grep -q 'cannot load OpenBLAS.*libopenblas' "$log"
    check "where OpenBLAS is missing that is said" $?
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
