// SPDX-License-Identifier: Apache-2.0
// fold_test.c - every fold of every type and level against plain loops: by rows and by
// columns, in one go, in two goes, and merged from two.
#include "support.h"

typedef struct fold_case {
    const cpu_kernels *kernels;
    const reduce_fns *fns;
    reduce_kind kind;
    emlx_type type;
    int64_t index; // of the first element
} fold_case;

static bool is_arg(reduce_kind kind) { return reduce_table[kind].gives == GIVES_PLACED; }

// Reference ---------------------------------------------------------------------------------------

// Elements of one fold: `n` of them, `stride` apart.
typedef struct elements {
    const char *at;
    size_t n;
    size_t stride;
} elements;

static emlx_number element(const fold_case *c, const elements *e, size_t i) {
    return type_load(c->type, e->at + i * e->stride * type_size(c->type));
}

// Whether b is above a.
static bool above(const emlx_number *a, const emlx_number *b) {
    if (a->kind == EMLX_NUMBER_REAL) return b->as.f[0] > a->as.f[0];
    return a->kind == EMLX_NUMBER_UNSIGNED ? b->as.u > a->as.u : b->as.s > a->as.s;
}

static bool is_nan(const emlx_number *a) {
    return a->kind == EMLX_NUMBER_REAL && isnan(a->as.f[0]);
}

static size_t position(const fold_case *c, const elements *e) {
    bool low = c->kind == REDUCE_MAX || c->kind == REDUCE_MIN || c->kind == REDUCE_ARGMAX_LOW ||
               c->kind == REDUCE_ARGMIN_LOW;
    bool max =
        c->kind == REDUCE_MAX || c->kind == REDUCE_ARGMAX_LOW || c->kind == REDUCE_ARGMAX_HIGH;
    size_t best = 0;
    for (size_t i = 1; i < e->n; i++) {
        emlx_number old = element(c, e, best), new = element(c, e, i);
        bool better = max ? above(&old, &new) : above(&new, &old);
        bool equal = !above(&old, &new) && !above(&new, &old);
        if (is_nan(&new) || (!is_nan(&old) && (better || (equal && !low)))) best = i;
    }
    return best;
}

static emlx_number total(const fold_case *c, const elements *e) {
    bool sum = c->kind == REDUCE_SUM;
    uint64_t whole = sum ? 0 : 1;
    long double real = sum ? 0 : 1;
    for (size_t i = 0; i < e->n; i++) {
        emlx_number x = element(c, e, i);
        whole = sum ? whole + x.as.u : whole * x.as.u;
        if (x.kind == EMLX_NUMBER_REAL) {
            real = sum ? real + (long double)x.as.f[0] : real * (long double)x.as.f[0];
        }
    }
    return type_is_integer(c->type) ? number_signed((int64_t)whole) : number_real((double)real);
}

// Sums and products of f64 may be off by the last bits of the largest partial result; all else
// must match.
static bool fits(const fold_case *c, const char *have, const char *want) {
    if (distance(c->type, have, want) == 0) return true;
    if (!type_is_float(c->type) || c->kind > REDUCE_PRODUCT) return false;
    double a = type_load(c->type, have).as.f[0], b = type_load(c->type, want).as.f[0];
    if (c->type == EMLX_F64)
        return fabs(a - b) <= 1e-13 * fabs(b) + (c->kind == REDUCE_SUM) * 1e-14;
    return distance(c->type, have, want) <= 1;
}

static void check_result(const fold_case *c, const elements *e, const char *have) {
    if (is_arg(c->kind)) {
        int64_t got, want = c->index + (int64_t)position(c, e);
        memcpy(&got, have, sizeof got);
        if (got == want) return;
        fail_msg("%s %s of %zu %s: at %lld, not %lld", c->kernels->level,
                 reduce_table[c->kind].name, e->n, emlx_type_name(c->type), (long long)got,
                 (long long)want);
    }
    char want[16];
    bool folds = c->kind == REDUCE_SUM || c->kind == REDUCE_PRODUCT;
    emlx_number value = folds ? total(c, e) : element(c, e, position(c, e));
    type_store(c->type, &value, want);
    if (fits(c, have, want)) return;
    fail_msg("%s %s of %zu %s: %.17g (%lld), not %.17g (%lld)", c->kernels->level,
             reduce_table[c->kind].name, e->n, emlx_type_name(c->type),
             type_load(c->type, have).as.f[0], (long long)type_load(c->type, have).as.s,
             type_load(c->type, want).as.f[0], (long long)type_load(c->type, want).as.s);
}

// Data --------------------------------------------------------------------------------------------

// Numbers whose sums and products stay finite; with many ties, NaN now and then, and zeros of both
// signs where order is what matters.
static void fill_fold(const fold_case *c, char *data, size_t n) {
    fill(c->type, data, n);
    if (!type_is_float(c->type)) return;
    uint64_t flavour = random_bits() >> 32;
    for (size_t i = 0; i < n; i++) {
        uint64_t bits = random_bits() >> 16;
        double x = random_real(-4, 4);
        if (c->kind == REDUCE_PRODUCT) x = random_real(0.8, 1.25) * (bits & 1 ? -1 : 1);
        if (c->kind > REDUCE_PRODUCT) {
            if (flavour % 3 == 0) x = (double)(int)(bits % 4) - 2;
            if (flavour % 3 == 1) x = bits & 1 ? 0.0 : -0.0;
            if (flavour % 3 == 1 && bits % 16 == 0) x = flavour & 8 ? 1.0 : -1.0;
            if (flavour % 5 == 0 && bits % 64 == 1) x = (double)NAN;
            if (flavour % 7 == 0) x = flavour & 16 ? (double)INFINITY : -(double)INFINITY;
        }
        emlx_number number = number_real(x);
        type_store(c->type, &number, data + i * type_size(c->type));
    }
}

// Checks ------------------------------------------------------------------------------------------

static size_t result_size(const fold_case *c) {
    return is_arg(c->kind) ? sizeof(int64_t) : type_size(c->type);
}

// Rows, or columns of rows that lie one after another.
typedef enum direction { BY_ROWS, BY_COLUMNS } direction;

static void fold(const fold_case *c, direction by, void *acc, const void *x, const size_t *shape,
                 int64_t index) {
    if (by == BY_ROWS)
        c->fns->rows(acc, x, shape[0], shape[1], index);
    else
        c->fns->columns(acc, x, shape[0], shape[1], (int64_t)shape[1], index);
}

// Folds the first `split` of each part's elements, then the rest: into the same accumulators, and
// into others that are merged. `first` and `second` are the two halves as the fold wants them.
static void fold_halves(const fold_case *c, direction by, const char *first, const char *second,
                        const size_t shapes[4], size_t results, size_t split, char *out[2]) {
    const size_t bytes = results * c->fns->accumulator + 1; // never 0
    char *one = malloc(bytes), *other = malloc(bytes);
    assert_true(one != NULL && other != NULL);
    int64_t later = c->index + (int64_t)split;
    c->fns->init(one, results);
    fold(c, by, one, first, shapes, c->index);
    fold(c, by, one, second, shapes + 2, later);
    c->fns->finish(out[0], one, results);
    c->fns->init(one, results);
    c->fns->init(other, results);
    fold(c, by, one, first, shapes, c->index);
    fold(c, by, other, second, shapes + 2, later);
    c->fns->merge(one, other, results);
    c->fns->finish(out[1], one, results);
    free(one);
    free(other);
}

// `whole` holds rows of `length`; the halves are copied out of it.
static void check_rows(const fold_case *c, size_t rows, size_t length) {
    const size_t size = type_size(c->type), split = length / 2, rest = length - split;
    area whole = area_new(c->type, rows * length);
    area first = area_new(c->type, rows * split), second = area_new(c->type, rows * rest);
    fill_fold(c, whole.at, rows * length);
    for (size_t r = 0; r < rows; r++) {
        const char *row = whole.at + r * length * size;
        memcpy(first.at + r * split * size, row, split * size);
        memcpy(second.at + r * rest * size, row + split * size, rest * size);
    }
    char *out[2] = {malloc(rows * result_size(c)), malloc(rows * result_size(c))};
    size_t shapes[4] = {rows, split, rows, rest};
    fold_halves(c, BY_ROWS, first.at, second.at, shapes, rows, split, out);
    for (size_t r = 0; r < rows; r++) {
        elements e = {whole.at + r * length * size, length, 1};
        check_result(c, &e, out[0] + r * result_size(c));
        check_result(c, &e, out[1] + r * result_size(c));
    }
    for (int i = 0; i < 2; i++) free(out[i]);
    area_free(&whole);
    area_free(&first);
    area_free(&second);
}

static void check_columns(const fold_case *c, size_t rows, size_t columns) {
    const size_t size = type_size(c->type), split = rows / 2;
    area whole = area_new(c->type, rows * columns);
    fill_fold(c, whole.at, rows * columns);
    char *out[2] = {malloc(columns * result_size(c)), malloc(columns * result_size(c))};
    size_t shapes[4] = {split, columns, rows - split, columns};
    fold_halves(c, BY_COLUMNS, whole.at, whole.at + split * columns * size, shapes, columns, split,
                out);
    for (size_t i = 0; i < columns; i++) {
        elements e = {whole.at + i * size, rows, columns};
        check_result(c, &e, out[0] + i * result_size(c));
        check_result(c, &e, out[1] + i * result_size(c));
    }
    for (int i = 0; i < 2; i++) free(out[i]);
    area_free(&whole);
}

// Columns of every other row: the same as of those rows one after another.
static void check_apart(const fold_case *c, size_t rows, size_t columns) {
    const size_t size = type_size(c->type), bytes = columns * c->fns->accumulator + 1;
    area whole = area_new(c->type, 2 * rows * columns), every = area_new(c->type, rows * columns);
    fill_fold(c, whole.at, 2 * rows * columns);
    for (size_t r = 0; r < rows; r++)
        memcpy(every.at + r * columns * size, whole.at + 2 * r * columns * size, columns * size);
    char *acc = malloc(bytes);
    char *out[2] = {malloc(columns * result_size(c)), malloc(columns * result_size(c))};
    for (int i = 0; i < 2; i++) {
        int64_t step = (int64_t)columns * (i == 0 ? 1 : 2);
        c->fns->init(acc, columns);
        c->fns->columns(acc, i == 0 ? every.at : whole.at, rows, columns, step, c->index);
        c->fns->finish(out[i], acc, columns);
    }
    assert_memory_equal(out[0], out[1], columns * result_size(c));
    for (int i = 0; i < 2; i++) free(out[i]);
    free(acc);
    area_free(&whole);
    area_free(&every);
}

// Windows of `rows` rows of `run` elements, of which no element past the last is read: the area
// ends there.
static void check_windows(const fold_case *c, size_t rows, size_t run, size_t n, size_t step) {
    const size_t size = type_size(c->type), pitch = (n - 1) * step + run;
    area whole = area_new(c->type, rows * pitch), one = area_new(c->type, rows * run);
    int64_t places[32];
    char *out = malloc(n * size);
    assert_non_null(out);
    fill_fold(c, whole.at, rows * pitch);
    for (size_t i = 0; i < rows * run; i++) places[i] = (int64_t)(i / run * pitch + i % run);
    c->kernels->windows[c->kind][c->type](out, whole.at, places, rows * run, n, (int64_t)step, run);
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < rows * run; k++)
            memcpy(one.at + k * size, whole.at + ((size_t)places[k] + i * step) * size, size);
        elements e = {one.at, rows * run, 1};
        check_result(c, &e, out + i * size);
    }
    free(out);
    area_free(&whole);
    area_free(&one);
}

static void check_window_case(const fold_case *c) {
    static const size_t counts[] = {1, 2, 3, 5, 7, 8, 9, 14, 15, 16, 17, 28, 33, 600, 1100};
    if (c->kernels->windows[c->kind][c->type] == NULL) return;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (size_t step = 1; step <= 3; step++) {
            check_windows(c, 1, 1, counts[i], step);
            check_windows(c, 2, 2, counts[i], step);
            check_windows(c, 3, 3, counts[i], step);
            check_windows(c, 1, 5, counts[i], step);
            check_windows(c, 4, 7, counts[i], step);
        }
}

static void check_fold_case(const fold_case *c) {
    static const size_t lengths[] = {1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 300, 1000};
    for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
        for (int round = 0; round < 12; round++) {
            check_rows(c, (size_t)round % 6 + 1, lengths[l]);
            check_columns(c, lengths[l] < 70 ? lengths[l] : 9, (size_t)round + 1);
        }
        if (lengths[l] < 70) check_rows(c, 3 * 512 / lengths[l] + 5, lengths[l]);
        check_columns(c, 6, lengths[l]);
        check_apart(c, 6, lengths[l]);
    }
}

static bool is_complete(const reduce_fns *fns) {
    return fns->init != NULL && fns->rows != NULL && fns->columns != NULL && fns->merge != NULL &&
           fns->finish != NULL && fns->accumulator > 0;
}

static void test_folds(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        for (unsigned kind = 0; kind < REDUCE_COUNT; kind++) {
            for (unsigned type = 0; type < EMLX_C64; type++) {
                const reduce_fns *fns = &k->reduce[kind][type];
                if (!is_complete(fns)) {
                    fail_msg("%s of %s is incomplete", reduce_table[kind].name,
                             emlx_type_name((emlx_type)type));
                    return;
                }
                fold_case c = {k, fns, (reduce_kind)kind, (emlx_type)type, 1000};
                check_fold_case(&c);
                check_window_case(&c);
            }
        }
    }
}

// Named cases -------------------------------------------------------------------------------------

static void fold_row(const cpu_kernels *k, reduce_kind kind, emlx_type type, const void *x,
                     size_t n, void *out) {
    _Alignas(16) char acc[64];
    const reduce_fns *fns = &k->reduce[kind][type];
    fns->init(acc, 1);
    fns->rows(acc, x, 1, n, 0);
    fns->finish(out, acc, 1);
}

static void test_sums(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        float f32[3] = {16777216, 1, 1}, zero = -0.0f, got;
        fold_row(k, REDUCE_SUM, EMLX_F32, f32, 3, &got);
        assert_true(got == 16777218.0f);
        fold_row(k, REDUCE_SUM, EMLX_F32, &zero, 1, &got);
        assert_false(signbit(got));
        fold_row(k, REDUCE_PRODUCT, EMLX_F32, &zero, 1, &got);
        assert_true(signbit(got));
        uint16_t f16[3] = {0x7b53, 0x7b53, 0xfb53}, code; // 60000, 60000, -60000
        fold_row(k, REDUCE_SUM, EMLX_F16, f16, 3, &code);
        assert_int_equal(code, 0x7b53);
        double f64[40] = {1e308, -1e308, 1.0}, sum;
        for (int i = 3; i < 40; i++) f64[i] = i & 1 ? 0x1p-54 : 1e-30;
        fold_row(k, REDUCE_SUM, EMLX_F64, f64 + 2, 38, &sum);
        assert_true(sum > 1.0 && sum < 1.0 + 0x1p-48); // naively 1
        double infinite[2] = {(double)INFINITY, 1};
        fold_row(k, REDUCE_SUM, EMLX_F64, infinite, 2, &sum);
        assert_true(sum == (double)INFINITY);
        infinite[1] = -infinite[0];
        fold_row(k, REDUCE_SUM, EMLX_F64, infinite, 2, &sum);
        assert_true(isnan(sum));
    }
}

static void test_positions(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        float x[4] = {NAN, 1, NAN, 3};
        int64_t at;
        for (unsigned kind = REDUCE_ARGMAX_LOW; kind < REDUCE_COUNT; kind++) {
            fold_row(k, (reduce_kind)kind, EMLX_F32, x, 4, &at);
            assert_int_equal(at, 2);
        }
        float zeros[40];
        for (int i = 0; i < 40; i++) zeros[i] = i & 1 ? 0.0f : -0.0f;
        float best;
        fold_row(k, REDUCE_MAX, EMLX_F32, zeros, 40, &best);
        assert_true(signbit(best));
        fold_row(k, REDUCE_MIN, EMLX_F32, zeros + 1, 39, &best);
        assert_false(signbit(best));
        fold_row(k, REDUCE_ARGMAX_HIGH, EMLX_F32, zeros, 40, &at);
        assert_int_equal(at, 39);
    }
}

// All levels give the same bits.
static void test_levels_agree(void **state) {
    (void)state;
    static float x[5000];
    for (int i = 0; i < 5000; i++) x[i] = (float)random_real(-1e6, 1e6);
    for (size_t n = 1; n <= 5000; n = n * 3 / 2 + 1) {
        float first;
        fold_row(cpu_kernels_level(0), REDUCE_SUM, EMLX_F32, x, n, &first);
        FOR_EACH_LEVEL(k) {
            float got;
            fold_row(k, REDUCE_SUM, EMLX_F32, x, n, &got);
            assert_memory_equal(&got, &first, sizeof got);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folds),
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_levels_agree),
    };
    return RUN_TESTS("engines/cpu/kernels/fold", tests);
}
