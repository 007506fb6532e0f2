// SPDX-License-Identifier: Apache-2.0
// faults.c - the errors that depend on numbers.
#include "graph/faults.h"

#include "base/error.h"
#include "base/shape.h"

emlx_status guard_error(guard_kind guard, const char *op, emlx_error *err) {
    static const struct {
        emlx_status status;
        emlx_fault fault;
        const char *text;
    } words[] = {
#define XX(name, status, fault, text) [GUARD_##name] = {EMLX_##status, EMLX_FAULT_##fault, text},
        GUARD_MAP(XX)
#undef XX
    };
    error_fault(err, words[guard].status, words[guard].fault, "%s", words[guard].text);
    return op == NULL ? words[guard].status : error_prefix(err, words[guard].status, "%s", op);
}

indexing indexing_of(primitive p, const void *params) {
    const gather_params *g = params;
    const scatter_params *s = params;
    if (p == PRIM_scatter) return (indexing){s->count, s->axes, false, s->is_unsigned};
    return (indexing){g->along ? 1 : g->count, g->axes, g->along, g->is_unsigned};
}

emlx_status index_error_at(const indexing *how, const emlx_shape *array, int32_t place,
                           int64_t index, emlx_error *err) {
    if (how->along)
        return shape_bad_index(array, NULL, 0, how->axes[0], index, how->is_unsigned, err);
    return shape_bad_index(array, how->axes, how->count, place, index, how->is_unsigned, err);
}

emlx_status index_error(const indexing *how, const emlx_shape *array, const int64_t *row,
                        emlx_error *err) {
    int32_t i = 0;
    while (i + 1 < how->count && (uint64_t)row[i] < (uint64_t)array->dims[how->axes[i]]) i++;
    return index_error_at(how, array, i, row[i], err);
}
