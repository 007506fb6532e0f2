// SPDX-License-Identifier: Apache-2.0
// epilogues_test.c - what follows a product, computed with it and apart, gives what the CPU gives.
// All sums of products are exact here, so that results are the same to the bit but where numbers of
// two bytes are rounded once rather than at each op; those say whether the library did it. Needs a
// device with cuBLASLt; without one the test says that it is skipped.
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "engines/cuda/sums.h"

static emlx_device *gpu;

// The exact result, rounded once.
static double *rounded_once(emlx_type type, form f, const size *s, const leaves *l) {
    double *exact = computed_on(host, EMLX_F64, f, s, l);
    emlx_shape shape = f == EACH && s->batch == 0 ? (emlx_shape){3, {1, s->rows, s->columns}}
                                                  : matrix_shape(s, s->rows, s->columns);
    test_device = host;
    emlx_tensor *t = tensor_of(type, &shape, exact);
    double *numbers = download(t);
    emlx_tensor_release(t);
    free(exact);
    return numbers;
}

// Comparing ---------------------------------------------------------------------------------------

static int64_t first_difference(const double *a, const double *b, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (a[i] != b[i]) return i;
    return -1;
}

// How far apart results are at most, in spacings of the largest one of a type of two bytes.
static double spacings(emlx_type type, const double *a, const double *b, int64_t count) {
    double most = 0, apart = 0;
    for (int64_t i = 0; i < count; i++) {
        most = fmax(most, fabs(b[i]));
        apart = fmax(apart, fabs(a[i] - b[i]));
    }
    return apart / (ldexp(1, type == EMLX_BF16 ? -7 : -10) * most);
}

static int failures;
static int told[EMLX_TYPE_COUNT][2]; // results that say that they were computed apart, or with it

static void tell(const char *what, emlx_type type, form f, const size *s) {
    printf("%s: %s of %s, %lld x %lld x %lld x %lld%s%s", what, form_names[f], emlx_type_name(type),
           (long long)s->batch, (long long)s->rows, (long long)s->terms, (long long)s->columns,
           s->left ? ", left transposed" : "", s->right ? ", right transposed" : "");
}

// Of a single row a vector is a tensor of the result's shape, and of a single matrix one of each
// is.
static bool may_join(emlx_type type, form f, const size *s) {
    bool narrow = emlx_type_size(type) == 2;
    bool same = s->rows == 1 || (f == EACH && s->batch == 0) || (f == COLUMN && s->columns == 1);
    return form_is_asked(type, f) || (narrow && same);
}

static void check(emlx_type type, form f, const size *s, const leaves *l, bool joins) {
    emlx_shape shape = matrix_shape(s, s->rows, s->columns);
    int64_t count = number_count(type, &shape);
    double *result = computed_on(gpu, type, f, s, l), *twice = computed_on(host, type, f, s, l);
    double *once = joins && emlx_type_size(type) == 2 ? rounded_once(type, f, s, l) : NULL;
    int64_t off = first_difference(result, twice, count);
    int64_t off_once = once != NULL ? first_difference(result, once, count) : off;
    bool says = once != NULL && first_difference(once, twice, count) >= 0 && form_is_asked(type, f);
    if (says && (off >= 0) != (off_once >= 0)) {
        told[type][off_once < 0]++;
        if (off_once >= 0) tell("apart", type, f, s), printf("\n");
    }
    // Of odd sizes the library rounds between what it adds, as a plan would, but not after each.
    bool between = once != NULL && spacings(type, result, once, count) <= 1;
    if (off >= 0 && ((off_once >= 0 && !between) || !may_join(type, f, s))) {
        failures++;
        tell("WRONG", type, f, s);
        printf(": element %lld is %.17g, not %.17g%s", (long long)off, result[off], twice[off],
               joins ? "" : ", with EMLX_CUDA_EPILOGUES=0");
        if (once != NULL) printf(" (rounded once %.17g)", once[off]);
        if (once != NULL && off_once >= 0)
            printf("; element %lld is %.17g, rounded once %.17g, at each op %.17g",
                   (long long)off_once, result[off_once], once[off_once], twice[off_once]);
        printf("\n");
    }
    free(result);
    free(twice);
    free(once);
}

static void check_all(emlx_type type, bool joins) {
    static const size sizes[] = {
        {0, 256, 256, 256, false, false}, {0, 64, 512, 96, false, false},
        {0, 1, 768, 2304, false, false},  {0, 1, 768, 2304, false, true},
        {0, 512, 64, 1, false, false},    {0, 37, 129, 61, false, false},
        {0, 128, 128, 128, true, false},  {0, 100, 72, 40, true, true},
        {0, 33, 65, 31, false, true},     {4, 48, 64, 80, false, false},
        {3, 17, 40, 23, false, true},     {5, 64, 64, 64, true, false},
        {2, 1, 200, 120, false, false},   {0, 8, 1024, 1000, false, false}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const size *s = &sizes[i];
        leaves l = draw_leaves(type, s);
        for (form f = 0; f < FORMS; f++) {
            bool square = s->terms == s->columns && !s->left;
            if (f == OPERAND && !square) continue;
            check(type, f, s, &l, joins);
        }
        free_leaves(&l);
    }
}

static void open_gpu(const char *epilogues) {
    emlx_error err;
    setenv("EMLX_CUDA_EPILOGUES", epilogues, 1);
    assert_ok(emlx_device_open("cuda:0", &gpu, &err), err);
}

static void test_all_forms(void **state) {
    (void)state;
    static const emlx_type types[] = {EMLX_F32, EMLX_F64, EMLX_F16, EMLX_BF16, EMLX_S32, EMLX_C64};
    failures = 0;
    for (int joins = 0; joins < 2; joins++) {
        open_gpu(joins == 1 ? "1" : "0");
        draw_seed(3);
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) check_all(types[i], joins == 1);
        emlx_device_release(gpu);
    }
    for (emlx_type t = 0; t < EMLX_TYPE_COUNT; t++)
        if (told[t][0] + told[t][1] > 0)
            printf("%s: %d results were rounded once, %d at each op\n", emlx_type_name(t),
                   told[t][1], told[t][0]);
    assert_int_equal(failures, 0);
}

// Wherever the library is a recent one it takes a vector and a tensor of the result's shape.
static void test_the_library_does_it(void **state) {
    (void)state;
    const size s = {0, 256, 256, 256, false, false};
    static const form forms[] = {VECTOR, RESIDUAL, BOTH, SCALED_VECTOR};
    open_gpu("1");
    static const emlx_type types[] = {EMLX_F16, EMLX_BF16};
    for (int t = 0; t < 2; t++) {
        emlx_type type = types[t];
        draw_seed(9);
        leaves l = draw_leaves(type, &s);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            double *result = computed_on(gpu, type, forms[i], &s, &l);
            double *once = rounded_once(type, forms[i], &s, &l);
            int64_t off = first_difference(result, once, s.rows * s.columns);
            if (off >= 0)
                fail_msg("%s of %s: element %lld is %g, rounded once %g", form_names[forms[i]],
                         emlx_type_name(type), (long long)off, result[off], once[off]);
            free(result);
            free(once);
        }
        free_leaves(&l);
    }
    emlx_device_release(gpu);
}

// Again -------------------------------------------------------------------------------------------

// The same plan with other vectors, other tensors and other scales each time: as launches at first,
// then as graphs.
static void repeat(uint64_t seed, int times) {
    enum { SETS = 6 };
    static const form forms[] = {VECTOR, RESIDUAL, SCALED_VECTOR, BOTH};
    const size s = {0, 64, 64, 64, false, false};
    leaves l[SETS];
    double *expected[SETS][4];
    draw_seed(seed);
    for (int i = 0; i < SETS; i++) {
        l[i] = draw_leaves(EMLX_BF16, &s);
        for (int f = 0; f < 4; f++) expected[i][f] = rounded_once(EMLX_BF16, forms[f], &s, &l[i]);
    }
    for (int n = 0; n < times; n++) {
        int set = n * 5 % SETS, f = n / SETS % 4;
        double *result = computed_on(gpu, EMLX_BF16, forms[f], &s, &l[set]);
        int64_t off = first_difference(result, expected[set][f], s.rows * s.columns);
        if (off >= 0)
            fail_msg("%s the %d. time: element %lld is %g, not %g", form_names[forms[f]], n,
                     (long long)off, result[off], expected[set][f][off]);
        free(result);
    }
    for (int i = 0; i < SETS; i++) {
        for (int f = 0; f < 4; f++) free(expected[i][f]);
        free_leaves(&l[i]);
    }
}

static void test_again_and_again(void **state) {
    (void)state;
    open_gpu("1");
    repeat(21, 600);
    emlx_device_release(gpu);
}

// One plan on several threads, each with a vector of its own.
enum { THREADS = 4, TURNS = 200, EDGE = 64 };

typedef struct worker {
    pthread_t thread;
    emlx_tensor *matrix, *vector;
    double at;
    const char *wrong;
} worker;

static void *work(void *context) {
    worker *w = context;
    const int64_t last = 1, first = 0;
    const emlx_attr attrs[] = {
        with_ints("contract_left", &last, 1), with_ints("batch_left", NULL, 0),
        with_ints("contract_right", &first, 1), with_ints("batch_right", NULL, 0)};
    for (int n = 0; n < TURNS && w->wrong == NULL; n++) {
        emlx_error err;
        float data[EDGE * EDGE];
        emlx_tensor *p, *sum;
        emlx_tensor *in[] = {w->matrix, w->matrix};
        bool done = emlx_apply(emlx_op_find("dot"), gpu, in, 2, attrs, 4, EMLX_TYPE_DEFAULT, &p,
                               &err) == EMLX_OK;
        emlx_tensor *both[] = {p, w->vector};
        done = done && emlx_apply(emlx_op_find("add"), gpu, both, 2, NULL, 0, EMLX_TYPE_DEFAULT,
                                  &sum, &err) == EMLX_OK;
        if (done) emlx_tensor_release(p);
        done = done && emlx_tensor_read(sum, 0, data, sizeof data, &err) == EMLX_OK;
        if (!done) w->wrong = "an error";
        for (int i = 0; i < EDGE * EDGE && done; i++)
            if (data[i] != (float)(EDGE + w->at)) w->wrong = "another's vector";
        if (done) emlx_tensor_release(sum);
    }
    return NULL;
}

static void test_threads(void **state) {
    (void)state;
    worker workers[THREADS];
    double ones[EDGE * EDGE];
    for (int i = 0; i < EDGE * EDGE; i++) ones[i] = 1;
    values matrix = {{2, {EDGE, EDGE}}, ones};
    open_gpu("1");
    test_device = gpu;
    for (int i = 0; i < THREADS; i++) {
        double numbers[EDGE];
        for (int n = 0; n < EDGE; n++) numbers[n] = i + 1;
        values vector = {{1, {EDGE}}, numbers};
        workers[i] = (worker){
            .matrix = upload(EMLX_F32, &matrix), .vector = upload(EMLX_F32, &vector), .at = i + 1};
    }
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    for (int i = 0; i < THREADS; i++) pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) {
        if (workers[i].wrong != NULL) fail_msg("thread %d got %s", i, workers[i].wrong);
        emlx_tensor_release(workers[i].matrix);
        emlx_tensor_release(workers[i].vector);
    }
    emlx_device_release(gpu);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_forms), cmocka_unit_test(test_the_library_does_it),
        cmocka_unit_test(test_again_and_again), cmocka_unit_test(test_threads)};
    char text[4096];
    if (!open_gpu_or_skip("engines/cuda/epilogues")) return 0;
    emlx_device_describe(test_device, text, sizeof text);
    emlx_device_release(test_device);
    if (strstr(text, "products: cuBLASLt") != NULL) {
        printf("skipped: engines/cuda/epilogues, as cuBLASLt is missing\n1 skipped\n");
        return 0;
    }
    emlx_error err;
    if (emlx_device_open("cpu", &host, &err) != EMLX_OK) return 1;
    int failed = cmocka_run_group_tests_name("engines/cuda/epilogues", tests, NULL, NULL);
    emlx_device_release(host);
    return failed;
}
