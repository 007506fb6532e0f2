// SPDX-License-Identifier: Apache-2.0
// factors.c - the kernels around a library's factors of large matrices.
#include "engines/cuda/text/whole/factors.h"

#include "base/error.h"
#include "base/types.h"

enum { FACTORED_FROM = 257, ITERATED_FROM = 129, BLOCK = 256, ALIGNMENT = 256, MOST = 1 << 15 };

static bool is_iterated(const factoring *f) {
    return f->params->kind == ROUTINE_eigh || f->params->kind == ROUTINE_svd;
}

static bool is_known(const factoring *f) {
    bool full = f->params->flags & ROUTINE_FULL;
    switch ((routine_kind)f->params->kind) {
    case ROUTINE_qr: return !full || f->rows <= f->columns;
    case ROUTINE_cholesky:
    case ROUTINE_lu:
    case ROUTINE_determinant:
    case ROUTINE_solve:
    case ROUTINE_svd:
    case ROUTINE_eigh: return true;
    default: return false;
    }
}

// LU factors, and what is made of them.
static bool by_panels(const factoring *f) {
    routine_kind kind = (routine_kind)f->params->kind;
    bool lu = kind == ROUTINE_lu || kind == ROUTINE_determinant || kind == ROUTINE_solve;
    return lu && f->longer <= PANELS_MOST;
}

// In bytes, but for the library's own.
static void set_places(factoring *f) {
    int64_t area = f->rows * f->columns, n = f->shorter, sizes[PLACES] = {[PLACE_MATRIX] = area};
    switch ((routine_kind)f->params->kind) {
    case ROUTINE_solve: sizes[PLACE_SECOND] = n * f->other; break;
    case ROUTINE_qr: sizes[PLACE_SECOND] = sizes[PLACE_THIRD] = n; break;
    case ROUTINE_svd:
        sizes[PLACE_SECOND] = f->longer * f->vectors;
        sizes[PLACE_THIRD] = n * n;
        break;
    default: break;
    }
    if (f->panels) sizes[PLACE_THIRD] = n;
    sizes[PLACE_VALUES] = sizes[PLACE_PIVOTS] = n; // two integers are a double
    sizes[PLACE_MARKS] = sizes[PLACE_INFOS] = 1;
    size_t at = 0;
    for (int i = 0; i < PLACES; i++) {
        f->places[i] = at;
        at += ((size_t)(sizes[i] * f->count) * 8 + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
    }
    f->places[PLACES] = at;
}

bool find_factoring(const emlx_plan *plan, const plan_kernel *k, factoring *f) {
    const routine_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    *f = (factoring){.params = p, .count = 1, .other = 1, .type = plan->values[k->output].type};
    if (f->type != EMLX_F32 && f->type != EMLX_F64) return false;
    f->rows = shape->dims[shape->rank - 2];
    f->columns = shape->dims[shape->rank - 1];
    f->longer = f->rows > f->columns ? f->rows : f->columns;
    f->shorter = f->rows < f->columns ? f->rows : f->columns;
    f->vectors = p->flags & ROUTINE_FULL ? f->longer : f->shorter;
    if (k->access_count > 1 && !(p->flags & ROUTINE_VECTOR))
        f->other = k->shapes[1].dims[k->shapes[1].rank - 1];
    for (int32_t d = 0; d < p->batch; d++) f->count *= shape->dims[d];
    int64_t from = is_iterated(f) ? ITERATED_FROM : FACTORED_FROM;
    if (!is_known(f) || f->longer < from || f->longer > MOST || f->shorter == 0 || f->other == 0 ||
        f->count == 0)
        return false;
    f->panels = by_panels(f);
    f->single = p->kind == ROUTINE_cholesky && f->type == EMLX_F32;
    set_places(f);
    return true;
}

// Writing -----------------------------------------------------------------------------------------

static void begin(const factor_writer *w, char suffix, int64_t blocks) {
    emitter *e = w->e;
    emit_function(e, suffix, BLOCK);
    code_launch_add(e->code, suffix, blocks * BLOCK, 0);
}

static int64_t blocks_for(int64_t count) {
    int64_t blocks = (count + BLOCK - 1) / BLOCK;
    return blocks < 2112 ? blocks : 2112;
}

static const char *work_text(const factoring *f) { return f->single ? "f32" : "f64"; }

static void bring(const factor_writer *w) {
    emitter *e = w->e;
    const factoring *f = w->f;
    const char *type = type_text(f->type);
    bool checked = is_iterated(f), turned = true;
    if (f->params->kind == ROUTINE_eigh) turned = false;
    if (f->params->kind == ROUTINE_svd) turned = f->rows >= f->columns; // the library's are tall
    begin(w, 'a', blocks_for(f->count * f->rows * f->columns));
    EMIT(" bring_matrices<T_%s, T_%s, %s, %s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u]);\n",
         type, work_text(f), truth_text(turned), truth_text(checked), w->in,
         w->places[PLACE_MATRIX], w->places[PLACE_MARKS], w->sizes, w->sizes + 1, w->sizes + 3);
    if (f->params->kind == ROUTINE_solve)
        EMIT(" bring_matrices<T_%s, T_f64, true, false>(p.w[%u], p.w[%u], 0, p.w[%u], p.w[%u], "
             "p.w[%u]);\n",
             type, operand_word(e, 1), w->places[PLACE_SECOND], w->sizes, w->sizes + 2,
             w->sizes + 3);
    EMIT("}\n");
}

static void take_cholesky(const factor_writer *w) {
    emitter *e = w->e;
    const char *type = type_text(w->f->type);
    begin(w, 'p', blocks_for(w->f->count * w->f->rows * w->f->rows));
    EMIT(" take_cholesky<T_%s, T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", type,
         work_text(w->f), w->places[PLACE_MATRIX], w->places[PLACE_INFOS], w->out, w->sizes,
         w->sizes + 3);
    begin(w, 'b', w->f->count);
    EMIT(" cholesky_again<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", type, w->in,
         w->places[PLACE_MATRIX], w->places[PLACE_INFOS], w->out, w->sizes);
}

static void take_lu(const factor_writer *w) {
    emitter *e = w->e;
    uint32_t from = w->order;
    if (!w->f->panels) {
        begin(w, 'p', blocks_for(w->f->count));
        EMIT(" follow_all(p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", w->places[PLACE_PIVOTS], from,
             w->sizes, w->sizes + 3);
    }
    begin(w, 'b', blocks_for(w->f->count * w->f->rows * w->f->rows));
    EMIT(" take_lu<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", type_text(w->f->type),
         w->places[PLACE_MATRIX], from, w->out, w->sizes, w->sizes + 3);
}

static void take_determinant(const factor_writer *w) {
    emitter *e = w->e;
    begin(w, 'b', blocks_for(w->f->count));
    EMIT(" take_determinant<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         type_text(w->f->type), w->places[PLACE_MATRIX], w->places[PLACE_PIVOTS], w->out, w->sizes,
         w->sizes + 3);
}

static void take_solution(const factor_writer *w) {
    emitter *e = w->e;
    begin(w, 'b', blocks_for(w->f->count * w->f->rows * w->f->other));
    EMIT(" const ll singular = take_solution<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u]);\n if (singular >= 0) ",
         type_text(w->f->type), w->places[PLACE_SECOND], w->places[PLACE_INFOS], w->out, w->sizes,
         w->sizes + 2, w->sizes + 3);
    emit_report(e, GUARD_SYSTEM, "singular");
    EMIT("\n}\n");
}

static void take_qr(const factor_writer *w) {
    emitter *e = w->e;
    const factoring *f = w->f;
    const char *type = type_text(f->type);
    begin(w, 'p', f->count);
    EMIT(" find_signs(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", w->places[PLACE_MATRIX],
         w->places[PLACE_SECOND], w->places[PLACE_THIRD], w->sizes, w->sizes + 1);
    for (int q = 0; q < 2; q++) {
        begin(w, q ? 'b' : 'r', blocks_for(f->count * (q ? f->rows : f->columns) * f->shorter));
        EMIT(" take_%c<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
             q ? 'q' : 'r', type, w->places[PLACE_MATRIX], w->places[PLACE_THIRD], w->out, w->sizes,
             w->sizes + 1, w->sizes + 3);
    }
}

// Reports matrices whose iteration did not end. A word has how many blocks one has.
static void emit_unless_done(const factor_writer *w, uint32_t blocks, int code) {
    emitter *e = w->e;
    EMIT(" const ll matrix = blockIdx.x / p.w[%u];\n"
         " if (threadIdx.x == 0 && ((const int *)p.w[%u])[matrix] != 0) ",
         blocks, w->places[PLACE_INFOS]);
    emit_report(e, code, "matrix");
    EMIT("\n}\n");
}

static void take_eigen(const factor_writer *w) {
    emitter *e = w->e;
    begin(w, 'b', w->f->count * w->f->rows);
    EMIT(" take_eigen<T_%s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n", type_text(w->f->type),
         w->places[PLACE_MATRIX], w->places[PLACE_VALUES], w->places[PLACE_MARKS], w->out,
         w->sizes);
    emit_unless_done(w, w->sizes, GUARD_EIGENVALUES);
}

// From either of the library's ways: vectors of the shorter side one after another, or as rows.
static void take_svd(const factor_writer *w) {
    emitter *e = w->e;
    const factoring *f = w->f;
    uint32_t sizes = code_word(e->code, f->longer);
    code_word(e->code, f->shorter);
    code_word(e->code, f->vectors);
    uint32_t tolerance = code_double(e->code, f->params->tolerance);
    for (int rows = 0; rows < 2; rows++) {
        begin(w, rows ? 'r' : 'b', f->count * f->vectors);
        EMIT(" take_svd<T_%s, %s, %s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
             "p.w[%u], p.w[%u], *(const double *)&p.w[%u]);\n",
             type_text(f->type), truth_text(f->rows >= f->columns), truth_text(rows),
             w->places[PLACE_SECOND], w->places[PLACE_THIRD], w->places[PLACE_VALUES],
             w->places[PLACE_MARKS], w->out, sizes, sizes + 1, sizes + 2, tolerance);
        emit_unless_done(w, sizes + 2, GUARD_SINGULAR_VALUES);
    }
}

static void emit_all(emitter *e, const factoring *f) {
    static void (*const takers[ROUTINE_COUNT])(const factor_writer *) = {
        [ROUTINE_cholesky] = take_cholesky,
        [ROUTINE_lu] = take_lu,
        [ROUTINE_determinant] = take_determinant,
        [ROUTINE_solve] = take_solution,
        [ROUTINE_qr] = take_qr,
        [ROUTINE_eigh] = take_eigen,
        [ROUTINE_svd] = take_svd};
    factor_writer w = {.e = e, .f = f, .in = operand_word(e, 0), .out = output_word(e)};
    e->code->parts |= PART_LINALG | PART_FACTORS;
    for (int i = 0; i < PLACES; i++)
        w.places[i] = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)f->places[i]);
    w.sizes = code_word(e->code, f->rows);
    code_word(e->code, f->columns);
    code_word(e->code, f->other);
    code_word(e->code, f->count);
    // Behind the pivots, of which there are half as many as there is room for.
    w.order = code_patch_word(e->code, PATCH_SCRATCH, 0,
                              (int64_t)f->places[PLACE_PIVOTS] + f->count * f->rows * 4);
    bring(&w);
    if (f->panels) emit_panels(&w);
    takers[f->params->kind](&w);
}

void emit_factoring(emitter *e, const factoring *f) {
    e->code->scratch = f->places[PLACE_WORK];
    emit_all(e, f);
}

emlx_status code_factoring(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                           const factoring *f, emlx_error *err) {
    emitter e = {.plan = plan, .kernel = kernel, .code = code};
    *code = (kernel_code){.parts = PART_CORE | PART_SCALARS};
    emit_begin(&e);
    emit_all(&e, f);
    return code->failed ? error_no_memory(err, "to generate a kernel") : EMLX_OK;
}
