// SPDX-License-Identifier: Apache-2.0
// fold.c - folds over axes, running ones, those with functions of the caller's, and the winners of
// windows.
#include <math.h>

#include "graph/function.h"
#include "plain.h"

// One fold ---------------------------------------------------------------------------------------

// What was folded so far. Real and complex numbers are summed and multiplied in long double.
typedef struct fold {
    reduce_kind kind;
    emlx_type type; // that elements are converted to
    int64_t count, place;
    emlx_number best; // the integer so far, or the element chosen
    long double re, im;
} fold;

static fold fold_begin(reduce_kind kind, emlx_type type) {
    fold f = {.kind = kind, .type = type, .place = -1};
    f.best = rounded_to(type, real_number(reduce_table[kind].neutral));
    f.re = reduce_table[kind].neutral;
    return f;
}

static void combine(fold *f, emlx_number x) {
    if (x.kind < EMLX_NUMBER_REAL) {
        const emlx_number both[2] = {f->best, x};
        scalar_op op = f->kind == REDUCE_SUM ? SCALAR_add : SCALAR_multiply;
        f->best = rounded_to(f->type, scalar_of(op, f->type, both));
        return;
    }
    long double re = x.as.f[0], im = x.kind == EMLX_NUMBER_COMPLEX ? x.as.f[1] : 0, old = f->re;
    if (f->kind == REDUCE_SUM) {
        f->re += re;
        f->im += im;
    } else if (x.kind == EMLX_NUMBER_REAL) {
        f->re *= re;
    } else {
        f->re = old * re - f->im * im;
        f->im = old * im + f->im * re;
    }
}

// A NaN wins. Of equals the first does, but for the kinds that are late; of NaN the last one does.
static bool wins(const fold *f, emlx_number x) {
    bool least = reduce_is_least(f->kind);
    bool late =
        reduce_table[f->kind].gives == GIVES_PLACED && reduce_table[f->kind].late == f->kind;
    if (f->count == 0 || number_is_nan(x)) return true;
    if (number_is_nan(f->best)) return false;
    bool better = least ? number_less(x, f->best) : number_less(f->best, x);
    bool worse = least ? number_less(f->best, x) : number_less(x, f->best);
    return better || (late && !worse);
}

static void fold_step(fold *f, emlx_number x) {
    x = rounded_to(f->type, x);
    if (reduce_table[f->kind].gives == GIVES_COMBINED) {
        combine(f, x);
    } else if (wins(f, x)) {
        f->best = x;
        f->place = f->count;
    }
    f->count++;
}

static emlx_number fold_end(const fold *f) {
    if (reduce_table[f->kind].gives == GIVES_PLACED) return signed_number(f->place);
    if (reduce_table[f->kind].gives == GIVES_CHOSEN || type_is_integer(f->type)) return f->best;
    emlx_number sum = {.kind = EMLX_NUMBER_REAL, .as.f = {(double)f->re, (double)f->im}};
    if (type_is_complex(f->type)) sum.kind = EMLX_NUMBER_COMPLEX;
    return rounded_to(f->type, sum);
}

// Over axes --------------------------------------------------------------------------------------

// The axes of a shape whose bits are set, or are not, as a shape of its own.
static emlx_shape some_axes(const emlx_shape *shape, uint32_t axes, bool set) {
    emlx_shape some = {0};
    for (int32_t d = 0; d < shape->rank; d++)
        if ((axes >> d & 1) == set) some.dims[some.rank++] = shape->dims[d];
    return some;
}

// The element of a fold in the operand: number `result` in the kept axes, `element` in the folded.
static int64_t element_at(const emlx_shape *shape, uint32_t axes, int64_t result, int64_t element) {
    emlx_shape kept = some_axes(shape, axes, false), folded = some_axes(shape, axes, true);
    int64_t outer[EMLX_MAX_RANK], inner[EMLX_MAX_RANK], index[EMLX_MAX_RANK];
    const int64_t *next[2] = {outer, inner};
    index_of(&kept, result, outer);
    index_of(&folded, element, inner);
    for (int32_t d = 0; d < shape->rank; d++) index[d] = *next[axes >> d & 1]++;
    return position_of(shape, index);
}

static int64_t fold_length(const emlx_shape *shape, uint32_t axes) {
    emlx_shape folded = some_axes(shape, axes, true);
    return emlx_shape_count(&folded);
}

emlx_status run_reduce(node_run *r) {
    const reduce_params *p = r->node->params;
    int64_t length = fold_length(r->in[0].shape, p->axes);
    for (int64_t i = 0; i < r->out.count; i++) {
        fold f = fold_begin((reduce_kind)p->kind, (emlx_type)p->accumulate);
        for (int64_t n = 0; n < length; n++)
            fold_step(&f, array_get(&r->in[0], element_at(r->in[0].shape, p->axes, i, n)));
        array_set(&r->out, i, fold_end(&f));
    }
    return EMLX_OK;
}

emlx_status run_scan(node_run *r) {
    const scan_params *p = r->node->params;
    uint32_t axes = 1u << p->axis;
    int64_t length = r->out.shape->dims[p->axis];
    for (int64_t i = 0; length > 0 && i < r->out.count / length; i++) {
        fold f = fold_begin((reduce_kind)p->kind, r->in[0].type);
        for (int64_t n = 0; n < length; n++) {
            int64_t at = element_at(r->out.shape, axes, i, p->reverse ? length - 1 - n : n);
            fold_step(&f, array_get(&r->in[0], at));
            array_set(&r->out, at, fold_end(&f));
        }
    }
    return EMLX_OK;
}

// With a function --------------------------------------------------------------------------------

enum { MOST_VALUES = 4096 };

typedef struct custom_run {
    const node_run *r;
    const custom_params *params;
    emlx_number *values;
    emlx_type *types;
} custom_run;

static emlx_status custom_step_of(const custom_run *c, uint32_t i) {
    const custom_step *s = &c->params->steps[i];
    uint32_t first = c->r->node->operand_count;
    bool guard = s->map.guard != GUARD_NONE;
    int count = guard ? 2 : scalar_table[s->map.op].operands;
    emlx_number args[3] = {0};
    emlx_type from[3] = {0};
    for (int a = 0; a < count; a++) {
        args[a] = c->values[s->args[a]];
        from[a] = c->types[s->args[a]];
    }
    c->types[first + i] = (emlx_type)s->type;
    return map_of(&s->map, from, (emlx_type)s->type, args, &c->values[first + i], c->r->err);
}

emlx_status run_custom(node_run *r) {
    const custom_params *p = r->node->params;
    emlx_number values[MOST_VALUES] = {0};
    emlx_type types[MOST_VALUES] = {0};
    custom_run c = {r, p, values, types};
    int64_t length = fold_length(r->in[0].shape, p->axes);
    if (r->node->operand_count + p->count > MOST_VALUES)
        return error_set(r->err, EMLX_UNSUPPORTED, "plain has no room for so long a function");
    for (uint32_t v = 0; v < r->node->operand_count; v++) {
        types[v] = r->in[v].type;
        if (v >= 2) values[v] = array_get(&r->in[v], 0);
    }
    for (int64_t i = 0; i < r->out.count; i++) {
        values[1] = array_get(&r->in[1], 0);
        for (int64_t n = 0; n < length; n++) {
            values[0] = array_get(&r->in[0], element_at(r->in[0].shape, p->axes, i, n));
            for (uint32_t s = 0; s < p->count; s++) TRY(custom_step_of(&c, s));
            values[1] = rounded_to(types[1], values[p->result]);
        }
        array_set(&r->out, i, values[1]);
    }
    return EMLX_OK;
}

// The function runs on arrays of one element: what is folded, and the result.
emlx_status run_function(node_run *r) {
    emlx_function *function = r->function;
    int64_t length = r->in[0].shape->dims[1], size = (int64_t)type_size(r->in[0].type);
    for (int64_t i = 0; i < r->out.count; i++) {
        char *out = r->out.data + i * (int64_t)type_size(r->out.type);
        array_set(&r->out, i, array_get(&r->in[1], 0));
        for (int64_t n = 0; n < length; n++) {
            const void *inputs[2] = {r->in[0].data + (i * length + n) * size, out};
            TRY(function->call(function, inputs, out, r->err));
        }
    }
    return EMLX_OK;
}

// Windows ----------------------------------------------------------------------------------------

// The last of equals wins. A NaN stays where it is the first, and else never wins.
emlx_status run_pick(node_run *r) {
    const pick_params *p = r->node->params;
    emlx_shape window = *r->out.shape;
    int64_t cell[EMLX_MAX_RANK], inside[EMLX_MAX_RANK];
    for (int32_t d = 0; d < window.rank; d++) window.dims[d] = p->window[d];
    for (int64_t i = 0; i < r->out.count; i++) {
        int64_t winner = -1;
        emlx_number best = {0};
        index_of(r->out.shape, i, cell);
        for (int64_t n = 0; n < emlx_shape_count(&window); n++) {
            index_of(&window, n, inside);
            for (int32_t d = 0; d < window.rank; d++) inside[d] += cell[d] * p->strides[d];
            int64_t at = position_of(r->in[0].shape, inside);
            emlx_number x = array_get(&r->in[0], at);
            bool unordered = number_is_nan(x) || number_is_nan(best);
            bool loses = p->lowest ? number_less(best, x) : number_less(x, best);
            if (n > 0 && (unordered || loses)) continue;
            best = x;
            winner = at;
        }
        array_set(&r->out, i, signed_number(winner));
    }
    return EMLX_OK;
}
