// SPDX-License-Identifier: Apache-2.0
// terms.c - atoms, and converting plain terms from and to C values. Every range is checked.
#include "terms/terms.h"

#include <ctype.h>
#include <string.h>

#include "terms/error.h"

nif_atoms atoms;

void atoms_load(ErlNifEnv *env) {
#define XX(name) atoms.name = enif_make_atom(env, #name);
    NIF_ATOM_MAP(XX)
#undef XX
    atoms.yes = enif_make_atom(env, "true");
    atoms.no = enif_make_atom(env, "false");
    atoms.loop = enif_make_atom(env, "while");
    atoms.int_ = enif_make_atom(env, "int");
    atoms.bool_ = enif_make_atom(env, "bool");
    for (int i = 0; i < EMLX_TYPE_COUNT; i++)
        atoms.types[i] = enif_make_atom(env, emlx_type_name((emlx_type)i));
}

ERL_NIF_TERM atom_of_status(ErlNifEnv *env, emlx_status status) {
    static const char *const names[] = {
#define XX(name, text) [EMLX_##name] = #name,
        EMLX_STATUS_MAP(XX)
#undef XX
    };
    bool known = (size_t)status < sizeof names / sizeof *names;
    char name[32] = "";
    const char *from = known ? names[status] : "INTERNAL";
    for (size_t i = 0; from[i] != '\0' && i + 1 < sizeof name; i++)
        name[i] = (char)tolower((unsigned char)from[i]);
    return enif_make_atom(env, name);
}

// Making --------------------------------------------------------------------------------------

ERL_NIF_TERM make_ok(ErlNifEnv *env, ERL_NIF_TERM value) {
    return enif_make_tuple2(env, atoms.ok, value);
}

ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text) {
    ERL_NIF_TERM term;
    size_t size = strlen(text);
    unsigned char *bytes = enif_make_new_binary(env, size, &term);
    memcpy(bytes, text, size);
    return term;
}

ERL_NIF_TERM make_error(ErlNifEnv *env, emlx_status status, const emlx_error *err) {
    static const char *const faults[] = {
#define XX(name, NAME) #name,
        EMLX_FAULT_MAP(XX)
#undef XX
    };
    const char *text = err == NULL ? emlx_status_text(status) : err->message;
    ERL_NIF_TERM kind = atom_of_status(env, status);
    if (err != NULL && err->fault != EMLX_FAULT_NONE)
        kind = enif_make_tuple3(env, kind, enif_make_atom(env, faults[err->fault]),
                                make_text(env, text + err->cause));
    return enif_make_tuple3(env, atoms.error, kind, make_text(env, text));
}

ERL_NIF_TERM make_dims(ErlNifEnv *env, const emlx_shape *shape) {
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (int32_t i = shape->rank; i-- > 0;)
        list = enif_make_list_cell(env, enif_make_int64(env, shape->dims[i]), list);
    return list;
}

// Reading -------------------------------------------------------------------------------------

emlx_status read_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err) {
    (void)env;
    for (int i = 0; i < EMLX_TYPE_COUNT; i++) {
        if (atoms.types[i] != term) continue;
        *type = (emlx_type)i;
        return EMLX_OK;
    }
    return nif_fail(err, EMLX_INVALID, "a type must be an atom such as :f32");
}

emlx_status read_result_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err) {
    if (term != atoms.nil) return read_type(env, term, type, err);
    *type = EMLX_TYPE_DEFAULT;
    return EMLX_OK;
}

static emlx_status read_dim(ErlNifEnv *env, ERL_NIF_TERM term, int64_t *dims, size_t *rank,
                            emlx_error *err) {
    ErlNifSInt64 length;
    if (*rank == EMLX_MAX_RANK)
        return nif_fail(err, EMLX_INVALID, "a shape has at most %d axes", EMLX_MAX_RANK);
    if (!enif_get_int64(env, term, &length))
        return nif_fail(err, EMLX_INVALID, "a shape must consist of 64-bit integers");
    dims[(*rank)++] = length;
    return EMLX_OK;
}

emlx_status read_shape(ErlNifEnv *env, ERL_NIF_TERM term, emlx_shape *shape, emlx_error *err) {
    int64_t dims[EMLX_MAX_RANK];
    size_t rank = 0;
    int arity;
    const ERL_NIF_TERM *items;
    if (enif_get_tuple(env, term, &arity, &items)) {
        for (int i = 0; i < arity; i++) TRY(read_dim(env, items[i], dims, &rank, err));
        return emlx_shape_make(dims, rank, shape, err);
    }
    ERL_NIF_TERM head;
    while (enif_get_list_cell(env, term, &head, &term)) TRY(read_dim(env, head, dims, &rank, err));
    if (!enif_is_empty_list(env, term))
        return nif_fail(err, EMLX_INVALID, "a shape must be a tuple or a list");
    return emlx_shape_make(dims, rank, shape, err);
}

emlx_status read_text(ErlNifEnv *env, ERL_NIF_TERM term, const char *what, char *text, size_t size,
                      emlx_error *err) {
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, term, &binary) || binary.size >= size ||
        (binary.size > 0 && memchr(binary.data, 0, binary.size) != NULL))
        return nif_fail(err, EMLX_INVALID, "%s must be a binary of at most %zu bytes, without NUL",
                        what, size - 1);
    if (binary.size > 0) memcpy(text, binary.data, binary.size);
    text[binary.size] = '\0';
    return EMLX_OK;
}
