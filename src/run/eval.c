// SPDX-License-Identifier: Apache-2.0
// eval.c - computing pending tensors.
//
// An evaluation claims the pending nodes below its tensors, plans them, gives the plan to the
// device, and the results to the nodes. It claims under the graph lock, all or nothing: where
// somebody else is at a node it needs, it waits for that and starts over. Since nobody waits while
// holding a claim, evaluations cannot block each other.
//
// Where the device works on after that, the results are promised: others build on them, and a
// submission settles them once the work has ended. If it failed, what was built on them is started
// over, and meets the error as its own.
#include "run/eval.h"

#include <string.h>

#include "base/error.h"
#include "base/event.h"
#include "base/shape.h"
#include "graph/lock.h"
#include "memory/list.h"
#include "plan/cost.h"
#include "plan/subgraph.h"
#include "plan/submit.h"
#include "run/work.h"

// What an evaluation gives to its roots. A root's operands lie inside it, and one root may hold the
// last reference on another: all are kept until the operands of all are let go.
typedef struct outcome {
    uint32_t count;
    emlx_tensor **roots;   // referenced, once they have or are promised their results
    emlx_buffer **results; // referenced, likewise
    given_up *freed;       // the operands of those that have their results
} outcome;

// One evaluation. Its address is the mark of its claims.
struct eval_job {
    pool_job later; // ends the claims, where the caller does not wait for the lock
    arena memory;   // of such an evaluation, where it lies itself
    emlx_tensor *const *wanted;
    size_t wanted_count;
    emlx_tensor **claimed; // kept alive by what was wanted
    emlx_tensor **leaves;  // referenced; in the order of the walk, so that equal graphs look equal
    emlx_tensor **roots;
    uint32_t claimed_count, leaf_count, root_count;
    size_t claimed_room, leaf_room;
    uint32_t wanted_claimed; // so many of the claimed nodes, the first ones, were wanted themselves
    emlx_buffer **promised;  // by leaf, referenced: data that is on its way; NULL if there is none
    fence **awaited;         // by such leaf, referenced: when it will be there
    uint32_t promised_count;
    eval_how how;
    bool patient; // waits for the lock, and where somebody else is computing what it needs
    outcome own;  // where there is no submission
};

// Walking, all under the graph lock ------------------------------------------------------------

typedef enum walk_end { WALK_DONE, WALK_BUSY, WALK_NO_MEMORY, WALK_NO_DATA } walk_end;

static bool append(eval_job *job, emlx_tensor ***list, uint32_t *count, size_t *room,
                   emlx_tensor *t) {
    if (!arena_reserve(&job->memory, list, room, *count, 1, sizeof **list)) return false;
    (*list)[(*count)++] = t;
    return true;
}

static walk_end meet(eval_job *job, emlx_tensor *t) {
    if (t->job == job) return WALK_DONE;
    bool ready = node_buffer(t) != NULL || t->promised != NULL;
    if (!ready && t->job != NULL) return WALK_BUSY;
    if (!ready && t->primitive == PRIM_input) return WALK_NO_DATA;
    job->promised_count += t->promised != NULL;
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
        operand_span read = subgraph_operands(t->device, t);
        for (uint32_t i = read.first; i < read.end && end == WALK_DONE; i++) {
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

// What is promised now may be settled, or not, by the time it is used.
static walk_end note_promises(eval_job *job) {
    if (job->promised_count == 0) return WALK_DONE;
    job->promised = arena_array(&job->memory, job->leaf_count, sizeof *job->promised);
    job->awaited = arena_array(&job->memory, job->promised_count, sizeof(fence *));
    if (job->promised == NULL || job->awaited == NULL) {
        job->promised_count = 0;
        return WALK_NO_MEMORY;
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < job->leaf_count; i++) {
        const emlx_tensor *t = job->leaves[i];
        if (t->promised == NULL) continue;
        job->promised[i] = buffer_retain(t->promised);
        job->awaited[n++] = fence_retain(t->settles);
    }
    return WALK_DONE;
}

// Leaves are released outside of the lock: their memory may go with them.
static void drop_leaves(eval_job *job) {
    for (uint32_t i = 0; i < job->leaf_count; i++) emlx_tensor_release(job->leaves[i]);
    for (uint32_t i = 0; i < job->leaf_count && job->awaited != NULL; i++)
        buffer_release(job->promised[i]);
    for (uint32_t i = 0; i < job->promised_count && job->awaited != NULL; i++)
        fence_release(job->awaited[i]);
    job->leaf_count = job->promised_count = 0;
    job->awaited = NULL;
}

// Whether somebody outside of this evaluation may ask for the node's value, and it is worth the
// memory: results of kernels are there anyway, a `map` only when it was computed before.
static bool worth_keeping(emlx_tensor *t) {
    int references = atomic_load_explicit(&t->references, memory_order_relaxed);
    if ((uint32_t)references <= t->inner) return false;
    // Of an `either` that is not taken whole operand 0 stands in the plan.
    bool stands_for = t->primitive == PRIM_either && subgraph_operands(t->device, t).first == 0;
    primitive_kept kept = primitive_table[(stands_for ? t->inputs[0] : t)->primitive].kept;
    if (kept != KEPT_AGAIN || t->evaluations > 0) return kept != KEPT_NEVER;
    t->evaluations++;
    return false;
}

static walk_end choose_roots(eval_job *job) {
    size_t most = job->wanted_count + job->claimed_count;
    job->roots = arena_array(&job->memory, most + 1, sizeof *job->roots);
    if (job->roots == NULL) return WALK_NO_MEMORY;
    for (size_t i = 0; i < job->wanted_count; i++) {
        emlx_tensor *t = job->wanted[i];
        if (node_buffer(t) == NULL && t->promised == NULL) job->roots[job->root_count++] = t;
    }
    for (uint32_t i = job->wanted_claimed; i < job->claimed_count; i++)
        if (worth_keeping(job->claimed[i])) job->roots[job->root_count++] = job->claimed[i];
    return WALK_DONE;
}

// False where the job would have to wait for it.
static bool take_lock(const eval_job *job) {
    if (!job->patient) return graph_try_lock();
    graph_lock();
    return true;
}

// Claims everything that is needed, waiting for others where they hold some of it. Claims given up
// under the same lock were never seen by anyone, so nobody is woken for them.
static walk_end claim_all(eval_job *job) {
    for (;;) {
        if (!take_lock(job)) return WALK_BUSY;
        walk_end end = claim(job);
        if (end == WALK_DONE) end = choose_roots(job);
        if (end == WALK_DONE) end = note_promises(job);
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

// Under the lock. A root that was asked for twice is there twice.
static void publish(outcome *o) {
    for (uint32_t i = 0; i < o->count; i++)
        if (node_buffer(o->roots[i]) == NULL)
            node_publish(o->roots[i], o->results[i], &o->freed[i]);
}

static void drop_outcome(outcome *o) {
    for (uint32_t i = 0; i < o->count; i++) {
        buffer_release(o->results[i]);
        given_up_release(&o->freed[i]);
    }
    for (uint32_t i = 0; i < o->count; i++) emlx_tensor_release(o->roots[i]);
}

// Work that the device has been given: settles its results when it has ended. Its fence ends after
// that, and is what the nodes are promised with.
typedef struct submission {
    fence settled;
    size_t size; // of the allocation
    outcome outcome;
    planned planned;
    fence_link work, *awaited; // the device's work, and what it was built on
} submission;

static void settle(fence *f) {
    outcome *o = &((submission *)f)->outcome;
    graph_lock();
    if (f->error.code == EMLX_OK) publish(o);
    for (uint32_t i = 0; i < o->count; i++)
        if (o->roots[i]->promised != NULL) fence_release(node_unpromise(o->roots[i]));
    graph_unlock();
    drop_outcome(o);
    planned_clear(&((submission *)f)->planned);
}

static void submission_destroy(fence *f) { mem_free(f, ((submission *)f)->size); }

// Made before the work, so that nothing can fail behind it.
static submission *submission_new(const eval_job *job) {
    size_t count = job->root_count, links = job->promised_count;
    size_t each = sizeof(given_up) + sizeof(emlx_tensor *) + sizeof(emlx_buffer *);
    size_t size = sizeof(submission) + links * sizeof(fence_link) + count * each;
    submission *s = mem_alloc(size);
    if (s == NULL) return NULL;
    fence_init(&s->settled, submission_destroy);
    s->settled.settle = settle;
    s->size = size;
    s->awaited = (fence_link *)(s + 1);
    s->outcome.freed = (given_up *)(s->awaited + links);
    s->outcome.roots = (emlx_tensor **)(s->outcome.freed + count);
    s->outcome.results = (emlx_buffer **)(s->outcome.roots + count);
    return s;
}

// Under the lock.
static void promise(submission *s) {
    const outcome *o = &s->outcome;
    for (uint32_t i = 0; i < o->count; i++)
        if (o->roots[i]->promised == NULL) node_promise(o->roots[i], o->results[i], &s->settled);
}

// From here on it may be settled at any time. Takes both references over.
static fence *follow(const eval_job *job, submission *s, fence *work) {
    if (work != NULL) fence_follow(&s->settled, work, false, &s->work);
    for (uint32_t i = 0; i < job->promised_count; i++)
        fence_follow(&s->settled, job->awaited[i], true, &s->awaited[i]);
    fence_release(work);
    fence_arrive(&s->settled, NULL);
    return &s->settled;
}

// One that nothing was promised with.
static void submission_drop(submission *s) {
    if (s == NULL) return;
    s->settled.settle = NULL;
    fence_arrive(&s->settled, NULL);
    fence_release(&s->settled);
}

// Computing ------------------------------------------------------------------------------------

static emlx_buffer *leaf_buffer(const eval_job *job, uint32_t i) {
    bool promised = job->promised_count > 0 && job->promised[i] != NULL;
    return buffer_retain(promised ? job->promised[i] : node_buffer(job->leaves[i]));
}

static emlx_status compute(eval_job *job, emlx_buffer **results, planned *planned, fence **end,
                           emlx_error *err) {
    emlx_device *device = job->roots[0]->device;
    plan_request request = {device, job->roots, job->root_count, job->leaves, job->leaf_count};
    emlx_buffer **inputs = arena_array(&job->memory, job->leaf_count + 1, sizeof *inputs);
    if (inputs == NULL) return error_no_memory(err, "to evaluate");
    TRY(plan_find(&request, planned, err));
    for (uint32_t i = 0; i < job->leaf_count; i++) inputs[i] = leaf_buffer(job, i);
    plan_submission submission = {.device = device,
                                  .stream = job->how.stream,
                                  .cancel = job->how.cancel,
                                  .inputs = inputs,
                                  .outputs = results};
    return plan_submit(planned, &submission, end, err);
}

// Room for the outcome: in a submission where the device, or what is built on, may be at it for
// longer than the job.
static emlx_status start_outcome(eval_job *job, submission **s, emlx_error *err) {
    size_t count = job->root_count;
    if (job->promised_count > 0 || !job->wanted[0]->device->ops->immediate) {
        *s = submission_new(job);
        return *s == NULL ? error_no_memory(err, "to evaluate") : EMLX_OK;
    }
    outcome *own = &job->own;
    own->results = arena_array(&job->memory, count, sizeof(emlx_buffer *));
    own->freed = arena_array(&job->memory, count, sizeof(given_up));
    own->roots = job->roots;
    return own->results == NULL || own->freed == NULL ? error_no_memory(err, "to evaluate")
                                                      : EMLX_OK;
}

// Under the lock, and left without it: until then no root can go away before it is retained.
static void end_claims(eval_job *job, outcome *o, submission *promised) {
    for (uint32_t i = 0; i < o->count; i++) o->roots[i] = emlx_tensor_retain(job->roots[i]);
    if (promised != NULL)
        promise(promised);
    else
        publish(o);
    unclaim(job);
    graph_changed();
    graph_unlock();
}

static void job_clear(eval_job *job) {
    drop_leaves(job);
    arena memory = job->memory;
    arena_clear(&memory);
}

static void run_later(pool_job *later) {
    eval_job *job = (eval_job *)later;
    graph_lock();
    end_claims(job, &job->own, NULL);
    drop_outcome(&job->own);
    for (uint32_t i = 0; i < job->claimed_count; i++) emlx_tensor_release(job->claimed[i]);
    job_clear(job);
}

// The claims keep what is claimed for as long as they last, but not without those who wanted it.
static void end_later(eval_job *job) {
    thread_pool *pool = job->wanted[0]->device->pool;
    for (uint32_t i = 0; i < job->claimed_count; i++) emlx_tensor_retain(job->claimed[i]);
    job->later = (pool_job){.run = run_later, .small = true};
    pool_submit(pool, &job->later);
}

// *end: NULL once all is settled, else when it will be. *gone: that goes on without the caller, and
// the job is not the caller's any more.
static emlx_status finish_job(eval_job *job, fence **end, bool *gone, emlx_error *err) {
    submission *s = NULL;
    planned planned = {0};
    fence *work = NULL;
    uint64_t begun = event_begin();
    if (job->root_count == 0 && job->promised_count == 0) return EMLX_OK;
    emlx_status status = start_outcome(job, &s, err);
    outcome *o = s != NULL ? &s->outcome : &job->own;
    if (status == EMLX_OK && job->root_count > 0)
        status = compute(job, o->results, &planned, &work, err);
    if (work == NULL) planned_clear(&planned);
    if (status == EMLX_OK) {
        o->count = job->root_count;
        event_send((emlx_event){.kind = EMLX_EVENT_EVALUATED,
                                .device = job->wanted[0]->device->name,
                                .count = job->root_count},
                   begun);
    }
    bool later = s != NULL && status == EMLX_OK && (work != NULL || job->promised_count > 0);
    if (s == NULL && !take_lock(job)) {
        *gone = true;
        end_later(job);
        return EMLX_OK;
    }
    if (s != NULL) graph_lock();
    end_claims(job, o, later ? s : NULL);
    if (later) {
        s->planned = planned;
        *end = follow(job, s, work);
        return EMLX_OK;
    }
    drop_outcome(o);
    submission_drop(s);
    return status;
}

static emlx_status claim_error(walk_end end, emlx_error *err) {
    if (end == WALK_NO_DATA)
        return error_set(err, EMLX_INVALID, "a program's input has no value to compute with");
    return error_no_memory(err, "to evaluate");
}

static emlx_status check_device(emlx_tensor *const *tensors, size_t count, emlx_error *err) {
    for (size_t i = 1; i < count; i++)
        if (tensors[i]->device != tensors[0]->device)
            return error_set(err, EMLX_INVALID, "the tensors are on different devices");
    return EMLX_OK;
}

// Fills in a job that has all but its claims. *busy: it is not patient, and would have to wait.
static emlx_status eval_some(eval_job *job, bool *busy, fence **end, emlx_error *err) {
    walk_end walked = claim_all(job);
    emlx_status status = EMLX_OK;
    bool gone = false;
    *end = NULL;
    if (walked == WALK_DONE)
        status = finish_job(job, end, &gone, err);
    else if (walked != WALK_BUSY)
        status = claim_error(walked, err);
    *busy = gone || walked == WALK_BUSY;
    if (!gone) job_clear(job);
    return status;
}

emlx_status eval_submit(emlx_tensor *const *tensors, size_t count, const eval_how *how, fence **end,
                        emlx_error *err) {
    emlx_status status;
    TRY(check_device(tensors, count, err));
    do {
        eval_job job = {.wanted = tensors, .wanted_count = count, .how = *how, .patient = true};
        bool busy;
        status = eval_some(&job, &busy, end, err);
    } while (status == STATUS_AGAIN);
    return status;
}

emlx_status eval_go_on(eval_state *e, emlx_error *err) {
    emlx_status status = e->end == NULL ? STATUS_AGAIN : fence_status(e->end, err);
    fence_release(e->end);
    e->end = NULL;
    if (status != STATUS_AGAIN) return status;
    return eval_submit(e->tensors, e->count, &e->how, &e->end, err);
}

emlx_status eval_tensors(emlx_tensor *const *tensors, size_t count, const eval_how *how,
                         emlx_error *err) {
    eval_state e = {.tensors = tensors, .count = count, .how = *how};
    TRY(eval_go_on(&e, err));
    while (e.end != NULL) {
        fence_wait(e.end, NULL);
        TRY(eval_go_on(&e, err));
    }
    return EMLX_OK;
}

static emlx_status check_given(emlx_tensor *const *tensors, size_t count, emlx_error *err) {
    REQUIRE_ITEMS(tensors, count);
    for (size_t i = 0; i < count; i++)
        if (tensors[i] == NULL) return error_set(err, EMLX_INVALID, "tensor %zu is NULL", i);
    return EMLX_OK;
}

emlx_status emlx_eval(emlx_tensor *const *tensors, size_t count, emlx_error *err) {
    TRY(check_given(tensors, count, err));
    return count == 0 ? EMLX_OK : eval_tensors(tensors, count, &(eval_how){0}, err);
}

// Queued evaluations ---------------------------------------------------------------------------

typedef struct queued_eval {
    pool_job job;
    work_pause pause;
    eval_state eval;
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
    int64_t cost;
} look;

// False when it has become too much. What somebody else is computing may take any time.
static bool look_at(look *l, emlx_tensor *t) {
    if (node_buffer(t) != NULL) return true;
    if (t->job != NULL || t->promised != NULL || ++l->seen > FEW_NODES) return false;
    l->cost += COST_PLANNING + cost_of_node(t);
    for (uint32_t i = 0; i < t->input_count; i++) {
        if (l->depth == FEW_NODES) return false;
        l->stack[l->depth++] = t->inputs[i];
    }
    return l->cost <= COST_SMALL;
}

// What computing the tensors takes at most, planning left aside. Under the lock.
static int64_t cost_of_all(emlx_tensor *const *tensors, size_t count) {
    look l = {.cost = COST_KERNEL};
    if (count > FEW_NODES) return COST_NO_END;
    bool few = true;
    for (size_t i = 0; i < count; i++) l.stack[l.depth++] = tensors[i];
    while (l.depth > 0 && few) few = look_at(&l, l.stack[--l.depth]);
    return few ? l.cost : COST_NO_END;
}

// False when the lock is taken, as callers do not wait for it.
static bool eval_cost(emlx_tensor *const *tensors, size_t count, int64_t *cost) {
    if (!graph_try_lock()) return false;
    *cost = cost_of_all(tensors, count);
    graph_unlock();
    return true;
}

emlx_status emlx_eval_brief(emlx_tensor *const *tensors, size_t count, bool *done,
                            emlx_error *err) {
    REQUIRE(done);
    TRY(check_given(tensors, count, err));
    *done = count == 0;
    if (*done || !tensors[0]->device->ops->immediate) return EMLX_OK;
    int64_t cost;
    if (!eval_cost(tensors, count, &cost) || cost > COST_BRIEF) return EMLX_OK;
    TRY(check_device(tensors, count, err));
    arena memory = {0};
    eval_job *job = arena_alloc(&memory, sizeof *job);
    bool busy = false;
    fence *end;
    if (job == NULL) return error_no_memory(err, "to evaluate");
    *job = (eval_job){.memory = memory, .wanted = tensors, .wanted_count = count};
    TRY(eval_some(job, &busy, &end, err));
    *done = !busy && end == NULL;
    fence_release(end);
    return EMLX_OK;
}

// The tensors are let go before the answer, so that whoever waits for it sees them gone.
static void run_queued(pool_job *job) {
    queued_eval *q = (queued_eval *)job;
    emlx_error err = {.code = EMLX_OK};
    emlx_status status = eval_go_on(&q->eval, &err);
    if (q->eval.end != NULL) {
        work_wait(&q->pause, q->eval.end);
        return;
    }
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
    q->job.small = cost_of_all(q->tensors, q->count) <= COST_SMALL;
    graph_unlock();
    q->job.run = run_queued;
    if (q->job.small)
        run_queued(job);
    else
        pool_submit(q->tensors[0]->device->pool, job);
}

// In a queue a job has to be done when its turn comes.
static void choose_size(queued_eval *q, const emlx_work *work) {
    int64_t cost = COST_NO_END;
    bool known = eval_cost(q->tensors, q->count, &cost);
    bool later = !known && (work == NULL || work->queue == NULL);
    q->job.run = later ? run_unsized : run_queued;
    q->job.small = later || cost <= COST_SMALL;
}

emlx_status emlx_eval_async(emlx_tensor *const *tensors, size_t count, const emlx_work *work,
                            emlx_done done, void *context, emlx_error *err) {
    TRY(check_given(tensors, count, err));
    if (count == 0) return error_set(err, EMLX_INVALID, "no tensors to evaluate");
    TRY(work_check(tensors[0]->device, work, err));
    queued_eval *q = mem_alloc(sizeof *q + count * sizeof *q->tensors);
    if (q == NULL) return error_no_memory(err, "to queue an evaluation");
    q->eval.how.cancel = work == NULL ? NULL : work->cancel;
    q->pause.device = tensors[0]->device;
    q->pause.queue = work == NULL ? NULL : work->queue;
    q->pause.job = &q->job;
    q->eval.how.stream = queue_stream(q->pause.queue);
    q->done = done;
    q->context = context;
    q->count = q->eval.count = count;
    q->eval.tensors = q->tensors;
    for (size_t i = 0; i < count; i++) {
        q->tensors[i] = emlx_tensor_retain(tensors[i]);
        // What is being computed counts as there: chains built on it start anew.
        atomic_store_explicit(&tensors[i]->depth, 0, memory_order_relaxed);
    }
    choose_size(q, work);
    work_submit(tensors[0]->device, work, &q->job);
    return EMLX_OK;
}
