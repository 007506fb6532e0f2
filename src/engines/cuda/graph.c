// SPDX-License-Identifier: Apache-2.0
// graph.c - graphs of launches, kept with the form of a plan.
//
// A launch costs the host three to four microseconds, a graph a little more than one, and each of
// its nodes whose words are set anew a third of one. Graphs take long to make, so that launches
// have to come a few times before they are made one, and some memory of the device (110 KB).
#include "engines/cuda/graph.h"

#include <string.h>

#include "base/error.h"
#include "engines/cuda/driver/graphs.h"
#include "memory/list.h"

enum {
    PATIENCE = 10,     // how often launches come before they are made a graph, for 20 to 120 us
    GRAPHS_MOST = 1024 // of a device
};

// What was launched at one place of a plan.
typedef struct plan_graph {
    queued_launch *launches;
    int64_t *words;
    cuda_node *nodes;
    size_t count, word_count;
    uint32_t seen; // how often in a row
    bool refused;  // by the driver
    cuda_graph graph;
    cuda_graph_exec exec;
} plan_graph;

struct graph_list {
    pthread_mutex_t lock;
    uint32_t patience;
    unsigned generation;
    plan_graph *items; // by segment
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
    for (size_t i = 0; i < list->count; i++) forget(g, &list->items[i], alive);
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
        GPU_TRY(s->gpu, "a launch",
                cuda.launch(l->function, l->grid_x, l->grid_y, 1, l->block, 1, 1, l->shared,
                            stream_target(s), arguments, NULL));
    }
    return EMLX_OK;
}

// As a graph --------------------------------------------------------------------------------------

static bool same_launch(const queued_launch *a, const queued_launch *b) {
    return a->function == b->function && a->grid_x == b->grid_x && a->grid_y == b->grid_y &&
           a->block == b->block && a->shared == b->shared && a->words == b->words &&
           a->word_count == b->word_count;
}

static bool same_launches(const plan_graph *p, const gpu_stream *s, const queued_launch *launches,
                          size_t count) {
    if (p->count != count || p->word_count != s->word_count) return false;
    for (size_t i = 0; i < count; i++)
        if (!same_launch(&p->launches[i], &launches[i])) return false;
    return true;
}

static void remember(plan_graph *p, const gpu_stream *s, const queued_launch *launches,
                     size_t count) {
    bool refused = p->refused;
    forget(s->gpu, p, true);
    p->refused = refused;
    p->launches = mem_alloc(count * sizeof *launches);
    p->words = mem_alloc(s->word_count * sizeof *s->words);
    p->nodes = mem_alloc(count * sizeof(cuda_node));
    p->count = count;
    p->word_count = s->word_count;
    if (p->launches == NULL || p->words == NULL || p->nodes == NULL) {
        forget(s->gpu, p, true);
        return;
    }
    memcpy(p->launches, launches, count * sizeof *launches);
    memcpy(p->words, s->words, s->word_count * sizeof *s->words);
    p->seen = 1;
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

static cuda_result add_nodes(const gpu *g, plan_graph *p) {
    cuda_result result = graphs.create(&p->graph, 0);
    for (size_t i = 0; i < p->count && result == 0; i++) {
        void *arguments[] = {p->words + p->launches[i].words};
        cuda_kernel_node node = launch_node(g, &p->launches[i], arguments);
        result = graphs.add_kernel(&p->nodes[i], p->graph, i > 0 ? &p->nodes[i - 1] : NULL,
                                   i > 0 ? 1 : 0, &node);
    }
    return result == 0 ? graphs.instantiate(&p->exec, p->graph, 0) : result;
}

// Sets the words of the launches that differ.
static cuda_result update(const gpu *g, plan_graph *p, int64_t *words) {
    for (size_t i = 0; i < p->count; i++) {
        const queued_launch *l = &p->launches[i];
        size_t size = l->word_count * sizeof *words;
        if (memcmp(p->words + l->words, words + l->words, size) == 0) continue;
        void *arguments[] = {words + l->words};
        cuda_kernel_node node = launch_node(g, l, arguments);
        cuda_result result = graphs.set_kernel(p->exec, p->nodes[i], &node);
        if (result != 0) return result;
    }
    memcpy(p->words, words, p->word_count * sizeof *words);
    return 0;
}

// False where it has to be done one by one. Under the list's lock.
static bool launch_graph(gpu_stream *s, plan_graph *p, const queued_launch *launches, size_t count,
                         uint32_t patience, emlx_status *status, emlx_error *err) {
    const gpu *g = s->gpu;
    if (p->refused) return false;
    if (same_launches(p, s, launches, count))
        p->seen++;
    else
        remember(p, s, launches, count);
    if (p->words == NULL || p->seen < patience) return false;
    if (p->exec == NULL) {
        if (atomic_load(&g->graphs) >= GRAPHS_MOST) return false;
        memcpy(p->words, s->words, p->word_count * sizeof *p->words);
        p->refused = add_nodes(g, p) != 0;
        atomic_fetch_add(&s->gpu->graphs, p->exec != NULL);
    }
    p->refused = p->refused || update(g, p, s->words) != 0;
    if (p->refused) return false;
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
