// SPDX-License-Identifier: Apache-2.0
// rows.h - kernels that work on the same rows become one.
//
// A kernel of the kind ROWS begins with a fold. What reads what it makes, row by row, joins it as a
// further stage: folds over the same axes, and maps between and behind them. So do folds of an
// operand that it reads. On the way axes are cut so that all stages have the same ones.
#ifndef EMLX_PLAN_ROWS_H
#define EMLX_PLAN_ROWS_H

#include "plan/kernels/emit.h"

// Joins kernels, as far as the plan's device wants them joined, in memory that kernels are in
// before they are settled.
emlx_status join_rows(emlx_plan *plan, arena *scratch, emlx_error *err);

// The axes that the stages of a kernel have in common; none has length 1.
typedef struct row_space {
    int32_t rank;
    int64_t dims[EMLX_MAX_RANK];
    uint32_t axes; // bit i: axis i runs along a row
} row_space;

static inline bool runs_along(const row_space *s, int32_t d) { return s->axes >> d & 1; }

// Whether a kernel that goes on from row to row only computes one element of each.
typedef struct row_stage {
    const plan_kernel *kernel;
    bool single;
} row_stage;

// Cuts axes of the space where those of the stage end, so that each of the stage's is a run of
// them; false where that cannot be.
bool space_refine(row_space *space, const row_stage *stage);
// Elements from row to row, or along one.
int64_t space_count(const row_space *space, bool along);
// An access of the stage, over the axes of the space.
plan_access space_access(const row_space *space, const row_stage *stage, uint32_t access);
// Where the fold that the stage is writes its result.
plan_access space_output(const row_space *space, const row_stage *stage, const emlx_plan *plan);

#endif
