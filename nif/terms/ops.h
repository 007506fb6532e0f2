// SPDX-License-Identifier: Apache-2.0
// ops.h - the op table as terms.
#ifndef EMLX_NIF_OPS_H
#define EMLX_NIF_OPS_H

#include <erl_nif.h>

#include "emlx.h"

enum { MAX_ATTRS = 16 };

typedef struct nif_attr {
    ERL_NIF_TERM atom;
    const char *name;
    emlx_attr_kind kind;
    bool required;
} nif_attr;

typedef struct nif_op {
    ERL_NIF_TERM atom;
    const emlx_op *op;
    size_t attr_count;
    nif_attr attrs[MAX_ATTRS];
} nif_op;

// Reads the library's table once: names become atoms, looked up without a string compare.
bool ops_load(ErlNifEnv *env);
emlx_status op_get(ErlNifEnv *env, ERL_NIF_TERM term, const nif_op **op, emlx_error *err);
const nif_attr *op_attr(const nif_op *op, ERL_NIF_TERM atom); // NULL: it has none of that name
// The table as a list of {name, fewest, most | :any, [{attribute, kind, required?}]}.
ERL_NIF_TERM make_ops(ErlNifEnv *env);

#endif
