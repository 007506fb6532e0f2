// SPDX-License-Identifier: Apache-2.0
// ops.h - the op table as terms.
#ifndef EMLX_NIF_OPS_H
#define EMLX_NIF_OPS_H

#include <erl_nif.h>

#include "emlx.h"

typedef struct nif_op nif_op;

// Reads the library's table once: names become atoms, looked up without a string compare.
bool ops_load(ErlNifEnv *env);
emlx_status op_get(ErlNifEnv *env, ERL_NIF_TERM term, const nif_op **op, emlx_error *err);
const emlx_op *op_core(const nif_op *op);
// The table as a list of {name, fewest, most | :any, [{attribute, kind, required?}]}.
ERL_NIF_TERM make_ops(ErlNifEnv *env);

enum { MAX_ATTRS = 16, MAX_ATTR_INTS = 512, MAX_TEXT = 32 };

// The attributes of a call, with room for what they point to; to be cleared.
typedef struct attr_list {
    emlx_attr items[MAX_ATTRS];
    size_t count;
    size_t int_count;
    int64_t ints[MAX_ATTR_INTS];
    char texts[MAX_ATTRS][MAX_TEXT];
} attr_list;

// Reads a keyword list. An attribute that is nil counts as not given. Functions are blocks, nested
// one deeper than `nesting`.
emlx_status read_attrs(ErlNifEnv *env, const nif_op *op, ERL_NIF_TERM term, int nesting,
                       attr_list *attrs, emlx_error *err);
void attrs_clear(attr_list *attrs);

#endif
