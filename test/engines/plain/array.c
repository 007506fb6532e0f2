// SPDX-License-Identifier: Apache-2.0
// array.c - elements of arrays, and numbers.
#include "plain.h"

#include <math.h>

emlx_number array_get(const array *a, int64_t position) {
    return type_load(a->type, a->data + position * (int64_t)type_size(a->type));
}

void array_set(array *a, int64_t position, emlx_number value) {
    type_store(a->type, &value, a->data + position * (int64_t)type_size(a->type));
}

emlx_number real_number(long double x) {
    return (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {(double)x}};
}

emlx_number signed_number(int64_t x) {
    return (emlx_number){.kind = EMLX_NUMBER_SIGNED, .as.s = x};
}

emlx_number rounded_to(emlx_type type, emlx_number x) {
    scalar_value room;
    type_store(type, &x, room.bytes);
    return type_load(type, room.bytes);
}

int64_t whole_part(emlx_number x) { return rounded_to(EMLX_S64, x).as.s; }

bool number_is_nan(emlx_number x) {
    if (x.kind < EMLX_NUMBER_REAL) return false;
    return isnan(x.as.f[0]) || (x.kind == EMLX_NUMBER_COMPLEX && isnan(x.as.f[1]));
}

bool number_less(emlx_number x, emlx_number y) {
    if (x.kind == EMLX_NUMBER_SIGNED) return x.as.s < y.as.s;
    if (x.kind == EMLX_NUMBER_UNSIGNED) return x.as.u < y.as.u;
    return x.as.f[0] < y.as.f[0];
}

void index_of(const emlx_shape *shape, int64_t position, int64_t *index) {
    for (int32_t d = shape->rank - 1; d >= 0; d--) {
        index[d] = position % shape->dims[d];
        position /= shape->dims[d];
    }
}

int64_t position_of(const emlx_shape *shape, const int64_t *index) {
    int64_t position = 0;
    for (int32_t d = 0; d < shape->rank; d++) position = position * shape->dims[d] + index[d];
    return position;
}
