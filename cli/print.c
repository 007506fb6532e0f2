// SPDX-License-Identifier: Apache-2.0
// print.c - tensors as text for people: nested brackets, a few elements of each axis if there are
// many.
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

// Up to this many elements are all printed; beyond, so many at each end of an axis.
#define ALL_BELOW 1000
#define EDGE 3

void cli_print_signature(FILE *to, emlx_type type, const emlx_shape *shape) {
    fprintf(to, "%s[", emlx_type_name(type));
    for (int32_t i = 0; i < shape->rank; i++)
        fprintf(to, "%s%" PRId64, i > 0 ? ", " : "", shape->dims[i]);
    fputc(']', to);
}

// Elements ---------------------------------------------------------------------------------------

typedef enum number_class {
    NUMBER_UNSIGNED,
    NUMBER_SIGNED,
    NUMBER_REAL,
    NUMBER_COMPLEX
} number_class;

// How a type's elements are read: as 64-bit numbers, after a cast where it has another width.
// `digits` always tell two values of the type apart.
typedef struct print_form {
    number_class kind;
    emlx_type type;
    int digits;
} print_form;

static const print_form forms[EMLX_TYPE_COUNT] = {
    [EMLX_U2] = {NUMBER_UNSIGNED, EMLX_U64, 0},  [EMLX_U4] = {NUMBER_UNSIGNED, EMLX_U64, 0},
    [EMLX_U8] = {NUMBER_UNSIGNED, EMLX_U64, 0},  [EMLX_U16] = {NUMBER_UNSIGNED, EMLX_U64, 0},
    [EMLX_U32] = {NUMBER_UNSIGNED, EMLX_U64, 0}, [EMLX_U64] = {NUMBER_UNSIGNED, EMLX_U64, 0},
    [EMLX_S2] = {NUMBER_SIGNED, EMLX_S64, 0},    [EMLX_S4] = {NUMBER_SIGNED, EMLX_S64, 0},
    [EMLX_S8] = {NUMBER_SIGNED, EMLX_S64, 0},    [EMLX_S16] = {NUMBER_SIGNED, EMLX_S64, 0},
    [EMLX_S32] = {NUMBER_SIGNED, EMLX_S64, 0},   [EMLX_S64] = {NUMBER_SIGNED, EMLX_S64, 0},
    [EMLX_F8] = {NUMBER_REAL, EMLX_F64, 3},      [EMLX_F8_E4M3FN] = {NUMBER_REAL, EMLX_F64, 3},
    [EMLX_BF16] = {NUMBER_REAL, EMLX_F64, 4},    [EMLX_F16] = {NUMBER_REAL, EMLX_F64, 5},
    [EMLX_F32] = {NUMBER_REAL, EMLX_F64, 9},     [EMLX_F64] = {NUMBER_REAL, EMLX_F64, 17},
    [EMLX_C64] = {NUMBER_COMPLEX, EMLX_C64, 9},  [EMLX_C128] = {NUMBER_COMPLEX, EMLX_C128, 17},
};

// The shortest text that gives the value back, `digits` being enough: in f32 where 9 are.
static void print_real(FILE *to, double value, int digits) {
    char text[40];
    for (int few = digits > 9 ? 15 : digits > 5 ? 6 : digits; few <= digits; few++) {
        snprintf(text, sizeof text, "%.*g", few, value);
        if (digits > 9 ? strtod(text, NULL) == value : strtof(text, NULL) == (float)value) break;
    }
    bool whole = isfinite(value) && strcspn(text, ".e") == strlen(text);
    fprintf(to, "%s%s", text, whole ? ".0" : "");
}

static void print_element(FILE *to, const print_form *form, const uint8_t *at) {
    union {
        uint64_t u;
        int64_t s;
        double f[2];
        float pair[2];
    } value;
    memcpy(&value, at, emlx_type_size(form->type));
    switch (form->kind) {
    case NUMBER_UNSIGNED: fprintf(to, "%" PRIu64, value.u); return;
    case NUMBER_SIGNED: fprintf(to, "%" PRId64, value.s); return;
    case NUMBER_REAL: print_real(to, value.f[0], form->digits); return;
    case NUMBER_COMPLEX: break;
    }
    bool narrow = form->type == EMLX_C64;
    double real = narrow ? (double)value.pair[0] : value.f[0];
    double imaginary = narrow ? (double)value.pair[1] : value.f[1];
    print_real(to, real, form->digits);
    if (!signbit(imaginary)) fputc('+', to);
    print_real(to, imaginary, form->digits);
    fputc('i', to);
}

// Axes -------------------------------------------------------------------------------------------

typedef struct printer {
    FILE *to;
    const emlx_shape *shape;
    const print_form *form;
    const uint8_t *data;
    bool all;
} printer;

// Prints the part below one position of the outer axes; `first` is its first element.
static void print_axis(const printer *p, int32_t axis, int64_t first) {
    if (axis == p->shape->rank) {
        print_element(p->to, p->form, p->data + (size_t)first * emlx_type_size(p->form->type));
        return;
    }
    int64_t length = p->shape->dims[axis], below = 1;
    for (int32_t i = axis + 1; i < p->shape->rank; i++) below *= p->shape->dims[i];
    bool innermost = axis == p->shape->rank - 1;
    fputc('[', p->to);
    for (int64_t i = 0; i < length; i++) {
        if (i > 0 && innermost) fputs(", ", p->to);
        if (i > 0 && !innermost) fprintf(p->to, ",\n%*s", axis + 1, "");
        if (!p->all && i == EDGE && length > 2 * EDGE) {
            fputs("...", p->to);
            i = length - EDGE - 1;
            continue;
        }
        print_axis(p, axis + 1, first + i * below);
    }
    fputc(']', p->to);
}

emlx_status cli_print_tensor(FILE *to, emlx_tensor *tensor, emlx_error *err) {
    const print_form *form = &forms[emlx_tensor_type(tensor)];
    emlx_tensor *wide = emlx_tensor_retain(tensor);
    emlx_status status = EMLX_OK;
    if (emlx_tensor_type(tensor) != form->type) {
        emlx_tensor_release(wide);
        status = emlx_apply(emlx_op_find("as_type"), emlx_tensor_device(tensor), &tensor, 1, NULL,
                            0, form->type, &wide, err);
        if (status != EMLX_OK) return status;
    }
    size_t size = emlx_tensor_bytes(wide);
    uint8_t *data = malloc(size + 1);
    if (data != NULL) {
        status = emlx_tensor_read(wide, 0, data, size, err);
    } else {
        status = EMLX_OUT_OF_MEMORY;
        *err = (emlx_error){.code = status, .message = "no memory for printing a tensor"};
    }
    if (status == EMLX_OK) {
        const emlx_shape *shape = emlx_tensor_shape(tensor);
        printer p = {to, shape, form, data, emlx_shape_count(shape) <= ALL_BELOW};
        print_axis(&p, 0, 0);
        fputc('\n', to);
    }
    free(data);
    emlx_tensor_release(wide);
    return status;
}
