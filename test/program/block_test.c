// SPDX-License-Identifier: Apache-2.0
// block_test.c - building blocks: what is accepted, what is refused and with which words.
#include <stdio.h>

#include "memory/memory.h"
#include "program/programs.h"

static void values_have_types_and_shapes(void **state) {
    (void)state;
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), y = input(b, NULL, EMLX_S32, 1, 3);
    assert_int_equal(x, 0);
    assert_int_equal(y, 1);
    emlx_type type;
    const emlx_shape *shape = emlx_block_shape(b, op(b, "less", 2, x, y), &type);
    assert_int_equal(type, EMLX_U8);
    assert_int_equal(shape->rank, 2);
    assert_int_equal(shape->dims[1], 3);
    assert_null(emlx_block_shape(b, 3, &type));
    emlx_block_release(b);
}

static void wrong_inputs_are_refused(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t value;
    emlx_shape scalar = {0}, negative = {.rank = 1, .dims = {-1}}, deep = {.rank = 17};
    emlx_shape below = {.rank = -1};
    input(b, "x", EMLX_F32, 0);
    assert_error(emlx_block_input(b, "x", EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "both named \"x\"");
    assert_error(emlx_block_input(b, "7", EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "position");
    assert_error(emlx_block_input(b, "", EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "0 bytes");
    assert_error(emlx_block_input(b, "y", (emlx_type)99, &scalar, &value, &err), EMLX_INVALID, err,
                 "no such type");
    assert_int_equal(emlx_block_input(b, "y", EMLX_F32, &negative, &value, &err), EMLX_INVALID);
    assert_int_equal(emlx_block_input(b, "y", EMLX_F32, &deep, &value, &err), EMLX_INVALID);
    assert_int_equal(emlx_block_input(b, "y", EMLX_F32, &below, &value, &err), EMLX_INVALID);
    assert_error(emlx_block_output(b, "y", 1, &err), EMLX_INVALID, err, "value 1");
    assert_error(emlx_block_input(b, "a\nb", EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "the name of input 1, \"a?b\", has characters that cannot be shown");
    assert_error(emlx_block_output(b, "\xff", 0, &err), EMLX_INVALID, err,
                 "the name of output 0, \"?\", has characters");
    input(b, "1", EMLX_F32, 0);
    emlx_block_release(b);
}

static void wrong_op_calls_are_refused(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 2, 2, 3), y = input(b, "y", EMLX_F32, 1, 4), value;
    uint32_t unknown[] = {x, 17}, pair[] = {x, y};
    const emlx_op *add = emlx_op_find("add");
    assert_error(emlx_block_apply(b, add, unknown, 2, NULL, 0, EMLX_TYPE_DEFAULT, &value, &err),
                 EMLX_INVALID, err, "add: operand 1 is value 17");
    assert_error(emlx_block_apply(b, add, pair, 2, NULL, 0, EMLX_TYPE_DEFAULT, &value, &err),
                 EMLX_INVALID, err, "add");
    assert_error(emlx_block_apply(b, add, pair, 1, NULL, 0, EMLX_TYPE_DEFAULT, &value, &err),
                 EMLX_INVALID, err, "add");
    int64_t axis = 0;
    emlx_attr twice[] = {{.name = "axes", .kind = EMLX_ATTR_INTS, .ints = &axis, .count = 1},
                         {.name = "axes", .kind = EMLX_ATTR_INTS, .ints = &axis, .count = 1}};
    assert_error(
        emlx_block_apply(b, emlx_op_find("sum"), &x, 1, twice, 2, EMLX_TYPE_DEFAULT, &value, &err),
        EMLX_INVALID, err, "twice");
    assert_null(emlx_block_shape(b, 2, NULL));
    emlx_block_release(b);
}

// A block of one f32 scalar that gives its input.
static emlx_block *identity(emlx_type type) {
    emlx_block *b = new_block();
    output(b, NULL, input(b, NULL, type, 0));
    return b;
}

static emlx_block *outer_with_scalar(uint32_t *x) {
    emlx_block *b = new_block();
    *x = input(b, "x", EMLX_F32, 0);
    return b;
}

static void wrong_conds_are_refused(void **state) {
    (void)state;
    emlx_error err;
    uint32_t x, first;
    emlx_block *b = outer_with_scalar(&x), *p = identity(EMLX_F32), *t = identity(EMLX_F32);
    emlx_block *other = identity(EMLX_S32), *two = identity(EMLX_F32);
    output(two, NULL, 0);
    emlx_block *pair[] = {t, two}, *typed[] = {t, other}, *same[] = {t, t}, *none[] = {t, NULL};
    emlx_block *self[] = {t, b};
    assert_error(emlx_block_cond(b, &p, 1, pair, 2, &x, 1, &first, &err), EMLX_INVALID, err,
                 "cond: block 2 has 2 outputs, 1 expected");
    assert_error(emlx_block_cond(b, &p, 1, pair, 1, &x, 1, &first, &err), EMLX_INVALID, err,
                 "cond: 1 predicates and 1 branches");
    assert_error(emlx_block_cond(b, &p, 1, typed, 2, &x, 1, &first, &err), EMLX_INVALID, err,
                 "input 0 of block 2 is s32 {}, f32 {} expected");
    assert_error(emlx_block_cond(b, &p, 1, pair, 2, NULL, 0, &first, &err), EMLX_INVALID, err,
                 "block 0 has 1 inputs, 0 operands");
    assert_int_equal(emlx_block_cond(b, &p, 1, same, 2, &x, 1, &first, &err), EMLX_INVALID);
    assert_int_equal(emlx_block_cond(b, &p, 1, none, 2, &x, 1, &first, &err), EMLX_INVALID);
    assert_int_equal(emlx_block_cond(b, &p, 1, self, 2, &x, 1, &first, &err), EMLX_INVALID);
    assert_error(emlx_block_cond(b, &two, 1, (emlx_block *[]){p, t}, 2, &x, 1, &first, &err),
                 EMLX_INVALID, err, "decides and has 2 outputs");
    emlx_block *all[] = {b, p, t, other, two};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) emlx_block_release(all[i]);
}

static void wrong_whiles_are_refused(void **state) {
    (void)state;
    emlx_error err;
    uint32_t first;
    emlx_block *b = new_block(), *condition = new_block(), *body = new_block();
    uint32_t x = input(b, "x", EMLX_F32, 1, 2), inner = input(condition, NULL, EMLX_F32, 1, 2);
    output(condition, NULL, inner);
    output(body, NULL, sum_all(body, input(body, NULL, EMLX_F32, 1, 2)));
    assert_error(emlx_block_while(b, condition, body, &x, 1, &first, &err), EMLX_INVALID, err,
                 "while: block 0 decides and gives f32 {2}, a scalar expected");
    emlx_block_release(condition);
    condition = new_block();
    output(condition, NULL, sum_all(condition, input(condition, NULL, EMLX_F32, 1, 2)));
    assert_error(emlx_block_while(b, condition, body, &x, 1, &first, &err), EMLX_INVALID, err,
                 "output 0 of block 1 is f32 {}, f32 {2} expected");
    emlx_block_release(b);
    emlx_block_release(condition);
    emlx_block_release(body);
}

static void taken_blocks_are_closed(void **state) {
    (void)state;
    emlx_error err;
    uint32_t x, first, value;
    emlx_shape scalar = {0};
    emlx_block *b = outer_with_scalar(&x), *p = identity(EMLX_F32);
    emlx_block *branches[] = {identity(EMLX_F32), identity(EMLX_F32)};
    assert_ok(emlx_block_cond(b, &p, 1, branches, 2, &x, 1, &first, &err), err);
    assert_error(emlx_block_input(p, NULL, EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "part of another");
    assert_error(emlx_block_output(p, "more", 0, &err), EMLX_INVALID, err, "part of another");
    assert_int_equal(emlx_block_while(b, p, branches[0], &x, 1, &first, &err), EMLX_INVALID);
    emlx_program *program;
    assert_int_equal(emlx_program_compile(p, NULL, &program, &err), EMLX_INVALID);
    emlx_block_release(p);
    emlx_block_release(b);
}

static void nesting_is_bounded(void **state) {
    (void)state;
    emlx_error err;
    emlx_block *b = identity(EMLX_F32);
    emlx_status status = EMLX_OK;
    int depth = 1;
    while (status == EMLX_OK && depth < 1000) {
        emlx_block *outer = new_block(), *condition = identity(EMLX_F32);
        uint32_t x = input(outer, NULL, EMLX_F32, 0), first;
        status = emlx_block_while(outer, condition, b, &x, 1, &first, &err);
        if (status == EMLX_OK) {
            output(outer, NULL, first);
            b = outer;
            depth++;
        } else {
            emlx_block_release(outer);
            emlx_block_release(condition);
        }
    }
    assert_error(status, EMLX_INVALID, err, "nest more than 64");
    assert_int_equal(depth, 64);
    emlx_block_release(b);
}

// Finding a name that is taken must not take longer the more ports there are.
static void many_names(void **state) {
    (void)state;
    enum { COUNT = 200000 };
    emlx_error err;
    emlx_shape scalar = {0};
    uint32_t value;
    emlx_block *b = new_block();
    for (int i = 0; i < COUNT; i++) {
        char name[24];
        snprintf(name, sizeof name, "x%d", i);
        assert_ok(emlx_block_input(b, name, EMLX_F32, &scalar, &value, &err), err);
        assert_ok(emlx_block_output(b, name, 0, &err), err);
    }
    assert_error(emlx_block_input(b, "x77777", EMLX_F32, &scalar, &value, &err), EMLX_INVALID, err,
                 "inputs 77777 and 200000 are both named \"x77777\"");
    assert_error(emlx_block_output(b, "x199999", 0, &err), EMLX_INVALID, err, "outputs 199999 and");
    emlx_block_release(b);
}

static void empty_blocks_leave_nothing(void **state) {
    (void)state;
    emlx_error err;
    emlx_program *program;
    emlx_device *device = cpu();
    size_t held = mem_held();
    assert_ok(emlx_program_compile(new_block(), device, &program, &err), err);
    assert_ok(emlx_program_run(program, NULL, 0, NULL, 0, &err), err);
    emlx_program_release(program);
    assert_int_equal(mem_held(), held);
    emlx_device_release(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_have_types_and_shapes), cmocka_unit_test(wrong_inputs_are_refused),
        cmocka_unit_test(wrong_op_calls_are_refused),   cmocka_unit_test(wrong_conds_are_refused),
        cmocka_unit_test(wrong_whiles_are_refused),     cmocka_unit_test(taken_blocks_are_closed),
        cmocka_unit_test(nesting_is_bounded),           cmocka_unit_test(many_names),
        cmocka_unit_test(empty_blocks_leave_nothing),
    };
    return RUN_TESTS("program/block", tests);
}
