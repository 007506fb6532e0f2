// SPDX-License-Identifier: Apache-2.0
// cast_test.c - casts between all types against type_load and type_store, iota, and strided
// copies.
#include "support.h"

// Casts -------------------------------------------------------------------------------------------

static void compare_cast(const cpu_kernels *k, emlx_type from, emlx_type to, const char *x,
                         const char *got, size_t n) {
    for (size_t i = 0; i < n; i++) {
        emlx_number value = type_load(from, x + i * type_size(from));
        char want[16];
        type_store(to, &value, want);
        const char *have = got + i * type_size(to);
        if (from != to && memcmp(have, want, type_size(to)) == 0) continue;
        if (distance(to, have, want) == 0) continue;
        fail_msg("%s cast %s to %s, element %zu: %.17g (%lld) gives %.17g (%lld)", k->level,
                 emlx_type_name(from), emlx_type_name(to), i, value.as.f[0], (long long)value.as.s,
                 type_load(to, have).as.f[0], (long long)type_load(to, have).as.s);
    }
}

static void check_cast(const cpu_kernels *k, emlx_type from, emlx_type to, const char *x,
                       size_t n) {
    area out = area_new(to, n);
    k->cast[from][to](out.at, x, NULL, NULL, n);
    compare_cast(k, from, to, x, out.at, n);
    if (type_size(from) == type_size(to)) {
        area same = area_new(to, n);
        memcpy(same.at, x, n * type_size(from));
        k->cast[from][to](same.at, same.at, NULL, NULL, n);
        assert_memory_equal(same.at, out.at, n * type_size(to));
        area_free(&same);
    }
    area_free(&out);
}

// All bit patterns of the small types, many values of the others.
static area cast_operands(emlx_type from, size_t *n) {
    bool all = type_size(from) <= 2 && emlx_type_bits(from) >= 8;
    *n = all ? (size_t)1 << emlx_type_bits(from) : 20000;
    area x = area_new(from, *n);
    fill(from, x.at, *n);
    for (size_t i = 0; all && i < *n; i++) {
        memcpy(x.at + i * type_size(from), &i, type_size(from)); // little-endian
    }
    return x;
}

static void test_casts(void **state) {
    (void)state;
    static const size_t lengths[] = {0, 1, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 257};
    FOR_EACH_LEVEL(k) {
        for (unsigned from = 0; from < EMLX_TYPE_COUNT; from++) {
            size_t n;
            area x = cast_operands((emlx_type)from, &n);
            for (unsigned to = 0; to < EMLX_TYPE_COUNT; to++) {
                assert_non_null(k->cast[from][to]);
                check_cast(k, (emlx_type)from, (emlx_type)to, x.at, n);
                for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
                    size_t last = (n - lengths[l]) * type_size((emlx_type)from);
                    check_cast(k, (emlx_type)from, (emlx_type)to, x.at + last, lengths[l]);
                }
            }
            area_free(&x);
        }
    }
}

// Numbers next to the middle between two that a narrow float has, where rounding twice goes wrong.
static void test_casts_round_once(void **state) {
    (void)state;
    static const emlx_type types[] = {EMLX_F8, EMLX_F8_E4M3FN, EMLX_BF16, EMLX_F16};
    double x[3 * 256];
    FOR_EACH_LEVEL(k) {
        for (size_t t = 0; t < 4; t++) {
            size_t n = 0;
            for (unsigned code = 0; code < 256; code++) {
                uint16_t low = (uint16_t)(type_size(types[t]) == 2 ? code * 97 : code);
                uint16_t high = (uint16_t)(low + 1);
                double a = type_load(types[t], &low).as.f[0];
                double b = type_load(types[t], &high).as.f[0];
                double middle = a / 2 + b / 2;
                x[n++] = middle;
                x[n++] = nextafter(middle, (double)INFINITY);
                x[n++] = nextafter(middle, -(double)INFINITY);
            }
            check_cast(k, EMLX_F64, types[t], (const char *)x, n);
        }
    }
}

// What the contract with Nx names: wrapping, truncation, infinities.
static void test_casts_named(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        float x[6] = {300.7f, -1.5f, 3e9f, 1e20f, INFINITY, NAN};
        uint8_t u8[6];
        int32_t s32[6];
        int8_t s4[6];
        k->cast[EMLX_F32][EMLX_U8](u8, x, NULL, NULL, 6);
        k->cast[EMLX_F32][EMLX_S32](s32, x, NULL, NULL, 6);
        k->cast[EMLX_F32][EMLX_S4](s4, x, NULL, NULL, 6);
        assert_true(u8[0] == 44 && u8[1] == 255 && u8[4] == 255 && u8[5] == 0);
        assert_true(s32[2] == -1294967296 && s32[3] == 0 && s32[4] == INT32_MAX && s32[5] == 0);
        assert_true(s4[0] == -4 && s4[1] == -1 && s4[4] == 7 && s4[5] == 0);
        uint64_t u64;
        double large = -1e20;
        k->cast[EMLX_F64][EMLX_U64](&u64, &large, NULL, NULL, 1);
        assert_true(u64 == 10680464442257309696u);
        int64_t s64 = (1ll << 60) + (1ll << 36) + 1;
        float f32;
        k->cast[EMLX_S64][EMLX_F32](&f32, &s64, NULL, NULL, 1);
        assert_true(f32 == 0x1.000002p60f);
    }
}

// Iota --------------------------------------------------------------------------------------------

static void test_iota(void **state) {
    (void)state;
    static const struct {
        int64_t start, step;
    } cases[] = {{0, 1}, {5, 0}, {100, -3}, {INT64_MAX - 10, 7}, {-1000, 1ll << 40}};
    FOR_EACH_LEVEL(k) {
        for (unsigned type = 0; type < EMLX_TYPE_COUNT; type++) {
            for (size_t c = 0; c < sizeof cases / sizeof cases[0]; c++) {
                area out = area_new((emlx_type)type, 700);
                k->iota[type](out.at, cases[c].start, cases[c].step, 700);
                for (size_t i = 0; i < 700; i++) {
                    uint64_t value = (uint64_t)cases[c].start + i * (uint64_t)cases[c].step;
                    emlx_number number = number_signed((int64_t)value);
                    char want[16];
                    size_t size = type_size((emlx_type)type);
                    type_store((emlx_type)type, &number, want);
                    assert_memory_equal(out.at + i * size, want, size);
                }
                area_free(&out);
            }
        }
    }
}

// Copies ------------------------------------------------------------------------------------------

static void check_copies(const cpu_kernels *k, size_t log, int64_t stride, size_t n) {
    static uint8_t wide[64 * 1024], dense[16 * 1024], back[64 * 1024];
    const size_t size = (size_t)1 << log;
    const int64_t first = stride < 0 ? -stride * (int64_t)n : 0;
    for (size_t i = 0; i < sizeof wide; i++) wide[i] = (uint8_t)random_bits();
    memset(dense, 0, sizeof dense);
    memset(back, 0, sizeof back);
    k->gather[log](dense, wide + (size_t)first * size, stride, n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *from = wide + (size_t)(first + (int64_t)i * stride) * size;
        assert_memory_equal(dense + i * size, from, size);
    }
    assert_true(dense[n * size] == 0);
    k->scatter[log](back + (size_t)first * size, dense, stride, n);
    for (size_t i = 0; i < n; i++) {
        size_t source = stride == 0 ? n - 1 : i;
        const uint8_t *to = back + (size_t)(first + (int64_t)i * stride) * size;
        assert_memory_equal(to, dense + source * size, size);
    }
}

// Nothing behind the last row is written.
static void check_repeat(const cpu_kernels *k, size_t log, int64_t step, size_t length) {
    static uint8_t from[16 * 1024], to[64 * 1024];
    const size_t size = (size_t)1 << log, rows = 9;
    for (size_t i = 0; i < sizeof from; i++) from[i] = (uint8_t)random_bits();
    memset(to, 0, sizeof to);
    const uint8_t *first = from + (step < 0 ? (size_t)-step * rows * size : 0);
    k->repeat[log](to, first, step, rows, length);
    for (size_t i = 0; i < rows * length; i++)
        assert_memory_equal(to + i * size, first + (int64_t)(i / length) * step * (int64_t)size,
                            size);
    for (size_t i = rows * length * size; i < sizeof to; i++) assert_true(to[i] == 0);
}

static void test_repeat(void **state) {
    (void)state;
    static const size_t lengths[] = {1, 2, 3, 7, 15, 16, 17, 63, 64, 65, 100, 200};
    FOR_EACH_LEVEL(k) {
        for (size_t log = 0; log < 5; log++) {
            for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
                for (int64_t step = -2; step <= 3; step++) check_repeat(k, log, step, lengths[l]);
        }
    }
}

static void test_copies(void **state) {
    (void)state;
    static const int64_t strides[] = {0, 1, -1, 2, -2, 3, 7, -7};
    static const size_t lengths[] = {0, 1, 2, 7, 16, 33, 100, 500};
    FOR_EACH_LEVEL(k) {
        for (size_t log = 0; log < 5; log++) {
            for (size_t s = 0; s < 8; s++) {
                for (size_t l = 0; l < 8; l++) check_copies(k, log, strides[s], lengths[l]);
            }
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_casts),       cmocka_unit_test(test_casts_round_once),
        cmocka_unit_test(test_casts_named), cmocka_unit_test(test_iota),
        cmocka_unit_test(test_copies),      cmocka_unit_test(test_repeat),
    };
    return RUN_TESTS("engines/cpu/kernels/cast", tests);
}
