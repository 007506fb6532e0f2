// SPDX-License-Identifier: Apache-2.0
// linalg_test.c - linear algebra by putting factors together again, in plain loops, over shapes,
// batches and types; conventions of order and sign; singular, indefinite and non-finite matrices.
#include <complex.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "memory/memory.h"
#include "plan/cache.h"
#include "tensors.h"

static const emlx_type types[] = {EMLX_F64, EMLX_F32, EMLX_S32, EMLX_U8};
enum { TYPES = sizeof types / sizeof *types };

// A batch of matrices, as doubles. The last sizes are computed in f32 where that is the type.
typedef struct batch {
    emlx_shape shape;
    int64_t count;
    int rows, columns;
} batch;

static const batch squares[] = {{{2, {1, 1}}, 1, 1, 1},        {{2, {2, 2}}, 1, 2, 2},
                                {{2, {3, 3}}, 1, 3, 3},        {{3, {4, 5, 5}}, 4, 5, 5},
                                {{4, {2, 3, 6, 6}}, 6, 6, 6},  {{3, {300, 4, 4}}, 300, 4, 4},
                                {{3, {2, 40, 40}}, 2, 40, 40}, {{2, {150, 150}}, 1, 150, 150}};
enum { SQUARES = sizeof squares / sizeof *squares };

static const batch rectangles[] = {{{2, {1, 4}}, 1, 1, 4},       {{2, {4, 1}}, 1, 4, 1},
                                   {{2, {3, 5}}, 1, 3, 5},       {{3, {3, 5, 3}}, 3, 5, 3},
                                   {{4, {2, 2, 2, 3}}, 4, 2, 3}, {{2, {9, 9}}, 1, 9, 9},
                                   {{2, {80, 60}}, 1, 80, 60},   {{2, {50, 90}}, 1, 50, 90},
                                   {{2, {1, 1}}, 1, 1, 1},       {{3, {2, 70, 70}}, 2, 70, 70}};
enum { RECTANGLES = sizeof rectangles / sizeof *rectangles };

static void *zeroed(int64_t count, size_t size) {
    void *room = calloc((size_t)count, size);
    if (room == NULL) abort();
    return room;
}

static emlx_tensor *random_batch(emlx_type type, const batch *b) {
    return random_tensor(type, &b->shape, type == EMLX_U8 ? 0 : -9, 9);
}

// What rounding to the result's type may do to a sum of n products of numbers below 10 or so.
static double tolerance(emlx_tensor *result, int n) {
    return (emlx_tensor_type(result) == EMLX_F64 ? 1e-13 : 2e-6) * (10 + n) * 10;
}

static void apply_all(const char *name, emlx_tensor *t, const emlx_attr *attr,
                      emlx_tensor *out[EMLX_MAX_RESULTS]) {
    emlx_error err;
    assert_ok(emlx_apply(emlx_op_find(name), test_device, &t, 1, attr, attr != NULL,
                         EMLX_TYPE_DEFAULT, out, &err),
              err);
}

static void release_case(emlx_tensor **tensors, double **values, int count) {
    for (int i = 0; i < count; i++) {
        emlx_tensor_release(tensors[i]);
        free(values[i]);
    }
}

static void assert_shape(emlx_tensor *t, const batch *b, int rank, int rows, int columns) {
    const emlx_shape *s = emlx_tensor_shape(t);
    assert_int_equal(s->rank, b->shape.rank - 2 + rank);
    for (int32_t d = 0; d < b->shape.rank - 2; d++) assert_int_equal(s->dims[d], b->shape.dims[d]);
    if (rank >= 1) assert_int_equal(s->dims[s->rank - 1], columns);
    if (rank == 2) assert_int_equal(s->dims[s->rank - 2], rows);
}

static void assert_near(double a, double b, double within) {
    if (!(fabs(a - b) <= within)) fail_msg("%.17g is not within %g of %.17g", a, within, b);
}

// c = a b, of m rows, k terms, n columns.
static void multiply(const double *a, const double *b, double *c, int m, int k, int n) {
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int t = 0; t < k; t++) sum += a[i * k + t] * b[t * n + j];
            c[i * n + j] = sum;
        }
}

static void assert_product(const double *a, const double *b, const double *expected, int m, int k,
                           int n, double within) {
    double *c = zeroed(m * n, sizeof(double));
    multiply(a, b, c, m, k, n);
    for (int i = 0; i < m * n; i++) assert_near(c[i], expected[i], within);
    free(c);
}

// The columns (or rows) have length 1 and stand at right angles.
static void assert_orthogonal(const double *q, int m, int n, bool rows, double within) {
    int count = rows ? m : n, length = rows ? n : m;
    for (int i = 0; i < count; i++)
        for (int j = 0; j <= i; j++) {
            double sum = 0;
            for (int t = 0; t < length; t++)
                sum += rows ? q[i * n + t] * q[j * n + t] : q[t * n + i] * q[t * n + j];
            assert_near(sum, i == j, within);
        }
}

// The largest element, first among about equal ones, is positive.
static void assert_turned(const double *x, int n, int step) {
    double most = 0;
    for (int i = 0; i < n; i++) most = fmax(most, fabs(x[i * step]));
    for (int i = 0; i < n; i++)
        if (fabs(x[i * step]) >= most * (1 - 1e-6)) {
            assert_true(x[i * step] > 0);
            return;
        }
}

// Factorizations --------------------------------------------------------------------------------

// M M' + I, in which only the wanted triangle is right.
static double *definite(const batch *b, bool lower) {
    int n = b->rows, area = n * n;
    double *a = zeroed(b->count * area, sizeof(double));
    double *m = zeroed(area, sizeof(double));
    for (int64_t e = 0; e < b->count; e++) {
        for (int i = 0; i < area; i++) m[i] = (int)draw(5) - 2;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                double sum = i == j;
                for (int t = 0; t < n; t++) sum += m[i * n + t] * m[j * n + t];
                bool garbage = lower ? j > i : j < i;
                a[e * area + i * n + j] = garbage ? 99 : sum;
            }
    }
    free(m);
    return a;
}

static void mirror(double *a, int n, bool from_lower) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) {
            double *low = &a[i * n + j], *high = &a[j * n + i];
            *(from_lower ? high : low) = *(from_lower ? low : high);
        }
}

static void cholesky_of(const batch *b, emlx_type type) {
    int n = b->rows;
    double *a = definite(b, true), *lt = zeroed(n * n, sizeof(double));
    emlx_tensor *t = tensor_of(type, &b->shape, a);
    emlx_tensor *l = apply_to("cholesky", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    double *values = values_of(l);
    assert_shape(l, b, 2, n, n);
    for (int64_t e = 0; e < b->count; e++) {
        double *factor = values + e * n * n, *whole = a + e * n * n;
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                if (j > i) assert_true(factor[i * n + j] == 0);
                if (j == i) assert_true(factor[i * n + j] > 0);
                lt[j * n + i] = factor[i * n + j];
            }
        mirror(whole, n, true);
        assert_product(factor, lt, whole, n, n, n, tolerance(l, n));
    }
    emlx_tensor_release(t);
    emlx_tensor_release(l);
    free(values);
    free(lt);
    free(a);
}

static void cholesky_factors(void **unused) {
    (void)unused;
    for (int i = 0; i < SQUARES; i++)
        for (int type = 0; type < 3; type++) cholesky_of(&squares[i], types[type]);
}

static void qr_of(const batch *b, emlx_type type, bool complete) {
    int m = b->rows, n = b->columns, k = complete || m < n ? m : n;
    emlx_attr attr = with_text("mode", complete ? "complete" : "reduced");
    emlx_tensor *t = random_batch(type, b), *out[EMLX_MAX_RESULTS];
    apply_all("qr", t, &attr, out);
    double *a = values_of(t), *q = values_of(out[0]), *r = values_of(out[1]);
    assert_shape(out[0], b, 2, m, k);
    assert_shape(out[1], b, 2, k, n);
    double within = tolerance(out[0], m);
    for (int64_t e = 0; e < b->count; e++) {
        const double *re = r + e * k * n;
        assert_product(q + e * m * k, re, a + e * m * n, m, k, n, within);
        assert_orthogonal(q + e * m * k, m, k, false, within);
        for (int i = 0; i < k; i++)
            for (int j = 0; j < i && j < n; j++) assert_true(re[i * n + j] == 0);
        // Only a column that has nothing below its diagonal may keep its sign.
        for (int i = 0; i < k && i < n && i < m - 1 && m > 1; i++) {
            double below = 0;
            for (int row = 1; i == 0 && row < m; row++) below += fabs(a[e * m * n + row * n]);
            if (i > 0 || below > 0) assert_true(re[i * n + i] >= 0);
        }
    }
    release_case((emlx_tensor *[]){t, out[0], out[1]}, (double *[]){a, q, r}, 3);
}

static void qr_factors(void **unused) {
    (void)unused;
    for (int i = 0; i < RECTANGLES; i++)
        for (int type = 0; type < TYPES; type++) {
            qr_of(&rectangles[i], types[type], false);
            qr_of(&rectangles[i], types[type], true);
        }
}

static void lu_of(const batch *b, emlx_type type) {
    int n = b->rows, area = n * n;
    emlx_tensor *t = random_batch(type, b), *out[EMLX_MAX_RESULTS];
    apply_all("lu", t, NULL, out);
    assert_int_equal(emlx_tensor_type(out[0]), type);
    double *a = values_of(t), *p = values_of(out[0]), *l = values_of(out[1]);
    double *u = values_of(out[2]), *lu = zeroed(area, sizeof(double));
    for (int i = 0; i < 3; i++) assert_shape(out[i], b, 2, n, n);
    for (int64_t e = 0; e < b->count; e++) {
        multiply(l + e * area, u + e * area, lu, n, n, n);
        assert_product(p + e * area, lu, a + e * area, n, n, n, tolerance(out[1], n));
        assert_orthogonal(p + e * area, n, n, false, 0);
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                int64_t at = e * area + i * n + j;
                assert_true(p[at] == 0 || p[at] == 1);
                assert_true(j > i ? l[at] == 0 : j == i ? l[at] == 1 : fabs(l[at]) <= 1);
                assert_true(j >= i || u[at] == 0);
            }
    }
    release_case((emlx_tensor *[]){t, out[0], out[1], out[2]}, (double *[]){a, p, l, u}, 4);
    free(lu);
}

static void lu_factors(void **unused) {
    (void)unused;
    for (int i = 0; i < SQUARES; i++)
        for (int type = 0; type < TYPES; type++) lu_of(&squares[i], types[type]);
}

static void eigh_of(const batch *b, emlx_type type) {
    int n = b->rows, area = n * n;
    double *a = definite(b, false), *scaled = zeroed(area, sizeof(double));
    for (int64_t i = 0; i < b->count * area; i += n + 1) a[i] -= draw(20); // some negative values
    emlx_tensor *t = tensor_of(type, &b->shape, a), *out[EMLX_MAX_RESULTS];
    apply_all("eigh", t, NULL, out);
    double *w = values_of(out[0]), *v = values_of(out[1]);
    assert_shape(out[0], b, 1, 0, n);
    assert_shape(out[1], b, 2, n, n);
    double within = tolerance(out[1], n);
    for (int64_t e = 0; e < b->count; e++) {
        double *we = w + e * n, *ve = v + e * area, *ae = a + e * area;
        mirror(ae, n, false);
        for (int i = 0; i < area; i++) scaled[i] = ve[i] * we[i % n];
        assert_product(ae, ve, scaled, n, n, n, within * 30);
        assert_orthogonal(ve, n, n, false, within);
        for (int i = 0; i < n; i++) {
            assert_true(i == 0 || fabs(we[i]) <= fabs(we[i - 1]));
            assert_turned(ve + i, n, n);
        }
    }
    release_case((emlx_tensor *[]){t, out[0], out[1]}, (double *[]){a, w, v}, 3);
    free(scaled);
}

static void eigh_vectors(void **unused) {
    (void)unused;
    for (int i = 0; i < SQUARES; i++)
        for (int type = 0; type < 3; type++) eigh_of(&squares[i], types[type]);
}

static void svd_of(const batch *b, emlx_type type, bool full) {
    int m = b->rows, n = b->columns, k = m < n ? m : n, uc = full ? m : k, vr = full ? n : k;
    emlx_attr attr = with_bool("full_matrices?", full);
    emlx_tensor *t = random_batch(type, b), *out[EMLX_MAX_RESULTS];
    apply_all("svd", t, &attr, out);
    double *a = values_of(t), *u = values_of(out[0]), *s = values_of(out[1]);
    double *vt = values_of(out[2]), *us = zeroed(m * k, sizeof(double));
    assert_shape(out[0], b, 2, m, uc);
    assert_shape(out[1], b, 1, 0, k);
    assert_shape(out[2], b, 2, vr, n);
    double within = tolerance(out[0], m + n);
    for (int64_t e = 0; e < b->count; e++) {
        const double *ue = u + e * m * uc, *se = s + e * k, *ve = vt + e * vr * n;
        for (int i = 0; i < m * k; i++) us[i] = ue[i / k * uc + i % k] * se[i % k];
        assert_product(us, ve, a + e * m * n, m, k, n, within);
        assert_orthogonal(ue, m, uc, false, within);
        assert_orthogonal(ve, vr, n, true, within);
        for (int i = 0; i < k; i++) {
            assert_true(se[i] >= 0 && (i == 0 || se[i] <= se[i - 1]));
            assert_turned(m >= n ? ve + i * n : ue + i, m >= n ? n : m, m >= n ? 1 : uc);
        }
    }
    release_case((emlx_tensor *[]){t, out[0], out[1], out[2]}, (double *[]){a, u, s, vt}, 4);
    free(us);
}

static void singular_values(void **unused) {
    (void)unused;
    for (int i = 0; i < RECTANGLES; i++)
        for (int type = 0; type < TYPES; type++) {
            svd_of(&rectangles[i], types[type], false);
            svd_of(&rectangles[i], types[type], true);
        }
}

// Equations -------------------------------------------------------------------------------------

typedef struct triangular_case {
    const batch *batch;
    emlx_type type;
    bool lower, left, vector;
    const char *transform;
    int other;
} triangular_case;

// op(a), and garbage where nobody is to look.
static double *triangles(const triangular_case *c, double **op) {
    int n = c->batch->rows, area = n * n;
    double *a = zeroed(c->batch->count * area, sizeof(double));
    *op = zeroed(c->batch->count * area, sizeof(double));
    for (int64_t e = 0; e < c->batch->count; e++)
        for (int i = 0; i < n; i++)
            for (int j = 0; j < n; j++) {
                bool inside = c->lower ? j <= i : j >= i;
                double x = i == j ? 2.0 + draw(4) : ((int)draw(9) - 4) / (double)n;
                if (c->type == EMLX_S32) x = i == j ? 1 + (int)draw(3) : (int)draw(3) - 1;
                bool flip = strcmp(c->transform, "transpose") == 0;
                a[e * area + i * n + j] = inside ? x : 77;
                (*op)[e * area + (flip ? j * n + i : i * n + j)] = inside ? x : 0;
            }
    return a;
}

static void solve_triangles(const triangular_case *c) {
    int n = c->batch->rows, other = c->vector ? 1 : c->other;
    double *op, *a = triangles(c, &op);
    emlx_shape shape = c->batch->shape;
    int32_t rank = shape.rank;
    if (c->vector) shape.rank--;
    if (!c->vector) shape.dims[rank - (c->left ? 1 : 2)] = other;
    emlx_attr attrs[] = {with_bool("lower", c->lower), with_bool("left_side", c->left),
                         with_text("transform_a", c->transform)};
    emlx_tensor *in[] = {tensor_of(c->type, &c->batch->shape, a),
                         random_tensor(c->type, &shape, -9, 9)};
    emlx_tensor *x = apply_to("triangular_solve", in, 2, attrs, 3, EMLX_TYPE_DEFAULT);
    double *b = values_of(in[1]), *values = values_of(x);
    for (int64_t e = 0; e < c->batch->count; e++) {
        const double *oe = op + e * n * n, *be = b + e * n * other, *xe = values + e * n * other;
        // Integer triangles are badly conditioned: errors grow with what is multiplied.
        double most = 1;
        for (int i = 0; i < n * other; i++) most = fmax(most, fabs(xe[i]));
        double within = tolerance(x, n) * most;
        if (c->left)
            assert_product(oe, xe, be, n, n, other, within);
        else
            assert_product(xe, oe, be, other, n, n, within);
    }
    release_case((emlx_tensor *[]){in[0], in[1], x}, (double *[]){a, b, values}, 3);
    free(op);
}

static void triangular_equations(void **unused) {
    (void)unused;
    static const char *const transforms[] = {"none", "transpose", "conjugate"};
    for (int i = 0; i < SQUARES; i++)
        for (int o = 0; o < 2 * 2 * 2 * 3 * 3; o++) {
            triangular_case c = {.batch = &squares[i],
                                 .type = types[o / 24],
                                 .lower = o & 1,
                                 .left = o & 2,
                                 .vector = o & 4,
                                 .transform = transforms[o / 8 % 3],
                                 .other = 1 + (int)draw(9)};
            solve_triangles(&c);
        }
}

static void solve_of(const batch *b, emlx_type type, bool vector) {
    int n = b->rows, other = vector ? 1 : 3;
    emlx_shape shape = b->shape;
    if (vector)
        shape.rank--;
    else
        shape.dims[shape.rank - 1] = other;
    double *a = definite(b, true);
    for (int64_t e = 0; e < b->count; e++) {
        double *ae = a + e * n * n;
        mirror(ae, n, true);
        for (int i = 0; i + 1 < n; i++) ae[i * n + n - 1] += 1; // not symmetric
        for (int j = 0; j < n; j++) {                           // in need of a pivot
            double first = ae[j];
            ae[j] = ae[(n - 1) * n + j];
            ae[(n - 1) * n + j] = first;
        }
    }
    emlx_tensor *in[] = {tensor_of(type, &b->shape, a), random_tensor(type, &shape, -9, 9)};
    emlx_tensor *x = apply_to("solve", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    double *right = values_of(in[1]), *values = values_of(x);
    for (int64_t e = 0; e < b->count; e++) {
        double most = 1;
        for (int i = 0; i < n * other; i++) most = fmax(most, fabs(values[e * n * other + i]));
        assert_product(a + e * n * n, values + e * n * other, right + e * n * other, n, n, other,
                       tolerance(x, n) * 20 * most);
    }
    release_case((emlx_tensor *[]){in[0], in[1], x}, (double *[]){a, right, values}, 3);
}

static void equations(void **unused) {
    (void)unused;
    for (int i = 0; i < SQUARES; i++)
        for (int type = 0; type < 3; type++) {
            solve_of(&squares[i], types[type], false);
            solve_of(&squares[i], types[type], true);
        }
}

// By the first row; exact for small whole numbers.
static double expand(const double *a, int n, const int *columns) {
    if (n == 0) return 1;
    double sum = 0;
    for (int j = 0; j < n; j++) {
        int left[8];
        for (int t = 0, at = 0; t < n; t++)
            if (t != j) left[at++] = columns[t];
        double minor = a[columns[j]] * expand(a + 6, n - 1, left);
        sum += j % 2 == 0 ? minor : -minor;
    }
    return sum;
}

static void determinants(void **unused) {
    (void)unused;
    for (int n = 1; n <= 6; n++)
        for (int type = 0; type < TYPES; type++) {
            emlx_shape shape = {3, {50, n, n}};
            emlx_tensor *t = random_tensor(types[type], &shape, type == 3 ? 0 : -5, 5);
            emlx_tensor *d = apply_to("determinant", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
            double *a = values_of(t), *values = values_of(d), square[36];
            static const int columns[6] = {0, 1, 2, 3, 4, 5};
            assert_int_equal(emlx_tensor_shape(d)->rank, 1);
            for (int e = 0; e < 50; e++) {
                for (int i = 0; i < n * n; i++) square[i / n * 6 + i % n] = a[e * n * n + i];
                double expected = expand(square, n, columns);
                assert_near(values[e], expected, (type == 0 ? 1e-12 : 1e-6) * (1 + fabs(expected)));
            }
            release_case((emlx_tensor *[]){t, d}, (double *[]){a, values}, 2);
        }
}

// Complex matrices ------------------------------------------------------------------------------

typedef double _Complex complex_number;

static complex_number *numbers_of(emlx_tensor *t) { return (complex_number *)values_of(t); }

static void assert_complex_product(const complex_number *a, const complex_number *b,
                                   const complex_number *expected, int n, double within) {
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++) {
            complex_number sum = 0;
            for (int k = 0; k < n; k++) sum += a[i * n + k] * b[k * n + j];
            assert_near(cabs(sum - expected[i * n + j]), 0, within);
        }
}

// b = a', conjugated.
static void adjoin(const complex_number *a, complex_number *b, int n) {
    for (int i = 0; i < n * n; i++) b[i % n * n + i / n] = conj(a[i]);
}

static void complex_factors_of(emlx_type type, int n) {
    emlx_shape shape = {2, {n, n}};
    int area = n * n;
    double within = (type == EMLX_C128 ? 1e-12 : 1e-4) * n;
    complex_number *m = zeroed(area, sizeof(complex_number)),
                   *h = zeroed(area, sizeof(complex_number));
    complex_number *w = zeroed(area, sizeof(complex_number));
    emlx_tensor *t = random_tensor(type, &shape, -2, 2), *out[EMLX_MAX_RESULTS];
    complex_number *a = numbers_of(t);
    apply_all("qr", t, NULL, out);
    complex_number *q = numbers_of(out[0]), *r = numbers_of(out[1]);
    assert_complex_product(q, r, a, n, within);
    adjoin(q, m, n);
    for (int i = 0; i < area; i++) w[i] = i % (n + 1) == 0;
    assert_complex_product(m, q, w, n, within);
    for (int i = 0; i < area; i++) assert_true(i % n >= i / n || r[i] == 0);
    release_case(out, (double *[]){(double *)q, (double *)r}, 2);

    // a a' + 1 has a root and real values.
    adjoin(a, m, n);
    for (int i = 0; i < area; i++) {
        h[i] = i % (n + 1) == 0;
        for (int k = 0; k < n; k++) h[i] += a[i / n * n + k] * m[k * n + i % n];
    }
    emlx_tensor *whole = tensor_of(type, &shape, (double *)h);
    out[0] = apply_to("cholesky", &whole, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    complex_number *l = numbers_of(out[0]);
    adjoin(l, m, n);
    assert_complex_product(l, m, h, n, within * 10);
    release_case(out, (double *[]){(double *)l}, 1);
    apply_all("eigh", whole, NULL, out);
    complex_number *values = numbers_of(out[0]), *v = numbers_of(out[1]);
    for (int i = 0; i < area; i++) w[i] = v[i] * values[i % n];
    assert_complex_product(h, v, w, n, within * 10);
    for (int i = 0; i < n; i++) assert_true(cimag(values[i]) == 0 && creal(values[i]) > 0);
    release_case(out, (double *[]){(double *)values, (double *)v}, 2);
    release_case((emlx_tensor *[]){t, whole}, (double *[]){(double *)a, (double *)h}, 2);
    free(m);
    free(w);
}

static void complex_factors(void **unused) {
    (void)unused;
    static const int sizes[] = {1, 2, 3, 8, 70};
    for (int i = 0; i < 5; i++)
        for (int wide = 0; wide < 2; wide++)
            complex_factors_of(wide ? EMLX_C128 : EMLX_C64, sizes[i]);
}

// a x = b, with the triangle conjugated for every other size.
static void complex_equations(void **unused) {
    (void)unused;
    for (int n = 1; n < 30; n += 4)
        for (int triangular = 0; triangular < 2; triangular++) {
            emlx_shape shape = {2, {n, n}}, vector = {1, {n}};
            bool flip = triangular && n % 8 == 1;
            emlx_attr attr = with_text("transform_a", flip ? "conjugate" : "none");
            emlx_tensor *in[] = {random_tensor(EMLX_C128, &shape, -2, 2),
                                 random_tensor(EMLX_C128, &vector, -9, 9)};
            complex_number *a = numbers_of(in[0]), *b = numbers_of(in[1]);
            for (int i = 0; i < n; i++) a[i * n + i] += 4 * n;
            emlx_tensor_release(in[0]);
            in[0] = tensor_of(EMLX_C128, &shape, (double *)a);
            emlx_tensor *x = apply_to(triangular ? "triangular_solve" : "solve", in, 2, &attr,
                                      (size_t)triangular, EMLX_TYPE_DEFAULT);
            complex_number *found = numbers_of(x);
            for (int i = 0; i < n; i++) {
                complex_number sum = 0;
                for (int k = 0; k < (triangular ? i + 1 : n); k++)
                    sum += (flip ? conj(a[i * n + k]) : a[i * n + k]) * found[k];
                assert_near(cabs(sum - b[i]), 0, 1e-12);
            }
            release_case((emlx_tensor *[]){in[0], in[1], x},
                         (double *[]){(double *)a, (double *)b, (double *)found}, 3);
        }
}

// Conventions -----------------------------------------------------------------------------------

typedef struct known_case {
    const char *op;
    emlx_shape shape;
    double values[9];
    int result; // which one is looked at
    double expected[9];
} known_case;

static const known_case known[] = {
    // A column that is zero below the diagonal keeps its sign, and so does the last one.
    {"qr", {2, {3, 3}}, {-3, 2, 1, 0, 1, 1, 0, 0, -1}, 1, {-3, 2, 1, 0, 1, 1, 0, 0, -1}},
    {"qr", {2, {2, 1}}, {3, 4}, 1, {5}},
    {"qr", {2, {2, 1}}, {-3, 4}, 0, {-0.6, 0.8}},
    {"eigh", {2, {3, 3}}, {1, 0, 0, 0, 3, 0, 0, 0, -5}, 0, {-5, 3, 1}},
    {"eigh", {2, {2, 2}}, {3, 0, 0, -3}, 0, {-3, 3}},
    {"eigh", {2, {2, 2}}, {1, 0, 5, 2}, 0, {2, 1}},
    {"eigh", {2, {2, 2}}, {2, 99, 1, 2}, 0, {101, -97}},
    {"eigh", {2, {2, 2}}, {1, 0, 0, 1}, 1, {1, 0, 0, 1}},
    {"svd", {2, {3, 3}}, {1, 0, 0, 0, 1, 0, 0, 0, -1}, 0, {1, 0, 0, 0, 1, 0, 0, 0, -1}},
    {"svd", {2, {2, 2}}, {0, 0, 0, 0}, 0, {1, 0, 0, 1}},
    {"svd", {2, {2, 2}}, {0, 0, 0, 0}, 1, {0, 0}},
    {"svd", {2, {2, 2}}, {-1, 0, 0, -2}, 2, {0, 1, 1, 0}},
    // A column of zeros needs no pivot; of equal ones the first is taken.
    {"lu", {2, {2, 2}}, {0, 1, 0, 2}, 2, {0, 1, 0, 2}},
    {"lu", {2, {2, 2}}, {1, 2, -1, 4}, 0, {1, 0, 0, 1}},
    {"lu", {2, {3, 3}}, {1, 2, 3, 4, 5, 6, 7, 8, 9}, 0, {0, 1, 0, 0, 0, 1, 1, 0, 0}},
    // What Nx makes of a matrix that is not definite.
    {"cholesky", {2, {2, 2}}, {1, 9, 1, 1}, 0, {1, 0, 1, 0}},
    {"cholesky", {2, {2, 2}}, {0, 0, 0, 0}, 0, {0, 0, 0, 0}},
    {"cholesky", {2, {2, 2}}, {4, 0, 2, -1}, 0, {2, 0, 1, NAN}},
    {"determinant", {2, {2, 2}}, {1, 2, 3, 4}, 0, {-2}},
    {"determinant", {2, {2, 2}}, {NAN, 2, 3, 4}, 0, {NAN}},
    {"eigh", {2, {2, 2}}, {1, NAN, 0, 1}, 1, {NAN, NAN, NAN, NAN}},
    {"eigh", {2, {2, 2}}, {1, 2, INFINITY, 1}, 0, {3, -1}},
    {"svd", {2, {1, 2}}, {1, INFINITY}, 2, {NAN, NAN, NAN, NAN}},
};

static void conventions(void **unused) {
    (void)unused;
    for (size_t c = 0; c < sizeof known / sizeof *known; c++)
        for (int type = 0; type < 2; type++) {
            const known_case *k = &known[c];
            emlx_tensor *t = tensor_of(types[type], &k->shape, k->values);
            emlx_tensor *out[EMLX_MAX_RESULTS];
            apply_all(k->op, t, NULL, out);
            double *values = values_of(out[k->result]);
            int64_t count = emlx_shape_count(emlx_tensor_shape(out[k->result]));
            for (int64_t i = 0; i < count; i++) {
                bool same = isnan(k->expected[i])
                                ? isnan(values[i])
                                : fabs(values[i] - k->expected[i]) <= 1e-6 * fabs(k->expected[i]);
                if (!same)
                    fail_msg("%s, case %zu: element %d is %.17g, expected %g", k->op, c, (int)i,
                             values[i], k->expected[i]);
                assert_false(values[i] == 0 && signbit(values[i]));
            }
            for (size_t i = 0; i < emlx_op_results(emlx_op_find(k->op)); i++)
                emlx_tensor_release(out[i]);
            emlx_tensor_release(t);
            free(values);
        }
}

// Errors ----------------------------------------------------------------------------------------

static void singular_matrices(void **unused) {
    (void)unused;
    emlx_shape shape = {3, {2, 2, 2}}, vectors = {2, {2, 2}};
    const double values[] = {1, 0, 0, 1, 1, 5, 2, 0}, equal[] = {1, 0, 0, 1, 1, 2, 2, 4};
    emlx_tensor *in[] = {tensor_of(EMLX_F32, &shape, values),
                         random_tensor(EMLX_F32, &vectors, 1, 5)};
    emlx_tensor *later[] = {apply_to("negate", in, 1, NULL, 0, EMLX_TYPE_DEFAULT), in[1]};
    emlx_tensor *system[] = {tensor_of(EMLX_F32, &shape, equal), in[1]}, *out;
    const emlx_op *triangular = emlx_op_find("triangular_solve");
    emlx_error err;
    // A diagonal that is known is looked at by the call, another one when it is there.
    assert_error(emlx_apply(triangular, NULL, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err),
                 EMLX_SINGULAR, err, "triangular_solve: the diagonal");
    assert_ok(emlx_apply(triangular, NULL, later, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err), err);
    assert_error(emlx_eval(&out, 1, &err), EMLX_SINGULAR, err, "triangular_solve: the diagonal");
    emlx_tensor_release(out);
    out = apply_to("solve", system, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    assert_error(emlx_eval(&out, 1, &err), EMLX_SINGULAR, err, "solve: the matrix");
    emlx_tensor_release(out);
    emlx_tensor *all[] = {in[0], in[1], later[0], system[0]};
    for (int i = 0; i < 4; i++) emlx_tensor_release(all[i]);
}

typedef struct wrong_call {
    const char *op;
    int count;
    emlx_shape shapes[2];
    emlx_attr attr;
    const char *message;
} wrong_call;

static void wrong_calls(void **unused) {
    (void)unused;
    const wrong_call calls[] = {
        {"cholesky", 1, {{2, {2, 3}}}, {0}, "square matrices are expected, got shape {2, 3}"},
        {"lu", 1, {{1, {3}}}, {0}, "at least 2 axes are expected, got shape {3}"},
        {"eigh", 1, {{3, {2, 0, 0}}}, {0}, "matrices without elements"},
        {"svd", 1, {{2, {1, 20000}}}, {0}, "at most 16384 rows or columns"},
        {"qr", 1, {{2, {2, 2}}}, with_text("mode", "full"), "reduced or complete, not full"},
        {"solve", 2, {{2, {2, 2}}, {2, {3, 2}}}, {0}, "right sides {3, 2} do not fit"},
        {"triangular_solve",
         2,
         {{2, {2, 2}}, {2, {2, 3}}},
         with_bool("left_side", false),
         "left sides {2, 3} do not fit"},
        {"triangular_solve",
         2,
         {{2, {2, 2}}, {1, {2}}},
         with_text("transform_a", "adjoint"),
         "none, transpose or conjugate, not adjoint"},
    };
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        const wrong_call *w = &calls[c];
        emlx_tensor *in[2], *out[EMLX_MAX_RESULTS];
        emlx_error err;
        for (int i = 0; i < w->count; i++) in[i] = random_tensor(EMLX_F32, &w->shapes[i], 1, 2);
        emlx_status status =
            emlx_apply(emlx_op_find(w->op), test_device, in, (size_t)w->count, &w->attr,
                       w->attr.name != NULL, EMLX_TYPE_DEFAULT, out, &err);
        assert_true(status == EMLX_INVALID || status == EMLX_UNSUPPORTED);
        assert_error(status, err.code, err, w->message);
        for (int i = 0; i < w->count; i++) emlx_tensor_release(in[i]);
    }
}

// Every allocation fails in turn. The first call is let pass, as a device may keep its kernels.
static void out_of_memory_anywhere(void **unused) {
    (void)unused;
    static const char *const names[] = {"qr", "lu", "eigh", "svd", "determinant", "fft", "irfft"};
    emlx_tensor *t = random_tensor(EMLX_F32, &(emlx_shape){3, {3, 37, 37}}, -9, 9);
    for (size_t c = 0; c < sizeof names / sizeof *names; c++) {
        emlx_status status = EMLX_OUT_OF_MEMORY;
        emlx_tensor *first[EMLX_MAX_RESULTS] = {NULL};
        apply_all(names[c], t, NULL, first);
        for (int i = 0; i < EMLX_MAX_RESULTS; i++) {
            if (first[i] != NULL) free(values_of(first[i]));
            emlx_tensor_release(first[i]);
        }
        for (size_t n = 1; status != EMLX_OK; n++) {
            emlx_tensor *out[EMLX_MAX_RESULTS] = {NULL};
            emlx_error err;
            assert_true(n < 2000);
            plan_cache_clear(NULL);
            size_t held = mem_held();
            mem_fail_from(n);
            status = emlx_apply(emlx_op_find(names[c]), NULL, &t, 1, NULL, 0, EMLX_TYPE_DEFAULT,
                                out, &err);
            if (status == EMLX_OK) status = emlx_eval(out, 1, &err);
            mem_fail_from(0);
            assert_true(status == EMLX_OK || status == EMLX_OUT_OF_MEMORY);
            for (int i = 0; i < EMLX_MAX_RESULTS; i++) emlx_tensor_release(out[i]);
            plan_cache_clear(NULL);
            assert_int_equal(mem_held(), held);
        }
    }
    emlx_tensor_release(t);
}

// Several results -------------------------------------------------------------------------------

static void types_of_results(void **unused) {
    (void)unused;
    emlx_shape shape = {2, {3, 3}};
    emlx_tensor *t = random_tensor(EMLX_F32, &shape, 1, 9), *out[EMLX_MAX_RESULTS];
    emlx_error err;
    assert_error(emlx_apply(emlx_op_find("qr"), NULL, &t, 1, NULL, 0, EMLX_F64, out, &err),
                 EMLX_INVALID, err, "qr: there are 2 results");
    emlx_tensor *wide = apply_to("determinant", &t, 1, NULL, 0, EMLX_F64);
    emlx_tensor *narrow = apply_to("determinant", &t, 1, NULL, 0, EMLX_BF16);
    assert_int_equal(emlx_tensor_type(wide), EMLX_F64);
    assert_int_equal(emlx_tensor_type(narrow), EMLX_BF16);
    assert_int_equal(emlx_op_results(emlx_op_find("add")), 1);
    emlx_tensor_release(t);
    emlx_tensor_release(wide);
    emlx_tensor_release(narrow);
}

// x -> l u + |x|'s largest value, by way of a file.
static void in_programs(void **unused) {
    (void)unused;
    char path[64];
    emlx_block *block;
    emlx_program *program;
    emlx_error err;
    emlx_shape shape = {2, {3, 3}};
    uint32_t x, lu, s, product, sum;
    int64_t one[] = {1}, zero[] = {0};
    emlx_attr attrs[] = {with_ints("contract_left", one, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", zero, 1), with_ints("batch_right", NULL, 0)};
    snprintf(path, sizeof path, "/tmp/emlx-linalg-test-%ld.safetensors", (long)getpid());
    assert_ok(emlx_block_new(&block, &err), err);
    assert_ok(emlx_block_input(block, "x", EMLX_F64, &shape, &x, &err), err);
    assert_ok(
        emlx_block_apply(block, emlx_op_find("lu"), &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, &lu, &err),
        err);
    assert_ok(
        emlx_block_apply(block, emlx_op_find("svd"), &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, &s, &err),
        err);
    assert_int_equal(s, lu + 3);
    assert_ok(emlx_block_apply(block, emlx_op_find("dot"), (uint32_t[]){lu + 1, lu + 2}, 2, attrs,
                               4, EMLX_F64, &product, &err),
              err);
    assert_ok(emlx_block_apply(block, emlx_op_find("add"), (uint32_t[]){product, s + 1}, 2, NULL, 0,
                               EMLX_F64, &sum, &err),
              err);
    assert_ok(emlx_block_output(block, NULL, sum, &err), err);
    assert_ok(emlx_block_save(block, path, &err), err);
    emlx_block_release(block);
    assert_ok(emlx_program_load(path, test_device, &program, &err), err);
    assert_int_equal(unlink(path), 0);

    const double values[] = {9, 0, 0, 0, 4, 0, 0, 0, 1}, expected[] = {18, 4, 1, 9, 8, 1, 9, 4, 2};
    emlx_tensor *in = tensor_of(EMLX_F64, &shape, values), *out;
    assert_ok(emlx_program_run(program, &in, 1, &out, 1, &err), err);
    double *found = values_of(out);
    for (int i = 0; i < 9; i++) assert_near(found[i], expected[i], 1e-12);
    emlx_program_release(program);
    release_case((emlx_tensor *[]){in, out}, (double *[]){found, NULL}, 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cholesky_factors),  cmocka_unit_test(qr_factors),
        cmocka_unit_test(lu_factors),        cmocka_unit_test(eigh_vectors),
        cmocka_unit_test(singular_values),   cmocka_unit_test(triangular_equations),
        cmocka_unit_test(equations),         cmocka_unit_test(determinants),
        cmocka_unit_test(conventions),       cmocka_unit_test(singular_matrices),
        cmocka_unit_test(wrong_calls),       cmocka_unit_test(types_of_results),
        cmocka_unit_test(in_programs),       cmocka_unit_test(complex_factors),
        cmocka_unit_test(complex_equations), cmocka_unit_test(out_of_memory_anywhere),
    };
    draw_seed(11);
    return RUN_ON_CPU("ops/linalg", tests);
}
