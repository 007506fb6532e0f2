// SPDX-License-Identifier: Apache-2.0
// make.h - building the nodes of one lowering. A maker remembers the first failure and owns every
// node made through it, so that lowerings are written as plain expressions: a call given NULL
// gives NULL, and make_done sorts out what is kept.
#ifndef EMLX_OPS_MAKE_H
#define EMLX_OPS_MAKE_H

#include "graph/faults.h"
#include "ops/ops.h"

#define MAKE_NODES 128

typedef struct maker {
    emlx_device *device;
    const char *op;
    emlx_shape shape; // of the nodes made by make_map and make_number
    emlx_status status;
    emlx_error *err;
    int count;
    emlx_tensor *made[MAKE_NODES];
} maker;

void make_start(maker *m, const op_call *call, const emlx_shape *shape, emlx_error *err);
// Gives the caller a reference on `result` and lets go of everything else.
emlx_status make_done(maker *m, emlx_tensor *result, emlx_tensor **out);
// The same for several results.
emlx_status make_done_all(maker *m, emlx_tensor *const *results, size_t count, emlx_tensor **out);
// Takes over a node made elsewhere, or the failure to make it.
emlx_tensor *make_keep(maker *m, emlx_status status, emlx_tensor *t);
emlx_tensor *make_node(maker *m, const node_spec *spec);

// Another op of the table, without attributes, applied to up to three operands.
emlx_tensor *make_op(maker *m, const char *name, emlx_type type, int operands, ...);
// The same for any number of operands, with attributes.
emlx_tensor *make_op_with(maker *m, const char *name, emlx_type type, emlx_tensor *const *operands,
                          size_t count, const emlx_attr *attrs, size_t attr_count);
static inline emlx_tensor *make_unary(maker *m, const char *name, emlx_tensor *t) {
    return make_op(m, name, EMLX_TYPE_DEFAULT, 1, t);
}
static inline emlx_tensor *make_binary(maker *m, const char *name, emlx_tensor *a, emlx_tensor *b) {
    return make_op(m, name, EMLX_TYPE_DEFAULT, 2, a, b);
}
// An op with the attributes `axes`, from bits, and `keep_axes`.
emlx_tensor *make_fold(maker *m, const char *name, emlx_tensor *t, uint32_t axes);
// A scalar function of up to three operands (unused ones NULL), computed in `compute` and given
// in `type`. Constant operands are converted here and now.
emlx_tensor *make_map(maker *m, scalar_op op, emlx_type compute, emlx_type type, emlx_tensor *a,
                      emlx_tensor *b, emlx_tensor *c);
// `value`, except that the run fails with `guard` where `bad` (u8) is true.
emlx_tensor *make_guard(maker *m, guard_kind guard, emlx_tensor *value, emlx_tensor *bad);
// Converted to `type`; the operand itself when it has it.
emlx_tensor *make_cast(maker *m, emlx_tensor *t, emlx_type type);
// Integers and floats of less than 32 bits as f32: what functions of several steps compute in.
emlx_tensor *make_wide(maker *m, emlx_tensor *t);
// `plain`, or the function of up to seven operands that it is, for engines that take that whole.
emlx_tensor *make_either(maker *m, const either_params *params, emlx_tensor *plain,
                         emlx_tensor *const *operands, size_t count);
// One number in every element of `shape`.
emlx_tensor *make_constant(maker *m, emlx_type type, const emlx_shape *shape,
                           const emlx_number *value);
emlx_tensor *make_integer(maker *m, emlx_type type, int64_t value);
emlx_tensor *make_real(maker *m, emlx_type type, double value);

// A fold over the axes whose bit is set, in the type `fold`, into the maker's shape.
emlx_tensor *make_reduce(maker *m, reduce_kind kind, emlx_type fold, emlx_type type, uint32_t axes,
                         emlx_tensor *t);
// The axes in the attribute `axes`, or all, as bits; and what is left of a shape without them.
emlx_status folded_axes(const op_call *call, uint32_t *mask, emlx_error *err);
void folded_shape(const emlx_shape *from, uint32_t mask, bool keep, emlx_shape *shape);
// The type that elements are converted to before folding, so that only the end is rounded.
emlx_type fold_type(reduce_kind kind, emlx_type from, emlx_type to);

// `t` with, for each axis, low, high and interior padding of `value`, a scalar of its type;
// negative padding crops.
emlx_tensor *make_pad(maker *m, emlx_tensor *t, emlx_tensor *value, const int64_t *padding,
                      const emlx_shape *shape);

// The check of functions of real numbers whose result has the shape of operand 0 and, unless asked
// for another, its type.
emlx_status check_first(const op_call *call, op_result *result, emlx_error *err);

// The number of windows along each axis, by the window attributes of the call.
emlx_status windows_shape(const op_call *call, emlx_shape *shape, emlx_error *err);
// The windows of `t` with padding of the scalar `padding`, as further axes: the bits in `axes`.
emlx_tensor *make_windows(maker *m, const op_call *call, emlx_tensor *t, emlx_tensor *padding,
                          uint32_t *axes);

// The values of a tensor when they are known now: a constant, or data that the host can read, of at
// most `most` elements. False otherwise. `*count` is 1 for a constant.
bool known_values(const emlx_tensor *t, size_t most, const void **data, size_t *count,
                  scalar_value *room);
// Whether it is a known integer constant, and which.
bool known_integer(const emlx_tensor *t, int64_t *value);

// Regions: each gives a view of `t` without computing anything, composed with the view that `t`
// is where it is one. See view.c.
emlx_tensor *view_reshape(maker *m, emlx_tensor *t, const emlx_shape *shape);
emlx_tensor *view_transpose(maker *m, emlx_tensor *t, const int64_t *axes);
// Axis i of `t` becomes axis axes[i] of the result; other axes repeat.
emlx_tensor *view_broadcast(maker *m, emlx_tensor *t, const emlx_shape *shape, const int64_t *axes);
// Element i along an axis is element starts + i * steps of `t`; steps may be negative.
emlx_tensor *view_slice(maker *m, emlx_tensor *t, const int64_t *starts, const int64_t *steps,
                        const emlx_shape *shape);
// Axis i of the result walks along axis axes[i] of `t`, steps[i] elements a step. Several may walk
// along the same: they add up, and must end inside.
emlx_tensor *view_walk(maker *m, emlx_tensor *t, const int32_t *axes, const int64_t *steps,
                       const emlx_shape *shape);
// As view_slice with unit or larger steps, the starts (integer scalars) given at run time and
// clamped.
emlx_tensor *view_slice_at(maker *m, emlx_tensor *t, emlx_tensor *const *starts,
                           const int64_t *steps, const int64_t *lengths, const emlx_shape *shape);

// A source of make_write: where its element (i0, i1, ...) lands.
typedef struct write_source {
    emlx_tensor *tensor;
    int64_t starts[EMLX_MAX_RANK];
    int64_t steps[EMLX_MAX_RANK];
    emlx_tensor *const *run_starts; // instead of `starts`, one a axis, or NULL
} write_source;

// `base` with the sources written over it, all of one type. With `covers`, base is never read.
emlx_tensor *make_write(maker *m, emlx_tensor *base, const write_source *sources, size_t count,
                        bool covers);

#endif
