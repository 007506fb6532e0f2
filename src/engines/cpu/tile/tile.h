// SPDX-License-Identifier: Apache-2.0
// tile.h - evaluates a kernel's scalar expression over tiles: runs of elements in the order of the
// kernel's index space, short enough that every intermediate stays in the first-level cache.
#ifndef EMLX_CPU_TILE_H
#define EMLX_CPU_TILE_H

#include "base/shape.h"
#include "engine.h"
#include "engines/cpu/kernels/kernels.h"
#include "engines/cpu/kernels/tables/narrowed.h"

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// Where a step's elements are found during a tile.
typedef enum step_storage {
    STORAGE_SLOT,   // in scratch memory, made anew for every tile
    STORAGE_FIXED,  // in scratch memory, the same for all tiles
    STORAGE_MEMORY, // in the buffer that the load or store reaches
    STORAGE_ALIAS,  // where another step's are
    STORAGE_NONE    // nowhere: the step that reads them makes them as well
} step_storage;

typedef struct step_form {
    tile_fn fn;                  // of casts and scalar functions
    const narrowed_fn *narrowed; // what is computed instead, or NULL
    uint32_t offset;             // into scratch memory
    uint32_t access;             // of STORAGE_MEMORY
    uint16_t alias;
    uint16_t args[3]; // the steps whose elements it reads
    uint8_t arg_count;
    uint8_t storage;
    uint8_t size; // bytes of an element
} step_form;

// How a kernel's axes are walked.
typedef struct tile_walk {
    int32_t axes[EMLX_MAX_RANK]; // from the outermost
    bool blocked;                // a tile is a block of the last two axes, not a run of elements
    const plan_kernel *rows;     // of which the kernel is a stage, or NULL
} tile_walk;

// A kernel made ready: its axes in the order in which it is walked, and storage for every step.
typedef struct tile_form {
    const plan_kernel *kernel;
    const cpu_kernels *kernels;
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK];
    int64_t count;                     // product of dims
    int64_t (*strides)[EMLX_MAX_RANK]; // of each access, over these axes
    bool *dense;                       // of each access: one run over the whole space
    step_form *steps;
    uint32_t tile;                     // elements
    int64_t block_rows, block_columns; // of a blocked walk, else 0: at most a tile
    size_t scratch;                    // bytes for the slots
    uint32_t fetching; // the step beside which the next tile is fetched, or UINT32_MAX
    int64_t ahead;     // from an element to the one that is fetched meanwhile
    uint32_t stream_count;
    uint32_t *streams; // steps whose elements are in memory, walked through in order
} tile_form;

// `walk` may be NULL: element by element in the order of the axes. Memory comes from the arena.
emlx_status tile_prepare(tile_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                         const cpu_kernels *kernels, const tile_walk *walk, arena *memory,
                         emlx_error *err);

// Room on a stack for most kernels' scratch memory.
#define TILE_STACK 32768

// One thread's evaluation of a kernel.
typedef struct tile_run {
    const tile_form *form;
    const kernel_call *call;
    char *scratch;
    char **bases;            // of each access: where its element 0 is
    char **at;               // of each step: its elements in the current tile
    const expr_step *failed; // the first guard that did, or NULL
    void *memory;            // allocation behind `scratch`, or NULL
    size_t size;
} tile_run;

// Memory that a run takes, in bytes, and starting one that is given it. The bases of values that
// are in no buffer are left to the caller.
size_t tile_room(const tile_form *form);
void tile_begin(tile_run *run, const tile_form *form, const kernel_call *call, char *memory);
// `stack` has TILE_STACK bytes, 64-byte aligned.
emlx_status tile_start(tile_run *run, const tile_form *form, const kernel_call *call, char *stack,
                       emlx_error *err);
// Evaluates elements from `first` on, at most form->tile of them, and makes the stores. Not for
// blocked walks.
void tile_step(tile_run *run, int64_t first, size_t count);
// How many tiles there are in all, whether runs of form->tile elements or blocks; and evaluating
// one.
int64_t tile_count(const tile_form *form);
void tile_number(tile_run *run, int64_t number);
void tile_end(tile_run *run);
// The error of the guard that failed; EMLX_OK where none did.
emlx_status tile_result(const tile_run *run, emlx_error *err);

#endif
