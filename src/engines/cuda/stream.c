// SPDX-License-Identifier: Apache-2.0
// stream.c - pieces of work on streams, and the order between those of different streams.
#include "engines/cuda/stream.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "engines/cuda/driver/graphs.h"
#include "engines/cuda/graph.h"
#include "engines/cuda/record.h"
#include "memory/list.h"
#include "threads/mutex.h"

enum {
    REPORT_BYTES = REPORTERS_MOST * REPORT_WORDS * sizeof(int64_t),
    CLAIM_BYTES = REPORTERS_MOST * sizeof(int32_t),
    LAUNCHES_MOST = 256, // that are put off
    FREED_LOOK = 32,
    SPIN_MICROSECONDS = 60
};

static _Thread_local gpu_stream *current;
// Which stream the thread used last: what it does next goes there, where nothing speaks for
// another.
static _Thread_local int usual = STREAM_ANY;

gpu_stream *stream_now(const gpu *g) {
    return current != NULL && current->gpu == g ? current : NULL;
}

// Opening -----------------------------------------------------------------------------------------

static emlx_status open_reports(gpu_stream *s, emlx_error *err) {
    void *memory = NULL;
    CUDA_TRY("cuMemHostAlloc",
             cuda.host_allocate(&memory, REPORT_BYTES, CUDA_HOST_PORTABLE | CUDA_HOST_MAPPED));
    memset(memory, 0, REPORT_BYTES);
    s->reports = memory;
    CUDA_TRY("cuMemHostGetDevicePointer", cuda.host_address(&s->report_address, memory, 0));
    CUDA_TRY("cuMemAlloc", cuda.allocate(&s->claims, CLAIM_BYTES));
    return driver_check(cuda.fill(s->claims, 0, CLAIM_BYTES, s->stream), "cuMemsetD8Async", err);
}

static emlx_status open_stream(gpu *g, int number, emlx_error *err) {
    gpu_stream *s = mem_alloc(sizeof *s);
    if (s == NULL) return error_no_memory(err, "for a stream");
    pthread_mutex_init(&s->lock, NULL);
    g->streams[number] = s;
    s->gpu = g;
    s->number = number;
    s->behind[number] = UINT64_MAX;
    CUDA_TRY("cuStreamCreate", cuda.stream_create(&s->stream, CUDA_STREAM_NON_BLOCKING));
    CUDA_TRY("cuEventCreate",
             cuda.event_create(&s->end, CUDA_EVENT_NO_TIMING | CUDA_EVENT_BLOCKING));
    CUDA_TRY("cuEventCreate",
             cuda.event_create(&s->checked, CUDA_EVENT_NO_TIMING | CUDA_EVENT_BLOCKING));
    CUDA_TRY("cuMemHostAlloc",
             cuda.host_allocate((void **)&s->ring, RING_BYTES, CUDA_HOST_PORTABLE));
    for (int i = 0; i < 2; i++)
        CUDA_TRY("cuEventCreate", cuda.event_create(&s->ring_ends[i], CUDA_EVENT_NO_TIMING));
    return open_reports(s, err);
}

emlx_status streams_open(gpu *g, emlx_error *err) {
    pthread_mutex_init(&g->line.lock, NULL);
    pthread_cond_init(&g->line.freed, NULL);
    for (int i = 0; i < STREAM_COUNT; i++) TRY(open_stream(g, i, err));
    return EMLX_OK;
}

static void close_in_context(gpu_stream *s) {
    if (s->stream != NULL) cuda.stream_synchronize(s->stream);
    if (s->claims != 0) cuda.free(s->claims);
    if (s->reports != NULL) cuda.host_free((void *)s->reports);
    for (int i = 0; i < STREAM_COUNT; i++)
        if (s->marks[i] != NULL) cuda.event_destroy(s->marks[i]);
    if (s->end != NULL) cuda.event_destroy(s->end);
    if (s->checked != NULL) cuda.event_destroy(s->checked);
    for (int i = 0; i < 2; i++)
        if (s->ring_ends[i] != NULL) cuda.event_destroy(s->ring_ends[i]);
    if (s->ring != NULL) cuda.host_free(s->ring);
    if (s->recorder != NULL) cuda.stream_destroy(s->recorder);
    if (s->stream != NULL) cuda.stream_destroy(s->stream);
}

void streams_close(gpu *g, bool alive) {
    if (g->streams[0] != NULL) {
        pthread_cond_destroy(&g->line.freed);
        pthread_mutex_destroy(&g->line.lock);
    }
    for (int i = 0; i < STREAM_COUNT; i++) {
        gpu_stream *s = g->streams[i];
        g->streams[i] = NULL;
        if (s == NULL) continue;
        if (alive) close_in_context(s);
        mem_free(s->held, s->held_room * sizeof *s->held);
        mem_free(s->freed, s->freed_room * sizeof *s->freed);
        mem_free(s->launches, s->launch_room * sizeof *s->launches);
        mem_free(s->words, s->word_room * sizeof *s->words);
        pthread_mutex_destroy(&s->lock);
        mem_free(s, sizeof *s);
    }
}

// Order between streams ---------------------------------------------------------------------------

// What comes next is behind piece `piece` of stream `number`, which is queued whole.
static emlx_status behind_one(gpu_stream *s, int number, uint64_t piece, emlx_error *err) {
    const gpu_stream *other = s->gpu->streams[number];
    if (piece <= s->behind[number]) return EMLX_OK;
    if (piece <= atomic_load_explicit(&other->ended, memory_order_acquire)) return EMLX_OK;
    uint64_t given = atomic_load_explicit(&other->given, memory_order_acquire);
    cuda_event *mark = &s->marks[number];
    if (*mark == NULL)
        GPU_TRY(s->gpu, "cuEventCreate", cuda.event_create(mark, CUDA_EVENT_NO_TIMING));
    GPU_TRY(s->gpu, "an event", cuda.event_record(*mark, other->stream));
    GPU_TRY(s->gpu, "an event", cuda.stream_wait(s->stream, *mark, 0));
    s->behind[number] = given;
    return EMLX_OK;
}

emlx_status stream_behind(gpu_stream *s, const block_uses *uses, emlx_error *err) {
    if (uses_ended(uses, s->behind)) return EMLX_OK;
    for (int i = 0; i < STREAM_COUNT; i++) TRY(behind_one(s, i, uses->last[i], err));
    return EMLX_OK;
}

emlx_status stream_reads(gpu_stream *s, gpu_buffer *b, emlx_error *err) {
    TRY(behind_one(s, b->writer, b->written, err));
    b->block.uses.last[s->number] = s->piece;
    return EMLX_OK;
}

emlx_status stream_writes(gpu_stream *s, gpu_buffer *b, emlx_error *err) {
    TRY(stream_behind(s, &b->block.uses, err));
    b->writer = s->number;
    b->written = b->block.uses.last[s->number] = s->piece;
    return EMLX_OK;
}

emlx_status stream_hold(gpu_stream *s, emlx_buffer *b, emlx_error *err) {
    if (!mem_reserve(&s->held, &s->held_room, s->held_count, 1, sizeof(emlx_buffer *)))
        return error_no_memory(err, "to queue work");
    s->held[s->held_count++] = buffer_retain(b);
    return EMLX_OK;
}

// Waiting -----------------------------------------------------------------------------------------

int64_t gpu_clock(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000 + at.tv_nsec / 1000;
}

emlx_status event_wait(const gpu *g, cuda_event event, emlx_error *err) {
    int64_t until = gpu_clock() + SPIN_MICROSECONDS;
    cuda_result result = cuda.event_query(event);
    while (result == CUDA_ERROR_NOT_READY && gpu_clock() < until) result = cuda.event_query(event);
    if (result == CUDA_ERROR_NOT_READY) result = cuda.event_synchronize(event);
    return gpu_check(g, result, "waiting for the device", err);
}

emlx_status stream_wait(gpu_stream *s, emlx_error *err) {
    uint64_t given = atomic_load_explicit(&s->given, memory_order_acquire);
    TRY(stream_flush(s, err));
    GPU_TRY(s->gpu, "an event", cuda.event_record(s->end, s->stream));
    TRY(event_wait(s->gpu, s->end, err));
    atomic_store_explicit(&s->ended, given, memory_order_release);
    return EMLX_OK;
}

// Pieces ------------------------------------------------------------------------------------------

// The stream that is wanted, else another of so many that is free, or NULL.
static gpu_stream *find_free(gpu *g, int wanted, int count) {
    if (mutex_try_lock(&g->streams[wanted]->lock)) return g->streams[wanted];
    for (int i = 1; i <= count; i++) {
        int other = STREAM_FIRST + (wanted - STREAM_FIRST + i + count) % count;
        if (mutex_try_lock(&g->streams[other]->lock)) return g->streams[other];
    }
    return NULL;
}

static gpu_stream *wait_in_line(gpu *g, bool loop, int wanted, int count) {
    stream_line *line = &g->line;
    gpu_stream *s;
    mutex_lock(&line->lock);
    uint64_t number = line->kinds[loop].next++;
    atomic_fetch_add(&line->waiting, 1);
    while (number != line->kinds[loop].now || (s = find_free(g, wanted, count)) == NULL)
        pthread_cond_wait(&line->freed, &line->lock);
    line->kinds[loop].now++;
    // The next one may find another that is free.
    if (atomic_fetch_sub(&line->waiting, 1) > 1) pthread_cond_broadcast(&line->freed);
    mutex_unlock(&line->lock);
    return s;
}

// Of a stream that has just become free those are told who wait, whoever began to since. What has
// been added nothing to is seen by who adds to it next, and with it the stream.
static void call_waiting(gpu *g) {
    if (atomic_fetch_add(&g->line.waiting, 0) == 0) return;
    mutex_lock(&g->line.lock);
    pthread_cond_broadcast(&g->line.freed);
    mutex_unlock(&g->line.lock);
}

bool streams_wanted(const gpu *g) {
    return atomic_load_explicit(&g->line.waiting, memory_order_relaxed) > 0;
}

static gpu_stream *lock_stream(gpu *g, int wanted) {
    static atomic_uint turn;
    bool loop = wanted == STREAM_LOOP;
    int count = loop ? LOOP_STREAMS : STREAM_COUNT - STREAM_FIRST;
    if (wanted < 0) wanted = usual;
    if (wanted < 0 || (loop && wanted >= STREAM_FIRST + count))
        wanted = STREAM_FIRST + (int)(atomic_fetch_add(&turn, 1) % (unsigned)count);
    // Most pieces are queued in a few microseconds: whoever brings one looks for as long as it
    // takes to fall asleep. A loop does not go past those in line.
    gpu_stream *s = loop && streams_wanted(g) ? NULL : find_free(g, wanted, count);
    int64_t until = s == NULL && !loop ? gpu_clock() + SPIN_MICROSECONDS : 0;
    while (s == NULL && gpu_clock() < until) s = find_free(g, wanted, count);
    return s != NULL ? s : wait_in_line(g, loop, wanted, count);
}

emlx_status stream_begin(gpu *g, int wanted, gpu_stream **out, emlx_error *err) {
    TRY(gpu_begin(g, err));
    gpu_stream *s = lock_stream(g, wanted);
    if (s->number >= STREAM_FIRST) usual = s->number;
    s->piece = atomic_load_explicit(&s->given, memory_order_relaxed) + 1;
    current = *out = s;
    return EMLX_OK;
}

static int compare_places(const void *a, const void *b) {
    const device_block *x = a, *y = b;
    return (x->address < y->address) - (x->address > y->address);
}

// Everybody may now have what the piece has left. The lowest block is the last: whoever does the
// same again finds the same memory, and so the same graph.
static void publish(gpu_stream *s) {
    atomic_store_explicit(&s->given, s->piece, memory_order_release);
    if (s->freed_count > 1) qsort(s->freed, s->freed_count, sizeof *s->freed, compare_places);
    for (size_t i = 0; i < s->freed_count; i++) device_heap_free(s->gpu->heap, &s->freed[i]);
    s->freed_count = s->launch_count = s->word_count = 0;
    s->reporter_count = s->segment = 0;
    s->reports_late = false;
    s->graphs = NULL;
}

// What is held is let go of without the lock, as memory may go with it, and what its owner does
// then.
emlx_status stream_end(gpu_stream *s, emlx_status status, emlx_error *err) {
    emlx_error own;
    emlx_status flushed = stream_flush(s, status == EMLX_OK ? err : &own);
    publish(s);
    current = NULL;
    gpu *g = s->gpu;
    emlx_buffer *few[8], **held = few;
    size_t count = s->held_count, room = 0;
    if (count <= 8) {
        if (count > 0) memcpy(few, s->held, count * sizeof *few);
    } else {
        held = s->held, room = s->held_room;
        s->held = NULL, s->held_room = 0;
    }
    s->held_count = 0;
    mutex_unlock(&s->lock);
    call_waiting(g);
    for (size_t i = 0; i < count; i++) buffer_release(held[i]);
    if (held != few) mem_free(held, room * sizeof *held);
    gpu_end(g);
    return status == EMLX_OK ? flushed : status;
}

// Launches ----------------------------------------------------------------------------------------

int64_t *stream_words(gpu_stream *s, uint32_t count, uint32_t *place) {
    if (!mem_reserve(&s->words, &s->word_room, s->word_count, count, sizeof *s->words)) return NULL;
    *place = (uint32_t)s->word_count;
    s->word_count += count;
    return s->words + *place;
}

emlx_status stream_launch(gpu_stream *s, const queued_launch *launch, emlx_error *err) {
    if (!mem_reserve(&s->launches, &s->launch_room, s->launch_count, 1, sizeof *s->launches))
        return error_no_memory(err, "to queue work");
    s->launches[s->launch_count++] = *launch;
    return s->launch_count < LAUNCHES_MOST ? EMLX_OK : stream_flush(s, err);
}

emlx_status stream_call(gpu_stream *s, queued_call call, const void *context, const int64_t *words,
                        uint32_t count, emlx_error *err) {
    queued_launch launch = {.call = call, .context = context, .word_count = count};
    int64_t *own = stream_words(s, count, &launch.words);
    if (own == NULL) return error_no_memory(err, "to queue work");
    memcpy(own, words, count * sizeof *words);
    return stream_launch(s, &launch, err);
}

emlx_status stream_flush(gpu_stream *s, emlx_error *err) {
    size_t count = s->launch_count;
    if (count == 0) return EMLX_OK;
    s->launch_count = 0;
    emlx_status status = graph_launch(s, s->launches, count, err);
    s->word_count = 0;
    return status;
}

emlx_status gpu_queue(const gpu *g, cuda_stream *out, emlx_error *err) {
    gpu_stream *s = stream_now(g);
    if (s == NULL) return error_set(err, EMLX_INTERNAL, "no work is being queued");
    *out = stream_target(s);
    return stream_flush(s, err);
}

// Recording ---------------------------------------------------------------------------------------

emlx_status stream_record_end(gpu_stream *s, cuda_graph *graph, emlx_error *err) {
    emlx_status flushed = stream_flush(s, err);
    emlx_error own;
    emlx_status ended = record_end(s, graph, flushed == EMLX_OK ? err : &own);
    return flushed == EMLX_OK ? ended : flushed;
}

// Memory ------------------------------------------------------------------------------------------

// What this piece has freed may be used again by it at once.
static bool take_own(gpu_stream *s, uint32_t class_, device_block *block) {
    size_t least = s->freed_count > FREED_LOOK ? s->freed_count - FREED_LOOK : 0;
    for (size_t i = s->freed_count; i-- > least;) {
        if (s->freed[i].size_class != class_ || !uses_ended(&s->freed[i].uses, s->behind)) continue;
        *block = s->freed[i];
        s->freed[i] = s->freed[--s->freed_count];
        return true;
    }
    return false;
}

// All that the piece has freed goes back, after its work has ended.
static emlx_status give_back(gpu_stream *s, emlx_error *err) {
    TRY(stream_wait(s, err));
    for (size_t i = 0; i < s->freed_count; i++) {
        s->freed[i].uses.last[s->number] = 0;
        device_heap_free(s->gpu->heap, &s->freed[i]);
    }
    s->freed_count = 0;
    return EMLX_OK;
}

emlx_status gpu_take(gpu *g, size_t size, device_block *block, emlx_error *err) {
    gpu_stream *s = stream_now(g);
    if (s == NULL) return device_heap_take(g->heap, size, NULL, block, err);
    if (s->freed_count > 0 && take_own(s, device_block_class(size), block)) return EMLX_OK;
    emlx_status status = device_heap_take(g->heap, size, s->behind, block, err);
    if (status == EMLX_OUT_OF_MEMORY && s->freed_count > 0) {
        TRY(give_back(s, err));
        status = device_heap_take(g->heap, size, s->behind, block, err);
    }
    TRY(status);
    status = stream_behind(s, &block->uses, err);
    if (status != EMLX_OK) device_heap_free(g->heap, block);
    return status;
}

void gpu_give(gpu *g, const device_block *block) {
    gpu_stream *s = stream_now(g);
    if (s == NULL) {
        device_heap_free(g->heap, block);
        return;
    }
    if (!mem_reserve(&s->freed, &s->freed_room, s->freed_count, 1, sizeof *s->freed)) {
        // Without room to remember it for later it has to be done with now.
        device_block clean = *block;
        clean.uses.last[s->number] = 0;
        if (stream_wait(s, NULL) == EMLX_OK) device_heap_free(g->heap, &clean);
        return;
    }
    s->freed[s->freed_count] = *block;
    s->freed[s->freed_count++].uses.last[s->number] = s->piece;
}
