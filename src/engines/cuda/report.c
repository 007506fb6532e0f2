// SPDX-License-Identifier: Apache-2.0
// report.c - words what kernels have reported: guards, indices out of bounds, singular matrices.
#include "engines/cuda/report.h"

#include "base/error.h"
#include "engines/cuda/text/code.h"

enum { CLAIM = sizeof(int32_t), REPORT = REPORT_WORDS * sizeof(int64_t) };

int64_t report_claim(const gpu_stream *s) {
    return (int64_t)(s->claims + (s->reporter_count - 1) * CLAIM);
}

int64_t report_place(const gpu_stream *s) {
    return (int64_t)(s->report_address + (s->reporter_count - 1) * REPORT);
}

emlx_status report_begin(gpu_stream *s, const kernel_call *call, bool checks, emlx_error *err) {
    const plan_kernel *k = call->kernel;
    bool indexed = k->kind == KERNEL_GATHER || k->kind == KERNEL_SCATTER;
    if (s->reporter_count == REPORTERS_MOST) TRY(report_read(s, err));
    reporter r = {.kernel = k, .indices = indexed ? call->buffers[k->accesses[1].value] : NULL};
    if (indexed) TRY(stream_hold(s, (emlx_buffer *)r.indices, err));
    s->reporters[s->reporter_count++] = r;
    s->reports_late = s->reports_late || !checks;
    return EMLX_OK;
}

// Row `place` of a gather's or scatter's indices has one out of bounds.
static emlx_status bad_index(gpu *g, const reporter *r, int64_t place, emlx_error *err) {
    const plan_kernel *k = r->kernel;
    const indexing how = indexing_of((primitive)k->kind, k->params);
    int64_t row[EMLX_MAX_RANK];
    const plan_access *a = &k->accesses[1];
    TRY(gpu_download(g, r->indices,
                     (size_t)((a->offset + place * how.count) * (int64_t)sizeof *row), row,
                     (size_t)how.count * sizeof *row, err));
    return index_error(&how, &k->shapes[0], row, err);
}

// As run_kernels words what kernels fail with: of what is fused only the last op is the kernel's.
static emlx_status word_report(gpu *g, const reporter *r, int64_t code, int64_t place,
                               emlx_error *err) {
    const plan_kernel *k = r->kernel;
    bool routine = k->kind == KERNEL_ROUTINE;
    emlx_status status = code == REPORT_INDEX ? bad_index(g, r, place, err)
                                              : guard_error((guard_kind)code,
                                                            routine ? NULL : k->guards[place], err);
    return k->guard_count > 0 ? status : error_prefix(err, status, "%s", k->op);
}

// The error of the first kernel that has one; all words are as they were before.
static emlx_status find_report(gpu_stream *s, uint32_t count, emlx_error *err) {
    emlx_status status = EMLX_OK;
    bool any = false;
    for (uint32_t i = 0; i < count; i++) {
        volatile int64_t *report = s->reports + (size_t)i * REPORT_WORDS;
        if (report[0] == 0) continue;
        if (!any) status = word_report(s->gpu, &s->reporters[i], report[0], report[1], err);
        report[0] = 0;
        any = true;
    }
    if (any) (void)cuda.fill(s->claims, 0, (size_t)count * CLAIM, s->stream);
    return status;
}

emlx_status report_look(gpu_stream *s, emlx_error *err) {
    return find_report(s, s->reporter_count, err);
}

emlx_status report_checked(gpu_stream *s, emlx_error *err) {
    if (s->records) return EMLX_OK;
    TRY(stream_flush(s, err));
    GPU_TRY(s->gpu, "an event", cuda.event_record(s->checked, s->stream));
    return EMLX_OK;
}

// What comes behind the checks is queued before they are waited for.
static emlx_status wait_for_checks(gpu_stream *s, emlx_error *err) {
    TRY(stream_flush(s, err));
    return event_wait(s->gpu, s->checked, err);
}

emlx_status report_read(gpu_stream *s, emlx_error *err) {
    uint32_t count = s->reporter_count;
    bool late = s->reports_late;
    if (count == 0) return EMLX_OK;
    s->reporter_count = 0;
    s->reports_late = false;
    TRY(late ? stream_wait(s, err) : wait_for_checks(s, err));
    return find_report(s, count, err);
}
