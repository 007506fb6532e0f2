// SPDX-License-Identifier: Apache-2.0
// types.c - element types in generated text: names, conversions, folds.
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "engines/cuda/text/emit.h"

const char *type_text(int type) { return emlx_type_name((emlx_type)type); }
bool type_is_narrow(int type) {
    return type_is_float((emlx_type)type) && type_compute((emlx_type)type) != (emlx_type)type;
}
bool type_is_sub_byte(int type) { return type_table[type].bits < 8; }

const char *raw_type(size_t size) {
    static const char *const by_log[] = {"T_u8", "T_u16", "T_u32", "T_u64", "Sixteen"};
    return by_log[__builtin_ctzl(size)];
}

const char *truth_text(bool is) { return is ? "true" : "false"; }

// A float to an integer: infinities become the ends of the type.
static void cast_to_whole(char *out, int to, const char *x) {
    const char *name = type_text(to);
    int bits = type_table[to].bits;
    bool narrow = type_is_sub_byte(to);
    int high = narrow && type_class_of((emlx_type)to) == CLASS_SIGNED ? (1 << (bits - 1)) - 1 : 0;
    if (!narrow) {
        snprintf(out, CAST_TEXT,
                 "(T_%s)to_integer((double)(%s),(ull)Whole<T_%s>::lowest(),"
                 "(ull)Whole<T_%s>::highest())",
                 name, x, name, name);
    } else if (high > 0) {
        snprintf(out, CAST_TEXT, "wrap_%s(to_integer((double)(%s),(ull)%dll,(ull)%dll))", name, x,
                 -high - 1, high);
    } else {
        snprintf(out, CAST_TEXT, "wrap_%s(to_integer((double)(%s),0,%d))", name, x,
                 (1 << bits) - 1);
    }
}

static void cast_to_narrow(char *out, int from, int to, const char *x) {
    const char *name = type_text(to);
    if (from == EMLX_F32)
        snprintf(out, CAST_TEXT, "to_%s(%s)", name, x);
    else if (type_is_integer((emlx_type)from) && type_table[from].bits <= 16)
        snprintf(out, CAST_TEXT, "to_%s((float)(%s))", name, x);
    else if (type_is_integer((emlx_type)from) && type_table[from].bits == 64)
        snprintf(out, CAST_TEXT, "to_%s(to_odd((double)integer_to_odd(%s)))", name, x);
    else
        snprintf(out, CAST_TEXT, "to_%s(to_odd((double)(%s)))", name, x);
}

static void cast_to_complex(char *out, int from, int to, const char *x) {
    const char *part = to == EMLX_C64 ? "float" : "double";
    char inner[CAST_TEXT];
    if (type_is_complex((emlx_type)from)) {
        snprintf(out, CAST_TEXT, "T_%s{(%s)%s.re,(%s)%s.im}", type_text(to), part, x, part, x);
        return;
    }
    cast_text(inner, from, to == EMLX_C64 ? EMLX_F32 : EMLX_F64, x);
    snprintf(out, CAST_TEXT, "T_%s{%.900s,0}", type_text(to), inner);
}

const char *cast_text(char out[CAST_TEXT], int from, int to, const char *x) {
    char inner[CAST_TEXT];
    bool whole = type_is_integer((emlx_type)to), from_whole = type_is_integer((emlx_type)from);
    if (from == to && !type_is_narrow(to)) {
        snprintf(out, CAST_TEXT, "%s", x);
    } else if (type_is_narrow(from)) {
        snprintf(inner, CAST_TEXT, "from_%s(%s)", type_text(from), x);
        cast_text(out, EMLX_F32, to, inner);
    } else if (type_is_complex((emlx_type)to)) {
        cast_to_complex(out, from, to, x);
    } else if (type_is_complex((emlx_type)from)) {
        snprintf(inner, CAST_TEXT, "%s.re", x);
        cast_text(out, from == EMLX_C64 ? EMLX_F32 : EMLX_F64, to, inner);
    } else if (type_is_narrow(to)) {
        cast_to_narrow(out, from, to, x);
    } else if (whole && from_whole && type_is_sub_byte(to)) {
        snprintf(out, CAST_TEXT, "wrap_%s((ull)(ll)(%s))", type_text(to), x);
    } else if (whole && !from_whole) {
        cast_to_whole(out, to, x);
    } else {
        snprintf(out, CAST_TEXT, "(T_%s)(%s)", type_text(to), x);
    }
    return out;
}

// The folds of core.cu; other kinds have none.
static const char *const fold_names[REDUCE_COUNT] = {
    [REDUCE_SUM] = "Sum",          [REDUCE_PRODUCT] = "Product",   [REDUCE_MAX] = "Max",
    [REDUCE_MIN] = "Min",          [REDUCE_ARGMAX_LOW] = "Place",  [REDUCE_ARGMAX_HIGH] = "Place",
    [REDUCE_ARGMIN_LOW] = "Place", [REDUCE_ARGMIN_HIGH] = "Place",
};

// Sums and products of small integers wrap; floats are folded in double, f64 with what is lost.
static const char *sum_text(char out[64], reduce_kind kind, int type) {
    const char *name = fold_names[kind], *t = type_text(type);
    if (type_is_complex((emlx_type)type))
        snprintf(out, 64, "Complex%s<%s>", name, type == EMLX_C64 ? "float" : "double");
    else if (type_is_integer((emlx_type)type))
        snprintf(out, 64, "%s<T_%s,Whole<T_%s>::W>", name, t, t);
    else if (type == EMLX_F64 && kind == REDUCE_SUM)
        snprintf(out, 64, "ExactSum");
    else
        snprintf(out, 64, "%s<T_%s,double>", name, t);
    return out;
}

const char *fold_text(char out[64], reduce_kind kind, int type) {
    const reduce_info *info = &reduce_table[kind];
    if (fold_names[kind] == NULL || type_is_narrow(type)) return NULL;
    if (info->gives == GIVES_COMBINED) return sum_text(out, kind, type);
    if (type_is_complex((emlx_type)type)) return NULL;
    if (info->gives == GIVES_CHOSEN)
        snprintf(out, 64, "%s<T_%s>", fold_names[kind], type_text(type));
    else
        snprintf(out, 64, "%s<T_%s,%d,%d>", fold_names[kind], type_text(type), info->late == kind,
                 reduce_is_least(kind));
    return out;
}
