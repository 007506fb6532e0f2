// SPDX-License-Identifier: Apache-2.0
// fold.c - kernels that fold an expression over axes.
//
// Where the innermost axis is folded, a block folds a piece of a row, or a warp a whole short row;
// where it is kept, a thread folds a piece of a column, neighbours beside each other. Loads are
// made several at a time, before the first of them is used. Pieces depend on the shape alone, and
// are merged by a second kernel in their order.
#include <stdio.h>

#include "base/types.h"
#include "engines/cuda/text/fold/folding.h"

enum {
    BLOCK = 256,
    BLOCKS_MOST = 132 * 64,
    MANY = 65536,
    SHORT_MOST = 32,
    STEPS_MOST = 256 // of a text that has a short fold written out
};

typedef struct folding {
    int32_t kept[EMLX_MAX_RANK], folded[EMLX_MAX_RANK];
    int32_t kept_count, folded_count;
    int64_t cells, length, piece, pieces;
    int row_threads;       // that fold one piece together: 256, 32 or 1
    bool vectors, batches; // loads of 4 elements along a row; of 8 along a column
    fold_form form;
    uint32_t cells_word, length_word, piece_word, units_word, scratch_word, out_word;
} folding;

static int64_t ceil_of(int64_t a, int64_t b) { return (a + b - 1) / b; }

static void divide_axes(emitter *e, folding *f) {
    const plan_kernel *k = e->kernel;
    f->cells = f->length = 1;
    for (int32_t d = 0; d < k->rank; d++) {
        if (k->axes >> d & 1) {
            f->folded[f->folded_count++] = d;
            f->length *= k->dims[d];
        } else {
            f->kept[f->kept_count++] = d;
            f->cells *= k->dims[d];
        }
    }
}

// Narrow floats are folded as f32, which is exact, and their sums in double.
bool choose_fold_form(const emitter *e, fold_form *f) {
    const plan_kernel *k = e->kernel;
    int type = k->steps[k->reduced].type, out = e->plan->values[k->output].type;
    bool adds = reduce_table[k->reduce].gives == GIVES_COMBINED, narrow = type_is_narrow(type);
    snprintf(f->step, sizeof f->step, "v%u", k->reduced);
    if (narrow) {
        snprintf(f->step, sizeof f->step, "from_%s(v%u)", type_text(type), k->reduced);
        type = adds ? EMLX_F64 : EMLX_F32;
    }
    int found = reduce_result_type(k->reduce, (emlx_type)type);
    if (fold_text(f->fold, k->reduce, type) == NULL) return false;
    if (narrow && k->reduce == REDUCE_SUM) snprintf(f->fold, sizeof f->fold, "Sum<double,double>");
    cast_text(f->finish, found, out, "one_nan(a.finish())");
    if (found == out && type_is_sub_byte(out))
        snprintf(f->finish, CAST_TEXT, "wrap_%s((ull)(ll)a.finish())", type_text(out));
    f->out_type = out;
    return true;
}

// Few cells of long folds are cut into pieces, so that the whole card has work.
static void cut_pieces(emitter *e, folding *f) {
    const plan_kernel *k = e->kernel;
    bool columns =
        f->kept_count > 0 && f->folded_count > 0 && f->kept[f->kept_count - 1] == k->rank - 1;
    int64_t pieces = 1, most;
    f->row_threads = columns || f->length < 32            ? 1
                     : f->length < 512 && f->cells > 2048 ? 32
                                                          : BLOCK;
    if (f->row_threads == BLOCK && f->cells < 1024 && f->length >= 16384) {
        most = ceil_of(2048, f->cells);
        pieces = f->length / 4096 < most ? f->length / 4096 : most;
    } else if (f->row_threads == 1 && f->length >= 128 && f->cells < 262144) {
        most = ceil_of(262144, f->cells);
        pieces = f->length / 32 < most ? f->length / 32 : most;
    }
    f->piece = f->length > 0 ? ceil_of(f->length, pieces) : 1;
    if (f->row_threads == BLOCK && pieces > 1) f->piece = ceil_of(f->piece, 1024) * 1024;
    f->pieces = f->length > 0 ? ceil_of(f->length, f->piece) : 1;
}

static bool is_row_vector(const emitter *e, const plan_access *a) {
    int32_t last = e->kernel->rank - 1;
    if (!access_is_memory(a) || access_is_uniform(e->kernel, a)) return true;
    if (a->strides[last] != 1 || a->offset % 4 != 0 || a->start_count > 0) return false;
    for (int32_t d = 0; d < last; d++)
        if (a->strides[d] % 4 != 0) return false;
    return true;
}

static void choose_loads(emitter *e, folding *f) {
    const plan_kernel *k = e->kernel;
    f->batches = f->row_threads == 1 && k->store_count == 0 && f->cells * f->length >= MANY;
    f->vectors = f->row_threads > 1 && f->folded_count == 1 && f->folded[0] == k->rank - 1 &&
                 f->length % 4 == 0 && f->piece % 4 == 0 && f->length >= 128;
    for (uint32_t i = 0; i < k->access_count && f->vectors; i++)
        f->vectors = is_row_vector(e, &k->accesses[i]);
    for (uint32_t i = 0; i < k->store_count && f->vectors; i++)
        f->vectors = k->accesses[k->stores[i].access].strides[k->rank - 1] == 1;
}

// Loops -------------------------------------------------------------------------------------------

static bool any_load(const emitter *e, const plan_access *a) {
    return !access_is_uniform(e->kernel, a);
}

// Loads of `count` steps of the loop, `width` elements each, into q.
static void emit_loads_ahead(emitter *e, const folding *f, int count, int width, int stride) {
    const plan_kernel *k = e->kernel;
    for (uint32_t i = 0; i < k->step_count; i++)
        if (step_loads(k, &k->steps[i]))
            EMIT("   Vector<T_%s,%d> q%u[%d];\n", type_text(k->steps[i].type), width,
                 k->steps[i].index, count);
    for (uint32_t i = 0; i < k->store_count; i++)
        EMIT("   Vector<T_%s,%d> o%u[%d];\n", type_text(k->steps[k->stores[i].step].type), width, i,
             count);
    EMIT("   _Pragma(\"unroll\") for (int u = 0; u < %d; u++) {\n   const X fu = f + u * %d;\n",
         count, stride);
    emit_indices(e, "fu", f->folded, f->folded_count);
    for (uint32_t i = 0; i < k->step_count; i++) {
        const expr_step *s = &k->steps[i];
        if (!step_loads(k, s)) continue;
        EMIT("    q%u[u] = *(const Vector<T_%s,%d> *)(b%u + ", s->index, type_text(s->type), width,
             s->index);
        emit_offset(e, &k->accesses[s->index], "");
        EMIT(");\n");
    }
    EMIT("   }\n");
}

static void emit_stores_after(emitter *e, const folding *f, int count, int width, int stride) {
    const plan_kernel *k = e->kernel;
    if (k->store_count == 0) return;
    EMIT("   _Pragma(\"unroll\") for (int u = 0; u < %d; u++) {\n   const X fu = f + u * %d;\n",
         count, stride);
    emit_indices(e, "fu", f->folded, f->folded_count);
    for (uint32_t i = 0; i < k->store_count; i++) {
        EMIT("    *(Vector<T_%s,%d> *)(b%u + ", type_text(k->steps[k->stores[i].step].type), width,
             k->stores[i].access);
        emit_offset(e, &k->accesses[k->stores[i].access], "");
        EMIT(") = o%u[u];\n", i);
    }
    EMIT("   }\n");
}

// A loop whose turns load `count` vectors of `width` elements first.
static void emit_ahead(emitter *e, const folding *f, int count, int width, int stride) {
    static const emit_loads loads = {.text = "q$[u].x[j]", .holds = any_load};
    EMIT("  for (; f + %d < to; f += %d) {\n", (count - 1) * stride, count * stride);
    emit_loads_ahead(e, f, count, width, stride);
    EMIT("   _Pragma(\"unroll\") for (int u = 0; u < %d; u++)\n"
         "   _Pragma(\"unroll\") for (int j = 0; j < %d; j++) {\n   const X fu = f + u * %d + j;\n",
         count, width, stride);
    emit_indices(e, "fu", f->folded, f->folded_count);
    emit_steps(e, &loads, "");
    for (uint32_t i = 0; i < e->kernel->store_count; i++)
        EMIT("   o%u[u].x[j] = v%u;\n", i, e->kernel->stores[i].step);
    EMIT("   a.step(%s, fu);\n   }\n", f->form.step);
    emit_stores_after(e, f, count, width, stride);
    EMIT("  }\n");
}

static void emit_one_by_one(emitter *e, const folding *f, int stride) {
    EMIT("  for (; f < to; f += %d) {\n", stride);
    emit_indices(e, "f", f->folded, f->folded_count);
    emit_steps(e, NULL, "");
    emit_stores(e);
    EMIT("  a.step(%s, f);\n  }\n", f->form.step);
}

// Lengths that a text has as numbers of its own, so that all loads can be made at once.
static bool is_short(const emitter *e, const folding *f) {
    return f->row_threads == 1 && f->pieces == 1 && f->length > 0 && f->length <= SHORT_MOST &&
           f->length * e->kernel->step_count <= STEPS_MOST;
}

static void emit_unrolled(emitter *e, const folding *f) {
    for (int32_t i = 0; i < f->folded_count; i++)
        EMIT("  _Pragma(\"unroll\") for (X i%d = 0; i%d < %d; i%d++) {\n", (int)f->folded[i],
             (int)f->folded[i], (int)e->kernel->dims[f->folded[i]], (int)f->folded[i]);
    EMIT("  X f = 0;\n");
    for (int32_t i = 0; i < f->folded_count; i++)
        EMIT("  f = f * %d + i%d;\n", (int)e->kernel->dims[f->folded[i]], (int)f->folded[i]);
    emit_steps(e, NULL, "");
    emit_stores(e);
    EMIT("  a.step(%s, f);\n ", f->form.step);
    for (int32_t i = 0; i < f->folded_count; i++) EMIT(" }");
    EMIT("\n");
}

static void emit_fold_loop(emitter *e, const folding *f) {
    if (is_short(e, f)) {
        emit_unrolled(e, f);
        return;
    }
    int stride = f->vectors ? f->row_threads * 4 : f->row_threads;
    // What is held of a place is more than a number.
    bool places = reduce_table[e->kernel->reduce].gives == GIVES_PLACED;
    int width = f->vectors ? 4 : 1, count = f->vectors ? (places ? 3 : 4) : 8;
    EMIT("  X f = from + lane * %d;\n", width);
    if (f->vectors || f->batches) {
        emit_ahead(e, f, count, width, stride);
        emit_ahead(e, f, 1, width, stride);
    } else {
        emit_one_by_one(e, f, stride);
    }
}

// Functions ---------------------------------------------------------------------------------------

static void emit_result(emitter *e, const folding *f) {
    if (f->pieces > 1)
        EMIT("  ((%s *)p.w[%u])[unit] = a;\n", f->form.fold, f->scratch_word);
    else
        EMIT("  ((T_%s *)p.w[%u])[unit] = %s;\n", type_text(f->form.out_type), f->out_word,
             f->form.finish);
}

// A unit is a piece of a cell: number piece * cells + cell.
static void emit_pieces(emitter *e, const folding *f) {
    int per_block = BLOCK / f->row_threads;
    emit_function(e, 'k', BLOCK);
    emit_bases(e);
    emit_fixed(e);
    if (f->row_threads == BLOCK) EMIT(" __shared__ %s shared[%d];\n", f->form.fold, BLOCK / 32);
    EMIT(" const int lane = threadIdx.x %% %d;\n"
         " for (ll unit = blockIdx.x * %dll + threadIdx.x / %d; unit < p.w[%u];\n"
         "  unit += gridDim.x * %dll) {\n",
         f->row_threads, per_block, f->row_threads, f->units_word, per_block);
    if (f->pieces > 1) {
        EMIT("  const X number = unit, slice = ");
        emit_quotient(e, "number", f->cells);
        EMIT(", cell = number - slice * (X)p.w[%u];\n"
             "  const ll from = slice * p.w[%u], end = from + p.w[%u],\n"
             "   to = end < p.w[%u] ? end : p.w[%u];\n",
             f->cells_word, f->piece_word, f->piece_word, f->length_word, f->length_word);
    } else {
        EMIT("  const X cell = unit;\n  const ll from = 0, to = p.w[%u];\n", f->length_word);
    }
    EMIT("  %s a;\n  a.init();\n", f->form.fold);
    emit_indices(e, "cell", f->kept, f->kept_count);
    emit_fold_loop(e, f);
    if (f->row_threads == BLOCK) EMIT("  merge_block<%s,%d>(shared, a);\n", f->form.fold, BLOCK);
    if (f->row_threads == 32) EMIT("  merge_warp(a);\n");
    if (f->row_threads > 1) EMIT("  if (lane == 0)\n");
    emit_result(e, f);
    EMIT(" }\n}\n");
    code_launch_add(e->code, 'k', f->cells * f->pieces * f->row_threads, BLOCKS_MOST);
}

// Merges the pieces of each cell: a block a cell where there are few cells, else a thread.
static void emit_merge(emitter *e, const folding *f) {
    bool few = f->cells < 4096;
    uint32_t pieces = code_word(e->code, f->pieces);
    emit_function(e, 'm', BLOCK);
    EMIT(" const ll unit = %s;\n", few ? "blockIdx.x" : "blockIdx.x * 256ll + threadIdx.x");
    if (few)
        EMIT(" __shared__ %s shared[%d];\n", f->form.fold, BLOCK / 32);
    else
        EMIT(" if (unit >= p.w[%u]) return;\n", f->cells_word);
    EMIT(" %s a;\n a.init();\n"
         " for (ll i = %s; i < p.w[%u]; i += %d)\n"
         "  a.merge(((const %s *)p.w[%u])[i * p.w[%u] + unit]);\n",
         f->form.fold, few ? "threadIdx.x" : "0", pieces, few ? BLOCK : 1, f->form.fold,
         f->scratch_word, f->cells_word);
    if (few) EMIT(" merge_block<%s,%d>(shared, a);\n if (threadIdx.x == 0)\n", f->form.fold, BLOCK);
    EMIT("  ((T_%s *)p.w[%u])[unit] = %s;\n}\n", type_text(f->form.out_type), f->out_word,
         f->form.finish);
    code_launch_add(e->code, 'm', few ? f->cells * BLOCK : f->cells, 0);
}

// The largest of the structs is that of complex sums.
enum { ACCUMULATOR = 32 };

void emit_fold(emitter *e) {
    folding f = {0};
    divide_axes(e, &f);
    if (!choose_fold_form(e, &f.form)) {
        e->refused = "such a fold of this type";
        return;
    }
    if (f.cells == 0) return;
    e->code->parts |= PART_FOLDS;
    cut_pieces(e, &f);
    choose_loads(e, &f);
    f.cells_word = code_word(e->code, f.cells);
    f.length_word = code_word(e->code, f.length);
    f.piece_word = code_word(e->code, f.piece);
    f.units_word = code_word(e->code, f.cells * f.pieces);
    f.scratch_word = code_patch_word(e->code, PATCH_SCRATCH, 0, 0);
    f.out_word = output_word(e);
    emit_pieces(e, &f);
    if (f.pieces == 1) return;
    e->code->scratch = (size_t)(f.cells * f.pieces * ACCUMULATOR);
    emit_merge(e, &f);
}
