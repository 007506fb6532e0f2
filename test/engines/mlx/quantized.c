// SPDX-License-Identifier: Apache-2.0
// quantized.c - products with weights of few bits, of the plain adapter: each weight is read from
// the bits of its row when it is needed.
#include <math.h>

#include "engines/mlx/plain.h"

typedef struct weights {
    const plain_array *words, *scales, *biases;
    mlx_mode mode;
    int64_t group, bits;
} weights;

static uint32_t code_at(const weights *w, int64_t row, int64_t at) {
    uint32_t code = 0;
    int64_t length = w->words->dims[w->words->rank - 1];
    for (int64_t i = 0; i < w->bits; i++) {
        int64_t bit = at * w->bits + i;
        uint64_t word = plain_get(w->words, row * length + bit / 32).as.u;
        code |= (uint32_t)(word >> bit % 32 & 1) << i;
    }
    return code;
}

// A float of few bits without infinities: the sign, `exponent` bits and `mantissa` bits.
static double small_float(uint32_t code, int exponent, int mantissa) {
    int power = (int)(code >> mantissa) & ((1 << exponent) - 1);
    double part = code & ((1u << mantissa) - 1), bias = (1 << (exponent - 1)) - 1;
    double size = power == 0 ? ldexp(part, 1 - (int)bias - mantissa)
                             : ldexp(part + (1 << mantissa), power - (int)bias - mantissa);
    return code >> (exponent + mantissa) & 1 ? -size : size;
}

static double weight(const weights *w, int64_t row, int64_t at) {
    uint32_t code = code_at(w, row, at);
    int64_t groups = w->scales->dims[w->scales->rank - 1], place = row * groups + at / w->group;
    emlx_number scale = plain_get(w->scales, place);
    if (w->mode == MLX_MODE_affine)
        return scale.as.f[0] * code + plain_get(w->biases, place).as.f[0];
    double value = w->bits == 4 ? small_float(code, 2, 1) : small_float(code, 4, 3);
    uint32_t bits = (uint32_t)scale.as.u;
    return value *
           (w->mode == MLX_MODE_nvfp4 ? small_float(bits, 4, 3) : ldexp(1, (int)bits - 127));
}

static weights weights_of(const plain_call *c) {
    weights w = {.words = &c->in[1],
                 .scales = &c->in[2],
                 .mode = (mlx_mode)c->ints[0],
                 .group = c->ints[1],
                 .bits = c->ints[2]};
    bool affine = w.mode == MLX_MODE_affine;
    const plain_array *x = &c->in[0];
    if (c->count != (affine ? 4 : 3) || x->rank != 2 || w.words->rank != 2 ||
        w.words->dtype != MLX_DTYPE_u32 || (w.scales->dtype == MLX_DTYPE_u8) == affine)
        plain_refuse(c->run, "operands that are no packed weights");
    if (affine) w.biases = &c->in[3];
    if (w.words->dims[1] * 32 != x->dims[1] * w.bits || w.scales->dims[1] * w.group != x->dims[1])
        plain_refuse(c->run, "rows of another length than the weights have");
    return w;
}

plain_array plain_quantized_matmul(const plain_call *c) {
    weights w = weights_of(c);
    const plain_array *x = &c->in[0];
    const int64_t rows = x->dims[0], terms = x->dims[1], columns = w.words->dims[0];
    plain_array y = plain_new(c->run, x->dtype, 2, (int64_t[]){rows, columns});
    for (int64_t i = 0; i < rows * columns; i++) {
        double sum = 0;
        for (int64_t k = 0; k < terms; k++)
            sum += plain_get(x, i / columns * terms + k).as.f[0] * weight(&w, i % columns, k);
        plain_set(&y, i, plain_real(sum));
    }
    return y;
}
