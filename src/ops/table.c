// SPDX-License-Identifier: Apache-2.0
// table.c - the op table, and applying a row of it to tensors.
#include "ops/ops.h"

#include <pthread.h>
#include <string.h>

#include "base/hash.h"

#define ANY SIZE_MAX

// Attribute lists, shared by rows.
#define ATTRS(list, ...) static const attr_spec list[] = {__VA_ARGS__, {0}};
static const attr_spec attrs_none[] = {{0}};
ATTRS(attrs_shape, {"shape", EMLX_ATTR_INTS, true})
ATTRS(attrs_shape_value, {"shape", EMLX_ATTR_INTS, true}, {"value", EMLX_ATTR_NUMBER, true})
ATTRS(attrs_shape_axis, {"shape", EMLX_ATTR_INTS, true}, {"axis", EMLX_ATTR_INT, false})
ATTRS(attrs_shape_axes, {"shape", EMLX_ATTR_INTS, true}, {"axes", EMLX_ATTR_INTS, true})
ATTRS(attrs_axes, {"axes", EMLX_ATTR_INTS, true})
ATTRS(attrs_axis, {"axis", EMLX_ATTR_INT, true})
ATTRS(attrs_starts, {"starts", EMLX_ATTR_INTS, false})
ATTRS(attrs_slice, {"starts", EMLX_ATTR_INTS, false}, {"lengths", EMLX_ATTR_INTS, true},
      {"strides", EMLX_ATTR_INTS, false})
ATTRS(attrs_padding, {"padding", EMLX_ATTR_INTS, true})
ATTRS(attrs_reduce, {"axes", EMLX_ATTR_INTS, false}, {"keep_axes", EMLX_ATTR_BOOL, false})
ATTRS(attrs_arg_reduce, {"axis", EMLX_ATTR_INT, false}, {"tie_break", EMLX_ATTR_TEXT, false},
      {"keep_axis", EMLX_ATTR_BOOL, false})
ATTRS(attrs_all_close, {"equal_nan", EMLX_ATTR_BOOL, false}, {"rtol", EMLX_ATTR_NUMBER, false},
      {"atol", EMLX_ATTR_NUMBER, false})
ATTRS(attrs_cumulative, {"axis", EMLX_ATTR_INT, true}, {"reverse", EMLX_ATTR_BOOL, false})
ATTRS(attrs_window, {"window", EMLX_ATTR_INTS, true}, {"padding", EMLX_ATTR_INTS, false},
      {"strides", EMLX_ATTR_INTS, false}, {"window_dilations", EMLX_ATTR_INTS, false})
ATTRS(attrs_custom, {"axes", EMLX_ATTR_INTS, false}, {"keep_axes", EMLX_ATTR_BOOL, false},
      {"function", EMLX_ATTR_FUNCTION, true})
ATTRS(attrs_custom_window, {"window", EMLX_ATTR_INTS, true}, {"padding", EMLX_ATTR_INTS, false},
      {"strides", EMLX_ATTR_INTS, false}, {"window_dilations", EMLX_ATTR_INTS, false},
      {"function", EMLX_ATTR_FUNCTION, true})
ATTRS(attrs_window_scatter, {"window", EMLX_ATTR_INTS, true}, {"padding", EMLX_ATTR_INTS, false},
      {"strides", EMLX_ATTR_INTS, false})
ATTRS(attrs_dot, {"contract_left", EMLX_ATTR_INTS, true}, {"batch_left", EMLX_ATTR_INTS, true},
      {"contract_right", EMLX_ATTR_INTS, true}, {"batch_right", EMLX_ATTR_INTS, true})
ATTRS(attrs_conv, {"strides", EMLX_ATTR_INTS, false}, {"padding", EMLX_ATTR_INTS, false},
      {"input_dilation", EMLX_ATTR_INTS, false}, {"kernel_dilation", EMLX_ATTR_INTS, false},
      {"feature_group_size", EMLX_ATTR_INT, false}, {"batch_group_size", EMLX_ATTR_INT, false},
      {"input_permutation", EMLX_ATTR_INTS, false}, {"kernel_permutation", EMLX_ATTR_INTS, false},
      {"output_permutation", EMLX_ATTR_INTS, false})
ATTRS(attrs_sort, {"axis", EMLX_ATTR_INT, true}, {"direction", EMLX_ATTR_TEXT, false})
ATTRS(attrs_top_k, {"k", EMLX_ATTR_INT, false})
ATTRS(attrs_triangular, {"lower", EMLX_ATTR_BOOL, false}, {"left_side", EMLX_ATTR_BOOL, false},
      {"transform_a", EMLX_ATTR_TEXT, false})
ATTRS(attrs_fft, {"length", EMLX_ATTR_INT, false}, {"axis", EMLX_ATTR_INT, false},
      {"eps", EMLX_ATTR_NUMBER, false})
ATTRS(attrs_fft2, {"lengths", EMLX_ATTR_INTS, false}, {"axes", EMLX_ATTR_INTS, false},
      {"eps", EMLX_ATTR_NUMBER, false})
ATTRS(attrs_axes_opt, {"axes", EMLX_ATTR_INTS, false})
ATTRS(attrs_norm, {"eps", EMLX_ATTR_NUMBER, true})
ATTRS(attrs_rope, {"dims", EMLX_ATTR_INT, true}, {"traditional", EMLX_ATTR_BOOL, false},
      {"base", EMLX_ATTR_NUMBER, false}, {"scale", EMLX_ATTR_NUMBER, false})
ATTRS(attrs_attention, {"scale", EMLX_ATTR_NUMBER, true}, {"causal", EMLX_ATTR_BOOL, false},
      {"first", EMLX_ATTR_INT, false}, {"offset", EMLX_ATTR_BOOL, false},
      {"mask", EMLX_ATTR_BOOL, false}, {"key_mask", EMLX_ATTR_BOOL, false},
      {"sinks", EMLX_ATTR_BOOL, false})
ATTRS(attrs_qr, {"mode", EMLX_ATTR_TEXT, false})
ATTRS(attrs_svd, {"full_matrices?", EMLX_ATTR_BOOL, false})
ATTRS(attrs_packing, {"mode", EMLX_ATTR_TEXT, false}, {"bits", EMLX_ATTR_INT, false},
      {"group_size", EMLX_ATTR_INT, false})

static const emlx_op op_table[] = {
#define OP(...) OP_OF(1, __VA_ARGS__)
#define OP_OF(results, name, fewest, most, attrs, check, lower, code)                              \
    {#name, results, fewest, most, attrs_##attrs, check, lower, code},
#include "ops/ops.def"
#undef OP
};

enum { OP_COUNT = sizeof op_table / sizeof *op_table };

const emlx_op *emlx_op_at(size_t index) { return index < OP_COUNT ? &op_table[index] : NULL; }

// Rows by their names, found once.
enum { NAME_SLOTS = 1024 };
static hash_slot name_slots[NAME_SLOTS];
static hash_table names = {.slots = name_slots, .size = NAME_SLOTS};
static pthread_once_t names_filled = PTHREAD_ONCE_INIT;
_Static_assert(OP_COUNT <= NAME_SLOTS / 2, "there are free slots");

static bool is_named(const void *context, uintptr_t row, const void *name) {
    (void)context;
    return strcmp(((const emlx_op *)row)->name, name) == 0;
}

static void fill_names(void) {
    for (size_t i = 0; i < OP_COUNT; i++) {
        uint64_t hash = hash_text(op_table[i].name);
        hash_slot *slot = hash_find(&names, hash, is_named, NULL, op_table[i].name);
        hash_take(&names, slot, hash, (uintptr_t)&op_table[i]);
    }
}

const emlx_op *emlx_op_find(const char *name) {
    if (name == NULL) return NULL;
    pthread_once(&names_filled, fill_names);
    return (const emlx_op *)hash_find(&names, hash_text(name), is_named, NULL, name)->item;
}

const char *emlx_op_name(const emlx_op *op) { return op == NULL ? "?" : op->name; }

void emlx_op_operands(const emlx_op *op, size_t *fewest, size_t *most) {
    if (fewest != NULL) *fewest = op == NULL ? 0 : op->fewest;
    if (most != NULL) *most = op == NULL ? 0 : op->most;
}

size_t emlx_op_results(const emlx_op *op) { return op == NULL ? 0 : op->results; }

bool emlx_op_attr(const emlx_op *op, size_t index, const char **name, emlx_attr_kind *kind,
                  bool *required) {
    if (op == NULL) return false;
    for (size_t i = 0; i <= index; i++)
        if (op->attrs[i].name == NULL) return false;
    if (name != NULL) *name = op->attrs[index].name;
    if (kind != NULL) *kind = op->attrs[index].kind;
    if (required != NULL) *required = op->attrs[index].required;
    return true;
}

const emlx_attr *attr_get(const op_call *call, const char *name) {
    for (size_t i = 0; i < call->attr_count; i++)
        if (strcmp(call->attrs[i].name, name) == 0) return &call->attrs[i];
    return NULL;
}

int64_t attr_int(const op_call *call, const char *name, int64_t otherwise) {
    const emlx_attr *attr = attr_get(call, name);
    return attr == NULL ? otherwise : attr->value.as.s;
}

const char *attr_text(const op_call *call, const char *name, const char *otherwise) {
    const emlx_attr *attr = attr_get(call, name);
    return attr == NULL ? otherwise : attr->text;
}

double attr_real(const op_call *call, const char *name, double otherwise) {
    const emlx_attr *attr = attr_get(call, name);
    if (attr == NULL) return otherwise;
    const emlx_number *number = &attr->value;
    return number->kind == EMLX_NUMBER_REAL     ? number->as.f[0]
           : number->kind == EMLX_NUMBER_SIGNED ? (double)number->as.s
                                                : (double)number->as.u;
}

emlx_status check_real(const op_call *call, const char *name, emlx_error *err) {
    const emlx_attr *attr = attr_get(call, name);
    if (attr == NULL || attr->value.kind != EMLX_NUMBER_COMPLEX) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "%s must be real", name);
}

// Checks before the op's own ----------------------------------------------------------------

static const char *const kind_names[] = {
    [EMLX_ATTR_INT] = "an integer",     [EMLX_ATTR_INTS] = "a list of integers",
    [EMLX_ATTR_BOOL] = "true or false", [EMLX_ATTR_NUMBER] = "a number",
    [EMLX_ATTR_TEXT] = "a name",        [EMLX_ATTR_FUNCTION] = "a function",
};

static bool attr_well_formed(const emlx_attr *attr) {
    switch (attr->kind) {
    case EMLX_ATTR_INT: return attr->value.kind == EMLX_NUMBER_SIGNED;
    case EMLX_ATTR_BOOL:
        return attr->value.kind == EMLX_NUMBER_SIGNED && (uint64_t)attr->value.as.s <= 1;
    case EMLX_ATTR_INTS: return attr->count <= 4 * EMLX_MAX_RANK && (attr->ints || !attr->count);
    case EMLX_ATTR_NUMBER: return attr->value.kind <= EMLX_NUMBER_COMPLEX;
    case EMLX_ATTR_TEXT: return attr->text != NULL;
    case EMLX_ATTR_FUNCTION: return attr->function != NULL;
    }
    return false;
}

static emlx_status check_attr(const op_call *call, const emlx_attr *attr, emlx_error *err) {
    for (const attr_spec *spec = call->op->attrs; spec->name != NULL; spec++) {
        if (strcmp(spec->name, attr->name) != 0) continue;
        if (spec->kind == attr->kind && attr_well_formed(attr)) return EMLX_OK;
        return error_set(err, EMLX_INVALID, "attribute %s must be %s", spec->name,
                         kind_names[spec->kind]);
    }
    return error_set(err, EMLX_INVALID, "there is no attribute %s", attr->name);
}

static emlx_status check_operands(const op_call *call, emlx_error *err) {
    const emlx_op *op = call->op;
    if (call->count < op->fewest)
        return error_set(err, EMLX_INVALID, "%zu operands given, %s%zu expected", call->count,
                         op->most == op->fewest ? "" : "at least ", op->fewest);
    if (call->count > op->most)
        return error_set(err, EMLX_INVALID, "%zu operands given, %s%zu expected", call->count,
                         op->most == op->fewest ? "" : "at most ", op->most);
    for (size_t i = 0; i < call->count; i++) {
        if (call->in[i] == NULL) return error_set(err, EMLX_INVALID, "operand %zu is missing", i);
        if (!call->symbolic && call->in[i]->device != call->in[0]->device)
            return error_set(err, EMLX_INVALID, "the operands are on different devices");
    }
    if (!call->symbolic && call->count == 0 && call->device == NULL)
        return error_set(err, EMLX_INVALID, "no device given");
    return EMLX_OK;
}

static emlx_status check_attrs(const op_call *call, emlx_error *err) {
    const emlx_op *op = call->op;
    for (size_t i = 0; i < call->attr_count; i++) {
        if (call->attrs[i].name == NULL)
            return error_set(err, EMLX_INVALID, "attribute %zu has no name", i);
        TRY(check_attr(call, &call->attrs[i], err));
        if (attr_get(call, call->attrs[i].name) != &call->attrs[i])
            return error_set(err, EMLX_INVALID, "attribute %s is given twice", call->attrs[i].name);
    }
    for (const attr_spec *spec = op->attrs; spec->name != NULL; spec++)
        if (spec->required && attr_get(call, spec->name) == NULL)
            return error_set(err, EMLX_INVALID, "attribute %s is missing", spec->name);
    return EMLX_OK;
}

emlx_status refuse_complex(const op_call *call, emlx_error *err) {
    for (size_t i = 0; i < call->count; i++)
        if (type_is_complex(operand_type(call, i)))
            return error_set(err, EMLX_INVALID, "operands must be real, got %s",
                             emlx_type_name(operand_type(call, i)));
    return EMLX_OK;
}

static emlx_status choose_type(emlx_type wanted, op_result *result, emlx_error *err) {
    static const char *const choices[] = {[CHOOSE_FLOAT] = "a float type",
                                          [CHOOSE_INTEGER] = "an integer type",
                                          [CHOOSE_COMPLEX] = "a complex type",
                                          [CHOOSE_U8] = "u8"};
    if (wanted != EMLX_TYPE_DEFAULT) {
        if (!type_is_valid(wanted)) return error_set(err, EMLX_INVALID, "no such result type");
        bool fits = result->choice == CHOOSE_ANY ||
                    (result->choice == CHOOSE_FLOAT && type_class_of(wanted) >= CLASS_FLOAT) ||
                    (result->choice == CHOOSE_INTEGER && type_is_integer(wanted)) ||
                    (result->choice == CHOOSE_COMPLEX && type_is_complex(wanted)) ||
                    (result->choice == CHOOSE_U8 && wanted == EMLX_U8);
        if (!fits)
            return error_set(err, EMLX_INVALID, "the result is %s, not %s", choices[result->choice],
                             emlx_type_name(wanted));
        result->type = wanted;
    }
    return EMLX_OK;
}

// Where f64 only serves rounding a device may do without it (plan/parts/narrow.c): not here.
static void note_chosen(emlx_tensor *t) {
    if (t->type == EMLX_F64 && !atomic_load_explicit(&t->chosen, memory_order_relaxed))
        atomic_store_explicit(&t->chosen, true, memory_order_relaxed);
}

static emlx_status apply(op_call *call, emlx_type type, emlx_tensor **out, emlx_error *err) {
    op_result results[EMLX_MAX_RESULTS] = {{.choice = CHOOSE_ANY}};
    TRY(check_operands(call, err));
    if (!call->symbolic && call->count > 0) call->device = call->in[0]->device;
    TRY(check_attrs(call, err));
    TRY(call->op->check(call, results, err));
    if (call->op->results > 1 && type != EMLX_TYPE_DEFAULT)
        return error_set(err, EMLX_INVALID, "there are %zu results, of types that cannot be chosen",
                         call->op->results);
    for (size_t i = 0; i < call->op->results; i++) TRY(choose_type(type, &results[i], err));
    TRY(call->op->lower(call, results, out, err));
    for (size_t i = 0; i < call->op->results; i++) note_chosen(out[i]);
    return EMLX_OK;
}

static emlx_status apply_named(op_call *call, emlx_type type, emlx_tensor **out, emlx_error *err) {
    emlx_status status = apply(call, type, out, err);
    return status == EMLX_OK ? EMLX_OK : error_prefix(err, status, "%s", call->op->name);
}

emlx_status op_apply(const emlx_op *op, emlx_device *device, emlx_tensor *const *operands,
                     size_t operand_count, const emlx_attr *attrs, size_t attr_count,
                     emlx_type type, emlx_tensor **out, emlx_error *err) {
    op_call call = {op, device, operands, operand_count, attrs, attr_count, device == NULL};
    return apply_named(&call, type, out, err);
}

emlx_status emlx_apply(const emlx_op *op, emlx_device *device, emlx_tensor *const *operands,
                       size_t operand_count, const emlx_attr *attrs, size_t attr_count,
                       emlx_type type, emlx_tensor **out, emlx_error *err) {
    REQUIRE_ITEMS(operands, operand_count);
    REQUIRE_ITEMS(attrs, attr_count);
    REQUIRE(out);
    if (op == NULL) return error_set(err, EMLX_INVALID, "no op given");
    op_call call = {op, device, operands, operand_count, attrs, attr_count, false};
    return apply_named(&call, type, out, err);
}
