// SPDX-License-Identifier: Apache-2.0
// engine.h - the one door to a device: a struct of functions that each engine fills in.
//
// It fits engines that compute on the calling thread (cpu), that queue work on streams of a device
// with memory of its own (cuda), and array libraries that fuse by themselves (mlx). An engine is
// given whole plans. Work that goes on after `submit` has returned ends with a fence, which carries
// the error if the work failed. The error of a guard begins with the name of its op, which the step
// knows (guards of its kernel); in front of others run_kernels puts that of the kernel.
#ifndef EMLX_ENGINE_H
#define EMLX_ENGINE_H

#include "memory/account.h"
#include "memory/fence.h"
#include "memory/spares.h"
#include "plan/plan.h"
#include "threads/pool.h"

// One run of a plan. Plan, form, constants, functions and flag stay until the work has ended; what
// else it points to until `submit` returns.
typedef struct plan_call {
    const emlx_plan *plan;
    void *prepared;                // the engine's form of the plan
    const scalar_value *constants; // by constant, in memory form of its type
    emlx_function *const
        *functions;            // by function; engines call them on the host (graph/function.h)
    emlx_buffer **inputs;      // one a plan input; the engine takes the references over, on
                               // failure too, so that it may reuse what nobody else holds
    emlx_buffer **outputs;     // to be filled with one reference each; inputs may be among them
    const emlx_cancel *cancel; // looked at between kernels; may be NULL
    buffer_spares *spares;     // what the caller has left, or NULL
    emlx_device *memory;       // where results are to lie; NULL: with the device itself
} plan_call;

// What a part of a loop's state is after a turn: an output of the plan, or a part of the state as
// it was before.
typedef struct loop_next {
    bool kept;
    uint32_t index;
} loop_next;

// A loop whose turn is one plan, with turns for as long as an integer among its outputs is not 0.
typedef struct loop_call {
    plan_call turn;         // `inputs`: borrowed, NULL where it is the state; no outputs, no spares
    const uint32_t *inputs; // by plan input: which part of the state, or UINT32_MAX
    uint32_t state_count;
    emlx_buffer **states;  // a reference each: as before the first turn, then as after the last
    const loop_next *next; // by part of the state
    uint32_t again;        // the output that says whether there is another turn
    size_t again_size;     // its bytes
} loop_call;

// How far a loop has come.
typedef enum loop_progress {
    LOOP_REFUSED, // nothing has happened
    LOOP_LEFT,    // turns were made, and one at least is to come
    LOOP_ENDED
} loop_progress;

// What of a plan an engine runs.
typedef enum plan_form {
    FORM_KERNELS, // its kernels, fused by us
    FORM_NODES    // its nodes, which the engine fuses by itself
} plan_form;

typedef struct handover handover;

typedef struct engine_ops {
    const char *name;
    plan_form form;
    // Computes on the calling thread, so that a little work is done in no time and `submit` never
    // leaves a fence.
    bool immediate;
    // How many operations on elements it does in the time in which the CPU engine does one,
    // roughly; 0 is 1. What a device computes is as much less for those who choose where and when.
    int speed;
    // It has no f64. Where that only serves rounding, nodes come to it in f32; where the user chose
    // it `can` refuses them.
    bool no_f64;
    // The host can read and write buffers that no work is using: their `data` is set. What a device
    // starts with; `open` may say otherwise of one.
    bool host_memory;

    // How many devices of this kind the machine has, and if none why (one sentence). May be NULL:
    // one, which goes by the engine's name alone; the devices of others are "name:0" and so on.
    int (*count)(char *why, size_t size);
    // Opens device->number; sets what it needs beyond the common fields. May be NULL.
    emlx_status (*open)(emlx_device *device, emlx_error *err);
    // All work of the device has ended when it returns, and its fences are signalled.
    void (*close)(emlx_device *device);
    void (*describe)(const emlx_device *device, char *text, size_t size);

    // Queues of work that goes on side by side; work on one stream is done in order. NULL is the
    // stream that every device has. May be NULL: no others.
    emlx_status (*stream_open)(emlx_device *device, void **stream, emlx_error *err);
    void (*stream_close)(emlx_device *device, void *stream);

    emlx_status (*allocate)(emlx_device *device, size_t size, emlx_buffer **out, emlx_error *err);
    // Whether `size` bytes at `data` can be borrowed as they are, given the size of an element. May
    // be NULL: never.
    bool (*can_wrap)(const emlx_device *device, const void *data, size_t size, size_t element);
    // Copies, into the start of a buffer that nobody uses yet, and out of one whose writer has
    // ended well. `from` may change once `upload` has returned; `download` returns when all is
    // there, and may block its thread.
    emlx_status (*upload)(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                          emlx_error *err);
    emlx_status (*download)(emlx_device *device, const emlx_buffer *from, size_t offset, void *to,
                            size_t size, emlx_error *err);

    // Copies a buffer whose writer has ended well from another device of the engine into the start
    // of one that nobody uses yet; may block its thread. May be NULL: that goes by way of the host.
    emlx_status (*copy)(emlx_device *device, emlx_buffer *to, emlx_device *from,
                        const emlx_buffer *buffer, size_t size, emlx_error *err);

    // Opens the device anew: what its buffers held is lost. May be NULL: it never has to be.
    emlx_status (*reset)(emlx_device *device, emlx_error *err);
    // Memory by address, and by handles of other processes; as the public functions of tensors, of
    // which they see the buffers. All or none are NULL.
    emlx_status (*address)(emlx_device *device, emlx_buffer *buffer, uint64_t *address,
                           emlx_error *err);
    emlx_status (*borrow)(emlx_device *device, uint64_t address, size_t size, emlx_buffer **out,
                          emlx_error *err);
    emlx_status (*export)(emlx_device *device, emlx_buffer *buffer, void *handle, size_t *size,
                          emlx_error *err);
    emlx_status (*import)(emlx_device *device, const void *handle, size_t handle_size, size_t size,
                          emlx_buffer **out, emlx_error *err);

    // Whether it can run a node of a graph, with its operands before it; what it cannot the host's
    // engine does, between parts of the plan. May be NULL: everything.
    bool (*can)(const emlx_device *device, const plan_node *nodes, uint32_t node);
    // Whether it computes the function of an `either` whole, of that type and those operands: what
    // it takes it runs, `can` or not. Knows no values, so that the answer is that for all of the
    // same structure. Plans of others have the primitives in place of it. May be NULL: none.
    bool (*takes)(const emlx_device *device, const emlx_tensor *either);
    // Whether its products in `type` read an operand of type `from`, which has no number that
    // `type` has not, as it is, and give the same integers, or floats as good, as if it had been
    // converted before: sums of the same products with as many digits. Kernels of products then
    // read what was to be converted. May be NULL: never.
    bool (*widens)(const emlx_device *device, emlx_type from, emlx_type type);
    // Whether it would run a kernel of the kind ROWS as one, rather than its stages as kernels of
    // their own. It is asked for every stage that could join those before it. May be NULL: never.
    bool (*rows)(const emlx_device *device, const plan_kernel *kernel);
    // Whether it would run two kernels that have the same operand 0, and read nothing that the
    // other makes, as one step (see `beside` in plan_kernel). May be NULL: never.
    bool (*beside)(const emlx_device *device, const plan_kernel *first, const plan_kernel *kernel);
    // Whether it would compute a product and a map of its result at once (see `epilogue` in
    // plan_kernel), whatever it then does. May be NULL: never.
    bool (*epilogue)(const emlx_device *device, const plan_kernel *product, const plan_kernel *map);
    // Makes the engine's form of a plan (not NULL), refusing what it cannot run with
    // EMLX_UNSUPPORTED and a message that names primitive and type. May be NULL: there is none.
    emlx_status (*prepare)(emlx_device *device, const emlx_plan *plan, void **form,
                           emlx_error *err);
    void (*discard)(emlx_device *device, void *form);
    // Runs or queues a plan. Either all is done when it returns, and *end stays NULL, or *end is
    // set to a fence (the caller's reference) that is signalled when it is, on a thread of the
    // engine's that holds no locks: results are published there, and buffers let go. Inputs may
    // still be written by work of this device: what is queued on another stream than it has to be
    // waited for on the device, by the fence of the buffer's writer. If such work fails so does
    // what reads its results; the caller sees to that, and the engine takes no notice of it.
    // Other buffers than the outputs, which the caller marks, are held or marked until the end.
    // Fails at once for what is wrong before anything is queued.
    emlx_status (*submit)(emlx_device *device, void *stream, const plan_call *call, fence **end,
                          emlx_error *err);
    // Runs a loop, of which one turn at least is to be made, without asking the host at each, to
    // its end or until others have waited for a while for what it runs on: it is then to be left.
    // Where it does not do that *progress stays LOOP_REFUSED. Looks at the flag every few
    // milliseconds. May be NULL: never.
    emlx_status (*loop)(emlx_device *device, void *stream, const loop_call *call,
                        loop_progress *progress, emlx_error *err);
    // Records what the device does into the file `path`, or ends that where it is NULL; work that
    // was queued before has ended then. May be NULL: it cannot.
    emlx_status (*capture)(emlx_device *device, const char *path, emlx_error *err);
} engine_ops;

struct emlx_device {
    const engine_ops *ops;
    int number;    // among the engine's devices
    char name[32]; // "cpu", "cuda:0"
    size_t references;
    bool host_memory; // see engine_ops
    thread_pool *pool;
    emlx_device *host;      // does what this one cannot; NULL where that is nothing
    handover *handed;       // what was handed over so far
    void *state;            // the engine's own
    memory_account *memory; // what its memory holds, set when it is opened; NULL: the host's
};

// Nodes of one op that the host's engine did in place of the device's.
struct handover {
    handover *next;
    const char *op;
    uint64_t count;
};

// For an engine that finds only while it runs a kernel that it has to hand it over: counts one, of
// which observers are told, and says whether the user refuses such.
void handover_count(emlx_device *device, const char *op);
bool handovers_refused(void);

#define ENGINE(name) extern const engine_ops name##_engine;
#include "engines.def"
#undef ENGINE

// Engines in shared objects ---------------------------------------------------------------------

// Files named in EMLX_ENGINES, with colons between, are opened when the list of devices is first
// asked for. Each exports `emlx_engine`. It brings its own copy of what it uses of this library
// (libemlx.a, hidden), and has to be of the very same version.
typedef struct engine_entry {
    const char *version;
    size_t sizes[4];
    const engine_ops *ops;
} engine_entry;

#define ENGINE_ENTRY(ops)                                                                          \
    {                                                                                              \
        EMLX_VERSION,                                                                              \
            {sizeof(engine_ops), sizeof(plan_call), sizeof(emlx_plan), sizeof(emlx_buffer)}, ops   \
    }

extern const engine_entry emlx_engine;

// The host's memory ------------------------------------------------------------------------------

// `allocate`, `upload` and `download` of an engine whose buffers are the host's.
emlx_status host_allocate(emlx_device *device, size_t size, emlx_buffer **out, emlx_error *err);
emlx_status host_upload(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                        emlx_error *err);
emlx_status host_download(emlx_device *device, const emlx_buffer *from, size_t offset, void *to,
                          size_t size, emlx_error *err);

// Running kernel by kernel ----------------------------------------------------------------------

// One kernel of one run.
typedef struct kernel_call {
    const emlx_plan *plan;
    const plan_kernel *kernel;
    void *prepared;                // the engine's form of the plan
    emlx_buffer *const *buffers;   // by value; those that the kernel reads and makes are set
    const scalar_value *constants; // by constant, in memory form of its type
    emlx_function *const *functions;
    const emlx_cancel *cancel; // once raised nobody wants the result; may be NULL
} kernel_call;

typedef emlx_status (*kernel_fn)(emlx_device *device, void *context, const kernel_call *call,
                                 emlx_error *err);

// How an engine of kernels runs a plan: calls `run` for each of its kernels in order, with buffers
// for what it makes, and names the op in its error. Of kernels that are one step it is called for
// the first, which has the others done too. With `end`, the fence of all of it, kernels may be
// queued rather than done: buffers are then marked as used until it is signalled. What a map behind
// a product makes (`epilogue`) has its buffer before the product is run. Stops with
// EMLX_CANCELLED between kernels. `stream` is where reused buffers have to be free.
typedef struct kernel_loop {
    kernel_fn run;
    void *context;
    void *stream;
    fence *end; // or NULL
} kernel_loop;

emlx_status run_kernels(emlx_device *device, const plan_call *call, const kernel_loop *loop,
                        emlx_error *err);

#endif
