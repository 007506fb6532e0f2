// SPDX-License-Identifier: Apache-2.0
// epilogue.c - reads a map's steps as a sum of a product, a tensor beside it and a vector.
#include "engines/cuda/library/epilogue.h"

#include <string.h>

#include "base/types.h"

enum { STEPS_MOST = 16 };

// What a step is: a constant, or a sum of some of the three.
typedef struct term {
    bool known, product;
    product_epilogue sum; // `factor` alone, where it is a constant
} term;

typedef struct reader {
    const plan_kernel *map;
    emlx_type type;             // of the result
    const plan_access *product; // where the map reads it
    int64_t columns;
    term terms[STEPS_MOST];
} reader;

static const term nothing = {.sum = {1, 1, NO_PART, NO_PART, NO_PART}};

static bool is_constant(const term *t) {
    return !t->product && t->sum.residual == NO_PART && t->sum.bias == NO_PART;
}

// Whether it is that part alone, as it is.
static bool is_bias(const term *t) {
    return !t->product && t->sum.residual == NO_PART && t->sum.bias != NO_PART;
}

static bool is_residual(const term *t) {
    return !t->product && t->sum.residual != NO_PART && t->sum.bias == NO_PART;
}

static bool is_whole(const plan_kernel *map, const plan_access *product, const plan_access *a) {
    return a->start_count == 0 &&
           memcmp(a->strides, product->strides, (size_t)map->rank * sizeof *a->strides) == 0;
}

// A vector beside the rows, aligned as the library wants it.
static bool is_beside_rows(const reader *r, const plan_access *a) {
    return a->start_count == 0 && r->map->rank == 2 && r->map->dims[1] == r->columns &&
           a->strides[0] == 0 && a->strides[1] == 1 &&
           a->offset * (int64_t)type_size(a->type) % VECTOR_ALIGNMENT == 0;
}

static term read_load(const reader *r, const expr_step *s) {
    const plan_access *a = &r->map->accesses[s->index];
    term t = nothing;
    t.known = a->type == r->type;
    if (a == r->product)
        t.product = true;
    else if (is_whole(r->map, r->product, a))
        t.sum.residual = s->index;
    else if (is_beside_rows(r, a))
        t.sum.bias = s->index;
    else
        t.known = false;
    return t;
}

// Types that the result is computed in and stored as.
static bool is_own(const reader *r, int type) {
    return type == (int)r->type || type == (int)type_compute(r->type);
}

static term read_constant(const reader *r, const expr_step *s) {
    term t = nothing;
    t.known = is_own(r, s->type);
    t.sum.factor = s->index;
    return t;
}

// A constant may not be rounded on the way, a sum is rounded at its end.
static term read_cast(const reader *r, const expr_step *s) {
    term t = r->terms[s->args[0]];
    bool rounded = is_constant(&t) && s->type != s->compute && s->type == r->type;
    t.known = t.known && !rounded && is_own(r, s->type) && is_own(r, s->compute);
    return t;
}

static term negated(const term *t) {
    term n = *t;
    n.sum.scale = -n.sum.scale;
    n.sum.side = -n.sum.side;
    n.known = n.known && n.sum.bias == NO_PART && !is_constant(t);
    return n;
}

// Two sums whose own sum the library makes in the same order. In numbers of two bytes it makes it
// in f32; in wider ones a scale would be multiplied and added in one.
static term read_sum(const reader *r, const term *a, const term *b) {
    const term *base = a->product ? a : b, *added = a->product ? b : a;
    term t = *base;
    bool exact = type_size(r->type) == 2 || base->sum.factor == NO_PART;
    t.known = a->known && b->known && base->product && exact && base->sum.bias == NO_PART;
    if (is_bias(added)) {
        t.sum.bias = added->sum.bias;
    } else if (is_residual(added) && base->sum.residual == NO_PART) {
        t.sum.residual = added->sum.residual;
        t.sum.side = added->sum.side;
    } else {
        t.known = false;
    }
    return t;
}

static term read_multiply(const term *a, const term *b) {
    const term *base = a->product ? a : b, *factor = a->product ? b : a;
    term t = *base;
    bool alone = base->sum.residual == NO_PART && base->sum.bias == NO_PART;
    t.known = a->known && b->known && base->product && is_constant(factor) && alone &&
              base->sum.factor == NO_PART;
    t.sum.factor = factor->sum.factor;
    return t;
}

static term read_scalar(const reader *r, const expr_step *s) {
    const term *a = &r->terms[s->args[0]], *b = &r->terms[s->args[1]];
    term minus;
    switch ((scalar_op)s->op) {
    case SCALAR_add: return read_sum(r, a, b);
    case SCALAR_subtract: minus = negated(b); return read_sum(r, a, &minus);
    case SCALAR_multiply: return read_multiply(a, b);
    case SCALAR_negate: return negated(a);
    default: return (term){.known = false};
    }
}

static term read_step(const reader *r, const expr_step *s) {
    switch ((expr_kind)s->kind) {
    case EXPR_LOAD: return read_load(r, s);
    case EXPR_CONST: return read_constant(r, s);
    case EXPR_CAST: return read_cast(r, s);
    case EXPR_SCALAR:
        if (s->compute == type_compute(r->type)) return read_scalar(r, s);
        break;
    default: break;
    }
    return (term){.known = false};
}

static const plan_access *find_product(const plan_kernel *product, const plan_kernel *map) {
    for (uint32_t i = 0; i < map->access_count; i++)
        if (map->accesses[i].value == product->output) return &map->accesses[i];
    return NULL;
}

bool epilogue_find(const plan_kernel *product, const plan_kernel *map, int64_t columns,
                   product_epilogue *out) {
    reader r = {.map = map, .columns = columns, .product = find_product(product, map)};
    if (r.product == NULL || map->step_count > STEPS_MOST) return false;
    r.type = r.product->type;
    bool suits =
        r.type == EMLX_F32 || r.type == EMLX_F64 || r.type == EMLX_F16 || r.type == EMLX_BF16;
    for (uint32_t i = 0; i < map->step_count && suits; i++)
        r.terms[i] = read_step(&r, &map->steps[i]);
    if (!suits) return false;
    const term *result = &r.terms[map->stores[0].step];
    *out = result->sum;
    return result->known && result->product;
}
