// SPDX-License-Identifier: Apache-2.0
// terms.h - atoms, and plain terms as C values and back. The NIF only converts: it knows emlx.h and
// erl_nif.h, no op by name, and computes nothing.
#ifndef EMLX_NIF_TERMS_H
#define EMLX_NIF_TERMS_H

#include <erl_nif.h>

#include "emlx.h"

// Words the NIF itself uses; types, kinds of errors, ops and attributes are made from the library.
#define NIF_ATOM_MAP(XX)                                                                           \
    XX(ok)                                                                                         \
    XX(error)                                                                                      \
    XX(nil)                                                                                        \
    XX(wait)                                                                                       \
    XX(busy)                                                                                       \
    XX(pending)                                                                                    \
    XX(pressure)                                                                                   \
    XX(already_deallocated)                                                                        \
    XX(given)                                                                                      \
    XX(any)                                                                                        \
    XX(nan)                                                                                        \
    XX(infinity)                                                                                   \
    XX(neg_infinity)                                                                               \
    XX(tensor)                                                                                     \
    XX(cond)                                                                                       \
    XX(function)                                                                                   \
    XX(call)                                                                                       \
    XX(ints)                                                                                       \
    XX(number)                                                                                     \
    XX(text)

typedef struct nif_atoms {
#define XX(name) ERL_NIF_TERM name;
    NIF_ATOM_MAP(XX)
#undef XX
    ERL_NIF_TERM yes, no, loop, int_, bool_; // true, false, while, int, bool
    ERL_NIF_TERM types[EMLX_TYPE_COUNT];
} nif_atoms;

extern nif_atoms atoms;

void atoms_load(ErlNifEnv *env);
// :invalid, :out_of_bounds and so on.
ERL_NIF_TERM atom_of_status(ErlNifEnv *env, emlx_status status);

// Reading ---------------------------------------------------------------------------------------

emlx_status read_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err);
// As above; nil asks for the default.
emlx_status read_result_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err);
// A tuple or list of lengths.
emlx_status read_shape(ErlNifEnv *env, ERL_NIF_TERM term, emlx_shape *shape, emlx_error *err);
// A binary without NUL bytes, shorter than `size`.
emlx_status read_text(ErlNifEnv *env, ERL_NIF_TERM term, const char *what, char *text, size_t size,
                      emlx_error *err);

// Making ----------------------------------------------------------------------------------------

ERL_NIF_TERM make_ok(ErlNifEnv *env, ERL_NIF_TERM value);
// {:error, kind, message}; where numbers are to blame, the kind is {kind, fault, cause}.
ERL_NIF_TERM make_error(ErlNifEnv *env, emlx_status status, const emlx_error *err);
ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text);
ERL_NIF_TERM make_dims(ErlNifEnv *env, const emlx_shape *shape);

#endif
