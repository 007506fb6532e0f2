// SPDX-License-Identifier: Apache-2.0
// sort.c - stable sorts: tiles are sorted in shared memory, then merged, twice as long each time;
// long lines are sorted by the digits of their keys.
#include "engines/cuda/text/index/sorting.h"

#include <stdio.h>

#include "base/types.h"

enum {
    ITEMS = 8, // keys a thread
    SMALL = 32,
    LARGE = 256, // threads of a block
    SHORT = 512,
    LONG = 1 << 14, // a pass over digits is three launches
    LONG_OF_WIDE = 1 << 19,
    COUNTED = 8192, // keys that a block holds to count them
    COUNTS_MOST = 1 << 26,
    FEW_KEYS = 1 << 17, // for which larger tiles are too few
    FIRST_OF = 1024     // elements of which some may be wanted
};

static int64_t up_to_line(int64_t bytes) { return (bytes + 255) / 256 * 256; }

// Two buffers of keys and places behind them, at the end of working memory.
typedef struct sort_buffers {
    int64_t at, half, keys_size;
    uint32_t length, turn, first, second, places; // words
} sort_buffers;

static sort_buffers make_buffers(emitter *e, const sorting *s, bool both) {
    int64_t room = s->lines * s->length;
    sort_buffers b = {.at = (int64_t)e->code->scratch};
    b.keys_size = up_to_line(room * (int64_t)s->key_size);
    b.half = b.keys_size + up_to_line(room * 4);
    b.length = code_word(e->code, s->length);
    b.turn = code_word(e->code, 0);
    b.first = code_patch_word(e->code, PATCH_SCRATCH, 0, b.at);
    b.second = code_patch_word(e->code, PATCH_SCRATCH, 0, b.at + b.half);
    b.places = code_word(e->code, b.keys_size);
    e->code->scratch += (size_t)(both ? 2 * b.half : b.half);
    return b;
}

static void add_pass(emitter *e, const sort_buffers *b, char suffix, int threads, int64_t blocks,
                     int pass) {
    code_launch *launch = code_launch_add(e->code, suffix, 1, 0);
    launch->block = (uint32_t)threads;
    launch->grid_x = blocks;
    launch->word = b->turn;
    launch->turn = pass;
}

static void set_sorted(emitter *e, sorting *s, const sort_buffers *b, bool second) {
    s->keys = second ? b->second : b->first;
    s->places =
        code_patch_word(e->code, PATCH_SCRATCH, 0, b->at + b->keys_size + (second ? b->half : 0));
}

static void sort_by_merging(emitter *e, sorting *s) {
    int threads = s->length <= SMALL * ITEMS ? SMALL : LARGE, tile = threads * ITEMS, passes = 0;
    int64_t tiles = (s->length + tile - 1) / tile;
    while ((int64_t)1 << passes < tiles) passes++;
    sort_buffers b = make_buffers(e, s, passes > 0);
    emit_function(e, 'b', threads);
    EMIT(" sort_tile<Key@, %d, %d>(p, p.w[%u], p.w[%u], p.w[%u]);\n}\n", threads, ITEMS, b.length,
         b.first, b.places);
    add_pass(e, &b, 'b', threads, tiles * s->lines, 0);
    if (passes > 0) {
        emit_function(e, 't', threads);
        EMIT(" merge_runs<Key@::K, %d, %d>(p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
             threads, ITEMS, b.length, b.turn, b.first, b.second, b.places);
    }
    for (int pass = 0; pass < passes; pass++) add_pass(e, &b, 't', threads, tiles * s->lines, pass);
    set_sorted(e, s, &b, passes % 2 == 1);
}

static const char *out_text(const sorting *s) { return s->puts ? "Out@" : "Kept"; }

static void sort_by_digits(emitter *e, sorting *s) {
    int items = s->lines * s->length < FEW_KEYS ? 4 : s->key_size > 4 ? 8 : 16;
    int passes = (s->key_bits + 7) / 8;
    int64_t tiles = (s->length + LARGE * items - 1) / (LARGE * items), counts = s->lines * 256;
    sort_buffers b = make_buffers(e, s, passes > 1);
    uint32_t counts_word = code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch);
    uint32_t totals_word =
        code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch + counts * tiles * 4);
    int64_t others = counts * (tiles + 1), tells = others + s->lines * tiles;
    uint32_t others_word =
        code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch + others * 4);
    uint32_t tells_word =
        code_patch_word(e->code, PATCH_SCRATCH, 0, (int64_t)e->code->scratch + tells * 4);
    e->code->scratch += (size_t)up_to_line((tells + s->lines) * 4);
    e->code->parts |= PART_RADIX;
    emit_function(e, 'b', LARGE);
    EMIT(" radix_count<Key@, %d>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         items, b.length, b.turn, b.first, b.second, counts_word, others_word);
    emit_function(e, 'd', LARGE);
    uint32_t tiles_word = code_word(e->code, tiles);
    EMIT(" radix_add(p.w[%u], p.w[%u], p.w[%u]);\n"
         " if (Key@::TELLS && p.w[%u] == 0) radix_tells(p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         counts_word, totals_word, tiles_word, b.turn, others_word, tells_word, tiles_word);
    emit_function(e, 't', LARGE);
    EMIT(" radix_move<Key@, %s, %d>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], p.w[%u], "
         "p.w[%u], p.w[%u], p.w[%u]);\n}\n",
         out_text(s), items, b.length, b.turn, b.first, b.second, b.places, counts_word,
         totals_word, tells_word, code_word(e->code, passes - 1));
    s->put = s->puts;
    for (int pass = 0; pass < passes; pass++) {
        add_pass(e, &b, 'b', LARGE, tiles * s->lines, pass);
        add_pass(e, &b, 'd', LARGE, counts, pass);
        add_pass(e, &b, 't', LARGE, tiles * s->lines, pass);
    }
    set_sorted(e, s, &b, passes % 2 == 0);
}

// A line that a block holds.
static void sort_by_lines(emitter *e, sorting *s) {
    int items = s->length <= LARGE * 4 ? 4 : s->length <= LARGE * 8 ? 8 : 16;
    sort_buffers b = make_buffers(e, s, false);
    e->code->parts |= PART_RADIX;
    emit_function(e, 'b', LARGE);
    EMIT(" radix_line<Key@, %s, %d>(p, p.w[%u], p.w[%u], p.w[%u], p.w[%u]);\n}\n", out_text(s),
         items, b.length, code_word(e->code, (s->key_bits + 7) / 8), b.first, b.places);
    s->put = s->puts;
    add_pass(e, &b, 'b', LARGE, s->lines, 0);
    set_sorted(e, s, &b, false);
    if (s->put) e->code->scratch = (size_t)b.at;
}

static bool counts(const sorting *s) {
    return s->key_size <= 4 && s->length > SHORT && s->length <= COUNTED &&
           s->lines * s->length * s->length <= COUNTS_MOST;
}

static void sort_by_counting(emitter *e, sorting *s) {
    sort_buffers b = make_buffers(e, s, false);
    e->code->parts |= PART_RADIX;
    emit_function(e, 'b', LARGE);
    EMIT(" sort_counting<Key@, %s, %d>(p, p.w[%u], p.w[%u], p.w[%u]);\n}\n", out_text(s), COUNTED,
         b.length, b.first, b.places);
    add_pass(e, &b, 'b', LARGE, s->lines * ((s->length + 31) / 32), 0);
    set_sorted(e, s, &b, false);
    s->put = s->puts;
    if (s->put) e->code->scratch = (size_t)b.at;
}

// The first ones of pieces of a line, then of what these gave, until a piece is all of it. Every
// turn has words of its own, one behind another, and all are launches of one function.
static void emit_first(emitter *e, sorting *s, int64_t keep) {
    enum { ITEMS_OF_FIRST = 16, PIECE = LARGE * ITEMS_OF_FIRST, TURN_WORDS = 7 };
    int64_t length = s->length, pieces = (length + PIECE - 1) / PIECE, first_room = 0;
    int64_t at = (int64_t)e->code->scratch, from_keys = -1, from_loads = -1;
    uint32_t turn_word = code_word(e->code, 0), words = e->code->word_count;
    e->code->parts |= PART_RADIX;
    emit_function(e, 'b', LARGE);
    EMIT(" const int at = %u + %d * (int)p.w[%u];\n"
         " first_keys<Key@, %d>(p, p.w[at], p.w[at + 1], p.w[at + 2], p.w[at + 3], p.w[at + 4], "
         "p.w[at + 5], p.w[at + 6]);\n}\n",
         words, TURN_WORDS, turn_word, ITEMS_OF_FIRST);
    for (int turn = 0;; turn++) {
        int64_t room = s->lines * pieces * keep,
                key_bytes = up_to_line(room * (int64_t)s->key_size);
        code_word(e->code, length);
        code_word(e->code, keep);
        code_word(e->code, pieces);
        for (int i = 0; i < 2; i++) {
            int64_t from = i == 0 ? from_keys : from_loads;
            if (from < 0)
                code_word(e->code, 0);
            else
                code_patch_word(e->code, PATCH_SCRATCH, 0, from);
        }
        s->keys = code_patch_word(e->code, PATCH_SCRATCH, 0, at);
        s->places = code_patch_word(e->code, PATCH_SCRATCH, 0, at + key_bytes);
        code_launch *launch = code_launch_add(e->code, 'b', 1, 0);
        launch->block = LARGE;
        launch->grid_x = s->lines * pieces;
        launch->word = turn_word;
        launch->turn = turn;
        from_keys = at;
        from_loads = at + key_bytes;
        first_room += key_bytes + up_to_line(room * 4);
        at += key_bytes + up_to_line(room * 4);
        if (pieces == 1) break;
        length = pieces * keep;
        pieces = (length + PIECE - 1) / PIECE;
    }
    e->code->scratch += (size_t)first_room;
}

static bool sorts_first(const sorting *s, int64_t keep) {
    return keep <= LARGE / 2 && keep * 8 <= s->length && s->length >= FIRST_OF;
}

// Passes over digits are as many however long a line is; merges are more the longer it is.
void emit_sorting(emitter *e, sorting *s) {
    bool narrow = s->key_size <= 4;
    if (counts(s))
        sort_by_counting(e, s);
    else if (narrow && s->length > SHORT && s->length <= LARGE * 16)
        sort_by_lines(e, s);
    else if (s->length > (narrow && s->key_bits <= 16 ? LARGE * 16 : narrow ? LONG : LONG_OF_WIDE))
        sort_by_digits(e, s);
    else
        sort_by_merging(e, s);
}

// A key orders as unsigned numbers do: NaN above everything, both zeros as one.
static void key_text(char out[256], int type) {
    size_t size = type_size((emlx_type)type);
    int bits = (int)size * 8, digits = type_table[type].digits;
    if (type_class_of((emlx_type)type) == CLASS_UNSIGNED)
        snprintf(out, 256, "(K)x");
    else if (type_class_of((emlx_type)type) == CLASS_SIGNED)
        snprintf(out, 256, "(K)(bits_of<%s>(x) ^ ((K)1 << %d))", raw_type(size), bits - 1);
    else if (type == EMLX_F8_E4M3FN)
        snprintf(out, 256, "(x & 0x7f) == 0x7f ? (K)0xff : (K)float_key(x, 8, 0)");
    else
        snprintf(out, 256, "(K)float_key(bits_of<%s>(x), %d, %d)", raw_type(size), bits,
                 digits - 1);
}

// A sort along an axis: words of the operand, the line's length and how far its elements are apart.
typedef struct sort_axis {
    int type;
    size_t size;
    int64_t inner;
    bool indices, carried; // a number that is small enough goes along with its key, else its place
    uint32_t in, length_word, inner_word, keep_word;
} sort_axis;

// The bits of a number from its key, but for zeros below zero and NaN.
static void emit_told(emitter *e, const sort_axis *s, bool descending) {
    unsigned sign = s->carried ? 1u << (s->size * 8 - 1) : 0;
    EMIT(" static const bool TELLS = %s;\n"
         " static METHOD unsigned told(K key) {\n  const unsigned k = (unsigned)%skey;\n  return ",
         truth_text(s->carried), descending ? "~" : "");
    if (!s->carried || type_class_of((emlx_type)s->type) == CLASS_UNSIGNED)
        EMIT("k");
    else if (type_class_of((emlx_type)s->type) == CLASS_SIGNED)
        EMIT("k ^ %uu", sign);
    else
        EMIT("k & %uu ? k ^ %uu : %uu | (%uu - k)", sign, sign, sign, sign - 1);
    EMIT(";\n }\n");
}

// The struct that gives a line's keys, and what goes with them.
static void emit_sort_keys(emitter *e, const sort_axis *s, size_t key_size, bool descending) {
    char key[256];
    uint32_t i = s->inner_word;
    key_text(key, s->type);
    EMIT("struct Key@ {\n typedef %s K;\n typedef T_%s T;\n"
         " static METHOD ll base(const Words<#> &p, ll line, ll length) {\n",
         raw_type(key_size), type_text(s->type));
    if (s->inner == 1)
        EMIT("  return line * length;\n }\n");
    else
        EMIT("  return line / p.w[%u] * p.w[%u] * length + line %% p.w[%u];\n }\n", i, i, i);
    EMIT(" static METHOD K key(const Words<#> &p, ll line, ll i) {\n"
         "  const T x = ((const T *)p.w[%u])[base(p, line, p.w[%u]) + i * p.w[%u]];\n"
         "  const K k = %s;\n  return %sk;\n }\n"
         " static METHOD unsigned load(const Words<#> &p, ll line, ll i) {\n",
         s->in, s->length_word, i, key, descending ? "~" : "");
    if (s->carried)
        EMIT("  return ((const %s *)p.w[%u])[base(p, line, p.w[%u]) + i * p.w[%u]];\n }\n",
             raw_type(s->size), s->in, s->length_word, i);
    else
        EMIT("  return (unsigned)i;\n }\n");
    emit_told(e, s, descending);
    EMIT("};\n");
}

// A result where all of a line is wanted, and lines lie one after another.
static void emit_out(emitter *e, const sort_axis *s) {
    uint32_t to = output_word(e);
    EMIT("struct Out@ {\n template <class K, class W>\n"
         " static METHOD void put(const W &p, ll, ll, ll line, ll place, K, unsigned load) {\n"
         "  ((%s *)p.w[%u])[place] = ",
         s->indices ? "ll" : raw_type(s->size), to);
    if (s->indices || s->carried)
        EMIT("load;\n }\n};\n");
    else
        EMIT("((const %s *)p.w[%u])[line * p.w[%u] + load];\n }\n};\n", raw_type(s->size), s->in,
             s->length_word);
}

// Results in the order of memory, where neighbours are neighbours of the innermost axes.
// `line`: the word with how far sorted lines are apart.
static void emit_sorted(emitter *e, const sort_axis *s, const sorting *order, int64_t keep,
                        uint32_t line) {
    uint32_t i = s->inner_word, k = s->keep_word, to = output_word(e);
    emit_function(e, 'w', 256);
    emit_loop(e, order->lines * keep)->suffix = 'w';
    if (order->lines == 1) {
        EMIT("  const ll rank = t, line = 0;\n");
    } else if (s->inner == 1) {
        EMIT("  const X n = t, of = ");
        emit_quotient(e, "n", keep);
        EMIT(";\n  const ll line = of, rank = n - of * (X)p.w[%u];\n", k);
    } else {
        EMIT("  const X n = t, up = ");
        emit_quotient(e, "n", s->inner);
        EMIT(", in = n - up * (X)p.w[%u], out = ", i);
        emit_quotient(e, "up", keep);
        EMIT(";\n  const ll rank = up - out * (X)p.w[%u], line = out * p.w[%u] + in;\n", k, i);
    }
    EMIT("  const ll place = ((const T_u32 *)p.w[%u])[line * p.w[%u] + rank];\n"
         "  ((%s *)p.w[%u])[t] = ",
         order->places, line, s->indices ? "ll" : raw_type(s->size), to);
    if (s->indices || s->carried)
        EMIT("place;\n }\n}\n");
    else
        EMIT("((const %s *)p.w[%u])[Key@::base(p, line, p.w[%u]) + place * p.w[%u]];\n }\n}\n",
             raw_type(s->size), s->in, s->length_word, i);
}

void emit_sort(emitter *e) {
    const plan_kernel *k = e->kernel;
    const sort_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    int64_t count = emlx_shape_count(shape), length = shape->dims[p->axis];
    sort_axis s = {.type = k->accesses[0].type, .inner = 1, .indices = p->indices};
    s.size = type_size((emlx_type)s.type);
    s.carried = !p->indices && s.size <= 4;
    if (type_is_complex((emlx_type)s.type)) e->refused = "a sort of complex numbers";
    if (count == 0 || p->keep == 0) return;
    for (int32_t d = p->axis + 1; d < shape->rank; d++) s.inner *= shape->dims[d];
    sorting order = {.lines = count / length,
                     .length = length,
                     .key_size = s.size > 4 ? 8 : 4,
                     .key_bits = (int)s.size * 8};
    s.in = operand_word(e, 0);
    s.length_word = code_word(e->code, length);
    s.inner_word = code_word(e->code, s.inner);
    s.keep_word = code_word(e->code, p->keep);
    e->code->parts |= PART_SORT;
    e->wide = count > INDEX_MOST;
    emit_sort_keys(e, &s, order.key_size, p->descending);
    order.puts = s.inner == 1 && p->keep == length;
    if (order.puts) emit_out(e, &s);
    uint32_t line_word = s.length_word;
    if (sorts_first(&order, p->keep)) {
        emit_first(e, &order, p->keep);
        line_word = s.keep_word;
    } else {
        emit_sorting(e, &order);
    }
    if (!order.put) emit_sorted(e, &s, &order, p->keep, line_word);
}
