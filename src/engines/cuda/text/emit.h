// SPDX-License-Identifier: Apache-2.0
// emit.h - what the emitters of all kernel kinds share: accesses, expressions, casts.
#ifndef EMLX_CUDA_EMIT_H
#define EMLX_CUDA_EMIT_H

#include "engines/cuda/text/code.h"

typedef struct emitter {
    const emlx_plan *plan;
    const plan_kernel *kernel;
    kernel_code *code;
    const char *refused; // what it is that cannot be generated
    bool wide;           // indices take 64 bits
    uint32_t claim;      // the word of PATCH_CLAIM; PATCH_REPORT's follows
    int32_t across;      // the axis along which crossing operands are contiguous
} emitter;

// One emitter a kind of kernel. Without a launch there is nothing to do.
void emit_map(emitter *e);
void emit_fold(emitter *e);
void emit_custom(emitter *e);
void emit_gather(emitter *e);
void emit_scatter(emitter *e);
void emit_sort(emitter *e);
void emit_scan(emitter *e);
void emit_pick(emitter *e);
void emit_dot(emitter *e);
void emit_conv(emitter *e);
void emit_routine(emitter *e);
void emit_rows(emitter *e);
void emit_either(emitter *e);

// Up to how many elements are counted in 32 bits.
#define INDEX_MOST ((int64_t)1 << 30)

#define EMIT(...) code_text(e->code, __VA_ARGS__)

// Types -------------------------------------------------------------------------------------------

// The name of an element's C type is T_ and this.
const char *type_text(int type);
bool type_is_narrow(int type); // a float held as f32
bool type_is_sub_byte(int type);
// The C type that moves elements of that size.
const char *raw_type(size_t size);
const char *truth_text(bool is);
// Text of 1,024 bytes that converts the expression `x`.
enum { CAST_TEXT = 1024 };
const char *cast_text(char out[CAST_TEXT], int from, int to, const char *x);
// The struct of folds.cu that folds elements of a type, or NULL.
const char *fold_text(char out[64], reduce_kind kind, int type);

// Launches and words ------------------------------------------------------------------------------

void emit_begin(emitter *e);
// The head of a function, up to the type of indices X.
void emit_function(emitter *e, char suffix, int block);
// The same, of which `blocks` are to fit on a multiprocessor.
void emit_function_of(emitter *e, char suffix, int block, int blocks);
// A loop of all threads over t below the count, and the launch for it.
code_launch *emit_loop(emitter *e, int64_t count);
uint32_t value_word(emitter *e, uint32_t value, int64_t bytes);
// The address of operand i's first element.
uint32_t operand_word(emitter *e, uint32_t i);
uint32_t output_word(emitter *e);
// The address of operand i's first element, with run-time starts: an expression.
void emit_address(emitter *e, uint32_t i);
// A statement that reports, for the words that `emit_begin` keeps.
void emit_report(emitter *e, int code, const char *place);

// Accesses ----------------------------------------------------------------------------------------

// Base pointers b0, b1, ... with run-time starts added.
void emit_bases(emitter *e);
// The same element everywhere.
bool access_is_uniform(const plan_kernel *k, const plan_access *a);
bool access_is_memory(const plan_access *a);
// A load that is neither uniform nor no load at all.
bool step_loads(const plan_kernel *k, const expr_step *s);
// The offset of an access over indices i0, i1, ..., each taken as type `as`.
void emit_offset(emitter *e, const plan_access *a, const char *as);
// What numbers of 31 bits are multiplied with to be divided: see `quotient` of core.cu.
int64_t divisor_word(int64_t by);
// The quotient of a number of type X that is not negative.
void emit_quotient(emitter *e, const char *number, int64_t by);
// Indices of the axes from such a number, innermost last.
void emit_indices(emitter *e, const char *number, const int32_t *axes, int32_t count);
// Takes an axis of the variable `left`, the innermost of what is left, into an offset.
void emit_axis(emitter *e, const char *offset, int64_t dim, int64_t stride);

// Expressions -------------------------------------------------------------------------------------

// How a scalar function of a computed type is called: by its name behind this letter and _, where b
// stands for one that takes the type's width as well; '\0': there is no text for it. One that
// `narrows` has a form for f32 that is only rounded further. The parts are those that it needs
// besides the first two.
typedef struct scalar_text {
    char letter;
    bool narrows;
    uint32_t parts;
} scalar_text;

scalar_text scalar_text_of(int op, int type);

// How loads are written of which `holds` says that they are done: with the number of the access
// instead of $. Others read memory where they stand.
typedef struct emit_loads {
    const char *text;
    bool (*holds)(const emitter *e, const plan_access *a);
    // Instead of both: writes the load, or says that it does not.
    bool (*write)(emitter *e, const struct emit_loads *loads, uint32_t access);
    const void *context;
} emit_loads;

// Loads and stores of vectors along the last axis.
bool access_is_dense(const emitter *e, const plan_access *a);
// How many elements one can have, at most 16 bytes of the widest type and as operands are aligned;
// 0: not along all of them.
int emit_vector_width(const emitter *e);

// The pointer to an operand, b and its number; a constant as a step's value.
void emit_base(emitter *e, uint32_t access);
void emit_constant(emitter *e, uint32_t step);
// Constants, and loads of the same element everywhere, in front of all loops.
void emit_fixed(emitter *e);
// The other steps in order.
void emit_steps(emitter *e, const emit_loads *loads, const char *carry);
// Stores through memory.
void emit_stores(emitter *e);

int64_t axes_product(const int64_t *dims, int32_t rank);

#endif
