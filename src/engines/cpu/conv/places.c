// SPDX-License-Identifier: Apache-2.0
// places.c - where results and taps meet in channels that are copied, padding included, and the
// copying.
#include "engines/cpu/conv/places.h"

#include <string.h>

#include "base/types.h"

bool conv_has_places(const conv_work *w) {
    for (int32_t d = 0; d < w->rank; d++)
        for (int64_t tap = 0; tap < w->axes[d].taps; tap++) {
            const conv_reach *r = &w->axes[d].reach[tap];
            if (r->period != 1 || r->count == 0) return false;
        }
    return true;
}

// The element that a tap meets for result 0, were it inside.
static int64_t tap_position(const conv_axis *axis, int64_t tap) {
    const conv_reach *r = &axis->reach[tap];
    return r->start - r->first * r->step;
}

static int64_t tap_step(const conv_axis *axis) {
    return axis->taps > 1 ? tap_position(axis, 1) - tap_position(axis, 0) : 1;
}

// Blocks of rows whose copy stays in the cache, at most every row copied twice.
static void cut_blocks(conv_places *p, int64_t channels, int64_t bytes) {
    const conv_work *c = p->conv;
    place_axis *first = &p->axes[0];
    int64_t line = 1;
    for (int32_t d = c->rank - 1; d > 0; d--) {
        p->axes[d].stride = line;
        line *= p->axes[d].places;
    }
    first->stride = line;
    p->rows = bytes / (channels * p->phases * line * (int64_t)c->size) - first->lead;
    if (p->rows < first->lead) p->rows = first->lead;
    if (p->rows < 1) p->rows = 1;
    if (p->rows > first->count) p->rows = first->count;
    first->places = p->rows + first->lead;
    p->plane = first->places * line;
    p->blocks = (first->count - 1) / p->rows + 1;
}

void conv_find_places(const conv_work *w, bool of_taps, int64_t channels, int64_t bytes,
                      conv_places *places) {
    *places = (conv_places){.conv = w, .phases = 1};
    for (int32_t d = 0; d < w->rank; d++) {
        const conv_axis *axis = &w->axes[d];
        int64_t taps = (axis->taps - 1) * tap_step(axis);
        int64_t results = (axis->results - 1) * axis->reach->step;
        place_axis *p = &places->axes[d];
        *p = (place_axis){.low = tap_position(axis, 0)};
        p->step = of_taps ? tap_step(axis) : axis->reach->step;
        p->count = of_taps ? axis->taps : axis->results;
        p->lead = (of_taps ? results : taps) / p->step;
        p->places = p->count + p->lead;
        places->phases *= p->step;
    }
    cut_blocks(places, channels, bytes);
}

int64_t conv_place_of(const conv_places *p, bool of_taps, const int64_t *index) {
    int64_t phase = 0, offset = 0;
    for (int32_t d = 0; d < p->conv->rank; d++) {
        const conv_axis *axis = &p->conv->axes[d];
        int64_t step = p->axes[d].step;
        int64_t place = index[d] * (of_taps ? tap_step(axis) : axis->reach->step);
        phase = phase * step + place % step;
        offset += place / step * p->axes[d].stride;
    }
    return phase * p->plane + offset;
}

// Copying ---------------------------------------------------------------------------------------

// Of an axis of a phase: the places from `from` to `to` have elements, that at 0 were `first`.
typedef struct inside {
    int64_t first, from, to;
} inside;

static inside find_inside(const place_axis *p, int64_t length, int64_t first, int64_t places) {
    inside in = {.first = first};
    in.from = first < 0 ? (-first + p->step - 1) / p->step : 0;
    in.to = length > first ? (length - 1 - first) / p->step + 1 : 0;
    if (in.to > places) in.to = places;
    if (in.to < in.from) in.to = in.from;
    return in;
}

// The innermost axis.
static void copy_row(const conv_places *p, const char *x, const inside *in, char *out) {
    const conv_work *c = p->conv;
    const int64_t size = (int64_t)c->size, step = p->axes[c->rank - 1].step;
    int64_t apart = c->axes[c->rank - 1].x_stride, count = in->to - in->from;
    const char *from = x + (in->first + in->from * step) * apart * size;
    if (step * apart == 1)
        memcpy(out + in->from * size, from, (size_t)(count * size));
    else
        c->run->kernels->gather[__builtin_ctzl(c->size)](out + in->from * size, from, step * apart,
                                                         (size_t)count);
}

// The lines along the innermost axis that have elements, one after another.
static void copy_lines(const conv_places *p, const char *x, const inside *in, char *out) {
    const conv_work *c = p->conv;
    const int64_t size = (int64_t)c->size;
    int32_t inner = c->rank - 1;
    int64_t at[EMLX_MAX_RANK], d;
    for (d = 0; d <= inner; d++) {
        at[d] = in[d].from;
        if (in[d].from == in[d].to) return;
    }
    do {
        int64_t from = 0, to = 0;
        for (d = 0; d < inner; d++) {
            from += (in[d].first + at[d] * p->axes[d].step) * c->axes[d].x_stride;
            to += at[d] * p->axes[d].stride;
        }
        copy_row(p, x + from * size, &in[inner], out + to * size);
        for (d = inner - 1; d >= 0 && ++at[d] == in[d].to; d--) at[d] = in[d].from;
    } while (d >= 0);
}

void conv_copy_places(const conv_places *p, const char *x, int64_t row, int64_t rows, char *out) {
    const conv_work *c = p->conv;
    for (int64_t phase = 0; phase < p->phases; phase++) {
        inside in[EMLX_MAX_RANK] = {{0}};
        bool all = true;
        int64_t rest = phase;
        for (int32_t d = c->rank - 1; d >= 0; d--) {
            const place_axis *axis = &p->axes[d];
            int64_t first = axis->low + rest % axis->step + (d == 0 ? row * axis->step : 0);
            int64_t places = d == 0 ? rows + axis->lead : axis->places;
            rest /= axis->step;
            in[d] = find_inside(axis, c->axes[d].length, first, places);
            all = all && in[d].from == 0 && in[d].to == places;
        }
        char *to = out + phase * p->plane * (int64_t)c->size;
        int64_t plane = (rows + p->axes[0].lead) * p->axes[0].stride;
        if (!all) memset(to, 0, (size_t)plane * c->size);
        copy_lines(p, x, in, to);
    }
}

// Pieces ----------------------------------------------------------------------------------------

void conv_find_piece(const conv_places *p, int64_t item, conv_piece *piece) {
    const conv_work *c = p->conv;
    int64_t plane = item / p->blocks;
    piece->row = item % p->blocks * p->rows;
    piece->rows = least(c->axes[0].results - piece->row, p->rows);
    piece->n = plane / c->groups;
    piece->g = plane % c->groups;
    piece->x = piece->n * c->x.strides[0] + piece->g * c->group_stride + c->x_offset;
    piece->end = (piece->rows - 1) * p->axes[0].stride + 1;
    piece->before = piece->row;
    for (int32_t d = 1; d < c->rank; d++) {
        piece->end += (c->axes[d].results - 1) * p->axes[d].stride;
        piece->before *= c->axes[d].results;
    }
}

void conv_copy_channels(const conv_places *p, const conv_piece *piece, char *out) {
    const conv_work *c = p->conv;
    for (int64_t channel = 0; channel < c->channels; channel++)
        conv_copy_places(p, c->x.data + (piece->x + channel * c->x.strides[1]) * (int64_t)c->size,
                         piece->row, piece->rows, out + (size_t)channel * conv_places_bytes(p));
}

void conv_store_results(const conv_work *c, int64_t n, int64_t filter, int64_t position,
                        emlx_type type, const char *sums, int64_t count) {
    tile_fn cast = c->run->kernels->cast[type][c->out_type];
    const int64_t size = (int64_t)c->out_size;
    if (!c->params->channels_last) {
        int64_t at = (n * c->all_filters + filter) * c->positions + position;
        cast(c->out + at * size, sums, NULL, NULL, (size_t)count);
        return;
    }
    enum { SOME = 512 };
    _Alignas(64) char few[SOME * sizeof(double)];
    for (int64_t done = 0, some; done < count; done += some) {
        some = least(count - done, SOME);
        int64_t at = (n * c->positions + position + done) * c->all_filters + filter;
        cast(few, sums + done * (int64_t)type_size(type), NULL, NULL, (size_t)some);
        c->run->kernels->scatter[__builtin_ctzl(c->out_size)](c->out + at * size, few,
                                                              c->all_filters, (size_t)some);
    }
}

void conv_store_places(const conv_places *p, const conv_piece *piece, int64_t filter,
                       emlx_type type, const char *sums, int64_t first, int64_t count) {
    const conv_work *c = p->conv;
    int32_t inner = c->rank - 1;
    int64_t places = inner == 0 ? count + first : p->axes[inner].places;
    int64_t results = inner == 0 ? places : c->axes[inner].results;
    for (int64_t line = first / places; line * places < first + count; line++) {
        int64_t rest = line, number = 0, step = results;
        bool stored = true;
        for (int32_t d = inner - 1; d >= 0; d--) {
            int64_t at = d == 0 ? rest : rest % p->axes[d].places;
            if (d > 0) rest /= p->axes[d].places;
            stored = stored && (d == 0 || at < c->axes[d].results);
            number += at * step;
            step *= c->axes[d].results;
        }
        int64_t from = line * places, to = from + results;
        if (from < first) from = first;
        if (to > first + count) to = first + count;
        if (!stored || from >= to) continue;
        conv_store_results(c, piece->n, filter, piece->before + number + from - line * places, type,
                           sums + (from - first) * (int64_t)type_size(type), to - from);
    }
}
