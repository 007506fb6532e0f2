// SPDX-License-Identifier: Apache-2.0
// ops.h - the op table: how an operation is checked and turned into primitives.
#ifndef EMLX_OPS_OPS_H
#define EMLX_OPS_OPS_H

#include "base/error.h"
#include "base/shape.h"
#include "base/types.h"
#include "graph/graph.h"

typedef struct attr_spec {
    const char *name; // NULL ends a list
    emlx_attr_kind kind;
    bool required;
} attr_spec;

// One application of an op. Operand count, attribute names and kinds are checked before the op's
// own functions see it.
typedef struct op_call {
    const emlx_op *op;
    emlx_device *device;
    emlx_tensor *const *in;
    size_t count;
    const emlx_attr *attrs;
    size_t attr_count;
    bool symbolic; // of symbols and literals of a block, and for one: results have no device
} op_call;

// As emlx_apply, for lowerings and blocks: without a device what is made are symbols.
emlx_status op_apply(const emlx_op *op, emlx_device *device, emlx_tensor *const *operands,
                     size_t operand_count, const emlx_attr *attrs, size_t attr_count,
                     emlx_type type, emlx_tensor **out, emlx_error *err);

// Result types that may be asked for in place of the default.
typedef enum type_choice {
    CHOOSE_ANY,
    CHOOSE_FLOAT,
    CHOOSE_INTEGER,
    CHOOSE_COMPLEX,
    CHOOSE_U8
} type_choice;

// What a check finds out: the result's shape, its type by Nx's rules, and which others may be
// asked for.
typedef struct op_result {
    emlx_type type;
    type_choice choice;
    emlx_shape shape;
} op_result;

// An op of several results has an array of as many: in a check, a lowering and what that gives.
typedef emlx_status (*op_check)(const op_call *call, op_result *result, emlx_error *err);
typedef emlx_status (*op_lower)(const op_call *call, const op_result *result, emlx_tensor **out,
                                emlx_error *err);

struct emlx_op {
    const char *name;
    size_t results;
    size_t fewest, most;
    const attr_spec *attrs;
    op_check check;
    op_lower lower;
    int code;
};

// The attribute of that name, or NULL when it was not given.
const emlx_attr *attr_get(const op_call *call, const char *name);
// Its integer, truth value or text, or `otherwise`.
int64_t attr_int(const op_call *call, const char *name, int64_t otherwise);
const char *attr_text(const op_call *call, const char *name, const char *otherwise);

// A number as a double; `check_real` has seen that it is no complex one.
double attr_real(const op_call *call, const char *name, double otherwise);
emlx_status check_real(const op_call *call, const char *name, emlx_error *err);

static inline emlx_type operand_type(const op_call *call, size_t i) {
    return emlx_tensor_type(call->in[i]);
}
static inline const emlx_shape *operand_shape(const op_call *call, size_t i) {
    return emlx_tensor_shape(call->in[i]);
}

// Fails for complex operands, which an op that goes by their order or by their bits cannot take.
emlx_status refuse_complex(const op_call *call, emlx_error *err);

// The functions that rows of ops.def name.
#define OP(name, fewest, most, attrs, check, lower, code)                                          \
    emlx_status check(const op_call *, op_result *, emlx_error *);                                 \
    emlx_status lower(const op_call *, const op_result *, emlx_tensor **, emlx_error *);
#include "ops/ops.def"
#undef OP

#endif
