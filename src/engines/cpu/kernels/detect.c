// SPDX-License-Identifier: Apache-2.0
// detect.c - which of the kernel tables this CPU runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__)
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#endif
#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

#include "engines/cpu/kernels/kernels.h"
#include "engines/cpu/kernels/tables/packed.h"
#include "engines/cpu/kernels/tables/product.h"

#if defined(__x86_64__)
// Not every compiler's __builtin_cpu_supports knows these two.
static bool has_f16c_and_lzcnt(void) {
    unsigned a, b, c, d;
    bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C) != 0;
    return f16c && __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & bit_LZCNT) != 0;
}

static bool has_avx2(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("popcnt") &&
           has_f16c_and_lzcnt();
}

static bool has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512cd");
}

// What a leaf of cpuid has in its third and fourth register.
static bool has_bits(unsigned leaf, unsigned subleaf, unsigned third, unsigned fourth) {
    unsigned a, b, c, d;
    return __get_cpuid_count(leaf, subleaf, &a, &b, &c, &d) && (c & third) == third &&
           (d & fourth) == fourth;
}

static bool has_bf16(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5) != 0;
}

static bool has_vnni(void) { return has_avx512() && has_bits(7, 0, 1u << 11, 0) && has_bf16(); }

// Linux gives the registers of tiles, which are large, only to those who ask. It refuses where a
// thread's stack for signals could not hold them.
static bool may_use_tiles(void) {
#if defined(__linux__)
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

static bool has_amx(void) {
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24, amx_int8 = 1u << 25;
    return has_vnni() && has_bits(7, 0, 0, amx_bf16 | amx_tile | amx_int8) && may_use_tiles();
}
#endif

#if defined(__aarch64__)
#if defined(__linux__)
static bool has_dotprod(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
static bool has_mmla(void) {
    const unsigned long both = HWCAP2_BF16 | HWCAP2_I8MM;
    return has_dotprod() && (getauxval(AT_HWCAP2) & both) == both;
}
#elif defined(__APPLE__)
static bool has_feature(const char *name) {
    int there = 0;
    size_t size = sizeof there;
    return sysctlbyname(name, &there, &size, NULL, 0) == 0 && there != 0;
}
static bool has_dotprod(void) { return has_feature("hw.optional.arm.FEAT_DotProd"); }
static bool has_mmla(void) {
    return has_dotprod() && has_feature("hw.optional.arm.FEAT_BF16") &&
           has_feature("hw.optional.arm.FEAT_I8MM");
}
#else
static bool has_dotprod(void) { return false; }
static bool has_mmla(void) { return false; }
#endif
#endif

static bool always(void) { return true; }

static const struct {
    const char *name;
    const cpu_kernels *kernels; // NULL: those of the level before, but for these products
    const product_fns *products;
    const packed_fns *packed;
    bool (*runs)(void);
} levels[] = {
#define CPU_LEVEL(name, runs, flags) {#name, &cpu_kernels_##name, NULL, NULL, runs},
#define CPU_DOTS(name, runs, flags) {#name, NULL, name##_product_table, name##_packed_table, runs},
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
#undef CPU_DOTS
};
enum { LEVELS = sizeof levels / sizeof *levels };

static cpu_kernels tables[LEVELS];
static product_fns products[LEVELS][PRODUCT_COUNT];
static packed_fns packed[LEVELS][PACKED_COUNT];
static size_t selected;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill_level(size_t i) {
    tables[i] = levels[i].kernels != NULL ? *levels[i].kernels : tables[i - 1];
    tables[i].level = levels[i].name;
    memcpy(products[i], tables[i].product, sizeof products[i]);
    for (size_t t = 0; levels[i].products != NULL && t < PRODUCT_COUNT; t++)
        if (levels[i].products[t].tile != NULL) products[i][t] = levels[i].products[t];
    tables[i].product = products[i];
    memcpy(packed[i], tables[i].packed, sizeof packed[i]);
    for (size_t k = 0; levels[i].packed != NULL && k < PACKED_COUNT; k++) {
        const packed_fns before = packed[i][k], *own = &levels[i].packed[k];
        if (own->dot != NULL) {
            packed[i][k] = *own;
            packed[i][k].scales = before.scales;
            packed[i][k].values = before.values;
        }
        if (own->most > 0) packed[i][k].most = own->most;
    }
    tables[i].packed = packed[i];
}

// The highest level that runs here and is not above the one asked for. A name that is no level
// asks for nothing.
static void select_level(void) {
    const char *wanted = getenv("EMLX_CPU_LEVEL");
    selected = LEVELS - 1;
    for (size_t i = 0; wanted != NULL && i < LEVELS; i++) {
        if (strcmp(wanted, levels[i].name) == 0) selected = i;
    }
    while (!levels[selected].runs()) selected--;
    for (size_t i = 0; i <= selected; i++) fill_level(i);
}

const cpu_kernels *cpu_kernels_level(size_t i) {
    pthread_once(&once, select_level);
    return i <= selected ? &tables[i] : NULL;
}

const cpu_kernels *cpu_kernels_select(void) {
    pthread_once(&once, select_level);
    return &tables[selected];
}
