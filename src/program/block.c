// SPDX-License-Identifier: Apache-2.0
// block.c - programs under construction: inputs, op calls in order, control flow, outputs.
// Everything is checked when it is added, so that a finished block is a valid program.
#include "program/block.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "engine.h"
#include "graph/function.h"
#include "ops/ops.h"

// Values of a block; far above any real program, so that sums of counts cannot overflow.
#define VALUES_MAX ((size_t)1 << 30)
#define FEW 8

const char *signature_print(emlx_type type, const emlx_shape *shape, char text[SIGNATURE_TEXT]) {
    char dims[SHAPE_TEXT];
    snprintf(text, SIGNATURE_TEXT, "%s %s", emlx_type_name(type), shape_print(shape, dims));
    return text;
}

static emlx_status no_memory_for_block(emlx_error *err) {
    return error_no_memory(err, "for a program block");
}

// Making and releasing -------------------------------------------------------------------------

emlx_status emlx_block_new(emlx_block **out, emlx_error *err) {
    REQUIRE(out);
    emlx_block *block = mem_alloc(sizeof *block);
    if (block == NULL) return no_memory_for_block(err);
    block->depth = 1;
    block->inputs.what = "input";
    block->outputs.what = "output";
    *out = block;
    return EMLX_OK;
}

static void instr_clear(instr *i) {
    emlx_tensor_release(i->literal);
    for (size_t a = 0; a < i->attr_count; a++) emlx_function_release(i->attrs[a].function);
    mem_free(i->operands, i->operand_count * sizeof *i->operands);
    mem_free(i->attrs, i->attrs_size);
    for (size_t b = 0; b < i->block_count; b++) {
        i->blocks[b]->owned = false;
        emlx_block_release(i->blocks[b]);
    }
    mem_free(i->blocks, i->block_count * sizeof(emlx_block *));
}

void emlx_block_release(emlx_block *block) {
    if (block == NULL || block->owned) return;
    for (size_t i = 0; i < block->symbols.count; i++) emlx_tensor_release(block->symbols.items[i]);
    for (size_t i = 0; i < block->code.count; i++) instr_clear(&block->code.items[i]);
    list_free(&block->symbols);
    list_free(&block->code);
    ports_clear(&block->inputs);
    ports_clear(&block->outputs);
    mem_free(block, sizeof *block);
}

static emlx_status check_own(const emlx_block *block, emlx_error *err) {
    if (!block->owned) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "the program block is part of another one already");
}

// Room for one more instruction that makes `values` values, so that adding it cannot fail.
static emlx_status block_reserve(emlx_block *block, size_t values, emlx_error *err) {
    TRY(check_own(block, err));
    if (values > VALUES_MAX - block->symbols.count)
        return error_set(err, EMLX_INVALID, "a program block has more than %zu values", VALUES_MAX);
    if (!list_reserve(&block->code, 1) || !list_reserve(&block->symbols, values))
        return no_memory_for_block(err);
    return EMLX_OK;
}

// Adds an instruction and the symbols it makes, taking both over. Room has been reserved.
static void block_push(emlx_block *block, instr *i, emlx_tensor *const *symbols, size_t count,
                       uint32_t *first) {
    i->first = (uint32_t)block->symbols.count;
    i->value_count = (uint32_t)count;
    *first = i->first;
    block->code.items[block->code.count++] = *i;
    for (size_t s = 0; s < count; s++) block->symbols.items[block->symbols.count++] = symbols[s];
}

emlx_status block_move_instr(emlx_block *to, const emlx_block *from, instr *in, uint32_t *first,
                             emlx_error *err) {
    size_t count = in->value_count;
    TRY(block_reserve(to, count, err));
    emlx_tensor *const *symbols = from->symbols.items + in->first;
    instr moved = *in;
    *in = (instr){.kind = in->kind, .first = in->first, .value_count = in->value_count};
    for (size_t s = 0; s < count; s++) (void)emlx_tensor_retain(symbols[s]);
    block_push(to, &moved, symbols, count, first);
    return EMLX_OK;
}

void block_swap_code(emlx_block *a, emlx_block *b) {
    const emlx_block old = *a;
    a->symbols = b->symbols;
    a->code = b->code;
    b->symbols = old.symbols;
    b->code = old.code;
}

// Values ---------------------------------------------------------------------------------------

// A node that stands for data given later.
static emlx_status placeholder_new(emlx_type type, const emlx_shape *shape, emlx_tensor **out,
                                   emlx_error *err) {
    node_spec spec = {.op = "input", .primitive = PRIM_input, .type = type, .shape = *shape};
    return node_new(&spec, out, err);
}

static emlx_status check_values(const emlx_block *block, const uint32_t *values, size_t count,
                                emlx_error *err) {
    for (size_t i = 0; i < count; i++)
        if (values[i] >= block->symbols.count)
            return error_set(err, EMLX_INVALID, "operand %zu is value %u, but there are %zu values",
                             i, values[i], block->symbols.count);
    return EMLX_OK;
}

static emlx_status copy_values(const uint32_t *values, size_t count, uint32_t **out,
                               emlx_error *err) {
    *out = NULL;
    if (count == 0) return EMLX_OK;
    *out = mem_alloc(count * sizeof **out);
    if (*out == NULL) return no_memory_for_block(err);
    memcpy(*out, values, count * sizeof **out);
    return EMLX_OK;
}

const emlx_shape *emlx_block_shape(const emlx_block *block, uint32_t value, emlx_type *type) {
    if (block == NULL || value >= block->symbols.count) return NULL;
    const emlx_tensor *symbol = block_symbol(block, value);
    if (type != NULL) *type = emlx_tensor_type(symbol);
    return emlx_tensor_shape(symbol);
}

// Ports ----------------------------------------------------------------------------------------

emlx_status emlx_block_input(emlx_block *block, const char *name, emlx_type type,
                             const emlx_shape *shape, uint32_t *value, emlx_error *err) {
    REQUIRE(block);
    REQUIRE(shape);
    REQUIRE(value);
    if (!type_is_valid(type))
        return error_set(err, EMLX_INVALID, "program input %zu: no such type", block->inputs.count);
    emlx_shape checked;
    size_t rank = shape->rank < 0 ? SIZE_MAX : (size_t)shape->rank;
    TRY(emlx_shape_make(shape->dims, rank, &checked, err));
    TRY(block_reserve(block, 1, err));
    emlx_tensor *symbol;
    TRY(placeholder_new(type, &checked, &symbol, err));
    emlx_status status = ports_add(&block->inputs, name, (uint32_t)block->symbols.count, err);
    if (status == EMLX_OK)
        block_push(block, &(instr){.kind = INSTR_INPUT}, &symbol, 1, value);
    else
        emlx_tensor_release(symbol);
    return status;
}

emlx_status emlx_block_output(emlx_block *block, const char *name, uint32_t value,
                              emlx_error *err) {
    REQUIRE(block);
    size_t position = block->outputs.count;
    if (value >= block->symbols.count)
        return error_set(err, EMLX_INVALID, "output %zu is value %u, but there are %zu values",
                         position, value, block->symbols.count);
    TRY(check_own(block, err));
    if (position >= VALUES_MAX)
        return error_set(err, EMLX_INVALID, "a program block has more than %zu outputs",
                         VALUES_MAX);
    return ports_add(&block->outputs, name, value, err);
}

// Literals -------------------------------------------------------------------------------------

// Whether all elements are one number that is known without computing.
static bool literal_number(const emlx_tensor *literal, scalar_value *value) {
    if (node_is_constant(literal, value)) return true;
    const emlx_buffer *buffer = node_buffer(literal);
    if (buffer == NULL || buffer_seen(buffer) == NULL) return false;
    if (emlx_shape_count(emlx_tensor_shape(literal)) != 1) return false;
    *value = (scalar_value){{0}};
    memcpy(value->bytes, buffer_seen(buffer), type_size(emlx_tensor_type(literal)));
    return true;
}

// A known number becomes part of the kernels that use it; other data stays an input of them, at
// which lowerings can look if it is there. What is still to be computed somebody may be computing
// now: that is not looked into.
static emlx_status literal_symbol(emlx_tensor *literal, emlx_tensor **out, emlx_error *err) {
    emlx_type type = emlx_tensor_type(literal);
    const emlx_shape *shape = emlx_tensor_shape(literal);
    scalar_value value;
    if (literal_number(literal, &value)) {
        node_spec spec = {.op = "constant",
                          .primitive = PRIM_constant,
                          .type = type,
                          .shape = *shape,
                          .params = &value,
                          .params_size = sizeof value};
        return node_new(&spec, out, err);
    }
    if (node_buffer(literal) == NULL) return placeholder_new(type, shape, out, err);
    *out = emlx_tensor_retain(literal);
    return EMLX_OK;
}

emlx_status emlx_block_tensor(emlx_block *block, emlx_tensor *tensor, uint32_t *value,
                              emlx_error *err) {
    REQUIRE(block);
    REQUIRE(tensor);
    REQUIRE(value);
    emlx_tensor *symbol;
    TRY(block_reserve(block, 1, err));
    TRY(literal_symbol(tensor, &symbol, err));
    instr i = {.kind = INSTR_TENSOR, .literal = emlx_tensor_retain(tensor)};
    block_push(block, &i, &symbol, 1, value);
    return EMLX_OK;
}

// Op calls -------------------------------------------------------------------------------------

static emlx_status apply_symbols(const emlx_op *op, emlx_tensor *const *symbols,
                                 const uint32_t *operands, size_t operand_count,
                                 const emlx_attr *attrs, size_t attr_count, emlx_type type,
                                 emlx_tensor **out, emlx_error *err) {
    emlx_tensor *few[FEW] = {NULL}, **in = few;
    if (operand_count > FEW) in = mem_alloc(operand_count * sizeof *in);
    if (in == NULL) return no_memory_for_block(err);
    for (size_t i = 0; i < operand_count; i++) in[i] = symbols[operands[i]];
    emlx_status status = op_apply(op, NULL, in, operand_count, attrs, attr_count, type, out, err);
    if (in != few) mem_free(in, operand_count * sizeof *in);
    return status;
}

static size_t attr_payload(const emlx_attr *attr) {
    if (attr->kind == EMLX_ATTR_INTS) return attr->count * sizeof(int64_t);
    if (attr->kind == EMLX_ATTR_TEXT) return strlen(attr->text) / 8 * 8 + 8;
    return 0;
}

// The table's own text of an attribute's name, which outlives every block.
static const char *static_name(const emlx_op *op, const char *name) {
    const char *own = NULL;
    emlx_attr_kind kind;
    bool required;
    for (size_t i = 0; emlx_op_attr(op, i, &own, &kind, &required); i++)
        if (strcmp(own, name) == 0) return own;
    return "?";
}

// Copies attributes that the op has accepted; lists and texts lie behind the array.
static emlx_status copy_attrs(const emlx_op *op, const emlx_attr *attrs, size_t count, instr *i,
                              emlx_error *err) {
    if (count == 0) return EMLX_OK;
    size_t size = count * sizeof *attrs;
    for (size_t a = 0; a < count; a++) size += attr_payload(&attrs[a]);
    emlx_attr *copies = mem_alloc(size);
    if (copies == NULL) return no_memory_for_block(err);
    char *payload = (char *)(copies + count);
    for (size_t a = 0; a < count; a++) {
        const emlx_attr *from = &attrs[a];
        copies[a] =
            (emlx_attr){static_name(op, from->name), from->kind, from->value, NULL, 0, NULL, NULL};
        if (from->kind == EMLX_ATTR_INTS) {
            copies[a].ints = (int64_t *)payload;
            copies[a].count = from->count;
            if (from->count > 0) memcpy(payload, from->ints, attr_payload(from));
        } else if (from->kind == EMLX_ATTR_TEXT) {
            copies[a].text = memcpy(payload, from->text, strlen(from->text) + 1);
        } else if (from->kind == EMLX_ATTR_FUNCTION) {
            copies[a].function = emlx_function_retain(from->function);
        }
        payload += attr_payload(from);
    }
    i->attrs = copies;
    i->attr_count = count;
    i->attrs_size = size;
    return EMLX_OK;
}

static emlx_status check_unique(const emlx_op *op, const emlx_attr *attrs, size_t count,
                                emlx_error *err) {
    for (size_t a = 0; a < count; a++)
        for (size_t b = a + 1; b < count; b++)
            if (strcmp(attrs[a].name, attrs[b].name) == 0)
                return error_set(err, EMLX_INVALID, "%s: attribute %s is given twice",
                                 emlx_op_name(op), attrs[a].name);
    return EMLX_OK;
}

// The depth of a block with this call: one more than that of the functions it is given.
static emlx_status depth_with(const emlx_block *block, const emlx_attr *attrs, size_t count,
                              uint32_t *depth, emlx_error *err) {
    *depth = block->depth;
    for (size_t a = 0; a < count; a++) {
        if (attrs[a].kind != EMLX_ATTR_FUNCTION) continue;
        uint32_t inner = attrs[a].function->block->depth;
        if (inner >= BLOCK_DEPTH_MAX)
            return error_set(err, EMLX_INVALID, "blocks nest more than %d deep", BLOCK_DEPTH_MAX);
        if (inner >= *depth) *depth = inner + 1;
    }
    return EMLX_OK;
}

emlx_status emlx_block_apply(emlx_block *block, const emlx_op *op, const uint32_t *operands,
                             size_t operand_count, const emlx_attr *attrs, size_t attr_count,
                             emlx_type type, uint32_t *value, emlx_error *err) {
    REQUIRE(block);
    REQUIRE(op);
    REQUIRE_ITEMS(operands, operand_count);
    REQUIRE_ITEMS(attrs, attr_count);
    REQUIRE(value);
    size_t count = emlx_op_results(op);
    emlx_status status = check_values(block, operands, operand_count, err);
    uint32_t depth;
    if (status != EMLX_OK) return error_prefix(err, status, "%s", emlx_op_name(op));
    TRY(block_reserve(block, count, err));
    emlx_tensor *symbols[EMLX_MAX_RESULTS];
    TRY(apply_symbols(op, block->symbols.items, operands, operand_count, attrs, attr_count, type,
                      symbols, err));
    instr i = {.kind = INSTR_OP, .op = op, .type = type};
    status = check_unique(op, attrs, attr_count, err);
    if (status == EMLX_OK) status = depth_with(block, attrs, attr_count, &depth, err);
    if (status == EMLX_OK) status = copy_attrs(op, attrs, attr_count, &i, err);
    if (status == EMLX_OK) status = copy_values(operands, operand_count, &i.operands, err);
    if (status != EMLX_OK) {
        for (size_t s = 0; s < count; s++) emlx_tensor_release(symbols[s]);
        instr_clear(&i);
        return status;
    }
    i.operand_count = operand_count;
    block->depth = depth;
    block_push(block, &i, symbols, count, value);
    return EMLX_OK;
}

// Control flow ---------------------------------------------------------------------------------

// What a control-flow instruction is made of, while it is being checked.
typedef struct control {
    emlx_block *block;
    emlx_block **blocks; // of the instruction, in its order
    size_t block_count;
    const uint32_t *operands;
    size_t operand_count;
} control;

static emlx_status check_signature(const char *what, const emlx_tensor *given,
                                   const emlx_tensor *wanted, emlx_error *err) {
    if (emlx_tensor_type(given) == emlx_tensor_type(wanted) &&
        shape_equal(emlx_tensor_shape(given), emlx_tensor_shape(wanted)))
        return EMLX_OK;
    char a[SIGNATURE_TEXT], b[SIGNATURE_TEXT];
    return error_set(err, EMLX_INVALID, "%s is %.180s, %.180s expected", what,
                     signature_print(emlx_tensor_type(given), emlx_tensor_shape(given), a),
                     signature_print(emlx_tensor_type(wanted), emlx_tensor_shape(wanted), b));
}

static emlx_status check_blocks(const control *c, emlx_error *err) {
    for (size_t b = 0; b < c->block_count; b++) {
        emlx_block *inner = c->blocks[b];
        bool taken = inner == NULL || inner == c->block || inner->owned;
        for (size_t earlier = 0; earlier < b; earlier++) taken |= c->blocks[earlier] == inner;
        if (taken) return error_set(err, EMLX_INVALID, "block %zu is missing or already in use", b);
        if (inner->depth >= BLOCK_DEPTH_MAX)
            return error_set(err, EMLX_INVALID, "blocks nest more than %d deep", BLOCK_DEPTH_MAX);
    }
    return EMLX_OK;
}

// Every block takes all operands as its inputs.
static emlx_status check_block_inputs(const control *c, emlx_error *err) {
    for (size_t b = 0; b < c->block_count; b++) {
        const emlx_block *inner = c->blocks[b];
        if (inner->inputs.count != c->operand_count)
            return error_set(err, EMLX_INVALID, "block %zu has %zu inputs, %zu operands are given",
                             b, inner->inputs.count, c->operand_count);
        for (size_t i = 0; i < c->operand_count; i++) {
            char what[64];
            snprintf(what, sizeof what, "input %zu of block %zu", i, b);
            TRY(check_signature(what, block_symbol(inner, inner->inputs.items[i].value),
                                block_symbol(c->block, c->operands[i]), err));
        }
    }
    return EMLX_OK;
}

static emlx_status check_decision(const emlx_block *inner, size_t index, emlx_error *err) {
    if (inner->outputs.count != 1)
        return error_set(err, EMLX_INVALID, "block %zu decides and has %zu outputs, 1 expected",
                         index, inner->outputs.count);
    const emlx_tensor *symbol = block_symbol(inner, inner->outputs.items[0].value);
    if (emlx_tensor_shape(symbol)->rank == 0) return EMLX_OK;
    char text[SIGNATURE_TEXT];
    return error_set(err, EMLX_INVALID, "block %zu decides and gives %s, a scalar expected", index,
                     signature_print(emlx_tensor_type(symbol), emlx_tensor_shape(symbol), text));
}

static emlx_status check_control(const control *c, size_t predicates, emlx_error *err) {
    TRY(check_values(c->block, c->operands, c->operand_count, err));
    TRY(check_blocks(c, err));
    TRY(check_block_inputs(c, err));
    for (size_t p = 0; p < predicates; p++) TRY(check_decision(c->blocks[p], p, err));
    return EMLX_OK;
}

// Block `b` must give as many outputs as `wanted` has, of the same types and shapes.
static emlx_status check_outputs(const control *c, size_t b, emlx_tensor *const *wanted,
                                 size_t count, emlx_error *err) {
    const emlx_block *inner = c->blocks[b];
    if (inner->outputs.count != count)
        return error_set(err, EMLX_INVALID, "block %zu has %zu outputs, %zu expected", b,
                         inner->outputs.count, count);
    for (size_t i = 0; i < count; i++) {
        char what[64];
        snprintf(what, sizeof what, "output %zu of block %zu", i, b);
        TRY(check_signature(what, block_symbol(inner, inner->outputs.items[i].value), wanted[i],
                            err));
    }
    return EMLX_OK;
}

static emlx_status control_instr(const control *c, instr *i, emlx_error *err) {
    i->blocks = mem_alloc(c->block_count * sizeof *i->blocks);
    if (i->blocks == NULL) return no_memory_for_block(err);
    emlx_status status = copy_values(c->operands, c->operand_count, &i->operands, err);
    if (status != EMLX_OK) {
        mem_free(i->blocks, c->block_count * sizeof *i->blocks);
        return status;
    }
    memcpy(i->blocks, c->blocks, c->block_count * sizeof *i->blocks);
    i->block_count = c->block_count;
    i->operand_count = c->operand_count;
    return EMLX_OK;
}

static void control_commit(const control *c, instr *i, emlx_tensor *const *symbols, size_t count,
                           uint32_t *first) {
    for (size_t b = 0; b < c->block_count; b++) {
        c->blocks[b]->owned = true;
        if (c->blocks[b]->depth >= c->block->depth) c->block->depth = c->blocks[b]->depth + 1;
        c->block->host_calls |= c->blocks[b]->host_calls;
    }
    block_push(c->block, i, symbols, count, first);
}

// Adds the instruction, with one placeholder for each of the `results`.
static emlx_status control_push(const control *c, instr_kind kind, emlx_tensor *const *results,
                                size_t count, uint32_t *first, emlx_error *err) {
    TRY(block_reserve(c->block, count, err));
    emlx_tensor *few[FEW], **symbols = few;
    if (count > FEW) symbols = mem_alloc(count * sizeof *symbols);
    if (symbols == NULL) return no_memory_for_block(err);
    instr i = {.kind = kind};
    size_t done = 0;
    emlx_status status = EMLX_OK;
    for (; done < count && status == EMLX_OK; done += status == EMLX_OK)
        status = placeholder_new(emlx_tensor_type(results[done]), emlx_tensor_shape(results[done]),
                                 &symbols[done], err);
    if (status == EMLX_OK) status = control_instr(c, &i, err);
    if (status == EMLX_OK) control_commit(c, &i, symbols, count, first);
    while (status != EMLX_OK && done > 0) emlx_tensor_release(symbols[--done]);
    if (symbols != few) mem_free(symbols, count * sizeof *symbols);
    return status;
}

// The symbols of some values, given as ports or as numbers, in an array of `count` + 1.
static emlx_status gather_symbols(const emlx_block *block, const block_port *ports,
                                  const uint32_t *values, size_t count, emlx_tensor ***out,
                                  emlx_error *err) {
    *out = mem_alloc((count + 1) * sizeof **out);
    if (*out == NULL) return no_memory_for_block(err);
    for (size_t i = 0; i < count; i++)
        (*out)[i] = block_symbol(block, ports != NULL ? ports[i].value : values[i]);
    return EMLX_OK;
}

static emlx_status add_cond(const control *c, size_t predicates, uint32_t *first, emlx_error *err) {
    TRY(check_control(c, predicates, err));
    const emlx_block *model = c->blocks[predicates];
    size_t count = model->outputs.count;
    emlx_tensor **results;
    TRY(gather_symbols(model, model->outputs.items, NULL, count, &results, err));
    emlx_status status = EMLX_OK;
    for (size_t b = predicates + 1; b < c->block_count && status == EMLX_OK; b++)
        status = check_outputs(c, b, results, count, err);
    if (status == EMLX_OK) status = control_push(c, INSTR_COND, results, count, first, err);
    mem_free(results, (count + 1) * sizeof *results);
    return status;
}

static emlx_status add_while(const control *c, uint32_t *first, emlx_error *err) {
    TRY(check_control(c, 1, err));
    size_t count = c->operand_count;
    emlx_tensor **results;
    TRY(gather_symbols(c->block, NULL, c->operands, count, &results, err));
    emlx_status status = check_outputs(c, 1, results, count, err);
    if (status == EMLX_OK) status = control_push(c, INSTR_WHILE, results, count, first, err);
    mem_free(results, (count + 1) * sizeof *results);
    return status;
}

emlx_status emlx_block_cond(emlx_block *block, emlx_block *const *predicates,
                            size_t predicate_count, emlx_block *const *branches,
                            size_t branch_count, const uint32_t *operands, size_t operand_count,
                            uint32_t *first, emlx_error *err) {
    REQUIRE(block);
    REQUIRE_ITEMS(predicates, predicate_count);
    REQUIRE_ITEMS(branches, branch_count);
    REQUIRE_ITEMS(operands, operand_count);
    REQUIRE(first);
    if (predicate_count == 0 || predicate_count >= VALUES_MAX ||
        branch_count != predicate_count + 1)
        return error_set(err, EMLX_INVALID,
                         "cond: %zu predicates and %zu branches given, at least 1 predicate and "
                         "one branch more expected",
                         predicate_count, branch_count);
    size_t count = predicate_count + branch_count;
    control c = {block, mem_alloc(count * sizeof(emlx_block *)), count, operands, operand_count};
    if (c.blocks == NULL) return no_memory_for_block(err);
    memcpy(c.blocks, predicates, predicate_count * sizeof *c.blocks);
    memcpy(c.blocks + predicate_count, branches, branch_count * sizeof *c.blocks);
    emlx_status status = add_cond(&c, predicate_count, first, err);
    mem_free(c.blocks, count * sizeof *c.blocks);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "cond");
}

emlx_status emlx_block_while(emlx_block *block, emlx_block *condition, emlx_block *body,
                             const uint32_t *state, size_t state_count, uint32_t *first,
                             emlx_error *err) {
    REQUIRE(block);
    REQUIRE(condition);
    REQUIRE(body);
    REQUIRE_ITEMS(state, state_count);
    REQUIRE(first);
    emlx_block *blocks[2] = {condition, body};
    control c = {block, blocks, 2, state, state_count};
    emlx_status status = add_while(&c, first, err);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "while");
}

// Calls ----------------------------------------------------------------------------------------

static emlx_status host_call_symbols(const emlx_port *results, size_t count, emlx_tensor **symbols,
                                     size_t *done, emlx_error *err) {
    for (; *done < count; ++*done) {
        const emlx_port *r = &results[*done];
        emlx_shape shape;
        if (!type_is_valid(r->type))
            return error_set(err, EMLX_INVALID, "result %zu has no such type", *done);
        size_t rank = r->shape.rank < 0 ? SIZE_MAX : (size_t)r->shape.rank;
        TRY(emlx_shape_make(r->shape.dims, rank, &shape, err));
        TRY(placeholder_new(r->type, &shape, &symbols[*done], err));
    }
    return EMLX_OK;
}

// `symbols` has room for the results and one more.
static emlx_status add_host_call(emlx_block *block, instr *i, const uint32_t *operands,
                                 size_t count, const emlx_port *results, size_t result_count,
                                 emlx_tensor **symbols, uint32_t *first, emlx_error *err) {
    size_t done = 0;
    emlx_status status = host_call_symbols(results, result_count, symbols, &done, err);
    if (status == EMLX_OK) status = copy_values(operands, count, &i->operands, err);
    if (status == EMLX_OK) {
        i->operand_count = count;
        block->host_calls = true;
        block_push(block, i, symbols, result_count, first);
        return EMLX_OK;
    }
    while (done > 0) emlx_tensor_release(symbols[--done]);
    return status;
}

emlx_status emlx_block_call(emlx_block *block, uint32_t number, const uint32_t *operands,
                            size_t operand_count, const emlx_port *results, size_t result_count,
                            uint32_t *first, emlx_error *err) {
    REQUIRE(block);
    REQUIRE_ITEMS(operands, operand_count);
    REQUIRE_ITEMS(results, result_count);
    REQUIRE(first);
    emlx_status status = check_values(block, operands, operand_count, err);
    if (status == EMLX_OK) status = block_reserve(block, result_count, err);
    if (status != EMLX_OK) return error_prefix(err, status, "call");
    size_t size = (result_count + 1) * sizeof(emlx_tensor *);
    emlx_tensor **symbols = mem_alloc(size);
    if (symbols == NULL) return no_memory_for_block(err);
    instr i = {.kind = INSTR_HOST_CALL, .host_call = number};
    status = add_host_call(block, &i, operands, operand_count, results, result_count, symbols,
                           first, err);
    mem_free(symbols, size);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "call");
}
