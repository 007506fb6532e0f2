// SPDX-License-Identifier: Apache-2.0
// kernels_test.c - every kind of generated kernel, of every type it is for, is accepted by NVIDIA's
// compiler for several architectures. Needs the compiler and no GPU: kernels are rehearsed, that is
// compiled, and computed by the CPU engine. Without the compiler the test says that it is skipped.
// EMLX_TEST_ALL=1 takes all types instead of a few.
#include <stdio.h>
#include <stdlib.h>

#include "base/sanitize.h"
#include "engine.h"
#include "engines/cuda/device.h"
#include "engines/cuda/driver/nvrtc.h"
#include "tensors.h"

// A sanitizer looks at our side only, which is the same for all.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
static const char *const architectures[] = {"90"};
#else
static const char *const architectures[] = {"80", "90", "100"};
#endif

// What is compiled counts as never written where the compiler was built without the sanitizer.
#if defined(SANITIZE_MEMORY)
static const char *const why_not = "the compiler was built without the sanitizer";
#else
static const char *const why_not = NULL;
#endif

static const emlx_type few_types[] = {EMLX_U4, EMLX_S64, EMLX_BF16, EMLX_F32, EMLX_C64};

static bool wants_all(void) { return getenv("EMLX_TEST_ALL") != NULL; }

static bool is_wanted(emlx_type type) {
    bool wanted = wants_all();
    for (size_t i = 0; i < sizeof few_types / sizeof *few_types; i++)
        wanted |= few_types[i] == type;
    return wanted;
}

// A rehearsed device as the test's own.
static int open_rehearsal(void **state) {
    emlx_error err;
    setenv("EMLX_CUDA_REHEARSE", *state, 1);
    setenv("EMLX_CUDA_CACHE", "", 1);
    assert_ok(emlx_device_open("cuda:0", &test_device, &err), err);
    return 0;
}

static int close_rehearsal(void **state) {
    (void)state;
    emlx_device_release(test_device);
    return 0;
}

// Computes a tensor, and with it makes its kernels.
static void compute_one(emlx_tensor *t) {
    emlx_error err;
    assert_ok(emlx_eval(&t, 1, &err), err);
    emlx_tensor_release(t);
}

static emlx_tensor *matrix(emlx_type type, int64_t rows, int64_t columns) {
    emlx_shape shape = {2, {rows, columns}};
    return random_tensor(type, &shape, 0, 3);
}

static emlx_tensor *unit_matrix(emlx_type type, int64_t side) {
    const int64_t dims[] = {side, side};
    emlx_attr shape = with_ints("shape", dims, 2);
    emlx_tensor *t = apply_to("eye", NULL, 0, &shape, 1, type);
    emlx_error err;
    assert_ok(emlx_eval(&t, 1, &err), err);
    return t;
}

static void make_unary(const char *op, emlx_tensor *x) {
    compute_one(apply_to(op, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT));
}

// The expression of one element: plain, in vectors and in tiles.
static void make_maps(emlx_type type) {
    static const int64_t swapped[] = {1, 0};
    static const int64_t sides[] = {3, 512};
    for (int i = 0; i < 2; i++) {
        emlx_tensor *x = matrix(type, sides[i], sides[i] * 2);
        emlx_attr axes = with_ints("axes", swapped, 2);
        compute_one(apply_to("add", (emlx_tensor *[]){x, x}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
        compute_one(apply_to("transpose", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT));
        for (int to = 0; to < EMLX_TYPE_COUNT && i == 0; to++)
            if (is_wanted((emlx_type)to)) compute_one(as_type(x, (emlx_type)to));
        emlx_tensor_release(x);
    }
}

// Folds along rows and columns: by a thread, a warp, a block, and in pieces.
static void make_folds(emlx_type type) {
    static const int64_t rows[] = {3, 4096, 2}, columns[] = {40, 256, 40000};
    for (int i = 0; i < 3; i++) {
        emlx_tensor *x = matrix(type, rows[i], columns[i]);
        for (int64_t axis = 0; axis < 2; axis++) {
            emlx_attr axes = with_ints("axes", &axis, 1), one = with_int("axis", axis);
            compute_one(apply_to("sum", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT));
            if (type >= EMLX_C64) continue;
            compute_one(apply_to("reduce_max", &x, 1, &axes, 1, EMLX_TYPE_DEFAULT));
            compute_one(apply_to("argmax", &x, 1, &one, 1, EMLX_TYPE_DEFAULT));
        }
        emlx_tensor_release(x);
    }
}

static void make_ordered(emlx_type type) {
    static const int64_t lengths[] = {5, 600, 5000, 20000}, rows[] = {2, 400, 2, 2};
    for (int i = 0; i < 4 && type < EMLX_C64; i++) {
        emlx_tensor *x = matrix(type, rows[i], lengths[i]);
        for (int64_t axis = 0; axis < 2; axis++) {
            emlx_attr one = with_int("axis", axis);
            compute_one(apply_to("sort", &x, 1, &one, 1, EMLX_TYPE_DEFAULT));
            compute_one(apply_to("argsort", &x, 1, &one, 1, EMLX_TYPE_DEFAULT));
            compute_one(apply_to("cumulative_sum", &x, 1, &one, 1, EMLX_TYPE_DEFAULT));
        }
        emlx_tensor_release(x);
    }
}

// Windows beyond the operand, whose results are those of the padded one. The host computes both
// here, the first ones element by element.
static void make_windows(emlx_type type) {
    static const int64_t window[] = {2, 3}, strides[] = {1, 2}, low_high[] = {1, 1, 0, 2};
    static const int64_t zeros[] = {1, 1, 0, 0, 2, 0};
    static const char *const ops[] = {"window_max", "window_sum"};
    emlx_attr attrs[] = {with_ints("window", window, 2), with_ints("strides", strides, 2),
                         with_ints("padding", low_high, 4)};
    emlx_attr pads = with_ints("padding", zeros, 6);
    emlx_shape shape = {2, {6, 9}}, scalar = {0, {0}};
    if (type >= EMLX_C64) return;
    emlx_tensor *in[] = {random_tensor(type, &shape, 0, 1),
                         tensor_of(type, &scalar, (double[]){0})};
    emlx_tensor *padded = apply_to("pad", in, 2, &pads, 1, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 2; i++) {
        emlx_tensor *a = apply_to(ops[i], in, 1, attrs, 3, EMLX_TYPE_DEFAULT);
        emlx_tensor *b = apply_to(ops[i], &padded, 1, attrs, 2, EMLX_TYPE_DEFAULT);
        double *found = values_of(a), *wanted = values_of(b);
        assert_int_equal(number_count(emlx_tensor_type(a), emlx_tensor_shape(a)), 7 * 5);
        for (int n = 0; n < 7 * 5; n++) assert_true(found[n] == wanted[n]);
        free(found);
        free(wanted);
        emlx_tensor_release(a);
        emlx_tensor_release(b);
    }
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    emlx_tensor_release(padded);
}

static void make_indexed(emlx_type type) {
    static const int64_t first[] = {0};
    emlx_tensor *x = matrix(type, 6, 8), *indices = matrix(EMLX_S64, 4, 1);
    emlx_tensor *updates = matrix(type, 4, 8), *operands[] = {x, indices, updates};
    emlx_attr axes = with_ints("axes", first, 1);
    compute_one(apply_to("gather", operands, 2, &axes, 1, EMLX_TYPE_DEFAULT));
    compute_one(apply_to("indexed_add", operands, 3, &axes, 1, EMLX_TYPE_DEFAULT));
    compute_one(apply_to("indexed_put", operands, 3, &axes, 1, EMLX_TYPE_DEFAULT));
    emlx_tensor_release(x);
    emlx_tensor_release(indices);
    emlx_tensor_release(updates);
}

static void make_products(emlx_type type) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_attr attrs[] = {with_ints("contract_left", left, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", right, 1), with_ints("batch_right", NULL, 0)};
    emlx_shape image = {4, {1, 2, 5, 5}}, kernel = {4, {2, 2, 3, 3}};
    emlx_tensor *a = matrix(type, 3, 5), *b = matrix(type, 5, 4);
    emlx_tensor *c = random_tensor(type, &image, 0, 3), *d = random_tensor(type, &kernel, 0, 3);
    compute_one(apply_to("dot", (emlx_tensor *[]){a, b}, 2, attrs, 4, EMLX_TYPE_DEFAULT));
    compute_one(apply_to("conv", (emlx_tensor *[]){c, d}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    emlx_tensor_release(c);
    emlx_tensor_release(d);
}

// Few rows of queries, whose keys are split, and many; plain, and with all that hides scores.
static void make_attention(emlx_type type) {
    static const int64_t sizes[] = {5, 64, 80, 96, 128, 256}, queries[] = {1, 30};
    for (int i = 0; i < 12; i++) {
        int64_t size = sizes[i / 2], keys = i % 2 == 0 ? 300 : 50;
        emlx_shape q = {4, {1, 4, queries[i % 2], size}}, k = {4, {1, 2, keys, size}};
        emlx_shape mask = {2, {queries[i % 2], keys}}, seen = {2, {1, keys}}, sinks = {1, {4}};
        emlx_tensor *in[] = {
            random_tensor(type, &q, -1, 1),      random_tensor(type, &k, -1, 1),
            random_tensor(type, &k, -1, 1),      random_tensor(EMLX_F32, &mask, 0, 1),
            random_tensor(EMLX_U8, &seen, 0, 1), random_tensor(EMLX_F32, &sinks, 0, 1)};
        emlx_attr attrs[] = {
            {.name = "scale", .kind = EMLX_ATTR_NUMBER, .value = {EMLX_NUMBER_REAL, {.f = {1}}}},
            with_bool("causal", true),
            with_bool("mask", true),
            with_bool("key_mask", true),
            with_bool("sinks", true)};
        compute_one(apply_to("attention", in, 3, attrs, 1, EMLX_TYPE_DEFAULT));
        compute_one(apply_to("attention", in, 3, attrs, 2, EMLX_TYPE_DEFAULT));
        compute_one(apply_to("attention", in, 6, attrs, 5, EMLX_TYPE_DEFAULT));
        for (int n = 0; n < 6; n++) emlx_tensor_release(in[n]);
    }
}

static void make_all(const char *op, emlx_tensor *x) {
    emlx_tensor *out[EMLX_MAX_RESULTS] = {NULL};
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find(op), test_device, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, out, &err),
        err);
    for (size_t i = 0; i < EMLX_MAX_RESULTS && out[i] != NULL; i++) compute_one(out[i]);
}

// Linear algebra in shared memory and beyond it, and transforms.
static void make_routines(emlx_type type) {
    static const char *const factors[] = {"cholesky", "determinant", "lu", "qr", "eigh", "svd"};
    static const char *const transforms[] = {"fft", "ifft", "rfft", "irfft"};
    static const int64_t sides[] = {4, 50, 100};
    for (int i = 0; i < 3; i++) {
        emlx_tensor *x = matrix(type, sides[i], sides[i]), *id = unit_matrix(type, sides[i]);
        compute_one(apply_to("solve", (emlx_tensor *[]){id, x}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
        compute_one(
            apply_to("triangular_solve", (emlx_tensor *[]){id, x}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
        for (int f = 0; f < (type == EMLX_C64 || type == EMLX_C128 ? 5 : 6); f++)
            make_all(factors[f], x);
        for (int f = 0; f < 4; f++)
            if (f != 2 || type < EMLX_C64) make_unary(transforms[f], x);
        emlx_tensor_release(x);
        emlx_tensor_release(id);
    }
}

// All functions of one number for the types in which they are computed.
static void make_functions(emlx_type type) {
    static const char *const names[] = {"exp",  "log1p", "sigmoid", "tan",  "tanh",
                                        "asin", "acosh", "cbrt",    "sqrt", "sign",
                                        "acos", "atan",  "log",     "expm1"};
    static const char *const real[] = {"erf", "erfc", "erf_inv", "round"};
    emlx_tensor *x = matrix(type, 3, 5);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) make_unary(names[i], x);
    for (size_t i = 0; i < 4 && type < EMLX_C64; i++) make_unary(real[i], x);
    compute_one(apply_to("pow", (emlx_tensor *[]){x, x}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
    compute_one(apply_to("divide", (emlx_tensor *[]){x, x}, 2, NULL, 0, EMLX_TYPE_DEFAULT));
    emlx_tensor_release(x);
}

static void test_all_kinds(void **state) {
    (void)state;
    emlx_error err;
    gpu *g = test_device->state;
    for (int t = 0; t < EMLX_TYPE_COUNT; t++) {
        emlx_type type = (emlx_type)t;
        if (!is_wanted(type)) continue;
        make_maps(type);
        make_folds(type);
        make_ordered(type);
        make_indexed(type);
        make_windows(type);
        make_products(type);
        if (type == EMLX_F32 || type == EMLX_F16 || type == EMLX_BF16) make_attention(type);
        if (type < EMLX_F32) continue;
        make_functions(type);
        make_routines(type);
    }
    store_counts before = store_count(g->store);
    assert_ok(store_finish(g->store, g->threads, &err), err);
    store_counts counts = store_count(g->store);
    // What was left is more than one thread's work.
    if (counts.compiled - before.compiled >= 8 && pool_threads(g->threads) > 1)
        assert_true(counts.programs - before.programs > 1);
    printf("%llu kernels for sm_%d%d in %.1f s\n", (unsigned long long)counts.compiled, g->major,
           g->minor, counts.seconds);
    assert_true(counts.compiled > (wants_all() ? 500 : 100));
}

// What only a GPU has is an error there.
static void test_no_addresses(void **state) {
    (void)state;
    emlx_error err;
    emlx_tensor *x = matrix(EMLX_F32, 2, 3), *there;
    const emlx_shape shape = {1, {2}};
    uint64_t address;
    assert_error(emlx_tensor_address(x, &address, &err), EMLX_UNSUPPORTED, err, "rehearsed");
    assert_error(emlx_tensor_from_address(test_device, EMLX_F32, &shape, 4096, &there, &err),
                 EMLX_UNSUPPORTED, err, "rehearsed");
    emlx_tensor_release(x);
}

int main(void) {
    emlx_error err;
    int failed = 0;
    if (why_not != NULL || nvrtc_open(&err) != EMLX_OK) {
        printf("engines/cuda/kernels: skipped: %s\n1 skipped\n",
               why_not != NULL ? why_not : err.message);
        return 0;
    }
    for (size_t i = 0; i < sizeof architectures / sizeof *architectures; i++) {
        void *architecture = (void *)architectures[i];
        const struct CMUnitTest tests[] = {
            {"all kinds", test_all_kinds, open_rehearsal, close_rehearsal, architecture},
            {"no addresses", test_no_addresses, open_rehearsal, close_rehearsal, architecture}};
        failed |= cmocka_run_group_tests_name("engines/cuda/kernels", tests, NULL, NULL);
    }
    return failed;
}
