// SPDX-License-Identifier: Apache-2.0
// scalar.c - which scalar functions the sources in kernels/ have, and for which types. A function's
// text is all that there is to add: it is found by its name, f_ and the function's, or b_ for one
// that takes the type's width as well. What is not found is refused, so that its kernel is handed
// over.
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/types.h"
#include "engines/cuda/kernels/kernels.h"
#include "engines/cuda/text/emit.h"

// What computed types have functions of their own.
typedef enum number_kind { WHOLE, FLOAT, C64, C128, NUMBER_KINDS } number_kind;

static number_kind kind_of(int type) {
    if (type_is_complex((emlx_type)type)) return type == EMLX_C64 ? C64 : C128;
    return type_is_integer((emlx_type)type) ? WHOLE : FLOAT;
}

// A stretch of text has a word if it stands there behind no other letter.
static bool has_word(const char *from, const char *to, const char *word) {
    size_t length = strlen(word);
    for (const char *c = from; c + length <= to; c++)
        if (memcmp(c, word, length) == 0 && (c == from || strchr(" (,", c[-1]) != NULL))
            return true;
    return false;
}

// Whether what stands at `name`, whose end is `end`, makes the function for that kind of numbers: a
// definition with such parameters, or a row of a macro that does.
static bool makes(const char *source, const char *name, const char *end, number_kind kind) {
    static const char *const of_complex[] = {[C64] = "T_c64 ", [C128] = "T_c128 "};
    const char *line = name, *close = strchr(end, ')');
    while (line > source && line[-1] != '\n') line--;
    bool row = isupper((unsigned char)*line) && *end != '(';
    if (close == NULL || (!row && *end != '(')) return false;
    if (has_word(line, name, "OF_REAL")) return kind == WHOLE || kind == FLOAT;
    if (has_word(line, name, "OF_WHOLE")) return kind == WHOLE;
    if (row) return kind == (strncmp(line, "OF_C64", 6) == 0 ? C64 : FLOAT);
    if (kind == C64 || kind == C128)
        return has_word(end, close, "Complex<R> ") || has_word(end, close, of_complex[kind]);
    return kind == FLOAT && (has_word(end, close, "T ") || has_word(end, close, "float ") ||
                             has_word(end, close, "double "));
}

static bool source_has(const char *source, char letter, const char *name, number_kind kind) {
    size_t length = strlen(name);
    for (const char *c = source; (c = strstr(c, name)) != NULL; c++) {
        bool whole = c >= source + 2 && c[-1] == '_' && c[-2] == letter && strchr("(,)", c[length]);
        if (whole && makes(source, c, c + length, kind)) return true;
    }
    return false;
}

// Whether a function of f32 has a form for what is rounded further: it is a row of MATH.
static bool rounds_further(const char *name) {
    char row[64];
    snprintf(row, sizeof row, "\nMATH(f_%s,", name);
    if (strstr(cuda_source_scalars, row) != NULL) return true;
    snprintf(row, sizeof row, "\nMATH_AS(f_%s,", name);
    return strstr(cuda_source_scalars, row) != NULL;
}

static scalar_text find(const char *name, number_kind kind) {
    bool further = kind == FLOAT && rounds_further(name);
    if (source_has(cuda_source_scalars, 'f', name, kind)) return (scalar_text){'f', further, 0};
    if (source_has(cuda_source_scalars, 'b', name, kind)) return (scalar_text){'b', false, 0};
    if (source_has(cuda_source_complex, 'f', name, kind))
        return (scalar_text){'f', false, PART_COMPLEX};
    return (scalar_text){'\0', false, 0};
}

static scalar_text texts[SCALAR_COUNT][NUMBER_KINDS];

static void find_all(void) {
    for (int op = 0; op < SCALAR_COUNT; op++)
        for (int k = 0; k < NUMBER_KINDS; k++)
            texts[op][k] = find(scalar_table[op].name, (number_kind)k);
}

scalar_text scalar_text_of(int op, int type) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, find_all);
    return texts[op][kind_of(type)];
}
