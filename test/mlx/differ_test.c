// SPDX-License-Identifier: Apache-2.0
// differ_test.c - random programs, ours against MLX: each is built on both devices, on MLX's as one
// graph, and some of its values are compared; on MLX's CPU and on its GPU, where there are. MLX is
// what EMLX_MLX_ADAPTER names, or the adapter of plain loops. EMLX_DIFFER_PROGRAMS says how many
// (2,000), EMLX_DIFFER_SEED which one is first; of one that differs the whole text is printed, with
// EMLX_DIFFER_DATA its leaves as well.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/types.h"
#include "mlx/programs.h"

static emlx_device *ours, *theirs;

static int close_devices(void **state) {
    (void)state;
    emlx_device_release(ours);
    if (theirs != NULL) emlx_device_release(theirs);
    return 0;
}

// Comparing -------------------------------------------------------------------------------------

// How far two rough values may be apart, as a share of the largest number on the way.
static double share(const program_value *v) { return ldexp(64, -v->digits); }

static bool same_number(double x, double y, bool rough, double apart) {
    if (isnan(x) || isnan(y)) return isnan(x) && isnan(y);
    if (x == y) return rough || signbit(x) == signbit(y);
    return rough && fabs(x - y) <= apart;
}

static bool same_element(const program_value *v, emlx_number x, emlx_number y) {
    emlx_type type = emlx_tensor_type(v->ours);
    if (type_is_integer(type)) return x.as.u == y.as.u;
    double apart = v->scale * share(v);
    return same_number(x.as.f[0], y.as.f[0], v->rough, apart) &&
           (!type_is_complex(type) || same_number(x.as.f[1], y.as.f[1], v->rough, apart));
}

static int differing; // programs; the first few are printed

static void note(const program *p, unsigned seed, const char *what) {
    if (differing++ > 4) return;
    fprintf(stderr, "program %u: %s\n%s", seed, what, p->text); // cmocka cuts long texts
}

static void number_text(emlx_number n, char *out, size_t size) {
    if (n.kind <= EMLX_NUMBER_UNSIGNED)
        snprintf(out, size, "%lld", (long long)n.as.s);
    else
        snprintf(out, size, n.kind == EMLX_NUMBER_REAL ? "%.17g" : "%.9g:%.9g", n.as.f[0],
                 n.as.f[1]);
}

static void compare(const program *p, unsigned seed, const program_value *v) {
    emlx_type type = emlx_tensor_type(v->ours);
    size_t count = emlx_tensor_bytes(v->ours) / type_size(type);
    const unsigned char *a, *b;
    char what[200];
    emlx_error err;
    assert_ok(emlx_tensor_data(v->ours, (const void **)&a, &err), err);
    assert_ok(emlx_tensor_data(v->theirs, (const void **)&b, &err), err);
    for (size_t i = 0; i < count; i++, a += type_size(type), b += type_size(type)) {
        emlx_number x = type_load(type, a), y = type_load(type, b);
        if (same_element(v, x, y)) continue;
        char a_text[64], b_text[64];
        number_text(x, a_text, sizeof a_text);
        number_text(y, b_text, sizeof b_text);
        snprintf(what, sizeof what, "v%d, element %zu is %s, %s with MLX", (int)(v - p->values), i,
                 a_text, b_text);
        note(p, seed, what);
        return;
    }
}

// Programs --------------------------------------------------------------------------------------

// Errors have to be the same ones.
static bool evaluated(const program *p, unsigned seed, const int *chosen, size_t count) {
    emlx_tensor *a[PROGRAM_VALUES], *b[PROGRAM_VALUES];
    emlx_error our_error, their_error;
    for (size_t i = 0; i < count; i++) {
        a[i] = p->values[chosen[i]].ours;
        b[i] = p->values[chosen[i]].theirs;
    }
    emlx_status our = emlx_eval(a, count, &our_error), their = emlx_eval(b, count, &their_error);
    if (our == EMLX_OK && their == EMLX_OK) return true;
    if (our != their) note(p, seed, our != EMLX_OK ? our_error.message : their_error.message);
    return false;
}

static void run_programs(program_kind kind) {
    if (theirs == NULL) skip();
    const char *count_text = getenv("EMLX_DIFFER_PROGRAMS"), *first = getenv("EMLX_DIFFER_SEED");
    unsigned count = count_text != NULL ? (unsigned)atoi(count_text) : 2000;
    differing = 0;
    unsigned seed = first != NULL ? (unsigned)atoi(first) : 1;
    for (unsigned end = seed + count; seed < end; seed++) {
        int chosen[4];
        program p = {.ours = ours, .theirs = theirs, .kind = kind};
        draw_seed(seed);
        program_build(&p, 4 + (int)draw(16));
        size_t picked = 1 + draw(4);
        for (size_t i = 0; i < picked; i++)
            chosen[i] = i == 0 ? p.count - 1 : (int)draw((uint32_t)p.count);
        if (evaluated(&p, seed, chosen, picked))
            for (size_t i = 0; i < picked; i++) compare(&p, seed, &p.values[chosen[i]]);
        program_clear(&p);
    }
    if (differing > 0) fail_msg("%d programs differ", differing);
}

// What MLX computes in fewer digits than we promise is the host's.
static void test_exact(void **state) {
    (void)state;
    run_programs(PROGRAM_EXACT);
}

static void test_all_functions(void **state) {
    (void)state;
    run_programs(PROGRAM_ROUGH);
}

// What no memory is there for is an error; and what tensors take is counted while they live.
static void test_memory(void **state) {
    (void)state;
    emlx_error err;
    emlx_memory before, after;
    emlx_tensor *t;
    int64_t huge[] = {1000000, 1000000, 4}, some[] = {1000, 250};
    emlx_attr shape = with_ints("shape", huge, 3);
    void *promised = malloc(16000000000000); // where the system promises anything no error is due
    free(promised);
    if (theirs == NULL || promised != NULL) skip();
    const emlx_op *iota = emlx_op_find("iota");
    assert_ok(emlx_apply(iota, theirs, NULL, 0, &shape, 1, EMLX_F32, &t, &err), err);
    assert_error(emlx_eval(&t, 1, &err), EMLX_OUT_OF_MEMORY, err, "no memory for");
    emlx_tensor_release(t);
    shape = with_ints("shape", some, 2);
    emlx_memory_info(&before);
    assert_ok(emlx_apply(iota, theirs, NULL, 0, &shape, 1, EMLX_F32, &t, &err), err);
    assert_ok(emlx_eval(&t, 1, &err), err);
    emlx_memory_info(&after);
    assert_int_equal(after.active - before.active, 1000000);
    emlx_tensor_release(t);
    emlx_memory_info(&after);
    assert_int_equal(after.active, before.active);
    emlx_memory_clear_cache();
}

// A limit holds for what MLX makes, and what was refused leaves nothing behind.
static void test_limit(void **state) {
    (void)state;
    emlx_error err;
    emlx_memory before, after;
    emlx_tensor *t;
    int64_t some[] = {1000, 2500};
    emlx_attr shape = with_ints("shape", some, 2);
    if (theirs == NULL) skip();
    emlx_memory_clear_cache();
    emlx_memory_info(&before);
    uint64_t limit = emlx_memory_set_limit(before.active + 1000000);
    const emlx_op *iota = emlx_op_find("iota");
    assert_ok(emlx_apply(iota, theirs, NULL, 0, &shape, 1, EMLX_F32, &t, &err), err);
    assert_error(emlx_eval(&t, 1, &err), EMLX_OUT_OF_MEMORY, err, "no memory for");
    emlx_memory_set_limit(limit);
    emlx_tensor_release(t);
    emlx_memory_info(&after);
    assert_int_equal(after.active, before.active);
    assert_ok(emlx_apply(iota, theirs, NULL, 0, &shape, 1, EMLX_F32, &t, &err), err);
    assert_ok(emlx_eval(&t, 1, &err), err);
    emlx_tensor_release(t);
    emlx_memory_clear_cache();
}

// What leaves f32's range on its way comes back as it does on our engine, also without f64.
static void test_products(void **state) {
    (void)state;
    const float numbers[] = {1e30f, 1e30f, 1e-30f};
    const emlx_shape three = {1, {3}};
    const int64_t window[] = {3};
    const emlx_attr axis = with_int("axis", 0), size = with_ints("window", window, 1);
    const struct {
        const char *op;
        const emlx_attr *attr;
        size_t count, last;
    } ops[] = {{"product", NULL, 0, 0},
               {"cumulative_product", &axis, 1, 2},
               {"window_product", &size, 1, 0}};
    if (theirs == NULL) skip();
    for (int i = 0; i < 3; i++) {
        emlx_tensor *t;
        emlx_error err;
        test_device = theirs;
        assert_ok(
            emlx_tensor_from_data(theirs, EMLX_F32, &three, numbers, sizeof numbers, &t, &err),
            err);
        emlx_tensor *y = apply_to(ops[i].op, &t, 1, ops[i].attr, ops[i].count, EMLX_TYPE_DEFAULT);
        double *values = values_of(y), found = values[ops[i].last];
        if (!(fabs(found - 1e30) < 1e24)) fail_msg("%s gives %g", ops[i].op, found);
        free(values);
        emlx_tensor_release(t);
        emlx_tensor_release(y);
    }
}

// A device that is not there leaves its tests out.
static int open_devices(const char *name, bool exact) {
    emlx_error err;
    if (exact)
        setenv("EMLX_MLX_EXACT", "1", 1);
    else
        unsetenv("EMLX_MLX_EXACT");
    assert_ok(emlx_device_open("cpu", &ours, &err), err);
    if (emlx_device_open(name, &theirs, &err) != EMLX_OK) theirs = NULL;
    return 0;
}

static int open_cpu_exact(void **state) {
    (void)state;
    return open_devices("mlx-cpu", true);
}
static int open_cpu(void **state) {
    (void)state;
    return open_devices("mlx-cpu", false);
}
static int open_gpu_exact(void **state) {
    (void)state;
    return open_devices("mlx", true);
}
static int open_gpu(void **state) {
    (void)state;
    return open_devices("mlx", false);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, open_cpu_exact, close_devices),
        cmocka_unit_test_setup_teardown(test_all_functions, open_cpu, close_devices),
        cmocka_unit_test_setup_teardown(test_memory, open_cpu, close_devices),
        cmocka_unit_test_setup_teardown(test_limit, open_cpu, close_devices),
        cmocka_unit_test_setup_teardown(test_products, open_cpu, close_devices),
        cmocka_unit_test_setup_teardown(test_products, open_gpu, close_devices),
        cmocka_unit_test_setup_teardown(test_exact, open_gpu_exact, close_devices),
        cmocka_unit_test_setup_teardown(test_all_functions, open_gpu, close_devices),
    };
    use_plain_mlx(argc > 0 ? argv[0] : "");
    return RUN_TESTS("mlx/differ", tests);
}
