// SPDX-License-Identifier: Apache-2.0
// fft_test.c - Fourier transforms against the sum that defines them, in long double: every small
// length, large primes, types, cutting and padding, axes, batches, both directions.
#include <complex.h>
#include <math.h>
#include <stdlib.h>

#include "tensors.h"

static const emlx_type types[] = {EMLX_C128, EMLX_F64, EMLX_C64, EMLX_F32, EMLX_S32, EMLX_U8};
enum { TYPES = sizeof types / sizeof *types };

static bool is_complex(emlx_type type) { return type == EMLX_C64 || type == EMLX_C128; }
static bool is_wide(emlx_type type) { return type == EMLX_C128 || type == EMLX_F64; }

static void *make_room(int64_t count, size_t size) {
    void *room = calloc((size_t)count, size);
    if (room == NULL) abort();
    return room;
}

// The transform of `there` numbers cut or padded to n.
static void define(const long double _Complex *x, int64_t there, int64_t n, bool inverse,
                   long double _Complex *to) {
    const long double tau = 6.283185307179586476925286766559005768L;
    long double _Complex *roots = make_room(n, sizeof *roots);
    for (int64_t k = 0; k < n; k++) {
        long double angle = (inverse ? tau : -tau) * (long double)k / (long double)n;
        roots[k] = cosl(angle) + sinl(angle) * (long double _Complex)I;
    }
    for (int64_t j = 0; j < n; j++) {
        to[j] = 0;
        for (int64_t k = 0; k < n && k < there; k++) to[j] += x[k] * roots[j * k % n];
        if (inverse) to[j] /= (long double)n;
    }
    free(roots);
}

static void take_line(emlx_type type, const double *values, int64_t first, int64_t step, int64_t n,
                      long double _Complex *to) {
    for (int64_t k = 0; k < n; k++) {
        int64_t at = first + k * step;
        to[k] = is_complex(type) ? values[2 * at] + values[2 * at + 1] * (long double _Complex)I
                                 : values[at];
    }
}

static void assert_line(const long double _Complex *found, const long double _Complex *expected,
                        int64_t n, double within, const char *what) {
    long double most = 1;
    for (int64_t k = 0; k < n; k++) most = fmaxl(most, cabsl(expected[k]));
    for (int64_t k = 0; k < n; k++)
        if (!(cabsl(found[k] - expected[k]) <= most * within))
            fail_msg("%s: element %d is %.17g%+.17gi, expected %.17g%+.17gi", what, (int)k,
                     (double)creall(found[k]), (double)cimagl(found[k]),
                     (double)creall(expected[k]), (double)cimagl(expected[k]));
}

typedef struct fft_case {
    const char *op;
    emlx_type type;
    emlx_shape shape;
    int axis;
    int64_t length; // of the transform
} fft_case;

// Lines along an axis of a shape: element k of line i is at first + k * step.
static void find_line(const emlx_shape *shape, int axis, int64_t i, int64_t *first, int64_t *step) {
    *step = 1;
    for (int d = axis + 1; d < shape->rank; d++) *step *= shape->dims[d];
    *first = i / *step * *step * shape->dims[axis] + i % *step;
}

// What the line gives: for rfft half of it, for irfft the mirrored line's, which is real.
static void expect_line(const fft_case *c, long double _Complex *x, int64_t there, int64_t result,
                        long double _Complex *to) {
    int64_t n = c->length, half = n / 2 + 1;
    bool back = strcmp(c->op, "irfft") == 0;
    for (int64_t k = there; k < n; k++) x[k] = 0;
    for (int64_t k = half; k < n && back; k++) x[k] = conjl(x[n - k]);
    define(x, back ? n : there, n, strcmp(c->op, "ifft") == 0 || back, to);
    for (int64_t k = 0; k < result && back; k++) to[k] = creall(to[k]);
}

// The CPU computes few elements of f32 in f64 and rounds once, more in f32, where an error grows
// with the logarithm of the length.
static double error_of(int64_t count, bool wide) {
    bool few = count <= 4096 && strcmp(emlx_device_name(test_device), "cpu") == 0;
    return wide ? 4e-15 : few ? 1e-7 : 4e-7;
}

static void transform(const fft_case *c) {
    emlx_attr attrs[] = {with_int("axis", c->axis), with_int("length", c->length)};
    emlx_tensor *t = random_tensor(c->type, &c->shape, c->type == EMLX_U8 ? 0 : -9, 9);
    emlx_tensor *out = apply_to(c->op, &t, 1, attrs, 2, EMLX_TYPE_DEFAULT);
    const emlx_shape *shape = emlx_tensor_shape(out);
    int64_t there = c->shape.dims[c->axis], result = shape->dims[c->axis];
    emlx_type type = emlx_tensor_type(out);
    bool wide = is_wide(c->type);
    bool real = strcmp(c->op, "irfft") == 0;
    assert_int_equal(type, real ? (wide ? EMLX_F64 : EMLX_F32) : wide ? EMLX_C128 : EMLX_C64);
    assert_int_equal(result, strcmp(c->op, "rfft") == 0 ? c->length / 2 + 1 : c->length);
    double *in = values_of(t), *values = values_of(out);
    int64_t room = there + c->length + 2;
    long double _Complex *x = make_room(room, sizeof *x), *expected = make_room(room, sizeof *x);
    long double _Complex *found = make_room(room, sizeof *x);
    for (int64_t i = 0; i < emlx_shape_count(&c->shape) / there; i++) {
        int64_t first, step;
        find_line(&c->shape, c->axis, i, &first, &step);
        take_line(c->type, in, first, step, there, x);
        expect_line(c, x, there, result, expected);
        find_line(shape, c->axis, i, &first, &step);
        take_line(type, values, first, step, result, found);
        assert_line(found, expected, result, error_of(emlx_shape_count(shape), wide), c->op);
    }
    emlx_tensor_release(t);
    emlx_tensor_release(out);
    free(in);
    free(values);
    free(x);
    free(expected);
    free(found);
}

static const char *const ops[] = {"fft", "ifft", "rfft", "irfft"};

// Of one line, and of enough lines that f32 is not computed in double, as up to 32 elements are.
static void transform_length(int64_t n) {
    enum { MORE_THAN = 4096 };
    for (int op = 0; op < 4; op++)
        for (int many = 0; many < (n > 32 ? 2 : 1); many++) {
            int64_t lines = many ? 2 * MORE_THAN / n + 2 : 1, there = op == 3 ? n / 2 + 1 : n;
            fft_case c = {ops[op], types[draw(4)], {2, {lines, there}}, 1, n};
            if (!many) c = (fft_case){ops[op], c.type, {1, {there}}, 0, n};
            if (op == 2) c.type = is_wide(c.type) ? EMLX_F64 : EMLX_F32;
            transform(&c);
        }
}

static void every_length(void **unused) {
    (void)unused;
    static const int64_t more[] = {77,  97,  100, 121,  127,  128, 210,
                                   243, 248, 254, 1009, 1024, 4096};
    for (int64_t n = 1; n <= 64; n++) transform_length(n);
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) transform_length(more[i]);
}

// As many lines as fill panels, and some more; side by side along the first axis.
static void many_lines(void **unused) {
    (void)unused;
    static const int64_t lengths[] = {8, 45, 97, 1080};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (int type = 0; type < 4; type++)
            for (int axis = 0; axis < 2; axis++)
                for (int op = 0; op < 4; op++) {
                    int64_t n = lengths[i], there = op == 3 ? n / 2 + 1 : n;
                    if (n > 1000 && type != axis && type != axis + 2) continue;
                    fft_case c = {ops[op], types[type], {2, {19, there}}, axis, n};
                    if (axis == 0) c.shape = (emlx_shape){2, {there, 19}};
                    if (op != 2 || !is_complex(types[type])) transform(&c);
                }
}

static void axes_and_batches(void **unused) {
    (void)unused;
    static const emlx_shape shapes[] = {{1, {12}},       {2, {7, 16}},       {2, {16, 7}},
                                        {3, {5, 6, 11}}, {4, {2, 3, 37, 2}}, {2, {3000, 4}}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int axis = 0; axis < shapes[s].rank; axis++)
            for (int type = 0; type < TYPES; type++)
                for (int op = 0; op < 4; op++) {
                    if (shapes[s].dims[axis] > 100) continue;
                    int64_t length = 1 + draw(2 * (uint32_t)shapes[s].dims[axis] + 2);
                    fft_case c = {ops[op], types[type], shapes[s], axis, length};
                    if (op != 2 || !is_complex(types[type])) transform(&c);
                }
}

// A sum of two waves has two peaks, and comes back.
static void long_lines(void **unused) {
    (void)unused;
    static const int64_t lengths[] = {100000, 65537, 1 << 17, 2 * 49999};
    for (int i = 0; i < 4; i++) {
        int64_t n = lengths[i];
        emlx_shape shape = {1, {n}};
        double *x = make_room(n, sizeof *x);
        for (int64_t k = 0; k < n; k++) {
            double turn = 6.283185307179586 / (double)n;
            x[k] = cos(turn * (double)(k * 7 % n)) + 3 * sin(turn * (double)(k * 1000 % n));
        }
        emlx_tensor *t = tensor_of(EMLX_F64, &shape, x);
        emlx_tensor *f = apply_to("fft", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        emlx_tensor *back = apply_to("ifft", &f, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        double *peaks = values_of(f), *again = values_of(back);
        for (int64_t k = 0; k < n; k++) {
            double re = k == 7 || k == n - 7 ? 0.5 : 0, im = 0;
            if (k == 1000 || k == n - 1000) im = k == 1000 ? -1.5 : 1.5;
            assert_true(fabs(peaks[2 * k] / (double)n - re) < 1e-14);
            assert_true(fabs(peaks[2 * k + 1] / (double)n - im) < 1e-14);
            assert_true(fabs(again[2 * k] - x[k]) < 2e-14 && fabs(again[2 * k + 1]) < 2e-14);
        }
        emlx_tensor *all[] = {t, f, back};
        for (int a = 0; a < 3; a++) emlx_tensor_release(all[a]);
        free(x);
        free(peaks);
        free(again);
    }
}

// Two axes at once are one after the other, the second one given first.
static void two_axes(void **unused) {
    (void)unused;
    emlx_shape shape = {3, {4, 6, 5}};
    int64_t axes[] = {2, 0}, lengths[] = {7, 3};
    const emlx_attr both[] = {with_ints("axes", axes, 2), with_ints("lengths", lengths, 2)};
    for (int inverse = 0; inverse < 2; inverse++) {
        emlx_attr first[] = {with_int("axis", 0), with_int("length", 3)};
        emlx_attr second[] = {with_int("axis", 2), with_int("length", 7)};
        emlx_tensor *t = random_tensor(EMLX_F64, &shape, -9, 9);
        const char *one = inverse ? "ifft" : "fft";
        emlx_tensor *out[] = {apply_to(inverse ? "ifft2" : "fft2", &t, 1, both, 2, EMLX_C128),
                              apply_to(one, &t, 1, first, 2, EMLX_C128), NULL};
        out[2] = apply_to(one, &out[1], 1, second, 2, EMLX_C128);
        double *a = values_of(out[0]), *b = values_of(out[2]);
        assert_int_equal(emlx_tensor_shape(out[0])->dims[0], 3);
        assert_int_equal(emlx_tensor_shape(out[0])->dims[2], 7);
        for (int i = 0; i < 2 * 3 * 6 * 7; i++) assert_true(a[i] == b[i]);
        free(a);
        free(b);
        for (int i = 0; i < 3; i++) emlx_tensor_release(out[i]);
        emlx_tensor_release(t);
    }
}

static void small_parts(void **unused) {
    (void)unused;
    emlx_shape shape = {1, {4}};
    const double values[] = {1, 1, -1, -1.25};
    emlx_attr eps = {.name = "eps",
                     .kind = EMLX_ATTR_NUMBER,
                     .value = {.kind = EMLX_NUMBER_REAL, .as.f = {0.25}}};
    const double whole[] = {-0.25, 0, 2, -2.25, 0.25, 0, 2, 2.25};
    const double cut[] = {0, 0, 2, -2.25, 0, 0, 2, 2.25};
    emlx_tensor *t = tensor_of(EMLX_F64, &shape, values);
    for (int with = 0; with < 2; with++) {
        emlx_tensor *f = apply_to("fft", &t, 1, &eps, (size_t)with, EMLX_TYPE_DEFAULT);
        double *found = values_of(f);
        for (int i = 0; i < 8; i++) {
            assert_true(found[i] == (with ? cut : whole)[i]);
            assert_false(found[i] == 0 && signbit(found[i]));
        }
        emlx_tensor_release(f);
        free(found);
    }
    emlx_tensor_release(t);
}

// What depends on an infinity is infinite or NaN.
static void not_finite(void **unused) {
    (void)unused;
    for (int64_t n = 1; n <= 3; n++) {
        emlx_shape shape = {1, {n}};
        const double values[] = {INFINITY, 1, 2};
        emlx_tensor *t = tensor_of(EMLX_F64, &shape, values);
        emlx_tensor *f = apply_to("fft", &t, 1, NULL, 0, EMLX_TYPE_DEFAULT);
        double *found = values_of(f);
        if (n == 1) assert_true(found[0] == INFINITY && found[1] == 0);
        for (int64_t k = 0; k < n; k++) assert_false(isfinite(found[2 * k]));
        emlx_tensor_release(f);
        emlx_tensor_release(t);
        free(found);
    }
}

static void wrong_calls(void **unused) {
    (void)unused;
    emlx_tensor *real = random_tensor(EMLX_F32, &(emlx_shape){2, {2, 3}}, 0, 9), *out;
    emlx_tensor *twofold = random_tensor(EMLX_C64, &(emlx_shape){1, {3}}, 0, 9);
    int64_t same[] = {1, 1}, one[] = {1};
    emlx_error err;
    const struct {
        const char *op;
        emlx_tensor *in;
        emlx_attr attr;
        const char *message;
    } calls[] = {
        {"fft", real, with_int("axis", 2), "fft: axis 2 is outside of rank 2"},
        {"ifft", real, with_int("length", 0), "length 0 given for axis 1 of {2, 3}"},
        {"irfft", real, with_int("length", -4), "length -4 given"},
        {"rfft", twofold, with_int("axis", 0), "rfft"},
        {"fft2", real, with_ints("axes", same, 2), "axis 1 is given twice"},
        {"fft2", real, with_ints("axes", one, 1), "two axes and two lengths"},
        {"fft2", twofold, with_ints("lengths", same, 2), "axis -1 is outside of rank 1"},
    };
    for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
        emlx_tensor *in = calls[c].in;
        emlx_status status = emlx_apply(emlx_op_find(calls[c].op), NULL, &in, 1, &calls[c].attr, 1,
                                        EMLX_TYPE_DEFAULT, &out, &err);
        assert_true(status == EMLX_INVALID || status == EMLX_UNSUPPORTED);
        assert_error(status, err.code, err, calls[c].message);
    }
    emlx_tensor_release(real);
    emlx_tensor_release(twofold);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_length),     cmocka_unit_test(many_lines),
        cmocka_unit_test(axes_and_batches), cmocka_unit_test(long_lines),
        cmocka_unit_test(two_axes),         cmocka_unit_test(small_parts),
        cmocka_unit_test(not_finite),       cmocka_unit_test(wrong_calls),
    };
    draw_seed(13);
    return RUN_ON_CPU("ops/fft", tests);
}
