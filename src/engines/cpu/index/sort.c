// SPDX-License-Identifier: Apache-2.0
// sort.c - sorting along an axis: a stable radix sort of order-preserving integer keys, one code
// for all types. Values are then fetched by position, so that their bits stay as they were.
#include <string.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/run.h"

// When few elements are kept, this many more are looked at together: their items fit the cache.
#define SELECT_MIN 1024
// Elements of a long line that are gone through before others may have their turn.
#define STRETCH (1 << 17)
// Elements that are looked at in one go for one that may be kept.
enum { GLANCE = 64 };

typedef struct sort_item {
    uint64_t key;
    int64_t position;
} sort_item;

// The start of the first run of GLANCE elements from `at` on with one that comes before the one at
// `limit`; or, short of `end`, where less than such a run is left.
typedef int64_t (*sort_glance)(const void *line, int64_t at, int64_t end, int64_t limit,
                               bool descending);

typedef struct sort_work {
    const cpu_run *run;
    const sort_params *params;
    emlx_type type;
    const char *in;
    char *out;
    int64_t length, inner, lines, group;
    int64_t room;       // items held at a time
    sort_glance glance; // or NULL
    task_errors errors;
} sort_work;

// Keys ------------------------------------------------------------------------------------------

// A float as an integer of its width ordered as floats are: both zeros alike, every NaN on top.
static uint64_t float_key(uint64_t bits, unsigned width, unsigned mantissa) {
    // The mask changes nothing but tells the analyzer that the shift is defined.
    uint64_t sign = 1ull << ((width - 1) & 63), magnitude = bits & (sign - 1);
    uint64_t infinity = (sign - 1) >> mantissa << mantissa;
    if (magnitude > infinity) return sign | (sign - 1);
    if (magnitude == 0) return sign;
    return bits & sign ? (sign - 1) - magnitude : sign | magnitude;
}

// Copies of a size that the compiler knows are single loads.
static uint64_t load_bits(const char *at, size_t size) {
    uint64_t bits8;
    uint32_t bits4;
    uint16_t bits2;
    if (size == 4) return memcpy(&bits4, at, 4), bits4;
    if (size == 8) return memcpy(&bits8, at, 8), bits8;
    if (size == 2) return memcpy(&bits2, at, 2), bits2;
    return (uint8_t)*at;
}

static uint64_t find_key(emlx_type type, const char *at) {
    size_t size = type_size(type);
    uint64_t bits = load_bits(at, size);
    unsigned width = (unsigned)size * 8;
    if (type_class_of(type) == CLASS_UNSIGNED) return bits;
    if (type_class_of(type) == CLASS_SIGNED) return bits ^ (1ull << (width - 1));
    // f8_e4m3fn has no infinity: its one NaN is the largest magnitude.
    if (type == EMLX_F8_E4M3FN) return (bits & 0x7f) == 0x7f ? 0xff : float_key(bits, 8, 0);
    return float_key(bits, width, (unsigned)type_table[type].digits - 1);
}

// Sorting ---------------------------------------------------------------------------------------

static void insertion_sort(sort_item *items, int64_t n) {
    for (int64_t i = 1; i < n; i++) {
        sort_item item = items[i];
        int64_t j = i;
        for (; j > 0 && items[j - 1].key > item.key; j--) items[j] = items[j - 1];
        items[j] = item;
    }
}

// Sorts by one byte of the keys, unless they all have the same. Returns where the items are then,
// or NULL: nobody wants them.
static sort_item *radix_pass(const cpu_run *run, sort_item *from, sort_item *to, int64_t n,
                             unsigned shift) {
    int64_t starts[256] = {0}, sum = 0;
    for (int64_t i = 0; i < n;) {
        if (i > 0 && !task_goes_on(run)) return NULL;
        for (int64_t end = least(i + STRETCH, n); i < end; i++)
            starts[from[i].key >> shift & 255]++;
    }
    if (starts[from[0].key >> shift & 255] == n) return from;
    for (int b = 0; b < 256; b++) {
        int64_t count = starts[b];
        starts[b] = sum;
        sum += count;
    }
    for (int64_t i = 0; i < n;) {
        if (i > 0 && !task_goes_on(run)) return NULL;
        for (int64_t end = least(i + STRETCH, n); i < end; i++)
            to[starts[from[i].key >> shift & 255]++] = from[i];
    }
    return to;
}

static sort_item *sort_items(const cpu_run *run, sort_item *items, sort_item *spare, int64_t n,
                             size_t size) {
    if (n <= 48) {
        insertion_sort(items, n);
        return items;
    }
    for (size_t byte = 0; byte < size; byte++) {
        sort_item *sorted = radix_pass(run, items, spare, n, (unsigned)byte * 8);
        if (sorted == NULL) return NULL;
        if (sorted == items) continue;
        spare = items;
        items = sorted;
    }
    return items;
}

// Moves the `keep` lowest of the items to the front, in the order they have. The key of the last of
// them is found from its highest byte on; items beyond what is known of it are dropped on the way.
static void select_items(sort_item *items, int64_t n, int64_t keep, size_t size) {
    uint64_t key = 0, known = 0;
    int64_t wanted = keep; // of those that agree with the key so far
    for (unsigned shift = (unsigned)size * 8; shift > 0;) {
        int64_t counts[256] = {0}, kept = 0;
        uint64_t byte = 0;
        shift -= 8;
        for (int64_t i = 0; i < n; i++)
            if ((items[i].key & known) == key) counts[items[i].key >> shift & 255]++;
        while (wanted > counts[byte]) wanted -= counts[byte++];
        key |= byte << shift;
        known |= 255ull << shift;
        for (int64_t i = 0; i < n; i++)
            if ((items[i].key & known) <= key) items[kept++] = items[i];
        n = kept;
    }
    // Only the first of several equal ones are wanted.
    for (int64_t i = 0, kept = 0; kept < keep; i++)
        if ((items[i].key & known) < key || wanted-- > 0) items[kept++] = items[i];
}

// NaN is above all numbers.
#define DEFINE_GLANCE(name, T)                                                                     \
    static int64_t name(const void *line, int64_t at, int64_t end, int64_t limit,                  \
                        bool descending) {                                                         \
        const T *x = line, last = x[limit];                                                        \
        for (int any = 0; last == last && at + GLANCE <= end; at += GLANCE) {                      \
            if (descending)                                                                        \
                for (int i = 0; i < GLANCE; i++) any |= !(x[at + i] <= last);                      \
            else                                                                                   \
                for (int i = 0; i < GLANCE; i++) any |= x[at + i] < last;                          \
            if (any) return at;                                                                    \
        }                                                                                          \
        return at;                                                                                 \
    }
DEFINE_GLANCE(glance_f32, float)
DEFINE_GLANCE(glance_f64, double)
DEFINE_GLANCE(glance_s32, int32_t)
DEFINE_GLANCE(glance_u32, uint32_t)
DEFINE_GLANCE(glance_s64, int64_t)
DEFINE_GLANCE(glance_u64, uint64_t)

static const sort_glance glances[EMLX_TYPE_COUNT] = {
    [EMLX_F32] = glance_f32, [EMLX_F64] = glance_f64, [EMLX_S32] = glance_s32,
    [EMLX_U32] = glance_u32, [EMLX_S64] = glance_s64, [EMLX_U64] = glance_u64,
};

// The last in order of the first `count` items.
static const sort_item *last_item(const sort_item *items, int64_t count) {
    const sort_item *last = items;
    for (int64_t i = 1; i < count; i++)
        if (items[i].key > last->key) last = &items[i];
    return last;
}

// The items of a line that may be among those kept; `room` of them are looked at together.
static int64_t find_items(const sort_work *w, const char *in, sort_item *items) {
    size_t size = type_size(w->type);
    int64_t count = 0, keep = w->params->keep;
    sort_item last = {0}; // of the `keep` lowest so far
    bool full = false;
    for (int64_t i = 0; i < w->length; i++) {
        if (i > 0 && i % STRETCH == 0 && !task_goes_on(w->run)) return 0;
        if (full && i % GLANCE == 0 && w->glance != NULL) {
            int64_t end = least(w->length, (i / STRETCH + 1) * STRETCH);
            int64_t to = w->glance(in, i, end, last.position, w->params->descending);
            if (to == end) {
                i = end - 1;
                continue;
            }
            i = to;
        }
        uint64_t key = find_key(w->type, in + i * w->inner * (int64_t)size);
        if (w->params->descending) key = ~key;
        if (full && key >= last.key) continue;
        items[count++] = (sort_item){key, i};
        if (count < w->room || w->room == w->length) continue;
        select_items(items, count, keep, size);
        count = keep;
        full = true;
        last = *last_item(items, keep);
    }
    return count;
}

static void sort_line(const sort_work *w, int64_t line, sort_item *items) {
    size_t size = type_size(w->type);
    int64_t outer = line / w->inner, inner = line % w->inner, keep = w->params->keep;
    const char *in = w->in + (outer * w->length * w->inner + inner) * (int64_t)size;
    int64_t count = find_items(w, in, items);
    if (count == 0) return;
    sort_item *sorted = sort_items(w->run, items, items + w->room, count, size);
    for (int64_t i = 0; i < keep && sorted != NULL; i++) {
        if (i % STRETCH == STRETCH - 1 && !task_goes_on(w->run)) return;
        int64_t to = (outer * keep + i) * w->inner + inner, from = sorted[i].position * w->inner;
        if (w->params->indices)
            memcpy(w->out + to * 8, &sorted[i].position, 8);
        else
            memcpy(w->out + to * (int64_t)size, in + from * (int64_t)size, size);
    }
}

static void sort_task(void *context, int64_t index) {
    sort_work *w = context;
    _Alignas(64) char room[ROOM_SIZE];
    emlx_error err;
    void *items;
    size_t size = (size_t)w->room * 2 * sizeof(sort_item);
    if (room_take(room, size, &items, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    int64_t end = (index + 1) * w->group < w->lines ? (index + 1) * w->group : w->lines;
    for (int64_t line = index * w->group; line < end; line++) sort_line(w, line, items);
    room_end(room, items, size);
}

emlx_status run_sort(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const sort_params *p = k->params;
    const emlx_shape *shape = &k->shapes[0];
    sort_work w = {.run = run, .params = p, .type = k->accesses[0].type, .inner = 1};
    w.in = operand_data(run, 0);
    w.out = output_data(run);
    w.length = shape->dims[p->axis];
    w.room = p->keep > SELECT_MIN ? 2 * p->keep : p->keep + SELECT_MIN;
    if (w.room > w.length) w.room = w.length;
    for (int32_t d = p->axis + 1; d < shape->rank; d++) w.inner *= shape->dims[d];
    int64_t count = emlx_shape_count(shape);
    if (count == 0) return EMLX_OK;
    w.lines = count / w.length;
    w.glance = w.inner == 1 ? glances[w.type] : NULL;
    w.group = w.length >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / w.length;
    TRY(run_tasks(run, (w.lines - 1) / w.group + 1, sort_task, &w, err));
    return task_result(&w.errors, err);
}
