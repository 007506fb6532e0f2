// SPDX-License-Identifier: Apache-2.0
// cancel_test.c - one long kernel ends early when nobody wants its result any more, and others have
// their turn while it runs.
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ending.h"
#include "tensors.h"

static void take_end(void *context, emlx_status status, const emlx_error *err) {
    (void)err;
    end_come(context, status);
}

static emlx_tensor *made(int rank, int64_t rows, int64_t columns) {
    emlx_shape s = {rank, {rows, columns}};
    return random_tensor(EMLX_F32, &s, 0, 1);
}

static emlx_tensor *then_apply(emlx_tensor *x, const char *op, const emlx_attr *attrs,
                               size_t count) {
    emlx_tensor *out = apply_to(op, &x, 1, attrs, count, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return out;
}

static emlx_tensor *product(void) {
    enum { SIDE = 4000 };
    int64_t zero = 0, one = 1;
    emlx_attr attrs[4] = {with_ints("contract_left", &one, 1),
                          with_ints("contract_right", &zero, 1), with_ints("batch_left", NULL, 0),
                          with_ints("batch_right", NULL, 0)};
    emlx_tensor *x = made(2, SIDE, SIDE), *in[2] = {x, x};
    emlx_tensor *out = apply_to("dot", in, 2, attrs, 4, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return out;
}

static emlx_tensor *sorted(void) {
    emlx_attr axis = with_int("axis", 0);
    return then_apply(made(1, 8000000, 1), "sort", &axis, 1);
}

static emlx_tensor *scanned(void) {
    emlx_attr axis = with_int("axis", 0);
    return then_apply(made(1, 60000000, 1), "cumulative_sum", &axis, 1);
}

static emlx_tensor *transformed(void) { return then_apply(made(1, 1 << 22, 1), "fft", NULL, 0); }

// A prime: prepared by transforms of its own, within the run.
static emlx_tensor *chirped(void) { return then_apply(made(1, 4194301, 1), "fft", NULL, 0); }

static emlx_tensor *convolved(void) {
    emlx_shape image = {4, {4, 64, 128, 128}}, filters = {4, {128, 64, 5, 5}};
    emlx_tensor *in[2] = {random_tensor(EMLX_F32, &image, 0, 1),
                          random_tensor(EMLX_F32, &filters, 0, 1)};
    emlx_tensor *out = apply_to("conv", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 2; i++) emlx_tensor_release(in[i]);
    return out;
}

// A matrix with a large diagonal: positive definite as far as its lower triangle says.
static emlx_tensor *dominant(int64_t side) {
    emlx_shape shape = {2, {side, side}};
    double *values = malloc((size_t)(side * side) * sizeof(double));
    assert_non_null(values);
    for (int64_t i = 0; i < side * side; i++) values[i] = draw(3) - 1.0;
    for (int64_t i = 0; i < side; i++) values[i * side + i] = (double)side;
    emlx_tensor *t = tensor_of(EMLX_F32, &shape, values);
    free(values);
    return t;
}

static emlx_tensor *first_of(const char *op, int64_t side, size_t results) {
    emlx_tensor *x = dominant(side), *out[EMLX_MAX_RESULTS];
    emlx_error err;
    assert_ok(
        emlx_apply(emlx_op_find(op), test_device, &x, 1, NULL, 0, EMLX_TYPE_DEFAULT, out, &err),
        err);
    emlx_tensor_release(x);
    for (size_t i = 1; i < results; i++) emlx_tensor_release(out[i]);
    return out[0];
}

static emlx_tensor *cholesky(void) { return then_apply(dominant(4000), "cholesky", NULL, 0); }
static emlx_tensor *determinant(void) { return then_apply(dominant(3000), "determinant", NULL, 0); }
static emlx_tensor *lu(void) { return first_of("lu", 3000, 3); }
static emlx_tensor *qr(void) { return first_of("qr", 2000, 2); }
static emlx_tensor *eigh(void) { return first_of("eigh", 1000, 2); }
static emlx_tensor *svd(void) { return first_of("svd", 1000, 3); }

static emlx_tensor *solved(const char *op) {
    emlx_tensor *x = dominant(3000), *in[2] = {x, x};
    emlx_tensor *out = apply_to(op, in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(x);
    return out;
}

static emlx_tensor *solve(void) { return solved("solve"); }
static emlx_tensor *triangular_solve(void) { return solved("triangular_solve"); }

static const struct {
    const char *name;
    emlx_tensor *(*make)(void);
} kernels[] = {{"dot", product},
               {"sort", sorted},
               {"cumulative_sum", scanned},
               {"fft", transformed},
               {"fft of a large prime", chirped},
               {"conv", convolved},
               {"cholesky", cholesky},
               {"determinant", determinant},
               {"lu", lu},
               {"solve", solve},
               {"triangular_solve", triangular_solve},
               {"qr", qr},
               {"eigh", eigh},
               {"svd", svd}};

enum { KERNELS = sizeof kernels / sizeof *kernels };

static void kernels_end_early(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < KERNELS; i++) {
        emlx_error err;
        emlx_cancel cancel = {0};
        ending e = NO_END;
        emlx_tensor *t = kernels[i].make();
        assert_ok(emlx_eval_async(&t, 1, &(emlx_work){.cancel = &cancel}, take_end, &e, &err), err);
        usleep(20000);
        emlx_cancel_raise(&cancel);
        emlx_status status = end_wait(&e);
        if (status != EMLX_CANCELLED) print_error("%s: status %d\n", kernels[i].name, status);
        wrong += status != EMLX_CANCELLED;
        emlx_tensor_release(t);
    }
    assert_int_equal(wrong, 0);
}

// More long kernels than there are threads; something of a middle size ends before any of them.
static void sum_ends_before(const char *name, emlx_tensor *(*make)(void)) {
    enum { LONG = 6 };
    emlx_error err;
    emlx_cancel cancel = {0};
    emlx_tensor *long_ones[LONG];
    ending ends[LONG], e = NO_END;
    for (int i = 0; i < LONG; i++) long_ones[i] = make();
    emlx_tensor *sum = then_apply(then_apply(made(1, 3000000, 1), "exp", NULL, 0), "sum", NULL, 0);
    for (int i = 0; i < LONG; i++) {
        ends[i] = (ending)NO_END;
        assert_ok(emlx_eval_async(&long_ones[i], 1, &(emlx_work){.cancel = &cancel}, take_end,
                                  &ends[i], &err),
                  err);
    }
    assert_ok(emlx_eval_async(&sum, 1, NULL, take_end, &e, &err), err);
    assert_int_equal(end_wait(&e), EMLX_OK);
    emlx_cancel_raise(&cancel);
    for (int i = 0; i < LONG; i++) {
        emlx_status status = end_wait(&ends[i]);
        if (status != EMLX_CANCELLED) print_error("%s: status %d\n", name, status);
        assert_int_equal(status, EMLX_CANCELLED);
    }
    for (int i = 0; i < LONG; i++) emlx_tensor_release(long_ones[i]);
    emlx_tensor_release(sum);
}

static void others_have_their_turn(void **state) {
    (void)state;
    static const char *const names[] = {"dot", "cholesky", "lu", "qr", "eigh", "svd"};
    for (size_t i = 0; i < KERNELS; i++)
        for (size_t name = 0; name < sizeof names / sizeof *names; name++)
            if (strcmp(kernels[i].name, names[name]) == 0)
                sum_ends_before(kernels[i].name, kernels[i].make);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_end_early),
        cmocka_unit_test(others_have_their_turn),
    };
    return RUN_ON_CPU("run/cancel", tests);
}
