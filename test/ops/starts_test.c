// SPDX-License-Identifier: Apache-2.0
// starts_test.c - where slices begin that are asked to begin too early or too late: by numbers that
// are known and by numbers that are computed, of every type of integer.
#include <stdlib.h>

#include "tensors.h"

enum { LENGTH = 9, TAKEN = 4, LIMIT = LENGTH - TAKEN };

static const emlx_shape line = {1, {LENGTH}}, part = {1, {TAKEN}}, scalar = {0};

static emlx_tensor *counted(void) {
    double values[LENGTH];
    for (int i = 0; i < LENGTH; i++) values[i] = i;
    return tensor_of(EMLX_F32, &line, values);
}

// The bits of a start, of types that have less than eight bytes its lowest; to be released.
static emlx_tensor *start_of(emlx_type type, int64_t bits) {
    emlx_tensor *t;
    emlx_error err;
    assert_ok(
        emlx_tensor_from_data(test_device, type, &scalar, &bits, emlx_type_size(type), &t, &err),
        err);
    return t;
}

// The same, which nobody knows before it is computed.
static emlx_tensor *computed(emlx_tensor *start) {
    emlx_tensor *same = apply_two("bitwise_and", start, start), *in[2] = {start, same};
    emlx_tensor *chosen = apply_to("bitwise_or", in, 2, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(same);
    return chosen;
}

static void check_values(emlx_tensor *t, int64_t count, int64_t from, int64_t wanted, bool put,
                         const char *type) {
    double *values = values_of(t);
    for (int64_t i = 0; i < count; i++) {
        bool inside = i >= wanted && i < wanted + TAKEN;
        double expected = put ? (inside ? -1 : (double)i) : (double)(wanted + i);
        if (values[i] != expected)
            fail_msg("%s at %s %lld: element %lld is %g, not %g", put ? "put_slice" : "slice", type,
                     (long long)from, (long long)i, values[i], expected);
    }
    free(values);
    emlx_tensor_release(t);
}

static void check_start(emlx_type type, int64_t bits, int64_t wanted) {
    const int64_t taken = TAKEN;
    const double minus[TAKEN] = {-1, -1, -1, -1};
    const char *name = emlx_type_name(type);
    emlx_attr lengths = with_ints("lengths", &taken, 1);
    emlx_tensor *known = start_of(type, bits), *starts[2] = {known, computed(known)};
    emlx_tensor *x = counted(), *update = tensor_of(EMLX_F32, &part, minus);
    for (int i = 0; i < 2; i++) {
        emlx_tensor *in[3] = {x, starts[i]}, *put[3] = {x, update, starts[i]};
        check_values(apply_to("slice", in, 2, &lengths, 1, EMLX_TYPE_DEFAULT), TAKEN, bits, wanted,
                     false, name);
        check_values(apply_to("put_slice", put, 3, NULL, 0, EMLX_TYPE_DEFAULT), LENGTH, bits,
                     wanted, true, name);
    }
    for (int i = 0; i < 2; i++) emlx_tensor_release(starts[i]);
    emlx_tensor_release(x);
    emlx_tensor_release(update);
}

static void every_type(void **state) {
    (void)state;
    static const emlx_type types[] = {EMLX_U8, EMLX_U16, EMLX_U32, EMLX_U64,
                                      EMLX_S8, EMLX_S16, EMLX_S32, EMLX_S64};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        int bits = 8 * (int)emlx_type_size(types[i]);
        bool has_sign = i >= 4;
        int64_t top = (int64_t)(UINT64_C(1) << (bits - 1)); // the lowest number, or a large one
        for (int64_t start = 0; start <= LIMIT + 2; start++)
            check_start(types[i], start, start < LIMIT ? start : LIMIT);
        check_start(types[i], top, has_sign ? 0 : LIMIT);
        check_start(types[i], (int64_t)((uint64_t)top - 1), LIMIT);
        check_start(types[i], -1, has_sign ? 0 : LIMIT);
        check_start(types[i], -2, has_sign ? 0 : LIMIT);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_type)};
    return RUN_ON_CPU("ops/starts", tests);
}
