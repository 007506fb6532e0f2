// SPDX-License-Identifier: Apache-2.0
// divide.h - plans in nodes, and plans that a device and the host run between them.
#ifndef EMLX_PLAN_PARTS_DIVIDE_H
#define EMLX_PLAN_PARTS_DIVIDE_H

#include "plan/subgraph.h"

// The graph as nodes, in `memory`; their names and parameters are copied.
emlx_status list_nodes(const subgraph *g, plan_node **out, arena *memory, emlx_error *err);

// Makes a plan of nodes of what is zeroed but for its device.
emlx_status keep_nodes(const subgraph *g, emlx_plan *plan, emlx_error *err);

// For a device without f64: nodes in which f64 only serves rounding become f32, constants among
// them.
emlx_status narrow_rounding(subgraph *g, emlx_error *err);
// A constant's value in the memory form of another type.
void constant_convert(scalar_value *value, emlx_type from, emlx_type to);

// Where the plan's device cannot run all of the graph: makes a plan of parts of it, and sets
// *divided. `build` finds or makes the plan of one.
typedef emlx_status (*build_fn)(subgraph *g, emlx_device *device, emlx_plan **out, emlx_error *err);
emlx_status divide(const subgraph *g, emlx_plan *plan, build_fn build, bool *divided,
                   emlx_error *err);

#endif
