// SPDX-License-Identifier: Apache-2.0
// cast.c - our element types in MLX's, and Nx's rules of casting with MLX's casts.
#include <math.h>

#include "base/types.h"
#include "engines/mlx/lower/builder.h"

static const uint8_t dtypes[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = MLX_DTYPE_u8,   [EMLX_U4] = MLX_DTYPE_u8,        [EMLX_U8] = MLX_DTYPE_u8,
    [EMLX_U16] = MLX_DTYPE_u16, [EMLX_U32] = MLX_DTYPE_u32,      [EMLX_U64] = MLX_DTYPE_u64,
    [EMLX_S2] = MLX_DTYPE_s8,   [EMLX_S4] = MLX_DTYPE_s8,        [EMLX_S8] = MLX_DTYPE_s8,
    [EMLX_S16] = MLX_DTYPE_s16, [EMLX_S32] = MLX_DTYPE_s32,      [EMLX_S64] = MLX_DTYPE_s64,
    [EMLX_F8] = MLX_DTYPE_u8,   [EMLX_F8_E4M3FN] = MLX_DTYPE_u8, [EMLX_BF16] = MLX_DTYPE_bf16,
    [EMLX_F16] = MLX_DTYPE_f16, [EMLX_F32] = MLX_DTYPE_f32,      [EMLX_F64] = MLX_DTYPE_f64,
    [EMLX_C64] = MLX_DTYPE_c64, [EMLX_C128] = MLX_DTYPE_COUNT,
};

mlx_dtype mlx_dtype_for(emlx_type type) { return (mlx_dtype)dtypes[type]; }

value mlx_wrap(builder *b, value x, emlx_type type) {
    int bits = type_table[type].bits;
    if (bits >= 8 || !type_is_integer(type)) return x;
    mlx_dtype d = mlx_dtype_for(type);
    x = mlx_binary(b, MLX_bitwise_and, x, mlx_integer(b, (1 << bits) - 1, d));
    if (type_class_of(type) == CLASS_UNSIGNED) return x;
    value half = mlx_integer(b, 1 << (bits - 1), d);
    return mlx_binary(b, MLX_subtract, mlx_binary(b, MLX_bitwise_xor, x, half), half);
}

// An f8 (e5m2) is the upper byte of an f16.
value mlx_widen(builder *b, value x, emlx_type type) {
    if (type == EMLX_F8_E4M3FN) return mlx_emit(b, MLX_from_fp8, MLX_DTYPE_f32, &x, 1, NULL, 0);
    if (type != EMLX_F8) return x;
    x = mlx_to_dtype(b, x, MLX_DTYPE_u16);
    x = mlx_binary(b, MLX_left_shift, x, mlx_integer(b, 8, MLX_DTYPE_u16));
    x = mlx_emit(b, MLX_view, MLX_DTYPE_f16, &x, 1, NULL, 0);
    return mlx_to_dtype(b, x, MLX_DTYPE_f32);
}

static int64_t highest(emlx_type type) {
    int bits = type_table[type].bits - (type_class_of(type) == CLASS_SIGNED);
    return bits == 64 ? -1 : (int64_t)((UINT64_C(1) << bits) - 1); // all ones, whatever the sign
}

static int64_t lowest(emlx_type type) {
    return type_class_of(type) == CLASS_SIGNED ? -highest(type) - 1 : 0;
}

// Numbers beyond s64 modulo 2^64, into its range; every step is exact. NaN and infinities are 0.
static value modulo(builder *b, value x, value magnitude, mlx_dtype d) {
    value whole = mlx_real(b, 0x1p64, d), half = mlx_real(b, 0x1p63, d);
    value big = mlx_test(b, MLX_greater_equal, magnitude, half);
    value times = mlx_unary(b, MLX_floor, mlx_binary(b, MLX_multiply, x, mlx_real(b, 0x1p-64, d)));
    value rest = mlx_binary(b, MLX_subtract, x, mlx_binary(b, MLX_multiply, times, whole));
    value low = mlx_binary(b, MLX_subtract, rest, whole);
    rest = mlx_where(b, mlx_test(b, MLX_greater_equal, rest, half), low, rest);
    value finite = mlx_test(b, MLX_less, magnitude, mlx_real(b, INFINITY, d));
    return mlx_where(b, finite, mlx_where(b, big, rest, x), mlx_real(b, 0, d));
}

// Whole numbers wrap, NaN is 0, infinities are the ends of the type.
static value float_to_integer(builder *b, value x, emlx_type to) {
    mlx_dtype d = mlx_dtype_of(b, x), s = mlx_dtype_for(to);
    if (d == MLX_DTYPE_f16 || d == MLX_DTYPE_bf16) x = mlx_to_dtype(b, x, d = MLX_DTYPE_f32);
    value whole = mlx_to_dtype(b, modulo(b, x, mlx_unary(b, MLX_abs, x), d), MLX_DTYPE_s64);
    value y = mlx_wrap(b, mlx_to_dtype(b, whole, s), to);
    value up = mlx_test(b, MLX_equal, x, mlx_real(b, INFINITY, d));
    value down = mlx_test(b, MLX_equal, x, mlx_real(b, -INFINITY, d));
    y = mlx_where(b, up, mlx_integer(b, highest(to), s), y);
    return mlx_where(b, down, mlx_integer(b, lowest(to), s), y);
}

value mlx_cast(builder *b, value x, emlx_type from, emlx_type to) {
    if (from == to) return x;
    x = mlx_widen(b, x, from);
    if (type_is_complex(from) && !type_is_complex(to))
        x = mlx_emit(b, MLX_real, MLX_DTYPE_f32, &x, 1, NULL, 0);
    if (!type_is_integer(from) && type_is_integer(to)) return float_to_integer(b, x, to);
    return mlx_wrap(b, mlx_to_dtype(b, x, mlx_dtype_for(to)), to);
}
