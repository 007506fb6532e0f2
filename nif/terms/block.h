// SPDX-License-Identifier: Apache-2.0
// block.h - blocks as terms.
#ifndef EMLX_NIF_BLOCK_H
#define EMLX_NIF_BLOCK_H

#include <erl_nif.h>

#include "emlx.h"

// Reads a block from the term that EMLX.Program describes; `nesting` blocks are around it.
emlx_status block_read(ErlNifEnv *env, ERL_NIF_TERM term, int nesting, emlx_block **out,
                       emlx_error *err);

#endif
