// SPDX-License-Identifier: Apache-2.0
// cgroup_test.c - limits of control groups, read from files made up like those of the system.
#include "threads/cgroup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "test.h"

static char root[64], self[96];
static cgroup_files files = {root, self};

// A file below the root, and the folders it lies in.
static void put(const char *name, const char *text) {
    char command[512];
    snprintf(command, sizeof command, "mkdir -p \"$(dirname '%s/%s')\"", root, name);
    assert_int_equal(system(command), 0);
    snprintf(command, sizeof command, "%s/%s", root, name);
    FILE *file = fopen(command, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void groups(const char *text) { put("self", text); }

static int make_root(void **state) {
    (void)state;
    snprintf(root, sizeof root, "/tmp/emlx-cgroup-XXXXXX");
    if (mkdtemp(root) == NULL) return 1;
    snprintf(self, sizeof self, "%s/self", root);
    return 0;
}

static int remove_root(void **state) {
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

static void without_groups_there_is_no_limit(void **state) {
    (void)state;
    assert_int_equal(cgroup_memory(&files), 0);
    assert_int_equal(cgroup_cores(&files), 0);
    groups("0::/a/b\n");
    assert_int_equal(cgroup_memory(&files), 0);
    put("a/b/memory.max", "max\n");
    put("a/b/cpu.max", "max 100000\n");
    assert_int_equal(cgroup_memory(&files), 0);
    assert_int_equal(cgroup_cores(&files), 0);
}

static void the_tightest_group_of_version_2_counts(void **state) {
    (void)state;
    groups("0::/a/b\n");
    put("a/b/memory.max", "734003200\n");
    assert_int_equal(cgroup_memory(&files), 734003200);
    put("a/memory.max", "500000000\n");
    assert_int_equal(cgroup_memory(&files), 500000000);
    put("a/b/memory.high", "400000000\n");
    assert_int_equal(cgroup_memory(&files), 400000000);
    put("memory.max", "300000000\n");
    assert_int_equal(cgroup_memory(&files), 300000000);
    put("c/memory.max", "1000\n"); // somebody else's
    assert_int_equal(cgroup_memory(&files), 300000000);
}

static void a_container_of_version_2_has_its_own_root(void **state) {
    (void)state;
    put("memory.max", "734003200\n");
    put("cpu.max", "50000 100000\n");
    static const char *const paths[] = {"0::/\n", "0::/docker/0123\n", "0::/../../x\n"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        groups(paths[i]);
        assert_int_equal(cgroup_memory(&files), 734003200);
        assert_int_equal(cgroup_cores(&files), 1);
    }
}

static void quotas_of_version_2(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int cores;
    } cases[] = {{"50000 100000\n", 1},  {"100000 100000\n", 1}, {"100001 100000\n", 2},
                 {"150000 100000\n", 2}, {"400000 100000\n", 4}, {"25000 50000\n", 1},
                 {"1 100000\n", 1},      {"max 100000\n", 0},    {"0 100000\n", 0},
                 {"100000 0\n", 0},      {"-1 100000\n", 0},     {"", 0},
                 {"what\n", 0},          {"9e30 1\n", 1000000}};
    groups("0::/a\n");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put("a/cpu.max", cases[i].text);
        assert_int_equal(cgroup_cores(&files), cases[i].cores);
    }
    put("a/cpu.max", "300000 100000\n");
    put("cpu.max", "200000 100000\n");
    assert_int_equal(cgroup_cores(&files), 2);
}

static void version_1(void **state) {
    (void)state;
    groups("12:cpuset:/\n11:memory:/a/b\n4:cpu,cpuacct:/a\n1:name=systemd:/a\n");
    put("memory/a/b/memory.limit_in_bytes", "9223372036854771712\n");
    put("cpu,cpuacct/a/cpu.cfs_quota_us", "-1\n");
    put("cpu,cpuacct/a/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_memory(&files), 0);
    assert_int_equal(cgroup_cores(&files), 0);
    put("memory/a/memory.limit_in_bytes", "734003200\n");
    put("cpu,cpuacct/a/cpu.cfs_quota_us", "250000\n");
    assert_int_equal(cgroup_memory(&files), 734003200);
    assert_int_equal(cgroup_cores(&files), 3);
    // As a container sees it: the path is the host's, and the root its own.
    groups("11:memory:/docker/0123\n4:cpuacct,cpu:/docker/0123\n");
    put("memory/memory.limit_in_bytes", "100000000\n");
    put("cpu/cpu.cfs_quota_us", "50000\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    assert_int_equal(cgroup_memory(&files), 100000000);
    assert_int_equal(cgroup_cores(&files), 1);
}

static void both_versions_at_once(void **state) {
    (void)state;
    groups("11:memory:/a\n0::/a\n");
    put("memory/a/memory.limit_in_bytes", "734003200\n");
    put("unified/a/cpu.max", "50000 100000\n");
    assert_int_equal(cgroup_memory(&files), 734003200);
    assert_int_equal(cgroup_cores(&files), 1);
}

static void odd_lines_are_survived(void **state) {
    (void)state;
    static char lengthy[20000];
    memset(lengthy, 'x', sizeof lengthy - 1);
    memcpy(lengthy, "0::/", 4);
    put("memory.max", "5000\n");
    static const char *const texts[] = {"", "\n", ":", "::", "0:", "0:memory", "0::", lengthy};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        groups(texts[i]);
        uint64_t most = cgroup_memory(&files);
        assert_true(most == 0 || most == 5000);
        assert_int_equal(cgroup_cores(&files), 0);
    }
}

#define WITH_ROOT(test) cmocka_unit_test_setup_teardown(test, make_root, remove_root)

int main(void) {
    const struct CMUnitTest tests[] = {
        WITH_ROOT(without_groups_there_is_no_limit),
        WITH_ROOT(the_tightest_group_of_version_2_counts),
        WITH_ROOT(a_container_of_version_2_has_its_own_root),
        WITH_ROOT(quotas_of_version_2),
        WITH_ROOT(version_1),
        WITH_ROOT(both_versions_at_once),
        WITH_ROOT(odd_lines_are_survived),
    };
    return cmocka_run_group_tests_name("threads/cgroup", tests, NULL, NULL);
}
