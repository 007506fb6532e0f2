// SPDX-License-Identifier: Apache-2.0
// attrs.c - the attributes of a recorded op call, written as in a program file.
#include "attrs.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

emlx_status cases_error(emlx_error *err, emlx_status code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    err->code = code;
    return code;
}

// Numbers ----------------------------------------------------------------------------------------

static bool read_real(const json_t *from, double *out) {
    const char *text = json_string_value(from);
    *out = json_real_value(from);
    if (text == NULL) return json_is_real(from);
    *out = strcmp(text, "nan") == 0 ? NAN : strcmp(text, "inf") == 0 ? INFINITY : -INFINITY;
    return !isinf(*out) || strcmp(text, *out > 0 ? "inf" : "-inf") == 0;
}

static bool read_unsigned(const json_t *from, uint64_t *out) {
    const char *text = json_string_value(from);
    if (text == NULL || *text == '\0' || text[strspn(text, "0123456789")] != '\0') return false;
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool read_number(const json_t *from, emlx_attr *attr, int64_t *ints) {
    (void)ints;
    emlx_number *out = &attr->value;
    out->kind = EMLX_NUMBER_SIGNED;
    out->as.s = json_integer_value(from);
    if (json_is_integer(from)) return true;
    out->kind = EMLX_NUMBER_UNSIGNED;
    if (read_unsigned(from, &out->as.u)) return true;
    out->kind = EMLX_NUMBER_REAL;
    if (read_real(from, &out->as.f[0])) return true;
    out->kind = EMLX_NUMBER_COMPLEX;
    return json_array_size(from) == 2 && read_real(json_array_get(from, 0), &out->as.f[0]) &&
           read_real(json_array_get(from, 1), &out->as.f[1]);
}

// Other kinds ------------------------------------------------------------------------------------

static bool read_int(const json_t *from, emlx_attr *attr, int64_t *ints) {
    (void)ints;
    attr->value.as.s = json_integer_value(from);
    return json_is_integer(from);
}

static bool read_ints(const json_t *from, emlx_attr *attr, int64_t *ints) {
    attr->ints = ints;
    attr->count = json_array_size(from);
    bool all = json_is_array(from);
    for (size_t i = 0; i < attr->count; i++) {
        all = all && json_is_integer(json_array_get(from, i));
        ints[i] = json_integer_value(json_array_get(from, i));
    }
    return all;
}

static bool read_bool(const json_t *from, emlx_attr *attr, int64_t *ints) {
    (void)ints;
    attr->value.as.s = json_is_true(from);
    return json_is_boolean(from);
}

static bool read_text(const json_t *from, emlx_attr *attr, int64_t *ints) {
    (void)ints;
    attr->text = json_string_value(from);
    return attr->text != NULL;
}

// No recorded case gives one: functions are part of recorded programs.
static bool read_function(const json_t *from, emlx_attr *attr, int64_t *ints) {
    (void)from;
    (void)attr;
    (void)ints;
    return false;
}

static bool (*const readers[])(const json_t *from, emlx_attr *attr, int64_t *ints) = {
    [EMLX_ATTR_INT] = read_int,   [EMLX_ATTR_INTS] = read_ints,
    [EMLX_ATTR_BOOL] = read_bool, [EMLX_ATTR_NUMBER] = read_number,
    [EMLX_ATTR_TEXT] = read_text, [EMLX_ATTR_FUNCTION] = read_function,
};

// All of them ------------------------------------------------------------------------------------

static bool find_attr(const emlx_op *op, const char *key, emlx_attr *attr) {
    bool required;
    for (size_t i = 0; emlx_op_attr(op, i, &attr->name, &attr->kind, &required); i++)
        if (strcmp(attr->name, key) == 0) return true;
    return false;
}

static emlx_status read_each(const emlx_op *op, json_t *from, case_attrs *out, emlx_error *err) {
    const char *key;
    json_t *value;
    size_t ints = 0;
    json_object_foreach(from, key, value) {
        emlx_attr *attr = &out->items[out->count++];
        if (!find_attr(op, key, attr))
            return cases_error(err, EMLX_FORMAT, "%s has no attribute \"%.60s\"", emlx_op_name(op),
                               key);
        if (!readers[attr->kind](value, attr, out->ints + ints))
            return cases_error(err, EMLX_FORMAT, "attribute %s of %s has a value of another kind",
                               key, emlx_op_name(op));
        ints += attr->count;
    }
    return EMLX_OK;
}

emlx_status attrs_read(const emlx_op *op, const json_t *from, case_attrs *out, emlx_error *err) {
    const char *key;
    json_t *value;
    size_t ints = 0;
    json_object_foreach((json_t *)from, key, value) ints += json_array_size(value);
    *out = (case_attrs){
        .items = calloc(json_object_size(from) + 1, sizeof *out->items),
        .ints = calloc(ints + 1, sizeof *out->ints),
    };
    emlx_status status = out->items == NULL || out->ints == NULL
                             ? cases_error(err, EMLX_OUT_OF_MEMORY, "no memory for attributes")
                             : read_each(op, (json_t *)from, out, err);
    if (status != EMLX_OK) attrs_clear(out);
    return status;
}

void attrs_clear(case_attrs *attrs) {
    free(attrs->items);
    free(attrs->ints);
}
