// SPDX-License-Identifier: Apache-2.0
// null_test.c - NULL for each pointer of each public function: an error, or nothing, and never a
// crash.
#include <string.h>

#include "program/programs.h"

static emlx_error err;
static emlx_device *device;
static emlx_tensor *tensor, *made;
static emlx_program *program, *compiled;
static const emlx_shape shape = {1, {2}};
static const float data[2] = {1, 2};

// The call must fail, and say which of its arguments is missing.
#define REFUSES(what, call)                                                                        \
    do {                                                                                           \
        memset(&err, 0, sizeof err);                                                               \
        emlx_status status_ = (call);                                                              \
        if (status_ != EMLX_INVALID || err.code != EMLX_INVALID ||                                 \
            strstr(err.message, what) == NULL)                                                     \
            fail_msg("%s: %d %s", #call, (int)status_, err.message);                               \
    } while (0)

static void done(void *context) { (void)context; }
static void evaluated(void *context, emlx_status status, const emlx_error *e) {
    (void)context, (void)status, (void)e;
}
static void stopped(void *context, const emlx_stop *stop) { (void)context, (void)stop; }

static void released(void *context) { ++*(int *)context; }

static void of_shapes_types_and_devices(void **state) {
    (void)state;
    emlx_shape out;
    emlx_type type;
    int64_t dims[1] = {1};
    REFUSES("dims", emlx_shape_make(NULL, 1, &out, &err));
    REFUSES("shape", emlx_shape_make(dims, 1, NULL, &err));
    assert_int_equal(emlx_shape_make(NULL, 0, &out, NULL), EMLX_OK);
    REFUSES("unknown type", emlx_type_parse(NULL, &type, &err));
    REFUSES("type", emlx_type_parse("f32", NULL, &err));
    assert_int_equal(emlx_type_parse("?", &type, NULL), EMLX_INVALID);
    REFUSES("name", emlx_device_open(NULL, &device, &err));
    REFUSES("device", emlx_device_open("cpu", NULL, &err));
    assert_int_equal(emlx_shape_count(NULL), 0);
    assert_string_equal(emlx_device_name(NULL), "?");
    char text[4] = "xxx";
    emlx_device_describe(NULL, text, sizeof text);
    assert_string_equal(text, "");
    emlx_device_describe(device, NULL, 10);
    emlx_device_describe(device, text, 0);
    emlx_device_release(NULL);
    assert_null(emlx_device_retain(NULL));
    assert_false(emlx_device_host_memory(NULL));
    assert_false(emlx_device_handover(NULL, 0, NULL, NULL));
    assert_false(emlx_device_handover(device, 0, NULL, NULL));
    emlx_memory_info(NULL);
    emlx_device_memory_info(device, NULL);
    emlx_cancel_raise(NULL);
}

// NOLINTNEXTLINE(readability-function-size): one line a function that is called.
static void of_tensors(void **state) {
    (void)state;
    const void *address;
    char bytes[8];
    int releases = 0;
    bool ready;
    emlx_tensor *missing[2] = {tensor, NULL};
    REFUSES("device", emlx_tensor_from_data(NULL, EMLX_F32, &shape, data, 8, &made, &err));
    REFUSES("shape", emlx_tensor_from_data(device, EMLX_F32, NULL, data, 8, &made, &err));
    REFUSES("data", emlx_tensor_from_data(device, EMLX_F32, &shape, NULL, 8, &made, &err));
    REFUSES("out", emlx_tensor_from_data(device, EMLX_F32, &shape, data, 8, NULL, &err));
    REFUSES("device", emlx_tensor_from_memory(NULL, EMLX_F32, &shape, data, 8, released, &releases,
                                              &made, &err));
    REFUSES("shape", emlx_tensor_from_memory(device, EMLX_F32, NULL, data, 8, released, &releases,
                                             &made, &err));
    REFUSES("data", emlx_tensor_from_memory(device, EMLX_F32, &shape, NULL, 8, released, &releases,
                                            &made, &err));
    REFUSES("out", emlx_tensor_from_memory(device, EMLX_F32, &shape, data, 8, released, &releases,
                                           NULL, &err));
    assert_int_equal(releases, 4);
    // Nobody needs to hear of the end.
    assert_ok(emlx_tensor_from_memory(device, EMLX_F32, &shape, data, 8, NULL, NULL, &made, &err),
              err);
    emlx_tensor_release(made);
    REFUSES("t is", emlx_tensor_copy(NULL, device, &made, &err));
    REFUSES("device", emlx_tensor_copy(tensor, NULL, &made, &err));
    REFUSES("out", emlx_tensor_copy(tensor, device, NULL, &err));
    REFUSES("t is", emlx_tensor_read(NULL, 0, bytes, 8, &err));
    REFUSES("data", emlx_tensor_read(tensor, 0, NULL, 8, &err));
    assert_ok(emlx_tensor_read(tensor, 0, NULL, 0, &err), err);
    REFUSES("t is", emlx_tensor_data(NULL, &address, &err));
    REFUSES("data", emlx_tensor_data(tensor, NULL, &err));
    REFUSES("tensors", emlx_eval(NULL, 1, &err));
    REFUSES("tensor 1", emlx_eval(missing, 2, &err));
    assert_ok(emlx_eval(NULL, 0, &err), err);
    REFUSES("done", emlx_eval_brief(&tensor, 1, NULL, &err));
    REFUSES("tensors", emlx_eval_brief(NULL, 1, &ready, &err));
    REFUSES("tensor 1", emlx_eval_brief(missing, 2, &ready, &err));
    REFUSES("tensors", emlx_eval_async(NULL, 1, NULL, evaluated, NULL, &err));
    REFUSES("tensor 1", emlx_eval_async(missing, 2, NULL, evaluated, NULL, &err));
    REFUSES("no tensors", emlx_eval_async(NULL, 0, NULL, evaluated, NULL, &err));
    assert_null(emlx_tensor_retain(NULL));
    emlx_tensor_release(NULL);
    assert_int_equal(emlx_tensor_type(NULL), EMLX_TYPE_COUNT);
    assert_null(emlx_tensor_shape(NULL));
    assert_null(emlx_tensor_device(NULL));
    assert_int_equal(emlx_tensor_bytes(NULL), 0);
    assert_false(emlx_tensor_ready(NULL));
    assert_int_equal(emlx_tensor_depth(NULL), 0);
    assert_int_equal(emlx_tensor_pinned(NULL), 0);
}

static void of_queues(void **state) {
    (void)state;
    emlx_queue *queue;
    REFUSES("device", emlx_queue_new(NULL, &queue, &err));
    REFUSES("out", emlx_queue_new(device, NULL, &err));
    assert_ok(emlx_queue_new(device, &queue, &err), err);
    REFUSES("queue", emlx_queue_sync(NULL, done, NULL, &err));
    REFUSES("done", emlx_queue_sync(queue, NULL, NULL, &err));
    emlx_queue_release(queue);
    assert_null(emlx_queue_device(NULL));
    emlx_queue_release(NULL);
}

static void of_ops(void **state) {
    (void)state;
    const emlx_op *op = emlx_op_find("negate"), *sum = emlx_op_find("sum");
    emlx_tensor *none = NULL;
    emlx_attr attr = {.name = NULL, .kind = EMLX_ATTR_INT};
    const emlx_type any = EMLX_TYPE_DEFAULT;
    REFUSES("no op", emlx_apply(NULL, device, &tensor, 1, NULL, 0, any, &made, &err));
    REFUSES("operands", emlx_apply(op, device, NULL, 1, NULL, 0, any, &made, &err));
    REFUSES("operand 0", emlx_apply(op, device, &none, 1, NULL, 0, any, &made, &err));
    REFUSES("attrs", emlx_apply(op, device, &tensor, 1, NULL, 1, any, &made, &err));
    REFUSES("no name", emlx_apply(op, device, &tensor, 1, &attr, 1, any, &made, &err));
    attr.name = "axes";
    attr.kind = EMLX_ATTR_INTS;
    attr.count = 1;
    REFUSES("axes", emlx_apply(sum, device, &tensor, 1, &attr, 1, any, &made, &err));
    REFUSES("out", emlx_apply(op, device, &tensor, 1, NULL, 0, any, NULL, &err));
    REFUSES("device", emlx_apply(emlx_op_find("iota"), NULL, NULL, 0, NULL, 0, any, &made, &err));
    size_t fewest = 9, most = 9;
    assert_null(emlx_op_find(NULL));
    assert_string_equal(emlx_op_name(NULL), "?");
    emlx_op_operands(NULL, &fewest, &most);
    assert_true(fewest == 0 && most == 0);
    emlx_op_operands(op, NULL, NULL);
    assert_int_equal(emlx_op_results(NULL), 0);
    assert_false(emlx_op_attr(NULL, 0, NULL, NULL, NULL));
    assert_true(emlx_op_attr(sum, 0, NULL, NULL, NULL));
}

// NOLINTNEXTLINE(readability-function-size): one line a function that is called.
static void of_blocks(void **state) {
    (void)state;
    const emlx_op *op = emlx_op_find("negate");
    emlx_block *b = new_block(), *none = NULL, *inner = new_block(), *pair[2] = {inner, NULL};
    uint32_t x = input(b, "x", EMLX_F32, 0), value;
    emlx_attr attr = {.name = NULL, .kind = EMLX_ATTR_INT};
    emlx_port port = {NULL, EMLX_F32, shape};
    REFUSES("out", emlx_block_new(NULL, &err));
    REFUSES("block", emlx_block_input(NULL, "y", EMLX_F32, &shape, &value, &err));
    REFUSES("shape", emlx_block_input(b, "y", EMLX_F32, NULL, &value, &err));
    REFUSES("value", emlx_block_input(b, "y", EMLX_F32, &shape, NULL, &err));
    REFUSES("block", emlx_block_tensor(NULL, tensor, &value, &err));
    REFUSES("tensor", emlx_block_tensor(b, NULL, &value, &err));
    REFUSES("value", emlx_block_tensor(b, tensor, NULL, &err));
    const emlx_type any = EMLX_TYPE_DEFAULT;
    REFUSES("block", emlx_block_apply(NULL, op, &x, 1, NULL, 0, any, &value, &err));
    REFUSES("op is", emlx_block_apply(b, NULL, &x, 1, NULL, 0, any, &value, &err));
    REFUSES("op is", emlx_block_apply(b, NULL, NULL, 0, NULL, 0, any, &value, &err));
    REFUSES("operands", emlx_block_apply(b, op, NULL, 1, NULL, 0, any, &value, &err));
    REFUSES("attrs", emlx_block_apply(b, op, &x, 1, NULL, 1, any, &value, &err));
    REFUSES("no name", emlx_block_apply(b, op, &x, 1, &attr, 1, any, &value, &err));
    REFUSES("value", emlx_block_apply(b, op, &x, 1, NULL, 0, any, NULL, &err));
    REFUSES("block", emlx_block_cond(NULL, &inner, 1, pair, 2, &x, 1, &value, &err));
    REFUSES("predicates", emlx_block_cond(b, NULL, 1, pair, 2, &x, 1, &value, &err));
    REFUSES("block 0", emlx_block_cond(b, &none, 1, pair, 2, &x, 1, &value, &err));
    REFUSES("branches", emlx_block_cond(b, &inner, 1, NULL, 2, &x, 1, &value, &err));
    REFUSES("block 1", emlx_block_cond(b, &inner, 1, pair, 2, &x, 1, &value, &err));
    REFUSES("operands", emlx_block_cond(b, &inner, 1, pair, 2, NULL, 1, &value, &err));
    REFUSES("first", emlx_block_cond(b, &inner, 1, pair, 2, &x, 1, NULL, &err));
    REFUSES("block", emlx_block_while(NULL, inner, inner, &x, 1, &value, &err));
    REFUSES("condition", emlx_block_while(b, NULL, inner, &x, 1, &value, &err));
    REFUSES("body", emlx_block_while(b, inner, NULL, &x, 1, &value, &err));
    REFUSES("state", emlx_block_while(b, inner, inner, NULL, 1, &value, &err));
    REFUSES("first", emlx_block_while(b, inner, inner, &x, 1, NULL, &err));
    REFUSES("block", emlx_block_call(NULL, 0, &x, 1, &port, 1, &value, &err));
    REFUSES("operands", emlx_block_call(b, 0, NULL, 1, &port, 1, &value, &err));
    REFUSES("results", emlx_block_call(b, 0, &x, 1, NULL, 1, &value, &err));
    REFUSES("first", emlx_block_call(b, 0, &x, 1, &port, 1, NULL, &err));
    REFUSES("block", emlx_block_output(NULL, "y", x, &err));
    REFUSES("block", emlx_block_save(NULL, "/dev/null", &err));
    REFUSES("path", emlx_block_save(b, NULL, &err));
    assert_null(emlx_block_shape(NULL, 0, NULL));
    assert_non_null(emlx_block_shape(b, x, NULL));
    emlx_block_release(inner);
    emlx_block_release(b);
    emlx_block_release(NULL);
}

static void of_functions_and_programs(void **state) {
    (void)state;
    emlx_function *function;
    REFUSES("block", emlx_function_new(NULL, &function, &err));
    emlx_block *b = new_block();
    output(b, NULL, input(b, "x", EMLX_F32, 0));
    REFUSES("out", emlx_function_new(b, NULL, &err)); // takes the block over
    assert_null(emlx_function_retain(NULL));
    emlx_function_release(NULL);
    REFUSES("block", emlx_program_compile(NULL, device, &compiled, &err));
    REFUSES("device", emlx_program_compile(new_block(), NULL, &compiled, &err));
    REFUSES("out", emlx_program_compile(new_block(), device, NULL, &err));
    assert_null(emlx_program_retain(NULL));
    emlx_program_release(NULL);
    assert_int_equal(emlx_program_input_count(NULL) + emlx_program_output_count(NULL), 0);
    assert_null(emlx_program_input(NULL, 0));
    assert_null(emlx_program_output(NULL, 0));
    assert_int_equal(emlx_program_kernel_count(NULL) + emlx_program_op_count(NULL), 0);
}

static void of_runs(void **state) {
    (void)state;
    emlx_tensor *none = NULL, *result;
    REFUSES("program", emlx_program_run(NULL, &tensor, 1, &result, 1, &err));
    REFUSES("inputs", emlx_program_run(program, NULL, 1, &result, 1, &err));
    REFUSES("missing", emlx_program_run(program, &none, 1, &result, 1, &err));
    REFUSES("outputs", emlx_program_run(program, &tensor, 1, NULL, 1, &err));
    REFUSES("program", emlx_program_start(NULL, &tensor, 1, NULL, stopped, NULL, &err));
    REFUSES("inputs", emlx_program_start(program, NULL, 1, NULL, stopped, NULL, &err));
    REFUSES("missing", emlx_program_start(program, &none, 1, NULL, stopped, NULL, &err));
    REFUSES("stopped", emlx_program_start(program, &tensor, 1, NULL, NULL, NULL, &err));
    REFUSES("run", emlx_run_resume(NULL, &tensor, 1, NULL, stopped, NULL, &err));
    assert_false(emlx_program_brief(NULL, &tensor, 1));
    assert_false(emlx_program_brief(program, NULL, 1));
    assert_false(emlx_program_brief(program, &none, 1));
    assert_false(emlx_run_brief(NULL, &tensor, 1));
    emlx_run_release(NULL);
}

// NOLINTNEXTLINE(readability-function-size): one line a function that is called.
static void of_files(void **state) {
    (void)state;
    emlx_archive *archive;
    emlx_block *b;
    REFUSES("path", emlx_block_load(NULL, device, &b, &err));
    REFUSES("device", emlx_block_load("x", NULL, &b, &err));
    REFUSES("out", emlx_block_load("x", device, NULL, &err));
    REFUSES("path", emlx_program_load(NULL, device, &compiled, &err));
    REFUSES("device", emlx_program_load("x", NULL, &compiled, &err));
    REFUSES("out", emlx_program_load("x", device, NULL, &err));
    REFUSES("path", emlx_archive_open(NULL, &archive, &err));
    REFUSES("out", emlx_archive_open("x", NULL, &err));
    REFUSES("archive", emlx_archive_tensor(NULL, "x", EMLX_F32, device, &made, &err));
    assert_null(emlx_archive_text(NULL, "x"));
    emlx_archive_release(NULL);
    REFUSES("path", emlx_npy_load(NULL, device, &made, &err));
    REFUSES("device", emlx_npy_load("x", NULL, &made, &err));
    REFUSES("out", emlx_npy_load("x", device, NULL, &err));
    REFUSES("path", emlx_npy_save(NULL, tensor, &err));
    REFUSES("tensor", emlx_npy_save("/dev/null", NULL, &err));
}

static int set_up(void **state) {
    (void)state;
    emlx_block *b = new_block();
    output(b, NULL, input(b, "x", EMLX_F32, 1, 2));
    return emlx_device_open("cpu", &device, &err) != EMLX_OK ||
           emlx_tensor_from_data(device, EMLX_F32, &shape, data, 8, &tensor, &err) != EMLX_OK ||
           emlx_program_compile(b, device, &program, &err) != EMLX_OK;
}

static int tear_down(void **state) {
    (void)state;
    emlx_program_release(program);
    emlx_tensor_release(tensor);
    emlx_device_release(device);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(of_shapes_types_and_devices),
        cmocka_unit_test(of_tensors),
        cmocka_unit_test(of_queues),
        cmocka_unit_test(of_ops),
        cmocka_unit_test(of_blocks),
        cmocka_unit_test(of_functions_and_programs),
        cmocka_unit_test(of_runs),
        cmocka_unit_test(of_files),
    };
    return cmocka_run_group_tests_name("run/null", tests, set_up, tear_down);
}
