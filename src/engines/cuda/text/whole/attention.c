// SPDX-License-Identifier: Apache-2.0
// attention.c - attention in one pass. Rows of queries are many, or few enough to read each group's
// keys once for all of its heads; numbers of two bytes go through tensor cores, f32 does not.
#include <stdio.h>
#include <string.h>

#include "base/shape.h"
#include "base/types.h"
#include "engines/cuda/text/emit.h"
#include "engines/cuda/text/whole/whole.h"

enum {
    SIZE_MOST = 256, // elements of a head
    FEW_ROWS = 16,
    FEW_KEYS = 64, // of a tile
    FEW_THREADS = 128,
    FEW_BLOCKS = 396, // that fill a card
    SPLITS_MOST = 32, // a lane each
    SPLIT_TILES = 2,  // as long as which a block takes that has nothing to do
    ROWS = 128,       // of a block, where they are many
    ROWS_THREADS = 256,
    PLAIN_SIDE = 64
};

#define SMALL_WORK (double)(1 << 20)
#define LOG2_E 1.4426950408889634

typedef struct attention {
    const either_params *params;
    int64_t batch, heads, groups, queries, keys, size, width;
    int type;
    int padded_size, padded_width, tile;
    bool few, plain, masked, limited;
    int64_t splits, span;
    uint32_t words;                         // the first of those that attention.cu knows by number
    uint32_t offset, mask, key_mask, sinks; // operands
} attention;

// Taking ------------------------------------------------------------------------------------------

static bool is_known(emlx_type type) {
    return type == EMLX_F32 || type == EMLX_F16 || type == EMLX_BF16;
}

static int tile_keys(int64_t size, int64_t width) { return size > 128 || width > 128 ? 32 : 64; }

static int64_t tile_bytes(int64_t rows, int64_t columns) {
    return round_up(columns, 64) * rows * 2;
}

// Shared memory of a block.
static int64_t room_of(const attention *a) {
    if (a->plain) {
        int64_t step = a->padded_size + 4;
        int64_t other = step > a->padded_width ? step : a->padded_width;
        return (step + other + PLAIN_SIDE + 4) * PLAIN_SIDE * 4;
    }
    int64_t rows = a->few ? FEW_ROWS : ROWS;
    int64_t tiles = tile_bytes(rows, a->size) +
                    2 * (tile_bytes(a->tile, a->size) + tile_bytes(a->tile, a->width));
    int64_t sums = a->few ? 4 * FEW_ROWS * (a->padded_width + 2) * 4 : 0;
    return tiles > sums ? tiles : sums;
}

static void set_sizes(attention *a, const emlx_shape *q, const emlx_shape *k, const emlx_shape *v) {
    a->batch = q->dims[0];
    a->heads = q->dims[1];
    a->queries = q->dims[2];
    a->size = q->dims[3];
    a->groups = k->dims[1];
    a->keys = k->dims[2];
    a->width = v->dims[3];
    a->plain = a->type == EMLX_F32;
    a->few = !a->plain && a->heads / a->groups * a->queries <= FEW_ROWS;
    a->tile = a->few ? FEW_KEYS : tile_keys(a->size, a->width);
    a->padded_size = (int)round_up(a->size, 16);
    a->padded_width = (int)round_up(a->width, a->plain ? 64 : 16);
}

static bool is_mask(emlx_type type) { return type_is_integer(type) || is_known(type); }

// Heads of up to 256 elements of one type, for which a block's memory has room.
bool attention_suits(const emlx_tensor *either, int64_t shared_most) {
    const either_params *p = either->params;
    emlx_tensor *const *in = either->inputs + 1;
    attention a = {.params = p, .type = either->type};
    bool fits = is_known(either->type);
    for (int i = 0; i < 3; i++) fits = fits && in[i]->type == either->type;
    size_t at = 3 + ((p->bits & ATTENTION_OFFSET) != 0);
    if (p->bits & ATTENTION_MASK) fits = fits && is_mask(in[at++]->type);
    if (p->bits & ATTENTION_KEY_MASK) fits = fits && type_is_integer(in[at++]->type);
    if (p->bits & ATTENTION_SINKS) fits = fits && is_known(in[at]->type);
    set_sizes(&a, &in[0]->shape, &in[1]->shape, &in[2]->shape);
    return fits && a.size > 0 && a.size <= SIZE_MOST && a.width <= SIZE_MOST &&
           a.keys + a.queries < INT32_MAX / 2 && room_of(&a) <= shared_most;
}

// Operands ----------------------------------------------------------------------------------------

// The stride of the last axes, of which there are up to four; 0 where an axis has one element.
static int64_t stride_of(const plan_kernel *k, uint32_t i, int axis) {
    int d = axis - (4 - k->shapes[i].rank);
    return d < 0 || k->shapes[i].dims[d] == 1 ? 0 : k->accesses[i].strides[d];
}

// Whether rows can be brought sixteen bytes at a time.
static bool is_vector(const plan_kernel *k, uint32_t i) {
    const plan_access *a = &k->accesses[i];
    bool fits = k->shapes[i].dims[3] % 8 == 0 && stride_of(k, i, 3) == 1 && a->offset % 8 == 0;
    for (int d = 0; d < 3; d++) fits = fits && stride_of(k, i, d) % 8 == 0;
    for (uint32_t s = 0; s < a->start_count; s++) fits = fits && a->starts[s].stride % 8 == 0;
    return fits;
}

// An element of an operand, as a number of f32.
static void emit_element(emitter *e, uint32_t i, const char *const indices[4], int axes) {
    char cast[CAST_TEXT], name[16];
    int type = e->kernel->accesses[i].type;
    snprintf(name, sizeof name, "m%u", i);
    EMIT("  const T_%s %s = ((const T_%s *)", type_text(type), name, type_text(type));
    emit_address(e, i);
    EMIT(")[0");
    for (int d = 4 - axes; d < 4; d++)
        if (stride_of(e->kernel, i, d) != 0)
            EMIT("+(ll)%s*p.w[%u]", indices[d], code_word(e->code, stride_of(e->kernel, i, d)));
    EMIT("];\n");
    if (type_is_integer((emlx_type)type))
        EMIT("  const bool f%u = %s != 0;\n", i, name);
    else
        EMIT("  const float f%u = %s;\n", i, cast_text(cast, type, EMLX_F32, name));
}

// What is computed --------------------------------------------------------------------------------

static float step_of(const attention *a) {
    return a->masked ? 1 : (float)(a->params->n[0] * LOG2_E);
}

// How many keys query 0 sees. Large numbers mean all keys, so that sums cannot wrap.
static void emit_limit(emitter *e, const attention *a) {
    int64_t bound = a->keys + a->queries, first = a->params->count;
    EMIT(" static METHOD int limit(const Words<#> &p, int batch) {\n  ll limit = p.w[%u];\n",
         code_word(e->code, a->keys));
    if (a->params->bits & ATTENTION_CAUSAL) {
        first = first > bound ? bound : first < -bound ? -bound : first;
        uint32_t word = code_word(e->code, first + 1);
        EMIT("  if (p.w[%u] < limit) limit = p.w[%u];\n", word, word);
    }
    if (a->params->bits & ATTENTION_OFFSET) {
        const plan_access *o = &e->kernel->accesses[a->offset];
        const char *type = type_text(o->type);
        bool is_unsigned = type_class_of(o->type) == CLASS_UNSIGNED;
        EMIT("  const T_%s o = ((const T_%s *)", type, type);
        emit_address(e, a->offset);
        EMIT(")[batch * p.w[%u]];\n  const ll bound = p.w[%u];\n",
             code_word(e->code, stride_of(e->kernel, a->offset, 3)), code_word(e->code, bound));
        if (is_unsigned)
            EMIT("  const ll at = (ull)o > (ull)bound ? bound : (ll)o;\n");
        else
            EMIT("  const ll at = (ll)o > bound ? bound : (ll)o < -bound ? -bound : (ll)o;\n");
        EMIT("  if (at + 1 < limit) limit = at + 1;\n");
    }
    EMIT("  return (int)limit;\n }\n");
}

// Scores in units of a power of two, without what is hidden.
static void emit_score(emitter *e, const attention *a) {
    static const char *const places[] = {"batch", "head", "query", "key"};
    static const char *const of_key[] = {"", "", "batch", "key"};
    float unit = (float)(a->params->n[0] * LOG2_E);
    EMIT(" static METHOD float score(const Words<#> &p, int batch, int head, int query, int key, "
         "float x) {\n  x *= (float)*(const double *)&p.w[%u];\n",
         code_double(e->code, unit));
    if (a->params->bits & ATTENTION_MASK) {
        emit_element(e, a->mask, places, 4);
        if (type_is_integer(e->kernel->accesses[a->mask].type))
            EMIT("  x = f%u ? x : HIDDEN;\n", a->mask);
        else
            EMIT("  x += f%u * LOG2_E;\n  x = x < HIDDEN ? HIDDEN : x;\n", a->mask);
    }
    if (a->params->bits & ATTENTION_KEY_MASK) {
        emit_element(e, a->key_mask, of_key, 2);
        EMIT("  x = f%u ? x : HIDDEN;\n", a->key_mask);
    }
    EMIT("  return x;\n }\n");
}

static void emit_sink(emitter *e, const attention *a) {
    static const char *const of_head[] = {"", "", "", "head"};
    EMIT(" static METHOD float sink(const Words<#> &p, int head) {\n");
    emit_element(e, a->sinks, of_head, 1);
    EMIT("  return f%u * (float)*(const double *)&p.w[%u];\n }\n", a->sinks,
         code_double(e->code, LOG2_E / (double)step_of(a)));
}

// The product of 64 rows that four warps have in registers and 16 lines of a tile in shared memory,
// added to `columns` sums a row: an instruction with as many operands as there are.
static void emit_group_product(emitter *e, const char *name, int columns, const char *type,
                               bool turned) {
    int count = columns / 2;
    EMIT(" static METHOD void %s(float (&d)[%d][4], const unsigned (&a)[4], ull b, int add) {\n"
         "  asm volatile(\"{ .reg .pred p; setp.ne.b32 p, %%%d, 0; "
         "wgmma.mma_async.sync.aligned.m64n%dk16.f32.%s.%s {",
         name, columns / 8, count + 5, columns, type, type);
    for (int i = 0; i < count; i++) EMIT("%s%%%d", i > 0 ? "," : "", i);
    EMIT("}, {%%%d,%%%d,%%%d,%%%d}, %%%d, p, 1, 1, %d; }\" : ", count, count + 1, count + 2,
         count + 3, count + 4, turned);
    for (int i = 0; i < count; i++) EMIT("%s\"+f\"(d[%d][%d])", i > 0 ? "," : "", i / 4, i % 4);
    EMIT(" : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(b), \"r\"(add));\n"
         " }\n");
}

// Weights are rounded to the values' type, which shows where values cancel; where little is
// computed, or memory limits, what they lose is added by a second product.
static bool is_exact(const attention *a) {
    return a->few ||
           (double)a->batch * (double)a->heads * (double)a->queries * (double)a->keys < SMALL_WORK;
}

static void emit_kind(emitter *e, const attention *a) {
    const plan_kernel *k = e->kernel;
    static const char *const bases[] = {"query", "key", "value"};
    const char *type = a->type == EMLX_F16 ? "f16" : "bf16";
    bool vectors = is_vector(k, 0) && is_vector(k, 1) && is_vector(k, 2);
    EMIT("struct At@ : Seen {\n typedef %s Kind;\n static const int SIZE = %d, WIDTH = %d;\n"
         " static const bool VECTORS = %s, MASKED = %s, LIMITED = %s, SINKS = %s, EXACT = %s;\n",
         a->plain               ? "F32"
         : a->type == EMLX_BF16 ? "Bf16"
                                : "F16",
         a->padded_size, a->padded_width, truth_text(vectors), truth_text(a->masked),
         truth_text(a->limited), truth_text(a->params->bits & ATTENTION_SINKS),
         truth_text(is_exact(a)));
    for (uint32_t i = 0; i < 3; i++) {
        EMIT(" static METHOD ll %s(const Words<#> &p) { return ", bases[i]);
        emit_address(e, i);
        EMIT("; }\n");
    }
    if (a->limited) emit_limit(e, a);
    if (a->masked) emit_score(e, a);
    if (a->params->bits & ATTENTION_SINKS) emit_sink(e, a);
    if (!a->plain && !a->few) {
        EMIT(" GROUP_METHODS(\n");
        emit_group_product(e, "scores", a->tile, type, false);
        emit_group_product(e, "values", a->padded_width, type, true);
        EMIT(" )\n");
    }
    EMIT("};\n");
}

// In the order of attention.cu.
static void add_words(emitter *e, attention *a) {
    kernel_code *code = e->code;
    int64_t size = (int64_t)type_size((emlx_type)a->type);
    float step = step_of(a);
    int32_t bits;
    memcpy(&bits, &step, sizeof bits);
    a->words = output_word(e);
    code_word(code, a->heads);
    code_word(code, a->groups);
    code_word(code, a->queries);
    code_word(code, a->keys);
    code_word(code, a->size);
    code_word(code, a->width);
    code_word(code, bits);
    code_word(code, a->splits);
    code_word(code, a->span);
    code_patch_word(code, PATCH_SCRATCH, 0, 0);
    for (uint32_t i = 0; i < 3; i++)
        for (int d = 0; d < 4; d++) code_word(code, stride_of(e->kernel, i, d) * size);
}

static void add_launch(emitter *e, const attention *a, int64_t blocks, uint32_t threads) {
    code_launch *launch = code_launch_add(e->code, 'k', 1, 0);
    launch->block = threads;
    launch->grid_x = blocks;
    launch->shared = (uint32_t)room_of(a);
}

static void emit_few(emitter *e, const attention *a) {
    emit_function(e, 'k', FEW_THREADS);
    EMIT(" attend_few<At@, %d, %s>(p, &p.w[%u]);\n}\n", a->tile, truth_text(a->splits > 1),
         a->words);
    add_launch(e, a, a->batch * a->groups * a->splits, FEW_THREADS);
    if (a->splits == 1) return;
    e->code->scratch = (size_t)(a->batch * a->groups * a->splits * FEW_ROWS * (a->width + 2) * 4);
    emit_function(e, 'm', 256);
    EMIT(" attend_joined<At@>(p, &p.w[%u]);\n}\n", a->words);
    code_launch_add(e->code, 'm', a->batch * a->heads * a->queries * 256, 0);
}

static void emit_many(emitter *e, const attention *a) {
    int64_t rows = a->plain ? PLAIN_SIDE : ROWS;
    emit_function_of(e, 'k', ROWS_THREADS, a->size > 64 || a->width > 64 || a->plain ? 1 : 2);
    if (a->plain)
        EMIT(" attend_plain<At@>(p, &p.w[%u]);\n}\n", a->words);
    else
        EMIT(" attend_rows<At@, %d>(p, &p.w[%u]);\n}\n", a->tile, a->words);
    add_launch(e, a, a->batch * a->heads * ((a->queries + rows - 1) / rows), ROWS_THREADS);
}

// Parts of the keys for blocks of their own, where there are few pairs of batch and group.
static void set_splits(attention *a) {
    int64_t pairs = a->batch * a->groups, tiles = (a->keys + FEW_KEYS - 1) / FEW_KEYS;
    int64_t most = tiles / 2 < SPLITS_MOST ? tiles / 2 : SPLITS_MOST, wanted = 1, best = INT64_MAX;
    for (int64_t n = 1; a->few && n <= most; n++) {
        int64_t turns = (pairs * n + FEW_BLOCKS - 1) / FEW_BLOCKS;
        int64_t time = turns * ((tiles + n - 1) / n + SPLIT_TILES);
        if (time < best) wanted = n;
        if (time < best) best = time;
    }
    a->span = (tiles + wanted - 1) / wanted * FEW_KEYS;
    a->splits = (a->keys + a->span - 1) / a->span;
}

void emit_attention(emitter *e) {
    const plan_kernel *k = e->kernel;
    attention a = {.params = k->params, .type = e->plan->values[k->output].type};
    uint32_t bits = a.params->bits, at = 3;
    set_sizes(&a, &k->shapes[0], &k->shapes[1], &k->shapes[2]);
    if (bits & ATTENTION_OFFSET) a.offset = at++;
    if (bits & ATTENTION_MASK) a.mask = at++;
    if (bits & ATTENTION_KEY_MASK) a.key_mask = at++;
    a.sinks = at;
    a.masked = bits & (ATTENTION_MASK | ATTENTION_KEY_MASK) || a.params->n[0] <= 0;
    a.limited = bits & (ATTENTION_CAUSAL | ATTENTION_OFFSET);
    set_splits(&a);
    e->code->parts |= PART_ATTENTION;
    add_words(e, &a);
    emit_kind(e, &a);
    if (a.few)
        emit_few(e, &a);
    else
        emit_many(e, &a);
}
