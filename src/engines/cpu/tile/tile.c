// SPDX-License-Identifier: Apache-2.0
// tile.c - evaluates a kernel's scalar expression over tiles.
#include "engines/cpu/tile/tile.h"

#include <string.h>

#include "base/error.h"
#include "base/types.h"

enum { CACHE_LINE = 64, FETCH_ELEMENTS = 256, CACHED_BYTES = 1 << 22 };
enum { LARGEST_TILE = 1024, SMALLEST_TILE = 64, NO_STEP = UINT16_MAX };

// Preparing -------------------------------------------------------------------------------------

typedef struct preparer {
    tile_form *form;
    const emlx_plan *plan;
    const plan_kernel *rows; // whose stage this is, or NULL
    uint32_t *last; // of each step: the last step that reads it (step_count: a store or the fold)
    uint32_t *free; // stack of slots that can be used again
    uint32_t free_count, slot_count, fixed_count;
} preparer;

static bool is_uniform_access(const tile_form *f, uint32_t access) {
    for (int32_t d = 0; d < f->rank; d++)
        if (f->strides[access][d] != 0) return false;
    return true;
}

static bool is_dense_access(const tile_form *f, uint32_t access) {
    int64_t run = 1;
    for (int32_t d = f->rank - 1; d >= 0; d--) {
        if (f->strides[access][d] != run) return false;
        run *= f->dims[d];
    }
    return true;
}

static void order_axes(tile_form *f, const tile_walk *walk) {
    const plan_kernel *k = f->kernel;
    f->rank = k->rank;
    f->count = 1;
    for (int32_t d = 0; d < f->rank; d++) {
        int32_t from = walk != NULL ? walk->axes[d] : d;
        f->dims[d] = k->dims[from];
        f->count *= f->dims[d];
        for (uint32_t a = 0; a < k->access_count; a++)
            f->strides[a][d] = k->accesses[a].strides[from];
    }
    if (f->rank == 0) f->dims[f->rank++] = 1; // strides are zero there
    // Nothing of a block is one run.
    if (walk != NULL && walk->blocked) return;
    for (uint32_t a = 0; a < k->access_count; a++) f->dense[a] = is_dense_access(f, a);
}

static uint32_t step_operands(const expr_step *s) {
    if (s->kind == EXPR_SCALAR) return scalar_table[s->op].operands;
    if (s->kind == EXPR_CAST) return 1;
    return s->kind == EXPR_GUARD ? 2 : 0;
}

static bool is_alias(const expr_step *s) {
    return s->kind == EXPR_GUARD || (s->kind == EXPR_SCALAR && s->op == SCALAR_bitcast);
}

static uint32_t resolve(const tile_form *f, uint32_t step) {
    while (is_alias(&f->kernel->steps[step])) step = f->kernel->steps[step].args[0];
    return step;
}

static bool folds(const plan_kernel *k) {
    return k->kind == KERNEL_REDUCE || k->kind == KERNEL_CUSTOM;
}

// Whether an earlier stage writes what is loaded.
static bool is_made_on_the_way(const preparer *p, uint32_t access) {
    uint32_t value = p->form->kernel->accesses[access].value;
    for (uint32_t i = 0; p->rows != NULL && i < p->rows->store_count; i++)
        if (p->rows->accesses[p->rows->stores[i].access].value == value) return true;
    return false;
}

// Steps whose elements never change during a run are computed once. A guard's alias of one is too.
static bool is_fixed(const preparer *p, const expr_step *s) {
    const tile_form *f = p->form;
    switch (s->kind) {
    case EXPR_CONST: return true;
    case EXPR_LOAD: return is_uniform_access(f, s->index) && !is_made_on_the_way(p, s->index);
    case EXPR_IOTA: return is_uniform_access(f, s->index);
    case EXPR_CARRY: return false;
    default: break;
    }
    for (uint32_t i = 0; i < step_operands(s); i++)
        if (f->steps[resolve(f, s->args[i])].storage != STORAGE_FIXED) return false;
    return true;
}

static bool has_loop(const expr_step *s, scalar_loop loop) {
    return s->kind == EXPR_SCALAR && scalar_table[s->op].loop == loop;
}

// The function of both steps in one loop, which is nearly twice as fast where loops are short.
static tile_fn find_pair(const tile_form *f, const expr_step *a, const expr_step *b) {
    if (!has_loop(a, LOOP_SHORT) || !has_loop(b, LOOP_SHORT) || a->compute != b->compute)
        return NULL;
    for (const chain_fn *p = f->kernels->chains; p->fn != NULL; p++)
        if (p->first == a->op && p->second == b->op && p->type == a->compute) return p->fn;
    return NULL;
}

// Makes a step compute one of its operands too, if nothing else needs that.
static void join_pair(tile_form *f, uint32_t n, const uint32_t *uses) {
    const expr_step *s = &f->kernel->steps[n];
    step_form *second = &f->steps[n];
    if (second->storage == STORAGE_FIXED || second->arg_count != 2) return;
    for (uint32_t i = 0; i < (s->op == SCALAR_subtract ? 1 : 2); i++) {
        step_form *first = &f->steps[s->args[i]];
        tile_fn fn = find_pair(f, &f->kernel->steps[s->args[i]], s);
        bool free =
            first->storage == STORAGE_SLOT && first->arg_count == 2 && uses[s->args[i]] == 1;
        if (fn == NULL || !free) continue;
        first->storage = STORAGE_NONE;
        *second = (step_form){.fn = fn, .arg_count = 3, .storage = second->storage};
        memcpy(second->args, first->args, 2 * sizeof *first->args);
        second->args[2] = s->args[1 - i];
        return;
    }
}

// Makes a step compute both of its operands too, if nothing else needs them.
static void join_fork(tile_form *f, uint32_t n, const uint32_t *uses) {
    const expr_step *s = &f->kernel->steps[n];
    step_form *join = &f->steps[n];
    if (join->storage == STORAGE_FIXED || join->arg_count != 2 || s->kind != EXPR_SCALAR) return;
    const expr_step *a = &f->kernel->steps[s->args[0]], *b = &f->kernel->steps[s->args[1]];
    step_form *left = &f->steps[s->args[0]], *right = &f->steps[s->args[1]];
    bool free = left->storage == STORAGE_SLOT && right->storage == STORAGE_SLOT &&
                left->arg_count == 2 && right->arg_count == 2 && uses[s->args[0]] == 1 &&
                uses[s->args[1]] == 1;
    if (!free || left->args[0] != right->args[0] || a->kind != EXPR_SCALAR ||
        b->kind != EXPR_SCALAR)
        return;
    for (const fork_fn *k = f->kernels->forks; k->fn != NULL; k++) {
        if (k->join != s->op || k->left != a->op || k->right != b->op) continue;
        if (k->type != s->compute || k->type != a->compute || k->type != b->compute) continue;
        left->storage = right->storage = STORAGE_NONE;
        *join = (step_form){.fn = k->fn,
                            .arg_count = 3,
                            .storage = join->storage,
                            .args = {left->args[0], left->args[1], right->args[1]}};
        return;
    }
}

// Makes a step that only rounds a function in f64 to two bytes compute it by way of f32.
static emlx_status join_narrowed(tile_form *f, uint32_t n, uint32_t *uses, arena *memory,
                                 emlx_error *err) {
    const expr_step *steps = f->kernel->steps, *s = &steps[n];
    step_form *round = &f->steps[n];
    narrowed_fn found;
    if (s->kind != EXPR_CAST || s->compute != EMLX_F64 || round->storage != STORAGE_SLOT)
        return EMLX_OK;
    const expr_step *function = &steps[s->args[0]], *widen = &steps[function->args[0]];
    step_form *middle = &f->steps[s->args[0]], *first = &f->steps[function->args[0]];
    bool suits = function->kind == EXPR_SCALAR && function->compute == EMLX_F64 &&
                 middle->storage == STORAGE_SLOT && uses[s->args[0]] == 1 &&
                 widen->kind == EXPR_CAST &&
                 narrowed_find(f->kernels, function->op, (emlx_type)widen->compute,
                               (emlx_type)s->type, &found);
    if (!suits) return EMLX_OK;
    narrowed_fn *kept = arena_array(memory, 1, sizeof *kept);
    if (kept == NULL) return error_no_memory(err, "to prepare a kernel");
    *kept = found;
    if (--uses[function->args[0]] == 0 && first->storage == STORAGE_SLOT)
        first->storage = STORAGE_NONE;
    middle->storage = STORAGE_NONE;
    middle->arg_count = 0;
    *round = (step_form){.fn = found.in_f32, .narrowed = kept, .arg_count = 1};
    for (int i = 0; i < 3; i++) round->args[i] = widen->args[0];
    uses[widen->args[0]]++;
    return EMLX_OK;
}

// What each step reads, which never change, and which are computed with the step that reads them.
static emlx_status join_steps(preparer *p, arena *memory, emlx_error *err) {
    tile_form *f = p->form;
    const plan_kernel *k = f->kernel;
    uint32_t *uses = arena_array(memory, k->step_count + 1, sizeof *uses);
    if (uses == NULL) return error_no_memory(err, "to prepare a kernel");
    for (uint32_t n = 0; n < k->step_count; n++) {
        step_form *form = &f->steps[n];
        form->arg_count = (uint8_t)step_operands(&k->steps[n]);
        memcpy(form->args, k->steps[n].args, sizeof form->args);
        // Functions are given three operands, whatever they read.
        for (uint32_t i = form->arg_count; i > 0 && i < 3; i++) form->args[i] = form->args[0];
        form->storage = is_fixed(p, &k->steps[n]) ? STORAGE_FIXED : STORAGE_SLOT;
        for (uint32_t i = 0; i < form->arg_count; i++) uses[form->args[i]]++;
    }
    for (uint32_t i = 0; i < k->store_count; i++) uses[k->stores[i].step]++;
    if (folds(k)) uses[k->reduced]++;
    for (uint32_t n = 0; n < k->step_count; n++) {
        join_fork(f, n, uses);
        join_pair(f, n, uses);
        TRY(join_narrowed(f, n, uses, memory, err));
    }
    return EMLX_OK;
}

static void find_last_uses(preparer *p) {
    const plan_kernel *k = p->form->kernel;
    for (uint32_t s = 0; s < k->step_count; s++)
        for (uint32_t i = 0; i < p->form->steps[s].arg_count; i++)
            p->last[resolve(p->form, p->form->steps[s].args[i])] = s;
    for (uint32_t i = 0; i < k->store_count; i++)
        p->last[resolve(p->form, k->stores[i].step)] = k->step_count;
    if (folds(k)) p->last[resolve(p->form, k->reduced)] = k->step_count;
    if (k->kind == KERNEL_CUSTOM) p->last[k->carry] = k->step_count;
}

// Whether the result can be written straight to where it is stored. A buffer taken over from an
// operand may still be read by later steps and stores, so then only the last of them may.
static bool stores_directly(const preparer *p, uint32_t step, uint32_t *access) {
    const plan_kernel *k = p->form->kernel;
    for (uint32_t i = 0; i < k->store_count; i++) {
        if (k->stores[i].step != step || !p->form->dense[k->stores[i].access]) continue;
        *access = k->stores[i].access;
        bool shared = false;
        for (uint32_t m = 0; m < k->made_count; m++)
            shared =
                shared || (k->made[m] == k->accesses[*access].value && k->reuse[m] != UINT32_MAX);
        return !shared || (step + 1 == k->step_count && k->store_count == 1);
    }
    return false;
}

static uint32_t take_slot(preparer *p) {
    return p->free_count > 0 ? p->free[--p->free_count] : p->slot_count++;
}

static emlx_status find_function(const tile_form *f, const expr_step *s, tile_fn *fn,
                                 emlx_error *err) {
    if (*fn != NULL) return EMLX_OK;
    if (s->kind == EXPR_CAST) *fn = f->kernels->cast[s->compute][s->type];
    if (s->kind == EXPR_SCALAR && !is_alias(s))
        *fn = cpu_scalar(f->kernels, s->op, (emlx_type)s->compute);
    bool needed = (s->kind == EXPR_CAST || s->kind == EXPR_SCALAR) && !is_alias(s);
    if (*fn != NULL || !needed) return EMLX_OK;
    return error_set(err, EMLX_UNSUPPORTED, "cpu has no %s of %s",
                     s->kind == EXPR_CAST ? "cast" : scalar_table[s->op].name,
                     emlx_type_name((emlx_type)s->compute));
}

static emlx_status assign_storage(preparer *p, uint32_t n, emlx_error *err) {
    tile_form *f = p->form;
    const expr_step *s = &f->kernel->steps[n];
    step_form *form = &f->steps[n];
    form->size = (uint8_t)type_size((emlx_type)s->type);
    form->alias = NO_STEP;
    if (form->storage == STORAGE_NONE) return EMLX_OK;
    TRY(find_function(f, s, &form->fn, err));
    if (is_alias(s)) {
        form->storage = STORAGE_ALIAS;
        form->alias = (uint16_t)resolve(f, n);
    } else if (form->storage == STORAGE_FIXED) {
        form->offset = p->fixed_count++;
    } else if (s->kind == EXPR_LOAD && f->dense[s->index]) {
        form->storage = STORAGE_MEMORY;
        form->access = s->index;
    } else if (form->fn != NULL && stores_directly(p, n, &form->access)) {
        form->storage = STORAGE_MEMORY;
    } else {
        // What is carried from tile to tile shares its slot with nothing.
        form->storage = STORAGE_SLOT;
        form->offset = s->kind == EXPR_CARRY ? p->slot_count++ : take_slot(p);
    }
    // Only now, as a result must not overwrite an operand of another size.
    for (uint32_t i = 0; i < form->arg_count; i++) {
        uint32_t arg = resolve(f, form->args[i]);
        if (p->last[arg] != n || f->steps[arg].storage != STORAGE_SLOT) continue;
        p->free[p->free_count++] = f->steps[arg].offset;
        p->last[arg] = UINT32_MAX; // once, should it be an operand twice
    }
    return EMLX_OK;
}

// Slots come first, then the fixed ones. The tile shrinks until they fit into the first-level
// cache.
static void size_slots(preparer *p) {
    tile_form *f = p->form;
    size_t widest = 1;
    for (uint32_t s = 0; s < f->kernel->step_count; s++)
        if (f->steps[s].storage != STORAGE_NONE && f->steps[s].size > widest)
            widest = f->steps[s].size;
    size_t slots = p->slot_count + p->fixed_count;
    f->tile = LARGEST_TILE;
    while (f->tile > SMALLEST_TILE && slots * f->tile * widest > TILE_STACK) f->tile /= 2;
    for (uint32_t s = 0; s < f->kernel->step_count; s++) {
        uint32_t slot = f->steps[s].offset;
        if (f->steps[s].storage == STORAGE_FIXED) slot += p->slot_count;
        f->steps[s].offset = (uint32_t)(slot * f->tile * widest);
    }
    f->scratch = slots * f->tile * widest;
}

// About as many rows as columns.
static void size_block(tile_form *f) {
    int64_t rows = f->dims[f->rank - 2], columns = 1;
    while (columns * columns < f->tile) columns *= 2;
    if (rows * columns < f->tile) columns = f->tile / rows;
    f->block_columns = columns < f->dims[f->rank - 1] ? columns : f->dims[f->rank - 1];
    f->block_rows = f->tile / f->block_columns < rows ? f->tile / f->block_columns : rows;
}

static bool is_local(const preparer *p, uint32_t access) {
    for (uint32_t i = 0; p->rows != NULL && i < p->rows->local_count; i++)
        if (p->rows->locals[i] == p->form->kernel->accesses[access].value) return true;
    return false;
}

// Notes what is walked through in order, and the function beside which it is fetched: the first of
// those that leave time for it, or, where caches do not hold what is walked through, the first.
static void find_streams(const preparer *p) {
    tile_form *f = p->form;
    uint32_t first = UINT32_MAX;
    int64_t bytes = 0;
    f->fetching = UINT32_MAX;
    f->ahead = f->tile;
    for (uint32_t n = 0; n < f->kernel->step_count; n++) {
        bool far = f->steps[n].storage == STORAGE_MEMORY && !is_local(p, f->steps[n].access);
        if (far) f->streams[f->stream_count++] = n;
        if (far) bytes += f->count * f->steps[n].size;
        uint8_t storage = f->steps[n].storage;
        if (f->steps[n].fn == NULL || (storage != STORAGE_SLOT && storage != STORAGE_MEMORY))
            continue;
        if (first == UINT32_MAX) first = n;
        bool slow = has_loop(&f->kernel->steps[n], LOOP_LONG) || f->steps[n].narrowed != NULL;
        if (slow && f->fetching == UINT32_MAX) f->fetching = n;
    }
    if (f->fetching == UINT32_MAX && bytes > CACHED_BYTES) f->fetching = first;
}

emlx_status tile_prepare(tile_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, const tile_walk *walk, arena *memory,
                         emlx_error *err) {
    preparer p = {.form = form, .plan = plan, .rows = walk != NULL ? walk->rows : NULL};
    uint32_t steps = kernel->step_count, accesses = kernel->access_count;
    *form = (tile_form){.kernel = kernel, .kernels = kernels};
    form->strides = arena_array(memory, accesses + 1, sizeof *form->strides);
    form->dense = arena_array(memory, accesses + 1, sizeof *form->dense);
    form->steps = arena_array(memory, steps + 1, sizeof *form->steps);
    form->streams = arena_array(memory, steps + 1, sizeof *form->streams);
    p.last = arena_array(memory, steps + 1, sizeof *p.last);
    p.free = arena_array(memory, steps + 1, sizeof *p.free);
    if (!form->strides || !form->dense || !form->steps || !form->streams || !p.last || !p.free)
        return error_no_memory(err, "to prepare a kernel");
    order_axes(form, walk);
    TRY(join_steps(&p, memory, err));
    find_last_uses(&p);
    for (uint32_t s = 0; s < steps; s++) TRY(assign_storage(&p, s, err));
    size_slots(&p);
    if (walk != NULL && walk->blocked) size_block(form);
    find_streams(&p);
    return EMLX_OK;
}

// Running ---------------------------------------------------------------------------------------

static unsigned log2_size(size_t size) { return (unsigned)__builtin_ctzl(size); }

static int64_t access_offset(const kernel_call *call, const plan_access *a) {
    int64_t offset = a->offset;
    for (uint32_t i = 0; i < a->start_count; i++) {
        uint32_t value = a->starts[i].value;
        offset += start_offset(
            &a->starts[i], type_load(call->plan->values[value].type, call->buffers[value]->data));
    }
    return offset;
}

static void splat(tile_run *run, const step_form *form, void *dst, const void *value) {
    run->form->kernels->gather[log2_size(form->size)](dst, value, 0, run->form->tile);
}

static void call_function(const step_form *s, char *to, const char *const args[3], size_t count) {
    if (s->narrowed != NULL)
        narrowed_apply(s->narrowed, to, args[0], count);
    else
        s->fn(to, args[0], args[1], args[2], count);
}

static void apply_function(tile_run *run, uint32_t n, size_t count) {
    const step_form *s = &run->form->steps[n];
    const char *args[3];
    for (int i = 0; i < 3; i++) args[i] = run->at[s->args[i]];
    call_function(s, run->at[n], args, count);
}

// Asks for what a later tile needs of the memory that this kernel walks through in order.
static void fetch_ahead(const tile_run *run, int64_t first, size_t count) {
    const tile_form *f = run->form;
    for (uint32_t i = 0; i < f->stream_count; i++) {
        const step_form *stream = &f->steps[f->streams[i]];
        const char *from = run->bases[stream->access] + first * stream->size;
        for (size_t at = 0; at < count * stream->size; at += CACHE_LINE)
            __builtin_prefetch(from + at);
    }
}

// The next tile is asked for in parts, since a core has only some twenty fetches under way. A CPU
// does so by itself, but no farther than to the end of a page.
static void run_and_fetch(tile_run *run, uint32_t n, int64_t first, size_t count) {
    const tile_form *f = run->form;
    const step_form *s = &f->steps[n];
    for (size_t i = 0; i < count; i += FETCH_ELEMENTS) {
        size_t part = count - i < FETCH_ELEMENTS ? count - i : FETCH_ELEMENTS;
        const char *args[3];
        for (int a = 0; a < 3; a++) args[a] = run->at[s->args[a]] + i * f->steps[s->args[a]].size;
        fetch_ahead(run, first + f->ahead + (int64_t)i, part);
        call_function(s, run->at[n] + i * s->size, args, part);
    }
}

static void check_guard(tile_run *run, const expr_step *s, size_t count) {
    const char *bad = run->at[s->args[1]];
    char any = 0;
    for (size_t i = 0; i < count; i++) any |= bad[i];
    if (any != 0 && run->failed == NULL) run->failed = s;
}

emlx_status tile_result(const tile_run *run, emlx_error *err) {
    const expr_step *s = run->failed;
    if (s == NULL) return EMLX_OK;
    return guard_error((guard_kind)s->op, run->form->kernel->guards[s->index], err);
}

static void make_fixed(tile_run *run) {
    const tile_form *f = run->form;
    for (uint32_t n = 0; n < f->kernel->step_count; n++) {
        const expr_step *s = &f->kernel->steps[n];
        const step_form *form = &f->steps[n];
        if (form->storage == STORAGE_ALIAS) run->at[n] = run->at[form->alias];
        if (form->storage == STORAGE_SLOT || form->storage == STORAGE_FIXED)
            run->at[n] = run->scratch + form->offset;
        if (form->storage != STORAGE_FIXED) continue;
        if (s->kind == EXPR_CONST)
            splat(run, form, run->at[n], &run->call->constants[s->index]);
        else if (s->kind == EXPR_LOAD)
            splat(run, form, run->at[n], run->bases[s->index]);
        else if (s->kind == EXPR_IOTA)
            f->kernels->iota[s->type](run->at[n], f->kernel->accesses[s->index].offset, 0, f->tile);
        else
            apply_function(run, n, f->tile);
    }
}

size_t tile_room(const tile_form *form) {
    const plan_kernel *k = form->kernel;
    return form->scratch + (k->access_count + k->step_count) * sizeof(char *);
}

void tile_begin(tile_run *run, const tile_form *form, const kernel_call *call, char *memory) {
    const plan_kernel *k = form->kernel;
    *run = (tile_run){.form = form, .call = call, .scratch = memory};
    run->bases = (char **)(memory + form->scratch);
    run->at = run->bases + k->access_count;
    for (uint32_t a = 0; a < k->access_count; a++) {
        const plan_access *access = &k->accesses[a];
        const emlx_buffer *buffer =
            access->value == UINT32_MAX ? NULL : call->buffers[access->value];
        if (buffer == NULL) continue;
        run->bases[a] =
            (char *)buffer->data + access_offset(call, access) * (int64_t)type_size(access->type);
    }
    if (form->count > 0) make_fixed(run);
}

emlx_status tile_start(tile_run *run, const tile_form *form, const kernel_call *call, char *stack,
                       emlx_error *err) {
    void *memory = NULL;
    size_t size = tile_room(form);
    if (size > TILE_STACK) TRY(data_alloc(size, &memory, err));
    tile_begin(run, form, call, memory != NULL ? memory : stack);
    run->memory = memory;
    run->size = size;
    return EMLX_OK;
}

void tile_end(tile_run *run) {
    if (run->memory != NULL) data_free(run->memory, run->size);
}

// A position in the index space.
typedef struct position {
    int64_t index[EMLX_MAX_RANK];
} position;

static position find_position(const tile_form *f, int64_t linear) {
    position p;
    for (int32_t d = f->rank - 1; d > 0; d--) {
        p.index[d] = linear % f->dims[d];
        linear /= f->dims[d];
    }
    p.index[0] = linear;
    return p;
}

static int64_t offset_at(const tile_form *f, const position *p, const int64_t *strides) {
    int64_t offset = 0;
    for (int32_t d = 0; d < f->rank; d++) offset += p->index[d] * strides[d];
    return offset;
}

// Moves by a run along the last axis, carrying into the others at its end.
static void advance(const tile_form *f, position *p, int64_t run) {
    int32_t d = f->rank - 1;
    p->index[d] += run;
    while (d > 0 && p->index[d] == f->dims[d]) {
        p->index[d] = 0;
        p->index[--d]++;
    }
}

// The elements of a tile: a run from number `first` on, or a block of the last two axes.
typedef struct tile_part {
    int64_t first;
    size_t count;
    position at;
    size_t rows, columns; // of a block
} tile_part;

typedef enum transfer { TRANSFER_LOAD, TRANSFER_STORE, TRANSFER_COUNT_UP } transfer;

// What is moved between a tile's elements and an access, or counted up.
typedef struct transfer_of {
    transfer what;
    uint32_t access;
    size_t size;
    emlx_type type; // of what is counted
} transfer_of;

// Moves n elements, `stride` apart in memory, the first at `offset` from the access' base.
static void transfer_run(const tile_run *run, const transfer_of *t, int64_t offset, int64_t stride,
                         char *elements, size_t n) {
    const cpu_kernels *k = run->form->kernels;
    if (t->what == TRANSFER_COUNT_UP) {
        int64_t start = run->form->kernel->accesses[t->access].offset;
        k->iota[t->type](elements, start + offset, stride, n);
        return;
    }
    char *memory = run->bases[t->access] + offset * (int64_t)t->size;
    if (t->what == TRANSFER_LOAD)
        k->gather[log2_size(t->size)](elements, memory, stride, n);
    else
        k->scatter[log2_size(t->size)](memory, elements, stride, n);
}

// Loads several runs at once where all elements of one are the same, or all runs are. The number of
// runs; none, or one, where they are not.
static int64_t load_alike(const tile_run *run, const transfer_of *t, const position *p,
                          size_t count, char *elements) {
    const tile_form *f = run->form;
    const int64_t *strides = f->strides[t->access];
    int32_t last = f->rank - 1;
    int64_t length = f->dims[last];
    if (t->what != TRANSFER_LOAD || last == 0 || p->index[last] != 0) return 0;
    int64_t runs = least((int64_t)count / length, f->dims[last - 1] - p->index[last - 1]);
    bool same = strides[last - 1] == 0;
    if (runs < 2 || (strides[last] != 0 && !same)) return 0;
    int64_t offset = offset_at(f, p, strides);
    if (!same) {
        const char *memory = run->bases[t->access] + offset * (int64_t)t->size;
        f->kernels->repeat[log2_size(t->size)](elements, memory, strides[last - 1], (size_t)runs,
                                               (size_t)length);
        return runs;
    }
    size_t first = (size_t)length * t->size, all = (size_t)runs * first;
    transfer_run(run, t, offset, strides[last], elements, (size_t)length);
    for (size_t done = first; done < all; done *= 2)
        memcpy(elements + done, elements, done < all - done ? done : all - done);
    return runs;
}

// Every run along the last axis within a tile.
static void transfer_runs(const tile_run *run, const transfer_of *t, const tile_part *part,
                          char *elements) {
    const tile_form *f = run->form;
    const int64_t *strides = f->strides[t->access];
    int64_t inner = strides[f->rank - 1], length = f->dims[f->rank - 1];
    size_t count = part->count;
    position p = part->at;
    while (count > 0) {
        int64_t left = length - p.index[f->rank - 1];
        size_t n = (size_t)left < count ? (size_t)left : count;
        int64_t runs = load_alike(run, t, &p, count, elements);
        if (runs == 0)
            transfer_run(run, t, offset_at(f, &p, strides), inner, elements, n);
        else
            n = (size_t)(runs * length);
        elements += n * t->size;
        count -= n;
        if (runs > 0) p.index[f->rank - 2] += runs - 1;
        advance(f, &p, runs > 0 ? length : (int64_t)n);
    }
}

// Column by column where memory is dense down the columns, so that it is touched in whole lines.
static void transfer_block(const tile_run *run, const transfer_of *t, const tile_part *part,
                           char *elements) {
    const tile_form *f = run->form;
    const int64_t *strides = f->strides[t->access];
    int64_t down = strides[f->rank - 2], across = strides[f->rank - 1];
    int64_t offset = offset_at(f, &part->at, strides);
    const cpu_kernels *k = f->kernels;
    if (t->what == TRANSFER_COUNT_UP || down != 1 || (across >= -1 && across <= 1)) {
        for (size_t r = 0; r < part->rows; r++)
            transfer_run(run, t, offset + (int64_t)r * down, across,
                         elements + r * part->columns * t->size, part->columns);
        return;
    }
    char *memory = run->bases[t->access] + offset * (int64_t)t->size;
    int64_t apart = (int64_t)part->columns;
    // Into the second-level cache: columns that are a power of two apart share a few lines' places
    // in the first.
    for (size_t c = 0; c < part->columns; c++)
        for (size_t at = 0; at < part->rows * t->size; at += CACHE_LINE)
            __builtin_prefetch(memory + (int64_t)c * across * (int64_t)t->size + at, 0, 2);
    for (size_t c = 0; c < part->columns; c++) {
        if (t->what == TRANSFER_LOAD)
            k->scatter[log2_size(t->size)](elements, memory, apart, part->rows);
        else
            k->gather[log2_size(t->size)](memory, elements, apart, part->rows);
        elements += t->size;
        memory += across * (int64_t)t->size;
    }
}

static void move(const tile_run *run, const transfer_of *t, const tile_part *part, char *elements) {
    (part->rows > 0 ? transfer_block : transfer_runs)(run, t, part, elements);
}

// Where the elements of a tile lie side by side, though not those of the whole space: within one
// row of what is the same for all rows, or of a region. Else NULL.
static char *find_run(const tile_run *run, const expr_step *s, const tile_part *part) {
    const tile_form *f = run->form;
    int32_t last = f->rank - 1;
    if (s->kind != EXPR_LOAD || part->rows > 0 || f->strides[s->index][last] != 1) return NULL;
    if ((int64_t)part->count > f->dims[last] - part->at.index[last]) return NULL;
    int64_t offset = offset_at(f, &part->at, f->strides[s->index]);
    return run->bases[s->index] + offset * (int64_t)type_size((emlx_type)s->type);
}

static void fill_slot(tile_run *run, uint32_t n, const tile_part *part) {
    const expr_step *s = &run->form->kernel->steps[n];
    const step_form *form = &run->form->steps[n];
    char *found = find_run(run, s, part);
    run->at[n] = found != NULL ? found : run->scratch + form->offset;
    if (found != NULL) return;
    move(run,
         &(transfer_of){s->kind == EXPR_LOAD ? TRANSFER_LOAD : TRANSFER_COUNT_UP, s->index,
                        form->size, (emlx_type)s->type},
         part, run->at[n]);
}

static void eval_step(tile_run *run, uint32_t n, const tile_part *part) {
    const tile_form *f = run->form;
    const expr_step *s = &f->kernel->steps[n];
    const step_form *form = &f->steps[n];
    if (form->storage == STORAGE_FIXED || form->storage == STORAGE_NONE || s->kind == EXPR_CARRY)
        return;
    if (s->kind == EXPR_GUARD) check_guard(run, s, part->count);
    if (form->storage == STORAGE_ALIAS) {
        run->at[n] = run->at[form->alias];
        return;
    }
    if (form->storage == STORAGE_MEMORY)
        run->at[n] = run->bases[form->access] + part->first * form->size;
    bool next = part->rows == 0 && part->first + f->tile + (int64_t)part->count <= f->count;
    if (n == f->fetching && next)
        run_and_fetch(run, n, part->first, part->count);
    else if (form->fn != NULL)
        apply_function(run, n, part->count);
    else if (form->storage == STORAGE_SLOT)
        fill_slot(run, n, part);
}

static void make_store(tile_run *run, const expr_store *store, const tile_part *part) {
    const tile_form *f = run->form;
    const step_form *form = &f->steps[store->step];
    if (form->fn != NULL && form->storage == STORAGE_MEMORY && form->access == store->access)
        return;
    char *from = run->at[store->step];
    if (f->dense[store->access])
        memmove(run->bases[store->access] + part->first * form->size, from,
                part->count * form->size);
    else
        move(run, &(transfer_of){TRANSFER_STORE, store->access, form->size, EMLX_U8}, part, from);
}

static void eval_part(tile_run *run, const tile_part *part) {
    const plan_kernel *k = run->form->kernel;
    for (uint32_t n = 0; n < k->step_count; n++) eval_step(run, n, part);
    for (uint32_t i = 0; i < k->store_count; i++) make_store(run, &k->stores[i], part);
}

void tile_step(tile_run *run, int64_t first, size_t count) {
    tile_part part = {.first = first, .count = count, .at = find_position(run->form, first)};
    eval_part(run, &part);
}

static int64_t parts_of(int64_t length, int64_t part) { return (length - 1) / part + 1; }

int64_t tile_count(const tile_form *f) {
    if (f->count == 0) return 0;
    if (f->block_rows == 0) return parts_of(f->count, f->tile);
    int64_t rows = f->dims[f->rank - 2], columns = f->dims[f->rank - 1];
    return f->count / (rows * columns) * parts_of(rows, f->block_rows) *
           parts_of(columns, f->block_columns);
}

static void eval_block(tile_run *run, int64_t number) {
    const tile_form *f = run->form;
    int64_t rows = f->dims[f->rank - 2], columns = f->dims[f->rank - 1];
    int64_t across = parts_of(columns, f->block_columns), down = parts_of(rows, f->block_rows);
    int64_t column = number % across * f->block_columns;
    int64_t row = number / across % down * f->block_rows;
    tile_part part = {.first = (number / across / down * rows + row) * columns + column,
                      .rows = (size_t)least(f->block_rows, rows - row),
                      .columns = (size_t)least(f->block_columns, columns - column)};
    part.count = part.rows * part.columns;
    part.at = find_position(f, part.first);
    eval_part(run, &part);
}

void tile_number(tile_run *run, int64_t number) {
    const tile_form *f = run->form;
    if (f->block_rows > 0)
        eval_block(run, number);
    else
        tile_step(run, number * f->tile, (size_t)least(f->tile, f->count - number * f->tile));
}
