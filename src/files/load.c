// SPDX-License-Identifier: Apache-2.0
// load.c - reads a program file into a block, through the same calls that build one by hand.
// Checks the form of the JSON here; what the instructions mean is checked by the block.
// docs/program-format.md is the description of what is read.
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "files/attrs.h"
#include "files/file.h"
#include "files/format.h"
#include "files/safetensors.h"
#include "program/block.h"

typedef struct reader {
    const safetensors *file;
    emlx_device *device;
} reader;

// Parts of JSON ----------------------------------------------------------------------------------

// Fails on any member that is not among the names, which end with NULL.
static emlx_status check_members(const json_t *object, emlx_error *err, ...) {
    const char *key;
    json_t *value;
    if (!json_is_object(object)) return error_set(err, EMLX_FORMAT, "not an object");
    json_object_foreach((json_t *)object, key, value) {
        va_list names;
        va_start(names, err);
        const char *name;
        bool known = false;
        while (!known && (name = va_arg(names, const char *)) != NULL)
            known = strcmp(name, key) == 0;
        va_end(names);
        if (!known) return error_set(err, EMLX_FORMAT, "unknown member \"%.60s\"", key);
    }
    return EMLX_OK;
}

static emlx_status get_array(const json_t *object, const char *key, const json_t **out,
                             emlx_error *err) {
    *out = json_object_get(object, key);
    if (json_is_array(*out)) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "\"%s\" is %s, a list expected", key,
                     *out == NULL ? "missing" : "something else");
}

static emlx_status get_text(const json_t *object, const char *key, const char **out,
                            emlx_error *err) {
    const json_t *value = json_object_get(object, key);
    *out = json_string_value(value);
    if (*out != NULL) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "\"%s\" is %s, a text expected", key,
                     value == NULL ? "missing" : "something else");
}

static emlx_status get_type(const json_t *object, emlx_type *out, emlx_error *err) {
    const char *name;
    TRY(get_text(object, "type", &name, err));
    return emlx_type_parse(name, out, err);
}

static emlx_status get_value(const json_t *from, uint32_t *out, emlx_error *err) {
    json_int_t value = json_integer_value(from);
    if (!json_is_integer(from) || value < 0 || value > UINT32_MAX)
        return error_set(err, EMLX_FORMAT, "a value is not given by its number");
    *out = (uint32_t)value;
    return EMLX_OK;
}

static emlx_status get_shape(const json_t *object, emlx_shape *out, emlx_error *err) {
    const json_t *from;
    int64_t dims[EMLX_MAX_RANK];
    TRY(get_array(object, "shape", &from, err));
    if (json_array_size(from) > EMLX_MAX_RANK)
        return error_set(err, EMLX_FORMAT, "the shape has %zu axes, %d at most expected",
                         json_array_size(from), EMLX_MAX_RANK);
    emlx_status status = json_ints(from, dims, err);
    if (status != EMLX_OK) return error_prefix(err, status, "shape");
    return emlx_shape_make(dims, json_array_size(from), out, err);
}

// Attributes -------------------------------------------------------------------------------------

// A function's block is read inside of what it is an attribute of.
typedef struct around {
    reader *reader;
    unsigned depth;
} around;

static emlx_status read_block(reader *r, const json_t *from, unsigned depth, emlx_block **out,
                              emlx_error *err);

static emlx_status read_function(void *context, const json_t *from, emlx_function **out,
                                 emlx_error *err) {
    const around *a = context;
    emlx_block *block;
    TRY(read_block(a->reader, from, a->depth + 1, &block, err));
    return emlx_function_new(block, out, err);
}

// Instructions -----------------------------------------------------------------------------------

static emlx_status read_operands(const json_t *from, uint32_t *out, emlx_error *err) {
    for (size_t i = 0; i < json_array_size(from); i++)
        TRY(get_value(json_array_get(from, i), &out[i], err));
    return EMLX_OK;
}

static emlx_status apply_op(reader *r, const emlx_op *op, const json_t *from, unsigned depth,
                            emlx_block *block, emlx_error *err) {
    uint32_t value;
    const json_t *operands = json_object_get(from, "operands");
    const json_t *attrs = json_object_get(from, "attrs");
    emlx_type type = EMLX_TYPE_DEFAULT;
    bool typed = emlx_op_results(op) == 1 || json_object_get(from, "type") != NULL;
    if (typed) TRY(get_type(from, &type, err));
    size_t count = json_array_size(operands), size = count * sizeof(uint32_t) + 1;
    uint32_t *values = mem_alloc(size);
    if (values == NULL) return error_no_memory(err, "for reading a program");
    around here = {r, depth};
    json_attrs read = {0};
    emlx_status status = read_operands(operands, values, err);
    if (status == EMLX_OK) status = json_attrs_read(op, attrs, read_function, &here, &read, err);
    if (status != EMLX_OK)
        error_prefix(err, status, "%s", emlx_op_name(op));
    else
        status =
            emlx_block_apply(block, op, values, count, read.items, read.count, type, &value, err);
    json_attrs_free(&read);
    mem_free(values, size);
    return status;
}

static emlx_status read_op(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                           emlx_error *err) {
    const char *name;
    const json_t *operands, *attrs = json_object_get(from, "attrs");
    TRY(check_members(from, err, "op", "operands", "attrs", "type", NULL));
    TRY(get_text(from, "op", &name, err));
    const emlx_op *op = emlx_op_find(name);
    if (op == NULL) return error_set(err, EMLX_FORMAT, "unknown op \"%.60s\"", name);
    TRY(get_array(from, "operands", &operands, err));
    if (attrs != NULL && !json_is_object(attrs))
        return error_set(err, EMLX_FORMAT, "\"attrs\" is not an object");
    return apply_op(r, op, from, depth, block, err);
}

static emlx_status read_literal(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                                emlx_error *err) {
    (void)depth;
    const char *name;
    emlx_type type;
    emlx_tensor *tensor;
    uint32_t value;
    TRY(check_members(from, err, "tensor", "type", NULL));
    TRY(get_text(from, "tensor", &name, err));
    TRY(get_type(from, &type, err));
    TRY(safetensors_tensor(r->file, name, type, r->device, &tensor, err));
    emlx_status status = emlx_block_tensor(block, tensor, &value, err);
    emlx_tensor_release(tensor);
    return status;
}

// Reads blocks until one fails; those read are in `out`, the other places are NULL.
static emlx_status read_blocks(reader *r, const json_t *from, const char *what, unsigned depth,
                               emlx_block **out, emlx_error *err) {
    for (size_t i = 0; i < json_array_size(from); i++) {
        emlx_status status = read_block(r, json_array_get(from, i), depth + 1, &out[i], err);
        if (status != EMLX_OK) return error_prefix(err, status, "%s %zu", what, i);
    }
    return EMLX_OK;
}

// What a control-flow instruction is given, while it is being read.
typedef struct control_room {
    size_t size, block_count, operand_count;
    emlx_block **blocks;
    uint32_t *operands;
} control_room;

static emlx_status control_new(const json_t *from, size_t blocks, control_room *out,
                               emlx_error *err) {
    const json_t *operands;
    TRY(get_array(from, "operands", &operands, err));
    out->block_count = blocks;
    out->operand_count = json_array_size(operands);
    out->size = blocks * sizeof(emlx_block *) + out->operand_count * sizeof(uint32_t) + 1;
    out->blocks = mem_alloc(out->size);
    if (out->blocks == NULL) return error_no_memory(err, "for reading a program");
    out->operands = (uint32_t *)(out->blocks + blocks);
    emlx_status status = read_operands(operands, out->operands, err);
    if (status != EMLX_OK) mem_free(out->blocks, out->size);
    return status;
}

static void control_free(control_room *room, emlx_status status) {
    for (size_t i = 0; i < room->block_count && status != EMLX_OK; i++)
        emlx_block_release(room->blocks[i]);
    mem_free(room->blocks, room->size);
}

static emlx_status read_cond(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                             emlx_error *err) {
    const json_t *predicates, *branches, *cond = json_object_get(from, "cond");
    TRY(check_members(from, err, "cond", "operands", NULL));
    TRY(check_members(cond, err, "predicates", "branches", NULL));
    TRY(get_array(cond, "predicates", &predicates, err));
    TRY(get_array(cond, "branches", &branches, err));
    size_t first = json_array_size(predicates), count = json_array_size(branches);
    control_room room = {0};
    TRY(control_new(from, first + count, &room, err));
    uint32_t value;
    emlx_status status = read_blocks(r, predicates, "predicate", depth, room.blocks, err);
    if (status == EMLX_OK)
        status = read_blocks(r, branches, "branch", depth, room.blocks + first, err);
    if (status == EMLX_OK)
        status = emlx_block_cond(block, room.blocks, first, room.blocks + first, count,
                                 room.operands, room.operand_count, &value, err);
    control_free(&room, status);
    return status;
}

static emlx_status read_while(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                              emlx_error *err) {
    static const char *const parts[] = {"condition", "body"};
    const json_t *loop = json_object_get(from, "while");
    TRY(check_members(from, err, "while", "operands", NULL));
    TRY(check_members(loop, err, "condition", "body", NULL));
    control_room room = {0};
    TRY(control_new(from, 2, &room, err));
    emlx_status status = EMLX_OK;
    for (int i = 0; i < 2 && status == EMLX_OK; i++) {
        status = read_block(r, json_object_get(loop, parts[i]), depth + 1, &room.blocks[i], err);
        if (status != EMLX_OK) error_prefix(err, status, "%s", parts[i]);
    }
    uint32_t value;
    if (status == EMLX_OK)
        status = emlx_block_while(block, room.blocks[0], room.blocks[1], room.operands,
                                  room.operand_count, &value, err);
    control_free(&room, status);
    return status;
}

// Reads one item of a block's list, which stands at that depth.
typedef emlx_status (*item_reader)(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                                   emlx_error *err);

// Instructions are told apart by the member that only they have.
static const struct {
    const char *member;
    item_reader read;
} instr_readers[] = {
    {"op", read_op},
    {"tensor", read_literal},
    {"cond", read_cond},
    {"while", read_while},
};

static emlx_status read_instr(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                              emlx_error *err) {
    for (size_t i = 0; i < sizeof instr_readers / sizeof *instr_readers; i++)
        if (json_object_get(from, instr_readers[i].member) != NULL)
            return instr_readers[i].read(r, from, depth, block, err);
    return error_set(err, EMLX_FORMAT, "neither op, tensor, cond nor while");
}

// Blocks -----------------------------------------------------------------------------------------

static emlx_status read_input(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                              emlx_error *err) {
    (void)r;
    (void)depth;
    const char *name;
    emlx_type type;
    emlx_shape shape;
    uint32_t value;
    TRY(check_members(from, err, "name", "type", "shape", NULL));
    TRY(get_text(from, "name", &name, err));
    TRY(get_type(from, &type, err));
    TRY(get_shape(from, &shape, err));
    return emlx_block_input(block, name, type, &shape, &value, err);
}

static emlx_status read_output(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                               emlx_error *err) {
    (void)r;
    (void)depth;
    const char *name;
    uint32_t value = 0;
    TRY(check_members(from, err, "name", "value", NULL));
    TRY(get_text(from, "name", &name, err));
    TRY(get_value(json_object_get(from, "value"), &value, err));
    return emlx_block_output(block, name, value, err);
}

// The lists of a block, in the order that they need each other.
static const struct {
    const char *member, *what;
    item_reader read;
} block_parts[] = {
    {"inputs", "input", read_input},
    {"code", "instruction", read_instr},
    {"outputs", "output", read_output},
};

static emlx_status fill_block(reader *r, const json_t *from, unsigned depth, emlx_block *block,
                              emlx_error *err) {
    TRY(check_members(from, err, "inputs", "code", "outputs", NULL));
    for (size_t p = 0; p < sizeof block_parts / sizeof *block_parts; p++) {
        const json_t *list;
        TRY(get_array(from, block_parts[p].member, &list, err));
        for (size_t i = 0; i < json_array_size(list); i++) {
            emlx_status status = block_parts[p].read(r, json_array_get(list, i), depth, block, err);
            if (status != EMLX_OK)
                return error_prefix(err, status, "%s %zu", block_parts[p].what, i);
        }
    }
    return EMLX_OK;
}

static emlx_status read_block(reader *r, const json_t *from, unsigned depth, emlx_block **out,
                              emlx_error *err) {
    if (depth > BLOCK_DEPTH_MAX)
        return error_set(err, EMLX_FORMAT, "blocks nest more than %d deep", BLOCK_DEPTH_MAX);
    emlx_block *block;
    TRY(emlx_block_new(&block, err));
    emlx_status status = fill_block(r, from, depth, block, err);
    if (status == EMLX_OK)
        *out = block;
    else
        emlx_block_release(block);
    return status;
}

// Files ------------------------------------------------------------------------------------------

static emlx_status read_program(reader *r, const json_t *from, emlx_block **out, emlx_error *err) {
    const json_t *version = json_object_get(from, "version");
    if (!json_is_integer(version)) return error_set(err, EMLX_FORMAT, "the program has no version");
    if (json_integer_value(version) != FORMAT_VERSION)
        return error_set(err, EMLX_FORMAT,
                         "the program has version %lld of the format, %d expected",
                         (long long)json_integer_value(version), FORMAT_VERSION);
    TRY(check_members(from, err, "version", "main", NULL));
    return read_block(r, json_object_get(from, "main"), 1, out, err);
}

static emlx_status parse_program(reader *r, emlx_block **out, emlx_error *err) {
    if (r->file->program == NULL)
        return error_set(err, EMLX_FORMAT,
                         "no program: the metadata has no \"" SAFETENSORS_KEY "\"");
    json_document program;
    TRY(json_read(r->file->program, strlen(r->file->program), "the program", &program, err));
    emlx_status status = read_program(r, program.root, out, err);
    json_clear(&program);
    return status;
}

emlx_status emlx_block_load(const char *path, emlx_device *device, emlx_block **out,
                            emlx_error *err) {
    REQUIRE(path);
    REQUIRE(device);
    REQUIRE(out);
    safetensors file;
    emlx_status status = safetensors_read(path, &file, err);
    if (status != EMLX_OK) return file_blame(path, status, err);
    reader r = {&file, device};
    status = parse_program(&r, out, err);
    safetensors_clear(&file);
    return file_blame(path, status, err);
}

emlx_status emlx_program_load(const char *path, emlx_device *device, emlx_program **out,
                              emlx_error *err) {
    REQUIRE(path);
    REQUIRE(device);
    REQUIRE(out);
    emlx_block *block = NULL;
    TRY(emlx_block_load(path, device, &block, err));
    emlx_status status = emlx_program_compile(block, device, out, err);
    return file_prefix(path, status, err);
}
