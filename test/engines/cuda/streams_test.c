// SPDX-License-Identifier: Apache-2.0
// streams_test.c - work on several streams, its memory, copies, addresses and faults. Needs
// a device; without one the test says that it is skipped. `streams_test import HANDLE COUNT` and
// `streams_test fault` are what it runs as other processes.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "program/programs.h"
#include "tensors.h"

static const char *self; // this program's path

static emlx_tensor *counted(emlx_device *device, int64_t count, float first) {
    emlx_error err;
    emlx_tensor *t;
    emlx_shape shape = {1, {count}};
    float *data = malloc((size_t)(count + 1) * sizeof *data);
    for (int64_t i = 0; i < count; i++) data[i] = first + (float)(i % 1000);
    assert_ok(emlx_tensor_from_data(device, EMLX_F32, &shape, data, (size_t)count * sizeof *data,
                                    &t, &err),
              err);
    free(data);
    return t;
}

// Whether element i is `first` + i % 1000.
static void assert_counted(emlx_tensor *t, float first) {
    emlx_error err;
    size_t size = emlx_tensor_bytes(t), count = size / sizeof(float);
    float *data = malloc(size + 1);
    assert_ok(emlx_tensor_read(t, 0, data, size, &err), err);
    for (size_t i = 0; i < count; i++)
        if (data[i] != first + (float)(i % 1000))
            fail_msg("element %zu of %zu is %g, not %g", i, count, (double)data[i],
                     (double)(first + (float)(i % 1000)));
    free(data);
}

static emlx_tensor *sum_of(emlx_tensor *a, emlx_tensor *b) {
    emlx_error err;
    emlx_tensor *in[2] = {a, b}, *out;
    assert_ok(emlx_apply(emlx_op_find("add"), emlx_tensor_device(a), in, 2, NULL, 0,
                         EMLX_TYPE_DEFAULT, &out, &err),
              err);
    return out;
}

// Copies -----------------------------------------------------------------------------------------

static void copies_of_all_sizes_arrive(void **state) {
    (void)state;
    static const int64_t counts[] = {0,       1,       16383,   16384,   16385,   65536,
                                     1048575, 1048576, 1048577, 3000001, 2097152, 40000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        emlx_tensor *t = counted(test_device, counts[i], (float)i);
        assert_counted(t, (float)i);
        emlx_tensor_release(t);
    }
}

// The host's memory is its own again when an upload returns, and rings are used again and again.
static void many_small_copies_keep_their_values(void **state) {
    (void)state;
    enum { COUNT = 300 };
    emlx_tensor *t[COUNT];
    for (int i = 0; i < COUNT; i++) t[i] = counted(test_device, 1 + i * 53 % 3000, (float)i);
    for (int i = 0; i < COUNT; i++) {
        assert_counted(t[i], (float)i);
        emlx_tensor_release(t[i]);
    }
}

static void parts_are_read(void **state) {
    (void)state;
    emlx_error err;
    float some[3];
    emlx_tensor *t = counted(test_device, 5000, 0);
    assert_ok(emlx_tensor_read(t, 1234 * sizeof(float), some, sizeof some, &err), err);
    assert_true(some[0] == 234 && some[1] == 235 && some[2] == 236);
    emlx_tensor_release(t);
}

// Several streams --------------------------------------------------------------------------------

enum { THREADS = 8, ROUNDS = 40 };

// In each round every thread adds what another one made in the round before.
typedef struct party {
    pthread_barrier_t barrier;
    emlx_tensor *made[2][THREADS];
    int64_t count;
} party;

typedef struct guest {
    party *party;
    int number;
} guest;

static void *add_up(void *context) {
    guest *g = context;
    party *p = g->party;
    emlx_error err;
    for (int round = 0; round < ROUNDS; round++) {
        int from = round % 2, to = 1 - from;
        emlx_tensor *own = p->made[from][g->number];
        emlx_tensor *other = p->made[from][(g->number + 1 + round) % THREADS];
        emlx_tensor *one = counted(test_device, p->count, 0), *zero;
        emlx_tensor *minus[2] = {other, own};
        emlx_op const *subtract = emlx_op_find("subtract");
        assert_ok(
            emlx_apply(subtract, test_device, minus, 2, NULL, 0, EMLX_TYPE_DEFAULT, &zero, &err),
            err);
        assert_ok(emlx_eval(&zero, 1, &err), err);
        emlx_tensor *more = sum_of(zero, one), *next = sum_of(own, more);
        assert_ok(emlx_eval(&next, 1, &err), err);
        emlx_tensor_release(more);
        emlx_tensor *first = p->made[to][g->number];
        p->made[to][g->number] = next;
        emlx_tensor_release(zero);
        emlx_tensor_release(one);
        if (first != NULL) emlx_tensor_release(first);
        pthread_barrier_wait(&p->barrier);
    }
    return NULL;
}

// All threads hold the same numbers, so that after n rounds they are n + 1 times what they were.
static void threads_read_what_others_make(void **state) {
    (void)state;
    emlx_error err;
    pthread_t threads[THREADS];
    static const int64_t counts[] = {64, 70000};
    for (int which = 0; which < 2; which++) {
        party p = {.count = counts[which]};
        guest guests[THREADS];
        pthread_barrier_init(&p.barrier, NULL, THREADS);
        for (int i = 0; i < THREADS; i++) {
            p.made[0][i] = counted(test_device, p.count, 0);
            guests[i] = (guest){&p, i};
        }
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, add_up, &guests[i]), 0);
        for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
        float *data = malloc((size_t)p.count * sizeof *data);
        for (int i = 0; i < THREADS; i++) {
            emlx_tensor *end = p.made[ROUNDS % 2][i];
            assert_ok(emlx_tensor_read(end, 0, data, (size_t)p.count * sizeof *data, &err), err);
            for (int64_t k = 0; k < p.count; k++)
                assert_true(data[k] == (float)((ROUNDS + 1) * (k % 1000)));
        }
        free(data);
        for (int i = 0; i < 2 * THREADS; i++) emlx_tensor_release(p.made[i / THREADS][i % THREADS]);
        pthread_barrier_destroy(&p.barrier);
    }
}

static void *add_alone(void *context) {
    int number = *(int *)context;
    emlx_error err;
    emlx_tensor *one = counted(test_device, 3000, 1), *sum = counted(test_device, 3000, 0);
    for (int i = 0; i < 150; i++) {
        emlx_tensor *next = sum_of(sum, one);
        assert_ok(emlx_eval(&next, 1, &err), err);
        emlx_tensor_release(sum);
        sum = next;
        if (i % 37 == number) {
            float first;
            assert_ok(emlx_tensor_read(sum, 0, &first, sizeof first, &err), err);
            assert_true(first == (float)(i + 1));
        }
    }
    float last;
    assert_ok(emlx_tensor_read(sum, 999 * sizeof last, &last, sizeof last, &err), err);
    assert_true(last == 999 + 150 * 1000.0f);
    emlx_tensor_release(sum);
    emlx_tensor_release(one);
    return NULL;
}

// Blocks go from stream to stream.
static void threads_share_the_memory(void **state) {
    (void)state;
    pthread_t threads[THREADS];
    int numbers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, add_alone, &numbers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

// Replays ----------------------------------------------------------------------------------------

// sort(x), sum of the sorted times x, and that taken from x: several kernels.
static emlx_program *several_kernels(int64_t count) {
    emlx_block *b = new_block();
    emlx_attr axis = with_int("axis", 0);
    uint32_t x = input(b, "x", EMLX_F32, 1, count);
    uint32_t sorted = op_with(b, "sort", &axis, 1, 1, x);
    uint32_t total = sum_all(b, op(b, "multiply", 2, sorted, x));
    output(b, "y", op(b, "subtract", 2, sorted, total));
    output(b, "z", op(b, "add", 2, sorted, sorted));
    return compile(b, test_device);
}

// x becomes a sixteenth of x times w, 1 added, and again, by a library's products.
static emlx_program *several_products(int64_t side) {
    static const int64_t left[] = {1}, right[] = {0};
    emlx_attr attrs[] = {with_ints("contract_left", left, 1), with_ints("batch_left", NULL, 0),
                         with_ints("contract_right", right, 1), with_ints("batch_right", NULL, 0)};
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, side, side);
    uint32_t w = input(b, "w", EMLX_F32, 2, side, side);
    for (int i = 0; i < 3; i++) {
        uint32_t product = op_with(b, "dot", attrs, 4, 2, x, w);
        x = op(b, "add", 2, op(b, "multiply", 2, product, real_constant(b, 0.0625)),
               real_constant(b, 1));
    }
    output(b, "y", x);
    return compile(b, test_device);
}

static emlx_tensor *filled(int64_t side, float value) {
    emlx_error err;
    emlx_tensor *t;
    emlx_shape shape = {2, {side, side}};
    size_t count = (size_t)(side * side);
    float *data = malloc(count * sizeof *data);
    for (size_t i = 0; i < count; i++) data[i] = value;
    assert_ok(
        emlx_tensor_from_data(test_device, EMLX_F32, &shape, data, count * sizeof *data, &t, &err),
        err);
    free(data);
    return t;
}

// Calls of a library are recorded with the addresses that they had: results that are kept for a
// while see to it that these come again, or do not.
static void replays_call_libraries_with_their_own_operands(void **state) {
    (void)state;
    enum { SIDE = 64, KEPT = 7, RUNS = 200 };
    emlx_error err;
    emlx_program *p = several_products(SIDE);
    emlx_tensor *kept[KEPT] = {NULL}, *w = filled(SIDE, 0.25f); // a product is 16 times as much
    float first[KEPT] = {0};
    for (int run = 0; run < RUNS; run++) {
        int room = run < RUNS / 2 ? 2 : KEPT, at = run * run % room;
        emlx_tensor *in[2] = {filled(SIDE, (float)run), w};
        if (kept[at] != NULL) emlx_tensor_release(kept[at]);
        assert_ok(emlx_program_run(p, in, 2, &kept[at], 1, &err), err);
        emlx_tensor_release(in[0]);
        first[at] = (float)run + 3;
        for (int i = 0; i < KEPT; i++) {
            if (kept[i] == NULL) continue;
            float value;
            size_t place = (size_t)(run * 31 % (SIDE * SIDE)) * sizeof value;
            assert_ok(emlx_tensor_read(kept[i], place, &value, sizeof value, &err), err);
            if (value != first[i])
                fail_msg("run %d: result %d is %g, not %g", run, i, (double)value,
                         (double)first[i]);
        }
    }
    for (int i = 0; i < KEPT; i++)
        if (kept[i] != NULL) emlx_tensor_release(kept[i]);
    emlx_tensor_release(w);
    emlx_program_release(p);
}

// A plan that comes again is launched as a graph, over other memory each time.
static void replays_have_their_own_operands(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *p = several_kernels(100);
    enum { TIMES = 30 };
    emlx_tensor *kept[TIMES][2];
    for (int i = 0; i < TIMES; i++) {
        emlx_tensor *x = counted(test_device, 100, (float)i);
        assert_ok(emlx_program_run(p, &x, 1, kept[i], 2, &err), err);
        emlx_tensor_release(x);
    }
    for (int i = 0; i < TIMES; i++) {
        float y[100], z[100];
        double total = 0;
        for (int k = 0; k < 100; k++) total += (double)(i + k) * (i + k);
        assert_ok(emlx_tensor_read(kept[i][0], 0, y, sizeof y, &err), err);
        assert_ok(emlx_tensor_read(kept[i][1], 0, z, sizeof z, &err), err);
        for (int k = 0; k < 100; k++) {
            assert_true(y[k] == (float)(i + k) - (float)total);
            assert_true(z[k] == (float)(2 * (i + k)));
        }
        emlx_tensor_release(kept[i][0]);
        emlx_tensor_release(kept[i][1]);
    }
    emlx_program_release(p);
}

// Errors -----------------------------------------------------------------------------------------

static emlx_tensor *number(emlx_type type, double value) {
    emlx_shape scalar = {0, {0}};
    return tensor_of(type, &scalar, &value);
}

static emlx_tensor *taken(emlx_tensor *from, int64_t index) {
    emlx_tensor *in[2] = {from, number(EMLX_S64, (double)index)};
    emlx_attr axis = with_int("axis", 0);
    // Added to, so that it is not known before.
    emlx_tensor *zero = number(EMLX_S64, 0), *at = apply_two("add", in[1], zero);
    emlx_tensor *parts[2] = {from, at};
    emlx_tensor *out = apply_to("take", parts, 2, &axis, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[1]);
    emlx_tensor_release(zero);
    emlx_tensor_release(at);
    return out;
}

// The error is that of the call, names the index, and is gone with it.
static void reports_reach_their_callers(void **state) {
    (void)state;
    emlx_error err;
    emlx_tensor *from = counted(test_device, 10, 0);
    for (int i = 0; i < 4; i++) {
        emlx_tensor *bad = taken(from, 12 + i), *good = taken(from, 5 + i);
        char text[40];
        snprintf(text, sizeof text, "%d", 12 + i);
        assert_error(emlx_eval(&bad, 1, &err), EMLX_OUT_OF_BOUNDS, err, text);
        assert_ok(emlx_eval(&good, 1, &err), err);
        double *value = values_of(good);
        assert_true(*value == 5 + i);
        free(value);
        emlx_tensor_release(bad);
        emlx_tensor_release(good);
    }
    emlx_tensor_release(from);
}

// Where rows are long their indices are checked apart from them.
static emlx_tensor *many_rows(emlx_tensor *from, double second) {
    enum { ROWS = 9000 };
    emlx_shape shape = {2, {ROWS, 1}};
    double *rows = calloc(ROWS, sizeof *rows);
    assert_non_null(rows);
    for (int i = 0; i < ROWS; i++) rows[i] = i == 1 ? second : i % 10;
    emlx_tensor *in[2] = {from, tensor_of(EMLX_S64, &shape, rows)};
    static const int64_t first[] = {0};
    emlx_attr axes = with_ints("axes", first, 1);
    emlx_tensor *out = apply_to("gather", in, 2, &axes, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(in[1]);
    free(rows);
    return out;
}

static void checks_reach_their_callers(void **state) {
    (void)state;
    emlx_error err;
    emlx_shape shape = {2, {10, 64}};
    emlx_tensor *flat = counted(test_device, 640, 0);
    emlx_attr dims = with_ints("shape", shape.dims, 2);
    emlx_tensor *from = apply_to("reshape", &flat, 1, &dims, 1, EMLX_TYPE_DEFAULT);
    for (int i = 0; i < 30; i++) {
        emlx_tensor *bad = many_rows(from, i % 2 ? 12 : -3), *good = many_rows(from, i % 10);
        float value;
        assert_error(emlx_eval(&bad, 1, &err), EMLX_OUT_OF_BOUNDS, err, i % 2 ? "12" : "-3");
        assert_ok(emlx_eval(&good, 1, &err), err);
        assert_ok(emlx_tensor_read(good, 65 * sizeof value, &value, sizeof value, &err), err);
        assert_true(value == (float)(i % 10 * 64 + 1));
        emlx_tensor_release(bad);
        emlx_tensor_release(good);
    }
    emlx_tensor_release(from);
    emlx_tensor_release(flat);
}

// Memory -----------------------------------------------------------------------------------------

static void memory_has_an_account(void **state) {
    (void)state;
    emlx_error err;
    emlx_memory before, with, after;
    emlx_shape large = {1, {16 << 20}};
    emlx_tensor *t = counted(test_device, 1 << 20, 0), *none;
    emlx_tensor_release(t);
    emlx_device_memory_clear_cache(test_device);
    emlx_device_memory_info(test_device, &before);
    t = counted(test_device, 1 << 20, 0);
    emlx_device_memory_info(test_device, &with);
    assert_int_equal(with.active, before.active + (4 << 20));
    assert_true(with.peak >= with.active);
    emlx_device_memory_set_limit(test_device, with.active + (8 << 20));
    float *zeroes = calloc(16 << 20, sizeof *zeroes);
    assert_error(
        emlx_tensor_from_data(test_device, EMLX_F32, &large, zeroes, (size_t)64 << 20, &none, &err),
        EMLX_OUT_OF_MEMORY, err, "limit");
    emlx_device_memory_set_limit(test_device, 0);
    assert_ok(
        emlx_tensor_from_data(test_device, EMLX_F32, &large, zeroes, (size_t)64 << 20, &none, &err),
        err);
    free(zeroes);
    emlx_tensor_release(none);
    emlx_tensor_release(t);
    emlx_device_memory_info(test_device, &after);
    assert_int_equal(after.active, before.active);
    assert_true(after.cached >= (uint64_t)64 << 20);
    // No more than that is kept once memory is taken again.
    uint64_t all = emlx_device_memory_set_cache_limit(test_device, 32 << 20);
    emlx_tensor_release(counted(test_device, 100, 0));
    emlx_device_memory_info(test_device, &after);
    assert_true(after.cached <= (uint64_t)32 << 20);
    emlx_device_memory_set_cache_limit(test_device, all);
    emlx_device_memory_clear_cache(test_device);
    emlx_device_memory_info(test_device, &after);
    assert_int_equal(after.cached, before.cached);
}

// Addresses --------------------------------------------------------------------------------------

static void tensors_lie_at_addresses(void **state) {
    (void)state;
    emlx_error err;
    uint64_t address;
    emlx_shape shape = {1, {500}}, huge = {1, {(int64_t)1 << 36}};
    emlx_tensor *t = counted(test_device, 1000, 3), *same;
    assert_ok(emlx_tensor_address(t, &address, &err), err);
    assert_ok(emlx_tensor_from_address(test_device, EMLX_F32, &shape, address, &same, &err), err);
    emlx_tensor *sum = sum_of(same, same);
    double *values = values_of(sum);
    for (int i = 0; i < 500; i++) assert_true(values[i] == 2 * (3 + i));
    free(values);
    emlx_tensor_release(sum);
    emlx_tensor_release(same);
    assert_error(emlx_tensor_from_address(test_device, EMLX_F32, &shape, 64, &same, &err),
                 EMLX_INVALID, err, "not within memory");
    assert_error(emlx_tensor_from_address(test_device, EMLX_F32, &huge, address, &same, &err),
                 EMLX_INVALID, err, "not within memory");
    emlx_tensor_release(t);
}

static int import_here(const char *text, int64_t count) {
    emlx_error err;
    unsigned char handle[EMLX_HANDLE_MAX];
    size_t size = strlen(text) / 2;
    emlx_shape shape = {1, {count}};
    emlx_tensor *t;
    for (size_t i = 0; i < size; i++) {
        unsigned byte = 0;
        sscanf(text + 2 * i, "%2x", &byte);
        handle[i] = (unsigned char)byte;
    }
    if (emlx_device_open("cuda:0", &test_device, &err) != EMLX_OK ||
        emlx_tensor_import(test_device, EMLX_F32, &shape, handle, size, &t, &err) != EMLX_OK) {
        fprintf(stderr, "import: %s\n", err.message);
        return 1;
    }
    emlx_tensor *sum = sum_of(t, t);
    double *values = values_of(sum);
    int wrong = 0;
    for (int64_t i = 0; i < count; i++) wrong |= values[i] != 2 * (4 + (double)(i % 1000));
    free(values);
    emlx_tensor_release(sum);
    emlx_tensor_release(t);
    emlx_device_release(test_device);
    return wrong;
}

static void other_processes_open_tensors(void **state) {
    (void)state;
    emlx_error err;
    if (getenv("EMLX_TEST_ONE_PROCESS") != NULL) skip();
    for (int64_t count = 1000; count < 2000000; count *= 1000) {
        unsigned char handle[EMLX_HANDLE_MAX];
        char text[2 * EMLX_HANDLE_MAX + 1], number[24];
        size_t size;
        emlx_shape shape = {1, {count}};
        emlx_tensor *t = counted(test_device, count, 4), *none;
        assert_ok(emlx_tensor_export(t, handle, &size, &err), err);
        assert_true(emlx_tensor_import(test_device, EMLX_F32, &shape, handle, size, &none, &err) !=
                    EMLX_OK);
        for (size_t i = 0; i < size; i++) sprintf(text + 2 * i, "%02x", handle[i]);
        snprintf(number, sizeof number, "%lld", (long long)count);
        pid_t child = fork();
        if (child == 0) {
            execl(self, self, "import", text, number, (char *)NULL);
            _exit(9);
        }
        int ended = 1;
        waitpid(child, &ended, 0);
        assert_int_equal(ended, 0);
        emlx_tensor_release(t);
    }
}

// A device that is opened anew -------------------------------------------------------------------

static void a_device_is_opened_anew(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *p = several_kernels(100);
    emlx_tensor *x = counted(test_device, 100, 0), *out[2], *old = counted(test_device, 5000, 0);
    assert_ok(emlx_program_run(p, &x, 1, out, 2, &err), err);
    emlx_tensor *pending = sum_of(old, old);
    assert_ok(emlx_device_reset(test_device, &err), err);
    assert_error(emlx_eval(&pending, 1, &err), EMLX_LOST, err, "lost");
    float first;
    assert_error(emlx_tensor_read(out[0], 0, &first, sizeof first, &err), EMLX_LOST, err, "lost");
    for (int i = 0; i < 2; i++) emlx_tensor_release(out[i]);
    emlx_tensor_release(x);
    emlx_tensor_release(pending);
    emlx_tensor_release(old);
    for (int i = 0; i < 5; i++) {
        x = counted(test_device, 100, 0);
        assert_ok(emlx_program_run(p, &x, 1, out, 2, &err), err);
        double *values = values_of(out[1]);
        for (int k = 0; k < 100; k++) assert_true(values[k] == 2 * k);
        free(values);
        for (int k = 0; k < 2; k++) emlx_tensor_release(out[k]);
        emlx_tensor_release(x);
    }
    emlx_program_release(p);
}

typedef struct toil {
    _Atomic bool over;
    atomic_int right, lost, wrong;
} toil;

// Adds small numbers: each time the sum is right, or the device was opened anew meanwhile.
static emlx_status add_once(void) {
    emlx_error err;
    emlx_shape shape = {1, {16}};
    float data[16] = {1, 2, 3}, sum[16];
    emlx_tensor *t, *out = NULL;
    emlx_status status =
        emlx_tensor_from_data(test_device, EMLX_F32, &shape, data, sizeof data, &t, &err);
    if (status != EMLX_OK) return status;
    emlx_tensor *in[2] = {t, t};
    status =
        emlx_apply(emlx_op_find("add"), test_device, in, 2, NULL, 0, EMLX_TYPE_DEFAULT, &out, &err);
    if (status == EMLX_OK) status = emlx_tensor_read(out, 0, sum, sizeof sum, &err);
    if (status == EMLX_OK && (sum[0] != 2 || sum[2] != 6)) status = EMLX_INTERNAL;
    emlx_tensor_release(t);
    if (out != NULL) emlx_tensor_release(out);
    return status;
}

static void *add_all_the_while(void *context) {
    toil *t = context;
    while (!t->over) {
        emlx_status status = add_once();
        atomic_fetch_add(status == EMLX_OK     ? &t->right
                         : status == EMLX_LOST ? &t->lost
                                               : &t->wrong,
                         1);
    }
    return NULL;
}

static void threads_go_on_when_a_device_is_opened_anew(void **state) {
    (void)state;
    emlx_error err;
    pthread_t threads[4];
    toil t = {false};
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, add_all_the_while, &t), 0);
    for (int i = 0; i < 3; i++) {
        usleep(30000);
        int right = t.right;
        assert_ok(emlx_device_reset(test_device, &err), err);
        while (t.right < right + 20 && t.wrong == 0) usleep(1000);
    }
    t.over = true;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(t.wrong, 0);
    assert_true(t.right >= 60);
}

// Reads memory that is not there any more, in a process of its own. 0: all was as it should be.
static int fault_here(void) {
    emlx_error err;
    uint64_t address;
    emlx_shape shape = {1, {16 << 20}};
    emlx_device *cpu;
    float first;
    if (emlx_device_open("cuda:0", &test_device, &err) != EMLX_OK) return 1;
    emlx_tensor *t = counted(test_device, 16 << 20, 0), *good = counted(test_device, 100, 0), *lent;
    if (emlx_tensor_address(t, &address, &err) != EMLX_OK) return 2;
    if (emlx_tensor_from_address(test_device, EMLX_F32, &shape, address, &lent, &err) != EMLX_OK)
        return 3;
    emlx_tensor_release(t);
    emlx_device_memory_clear_cache(test_device);
    emlx_tensor *sum = sum_of(lent, lent), *other = sum_of(good, good), *also;
    emlx_status status = emlx_eval(&sum, 1, &err);
    if (status == EMLX_OK) status = emlx_tensor_read(sum, 0, &first, sizeof first, &err);
    fprintf(stderr, "fault: %s\n", err.message);
    if (status != EMLX_LOST) return 4;
    if (emlx_eval(&other, 1, &err) != EMLX_LOST) return 5;
    if (emlx_tensor_from_data(test_device, EMLX_F32, &(emlx_shape){1, {1}}, &first, sizeof first,
                              &also, &err) != EMLX_LOST)
        return 6;
    status = emlx_device_reset(test_device, &err);
    fprintf(stderr, "reset: %s\n", status == EMLX_OK ? "done" : err.message);
    if (status != EMLX_OK && status != EMLX_LOST) return 7;
    if (emlx_eval(&other, 1, &err) != EMLX_LOST) return 8;
    emlx_tensor *all[] = {sum, other, lent, good};
    for (int i = 0; i < 4; i++) emlx_tensor_release(all[i]);
    emlx_device_release(test_device);
    // Other devices go on.
    if (emlx_device_open("cpu", &cpu, &err) != EMLX_OK) return 9;
    test_device = cpu;
    t = counted(cpu, 10, 0);
    sum = sum_of(t, t);
    assert_ok(emlx_tensor_read(sum, sizeof first, &first, sizeof first, &err), err);
    emlx_tensor_release(t);
    emlx_tensor_release(sum);
    emlx_device_release(cpu);
    return first == 2 ? 0 : 10;
}

static void a_fault_is_an_error(void **state) {
    (void)state;
    if (getenv("EMLX_TEST_ONE_PROCESS") != NULL) skip();
    pid_t child = fork();
    if (child == 0) {
        execl(self, self, "fault", (char *)NULL);
        _exit(99);
    }
    int ended = 1;
    waitpid(child, &ended, 0);
    assert_int_equal(WIFEXITED(ended) ? WEXITSTATUS(ended) : -1, 0);
}

// Two devices ------------------------------------------------------------------------------------

static void devices_copy_to_each_other(void **state) {
    (void)state;
    emlx_error err;
    emlx_device *other;
    if (emlx_device_open("cuda:1", &other, &err) != EMLX_OK) skip();
    for (int64_t count = 10; count < 3000000; count *= 70) {
        emlx_tensor *t = counted(test_device, count, 1), *there, *sum, *back;
        emlx_tensor *zero = counted(test_device, count, 0), *one = sum_of(t, zero);
        assert_ok(emlx_tensor_copy(one, other, &there, &err), err);
        emlx_tensor_release(one);
        emlx_tensor_release(t);
        sum = sum_of(there, there);
        assert_ok(emlx_tensor_copy(sum, test_device, &back, &err), err);
        emlx_tensor_release(sum);
        emlx_tensor_release(there);
        double *values = values_of(back);
        for (int64_t i = 0; i < count; i++) assert_true(values[i] == 2 + 4 * (double)(i % 1000));
        free(values);
        emlx_tensor_release(back);
        emlx_tensor_release(zero);
    }
    emlx_device_release(other);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_of_all_sizes_arrive),
        cmocka_unit_test(many_small_copies_keep_their_values),
        cmocka_unit_test(parts_are_read),
        cmocka_unit_test(threads_read_what_others_make),
        cmocka_unit_test(threads_share_the_memory),
        cmocka_unit_test(replays_have_their_own_operands),
        cmocka_unit_test(replays_call_libraries_with_their_own_operands),
        cmocka_unit_test(reports_reach_their_callers),
        cmocka_unit_test(checks_reach_their_callers),
        cmocka_unit_test(memory_has_an_account),
        cmocka_unit_test(tensors_lie_at_addresses),
        cmocka_unit_test(other_processes_open_tensors),
        cmocka_unit_test(devices_copy_to_each_other),
        cmocka_unit_test(a_fault_is_an_error),
        cmocka_unit_test(a_device_is_opened_anew),
        cmocka_unit_test(threads_go_on_when_a_device_is_opened_anew),
    };
    self = argv[0];
    if (argc == 2 && strcmp(argv[1], "fault") == 0) return fault_here();
    if (argc == 4 && strcmp(argv[1], "import") == 0) return import_here(argv[2], atoll(argv[3]));
    if (!open_gpu_or_skip("engines/cuda/streams")) return 0;
    int failed = cmocka_run_group_tests_name("engines/cuda/streams", tests, NULL, NULL);
    emlx_device_release(test_device);
    return failed;
}
