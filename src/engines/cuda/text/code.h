// SPDX-License-Identifier: Apache-2.0
// code.h - what is generated for one kernel of a plan: text that depends on its structure alone,
// and the numbers that its launches take. Knows no driver, so that it is made and tested without.
#ifndef EMLX_CUDA_CODE_H
#define EMLX_CUDA_CODE_H

#include "plan/plan.h"

// The parts of the prelude that a text needs, as bits, in the order of the sources. The first three
// come with every kernel.
typedef enum code_part {
    PART_CORE = 1 << 0,
    PART_SHORT = 1 << 1,
    PART_SCALARS = PART_SHORT | 1 << 2,
    PART_COMPLEX = 1 << 3,
    PART_FOLDS = 1 << 4,
    PART_SORT = 1 << 5,
    PART_SCAN = 1 << 6,
    PART_SCATTER = 1 << 7,
    PART_DOT = 1 << 8,
    PART_LINALG = 1 << 9,
    PART_FFT = 1 << 10,
    PART_RADIX = 1 << 11,
    PART_COPIES = 1 << 12,
    PART_ATTENTION = 1 << 13,
    PART_PACKED = 1 << 14,
    PART_FACTORS = 1 << 15,
    PART_DEPTHWISE = 1 << 16,
    PART_BYTES = 1 << 17,
    PART_PANELS = 1 << 18
} code_part;

enum { CODE_PART_COUNT = 19 };

// Where a word comes from when the kernel runs.
typedef enum patch_kind {
    PATCH_VALUE,    // the address of value `index`, plus `offset` bytes
    PATCH_CONSTANT, // the 16 bytes of constant `index`: this word and the next
    PATCH_SCRATCH,  // the address of the kernel's working memory, plus `offset` bytes
    PATCH_CLAIM,    // the word that a report claims,
    PATCH_REPORT    // and where it is written
} patch_kind;

typedef struct code_patch {
    uint32_t word, kind, index;
    int64_t offset;
} code_patch;

// A launch of the function whose name ends in `suffix`. Several in a row share the words, but for
// one that may be set for the launch.
typedef struct code_launch {
    char suffix;
    uint32_t block;
    int64_t grid_x, grid_y;
    uint32_t word;   // UINT32_MAX: none
    int64_t turn;    // what it is
    uint32_t shared; // bytes of shared memory besides what the text declares
} code_launch;

typedef struct kernel_code {
    char *text; // '@': the kernel's name; '#': the number of words
    size_t length, room;
    int64_t *words;
    uint32_t word_count;
    size_t word_room;
    code_patch *patches;
    uint32_t patch_count;
    size_t patch_room;
    code_launch *launches;
    uint32_t launch_count;
    size_t launch_room;
    size_t scratch; // bytes of working memory
    uint32_t parts;
    bool reports;    // it may report an error
    uint32_t checks; // of its launches, so many at the front alone do; 0: any may
    bool failed;     // there was no memory for it
} kernel_code;

// Kernels report codes of guard_kind, and this one for an index out of bounds.
enum { REPORT_INDEX = 64 };

void code_clear(kernel_code *code);
// Appends to the text.
void code_text(kernel_code *code, const char *format, ...) __attribute__((format(printf, 2, 3)));
// Adds a word; returns its place.
uint32_t code_word(kernel_code *code, int64_t value);
uint32_t code_double(kernel_code *code, double value);
uint32_t code_patch_word(kernel_code *code, patch_kind kind, uint32_t index, int64_t offset);
// A launch of enough blocks for `threads` threads, and at most `most` blocks (0: any number). Never
// NULL: where there was no memory for it the code has failed, and what is given is not launched.
code_launch *code_launch_add(kernel_code *code, char suffix, int64_t threads, int64_t most);

// Makes the code of a kernel. Fails with EMLX_UNSUPPORTED, and a message that says what, for what
// generated kernels do not do.
emlx_status code_make(kernel_code *code, const emlx_plan *plan, const plan_kernel *kernel,
                      emlx_error *err);

#endif
