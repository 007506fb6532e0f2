// SPDX-License-Identifier: Apache-2.0
// beside.c - products, those of one vector with several matrices as one list of tasks: reading the
// matrices is all that they take, and threads are woken up, and waited for, once.
#include "base/shape.h"
#include "engines/cpu/matrix/matrix.h"

// Whether the left side is a single vector.
static bool has_one_vector(const plan_kernel *k) {
    const emlx_shape *x = &k->shapes[0];
    int64_t terms = 1;
    if (k->kind == KERNEL_EITHER) {
        if (((const either_params *)k->params)->function != EITHER_quantized_dot) return false;
        terms = x->dims[x->rank - 1];
    } else if (k->kind == KERNEL_DOT) {
        const dot_params *p = k->params;
        for (int32_t i = 0; i < p->contracted; i++) terms *= x->dims[p->left[i]];
    } else {
        return false;
    }
    return terms > 0 && emlx_shape_count(x) == terms;
}

bool cpu_beside(const emlx_device *device, const plan_kernel *first, const plan_kernel *kernel) {
    (void)device;
    const plan_access *x = &first->accesses[0], *y = &kernel->accesses[0];
    return has_one_vector(first) && has_one_vector(kernel) && x->value == y->value &&
           x->type == y->type;
}

typedef struct member {
    kernel_call call;
    cpu_run run;
    product_tasks tasks;
    union {
        dense_product dense;
        packed_product packed;
    } of;
} member;

static emlx_status begin_member(member *m, const cpu_run *first, uint32_t number, emlx_error *err) {
    m->call = *first->call;
    m->call.kernel += number;
    m->run = *first;
    m->run.call = &m->call;
    m->run.form += number;
    m->tasks.count = 0;
    return m->call.kernel->kind == KERNEL_DOT
               ? dense_begin(&m->run, &m->of.dense, &m->tasks, err)
               : packed_begin(&m->run, &m->of.packed, &m->tasks, err);
}

static emlx_status end_member(member *m, emlx_status status, emlx_error *err) {
    return m->call.kernel->kind == KERNEL_DOT ? dense_end(&m->of.dense, status)
                                              : packed_end(&m->of.packed, status, err);
}

static void member_task(void *context, int64_t index) {
    const member *m = context;
    for (; index >= m->tasks.count; m++) index -= m->tasks.count;
    m->tasks.body(m->tasks.work, index);
}

emlx_status run_products(const cpu_run *first, emlx_error *err) {
    member members[MOST_BESIDE + 1];
    emlx_status status = EMLX_OK;
    int64_t tasks = 0;
    uint32_t begun = 0;
    for (; begun <= first->call->kernel->beside && status == EMLX_OK; begun++) {
        status = begin_member(&members[begun], first, begun, err);
        tasks += members[begun].tasks.count;
    }
    if (status == EMLX_OK && tasks > 0)
        status = run_tasks_in_order(first, tasks, member_task, members, err);
    for (uint32_t i = 0; i < begun; i++) status = end_member(&members[i], status, err);
    return status;
}
