// SPDX-License-Identifier: Apache-2.0
// sums.c - products with what may follow them, in tests.
#include "engines/cuda/sums.h"

#include <stdlib.h>

emlx_device *host;

const char *const form_names[FORMS] = {
    "P + b",       "P + C",         "P + left",   "P + slice",   "P + C + b",
    "C + (P + b)", "0.75 P",        "0.75 P + b", "C - 0.75 P",  "P - C",
    "C - P",       "b - P",         "P - b",      "-P",          "P + b cut at 1",
    "P + column",  "P + b of each", "P + number", "P + b and P", "(P + b) * C"};

bool form_is_asked(emlx_type type, form f) {
    bool narrow = type == EMLX_BF16 || type == EMLX_F16;
    if (!narrow && type != EMLX_F32 && type != EMLX_F64) return false;
    if (f == SCALED_VECTOR || f == SCALED_RESIDUAL) return narrow;
    return f != BOTH_TURNED && f != MINUS_VECTOR && f < SLICED_VECTOR;
}

// Multiples of 1/8 and, where `thirds`, numbers with all of the type's digits.
static values draw_values(emlx_type type, emlx_shape shape, bool thirds) {
    int64_t count = number_count(type, &shape);
    values v = {shape, malloc(((size_t)count + 1) * sizeof(double))};
    assert_non_null(v.at);
    for (int64_t i = 0; i < count; i++) {
        v.at[i] = ((int)draw(73) - 36) / 8.0;
        if (thirds) v.at[i] = type == EMLX_F32 ? (float)(v.at[i] / 3) : v.at[i] / 3;
    }
    return v;
}

emlx_shape matrix_shape(const size *s, int64_t rows, int64_t columns) {
    if (s->batch == 0) return (emlx_shape){2, {rows, columns}};
    return (emlx_shape){3, {s->batch, rows, columns}};
}

leaves draw_leaves(emlx_type type, const size *s) {
    bool thirds = type == EMLX_F32 || type == EMLX_F64;
    int64_t batch = s->batch == 0 ? 1 : s->batch;
    emlx_shape left = matrix_shape(s, s->left ? s->terms : s->rows, s->left ? s->rows : s->terms);
    emlx_shape right =
        matrix_shape(s, s->right ? s->columns : s->terms, s->right ? s->terms : s->columns);
    emlx_shape result = matrix_shape(s, s->rows, s->columns);
    emlx_shape longer = {1, {batch * s->rows * s->columns + 24}}, vector = {1, {s->columns}};
    emlx_shape each = {3, {batch, 1, s->columns}}, column = {2, {s->rows, 1}}, number = {0, {0}};
    emlx_shape long_vector = {1, {s->columns + 5}};
    return (leaves){draw_values(type, left, false),        draw_values(type, right, false),
                    draw_values(type, result, thirds),     draw_values(type, vector, thirds),
                    draw_values(type, column, thirds),     draw_values(type, each, thirds),
                    draw_values(type, number, thirds),     draw_values(type, longer, thirds),
                    draw_values(type, long_vector, thirds)};
}

void free_leaves(leaves *l) {
    values *all[] = {&l->left, &l->right,  &l->residual, &l->vector,     &l->column,
                     &l->each, &l->number, &l->longer,   &l->long_vector};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->at);
}

emlx_tensor *upload(emlx_type type, const values *v) {
    emlx_device *device = test_device;
    emlx_error err;
    emlx_tensor *t;
    test_device = host;
    emlx_tensor *made = tensor_of(type, &v->shape, v->at);
    void *data = bytes_of(made);
    test_device = device;
    assert_ok(
        emlx_tensor_from_data(device, type, &v->shape, data, emlx_tensor_bytes(made), &t, &err),
        err);
    emlx_tensor_release(made);
    free(data);
    return t;
}

double *download(emlx_tensor *t) {
    emlx_device *device = test_device;
    emlx_error err;
    emlx_tensor *here;
    void *data = bytes_of(t);
    test_device = host;
    assert_ok(emlx_tensor_from_data(host, emlx_tensor_type(t), emlx_tensor_shape(t), data,
                                    emlx_tensor_bytes(t), &here, &err),
              err);
    double *numbers = values_of(here);
    test_device = device;
    emlx_tensor_release(here);
    free(data);
    return numbers;
}

// Expressions -------------------------------------------------------------------------------------

static emlx_tensor *made_of(const char *op, emlx_tensor *a, emlx_tensor *b) {
    emlx_tensor *t = apply_two(op, a, b);
    emlx_tensor_release(a);
    emlx_tensor_release(b);
    return t;
}

static emlx_tensor *product(emlx_tensor *left, emlx_tensor *right, const size *s) {
    const int64_t none = s->batch == 0 ? 0 : 1, first = 0;
    const int64_t l = none + (s->left ? 0 : 1), r = none + (s->right ? 1 : 0);
    emlx_attr attrs[] = {with_ints("contract_left", &l, 1), with_ints("batch_left", &first, none),
                         with_ints("contract_right", &r, 1),
                         with_ints("batch_right", &first, none)};
    return apply_to("dot", (emlx_tensor *[]){left, right}, 2, attrs, 4, EMLX_TYPE_DEFAULT);
}

static emlx_tensor *scaled(emlx_tensor *p, double by) {
    emlx_attr attrs[] = {with_ints("shape", NULL, 0), {.name = "value", .kind = EMLX_ATTR_NUMBER}};
    attrs[1].value = (emlx_number){.kind = EMLX_NUMBER_REAL, .as.f = {by}};
    if (emlx_tensor_type(p) == EMLX_S32) attrs[1].value = (emlx_number){.as.s = 3};
    emlx_tensor *number = apply_to("constant", NULL, 0, attrs, 2, emlx_tensor_type(p));
    return made_of("multiply", p, number);
}

// A stretch of a vector, in a shape of its own.
static emlx_tensor *cut(emlx_tensor *x, int64_t start, const emlx_shape *shape) {
    int64_t length = emlx_shape_count(shape), one = 1;
    emlx_attr attrs[] = {with_ints("starts", &start, 1), with_ints("lengths", &length, 1),
                         with_ints("strides", &one, 1)};
    emlx_attr to = with_ints("shape", shape->dims, (size_t)shape->rank);
    emlx_tensor *slice = apply_to("slice", &x, 1, attrs, 3, EMLX_TYPE_DEFAULT);
    emlx_tensor *t = apply_to("reshape", &slice, 1, &to, 1, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(slice);
    emlx_tensor_release(x);
    return t;
}

// Gives up its reference on the product; *other is a second result, or NULL.
static emlx_tensor *express(form f, emlx_tensor *p, emlx_tensor *left, const leaves *l,
                            emlx_type type, emlx_tensor **other) {
#define LEAF(name) upload(type, &l->name)
    emlx_tensor *t;
    *other = NULL;
    switch (f) {
    case VECTOR: return made_of("add", p, LEAF(vector));
    case RESIDUAL: return made_of("add", p, LEAF(residual));
    case OPERAND: return made_of("add", p, emlx_tensor_retain(left));
    case SLICED: return made_of("add", p, cut(LEAF(longer), 8, &l->residual.shape));
    case BOTH: return made_of("add", made_of("add", p, LEAF(residual)), LEAF(vector));
    case BOTH_TURNED: return made_of("add", LEAF(residual), made_of("add", p, LEAF(vector)));
    case SCALED: return scaled(p, 0.75);
    case SCALED_VECTOR: return made_of("add", scaled(p, 0.75), LEAF(vector));
    case SCALED_RESIDUAL: return made_of("subtract", LEAF(residual), scaled(p, 0.75));
    case MINUS: return made_of("subtract", p, LEAF(residual));
    case MINUS_PRODUCT: return made_of("subtract", LEAF(residual), p);
    case FROM_VECTOR: return made_of("subtract", LEAF(vector), p);
    case MINUS_VECTOR: return made_of("subtract", p, LEAF(vector));
    case SLICED_VECTOR: return made_of("add", p, cut(LEAF(long_vector), 1, &l->vector.shape));
    case COLUMN: return made_of("add", p, LEAF(column));
    case EACH: return made_of("add", p, LEAF(each));
    case NUMBER: return made_of("add", p, LEAF(number));
    case TWICE: *other = emlx_tensor_retain(p); return made_of("add", p, LEAF(vector));
    case AFTER: return made_of("multiply", made_of("add", p, LEAF(vector)), LEAF(residual));
    default: break;
    }
#undef LEAF
    t = apply_to("negate", &p, 1, NULL, 0, EMLX_TYPE_DEFAULT);
    emlx_tensor_release(p);
    return t;
}

double *computed_on(emlx_device *device, emlx_type type, form f, const size *s, const leaves *l) {
    emlx_error err;
    emlx_device *before = test_device;
    emlx_tensor *roots[2];
    test_device = device;
    emlx_tensor *left = upload(type, &l->left), *right = upload(type, &l->right);
    roots[0] = express(f, product(left, right, s), left, l, type, &roots[1]);
    assert_ok(emlx_eval(roots, roots[1] == NULL ? 1 : 2, &err), err);
    double *numbers = download(roots[0]);
    for (int i = 0; i < 2; i++) emlx_tensor_release(roots[i]);
    emlx_tensor_release(left);
    emlx_tensor_release(right);
    test_device = before;
    return numbers;
}
