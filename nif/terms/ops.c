// SPDX-License-Identifier: Apache-2.0
// ops.c - the op table seen through atoms, and attribute lists. What an op is called and takes is
// asked of the library when the NIF is loaded; no name stands here.
#include "terms/ops.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "terms/block.h"
#include "terms/error.h"
#include "terms/terms.h"

typedef struct nif_attr {
    ERL_NIF_TERM atom;
    const char *name;
    emlx_attr_kind kind;
    bool required;
} nif_attr;

struct nif_op {
    ERL_NIF_TERM atom;
    const emlx_op *op;
    size_t attr_count;
    nif_attr attrs[MAX_ATTRS];
};

// Sorted by atom, which is an immediate word, so that a lookup compares integers only.
static nif_op *table;
static size_t table_size;

static int by_atom(const void *a, const void *b) {
    ERL_NIF_TERM left = ((const nif_op *)a)->atom, right = ((const nif_op *)b)->atom;
    return (left > right) - (left < right);
}

static void load_op(ErlNifEnv *env, const emlx_op *op, nif_op *row) {
    row->atom = enif_make_atom(env, emlx_op_name(op));
    row->op = op;
    row->attr_count = 0;
    while (row->attr_count < MAX_ATTRS) {
        nif_attr *attr = &row->attrs[row->attr_count];
        if (!emlx_op_attr(op, row->attr_count, &attr->name, &attr->kind, &attr->required)) break;
        attr->atom = enif_make_atom(env, attr->name);
        row->attr_count++;
    }
}

bool ops_load(ErlNifEnv *env) {
    if (table != NULL) return true;
    size_t count = 0;
    while (emlx_op_at(count) != NULL) count++;
    nif_op *rows = enif_alloc((count + 1) * sizeof *rows);
    if (rows == NULL) return false;
    for (size_t i = 0; i < count; i++) load_op(env, emlx_op_at(i), &rows[i]);
    qsort(rows, count, sizeof *rows, by_atom);
    table_size = count;
    table = rows;
    return true;
}

emlx_status op_get(ErlNifEnv *env, ERL_NIF_TERM term, const nif_op **op, emlx_error *err) {
    nif_op key = {.atom = term};
    const nif_op *row = bsearch(&key, table, table_size, sizeof *table, by_atom);
    if (row != NULL) {
        *op = row;
        return EMLX_OK;
    }
    char name[64];
    if (!enif_get_atom(env, term, name, sizeof name, ERL_NIF_LATIN1))
        return nif_fail(err, EMLX_INVALID, "an op must be an atom");
    return nif_fail(err, EMLX_UNSUPPORTED, "this version has no op %s", name);
}

const emlx_op *op_core(const nif_op *op) { return op->op; }

// The table as terms --------------------------------------------------------------------------

static ERL_NIF_TERM make_attrs(ErlNifEnv *env, const emlx_op *op) {
    const ERL_NIF_TERM kinds[] = {
        [EMLX_ATTR_INT] = atoms.int_,   [EMLX_ATTR_INTS] = atoms.ints,
        [EMLX_ATTR_BOOL] = atoms.bool_, [EMLX_ATTR_NUMBER] = atoms.number,
        [EMLX_ATTR_TEXT] = atoms.text,  [EMLX_ATTR_FUNCTION] = atoms.function};
    ERL_NIF_TERM items[MAX_ATTRS];
    const char *name;
    emlx_attr_kind kind;
    bool required;
    unsigned count = 0;
    for (; count < MAX_ATTRS && emlx_op_attr(op, count, &name, &kind, &required); count++)
        items[count] = enif_make_tuple3(env, enif_make_atom(env, name), kinds[kind],
                                        required ? atoms.yes : atoms.no);
    return enif_make_list_from_array(env, items, count);
}

ERL_NIF_TERM make_ops(ErlNifEnv *env) {
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (size_t i = table_size; i-- > 0;) {
        const emlx_op *op = emlx_op_at(i);
        size_t fewest, most;
        emlx_op_operands(op, &fewest, &most);
        ERL_NIF_TERM limit = most == SIZE_MAX ? atoms.any : enif_make_uint64(env, most);
        ERL_NIF_TERM row =
            enif_make_tuple4(env, enif_make_atom(env, emlx_op_name(op)),
                             enif_make_uint64(env, fewest), limit, make_attrs(env, op));
        list = enif_make_list_cell(env, row, list);
    }
    return list;
}

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

static const nif_attr *find_attr(const nif_op *op, ERL_NIF_TERM atom) {
    for (size_t i = 0; i < op->attr_count; i++)
        if (op->attrs[i].atom == atom) return &op->attrs[i];
    return NULL;
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
        const nif_attr *attr = find_attr(op, pair[0]);
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
