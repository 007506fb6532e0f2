// SPDX-License-Identifier: Apache-2.0
// programs.c - random programs of many ops and types.
#include "mlx/programs.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/types.h"
#include "engine.h"

// Text ------------------------------------------------------------------------------------------

static void say(program *p, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(program *p, const char *format, ...) {
    va_list list;
    va_start(list, format);
    int n = vsnprintf(p->text + p->length, PROGRAM_TEXT - p->length, format, list);
    va_end(list);
    if (n > 0 && (size_t)n < PROGRAM_TEXT - p->length) p->length += (size_t)n;
}

static void say_attrs(program *p, const emlx_attr *attrs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        say(p, " %s:", attrs[i].name);
        if (attrs[i].kind == EMLX_ATTR_TEXT) say(p, " %s", attrs[i].text);
        if (attrs[i].kind == EMLX_ATTR_INTS)
            for (size_t k = 0; k < attrs[i].count; k++)
                say(p, " %lld", (long long)attrs[i].ints[k]);
        if (attrs[i].kind == EMLX_ATTR_INT || attrs[i].kind == EMLX_ATTR_BOOL)
            say(p, " %lld", (long long)attrs[i].value.as.s);
    }
}

static void say_type(program *p, const emlx_tensor *t) {
    const emlx_shape *s = emlx_tensor_shape(t);
    say(p, " -> %s[", emlx_type_name(emlx_tensor_type(t)));
    for (int32_t d = 0; d < s->rank; d++) say(p, d > 0 ? ",%lld" : "%lld", (long long)s->dims[d]);
    say(p, "]\n");
}

// Values ----------------------------------------------------------------------------------------

static const emlx_type types[] = {
    EMLX_F32, EMLX_F32, EMLX_F32, EMLX_S32, EMLX_S32, EMLX_S64, EMLX_F16,       EMLX_F16, EMLX_BF16,
    EMLX_U8,  EMLX_U8,  EMLX_S8,  EMLX_F64, EMLX_F64, EMLX_C64, EMLX_U16,       EMLX_S16, EMLX_U32,
    EMLX_U64, EMLX_U2,  EMLX_S4,  EMLX_U4,  EMLX_S2,  EMLX_F8,  EMLX_F8_E4M3FN, EMLX_C128};
static const double special[] = {NAN,   INFINITY, -INFINITY, -0.0, 1e30,
                                 -1e30, 1e-40,    0.5,       -0.5, 65504};
#define COUNT_OF(list) (sizeof(list) / sizeof *(list))
#define ONE_OF(list) (list)[draw(COUNT_OF(list))]

static double some_real(void) {
    if (draw(20) == 0) return ONE_OF(special);
    return ((double)draw(65) - 32) / 8;
}

static emlx_number some_number(emlx_type type) {
    emlx_number n = {.kind = EMLX_NUMBER_SIGNED};
    if (type_is_integer(type)) {
        n.as.s = (int64_t)draw(9) - (type_class_of(type) == CLASS_SIGNED ? 4 : 0);
        if (draw(12) == 0) n.as.u = (uint64_t)draw(UINT32_MAX) << 33 ^ draw(UINT32_MAX) >> draw(31);
        if (draw(60) == 0) n.as.u = UINT64_C(1) << (type_table[type].bits - 1);
        return n;
    }
    n.kind = type_is_complex(type) ? EMLX_NUMBER_COMPLEX : EMLX_NUMBER_REAL;
    n.as.f[0] = some_real();
    n.as.f[1] = type_is_complex(type) ? some_real() : 0;
    return n;
}

static double magnitude(const emlx_tensor *t, emlx_number n) {
    emlx_type type = emlx_tensor_type(t);
    double most = 0;
    if (type_is_integer(type)) return fabs((double)n.as.s);
    for (int i = 0; i <= type_is_complex(type); i++)
        if (isfinite(n.as.f[i]) && fabs(n.as.f[i]) > most) most = fabs(n.as.f[i]);
    return most;
}

static void say_data(program *p, emlx_tensor *t) {
    emlx_type type = emlx_tensor_type(t);
    const unsigned char *data;
    if (emlx_tensor_data(t, (const void **)&data, NULL) != EMLX_OK) return;
    for (size_t at = 0; at < emlx_tensor_bytes(t); at += type_size(type)) {
        emlx_number n = type_load(type, data + at);
        if (type_is_integer(type))
            say(p, " %lld", (long long)n.as.s);
        else
            say(p, type_is_complex(type) ? " %.9g:%.9g" : " %.17g", n.as.f[0], n.as.f[1]);
    }
    say(p, "\n");
}

// Leaves: the same bytes on both devices.
static int fresh(program *p, emlx_type type, const emlx_shape *shape) {
    size_t size = (size_t)emlx_shape_count(shape) * type_size(type);
    unsigned char *data = malloc(size + 16);
    emlx_error err;
    program_value v = {0};
    assert_non_null(data);
    for (size_t at = 0; at < size; at += type_size(type)) {
        emlx_number n = some_number(type);
        type_store(type, &n, data + at);
    }
    assert_ok(emlx_tensor_from_data(p->ours, type, shape, data, size, &v.ours, &err), err);
    assert_ok(emlx_tensor_from_data(p->theirs, type, shape, data, size, &v.theirs, &err), err);
    for (size_t at = 0; at < size; at += type_size(type))
        v.scale = fmax(v.scale, magnitude(v.ours, type_load(type, data + at)));
    free(data);
    p->values[p->count] = v;
    say(p, "v%d = leaf", p->count);
    say_type(p, v.ours);
    if (getenv("EMLX_DIFFER_DATA") != NULL) say_data(p, v.ours);
    return p->count++;
}

static emlx_shape some_shape(void) {
    static const int64_t longer[] = {7, 16, 33, 64, 129};
    emlx_shape s = {.rank = (int32_t)draw(5)};
    if (draw(12) == 0) return (emlx_shape){2, {ONE_OF(longer), 1 + draw(3)}};
    if (draw(12) == 0) return (emlx_shape){2, {1 + draw(3), ONE_OF(longer)}};
    for (int32_t d = 0; d < s.rank; d++) s.dims[d] = draw(40) == 0 ? 0 : 1 + draw(5);
    return s;
}

static int some_value(program *p) {
    if (p->count < 2 || (p->count < PROGRAM_VALUES / 2 && draw(6) == 0)) {
        emlx_shape s = some_shape();
        return fresh(p, ONE_OF(types), &s);
    }
    return draw(3) == 0 ? (int)draw((uint32_t)p->count)
                        : p->count - 1 - (int)draw(p->count < 3 ? 1 : 3);
}

static const emlx_shape *shape_of(const program *p, int v) {
    return emlx_tensor_shape(p->values[v].ours);
}
static emlx_type type_of(const program *p, int v) { return emlx_tensor_type(p->values[v].ours); }

// One that broadcasts with v.
static int partner(program *p, int v) {
    const emlx_shape *s = shape_of(p, v);
    for (int tries = 0; tries < 4; tries++) {
        int w = (int)draw((uint32_t)p->count);
        const emlx_shape *t = shape_of(p, w);
        bool same = t->rank == s->rank && memcmp(t->dims, s->dims, (size_t)s->rank * 8) == 0;
        if (same || t->rank == 0) return w;
    }
    emlx_shape other = *s;
    if (draw(4) == 0) other.rank = 0;
    for (int32_t d = 0; d < other.rank; d++)
        if (draw(4) == 0) other.dims[d] = 1;
    return fresh(p, draw(2) == 0 ? type_of(p, v) : ONE_OF(types), &other);
}

// Steps -----------------------------------------------------------------------------------------

// What becomes of roughness: SMOOTH functions take rough values, others refuse them; what SUMS
// gives is rough where it is a float; what is MATH is rough where MLX computes it.
enum { STEPS = 0, SMOOTH = 1, SUMS = 2, MATH = 4 };

typedef struct step_row step_row;
struct step_row {
    const char *op;
    void (*draw)(program *p, const step_row *row);
    int nature;
    int weight;
};

// The largest number that can have gone into a result, which may have cancelled.
static double scale_of(const program *p, const step_row *row, const int *operands, size_t count) {
    double scale = 0;
    for (size_t i = 0; i < count; i++) scale = fmax(scale, p->values[operands[i]].scale);
    bool product = count > 1 && (strcmp(row->op, "multiply") == 0 || strcmp(row->op, "dot") == 0 ||
                                 strcmp(row->op, "conv") == 0);
    if (product)
        scale = fmax(p->values[operands[0]].scale, 1) * fmax(p->values[operands[1]].scale, 1);
    if (count > 0 && (row->nature & SUMS))
        scale *= 1 + (double)emlx_shape_count(shape_of(p, operands[0]));
    return scale;
}

static double largest(emlx_tensor *t) {
    const unsigned char *data;
    size_t size = type_size(emlx_tensor_type(t));
    double most = 0;
    if (emlx_tensor_data(t, (const void **)&data, NULL) != EMLX_OK) return 0;
    for (size_t at = 0; at < emlx_tensor_bytes(t); at += size)
        most = fmax(most, magnitude(t, type_load(emlx_tensor_type(t), data + at)));
    return most;
}

// Rough numbers near the type's end may be infinite on one side.
static bool too_large(const program_value *v) {
    emlx_type type = type_part(emlx_tensor_type(v->ours));
    double most = type == EMLX_F16         ? 3e4
                  : type == EMLX_F8_E4M3FN ? 200
                  : type == EMLX_F8        ? 2e4
                                           : 1e30;
    return v->rough && v->scale > most;
}

static int digits_of(const emlx_tensor *t) {
    return type_table[type_part(emlx_tensor_type(t))].digits;
}

static void keep(program *p, const step_row *row, program_value v, bool rough, double scale) {
    bool is_float = !type_is_integer(emlx_tensor_type(v.ours));
    bool makes = (row->nature & SUMS) || ((row->nature & MATH) && p->kind == PROGRAM_ROUGH);
    v.rough = is_float && (rough || makes);
    v.scale = fmax(scale, largest(v.ours));
    if (digits_of(v.ours) < v.digits) v.digits = digits_of(v.ours);
    if (too_large(&v) || p->count == PROGRAM_VALUES) {
        emlx_tensor_release(v.ours);
        emlx_tensor_release(v.theirs);
        return;
    }
    p->values[p->count++] = v;
}

// Floats from integers that f32 does not hold are computed in f64, and in f32 where there is none.
static bool is_narrowed(const program *p, emlx_tensor *const *operands, size_t count,
                        const emlx_tensor *result) {
    bool large = false;
    for (size_t i = 0; i < count; i++) {
        emlx_type type = emlx_tensor_type(operands[i]);
        large = large || (type_is_integer(type) && emlx_type_bits(type) > 16);
    }
    return large && p->theirs->ops->no_f64 && type_is_float(emlx_tensor_type(result));
}

static void apply(program *p, const step_row *row, const int *operands, size_t count,
                  const emlx_attr *attrs, size_t attr_count, emlx_type type) {
    emlx_tensor *a[8], *b[8];
    emlx_error our_error, their_error;
    program_value v = {.digits = 46};
    bool rough = false;
    for (size_t i = 0; i < count; i++) {
        a[i] = p->values[operands[i]].ours;
        b[i] = p->values[operands[i]].theirs;
        const program_value *o = &p->values[operands[i]];
        if (o->rough && o->digits < v.digits) v.digits = o->digits;
        rough = rough || o->rough;
    }
    if (rough && !(row->nature & SMOOTH)) return;
    const emlx_op *op = emlx_op_find(row->op);
    emlx_status our =
        emlx_apply(op, p->ours, a, count, attrs, attr_count, type, &v.ours, &our_error);
    emlx_status their =
        emlx_apply(op, p->theirs, b, count, attrs, attr_count, type, &v.theirs, &their_error);
    // What is known already, as all of ours is, may be refused at once.
    assert_true(their == EMLX_OK || our == their);
    if (our != EMLX_OK && their == EMLX_OK) emlx_tensor_release(v.theirs);
    if (our != EMLX_OK) return;
    // What fails where it is computed would hide all that comes after it.
    if (draw(50) != 0 && emlx_eval(&v.ours, 1, &our_error) != EMLX_OK) {
        emlx_tensor_release(v.ours);
        emlx_tensor_release(v.theirs);
        return;
    }
    say(p, "v%d = %s", p->count, row->op);
    for (size_t i = 0; i < count; i++) say(p, " v%d", operands[i]);
    say_attrs(p, attrs, attr_count);
    say_type(p, v.ours);
    rough = rough || is_narrowed(p, a, count, v.ours);
    keep(p, row, v, rough, scale_of(p, row, operands, count));
}

// One function a kind of attributes --------------------------------------------------------------

static void draw_one(program *p, const step_row *row) {
    int v = some_value(p);
    apply(p, row, &v, 1, NULL, 0, EMLX_TYPE_DEFAULT);
}

static void draw_two(program *p, const step_row *row) {
    int v = some_value(p), list[] = {v, partner(p, v)};
    apply(p, row, list, 2, NULL, 0, EMLX_TYPE_DEFAULT);
}

static void draw_select(program *p, const step_row *row) {
    int v = some_value(p), list[] = {0, v, partner(p, v)};
    list[0] = fresh(p, EMLX_U8, shape_of(p, v));
    apply(p, row, list, 3, NULL, 0, EMLX_TYPE_DEFAULT);
}

static void draw_clip(program *p, const step_row *row) {
    emlx_shape scalar = {0};
    int v = some_value(p),
        list[] = {v, fresh(p, type_of(p, v), &scalar), fresh(p, type_of(p, v), &scalar)};
    apply(p, row, list, 3, NULL, 0, EMLX_TYPE_DEFAULT);
}

static void draw_as_type(program *p, const step_row *row) {
    int v = some_value(p);
    emlx_type to = ONE_OF(types);
    if (p->values[v].rough && type_is_integer(to)) return;
    apply(p, row, &v, 1, NULL, 0, to);
}

static bool has_nan(emlx_tensor *t) {
    emlx_type type = emlx_tensor_type(t);
    const unsigned char *data;
    if (type_is_integer(type) || emlx_tensor_data(t, (const void **)&data, NULL) != EMLX_OK)
        return false;
    for (size_t at = 0; at < emlx_tensor_bytes(t); at += type_size(type)) {
        emlx_number n = type_load(type, data + at);
        if (isnan(n.as.f[0]) || (type_is_complex(type) && isnan(n.as.f[1]))) return true;
    }
    return false;
}

// The bits of a NaN are nobody's promise.
static void draw_bitcast(program *p, const step_row *row) {
    int v = some_value(p);
    if (!has_nan(p->values[v].ours)) apply(p, row, &v, 1, NULL, 0, ONE_OF(types));
}

static size_t some_axes(const emlx_shape *s, int64_t *axes) {
    size_t count = 0;
    for (int32_t d = 0; d < s->rank; d++)
        if (draw(2) == 0) axes[count++] = d;
    return count;
}

static void draw_axes(program *p, const step_row *row) {
    int v = some_value(p);
    int64_t axes[EMLX_MAX_RANK];
    emlx_attr list[] = {with_ints("axes", axes, some_axes(shape_of(p, v), axes))};
    apply(p, row, &v, 1, list, 1, EMLX_TYPE_DEFAULT);
}

static void draw_fold(program *p, const step_row *row) {
    int v = some_value(p);
    int64_t axes[EMLX_MAX_RANK];
    emlx_attr list[] = {with_ints("axes", axes, some_axes(shape_of(p, v), axes)),
                        with_bool("keep_axes", draw(2))};
    apply(p, row, &v, 1, list, 2, EMLX_TYPE_DEFAULT);
}

static int64_t some_axis(const program *p, int v) {
    int32_t rank = shape_of(p, v)->rank;
    return rank > 0 ? (int64_t)draw((uint32_t)rank) : 0;
}

static void draw_arg(program *p, const step_row *row) {
    int v = some_value(p);
    emlx_attr list[] = {with_int("axis", some_axis(p, v)),
                        with_text("tie_break", draw(2) ? "low" : "high"),
                        with_bool("keep_axis", draw(2))};
    apply(p, row, &v, 1, list, 3, EMLX_TYPE_DEFAULT);
}

static void draw_scan(program *p, const step_row *row) {
    int v = some_value(p);
    emlx_attr list[] = {with_int("axis", some_axis(p, v)), with_bool("reverse", draw(2))};
    apply(p, row, &v, 1, list, 2, EMLX_TYPE_DEFAULT);
}

static void draw_sort(program *p, const step_row *row) {
    int v = some_value(p);
    emlx_attr list[] = {with_int("axis", some_axis(p, v)),
                        with_text("direction", draw(2) ? "asc" : "desc")};
    apply(p, row, &v, 1, list, 2, EMLX_TYPE_DEFAULT);
}

static void draw_transpose(program *p, const step_row *row) {
    int v = some_value(p);
    int64_t axes[EMLX_MAX_RANK];
    int32_t rank = shape_of(p, v)->rank;
    for (int32_t d = 0; d < rank; d++) axes[d] = d;
    for (int32_t d = rank - 1; d > 0; d--) {
        uint32_t other = draw((uint32_t)d + 1);
        int64_t axis = axes[d];
        axes[d] = axes[other];
        axes[other] = axis;
    }
    emlx_attr list[] = {with_ints("axes", axes, (size_t)rank)};
    apply(p, row, &v, 1, list, 1, EMLX_TYPE_DEFAULT);
}

static void draw_reshape(program *p, const step_row *row) {
    int v = some_value(p);
    int64_t dims[3] = {0}, count = emlx_shape_count(shape_of(p, v)), first = 1;
    for (int64_t n = 2; n < 6 && count > 0; n++)
        if (count % n == 0 && draw(2) == 0) first = n;
    dims[0] = first;
    dims[1] = count / first;
    dims[2] = 1;
    emlx_attr list[] = {with_ints("shape", dims, 2 + draw(2))};
    apply(p, row, &v, 1, list, 1, EMLX_TYPE_DEFAULT);
}

static void draw_broadcast(program *p, const step_row *row) {
    int v = some_value(p);
    const emlx_shape *s = shape_of(p, v);
    int64_t dims[EMLX_MAX_RANK] = {1 + draw(3)}, axes[EMLX_MAX_RANK];
    if (s->rank > 4) return;
    for (int32_t d = 0; d < s->rank; d++) {
        dims[d + 1] = s->dims[d] == 1 ? 1 + draw(4) : s->dims[d];
        axes[d] = d + 1;
    }
    emlx_attr list[] = {with_ints("shape", dims, (size_t)s->rank + 1),
                        with_ints("axes", axes, (size_t)s->rank)};
    apply(p, row, &v, 1, list, 2, EMLX_TYPE_DEFAULT);
}

static const emlx_type counts[] = {EMLX_S32, EMLX_S64, EMLX_U64, EMLX_U8};

// Starts are numbers or, at random, values.
static size_t some_starts(program *p, int *list, size_t count, const emlx_shape *s, emlx_attr *attr,
                          int64_t *starts) {
    emlx_shape scalar = {0};
    bool values = draw(2) == 0 && s->rank <= 4;
    for (int32_t d = 0; d < s->rank; d++) {
        starts[d] = draw(3);
        if (values) list[count++] = fresh(p, ONE_OF(counts), &scalar);
    }
    *attr = with_ints("starts", starts, (size_t)s->rank);
    return count;
}

static void draw_slice(program *p, const step_row *row) {
    int list[8] = {some_value(p)};
    emlx_shape s = *shape_of(p, list[0]);
    int64_t starts[EMLX_MAX_RANK], lengths[EMLX_MAX_RANK], strides[EMLX_MAX_RANK];
    emlx_attr attrs[3];
    size_t count = some_starts(p, list, 1, &s, &attrs[2], starts);
    for (int32_t d = 0; d < s.rank; d++) {
        lengths[d] = s.dims[d] > 0 ? 1 + draw((uint32_t)s.dims[d]) : 0;
        strides[d] = 1 + draw(2);
    }
    attrs[0] = with_ints("lengths", lengths, (size_t)s.rank);
    attrs[1] = with_ints("strides", strides, (size_t)s.rank);
    apply(p, row, list, count, attrs, count > 1 ? 2 : 3, EMLX_TYPE_DEFAULT);
}

static void draw_put_slice(program *p, const step_row *row) {
    int list[8] = {some_value(p)};
    emlx_shape s = *shape_of(p, list[0]), part = s;
    int64_t starts[EMLX_MAX_RANK];
    emlx_attr attr;
    for (int32_t d = 0; d < part.rank; d++)
        if (part.dims[d] > 1) part.dims[d] = 1 + draw((uint32_t)part.dims[d]);
    list[1] = fresh(p, type_of(p, list[0]), &part);
    size_t count = some_starts(p, list, 2, &s, &attr, starts);
    apply(p, row, list, count, &attr, count > 2 ? 0 : 1, EMLX_TYPE_DEFAULT);
}

static void draw_join(program *p, const step_row *row) {
    int v = some_value(p), list[] = {v, partner(p, v), v};
    emlx_attr attr = with_int("axis", some_axis(p, v));
    apply(p, row, list, 2 + draw(2), &attr, 1, EMLX_TYPE_DEFAULT);
}

static void draw_pad(program *p, const step_row *row) {
    emlx_shape scalar = {0};
    int v = some_value(p), list[] = {v, fresh(p, type_of(p, v), &scalar)};
    int64_t padding[3 * EMLX_MAX_RANK];
    size_t count = 3 * (size_t)shape_of(p, v)->rank;
    for (size_t i = 0; i < count; i++) padding[i] = i % 3 == 2 ? draw(2) : (int64_t)draw(4) - 1;
    emlx_attr attr = with_ints("padding", padding, count);
    apply(p, row, list, 2, &attr, 1, EMLX_TYPE_DEFAULT);
}

static void draw_window(program *p, const step_row *row) {
    int v = some_value(p);
    int64_t lists[4][2 * EMLX_MAX_RANK];
    const emlx_shape *s = shape_of(p, v);
    for (int32_t d = 0; d < s->rank; d++) {
        lists[0][d] = 1 + draw(s->dims[d] > 2 ? 3 : 1);
        lists[1][2 * d] = draw(2);
        lists[1][2 * d + 1] = draw(2);
        lists[2][d] = 1 + draw(2);
        lists[3][d] = 1 + draw(2);
    }
    size_t rank = (size_t)s->rank;
    emlx_attr list[] = {
        with_ints("window", lists[0], rank), with_ints("padding", lists[1], 2 * rank),
        with_ints("strides", lists[2], rank), with_ints("window_dilations", lists[3], rank)};
    apply(p, row, &v, 1, list, 4, EMLX_TYPE_DEFAULT);
}

static void draw_dot(program *p, const step_row *row) {
    int list[] = {some_value(p), 0};
    const emlx_shape s = *shape_of(p, list[0]);
    emlx_shape other = s;
    int64_t left = some_axis(p, list[0]), right, batch = 0;
    if (s.rank == 0) return;
    bool batched = s.rank > 1 && left > 0 && draw(2);
    if (!batched) other = (emlx_shape){2, {s.dims[left], 1 + draw(4)}};
    right = batched ? left : 0;
    list[1] = fresh(p, draw(3) ? type_of(p, list[0]) : ONE_OF(types), &other);
    emlx_attr attrs[] = {
        with_ints("contract_left", &left, 1), with_ints("batch_left", &batch, batched),
        with_ints("contract_right", &right, 1), with_ints("batch_right", &batch, batched)};
    apply(p, row, list, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

static void draw_conv(program *p, const step_row *row) {
    static const emlx_type floats[] = {EMLX_F32, EMLX_F16, EMLX_BF16, EMLX_F64, EMLX_S32, EMLX_C64};
    int64_t groups = 1 + draw(2), lists[4][4];
    int32_t spatial = 1 + (int32_t)draw(2);
    emlx_shape x = {spatial + 2, {1 + draw(2), groups * (1 + draw(2))}};
    emlx_shape w = {spatial + 2, {groups * (1 + draw(2)), x.dims[1] / groups}};
    for (int32_t d = 0; d < spatial; d++) {
        x.dims[d + 2] = 3 + draw(3);
        w.dims[d + 2] = 1 + draw(3);
        lists[0][d] = 1 + draw(2);
        lists[1][2 * d] = (int64_t)draw(4) - 1;
        lists[1][2 * d + 1] = (int64_t)draw(4) - 1;
        lists[2][d] = 1 + draw(2);
        lists[3][d] = 1 + draw(2);
    }
    size_t n = (size_t)spatial;
    emlx_type type = ONE_OF(floats);
    int list[] = {fresh(p, type, &x), fresh(p, type, &w)};
    emlx_attr attrs[] = {with_ints("strides", lists[0], n), with_ints("padding", lists[1], 2 * n),
                         with_ints("input_dilation", lists[2], n),
                         with_ints("kernel_dilation", lists[3], n),
                         with_int("feature_group_size", groups)};
    apply(p, row, list, 2, attrs, 5, EMLX_TYPE_DEFAULT);
}

// Indices within bounds but for one in many.
static int some_indices(program *p, const emlx_shape *shape, const int64_t *limits, int64_t width) {
    int64_t count = emlx_shape_count(shape);
    int64_t *data = malloc(((size_t)count + 1) * sizeof *data);
    emlx_error err;
    program_value v = {0};
    assert_non_null(data);
    for (int64_t i = 0; i < count; i++) {
        int64_t limit = limits[i % width];
        data[i] = limit > 0 ? draw((uint32_t)limit) : 0;
        if (draw(400) == 0) data[i] = draw(2) ? -1 : limit;
    }
    size_t size = (size_t)count * sizeof *data;
    assert_ok(emlx_tensor_from_data(p->ours, EMLX_S64, shape, data, size, &v.ours, &err), err);
    assert_ok(emlx_tensor_from_data(p->theirs, EMLX_S64, shape, data, size, &v.theirs, &err), err);
    free(data);
    p->values[p->count] = v;
    say(p, "v%d = indices", p->count);
    say_type(p, v.ours);
    return p->count++;
}

static void draw_take(program *p, const step_row *row) {
    int list[] = {some_value(p), 0};
    emlx_shape s = *shape_of(p, list[0]), indices = some_shape();
    int64_t axis = some_axis(p, list[0]);
    if (s.rank == 0 || s.rank + indices.rank > 6) return;
    if (strcmp(row->op, "take_along_axis") == 0) {
        indices = s;
        indices.dims[axis] = 1 + draw(4);
    }
    list[1] = some_indices(p, &indices, &s.dims[axis], 1);
    emlx_attr attr = with_int("axis", axis);
    apply(p, row, list, 2, &attr, 1, EMLX_TYPE_DEFAULT);
}

// gather, indexed_add and indexed_put: vectors of indices for some of the axes.
static void draw_indexed(program *p, const step_row *row) {
    int list[3] = {some_value(p)};
    emlx_shape s = *shape_of(p, list[0]);
    int64_t axes[EMLX_MAX_RANK], limits[EMLX_MAX_RANK], rows = 1 + draw(5);
    size_t count = some_axes(&s, axes);
    if (count == 0) return;
    emlx_shape indices = {2, {rows, (int64_t)count}}, updates = {1, {rows}};
    for (size_t i = 0; i < count; i++) limits[i] = s.dims[axes[i]];
    for (int32_t d = 0, next = 0; d < s.rank; d++) {
        if ((size_t)next < count && axes[next] == d)
            next++;
        else
            updates.dims[updates.rank++] = s.dims[d];
    }
    list[1] = some_indices(p, &indices, limits, (int64_t)count);
    bool gathers = strcmp(row->op, "gather") == 0;
    if (!gathers) list[2] = fresh(p, draw(3) ? type_of(p, list[0]) : ONE_OF(types), &updates);
    emlx_attr attr = with_ints("axes", axes, count);
    apply(p, row, list, gathers ? 2 : 3, &attr, 1, EMLX_TYPE_DEFAULT);
}

static void draw_iota(program *p, const step_row *row) {
    emlx_shape s = some_shape();
    emlx_attr attrs[] = {with_ints("shape", s.dims, (size_t)s.rank), with_int("axis", 0)};
    if (s.rank > 0) attrs[1] = with_int("axis", draw((uint32_t)s.rank));
    apply(p, row, NULL, 0, attrs, s.rank > 0 && draw(2) ? 2 : 1, ONE_OF(types));
}

// The table -------------------------------------------------------------------------------------

static const step_row rows[] = {
    {"iota", draw_iota, STEPS, 1},
    {"as_type", draw_as_type, SMOOTH, 4},
    {"bitcast", draw_bitcast, STEPS, 1},
    {"reshape", draw_reshape, SMOOTH, 2},
    {"broadcast", draw_broadcast, SMOOTH, 2},
    {"transpose", draw_transpose, SMOOTH, 3},
    {"reverse", draw_axes, SMOOTH, 2},
    {"slice", draw_slice, SMOOTH, 3},
    {"put_slice", draw_put_slice, SMOOTH, 3},
    {"concatenate", draw_join, SMOOTH, 2},
    {"stack", draw_join, SMOOTH, 2},
    {"pad", draw_pad, SMOOTH, 2},
    {"exp", draw_one, MATH, 1},
    {"expm1", draw_one, MATH, 1},
    {"log", draw_one, MATH, 1},
    {"log1p", draw_one, MATH, 1},
    {"sigmoid", draw_one, MATH, 1},
    {"cos", draw_one, MATH, 1},
    {"sin", draw_one, MATH, 1},
    {"tan", draw_one, MATH, 1},
    {"cosh", draw_one, MATH, 1},
    {"sinh", draw_one, MATH, 1},
    {"tanh", draw_one, MATH, 1},
    {"acos", draw_one, MATH, 1},
    {"asin", draw_one, MATH, 1},
    {"atan", draw_one, MATH, 1},
    {"acosh", draw_one, MATH, 1},
    {"asinh", draw_one, MATH, 1},
    {"atanh", draw_one, MATH, 1},
    {"sqrt", draw_one, MATH, 1},
    {"rsqrt", draw_one, MATH, 1},
    {"cbrt", draw_one, MATH, 1},
    {"erf", draw_one, MATH, 1},
    {"erfc", draw_one, MATH, 1},
    {"erf_inv", draw_one, MATH, 1},
    {"abs", draw_one, SMOOTH | MATH, 1},
    {"negate", draw_one, SMOOTH, 2},
    {"sign", draw_one, MATH, 1},
    {"floor", draw_one, STEPS, 1},
    {"ceil", draw_one, STEPS, 1},
    {"round", draw_one, STEPS, 1},
    {"bitwise_not", draw_one, STEPS, 1},
    {"population_count", draw_one, STEPS, 1},
    {"count_leading_zeros", draw_one, STEPS, 1},
    {"is_nan", draw_one, STEPS, 1},
    {"is_infinity", draw_one, STEPS, 1},
    {"real", draw_one, SMOOTH, 1},
    {"imag", draw_one, SMOOTH, 1},
    {"phase", draw_one, MATH, 1},
    {"conjugate", draw_one, SMOOTH, 1},
    {"logical_not", draw_one, STEPS, 1},
    {"add", draw_two, SMOOTH, 5},
    {"subtract", draw_two, SMOOTH, 5},
    {"multiply", draw_two, SMOOTH, 5},
    {"pow", draw_two, MATH, 2},
    {"remainder", draw_two, STEPS, 2},
    {"quotient", draw_two, STEPS, 3},
    {"divide", draw_two, STEPS, 3},
    {"atan2", draw_two, MATH, 1},
    {"max", draw_two, SMOOTH, 3},
    {"min", draw_two, SMOOTH, 3},
    {"bitwise_and", draw_two, STEPS, 1},
    {"bitwise_or", draw_two, STEPS, 1},
    {"bitwise_xor", draw_two, STEPS, 1},
    {"left_shift", draw_two, STEPS, 1},
    {"right_shift", draw_two, STEPS, 1},
    {"equal", draw_two, STEPS, 1},
    {"not_equal", draw_two, STEPS, 1},
    {"less", draw_two, STEPS, 1},
    {"less_equal", draw_two, STEPS, 1},
    {"greater", draw_two, STEPS, 1},
    {"greater_equal", draw_two, STEPS, 1},
    {"logical_and", draw_two, STEPS, 1},
    {"logical_or", draw_two, STEPS, 1},
    {"logical_xor", draw_two, STEPS, 1},
    {"select", draw_select, SMOOTH, 3},
    {"clip", draw_clip, SMOOTH, 2},
    {"sum", draw_fold, SMOOTH | SUMS, 4},
    {"product", draw_fold, SUMS, 2},
    {"reduce_max", draw_fold, SMOOTH, 2},
    {"reduce_min", draw_fold, SMOOTH, 2},
    {"all", draw_fold, STEPS, 1},
    {"any", draw_fold, STEPS, 1},
    {"argmax", draw_arg, STEPS, 2},
    {"argmin", draw_arg, STEPS, 2},
    {"cumulative_sum", draw_scan, SMOOTH | SUMS, 2},
    {"cumulative_product", draw_scan, SUMS, 1},
    {"cumulative_max", draw_scan, SMOOTH, 1},
    {"cumulative_min", draw_scan, SMOOTH, 1},
    {"window_sum", draw_window, SMOOTH | SUMS, 2},
    {"window_product", draw_window, SUMS, 1},
    {"window_max", draw_window, SMOOTH, 1},
    {"window_min", draw_window, SMOOTH, 1},
    {"softmax", draw_axes, SUMS, 1},
    {"logsumexp", draw_fold, SUMS, 1},
    {"dot", draw_dot, SMOOTH | SUMS, 5},
    {"conv", draw_conv, SUMS, 3},
    {"gather", draw_indexed, SMOOTH, 3},
    {"take", draw_take, SMOOTH, 2},
    {"take_along_axis", draw_take, SMOOTH, 2},
    {"indexed_add", draw_indexed, SMOOTH | SUMS, 3},
    {"indexed_put", draw_indexed, SMOOTH, 3},
    {"sort", draw_sort, STEPS, 2},
    {"argsort", draw_sort, STEPS, 2},
};

void program_build(program *p, int steps) {
    uint32_t weights = 0;
    for (size_t i = 0; i < COUNT_OF(rows); i++) weights += (uint32_t)rows[i].weight;
    some_value(p);
    for (int s = 0; s < steps && p->count < PROGRAM_VALUES - 12; s++) {
        int at = (int)draw(weights);
        const step_row *row = rows;
        while (at >= row->weight) at -= row++->weight;
        row->draw(p, row);
    }
}

void program_clear(program *p) {
    for (int i = 0; i < p->count; i++) {
        emlx_tensor_release(p->values[i].ours);
        emlx_tensor_release(p->values[i].theirs);
    }
}
