// SPDX-License-Identifier: Apache-2.0
// transfer.c - copies to and from devices, by way of pinned memory: what the host copies there goes
// on by itself, beside the work of other streams.
#include <string.h>

#include "base/error.h"
#include "engines/cuda/stream.h"
#include "threads/pool.h"

// Up to SMALL bytes go through rings and slots, which nobody else keeps for long; others in chunks
// through two buffers each way.
enum { SMALL = 128 << 10, SLOTS = 31, SLICES = 8 };
#define CHUNK ((size_t)4 << 20)

// Two buffers that take turns.
typedef struct chunks {
    pthread_mutex_t lock;
    char *memory[2];
    cuda_event ends[2]; // when the device has done with them
} chunks;

struct staging {
    chunks up, down;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    char *slots;
    cuda_event ends[SLOTS];
    unsigned taken; // a bit each
};

static emlx_status open_chunks(chunks *c, emlx_error *err) {
    for (int i = 0; i < 2 && c->memory[i] == NULL; i++) {
        CUDA_TRY("cuEventCreate",
                 cuda.event_create(&c->ends[i], CUDA_EVENT_NO_TIMING | CUDA_EVENT_BLOCKING));
        CUDA_TRY("cuMemHostAlloc",
                 cuda.host_allocate((void **)&c->memory[i], CHUNK, CUDA_HOST_PORTABLE));
    }
    return EMLX_OK;
}

static void close_chunks(chunks *c, bool alive) {
    for (int i = 0; i < 2 && alive; i++) {
        if (c->memory[i] != NULL) cuda.host_free(c->memory[i]);
        if (c->ends[i] != NULL) cuda.event_destroy(c->ends[i]);
    }
    pthread_mutex_destroy(&c->lock);
}

emlx_status staging_open(gpu *g, emlx_error *err) {
    staging *s = g->staging = mem_alloc(sizeof *s);
    if (s == NULL) return error_no_memory(err, "for a device");
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->up.lock, NULL);
    pthread_mutex_init(&s->down.lock, NULL);
    pthread_cond_init(&s->freed, NULL);
    for (int i = 0; i < SLOTS; i++)
        CUDA_TRY("cuEventCreate",
                 cuda.event_create(&s->ends[i], CUDA_EVENT_NO_TIMING | CUDA_EVENT_BLOCKING));
    return driver_check(
        cuda.host_allocate((void **)&s->slots, (size_t)SLOTS * SMALL, CUDA_HOST_PORTABLE),
        "cuMemHostAlloc", err);
}

void staging_close(gpu *g, bool alive) {
    staging *s = g->staging;
    if (s == NULL) return;
    g->staging = NULL;
    close_chunks(&s->up, alive);
    close_chunks(&s->down, alive);
    for (int i = 0; i < SLOTS && alive; i++)
        if (s->ends[i] != NULL) cuda.event_destroy(s->ends[i]);
    if (alive && s->slots != NULL) cuda.host_free(s->slots);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->freed);
    mem_free(s, sizeof *s);
}

// The host's part ---------------------------------------------------------------------------------

typedef struct host_copy {
    char *to;
    const char *from;
    size_t size;
} host_copy;

static void copy_slice(void *context, int64_t index) {
    const host_copy *c = context;
    size_t slice = (c->size / SLICES + 63) & ~(size_t)63, at = slice * (size_t)index;
    if (at >= c->size) return;
    memcpy(c->to + at, c->from + at,
           c->size - at < slice || index == SLICES - 1 ? c->size - at : slice);
}

// One thread does not fill the bus.
static void copy_on_host(const gpu *g, void *to, const void *from, size_t size) {
    host_copy c = {to, from, size};
    if (size < CHUNK / SLICES)
        memcpy(to, from, size);
    else
        pool_for(g->threads, SLICES, copy_slice, &c);
}

// To the device -----------------------------------------------------------------------------------

// A place in the stream's ring whose earlier contents have been copied.
static emlx_status ring_take(gpu_stream *s, size_t size, char **out, emlx_error *err) {
    size_t half = RING_BYTES / 2, at = s->ring_at;
    size_t now = at / half, then = (at + size - 1) / half;
    if (now != then) at = then * half % RING_BYTES;
    if (at % half == 0) {
        // The half that is left is full of copies that have been queued, the other is to be used.
        size_t entered = at / half;
        GPU_TRY(s->gpu, "an event", cuda.event_record(s->ring_ends[1 - entered], s->stream));
        TRY(event_wait(s->gpu, s->ring_ends[entered], err));
    }
    *out = s->ring + at;
    s->ring_at = (at + ((size + 63) & ~(size_t)63)) % RING_BYTES;
    return EMLX_OK;
}

static emlx_status upload_small(gpu_stream *s, cuda_address to, const void *from, size_t size,
                                emlx_error *err) {
    char *place;
    TRY(ring_take(s, size, &place, err));
    memcpy(place, from, size);
    return gpu_check(s->gpu, cuda.upload(to, place, size, s->stream), "an upload", err);
}

static emlx_status upload_chunks(gpu_stream *s, chunks *c, cuda_address to, const char *from,
                                 size_t size, emlx_error *err) {
    TRY(open_chunks(c, err));
    for (size_t at = 0, turn = 0; at < size; at += CHUNK, turn = 1 - turn) {
        size_t part = size - at < CHUNK ? size - at : CHUNK;
        TRY(event_wait(s->gpu, c->ends[turn], err));
        copy_on_host(s->gpu, c->memory[turn], from + at, part);
        GPU_TRY(s->gpu, "an upload", cuda.upload(to + at, c->memory[turn], part, s->stream));
        GPU_TRY(s->gpu, "an event", cuda.event_record(c->ends[turn], s->stream));
    }
    return EMLX_OK;
}

static emlx_status upload_on(gpu_stream *s, emlx_buffer *to, const void *from, size_t size,
                             emlx_error *err) {
    chunks *c = &s->gpu->staging->up;
    TRY(gpu_buffer_check(s->gpu, buffer_of_gpu(to), err));
    TRY(stream_flush(s, err));
    TRY(stream_writes(s, buffer_of_gpu(to), err));
    if (size <= SMALL) return upload_small(s, buffer_address(to), from, size, err);
    pthread_mutex_lock(&c->lock);
    emlx_status status = upload_chunks(s, c, buffer_address(to), from, size, err);
    pthread_mutex_unlock(&c->lock);
    return status;
}

emlx_status gpu_upload(gpu *g, emlx_buffer *to, const void *from, size_t size, emlx_error *err) {
    if (g->rehearsal) {
        memcpy(to->data, from, size);
        return EMLX_OK;
    }
    if (size == 0) return EMLX_OK;
    gpu_stream *s = stream_now(g);
    if (s != NULL) return upload_on(s, to, from, size, err);
    TRY(stream_begin(g, size <= SMALL ? STREAM_ANY : STREAM_UP, &s, err));
    return stream_end(s, upload_on(s, to, from, size, err), err);
}

// From the device ---------------------------------------------------------------------------------

static int slot_take(staging *s) {
    int slot = 0;
    pthread_mutex_lock(&s->lock);
    while (s->taken == (1u << SLOTS) - 1) pthread_cond_wait(&s->freed, &s->lock);
    while (s->taken >> slot & 1) slot++;
    s->taken |= 1u << slot;
    pthread_mutex_unlock(&s->lock);
    return slot;
}

static void slot_free(staging *s, int slot) {
    pthread_mutex_lock(&s->lock);
    s->taken &= ~(1u << slot);
    pthread_cond_signal(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

// Behind all that is queued on the stream.
static emlx_status download_small(const gpu *g, cuda_stream stream, cuda_address from, void *to,
                                  size_t size, emlx_error *err) {
    staging *s = g->staging;
    int slot = slot_take(s);
    char *place = s->slots + (size_t)slot * SMALL;
    emlx_status status = gpu_check(g, cuda.download(place, from, size, stream), "a download", err);
    if (status == EMLX_OK)
        status = gpu_check(g, cuda.event_record(s->ends[slot], stream), "an event", err);
    if (status == EMLX_OK) status = event_wait(g, s->ends[slot], err);
    if (status == EMLX_OK) memcpy(to, place, size);
    slot_free(s, slot);
    return status;
}

static emlx_status fetch_chunk(gpu_stream *s, chunks *c, size_t turn, char *to, size_t part,
                               emlx_error *err) {
    TRY(event_wait(s->gpu, c->ends[turn], err));
    copy_on_host(s->gpu, to, c->memory[turn], part);
    return EMLX_OK;
}

// While the host empties one buffer the device fills the other.
static emlx_status download_chunks(gpu_stream *s, chunks *c, cuda_address from, char *to,
                                   size_t size, emlx_error *err) {
    size_t turn = 0, before = 0;
    TRY(open_chunks(c, err));
    for (size_t at = 0; at < size; at += CHUNK, turn = 1 - turn) {
        size_t part = size - at < CHUNK ? size - at : CHUNK;
        GPU_TRY(s->gpu, "a download", cuda.download(c->memory[turn], from + at, part, s->stream));
        GPU_TRY(s->gpu, "an event", cuda.event_record(c->ends[turn], s->stream));
        if (at > 0) TRY(fetch_chunk(s, c, 1 - turn, to + at - CHUNK, CHUNK, err));
        before = part;
    }
    return fetch_chunk(s, c, 1 - turn, to + size - before, before, err);
}

static emlx_status download_on(gpu_stream *s, gpu_buffer *from, size_t offset, void *to,
                               size_t size, emlx_error *err) {
    chunks *c = &s->gpu->staging->down;
    cuda_address at = buffer_address(&from->base) + offset;
    TRY(gpu_buffer_check(s->gpu, from, err));
    TRY(stream_reads(s, from, err));
    TRY(stream_flush(s, err));
    if (size <= SMALL) return download_small(s->gpu, s->stream, at, to, size, err);
    pthread_mutex_lock(&c->lock);
    emlx_status status = download_chunks(s, c, at, to, size, err);
    pthread_mutex_unlock(&c->lock);
    return status;
}

// A little is read behind the work that wrote it, which is queued whole; nobody has to be told, as
// it is waited for.
emlx_status gpu_download(gpu *g, const emlx_buffer *buffer, size_t offset, void *to, size_t size,
                         emlx_error *err) {
    if (buffer->data != NULL) {
        memcpy(to, (const char *)buffer->data + offset, size);
        return EMLX_OK;
    }
    gpu_buffer *from = buffer_of_gpu((emlx_buffer *)buffer);
    gpu_stream *s = stream_now(g);
    if (size == 0) return EMLX_OK;
    if (s != NULL) return download_on(s, from, offset, to, size, err);
    if (size > SMALL) {
        TRY(stream_begin(g, STREAM_DOWN, &s, err));
        return stream_end(s, download_on(s, from, offset, to, size, err), err);
    }
    TRY(gpu_begin(g, err));
    emlx_status status = gpu_buffer_check(g, from, err);
    if (status == EMLX_OK)
        status = download_small(g, g->streams[from->writer]->stream,
                                buffer_address(buffer) + offset, to, size, err);
    gpu_end(g);
    return status;
}

// Between devices ---------------------------------------------------------------------------------

// Until what was queued on the stream of a buffer's writer has ended.
static emlx_status wait_for_writer(gpu *g, const gpu_buffer *b, emlx_error *err) {
    cuda_event end = NULL;
    TRY(gpu_begin(g, err));
    emlx_status status = gpu_buffer_check(g, b, err);
    if (status == EMLX_OK)
        status = gpu_check(g, cuda.event_create(&end, CUDA_EVENT_NO_TIMING), "cuEventCreate", err);
    if (status == EMLX_OK)
        status =
            gpu_check(g, cuda.event_record(end, g->streams[b->writer]->stream), "an event", err);
    if (status == EMLX_OK) status = event_wait(g, end, err);
    if (end != NULL) cuda.event_destroy(end);
    gpu_end(g);
    return status;
}

static emlx_status copy_on(gpu_stream *s, gpu_buffer *to, gpu *from, const gpu_buffer *source,
                           size_t size, emlx_error *err) {
    gpu *g = s->gpu;
    TRY(gpu_buffer_check(g, to, err));
    TRY(stream_writes(s, to, err));
    GPU_TRY(g, "a copy between devices",
            cuda.copy_peer(buffer_address(&to->base), g->context, buffer_address(&source->base),
                           from->context, size, s->stream));
    return stream_wait(s, err);
}

// The streams of two devices have no numbers in common: each side is waited for here. The source
// may go as soon as this returns.
emlx_status gpu_copy(gpu *g, emlx_buffer *to, gpu *from, const emlx_buffer *buffer, size_t size,
                     emlx_error *err) {
    gpu_stream *s = NULL;
    if (size == 0) return EMLX_OK;
    if (g->rehearsal) return gpu_download(from, buffer, 0, to->data, size, err);
    if (buffer->data != NULL) return gpu_upload(g, to, buffer->data, size, err);
    const gpu_buffer *source = buffer_of_gpu((emlx_buffer *)buffer);
    TRY(wait_for_writer(from, source, err));
    TRY(stream_begin(g, STREAM_ANY, &s, err));
    return stream_end(s, copy_on(s, buffer_of_gpu(to), from, source, size, err), err);
}
