// SPDX-License-Identifier: Apache-2.0
// edge.h - what crosses between libemlx, which is C, and the adapter that links MLX, which is C++.
// Plain C types only: neither side's headers can be read by the other.
//
// The adapter decides nothing. It is a shared object of its own, opened at run time; all of its
// functions are called from one thread, that of the session, but for those that say otherwise.
#ifndef EMLX_ENGINES_MLX_EDGE_H
#define EMLX_ENGINES_MLX_EDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// Raised with every change of this file: libemlx opens adapters of its own number only.
#define MLX_EDGE_VERSION 4
#define MLX_EDGE_SYMBOL "emlx_mlx_edge"
#define MLX_MAX_RANK 16

// MLX's types: name in our words, in MLX's, bytes of an element.
#define MLX_DTYPE_MAP(XX)                                                                          \
    XX(bool, bool_, 1)                                                                             \
    XX(u8, uint8, 1)                                                                               \
    XX(u16, uint16, 2)                                                                             \
    XX(u32, uint32, 4)                                                                             \
    XX(u64, uint64, 8)                                                                             \
    XX(s8, int8, 1)                                                                                \
    XX(s16, int16, 2)                                                                              \
    XX(s32, int32, 4)                                                                              \
    XX(s64, int64, 8)                                                                              \
    XX(f16, float16, 2)                                                                            \
    XX(bf16, bfloat16, 2)                                                                          \
    XX(f32, float32, 4)                                                                            \
    XX(f64, float64, 8)                                                                            \
    XX(c64, complex64, 8)

typedef enum mlx_dtype {
#define XX(name, theirs, size) MLX_DTYPE_##name,
    MLX_DTYPE_MAP(XX)
#undef XX
        MLX_DTYPE_COUNT
} mlx_dtype;

// What an instruction does with its operands (arrays) and integers. `rank` is the operand's.
//
// clang-format off
//   literal         a number of type `dtype`: the integer, or the bits of the f64 it is rounded from
//   zeros           ints: shape
//   arange          0, 1, ...; ints: the count
//   astype, view    to `dtype`; view keeps the bits
//   from_fp8        u8 that hold f8_e4m3fn, to f32
//   contiguous      a dense copy, where it is not one
//   reshape, broadcast_to, transpose     ints: shape, or axes
//   as_strided      of a dense operand; ints: offset, rank, shape, strides in elements
//   slice           ints: starts, stops, steps
//   slice_at        operand 1: s32 starts; ints: count, axes, lengths of all axes
//   slice_update    operand 1 into operand 0; ints: starts, stops, steps
//   slice_update_at operand 1 into operand 0 from operand 2, s32 starts; ints: axes
//   concatenate     ints: axis
//   pair            the complex number of two real operands
//   where           operand 1 or 2, as operand 0, a bool, says
//   sum prod max min any    ints: whether axes are kept, axes
//   argmax          of a list
//   take            elements, or slices along an axis, at the indices in operand 1; ints: axis
//   gather          operands 1 and on: indices; ints: their axes, lengths of a slice
//   take_along_axis, sort, argsort       ints: axis
//   scatter, scatter_add   operand 0: target, last operand: updates; ints: axes of the indices
//   cumsum cumprod cummax cummin         ints: axis, whether in reverse
//   conv            channels last; ints: spatial axes, groups, and for each axis the stride and
//                   the kernel's dilation
//   softmax         of all digits; ints: axes
//   logsumexp       ints: whether axes are kept, axes
//   rope            operands: x, s32 offset, f32 periods if any; ints: dims, whether neighbours are
//                   pairs, bits of the f64 base and scale
//   attention       operands: queries, keys, values, sinks if any; ints: bits of the f64 scale,
//                   whether it is causal, whether there are sinks
//   rms_norm, layer_norm   operands: x, weight, bias if any; ints: the bits of the f64 eps
//   quantized_matmul       operands: x, u32 words that hold rows of weights, scales, biases if any;
//                   ints: mlx_mode, weights that share a scale, bits of a weight
// clang-format on
typedef enum mlx_code {
#define UNARY(name) MLX_##name,
#define BINARY(name) MLX_##name,
#define OTHER(name) MLX_##name,
#include "engines/mlx/edge/codes.def"
#undef UNARY
#undef BINARY
#undef OTHER
    MLX_CODE_COUNT
} mlx_code;

// How weights of few bits are packed, by MLX's names.
#define MLX_MODE_MAP(XX)                                                                           \
    XX(affine)                                                                                     \
    XX(mxfp4)                                                                                      \
    XX(mxfp8)                                                                                      \
    XX(nvfp4)

typedef enum mlx_mode {
#define XX(name) MLX_MODE_##name,
    MLX_MODE_MAP(XX)
#undef XX
        MLX_MODE_COUNT
} mlx_mode;

typedef struct mlx_instruction {
    uint16_t code;                    // mlx_code
    uint16_t dtype;                   // mlx_dtype of the result
    uint32_t operands, operand_count; // in the list's operands
    uint32_t ints, int_count;         // in the list's ints
} mlx_instruction;

typedef struct mlx_input {
    uint32_t dtype;
    int32_t rank;
    int64_t dims[MLX_MAX_RANK];
} mlx_input;

// A function of arrays. Values are numbered: the inputs, then the result of each instruction.
// Outputs come out dense. The list and what it points to outlive the function made of it.
typedef struct mlx_list {
    uint32_t input_count, count, output_count;
    const mlx_input *inputs;
    const mlx_instruction *code;
    const uint32_t *operands;
    const int64_t *ints;
    const uint32_t *outputs; // values
} mlx_list;

typedef struct mlx_session mlx_session;
typedef struct mlx_function mlx_function;
typedef struct mlx_block mlx_block; // memory of MLX's, counted

typedef enum mlx_target { MLX_TARGET_CPU, MLX_TARGET_GPU } mlx_target;

typedef struct mlx_memory {
    size_t active, peak, cache;
} mlx_memory;

// Where a function can fail it gives false and writes a sentence into `message`.
#define MLX_MESSAGE_SIZE 512

typedef struct mlx_edge {
    uint32_t version;                 // MLX_EDGE_VERSION of the adapter
    const char *(*mlx_version)(void); // any thread
    // Whether there is such a device. Any thread.
    bool (*available)(mlx_target target, char *message);
    // Whether the host reads its memory where it is, in no time. Any thread.
    bool (*shares_memory)(mlx_target target);
    // Whether it is Metal. Any thread.
    bool (*is_metal)(mlx_target target);

    bool (*open)(mlx_target target, mlx_session **out, char *message);
    void (*close)(mlx_session *session);

    bool (*block_new)(mlx_session *session, size_t size, mlx_block **out, char *message);
    // NULL where the host cannot reach it. Any thread, but where memory is not shared: then it
    // may be moved.
    void *(*block_data)(mlx_block *block);
    void (*block_free)(mlx_block *block);

    bool (*compile)(mlx_session *session, const mlx_list *list, mlx_function **out, char *message);
    // Fills `outputs` with blocks of the caller's. Blocks in `inputs` are borrowed.
    bool (*run)(mlx_session *session, mlx_function *function, mlx_block *const *inputs,
                mlx_block **outputs, char *message);
    void (*drop)(mlx_session *session, mlx_function *function);

    void (*memory)(mlx_memory *out); // any thread
    void (*clear_cache)(void);
    size_t (*set_memory_limit)(size_t bytes); // both give the limit before
    size_t (*set_cache_limit)(size_t bytes);
    void (*reset_peak)(void);
    // Of Metal's calls, into a file.
    bool (*capture_start)(const char *path, char *message);
    bool (*capture_stop)(char *message);
} mlx_edge;

// The adapter's one symbol, MLX_EDGE_SYMBOL.
typedef const mlx_edge *(*mlx_edge_fn)(void);

#ifdef __cplusplus
}
#endif

#endif
