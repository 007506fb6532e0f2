// SPDX-License-Identifier: Apache-2.0
// check.c - what must hold of every plan. Knows nothing of how plans are made: it only looks at
// what the kernels of a finished one read, write and end.
#include "plan/kernels/check.h"

#include <stdlib.h>

#include "base/error.h"
#include "plan/kernels/emit.h"

typedef struct checker {
    const emlx_plan *plan;
    arena memory;
    uint32_t *first, *last; // kernels that write a value; NO_INDEX for inputs
    bool *made, *ended;     // so far
    uint32_t now, step;     // the kernel looked at, and the first of its step
    emlx_error *err;
} checker;

bool plan_checking(void) {
#ifdef EMLX_CHECK_PLANS
    return true;
#else
    static atomic_int answer; // 0: not asked yet
    int known = atomic_load_explicit(&answer, memory_order_relaxed);
    if (known == 0) {
        known = getenv("EMLX_CHECK_PLANS") != NULL ? 1 : -1;
        atomic_store_explicit(&answer, known, memory_order_relaxed);
    }
    return known > 0;
#endif
}

static emlx_status fault(const checker *c, const char *what, uint32_t value) {
    return error_set(c->err, EMLX_INTERNAL, "kernel %u (%s) of a plan %s value %u", c->now,
                     c->plan->kernels[c->now].op, what, value);
}

// Writers --------------------------------------------------------------------------------------

static void written(checker *c, uint32_t value, uint32_t kernel) {
    if (value == NO_INDEX) return;
    if (c->first[value] == NO_INDEX) c->first[value] = kernel;
    c->last[value] = kernel;
}

static void find_writers(checker *c) {
    for (uint32_t v = 0; v < c->plan->value_count; v++) c->first[v] = c->last[v] = NO_INDEX;
    for (uint32_t n = 0; n < c->plan->kernel_count; n++) {
        const plan_kernel *k = &c->plan->kernels[n];
        for (uint32_t i = 0; i < k->store_count; i++)
            written(c, k->accesses[k->stores[i].access].value, n);
        written(c, k->output, n);
    }
}

// Readers --------------------------------------------------------------------------------------

static emlx_status check_read(const checker *c, uint32_t value) {
    bool input = value < c->plan->input_count;
    if (value >= c->plan->value_count) return fault(c, "reads a missing", value);
    if (c->ended[value]) return fault(c, "reads an ended", value);
    if (!input && (c->last[value] == NO_INDEX || c->last[value] >= c->step))
        return fault(c, "reads an incomplete", value);
    return EMLX_OK;
}

// Scattering works in place, on what the kernel before it copied.
static emlx_status check_target(const checker *c, uint32_t value) {
    bool ready = c->first[value] != NO_INDEX && c->first[value] < c->now;
    return ready ? EMLX_OK : fault(c, "scatters into an incomplete", value);
}

static bool is_loaded(const plan_kernel *k, uint32_t access) {
    if (k->shapes != NULL) return true;
    for (uint32_t i = 0; i < k->step_count; i++)
        if (k->steps[i].kind == EXPR_LOAD && k->steps[i].index == access) return true;
    return false;
}

// Rows ------------------------------------------------------------------------------------------

// The place where a stage of the kernel writes the value, and which.
static const expr_store *row_store(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->store_count; i++)
        if (k->accesses[k->stores[i].access].value == value) return &k->stores[i];
    return NULL;
}

// What the kernel writes is read by later stages, at the same place.
static emlx_status check_row_read(const checker *c, const plan_kernel *k, uint32_t stage,
                                  const plan_access *a) {
    const expr_store *store = row_store(k, a->value);
    if (store == NULL) return check_read(c, a->value);
    if (store->step >= stage) return fault(c, "has a stage that reads an incomplete", a->value);
    if (!access_same_place(a, &k->accesses[store->access]))
        return fault(c, "has a stage that reads other rows of", a->value);
    return EMLX_OK;
}

static bool is_single(const plan_kernel *k, const plan_kernel *stage) {
    bool single = stage->kind == KERNEL_MAP;
    for (int32_t d = 0; d < k->rank; d++)
        single = single && (!(k->axes >> d & 1) || stage->dims[d] == 1);
    return single;
}

static emlx_status check_stage(const checker *c, const plan_kernel *k, uint32_t number) {
    const plan_kernel *stage = &k->stages[number];
    bool folds = stage->kind == KERNEL_REDUCE, single = is_single(k, stage);
    bool fits = stage->rank == k->rank && (folds ? stage->axes == k->axes : stage->axes == 0);
    for (int32_t d = 0; d < k->rank; d++)
        fits = fits && stage->dims[d] == (single && (k->axes >> d & 1) ? 1 : k->dims[d]);
    if (!fits || (!folds && stage->kind != KERNEL_MAP))
        return fault(c, "has an unfit stage, of", number);
    for (uint32_t i = 0; i < stage->access_count; i++) {
        const plan_access *a = &stage->accesses[i];
        for (uint32_t s = 0; s < a->start_count; s++) TRY(check_read(c, a->starts[s].value));
        if (is_loaded(stage, i)) TRY(check_row_read(c, k, number, a));
    }
    return EMLX_OK;
}

static emlx_status check_row_kernel(const checker *c, const plan_kernel *k) {
    for (uint32_t i = 0; i < k->stage_count; i++) TRY(check_stage(c, k, i));
    for (uint32_t i = 0; i < k->local_count; i++) {
        uint32_t v = k->locals[i];
        bool inside = c->first[v] == c->now && c->last[v] == c->now && !c->made[v];
        if (!inside || c->ended[v]) return fault(c, "has no buffer for", v);
        c->ended[v] = true;
    }
    return EMLX_OK;
}

// A kernel without steps converts nothing on the way.
static emlx_status check_type(const checker *c, const plan_kernel *k, const plan_access *a) {
    bool same = k->shapes == NULL || a->type == c->plan->values[a->value].type;
    return same ? EMLX_OK : fault(c, "reads in another type the", a->value);
}

static emlx_status check_reads(const checker *c, const plan_kernel *k) {
    if (k->kind == KERNEL_ROWS) return check_row_kernel(c, k);
    for (uint32_t i = 0; i < k->access_count; i++) {
        const plan_access *a = &k->accesses[i];
        for (uint32_t s = 0; s < a->start_count; s++) TRY(check_read(c, a->starts[s].value));
        if (k->kind == KERNEL_SCATTER && i == 0)
            TRY(check_target(c, a->value));
        else if (is_loaded(k, i))
            TRY(check_read(c, a->value));
        TRY(check_type(c, k, a));
    }
    return EMLX_OK;
}

// Buffers --------------------------------------------------------------------------------------

static const plan_access *store_of(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->store_count; i++)
        if (k->accesses[k->stores[i].access].value == value)
            return &k->accesses[k->stores[i].access];
    return NULL;
}

static bool ends_here(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->ended_count; i++)
        if (k->ended[i] == value) return true;
    return false;
}

// A value whose buffer another one takes over may only be read where that one is written.
static emlx_status check_reuse(const checker *c, const plan_kernel *k, uint32_t made,
                               uint32_t old) {
    const plan_access *store = store_of(k, made);
    if (!ends_here(k, old)) return fault(c, "overwrites the living", old);
    for (uint32_t i = 0; i < k->access_count; i++) {
        const plan_access *a = &k->accesses[i];
        if (a->value == old && (store == NULL || !access_same_place(a, store)))
            return fault(c, "overwrites elements it reads of", old);
        bool later = k->kind == KERNEL_ROWS && access_stage(k, i) > row_store(k, made)->step;
        if (a->value == old && later) return fault(c, "overwrites what later stages read,", old);
        for (uint32_t s = 0; s < a->start_count; s++)
            if (a->starts[s].value == old) return fault(c, "overwrites a start,", old);
    }
    return EMLX_OK;
}

static emlx_status check_made(checker *c, const plan_kernel *k) {
    for (uint32_t i = 0; i < k->made_count; i++) {
        uint32_t v = k->made[i];
        if (c->made[v] || c->first[v] != c->now) return fault(c, "makes at the wrong time", v);
        c->made[v] = true;
        if (k->reuse[i] != NO_INDEX) TRY(check_reuse(c, k, v, k->reuse[i]));
    }
    return EMLX_OK;
}

static emlx_status check_ended(checker *c, const plan_kernel *k) {
    for (uint32_t i = 0; i < k->ended_count; i++) {
        uint32_t v = k->ended[i];
        bool unfinished = c->last[v] != NO_INDEX && c->last[v] > c->now;
        if (c->ended[v] || unfinished) return fault(c, "ends at the wrong time", v);
        c->ended[v] = true;
    }
    return EMLX_OK;
}

// What a map adds to a product is there before the product, whose buffer it takes over.
static emlx_status check_epilogue(const checker *c, const plan_kernel *k) {
    if (!k->epilogue) return EMLX_OK;
    bool behind = c->now + 1 < c->plan->kernel_count && k[1].kind == KERNEL_MAP;
    if (!behind || k[1].made_count != 1 || k[1].reuse[0] != k->output)
        return fault(c, "has no map behind that takes over", k->output);
    for (uint32_t i = 0; i < k[1].access_count; i++)
        if (k[1].accesses[i].value != k->output && is_loaded(&k[1], i))
            TRY(check_read(c, k[1].accesses[i].value));
    return EMLX_OK;
}

static emlx_status check_kernels(checker *c) {
    for (c->now = c->step = 0; c->now < c->plan->kernel_count; c->now++) {
        const plan_kernel *k = &c->plan->kernels[c->now];
        if (c->now > c->step + c->plan->kernels[c->step].beside) c->step = c->now;
        TRY(check_reads(c, k));
        TRY(check_epilogue(c, k));
        TRY(check_made(c, k));
        TRY(check_ended(c, k));
    }
    return EMLX_OK;
}

static emlx_status check_outputs(const checker *c) {
    for (uint32_t i = 0; i < c->plan->output_count; i++) {
        uint32_t v = c->plan->outputs[i];
        if (c->ended[v] || (v >= c->plan->input_count && !c->made[v]))
            return error_set(c->err, EMLX_INTERNAL, "a plan lacks value %u, its output %u", v, i);
    }
    return EMLX_OK;
}

emlx_status plan_check(const emlx_plan *plan, emlx_error *err) {
    checker c = {.plan = plan, .err = err};
    size_t count = plan->value_count + 1;
    c.first = arena_array(&c.memory, count, sizeof *c.first);
    c.last = arena_array(&c.memory, count, sizeof *c.last);
    c.made = arena_array(&c.memory, count, sizeof *c.made);
    c.ended = arena_array(&c.memory, count, sizeof *c.ended);
    emlx_status status = EMLX_OK;
    if (c.first == NULL || c.last == NULL || c.made == NULL || c.ended == NULL) {
        status = error_no_memory(err, "to check a plan");
    } else {
        find_writers(&c);
        status = check_kernels(&c);
        if (status == EMLX_OK) status = check_outputs(&c);
    }
    arena_clear(&c.memory);
    return status;
}
