// SPDX-License-Identifier: Apache-2.0
// graph.c - graphs of launches, kept with the form of a plan. A library's call is recorded as a
// graph within.
//
// A launch costs the host three to four microseconds, a graph a little more than one, and each of
// its nodes whose words are set anew a third of one. Graphs take long to make, so that launches
// have to come a few times before they are made one, and some memory of the device (110 KB).
#include "engines/cuda/graph.h"

#include <string.h>

#include "base/error.h"
#include "engines/cuda/driver/graphs.h"
#include "engines/cuda/record.h"
#include "memory/list.h"

enum {
    PATIENCE = 10,      // how often launches come before they are made a graph, for 20 to 120 us
    GRAPHS_MOST = 1024, // of a device
    SETS = 4,           // of addresses that calls are recorded for
    MADE_MOST = 64      // graphs of one place, as making one takes as long as many launches
};

// What was launched at one place of a plan. Words of kernels may change from run to run, those of
// calls are in their recordings.
typedef struct plan_graph {
    queued_launch *launches;
    int64_t *words;
    cuda_node *nodes;
    size_t count, word_count;
    uint32_t seen; // how often
    uint64_t used; // when last
    cuda_graph graph;
    cuda_graph_exec exec;
} plan_graph;

typedef struct plan_segment {
    plan_graph sets[SETS];
    uint64_t turn;
    uint32_t made;
    bool refused; // by the driver, or a library
} plan_segment;

struct graph_list {
    pthread_mutex_t lock;
    uint32_t patience;
    unsigned generation;
    plan_segment *items;
    size_t count, room;
};

graph_list *graph_list_new(const gpu *g) {
    if (g->rehearsal || !graphs_open()) return NULL;
    graph_list *list = mem_alloc(sizeof *list);
    if (list == NULL) return NULL;
    pthread_mutex_init(&list->lock, NULL);
    list->generation = atomic_load(&g->generation);
    list->patience = graphs_at_once() ? 1 : PATIENCE;
    return list;
}

// `alive`: whether its context is. What is running goes on: the driver frees it at its end.
static void forget(gpu *g, plan_graph *p, bool alive) {
    if (p->exec != NULL) atomic_fetch_sub(&g->graphs, 1);
    if (p->exec != NULL && alive) graphs.exec_destroy(p->exec);
    if (p->graph != NULL && alive) graphs.destroy(p->graph);
    mem_free(p->launches, p->count * sizeof *p->launches);
    mem_free(p->words, p->word_count * sizeof *p->words);
    mem_free(p->nodes, p->count * sizeof(cuda_node));
    *p = (plan_graph){0};
}

void graph_list_free(gpu *g, graph_list *list) {
    if (list == NULL) return;
    emlx_error err;
    bool held = gpu_hold(g, &err) == EMLX_OK;
    bool alive = held && list->generation == atomic_load(&g->generation);
    for (size_t i = 0; i < list->count; i++)
        for (int set = 0; set < SETS; set++) forget(g, &list->items[i].sets[set], alive);
    if (held) gpu_end(g);
    mem_free(list->items, list->room * sizeof *list->items);
    pthread_mutex_destroy(&list->lock);
    mem_free(list, sizeof *list);
}

// One by one --------------------------------------------------------------------------------------

static emlx_status launch_each(gpu_stream *s, const queued_launch *launches, size_t count,
                               emlx_error *err) {
    for (size_t i = 0; i < count; i++) {
        const queued_launch *l = &launches[i];
        void *arguments[] = {s->words + l->words};
        if (l->call != NULL) {
            TRY(l->call(s->gpu, l->context, s->words + l->words, stream_target(s), err));
            continue;
        }
        GPU_TRY(s->gpu, "a launch",
                cuda.launch(l->function, l->grid_x, l->grid_y, 1, l->block, 1, 1, l->shared,
                            stream_target(s), arguments, NULL));
    }
    return EMLX_OK;
}

// As a graph --------------------------------------------------------------------------------------

static bool same_launch(const queued_launch *a, const queued_launch *b) {
    return a->function == b->function && a->call == b->call && a->context == b->context &&
           a->grid_x == b->grid_x && a->grid_y == b->grid_y && a->block == b->block &&
           a->shared == b->shared && a->words == b->words && a->word_count == b->word_count;
}

static bool same_words(const plan_graph *p, const int64_t *words, const queued_launch *l) {
    return memcmp(p->words + l->words, words + l->words, l->word_count * sizeof *words) == 0;
}

static bool same_launches(const plan_graph *p, const gpu_stream *s, const queued_launch *launches,
                          size_t count) {
    if (p->words == NULL || p->count != count || p->word_count != s->word_count) return false;
    for (size_t i = 0; i < count; i++) {
        const queued_launch *l = &launches[i];
        if (!same_launch(&p->launches[i], l)) return false;
        if (l->call != NULL && !same_words(p, s->words, l)) return false;
    }
    return true;
}

static bool make_room(plan_graph *p, size_t count, size_t word_count) {
    p->launches = mem_alloc(count * sizeof *p->launches);
    p->words = mem_alloc(word_count * sizeof *p->words);
    p->nodes = mem_alloc(count * sizeof(cuda_node));
    p->count = count;
    p->word_count = word_count;
    return p->launches != NULL && p->words != NULL && p->nodes != NULL;
}

static void remember(plan_graph *p, const gpu_stream *s, const queued_launch *launches,
                     size_t count) {
    bool fits = p->exec == NULL && p->graph == NULL && p->words != NULL && p->count == count &&
                p->word_count == s->word_count;
    if (!fits) forget(s->gpu, p, true);
    if (!fits && !make_room(p, count, s->word_count)) {
        forget(s->gpu, p, true);
        return;
    }
    memcpy(p->launches, launches, count * sizeof *launches);
    memcpy(p->words, s->words, s->word_count * sizeof *s->words);
    p->seen = 1;
}

// What these launches were last time, or in place of what came longest ago.
static plan_graph *find_set(plan_segment *segment, const gpu_stream *s,
                            const queued_launch *launches, size_t count) {
    plan_graph *oldest = segment->sets, *found = NULL;
    for (plan_graph *p = segment->sets; p < segment->sets + SETS && found == NULL; p++) {
        if (same_launches(p, s, launches, count)) found = p;
        if (p->used < oldest->used) oldest = p;
    }
    if (found != NULL)
        found->seen++;
    else
        remember(oldest, s, launches, count);
    plan_graph *p = found != NULL ? found : oldest;
    p->used = ++segment->turn;
    return p;
}

cuda_kernel_node launch_node(const gpu *g, const queued_launch *l, void **arguments) {
    return (cuda_kernel_node){.function = l->function,
                              .grid_x = l->grid_x,
                              .grid_y = l->grid_y,
                              .grid_z = 1,
                              .block_x = l->block,
                              .block_y = 1,
                              .block_z = 1,
                              .shared = l->shared,
                              .arguments = arguments,
                              .context = g->context};
}

static emlx_status add_call(gpu_stream *s, plan_graph *p, size_t i, emlx_error *err) {
    const queued_launch *l = &p->launches[i];
    cuda_graph child = NULL;
    if (!loops_open()) return EMLX_UNSUPPORTED;
    TRY(record_begin(s, err));
    emlx_status status = l->call(s->gpu, l->context, p->words + l->words, stream_target(s), err);
    emlx_status ended = record_end(s, &child, err);
    if (status == EMLX_OK && ended == EMLX_OK)
        status = gpu_check(s->gpu,
                           loops.add_child(&p->nodes[i], p->graph, i > 0 ? &p->nodes[i - 1] : NULL,
                                           i > 0 ? 1 : 0, child),
                           "a library's part of a graph", err);
    if (child != NULL) graphs.destroy(child);
    return status == EMLX_OK ? ended : status;
}

static emlx_status add_nodes(gpu_stream *s, plan_graph *p, emlx_error *err) {
    const gpu *g = s->gpu;
    GPU_TRY(g, "a graph", graphs.create(&p->graph, 0));
    for (size_t i = 0; i < p->count; i++) {
        if (p->launches[i].call != NULL) {
            TRY(add_call(s, p, i, err));
            continue;
        }
        void *arguments[] = {p->words + p->launches[i].words};
        cuda_kernel_node node = launch_node(g, &p->launches[i], arguments);
        GPU_TRY(g, "a graph",
                graphs.add_kernel(&p->nodes[i], p->graph, i > 0 ? &p->nodes[i - 1] : NULL,
                                  i > 0 ? 1 : 0, &node));
    }
    return gpu_check(g, graphs.instantiate(&p->exec, p->graph, 0), "a graph", err);
}

// Sets the words of the kernels that differ.
static cuda_result update(const gpu *g, plan_graph *p, int64_t *words) {
    for (size_t i = 0; i < p->count; i++) {
        const queued_launch *l = &p->launches[i];
        if (same_words(p, words, l)) continue;
        void *arguments[] = {words + l->words};
        cuda_kernel_node node = launch_node(g, l, arguments);
        cuda_result result = graphs.set_kernel(p->exec, p->nodes[i], &node);
        if (result != 0) return result;
    }
    memcpy(p->words, words, p->word_count * sizeof *words);
    return 0;
}

// False where it has to be done one by one. Under the list's lock.
static bool launch_graph(gpu_stream *s, plan_segment *segment, const queued_launch *launches,
                         size_t count, uint32_t patience, emlx_status *status, emlx_error *err) {
    const gpu *g = s->gpu;
    emlx_error own;
    if (segment->refused) return false;
    plan_graph *p = find_set(segment, s, launches, count);
    if (p->words == NULL || p->seen < patience) return false;
    if (p->exec == NULL) {
        if (atomic_load(&g->graphs) >= GRAPHS_MOST || segment->made == MADE_MOST) return false;
        segment->made++;
        memcpy(p->words, s->words, p->word_count * sizeof *p->words);
        segment->refused = add_nodes(s, p, &own) != EMLX_OK;
        atomic_fetch_add(&s->gpu->graphs, p->exec != NULL);
    }
    segment->refused = segment->refused || update(g, p, s->words) != 0;
    if (segment->refused) return false;
    *status = gpu_check(g, graphs.launch(p->exec, s->stream), "a graph", err);
    return true;
}

emlx_status graph_launch(gpu_stream *s, const queued_launch *launches, size_t count,
                         emlx_error *err) {
    graph_list *list = s->graphs;
    uint32_t segment = s->segment++;
    if (list == NULL || s->records || pthread_mutex_trylock(&list->lock) != 0)
        return launch_each(s, launches, count, err);
    emlx_status status = EMLX_OK;
    bool done = false;
    if (segment < list->count || mem_reserve(&list->items, &list->room, list->count,
                                             segment + 1 - list->count, sizeof *list->items)) {
        if (segment >= list->count) list->count = segment + 1;
        done =
            launch_graph(s, &list->items[segment], launches, count, list->patience, &status, err);
    }
    pthread_mutex_unlock(&list->lock);
    return done ? status : launch_each(s, launches, count, err);
}
