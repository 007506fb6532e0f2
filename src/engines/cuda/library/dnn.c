// SPDX-License-Identifier: Apache-2.0
// dnn.c - graphs of one convolution each, and the choice among cuDNN's plans for them.
#include "engines/cuda/library/dnn.h"

#include <string.h>

#include "engines/cuda/driver/disk.h"
#include "engines/cuda/driver/libraries.h"
#include "memory/memory.h"

// Numbers of the library's own header.
enum {
    CONVOLUTION = 1, // kinds of descriptors
    ENGINE = 2,
    CHOICE = 3,
    ESTIMATE = 4,
    PLAN = 5,
    OPERATION_FORWARD = 10,
    OPERATION_OF_FILTER = 11,
    OPERATION_OF_IMAGE = 12,
    GRAPH = 15,
    PACK = 16,
    TENSOR = 17,
    DEVICE = 38
};

enum {
    CONVOLUTION_TYPE = 100, // attributes
    CONVOLUTION_MODE = 101,
    CONVOLUTION_DILATIONS = 102,
    CONVOLUTION_STRIDES = 103,
    CONVOLUTION_HIGH = 104,
    CONVOLUTION_LOW = 105,
    CONVOLUTION_AXES = 106,
    ESTIMATE_MODE = 200,
    ESTIMATE_GRAPH = 201,
    ESTIMATE_CHOICES = 202,
    ESTIMATE_DEVICE = 204,
    CHOICE_ENGINE = 300,
    PLAN_HANDLE = 400,
    PLAN_CHOICE = 401,
    PLAN_WORKSPACE = 402,
    PLAN_TEXT = 405,
    PLAN_DEVICE = 407,
    GRAPH_HANDLE = 800,
    GRAPH_OPERATIONS = 801,
    TENSOR_ALIGNMENT = 900,
    TENSOR_TYPE = 901,
    TENSOR_DIMS = 902,
    TENSOR_STRIDES = 903,
    TENSOR_NAME = 906,
    PACK_NAMES = 1000,
    PACK_ADDRESSES = 1001,
    PACK_WORKSPACE = 1003,
    ENGINE_NOTES = 1303,
    ENGINE_WORK_NOTES = 1305,
    DEVICE_TEXT = 2702
};

enum {
    OF_HANDLE = 0, // types of attributes
    OF_TYPE = 1,
    OF_INT = 3,
    OF_FLOAT = 4,
    OF_DOUBLE = 5,
    OF_ADDRESS = 6,
    OF_MODE = 7,
    OF_ESTIMATE = 8,
    OF_NOTE = 11,
    OF_DESCRIPTOR = 15,
    OF_WORK_NOTE = 19,
    OF_CHAR = 24
};

enum { FLOAT = 0, DOUBLE = 1, CROSS_CORRELATION = 1 };
enum { ESTIMATED = 3, FALLBACK = 2 };

// What engines note on their numbers, as bits.
enum {
    TENSOR_CORES = 1 << 0,
    ROUNDED_OPERANDS = 1 << 1,
    ROUNDED_SUMS = 1 << 2,
    FOURIER = 1 << 3,
    ANY_ORDER = 1 << 4, // not the same bits each time
    WINOGRAD = 0xf << 5,
    NOTES_MOST = 32
};
// And on how they work.
enum { COMPILED = 1 << 0 };

#define CUDNN(XX)                                                                                  \
    XX(property, "cudnnGetProperty", (int which, int *value))                                      \
    XX(create, "cudnnCreate", (dnn_handle * handle))                                               \
    XX(destroy, "cudnnDestroy", (dnn_handle handle))                                               \
    XX(set_stream, "cudnnSetStream", (dnn_handle handle, cuda_stream stream))                      \
    XX(make, "cudnnBackendCreateDescriptor", (int kind, dnn_descriptor *out))                      \
    XX(drop, "cudnnBackendDestroyDescriptor", (dnn_descriptor d))                                  \
    XX(finish, "cudnnBackendFinalize", (dnn_descriptor d))                                         \
    XX(set, "cudnnBackendSetAttribute",                                                            \
       (dnn_descriptor d, int attribute, int type, int64_t count, const void *values))             \
    XX(get, "cudnnBackendGetAttribute",                                                            \
       (dnn_descriptor d, int attribute, int type, int64_t room, int64_t *count, void *values))    \
    XX(execute, "cudnnBackendExecute",                                                             \
       (dnn_handle handle, dnn_descriptor plan, dnn_descriptor pack))

static struct { CUDNN(LIBRARY_FUNCTION) } dnn;
LIBRARY(library, dnn, CUDNN, "cuDNN", "libcudnn.so.9", "libcudnn.so");

emlx_status dnn_open(emlx_error *err) { return library_open(&library, err); }
void dnn_describe(char *text, size_t size) { library_describe(&library, text, size); }
int dnn_create(dnn_handle *handle) { return dnn.create(handle); }
void dnn_destroy(dnn_handle handle) { dnn.destroy(handle); }

// Descriptors -------------------------------------------------------------------------------------

// What a plan refers to, as it is made: nothing more is done once something has failed.
typedef struct builder {
    dnn_plan *plan;
    dnn_handle handle;
    dnn_descriptor device; // where there is no handle
    bool failed;
} builder;

static dnn_descriptor make(builder *b, int kind) {
    dnn_descriptor d = NULL;
    b->failed = b->failed || b->plan->count == DNN_MADE_MOST || dnn.make(kind, &d) != 0;
    if (d != NULL) b->plan->made[b->plan->count++] = d;
    return d;
}

static void set(builder *b, dnn_descriptor d, int attribute, int type, int64_t count,
                const void *values) {
    b->failed = b->failed || dnn.set(d, attribute, type, count, values) != 0;
}

static void finish(builder *b, dnn_descriptor d) { b->failed = b->failed || dnn.finish(d) != 0; }

void dnn_plan_clear(dnn_plan *plan) {
    while (plan->count > 0) dnn.drop(plan->made[--plan->count]);
    plan->plan = NULL;
}

// The graph ---------------------------------------------------------------------------------------

static bool find_type(emlx_type type, int *out) {
    static const int types[EMLX_TYPE_COUNT] = {
        [EMLX_F32] = 1, [EMLX_F64] = 2, [EMLX_F16] = 3, [EMLX_BF16] = 10};
    *out = types[type] - 1;
    return types[type] != 0;
}

bool dnn_knows(emlx_type type) {
    int number;
    return find_type(type, &number);
}

// Tensors are named by their place in the list, from 1 on.
static dnn_descriptor make_tensor(builder *b, const dnn_convolution *c, int which) {
    const dnn_tensor *t = &c->tensors[which];
    dnn_descriptor d = make(b, TENSOR);
    int type;
    int64_t name = which + 1;
    find_type(c->type, &type);
    set(b, d, TENSOR_TYPE, OF_TYPE, 1, &type);
    set(b, d, TENSOR_DIMS, OF_INT, c->rank, t->dims);
    set(b, d, TENSOR_STRIDES, OF_INT, c->rank, t->strides);
    set(b, d, TENSOR_ALIGNMENT, OF_INT, 1, &t->alignment);
    set(b, d, TENSOR_NAME, OF_INT, 1, &name);
    finish(b, d);
    return d;
}

static dnn_descriptor make_geometry(builder *b, const dnn_convolution *c) {
    dnn_descriptor d = make(b, CONVOLUTION);
    int type = c->type == EMLX_F64 ? DOUBLE : FLOAT, mode = CROSS_CORRELATION;
    int64_t axes = c->rank - 2;
    set(b, d, CONVOLUTION_TYPE, OF_TYPE, 1, &type);
    set(b, d, CONVOLUTION_MODE, OF_MODE, 1, &mode);
    set(b, d, CONVOLUTION_AXES, OF_INT, 1, &axes);
    set(b, d, CONVOLUTION_STRIDES, OF_INT, axes, c->strides);
    set(b, d, CONVOLUTION_DILATIONS, OF_INT, axes, c->dilations);
    set(b, d, CONVOLUTION_LOW, OF_INT, axes, c->low);
    set(b, d, CONVOLUTION_HIGH, OF_INT, axes, c->high);
    finish(b, d);
    return d;
}

static dnn_descriptor make_operation(builder *b, const dnn_convolution *c) {
    static const struct {
        int kind, one, none, geometry, tensors[DNN_TENSORS];
    } ways[] = {[DNN_FORWARD] = {OPERATION_FORWARD, 700, 701, 702, {704, 703, 705}},
                [DNN_OF_IMAGE] = {OPERATION_OF_IMAGE, 706, 707, 708, {710, 709, 711}},
                [DNN_OF_FILTER] = {OPERATION_OF_FILTER, 712, 713, 714, {716, 715, 717}}};
    const double one = 1, none = 0;
    const float one_f32 = 1, none_f32 = 0;
    bool wide = c->type == EMLX_F64;
    int scale = wide ? OF_DOUBLE : OF_FLOAT;
    dnn_descriptor geometry = make_geometry(b, c), d = make(b, ways[c->way].kind);
    for (int i = 0; i < DNN_TENSORS; i++) {
        dnn_descriptor t = make_tensor(b, c, i);
        set(b, d, ways[c->way].tensors[i], OF_DESCRIPTOR, 1, &t);
    }
    set(b, d, ways[c->way].geometry, OF_DESCRIPTOR, 1, &geometry);
    set(b, d, ways[c->way].one, scale, 1, wide ? (const void *)&one : &one_f32);
    set(b, d, ways[c->way].none, scale, 1, wide ? (const void *)&none : &none_f32);
    finish(b, d);
    return d;
}

static dnn_descriptor make_graph(builder *b, const dnn_convolution *c) {
    dnn_descriptor operation = make_operation(b, c), d = make(b, GRAPH);
    set(b, d, GRAPH_OPERATIONS, OF_DESCRIPTOR, 1, &operation);
    if (b->handle != NULL) set(b, d, GRAPH_HANDLE, OF_HANDLE, 1, &b->handle);
    finish(b, d);
    return d;
}

// The choice --------------------------------------------------------------------------------------

enum { CHOICES_MOST = 128 };
#define WORKSPACE_MOST ((int64_t)1 << 30)

// Tensor cores round f32 to fewer digits.
static int refused_notes(const dnn_convolution *c) {
    int refused = ROUNDED_OPERANDS | ROUNDED_SUMS | FOURIER | ANY_ORDER | WINOGRAD;
    return c->type == EMLX_F32 && !c->tf32 ? refused | TENSOR_CORES : refused;
}

// An engine's notes of a kind, as bits.
static bool read_notes(dnn_descriptor engine, int attribute, int type, int *bits) {
    int notes[NOTES_MOST];
    int64_t count = 0;
    *bits = 0;
    if (dnn.get(engine, attribute, type, NOTES_MOST, &count, notes) != 0) return false;
    for (int64_t i = 0; i < count && i < NOTES_MOST; i++) *bits |= 1 << notes[i];
    return true;
}

static bool choice_suits(dnn_descriptor choice, const dnn_convolution *c, bool *compiled) {
    int numbers = 0, work = 0;
    int64_t found = 0;
    dnn_descriptor engine = NULL;
    bool known = dnn.make(ENGINE, &engine) == 0 &&
                 dnn.get(choice, CHOICE_ENGINE, OF_DESCRIPTOR, 1, &found, &engine) == 0 &&
                 read_notes(engine, ENGINE_NOTES, OF_NOTE, &numbers) &&
                 read_notes(engine, ENGINE_WORK_NOTES, OF_WORK_NOTE, &work);
    if (engine != NULL) dnn.drop(engine);
    *compiled = work & COMPILED;
    return known && (numbers & refused_notes(c)) == 0;
}

// Whether the choice, which becomes the plan's, can be made into one.
static bool take_choice(builder *b, dnn_descriptor choice) {
    dnn_plan *p = b->plan;
    int64_t found = 0;
    dnn_descriptor d = make(b, PLAN);
    if (b->handle != NULL)
        set(b, d, PLAN_HANDLE, OF_HANDLE, 1, &b->handle);
    else
        set(b, d, PLAN_DEVICE, OF_DESCRIPTOR, 1, &b->device);
    set(b, d, PLAN_CHOICE, OF_DESCRIPTOR, 1, &choice);
    finish(b, d);
    bool taken = !b->failed && dnn.get(d, PLAN_WORKSPACE, OF_INT, 1, &found, &p->workspace) == 0 &&
                 p->workspace <= WORKSPACE_MOST && p->count < DNN_MADE_MOST;
    if (taken) {
        p->plan = d;
        p->made[p->count - 1] = choice; // dropped after the plan
        p->made[p->count++] = d;
    } else if (d != NULL) {
        dnn.drop(p->made[--p->count]);
        b->failed = false;
    }
    return taken;
}

// The first choice of a kind of estimate that suits; the others are let go of.
static void choose_dnn_plan(builder *b, dnn_descriptor graph, int mode, const dnn_convolution *c) {
    dnn_descriptor choices[CHOICES_MOST], estimate = make(b, ESTIMATE);
    int64_t count = 0, room = 0;
    bool failed = b->failed;
    set(b, estimate, ESTIMATE_GRAPH, OF_DESCRIPTOR, 1, &graph);
    set(b, estimate, ESTIMATE_MODE, OF_ESTIMATE, 1, &mode);
    if (b->handle == NULL) set(b, estimate, ESTIMATE_DEVICE, OF_DESCRIPTOR, 1, &b->device);
    finish(b, estimate);
    while (!b->failed && room < CHOICES_MOST && dnn.make(CHOICE, &choices[room]) == 0) room++;
    if (b->failed || dnn.get(estimate, ESTIMATE_CHOICES, OF_DESCRIPTOR, room, &count, choices) != 0)
        count = 0;
    for (int64_t i = 0; i < room; i++) {
        bool taken = i < count && b->plan->plan == NULL &&
                     choice_suits(choices[i], c, &b->plan->compiled) && take_choice(b, choices[i]);
        if (!taken) dnn.drop(choices[i]);
    }
    b->failed = failed;
}

static void make_plan(builder *b, const dnn_convolution *c) {
    dnn_descriptor graph = make_graph(b, c);
    choose_dnn_plan(b, graph, ESTIMATED, c);
    if (b->plan->plan == NULL) choose_dnn_plan(b, graph, FALLBACK, c);
    if (b->plan->plan == NULL) dnn_plan_clear(b->plan);
}

// Plans on disk -----------------------------------------------------------------------------------

static disk_key key_of(const dnn_convolution *c, int architecture) {
    int facts[] = {architecture, (int)c->way, (int)c->type, c->tf32, c->rank, 0, 0, 0};
    for (int i = 0; i < 3; i++) (void)dnn.property(i, &facts[5 + i]); // the library's version
    disk_key key = disk_digest((disk_key){{0}}, "cuDNN", sizeof "cuDNN");
    key = disk_digest(key, facts, sizeof facts);
    key = disk_digest(key, c->tensors, sizeof c->tensors);
    const int64_t *axes[] = {c->strides, c->dilations, c->low, c->high};
    for (int i = 0; i < 4; i++) key = disk_digest(key, axes[i], sizeof c->strides);
    return key;
}

// A compiled plan as the library wrote it down, which takes it a tenth of the time.
static void restore_plan(builder *b, const disk_key *key) {
    dnn_plan *p = b->plan;
    size_t size;
    disk_image about;
    int64_t found = 0;
    void *text = disk_read(key, &size, &about);
    if (text == NULL) return;
    dnn_descriptor d = make(b, PLAN);
    set(b, d, PLAN_HANDLE, OF_HANDLE, 1, &b->handle);
    set(b, d, PLAN_TEXT, OF_CHAR, (int64_t)size, text);
    finish(b, d);
    mem_free(text, size);
    p->compiled = true;
    if (!b->failed && dnn.get(d, PLAN_WORKSPACE, OF_INT, 1, &found, &p->workspace) == 0)
        p->plan = d;
    else
        dnn_plan_clear(p);
    b->failed = false;
}

static void keep_plan(const dnn_plan *p, const disk_key *key) {
    int64_t size = 0;
    if (p->plan == NULL || !p->compiled) return;
    if (dnn.get(p->plan, PLAN_TEXT, OF_CHAR, 0, &size, NULL) != 0 || size <= 0) return;
    void *text = mem_alloc((size_t)size);
    if (text != NULL && dnn.get(p->plan, PLAN_TEXT, OF_CHAR, size, &size, text) == 0)
        disk_write(key, 1, text, (size_t)size, false);
    mem_free(text, (size_t)size);
}

void dnn_plan_make(dnn_handle handle, int architecture, const dnn_convolution *c, dnn_plan *out) {
    builder b = {.plan = out, .handle = handle};
    disk_key key = key_of(c, architecture);
    *out = (dnn_plan){0};
    restore_plan(&b, &key);
    if (out->plan != NULL) return;
    make_plan(&b, c);
    keep_plan(out, &key);
}

void dnn_plan_rehearse(const char *device, const dnn_convolution *c, dnn_plan *out) {
    builder b = {.plan = out};
    *out = (dnn_plan){0};
    b.device = make(&b, DEVICE);
    set(&b, b.device, DEVICE_TEXT, OF_CHAR, (int64_t)strlen(device) + 1, device);
    finish(&b, b.device);
    make_plan(&b, c);
}

// Running -----------------------------------------------------------------------------------------

// A pack cannot be changed once it is finished; a new one takes a third of a microsecond.
int dnn_plan_run(dnn_handle handle, cuda_stream stream, const dnn_plan *plan,
                 const cuda_address at[DNN_TENSORS], cuda_address workspace) {
    static const int64_t names[DNN_TENSORS] = {1, 2, 3};
    dnn_descriptor pack;
    int result = dnn.set_stream(handle, stream);
    if (result == 0) result = dnn.make(PACK, &pack);
    if (result != 0) return result;
    result = dnn.set(pack, PACK_NAMES, OF_INT, DNN_TENSORS, names);
    if (result == 0) result = dnn.set(pack, PACK_ADDRESSES, OF_ADDRESS, DNN_TENSORS, at);
    if (result == 0) result = dnn.set(pack, PACK_WORKSPACE, OF_ADDRESS, 1, &workspace);
    if (result == 0) result = dnn.finish(pack);
    if (result == 0) result = dnn.execute(handle, plan->plan, pack);
    dnn.drop(pack);
    return result;
}
