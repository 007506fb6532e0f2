// SPDX-License-Identifier: Apache-2.0
// pointer.c - tensors by address and by name: memory of this process, and POSIX shared memory.
//
// A wrong address cannot be made safe, but one that cannot be read at all is found. Shared memory
// is copied in and out with ordinary reads and writes: its owner may cut it off at any time, and
// touching a mapping of it then would end the VM.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif
#include <sys/uio.h>
#include <unistd.h>

#include "functions.h"
#include "jobs/answer.h"
#include "jobs/jobs.h"
#include "names.h"
#include "resources.h"
#include "terms/error.h"
#include "terms/terms.h"

enum { MAX_SHM_NAME = 256, PAGES_AT_ONCE = 256 };

// Local memory --------------------------------------------------------------------------------

static emlx_status address_of(ErlNifEnv *env, ERL_NIF_TERM term, ERL_NIF_TERM *out,
                              emlx_error *err) {
    emlx_tensor *tensor;
    const void *data = NULL;
    TRY(tensor_get(env, term, &tensor, err));
    emlx_status status = emlx_tensor_ready(tensor)
                             ? emlx_tensor_data(tensor, &data, err)
                             : nif_fail(err, EMLX_INVALID, "the tensor has not been evaluated");
    if (status == EMLX_OK)
        *out = enif_make_tuple2(env, enif_make_uint64(env, (uintptr_t)data),
                                enif_make_uint64(env, emlx_tensor_bytes(tensor)));
    emlx_tensor_release(tensor);
    return status;
}

// tensor_address(tensor): {:ok, {address, bytes}}
ERL_NIF_TERM nif_tensor_address(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    ERL_NIF_TERM term;
    emlx_status status = address_of(env, argv[0], &term, &err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, &err);
}

// Straight to the system where that has a way: a sanitizer would look at the pages itself.
static ssize_t write_parts(int to, const struct iovec *parts, int count) {
#ifdef __linux__
    return syscall(SYS_writev, to, parts, count);
#else
    return writev(to, parts, count);
#endif
}

// Whether a byte of each page from `address` on can be read: the system reads them into a pipe, and
// says where it cannot. `ends` are those of the pipe.
static bool pages_readable(uintptr_t address, size_t bytes, const int ends[2]) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), end = address + bytes;
    if (end < address) return false;
    while (address < end) {
        struct iovec parts[PAGES_AT_ONCE];
        char read_back[PAGES_AT_ONCE];
        int count = 0;
        for (uintptr_t at = address; at < end && at >= address && count < PAGES_AT_ONCE; count++) {
            // NOLINTNEXTLINE(performance-no-int-to-ptr): an address is what this is about.
            parts[count] = (struct iovec){(void *)at, 1};
            at = (at & ~(page - 1)) + page;
        }
        ssize_t put = write_parts(ends[1], parts, count);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0 || read(ends[0], read_back, (size_t)put) != put) return false;
        address = ((uintptr_t)parts[put - 1].iov_base & ~(page - 1)) + page;
        if (address == 0) break;
    }
    return true;
}

static emlx_status check_readable(uintptr_t address, size_t bytes, emlx_error *err) {
    int ends[2];
    if (pipe(ends) != 0)
        return nif_fail(err, EMLX_IO, "from_pointer: the system gives no pipe to check with");
    bool readable = address != 0 && pages_readable(address, bytes, ends);
    close(ends[0]);
    close(ends[1]);
    if (readable) return EMLX_OK;
    return nif_fail(err, EMLX_INVALID,
                    "from_pointer: %zu bytes at address 0x%llx cannot be read: there is no memory, "
                    "or no access to it",
                    bytes, (unsigned long long)address);
}

static void keep_nothing(void *context) { (void)context; }

static emlx_status from_address(ErlNifEnv *env, const ERL_NIF_TERM argv[], ERL_NIF_TERM *term,
                                emlx_error *err) {
    device_res *device;
    emlx_type type;
    emlx_shape shape;
    ErlNifUInt64 address;
    ErlNifUInt64 bytes;
    emlx_tensor *tensor;
    TRY(device_get(env, argv[0], &device, err));
    TRY(read_type(env, argv[1], &type, err));
    TRY(read_shape(env, argv[2], &shape, err));
    if (!enif_get_uint64(env, argv[3], &address) || !enif_get_uint64(env, argv[4], &bytes))
        return nif_fail(err, EMLX_INVALID,
                        "an address and a size must be non-negative 64-bit integers");
    TRY(check_readable(address, bytes, err));
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    TRY(emlx_tensor_from_memory(device->device, type, &shape, (const void *)(uintptr_t)address,
                                bytes, keep_nothing, NULL, &tensor, err));
    return make_tensor(env, tensor, term, err);
}

// from_address(device, type, shape, address, bytes): the memory must outlive the tensor.
ERL_NIF_TERM nif_from_address(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    emlx_error err;
    ERL_NIF_TERM term;
    emlx_status status = from_address(env, argv, &term, &err);
    return status == EMLX_OK ? make_ok(env, term) : make_error(env, status, &err);
}

// binary_address(binary): where its bytes lie. Two binaries that live and have the same address and
// size are one.
ERL_NIF_TERM nif_binary_address(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, argv[0], &binary)) return enif_make_badarg(env);
    return enif_make_uint64(env, (uintptr_t)binary.data);
}

// Shared memory -------------------------------------------------------------------------------

static emlx_status shm_fail(emlx_error *err, const char *what, const char *name) {
    int number = errno;
    char text[128] = "";
    if (strerror_r(number, text, sizeof text) != 0) snprintf(text, sizeof text, "error %d", number);
    return nif_fail(err, EMLX_IO, "could not %s the shared memory %s: %s", what, name, text);
}

// Names are "/" and what follows, without another one: the form that is portable.
static emlx_status read_shm_name(ErlNifEnv *env, ERL_NIF_TERM term, char *name, emlx_error *err) {
    TRY(read_text(env, term, "the handle of shared memory", name, MAX_SHM_NAME, err));
    if (name[0] != '/' || name[1] == '\0' || strchr(name + 1, '/') != NULL)
        return nif_fail(err, EMLX_INVALID,
                        "the handle of shared memory must be a slash and a name, got: %s", name);
    return EMLX_OK;
}

static emlx_status write_all(int file, const char *data, size_t size, const char *name,
                             emlx_error *err) {
    while (size > 0) {
        ssize_t count = write(file, data, size);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return shm_fail(err, "write", name);
        data += count;
        size -= (size_t)count;
    }
    return EMLX_OK;
}

static emlx_status shm_write(const char *name, unsigned permissions, emlx_tensor *tensor,
                             emlx_error *err) {
    const void *data;
    TRY(emlx_tensor_data(tensor, &data, err));
    int file = shm_open(name, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, (mode_t)permissions);
    if (file < 0) return shm_fail(err, "create", name);
    emlx_status status = write_all(file, data, emlx_tensor_bytes(tensor), name, err);
    close(file);
    if (status != EMLX_OK) shm_unlink(name);
    return status;
}

static emlx_status write_and_keep(task *task, ERL_NIF_TERM term, unsigned permissions, size_t *size,
                                  emlx_error *err) {
    tensor_res *res;
    emlx_tensor *tensor;
    TRY(tensor_res_get(task->to->env, term, &res, err));
    TRY(tensor_get(task->to->env, term, &tensor, err));
    *size = emlx_tensor_bytes(tensor);
    emlx_status status = shm_write(task->path, permissions, tensor, err);
    emlx_tensor_release(tensor);
    TRY(status);
    status = names_keep(&res->names, task->path, err);
    if (status != EMLX_OK) shm_unlink(task->path);
    return status;
}

static emlx_status run_shm_write(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    const ERL_NIF_TERM *parts;
    int arity;
    unsigned permissions;
    size_t size;
    if (!enif_get_tuple(env, task->term, &arity, &parts) || arity != 2 ||
        !enif_get_uint(env, parts[1], &permissions) || permissions > 0777)
        return nif_fail(err, EMLX_INVALID, "permissions must be between 0 and 0o777");
    TRY(write_and_keep(task, parts[0], permissions, &size, err));
    *term = enif_make_uint64(env, size);
    return EMLX_OK;
}

// A private mapping that a tensor holds.
typedef struct mapping {
    void *data;
    size_t size;
} mapping;

static void unmap(void *context) {
    mapping *map = context;
    munmap(map->data, map->size);
    enif_free(map);
}

static mapping *map_new(size_t size) {
    mapping *map = enif_alloc(sizeof *map);
    if (map == NULL) return NULL;
    map->size = size > 0 ? size : 1;
    map->data = mmap(NULL, map->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map->data != MAP_FAILED) return map;
    enif_free(map);
    return NULL;
}

static emlx_status read_shared(int file, char *data, size_t size, const char *name,
                               emlx_error *err) {
    while (size > 0) {
        ssize_t count = read(file, data, size);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return shm_fail(err, "read", name);
        if (count == 0)
            return nif_fail(err, EMLX_INVALID, "the shared memory %s has %zu bytes too few", name,
                            size);
        data += count;
        size -= (size_t)count;
    }
    return EMLX_OK;
}

static emlx_status shm_read(const char *name, size_t size, mapping **out, emlx_error *err) {
    struct stat info;
    int file = shm_open(name, O_RDONLY | O_CLOEXEC, 0);
    if (file < 0) return shm_fail(err, "open", name);
    emlx_status status = EMLX_OK;
    mapping *map = NULL;
    if (fstat(file, &info) != 0)
        status = shm_fail(err, "ask for the size of", name);
    else if ((uint64_t)info.st_size != size)
        status = nif_fail(err, EMLX_INVALID, "the shared memory %s has %llu bytes, not %zu", name,
                          (unsigned long long)info.st_size, size);
    else if ((map = map_new(size)) == NULL)
        status = nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory for %zu bytes", size);
    else
        status = read_shared(file, map->data, size, name, err);
    close(file);
    if (status == EMLX_OK)
        *out = map;
    else if (map != NULL)
        unmap(map);
    return status;
}

static emlx_status run_shm_read(task *task, ERL_NIF_TERM *term, emlx_error *err) {
    ErlNifEnv *env = task->to->env;
    const ERL_NIF_TERM *parts;
    int arity;
    emlx_type type;
    emlx_shape shape;
    emlx_tensor *tensor;
    mapping *map = NULL;
    if (!enif_get_tuple(env, task->term, &arity, &parts) || arity != 2)
        return nif_fail(err, EMLX_INVALID, "a type and a shape were expected");
    TRY(read_type(env, parts[0], &type, err));
    TRY(read_shape(env, parts[1], &shape, err));
    size_t size = (size_t)emlx_shape_count(&shape) * emlx_type_size(type);
    TRY(shm_read(task->path, size, &map, err));
    TRY(emlx_tensor_from_memory(task->device->device, type, &shape, map->data, size, unmap, map,
                                &tensor, err));
    return make_tensor(env, tensor, term, err);
}

static ERL_NIF_TERM start_shm(ErlNifEnv *env, task_fn *run, device_res *device,
                              ERL_NIF_TERM arguments, ERL_NIF_TERM handle, ERL_NIF_TERM reference) {
    char name[MAX_SHM_NAME];
    emlx_error err;
    emlx_status status = read_shm_name(env, handle, name, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return task_start(env, run, JOB_BLOCKS, device, arguments, name, reference);
}

// shm_write({tensor, permissions}, name, reference): the answer is {:ok, bytes}.
ERL_NIF_TERM nif_shm_write(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    return start_shm(env, run_shm_write, NULL, argv[0], argv[1], argv[2]);
}

// shm_read(device, {type, shape}, name, reference): the answer is {:ok, tensor}.
ERL_NIF_TERM nif_shm_read(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    device_res *device;
    emlx_error err;
    emlx_status status = device_get(env, argv[0], &device, &err);
    if (status != EMLX_OK) return make_error(env, status, &err);
    return start_shm(env, run_shm_read, device, argv[1], argv[2], argv[3]);
}

// shm_unlink(name): :ok, also when it is gone already.
ERL_NIF_TERM nif_shm_unlink(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]) {
    (void)argc;
    char name[MAX_SHM_NAME];
    emlx_error err;
    emlx_status status = read_shm_name(env, argv[0], name, &err);
    if (status == EMLX_OK && shm_unlink(name) != 0 && errno != ENOENT)
        status = shm_fail(&err, "remove", name);
    return status == EMLX_OK ? atoms.ok : make_error(env, status, &err);
}
