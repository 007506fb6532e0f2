// SPDX-License-Identifier: Apache-2.0
// mlx_plain.c - an adapter without MLX, for tests: it obeys lists of instructions by plain loops.
// Named by EMLX_MLX_ADAPTER it makes the devices `mlx` and `mlx-cpu` of any machine, so that what
// is decided in C is tested everywhere, MLX's own versions and mistakes aside. EMLX_PLAIN_VERSION
// is the version of MLX that it gives itself out for.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engines/mlx/plain.h"

struct mlx_session {
    mlx_target target;
};

// What comes out of a run as it went in shares its memory, as MLX's arrays do.
struct mlx_block {
    atomic_int holders;
    size_t size;
    unsigned char *data;
    mlx_block *of; // whose memory it is; NULL: its own
    _Alignas(64) unsigned char own[];
};

struct mlx_function {
    const mlx_list *list;
};

static const char *version(void) {
    const char *named = getenv("EMLX_PLAIN_VERSION");
    return named != NULL ? named : "99.0.0";
}

// Blocks ------------------------------------------------------------------------------------------

static bool block_new(mlx_session *session, size_t size, mlx_block **out, char *message) {
    (void)session;
    mlx_block *block = aligned_alloc(64, (sizeof *block + size + 63) / 64 * 64);
    snprintf(message, MLX_MESSAGE_SIZE, "no memory");
    if (block == NULL) return false;
    block->holders = 1;
    block->size = size;
    block->data = block->own;
    block->of = NULL;
    *out = block;
    return true;
}

// Nothing has no address, as on MLX's GPUs.
static void *block_data(mlx_block *block) { return block->size > 0 ? block->data : NULL; }

static void block_free(mlx_block *block) {
    if (block == NULL || atomic_fetch_sub(&block->holders, 1) != 1) return;
    block_free(block->of);
    free(block);
}

// Instructions -----------------------------------------------------------------------------------

static plain_array (*const obeyed[MLX_CODE_COUNT])(const plain_call *) = {
#define UNARY(name) [MLX_##name] = plain_map,
#define BINARY(name) [MLX_##name] = plain_map,
#define OTHER(name)
#include "engines/mlx/edge/codes.def"
#undef UNARY
#undef BINARY
#undef OTHER
    [MLX_literal] = plain_literal,
    [MLX_zeros] = plain_zeros,
    [MLX_arange] = plain_arange,
    [MLX_astype] = plain_astype,
    [MLX_view] = plain_view,
    [MLX_from_fp8] = plain_from_fp8,
    [MLX_contiguous] = plain_contiguous,
    [MLX_reshape] = plain_reshape,
    [MLX_broadcast_to] = plain_broadcast_to,
    [MLX_transpose] = plain_transpose,
    [MLX_as_strided] = plain_as_strided,
    [MLX_slice] = plain_slice,
    [MLX_slice_at] = plain_slice_at,
    [MLX_slice_update] = plain_slice_update,
    [MLX_slice_update_at] = plain_slice_update_at,
    [MLX_concatenate] = plain_concatenate,
    [MLX_pair] = plain_pair,
    [MLX_where] = plain_where,
    [MLX_sum] = plain_fold,
    [MLX_prod] = plain_fold,
    [MLX_max] = plain_fold,
    [MLX_min] = plain_fold,
    [MLX_any] = plain_fold,
    [MLX_argmax] = plain_argmax,
    [MLX_take] = plain_take,
    [MLX_gather] = plain_gather,
    [MLX_take_along_axis] = plain_take_along_axis,
    [MLX_scatter] = plain_scatter,
    [MLX_scatter_add] = plain_scatter,
    [MLX_sort] = plain_sort,
    [MLX_argsort] = plain_sort,
    [MLX_cumsum] = plain_cumulate,
    [MLX_cumprod] = plain_cumulate,
    [MLX_cummax] = plain_cumulate,
    [MLX_cummin] = plain_cumulate,
    [MLX_conv] = plain_conv,
    [MLX_softmax] = plain_softmax,
    [MLX_logsumexp] = plain_logsumexp,
    [MLX_rms_norm] = plain_norm,
    [MLX_layer_norm] = plain_norm,
    [MLX_rope] = plain_rope,
    [MLX_attention] = plain_attention,
    [MLX_quantized_matmul] = plain_quantized_matmul,
};

// What comes out is of the type that the list says, but for sums of small integers.
static plain_array obey(const plain_call *c) {
    if (c->code >= MLX_CODE_COUNT || obeyed[c->code] == NULL)
        plain_refuse(c->run, "instruction %d is not known", c->code);
    plain_array y = obeyed[c->code](c);
    bool sums = c->code == MLX_sum || c->code == MLX_prod;
    if (y.dtype != c->dtype && !sums)
        plain_refuse(c->run, "instruction %d gave type %d, not %d", c->code, y.dtype, c->dtype);
    return y;
}

static plain_array input(plain_run *run, const mlx_input *in, mlx_block *block) {
    plain_array a = {.dtype = (mlx_dtype)in->dtype, .rank = in->rank, .count = 1};
    if (in->dtype >= MLX_DTYPE_COUNT) plain_refuse(run, "an input of no type");
    memcpy(a.dims, in->dims, sizeof a.dims);
    for (int32_t d = 0; d < a.rank; d++) a.count *= a.dims[d];
    if ((size_t)a.count * plain_size(a.dtype) > block->size)
        plain_refuse(run, "an input cut short");
    a.data = block->data;
    return a;
}

static void give(plain_run *run, const plain_array *a, const mlx_list *list,
                 mlx_block *const *inputs, mlx_block **out) {
    size_t size = (size_t)a->count * plain_size(a->dtype);
    for (uint32_t i = 0; i < list->input_count; i++) {
        if (a->data != inputs[i]->data) continue;
        if (!block_new(NULL, 0, out, run->message)) plain_refuse(run, "no memory");
        atomic_fetch_add(&inputs[i]->holders, 1);
        (*out)->of = inputs[i];
        (*out)->data = a->data;
        (*out)->size = size;
        return;
    }
    if (!block_new(NULL, size, out, run->message)) plain_refuse(run, "no memory");
    memcpy((*out)->data, a->data, size);
}

static void run_list(plain_run *run, const mlx_list *list, mlx_block *const *inputs,
                     mlx_block **outputs) {
    plain_array *values =
        plain_memory(run, ((size_t)list->input_count + list->count) * sizeof *values);
    for (uint32_t i = 0; i < list->input_count; i++)
        values[i] = input(run, &list->inputs[i], inputs[i]);
    for (uint32_t k = 0; k < list->count; k++) {
        const mlx_instruction *i = &list->code[k];
        plain_array *in = plain_memory(run, i->operand_count * sizeof *in);
        for (uint32_t o = 0; o < i->operand_count; o++) {
            uint32_t from = list->operands[i->operands + o];
            if (from >= list->input_count + k) plain_refuse(run, "an operand that comes later");
            in[o] = values[from];
        }
        const plain_call c = {run,         (mlx_code)i->code, (mlx_dtype)i->dtype,
                              in,          i->operand_count,  list->ints + i->ints,
                              i->int_count};
        values[list->input_count + k] = obey(&c);
    }
    for (uint32_t o = 0; o < list->output_count; o++)
        give(run, &values[list->outputs[o]], list, inputs, &outputs[o]);
}

// Sessions and functions --------------------------------------------------------------------------

static bool available(mlx_target target, char *message) {
    (void)target, (void)message;
    return true;
}

static bool session_open(mlx_target target, mlx_session **out, char *message) {
    snprintf(message, MLX_MESSAGE_SIZE, "no memory");
    *out = malloc(sizeof **out);
    if (*out != NULL) **out = (mlx_session){target};
    return *out != NULL;
}

static void session_close(mlx_session *session) { free(session); }

static bool compile(mlx_session *session, const mlx_list *list, mlx_function **out, char *message) {
    (void)session;
    snprintf(message, MLX_MESSAGE_SIZE, "no memory");
    *out = malloc(sizeof **out);
    if (*out != NULL) **out = (mlx_function){list};
    return *out != NULL;
}

static bool run(mlx_session *session, mlx_function *function, mlx_block *const *inputs,
                mlx_block **outputs, char *message) {
    (void)session;
    plain_run r = {.message = message};
    r.truncates = strcmp(version(), "0.32.1") < 0;
    memset(outputs, 0, function->list->output_count * sizeof(mlx_block *));
    bool done = setjmp(r.refused) == 0;
    if (done) run_list(&r, function->list, inputs, outputs);
    for (plain_piece *next; r.pieces != NULL; r.pieces = next) {
        next = r.pieces->next;
        free(r.pieces);
    }
    for (uint32_t o = 0; !done && o < function->list->output_count; o++) block_free(outputs[o]);
    return done;
}

static void drop(mlx_session *session, mlx_function *function) {
    (void)session;
    free(function);
}

static void memory(mlx_memory *out) { *out = (mlx_memory){0}; }
static void nothing(void) {}
static size_t no_limit(size_t bytes) { return bytes; }

// Its GPU is Metal, or, where EMLX_PLAIN_APART is set, one with memory of its own.
static bool is_metal(mlx_target target) {
    return target == MLX_TARGET_GPU && getenv("EMLX_PLAIN_APART") == NULL;
}
static bool shares_memory(mlx_target target) {
    return target == MLX_TARGET_CPU || is_metal(target);
}

// A capture is a file that says when it begins and ends.
static FILE *captured;

static bool capture_start(const char *path, char *message) {
    if (captured != NULL) return snprintf(message, MLX_MESSAGE_SIZE, "there is one already") < 0;
    captured = fopen(path, "w");
    if (captured == NULL) return snprintf(message, MLX_MESSAGE_SIZE, "no file %s", path) < 0;
    fputs("begins\n", captured);
    return true;
}

static bool capture_stop(char *message) {
    if (captured == NULL) return snprintf(message, MLX_MESSAGE_SIZE, "there is none") < 0;
    fputs("ends\n", captured);
    fclose(captured);
    captured = NULL;
    return true;
}

static const mlx_edge edge = {
    MLX_EDGE_VERSION, version,       available, shares_memory, is_metal,
    session_open,     session_close, block_new, block_data,    block_free,
    compile,          run,           drop,      memory,        nothing,
    no_limit,         no_limit,      nothing,   capture_start, capture_stop,
};

__attribute__((visibility("default"))) const mlx_edge *emlx_mlx_edge(void);
const mlx_edge *emlx_mlx_edge(void) { return &edge; }
