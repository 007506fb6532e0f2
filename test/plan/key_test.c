// SPDX-License-Identifier: Apache-2.0
// key_test.c - what is the same is one node of a plan: every op of the table applied twice,
// whatever lies on the stack meanwhile. Parameters are compared byte by byte.
#include <string.h>

#include "plan/subgraph.h"
#include "program/programs.h"
#include "tensors.h"

// The operands of an op, one letter each, and the lists that its attributes begin with.
typedef struct sample {
    const char *op, *operands;
    struct {
        const char *name;
        int64_t values[6];
        size_t count;
    } lists[4];
} sample;

// m: a matrix of f32, i: of s32, c: of c64; s: a scalar of f32; b: a batch of images of f32;
// v: a vector of f32; n: a scalar of s32; x: two indices of a row; w: two rows; p: a quarter of a
// matrix; g: two groups of 64, e: their elements of 4 bits, z: a number for each. Ops that are not
// here take matrices, and required attributes as below.
static const sample samples[] = {
    {"clip", "mss", {{0}}},
    {"reshape", "m", {{"shape", {2, 8}, 2}}},
    {"squeeze", "b", {{"axes", {0, 1}, 2}}},
    {"broadcast", "m", {{"shape", {3, 4, 4}, 3}, {"axes", {1, 2}, 2}}},
    {"transpose", "m", {{"axes", {1, 0}, 2}}},
    {"reverse", "m", {{"axes", {1}, 1}}},
    {"slice", "m", {{"starts", {1, 0}, 2}, {"lengths", {2, 3}, 2}}},
    {"put_slice", "mp", {{"starts", {1, 1}, 2}}},
    {"concatenate", "mm", {{0}}},
    {"stack", "mm", {{0}}},
    {"pad", "ms", {{"padding", {1, 0, 0, 0, 2, 1}, 6}}},
    {"sum", "m", {{"axes", {1}, 1}}},
    {"product", "m", {{"axes", {0}, 1}}},
    {"reduce", "ms", {{"axes", {1}, 1}}},
    {"window_reduce", "ms", {{0}}},
    {"window_scatter_max", "mps", {{"strides", {2, 2}, 2}}},
    {"window_scatter_min", "mps", {{"strides", {2, 2}, 2}}},
    {"dot",
     "mm",
     {{"contract_left", {1}, 1},
      {"contract_right", {0}, 1},
      {"batch_left", {0}, 0},
      {"batch_right", {0}, 0}}},
    {"conv", "bb", {{0}}},
    {"gather", "mx", {{"axes", {0}, 1}}},
    {"take", "mx", {{0}}},
    {"take_along_axis", "mi", {{0}}},
    {"indexed_add", "mxw", {{"axes", {0}, 1}}},
    {"indexed_put", "mxw", {{"axes", {0}, 1}}},
    {"conjugate", "c", {{0}}},
    {"real", "c", {{0}}},
    {"imag", "c", {{0}}},
    {"phase", "c", {{0}}},
    {"rms_norm", "mv", {{0}}},
    {"rope", "mn", {{0}}},
    {"attention", "bbb", {{0}}},
    {"layer_norm", "mvv", {{0}}},
    {"quantize", "g", {{0}}},
    {"dequantize", "ezz", {{0}}},
};

static const sample *sample_of(const char *op) {
    for (size_t i = 0; i < sizeof samples / sizeof samples[0]; i++)
        if (strcmp(samples[i].op, op) == 0) return &samples[i];
    return NULL;
}

static emlx_tensor *operand(char letter) {
    static const emlx_shape matrix = {2, {4, 4}}, vector = {1, {4}}, images = {4, {1, 1, 4, 4}},
                            scalar = {0}, column = {2, {2, 1}}, rows = {2, {2, 4}},
                            quarter = {2, {2, 2}}, groups = {2, {2, 64}}, words = {2, {2, 8}},
                            scales = {2, {2, 1}};
    switch (letter) {
    case 'i': return random_tensor(EMLX_S32, &matrix, 1, 3);
    case 'c': return random_tensor(EMLX_C64, &matrix, 0, 3);
    case 's': return random_tensor(EMLX_F32, &scalar, 0, 3);
    case 'b': return random_tensor(EMLX_F32, &images, 0, 3);
    case 'v': return random_tensor(EMLX_F32, &vector, 0, 3);
    case 'n': return random_tensor(EMLX_S32, &scalar, 0, 3);
    case 'x': return random_tensor(EMLX_S64, &column, 0, 3);
    case 'w': return random_tensor(EMLX_F32, &rows, 0, 3);
    case 'g': return random_tensor(EMLX_F32, &groups, 0, 3);
    case 'e': return random_tensor(EMLX_U32, &words, 0, 3);
    case 'z': return random_tensor(EMLX_F32, &scales, 0, 3);
    case 'p': return random_tensor(EMLX_F32, &quarter, 0, 3);
    default: return random_tensor(EMLX_F32, &matrix, 0, 3);
    }
}

// One that is written out as steps, or with a sum inside, which is called.
static emlx_function *half_of_sum(bool called) {
    emlx_error err;
    emlx_function *function;
    emlx_block *b = new_block();
    uint32_t sum = op(b, "add", 2, input(b, NULL, EMLX_F32, 0), input(b, NULL, EMLX_F32, 0));
    if (called) sum = op(b, "sum", 1, sum);
    output(b, NULL, op(b, "multiply", 2, sum, real_constant(b, 0.5)));
    assert_ok(emlx_function_new(b, &function, &err), err);
    return function;
}

// The attributes that the sample names, and the others that the op requires.
static size_t attributes(const emlx_op *op, const sample *s, emlx_function *function,
                         emlx_attr *attrs) {
    static const int64_t two[2] = {2, 2};
    const char *name;
    emlx_attr_kind kind;
    bool required;
    size_t count = 0;
    for (size_t i = 0; emlx_op_attr(op, i, &name, &kind, &required); i++) {
        emlx_attr attr = {.name = name, .kind = kind, .ints = two, .count = 2};
        bool named = false;
        for (int l = 0; s != NULL && l < 4 && s->lists[l].name != NULL; l++) {
            if (strcmp(s->lists[l].name, name) != 0) continue;
            attr.ints = s->lists[l].values;
            attr.count = s->lists[l].count;
            named = true;
        }
        if (!named && !required) continue;
        if (kind == EMLX_ATTR_FUNCTION) attr.function = function;
        if (kind == EMLX_ATTR_NUMBER) attr.value = (emlx_number){EMLX_NUMBER_REAL, {.f = {2, 0}}};
        if (kind == EMLX_ATTR_INT)
            attr.value =
                (emlx_number){EMLX_NUMBER_SIGNED, {.s = strcmp(name, "dims") == 0 ? 2 : 0}};
        attrs[count++] = attr;
    }
    return count;
}

// What calls that come next find on the stack.
static __attribute__((noinline)) void dirty_stack(int with) {
    volatile char room[32768];
    for (size_t i = 0; i < sizeof room; i++) room[i] = (char)with;
}

typedef struct twice {
    emlx_tensor *in[3], *out[2][4];
    size_t in_count, out_count;
} twice;

static emlx_status apply_twice(const emlx_op *op, const sample *s, emlx_function *function,
                               twice *t, emlx_error *err) {
    emlx_attr attrs[8];
    size_t count = attributes(op, s, function, attrs);
    emlx_status status = EMLX_OK;
    t->out_count = emlx_op_results(op);
    for (int i = 0; i < 2 && status == EMLX_OK; i++) {
        dirty_stack(i == 0 ? 0xa5 : 0x5a);
        status = emlx_apply(op, test_device, t->in, t->in_count, attrs, count, EMLX_TYPE_DEFAULT,
                            t->out[i], err);
    }
    return status;
}

static void take_operands(twice *t, const char *letters) {
    for (t->in_count = 0; letters[t->in_count] != '\0'; t->in_count++)
        t->in[t->in_count] = operand(letters[t->in_count]);
}

static void drop_operands(twice *t) {
    for (size_t i = 0; i < t->in_count; i++) emlx_tensor_release(t->in[i]);
}

// With matrices of floats, or else of integers, where no sample says otherwise.
static void apply_both(const emlx_op *op, emlx_function *function, twice *t) {
    emlx_error err;
    size_t fewest, most;
    const sample *s = sample_of(emlx_op_name(op));
    emlx_op_operands(op, &fewest, &most);
    const char *letters[] = {s != NULL ? s->operands : &"mmm"[3 - fewest],
                             s != NULL ? s->operands : &"iii"[3 - fewest]};
    for (int i = 0; i < 2; i++) {
        take_operands(t, letters[i]);
        if (apply_twice(op, s, function, t, &err) == EMLX_OK) return;
        drop_operands(t);
    }
    fail_msg("%s: %s", emlx_op_name(op), err.message);
}

// Tensors below one, pending or not, each once.
typedef struct below {
    emlx_tensor *leaves[64];
    size_t count;
    bool *met; // primitives
} below;

static void walk(below *b, emlx_tensor *t) {
    if (!emlx_tensor_ready(t)) {
        b->met[t->primitive] = true;
        for (uint32_t i = 0; i < t->input_count; i++) walk(b, t->inputs[i]);
        return;
    }
    for (size_t i = 0; i < b->count; i++)
        if (b->leaves[i] == t) return;
    assert_true(b->count < 64);
    b->leaves[b->count++] = t;
}

static void one_node(const emlx_op *op, const twice *t, bool *met) {
    for (size_t i = 0; i < t->out_count; i++) {
        emlx_tensor *roots[2] = {t->out[0][i], t->out[1][i]};
        below b = {.met = met};
        if (emlx_tensor_ready(roots[0])) continue;
        walk(&b, roots[0]);
        walk(&b, roots[1]);
        plan_request request = {test_device, roots, 2, b.leaves, b.count};
        subgraph g;
        emlx_error err;
        assert_ok(subgraph_collect(&request, &g, &err), err);
        if (g.roots[0] != g.roots[1]) fail_msg("%s twice is two nodes", emlx_op_name(op));
        subgraph_clear(&g);
    }
}

static void apply_all(emlx_function *function, bool *met) {
    for (size_t i = 0; emlx_op_at(i) != NULL; i++) {
        twice t;
        apply_both(emlx_op_at(i), function, &t);
        one_node(emlx_op_at(i), &t, met);
        for (size_t n = 0; n < t.out_count; n++) {
            emlx_tensor_release(t.out[0][n]);
            emlx_tensor_release(t.out[1][n]);
        }
        drop_operands(&t);
    }
}

static void the_same_is_one_node(void **unused) {
    (void)unused;
    bool met[PRIM_COUNT] = {[PRIM_input] = true};
    for (int called = 0; called < 2; called++) {
        emlx_function *function = half_of_sum(called);
        apply_all(function, met);
        emlx_function_release(function);
    }
    for (int p = 0; p < PRIM_COUNT; p++)
        if (!met[p]) fail_msg("no op was made of %s", primitive_table[p].name);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_same_is_one_node)};
    return RUN_ON_CPU("plan/key", tests);
}
