// SPDX-License-Identifier: Apache-2.0
// engine.h - the one door to a device: a struct of functions that each engine fills in.
//
// It fits engines that compute on the calling thread (cpu), that queue work on a stream of a device
// with its own memory (cuda), and that are array libraries with their own laziness (mlx): buffers
// are opaque, `run` may return before the work is done, and only `download` and `wait` need it
// finished. Work given to one device takes effect in the order it was given by a thread.
#ifndef EMLX_ENGINE_H
#define EMLX_ENGINE_H

#include "base/pool.h"
#include "plan/plan.h"

// One kernel of one run.
typedef struct kernel_call {
    const emlx_plan *plan;
    const plan_kernel *kernel;
    void *prepared;                // the engine's form of the plan
    emlx_buffer *const *buffers;   // by value; those that the kernel reads and makes are set
    const scalar_value *constants; // by constant, in memory form of its type
    const emlx_cancel *cancel;     // may be NULL; once raised the kernel may end with
                                   // EMLX_CANCELLED
} kernel_call;

typedef struct engine_ops {
    const char *name;
    // Computes on the calling thread, so that a little work is done in no time.
    bool immediate;
    // Opens the device; sets what it needs beyond the common fields. May be NULL: nothing to do.
    emlx_status (*open)(emlx_device *device, emlx_error *err);
    void (*close)(emlx_device *device);
    void (*describe)(const emlx_device *device, char *text, size_t size);

    emlx_status (*allocate)(emlx_device *device, size_t size, emlx_buffer **out, emlx_error *err);
    // Whether `data` can be borrowed as it is, given the size of an element.
    bool (*can_wrap)(const emlx_device *device, const void *data, size_t element);
    emlx_status (*upload)(emlx_device *device, emlx_buffer *to, const void *from, size_t size,
                          emlx_error *err);
    emlx_status (*download)(emlx_device *device, const emlx_buffer *from, size_t offset, void *to,
                            size_t size, emlx_error *err);

    // Makes the engine's form of a plan (NULL is a valid form), refusing what it cannot run with
    // EMLX_UNSUPPORTED and a message that names primitive and type. May be NULL.
    emlx_status (*prepare)(emlx_device *device, const emlx_plan *plan, void **form,
                           emlx_error *err);
    void (*discard)(emlx_device *device, void *form);
    // Runs or queues one kernel. Value-dependent failures (index out of bounds, a guard) may be
    // reported here or by the next wait or download.
    emlx_status (*run)(emlx_device *device, const kernel_call *call, emlx_error *err);
    emlx_status (*wait)(emlx_device *device, emlx_error *err);
} engine_ops;

struct emlx_device {
    const engine_ops *ops;
    thread_pool *pool;
    void *state; // the engine's own
};

extern const engine_ops cpu_engine;

#endif
