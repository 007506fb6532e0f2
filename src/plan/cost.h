// SPDX-License-Identifier: Apache-2.0
// cost.h - how long work takes at most, roughly, before it is done. Looks at shapes only.
#ifndef EMLX_PLAN_COST_H
#define EMLX_PLAN_COST_H

#include "plan/plan.h"

// Costs are counted in element operations of the CPU engine, roughly: what nobody knows costs
// COST_NO_END. Small work takes about a millisecond at most, brief work some microseconds.
#define COST_NO_END ((int64_t)1 << 56)
#define COST_SMALL ((int64_t)1 << 20)
#define COST_BRIEF ((int64_t)1 << 14)

// Of a kernel's start, and of planning a node.
#define COST_KERNEL 256
#define COST_PLANNING 512

// Of computing one node on its device, its operands being there.
int64_t cost_of_node(const emlx_tensor *t);
// Of running a plan on its device.
int64_t cost_of_plan(const emlx_plan *plan);

#endif
