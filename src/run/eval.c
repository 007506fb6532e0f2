// SPDX-License-Identifier: Apache-2.0
// eval.c - computing pending tensors.
//
// An evaluation claims the pending nodes below its tensors, plans them, runs the plan, and gives
// the results to the nodes. It claims under the graph lock, all or nothing: where somebody else is
// computing a node it needs, it waits for that and starts over. Since nobody waits while holding a
// claim, evaluations cannot block each other.
#include "run/eval.h"

#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "graph/lock.h"
#include "memory/arena.h"
#include "plan/cost.h"
#include "plan/run.h"
#include "run/work.h"

// One evaluation. Its address is the mark of its claims.
struct eval_job {
    arena memory;
    emlx_tensor *const *wanted;
    size_t wanted_count;
    emlx_tensor **claimed; // kept alive by what was wanted
    emlx_tensor **leaves;  // referenced; in the order of the walk, so that equal graphs look equal
    emlx_tensor **roots;
    uint32_t claimed_count, claimed_room, leaf_count, leaf_room, root_count;
    uint32_t wanted_claimed; // so many of the claimed nodes, the first ones, were wanted themselves
    bool patient;            // waits where somebody else is computing what it needs
};

// Walking, all under the graph lock ------------------------------------------------------------

typedef enum walk_end { WALK_DONE, WALK_BUSY, WALK_NO_MEMORY, WALK_NO_DATA } walk_end;

static bool append(eval_job *job, emlx_tensor ***list, uint32_t *count, uint32_t *room,
                   emlx_tensor *t) {
    if (*count == *room) {
        uint32_t more = *room == 0 ? 64 : *room * 2;
        emlx_tensor **new = arena_array(&job->memory, more, sizeof *new);
        if (new == NULL) return false;
        if (*count > 0) memcpy(new, *list, *count * sizeof *new);
        *list = new;
        *room = more;
    }
    (*list)[(*count)++] = t;
    return true;
}

static walk_end meet(eval_job *job, emlx_tensor *t) {
    if (t->job == job) return WALK_DONE;
    bool ready = node_buffer(t) != NULL;
    if (!ready && t->job != NULL) return WALK_BUSY;
    if (!ready && t->primitive == PRIM_input) return WALK_NO_DATA;
    bool added = ready ? append(job, &job->leaves, &job->leaf_count, &job->leaf_room, t)
                       : append(job, &job->claimed, &job->claimed_count, &job->claimed_room, t);
    if (!added) return WALK_NO_MEMORY;
    t->job = job;
    t->inner = 0;
    return WALK_DONE;
}

// Claims breadth first: the list of claimed nodes is the queue. Leaves carry the mark only during
// the walk, to be met once.
static walk_end claim(eval_job *job) {
    walk_end end = WALK_DONE;
    for (size_t i = 0; i < job->wanted_count && end == WALK_DONE; i++)
        end = meet(job, job->wanted[i]);
    job->wanted_claimed = job->claimed_count;
    for (uint32_t n = 0; n < job->claimed_count && end == WALK_DONE; n++) {
        emlx_tensor *t = job->claimed[n];
        for (uint32_t i = 0; i < t->input_count && end == WALK_DONE; i++) {
            end = meet(job, t->inputs[i]);
            if (end == WALK_DONE) t->inputs[i]->inner++;
        }
    }
    for (uint32_t i = 0; i < job->leaf_count; i++) {
        job->leaves[i]->job = NULL;
        emlx_tensor_retain(job->leaves[i]);
    }
    return end;
}

static void unclaim(eval_job *job) {
    for (uint32_t i = 0; i < job->claimed_count; i++) job->claimed[i]->job = NULL;
}

// Leaves are released outside of the lock: their memory may go with them.
static void drop_leaves(eval_job *job) {
    for (uint32_t i = 0; i < job->leaf_count; i++) emlx_tensor_release(job->leaves[i]);
    job->leaf_count = 0;
}

// Whether somebody outside of this evaluation may ask for the node's value, and it is worth the
// memory: results of kernels are there anyway, a `map` only when it was computed before.
static bool worth_keeping(emlx_tensor *t) {
    int references = atomic_load_explicit(&t->references, memory_order_relaxed);
    if ((uint32_t)references <= t->inner) return false;
    switch (t->primitive) {
    case PRIM_reduce:
    case PRIM_dot:
    case PRIM_conv:
    case PRIM_gather:
    case PRIM_scatter:
    case PRIM_sort:
    case PRIM_scan:
    case PRIM_pick:
    case PRIM_routine:
    case PRIM_custom:
    case PRIM_call:
    case PRIM_write: return true;
    case PRIM_map:
        if (t->evaluations > 0) return true;
        t->evaluations++;
        return false;
    default: return false;
    }
}

static walk_end choose_roots(eval_job *job) {
    size_t most = job->wanted_count + job->claimed_count;
    job->roots = arena_array(&job->memory, most + 1, sizeof *job->roots);
    if (job->roots == NULL) return WALK_NO_MEMORY;
    for (size_t i = 0; i < job->wanted_count; i++)
        if (node_buffer(job->wanted[i]) == NULL) job->roots[job->root_count++] = job->wanted[i];
    for (uint32_t i = job->wanted_claimed; i < job->claimed_count; i++)
        if (worth_keeping(job->claimed[i])) job->roots[job->root_count++] = job->claimed[i];
    return WALK_DONE;
}

// Claims everything that is needed, waiting for others where they hold some of it. Claims given up
// under the same lock were never seen by anyone, so nobody is woken for them.
static walk_end claim_all(eval_job *job) {
    for (;;) {
        if (job->patient)
            graph_lock();
        else if (!graph_try_lock())
            return WALK_BUSY;
        walk_end end = claim(job);
        if (end == WALK_DONE) end = choose_roots(job);
        if (end != WALK_DONE) unclaim(job);
        if (end == WALK_BUSY && job->patient) graph_wait();
        graph_unlock();
        if (end == WALK_DONE) return end;
        drop_leaves(job);
        job->claimed_count = job->root_count = 0;
        if (end != WALK_BUSY || !job->patient) return end;
    }
}

// Results --------------------------------------------------------------------------------------

typedef struct given_up {
    emlx_tensor **inputs;
    uint32_t count;
} given_up;

// A root's operands lie inside it, and one root may hold the last reference on another: all are
// kept until the operands of all are let go.
static void publish(eval_job *job, emlx_buffer **results, given_up *freed) {
    for (uint32_t i = 0; i < job->root_count; i++) {
        emlx_tensor *t = emlx_tensor_retain(job->roots[i]);
        if (node_buffer(t) == NULL) node_publish(t, results[i], &freed[i].inputs, &freed[i].count);
    }
}

static emlx_status compute(eval_job *job, emlx_buffer **results, const emlx_cancel *cancel,
                           emlx_error *err) {
    emlx_device *device = job->roots[0]->device;
    plan_request request = {device, job->roots, job->root_count, job->leaves, job->leaf_count};
    emlx_buffer **inputs = arena_array(&job->memory, job->leaf_count + 1, sizeof *inputs);
    if (inputs == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to evaluate");
    planned planned;
    TRY(plan_find(&request, &planned, err));
    for (uint32_t i = 0; i < job->leaf_count; i++)
        inputs[i] = buffer_retain(node_buffer(job->leaves[i]));
    emlx_status status = plan_run(device, &planned, inputs, results, cancel, NULL, err);
    planned_clear(&planned);
    return status;
}

static emlx_status finish(eval_job *job, const emlx_cancel *cancel, emlx_error *err) {
    if (job->root_count == 0) return EMLX_OK;
    emlx_buffer **results = arena_array(&job->memory, job->root_count, sizeof *results);
    given_up *freed = arena_array(&job->memory, job->root_count, sizeof *freed);
    emlx_status status = EMLX_OUT_OF_MEMORY;
    if (results == NULL || freed == NULL)
        error_set(err, status, "no memory to evaluate");
    else
        status = compute(job, results, cancel, err);
    graph_lock();
    if (status == EMLX_OK) publish(job, results, freed);
    unclaim(job);
    graph_changed();
    graph_unlock();
    if (status != EMLX_OK) return status;
    for (uint32_t i = 0; i < job->root_count; i++) {
        buffer_release(results[i]);
        for (uint32_t n = 0; n < freed[i].count; n++) emlx_tensor_release(freed[i].inputs[n]);
    }
    for (uint32_t i = 0; i < job->root_count; i++) emlx_tensor_release(job->roots[i]);
    return EMLX_OK;
}

static emlx_status claim_error(walk_end end, emlx_error *err) {
    if (end == WALK_NO_DATA)
        return error_set(err, EMLX_INVALID, "a program's input has no value to compute with");
    return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to evaluate");
}

// *busy, which may be NULL: not to wait, but to say that somebody else is at it.
static emlx_status eval_some(emlx_tensor *const *tensors, size_t count, const emlx_cancel *cancel,
                             bool *busy, emlx_error *err) {
    eval_job job = {.wanted = tensors, .wanted_count = count, .patient = busy == NULL};
    for (size_t i = 1; i < count; i++)
        if (tensors[i]->device != tensors[0]->device)
            return error_set(err, EMLX_INVALID, "the tensors are on different devices");
    walk_end end = claim_all(&job);
    emlx_status status = EMLX_OK;
    if (end == WALK_BUSY && busy != NULL)
        *busy = true;
    else
        status = end == WALK_DONE ? finish(&job, cancel, err) : claim_error(end, err);
    drop_leaves(&job);
    arena_clear(&job.memory);
    return status;
}

emlx_status eval_tensors(emlx_tensor *const *tensors, size_t count, const emlx_cancel *cancel,
                         emlx_error *err) {
    return eval_some(tensors, count, cancel, NULL, err);
}

static emlx_status eval_and_wait(emlx_tensor *const *tensors, size_t count,
                                 const emlx_cancel *cancel, emlx_error *err) {
    TRY(eval_tensors(tensors, count, cancel, err));
    return tensors[0]->device->ops->wait(tensors[0]->device, err);
}

emlx_status emlx_eval(emlx_tensor *const *tensors, size_t count, emlx_error *err) {
    return count == 0 ? EMLX_OK : eval_and_wait(tensors, count, NULL, err);
}

// Queued evaluations ---------------------------------------------------------------------------

typedef struct queued_eval {
    pool_job job;
    const emlx_cancel *cancel;
    emlx_done done;
    void *context;
    size_t count;
    emlx_tensor *tensors[];
} queued_eval;

static void free_queued(queued_eval *q) {
    for (size_t i = 0; i < q->count; i++) emlx_tensor_release(q->tensors[i]);
    mem_free(q, sizeof *q + q->count * sizeof *q->tensors);
}

// A look at a few pending nodes. One that is reached twice counts twice.
enum { FEW_NODES = 128 };

typedef struct look {
    emlx_tensor *stack[FEW_NODES];
    int depth, seen;
    int64_t work;
} look;

// What computing one node takes at most, its operands being there. A routine or a function may take
// any time.
static int64_t node_work(const emlx_tensor *t) {
    if (t->primitive > PRIM_pick) return WORK_UNKNOWN;
    int64_t count = work_count(&t->shape);
    if (t->primitive == PRIM_dot)
        return product_work(work_count(&t->inputs[0]->shape), work_count(&t->inputs[1]->shape),
                            count);
    for (uint32_t i = 0; i < t->input_count; i++) count += work_count(&t->inputs[i]->shape);
    return t->primitive > PRIM_reduce ? whole_work(count) : count;
}

// False when it has become too much. What somebody else is computing may take any time.
static bool look_at(look *l, emlx_tensor *t) {
    if (node_buffer(t) != NULL) return true;
    if (t->job != NULL || ++l->seen > FEW_NODES) return false;
    l->work += NODE_WORK + node_work(t);
    for (uint32_t i = 0; i < t->input_count; i++) {
        if (l->depth == FEW_NODES) return false;
        l->stack[l->depth++] = t->inputs[i];
    }
    return l->work <= SMALL_WORK;
}

// What computing the tensors takes at most, planning left aside. Under the lock.
static int64_t work_of(emlx_tensor *const *tensors, size_t count) {
    look l = {.work = KERNEL_WORK};
    if (count > FEW_NODES) return WORK_UNKNOWN;
    bool few = true;
    for (size_t i = 0; i < count; i++) l.stack[l.depth++] = tensors[i];
    while (l.depth > 0 && few) few = look_at(&l, l.stack[--l.depth]);
    return few ? l.work : WORK_UNKNOWN;
}

// False when the lock is taken, as callers do not wait for it.
static bool eval_work(emlx_tensor *const *tensors, size_t count, int64_t *work) {
    if (!graph_try_lock()) return false;
    *work = work_of(tensors, count);
    graph_unlock();
    return true;
}

emlx_status emlx_eval_brief(emlx_tensor *const *tensors, size_t count, bool *done,
                            emlx_error *err) {
    *done = count == 0;
    if (*done || !tensors[0]->device->ops->immediate) return EMLX_OK;
    int64_t work;
    if (!eval_work(tensors, count, &work) || work > BRIEF_WORK) return EMLX_OK;
    bool busy = false;
    TRY(eval_some(tensors, count, NULL, &busy, err));
    *done = !busy;
    return EMLX_OK;
}

// The tensors are let go before the answer, so that whoever waits for it sees them gone.
static void run_queued(pool_job *job) {
    queued_eval *q = (queued_eval *)job;
    emlx_error err = {.code = EMLX_OK};
    emlx_status status = eval_and_wait(q->tensors, q->count, q->cancel, &err);
    emlx_done done = q->done;
    void *context = q->context;
    free_queued(q);
    if (done != NULL) done(context, status, &err);
}

// Nobody could say before how long it takes. What is short goes on here, on the thread that is
// there for such jobs; long ones wait their turn.
static void run_unsized(pool_job *job) {
    queued_eval *q = (queued_eval *)job;
    graph_lock();
    q->job.small = work_of(q->tensors, q->count) <= SMALL_WORK;
    graph_unlock();
    q->job.run = run_queued;
    if (q->job.small)
        run_queued(job);
    else
        pool_submit(q->tensors[0]->device->pool, job);
}

// In a queue a job has to be done when its turn comes.
static void choose_size(queued_eval *q, const emlx_work *work) {
    int64_t size = WORK_UNKNOWN;
    bool known = eval_work(q->tensors, q->count, &size);
    bool later = !known && (work == NULL || work->queue == NULL);
    q->job.run = later ? run_unsized : run_queued;
    q->job.small = later || size <= SMALL_WORK;
}

emlx_status emlx_eval_async(emlx_tensor *const *tensors, size_t count, const emlx_work *work,
                            emlx_done done, void *context, emlx_error *err) {
    if (count == 0) return error_set(err, EMLX_INVALID, "no tensors to evaluate");
    queued_eval *q = mem_alloc(sizeof *q + count * sizeof *q->tensors);
    if (q == NULL) return error_set(err, EMLX_OUT_OF_MEMORY, "no memory to queue an evaluation");
    q->cancel = work == NULL ? NULL : work->cancel;
    q->done = done;
    q->context = context;
    q->count = count;
    for (size_t i = 0; i < count; i++) {
        q->tensors[i] = emlx_tensor_retain(tensors[i]);
        // What is being computed counts as there: chains built on it start anew.
        atomic_store_explicit(&tensors[i]->depth, 0, memory_order_relaxed);
    }
    choose_size(q, work);
    work_submit(tensors[0]->device, work, &q->job);
    return EMLX_OK;
}
