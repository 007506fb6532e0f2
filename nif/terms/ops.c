// SPDX-License-Identifier: Apache-2.0
// ops.c - the op table seen through atoms. What an op is called and takes is asked of the library
// when the NIF is loaded; no name stands here.
#include "terms/ops.h"

#include <stdlib.h>

#include "terms/error.h"
#include "terms/terms.h"

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

const nif_attr *op_attr(const nif_op *op, ERL_NIF_TERM atom) {
    for (size_t i = 0; i < op->attr_count; i++)
        if (op->attrs[i].atom == atom) return &op->attrs[i];
    return NULL;
}

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
