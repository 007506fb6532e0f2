// SPDX-License-Identifier: Apache-2.0
// cgroup.c - reads the limits of control groups. A limit holds for all groups below the one that
// has it, so that each is looked for from the process's own group up to the root. In a container
// the root that is mounted is the container's own group, although the path may be that of the host:
// folders that are not there are passed over.
#include "threads/cgroup.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const cgroup_files cgroup_own = {"/sys/fs/cgroup", "/proc/self/cgroup"};

enum { PATH_ROOM = 4096, LINE_ROOM = 5000, MOST_CORES = 1000000 };

// A line of a file; false when it cannot be read.
static bool read_line(const char *folder, const char *name, char *text, size_t size) {
    char path[PATH_ROOM];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) return false;
    FILE *file = fopen(path, "re");
    if (file == NULL) return false;
    bool there = fgets(text, (int)size, file) != NULL;
    fclose(file);
    return there;
}

// Limits that no machine reaches mean none: version 1 writes the largest number of pages.
#define NO_LIMIT ((uint64_t)1 << 62)

static void tighten(uint64_t *least, const char *folder, const char *name) {
    char text[64], *end;
    if (!read_line(folder, name, text, sizeof text)) return;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || value >= NO_LIMIT) return; // "max"
    if (*least == 0 || value < *least) *least = value;
}

// Limits of a group -------------------------------------------------------------------------------

static void memory_limits(const char *folder, uint64_t *least) {
    tighten(least, folder, "memory.max");
    tighten(least, folder, "memory.high");
    tighten(least, folder, "memory.limit_in_bytes");
}

static void add_quota(double quota, double period, uint64_t *least) {
    if (quota <= 0 || period <= 0) return;
    double cores = quota / period;
    if (cores > MOST_CORES) cores = MOST_CORES;
    uint64_t threads = (uint64_t)cores;
    if ((double)threads < cores || threads == 0) threads++;
    if (*least == 0 || threads < *least) *least = threads;
}

static void core_limits(const char *folder, uint64_t *least) {
    char text[64];
    double quota = 0, period = 0;
    if (read_line(folder, "cpu.max", text, sizeof text) &&
        sscanf(text, "%lf %lf", &quota, &period) == 2)
        add_quota(quota, period, least);
    if (!read_line(folder, "cpu.cfs_quota_us", text, sizeof text)) return;
    quota = strtod(text, NULL);
    if (read_line(folder, "cpu.cfs_period_us", text, sizeof text))
        add_quota(quota, strtod(text, NULL), least);
}

// Walking up --------------------------------------------------------------------------------------

typedef void (*group_limits)(const char *folder, uint64_t *least);

// All groups from `path` up to the one that is mounted at `mount`.
static void walk_up(const char *mount, const char *path, group_limits limits, uint64_t *least) {
    char folder[PATH_ROOM];
    size_t root = strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s", mount, path);
    if (length < 0 || (size_t)length >= sizeof folder) length = (int)root, folder[root] = '\0';
    for (size_t end = (size_t)length;; end--) {
        bool whole = end == (size_t)length || folder[end] == '/';
        if (!whole && end > root) continue;
        folder[end] = '\0';
        limits(folder, least);
        if (end <= root) return;
    }
}

// Whether a list such as "cpu,cpuacct" has the name.
static bool has_name(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at != NULL; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == '\0' || at[length] == ','))
            return true;
    }
    return false;
}

// A line is "number:controllers:path"; version 2 has no controllers there.
static void line_limits(const cgroup_files *files, char *line, const char *controller,
                        group_limits limits, uint64_t *least) {
    char mount[PATH_ROOM];
    line[strcspn(line, "\n")] = '\0';
    char *list = strchr(line, ':'), *path = list == NULL ? NULL : strchr(list + 1, ':');
    if (path == NULL) return;
    *list++ = *path++ = '\0';
    if (*list == '\0') {
        walk_up(files->root, path, limits, least);
        // Where both versions are mounted, version 2 lies in a folder of its own.
        snprintf(mount, sizeof mount, "%s/unified", files->root);
        walk_up(mount, path, limits, least);
    } else if (has_name(list, controller)) {
        snprintf(mount, sizeof mount, "%s/%s", files->root, list);
        walk_up(mount, path, limits, least);
        snprintf(mount, sizeof mount, "%s/%s", files->root, controller);
        walk_up(mount, path, limits, least);
    }
}

static uint64_t tightest(const cgroup_files *files, const char *controller, group_limits limits) {
    uint64_t least = 0;
    char line[LINE_ROOM];
    FILE *file = fopen(files->self, "re");
    if (file == NULL) return 0;
    while (fgets(line, sizeof line, file) != NULL)
        line_limits(files, line, controller, limits, &least);
    fclose(file);
    return least;
}

uint64_t cgroup_memory(const cgroup_files *files) {
    return tightest(files, "memory", memory_limits);
}

int cgroup_cores(const cgroup_files *files) { return (int)tightest(files, "cpu", core_limits); }
