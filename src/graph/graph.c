// SPDX-License-Identifier: Apache-2.0
// graph.c - making and releasing the nodes of the lazy graph.
#include "graph/graph.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "graph/function.h"
#include "graph/lock.h"
#include "threads/mutex.h"

const scalar_info scalar_table[SCALAR_COUNT] = {
#define SCALAR(name, operands, result, cost, loop)                                                 \
    [SCALAR_##name] = {#name, operands, GIVES_##result, cost, LOOP_##loop},
#include "graph/scalar.def"
#undef SCALAR
};

emlx_type scalar_result_type(scalar_op op, emlx_type compute) {
    switch ((scalar_result)scalar_table[op].gives) {
    case GIVES_BOOL: return EMLX_U8;
    case GIVES_PART: return type_part(compute);
    case GIVES_COMPLEX: return type_complex(compute);
    case GIVES_SAME: break;
    }
    return compute;
}

const primitive_info primitive_table[PRIM_COUNT] = {
#define PRIMITIVE(name, form, kept, cost)                                                          \
    [PRIM_##name] = {#name, FORM_##form, KEPT_##kept, COST_##cost},
#include "graph/primitive.def"
#undef PRIMITIVE
};

const reduce_info reduce_table[REDUCE_COUNT] = {
#define REDUCE(NAME, name, gives, neutral, late)                                                   \
    [REDUCE_##NAME] = {#name, GIVES_##gives, neutral, REDUCE_##late},
#include "graph/reduce.def"
#undef REDUCE
};

bool reduce_is_least(reduce_kind kind) {
    return reduce_table[kind].gives != GIVES_COMBINED && reduce_table[kind].neutral > 0;
}

emlx_type reduce_result_type(reduce_kind kind, emlx_type type) {
    return reduce_table[kind].gives == GIVES_PLACED ? EMLX_S64 : type;
}

const routine_element routine_elements[ROUTINE_COUNT] = {
#define XX(name, element) [ROUTINE_##name] = ROUTINE_OF_##element,
    ROUTINE_MAP(XX)
#undef XX
};

const char *const either_names[EITHER_COUNT] = {
#define XX(name) [EITHER_##name] = #name,
    EITHER_MAP(XX)
#undef XX
};

// The structure, its operand list and its parameters are one allocation.
static size_t node_size(size_t input_count, size_t params_size) {
    return sizeof(emlx_tensor) + input_count * sizeof(emlx_tensor *) + params_size;
}

static uint32_t depth_above(emlx_tensor *const *inputs, size_t count) {
    uint32_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t below = emlx_tensor_depth(inputs[i]);
        if (below > depth) depth = below;
    }
    return depth + 1;
}

static size_t pinned_below(emlx_tensor *const *inputs, size_t count) {
    size_t pinned = 0;
    for (size_t i = 0; i < count; i++) {
        bool ready = node_buffer(inputs[i]) != NULL;
        size_t bytes = ready ? emlx_tensor_bytes(inputs[i]) : inputs[i]->pinned;
        if (__builtin_add_overflow(pinned, bytes, &pinned)) return SIZE_MAX;
    }
    return pinned;
}

// With room for operands and parameters.
static emlx_tensor *node_alloc(emlx_device *device, emlx_type type, const emlx_shape *shape,
                               size_t input_count, size_t params_size) {
    emlx_tensor *t = mem_alloc(node_size(input_count, params_size));
    if (t == NULL) return NULL;
    atomic_init(&t->references, 1);
    t->type = (uint8_t)type;
    t->input_count = (uint32_t)input_count;
    t->params_size = (uint32_t)params_size;
    t->device = device;
    t->shape = *shape;
    t->inputs = (emlx_tensor **)(t + 1);
    t->params = t->inputs + input_count;
    return t;
}

emlx_status node_new(const node_spec *spec, emlx_tensor **out, emlx_error *err) {
    size_t params_size = (spec->params_size + 15) & ~(size_t)15;
    emlx_tensor *t =
        node_alloc(spec->device, spec->type, &spec->shape, spec->input_count, params_size);
    if (t == NULL) return error_no_memory(err, "for a graph node");
    t->primitive = (uint8_t)spec->primitive;
    t->op = spec->op;
    if (spec->params_size > 0) memcpy(t->params, spec->params, spec->params_size);
    for (size_t i = 0; i < spec->input_count; i++)
        t->inputs[i] = emlx_tensor_retain(spec->inputs[i]);
    emlx_function_retain(node_function(t));
    bool pending = spec->primitive != PRIM_input;
    t->pinned = pinned_below(spec->inputs, spec->input_count);
    atomic_init(&t->depth, pending ? depth_above(spec->inputs, spec->input_count) : 0);
    *out = t;
    return EMLX_OK;
}

emlx_status node_from_buffer(emlx_device *device, emlx_type type, const emlx_shape *shape,
                             emlx_buffer *buffer, emlx_tensor **out, emlx_error *err) {
    emlx_tensor *t = node_alloc(device, type, shape, 0, 0);
    if (t == NULL) return error_no_memory(err, "for a tensor");
    t->primitive = PRIM_input;
    atomic_init(&t->buffer, buffer);
    *out = t;
    return EMLX_OK;
}

emlx_tensor *emlx_tensor_retain(emlx_tensor *t) {
    if (t != NULL) atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
    return t;
}

static bool node_drop(emlx_tensor *t) {
    return atomic_fetch_sub_explicit(&t->references, 1, memory_order_acq_rel) == 1;
}

// Walks with a list threaded through the dead nodes themselves: a chain may be long, and the
// stack of a BEAM scheduler is short.
void emlx_tensor_release(emlx_tensor *t) {
    if (t == NULL || !node_drop(t)) return;
    t->job = NULL;
    for (emlx_tensor *dead = t; dead != NULL;) {
        emlx_tensor *next = (emlx_tensor *)dead->job;
        for (uint32_t i = 0; i < dead->input_count; i++) {
            emlx_tensor *input = dead->inputs[i];
            if (!node_drop(input)) continue;
            input->job = (eval_job *)next;
            next = input;
        }
        // An input list that was given up leaves its length behind in the size of the allocation.
        size_t operands = ((char *)dead->params - (char *)(dead + 1)) / sizeof(emlx_tensor *);
        buffer_release(node_buffer(dead));
        emlx_function_release(node_function(dead));
        mem_free(dead, node_size(operands, dead->params_size));
        dead = next;
    }
}

// Of no tensor there is nothing.
emlx_type emlx_tensor_type(const emlx_tensor *t) {
    return t == NULL ? EMLX_TYPE_COUNT : (emlx_type)t->type;
}
const emlx_shape *emlx_tensor_shape(const emlx_tensor *t) { return t == NULL ? NULL : &t->shape; }
emlx_device *emlx_tensor_device(const emlx_tensor *t) { return t == NULL ? NULL : t->device; }
bool emlx_tensor_ready(const emlx_tensor *t) { return t != NULL && node_buffer(t) != NULL; }

size_t emlx_tensor_bytes(const emlx_tensor *t) {
    if (t == NULL) return 0;
    return (size_t)emlx_shape_count(&t->shape) * type_size((emlx_type)t->type);
}

size_t emlx_tensor_pinned(const emlx_tensor *t) {
    return t == NULL || node_buffer(t) != NULL ? 0 : t->pinned;
}

uint32_t emlx_tensor_depth(const emlx_tensor *t) {
    if (t == NULL) return 0;
    return atomic_load_explicit(&((emlx_tensor *)t)->depth, memory_order_relaxed);
}

bool node_is_constant(const emlx_tensor *t, scalar_value *value) {
    if (t->primitive != PRIM_constant) return false;
    memcpy(value, t->params, sizeof *value);
    return true;
}

void node_publish(emlx_tensor *t, emlx_buffer *buffer, given_up *out) {
    *out = (given_up){t->inputs, t->input_count, node_function(t)};
    t->input_count = 0;
    if (out->function != NULL) ((function_params *)t->params)->function = NULL;
    atomic_store_explicit(&t->depth, 0, memory_order_relaxed);
    atomic_store_explicit(&t->buffer, buffer_retain(buffer), memory_order_release);
}

void given_up_release(const given_up *g) {
    for (uint32_t i = 0; i < g->count; i++) emlx_tensor_release(g->inputs[i]);
    emlx_function_release(g->function);
}

// What is being computed counts as there: chains built on it start anew.
void node_promise(emlx_tensor *t, emlx_buffer *buffer, fence *settles) {
    t->promised = buffer_retain(buffer);
    t->settles = fence_retain(settles);
    atomic_store_explicit(&t->depth, 0, memory_order_relaxed);
}

fence *node_unpromise(emlx_tensor *t) {
    fence *settles = t->settles;
    buffer_release(t->promised);
    t->promised = NULL;
    t->settles = NULL;
    if (node_buffer(t) == NULL)
        atomic_store_explicit(&t->depth, depth_above(t->inputs, t->input_count),
                              memory_order_relaxed);
    return settles;
}

// The lock guards the operand lists, claims and evaluation counts of all nodes: walks are short,
// and nothing is computed while it is held.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

// Walks take about as long as so many attempts; a holder that takes longer has lost its core.
enum { LOCK_TRIES = 200 };

void graph_lock(void) { mutex_lock(&lock); }

bool graph_try_lock(void) {
    for (int i = 0; i < LOCK_TRIES; i++)
        if (mutex_try_lock(&lock)) return true;
    return false;
}

void graph_unlock(void) { mutex_unlock(&lock); }
void graph_wait(void) { pthread_cond_wait(&changed, &lock); }
void graph_changed(void) { pthread_cond_broadcast(&changed); }
