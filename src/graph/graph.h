// SPDX-License-Identifier: Apache-2.0
// graph.h - primitives, and the lazy graph that tensors are nodes of.
//
// An emlx_tensor is a node: a primitive with operands, and once it is computed a buffer. Nodes are
// immutable but for the buffer, which is set once. A node that has its buffer gives up its
// operands, so that finished parts of the graph go away.
//
// Between the two a node may be promised: work that gives it its data is queued on the device. Its
// buffer can be built upon, but its operands stay until the work has ended: then either it has its
// data or it is as it was.
#ifndef EMLX_GRAPH_GRAPH_H
#define EMLX_GRAPH_GRAPH_H

#include <stdatomic.h>

#include "emlx.h"
#include "graph/scalar.h"
#include "memory/memory.h"

// Everything an engine must be able to do.
typedef enum primitive {
#define PRIMITIVE(name, form, kept, cost) PRIM_##name,
#include "graph/primitive.def"
#undef PRIMITIVE
    PRIM_COUNT
} primitive;

typedef enum primitive_form { FORM_FUSED, FORM_WHOLE } primitive_form;
typedef enum primitive_kept { KEPT_NEVER, KEPT_AGAIN, KEPT_ALWAYS } primitive_kept;
typedef enum primitive_cost {
    COST_ELEMENTS,
    COST_PRODUCT,
    COST_OPERANDS,
    COST_UNKNOWN
} primitive_cost;

typedef struct primitive_info {
    const char *name;
    primitive_form form;
    primitive_kept kept;
    primitive_cost cost;
} primitive_info;

extern const primitive_info primitive_table[PRIM_COUNT];

typedef enum scatter_kind { SCATTER_ADD, SCATTER_PUT } scatter_kind;

// Parameters, by primitive ----------------------------------------------------------------------

// They are compared, and become keys of plans, byte by byte: none has padding, and whoever makes
// them sets every member.
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"

// Element number sum(index[d] * strides[d]) + offset.
typedef struct iota_params {
    int64_t offset;
    int64_t strides[EMLX_MAX_RANK];
} iota_params;

typedef struct map_params {
    uint8_t op;      // scalar_op
    uint8_t compute; // the emlx_type that operands are converted to and the function is computed in
    uint8_t guard;   // guard_kind (faults.h): when set, `op` is unused; the value is operand 0, and
                     // operand 1 (u8) says where it is bad
} map_params;

// A start given at run time: adds stride * start_within(value, limit) to the offset (faults.h).
typedef struct region_start {
    int64_t stride;
    int64_t limit;
} region_start;

// An affine place inside a dense array: element (i0, i1, ...) is at offset + sum(i * strides).
typedef struct region {
    int64_t offset;
    int64_t strides[EMLX_MAX_RANK];
    int64_t start_count; // operands that hold run-time starts (integer scalars), in order
    region_start starts[EMLX_MAX_RANK];
} region;

// Operand 0 is read through the region; the starts are operands 1 to start_count.
typedef struct view_params {
    region region;
} view_params;

// Operand 0 is the base, of the result's type and shape. Operands 1 to count are the sources, then
// come all their starts in order. Source i lands at regions[i]; later sources win.
// Regions never reach outside the base.
typedef struct write_params {
    int32_t count;
    int32_t covers; // a truth value: the sources cover the base entirely, so that its elements need
                    // not be made
    region regions[];
} write_params;

typedef struct reduce_params {
    uint16_t kind;       // reduce_kind
    uint16_t accumulate; // the emlx_type elements are converted to before folding
    uint32_t axes;       // bit i: axis i of the operand is folded
} reduce_params;

// Batch axes are the first `batch` ones of both sides; the contracted axes pair by position.
typedef struct dot_params {
    int32_t batch;
    int32_t contracted;
    int32_t left[EMLX_MAX_RANK];
    int32_t right[EMLX_MAX_RANK];
} dot_params;

// Operands: input [batch, channels, spatial...] and kernel [filters, channels of a group,
// spatial...], in the result's type. Element [n, f, o...] of the result is the sum over channels c
// of a group and kernel positions j of
//     input[n + g * results, g * channels + c, (o * strides + j * kernel_dilation - low) /
//           input_dilation] * kernel[f, c, j]
// where g is the group of filter f (in which of the two terms it counts depends on the kind of
// groups) and what is outside of the input, or between its elements, is 0.
// The result is [batch, filters, spatial...] or, with channels_last, [batch, spatial..., filters].
typedef struct conv_params {
    int64_t feature_groups, batch_groups; // at least one of them is 1
    int64_t strides[EMLX_MAX_RANK];       // one a spatial axis, as in all lists
    int64_t low[EMLX_MAX_RANK];           // padding before the first element; may be negative
    int64_t input_dilation[EMLX_MAX_RANK];
    int64_t kernel_dilation[EMLX_MAX_RANK];
    int64_t channels_last; // a truth value
} conv_params;

// Operands: source, indices (s64, last axis of length `count`). Ascending axes of the source.
// The result's shape is the indices' without the last axis, then the source's other axes.
// `along` one axis, the indices have the result's shape instead, which differs from the source's in
// that axis only: each index replaces that part of its own position.
typedef struct gather_params {
    int32_t count;
    int32_t axes[EMLX_MAX_RANK];
    int32_t along;       // a truth value
    int32_t is_unsigned; // of the indices: they were u64, which matters to messages only
} gather_params;

// Operands: target, indices (s64, {n, count}), updates ({n, other axes of the target, each of at
// most the target's length}), target and updates in the result's type.
typedef struct scatter_params {
    int32_t kind;        // scatter_kind
    int32_t is_unsigned; // as for gather
    int32_t apart;       // truth value: no two updates reach the same element
    int32_t count;
    int32_t axes[EMLX_MAX_RANK];
} scatter_params;

// Always stable. NaN is greater than everything. Along the axis the result has only the `keep`
// first elements of the order.
typedef struct sort_params {
    int64_t keep;
    int32_t axis;
    int16_t descending; // truth values
    int16_t indices;    // gives positions instead of values
} sort_params;

// Element i along the axis is the fold of elements 0 to i, or with `reverse` of i to the last.
// Folds in the operand's type, floats in f64: u8 to u64, s8 to s64, f32 or f64.
typedef struct scan_params {
    uint16_t kind;    // REDUCE_SUM to REDUCE_MIN
    uint16_t reverse; // a truth value
    int32_t axis;
} scan_params;

// Windows of a dense operand: element o of the result (s64) is the row-major position in the
// operand of the highest or lowest element of the window that begins at o * strides. The last of
// equal ones wins. A NaN wins only as the first element of its window. Every window lies inside.
typedef struct pick_params {
    int64_t lowest; // a truth value
    int64_t window[EMLX_MAX_RANK];
    int64_t strides[EMLX_MAX_RANK];
} pick_params;

// What a `routine` computes of each element of a batch (a MATRIX or two, or a LINE of numbers that
// is transformed), and how it packs its results.
#define ROUTINE_MAP(XX)                                                                            \
    XX(cholesky, MATRIX)         /* the lower factor; only the lower triangle is read */           \
    XX(triangular_solve, MATRIX) /* x */                                                           \
    XX(solve, MATRIX)            /* x */                                                           \
    XX(qr, MATRIX)               /* q, r */                                                        \
    XX(lu, MATRIX)               /* the permutation as a matrix, l, u */                           \
    XX(eigh, MATRIX)             /* values, vectors; only the upper triangle is read */            \
    XX(svd, MATRIX)              /* u, singular values, v transposed */                            \
    XX(determinant, MATRIX)      /* one number */                                                  \
    XX(fft, LINE)                /* a line's transform */                                          \
    XX(rfft, LINE)               /* its first half, which is all of it where the line is real */   \
    XX(irfft, LINE)              /* the real line with that half, transformed back */

typedef enum routine_kind {
#define XX(name, element) ROUTINE_##name,
    ROUTINE_MAP(XX)
#undef XX
        ROUTINE_COUNT
} routine_kind;

typedef enum routine_element { ROUTINE_OF_MATRIX, ROUTINE_OF_LINE } routine_element;
extern const routine_element routine_elements[ROUTINE_COUNT];

enum {
    ROUTINE_UPPER = 1,     // triangular_solve: which triangle of the first operand is read
    ROUTINE_TRANSPOSE = 2, // triangular_solve: the triangle is transposed,
    ROUTINE_CONJUGATE = 4, // or conjugated
    ROUTINE_RIGHT = 8,     // triangular_solve: the unknown stands left of the triangle
    ROUTINE_VECTOR = 16,   // the second operand is one vector a matrix
    ROUTINE_FULL = 32,     // qr, svd: square orthogonal factors
    ROUTINE_INVERSE = 64   // fft: the inverse transform
};

// The first `batch` axes of operands and result count the batch; what follows them is one element
// each; that of a transform is the next axis alone, and others may follow it. All have one type,
// but for transforms: those go from f32, f64, c64 or c128 to one of them. The results of an element
// lie one after the other, each row by row.
typedef struct routine_params {
    int32_t kind; // routine_kind
    int32_t batch;
    int64_t flags;
    int64_t length;   // transforms: what the line is cut or padded to
    double tolerance; // transforms: parts up to this size are zero; svd: singular values up to this
                      // part of the largest are
} routine_params;
// Two ways to one value: operand 0, made of other primitives, or a named function of the operands
// behind it, for engines that take it whole. Which it is, the device decides when a plan is made of
// the graph (`takes` in engine.h): a plan has either operand 0 in its place, or an `either` without
// operand 0. Both have the result's type and shape, and equal each other as nearly as the engine
// says.
#define EITHER_MAP(XX)                                                                             \
    XX(softmax)    /* x: exp(x) / sum(exp(x)) over the axes whose bits are set */                  \
    XX(logsumexp)  /* x: log(sum(exp(x))) over these axes, kept or not as in the result */         \
    XX(rms_norm)   /* x, weight: x / sqrt(mean(x * x) + n[0]) * weight over the last axis */       \
    XX(layer_norm) /* x, weight, and a bias where there are three: (x - mean) / sqrt(variance +    \
                      n[0]) * weight + bias over the last axis */                                  \
    XX(swiglu)     /* gate, up: gate * sigmoid(gate) * up */                                       \
    XX(rope)       /* x, positions, and periods where there are three: see rope_flags */           \
    XX(dequantize) /* packed weights: values of format `bits` (packed.def), `count` in a group */  \
    XX(quantized_dot) /* x, packed weights: contracts the last axes of both */                     \
    XX(attention)     /* query, key, value, and what attention_flags say, in their order */        \
    XX(window)        /* x: folded over windows of it, see window_params */

typedef enum either_function {
#define XX(name) EITHER_##name,
    EITHER_MAP(XX)
#undef XX
        EITHER_COUNT
} either_function;

// Pairs of the first `count` elements of the last axis are turned by position * n[1] / period, the
// period of pair i being n[0] to the power 2 i / count where it is not given. A scalar position is
// that of the first element of the axis before the last; others are {batch, positions}, of the
// first two axes.
enum { ROPE_TRADITIONAL = 1 /* neighbours are pairs, else elements of both halves */ };

// Queries {batch, heads, queries, size}, keys {batch, groups, keys, size} and values of any size; a
// group serves heads / groups neighbouring heads. Scores are query * key * n[0]; query i sees keys
// up to number `count` + i where it is causal, and up to i + offset where that is given, {} or
// {batch}. What is not seen has the lowest finite score.
enum {
    ATTENTION_CAUSAL = 1,
    // Further operands.
    ATTENTION_OFFSET = 2,   // integers
    ATTENTION_MASK = 4,     // truth values, or floats that are added to scores; stretches to these
    ATTENTION_KEY_MASK = 8, // {batch, keys}: truth values
    ATTENTION_SINKS = 16    // {heads}: one more score in each sum, without a value
};

typedef struct either_params {
    uint32_t function; // either_function
    uint32_t bits;     // axes or flags
    int64_t count;
    double n[2];
} either_params;

// Window o begins at element o * strides - low of each axis, where one before the first or behind
// the last changes no fold; its elements are `dilations` apart. The fold is reduce_kind `bits`.
typedef struct window_params {
    either_params either;
    int64_t window[EMLX_MAX_RANK], strides[EMLX_MAX_RANK];
    int64_t dilations[EMLX_MAX_RANK], low[EMLX_MAX_RANK];
} window_params;

extern const char *const either_names[EITHER_COUNT];

// A step of a function of scalars: a `map` of earlier values.
typedef struct custom_step {
    map_params map;
    uint8_t type; // of the result
    uint16_t args[3];
} custom_step;

// Operands: a tensor, the value to start with (a scalar of the result's type), and scalars that the
// function uses. An element of the result is f(e_n, ... f(e_1, start)) over the elements e along
// the folded axes, in row-major order. The values of f are numbered: its two parameters, the
// scalars, then the steps.
typedef struct custom_params {
    uint32_t axes;   // as of reduce_params
    uint32_t result; // the number of the value that f gives
    uint32_t count;  // of steps
    custom_step steps[];
} custom_params;

// Operands: the elements {results, elements of a fold}, and the value to start with. The node holds
// a reference on the function (graph/function.h) until it has its data. As the number of a
// constant, it is no part of a plan but what the plan is run with.
typedef struct function_params {
    emlx_function *function;
} function_params;

#pragma GCC diagnostic pop

// Nodes -----------------------------------------------------------------------------------------

typedef struct eval_job eval_job;

struct emlx_tensor {
    atomic_int references;
    uint8_t type;        // emlx_type
    uint8_t primitive;   // primitive
    _Atomic bool chosen; // its type is the user's: it is the result of an op
    uint8_t evaluations; // times it was computed inside a kernel without being kept (guarded)
    uint32_t input_count;
    uint32_t params_size;
    atomic_uint depth; // longest chain of pending nodes from here down, itself included
    size_t pinned;     // bytes of data below when it was made, counted once for each way there
    _Atomic(emlx_buffer *) buffer;
    emlx_device *device;   // referenced
    eval_job *job;         // who is computing it now; guarded by the graph lock, as is the next
    uint32_t inner;        // references from nodes that the same evaluation claims
    emlx_buffer *promised; // where queued work puts its data, or NULL; guarded as well
    fence *settles;        // ends once that work has, and the node has its data or not
    const char *op;        // name of the op that made it, for messages
    void *params;          // inside this allocation
    emlx_tensor **inputs;  // inside this allocation; released once the buffer is there
    emlx_shape shape;
};

// A value in memory form, for constants.
typedef struct scalar_value {
    _Alignas(16) uint8_t bytes[16];
} scalar_value;

// Constructors. All give one reference in *out and retain what they are given; `op` is static text
// kept for messages. Callers have checked types and shapes; only memory can fail.
typedef struct node_spec {
    emlx_device *device;
    const char *op;
    primitive primitive;
    emlx_type type;
    emlx_shape shape;
    const void *params;
    size_t params_size;
    emlx_tensor *const *inputs;
    size_t input_count;
} node_spec;

emlx_status node_new(const node_spec *spec, emlx_tensor **out, emlx_error *err);
// A node that already has its data. Takes the buffer's reference over on success.
emlx_status node_from_buffer(emlx_device *device, emlx_type type, const emlx_shape *shape,
                             emlx_buffer *buffer, emlx_tensor **out, emlx_error *err);

// NULL while pending. The result is borrowed from the tensor.
static inline emlx_buffer *node_buffer(const emlx_tensor *t) {
    return atomic_load_explicit(&((emlx_tensor *)t)->buffer, memory_order_acquire);
}
// The function that a `function` folds with; NULL once it is computed, and for other nodes.
static inline emlx_function *node_function(const emlx_tensor *t) {
    return t->primitive == PRIM_function ? ((const function_params *)t->params)->function : NULL;
}
// Whether every element is one known number; then *value is it, in the tensor's type.
bool node_is_constant(const emlx_tensor *t, scalar_value *value);

#endif
