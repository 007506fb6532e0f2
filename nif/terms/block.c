// SPDX-License-Identifier: Apache-2.0
// block.c - reads a program block from plain terms:
//   {inputs, instructions, outputs}
//   input        {name or nil, type, shape}
//   instruction  {op, operands, attributes, type or nil} | {:tensor, tensor}
//                | {:cond, [block], [block], operands} | {:while, block, block, state}
//                | {:call, number, operands, [{type, shape}]}
//   output       {name or nil, value}
// Values are numbered in the order they are made, inputs first.
#include "terms/block.h"

#include <math.h>

#include "resources.h"
#include "terms/error.h"
#include "terms/terms.h"

enum {
    // Blocks within blocks, as the library has them. Reading recurses, for functions of eager calls
    // on a scheduler's stack, of which a level takes less than a kilobyte: what is large lies
    // elsewhere.
    MAX_NESTING = 64,
    MAX_NAME = 512
};

// Attributes ----------------------------------------------------------------------------------

static emlx_status wrong(const nif_op *op, const nif_attr *attr, const char *expected,
                         emlx_error *err) {
    return nif_fail(err, EMLX_INVALID, "%s: attribute %s must be %s", emlx_op_name(op->op),
                    attr->name, expected);
}

static bool read_real(ErlNifEnv *env, ERL_NIF_TERM term, double *value) {
    ErlNifSInt64 whole;
    if (enif_get_double(env, term, value)) return true;
    if (enif_get_int64(env, term, &whole)) return *value = (double)whole, true;
    if (term == atoms.nan) return *value = NAN, true;
    if (term == atoms.infinity) return *value = INFINITY, true;
    if (term == atoms.neg_infinity) return *value = -INFINITY, true;
    return false;
}

// An integer, a float, :nan, :infinity, :neg_infinity, or {real, imaginary}.
static bool read_number(ErlNifEnv *env, ERL_NIF_TERM term, emlx_number *number) {
    ErlNifSInt64 s;
    ErlNifUInt64 u;
    int arity;
    const ERL_NIF_TERM *parts;
    if (enif_get_int64(env, term, &s)) {
        *number = (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = s};
    } else if (enif_get_uint64(env, term, &u)) {
        *number = (emlx_number){.kind = EMLX_NUMBER_UNSIGNED, .as.u = u};
    } else if (enif_get_tuple(env, term, &arity, &parts)) {
        number->kind = EMLX_NUMBER_COMPLEX;
        return arity == 2 && read_real(env, parts[0], &number->as.f[0]) &&
               read_real(env, parts[1], &number->as.f[1]);
    } else {
        *number = (emlx_number){.kind = EMLX_NUMBER_REAL};
        return read_real(env, term, &number->as.f[0]);
    }
    return true;
}

static bool push_int(ErlNifEnv *env, ERL_NIF_TERM term, attr_list *attrs) {
    ErlNifSInt64 value;
    if (attrs->int_count == MAX_ATTR_INTS || !enif_get_int64(env, term, &value)) return false;
    attrs->ints[attrs->int_count++] = value;
    return true;
}

// An integer, or a tuple of them: Nx gives padding as a list of tuples.
static bool push_item(ErlNifEnv *env, ERL_NIF_TERM term, attr_list *attrs) {
    int arity;
    const ERL_NIF_TERM *items;
    if (!enif_get_tuple(env, term, &arity, &items)) return push_int(env, term, attrs);
    for (int i = 0; i < arity; i++)
        if (!push_int(env, items[i], attrs)) return false;
    return true;
}

static bool read_int_list(ErlNifEnv *env, ERL_NIF_TERM term, attr_list *attrs, emlx_attr *out) {
    size_t first = attrs->int_count;
    ERL_NIF_TERM head;
    if (enif_is_tuple(env, term)) {
        if (!push_item(env, term, attrs)) return false;
    } else {
        while (enif_get_list_cell(env, term, &head, &term))
            if (!push_item(env, head, attrs)) return false;
        if (!enif_is_empty_list(env, term)) return false;
    }
    out->ints = attrs->ints + first;
    out->count = attrs->int_count - first;
    return true;
}

static bool read_bool(ERL_NIF_TERM term, emlx_number *number) {
    *number = (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = term == atoms.yes};
    return term == atoms.yes || term == atoms.no;
}

static bool read_name(ErlNifEnv *env, ERL_NIF_TERM term, char *text, emlx_attr *out) {
    out->text = text;
    return enif_get_atom(env, term, text, MAX_TEXT, ERL_NIF_LATIN1) > 0;
}

static emlx_status function_attr(ErlNifEnv *env, ERL_NIF_TERM term, int nesting, emlx_attr *out,
                                 emlx_error *err) {
    emlx_block *block;
    TRY(block_read(env, term, nesting + 1, &block, err));
    return emlx_function_new(block, &out->function, err);
}

static emlx_status read_attr(ErlNifEnv *env, const nif_op *op, const nif_attr *attr,
                             ERL_NIF_TERM term, int nesting, attr_list *attrs, emlx_error *err) {
    ErlNifSInt64 whole;
    if (attrs->count == MAX_ATTRS)
        return nif_fail(err, EMLX_INVALID, "%s: an attribute is given twice", emlx_op_name(op->op));
    emlx_attr *out = &attrs->items[attrs->count];
    *out = (emlx_attr){.name = attr->name, .kind = attr->kind};
    switch (attr->kind) {
    case EMLX_ATTR_INT:
        if (!enif_get_int64(env, term, &whole)) return wrong(op, attr, "a 64-bit integer", err);
        out->value = (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = whole};
        break;
    case EMLX_ATTR_INTS:
        if (!read_int_list(env, term, attrs, out))
            return wrong(op, attr, "a tuple or list of 64-bit integers", err);
        break;
    case EMLX_ATTR_BOOL:
        if (!read_bool(term, &out->value)) return wrong(op, attr, "true or false", err);
        break;
    case EMLX_ATTR_NUMBER:
        if (!read_number(env, term, &out->value)) return wrong(op, attr, "a number", err);
        break;
    case EMLX_ATTR_TEXT:
        if (!read_name(env, term, attrs->texts[attrs->count], out))
            return wrong(op, attr, "an atom", err);
        break;
    case EMLX_ATTR_FUNCTION: TRY(function_attr(env, term, nesting, out, err)); break;
    }
    attrs->count++;
    return EMLX_OK;
}

void attrs_clear(attr_list *attrs) {
    for (size_t i = 0; i < attrs->count; i++) emlx_function_release(attrs->items[i].function);
}

emlx_status read_attrs(ErlNifEnv *env, const nif_op *op, ERL_NIF_TERM term, int nesting,
                       attr_list *attrs, emlx_error *err) {
    ERL_NIF_TERM head;
    int arity;
    const ERL_NIF_TERM *pair;
    char name[64] = "?";
    attrs->count = attrs->int_count = 0;
    while (enif_get_list_cell(env, term, &head, &term)) {
        if (!enif_get_tuple(env, head, &arity, &pair) || arity != 2)
            return nif_fail(err, EMLX_INVALID, "%s: attributes must be a keyword list",
                            emlx_op_name(op->op));
        if (pair[1] == atoms.nil) continue;
        const nif_attr *attr = op_attr(op, pair[0]);
        if (attr != NULL) {
            TRY(read_attr(env, op, attr, pair[1], nesting, attrs, err));
            continue;
        }
        enif_get_atom(env, pair[0], name, sizeof name, ERL_NIF_LATIN1);
        return nif_fail(err, EMLX_INVALID, "%s: there is no attribute %s", emlx_op_name(op->op),
                        name);
    }
    if (!enif_is_empty_list(env, term))
        return nif_fail(err, EMLX_INVALID, "%s: attributes must be a keyword list",
                        emlx_op_name(op->op));
    return EMLX_OK;
}

// Ports ----------------------------------------------------------------------------------------

typedef struct reader {
    ErlNifEnv *env;
    emlx_block *block;
    int nesting;
    attr_list *attrs; // of the instruction that is read, too large for a stack that blocks nest on
} reader;

static emlx_status expected_program(emlx_error *err, const char *what) {
    return nif_fail(err, EMLX_INVALID, "a program %s", what);
}

// Calls `read` for each element of a list.
static emlx_status read_each(reader *to, ERL_NIF_TERM list,
                             emlx_status (*read)(reader *to, ERL_NIF_TERM item, emlx_error *err),
                             emlx_error *err) {
    ERL_NIF_TERM head;
    while (enif_get_list_cell(to->env, list, &head, &list)) TRY(read(to, head, err));
    return enif_is_empty_list(to->env, list)
               ? EMLX_OK
               : expected_program(err, "has inputs, instructions and outputs that are lists");
}

// NULL in `*name` for nil.
static emlx_status read_port_name(ErlNifEnv *env, ERL_NIF_TERM term, char *text, const char **name,
                                  emlx_error *err) {
    *name = NULL;
    if (term == atoms.nil) return EMLX_OK;
    TRY(read_text(env, term, "the name of an input or output", text, MAX_NAME, err));
    *name = text;
    return EMLX_OK;
}

static emlx_status read_input(reader *to, ERL_NIF_TERM term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *parts;
    char text[MAX_NAME];
    const char *name;
    emlx_type type;
    emlx_shape shape;
    uint32_t value;
    if (!enif_get_tuple(to->env, term, &arity, &parts) || arity != 3)
        return expected_program(err, "input must be {name, type, shape}");
    TRY(read_port_name(to->env, parts[0], text, &name, err));
    TRY(read_type(to->env, parts[1], &type, err));
    TRY(read_shape(to->env, parts[2], &shape, err));
    return emlx_block_input(to->block, name, type, &shape, &value, err);
}

static emlx_status read_output(reader *to, ERL_NIF_TERM term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *parts;
    char text[MAX_NAME];
    const char *name;
    unsigned value;
    if (!enif_get_tuple(to->env, term, &arity, &parts) || arity != 2 ||
        !enif_get_uint(to->env, parts[1], &value))
        return expected_program(err, "output must be {name, value}");
    TRY(read_port_name(to->env, parts[0], text, &name, err));
    return emlx_block_output(to->block, name, value, err);
}

// Value numbers -------------------------------------------------------------------------------

typedef struct value_list {
    uint32_t *items;
    size_t count;
    uint32_t few[8];
} value_list;

static void value_list_free(value_list *list) {
    if (list->items != list->few) enif_free(list->items);
}

static emlx_status read_values(ErlNifEnv *env, ERL_NIF_TERM term, value_list *list,
                               emlx_error *err) {
    unsigned length;
    list->items = list->few;
    list->count = 0;
    if (!enif_get_list_length(env, term, &length))
        return expected_program(err, "instruction must have a list of operands");
    if (length > sizeof list->few / sizeof *list->few)
        list->items = enif_alloc(length * sizeof *list->items);
    if (list->items == NULL) {
        list->items = list->few;
        return nif_no_memory(err, "to read a program");
    }
    ERL_NIF_TERM head;
    for (unsigned value; enif_get_list_cell(env, term, &head, &term);) {
        if (!enif_get_uint(env, head, &value))
            return expected_program(err, "operand must be the number of a value");
        list->items[list->count++] = value;
    }
    return EMLX_OK;
}

// Instructions --------------------------------------------------------------------------------

static emlx_status apply_instruction(reader *to, const nif_op *op, const ERL_NIF_TERM *parts,
                                     emlx_error *err) {
    emlx_type type;
    value_list operands;
    uint32_t value;
    TRY(read_result_type(to->env, parts[3], &type, err));
    TRY(read_attrs(to->env, op, parts[2], to->nesting, to->attrs, err));
    emlx_status status = read_values(to->env, parts[1], &operands, err);
    if (status == EMLX_OK)
        status = emlx_block_apply(to->block, op->op, operands.items, operands.count,
                                  to->attrs->items, to->attrs->count, type, &value, err);
    value_list_free(&operands);
    return status;
}

static emlx_status read_op(reader *to, const ERL_NIF_TERM *parts, emlx_error *err) {
    const nif_op *op;
    TRY(op_get(to->env, parts[0], &op, err));
    to->attrs->count = 0;
    emlx_status status = apply_instruction(to, op, parts, err);
    attrs_clear(to->attrs);
    return status;
}

static emlx_status read_tensor(reader *to, ERL_NIF_TERM term, emlx_error *err) {
    emlx_tensor *tensor;
    uint32_t value;
    TRY(tensor_get(to->env, term, &tensor, err));
    emlx_status status = emlx_block_tensor(to->block, tensor, &value, err);
    emlx_tensor_release(tensor);
    return status;
}

typedef struct block_list {
    emlx_block **items;
    size_t count;
} block_list;

static void block_list_free(block_list *list, bool taken) {
    for (size_t i = 0; !taken && i < list->count; i++) emlx_block_release(list->items[i]);
    if (list->items != NULL) enif_free(list->items);
}

static emlx_status read_blocks(reader *to, ERL_NIF_TERM term, block_list *list, emlx_error *err) {
    unsigned length;
    if (!enif_get_list_length(to->env, term, &length))
        return expected_program(err, "cond must have lists of blocks");
    list->items = enif_alloc((length + 1) * sizeof *list->items);
    if (list->items == NULL) return nif_no_memory(err, "to read a program");
    ERL_NIF_TERM head;
    while (enif_get_list_cell(to->env, term, &head, &term)) {
        TRY(block_read(to->env, head, to->nesting + 1, &list->items[list->count], err));
        list->count++;
    }
    return EMLX_OK;
}

static emlx_status read_cond(reader *to, const ERL_NIF_TERM *parts, emlx_error *err) {
    block_list predicates = {0}, branches = {0};
    value_list operands;
    uint32_t first;
    emlx_status status = read_values(to->env, parts[3], &operands, err);
    if (status == EMLX_OK) status = read_blocks(to, parts[1], &predicates, err);
    if (status == EMLX_OK) status = read_blocks(to, parts[2], &branches, err);
    if (status == EMLX_OK)
        status = emlx_block_cond(to->block, predicates.items, predicates.count, branches.items,
                                 branches.count, operands.items, operands.count, &first, err);
    value_list_free(&operands);
    block_list_free(&predicates, status == EMLX_OK);
    block_list_free(&branches, status == EMLX_OK);
    return status;
}

static emlx_status read_while(reader *to, const ERL_NIF_TERM *parts, emlx_error *err) {
    emlx_block *condition = NULL, *body = NULL;
    value_list state;
    uint32_t first;
    emlx_status status = read_values(to->env, parts[3], &state, err);
    if (status == EMLX_OK) status = block_read(to->env, parts[1], to->nesting + 1, &condition, err);
    if (status == EMLX_OK) status = block_read(to->env, parts[2], to->nesting + 1, &body, err);
    if (status == EMLX_OK)
        status =
            emlx_block_while(to->block, condition, body, state.items, state.count, &first, err);
    value_list_free(&state);
    if (status == EMLX_OK) return EMLX_OK;
    emlx_block_release(condition);
    emlx_block_release(body);
    return status;
}

static emlx_status read_results(ErlNifEnv *env, ERL_NIF_TERM list, emlx_port *ports,
                                emlx_error *err) {
    ERL_NIF_TERM head;
    for (size_t i = 0; enif_get_list_cell(env, list, &head, &list); i++) {
        int arity;
        const ERL_NIF_TERM *parts;
        if (!enif_get_tuple(env, head, &arity, &parts) || arity != 2)
            return expected_program(err, "call must have results {type, shape}");
        ports[i].name = NULL;
        TRY(read_type(env, parts[0], &ports[i].type, err));
        TRY(read_shape(env, parts[1], &ports[i].shape, err));
    }
    return EMLX_OK;
}

static emlx_status read_call(reader *to, const ERL_NIF_TERM *parts, emlx_error *err) {
    unsigned number, count;
    value_list operands;
    uint32_t first;
    if (!enif_get_uint(to->env, parts[1], &number) ||
        !enif_get_list_length(to->env, parts[3], &count))
        return expected_program(err, "call must have a number and a list of results");
    emlx_port *ports = enif_alloc((count + 1) * sizeof *ports);
    if (ports == NULL) return nif_no_memory(err, "to read a program");
    emlx_status status = read_results(to->env, parts[3], ports, err);
    if (status == EMLX_OK) {
        status = read_values(to->env, parts[2], &operands, err);
        if (status == EMLX_OK)
            status = emlx_block_call(to->block, number, operands.items, operands.count, ports,
                                     count, &first, err);
        value_list_free(&operands);
    }
    enif_free(ports);
    return status;
}

static emlx_status read_instruction(reader *to, ERL_NIF_TERM term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *parts;
    if (!enif_get_tuple(to->env, term, &arity, &parts))
        return expected_program(err, "instruction must be a tuple");
    if (arity == 2 && parts[0] == atoms.tensor) return read_tensor(to, parts[1], err);
    if (arity != 4) return expected_program(err, "instruction must have four parts");
    if (parts[0] == atoms.cond) return read_cond(to, parts, err);
    if (parts[0] == atoms.call) return read_call(to, parts, err);
    if (parts[0] == atoms.loop) return read_while(to, parts, err);
    return read_op(to, parts, err);
}

// Blocks --------------------------------------------------------------------------------------

static emlx_status fill_block(reader *to, ERL_NIF_TERM term, emlx_error *err) {
    int arity;
    const ERL_NIF_TERM *parts;
    if (!enif_get_tuple(to->env, term, &arity, &parts) || arity != 3)
        return expected_program(err, "block must be {inputs, instructions, outputs}");
    if (to->nesting >= MAX_NESTING)
        return nif_fail(err, EMLX_INVALID, "a program nests more than %d blocks", MAX_NESTING);
    TRY(read_each(to, parts[0], read_input, err));
    TRY(read_each(to, parts[1], read_instruction, err));
    return read_each(to, parts[2], read_output, err);
}

emlx_status block_read(ErlNifEnv *env, ERL_NIF_TERM term, int nesting, emlx_block **out,
                       emlx_error *err) {
    reader to = {env, NULL, nesting, enif_alloc(sizeof *to.attrs)};
    if (to.attrs == NULL) return nif_no_memory(err, "to read a program");
    emlx_status status = emlx_block_new(&to.block, err);
    if (status == EMLX_OK) status = fill_block(&to, term, err);
    enif_free(to.attrs);
    if (status == EMLX_OK)
        *out = to.block;
    else
        emlx_block_release(to.block);
    return status;
}
