// SPDX-License-Identifier: Apache-2.0
// rows.c - several folds and maps on each row. A warp, or for longer rows a block, has a row's
// elements in registers from its first stage to its last: each thread the same ones all the time,
// so that nothing but what folds give is exchanged.
#include "engines/cuda/text/fold/rows.h"

#include <string.h>

#include "base/types.h"
#include "engines/cuda/text/fold/folding.h"

enum {
    WARP = 32,
    WARPS = 8,        // rows of a block, where a warp has one
    VECTORS_MOST = 8, // of a thread
    HELD_MOST = 32,   // elements of a thread, of one value
    BYTES_MOST = 24,  // of all values of an element
    STAGES_MOST = 12
};

typedef struct row_form {
    int64_t rows, length;
    int width, count, threads; // elements of a vector; vectors of a thread; threads of a row
    bool ragged;               // some vectors lie behind the row's end
} row_form;

typedef struct row_emitter {
    emitter *e;
    const plan_kernel *k;
    row_form form;
    uint32_t stage; // the one that is being written
} row_emitter;

// Accesses ----------------------------------------------------------------------------------------

static int64_t along(const plan_kernel *k, const plan_access *a) { return a->strides[k->rank - 1]; }

static bool is_row_stage(const plan_kernel *k, const plan_kernel *stage) {
    return stage->kind == KERNEL_REDUCE || stage->dims[k->rank - 1] > 1;
}

// The stage before `before` that makes a value, or -1; *vector: a whole row of it.
static int find_maker(const plan_kernel *k, uint32_t value, uint32_t before, bool *vector) {
    for (uint32_t s = 0; s < before; s++) {
        const plan_kernel *stage = &k->stages[s];
        *vector = false;
        if (stage->kind == KERNEL_REDUCE && stage->output == value) return (int)s;
        *vector = is_row_stage(k, stage);
        for (uint32_t i = 0; i < stage->store_count; i++)
            if (stage->accesses[stage->stores[i].access].value == value) return (int)s;
    }
    return -1;
}

// What is made is called by when: the plan's numbers would be others in each layer of a model.
static uint32_t register_of(const plan_kernel *k, uint32_t value) {
    uint32_t n = 0;
    for (uint32_t s = 0; s < k->stage_count; s++) {
        const plan_kernel *stage = &k->stages[s];
        for (uint32_t i = 0; i < stage->store_count; i++, n++)
            if (stage->accesses[stage->stores[i].access].value == value) return n;
        if (stage->kind == KERNEL_REDUCE && stage->output == value) return n;
        n += stage->kind == KERNEL_REDUCE;
    }
    return n;
}

static uint32_t number_of(const plan_kernel *k, const plan_access *a) {
    return (uint32_t)(a - k->accesses);
}

static bool is_stored(const plan_kernel *stage, uint32_t access) {
    for (uint32_t i = 0; i < stage->store_count; i++)
        if (stage->stores[i].access == access) return true;
    return false;
}

static bool same_place(const plan_kernel *k, const plan_access *a, const plan_access *b) {
    return a->value == b->value && a->type == b->type && a->offset == b->offset &&
           a->start_count + b->start_count == 0 &&
           memcmp(a->strides, b->strides, (size_t)k->rank * sizeof *a->strides) == 0;
}

// Whether the access loads a vector of a row from memory.
static bool loads_vector(const plan_kernel *k, uint32_t s, uint32_t i) {
    const plan_kernel *stage = &k->stages[s];
    const plan_access *a = &stage->accesses[i];
    bool vector;
    return is_row_stage(k, stage) && access_is_memory(a) && !is_stored(stage, i) &&
           along(k, a) != 0 && find_maker(k, a->value, s, &vector) < 0;
}

// The first access that loads the same, which may be itself.
static const plan_access *first_same(const plan_kernel *k, uint32_t s, uint32_t i) {
    const plan_access *a = &k->stages[s].accesses[i];
    for (uint32_t t = 0; t <= s; t++)
        for (uint32_t j = 0; j < k->stages[t].access_count && (t < s || j < i); j++)
            if (loads_vector(k, t, j) && same_place(k, &k->stages[t].accesses[j], a))
                return &k->stages[t].accesses[j];
    return a;
}

// Suiting -----------------------------------------------------------------------------------------

static bool is_aligned(const plan_kernel *k, const plan_access *a, int width) {
    if (along(k, a) != 1 || a->start_count > 0 || a->offset % width != 0) return false;
    for (int32_t d = 0; d < k->rank - 1; d++)
        if (a->strides[d] % width != 0) return false;
    return true;
}

// Vectors have 16 bytes of the widest type, where all operands lie so.
static int row_width(const plan_kernel *k, int64_t length, size_t *bytes) {
    size_t widest = 1;
    *bytes = 0;
    for (uint32_t s = 0; s < k->stage_count; s++)
        for (uint32_t i = 0; i < k->stages[s].access_count; i++) {
            const plan_access *a = &k->stages[s].accesses[i];
            if (!is_row_stage(k, &k->stages[s]) || !access_is_memory(a) || along(k, a) == 0)
                continue;
            size_t size = type_size(a->type);
            if (size > widest) widest = size;
            if (is_stored(&k->stages[s], i) || (loads_vector(k, s, i) && first_same(k, s, i) == a))
                *bytes += size;
        }
    int width = widest > 2 ? (int)(16 / widest) : 8;
    if (length % width != 0) return 1;
    for (uint32_t s = 0; s < k->stage_count; s++)
        for (uint32_t i = 0; i < k->stages[s].access_count; i++) {
            const plan_access *a = &k->stages[s].accesses[i];
            if (is_row_stage(k, &k->stages[s]) && access_is_memory(a) && along(k, a) != 0 &&
                !is_aligned(k, a, width))
                return 1;
        }
    return width;
}

static bool choose_form(const plan_kernel *k, row_form *f) {
    size_t bytes;
    int32_t last = k->rank - 1;
    if (k->axes != 1u << last || k->stage_count > STAGES_MOST) return false;
    *f = (row_form){.rows = axes_product(k->dims, last), .length = k->dims[last]};
    f->width = row_width(k, f->length, &bytes);
    int64_t vectors = (f->length + f->width - 1) / f->width;
    int most = f->width == 1 ? HELD_MOST : VECTORS_MOST;
    f->threads = vectors <= WARP * most ? WARP : vectors <= 256 * most / 2 ? 256 : 512;
    f->count = (int)((vectors + f->threads - 1) / f->threads);
    f->ragged = (int64_t)f->count * f->threads * f->width != f->length;
    return f->count <= most && bytes <= BYTES_MOST;
}

static bool stage_suits(const plan_kernel *k, const plan_kernel *stage) {
    char fold[64];
    if (stage->guard_count > 0) return false;
    for (uint32_t i = 0; i < stage->access_count; i++)
        if (access_is_memory(&stage->accesses[i]) && is_row_stage(k, stage) &&
            (along(k, &stage->accesses[i]) & ~(int64_t)1) != 0)
            return false;
    if (stage->kind != KERNEL_REDUCE) return true;
    int type = stage->steps[stage->reduced].type;
    return fold_text(fold, stage->reduce, type_is_narrow(type) ? EMLX_F32 : type) != NULL;
}

bool rows_suit(const plan_kernel *k) {
    row_form form;
    for (uint32_t s = 0; s < k->stage_count; s++)
        if (!stage_suits(k, &k->stages[s])) return false;
    return choose_form(k, &form);
}

// Stages ------------------------------------------------------------------------------------------

// What an operand is called in the loop over elements; false for what is read where it stands.
static bool write_load(emitter *e, const emit_loads *loads, uint32_t access) {
    const row_emitter *r = loads->context;
    const plan_access *a = &e->kernel->accesses[access];
    bool vector;
    if (find_maker(r->k, a->value, r->stage, &vector) >= 0) {
        EMIT(vector ? "m%u[u * %d + j]" : "r%u", register_of(r->k, a->value), r->form.width);
        return true;
    }
    if (loads_vector(r->k, r->stage, access))
        EMIT("q%u[u].x[j]", number_of(r->k, first_same(r->k, r->stage, access)));
    else
        EMIT("c%u", access);
    return true;
}

// Pointers, constants, and what is the same for a whole row.
static void emit_row_operands(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    bool vector;
    for (uint32_t i = 0; i < stage->access_count; i++) {
        const plan_access *a = &stage->accesses[i];
        bool made = find_maker(r->k, a->value, r->stage, &vector) >= 0;
        if (access_is_memory(a) && !made && !kernel_is_local(r->k, a->value)) emit_base(e, i);
    }
    for (uint32_t n = 0; n < stage->step_count; n++) {
        const expr_step *s = &stage->steps[n];
        const char *type = type_text(s->type);
        if (s->kind == EXPR_CONST) emit_constant(e, n);
        if (s->kind != EXPR_LOAD) continue;
        const plan_access *a = &stage->accesses[s->index];
        bool made = find_maker(r->k, a->value, r->stage, &vector) >= 0;
        if (!step_loads(stage, s)) {
            if (made)
                EMIT("  const T_%s v%u = r%u;\n", type, n, register_of(r->k, a->value));
            else
                EMIT("  const T_%s v%u = *b%u;\n", type, n, s->index);
        } else if (!made && !loads_vector(r->k, r->stage, s->index)) {
            EMIT("  const T_%s c%u = b%u[", type, s->index, s->index);
            emit_offset(e, a, "");
            EMIT("];\n");
        }
    }
}

static void emit_vectors(row_emitter *r, const char *head) {
    emitter *e = r->e;
    const row_form *f = &r->form;
    EMIT("  _Pragma(\"unroll\") for (int u = 0; u < %d; u++) {\n"
         "   const X at = (u * %d + lane) * %d, i%d = at;\n%s",
         f->count, f->threads, f->width, (int)r->k->rank - 1, head);
    if (f->ragged) EMIT("   if (at >= (X)length) continue;\n");
}

static void emit_row_loads(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    bool any = false;
    for (uint32_t i = 0; i < stage->access_count; i++) {
        const plan_access *a = &stage->accesses[i];
        if (!loads_vector(r->k, r->stage, i) || first_same(r->k, r->stage, i) != a) continue;
        if (!any) emit_vectors(r, "");
        any = true;
        EMIT("   q%u[u] = *(const Vector<T_%s,%d> *)(b%u + ", number_of(r->k, a),
             type_text(a->type), r->form.width, i);
        emit_offset(e, a, "");
        EMIT(");\n");
    }
    if (any) EMIT("  }\n");
}

static void emit_row_stores(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    for (uint32_t i = 0; i < stage->store_count; i++) {
        const plan_access *a = &stage->accesses[stage->stores[i].access];
        if (kernel_is_local(r->k, a->value)) continue;
        EMIT("   { Vector<T_%s,%d> o;\n"
             "    _Pragma(\"unroll\") for (int j = 0; j < %d; j++) o.x[j] = m%u[u * %d + j];\n"
             "    *(Vector<T_%s,%d> *)(b%u + ",
             type_text(a->type), r->form.width, r->form.width, register_of(r->k, a->value),
             r->form.width, type_text(a->type), r->form.width, stage->stores[i].access);
        emit_offset(e, a, "");
        EMIT(") = o; }\n");
    }
}

// The elements of the row that are the thread's.
static void emit_elements(row_emitter *r, const fold_form *fold) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    const emit_loads loads = {.write = write_load, .context = r};
    int32_t last = r->k->rank - 1;
    emit_row_loads(r);
    emit_vectors(r, "");
    EMIT("   _Pragma(\"unroll\") for (int j = 0; j < %d; j++) {\n   const X i%d = at + j;\n",
         r->form.width, (int)last);
    emit_steps(e, &loads, "");
    for (uint32_t i = 0; i < stage->store_count; i++)
        EMIT("   m%u[u * %d + j] = v%u;\n",
             register_of(r->k, stage->accesses[stage->stores[i].access].value), r->form.width,
             stage->stores[i].step);
    if (fold != NULL) EMIT("   a.step(%s, i%d);\n", fold->step, (int)last);
    EMIT("   }\n");
    emit_row_stores(r);
    EMIT("  }\n");
}

// A result of the row, which everybody has, goes to memory: after all have read what it replaces.
static void emit_single(row_emitter *r, uint32_t value) {
    emitter *e = r->e;
    if (kernel_is_local(r->k, value)) return;
    EMIT("  %s;\n  if (lane == 0) ((T_%s *)p.w[%u])[row] = r%u;\n",
         r->form.threads == WARP ? "__syncwarp()" : "__syncthreads()",
         type_text(e->plan->values[value].type), value_word(e, value, 0), register_of(r->k, value));
}

static void emit_fold_stage(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    fold_form fold;
    choose_fold_form(e, &fold);
    e->code->parts |= PART_FOLDS;
    EMIT("  %s a;\n  a.init();\n", fold.fold);
    emit_elements(r, &fold);
    if (r->form.threads == WARP)
        EMIT("  merge_row_warp(a);\n");
    else
        EMIT("  __shared__ %s shared[%d];\n  merge_row<%s, %d>(shared, a);\n", fold.fold,
             r->form.threads / WARP, fold.fold, r->form.threads);
    EMIT("  r%u = %s;\n", register_of(r->k, stage->output), fold.finish);
    emit_single(r, stage->output);
}

// One element of a row: all threads compute it.
static void emit_single_stage(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *stage = e->kernel;
    const emit_loads loads = {.write = write_load, .context = r};
    EMIT("  const X i%d = 0;\n", (int)r->k->rank - 1);
    emit_steps(e, &loads, "");
    for (uint32_t i = 0; i < stage->store_count; i++) {
        uint32_t value = stage->accesses[stage->stores[i].access].value;
        EMIT("  r%u = v%u;\n", register_of(r->k, value), stage->stores[i].step);
        if (kernel_is_local(r->k, value)) continue;
        EMIT("  %s;\n  if (lane == 0) b%u[",
             r->form.threads == WARP ? "__syncwarp()" : "__syncthreads()", stage->stores[i].access);
        emit_offset(e, &stage->accesses[stage->stores[i].access], "");
        EMIT("] = v%u;\n", stage->stores[i].step);
    }
}

static void emit_stage(row_emitter *r) {
    emitter *e = r->e;
    EMIT(" {\n");
    emit_row_operands(r);
    if (e->kernel->kind == KERNEL_REDUCE)
        emit_fold_stage(r);
    else if (is_row_stage(r->k, e->kernel))
        emit_elements(r, NULL);
    else
        emit_single_stage(r);
    EMIT(" }\n");
}

// Registers that stages share.
static void emit_registers(row_emitter *r) {
    emitter *e = r->e;
    const plan_kernel *k = r->k;
    for (uint32_t s = 0; s < k->stage_count; s++) {
        const plan_kernel *stage = &k->stages[s];
        for (uint32_t i = 0; i < stage->access_count; i++)
            if (loads_vector(k, s, i) && first_same(k, s, i) == &stage->accesses[i])
                EMIT(" Vector<T_%s,%d> q%u[%d];\n", type_text(stage->accesses[i].type),
                     r->form.width, number_of(k, &stage->accesses[i]), r->form.count);
        for (uint32_t i = 0; i < stage->store_count; i++) {
            const plan_access *a = &stage->accesses[stage->stores[i].access];
            if (is_row_stage(k, stage))
                EMIT(" T_%s m%u[%d];\n", type_text(a->type), register_of(k, a->value),
                     r->form.count * r->form.width);
            else
                EMIT(" T_%s r%u;\n", type_text(a->type), register_of(k, a->value));
        }
        if (stage->kind == KERNEL_REDUCE)
            EMIT(" T_%s r%u;\n", type_text(e->plan->values[stage->output].type),
                 register_of(k, stage->output));
    }
}

static void emit_row_number(row_emitter *r) {
    emitter *e = r->e;
    const row_form *f = &r->form;
    int32_t axes[EMLX_MAX_RANK];
    for (int32_t d = 0; d < r->k->rank - 1; d++) axes[d] = d;
    if (f->threads == WARP)
        EMIT(" const ll row = blockIdx.x * %dll + threadIdx.x / 32;\n"
             " const int lane = threadIdx.x %% 32;\n if (row >= p.w[%u]) return;\n",
             WARPS, code_word(e->code, f->rows));
    else
        EMIT(" const ll row = blockIdx.x;\n const int lane = threadIdx.x;\n");
    EMIT(" const ll length = p.w[%u];\n const X line = row;\n", code_word(e->code, f->length));
    emit_indices(e, "line", axes, r->k->rank - 1);
}

void emit_rows(emitter *e) {
    row_emitter r = {.e = e, .k = e->kernel};
    if (!choose_form(r.k, &r.form)) {
        e->refused = "rows as long";
        return;
    }
    int block = r.form.threads == WARP ? WARPS * WARP : r.form.threads;
    emit_function(e, 'k', block);
    emit_row_number(&r);
    emit_registers(&r);
    for (r.stage = 0; r.stage < r.k->stage_count; r.stage++) {
        e->kernel = &r.k->stages[r.stage];
        emit_stage(&r);
    }
    e->kernel = r.k;
    EMIT("}\n");
    code_launch *launch = code_launch_add(e->code, 'k', 1, 0);
    launch->block = (uint32_t)block;
    launch->grid_x = r.form.threads == WARP ? (r.form.rows + WARPS - 1) / WARPS : r.form.rows;
}
