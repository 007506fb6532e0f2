// SPDX-License-Identifier: Apache-2.0
// block.h - blocks as terms, and attributes of ops, as some of them are blocks.
#ifndef EMLX_NIF_BLOCK_H
#define EMLX_NIF_BLOCK_H

#include <erl_nif.h>

#include "terms/ops.h"

// Reads a block from the term that EMLX.Program describes; `nesting` blocks are around it.
emlx_status block_read(ErlNifEnv *env, ERL_NIF_TERM term, int nesting, emlx_block **out,
                       emlx_error *err);

enum { MAX_ATTR_INTS = 512, MAX_TEXT = 32 };

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
