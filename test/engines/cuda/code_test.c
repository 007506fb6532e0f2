// SPDX-License-Identifier: Apache-2.0
// code_test.c - generated text: structure is in it and numbers are in words, so that kernels of
// other sizes and constants share it.
#include "engines/cuda/text/emit.h"

#include "test.h"

// out[i] = in[i] + constant, over up to two axes.
typedef struct sample {
    plan_value values[3];
    plan_access accesses[2];
    expr_step steps[5];
    expr_store store;
    plan_kernel kernel;
    emlx_plan plan;
    kernel_code code;
} sample;

static void make_sample(sample *s, emlx_type type, int64_t rows, int64_t columns) {
    *s = (sample){0};
    for (uint32_t i = 0; i < 2; i++) {
        s->values[i] = (plan_value){type, {2, {rows, columns}}, 0};
        s->accesses[i] = (plan_access){.value = i, .type = type, .strides = {columns, 1}};
    }
    s->steps[0] = (expr_step){.kind = EXPR_LOAD, .type = type, .index = 0};
    s->steps[1] = (expr_step){.kind = EXPR_CONST, .type = type, .index = 0};
    s->steps[2] = (expr_step){
        .kind = EXPR_SCALAR, .op = SCALAR_add, .type = type, .compute = type, .args = {0, 1}};
    s->store = (expr_store){2, 1};
    s->kernel = (plan_kernel){.kind = KERNEL_MAP,
                              .op = "add",
                              .rank = 2,
                              .dims = {rows, columns},
                              .step_count = 3,
                              .access_count = 2,
                              .store_count = 1,
                              .steps = s->steps,
                              .accesses = s->accesses,
                              .stores = &s->store};
    s->plan = (emlx_plan){.value_count = 2, .values = s->values};
}

static void generate(sample *s) {
    emlx_error err;
    assert_ok(code_make(&s->code, &s->plan, &s->kernel, &err), err);
}

static void assert_same_text(int64_t rows_a, int64_t columns_a, int64_t rows_b, int64_t columns_b,
                             bool same) {
    sample a, b;
    make_sample(&a, EMLX_F32, rows_a, columns_a);
    make_sample(&b, EMLX_F32, rows_b, columns_b);
    generate(&a);
    generate(&b);
    assert_int_equal(strcmp(a.code.text, b.code.text) == 0, same);
    code_clear(&a.code);
    code_clear(&b.code);
}

static void test_sizes_share_text(void **state) {
    (void)state;
    assert_same_text(3, 5, 7, 9, true);          // an element a thread
    assert_same_text(512, 512, 1024, 768, true); // vectors
    assert_same_text(3, 5, 512, 512, false);
    assert_same_text(512, 512, 512, 511, false);     // rows that are no whole vectors
    assert_same_text(512, 512, 65536, 65536, false); // indices of 64 bits
}

// out[i, j] = in[i, j] - the sum of in[i, ...], of values that are the plan's from `first` on.
static void make_rows_sample(kernel_code *code, uint32_t first) {
    plan_value values[16] = {0};
    const plan_access in = {.value = first, .type = EMLX_F32, .strides = {64, 1}};
    const plan_access sum = {.value = first + 1, .type = EMLX_F32, .strides = {1, 0}};
    const plan_access out = {.value = first + 2, .type = EMLX_F32, .strides = {64, 1}};
    plan_access accesses[] = {in, in, sum, out, sum};
    expr_step loads[] = {{.kind = EXPR_LOAD, .type = EMLX_F32, .index = 0},
                         {.kind = EXPR_LOAD, .type = EMLX_F32, .index = 1},
                         {.kind = EXPR_SCALAR,
                          .op = SCALAR_subtract,
                          .type = EMLX_F32,
                          .compute = EMLX_F32,
                          .args = {0, 1}}};
    expr_store store = {2, 2}, stage = {1, 3};
    uint32_t local = first + 1;
    plan_kernel stages[] = {{.kind = KERNEL_REDUCE,
                             .reduce = REDUCE_SUM,
                             .rank = 2,
                             .dims = {8, 64},
                             .axes = 2,
                             .step_count = 1,
                             .access_count = 1,
                             .steps = loads,
                             .accesses = accesses,
                             .output = local},
                            {.kind = KERNEL_MAP,
                             .rank = 2,
                             .dims = {8, 64},
                             .step_count = 3,
                             .access_count = 3,
                             .store_count = 1,
                             .steps = loads,
                             .accesses = accesses + 1,
                             .stores = &store,
                             .output = UINT32_MAX}};
    const plan_kernel rows = {.kind = KERNEL_ROWS,
                              .op = "subtract",
                              .rank = 2,
                              .dims = {8, 64},
                              .axes = 2,
                              .access_count = 5,
                              .store_count = 1,
                              .accesses = accesses,
                              .stores = &stage,
                              .stages = stages,
                              .stage_count = 2,
                              .locals = &local,
                              .local_count = 1,
                              .output = UINT32_MAX};
    for (uint32_t i = 0; i < 3; i++) values[first + i] = (plan_value){EMLX_F32, {2, {8, 64}}, 0};
    const emlx_plan plan = {.value_count = 16, .values = values};
    emlx_error err;
    assert_ok(code_make(code, &plan, &rows, &err), err);
}

// A model's layers differ in the numbers that their values have in the plan, and in nothing else.
static void test_layers_share_text(void **state) {
    (void)state;
    kernel_code one, other;
    make_rows_sample(&one, 0);
    make_rows_sample(&other, 9);
    assert_string_equal(one.text, other.text);
    assert_non_null(strstr(one.text, "merge_row"));
    code_clear(&one);
    code_clear(&other);
}

// The word's patch, or NULL.
static const code_patch *find_patch(const kernel_code *code, uint32_t kind, uint32_t index) {
    for (uint32_t i = 0; i < code->patch_count; i++)
        if (code->patches[i].kind == kind && code->patches[i].index == index)
            return &code->patches[i];
    return NULL;
}

static void test_words(void **state) {
    (void)state;
    sample s;
    make_sample(&s, EMLX_F64, 3, 5);
    s.accesses[0].offset = 2;
    generate(&s);
    assert_int_equal(find_patch(&s.code, PATCH_VALUE, 0)->offset, 16);
    assert_int_equal(find_patch(&s.code, PATCH_VALUE, 1)->offset, 0);
    // Constants may be read as 16 bytes.
    assert_int_equal(find_patch(&s.code, PATCH_CONSTANT, 0)->word % 2, 0);
    bool has_count = false;
    for (uint32_t i = 0; i < s.code.word_count; i++) has_count |= s.code.words[i] == 15;
    assert_true(has_count);
    assert_int_equal(s.code.launch_count, 1);
    assert_int_equal(s.code.launches[0].grid_x, 1);
    assert_false(s.code.reports);
    code_clear(&s.code);
}

static void test_nothing_to_do(void **state) {
    (void)state;
    sample s;
    make_sample(&s, EMLX_F32, 0, 5);
    generate(&s);
    assert_int_equal(s.code.launch_count, 0);
    code_clear(&s.code);
}

static void test_guards_report(void **state) {
    (void)state;
    sample s;
    make_sample(&s, EMLX_S32, 3, 5);
    s.steps[2] =
        (expr_step){.kind = EXPR_GUARD, .op = GUARD_DIVISION, .type = EMLX_S32, .args = {0}};
    generate(&s);
    assert_true(s.code.reports);
    assert_non_null(strstr(s.code.text, "report("));
    code_clear(&s.code);
}

static void test_refusals(void **state) {
    (void)state;
    sample s;
    emlx_error err;
    make_sample(&s, EMLX_C64, 3, 5);
    s.kernel.kind = KERNEL_REDUCE;
    s.kernel.axes = 1;
    s.kernel.reduce = REDUCE_MAX;
    s.kernel.reduced = 2;
    s.kernel.output = 1;
    assert_error(code_make(&s.code, &s.plan, &s.kernel, &err), EMLX_UNSUPPORTED, err, "fold");
    code_clear(&s.code);
    s.kernel.kind = KERNEL_FUNCTION;
    assert_error(code_make(&s.code, &s.plan, &s.kernel, &err), EMLX_UNSUPPORTED, err, "no such");
    code_clear(&s.code);
}

static bool has_text(int op, emlx_type type) { return scalar_text_of(op, type).letter != '\0'; }

// Names are found in the sources for the types that they are written for, and for no others.
static void test_scalar_texts(void **state) {
    (void)state;
    for (int op = 0; op < SCALAR_COUNT; op++) {
        if (op == SCALAR_identity || op == SCALAR_bitcast) continue; // no functions in kernels
        if (!has_text(op, EMLX_S32) && !has_text(op, EMLX_F32))
            fail_msg("there is no text for %s", scalar_table[op].name);
        assert_int_equal(has_text(op, EMLX_U8), has_text(op, EMLX_S64));
        assert_int_equal(has_text(op, EMLX_F32), has_text(op, EMLX_F64));
        assert_int_equal(has_text(op, EMLX_C64), has_text(op, EMLX_C128));
    }
    assert_false(has_text(SCALAR_exp, EMLX_S32));
    assert_false(has_text(SCALAR_bitwise_and, EMLX_F32));
    assert_false(has_text(SCALAR_quotient, EMLX_F64));
    assert_false(has_text(SCALAR_divide, EMLX_S32));
    assert_false(has_text(SCALAR_erf, EMLX_C64));
    assert_false(has_text(SCALAR_less, EMLX_C128));
    assert_int_equal(scalar_text_of(SCALAR_left_shift, EMLX_S32).letter, 'b');
    assert_int_equal(scalar_text_of(SCALAR_add, EMLX_C64).parts, 0);
    assert_int_equal(scalar_text_of(SCALAR_divide, EMLX_C64).parts, 0);
    assert_int_equal(scalar_text_of(SCALAR_divide, EMLX_C128).parts, PART_COMPLEX);
    assert_int_equal(scalar_text_of(SCALAR_exp, EMLX_C64).parts, PART_COMPLEX);
}

// A function without text for a type is refused by name, so that the kernel is handed over.
static void test_scalar_without_text(void **state) {
    (void)state;
    sample s;
    emlx_error err;
    make_sample(&s, EMLX_C64, 3, 5);
    s.steps[2].op = SCALAR_max;
    assert_error(code_make(&s.code, &s.plan, &s.kernel, &err), EMLX_UNSUPPORTED, err, "max");
    code_clear(&s.code);
}

// Few cells of long folds are cut into pieces, which a second function merges.
static void test_folds_in_pieces(void **state) {
    (void)state;
    sample s;
    make_sample(&s, EMLX_F32, 4, 1 << 20);
    s.kernel.kind = KERNEL_REDUCE;
    s.kernel.axes = 2;
    s.kernel.reduced = 2;
    s.kernel.output = 1;
    s.kernel.store_count = 0;
    generate(&s);
    assert_int_equal(s.code.launch_count, 2);
    assert_true(s.code.scratch > 0);
    assert_non_null(find_patch(&s.code, PATCH_SCRATCH, 0));
    code_clear(&s.code);
}

// What a fold computes on its way and others want is written where it goes through all elements.
static void test_folds_store_on_the_way(void **state) {
    (void)state;
    static const kernel_kind kinds[] = {KERNEL_REDUCE, KERNEL_CUSTOM};
    for (int i = 0; i < 2; i++) {
        sample s;
        make_sample(&s, EMLX_F32, 4, 5);
        s.values[2] = (plan_value){EMLX_F32, {1, {4}}, 0};
        s.plan.value_count = 3;
        s.steps[3] = (expr_step){.kind = EXPR_CARRY, .type = EMLX_F32};
        s.steps[4] = s.steps[2];
        s.steps[4].args[0] = 3;
        s.steps[4].args[1] = 2;
        s.kernel.kind = kinds[i];
        s.kernel.axes = 2;
        s.kernel.output = 2;
        s.kernel.start = 1;
        s.kernel.carry = 3;
        s.kernel.step_count = kinds[i] == KERNEL_CUSTOM ? 5 : 3;
        s.kernel.reduced = s.kernel.step_count - 1;
        generate(&s);
        assert_non_null(strstr(s.code.text, "] = v2;"));
        code_clear(&s.code);
    }
}

// As the device computes it: see `quotient` of core.cu.
static uint64_t divide(uint64_t n, uint64_t word) {
    uint64_t high = n * (word & UINT32_MAX) >> 32;
    assert_true(high + n <= UINT32_MAX);
    return (high + n) >> (word >> 32);
}

static void assert_divides(uint64_t by) {
    static const uint64_t most = INT32_MAX;
    uint64_t word = (uint64_t)divisor_word((int64_t)by);
    for (uint64_t n = 0; n < 300; n++) {
        uint64_t numbers[] = {n,          most - n, n * by, n * by + by - 1, (most / by - n) * by,
                              n * 7158279};
        for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
            if (numbers[i] <= most) assert_int_equal(divide(numbers[i], word), numbers[i] / by);
    }
}

static void test_divisors(void **state) {
    (void)state;
    for (uint64_t by = 1; by < 3000; by++) assert_divides(by);
    for (int shift = 2; shift < 31; shift++)
        for (int more = -2; more < 3; more++)
            assert_divides((uint64_t)(((int64_t)1 << shift) + more));
    for (uint64_t by = 3001; by <= INT32_MAX; by += by / 61) assert_divides(by);
    assert_divides(INT32_MAX);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes_share_text),       cmocka_unit_test(test_words),
        cmocka_unit_test(test_layers_share_text),      cmocka_unit_test(test_nothing_to_do),
        cmocka_unit_test(test_guards_report),          cmocka_unit_test(test_scalar_texts),
        cmocka_unit_test(test_scalar_without_text),    cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_folds_in_pieces),        cmocka_unit_test(test_divisors),
        cmocka_unit_test(test_folds_store_on_the_way),
    };
    return RUN_TESTS("engines/cuda/code", tests);
}
