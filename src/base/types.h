// SPDX-License-Identifier: Apache-2.0
// types.h - facts about element types, in one table.
#ifndef EMLX_BASE_TYPES_H
#define EMLX_BASE_TYPES_H

#include "emlx.h"

typedef enum type_class { CLASS_UNSIGNED, CLASS_SIGNED, CLASS_FLOAT, CLASS_COMPLEX } type_class;

typedef struct type_info {
    const char *name;
    uint8_t bits;
    uint8_t size;    // bytes of an element in memory
    uint8_t class_;  // a type_class
    uint8_t compute; // the emlx_type in which kernels hold its values
    uint8_t digits;  // bits of precision: every integer of that many bits is exact in it
} type_info;

extern const type_info type_table[EMLX_TYPE_COUNT];

static inline bool type_is_valid(emlx_type t) { return (unsigned)t < EMLX_TYPE_COUNT; }
static inline size_t type_size(emlx_type t) { return type_table[t].size; }
static inline type_class type_class_of(emlx_type t) { return (type_class)type_table[t].class_; }
static inline bool type_is_float(emlx_type t) { return type_class_of(t) == CLASS_FLOAT; }
static inline bool type_is_complex(emlx_type t) { return type_class_of(t) == CLASS_COMPLEX; }
static inline bool type_is_integer(emlx_type t) { return type_class_of(t) <= CLASS_SIGNED; }
// The type whose values kernels hold for `t`: f32 for the narrow floats, `t` itself otherwise.
static inline emlx_type type_compute(emlx_type t) { return (emlx_type)type_table[t].compute; }
// The integer type of 8 bits for narrower ones, `t` itself otherwise. What is computed in it wraps
// to the width of `t` when it is cast back.
static inline emlx_type type_whole(emlx_type t) {
    if (type_table[t].bits >= 8) return t;
    return type_class_of(t) == CLASS_SIGNED ? EMLX_S8 : EMLX_U8;
}

// Nx's rules for result types.
emlx_type type_merge(emlx_type a, emlx_type b); // of two tensors
emlx_type type_floating(emlx_type t);           // own type if float or complex, else f32
emlx_type type_aggregate(emlx_type t);          // of sum and product
emlx_type type_complex(emlx_type t);            // c128 for f64 and c128, else c64
emlx_type type_part(emlx_type t);               // of a complex type's parts; others as they are

// The type in which results of type `t` are added up from operands of type `from`: `t` itself, a
// wider float where that does not hold the operand's numbers, and complex where either is.
emlx_type type_holding(emlx_type t, emlx_type from);

// Whether every number of `from` is one of `to`, so that a cast changes none. Not told of complex
// types, and of two floats only where `to` is f32 or wider.
bool type_has(emlx_type to, emlx_type from);

// A number stored in a type's memory form, as Nx casts: integers wrap, floats round once.
// `out` has room for 16 bytes.
void type_store(emlx_type type, const emlx_number *value, void *out);
// The number held in a type's memory form.
emlx_number type_load(emlx_type type, const void *in);

#endif
