// SPDX-License-Identifier: Apache-2.0
// archive.c - the arrays and texts of a file of weights, all at once: tensors of mapped files cost
// next to nothing.
#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "resources.h"
#include "terms/error.h"
#include "terms/terms.h"

// {name, format, dims of its values, tensor}
static emlx_status make_array(ErlNifEnv *env, const emlx_archive *archive, const emlx_entry *e,
                              emlx_device *device, ERL_NIF_TERM *out, emlx_error *err) {
    emlx_tensor *tensor;
    ERL_NIF_TERM term;
    TRY(emlx_archive_tensor(archive, e->name, EMLX_TYPE_DEFAULT, device, &tensor, err));
    TRY(make_tensor(env, tensor, &term, err));
    *out = enif_make_tuple4(env, make_text(env, e->name), make_text(env, e->format),
                            make_dims(env, &e->shape), term);
    return EMLX_OK;
}

static emlx_status make_arrays(ErlNifEnv *env, const emlx_archive *archive, emlx_device *device,
                               ERL_NIF_TERM *list, emlx_error *err) {
    const emlx_entry *e;
    for (size_t i = 0; (e = emlx_archive_entry(archive, i)) != NULL; i++) {
        ERL_NIF_TERM array;
        TRY(make_array(env, archive, e, device, &array, err));
        *list = enif_make_list_cell(env, array, *list);
    }
    return EMLX_OK;
}

// [{key, text}]
static ERL_NIF_TERM make_texts(ErlNifEnv *env, const emlx_archive *archive) {
    const char *key;
    ERL_NIF_TERM list = enif_make_list(env, 0);
    for (size_t i = 0; (key = emlx_archive_key(archive, i)) != NULL; i++) {
        ERL_NIF_TERM text = make_text(env, emlx_archive_text(archive, key));
        list = enif_make_list_cell(env, enif_make_tuple2(env, make_text(env, key), text), list);
    }
    return list;
}

static emlx_status run_read(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    emlx_archive *archive = NULL;
    ERL_NIF_TERM arrays = enif_make_list(env, 0);
    TRY(emlx_archive_open(task->path, &archive, err));
    ERL_NIF_TERM texts = make_texts(env, archive);
    emlx_status status = make_arrays(env, archive, task->device->device, &arrays, err);
    emlx_archive_release(archive);
    *term = enif_make_tuple2(env, texts, arrays);
    return status;
}

// archive_read(device, path, reference): the answer is {:ok, {texts, arrays}}.
ERL_NIF_TERM nif_archive_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_read, JOB_BLOCKS, &argv[0], atoms.nil, &argv[1], argv[2]);
}
