// SPDX-License-Identifier: Apache-2.0
// routine.c - runs a routine on each element of a batch, elements in parallel. Transforms go
// several at a time, see fft.c.
#include "engines/cpu/routine/routine.h"

#include "base/sanitize.h"
#include "base/types.h"

// Multiplications of one parallel task, about.
#define TASK_WORK (1 << 18)
// An element of more multiplications is shared by all threads.
#define SHARED_WORK (1 << 24)

typedef struct routine_work {
    const routine_fn routine;
    routine_call call; // of element 0
    int64_t count, group;
    int64_t in_step[2], out_step; // bytes from one element to the next
    task_errors errors;
} routine_work;

emlx_status scratch_take(const routine_call *call, size_t size, void **out, emlx_error *err) {
    scratch *s = call->scratch;
    if (s->size < size) {
        room_end(s->room, s->data, s->size);
        s->data = NULL;
        s->size = 0;
        TRY(data_alloc(size, &s->data, err));
        s->size = size;
    }
    *out = s->data;
    return EMLX_OK;
}

emlx_status call_tasks(const routine_call *call, int64_t count, pool_body body, void *work,
                       emlx_error *err) {
    if (call->run != NULL) return run_tasks(call->run, count, body, work, err);
    for (int64_t i = 0; i < count; i++) body(work, i);
    return EMLX_OK;
}

bool call_goes_on(const routine_call *call) { return call->run == NULL || task_goes_on(call->run); }

static routine_fn find_routine(int32_t kind, emlx_type type) {
    static const routine_fn *const by_type[EMLX_TYPE_COUNT] = {[EMLX_F32] = linalg_f32,
                                                               [EMLX_F64] = linalg_f64,
                                                               [EMLX_C64] = linalg_c64,
                                                               [EMLX_C128] = linalg_c128};
    return by_type[type] == NULL ? NULL : by_type[type][kind];
}

static emlx_status run_element(const routine_work *w, int64_t index, scratch *memory,
                               const cpu_run *shared, emlx_error *err) {
    routine_call call = w->call;
    call.run = shared;
    call.scratch = memory;
    for (int operand = 0; operand < 2; operand++)
        if (call.in[operand] != NULL)
            call.in[operand] = (const char *)call.in[operand] + index * w->in_step[operand];
    call.out = (char *)call.out + index * w->out_step;
    MEMORY_WRITTEN(call.out, (size_t)w->out_step); // by LAPACK
    return w->routine(&call, err);
}

static void routine_task(void *context, int64_t index) {
    routine_work *w = context;
    _Alignas(64) char room[ROOM_SIZE];
    scratch memory = {room, sizeof room, room};
    emlx_error err;
    emlx_status status = EMLX_OK;
    int64_t end = (index + 1) * w->group < w->count ? (index + 1) * w->group : w->count;
    for (int64_t i = index * w->group; i < end && status == EMLX_OK; i++)
        status = run_element(w, i, &memory, NULL, &err);
    if (status != EMLX_OK) task_failed(&w->errors, &err);
    room_end(room, memory.data, memory.size);
}

// One large element after another.
static emlx_status run_shared(const cpu_run *run, const routine_work *w, emlx_error *err) {
    _Alignas(64) char room[ROOM_SIZE];
    scratch memory = {room, sizeof room, room};
    emlx_status status = EMLX_OK;
    for (int64_t i = 0; i < w->count && status == EMLX_OK; i++)
        status = run_element(w, i, &memory, run, err);
    room_end(room, memory.data, memory.size);
    return status;
}

// Elements that follow the batch axes.
static int64_t element_length(const emlx_shape *shape, int32_t batch) {
    int64_t length = 1;
    for (int32_t d = batch; d < shape->rank; d++) length *= shape->dims[d];
    return length;
}

// The first operand's last two axes are a matrix, and so are the second's unless it is a vector.
static void find_lengths(const cpu_run *run, routine_call *call) {
    const plan_kernel *k = run->call->kernel;
    const emlx_shape *shapes = k->shapes;
    call->rows = (int)shapes[0].dims[shapes[0].rank - 2];
    call->columns = (int)shapes[0].dims[shapes[0].rank - 1];
    call->other = 1;
    if (k->access_count < 2 || (call->params->flags & ROUTINE_VECTOR)) return;
    int32_t axis = call->params->flags & ROUTINE_RIGHT ? 2 : 1;
    call->other = (int)shapes[1].dims[shapes[1].rank - axis];
}

static emlx_status run_elements(const cpu_run *run, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const routine_params *p = k->params;
    const plan_value *value = output_value(run);
    routine_work w = {.routine = find_routine(p->kind, value->type), .count = 1};
    if (w.routine == NULL)
        return error_set(err, EMLX_UNSUPPORTED, "cpu has no such routine of %s",
                         emlx_type_name(value->type));
    w.call.params = p;
    int64_t size = (int64_t)type_size(value->type);
    for (uint32_t i = 0; i < k->access_count; i++) {
        w.call.in[i] = operand_data(run, i);
        w.in_step[i] = element_length(&k->shapes[i], p->batch) * size;
    }
    w.call.out = output_data(run);
    w.out_step = element_length(&value->shape, p->batch) * size;
    find_lengths(run, &w.call);
    for (int32_t d = 0; d < p->batch; d++) w.count *= k->shapes[0].dims[d];
    if (w.count == 0) return EMLX_OK;
    double longest = w.call.rows > w.call.columns ? w.call.rows : w.call.columns;
    double work = longest * w.call.rows * w.call.columns;
    blas_ready(run, work);
    if (work > SHARED_WORK) return run_shared(run, &w, err);
    w.group = work >= TASK_WORK ? 1 : (int64_t)(TASK_WORK / work);
    TRY(run_tasks(run, (w.count - 1) / w.group + 1, routine_task, &w, err));
    return task_result(&w.errors, err);
}

// Transforms -------------------------------------------------------------------------------------

// Elements of all lines up to which they are computed in double whatever their type, as small
// matrices are: it costs little and rounds once.
#define SMALL_LINES 4096

static bool is_transform(const plan_kernel *k) {
    return routine_elements[((const routine_params *)k->params)->kind] == ROUTINE_OF_LINE;
}

emlx_status prepare_routine(kernel_form *form, const emlx_plan *plan, const plan_kernel *kernel,
                            const cpu_kernels *kernels, arena *memory, emlx_error *err) {
    const routine_params *p = kernel->params;
    if (!is_transform(kernel)) return EMLX_OK;
    emlx_type from = kernel->accesses[0].type, to = plan->values[kernel->output].type;
    bool last = p->batch == kernel->shapes[0].rank - 1;
    bool real = last && (!type_is_complex(from) || p->kind == ROUTINE_irfft);
    bool small = emlx_shape_count(&plan->values[kernel->output].shape) <= SMALL_LINES;
    emlx_type in = small ? EMLX_F64 : type_part(to);
    form->fft = fft_prepare(p->length, in, real, kernels, memory);
    if (form->fft == NULL)
        return error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a transform of length %lld",
                         (long long)p->length);
    return EMLX_OK;
}

emlx_status run_routine(const cpu_run *run, emlx_error *err) {
    return is_transform(run->call->kernel) ? run_fft(run, err) : run_elements(run, err);
}
