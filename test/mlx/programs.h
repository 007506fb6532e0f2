// SPDX-License-Identifier: Apache-2.0
// programs.h - random programs of many ops and types, built on two devices side by side.
#ifndef EMLX_TEST_MLX_PROGRAMS_H
#define EMLX_TEST_MLX_PROGRAMS_H

#include "tensors.h"

enum { PROGRAM_VALUES = 64, PROGRAM_TEXT = 16384 };

// Which functions give the same digits on both.
typedef enum program_kind {
    PROGRAM_EXACT, // all but sums of floats
    PROGRAM_ROUGH  // not those of mathematics either
} program_kind;

// Rough values may differ in their last places: no function with steps is applied to them, and
// they are compared by `scale`, the largest number that went into them, and the fewest `digits` of
// a type on the way.
typedef struct program_value {
    emlx_tensor *ours, *theirs;
    bool rough;
    double scale;
    int digits;
} program_value;

typedef struct program {
    emlx_device *ours, *theirs;
    program_kind kind;
    program_value values[PROGRAM_VALUES];
    int count;
    char text[PROGRAM_TEXT]; // for who reads it
    size_t length;
} program;

// Draws `steps` ops. What an op refuses is left out; that both devices refuse it is asserted.
void program_build(program *p, int steps);
void program_clear(program *p);

#endif
