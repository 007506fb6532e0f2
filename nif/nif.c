// SPDX-License-Identifier: Apache-2.0
// nif.c - loading, upgrading, and the functions on devices and memory.
#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "jobs/relief.h"
#include "resources.h"
#include "terms/error.h"
#include "terms/ops.h"
#include "terms/terms.h"

ERL_NIF_TERM nif_version(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    return make_text(env, emlx_version());
}

ERL_NIF_TERM nif_ops(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    return make_ops(env);
}

// Devices -------------------------------------------------------------------------------------

ERL_NIF_TERM nif_devices(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    size_t count = 0;
    while (emlx_device_available(count) != NULL) count++;
    ERL_NIF_TERM list = enif_make_list(env, 0);
    while (count-- > 0)
        list = enif_make_list_cell(env, make_text(env, emlx_device_available(count)), list);
    return list;
}

// Pairs of an engine that has no device here, and why.
ERL_NIF_TERM nif_devices_missing(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    ERL_NIF_TERM list = enif_make_list(env, 0);
    char why[400];
    const char *name;
    for (size_t i = 0; (name = emlx_engine_missing(i, why, sizeof why)) != NULL; i++) {
        ERL_NIF_TERM one = enif_make_tuple2(env, make_text(env, name), make_text(env, why));
        list = enif_make_list_cell(env, one, list);
    }
    return list;
}

static emlx_status run_device_open(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    emlx_device *device;
    TRY(emlx_device_open(task->path, &device, err));
    return make_device(task->to->env, device, term, err);
}

// device_open(name, reference): a device may take long to start, so the answer is a message.
ERL_NIF_TERM nif_device_open(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    char name[64];
    emlx_error err;
    emlx_status status = read_text(env, argv[0], "a device name", name, sizeof name, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return task_start(env, run_device_open, JOB_COMPUTES, NULL, atoms.nil, name, argv[1]);
}

ERL_NIF_TERM nif_device_describe(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    device_res *res;
    emlx_error err;
    emlx_status status = device_get(env, argv[0], &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    char text[512] = "";
    emlx_device_describe(res->device, text, sizeof text);
    return make_ok(env, enif_make_tuple2(env, make_text(env, emlx_device_name(res->device)),
                                         make_text(env, text)));
}

static emlx_status run_capture(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    (void)term;
    emlx_device *device = task->device->device;
    return task->path[0] == '\0' ? emlx_device_capture_stop(device, err)
                                 : emlx_device_capture_start(device, task->path, err);
}

// device_capture(device, path, reference): starts a capture into a file; ends it where the path is
// empty. It waits for work of the device, so the answer is a message.
ERL_NIF_TERM nif_device_capture(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return task_ask(env, run_capture, JOB_BLOCKS, &argv[0], atoms.nil, &argv[1], argv[2]);
}

// A list of {op, count}: what the host has computed in place of the device.
ERL_NIF_TERM nif_handovers(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    device_res *res;
    emlx_error err;
    emlx_status status = device_get(env, argv[0], &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    ERL_NIF_TERM list = enif_make_list(env, 0);
    const char *op;
    uint64_t count;
    for (size_t i = 0; emlx_device_handover(res->device, i, &op, &count); i++) {
        ERL_NIF_TERM one = enif_make_tuple2(env, make_text(env, op), enif_make_uint64(env, count));
        list = enif_make_list_cell(env, one, list);
    }
    return make_ok(env, list);
}

ERL_NIF_TERM nif_refuse_handovers(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env, (void)argc;
    emlx_refuse_handovers(enif_is_identical(argv[0], atoms.yes));
    return atoms.ok;
}

// Memory --------------------------------------------------------------------------------------

// {active, peak, cached, limit}
static ERL_NIF_TERM make_memory(ErlNifEnv *env, const emlx_memory *info) {
    return enif_make_tuple4(env, enif_make_uint64(env, info->active),
                            enif_make_uint64(env, info->peak), enif_make_uint64(env, info->cached),
                            enif_make_uint64(env, info->limit));
}

ERL_NIF_TERM nif_memory_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc, (void)argv;
    emlx_memory info;
    emlx_memory_info(&info);
    return make_memory(env, &info);
}

static emlx_status read_bytes(ErlNifEnv *env, ERL_NIF_TERM term, ErlNifUInt64 *bytes,
                              emlx_error *err) {
    if (enif_get_uint64(env, term, bytes)) return EMLX_OK;
    return nif_fail(err, EMLX_INVALID, "a number of bytes must be a non-negative 64-bit integer");
}

static ERL_NIF_TERM set_bytes(ErlNifEnv *env, ERL_NIF_TERM term, uint64_t (*set)(uint64_t bytes)) {
    ErlNifUInt64 bytes;
    emlx_error err;
    emlx_status status = read_bytes(env, term, &bytes, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return make_ok(env, enif_make_uint64(env, set(bytes)));
}

ERL_NIF_TERM nif_memory_set_limit(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return set_bytes(env, argv[0], emlx_memory_set_limit);
}

ERL_NIF_TERM nif_memory_set_cache_limit(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return set_bytes(env, argv[0], emlx_memory_set_cache_limit);
}

ERL_NIF_TERM nif_memory_clear_cache(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env, (void)argc, (void)argv;
    emlx_memory_clear_cache();
    return atoms.ok;
}

ERL_NIF_TERM nif_memory_reset_peak(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)env, (void)argc, (void)argv;
    emlx_memory_reset_peak();
    return atoms.ok;
}

// The same of a device.

ERL_NIF_TERM nif_device_memory_info(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    device_res *res;
    emlx_error err;
    emlx_memory info;
    emlx_status status = device_get(env, argv[0], &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    emlx_device_memory_info(res->device, &info);
    return make_ok(env, make_memory(env, &info));
}

static ERL_NIF_TERM set_device_bytes(ErlNifEnv *env, const ERL_NIF_TERM argv[],
                                     uint64_t (*set)(emlx_device *device, uint64_t bytes)) {
    device_res *res;
    emlx_error err;
    ErlNifUInt64 bytes;
    emlx_status status = device_get(env, argv[0], &res, &err);
    if (status == EMLX_OK) status = read_bytes(env, argv[1], &bytes, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return make_ok(env, enif_make_uint64(env, set(res->device, bytes)));
}

ERL_NIF_TERM nif_device_memory_set_limit(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return set_device_bytes(env, argv, emlx_device_memory_set_limit);
}

ERL_NIF_TERM nif_device_memory_set_cache_limit(ErlNifEnv *env, int argc,
                                               const ERL_NIF_TERM argv[]) {
    (void)argc;
    return set_device_bytes(env, argv, emlx_device_memory_set_cache_limit);
}

static ERL_NIF_TERM do_to_device(ErlNifEnv *env, ERL_NIF_TERM term, void (*fn)(emlx_device *)) {
    device_res *res;
    emlx_error err;
    emlx_status status = device_get(env, term, &res, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    fn(res->device);
    return atoms.ok;
}

ERL_NIF_TERM nif_device_memory_clear_cache(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return do_to_device(env, argv[0], emlx_device_memory_clear_cache);
}

ERL_NIF_TERM nif_device_memory_reset_peak(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return do_to_device(env, argv[0], emlx_device_memory_reset_peak);
}

// Time ----------------------------------------------------------------------------------------

void account(ErlNifEnv *env, ErlNifTime started) {
    enum { PERCENT = 10 }; // of a turn, in microseconds
    ErlNifTime percent = (enif_monotonic_time(ERL_NIF_USEC) - started) / PERCENT;
    if (percent > 0) enif_consume_timeslice(env, percent < 100 ? (int)percent : 100);
}

// Loading -------------------------------------------------------------------------------------

// The library's threads outlive any one module version, so it must never be unmapped: opening it
// once more, without ever closing it, sees to that. `info` is the path given to load_nif.
static void stay_mapped(ErlNifEnv *env, ERL_NIF_TERM info) {
    char path[4096];
    emlx_error err;
    if (read_text(env, info, "a path", path, sizeof path, &err) == EMLX_OK)
        enif_dlopen(path, NULL, NULL);
}

// Why loading failed, which EMLX.NIF has words for.
enum { NO_MEMORY = 1, NO_THREADS = 2 };

static int start_library(ErlNifEnv *env, ErlNifResourceFlags flags, ERL_NIF_TERM info) {
    atoms_load(env);
    bool opened = resources_open(env, flags) && answers_open(env, flags) && relief_load(env, flags);
    if (!opened || !ops_load(env)) return NO_MEMORY;
    if (!jobs_load()) return NO_THREADS;
    stay_mapped(env, info);
    return 0;
}

static int load_anew(ErlNifEnv *env, void **data, ERL_NIF_TERM info) {
    (void)data;
    return start_library(env, ERL_NIF_RT_CREATE, info);
}

static int upgrade(ErlNifEnv *env, void **data, void **old_data, ERL_NIF_TERM info) {
    (void)data, (void)old_data;
    return start_library(env, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, info);
}

// Nothing to undo: everything that is shared lives as long as the mapped library.
static void unload(ErlNifEnv *env, void *data) { (void)env, (void)data; }

static ErlNifFunc functions[] = {
#define XX(name, arity) {#name, arity, nif_##name, 0},
    NIF_FUNCTION_MAP(XX)
#undef XX
// Those that may give much memory back to the system, or touch much of it, which takes a while.
#define XX(name, arity) {#name, arity, nif_##name, ERL_NIF_DIRTY_JOB_IO_BOUND},
        NIF_SLOW_FUNCTION_MAP(XX)
#undef XX
};

ERL_NIF_INIT(Elixir.EMLX.NIF, functions, load_anew, NULL, upgrade, unload)
