// SPDX-License-Identifier: Apache-2.0
// stream.h - the streams of a device, what is queued on them, and which memory that uses.
//
// Work comes in pieces, such as a plan. A stream takes one piece at a time and numbers them. A
// buffer knows the piece that wrote it, and the last on each stream that uses it; so does a free
// block. Whoever uses them on another stream has that stream wait, on the device, for all that was
// queued on the first one so far. Nothing is waited for twice, and within a stream nothing at all.
//
// Memory that a piece frees is for that piece alone until it is queued whole, and what it shares
// with others it holds until then: so what is found in the heap, or in a buffer that nobody else
// holds, is never of a piece that is still being queued.
#ifndef EMLX_CUDA_STREAM_H
#define EMLX_CUDA_STREAM_H

#include "engines/cuda/device.h"

// A library's call that queues work on a stream. Besides the words it depends on nothing but
// `context`, which is of the plan's form.
typedef emlx_status (*queued_call)(gpu *g, const void *context, const int64_t *words,
                                   cuda_stream stream, emlx_error *err);

// A launch that is to be made, or a library's call; its words are in the stream's list.
typedef struct queued_launch {
    cuda_function function;
    queued_call call; // NULL: the function is launched
    const void *context;
    uint32_t grid_x, grid_y, block, shared; // `shared`: bytes of memory besides the kernel's own
    uint32_t words, word_count;
} queued_launch;

// A kernel of the piece that may report an error, and what is needed to word that.
typedef struct reporter {
    const struct plan_kernel *kernel;
    const emlx_buffer *indices; // held by the piece
} reporter;

enum { REPORTERS_MOST = 64, REPORT_WORDS = 2, RING_BYTES = 512 << 10 };

// What streams are for: the first two take long copies to and from the device. Loops, which keep
// one for milliseconds, have the next ones only, so that others find one.
enum { STREAM_UP, STREAM_DOWN, STREAM_FIRST, STREAM_ANY = -1, STREAM_LOOP = -2, LOOP_STREAMS = 4 };

// What was launched one after the other before, as graphs (graph.h).
typedef struct graph_list graph_list;

struct gpu_stream {
    gpu *gpu;
    int number;
    cuda_stream stream;
    pthread_mutex_t lock;           // held while a piece is being queued
    _Atomic uint64_t given, ended;  // pieces that are queued whole, and that are known to be done
    uint64_t behind[STREAM_COUNT];  // of each stream, the last piece that comes before ours
    cuda_event marks[STREAM_COUNT]; // recorded on another stream, to wait for it
    cuda_event end;                 // recorded on this one, for the host to wait for
    cuda_event checked;             // the same, behind the last launch that checks first
    cuda_stream recorder;           // what is queued goes there while it records; made at first use
    bool records;
    // Where kernels report: words they claim, on the device, and what they say, in host memory.
    cuda_address claims, report_address;
    volatile int64_t *reports;
    // What small uploads go through: two halves, each used again when its copies have ended.
    char *ring;
    size_t ring_at;
    cuda_event ring_ends[2];
    // Of the piece that is being queued:
    uint64_t piece;
    emlx_buffer **held; // let go of when it is queued whole
    size_t held_count, held_room;
    device_block *freed;
    size_t freed_count, freed_room;
    queued_launch *launches;
    size_t launch_count, launch_room;
    int64_t *words;
    size_t word_count, word_room;
    reporter reporters[REPORTERS_MOST];
    uint32_t reporter_count;
    bool reports_late;  // some of them do not check first
    graph_list *graphs; // of the plan; may be NULL
    uint32_t segment;   // how often launches were made
};

emlx_status streams_open(gpu *g, emlx_error *err);
// `alive`: whether their context is.
void streams_close(gpu *g, bool alive);

// Pieces -----------------------------------------------------------------------------------------

// Begins a piece on a stream, which is the calling thread's until stream_end: on `wanted` if it is
// free, or STREAM_ANY, or STREAM_LOOP. The context is entered.
emlx_status stream_begin(gpu *g, int wanted, gpu_stream **out, emlx_error *err);
// Queues what is left of it. Gives the status that came before, or what went wrong.
emlx_status stream_end(gpu_stream *s, emlx_status status, emlx_error *err);
// Whether somebody waits to begin one.
bool streams_wanted(const gpu *g);
// The stream of the piece that this thread is queuing on the device, or NULL.
gpu_stream *stream_now(const gpu *g);

// Has what comes next wait for all of these uses.
emlx_status stream_behind(gpu_stream *s, const block_uses *uses, emlx_error *err);
// The piece reads a buffer; or it writes one that nobody else holds.
emlx_status stream_reads(gpu_stream *s, gpu_buffer *b, emlx_error *err);
emlx_status stream_writes(gpu_stream *s, gpu_buffer *b, emlx_error *err);
// Keeps a buffer until the piece is queued.
emlx_status stream_hold(gpu_stream *s, emlx_buffer *b, emlx_error *err);

// Room for the words of a launch, at *place of the stream's list.
int64_t *stream_words(gpu_stream *s, uint32_t count, uint32_t *place);
emlx_status stream_launch(gpu_stream *s, const queued_launch *launch, emlx_error *err);
emlx_status stream_call(gpu_stream *s, queued_call call, const void *context, const int64_t *words,
                        uint32_t count, emlx_error *err);
// Makes the launches.
emlx_status stream_flush(gpu_stream *s, emlx_error *err);
// The same, and waits until all that is queued on it has ended.
emlx_status stream_wait(gpu_stream *s, emlx_error *err);

// What was queued since record_begin (record.h).
struct CUgraph_st;
emlx_status stream_record_end(gpu_stream *s, struct CUgraph_st **graph, emlx_error *err);
static inline cuda_stream stream_target(const gpu_stream *s) {
    return s->records ? s->recorder : s->stream;
}

// For libraries: the driver's stream of this thread's piece, with all launches made.
emlx_status gpu_queue(const gpu *g, cuda_stream *out, emlx_error *err);

// Memory -----------------------------------------------------------------------------------------

// Memory for the piece of this thread or, where it has none, for whoever heeds its uses first.
emlx_status gpu_take(gpu *g, size_t size, device_block *block, emlx_error *err);
void gpu_give(gpu *g, const device_block *block);

// Waits for an event of the stream's: for a short while at once, then asleep.
emlx_status event_wait(const gpu *g, cuda_event event, emlx_error *err);
int64_t gpu_clock(void); // in microseconds

#endif
