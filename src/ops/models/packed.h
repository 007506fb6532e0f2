// SPDX-License-Identifier: Apache-2.0
// packed.h - what the ops on packed weights share.
#ifndef EMLX_OPS_PACKED_H
#define EMLX_OPS_PACKED_H

#include "graph/packed.h"
#include "ops/make.h"

// The format that a call's attributes ask for, and the elements of a group.
typedef struct packing {
    const packed_info *info;
    packed_kind kind;
    int64_t group;
} packing;

emlx_status packing_of(const op_call *call, packing *out, emlx_error *err);

// What packed operands are: the format, the operands, and the shape of the values.
typedef struct packed {
    packing how;
    emlx_tensor *operands[3];
    emlx_shape shape;
} packed;

// Whether a node is what the op `dequantize` gives and has not been computed yet. The maker keeps
// the operands.
bool packed_see(maker *m, emlx_tensor *t, packed *out);
// The same of a matrix, or of the transpose of one; then *turned is true.
bool packed_behind(maker *m, emlx_tensor *t, packed *out, bool *turned);
// The values in `type`, as `dequantize` gives them.
emlx_tensor *make_dequantized(maker *m, const packed *p, emlx_type type);

// Tensor t with its last axis cut into two, or three: `inner` elements, `middle` of these.
emlx_tensor *packed_cut(maker *m, emlx_tensor *t, int64_t middle, int64_t inner);
// With the same elements, the last two axes being one.
emlx_tensor *packed_join(maker *m, emlx_tensor *t);
// 0, step, 2 * step, ... as u32, along the last of two axes of which the other has length 1.
emlx_tensor *packed_steps(maker *m, int64_t count, int64_t step);
// Element-wise, with broadcasting, of operands in that type.
emlx_tensor *packed_two(maker *m, const char *op, emlx_type type, emlx_tensor *a, emlx_tensor *b);
// The bits as another type.
emlx_tensor *packed_bits(maker *m, emlx_tensor *t, emlx_type type);

#endif
