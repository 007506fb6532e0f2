// SPDX-License-Identifier: Apache-2.0
// packed_test.c - weights of few bits: what is unpacked against plain loops over the bits, what is
// packed against what it must unpack to, products against sums in double.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph/packed.h"
#include "tensors.h"

static uint64_t seed = 7;

static uint32_t pick(uint32_t below) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(seed >> 33) % below;
}

static float number(void) { return (float)pick(20001) / 10000 - 1; }

enum { ROWS = 12, TERMS = 1280, MOST_GROUPS = TERMS / 16 };

// A packed matrix, and what its values are.
typedef struct weights {
    packed_kind kind;
    int64_t group, terms;
    uint8_t bits[ROWS * TERMS * 2];
    size_t row_bytes;
    float scales[ROWS * MOST_GROUPS], biases[ROWS * MOST_GROUPS];
    uint8_t bytes[ROWS * MOST_GROUPS];
    float values[ROWS][TERMS];
} weights;

// Plain loops ------------------------------------------------------------------------------------

static uint32_t element(const uint8_t *row, int bits, int64_t k) {
    uint32_t value = 0;
    for (int b = 0; b < bits; b++) {
        int64_t at = k * bits + b;
        value |= (uint32_t)(row[at / 8] >> (at % 8) & 1) << b;
    }
    return value;
}

static float e2m1(uint32_t code) {
    static const float sizes[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    return (code & 8) != 0 ? -sizes[code & 7] : sizes[code & 7];
}

static float e4m3(uint32_t code) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float size =
        exponent == 0 ? ldexpf((float)mantissa, -9) : ldexpf((float)(8 + mantissa), exponent - 10);
    return (code & 0x80) != 0 ? -size : size;
}

// 1.5 * 2^n as an f16, and what it is.
static float put_half(uint8_t *at, int n) {
    uint16_t half = (uint16_t)((n + 15) << 10 | 1 << 9);
    memcpy(at, &half, 2);
    return ldexpf(1.5f, n);
}

static void value_of_block(const uint8_t *b, packed_kind kind, float d, float least, float *to) {
    for (int k = 0; k < packed_table[kind].block_values; k++) {
        int sub = k / 32, half = k / 128, j = k % 128 / 32, l = k % 32;
        const uint8_t *s = b + 4, *low = b + half * 64 + j % 2 * 32;
        switch (kind) {
        case PACKED_q8_0: to[k] = d * (float)(int8_t)b[2 + k]; break;
        case PACKED_q4_0: to[k] = d * (float)((b[2 + k % 16] >> (k / 16 * 4) & 15) - 8); break;
        case PACKED_q4_k: {
            int scale = sub < 4 ? s[sub] & 63 : (s[sub + 4] & 15) | s[sub - 4] >> 6 << 4;
            int bias = sub < 4 ? s[sub + 4] & 63 : s[sub + 4] >> 4 | s[sub] >> 6 << 4;
            int q = b[16 + k / 64 * 32 + l] >> (sub % 2 * 4) & 15;
            to[k] = d * (float)scale * (float)q - least * (float)bias;
            break;
        }
        default: {
            int q = (low[l] >> (j / 2 * 4) & 15) | (b[128 + half * 32 + l] >> (2 * j) & 3) << 4;
            to[k] = d * (float)(int8_t)b[192 + k / 16] * (float)(q - 32);
        }
        }
    }
}

static void fill_blocks(weights *w) {
    const packed_info *p = &packed_table[w->kind];
    w->row_bytes = (size_t)w->terms / (size_t)p->block_values * (size_t)p->block_bytes;
    for (int r = 0; r < ROWS; r++)
        for (int b = 0; b < w->terms / p->block_values; b++) {
            uint8_t *block = w->bits + (size_t)r * w->row_bytes + b * p->block_bytes;
            for (int i = 0; i < p->block_bytes; i++) block[i] = (uint8_t)pick(256);
            float d = put_half(block + (w->kind == PACKED_q6_k ? 208 : 0), (int)pick(8) - 8);
            float least = w->kind == PACKED_q4_k ? put_half(block + 2, (int)pick(8) - 8) : 0;
            value_of_block(block, w->kind, d, least, &w->values[r][b * p->block_values]);
        }
}

static void fill_stream(weights *w) {
    const packed_info *p = &packed_table[w->kind];
    int64_t groups = w->terms / w->group;
    w->row_bytes = (size_t)(w->terms * p->bits / 8);
    for (size_t i = 0; i < ROWS * w->row_bytes; i++) w->bits[i] = (uint8_t)pick(256);
    // 0x7f is no number.
    for (size_t i = 0; w->kind == PACKED_mxfp8 && i < ROWS * w->row_bytes; i++) w->bits[i] &= 0xbf;
    for (int64_t g = 0; g < ROWS * groups; g++) {
        w->bytes[g] = (uint8_t)(w->kind == PACKED_nvfp4 ? 40 + pick(20) : 120 + pick(10));
        w->scales[g] = p->operands == 3          ? number()
                       : w->kind == PACKED_nvfp4 ? e4m3(w->bytes[g])
                                                 : ldexpf(1, w->bytes[g] - 127);
        w->biases[g] = p->operands == 3 ? number() : 0;
    }
    for (int r = 0; r < ROWS; r++)
        for (int64_t k = 0; k < w->terms; k++) {
            uint32_t code = element(w->bits + (size_t)r * w->row_bytes, p->bits, k);
            float q = p->operands == 3          ? (float)code
                      : w->kind == PACKED_mxfp8 ? e4m3(code)
                                                : e2m1(code);
            int64_t g = r * groups + k / w->group;
            w->values[r][k] = q * w->scales[g] + w->biases[g];
        }
}

static void fill(weights *w, packed_kind kind, int64_t group, int64_t terms) {
    w->kind = kind;
    w->group = group;
    w->terms = terms;
    if (packed_table[kind].block_values > 0)
        fill_blocks(w);
    else
        fill_stream(w);
}

// Calls ------------------------------------------------------------------------------------------

static emlx_attr text(const char *name, const char *value) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_TEXT, .text = value};
}
static emlx_attr integer(const char *name, int64_t value) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_INT, .value = {EMLX_NUMBER_SIGNED, {value}}};
}
static emlx_attr integers(const char *name, const int64_t *values, size_t count) {
    return (emlx_attr){.name = name, .kind = EMLX_ATTR_INTS, .ints = values, .count = count};
}

static emlx_tensor *matrix(emlx_device *device, emlx_type type, int64_t rows, int64_t columns,
                           const void *data) {
    emlx_shape shape = {2, {rows, columns}};
    emlx_tensor *t = NULL;
    emlx_error err;
    size_t size = (size_t)(rows * columns) * emlx_type_size(type);
    assert_ok(emlx_tensor_from_data(device, type, &shape, data, size, &t, &err), err);
    return t;
}

static emlx_tensor *dequantized(emlx_device *device, const weights *w) {
    const packed_info *p = &packed_table[w->kind];
    int64_t groups = w->terms / w->group;
    emlx_tensor *in[3] = {NULL}, *out = NULL;
    emlx_error err;
    bool blocks = p->block_values > 0;
    in[0] = matrix(device, blocks ? EMLX_U8 : EMLX_U32, ROWS,
                   (int64_t)w->row_bytes / (blocks ? 1 : 4), w->bits);
    if (p->operands == 2) in[1] = matrix(device, EMLX_U8, ROWS, groups, w->bytes);
    if (p->operands == 3) in[1] = matrix(device, EMLX_F32, ROWS, groups, w->scales);
    if (p->operands == 3) in[2] = matrix(device, EMLX_F32, ROWS, groups, w->biases);
    const emlx_attr attrs[] = {text("mode", p->mode), integer("bits", p->bits),
                               integer("group_size", w->group)};
    assert_ok(emlx_apply(emlx_op_find("dequantize"), device, in, p->operands, attrs, 3, EMLX_F32,
                         &out, &err),
              err);
    for (int i = 0; i < 3; i++) emlx_tensor_release(in[i]);
    return out;
}

static emlx_tensor *apply(const char *op, emlx_device *device, emlx_tensor *const *in, size_t count,
                          const emlx_attr *attrs, size_t attr_count) {
    emlx_tensor *out = NULL;
    emlx_error err;
    assert_ok(emlx_apply(emlx_op_find(op), device, in, count, attrs, attr_count, EMLX_TYPE_DEFAULT,
                         &out, &err),
              err);
    return out;
}

// Each format and size of groups, with rows that are whole numbers of what is worked on at a time,
// and others.
static void for_each(void (*check)(emlx_device *device, const weights *w)) {
    static const int64_t lengths[] = {48, 96, 192, 512, 1120, 1280};
    static weights w;
    emlx_device *device = test_device;
    for (int kind = 0; kind < PACKED_COUNT; kind++)
        for (int64_t group = 32; group <= 128; group *= 2) {
            int64_t fixed = packed_table[kind].group;
            if (fixed > 0 && group > 32) continue;
            for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
                int64_t whole = packed_table[kind].block_values;
                if (lengths[i] % (whole > 0 ? whole : fixed > 0 ? fixed : group) != 0) continue;
                fill(&w, (packed_kind)kind, fixed > 0 ? fixed : group, lengths[i]);
                check(device, &w);
            }
        }
}

// Tests ------------------------------------------------------------------------------------------

static void check_values(emlx_device *device, const weights *w) {
    static float found[ROWS * TERMS];
    emlx_error err;
    emlx_tensor *t = dequantized(device, w);
    assert_ok(emlx_tensor_read(t, 0, found, (size_t)(ROWS * w->terms) * 4, &err), err);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < w->terms; k++)
            if (found[r * w->terms + k] != w->values[r][k])
                fail_msg("%s, %d in a group: [%d][%d] is %g, not %g", packed_table[w->kind].name,
                         (int)w->group, r, k, (double)found[r * w->terms + k],
                         (double)w->values[r][k]);
    emlx_tensor_release(t);
}

static void values_are_those_of_the_bits(void **state) {
    (void)state;
    for_each(check_values);
}

// Rows that are taken before they are unpacked.
static void check_rows(emlx_device *device, const weights *w) {
    static float found[3 * TERMS];
    static const int64_t rows[] = {5, 0, 11};
    emlx_error err;
    emlx_shape shape = {1, {3}};
    emlx_tensor *in[2] = {dequantized(device, w), NULL};
    assert_ok(emlx_tensor_from_data(device, EMLX_S64, &shape, rows, sizeof rows, &in[1], &err),
              err);
    const emlx_attr attrs[] = {integer("axis", 0)};
    emlx_tensor *t = apply("take", device, in, 2, attrs, 1);
    assert_ok(emlx_tensor_read(t, 0, found, (size_t)(3 * w->terms) * 4, &err), err);
    for (int r = 0; r < 3; r++)
        for (int k = 0; k < w->terms; k++)
            assert_true(found[r * w->terms + k] == w->values[rows[r]][k]);
    emlx_tensor_release(t);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
}

static void rows_are_taken(void **state) {
    (void)state;
    for_each(check_rows);
}

// The largest error of a product, as a part of the sum of its terms' sizes: numbers of 16 bits with
// a step for each 32 of them leave 2^-16, of which codes with an offset make twice as much.
static const double product_error = 1.0 / 32768;

static void check_products(emlx_device *device, const weights *w) {
    static const int64_t last = 1, vectors[] = {1, 3, 8, 30, 40, 136};
    const emlx_attr attrs[] = {integers("contract_left", &last, 1),
                               integers("contract_right", &last, 1),
                               integers("batch_left", NULL, 0), integers("batch_right", NULL, 0)};
    static float x[136 * TERMS], found[136 * ROWS];
    emlx_error err;
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        int64_t m = vectors[i];
        for (int64_t k = 0; k < m * w->terms; k++) x[k] = number();
        emlx_tensor *in[2] = {matrix(device, EMLX_F32, m, w->terms, x), dequantized(device, w)};
        emlx_tensor *t = apply("dot", device, in, 2, attrs, 4);
        assert_ok(emlx_tensor_read(t, 0, found, (size_t)(m * ROWS) * 4, &err), err);
        assert_false(emlx_tensor_ready(in[1]));
        for (int64_t v = 0; v < m; v++)
            for (int r = 0; r < ROWS; r++) {
                double sum = 0, size = 0;
                for (int k = 0; k < w->terms; k++) {
                    double term = (double)x[v * w->terms + k] * (double)w->values[r][k];
                    sum += term;
                    size += fabs(term);
                }
                double got = (double)found[v * ROWS + r];
                if (!(fabs(got - sum) <= size * product_error))
                    fail_msg("%s, %d terms, %d vectors: %g, not %g", packed_table[w->kind].name,
                             (int)w->terms, (int)m, got, sum);
            }
        emlx_tensor_release(t);
        emlx_tensor_release(in[0]);
        emlx_tensor_release(in[1]);
    }
}

static void products_are_near(void **state) {
    (void)state;
    for_each(check_products);
}

// The transpose of packed weights, contracted along what were its rows.
static void check_transposed(emlx_device *device, const weights *w) {
    static const int64_t axes[] = {1, 0}, last = 1, first = 0;
    const emlx_attr turn[] = {integers("axes", axes, 2)};
    const emlx_attr attrs[] = {integers("contract_left", &last, 1),
                               integers("contract_right", &last, 1),
                               integers("batch_left", NULL, 0), integers("batch_right", NULL, 0)};
    emlx_attr other[4];
    static float x[2 * TERMS], found[2][2 * ROWS];
    emlx_error err;
    for (int64_t k = 0; k < 2 * w->terms; k++) x[k] = number();
    emlx_tensor *in[2] = {matrix(device, EMLX_F32, 2, w->terms, x), dequantized(device, w)};
    emlx_tensor *plain = apply("dot", device, in, 2, attrs, 4);
    emlx_tensor *turned[2] = {in[0], apply("transpose", device, &in[1], 1, turn, 1)};
    memcpy(other, attrs, sizeof other);
    other[1].ints = &first;
    emlx_tensor *through = apply("dot", device, turned, 2, other, 4);
    assert_ok(emlx_tensor_read(plain, 0, found[0], sizeof found[0], &err), err);
    assert_ok(emlx_tensor_read(through, 0, found[1], sizeof found[1], &err), err);
    assert_memory_equal(found[0], found[1], sizeof found[0]);
    emlx_tensor_release(plain);
    emlx_tensor_release(through);
    emlx_tensor_release(turned[1]);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
}

static void transposes_are_seen_through(void **state) {
    (void)state;
    for_each(check_transposed);
}

// What is not finite must not become a number.
static void numbers_that_are_not_finite(void **state) {
    (void)state;
    static weights w;
    static const int64_t last = 1;
    const emlx_attr attrs[] = {integers("contract_left", &last, 1),
                               integers("contract_right", &last, 1),
                               integers("batch_left", NULL, 0), integers("batch_right", NULL, 0)};
    static float x[2][TERMS], found[2][ROWS];
    emlx_error err;
    emlx_device *device = test_device;
    fill(&w, PACKED_affine_4, 64, TERMS);
    x[0][100] = INFINITY, x[1][3] = NAN;
    emlx_tensor *in[2] = {matrix(device, EMLX_F32, 2, TERMS, x), dequantized(device, &w)};
    emlx_tensor *t = apply("dot", device, in, 2, attrs, 4);
    assert_ok(emlx_tensor_read(t, 0, found, sizeof found, &err), err);
    for (int r = 0; r < ROWS; r++) assert_true(!isfinite(found[0][r]) && isnan(found[1][r]));
    emlx_tensor_release(t);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
}

// A code of mxfp8 that is no number makes its row's products none, and no others.
static void codes_that_are_no_number(void **state) {
    (void)state;
    static weights w;
    static const int64_t last = 1, vectors[] = {1, 5, 40};
    const emlx_attr attrs[] = {integers("contract_left", &last, 1),
                               integers("contract_right", &last, 1),
                               integers("batch_left", NULL, 0), integers("batch_right", NULL, 0)};
    static float x[40 * TERMS], found[40 * ROWS];
    emlx_error err;
    fill(&w, PACKED_mxfp8, 32, 96);
    w.bits[3 * w.row_bytes + 80] = 0xff;
    w.bits[7 * w.row_bytes] = 0x7f;
    for (int i = 0; i < 40 * TERMS; i++) x[i] = number();
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        emlx_tensor *in[2] = {matrix(test_device, EMLX_F32, vectors[i], w.terms, x),
                              dequantized(test_device, &w)};
        emlx_tensor *t = apply("dot", test_device, in, 2, attrs, 4);
        assert_ok(emlx_tensor_read(t, 0, found, (size_t)(vectors[i] * ROWS) * 4, &err), err);
        for (int64_t k = 0; k < vectors[i] * ROWS; k++)
            assert_int_equal(isnan(found[k]) != 0, k % ROWS == 3 || k % ROWS == 7);
        emlx_tensor_release(t);
        emlx_tensor_release(in[0]);
        emlx_tensor_release(in[1]);
    }
}

// Values of a few bits become the same bits again: packing then finds them all.
static void check_packing(emlx_device *device, const weights *w) {
    static float again[ROWS][TERMS], found[ROWS][TERMS];
    const packed_info *p = &packed_table[w->kind];
    emlx_error err;
    emlx_tensor *parts[3], *t;
    if (w->kind == PACKED_q4_k || w->kind == PACKED_q6_k || w->terms != TERMS) return;
    emlx_tensor *in = matrix(device, EMLX_F32, ROWS, TERMS, w->values);
    const emlx_attr attrs[] = {text("mode", p->mode), integer("bits", p->bits),
                               integer("group_size", w->group)};
    assert_ok(emlx_apply(emlx_op_find("quantize"), device, &in, 1, attrs, 3, EMLX_TYPE_DEFAULT,
                         parts, &err),
              err);
    assert_ok(emlx_apply(emlx_op_find("dequantize"), device, parts, p->operands, attrs, 3, EMLX_F32,
                         &t, &err),
              err);
    assert_ok(emlx_tensor_read(t, 0, found, sizeof found, &err), err);
    for (int r = 0; r < ROWS; r++)
        for (int k = 0; k < TERMS; k++) {
            float most = 0;
            for (int64_t i = k / w->group * w->group, j = 0; j < w->group; j++)
                most = fmaxf(most, fabsf(w->values[r][i + j]));
            // A step of a group: half of one, and where zero is to fall on a code, half of one
            // more.
            float step =
                w->kind == PACKED_mxfp8 ? most / 16 : 2 * most / (float)((1 << p->bits) - 1);
            bool few = p->operands == 2 && w->kind != PACKED_mxfp8;
            again[r][k] = fabsf(found[r][k] - w->values[r][k]);
            if (!(again[r][k] <= (few ? most / 5 : step)))
                fail_msg("%s: %g became %g, of a group up to %g", p->name, (double)w->values[r][k],
                         (double)found[r][k], (double)most);
        }
    for (int i = 0; i < 3; i++) emlx_tensor_release(parts[i]);
    emlx_tensor_release(t);
    emlx_tensor_release(in);
}

static void values_are_packed(void **state) {
    (void)state;
    for_each(check_packing);
}

// MLX 0.32 makes these of a ramp.
static void a_ramp_becomes_the_bits_of_mlx(void **state) {
    (void)state;
    emlx_device *device = test_device;
    emlx_error err;
    float ramp[32];
    for (int i = 0; i < 32; i++) ramp[i] = (float)((i * 7) % 16) - 7;
    emlx_tensor *in = matrix(device, EMLX_F32, 1, 32, ramp), *parts[3];
    const emlx_attr attrs[] = {integer("group_size", 32)};
    assert_ok(emlx_apply(emlx_op_find("quantize"), device, &in, 1, attrs, 1, EMLX_TYPE_DEFAULT,
                         parts, &err),
              err);
    uint32_t words[4];
    float scale, bias;
    assert_ok(emlx_tensor_read(parts[0], 0, words, sizeof words, &err), err);
    assert_ok(emlx_tensor_read(parts[1], 0, &scale, 4, &err), err);
    assert_ok(emlx_tensor_read(parts[2], 0, &bias, 4, &err), err);
    const uint32_t expected[4] = {0xe5c3a18f, 0x6d4b2907, 0xe5c3a18f, 0x6d4b2907};
    assert_memory_equal(words, expected, sizeof words);
    assert_true(scale == -1 && bias == 8);
    for (int i = 0; i < 3; i++) emlx_tensor_release(parts[i]);
    emlx_tensor_release(in);
}

static void wrong_calls(void **state) {
    (void)state;
    emlx_device *device = test_device;
    emlx_error err;
    float zeros[96] = {0};
    emlx_tensor *x = matrix(device, EMLX_F32, 1, 96, zeros), *parts[3];
    const struct {
        emlx_attr attrs[2];
        size_t count;
        const char *message;
    } cases[] = {
        {{text("mode", "mxfp6")}, 1, "mode \"mxfp6\" is none of"},
        {{integer("bits", 7)}, 1, "no elements of 7 bits"},
        {{integer("group_size", 16)}, 1, "groups of 32, 64 or 128, got 16"},
        {{text("mode", "mxfp4"), integer("group_size", 64)}, 2, "groups of 32, got 64"},
        {{integer("group_size", 64)}, 1, "not divisible by groups of 64"},
        {{text("mode", "q4_k")}, 1, "read only"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        emlx_status status = emlx_apply(emlx_op_find("quantize"), device, &x, 1, cases[i].attrs,
                                        cases[i].count, EMLX_TYPE_DEFAULT, parts, &err);
        assert_int_not_equal(status, EMLX_OK);
        if (strstr(err.message, cases[i].message) == NULL)
            fail_msg("'%s' lacks '%s'", err.message, cases[i].message);
    }
    emlx_tensor_release(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_the_bits),
        cmocka_unit_test(rows_are_taken),
        cmocka_unit_test(products_are_near),
        cmocka_unit_test(transposes_are_seen_through),
        cmocka_unit_test(numbers_that_are_not_finite),
        cmocka_unit_test(codes_that_are_no_number),
        cmocka_unit_test(values_are_packed),
        cmocka_unit_test(a_ramp_becomes_the_bits_of_mlx),
        cmocka_unit_test(wrong_calls),
    };
    return RUN_ON_CPU("ops/packed", tests);
}
