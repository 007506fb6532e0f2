// SPDX-License-Identifier: Apache-2.0
// places.h - channels copied for convolutions that go along whole planes.
//
// The places along an axis, padding included, are sorted by their remainder modulo a step: a phase
// each. Where results lie side by side, the step is theirs, and every tap is one distance away from
// all of them; where taps do, it is the other way round.
#ifndef EMLX_CPU_CONV_PLACES_H
#define EMLX_CPU_CONV_PLACES_H

#include "engines/cpu/conv/conv.h"

typedef struct place_axis {
    int64_t step;
    int64_t low;    // the element at place 0; negative in the padding
    int64_t count;  // of results, or taps, side by side
    int64_t lead;   // places of a phase beyond those
    int64_t places; // of a phase, in a whole block
    int64_t stride; // between places in a phase
} place_axis;

typedef struct conv_places {
    const conv_work *conv;
    place_axis axes[EMLX_MAX_RANK];
    int64_t phases, plane; // phases of a channel, and elements of each
    int64_t rows, blocks;  // places side by side along the first axis of a block; blocks
} conv_places;

// Whether every tap has its element at one distance from a result: no dilated input.
bool conv_has_places(const conv_work *w);
// The places of results, or of taps. `blocks` of rows of the first axis are such that `channels` of
// them take about `bytes`.
void conv_find_places(const conv_work *w, bool of_taps, int64_t channels, int64_t bytes,
                      conv_places *places);
// The bytes of a channel.
static inline size_t conv_places_bytes(const conv_places *p) {
    return (size_t)(p->phases * p->plane) * p->conv->size;
}
// Where in a channel's copy a tap, or result, finds what lies side by side.
int64_t conv_place_of(const conv_places *p, bool of_taps, const int64_t *index);
// Copies `rows` rows of a channel that begins at x, for what lies at `row` and after it.
void conv_copy_places(const conv_places *p, const char *x, int64_t row, int64_t rows, char *out);

// What a task has: for a batch's element and a group, a block of results.
typedef struct conv_piece {
    int64_t n, g, row, rows;
    int64_t x;      // offset of the first channel
    int64_t end;    // places up to the last result
    int64_t before; // results before the first
} conv_piece;

// Number `item` of batch * groups * blocks.
void conv_find_piece(const conv_places *p, int64_t item, conv_piece *piece);
void conv_copy_channels(const conv_places *p, const conv_piece *piece, char *out);
// Stores `count` neighbouring results of a filter.
void conv_store_results(const conv_work *c, int64_t n, int64_t filter, int64_t position,
                        emlx_type type, const char *sums, int64_t count);
// Stores those sums of places `first` to `first` + count that are results.
void conv_store_places(const conv_places *p, const conv_piece *piece, int64_t filter,
                       emlx_type type, const char *sums, int64_t first, int64_t count);

#endif
