// SPDX-License-Identifier: Apache-2.0
// launch.c - launches generated kernels, and words what they report.
#include "engines/cuda/launch.h"

#include <string.h>

#include "base/error.h"

enum { FEW_WORDS = 256 };

static cuda_function function_of(const stored_kernel *k, char suffix) {
    int i = 0;
    while (k->suffixes[i] != suffix) i++;
    return k->functions[i];
}

static void fill_words(const gpu *g, const kernel_code *code, const kernel_call *call,
                       cuda_address scratch, int64_t *words) {
    memcpy(words, code->words, code->word_count * sizeof *words);
    for (uint32_t i = 0; i < code->patch_count; i++) {
        const code_patch *p = &code->patches[i];
        int64_t *word = &words[p->word];
        switch ((patch_kind)p->kind) {
        case PATCH_VALUE:
            *word = (int64_t)buffer_address(call->buffers[p->index]) + p->offset;
            break;
        case PATCH_CONSTANT: memcpy(word, &call->constants[p->index], 16); break;
        case PATCH_SCRATCH: *word = (int64_t)scratch + p->offset; break;
        case PATCH_CLAIM: *word = (int64_t)g->claim; break;
        case PATCH_REPORT: *word = (int64_t)g->report_address; break;
        }
    }
}

// `suffix`: of what is launched; 0 is all.
static emlx_status launch_all(const gpu *g, const gpu_kernel *k, int64_t *words, char suffix,
                              emlx_error *err) {
    void *arguments[] = {words};
    for (uint32_t i = 0; i < k->code.launch_count; i++) {
        const code_launch *l = &k->code.launches[i];
        if (suffix != 0 && l->suffix != suffix) continue;
        if (l->word != UINT32_MAX) words[l->word] = l->turn;
        if (l->grid_x > INT32_MAX || l->grid_y > 65535)
            return error_set(err, EMLX_UNSUPPORTED, "cuda has no grids of %lld blocks",
                             (long long)l->grid_x);
        CUDA_TRY("a launch", cuda.launch(function_of(k->stored, l->suffix), (unsigned)l->grid_x,
                                         (unsigned)l->grid_y, 1, l->block, 1, 1, l->shared,
                                         g->stream, arguments, NULL));
    }
    return EMLX_OK;
}

// Reports -----------------------------------------------------------------------------------------

// Row `place` of a gather's or scatter's indices has one out of bounds.
static emlx_status bad_index(gpu *g, const kernel_call *call, int64_t place, emlx_error *err) {
    const plan_kernel *k = call->kernel;
    const indexing how = indexing_of((primitive)k->kind, k->params);
    int64_t row[EMLX_MAX_RANK];
    const plan_access *a = &k->accesses[1];
    TRY(gpu_download(g, call->buffers[a->value],
                     (size_t)((a->offset + place * how.count) * (int64_t)sizeof *row), row,
                     (size_t)how.count * sizeof *row, err));
    return index_error(&how, &k->shapes[0], row, err);
}

// Waits for the kernel and reads what it reported. Under the lock of reports.
static emlx_status read_report(gpu *g, const kernel_call *call, emlx_error *err) {
    TRY(gpu_wait(g, err));
    int64_t code = g->report[0], place = g->report[1];
    if (code == 0) return EMLX_OK;
    g->report[0] = 0;
    CUDA_TRY("a report", cuda.fill(g->claim, 0, sizeof(int), g->stream));
    if (code == REPORT_INDEX) return bad_index(g, call, place, err);
    bool routine = call->kernel->kind == KERNEL_ROUTINE;
    return guard_error((guard_kind)code, routine ? NULL : call->kernel->guards[place], err);
}

emlx_status launch_part(gpu *g, const gpu_kernel *k, const kernel_call *call, cuda_address scratch,
                        char suffix, emlx_error *err) {
    int64_t few[FEW_WORDS], *words = few;
    size_t size = k->code.word_count * sizeof *words;
    if (k->code.word_count > FEW_WORDS) words = mem_alloc(size);
    if (words == NULL) return error_no_memory(err, "to run a kernel");
    fill_words(g, &k->code, call, scratch, words);
    emlx_status status = launch_all(g, k, words, suffix, err);
    if (words != few) mem_free(words, size);
    return status;
}

emlx_status launch_last(gpu *g, const gpu_kernel *k, const kernel_call *call, cuda_address scratch,
                        char suffix, emlx_error *err) {
    if (k->code.reports) pthread_mutex_lock(&g->report_lock);
    emlx_status status = launch_part(g, k, call, scratch, suffix, err);
    if (status == EMLX_OK && k->code.reports) status = read_report(g, call, err);
    if (k->code.reports) pthread_mutex_unlock(&g->report_lock);
    return status;
}

emlx_status launch_generated(gpu *g, const gpu_kernel *k, const kernel_call *call,
                             emlx_error *err) {
    cuda_address scratch = 0;
    uint32_t class_ = 0;
    if (k->code.launch_count == 0) return EMLX_OK;
    TRY(gpu_enter(g, err));
    if (k->code.scratch > 0)
        TRY(device_pool_take(g->pool, k->code.scratch, &scratch, &class_, err));
    emlx_status status = launch_last(g, k, call, scratch, 0, err);
    if (scratch != 0) device_pool_free(g->pool, scratch, class_);
    return status;
}
