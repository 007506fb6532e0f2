// SPDX-License-Identifier: Apache-2.0
// indexed.c - gather and scatter.
//
// Integers are added in any order, and so are floats where all of a target has room for exact sums.
// Other updates are sorted by the slice of the target that they go to, in their order. Of equal
// ones the last is put; to be added, they are summed in pieces of fixed length, and pieces of one
// slice in their order. So results are the same bits each time.
#include <stdio.h>

#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/emit.h"
#include "engines/cuda/text/index/sorting.h"

static bool is_indexed(const int32_t *axes, int32_t count, int32_t d) {
    for (int32_t i = 0; i < count; i++)
        if (axes[i] == d) return true;
    return false;
}

// Checks ------------------------------------------------------------------------------------------

enum { CHECKED_SLICE = 64, CHECKED_WORK = 1 << 20 }; // bytes

// Where much is moved for each row of the indices they are checked by a launch of their own, for
// which alone the host waits.
static bool checks_first(int64_t slice, int64_t rows) {
    return slice >= CHECKED_SLICE && slice * rows >= CHECKED_WORK;
}

static void emit_check(emitter *e, uint32_t indices, const int32_t *axes, int32_t count,
                       const emlx_shape *shape, int64_t rows) {
    emit_function(e, 'c', 256);
    emit_loop(e, rows)->suffix = 'c';
    EMIT("  bool bad = false;\n");
    for (int32_t i = 0; i < count; i++)
        EMIT("  bad |= ((const ull *)p.w[%u])[t * %d + %d] >= (ull)p.w[%u];\n", indices, count, i,
             code_word(e->code, shape->dims[axes[i]]));
    EMIT("  if (bad) ");
    emit_report(e, REPORT_INDEX, "t");
    EMIT("\n }\n}\n");
    e->code->checks = e->code->launch_count;
}

static void emit_bad(emitter *e, const char *place) {
    if (e->code->checks == 0) emit_report(e, REPORT_INDEX, place);
}

// Gather ------------------------------------------------------------------------------------------

static void gather_along(emitter *e, const gather_params *p, const emlx_shape *out) {
    const emlx_shape *source = &e->kernel->shapes[0];
    int64_t strides[EMLX_MAX_RANK];
    const char *type = raw_type(type_size((emlx_type)e->kernel->accesses[0].type));
    shape_strides(source, strides);
    uint32_t in = operand_word(e, 0), indices = operand_word(e, 1), to = output_word(e);
    uint32_t inner = code_word(e->code, strides[p->axes[0]]);
    uint32_t from = code_word(e->code, source->dims[p->axes[0]]);
    emit_function(e, 'k', 256);
    emit_loop(e, emlx_shape_count(out));
    EMIT("  const X u = t, row = ");
    emit_quotient(e, "u", strides[p->axes[0]]);
    EMIT(", in = u - row * (X)p.w[%u];\n  const ll outer = ", inner);
    emit_quotient(e, "row", out->dims[p->axes[0]]);
    EMIT(", at = ((const ll *)p.w[%u])[t];\n  if ((ull)at >= (ull)p.w[%u]) {\n   ", indices, from);
    emit_report(e, REPORT_INDEX, "t");
    EMIT("\n   continue;\n  }\n"
         "  ((%s *)p.w[%u])[t] = ((const %s *)p.w[%u])[(outer * p.w[%u] + at) * p.w[%u] + in];\n"
         " }\n}\n",
         type, to, type, in, from, inner);
}

// The offset of the slice that row m of the indices names, added to `off`; `bad` if there is none.
static void emit_slice(emitter *e, uint32_t indices, const int32_t *axes, int32_t count,
                       const emlx_shape *shape, const int64_t *strides, int64_t scale) {
    for (int32_t i = 0; i < count; i++) {
        uint32_t dim = code_word(e->code, shape->dims[axes[i]]);
        EMIT("  { const ll at = ((const ll *)p.w[%u])[m * %d + %d];\n"
             "   bad |= (ull)at >= (ull)p.w[%u]; off += at * p.w[%u]; }\n",
             indices, count, i, dim, code_word(e->code, strides[axes[i]] / scale));
    }
}

enum { UNITS = 4 }; // that a thread moves

// Slices are moved in units as large as their last axes allow.
static void gather_slices(emitter *e, const gather_params *p, const emlx_shape *out) {
    const plan_kernel *k = e->kernel;
    const emlx_shape *source = &k->shapes[0];
    int64_t strides[EMLX_MAX_RANK], size = (int64_t)type_size((emlx_type)k->accesses[0].type);
    int32_t last = p->count > 0 ? p->axes[p->count - 1] : source->rank - 1;
    shape_strides(source, strides);
    int64_t run = p->count > 0 ? strides[last] : 1, unit = 16;
    if (k->accesses[0].offset != 0) unit = size;
    while (unit > size && run * size % unit != 0) unit /= 2;
    int64_t scale = unit / size, count = emlx_shape_count(out) / scale;
    const char *type = raw_type((size_t)unit);
    uint32_t in = operand_word(e, 0), indices = operand_word(e, 1), to = output_word(e);
    e->wide = count > INDEX_MOST;
    uint32_t count_word = code_word(e->code, count);
    int64_t rows = p->count > 0 ? emlx_shape_count(&k->shapes[1]) / p->count : 1;
    if (p->count > 0 && checks_first(emlx_shape_count(out) / rows * size, rows))
        emit_check(e, indices, p->axes, p->count, source, rows);
    emit_function(e, 'k', 256);
    // Places first, then loads, then stores: several of each in flight.
    EMIT(" const X count = (X)p.w[%u], first = blockIdx.x * (X)%d + threadIdx.x;\n"
         " ll from[%d];\n %s x[%d];\n"
         " _Pragma(\"unroll\") for (int u = 0; u < %d; u++) {\n"
         "  const X t = first + u * 256;\n  X left = t;\n  ll off = 0;\n  from[u] = -1;\n"
         "  if (t >= count) continue;\n",
         count_word, 256 * UNITS, UNITS, type, UNITS, UNITS);
    if (run > 1) emit_axis(e, "off", run / scale, 1);
    for (int32_t d = last - 1; d >= 0; d--) {
        if (is_indexed(p->axes, p->count, d)) continue;
        emit_axis(e, "off", source->dims[d], strides[d] / scale);
    }
    EMIT("  const ll m = left;\n  bool bad = false;\n");
    emit_slice(e, indices, p->axes, p->count, source, strides, scale);
    EMIT("  if (!bad) from[u] = off;\n  else { ");
    emit_bad(e, "m");
    EMIT(" }\n }\n _Pragma(\"unroll\") for (int u = 0; u < %d; u++)\n"
         "  if (from[u] >= 0) x[u] = ((const %s *)p.w[%u])[from[u]];\n"
         " _Pragma(\"unroll\") for (int u = 0; u < %d; u++)\n"
         "  if (from[u] >= 0) ((%s *)p.w[%u])[first + u * 256] = x[u];\n}\n",
         UNITS, type, in, UNITS, type, to);
    code_launch_add(e->code, 'k', (count + UNITS - 1) / UNITS, 0);
}

void emit_gather(emitter *e) {
    const gather_params *p = e->kernel->params;
    const emlx_shape *out = &e->plan->values[e->kernel->output].shape;
    int64_t count = emlx_shape_count(out);
    if (count == 0) return;
    e->wide = count > INDEX_MOST;
    if (p->along)
        gather_along(e, p, out);
    else
        gather_slices(e, p, out);
}

// Scatter -----------------------------------------------------------------------------------------

typedef struct scattering {
    const scatter_params *params;
    const emlx_shape *target, *updates;
    int64_t strides[EMLX_MAX_RANK], count, slice;
    int64_t unit; // of what keys count: the last axis with an index
    uint32_t indices, updates_word, out, count_word, slice_word, chunks_word, heads, tails;
    const char *type;
} scattering;

enum { CHUNK = 8 }; // of sorted updates, summed by one thread for each element of the slice

// The struct that gives an update's key: where its slice is in the target.
static void emit_update_key(emitter *e, const scattering *s, const char *key) {
    EMIT("struct Key@ {\n typedef %s K;\n static METHOD K key(const Words<#> &p, ll, ll m) {\n"
         "  ll off = 0;\n  bool bad = false;\n",
         key);
    emit_slice(e, s->indices, s->params->axes, s->params->count, s->target, s->strides, s->unit);
    EMIT("  if (bad) { ");
    emit_bad(e, "m");
    EMIT(" }\n  return bad ? ~(K)0 : (K)off;\n }\n"
         " static METHOD unsigned load(const Words<#> &p, ll, ll m) { return (unsigned)m; }\n"
         " static const bool TELLS = false;\n static METHOD unsigned told(K) { return 0; }\n};\n");
}

// Where an element of a slice lies in it.
static void emit_slice_offset(emitter *e, const scattering *s) {
    int32_t axis = s->updates->rank - 1;
    EMIT("struct Slice@ {\n static METHOD ll offset(const Words<#> &p, ll element) {\n"
         "  typedef %s X;\n  X left = element;\n  ll off = 0;\n",
         e->wide ? "ll" : "int");
    for (int32_t d = s->target->rank - 1; d >= 0; d--) {
        if (is_indexed(s->params->axes, s->params->count, d)) continue;
        if (axis > 1)
            emit_axis(e, "off", s->updates->dims[axis--], s->strides[d]);
        else
            EMIT("  off += (ll)left * p.w[%u];\n", code_word(e->code, s->strides[d]));
    }
    EMIT("  return off;\n }\n};\n");
}

// How sums are held, and what a target's element becomes.
static void emit_sum(emitter *e) {
    int type = e->kernel->accesses[0].type;
    int wide = type_is_complex((emlx_type)type)   ? EMLX_C128
               : type_is_integer((emlx_type)type) ? type
                                                  : EMLX_F64;
    char in[CAST_TEXT], out[CAST_TEXT];
    cast_text(in, type, wide, "x");
    cast_text(out, wide, type, "f_add(a, b)");
    if (type_is_sub_byte(type))
        snprintf(out, CAST_TEXT, "wrap_%s((ull)(ll)f_add(a, b))", type_text(type));
    EMIT("struct Add@ {\n typedef T_%s T;\n typedef T_%s A;\n"
         " static METHOD A wide(T x) { return %s; }\n"
         " static METHOD A add(A a, A b) { return f_add(a, b); }\n"
         " static METHOD T sum(A a, A b) { return %s; }\n};\n",
         type_text(type), type_text(wide), in, out);
}

static void emit_apply(emitter *e, scattering *s, const sorting *order) {
    bool adds = s->params->kind == SCATTER_ADD;
    uint32_t unit = code_word(e->code, s->unit);
    if (!adds) {
        emit_function(e, 'p', 256);
        EMIT(" put_last<X, %s, Key@::K, Slice@>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
             "p.w[%u], p.w[%u]);\n}\n",
             raw_type(type_size((emlx_type)e->kernel->accesses[0].type)), order->keys,
             order->places, s->count_word, s->slice_word, s->updates_word, s->out, unit);
        code_launch_add(e->code, 'p', s->count * s->slice, 0);
        return;
    }
    int64_t chunks = (s->count + CHUNK - 1) / CHUNK;
    int64_t part = chunks * s->slice * 16;
    emit_sum(e);
    s->heads = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch);
    s->tails = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch + part);
    e->code->scratch += (size_t)(2 * part);
    for (int second = 0; second < 2; second++) {
        emit_function(e, second ? 'r' : 'p', 256);
        EMIT(
            " add_%s<X, Add@, Key@::K, Slice@, %d>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
            "p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
            second ? "joined" : "chunks", CHUNK, order->keys, order->places, s->count_word,
            s->slice_word, s->updates_word, s->out, s->heads, s->tails, unit);
        code_launch_add(e->code, second ? 'r' : 'p', chunks * s->slice, 0);
    }
}

// Sums that do not depend on the order of the updates ---------------------------------------------

#define UPDATES_MOST ((int64_t)1 << 22) // for which the bins of sums have room
#define BINNED_MOST ((int64_t)1 << 23)  // elements of a target with bins
enum { BIN_BYTES = 64, BINS_MANY = 1 << 16 };

static bool adds_in_place(int type) {
    return type == EMLX_S32 || type == EMLX_U32 || type == EMLX_S64 || type == EMLX_U64;
}

// Bins are made and read once an element of the target.
static bool adds_in_bins(int type, const scattering *s, int64_t elements) {
    bool narrow = type == EMLX_F32 || type_is_narrow(type);
    return narrow && s->count <= UPDATES_MOST && elements <= BINNED_MOST &&
           s->count * s->slice >= elements;
}

// A thread an update's element, whose place in the target it finds.
static void begin_updates(emitter *e, const scattering *s) {
    emit_function(e, 'p', 256);
    EMIT(" const ll t = blockIdx.x * 256ll + threadIdx.x;\n"
         " if (t >= p.w[%u] * p.w[%u]) return;\n const X n = t;\n const ll m = ",
         s->count_word, s->slice_word);
    emit_quotient(e, "n", s->slice);
    EMIT(", element = t - m * p.w[%u];\n ll off = 0;\n bool bad = false;\n", s->slice_word);
    emit_slice(e, s->indices, s->params->axes, s->params->count, s->target, s->strides, 1);
    EMIT(" if (bad) {\n  if (element == 0) { ");
    emit_bad(e, "m");
    EMIT(" }\n  return;\n }\n off += Slice@::offset(p, element);\n");
    code_launch_add(e->code, 'p', s->count * s->slice, 0);
}

static void add_in_place(emitter *e, const scattering *s, int type) {
    emit_slice_offset(e, s);
    begin_updates(e, s);
    EMIT(" typedef Wrapped<T_%s>::U U;\n"
         " atomicAdd((U *)p.w[%u] + off, (U)((const T_%s *)p.w[%u])[t]);\n}\n",
         type_text(type), s->out, type_text(type), s->updates_word);
}

static void add_in_bins(emitter *e, const scattering *s, int type, int64_t elements) {
    char wide[CAST_TEXT], target[CAST_TEXT], sum[CAST_TEXT];
    uint32_t bins = code_patch_word(e->code, PATCH_SCRATCH, 0, 0);
    uint32_t marks = code_patch_word(e->code, PATCH_SCRATCH, 0, elements * BIN_BYTES);
    uint32_t count = code_word(e->code, elements);
    const char *name = type_text(type);
    e->code->scratch = (size_t)(elements * (BIN_BYTES + 4));
    cast_text(wide, type, EMLX_F32, "x");
    cast_text(target, type, EMLX_F32, "before");
    cast_text(sum, EMLX_F64, type, "sum");
    emit_slice_offset(e, s);
    emit_function(e, 'z', 256);
    EMIT(" clear_bins(p.w[%u], p.w[%u], p.w[%u]);\n}\n", bins, marks, count);
    code_launch_add(e->code, 'z', elements * (BIN_BYTES / 16), 0);
    begin_updates(e, s);
    EMIT(" const T_%s x = ((const T_%s *)p.w[%u])[t];\n"
         " add_to_bins(p.w[%u], p.w[%u], off, %s);\n}\n",
         name, name, s->updates_word, bins, marks, wide);
    // The host goes on while bins are read.
    if (e->code->checks == 0 && elements >= BINS_MANY) e->code->checks = e->code->launch_count;
    emit_function(e, 'f', 256);
    EMIT(" const ll t = blockIdx.x * 256ll + threadIdx.x;\n if (t >= p.w[%u]) return;\n"
         " double sum;\n const T_%s before = ((const T_%s *)p.w[%u])[t];\n"
         " if (read_bins(p.w[%u], p.w[%u], t, %s, sum)) ((T_%s *)p.w[%u])[t] = %s;\n}\n",
         count, name, name, s->out, bins, marks, target, name, s->out, sum);
    code_launch_add(e->code, 'f', elements, 0);
}

// Scatter by sorting ------------------------------------------------------------------------------

static void scatter_sorted(emitter *e, scattering *s, int64_t elements) {
    sorting order = {.lines = 1, .length = s->count};
    int32_t count = s->params->count;
    s->unit = count > 0 ? s->strides[s->params->axes[count - 1]] : elements;
    int64_t places = elements / s->unit;
    order.key_size = places < UINT32_MAX ? 4 : 8;
    while (order.key_bits < 63 && (int64_t)1 << order.key_bits < places) order.key_bits++;
    e->code->parts |= PART_SORT;
    emit_update_key(e, s, raw_type(order.key_size));
    emit_slice_offset(e, s);
    emit_sorting(e, &order);
    emit_apply(e, s, &order);
}

void emit_scatter(emitter *e) {
    const plan_kernel *k = e->kernel;
    scattering s = {.params = k->params, .target = &k->shapes[0], .updates = &k->shapes[2]};
    int64_t elements = emlx_shape_count(s.target);
    shape_strides(s.target, s.strides);
    s.count = k->shapes[1].dims[0];
    s.slice = 1;
    for (int32_t d = 1; d < s.updates->rank; d++) s.slice *= s.updates->dims[d];
    if (s.count == 0 || s.slice == 0 || elements == 0) return;
    e->wide = s.count * s.slice > INDEX_MOST;
    s.indices = operand_word(e, 1);
    s.updates_word = operand_word(e, 2);
    s.out = output_word(e);
    s.count_word = code_word(e->code, s.count);
    s.slice_word = code_word(e->code, s.slice);
    e->code->parts |= PART_SCATTER;
    if (checks_first(s.slice * (int64_t)type_size((emlx_type)k->accesses[0].type), s.count))
        emit_check(e, s.indices, s.params->axes, s.params->count, s.target, s.count);
    int type = k->accesses[0].type;
    bool adds = s.params->kind == SCATTER_ADD;
    if (adds && adds_in_place(type))
        add_in_place(e, &s, type);
    else if (adds && adds_in_bins(type, &s, elements))
        add_in_bins(e, &s, type, elements);
    else
        scatter_sorted(e, &s, elements);
}
