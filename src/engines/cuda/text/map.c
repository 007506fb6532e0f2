// SPDX-License-Identifier: Apache-2.0
// map.c - kernels that compute an expression for each element.
//
// Memory is what limits them. Where operands are dense along the last axis, a thread takes vectors
// of 16 bytes, several of them loaded before the first is used; an index is then divided once a
// vector. Where an operand lies across, tiles of it go through shared memory, so that both sides
// are touched in whole lines. What is left takes an element at a time.
#include "base/types.h"
#include "engines/cuda/text/emit.h"

enum {
    BLOCK = 256,
    VECTORS_FEWEST = 8192, // below, it is better to have many threads
    VECTORS_MANY = 1 << 20 // from here on a thread takes several
};

// Vectors -----------------------------------------------------------------------------------------

bool access_is_dense(const emitter *e, const plan_access *a) {
    return e->kernel->rank > 0 && a->strides[e->kernel->rank - 1] == 1;
}

// Vectors of `width` along the last axis are whole and aligned in this operand.
static bool fits(const plan_kernel *k, const plan_access *a, int width) {
    int32_t last = k->rank - 1;
    if (a->strides[last] == 0) return true;
    if (a->strides[last] != 1 || a->start_count > 0 || a->offset % width != 0) return false;
    for (int32_t d = 0; d < last; d++)
        if (a->strides[d] % width != 0) return false;
    return true;
}

static int widest(const plan_kernel *k) {
    size_t size = 1;
    for (uint32_t i = 0; i < k->access_count; i++) {
        const plan_access *a = &k->accesses[i];
        if (access_is_memory(a) && a->strides[k->rank - 1] == 1 && type_size(a->type) > size)
            size = type_size(a->type);
    }
    return size > 2 ? (int)(16 / size) : 8;
}

static bool all_fit(const plan_kernel *k, int width) {
    if (k->dims[k->rank - 1] % width != 0) return false;
    for (uint32_t i = 0; i < k->access_count; i++)
        if (access_is_memory(&k->accesses[i]) && !fits(k, &k->accesses[i], width)) return false;
    return true;
}

int emit_vector_width(const emitter *e) {
    const plan_kernel *k = e->kernel;
    if (k->rank == 0) return 0;
    for (uint32_t i = 0; i < k->store_count; i++)
        if (!access_is_dense(e, &k->accesses[k->stores[i].access])) return 0;
    for (int width = widest(k); width > 0; width /= 2)
        if (all_fit(k, width)) return width;
    return 0;
}

// Loads that a thread makes of one vector's elements.
static int dense_loads(const emitter *e) {
    int count = 0;
    for (uint32_t i = 0; i < e->kernel->step_count; i++) {
        const expr_step *s = &e->kernel->steps[i];
        count += step_loads(e->kernel, s) && access_is_dense(e, &e->kernel->accesses[s->index]);
    }
    return count;
}

// Indices of vector number t; that of the last axis is called at.
static void vector_indices(emitter *e, int width) {
    int32_t last = e->kernel->rank - 1, axes[EMLX_MAX_RANK];
    if (last == 0) {
        EMIT("  const X at = t * %d;\n", width);
        return;
    }
    int64_t vectors = e->kernel->dims[last] / width;
    EMIT("  const X row = ");
    emit_quotient(e, "t", vectors);
    EMIT(", at = (t - row * (X)p.w[%u]) * %d;\n", code_word(e->code, vectors), width);
    for (int32_t d = 0; d < last; d++) axes[d] = d;
    emit_indices(e, "row", axes, last);
}

static void vector_loads(emitter *e, int width) {
    const plan_kernel *k = e->kernel;
    int32_t last = k->rank - 1;
    EMIT("  const X i%d = at;\n", (int)last);
    for (uint32_t i = 0; i < k->step_count; i++) {
        const expr_step *s = &k->steps[i];
        const plan_access *a = &k->accesses[s->index];
        if (!step_loads(k, s) || !access_is_dense(e, a)) continue;
        EMIT("  q%u[u] = *(const Vector<T_%s,%d> *)(b%u + ", s->index, type_text(s->type), width,
             s->index);
        emit_offset(e, a, "");
        EMIT(");\n");
    }
}

static void vector_stores(emitter *e, int width) {
    const plan_kernel *k = e->kernel;
    EMIT("  const X i%d = at;\n", (int)k->rank - 1);
    for (uint32_t i = 0; i < k->store_count; i++) {
        EMIT("  *(Vector<T_%s,%d> *)(b%u + ", type_text(k->steps[k->stores[i].step].type), width,
             k->stores[i].access);
        emit_offset(e, &k->accesses[k->stores[i].access], "");
        EMIT(") = o%u;\n", i);
    }
}

// The loop over the vectors of a thread, with t and the indices.
static void vector_loop(emitter *e, int width, int count, uint32_t vectors) {
    EMIT(" _Pragma(\"unroll\") for (int u = 0; u < %d; u++) {\n"
         "  const X t = blockIdx.x * (X)%d + u * 256 + threadIdx.x;\n"
         "  if (t >= p.w[%u]) break;\n",
         count, count * BLOCK, vectors);
    vector_indices(e, width);
}

static void map_vectors(emitter *e, int width, int64_t elements) {
    static const emit_loads loads = {.text = "q$[u].x[j]", .holds = access_is_dense};
    const plan_kernel *k = e->kernel;
    int64_t vectors = elements / width;
    int many = dense_loads(e), count = vectors < VECTORS_MANY || many >= 4 ? 1 : 2;
    uint32_t word = code_word(e->code, vectors);
    for (uint32_t i = 0; i < k->step_count; i++) {
        const expr_step *s = &k->steps[i];
        if (step_loads(k, s) && access_is_dense(e, &k->accesses[s->index]))
            EMIT(" Vector<T_%s,%d> q%u[%d];\n", type_text(s->type), width, s->index, count);
    }
    vector_loop(e, width, count, word);
    vector_loads(e, width);
    EMIT(" }\n");
    vector_loop(e, width, count, word);
    for (uint32_t i = 0; i < k->store_count; i++)
        EMIT("  Vector<T_%s,%d> o%u;\n", type_text(k->steps[k->stores[i].step].type), width, i);
    EMIT("  _Pragma(\"unroll\") for (int j = 0; j < %d; j++) {\n  const X i%d = at + j;\n", width,
         (int)k->rank - 1);
    emit_steps(e, &loads, "");
    for (uint32_t i = 0; i < k->store_count; i++) EMIT("  o%u.x[j] = v%u;\n", i, k->stores[i].step);
    EMIT("  }\n");
    vector_stores(e, width);
    EMIT(" }\n}\n");
    code_launch_add(e->code, 'k', (vectors + count - 1) / count, 0);
}

// Tiles -------------------------------------------------------------------------------------------

// Whether an operand lies along axis `across` and steps along the last one.
static bool crosses(const emitter *e, const plan_access *a) {
    int64_t step = a->strides[e->kernel->rank - 1];
    return access_is_memory(a) && a->strides[e->across] == 1 && (step > 1 || step < -1);
}

static bool load_crosses(const emitter *e, uint32_t step) {
    const expr_step *s = &e->kernel->steps[step];
    return s->kind == EXPR_LOAD && crosses(e, &e->kernel->accesses[s->index]);
}

// The axis to cross: e->across; false when no operand crosses, or too many to be held.
static bool find_across(emitter *e, int *loads, size_t *size) {
    const plan_kernel *k = e->kernel;
    for (int32_t d = k->rank - 2; d >= 0; d--) {
        *loads = 0;
        *size = 1;
        e->across = d;
        for (uint32_t i = 0; i < k->step_count; i++) {
            if (!load_crosses(e, i)) continue;
            (*loads)++;
            if (type_size((emlx_type)k->steps[i].type) > *size)
                *size = type_size((emlx_type)k->steps[i].type);
        }
        if (*loads > 0) return *loads <= 5 && k->dims[d] >= 16 && k->dims[k->rank - 1] >= 16;
    }
    return false;
}

// Indices of a block's tile: where it begins along both axes, and the other axes.
static void tile_indices(emitter *e, int side, int64_t *tiles) {
    const plan_kernel *k = e->kernel;
    int32_t last = k->rank - 1, axes[EMLX_MAX_RANK], count = 0;
    int64_t columns = (k->dims[last] + side - 1) / side;
    int64_t rows = (k->dims[e->across] + side - 1) / side;
    *tiles = rows * columns;
    EMIT(" const X tile = blockIdx.x, up = ");
    emit_quotient(e, "tile", columns);
    EMIT(", C0 = (tile - up * (X)p.w[%u]) * %d, other = ", code_word(e->code, columns), side);
    emit_quotient(e, "up", rows);
    EMIT(", R0 = (up - other * (X)p.w[%u]) * %d;\n", code_word(e->code, rows), side);
    for (int32_t d = 0; d < last; d++)
        if (d != e->across) {
            axes[count++] = d;
            *tiles *= k->dims[d];
        }
    emit_indices(e, "other", axes, count);
}

// The loop over a thread's elements of a tile; `row` and `column` say what moves with the loop.
static void tile_loop(emitter *e, int side, const char *row, const char *column) {
    int32_t last = e->kernel->rank - 1;
    EMIT(" _Pragma(\"unroll\") for (int jj = 0; jj < %d; jj += %d) {\n"
         "  const int j = jj + ty;\n  const X i%d = R0 + %s, i%d = C0 + %s;\n"
         "  if (i%d < (X)p.w[%u] && i%d < (X)p.w[%u]) {\n",
         side, BLOCK / side, (int)e->across, row, (int)last, column, (int)e->across,
         code_word(e->code, e->kernel->dims[e->across]), (int)last,
         code_word(e->code, e->kernel->dims[last]));
}

static void map_tiles(emitter *e, int loads, size_t size) {
    static const emit_loads held = {.text = "s$[tx][j]", .holds = crosses};
    const plan_kernel *k = e->kernel;
    int side = size > 4 || loads > 2 ? 32 : 64;
    int64_t tiles;
    for (uint32_t i = 0; i < k->step_count; i++)
        if (load_crosses(e, i))
            EMIT(" __shared__ T_%s s%u[%d][%d];\n", type_text(k->steps[i].type), k->steps[i].index,
                 side, side + 1);
    EMIT(" const int tx = threadIdx.x %% %d, ty = threadIdx.x / %d;\n", side, side);
    tile_indices(e, side, &tiles);
    tile_loop(e, side, "tx", "j");
    for (uint32_t i = 0; i < k->step_count; i++) {
        if (!load_crosses(e, i)) continue;
        EMIT("   s%u[j][tx] = b%u[", k->steps[i].index, k->steps[i].index);
        emit_offset(e, &k->accesses[k->steps[i].index], "");
        EMIT("];\n");
    }
    EMIT(" }}\n __syncthreads();\n");
    tile_loop(e, side, "j", "tx");
    emit_steps(e, &held, "");
    emit_stores(e);
    EMIT(" }}\n}\n");
    code_launch_add(e->code, 'k', tiles * BLOCK, 0);
}

// Elements ----------------------------------------------------------------------------------------

static void map_elements(emitter *e, int64_t elements) {
    int32_t axes[EMLX_MAX_RANK];
    for (int32_t d = 0; d < e->kernel->rank; d++) axes[d] = d;
    emit_loop(e, elements);
    EMIT("  const X n = t;\n");
    emit_indices(e, "n", axes, e->kernel->rank);
    emit_steps(e, NULL, "");
    emit_stores(e);
    EMIT(" }\n}\n");
}

void emit_map(emitter *e) {
    int64_t elements = axes_product(e->kernel->dims, e->kernel->rank);
    int loads = 0;
    size_t size = 1;
    if (elements == 0) return;
    int width = emit_vector_width(e);
    emit_function(e, 'k', BLOCK);
    emit_bases(e);
    emit_fixed(e);
    if (width > 0 && elements / width >= VECTORS_FEWEST)
        map_vectors(e, width, elements);
    else if (elements >= VECTORS_FEWEST && find_across(e, &loads, &size))
        map_tiles(e, loads, size);
    else
        map_elements(e, elements);
}
