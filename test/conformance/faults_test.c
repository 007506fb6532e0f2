// SPDX-License-Identifier: Apache-2.0
// faults_test.c - every allocation of every op is made to fail in turn: recorded cases of each op
// and each program run with no memory from the n-th allocation on, for every n until they pass.
// The answer is an error that says so, and nothing is left behind. On the CPU, or the device that
// EMLX_TEST_DEVICE names; an argument chooses files that have it in their names.
#include <stdlib.h>

#include "cases.h"
#include "conformance/cases_folder.h"
#include "memory/memory.h"
#include "plan/cache.h"
#include "tensors.h"

// Cases of one op, spread over all that it has.
enum { CASES_AN_OP = 6, ALLOCATIONS_MOST = 20000 };

static const char *only = "";
static case_set set;

static size_t settled(void) {
    plan_cache_clear(NULL);
    return mem_held();
}

// Whether the case was right; otherwise the reason must be memory.
static bool passes(const recorded_case *c, size_t fail_from) {
    emlx_error err = {0};
    case_result result = {0};
    mem_fail_from(fail_from);
    emlx_status status = case_run(c, test_device, &result, &err);
    mem_fail_from(0);
    bool passed = status == EMLX_OK && result.report == NULL;
    const char *said = status == EMLX_OK ? result.report : err.message;
    if (!passed && strstr(said, "memory") == NULL)
        fail_msg("%s, case %zu, no memory from allocation %zu on: %s", c->file->name, c->index,
                 fail_from, said);
    free(result.report);
    return passed;
}

static void fail_each_allocation(const recorded_case *c) {
    // What threads and caches keep is there from now on, or is let go of.
    assert_true(passes(c, 0));
    size_t held = settled(), n = 1;
    for (; !passes(c, n); n++) {
        if (settled() > held)
            fail_msg("%s, case %zu: %zu bytes are left when allocation %zu fails", c->file->name,
                     c->index, mem_held() - held, n);
        if (n > ALLOCATIONS_MOST) fail_msg("%s, case %zu never passes", c->file->name, c->index);
    }
}

// Cases of one title follow each other.
static size_t same_title(size_t first) {
    size_t end = first;
    while (end < set.count && strcmp(set.items[end].title, set.items[first].title) == 0) end++;
    return end - first;
}

static void every_op(void **state) {
    (void)state;
    size_t titles = 0;
    for (size_t first = 0; first < set.count; titles++) {
        size_t count = same_title(first), tried = count < CASES_AN_OP ? count : CASES_AN_OP;
        for (size_t i = 0; i < tried; i++)
            fail_each_allocation(&set.items[first + i * count / tried]);
        first += count;
    }
    size_t ops = 0;
    while (emlx_op_at(ops) != NULL) ops++;
    assert_true(only[0] != '\0' || titles > ops);
}

static int open_cases(void **state) {
    emlx_error err;
    if (cases_unpack(state) != 0) return -1;
    if (open_test_device(state) != 0) return -1;
    return cases_load(cases_folder, only, test_device, false, &set, &err) == EMLX_OK ? 0 : -1;
}

static int close_cases(void **state) {
    cases_clear(&set);
    close_test_device(state);
    return cases_remove(state);
}

int main(int argc, char **argv) {
    if (argc > 1) only = argv[1];
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_op),
    };
    return cmocka_run_group_tests_name("conformance/faults", tests, open_cases, close_cases);
}
