// SPDX-License-Identifier: Apache-2.0
// reduction_test.c - reductions and contractions against plain loops, over shapes around the tile
// and task sizes and every choice of axes.
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

static const emlx_type types[] = {EMLX_U8,  EMLX_U32, EMLX_U64, EMLX_S8,
                                  EMLX_S32, EMLX_S64, EMLX_F32, EMLX_F64};
enum { TYPES = sizeof types / sizeof *types };

static const emlx_shape shapes[] = {{0, {0}},
                                    {1, {1}},
                                    {1, {7}},
                                    {1, {5000}},
                                    {1, {200001}},
                                    {2, {3, 5}},
                                    {2, {1, 1025}},
                                    {2, {1025, 1}},
                                    {2, {70000, 3}},
                                    {2, {3, 70000}},
                                    {2, {1300, 130}},
                                    {3, {2, 3, 4}},
                                    {3, {33, 1, 9}},
                                    {3, {5, 600, 4}},
                                    {3, {40, 3, 1100}},
                                    {4, {3, 2, 5, 4}},
                                    {5, {2, 1, 3, 2, 2}}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

typedef struct fold {
    const char *name;
    double start;
    double (*step)(double, double);
} fold;

static double plus(double a, double b) { return a + b; }
static double times(double a, double b) { return a * b; }
static double larger(double a, double b) { return isnan(a) || isnan(b) ? NAN : a > b ? a : b; }
static double smaller(double a, double b) { return isnan(a) || isnan(b) ? NAN : a < b ? a : b; }
static double both(double a, double b) { return a != 0 && b != 0; }
static double either(double a, double b) { return a != 0 || b != 0; }

static const fold folds[] = {{"sum", 0, plus},
                             {"product", 1, times},
                             {"reduce_max", -INFINITY, larger},
                             {"reduce_min", INFINITY, smaller},
                             {"all", 1, both},
                             {"any", 0, either}};

// Integer sums are taken modulo the width of the type.
static double wrap(emlx_type type, double value) {
    if (type == EMLX_F32) return (float)value;
    // 64-bit sums in these tests stay far below the range.
    if (type >= EMLX_F8 || emlx_type_bits(type) == 64) return value;
    double range = ldexp(1, (int)emlx_type_bits(type));
    double low = type >= EMLX_S2 ? -range / 2 : 0;
    value = fmod(value - low, range);
    return (value < 0 ? value + range : value) + low;
}

static void kept_shape(const emlx_shape *s, uint32_t axes, emlx_shape *kept) {
    *kept = *s;
    for (int32_t d = 0; d < s->rank; d++)
        if (axes >> d & 1) kept->dims[d] = 1;
}

static void check_reduction(const fold *f, emlx_type type, const emlx_shape *s, uint32_t axes) {
    int64_t list[EMLX_MAX_RANK], index[EMLX_MAX_RANK];
    size_t count = 0;
    for (int32_t d = 0; d < s->rank; d++)
        if (axes >> d & 1) list[count++] = d;
    bool product = f->step == times;
    emlx_tensor *t = random_tensor(type, s, product || f->step == both ? 1 : 0, product ? 1 : 9);
    emlx_attr attrs[2] = {with_ints("axes", list, count), with_bool("keep_axes", true)};
    emlx_tensor *out = apply_to(f->name, &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    emlx_shape kept;
    kept_shape(s, axes, &kept);
    int64_t cells = emlx_shape_count(&kept);
    double *in = values_of(t), *got = values_of(out), *wanted = malloc((size_t)cells * 8);
    for (int64_t i = 0; i < cells; i++) wanted[i] = f->start;
    for (int64_t i = 0; i < emlx_shape_count(s); i++) {
        unravel(s, i, index);
        for (size_t a = 0; a < count; a++) index[list[a]] = 0;
        int64_t cell = ravel(&kept, index);
        wanted[cell] = f->step(wanted[cell], in[i]);
    }
    emlx_type result = emlx_tensor_type(out);
    for (int64_t i = 0; i < cells; i++) {
        double w = wrap(result, wanted[i]);
        double slack = result == EMLX_F32 ? 6e-8 : f->step == times ? 1e-12 : 1e-15;
        if (got[i] == w || fabs(got[i] - w) <= slack * fabs(w)) continue;
        fail_msg("%s of %s, rank %d, axes %x: cell %lld is %.17g, not %.17g", f->name,
                 emlx_type_name(type), s->rank, axes, (long long)i, got[i], w);
    }
    free(in);
    free(got);
    free(wanted);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

static void every_fold(void **unused) {
    (void)unused;
    draw_seed(1);
    for (size_t f = 0; f < sizeof folds / sizeof *folds; f++)
        for (size_t s = 0; s < SHAPES; s++)
            for (uint32_t axes = 0; axes < 1u << shapes[s].rank; axes++) {
                bool large = emlx_shape_count(&shapes[s]) > 10000;
                for (size_t t = 0; t < TYPES; t += large ? 3 : 1)
                    check_reduction(&folds[f], types[t], &shapes[s], axes);
            }
}

// A fold over nothing gives what it starts from, in every type.
static void check_nothing(const fold *f, emlx_type type, const emlx_shape *s, uint32_t axes) {
    int64_t list[EMLX_MAX_RANK];
    size_t count = 0;
    for (int32_t d = 0; d < s->rank; d++)
        if (axes >> d & 1) list[count++] = d;
    double none[2] = {0};
    emlx_tensor *t = tensor_of(type, s, none);
    emlx_attr attrs[2] = {with_ints("axes", list, count), with_bool("keep_axes", true)};
    emlx_tensor *out = apply_to(f->name, &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    int64_t cells = number_count(emlx_tensor_type(out), emlx_tensor_shape(out));
    int64_t parts = cells / (emlx_shape_count(emlx_tensor_shape(out)) + (cells == 0));
    double *got = values_of(out);
    for (int64_t i = 0; i < cells; i++)
        if (got[i] != (i % parts == 0 ? f->start : 0))
            fail_msg("%s of no %s, axes %x: number %lld is %.17g", f->name, emlx_type_name(type),
                     axes, (long long)i, got[i]);
    free(got);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

static void folds_over_nothing(void **unused) {
    (void)unused;
    static const emlx_shape empty[] = {{1, {0}}, {2, {0, 3}}, {2, {3, 0}}, {3, {2, 0, 3}}};
    for (size_t f = 0; f < sizeof folds / sizeof *folds; f++) {
        if (isinf(folds[f].start)) continue;
        for (int type = 0; type < EMLX_TYPE_COUNT; type++)
            for (size_t s = 0; s < sizeof empty / sizeof *empty; s++)
                for (uint32_t axes = 0; axes < 1u << empty[s].rank; axes++)
                    check_nothing(&folds[f], (emlx_type)type, &empty[s], axes);
    }
}

// Nothing is close to nothing.
static void nothing_is_close(void **unused) {
    (void)unused;
    emlx_shape s = {2, {0, 3}};
    for (int type = 0; type < EMLX_TYPE_COUNT; type++) {
        double none = 0;
        emlx_tensor *t = tensor_of((emlx_type)type, &s, &none), *in[2] = {t, t};
        emlx_tensor *out = apply_to("all_close", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
        double *got = values_of(out);
        assert_true(got[0] == 1);
        free(got);
        emlx_tensor_release(t);
        emlx_tensor_release(out);
    }
}

// Argmax and argmin ----------------------------------------------------------------------------

// Whether candidate `b` takes the place of `a`: a NaN always does, otherwise the better one.
static bool replaces(double a, double b, bool max, bool high) {
    if (isnan(b)) return true;
    if (isnan(a)) return false;
    if (a == b) return high;
    return max ? b > a : b < a;
}

// Infinities of both signs add up to a NaN, and with 0 multiply to one: the positive one.
static void nans_are_positive(void **unused) {
    (void)unused;
    static const emlx_type wide[] = {EMLX_F32, EMLX_F64, EMLX_C64, EMLX_C128};
    static const double sum[] = {INFINITY, -INFINITY, 1, 2}, product[] = {-INFINITY, 0, 1, 2};
    emlx_shape s = {1, {4}};
    for (size_t i = 0; i < 8; i++) {
        emlx_tensor *real = tensor_of(EMLX_F64, &s, i % 2 ? product : sum);
        emlx_tensor *t = apply_to("as_type", &real, 1, NULL, 0, wide[i / 2]);
        emlx_tensor *out = apply_to(i % 2 ? "product" : "sum", &t, 1, NULL, 0, wide[i / 2]);
        double *value = values_of(out);
        assert_true(isnan(value[0]));
        assert_false(signbit(value[0]));
        free(value);
        emlx_tensor *all[] = {real, t, out};
        for (int j = 0; j < 3; j++) emlx_tensor_release(all[j]);
    }
}

static void check_arg(emlx_type type, const emlx_shape *s, int axis, bool max, bool high,
                      bool with_nan) {
    emlx_tensor *t = random_tensor(type, s, 0, 5);
    double *in = values_of(t);
    if (with_nan) {
        for (int64_t i = 0; i < emlx_shape_count(s); i += 3) in[i] = NAN;
        emlx_tensor_release(t);
        t = tensor_of(type, s, in);
    }
    emlx_attr attrs[2] = {with_text("tie_break", high ? "high" : "low"), with_int("axis", axis)};
    emlx_tensor *out =
        apply_to(max ? "argmax" : "argmin", &t, 1, attrs, axis < 0 ? 1 : 2, EMLX_TYPE_DEFAULT);
    emlx_shape kept;
    kept_shape(s, axis < 0 ? ~0u : 1u << axis, &kept);
    int64_t cells = emlx_shape_count(&kept), index[EMLX_MAX_RANK];
    int64_t *best = calloc((size_t)cells, sizeof *best);
    double *value = malloc((size_t)cells * sizeof *value), *got = values_of(out);
    bool *seen = calloc((size_t)cells, 1);
    for (int64_t i = 0; i < emlx_shape_count(s); i++) {
        unravel(s, i, index);
        int64_t position = axis < 0 ? i : index[axis];
        for (int32_t d = 0; d < s->rank; d++)
            if (axis < 0 || d == axis) index[d] = 0;
        int64_t cell = ravel(&kept, index);
        if (seen[cell] && !replaces(value[cell], in[i], max, high)) continue;
        seen[cell] = true;
        best[cell] = position;
        value[cell] = in[i];
    }
    assert_int_equal(emlx_tensor_type(out), EMLX_S32);
    for (int64_t i = 0; i < cells; i++)
        if (got[i] != (double)best[i])
            fail_msg("%s of %s, axis %d, %s: cell %lld is %g, not %lld", max ? "argmax" : "argmin",
                     emlx_type_name(type), axis, high ? "high" : "low", (long long)i, got[i],
                     (long long)best[i]);
    free(in);
    free(got);
    free(best);
    free(value);
    free(seen);
    emlx_tensor_release(t);
    emlx_tensor_release(out);
}

static void every_arg_reduction(void **unused) {
    (void)unused;
    draw_seed(2);
    for (size_t s = 1; s < SHAPES; s++)
        for (int axis = -1; axis < shapes[s].rank; axis++)
            for (unsigned mode = 0; mode < 8; mode++) {
                check_arg(EMLX_F32, &shapes[s], axis, mode & 1, mode & 2, mode & 4);
                if (!(mode & 4)) check_arg(EMLX_U8, &shapes[s], axis, mode & 1, mode & 2, false);
            }
}

// Dot ------------------------------------------------------------------------------------------

// Shuffles an axis order; the operands then are views of transposed data.
static emlx_tensor *transposed(emlx_tensor *t, int turn) {
    const emlx_shape *s = emlx_tensor_shape(t);
    int64_t axes[EMLX_MAX_RANK];
    for (int32_t d = 0; d < s->rank; d++) axes[d] = (d + turn) % (s->rank > 0 ? s->rank : 1);
    emlx_attr attr = with_ints("axes", axes, (size_t)s->rank);
    return apply_to("transpose", &t, 1, &attr, 1, EMLX_TYPE_DEFAULT);
}

// Contracts axis lists of l and r after `batch` leading axes, by definition.
static void check_dot(emlx_type type, const emlx_shape *ls, const emlx_shape *rs, size_t batch,
                      const int64_t *lc, const int64_t *rc, size_t contracted, int turn) {
    emlx_shape ls0 = *ls, rs0 = *rs;
    for (int32_t d = 0; d < ls->rank; d++) ls0.dims[(d + turn) % ls->rank] = ls->dims[d];
    for (int32_t d = 0; d < rs->rank; d++) rs0.dims[(d + turn) % rs->rank] = rs->dims[d];
    emlx_tensor *base[2] = {random_tensor(type, &ls0, 0, 9), random_tensor(type, &rs0, 0, 9)};
    emlx_tensor *in[2] = {transposed(base[0], turn), transposed(base[1], turn)};
    int64_t leading[EMLX_MAX_RANK] = {0, 1, 2, 3};
    emlx_attr attrs[4] = {
        with_ints("contract_left", lc, contracted), with_ints("contract_right", rc, contracted),
        with_ints("batch_left", leading, batch), with_ints("batch_right", leading, batch)};
    emlx_tensor *out = apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    double *l = values_of(in[0]), *r = values_of(in[1]), *got = values_of(out);
    const emlx_shape *os = emlx_tensor_shape(out);
    emlx_shape inner = {.rank = (int32_t)contracted};
    for (size_t i = 0; i < contracted; i++) inner.dims[i] = ls->dims[lc[i]];
    for (int64_t o = 0; o < emlx_shape_count(os); o++) {
        int64_t oi[EMLX_MAX_RANK], li[EMLX_MAX_RANK] = {0}, ri[EMLX_MAX_RANK] = {0}, k[8];
        unravel(os, o, oi);
        uint32_t lused = 0, rused = 0;
        int32_t at = 0;
        for (size_t b = 0; b < batch; b++) li[b] = ri[b] = oi[at++];
        for (size_t i = 0; i < contracted; i++) {
            lused |= 1u << lc[i];
            rused |= 1u << rc[i];
        }
        for (int32_t d = (int32_t)batch; d < ls->rank; d++)
            if (!(lused >> d & 1)) li[d] = oi[at++];
        for (int32_t d = (int32_t)batch; d < rs->rank; d++)
            if (!(rused >> d & 1)) ri[d] = oi[at++];
        double sum = 0;
        for (int64_t c = 0; c < emlx_shape_count(&inner); c++) {
            unravel(&inner, c, k);
            for (size_t i = 0; i < contracted; i++) {
                li[lc[i]] = k[i];
                ri[rc[i]] = k[i];
            }
            sum += l[ravel(ls, li)] * r[ravel(rs, ri)];
        }
        sum = wrap(type, sum);
        if (fabs(got[o] - sum) > (type == EMLX_F32 ? 1e-5 * fabs(sum) : 0))
            fail_msg("dot of %s: element %lld is %.17g, not %.17g", emlx_type_name(type),
                     (long long)o, got[o], sum);
    }
    emlx_tensor *all[] = {base[0], base[1], in[0], in[1], out};
    for (int i = 0; i < 5; i++) emlx_tensor_release(all[i]);
    free(l);
    free(r);
    free(got);
}

static void every_contraction(void **unused) {
    (void)unused;
    static const struct {
        emlx_shape l, r;
        size_t batch;
        int64_t lc[3], rc[3];
        size_t contracted;
    } cases[] = {
        {{1, {5}}, {1, {5}}, 0, {0}, {0}, 1},
        {{2, {3, 5}}, {2, {5, 4}}, 0, {1}, {0}, 1},
        {{2, {5, 3}}, {2, {4, 5}}, 0, {0}, {1}, 1},
        {{2, {33, 70}}, {2, {70, 41}}, 0, {1}, {0}, 1},
        {{2, {1, 200}}, {2, {200, 90}}, 0, {1}, {0}, 1},
        {{2, {90, 200}}, {1, {200}}, 0, {1}, {0}, 1},
        {{2, {3, 4}}, {2, {3, 4}}, 0, {0, 1}, {0, 1}, 2},
        {{2, {3, 4}}, {2, {4, 3}}, 0, {1, 0}, {0, 1}, 2},
        {{1, {3}}, {1, {4}}, 0, {0}, {0}, 0},
        {{3, {2, 3, 4}}, {3, {2, 4, 5}}, 1, {2}, {1}, 1},
        {{3, {6, 30, 20}}, {3, {6, 25, 20}}, 1, {2}, {2}, 1},
        {{4, {2, 3, 4, 5}}, {4, {2, 3, 5, 2}}, 2, {3}, {2}, 1},
        {{3, {4, 3, 5}}, {3, {3, 2, 4}}, 0, {1, 0}, {0, 2}, 2},
        {{2, {4, 1}}, {2, {1, 3}}, 0, {1}, {0}, 1},
        {{2, {0, 3}}, {2, {3, 2}}, 0, {1}, {0}, 1},
        {{2, {2, 0}}, {2, {0, 2}}, 0, {1}, {0}, 1},
        {{2, {300, 150}}, {2, {150, 260}}, 0, {1}, {0}, 1},
    };
    draw_seed(3);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (size_t t = 0; t < TYPES; t++)
            for (int turn = 0; turn < 3; turn++)
                check_dot(types[t], &cases[c].l, &cases[c].r, cases[c].batch, cases[c].lc,
                          cases[c].rc, cases[c].contracted, turn);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fold),          cmocka_unit_test(folds_over_nothing),
        cmocka_unit_test(nothing_is_close),    cmocka_unit_test(nans_are_positive),
        cmocka_unit_test(every_arg_reduction), cmocka_unit_test(every_contraction),
    };
    return RUN_ON_CPU("ops/reduction", tests);
}
