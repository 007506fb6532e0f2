// SPDX-License-Identifier: Apache-2.0
// store.c - finds, compiles and loads kernels.
#include "engines/cuda/driver/store.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "engines/cuda/driver/background.h"
#include "engines/cuda/driver/disk.h"
#include "engines/cuda/driver/nvrtc.h"
#include "engines/cuda/kernels/kernels.h"
#include "memory/memory.h"

enum {
    BUCKETS = 4096,
    NAME = 24,
    GROUP = 64, // kernels of one program at most
    GROUP_LEAST = 4,
    TOGETHER = 8, // programs compiled at once
    REFINED = 4,  // kernels compiled once more at a time
    SHARED_PLAIN = 48 << 10
};

typedef struct loaded_module {
    struct loaded_module *next;
    uint64_t group;
    cuda_module module;
} loaded_module;

// A kernel that is not ready yet.
typedef struct wanted {
    const kernel_code *code;
    char *text; // with its name and number of words in it
    size_t room;
    disk_key key;
    uint32_t parts;
    stored_kernel *kernel;
    char suffixes[FUNCTIONS_MOST];
    uint32_t shared[FUNCTIONS_MOST];
} wanted;

struct kernel_store {
    pthread_mutex_t lock;
    int architecture;
    bool f32_in_double;
    cuda_context context;
    disk_key base; // of everything but a kernel's text and the parts it needs
    disk_key parts[CODE_PART_COUNT];
    stored_kernel *buckets[BUCKETS];
    loaded_module *modules;
    wanted waiting[GROUP]; // without a device
    uint32_t waiting_count;
    store_counts counts;
};

// Opening ----------------------------------------------------------------------------------------

static const char *const sources[] = {
#define XX(file, part) cuda_source_##file,
    CUDA_SOURCE_MAP(XX)
#undef XX
};

static disk_key base_key(const kernel_store *s) {
    int facts[] = {s->architecture, s->f32_in_double, nvrtc_version()};
    return disk_digest((disk_key){{0}}, facts, sizeof facts);
}

emlx_status store_open(int architecture, bool f32_in_double, cuda_context context,
                       kernel_store **out, emlx_error *err) {
    TRY(nvrtc_open(err));
    kernel_store *s = mem_alloc(sizeof *s);
    if (s == NULL) return error_no_memory(err, "for compiled kernels");
    pthread_mutex_init(&s->lock, NULL);
    s->architecture = architecture;
    s->f32_in_double = f32_in_double;
    s->context = context;
    s->base = base_key(s);
    for (int i = 0; i < CODE_PART_COUNT; i++)
        s->parts[i] = disk_digest((disk_key){{0}}, sources[i], strlen(sources[i]));
    *out = s;
    return EMLX_OK;
}

store_counts store_count(kernel_store *store) {
    pthread_mutex_lock(&store->lock);
    store_counts counts = store->counts;
    pthread_mutex_unlock(&store->lock);
    return counts;
}

// Text -------------------------------------------------------------------------------------------

static void clear_wanted(wanted *w) { mem_free(w->text, w->room); }

// The code's text with its name for each '@' and the number of words for each '#'. What is hashed
// has the number of words, and no name.
static emlx_status finish_text(kernel_store *s, const kernel_code *code, wanted *w,
                               emlx_error *err) {
    size_t marks = 0, length = 0;
    for (const char *c = code->text; *c != '\0'; c++) marks += *c == '@' || *c == '#';
    *w = (wanted){.code = code, .room = code->length + marks * NAME + 1, .parts = code->parts};
    w->key = disk_digest(s->base, code->text, code->length);
    w->key = disk_digest(w->key, &code->word_count, sizeof code->word_count);
    for (int i = 0; i < CODE_PART_COUNT; i++)
        if (code->parts >> i & 1) w->key = disk_digest(w->key, &s->parts[i], sizeof s->parts[i]);
    w->text = mem_alloc(w->room);
    if (w->text == NULL) return error_no_memory(err, "for a kernel's text");
    for (const char *c = code->text; *c != '\0'; c++) {
        if (*c == '@')
            length += (size_t)snprintf(w->text + length, NAME, "k%016" PRIx64 "_", w->key.words[0]);
        else if (*c == '#')
            length += (size_t)snprintf(w->text + length, NAME, "%u", code->word_count);
        else
            w->text[length++] = *c;
    }
    int count = 0;
    for (uint32_t i = 0; i < code->launch_count && count < FUNCTIONS_MOST; i++)
        if (strchr(w->suffixes, code->launches[i].suffix) == NULL) {
            w->shared[count] = code->launches[i].shared;
            w->suffixes[count++] = code->launches[i].suffix;
        }
    return EMLX_OK;
}

// In memory --------------------------------------------------------------------------------------

static stored_kernel **bucket_of(kernel_store *s, const disk_key *key) {
    return &s->buckets[key->words[0] % BUCKETS];
}

static stored_kernel *find_kernel(kernel_store *s, const disk_key *key) {
    stored_kernel *k = *bucket_of(s, key);
    while (k != NULL && memcmp(k->key, key->words, sizeof k->key) != 0) k = k->next;
    return k;
}

// Under the lock.
static loaded_module *find_module(const kernel_store *s, uint64_t group) {
    loaded_module *m = s->modules;
    while (m != NULL && m->group != group) m = m->next;
    return m;
}

// The module of an image; one that is loaded already is not loaded again. Under the lock.
static emlx_status load_module(kernel_store *s, const void *image, uint64_t group,
                               cuda_module *module, emlx_error *err) {
    loaded_module *m = find_module(s, group);
    if (m == NULL) {
        m = mem_alloc(sizeof *m);
        if (m == NULL) return error_no_memory(err, "for a module");
        emlx_status status =
            driver_check(cuda.module_load(&m->module, image), "loading a kernel", err);
        if (status != EMLX_OK) {
            mem_free(m, sizeof *m);
            return status;
        }
        *m = (loaded_module){s->modules, group, m->module};
        s->modules = m;
    }
    *module = m->module;
    return EMLX_OK;
}

static emlx_status find_functions(const wanted *w, cuda_module module, stored_kernel *k,
                                  emlx_error *err) {
    char name[NAME + 8];
    cuda_function found[FUNCTIONS_MOST];
    for (int i = 0; i < FUNCTIONS_MOST && w->suffixes[i] != '\0'; i++) {
        snprintf(name, sizeof name, "k%016" PRIx64 "_%c", w->key.words[0], w->suffixes[i]);
        CUDA_TRY("finding a kernel", cuda.module_function(&found[i], module, name));
        if (w->shared[i] > SHARED_PLAIN)
            CUDA_TRY("shared memory",
                     cuda.function_set(found[i], CUDA_FUNCTION_SHARED, (int)w->shared[i]));
    }
    for (int i = 0; i < FUNCTIONS_MOST && w->suffixes[i] != '\0'; i++)
        atomic_store_explicit(&k->functions[i], found[i], memory_order_relaxed);
    return EMLX_OK;
}

// Puts a kernel of an image into the table.
static emlx_status add_kernel(kernel_store *s, wanted *w, const void *image, uint64_t group,
                              emlx_error *err) {
    emlx_status status = EMLX_OK;
    pthread_mutex_lock(&s->lock);
    w->kernel = find_kernel(s, &w->key);
    if (w->kernel == NULL) {
        cuda_module module = NULL;
        stored_kernel *k = mem_alloc(sizeof *k);
        if (k == NULL) status = error_no_memory(err, "for a kernel");
        if (k != NULL && s->context != NULL) status = load_module(s, image, group, &module, err);
        if (status == EMLX_OK && s->context != NULL) status = find_functions(w, module, k, err);
        if (status == EMLX_OK) {
            memcpy(k->key, w->key.words, sizeof k->key);
            memcpy(k->suffixes, w->suffixes, sizeof k->suffixes);
            k->next = *bucket_of(s, &w->key);
            *bucket_of(s, &w->key) = k;
            w->kernel = k;
            s->counts.kernels++;
        } else {
            mem_free(k, sizeof *k);
        }
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

// Compiling --------------------------------------------------------------------------------------

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

// The parts that any of the kernels needs, then the kernels.
static char *join_sources(const wanted *w, uint32_t count, size_t *room) {
    uint32_t parts = 0;
    *room = 1;
    for (uint32_t i = 0; i < count; i++) {
        parts |= w[i].parts;
        *room += strlen(w[i].text);
    }
    for (int i = 0; i < CODE_PART_COUNT; i++) *room += strlen(sources[i]);
    char *source = mem_alloc(*room), *end = source;
    if (source == NULL) return NULL;
    for (int i = 0; i < CODE_PART_COUNT; i++)
        if (parts >> i & 1) end = stpcpy(end, sources[i]);
    for (uint32_t i = 0; i < count; i++) end = stpcpy(end, w[i].text);
    return source;
}

// Some of the kernels that are wanted, and the program that they make.
typedef struct compiling {
    kernel_store *store;
    wanted *first;
    uint32_t count;
    nvrtc_effort effort;
    void *image;
    size_t size;
    emlx_status status;
    emlx_error err;
} compiling;

static emlx_status make_image(compiling *c, emlx_error *err) {
    kernel_store *s = c->store;
    size_t room;
    disk_key keys[GROUP];
    char *source = join_sources(c->first, c->count, &room);
    if (source == NULL) return error_no_memory(err, "for a program's text");
    emlx_status status = nvrtc_compile(source, c->count, c->effort, s->architecture,
                                       s->f32_in_double, &c->image, &c->size, err);
    mem_free(source, room);
    TRY(status);
    for (uint32_t i = 0; i < c->count; i++) keys[i] = c->first[i].key;
    disk_write(keys, c->count, c->image, c->size, c->effort == NVRTC_QUICK);
    return EMLX_OK;
}

// On any thread, as the compiler wants no context.
static void compile_group(void *context, int64_t index) {
    compiling *c = (compiling *)context + index;
    kernel_store *s = c->store;
    double start = now();
    c->status = make_image(c, &c->err);
    if (c->status != EMLX_OK && c->effort == NVRTC_QUICK) {
        c->effort = NVRTC_FULL;
        c->status = make_image(c, &c->err);
    }
    pthread_mutex_lock(&s->lock);
    s->counts.compiled += c->status == EMLX_OK ? c->count : 0;
    s->counts.programs += c->status == EMLX_OK;
    s->counts.seconds += now() - start;
    pthread_mutex_unlock(&s->lock);
}

static emlx_status add_group(compiling *c, emlx_error *err) {
    if (c->status != EMLX_OK) {
        *err = c->err;
        return c->status;
    }
    uint64_t group = disk_group(c->image, c->size);
    for (uint32_t i = 0; i < c->count; i++)
        TRY(add_kernel(c->store, &c->first[i], c->image, group, err));
    return EMLX_OK;
}

static bool compiles_quickly(const kernel_store *s) {
    return s->context != NULL && nvrtc_is_quick();
}

// A damaged image is compiled anew. One that holds several kernels is read once.
static bool read_from_disk(kernel_store *s, wanted *w, bool *quick) {
    size_t size = 0;
    disk_image about;
    emlx_error err;
    void *image = NULL;
    if (!disk_find(&w->key, &about)) return false;
    if (about.quick && !compiles_quickly(s)) return false;
    pthread_mutex_lock(&s->lock);
    bool loaded = find_module(s, about.group) != NULL;
    pthread_mutex_unlock(&s->lock);
    if (!loaded) image = disk_read(&w->key, &size, &about);
    if (!loaded && image == NULL) return false;
    bool good = add_kernel(s, w, image, about.group, &err) == EMLX_OK;
    mem_free(image, size);
    pthread_mutex_lock(&s->lock);
    s->counts.read += good;
    pthread_mutex_unlock(&s->lock);
    *quick = good && about.quick;
    return good;
}

// The compiler's threads share a lock, so that more of them do not help (45 kernels, 16 cores: 8.4
// s, by four threads 4.6, by eight 3.0); few kernels are not worth what each program has besides.
static uint32_t count_groups(const thread_pool *pool, uint32_t count) {
    uint32_t needed = (count + GROUP - 1) / GROUP, useful = count / GROUP_LEAST;
    if (pool == NULL || useful <= needed) return needed;
    if (useful > (uint32_t)pool_threads(pool)) useful = (uint32_t)pool_threads(pool);
    if (useful > TOGETHER) useful = TOGETHER;
    return useful > needed ? useful : needed;
}

// Once more ---------------------------------------------------------------------------------------

// Kernels that were compiled quickly, and their texts.
typedef struct refining {
    background_job job;
    kernel_store *store;
    uint32_t count;
    wanted kernels[REFINED];
} refining;

// Those who launch a kernel find the one or the other; graphs keep what they were made with.
static void exchange(kernel_store *s, const wanted *w, const void *image, uint64_t group) {
    emlx_error err;
    cuda_module module = NULL;
    pthread_mutex_lock(&s->lock);
    stored_kernel *k = find_kernel(s, &w->key);
    if (k != NULL && load_module(s, image, group, &module, &err) == EMLX_OK)
        (void)find_functions(w, module, k, &err);
    pthread_mutex_unlock(&s->lock);
}

// Where it fails the kernels stay what they are.
static void refine(background_job *job, bool is_wanted) {
    refining *r = (refining *)job;
    kernel_store *s = r->store;
    compiling c = {.store = s, .first = r->kernels, .count = r->count, .effort = NVRTC_FULL};
    if (is_wanted) {
        compile_group(&c, 0);
        if (c.status == EMLX_OK && cuda.context_set(s->context) == 0) {
            uint64_t group = disk_group(c.image, c.size);
            for (uint32_t i = 0; i < r->count; i++) exchange(s, &r->kernels[i], c.image, group);
        }
        mem_free(c.image, c.size);
    }
    for (uint32_t i = 0; i < r->count; i++) clear_wanted(&r->kernels[i]);
    mem_free(r, sizeof *r);
}

// Takes the texts.
static void refine_later(kernel_store *s, wanted *w, uint32_t count) {
    for (uint32_t from = 0; from < count; from += REFINED) {
        refining *r = mem_alloc(sizeof *r);
        if (r == NULL) return;
        r->job = (background_job){.owner = s, .run = refine};
        r->store = s;
        r->count = count - from < REFINED ? count - from : REFINED;
        for (uint32_t i = 0; i < r->count; i++) {
            r->kernels[i] = w[from + i];
            r->kernels[i].code = NULL;
            w[from + i].text = NULL;
            w[from + i].room = 0;
        }
        background_submit(&r->job);
    }
}

void store_settle(kernel_store *store) {
    if (store != NULL) background_drop(store);
}

// Products of groups of warps, which attention has, wait for each other where functions are not
// inlined: compiled quickly they take twenty times as long.
static nvrtc_effort choose_effort(const kernel_store *s, const wanted *w, uint32_t count) {
    bool quick = compiles_quickly(s);
    for (uint32_t i = 0; i < count; i++) quick = quick && !(w[i].parts & PART_ATTENTION);
    return quick ? NVRTC_QUICK : NVRTC_FULL;
}

static emlx_status compile_all(kernel_store *s, thread_pool *pool, wanted *w, uint32_t count,
                               emlx_error *err) {
    uint32_t groups = count_groups(pool, count);
    compiling *all = mem_alloc(groups * sizeof *all);
    emlx_status status = EMLX_OK;
    if (all == NULL) return error_no_memory(err, "to compile kernels");
    for (uint32_t i = 0; i < groups; i++) {
        uint32_t from = (uint32_t)((uint64_t)count * i / groups);
        uint32_t to = (uint32_t)((uint64_t)count * (i + 1) / groups);
        all[i] = (compiling){.store = s, .first = w + from, .count = to - from};
        all[i].effort = choose_effort(s, w + from, to - from);
    }
    if (pool != NULL && groups > 1)
        pool_for(pool, groups, compile_group, all);
    else
        for (uint32_t i = 0; i < groups; i++) compile_group(all, i);
    for (uint32_t i = 0; i < groups; i++) {
        if (status == EMLX_OK) status = add_group(&all[i], err);
        if (status == EMLX_OK && all[i].effort == NVRTC_QUICK)
            refine_later(s, all[i].first, all[i].count);
        mem_free(all[i].image, all[i].size);
    }
    mem_free(all, groups * sizeof *all);
    return status;
}

// Without a device nobody waits for the kernels: they are compiled when there are many.
static emlx_status compile_waiting(kernel_store *s, thread_pool *pool, emlx_error *err) {
    emlx_status status = compile_all(s, pool, s->waiting, s->waiting_count, err);
    for (uint32_t i = 0; i < s->waiting_count; i++) clear_wanted(&s->waiting[i]);
    s->waiting_count = 0;
    return status;
}

static bool is_waiting(const kernel_store *s, const disk_key *key) {
    for (uint32_t i = 0; i < s->waiting_count; i++)
        if (memcmp(&s->waiting[i].key, key, sizeof *key) == 0) return true;
    return false;
}

static emlx_status put_off(kernel_store *s, wanted *w, uint32_t count, emlx_error *err) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    emlx_status status = EMLX_OK;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < count; i++) {
        if (status != EMLX_OK || is_waiting(s, &w[i].key)) continue;
        s->waiting[s->waiting_count] = w[i];
        s->waiting[s->waiting_count++].code = NULL;
        w[i].text = NULL;
        w[i].room = 0;
        if (s->waiting_count == GROUP) status = compile_waiting(s, NULL, err);
    }
    pthread_mutex_unlock(&lock);
    return status;
}

emlx_status store_finish(kernel_store *store, thread_pool *pool, emlx_error *err) {
    return store->waiting_count > 0 ? compile_waiting(store, pool, err) : EMLX_OK;
}

void store_close(kernel_store *store, bool alive) {
    emlx_error err;
    if (store == NULL) return;
    store_settle(store);
    if (store_finish(store, NULL, &err) != EMLX_OK) fprintf(stderr, "emlx: %s\n", err.message);
    for (size_t i = 0; i < BUCKETS; i++)
        for (stored_kernel *k = store->buckets[i], *next; k != NULL; k = next) {
            next = k->next;
            mem_free(k, sizeof *k);
        }
    for (loaded_module *m = store->modules, *next; m != NULL; m = next) {
        next = m->next;
        if (alive) cuda.module_unload(m->module);
        mem_free(m, sizeof *m);
    }
    pthread_mutex_destroy(&store->lock);
    mem_free(store, sizeof *store);
}

// The door ---------------------------------------------------------------------------------------

// Of equal texts in one plan the first is compiled; the others find it afterwards.
static bool is_repeated(const wanted *w, uint32_t count, const disk_key *key) {
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(&w[i].key, key, sizeof *key) == 0) return true;
    return false;
}

// Kernels that are to be compiled, and at the end of their list those that were found on disk as
// they had been compiled quickly.
typedef struct kernel_list {
    wanted *items;
    uint32_t room, fresh, quick;
} kernel_list;

static emlx_status collect(kernel_store *s, const kernel_code *codes, uint32_t count,
                           kernel_list *list, disk_key *keys, emlx_error *err) {
    for (uint32_t i = 0; i < count; i++) {
        wanted *w = &list->items[list->fresh];
        bool quick = false;
        if (codes[i].launch_count == 0) continue;
        TRY(finish_text(s, &codes[i], w, err));
        keys[i] = w->key;
        pthread_mutex_lock(&s->lock);
        bool there = find_kernel(s, &w->key) != NULL;
        pthread_mutex_unlock(&s->lock);
        there =
            there || is_repeated(list->items, list->fresh, &w->key) || read_from_disk(s, w, &quick);
        if (quick)
            list->items[list->room - ++list->quick] = *w;
        else if (there)
            clear_wanted(w);
        else
            list->fresh++;
    }
    return EMLX_OK;
}

static emlx_status make_kernels(kernel_store *s, thread_pool *pool, kernel_list *list,
                                emlx_error *err) {
    if (list->quick > 0) refine_later(s, list->items + list->room - list->quick, list->quick);
    if (list->fresh == 0) return EMLX_OK;
    return s->context != NULL ? compile_all(s, pool, list->items, list->fresh, err)
                              : put_off(s, list->items, list->fresh, err);
}

emlx_status store_get(kernel_store *store, thread_pool *pool, const kernel_code *codes,
                      uint32_t count, stored_kernel **kernels, emlx_error *err) {
    kernel_list list = {.room = count + 1};
    list.items = mem_alloc(list.room * sizeof *list.items);
    disk_key *keys = mem_alloc((count + 1) * sizeof *keys);
    emlx_status status = EMLX_OK;
    if (list.items == NULL || keys == NULL) status = error_no_memory(err, "for kernels");
    if (status == EMLX_OK) status = collect(store, codes, count, &list, keys, err);
    if (status == EMLX_OK) status = make_kernels(store, pool, &list, err);
    for (uint32_t i = 0; i < list.fresh; i++) clear_wanted(&list.items[i]);
    for (uint32_t i = 0; i < list.quick; i++) clear_wanted(&list.items[list.room - 1 - i]);
    pthread_mutex_lock(&store->lock);
    for (uint32_t i = 0; i < count && status == EMLX_OK; i++)
        if (codes[i].launch_count > 0) kernels[i] = find_kernel(store, &keys[i]);
    pthread_mutex_unlock(&store->lock);
    mem_free(list.items, list.room * sizeof *list.items);
    mem_free(keys, (count + 1) * sizeof *keys);
    return status;
}
