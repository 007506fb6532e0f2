// SPDX-License-Identifier: Apache-2.0
// convolutions_test.c - convolutions in all orders of axes, and the gradients that are made of
// them, give what the CPU gives; where cuDNN is installed it has a plan for each kind of them, with
// or without a device.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sanitize.h"
#include "engines/cuda/library/dnn.h"
#include "tensors.h"

// Sanitizers take what such a library keeps, and what it writes, for faults of ours.
#if defined(__SANITIZE_ADDRESS__) || defined(SANITIZE_MEMORY)
static const bool sanitized = true;
#else
static const bool sanitized = false;
#endif

static emlx_device *gpu_device, *cpu_device;

// How tensors lie: channels first, last with filters' first or with their last, turned as in the
// gradient of an image, and with the batch for channels as in the gradient of a filter.
typedef enum order { FIRST, LAST, FILTERS_LAST, TURNED, OF_BATCH, OF_BATCH_LAST, ORDERS } order;

typedef struct conv_case {
    int rank;
    int64_t image[5], filter[5]; // [batch, channels, spatial...], [filters, channels, spatial...]
    int64_t stride, dilation, apart, low, high, groups, batch_groups;
} conv_case;

// Where in memory each of those axes is.
static void find_axes(order o, int which, int rank, int64_t *axes) {
    bool last = o == LAST || o == FILTERS_LAST || o == OF_BATCH_LAST;
    bool batch = o == OF_BATCH || o == OF_BATCH_LAST;
    bool filter_last = (o == FILTERS_LAST && which == 1) || (o == OF_BATCH_LAST && which == 2);
    for (int d = 2; d < rank; d++) axes[d] = filter_last ? d - 2 : last ? d - 1 : d;
    axes[0] = filter_last ? rank - 1 : 0;
    axes[1] = filter_last ? rank - 2 : last ? rank - 1 : 1;
    if (!batch) return;
    int64_t first = axes[0];
    axes[0] = axes[1];
    axes[1] = first;
}

static emlx_tensor *operand(emlx_type type, const int64_t *dims, int rank, const int64_t *axes) {
    emlx_shape shape = {.rank = rank};
    for (int d = 0; d < rank; d++) shape.dims[axes[d]] = dims[d];
    return random_tensor(type, &shape, -9, 9);
}

static emlx_tensor *turn(emlx_tensor *filter, int rank) {
    static const int64_t spatial[] = {2, 3, 4};
    emlx_attr axes = with_ints("axes", spatial, (size_t)rank - 2);
    emlx_tensor *t = apply_to("reverse", &filter, 1, &axes, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(filter);
    return t;
}

static emlx_tensor *convolve(emlx_type type, const conv_case *c, order o) {
    int64_t axes[3][5], padding[6], strides[3], dilations[3], apart[3];
    size_t spatial = (size_t)c->rank - 2, rank = (size_t)c->rank;
    for (int i = 0; i < 3; i++) find_axes(o, i, c->rank, axes[i]);
    for (size_t d = 0; d < spatial; d++) {
        padding[2 * d] = c->low;
        padding[2 * d + 1] = c->high;
        strides[d] = c->stride;
        dilations[d] = c->dilation;
        apart[d] = c->apart;
    }
    emlx_attr attrs[] = {with_ints("padding", padding, 2 * spatial),
                         with_ints("strides", strides, spatial),
                         with_ints("kernel_dilation", dilations, spatial),
                         with_ints("input_dilation", apart, spatial),
                         with_int("feature_group_size", c->groups),
                         with_int("batch_group_size", c->batch_groups),
                         with_ints("input_permutation", axes[0], rank),
                         with_ints("kernel_permutation", axes[1], rank),
                         with_ints("output_permutation", axes[2], rank)};
    emlx_tensor *in[] = {operand(type, c->image, c->rank, axes[0]),
                         operand(type, c->filter, c->rank, axes[1])};
    if (o == TURNED) in[1] = turn(in[1], c->rank);
    emlx_tensor *t = apply_to("conv", in, 2, attrs, 9, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[0]);
    emlx_tensor_release(in[1]);
    return t;
}

static double *values_on(emlx_device *device, emlx_type type, const conv_case *c, order o,
                         int64_t *count) {
    test_device = device;
    draw_seed(7);
    emlx_tensor *t = convolve(type, c, o);
    *count = number_count(emlx_tensor_type(t), emlx_tensor_shape(t));
    double *values = values_of(t);
    emlx_tensor_release(t);
    return values;
}

static const struct {
    emlx_type type;
    double share; // of the largest number that results may be off by
} kinds[] = {{EMLX_F32, 1e-6}, {EMLX_F64, 1e-14}, {EMLX_F16, 1e-3}, {EMLX_BF16, 8e-3}};

static void compare(size_t kind, const conv_case *c, int number, order o) {
    int64_t count, other;
    double *a = values_on(gpu_device, kinds[kind].type, c, o, &count);
    double *b = values_on(cpu_device, kinds[kind].type, c, o, &other), most = 0;
    assert_int_equal(count, other);
    for (int64_t i = 0; i < count; i++) most = fmax(most, fabs(b[i]));
    for (int64_t i = 0; i < count; i++)
        if (!(fabs(a[i] - b[i]) <= kinds[kind].share * most))
            fail_msg("convolution %d, order %d, %s: element %lld is %g, not %g", number, (int)o,
                     emlx_type_name(kinds[kind].type), (long long)i, a[i], b[i]);
    free(a);
    free(b);
}

static const conv_case cases[] = {
    {4, {4, 16, 20, 19}, {24, 16, 3, 3}, 1, 1, 1, 1, 1, 1, 1},
    {4, {4, 16, 20, 19}, {24, 16, 3, 3}, 2, 1, 1, 1, 1, 1, 1},
    {4, {4, 16, 20, 19}, {24, 16, 3, 2}, 2, 2, 1, 0, 2, 1, 1},
    {4, {4, 16, 20, 19}, {24, 4, 3, 3}, 1, 1, 1, 1, 1, 4, 1},
    {4, {4, 16, 20, 19}, {32, 1, 3, 3}, 1, 1, 1, 1, 1, 16, 1},
    {4, {3, 7, 23, 21}, {5, 7, 5, 4}, 3, 1, 1, 2, 1, 1, 1},
    {4, {2, 3, 40, 40}, {16, 3, 7, 7}, 2, 1, 1, 3, 3, 1, 1},
    {4, {8, 32, 9, 9}, {64, 32, 1, 1}, 1, 1, 1, 0, 0, 1, 1},
    {4, {1, 16, 20, 19}, {1, 16, 5, 5}, 1, 1, 1, 2, 2, 1, 1},
    // Gradients of images: elements that are apart, with what steps and padding make of it.
    {4, {4, 16, 10, 9}, {24, 16, 3, 3}, 1, 1, 2, 1, 2, 1, 1},
    {4, {4, 16, 10, 9}, {24, 16, 3, 3}, 1, 1, 2, 1, 1, 1, 1},
    {4, {4, 16, 7, 6}, {24, 16, 5, 5}, 1, 2, 3, 4, 6, 1, 1},
    {4, {4, 16, 10, 9}, {24, 4, 3, 3}, 1, 1, 2, 1, 1, 4, 1},
    {4, {4, 16, 10, 9}, {16, 1, 3, 3}, 1, 1, 2, 1, 2, 16, 1},
    {4, {4, 16, 10, 9}, {32, 1, 3, 3}, 1, 1, 2, 1, 2, 16, 1},
    // Gradients of filters: few results of many terms.
    {4, {16, 8, 20, 20}, {24, 8, 18, 18}, 1, 1, 1, 0, 0, 1, 1},
    {4, {16, 8, 20, 20}, {24, 8, 20, 20}, 1, 1, 1, 1, 1, 1, 1},
    {4, {16, 8, 21, 20}, {24, 8, 10, 10}, 1, 2, 1, 0, 0, 1, 1},
    {4, {16, 8, 20, 20}, {24, 8, 9, 9}, 2, 2, 1, 1, 1, 1, 1},
    {4, {16, 8, 20, 20}, {24, 8, 18, 18}, 1, 1, 1, 0, 0, 1, 4},
    {4, {16, 8, 20, 20}, {16, 8, 10, 10}, 1, 2, 1, 1, 1, 1, 16},
    {3, {4, 16, 300}, {24, 16, 9}, 1, 1, 1, 4, 4, 1, 1},
    {3, {4, 16, 300}, {24, 16, 5}, 3, 2, 1, 0, 4, 1, 1},
    {3, {16, 4, 300}, {24, 4, 298}, 1, 1, 1, 0, 0, 1, 1},
    {5, {2, 8, 9, 10, 11}, {16, 8, 3, 3, 3}, 1, 1, 1, 1, 1, 1, 1},
    {5, {2, 8, 9, 10, 11}, {16, 2, 3, 3, 3}, 2, 1, 1, 1, 1, 4, 1},
};

static void test_convolutions(void **state) {
    (void)state;
    if (gpu_device == NULL) return;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int o = 0; o < ORDERS; o++)
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
                compare(k, &cases[i], (int)i, (order)o);
}

// The library's own description of a card.
static const char card[] =
    "{\"deviceName\":\"card\",\"deviceVer\":900,\"driverVer\":13000,\"cudaDeviceId\":0,"
    "\"pciDeviceId\":0,\"isTccDriver\":0,\"supportCoopLaunch\":1,\"multiProcessorCount\":132,"
    "\"warpSize\":32,\"maxGridSize\":[2147483647,65535,65535],\"maxBlockSize\":[1024,1024,64],"
    "\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"maxCtasPerSM\":32,"
    "\"regsPerBlock\":65536,\"maxRegistersPerSM\":65536,\"maxSharedMemoryPerBlock\":49152,"
    "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,"
    "\"totalGlobalMem\":80000000000,\"smClockRateKHz\":1980000,\"memClockRateKHz\":2619000,"
    "\"l2CacheSize\":52428800}";

static void set_tensor(dnn_tensor *t, const int64_t *dims, int rank, bool last) {
    int64_t step = last ? dims[1] : 1;
    t->alignment = 16;
    t->strides[1] = 1;
    for (int d = rank - 1; d >= 0; d--) {
        t->dims[d] = dims[d];
        if (d == 1 && last) continue;
        t->strides[d] = step;
        step *= dims[d];
    }
}

// One with padding and a filter of three elements along each axis.
static bool has_plan(dnn_way way, emlx_type type, bool last, int rank, int64_t groups,
                     int64_t stride) {
    const int64_t image[] = {4, 16, 15, 15, 15}, filter[] = {32, 16 / groups, 3, 3, 3};
    int64_t size = (15 - 1) / stride + 1, results[] = {4, 32, size, size, size};
    dnn_convolution c = {.way = way, .type = type, .rank = rank};
    dnn_plan plan;
    set_tensor(&c.tensors[DNN_IMAGE], image, rank, last);
    set_tensor(&c.tensors[DNN_FILTER], filter, rank, last);
    set_tensor(&c.tensors[DNN_RESULTS], results, rank, last);
    for (int d = 0; d < rank - 2; d++) {
        c.strides[d] = stride;
        c.dilations[d] = c.low[d] = c.high[d] = 1;
    }
    dnn_plan_rehearse(card, &c, &plan);
    bool there = plan.plan != NULL;
    dnn_plan_clear(&plan);
    return there;
}

static void test_plans(void **state) {
    (void)state;
    emlx_error err;
    if (sanitized || dnn_open(&err) != EMLX_OK ||
        !has_plan(DNN_FORWARD, EMLX_F32, false, 4, 1, 1)) {
        printf("plans: skipped, as there is no cuDNN for this test\n");
        return;
    }
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (int rank = 4; rank <= 5; rank++)
            for (int64_t stride = 1; stride <= 2; stride++)
                for (int way = DNN_FORWARD; way <= DNN_OF_FILTER; way++) {
                    bool narrow = k >= 2; // these are convolved with channels last
                    assert_true(has_plan((dnn_way)way, kinds[k].type, true, rank, 1, stride));
                    if (!narrow)
                        assert_true(has_plan((dnn_way)way, kinds[k].type, false, rank, 1, stride));
                    assert_true(has_plan((dnn_way)way, kinds[k].type, true, rank, 4, stride));
                }
}

int main(void) {
    emlx_error err;
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plans),
                                       cmocka_unit_test(test_convolutions)};
    if (emlx_device_open("cpu", &cpu_device, &err) != EMLX_OK) return 1;
    if (open_gpu_or_skip("engines/cuda/convolutions")) gpu_device = test_device;
    test_device = cpu_device;
    int failed = cmocka_run_group_tests_name("engines/cuda/convolutions", tests, NULL, NULL);
    emlx_device_release(gpu_device);
    emlx_device_release(cpu_device);
    return failed;
}
