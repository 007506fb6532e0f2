// SPDX-License-Identifier: Apache-2.0
// nif.h - what the NIF's files share: resources, reading and making terms, answering later.
// The NIF only converts: it knows emlx.h and erl_nif.h, no op by name, and computes nothing.
#ifndef EMLX_NIF_H
#define EMLX_NIF_H

#include <erl_nif.h>
#include <stdatomic.h>

#include "emlx.h"

// Returns from the enclosing function when a step fails.
#define TRY(step)                                                                                  \
    do {                                                                                           \
        emlx_status try_status = (step);                                                           \
        if (try_status != EMLX_OK) return try_status;                                              \
    } while (0)

// Sets the error and gives its code, which compilers then see is not EMLX_OK.
#define nif_fail(err, code, ...) (nif_report((err), (code), __VA_ARGS__), (code))
void nif_report(emlx_error *err, emlx_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// "no memory " and what for, as in "for a task".
#define nif_no_memory(err, purpose) nif_fail(err, EMLX_OUT_OF_MEMORY, "no memory %s", (purpose))

// Atoms ---------------------------------------------------------------------------------------

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

// Resources -----------------------------------------------------------------------------------

// Tensors whose pending computation keeps alive far more memory than they will take. They are
// computed when what they keep alive is not held by anything else any more.
typedef struct pin {
    struct pin *next, *previous; // guarded by relief.c's lock
    emlx_tensor *tensor;
    _Atomic bool linked;
} pin;

typedef struct device_res {
    emlx_device *device;
} device_res;

// `users` counts the calls that are reading `tensor` now; its top bit says that the tensor was
// deallocated. Whoever brings it to "deallocated and unused" releases the tensor.
typedef struct tensor_res {
    _Atomic uint32_t users;
    emlx_tensor *tensor;
    pin pin;
    _Atomic(struct shared_name *) names; // shared memory that goes with it, see pointer.c
} tensor_res;

typedef struct program_res {
    emlx_program *program;
} program_res;

// A run that waits for the results of a call; NULL once somebody has gone on with it.
typedef struct run_res {
    _Atomic(emlx_run *) run;
} run_res;

typedef struct queue_res {
    emlx_queue *queue;
} queue_res;

bool resources_open(ErlNifEnv *env, ErlNifResourceFlags flags);
emlx_status device_get(ErlNifEnv *env, ERL_NIF_TERM term, device_res **device, emlx_error *err);
emlx_status program_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_program **program, emlx_error *err);
emlx_status run_get(ErlNifEnv *env, ERL_NIF_TERM term, run_res **run, emlx_error *err);
// nil gives NULL: no queue.
emlx_status queue_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_queue **queue, emlx_error *err);
// Gives a reference of the caller's; fails for a tensor that was deallocated.
emlx_status tensor_get(ErlNifEnv *env, ERL_NIF_TERM term, emlx_tensor **tensor, emlx_error *err);
emlx_status tensor_res_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_res **res, emlx_error *err);
// Removes the shared memory that goes with it: now, or after a while.
void shared_names_drop(tensor_res *res, bool now);
// False when it was deallocated before.
emlx_status tensor_deallocate(ErlNifEnv *env, ERL_NIF_TERM term, bool *first, emlx_error *err);
// These take the reference over, and release it when out of memory.
emlx_status make_device(ErlNifEnv *env, emlx_device *device, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_tensor(ErlNifEnv *env, emlx_tensor *tensor, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_program(ErlNifEnv *env, emlx_program *program, ERL_NIF_TERM *term,
                         emlx_error *err);
emlx_status make_run(ErlNifEnv *env, emlx_run *run, ERL_NIF_TERM *term, emlx_error *err);
emlx_status make_queue(ErlNifEnv *env, emlx_queue *queue, ERL_NIF_TERM *term, emlx_error *err);
// A binary that aliases the tensor's data and holds a reference of its own.
emlx_status make_alias(ErlNifEnv *env, emlx_tensor *tensor, const void *data, size_t size,
                       ERL_NIF_TERM *term, emlx_error *err);

// A list of tensors, each a reference of the list's.
typedef struct tensor_list {
    emlx_tensor **items;
    size_t count;
    emlx_tensor *few[8];
} tensor_list;

emlx_status tensor_list_get(ErlNifEnv *env, ERL_NIF_TERM term, tensor_list *list, emlx_error *err);
void tensor_list_release(tensor_list *list);

// Reading terms -------------------------------------------------------------------------------

emlx_status read_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err);
// As above; nil asks for the default.
emlx_status read_result_type(ErlNifEnv *env, ERL_NIF_TERM term, emlx_type *type, emlx_error *err);
// A tuple or list of lengths.
emlx_status read_shape(ErlNifEnv *env, ERL_NIF_TERM term, emlx_shape *shape, emlx_error *err);
// A binary without NUL bytes, shorter than `size`.
emlx_status read_text(ErlNifEnv *env, ERL_NIF_TERM term, const char *what, char *text, size_t size,
                      emlx_error *err);

// Making terms --------------------------------------------------------------------------------

ERL_NIF_TERM make_ok(ErlNifEnv *env, ERL_NIF_TERM value);
// {:error, kind, message}
ERL_NIF_TERM make_error(ErlNifEnv *env, emlx_status status, const emlx_error *err);
ERL_NIF_TERM make_text(ErlNifEnv *env, const char *text);
ERL_NIF_TERM make_dims(ErlNifEnv *env, const emlx_shape *shape);

// The op table as terms -----------------------------------------------------------------------

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

// Tells the VM how long computing took that was done within a call: it takes no notice by itself,
// and a process whose turn, of a millisecond, has many such calls would keep its scheduler for
// long.
void account(ErlNifEnv *env, ErlNifTime started);

// Relief of memory ----------------------------------------------------------------------------

// Whether the caller is to collect its garbage before it computes more: it is answered :pressure.
// Calls that compute are told whether it has done so, and then do not ask for it again.
bool memory_pressure(void);
bool relief_load(ErlNifEnv *env, ErlNifResourceFlags flags);

void pin_add(pin *pin, emlx_tensor *tensor);
void pin_remove(pin *pin);
// Takes note that the VM has dropped a tensor of so many bytes.
void pins_dropped(size_t bytes);

// Answers that come later ---------------------------------------------------------------------

// Where to send the message {reference, result}. It is a resource that monitors its process: when
// that dies, `cancel` is raised.
typedef struct answer {
    ErlNifPid pid;
    ErlNifEnv *env; // for the result, and for terms that the work needs
    ERL_NIF_TERM reference;
    ErlNifMonitor monitor; // ends with the resource
    emlx_cancel cancel;    // valid until the answer is sent or freed
} answer;

bool answers_open(ErlNifEnv *env, ErlNifResourceFlags flags);
emlx_status answer_new(ErlNifEnv *env, ERL_NIF_TERM reference, answer **out, emlx_error *err);
void answer_free(answer *to);
// Sends a result made in `to->env` and frees `to`. A process that is gone is no error.
void answer_send(answer *to, ERL_NIF_TERM result);

// Jobs ----------------------------------------------------------------------------------------

// What runs on the NIF's own threads, never on a scheduler: computing, work that may block for any
// time (files), and the ends of what holds much.
typedef enum job_kind { JOB_COMPUTES, JOB_BLOCKS, JOB_ENDS, JOB_KINDS } job_kind;

// Embedded in the caller's own structure, which `run` may free.
typedef struct job {
    struct job *next;
    void (*run)(struct job *job);
} job;

// Starts the threads that must be there; false when the system has none.
bool jobs_load(void);
void job_start(job *job, job_kind kind);
// Calls end(object) on another thread; for destructors, which run on schedulers.
void end_later(void (*end)(void *object), void *object);
// Waits until all that was given to end_later is done, for so long at most.
void wait_for_ends(int64_t nanoseconds);

// A job whose result is sent as an answer.
typedef struct task {
    job job;
    answer *to;
    ERL_NIF_TERM (*run)(struct task *task);
    device_res *device; // or NULL; kept
    ERL_NIF_TERM term;  // of to->env
    char path[];
} task;

// Makes a task with a copy of `term`. `device` may be NULL.
emlx_status task_new(ErlNifEnv *env, ERL_NIF_TERM reference, device_res *device, ERL_NIF_TERM term,
                     const char *path, task **out, emlx_error *err);
void task_start(task *task, job_kind kind);

// Reads a block from the term that EMLX.Program describes; `nesting` blocks are around it.
emlx_status block_read(ErlNifEnv *env, ERL_NIF_TERM term, int nesting, emlx_block **out,
                       emlx_error *err);

// The functions that Elixir sees --------------------------------------------------------------

#define NIF_FUNCTION_MAP(XX)                                                                       \
    XX(version, 0)                                                                                 \
    XX(ops, 0)                                                                                     \
    XX(devices, 0)                                                                                 \
    XX(device_open, 2)                                                                             \
    XX(devices_missing, 0)                                                                         \
    XX(device_describe, 1)                                                                         \
    XX(handovers, 1)                                                                               \
    XX(refuse_handovers, 1)                                                                        \
    XX(observe, 1)                                                                                 \
    XX(memory_info, 0)                                                                             \
    XX(memory_reset_peak, 0)                                                                       \
    XX(device_memory_info, 1)                                                                      \
    XX(device_memory_reset_peak, 1)                                                                \
    XX(memory_relieve, 2)                                                                          \
    XX(from_binary, 5)                                                                             \
    XX(to_binary, 3)                                                                               \
    XX(deallocate, 1)                                                                              \
    XX(tensor_copy, 3)                                                                             \
    XX(tensor_info, 1)                                                                             \
    XX(tensor_type, 1)                                                                             \
    XX(tensor_address, 1)                                                                          \
    XX(binary_address, 1)                                                                          \
    XX(shm_write, 3)                                                                               \
    XX(shm_read, 4)                                                                                \
    XX(apply, 5)                                                                                   \
    XX(eval, 4)                                                                                    \
    XX(program_compile, 3)                                                                         \
    XX(program_save, 3)                                                                            \
    XX(program_load, 3)                                                                            \
    XX(program_info, 1)                                                                            \
    XX(program_run, 5)                                                                             \
    XX(program_resume, 4)                                                                          \
    XX(program_drop, 1)                                                                            \
    XX(archive_read, 3)                                                                            \
    XX(queue_new, 1)                                                                               \
    XX(queue_sync, 2)

// These run on the VM's dirty schedulers.
#define NIF_SLOW_FUNCTION_MAP(XX)                                                                  \
    XX(memory_set_limit, 1)                                                                        \
    XX(memory_set_cache_limit, 1)                                                                  \
    XX(memory_clear_cache, 0)                                                                      \
    XX(device_memory_set_limit, 2)                                                                 \
    XX(device_memory_set_cache_limit, 2)                                                           \
    XX(device_memory_clear_cache, 1)                                                               \
    XX(from_address, 5)                                                                            \
    XX(shm_unlink, 1)

#define XX(name, arity)                                                                            \
    ERL_NIF_TERM nif_##name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
NIF_FUNCTION_MAP(XX)
NIF_SLOW_FUNCTION_MAP(XX)
#undef XX

#endif
