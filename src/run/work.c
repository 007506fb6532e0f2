// SPDX-License-Identifier: Apache-2.0
// work.c - queues whose jobs are done one after another on the device's pool, and cancelling.
//
// A queue is itself a job of the pool while it has something to do: it does one of its jobs and
// queues itself again, so that a long queue does not keep a worker to itself.
#include "run/work.h"

#include <pthread.h>

#include "base/error.h"
#include "memory/memory.h"
#include "threads/mutex.h"

struct emlx_queue {
    pool_job job;
    emlx_device *device;
    pthread_mutex_t lock;
    pool_job *first, *last; // guarded by the lock, as is all below
    bool queued;            // it has something to do, and holds a reference on itself
    bool running, held;     // one of its jobs is being run; is waiting for a fence
    int references;
    void *stream;
};

void emlx_cancel_raise(emlx_cancel *cancel) {
    if (cancel != NULL) __atomic_store_n(&cancel->raised, 1, __ATOMIC_RELAXED);
}

emlx_status work_check(const emlx_device *device, const emlx_work *work, emlx_error *err) {
    const emlx_queue *queue = work == NULL ? NULL : work->queue;
    if (queue == NULL || queue->device == device) return EMLX_OK;
    return error_set(err, EMLX_INVALID, "the queue is one of device %s, and the work is for %s",
                     queue->device->name, device->name);
}

void work_submit(emlx_device *device, const emlx_work *work, pool_job *job) {
    emlx_queue *queue = work == NULL ? NULL : work->queue;
    if (queue == NULL) {
        pool_submit(device->pool, job);
        return;
    }
    job->next = NULL;
    mutex_lock(&queue->lock);
    if (queue->last == NULL)
        queue->first = job;
    else
        queue->last->next = job;
    queue->last = job;
    bool start = !queue->queued;
    if (start) queue->references++;
    if (start) queue->job.small = job->small;
    queue->queued = true;
    mutex_unlock(&queue->lock);
    if (start) pool_submit(queue->device->pool, &queue->job);
}

// Called and left under the lock: what comes after a job has been run, or after a pause.
static void go_on(emlx_queue *queue) {
    bool again = queue->queued = queue->first != NULL;
    if (again) queue->job.small = queue->first->small;
    mutex_unlock(&queue->lock);
    if (again)
        pool_submit(queue->device->pool, &queue->job);
    else
        emlx_queue_release(queue);
}

static void run_first(pool_job *own) {
    emlx_queue *queue = (emlx_queue *)own;
    mutex_lock(&queue->lock);
    pool_job *job = queue->first;
    queue->first = job->next;
    if (queue->first == NULL) queue->last = NULL;
    queue->running = true;
    mutex_unlock(&queue->lock);
    job->run(job);
    mutex_lock(&queue->lock);
    queue->running = false;
    if (queue->held)
        mutex_unlock(&queue->lock);
    else
        go_on(queue);
}

// Pauses -----------------------------------------------------------------------------------------

static void resume_queue(emlx_queue *queue, pool_job *job) {
    mutex_lock(&queue->lock);
    job->next = queue->first;
    queue->first = job;
    if (queue->last == NULL) queue->last = job;
    queue->held = false;
    if (queue->running)
        mutex_unlock(&queue->lock);
    else
        go_on(queue);
}

static void resume(fence_waiter *waiter, const fence *ended) {
    (void)ended;
    work_pause *pause = (work_pause *)waiter;
    if (pause->queue != NULL)
        resume_queue(pause->queue, pause->job);
    else
        pool_submit(pause->device->pool, pause->job);
}

void work_wait(work_pause *pause, fence *end) {
    emlx_queue *queue = pause->queue;
    pause->waiter.run = resume;
    if (queue != NULL) {
        mutex_lock(&queue->lock);
        queue->held = true;
        mutex_unlock(&queue->lock);
    }
    if (end == NULL || !fence_then(end, &pause->waiter)) resume(&pause->waiter, end);
}

// Queues -----------------------------------------------------------------------------------------

void *queue_stream(const emlx_queue *queue) { return queue == NULL ? NULL : queue->stream; }

static emlx_status open_stream(emlx_queue *queue, emlx_error *err) {
    const engine_ops *ops = queue->device->ops;
    return ops->stream_open == NULL ? EMLX_OK
                                    : ops->stream_open(queue->device, &queue->stream, err);
}

emlx_status emlx_queue_new(emlx_device *device, emlx_queue **out, emlx_error *err) {
    REQUIRE(device);
    REQUIRE(out);
    emlx_queue *queue = mem_alloc(sizeof *queue);
    if (queue == NULL) return error_no_memory(err, "for a queue");
    queue->device = emlx_device_retain(device);
    emlx_status status = open_stream(queue, err);
    if (status != EMLX_OK) {
        emlx_device_release(device);
        mem_free(queue, sizeof *queue);
        return status;
    }
    pthread_mutex_init(&queue->lock, NULL);
    queue->job.run = run_first;
    queue->references = 1;
    *out = queue;
    return EMLX_OK;
}

emlx_device *emlx_queue_device(const emlx_queue *queue) {
    return queue == NULL ? NULL : queue->device;
}

void emlx_queue_release(emlx_queue *queue) {
    if (queue == NULL) return;
    mutex_lock(&queue->lock);
    bool last = --queue->references == 0;
    mutex_unlock(&queue->lock);
    if (!last) return;
    pthread_mutex_destroy(&queue->lock);
    if (queue->stream != NULL) queue->device->ops->stream_close(queue->device, queue->stream);
    emlx_device_release(queue->device);
    mem_free(queue, sizeof *queue);
}

typedef struct sync_job {
    pool_job job;
    void (*done)(void *context);
    void *context;
} sync_job;

static void run_sync(pool_job *job) {
    sync_job sync = *(sync_job *)job;
    mem_free(job, sizeof sync);
    sync.done(sync.context);
}

emlx_status emlx_queue_sync(emlx_queue *queue, void (*done)(void *context), void *context,
                            emlx_error *err) {
    REQUIRE(queue);
    REQUIRE(done);
    sync_job *sync = mem_alloc(sizeof *sync);
    if (sync == NULL) return error_no_memory(err, "to wait for a queue");
    *sync = (sync_job){.job.run = run_sync, .done = done, .context = context};
    work_submit(queue->device, &(emlx_work){.queue = queue}, &sync->job);
    return EMLX_OK;
}
