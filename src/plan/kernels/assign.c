// SPDX-License-Identifier: Apache-2.0
// assign.c - the shape of a kernel's index space, and when buffers begin, end and change hands.
#include <string.h>

#include "base/error.h"
#include "base/shape.h"
#include "plan/kernels/emit.h"

// Index space ----------------------------------------------------------------------------------

static bool is_folded(const plan_kernel *k, int32_t d) { return k->axes >> d & 1; }

static bool can_merge(const plan_kernel *k, int32_t d) {
    if (is_folded(k, d) != is_folded(k, d + 1)) return false;
    for (uint32_t i = 0; i < k->access_count; i++) {
        const int64_t *strides = k->accesses[i].strides;
        if (!axes_are_one(strides[d], strides[d + 1], k->dims[d + 1])) return false;
    }
    return true;
}

// Axis d goes; the axes behind it move up.
static void drop_axis(plan_kernel *k, int32_t d) {
    size_t behind = (size_t)(k->rank - 1 - d) * sizeof(int64_t);
    memmove(&k->dims[d], &k->dims[d + 1], behind);
    for (uint32_t i = 0; i < k->access_count; i++) {
        int64_t *strides = k->accesses[i].strides;
        memmove(&strides[d], &strides[d + 1], behind);
        strides[k->rank - 1] = 0;
    }
    uint32_t below = (1u << d % EMLX_MAX_RANK) - 1;
    k->axes = (k->axes & below) | (k->axes >> 1 & ~below);
    k->rank--;
}

void merge_kernel_axes(plan_kernel *k) {
    if (kernel_is_whole(k) || k->rank > EMLX_MAX_RANK) return;
    for (int32_t d = k->rank - 1; d >= 0; d--)
        if (k->dims[d] == 1) drop_axis(k, d);
    for (int32_t d = k->rank - 2; d >= 0; d--) {
        if (!can_merge(k, d)) continue;
        k->dims[d + 1] *= k->dims[d];
        drop_axis(k, d);
    }
}

// Lifetimes ------------------------------------------------------------------------------------

typedef struct lifetimes {
    uint32_t *first; // of each value: the kernel that makes it, or NO_INDEX
    uint32_t *last;  // the kernel that uses it last; NO_INDEX: it stays
} lifetimes;

static void use(lifetimes *life, uint32_t value, uint32_t kernel) {
    if (value != NO_INDEX && life->last[value] != NO_INDEX) life->last[value] = kernel;
}

static void make_value(lifetimes *life, uint32_t value, uint32_t kernel) {
    if (value == NO_INDEX) return;
    if (life->first[value] == NO_INDEX) life->first[value] = kernel;
    use(life, value, kernel);
}

static void live_through(const emlx_plan *plan, lifetimes *life) {
    for (uint32_t v = 0; v < plan->value_count; v++) life->first[v] = NO_INDEX;
    for (uint32_t i = 0; i < plan->output_count; i++) life->last[plan->outputs[i]] = NO_INDEX;
    for (uint32_t n = 0; n < plan->kernel_count; n++) {
        const plan_kernel *k = &plan->kernels[n];
        for (uint32_t i = 0; i < k->store_count; i++)
            make_value(life, k->accesses[k->stores[i].access].value, n);
        make_value(life, k->output, n);
        for (uint32_t i = 0; i < k->access_count; i++) {
            use(life, k->accesses[i].value, n);
            for (uint32_t s = 0; s < k->accesses[i].start_count; s++)
                use(life, k->accesses[i].starts[s].value, n);
        }
    }
}

bool access_same_place(const plan_access *a, const plan_access *b) {
    return a->offset == b->offset && a->start_count == 0 && b->start_count == 0 &&
           memcmp(a->strides, b->strides, sizeof a->strides) == 0;
}

static bool is_stored(const plan_kernel *k, uint32_t access) {
    for (uint32_t i = 0; i < k->store_count; i++)
        if (k->stores[i].access == access) return true;
    return false;
}

uint32_t access_stage(const plan_kernel *k, uint32_t access) {
    uint32_t stage = 0, end = 0;
    for (; stage < k->stage_count; stage++) {
        end += k->stages[stage].access_count;
        if (access < end) break;
    }
    return stage;
}

// Whether one of several stores takes its elements straight from memory, which another of them
// would have overwritten.
static bool stores_loaded(const plan_kernel *k) {
    for (uint32_t i = 0; i < k->store_count && k->store_count > 1; i++) {
        const expr_step *s = &k->steps[k->stores[i].step];
        bool computed = s->kind == EXPR_CAST || s->kind == EXPR_CONST || s->kind == EXPR_IOTA ||
                        (s->kind == EXPR_SCALAR && s->op != SCALAR_bitcast);
        if (!computed) return true;
    }
    return false;
}

// A value that ends here and is only read where `store` writes, element by element, and by no later
// stage: its buffer can take the result.
static uint32_t find_reuse(const emlx_plan *plan, const plan_kernel *k, const lifetimes *life,
                           uint32_t n, const expr_store *place) {
    const plan_access *store = &k->accesses[place->access];
    const plan_value *made = &plan->values[store->value];
    bool rows = k->kind == KERNEL_ROWS;
    if (stores_loaded(rows ? &k->stages[place->step] : k)) return NO_INDEX;
    for (uint32_t i = 0; i < k->access_count; i++) {
        uint32_t v = k->accesses[i].value;
        if (v == NO_INDEX || life->last[v] != n || life->first[v] == n || is_stored(k, i)) continue;
        const plan_value *old = &plan->values[v];
        bool fits = old->bytes == made->bytes && old->bytes > 0 &&
                    emlx_type_size(old->type) == emlx_type_size(made->type);
        for (uint32_t j = 0; fits && j < k->access_count; j++) {
            const plan_access *a = &k->accesses[j];
            if (a->value == v) fits = access_same_place(a, store);
            if (a->value == v && rows) fits = fits && access_stage(k, j) <= place->step;
            for (uint32_t s = 0; s < a->start_count; s++) fits = fits && a->starts[s].value != v;
        }
        bool taken = false;
        for (uint32_t j = 0; j < k->made_count; j++) taken = taken || k->reuse[j] == v;
        if (fits && !taken) return v;
    }
    return NO_INDEX;
}

// A store that is not dense over the whole value leaves elements that others fill in: no reuse.
static bool fills_value(const plan_kernel *k, const plan_access *store, const plan_value *value) {
    int64_t count = 1;
    for (int32_t d = 0; d < k->rank; d++) count *= k->dims[d];
    return store->start_count == 0 && count == emlx_shape_count(&value->shape);
}

static void add_made(const emlx_plan *plan, plan_kernel *k, const lifetimes *life, uint32_t n,
                     uint32_t value, const expr_store *store) {
    for (uint32_t i = 0; i < k->made_count; i++)
        if (k->made[i] == value) return;
    if (k->kind == KERNEL_ROWS && life->last[value] == n) {
        k->locals[k->local_count++] = value;
        return;
    }
    bool whole = store != NULL && fills_value(k, &k->accesses[store->access], &plan->values[value]);
    uint32_t old = whole ? find_reuse(plan, k, life, n, store) : NO_INDEX;
    // Operands of a product may not be overwritten while it is computed.
    if (n > 0 && plan->kernels[n - 1].epilogue) old = plan->kernels[n - 1].output;
    k->reuse[k->made_count] = old;
    k->made[k->made_count++] = value;
}

static void add_ended(plan_kernel *k, const lifetimes *life, uint32_t n, uint32_t value) {
    if (value == NO_INDEX || life->last[value] != n || kernel_is_local(k, value)) return;
    for (uint32_t i = 0; i < k->ended_count; i++)
        if (k->ended[i] == value) return;
    k->ended[k->ended_count++] = value;
}

static bool assign_kernel(const emlx_plan *plan, plan_kernel *k, const lifetimes *life, uint32_t n,
                          arena *memory) {
    uint32_t uses = k->access_count + 1;
    for (uint32_t i = 0; i < k->access_count; i++) uses += k->accesses[i].start_count;
    k->made = arena_array(memory, k->store_count + 1, sizeof *k->made);
    k->reuse = arena_array(memory, k->store_count + 1, sizeof *k->reuse);
    k->ended = arena_array(memory, uses, sizeof *k->ended);
    k->locals = arena_array(memory, k->kind == KERNEL_ROWS ? k->store_count : 1, sizeof *k->locals);
    if (!k->made || !k->reuse || !k->ended || !k->locals) return false;
    for (uint32_t i = 0; i < k->store_count; i++) {
        uint32_t value = k->accesses[k->stores[i].access].value;
        if (life->first[value] == n) add_made(plan, k, life, n, value, &k->stores[i]);
    }
    if (k->output != NO_INDEX && life->first[k->output] == n)
        add_made(plan, k, life, n, k->output, NULL);
    for (uint32_t i = 0; i < k->access_count; i++) {
        add_ended(k, life, n, k->accesses[i].value);
        for (uint32_t s = 0; s < k->accesses[i].start_count; s++)
            add_ended(k, life, n, k->accesses[i].starts[s].value);
    }
    add_ended(k, life, n, k->output);
    for (uint32_t i = 0; i < k->stage_count; i++) {
        k->stages[i].made_count = k->made_count;
        k->stages[i].made = k->made;
        k->stages[i].reuse = k->reuse;
    }
    return true;
}

emlx_status assign_buffers(emlx_plan *plan, arena *memory, emlx_error *err) {
    lifetimes life;
    arena scratch = {0};
    life.first = arena_array(&scratch, plan->value_count + 1, sizeof *life.first);
    life.last = arena_array(&scratch, plan->value_count + 1, sizeof *life.last);
    bool complete = life.first != NULL && life.last != NULL;
    if (complete) live_through(plan, &life);
    for (uint32_t n = 0; n < plan->kernel_count && complete; n++)
        complete = assign_kernel(plan, &plan->kernels[n], &life, n, memory);
    arena_clear(&scratch);
    return complete ? EMLX_OK : plan_no_memory(err);
}
