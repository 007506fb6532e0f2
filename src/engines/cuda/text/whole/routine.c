// SPDX-License-Identifier: Apache-2.0
// routine.c - linear algebra by our own kernels, a block a matrix, and short Fourier transforms.
#include <stdio.h>

#include "base/types.h"
#include "engines/cuda/text/whole/factors.h"
#include "engines/cuda/text/whole/transform.h"

enum {
    ROOM_MOST = 2048,    // numbers of a matrix's work that are shared; more are in memory
    BLOCKS_MOST = 2112,  // of matrices at once
    FACTORED_MOST = 256, // rows and columns; larger matrices want more than a block
    ITERATED_MOST = 128, // the same where factors are found by iteration
    SHORT_LINE = 1024    // elements of a line that is transformed here
};

typedef struct matrices {
    const routine_params *params;
    int64_t rows, columns, other, count, inner;
    int type;
    const char *name;
} matrices;

// The work memory of a matrix, in numbers that are as wide as the type's are computed in.
static int64_t work_size(const matrices *m) {
    int64_t n = m->columns, area = m->rows * n;
    int64_t shorter = m->rows < n ? m->rows : n, longer = m->rows > n ? m->rows : n;
    switch ((routine_kind)m->params->kind) {
    case ROUTINE_triangular_solve:
    case ROUTINE_solve: return area + n * m->other + n;
    case ROUTINE_qr: return area + m->rows * m->inner + shorter;
    case ROUTINE_eigh: return (2 * n + 1) * (n + 2) + 4 * (n / 2 + 1);
    case ROUTINE_svd:
        return (m->params->flags & ROUTINE_FULL ? longer : shorter) * (longer + 1) +
               shorter * (shorter + 3);
    default: return area + n;
    }
}

static bool is_iterated(const matrices *m) {
    return m->params->kind == ROUTINE_eigh || m->params->kind == ROUTINE_svd;
}

// The call of the routine; where it may fail, as a condition.
static void emit_call(emitter *e, const matrices *m, uint32_t sizes) {
    const char *t = m->name, *a = type_is_complex((emlx_type)m->type) ? "T_c128" : "double";
    int64_t flags = m->params->flags;
    switch ((routine_kind)m->params->kind) {
    case ROUTINE_cholesky: EMIT("  cholesky<T_%s, %s>(x, out, work, rows);\n", t, a); break;
    case ROUTINE_lu: EMIT("  lu<T_%s, %s>(x, out, work, rows);\n", t, a); break;
    case ROUTINE_determinant: EMIT("  determinant<T_%s, %s>(x, out, work, rows);\n", t, a); break;
    case ROUTINE_qr:
        EMIT("  qr<T_%s, %s>(x, out, work, rows, (int)p.w[%u], (int)p.w[%u]);\n", t, a, sizes + 1,
             code_word(e->code, m->inner));
        break;
    case ROUTINE_triangular_solve:
        EMIT(
            "  const bool good = triangular_solve<T_%s, %s, %s, %s, %s, %s>(x, y, out, work, rows, "
            "(int)p.w[%u]);\n",
            t, a, truth_text(flags & ROUTINE_TRANSPOSE), truth_text(flags & ROUTINE_CONJUGATE),
            truth_text(flags & ROUTINE_RIGHT), truth_text(flags & ROUTINE_UPPER), sizes + 2);
        break;
    case ROUTINE_solve:
        EMIT("  const bool good = solve<T_%s, %s>(x, y, out, work, rows, (int)p.w[%u]);\n", t, a,
             sizes + 2);
        break;
    case ROUTINE_eigh:
        EMIT("  const bool good = eigh<T_%s, T_%s, %s>(x, out, work, rows);\n", t,
             type_text(type_part((emlx_type)m->type)), a);
        break;
    default:
        EMIT("  const bool good = svd<T_%s, double, %s>(x, out, work, rows, (int)p.w[%u], "
             "*(const double *)&p.w[%u]);\n",
             t, truth_text(flags & ROUTINE_FULL), sizes + 1,
             code_double(e->code, m->params->tolerance));
        break;
    }
}

static int report_of(const matrices *m) {
    static const int codes[ROUTINE_COUNT] = {[ROUTINE_triangular_solve] = GUARD_TRIANGLE,
                                             [ROUTINE_solve] = GUARD_SYSTEM,
                                             [ROUTINE_eigh] = GUARD_EIGENVALUES,
                                             [ROUTINE_svd] = GUARD_SINGULAR_VALUES};
    return codes[m->params->kind];
}

static void emit_matrices(emitter *e, const matrices *m) {
    const plan_kernel *k = e->kernel;
    bool complex_ = type_is_complex((emlx_type)m->type), second = k->access_count > 1;
    int64_t work = work_size(m), longer = m->rows > m->columns ? m->rows : m->columns, room = 256;
    int64_t out = axes_product(e->plan->values[k->output].shape.dims + m->params->batch,
                               e->plan->values[k->output].shape.rank - m->params->batch);
    int threads = is_iterated(m) ? (longer <= 8    ? 32
                                    : longer <= 16 ? 128
                                                   : 256)
                  : longer <= 16 ? 32
                  : longer <= 48 ? 128
                                 : 256;
    while (room < work) room *= 2;
    int64_t each = (work * (complex_ ? 16 : 8) + 255) / 256 * 256;
    int64_t blocks = m->count < BLOCKS_MOST ? m->count : BLOCKS_MOST;
    bool shared = room <= (complex_ ? ROOM_MOST / 2 : ROOM_MOST);
    if (!shared) e->code->scratch = (size_t)(each * blocks);
    uint32_t scratch = code_patch_word(e->code, PATCH_SCRATCH, 0, 0);
    uint32_t each_word = code_word(e->code, each), count = code_word(e->code, m->count);
    uint32_t sizes = code_word(e->code, m->rows);
    code_word(e->code, m->columns);
    code_word(e->code, m->other);
    uint32_t x = operand_word(e, 0), y = second ? operand_word(e, 1) : 0, to = output_word(e);
    e->code->parts |= PART_LINALG;
    emit_function(e, 'k', threads);
    EMIT(" %s *work = work_memory<%s, %d>(p.w[%u], p.w[%u]);\n const int rows = (int)p.w[%u];\n"
         " for (ll t = blockIdx.x; t < p.w[%u]; t += gridDim.x) {\n"
         "  const T_%s *x = (const T_%s *)p.w[%u] + t * p.w[%u];\n",
         complex_ ? "T_c128" : "double", complex_ ? "T_c128" : "double", shared ? (int)room : 0,
         scratch, each_word, sizes, count, m->name, m->name, x,
         code_word(e->code, m->rows * m->columns));
    if (second)
        EMIT("  const T_%s *y = (const T_%s *)p.w[%u] + t * p.w[%u];\n", m->name, m->name, y,
             code_word(e->code, m->rows * m->other));
    EMIT("  T_%s *out = (T_%s *)p.w[%u] + t * p.w[%u];\n", m->name, m->name, to,
         code_word(e->code, out));
    emit_call(e, m, sizes);
    if (report_of(m) != 0) {
        EMIT("  if (!good && threadIdx.x == 0) ");
        emit_report(e, report_of(m), "t");
        EMIT("\n");
    }
    EMIT("  __syncthreads();\n }\n}\n");
    code_launch *launch = code_launch_add(e->code, 'k', 1, 0);
    launch->block = (uint32_t)threads;
    launch->grid_x = blocks;
}

static void linear_algebra(emitter *e) {
    const plan_kernel *k = e->kernel;
    const routine_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    matrices m = {.params = p, .type = e->plan->values[k->output].type, .other = 1, .count = 1};
    m.name = type_text(m.type);
    m.rows = shape->dims[shape->rank - 2];
    m.columns = shape->dims[shape->rank - 1];
    m.inner = p->flags & ROUTINE_FULL || m.rows < m.columns ? m.rows : m.columns;
    if (k->access_count > 1 && !(p->flags & ROUTINE_VECTOR))
        m.other = k->shapes[1].dims[k->shapes[1].rank - (p->flags & ROUTINE_RIGHT ? 2 : 1)];
    for (int32_t d = 0; d < p->batch; d++) m.count *= shape->dims[d];
    int64_t most = is_iterated(&m) ? ITERATED_MOST : FACTORED_MOST;
    if (m.rows > most || m.columns > most || m.other > most * 16)
        e->refused = "matrices as large";
    else if (p->kind == ROUTINE_svd && type_is_complex((emlx_type)m.type))
        e->refused = "such a routine of complex numbers";
    else if (m.count > 0 && m.rows * m.columns > 0)
        emit_matrices(e, &m);
}

// Transforms --------------------------------------------------------------------------------------

static void short_transform(emitter *e, const transform *t) {
    int room = 16;
    if (t->length > SHORT_LINE) e->refused = "lines as long";
    while (room < t->length) room *= 4;
    e->code->parts |= PART_FFT;
    uint32_t in = operand_word(e, 0), to = output_word(e), sizes = code_word(e->code, t->given);
    code_word(e->code, t->half);
    code_word(e->code, t->length);
    code_word(e->code, t->results);
    code_word(e->code, t->beside);
    emit_function(e, 'k', 256);
    EMIT(" transform_line<T_%s, T_%s, %d, %s>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u], p.w[%u], *(const double *)&p.w[%u]);\n}\n",
         type_text(t->from), type_text(t->to), room, truth_text(t->inverse), in, to, sizes,
         sizes + 1, sizes + 2, sizes + 3, sizes + 4, code_double(e->code, t->tolerance));
    code_launch *launch = code_launch_add(e->code, 'k', 1, 0);
    launch->block = t->length <= 32 ? 32 : t->length <= 128 ? 128 : 256;
    launch->grid_x = t->lines;
}

void emit_routine(emitter *e) {
    const routine_params *p = e->kernel->params;
    if (routine_elements[p->kind] != ROUTINE_OF_LINE) {
        factoring f;
        if (find_factoring(e->plan, e->kernel, &f) && f.panels)
            emit_factoring(e, &f);
        else
            linear_algebra(e);
        return;
    }
    transform t = find_transform(e->plan, e->kernel);
    if (t.lines > 0 && t.results > 0 && t.length > 0) short_transform(e, &t);
}
