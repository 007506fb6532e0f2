// SPDX-License-Identifier: Apache-2.0
// emit.h - from fusion decisions to kernels and values, and from those to buffer lifetimes.
#ifndef EMLX_PLAN_KERNELS_EMIT_H
#define EMLX_PLAN_KERNELS_EMIT_H

#include "plan/kernels/fuse.h"

// Fills in everything of the plan but the lifetimes. Kernels and their lists are in the subgraph's
// memory, the rest in the plan's.
emlx_status emit_kernels(const fusion *f, emlx_plan *plan, arena *memory, emlx_error *err);

// Puts products right in front of the maps that the device would compute with them, in memory that
// kernels are in before they are settled.
emlx_status join_epilogues(emlx_plan *plan, arena *scratch, emlx_error *err);

// Puts kernels that the device would run as one step behind each other, in memory that kernels are
// in before they are settled.
emlx_status join_steps(emlx_plan *plan, arena *scratch, emlx_error *err);

// Copies kernels and their lists, which grow no more, to the plan's own memory.
emlx_status settle_kernels(emlx_plan *plan, arena *memory, emlx_error *err);

// Fills in made, reuse and ended of every kernel.
emlx_status assign_buffers(emlx_plan *plan, arena *memory, emlx_error *err);

// Drops axes of length 1 and merges neighbours that every access steps through as one.
void merge_kernel_axes(plan_kernel *k);

// Whether both reach the same element for every index, with no run-time start.
bool access_same_place(const plan_access *a, const plan_access *b);

// The stage of a kernel of rows that an access belongs to; behind them all, those of outputs.
uint32_t access_stage(const plan_kernel *k, uint32_t access);

#endif
