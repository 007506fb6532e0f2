#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# binaries_test.sh - scripts/mlx against a local folder of archives, without a network: what each
# variable does, what is refused and how, what is never used, made twice or removed.
cd "$(dirname "$0")/../.." || exit 1
if ! python3 -c 'import pip, sys; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then
    echo "skipped: fetching MLX; it needs Python 3.9 with pip"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
unset LIBMLX_VERSION LIBMLX_BUILD LIBMLX_ENABLE_JIT LIBMLX_ENABLE_DEBUG LIBMLX_DEPLOYMENT_TARGET \
    LIBMLX_MACOS_COMPAT LIBMLX_SOURCE_DIR LIBMLX_PACKAGE MLX_ARCHIVE_PATH MLX_ARCHIVE_URL \
    MLX_ARCHIVE_INTEGRITY TARGET_ABI MAKE_JOBS HEX_CACERTS_PATH
export TARGET_OS=linux TARGET_ARCH=x86_64 LIBMLX_CACHE="$work/cache" PIP_NO_INDEX=1 \
    PIP_FIND_LINKS="$work/index"

ok() {
    if [ "$2" = 0 ]; then passed=$((passed + 1)); else
        failed=$((failed + 1))
        echo "failed: $1"
        sed 's/^/    /' "$work/out" "$work/err"
    fi
}
# mlx NAME EXPECTED-EXIT PATTERN [VARIABLE=VALUE...]: what it prints has the pattern.
mlx() {
    name=$1 code=$2 pattern=$3
    shift 3
    env "$@" scripts/mlx tree >"$work/out" 2>"$work/err"
    got=$?
    [ "$got" = "$code" ] && cat "$work/out" "$work/err" | grep -q -- "$pattern"
    ok "$name" $?
}
# The one sentence, and nothing of Python's.
sentence() {
    [ "$(wc -l <"$work/err")" -le 2 ] && ! grep -q Traceback "$work/err"
    ok "$1: one sentence" $?
}

# wheel PACKAGE VERSION PLATFORM LIBRARY...: a wheel that has what ours must have.
wheel() {
    python3 - "$work/index" "$@" <<'PYTHON'
import os, sys, zipfile
folder, package, version, platform, *libraries = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
name = package.replace("-", "_")
info = f"{name}-{version}.dist-info"
tag = f"py3-none-{platform}"
with zipfile.ZipFile(f"{folder}/{name}-{version}-{tag}.whl", "w") as w:
    major, minor, patch = version.split(".")
    w.writestr("mlx/include/mlx/version.h", f"#define MLX_VERSION_MAJOR {major}\n"
               f"#define MLX_VERSION_MINOR {minor}\n#define MLX_VERSION_PATCH {patch}\n")
    for library in libraries: w.writestr(f"mlx/lib/{library}", "not a library")
    w.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
               "Requires-Python: >=3.10\n")
    w.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: false\nTag: {tag}\n")
    w.writestr(f"{info}/RECORD", "")
PYTHON
}
linux=manylinux_2_35_x86_64
trees=$LIBMLX_CACHE/trees
wheel mlx-cpu 0.99.1 $linux libmlx.so
wheel mlx-cpu 0.99.1 manylinux_2_35_aarch64 libmlx.so
wheel mlx-cpu 0.99.2 $linux libmlx.so
wheel mlx-cpu 0.99.3 $linux other.so
wheel mlx-cuda-13 0.99.1 $linux libmlx.so
for mac in 14_0 15_0 26_0; do wheel mlx-metal 0.99.1 macosx_${mac}_arm64 libmlx.dylib mlx.metallib; done
wheel mlx-metal 0.99.2 macosx_14_0_arm64 libmlx.dylib
whl=$work/index/mlx_cpu-0.99.1-py3-none-$linux.whl
sum=$(python3 -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$whl")

# Versions, and what was fetched once.
mlx "LIBMLX_VERSION" 0 "mlx-cpu-0.99.1-$linux" LIBMLX_VERSION=0.99.1
mlx "a version that was not tried is said to be so" 0 "has not been tried" LIBMLX_VERSION=0.99.2
mlx "what was fetched needs no index" 0 "mlx-cpu-0.99.1" LIBMLX_VERSION=0.99.1 PIP_FIND_LINKS=/none
rm -rf "$trees/mlx-cpu-0.99.1-$linux"
mlx "nor does a tree whose wheel is there" 0 "mlx-cpu-0.99.1" LIBMLX_VERSION=0.99.1 PIP_FIND_LINKS=/none
mlx "a version that is not there" 1 "there is no mlx-cpu==1.2.3 .* there are .*0.99.1" LIBMLX_VERSION=1.2.3
sentence "a version that is not there"
mlx "no index" 1 "cannot be reached" LIBMLX_VERSION=0.99.9 PIP_FIND_LINKS=/none
sentence "no index"
mlx "a wheel that is not MLX" 1 "has no mlx/lib/libmlx.so" LIBMLX_VERSION=0.99.3

# Whole entries only.
printf 'cut' >"$LIBMLX_CACHE/wheels/$(basename "$whl")"
rm -rf "$trees/mlx-cpu-0.99.1-$linux"
mlx "a damaged wheel in the cache is fetched again" 0 "mlx-cpu-0.99.1" LIBMLX_VERSION=0.99.1
mkdir -p "$trees/mlx-cpu-0.99.2-$linux/mlx" && rm -f "$trees/mlx-cpu-0.99.2-$linux/complete"
mlx "a tree without its mark is not used" 0 "mlx-cpu-0.99.2" LIBMLX_VERSION=0.99.2
[ -f "$trees/mlx-cpu-0.99.2-$linux/complete" ]; ok "but made anew" $?
rm -rf "$trees"/*
touch "$LIBMLX_CACHE/mine" && mkdir -p "$trees/theirs"
for _ in 1 2 3; do LIBMLX_VERSION=0.99.1 scripts/mlx tree >/dev/null 2>>"$work/err" & done
wait
[ -f "$trees/mlx-cpu-0.99.1-$linux/complete" ] && [ "$(ls -A "$trees" | wc -l)" = 2 ]
ok "three at once leave one tree and nothing else" $?
[ -f "$LIBMLX_CACHE/mine" ] && [ -d "$trees/theirs" ]; ok "what is not ours stays" $?

# Archives.
mlx "MLX_ARCHIVE_PATH, a wheel" 0 "mlx-cpu-.*-${sum%"${sum#????????????}"}" MLX_ARCHIVE_PATH="$whl"
mlx "MLX_ARCHIVE_INTEGRITY" 0 mlx-cpu MLX_ARCHIVE_PATH="$whl" MLX_ARCHIVE_INTEGRITY="sha256=$sum"
mlx "a wrong hash" 1 "has not the sha256" MLX_ARCHIVE_PATH="$whl" \
    MLX_ARCHIVE_INTEGRITY="sha256=$(printf %064d 7)"
sentence "a wrong hash"
mlx "a hash that is none" 1 "64 hexadecimal" MLX_ARCHIVE_PATH="$whl" MLX_ARCHIVE_INTEGRITY=md5=1
mlx "no such archive" 1 "is not there" MLX_ARCHIVE_PATH=/none.whl
head -c 300 "$whl" >"$work/cut.whl"
mlx "an archive cut short" 1 "cut short" MLX_ARCHIVE_PATH="$work/cut.whl"
sentence "an archive cut short"
mkdir -p "$work/tar" && (cd "$work/tar" && python3 -m zipfile -e "$whl" . && tar -czf ../mlx.tar.gz -C mlx include lib)
mlx "a tar archive of include and lib" 0 mlx-cpu MLX_ARCHIVE_PATH="$work/mlx.tar.gz"
mlx "of another version than was asked for" 1 "is MLX 0.99.1, not 0.99.7" \
    MLX_ARCHIVE_PATH="$work/mlx.tar.gz" LIBMLX_VERSION=0.99.7
rm -rf "$trees" "$LIBMLX_CACHE/wheels"
mlx "MLX_ARCHIVE_URL" 0 mlx-cpu-0.99.1 LIBMLX_VERSION=0.99.1 MLX_ARCHIVE_URL="file://$whl" PIP_FIND_LINKS=/none
rm -rf "$trees" "$LIBMLX_CACHE/wheels"
mlx "with a wrong hash" 1 "has not the sha256" LIBMLX_VERSION=0.99.1 MLX_ARCHIVE_URL="file://$whl" \
    MLX_ARCHIVE_INTEGRITY="sha256=$(printf %064d 7)"
[ -z "$(ls -A "$LIBMLX_CACHE/wheels" "$trees" 2>/dev/null | grep mlx_)" ]; ok "leaves nothing behind" $?

# What reaches pip: a stand-in that writes down how it was called, and is not called for what is there.
mkdir -p "$work/stand-in/pip" && touch "$work/stand-in/pip/__init__.py"
cat >"$work/stand-in/pip/__main__.py" <<'PYTHON'
import os, sys
with open(os.environ["CALLED"], "w") as file:
    print(*sys.argv[1:], *(os.environ.get(name) for name in ("HTTP_PROXY", "HTTPS_PROXY")), file=file)
sys.exit("no such thing")
PYTHON
mlx "pip fails" 1 "could not be fetched: no such thing" LIBMLX_VERSION=0.99.8 PYTHONPATH="$work/stand-in" \
    CALLED="$work/called" HEX_CACERTS_PATH=/certificates.pem HTTP_PROXY=http://one:1 HTTPS_PROXY=http://two:2
sentence "pip fails"
called() { grep -q -- "$2" "$work/called"; ok "$1" $?; }
called "HEX_CACERTS_PATH" "--cert /certificates.pem"
called "HTTP_PROXY, HTTPS_PROXY" "http://one:1 http://two:2"
called "wheels alone, for whatever Python" "--no-deps .*--only-binary=:all: --python-version 3.12"
rm -rf "$trees" "$LIBMLX_CACHE/wheels" "$work/called"
LIBMLX_VERSION=0.99.1 scripts/mlx tree >/dev/null 2>&1
mlx "a second time" 0 mlx-cpu-0.99.1 LIBMLX_VERSION=0.99.1 PYTHONPATH="$work/stand-in" CALLED="$work/called"
rm -rf "$trees"
mlx "and from the wheel" 0 mlx-cpu-0.99.1 LIBMLX_VERSION=0.99.1 PYTHONPATH="$work/stand-in" CALLED="$work/called"
[ ! -e "$work/called" ]; ok "nobody is asked" $?

# Machines.
mlx "TARGET_ARCH" 0 manylinux_2_35_aarch64 LIBMLX_VERSION=0.99.1 TARGET_ARCH=aarch64
mlx "LIBMLX_PACKAGE" 0 mlx-cuda-13 LIBMLX_VERSION=0.99.1 LIBMLX_PACKAGE=mlx-cuda-13
for row in 26.2:26_0 15.0:15_0 14.0:14_0; do
    mlx "LIBMLX_DEPLOYMENT_TARGET ${row%:*}" 0 "macosx_${row#*:}_arm64" LIBMLX_VERSION=0.99.1 \
        TARGET_OS=darwin TARGET_ARCH=arm64 "LIBMLX_DEPLOYMENT_TARGET=${row%:*}"
done
mlx "LIBMLX_MACOS_COMPAT" 0 macosx_14_0_arm64 LIBMLX_VERSION=0.99.1 TARGET_OS=darwin \
    TARGET_ARCH=arm64 LIBMLX_MACOS_COMPAT=true
mlx "the deployment target wins over it" 0 macosx_26_0_arm64 LIBMLX_VERSION=0.99.1 \
    TARGET_OS=darwin TARGET_ARCH=arm64 LIBMLX_MACOS_COMPAT=true LIBMLX_DEPLOYMENT_TARGET=26.2
mlx "no such Mac" 1 "there are wheels for" TARGET_OS=darwin TARGET_ARCH=arm64 LIBMLX_DEPLOYMENT_TARGET=11
mlx "a Mac's wheel without its shaders" 1 "no mlx/lib/mlx.metallib" LIBMLX_VERSION=0.99.2 \
    TARGET_OS=darwin TARGET_ARCH=arm64 LIBMLX_DEPLOYMENT_TARGET=14.0
mlx "no MLX for a machine" 1 "native engine is used" TARGET_OS=windows
mlx "nor for musl" 1 "musl" TARGET_ABI=musl

# Builds.
mlx "JIT and debug without a build" 0 "ENABLE_JIT has no effect" LIBMLX_VERSION=0.99.1 LIBMLX_ENABLE_JIT=1
mlx "a build without sources" 1 "LIBMLX_SOURCE_DIR" LIBMLX_BUILD=true
sentence "a build without sources"
mkdir -p "$work/tools" "$work/empty" && touch "$work/empty/CMakeLists.txt"
printf '#!/bin/sh\necho "$@" >>"%s/cmake"\n[ "$1" != --install ]\n' "$work" >"$work/tools/cmake"
chmod +x "$work/tools/cmake"
mlx "a build that fails" 1 "MLX could not be built: cmake --install" LIBMLX_BUILD=true MAKE_JOBS=3 \
    LIBMLX_SOURCE_DIR="$work/empty" PATH="$work/tools:$PATH"
grep -q -- "--build .* -j 3$" "$work/cmake"; ok "MAKE_JOBS" $?
if command -v cmake >/dev/null; then
    mkdir -p "$work/source/mlx"
    printf '#define MLX_VERSION_MAJOR 0\n#define MLX_VERSION_MINOR 99\n#define MLX_VERSION_PATCH 5\n' \
        >"$work/source/mlx/version.h"
    cat >"$work/source/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(mlx NONE)
file(WRITE ${CMAKE_BINARY_DIR}/libmlx.so "jit ${MLX_METAL_JIT} debug ${MLX_METAL_DEBUG} ${CMAKE_BUILD_TYPE}")
install(FILES ${CMAKE_BINARY_DIR}/libmlx.so DESTINATION lib)
install(FILES mlx/version.h DESTINATION include/mlx)
CMAKE
    mlx "LIBMLX_BUILD" 0 "-build$" LIBMLX_BUILD=yes LIBMLX_SOURCE_DIR="$work/source" MAKE_JOBS=1
    mlx "with JIT and debug, apart" 0 "-build-jit-debug$" LIBMLX_BUILD=1 LIBMLX_ENABLE_JIT=on \
        LIBMLX_ENABLE_DEBUG=y LIBMLX_SOURCE_DIR="$work/source"
    grep -q "jit ON debug ON Debug" "$trees"/*-build-jit-debug/mlx/lib/libmlx.so
    ok "which reach the build" $?
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
