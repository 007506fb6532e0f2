// SPDX-License-Identifier: Apache-2.0
// rows.c - finding kernels that work on the same rows, and making one of them.
#include "plan/kernels/rows.h"

#include <string.h>

#include "base/error.h"
#include "engine.h"

enum { FAR = 32 }; // stages are looked for among so many kernels behind the last one

// What a value is to the kernel in the making.
typedef enum relation {
    APART,
    MADE, // by a stage
    AFTER // made of such a value by a kernel that is no stage: it comes after all of them
} relation;

typedef struct grouper {
    emlx_plan *plan;
    arena *scratch;
    arena trials; // kernels in the making
    uint32_t count;
    uint32_t *order;    // numbers of kernels, as they are to run
    uint32_t *writers;  // of each value: how many kernels write it
    uint8_t *relations; // of each value
    bool *after;        // of each kernel
    bool failed;
} grouper;

// A kernel of the kind ROWS in the making.
typedef struct group {
    row_space space;
    uint32_t count;
    row_stage stages[MOST_STAGES];
    uint32_t members[MOST_STAGES]; // their numbers
    plan_kernel kernel;            // of the stages so far
} group;

// What kernels write -----------------------------------------------------------------------------

static uint32_t write_count(const plan_kernel *k) {
    return k->store_count + (k->output != NO_INDEX);
}

static uint32_t written_value(const plan_kernel *k, uint32_t i) {
    return i < k->store_count ? k->accesses[k->stores[i].access].value : k->output;
}

static void relate(grouper *r, const plan_kernel *k, relation relation) {
    for (uint32_t i = 0; i < write_count(k); i++)
        r->relations[written_value(k, i)] = (uint8_t)relation;
}

static relation relation_of(const grouper *r, uint32_t value) {
    return value == NO_INDEX ? APART : (relation)r->relations[value];
}

// Whether it reads, or adds to, what a stage makes or what comes after one.
static bool depends(const grouper *r, const plan_kernel *k) {
    bool found = k->output != NO_INDEX && relation_of(r, k->output) != APART;
    for (uint32_t i = 0; i < k->access_count && !found; i++) {
        const plan_access *a = &k->accesses[i];
        found = relation_of(r, a->value) != APART;
        for (uint32_t s = 0; s < a->start_count; s++)
            found = found || relation_of(r, a->starts[s].value) != APART;
    }
    return found;
}

// Making the kernel ------------------------------------------------------------------------------

static bool make_lists(const group *g, arena *memory, plan_kernel *out) {
    uint32_t accesses = 0, stores = 0, guards = 0;
    for (uint32_t i = 0; i < g->count; i++) {
        const plan_kernel *k = g->stages[i].kernel;
        accesses += k->access_count + 1;
        stores += k->store_count + 1;
        guards += k->guard_count;
    }
    out->accesses = arena_array(memory, accesses, sizeof *out->accesses);
    out->stores = arena_array(memory, stores, sizeof *out->stores);
    out->guards = arena_array(memory, guards + 1, sizeof *out->guards);
    out->stages = arena_array(memory, g->count, sizeof *out->stages);
    return out->accesses && out->stores && out->guards && out->stages;
}

static void add_stage(const group *g, uint32_t number, plan_kernel *out) {
    const plan_kernel *k = g->stages[number].kernel;
    plan_kernel *stage = &out->stages[number];
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is room for all stages.
    *stage = *k;
    stage->accesses = &out->accesses[out->access_count];
    for (uint32_t i = 0; i < k->store_count; i++)
        out->stores[out->store_count++] =
            (expr_store){number, out->access_count + k->stores[i].access};
    for (uint32_t i = 0; i < k->access_count; i++)
        stage->accesses[i] = space_access(&g->space, &g->stages[number], i);
    for (uint32_t i = 0; i < k->guard_count; i++) out->guards[out->guard_count++] = k->guards[i];
    out->access_count += k->access_count;
}

static void add_fold_output(const group *g, const emlx_plan *plan, uint32_t number,
                            plan_kernel *out) {
    const row_stage *stage = &g->stages[number];
    if (stage->kernel->kind != KERNEL_REDUCE) return;
    // NOLINTNEXTLINE(clang-analyzer-core.NullDereference): there is room for all folds.
    out->stores[out->store_count++] = (expr_store){number, out->access_count};
    out->accesses[out->access_count++] = space_output(&g->space, stage, plan);
}

static bool make_rows(const group *g, const emlx_plan *plan, arena *memory, plan_kernel *out) {
    *out = (plan_kernel){.kind = KERNEL_ROWS,
                         .op = g->stages[g->count - 1].kernel->op,
                         .rank = g->space.rank,
                         .axes = g->space.axes,
                         .output = NO_INDEX,
                         .stage_count = g->count};
    memcpy(out->dims, g->space.dims, sizeof out->dims);
    if (!make_lists(g, memory, out)) return false;
    for (uint32_t i = 0; i < g->count; i++) add_stage(g, i, out);
    for (uint32_t i = 0; i < g->count; i++) add_fold_output(g, plan, i, out);
    merge_kernel_axes(out);
    for (uint32_t i = 0; i < g->count; i++) {
        plan_kernel *stage = &out->stages[i];
        stage->rank = out->rank;
        memcpy(stage->dims, out->dims, sizeof stage->dims);
        for (int32_t d = 0; d < out->rank; d++)
            if (g->stages[i].single && (out->axes >> d & 1)) stage->dims[d] = 1;
        if (stage->kind == KERNEL_REDUCE) stage->axes = out->axes;
    }
    return true;
}

// Joining ----------------------------------------------------------------------------------------

static int64_t kernel_elements(const plan_kernel *k) {
    int64_t count = 1;
    for (int32_t d = 0; d < k->rank; d++) count *= k->dims[d];
    return count;
}

static const plan_access *stage_store(const plan_kernel *k, uint32_t value) {
    for (uint32_t i = 0; i < k->store_count; i++)
        if (k->accesses[k->stores[i].access].value == value)
            return &k->accesses[k->stores[i].access];
    return NULL;
}

// Where a stage writes a value, over the axes of `space`.
static bool find_place(const grouper *r, const group *g, const row_space *space, uint32_t value,
                       plan_access *out) {
    for (uint32_t i = 0; i < g->count; i++) {
        const row_stage *stage = &g->stages[i];
        const plan_access *store = stage_store(stage->kernel, value);
        if (store != NULL)
            *out = space_access(space, stage, (uint32_t)(store - stage->kernel->accesses));
        else if (stage->kernel->output == value)
            *out = space_output(space, stage, r->plan);
        else
            continue;
        return true;
    }
    return false;
}

// Every value that it writes it has to make alone, and entirely.
static bool makes_values(const grouper *r, const plan_kernel *k) {
    for (uint32_t i = 0; i < k->store_count; i++) {
        const plan_access *a = &k->accesses[k->stores[i].access];
        bool whole = kernel_elements(k) == emlx_shape_count(&r->plan->values[a->value].shape);
        if (r->writers[a->value] != 1 || !whole || a->start_count > 0) return false;
    }
    return true;
}

static bool reads_along(const row_space *s, const plan_access *a) {
    bool along = false;
    for (int32_t d = 0; d < s->rank; d++) along = along || (runs_along(s, d) && a->strides[d] != 0);
    return along;
}

// Whether a stage reads the very elements, each of them once.
static bool is_shared(const group *g, const row_space *space, const plan_access *wanted) {
    if (wanted->value == NO_INDEX || !reads_along(space, wanted)) return false;
    for (uint32_t i = 0; i < g->count; i++)
        for (uint32_t a = 0; a < g->stages[i].kernel->access_count; a++) {
            plan_access read = space_access(space, &g->stages[i], a);
            if (read.value == wanted->value && access_same_place(&read, wanted)) return true;
        }
    return false;
}

// Of what stages make it may read its own row, and nothing of what comes after them. *related: it
// has to do with them at all.
static bool reads_own_row(const grouper *r, const group *g, const row_space *space,
                          const row_stage *stage, bool *related) {
    const plan_kernel *k = stage->kernel;
    *related = false;
    for (uint32_t i = 0; i < k->access_count; i++) {
        plan_access read = space_access(space, stage, i), made;
        for (uint32_t s = 0; s < read.start_count; s++)
            if (relation_of(r, read.starts[s].value) != APART) return false;
        relation relation = relation_of(r, read.value);
        if (relation == AFTER) return false;
        if (relation == APART) {
            *related = *related || (k->kind == KERNEL_REDUCE && is_shared(g, space, &read));
            continue;
        }
        bool own = find_place(r, g, space, read.value, &made) && access_same_place(&read, &made);
        if (!own) return false;
        *related = true;
    }
    return true;
}

static bool device_wants(const grouper *r, const plan_kernel *kernel) {
    const emlx_device *device = r->plan->device;
    return device->ops->rows(device, kernel);
}

// The group with one more stage, where that can be and the device wants it.
static bool join_stage(grouper *r, group *g, uint32_t number) {
    const plan_kernel *k = &r->plan->kernels[number];
    if (g->count == MOST_STAGES || (k->kind != KERNEL_MAP && k->kind != KERNEL_REDUCE))
        return false;
    int64_t rows = space_count(&g->space, false), length = space_count(&g->space, true);
    row_stage stage = {k, k->kind == KERNEL_MAP && kernel_elements(k) == rows};
    if (kernel_elements(k) != (stage.single ? rows : rows * length)) return false;
    group next = *g;
    bool related;
    if (!space_refine(&next.space, &stage) || !makes_values(r, k)) return false;
    if (!reads_own_row(r, g, &next.space, &stage, &related) || !related) return false;
    next.stages[next.count] = stage;
    next.members[next.count++] = number;
    if (!make_rows(&next, r->plan, &r->trials, &next.kernel)) {
        r->failed = true;
        return false;
    }
    if (!device_wants(r, &next.kernel)) return false;
    *g = next;
    return true;
}

// Whether rows can begin with it.
static bool begin_rows(grouper *r, uint32_t number, group *g) {
    const plan_kernel *k = &r->plan->kernels[number];
    if (k->kind != KERNEL_REDUCE || k->axes == 0 || kernel_elements(k) == 0) return false;
    *g = (group){.count = 1, .stages = {{k, false}}, .members = {number}};
    g->space = (row_space){.rank = k->rank, .axes = k->axes};
    memcpy(g->space.dims, k->dims, sizeof g->space.dims);
    if (!makes_values(r, k)) return false;
    r->failed = r->failed || !make_rows(g, r->plan, &r->trials, &g->kernel);
    return !r->failed && device_wants(r, &g->kernel);
}

// What does not depend on the stages comes before them, what does behind.
static void put_together(grouper *r, const group *g, uint32_t from, uint32_t to) {
    uint32_t *order = &r->order[from], n = to - from, before = 0, behind = 0;
    uint32_t *rest = arena_array(&r->trials, n, sizeof *rest);
    r->failed = r->failed || rest == NULL;
    if (r->failed) return;
    for (uint32_t i = 0, next = 0; i < n; i++) {
        if (next < g->count && order[i] == g->members[next])
            next++;
        else if (r->after[order[i]])
            rest[behind++] = order[i];
        else
            order[before++] = order[i];
    }
    order[before++] = g->members[g->count - 1];
    memcpy(order + before, rest, behind * sizeof *rest);
    memmove(order + before + behind, order + n, (r->count - to) * sizeof *order);
    r->count -= n - before - behind;
}

// Rows that begin with the kernel at `at` in the order.
static bool gather_rows(grouper *r, uint32_t at) {
    group g;
    arena_clear(&r->trials);
    if (!begin_rows(r, r->order[at], &g)) return false;
    uint32_t end = at + 1, seen = at + 1;
    relate(r, g.stages[0].kernel, MADE);
    for (; seen < r->count && seen < end + FAR && !r->failed; seen++) {
        uint32_t number = r->order[seen];
        const plan_kernel *k = &r->plan->kernels[number];
        bool joined = join_stage(r, &g, number);
        if (joined) end = seen + 1;
        r->after[number] = !joined && depends(r, k);
        if (joined || r->after[number]) relate(r, k, joined ? MADE : AFTER);
    }
    for (uint32_t i = at; i < seen; i++) relate(r, &r->plan->kernels[r->order[i]], APART);
    if (g.count < 2 || r->failed) return false;
    plan_kernel kernel;
    r->failed = !make_rows(&g, r->plan, r->scratch, &kernel);
    if (!r->failed) put_together(r, &g, at, end);
    if (!r->failed) r->plan->kernels[g.members[g.count - 1]] = kernel;
    return !r->failed;
}

static bool begin_joining(grouper *r) {
    const emlx_plan *plan = r->plan;
    r->count = plan->kernel_count;
    r->order = arena_array(r->scratch, r->count + 1, sizeof *r->order);
    r->after = arena_array(r->scratch, r->count + 1, sizeof *r->after);
    r->writers = arena_array(r->scratch, plan->value_count + 1, sizeof *r->writers);
    r->relations = arena_array(r->scratch, plan->value_count + 1, 1);
    if (!r->order || !r->after || !r->writers || !r->relations) return false;
    for (uint32_t i = 0; i < r->count; i++) {
        const plan_kernel *k = &plan->kernels[i];
        r->order[i] = i;
        for (uint32_t w = 0; w < write_count(k); w++) r->writers[written_value(k, w)]++;
    }
    return true;
}

// The kernels in their order.
static bool reorder_kernels(grouper *r) {
    emlx_plan *plan = r->plan;
    if (r->count == plan->kernel_count) return true;
    plan_kernel *kernels = arena_array(r->scratch, r->count, sizeof *kernels);
    if (kernels == NULL) return false;
    for (uint32_t i = 0; i < r->count; i++) kernels[i] = plan->kernels[r->order[i]];
    plan->kernels = kernels;
    plan->kernel_count = r->count;
    return true;
}

emlx_status join_rows(emlx_plan *plan, arena *scratch, emlx_error *err) {
    grouper r = {.plan = plan, .scratch = scratch};
    if (plan->device->ops->rows == NULL || plan->kernel_count < 2) return EMLX_OK;
    bool complete = begin_joining(&r);
    // Kernels that have come before the rows may be the beginning of others.
    for (uint32_t at = 0; complete && at < r.count && !r.failed;)
        if (!gather_rows(&r, at)) at++;
    complete = complete && !r.failed && reorder_kernels(&r);
    arena_clear(&r.trials);
    return complete ? EMLX_OK : plan_no_memory(err);
}
