// SPDX-License-Identifier: Apache-2.0
// window.c - folds over windows of an operand that is not padded first: what lies beside it is left
// out. A thread folds a window, or neighbours that overlap; all loads are made before the first is
// used.
#include <stdio.h>
#include <stdlib.h>

#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/whole/whole.h"

enum {
    BLOCK = 256,
    ELEMENTS_MOST = 32, // of a window, each written out
    EACH = 2
};

bool window_suits(const emlx_tensor *either, int64_t shared_most) {
    const window_params *p = either->params;
    const emlx_shape *shape = &either->inputs[1]->shape;
    bool chosen = reduce_table[p->either.bits].gives == GIVES_CHOSEN,
         wide = either->type == EMLX_F64;
    bool sum = p->either.bits == REDUCE_SUM && type_is_float(either->type) && !wide;
    int64_t elements = 1;
    (void)shared_most;
    for (int32_t d = 0; d < shape->rank && elements <= ELEMENTS_MOST; d++) elements *= p->window[d];
    return (chosen || sum) && elements <= ELEMENTS_MOST && emlx_shape_count(&either->shape) > 0 &&
           emlx_shape_count(shape) > 0;
}

// Neighbouring axes along which no window has a neighbour become one.
typedef struct window_axis {
    int64_t out, in, stride, window, step, dilation, low;
    bool slides;
} window_axis;

static window_axis axis_of(const emitter *e, int32_t d) {
    const plan_kernel *k = e->kernel;
    const window_params *p = k->params;
    const emlx_shape *out = &e->plan->values[k->output].shape;
    window_axis a = {out->dims[d],
                     k->shapes[0].dims[d],
                     k->accesses[0].strides[d],
                     p->window[d],
                     p->strides[d],
                     p->dilations[d],
                     p->low[d],
                     false};
    a.slides = a.window > 1 || a.step > 1 || a.low != 0 || a.out != a.in;
    return a;
}

// At least one.
static int32_t find_axes(const emitter *e, window_axis axes[EMLX_MAX_RANK]) {
    int32_t count = 0, rank = e->kernel->shapes[0].rank;
    for (int32_t d = 0; d < rank; d++) {
        window_axis a = axis_of(e, d), *last = count > 0 ? &axes[count - 1] : NULL;
        if (!a.slides && a.out == 1 && (d + 1 < rank || count > 0)) continue;
        if (last != NULL && !a.slides && !last->slides &&
            axes_are_one(last->stride, a.stride, a.in)) {
            last->out = last->in *= a.in;
            last->stride = a.stride;
        } else {
            axes[count++] = a;
        }
    }
    return count;
}

// Outputs of a thread, neighbours whose windows overlap, and of how many elements along the last
// axis these are.
static int outputs_each(const window_axis *last) {
    bool overlap = last->slides && last->dilation == 1 && last->step < last->window;
    return overlap && last->out % EACH == 0 ? EACH : 1;
}

static int span_of(const window_axis *a, int each) {
    return (int)(a->window + (each - 1) * a->step);
}

// Where the window of a thread's first output begins: in `at` along axes without neighbours, s0,
// s1,
// ... along others.
static void emit_begin_of_window(emitter *e, const window_axis *axes, int32_t count, int each) {
    char left[24] = "n";
    EMIT("  const X n = t;\n  X at = 0;\n");
    for (int32_t i = count - 1; i >= 0; i--) {
        const window_axis *a = &axes[i];
        int64_t length = i == count - 1 ? a->out / each : a->out;
        EMIT("  const X u%d = ", (int)i);
        if (i > 0)
            emit_quotient(e, left, length);
        else
            EMIT("0");
        EMIT(", i%d = %s - u%d * (X)p.w[%u];\n", (int)i, left, (int)i, code_word(e->code, length));
        snprintf(left, sizeof left, "u%d", (int)i);
        int64_t step = i == count - 1 ? a->step * each : a->step;
        if (a->slides)
            EMIT("  const X s%d = i%d * (X)p.w[%u] - (X)p.w[%u];\n", (int)i, (int)i,
                 code_word(e->code, step), code_word(e->code, a->low));
        else
            EMIT("  at += i%d * (X)p.w[%u];\n", (int)i, code_word(e->code, a->stride));
    }
}

// How many neighbours along the last axis, from where padding ends, are one vector for every
// thread: all of those by which threads are apart. 0: none, or one each.
static int vector_of(const emitter *e, const window_axis *axes, int32_t count, int each) {
    const window_axis *last = &axes[count - 1];
    const plan_access *a = &e->kernel->accesses[0];
    int64_t width = last->step * each, bytes = width * (int64_t)type_size((emlx_type)a->type);
    bool fits = last->slides && last->stride == 1 && last->dilation == 1 && width > 1 &&
                bytes <= 16 && (bytes & (bytes - 1)) == 0 && last->in % width == 0 &&
                last->low >= 0 && last->low + width <= span_of(last, each) && a->start_count == 0 &&
                a->offset % width == 0;
    for (int32_t i = 0; i + 1 < count; i++) fits = fits && axes[i].stride % width == 0;
    return fits ? (int)width : 0;
}

// The loops over a window's elements, but for the last axis where vectors are loaded along it, with
// where they lie and whether that is in the operand. Returns how many.
static int emit_window_loops(emitter *e, const window_axis *axes, int32_t count, int each,
                             bool vectors) {
    int loops = 0;
    for (int32_t i = 0; i < count - vectors; i++) {
        const window_axis *a = &axes[i];
        int n = (int)i;
        if (!a->slides) continue;
        EMIT("  _Pragma(\"unroll\") for (int k%d = 0; k%d < %d; k%d++) {\n"
             "  const X x%d = s%d + k%d * (X)p.w[%u];\n"
             "  const bool h%d = x%d >= 0 && x%d < (X)p.w[%u];\n",
             n, n, i == count - 1 ? span_of(a, each) : (int)a->window, n, n, n, n,
             code_word(e->code, a->dilation), n, n, n, code_word(e->code, a->in));
        loops++;
    }
    return loops;
}

// Whether the element lies in the operand as far as these loops go, and where.
static void emit_window_place(emitter *e, const window_axis *axes, int32_t count) {
    EMIT("  const bool in_all = true");
    for (int32_t i = 0; i < count; i++)
        if (axes[i].slides) EMIT(" && h%d", (int)i);
    EMIT(";\n  const T_%s *const from = in + at", type_text(e->kernel->accesses[0].type));
    for (int32_t i = 0; i < count; i++)
        if (axes[i].slides) EMIT(" + x%d * (X)p.w[%u]", (int)i, code_word(e->code, axes[i].stride));
    EMIT(";\n");
}

// The elements of all windows of a thread: v[f], where h[f] says that it lies in the operand.
static void emit_loads_of_window(emitter *e, const window_axis *axes, int32_t count, int each) {
    int width = vector_of(e, axes, count, each), last = (int)count - 1;
    EMIT("  {\n  int f = 0;\n");
    int loops = emit_window_loops(e, axes, count, each, width > 0);
    emit_window_place(e, axes, count - (width > 0));
    if (width == 0) {
        EMIT("  h[f] = in_all;\n  if (h[f]) v[f] = *from;\n  f++;\n");
    } else {
        const char *name = type_text(e->kernel->accesses[0].type);
        int low = (int)axes[last].low;
        uint32_t length = code_word(e->code, axes[last].in);
        EMIT("  Vector<T_%s,%d> middle;\n  const bool has_middle = in_all && s%d + %d < "
             "(X)p.w[%u];\n"
             "  if (has_middle) middle = *(const Vector<T_%s,%d> *)(from + s%d + %d);\n"
             "  _Pragma(\"unroll\") for (int k = 0; k < %d; k++, f++) {\n"
             "  const X x = s%d + k;\n  const int m = k - %d;\n"
             "  const bool is_middle = m >= 0 && m < %d;\n"
             "  h[f] = is_middle ? has_middle : in_all && x >= 0 && x < (X)p.w[%u];\n"
             "  if (is_middle) v[f] = middle.x[m];\n  else if (h[f]) v[f] = from[x];\n  }\n",
             name, width, last, low, length, name, width, last, low, span_of(&axes[last], each),
             last, low, width, length);
    }
    for (int i = 0; i < loops; i++) EMIT("}");
    EMIT("}\n");
}

// Folds the window of output `each` of a thread; `step` folds v[f].
static void emit_fold_of_window(emitter *e, const window_axis *axes, int32_t count, int each,
                                const char *step) {
    for (int32_t i = 0; i < count; i++)
        EMIT("  _Pragma(\"unroll\") for (int k%d = 0; k%d < %d; k%d++)\n", (int)i, (int)i,
             (int)axes[i].window, (int)i);
    EMIT("  {\n  const int f = ");
    for (int32_t i = 0; i + 2 < count; i++) EMIT("(");
    for (int32_t i = 0; i < count; i++) {
        if (i > 0) EMIT(" * %d + ", i == count - 1 ? span_of(&axes[i], each) : (int)axes[i].window);
        EMIT(i == count - 1 ? "k%d + j * %d" : i > 0 ? "k%d)" : "k%d", (int)i, (int)axes[i].step);
    }
    EMIT(";\n  %s\n  }\n", step);
}

static bool is_far(const emitter *e) {
    int64_t span = 0;
    for (int32_t d = 0; d < e->kernel->shapes[0].rank; d++)
        span += llabs(e->kernel->accesses[0].strides[d]) * (e->kernel->shapes[0].dims[d] - 1);
    return span > INDEX_MOST;
}

void emit_window(emitter *e) {
    const plan_kernel *k = e->kernel;
    const window_params *p = k->params;
    int type = k->accesses[0].type, held = type_is_narrow(type) ? EMLX_F32 : type, elements = 1;
    bool sum = p->either.bits == REDUCE_SUM;
    char fold[64], wide[CAST_TEXT], finish[CAST_TEXT], step[CAST_TEXT + 64];
    const char *name = type_text(type);
    window_axis axes[EMLX_MAX_RANK] = {{0}};
    int64_t outputs = emlx_shape_count(&e->plan->values[k->output].shape);
    int32_t count = find_axes(e, axes);
    int each = outputs_each(&axes[count - 1]);
    if (sum) held = EMLX_F64;
    snprintf(fold, sizeof fold, "Sum<double,double>");
    if (!sum && fold_text(fold, (reduce_kind)p->either.bits, held) == NULL)
        e->refused = "such a fold of this type";
    for (int32_t i = 0; i < count; i++)
        elements *= i == count - 1 ? span_of(&axes[i], each) : (int)axes[i].window;
    e->code->parts |= PART_FOLDS;
    e->wide = outputs > INDEX_MOST || is_far(e);
    cast_text(wide, type, held, "v[f]");
    cast_text(finish, held, type, "a.finish()");
    snprintf(step, sizeof step, "if (h[f]) a.step(%s, f);", wide);
    uint32_t out = output_word(e);
    emit_function(e, 'k', BLOCK);
    EMIT(" const T_%s *const in = (const T_%s *)", name, name);
    emit_address(e, 0);
    EMIT(";\n");
    emit_loop(e, outputs / each);
    emit_begin_of_window(e, axes, count, each);
    EMIT("  T_%s v[%d];\n  bool h[%d];\n  Vector<T_%s,%d> o;\n", name, elements, elements, name,
         each);
    emit_loads_of_window(e, axes, count, each);
    EMIT("  _Pragma(\"unroll\") for (int j = 0; j < %d; j++) {\n  %s a;\n  a.init();\n", each,
         fold);
    emit_fold_of_window(e, axes, count, each, step);
    EMIT("  o.x[j] = %s;\n  }\n  ((Vector<T_%s,%d> *)p.w[%u])[t] = o;\n }\n}\n", finish, name, each,
         out);
}
