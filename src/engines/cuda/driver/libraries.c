// SPDX-License-Identifier: Apache-2.0
// libraries.c - finds NVIDIA's libraries: in the folders of EMLX_CUDA_LIBS, where the system looks,
// in the toolkit's folder, and in the wheels of Python environments.
#include "engines/cuda/driver/libraries.h"

#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

enum { PATH_ROOM = 1024, KNOWN_MOST = 16 };

// Folders besides those the system knows. $HOME and $VIRTUAL_ENV are put in where they are set.
static const char *const folders[] = {
    "/usr/local/cuda/lib64",
    "/usr/local/cuda/lib",
    "/usr/local/nvidia/lib64",
    "/usr/lib/wsl/lib",
    "/opt/cuda/lib64",
    "$VIRTUAL_ENV/lib/python3*/site-packages/nvidia/*/lib",
    "$HOME/.local/lib/python3*/site-packages/nvidia/*/lib",
    "/usr/local/lib/python3*/dist-packages/nvidia/*/lib",
    "/usr/local/lib/python3*/site-packages/nvidia/*/lib",
};

static struct {
    pthread_mutex_t lock;
    const cuda_library *library[KNOWN_MOST];
    char place[KNOWN_MOST][PATH_ROOM];
    size_t count;
} known = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void *try_file(const char *folder, const char *name, char place[PATH_ROOM]) {
    int length = folder[0] == '\0' ? snprintf(place, PATH_ROOM, "%s", name)
                                   : snprintf(place, PATH_ROOM, "%s/%s", folder, name);
    return length < PATH_ROOM ? dlopen(place, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void *try_names(const char *folder, const cuda_library *library, char place[PATH_ROOM]) {
    for (const char *const *name = library->names; *name != NULL; name++) {
        void *handle = try_file(folder, *name, place);
        if (handle != NULL) return handle;
    }
    return NULL;
}

// A folder's pattern with the variable in front of it replaced; false when that is not set.
static bool expand(const char *pattern, char out[PATH_ROOM]) {
    const char *rest = strchr(pattern, '/'), *value = "";
    char variable[32] = "";
    if (pattern[0] == '$') {
        snprintf(variable, sizeof variable, "%.*s", (int)(rest - pattern - 1), pattern + 1);
        value = getenv(variable);
        if (value == NULL || value[0] == '\0') return false;
    }
    return snprintf(out, PATH_ROOM, "%s%s", value, rest) < PATH_ROOM;
}

static void *try_pattern(const char *pattern, const cuda_library *library, char place[PATH_ROOM]) {
    char expanded[PATH_ROOM];
    glob_t found = {0};
    void *handle = NULL;
    if (!expand(pattern, expanded)) return NULL;
    if (glob(expanded, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc && handle == NULL; i++)
            handle = try_names(found.gl_pathv[i], library, place);
    globfree(&found);
    return handle;
}

// The folders that the user names, which come before all others.
static void *try_given(const cuda_library *library, char place[PATH_ROOM]) {
    const char *list = getenv("EMLX_CUDA_LIBS");
    void *handle = NULL;
    while (list != NULL && *list != '\0' && handle == NULL) {
        size_t length = strcspn(list, ":");
        char folder[PATH_ROOM];
        snprintf(folder, sizeof folder, "%.*s", (int)length, list);
        if (length > 0) handle = try_names(folder, library, place);
        list += length + (list[length] == ':');
    }
    return handle;
}

static void *find_library(const cuda_library *library, char place[PATH_ROOM]) {
    void *handle = try_given(library, place);
    if (handle == NULL) handle = try_names("", library, place);
    for (size_t i = 0; i < sizeof folders / sizeof *folders && handle == NULL; i++)
        handle = try_pattern(folders[i], library, place);
    return handle;
}

static void remember(const cuda_library *library, const char *place) {
    pthread_mutex_lock(&known.lock);
    if (known.count < KNOWN_MOST) {
        known.library[known.count] = library;
        snprintf(known.place[known.count++], PATH_ROOM, "%s", place);
    }
    pthread_mutex_unlock(&known.lock);
}

const char *library_path(const cuda_library *library) {
    const char *place = NULL;
    pthread_mutex_lock(&known.lock);
    for (size_t i = 0; i < known.count; i++)
        if (known.library[i] == library) place = known.place[i];
    pthread_mutex_unlock(&known.lock);
    return place;
}

static emlx_status open_once(const cuda_library *library, emlx_error *err) {
    char place[PATH_ROOM];
    void *handle = find_library(library, place);
    if (handle == NULL)
        return error_set(err, EMLX_UNSUPPORTED,
                         "%s was not found: no %s in EMLX_CUDA_LIBS, the system's folders, "
                         "/usr/local/cuda or a Python environment's",
                         library->title, library->names[0]);
    for (size_t i = 0; library->symbols[i] != NULL; i++) {
        library->functions[i] = dlsym(handle, library->symbols[i]);
        if (library->functions[i] == NULL)
            return error_set(err, EMLX_UNSUPPORTED, "%s in %s is too old: it has no %s",
                             library->title, place, library->symbols[i]);
    }
    remember(library, place);
    return EMLX_OK;
}

emlx_status library_open(const cuda_library *library, emlx_error *err) {
    library_state *s = library->state;
    pthread_mutex_lock(&s->lock);
    if (!s->done) s->error.code = open_once(library, &s->error);
    s->done = true;
    pthread_mutex_unlock(&s->lock);
    if (s->error.code != EMLX_OK && err != NULL) *err = s->error;
    return s->error.code;
}

void library_describe(const cuda_library *library, char *text, size_t size) {
    emlx_error err;
    bool there = library_open(library, &err) == EMLX_OK;
    snprintf(text, size, "%s", there ? library_path(library) : err.message);
}
