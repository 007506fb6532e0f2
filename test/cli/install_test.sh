#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# install_test.sh - the header alone, and programs against what `make install` leaves, in C and C++,
# with the shared library and the static one, in a folder whose name has a space.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(dirname "$EMLX_CLI")
log=$folder/log
passed=0 failed=0
check() {
    if [ "$2" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1)) && echo "not so: $1" && cat "$log"
    fi
}
have() { command -v "$1" >/dev/null 2>&1; }

strict='-Wall -Wextra -pedantic -Werror'
echo '#include <emlx.h>' >"$folder/alone.c"
cp "$folder/alone.c" "$folder/alone.cc"
# shellcheck disable=SC2086 # a list of flags
cc -std=c99 $strict -fsyntax-only -I"$root/include" "$folder/alone.c" >"$log" 2>&1
check "the header is C99 by itself" $?
if have c++; then
    # shellcheck disable=SC2086 # a list of flags
    c++ -std=c++11 $strict -fsyntax-only -I"$root/include" "$folder/alone.cc" >"$log" 2>&1
    check "the header is C++11 by itself" $?
else
    echo "skipped: no c++"
fi

# A name of ours that is not public, which a program may have as well.
cat >"$folder/user.c" <<'END'
#include <emlx.h>
#include <stdio.h>
int node_new(void);
int node_new(void) { return 2; }
int main(void) {
    const float data[2] = {1.5f, 2.5f};
    const int64_t length = node_new();
    float sum;
    emlx_error err;
    emlx_device *device;
    emlx_shape shape;
    emlx_tensor *t, *out;
    if (emlx_device_open("cpu", &device, &err) != EMLX_OK) return 1;
    if (emlx_shape_make(&length, 1, &shape, &err) != EMLX_OK) return 1;
    if (emlx_tensor_from_data(device, EMLX_F32, &shape, data, sizeof data, &t, &err) != EMLX_OK)
        return 1;
    if (emlx_apply(emlx_op_find("sum"), device, &t, 1, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err) !=
        EMLX_OK)
        return 1;
    if (emlx_tensor_read(out, 0, &sum, sizeof sum, &err) != EMLX_OK) return 1;
    printf("%g\n", sum);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
    emlx_device_release(device);
    return 0;
}
END
cp "$folder/user.c" "$folder/user.cc"

# Compiles with the command given and runs: COMMAND...
runs() {
    "$@" -o "$folder/user" >"$log" 2>&1 || return 1
    [ "$(LD_LIBRARY_PATH="$prefix/lib" DYLD_LIBRARY_PATH="$prefix/lib" "$folder/user")" = 4 ]
}

installed() {
    prefix="$folder/a place"
    # What there is is installed; another make must not build it with other flags.
    (cd "$root" && unset MAKEFLAGS MAKELEVEL MFLAGS &&
        make -o all install PREFIX="$prefix" BUILD="${build#"$root/"}") >"$log" 2>&1
    check "it is installed" $?
    "$prefix/bin/emlx" --version >"$log"
    check "the command line runs" $?
    export PKG_CONFIG_PATH="$prefix/lib/pkgconfig:$PKG_CONFIG_PATH"
    eval "set -- $(pkg-config --cflags --libs emlx)"
    runs cc "$folder/user.c" "$@"
    check "a program runs with the shared library" $?
    if have c++; then
        runs c++ "$folder/user.cc" "$@"
        check "one in C++ as well" $?
    fi
    eval "set -- $(pkg-config --static --libs emlx | sed 's/-lemlx//')"
    runs cc -I"$prefix/include" "$folder/user.c" "$prefix/lib/libemlx.a" "$@"
    check "a program runs with the static library" $?
}

if [ ! -e "$build/libemlx.so" ] && [ ! -e "$build/libemlx.dylib" ]; then
    echo "skipped: no shared library in this build"
elif ! have pkg-config; then
    echo "skipped: no pkg-config"
else
    installed
fi
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
