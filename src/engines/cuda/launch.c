// SPDX-License-Identifier: Apache-2.0
// launch.c - queues launches of generated kernels.
#include "engines/cuda/launch.h"

#include <string.h>

#include "base/error.h"
#include "engines/cuda/report.h"

static cuda_function function_of(const stored_kernel *k, char suffix) {
    int i = 0;
    while (k->suffixes[i] != suffix) i++;
    return atomic_load_explicit(&k->functions[i], memory_order_relaxed);
}

static void fill_words(const gpu_stream *s, const kernel_code *code, const kernel_call *call,
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
        case PATCH_CLAIM: *word = report_claim(s); break;
        case PATCH_REPORT: *word = report_place(s); break;
        }
    }
}

// One launch more of those words. Where it has a word of its own they are copied.
static emlx_status queue_launch(gpu_stream *s, const gpu_kernel *k, const code_launch *l,
                                uint32_t words, emlx_error *err) {
    uint32_t count = k->code.word_count;
    if (l->grid_x > INT32_MAX || l->grid_y > 65535)
        return error_set(err, EMLX_UNSUPPORTED, "cuda has no grids of %lld blocks",
                         (long long)l->grid_x);
    if (l->word != UINT32_MAX) {
        uint32_t before = words;
        int64_t *own = stream_words(s, count, &words);
        if (own == NULL) return error_no_memory(err, "to run a kernel");
        memcpy(own, s->words + before, count * sizeof *own);
        own[l->word] = l->turn;
    }
    queued_launch launch = {.function = function_of(k->stored, l->suffix),
                            .grid_x = (uint32_t)l->grid_x,
                            .grid_y = (uint32_t)l->grid_y,
                            .block = l->block,
                            .shared = l->shared,
                            .words = words,
                            .word_count = count};
    return stream_launch(s, &launch, err);
}

// Queueing may make launches that came before, and with them give up the list of words: those of a
// kernel that is launched several times are in it anew each time.
emlx_status launch_part(gpu *g, const gpu_kernel *k, const kernel_call *call, cuda_address scratch,
                        char suffix, emlx_error *err) {
    gpu_stream *s = stream_now(g);
    uint32_t place = 0, epoch = 0;
    for (uint32_t i = 0; i < k->code.launch_count; i++) {
        const code_launch *l = &k->code.launches[i];
        if (suffix != 0 && l->suffix != suffix) continue;
        if (epoch != s->segment + 1) {
            int64_t *words = stream_words(s, k->code.word_count, &place);
            if (words == NULL) return error_no_memory(err, "to run a kernel");
            fill_words(s, &k->code, call, scratch, words);
            epoch = s->segment + 1;
        }
        TRY(queue_launch(s, k, l, place, err));
        if (i + 1 == k->code.checks) TRY(report_checked(s, err));
    }
    return EMLX_OK;
}

emlx_status launch_generated(gpu *g, const gpu_kernel *k, const kernel_call *call,
                             emlx_error *err) {
    device_block scratch = {0};
    if (k->code.launch_count == 0) return EMLX_OK;
    if (k->code.scratch > 0) TRY(gpu_take(g, k->code.scratch, &scratch, err));
    emlx_status status = launch_part(g, k, call, scratch.address, 0, err);
    if (scratch.address != 0) gpu_give(g, &scratch);
    return status;
}
