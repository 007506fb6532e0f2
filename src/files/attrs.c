// SPDX-License-Identifier: Apache-2.0
// attrs.c - the attributes of an op call as JSON has them.
#include "files/attrs.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "memory/memory.h"

emlx_status json_ints(const json_t *from, int64_t *out, emlx_error *err) {
    for (size_t i = 0; i < json_array_size(from); i++) {
        const json_t *item = json_array_get(from, i);
        if (!json_is_integer(item))
            return error_set(err, EMLX_FORMAT, "item %zu is not an integer", i);
        out[i] = json_integer_value(item);
    }
    return EMLX_OK;
}

static bool get_real(const json_t *from, double *out) {
    static const struct {
        const char *text;
        double value;
    } specials[] = {{"inf", INFINITY}, {"-inf", -INFINITY}, {"nan", NAN}};
    const char *text = json_string_value(from);
    for (size_t i = 0; text != NULL && i < sizeof specials / sizeof *specials; i++)
        if (strcmp(text, specials[i].text) == 0) {
            *out = specials[i].value;
            return true;
        }
    *out = json_real_value(from);
    return json_is_real(from);
}

static bool get_unsigned(const json_t *from, uint64_t *out) {
    const char *text = json_string_value(from);
    if (text == NULL || *text == '\0' || text[strspn(text, "0123456789")] != '\0') return false;
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return errno == 0;
}

static bool get_number(const json_t *from, emlx_number *out) {
    out->kind = EMLX_NUMBER_SIGNED;
    out->as.s = json_integer_value(from);
    if (json_is_integer(from)) return true;
    out->kind = EMLX_NUMBER_UNSIGNED;
    if (get_unsigned(from, &out->as.u)) return true;
    out->kind = EMLX_NUMBER_REAL;
    if (get_real(from, &out->as.f[0])) return true;
    out->kind = EMLX_NUMBER_COMPLEX;
    return json_array_size(from) == 2 && get_real(json_array_get(from, 0), &out->as.f[0]) &&
           get_real(json_array_get(from, 1), &out->as.f[1]);
}

static emlx_status attr_kind_of(const emlx_op *op, const char *name, emlx_attr *attr,
                                emlx_error *err) {
    bool required;
    for (size_t i = 0; emlx_op_attr(op, i, &attr->name, &attr->kind, &required); i++)
        if (strcmp(attr->name, name) == 0) return EMLX_OK;
    return error_set(err, EMLX_FORMAT, "unknown attribute \"%.60s\"", name);
}

static bool get_int(const json_t *from, emlx_attr *attr) {
    attr->value.as.s = json_integer_value(from);
    return json_is_integer(from);
}

static bool get_bool(const json_t *from, emlx_attr *attr) {
    attr->value.as.s = json_is_true(from);
    return json_is_boolean(from);
}

static bool get_number_attr(const json_t *from, emlx_attr *attr) {
    return get_number(from, &attr->value);
}

static bool get_text_attr(const json_t *from, emlx_attr *attr) {
    attr->text = json_string_value(from);
    return attr->text != NULL;
}

// Reads one of a known kind; a list goes to *ints, which moves on.
static emlx_status read_attr(const json_t *from, emlx_attr *attr, int64_t **ints, emlx_error *err) {
    static const struct {
        const char *words;
        bool (*get)(const json_t *from, emlx_attr *attr);
    } kinds[] = {
        [EMLX_ATTR_INT] = {"an integer", get_int},
        [EMLX_ATTR_INTS] = {"a list of integers", NULL},
        [EMLX_ATTR_BOOL] = {"true or false", get_bool},
        [EMLX_ATTR_NUMBER] = {"a number", get_number_attr},
        [EMLX_ATTR_TEXT] = {"a text", get_text_attr},
        [EMLX_ATTR_FUNCTION] = {"there outside of programs", NULL},
    };
    if (attr->kind == EMLX_ATTR_INTS && json_is_array(from)) {
        attr->ints = *ints;
        attr->count = json_array_size(from);
        *ints += attr->count;
        return json_ints(from, *ints - attr->count, err);
    }
    attr->value = (emlx_number){.kind = EMLX_NUMBER_SIGNED};
    bool fits = kinds[attr->kind].get != NULL && kinds[attr->kind].get(from, attr);
    return fits ? EMLX_OK : error_set(err, EMLX_FORMAT, "not %s", kinds[attr->kind].words);
}

static emlx_status read_each(const emlx_op *op, const json_t *from, json_function *function,
                             void *context, json_attrs *out, emlx_error *err) {
    const char *key;
    json_t *value;
    int64_t *ints = (int64_t *)(out->items + json_object_size(from));
    json_object_foreach((json_t *)from, key, value) {
        emlx_attr *attr = &out->items[out->count++];
        TRY(attr_kind_of(op, key, attr, err));
        emlx_status status = attr->kind == EMLX_ATTR_FUNCTION && function != NULL
                                 ? function(context, value, &attr->function, err)
                                 : read_attr(value, attr, &ints, err);
        if (status != EMLX_OK) return error_prefix(err, status, "attribute %s", attr->name);
    }
    return EMLX_OK;
}

emlx_status json_attrs_read(const emlx_op *op, const json_t *from, json_function *function,
                            void *context, json_attrs *out, emlx_error *err) {
    const char *key;
    json_t *value;
    size_t ints = 0;
    json_object_foreach((json_t *)from, key, value) ints += json_array_size(value);
    *out = (json_attrs){.size = json_object_size(from) * sizeof *out->items +
                                ints * sizeof(int64_t) + 1};
    out->items = mem_alloc(out->size);
    if (out->items == NULL) return error_no_memory(err, "for attributes");
    emlx_status status = read_each(op, from, function, context, out, err);
    if (status != EMLX_OK) json_attrs_free(out);
    return status;
}

void json_attrs_free(json_attrs *attrs) {
    for (size_t i = 0; i < attrs->count; i++) emlx_function_release(attrs->items[i].function);
    mem_free(attrs->items, attrs->size);
    *attrs = (json_attrs){0};
}
