// SPDX-License-Identifier: Apache-2.0
// save.c - writes a block as a program file: its graph as JSON, its literals as arrays.
// docs/program-format.md is the description of what is written.
#include <jansson.h>
#include <math.h>

#include "base/error.h"
#include "files/file.h"
#include "files/format.h"
#include "files/safetensors.h"
#include "graph/function.h"
#include "program/block.h"
#include "program/nodes.h"

// Literals in the order of their names; one that occurs twice is written once.
typedef struct writer {
    LIST(emlx_tensor *) literals;
    node_notes seen;
} writer;

static emlx_status no_memory_to_save(emlx_error *err) {
    return error_no_memory(err, "for writing a program");
}

// Adds a value to an object or array, which takes it over; false if either is NULL.
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}
static bool append(json_t *array, json_t *value) {
    return json_array_append_new(array, value) == 0;
}

// Attributes -------------------------------------------------------------------------------------

// JSON has no infinities and no NaN, and no unsigned numbers of its own.
static json_t *real_json(double value) {
    if (isnan(value)) return json_string("nan");
    if (isinf(value)) return json_string(value > 0 ? "inf" : "-inf");
    return json_real(value);
}

static json_t *number_json(const emlx_number *number) {
    switch (number->kind) {
    case EMLX_NUMBER_SIGNED: return json_integer(number->as.s);
    case EMLX_NUMBER_UNSIGNED: return json_sprintf("%llu", (unsigned long long)number->as.u);
    case EMLX_NUMBER_REAL: return real_json(number->as.f[0]);
    case EMLX_NUMBER_COMPLEX: break;
    }
    return json_pack("[o, o]", real_json(number->as.f[0]), real_json(number->as.f[1]));
}

static json_t *ints_json(const int64_t *ints, size_t count) {
    json_t *out = json_array();
    bool fits = true;
    for (size_t i = 0; i < count; i++) fits = fits && append(out, json_integer(ints[i]));
    if (fits) return out;
    json_decref(out);
    return NULL;
}

static emlx_status block_json(writer *w, const emlx_block *block, json_t **out, emlx_error *err);

// NULL when out of memory.
static json_t *attr_json(const emlx_attr *attr) {
    switch (attr->kind) {
    case EMLX_ATTR_INT: return json_integer(attr->value.as.s);
    case EMLX_ATTR_INTS: return ints_json(attr->ints, attr->count);
    case EMLX_ATTR_BOOL: return json_boolean(attr->value.as.s);
    case EMLX_ATTR_NUMBER: return number_json(&attr->value);
    case EMLX_ATTR_TEXT: return json_string(attr->text);
    case EMLX_ATTR_FUNCTION: break;
    }
    return NULL;
}

static emlx_status attrs_json(writer *w, const instr *in, json_t *to, emlx_error *err) {
    json_t *attrs = json_object();
    if (!put(to, "attrs", attrs)) return no_memory_to_save(err);
    for (size_t a = 0; a < in->attr_count; a++) {
        const emlx_attr *attr = &in->attrs[a];
        json_t *value = NULL;
        if (attr->kind == EMLX_ATTR_FUNCTION)
            TRY(block_json(w, attr->function->block, &value, err));
        else
            value = attr_json(attr);
        if (!put(attrs, attr->name, value)) return no_memory_to_save(err);
    }
    return EMLX_OK;
}

// Values -----------------------------------------------------------------------------------------

// In a file the inputs are the first values; these are the new numbers of a block's values.
static emlx_status renumber(const emlx_block *block, uint32_t **out, emlx_error *err) {
    uint32_t *numbers = mem_alloc((block->symbols.count + 1) * sizeof *numbers);
    if (numbers == NULL) return no_memory_to_save(err);
    uint32_t inputs = 0, others = (uint32_t)block->inputs.count;
    for (size_t i = 0; i < block->code.count; i++) {
        const instr *in = &block->code.items[i];
        uint32_t *next = in->kind == INSTR_INPUT ? &inputs : &others;
        for (uint32_t v = 0; v < in->value_count; v++) numbers[in->first + v] = (*next)++;
    }
    *out = numbers;
    return EMLX_OK;
}

static json_t *operands_json(const instr *in, const uint32_t *numbers) {
    json_t *out = json_array();
    bool fits = true;
    for (size_t i = 0; i < in->operand_count; i++)
        fits = fits && append(out, json_integer(numbers[in->operands[i]]));
    if (fits) return out;
    json_decref(out);
    return NULL;
}

static const char *type_text(const emlx_block *block, uint32_t value) {
    return emlx_type_name(emlx_tensor_type(block_symbol(block, value)));
}

// Instructions -----------------------------------------------------------------------------------

static emlx_status op_json(writer *w, const emlx_block *block, const instr *in,
                           const uint32_t *numbers, json_t *to, emlx_error *err) {
    bool fits = put(to, "op", json_string(emlx_op_name(in->op))) &&
                put(to, "operands", operands_json(in, numbers));
    if (fits && in->value_count == 1)
        fits = put(to, "type", json_string(type_text(block, in->first)));
    if (!fits) return no_memory_to_save(err);
    return in->attr_count > 0 ? attrs_json(w, in, to, err) : EMLX_OK;
}

static emlx_status literal_json(writer *w, const emlx_block *block, const instr *in, json_t *to,
                                emlx_error *err) {
    node_note *note = notes_get(&w->seen, in->literal);
    if (note == NULL || !list_reserve(&w->literals, 1)) return no_memory_to_save(err);
    if (note->slot == NODE_NONE) {
        note->slot = (uint32_t)w->literals.count;
        w->literals.items[w->literals.count++] = in->literal;
    }
    bool fits = put(to, "tensor", json_sprintf("t%u", note->slot)) &&
                put(to, "type", json_string(type_text(block, in->first)));
    return fits ? EMLX_OK : no_memory_to_save(err);
}

static emlx_status blocks_json(writer *w, emlx_block *const *blocks, size_t count, json_t *array,
                               emlx_error *err) {
    for (size_t i = 0; i < count; i++) {
        json_t *block;
        TRY(block_json(w, blocks[i], &block, err));
        if (!append(array, block)) return no_memory_to_save(err);
    }
    return EMLX_OK;
}

static emlx_status cond_json(writer *w, const instr *in, json_t *to, emlx_error *err) {
    json_t *cond = json_pack("{s:[], s:[]}", "predicates", "branches");
    if (!put(to, "cond", cond)) return no_memory_to_save(err);
    size_t predicates = cond_predicates(in);
    TRY(blocks_json(w, in->blocks, predicates, json_object_get(cond, "predicates"), err));
    return blocks_json(w, in->blocks + predicates, in->block_count - predicates,
                       json_object_get(cond, "branches"), err);
}

static emlx_status while_json(writer *w, const instr *in, json_t *to, emlx_error *err) {
    json_t *loop = json_object(), *condition, *body;
    if (!put(to, "while", loop)) return no_memory_to_save(err);
    TRY(block_json(w, in->blocks[0], &condition, err));
    if (!put(loop, "condition", condition)) return no_memory_to_save(err);
    TRY(block_json(w, in->blocks[1], &body, err));
    return put(loop, "body", body) ? EMLX_OK : no_memory_to_save(err);
}

static emlx_status instr_json(writer *w, const emlx_block *block, const instr *in,
                              const uint32_t *numbers, json_t *code, emlx_error *err) {
    if (in->kind == INSTR_INPUT) return EMLX_OK;
    json_t *to = json_object();
    if (!append(code, to)) return no_memory_to_save(err);
    if (in->kind == INSTR_OP) return op_json(w, block, in, numbers, to, err);
    if (in->kind == INSTR_TENSOR) return literal_json(w, block, in, to, err);
    if (in->kind == INSTR_HOST_CALL)
        return error_set(err, EMLX_UNSUPPORTED,
                         "a program that calls its host cannot be saved: nobody would answer");
    TRY(in->kind == INSTR_COND ? cond_json(w, in, to, err) : while_json(w, in, to, err));
    return put(to, "operands", operands_json(in, numbers)) ? EMLX_OK : no_memory_to_save(err);
}

// Blocks -----------------------------------------------------------------------------------------

// Jansson takes valid UTF-8 only.
static emlx_status name_json(const char *name, json_t **out, emlx_error *err) {
    *out = json_string(name);
    if (*out != NULL) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "the name of an input or output is not UTF-8");
}

static emlx_status inputs_json(const emlx_block *block, json_t *to, emlx_error *err) {
    for (size_t i = 0; i < block->inputs.count; i++) {
        const block_port *port = &block->inputs.items[i];
        const emlx_shape *shape = emlx_tensor_shape(block_symbol(block, port->value));
        json_t *name;
        TRY(name_json(port->name, &name, err));
        json_t *input =
            json_pack("{s:o, s:s, s:o}", "name", name, "type", type_text(block, port->value),
                      "shape", ints_json(shape->dims, (size_t)shape->rank));
        if (!append(to, input)) return no_memory_to_save(err);
    }
    return EMLX_OK;
}

static emlx_status outputs_json(const emlx_block *block, const uint32_t *numbers, json_t *to,
                                emlx_error *err) {
    for (size_t i = 0; i < block->outputs.count; i++) {
        const block_port *port = &block->outputs.items[i];
        json_t *name;
        TRY(name_json(port->name, &name, err));
        json_t *output =
            json_pack("{s:o, s:I}", "name", name, "value", (json_int_t)numbers[port->value]);
        if (!append(to, output)) return no_memory_to_save(err);
    }
    return EMLX_OK;
}

static emlx_status block_parts_json(writer *w, const emlx_block *block, const uint32_t *numbers,
                                    json_t *to, emlx_error *err) {
    TRY(inputs_json(block, json_object_get(to, "inputs"), err));
    json_t *code = json_object_get(to, "code");
    for (size_t i = 0; i < block->code.count; i++)
        TRY(instr_json(w, block, &block->code.items[i], numbers, code, err));
    return outputs_json(block, numbers, json_object_get(to, "outputs"), err);
}

static emlx_status block_json(writer *w, const emlx_block *block, json_t **out, emlx_error *err) {
    uint32_t *numbers = NULL;
    TRY(renumber(block, &numbers, err));
    json_t *to = json_pack("{s:[], s:[], s:[]}", "inputs", "code", "outputs");
    emlx_status status =
        to == NULL ? no_memory_to_save(err) : block_parts_json(w, block, numbers, to, err);
    mem_free(numbers, (block->symbols.count + 1) * sizeof *numbers);
    if (status == EMLX_OK)
        *out = to;
    else
        json_decref(to);
    return status;
}

// Files ------------------------------------------------------------------------------------------

static emlx_status program_text(writer *w, const emlx_block *block, json_text *out,
                                emlx_error *err) {
    json_t *main;
    TRY(block_json(w, block, &main, err));
    json_t *program = json_pack("{s:i, s:o}", "version", FORMAT_VERSION, "main", main);
    // 17 digits give every double back exactly.
    emlx_status status = json_text_make(program, JSON_COMPACT | JSON_REAL_PRECISION(17), out, err);
    json_decref(program);
    return status;
}

static emlx_status save(writer *w, const emlx_block *block, const char *path, emlx_error *err) {
    json_text text = {0};
    TRY(program_text(w, block, &text, err));
    emlx_status status = EMLX_OK;
    if (w->literals.count > 0) status = emlx_eval(w->literals.items, w->literals.count, err);
    if (status == EMLX_OK)
        status = safetensors_write(path, text.text, w->literals.items, w->literals.count, err);
    json_text_clear(&text);
    return status;
}

emlx_status emlx_block_save(const emlx_block *block, const char *path, emlx_error *err) {
    REQUIRE(block);
    REQUIRE(path);
    writer w = {0};
    emlx_status status = save(&w, block, path, err);
    list_free(&w.literals);
    notes_clear(&w.seen);
    return file_prefix(path, status, err);
}
