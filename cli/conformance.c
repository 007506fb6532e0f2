// SPDX-License-Identifier: Apache-2.0
// conformance.c - `emlx conformance`: replays recorded cases on several threads and reports.
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cases.h"
#include "cli.h"

// Failures beyond this many are only counted.
#define REPORTS_MAX 40
#define THREADS_MAX 256

typedef struct request {
    const char *folder, *only, *device;
    size_t threads, slowest;
    bool coverage, digest, strict;
} request;

// Shared by the threads: each takes the next case.
typedef struct session {
    const case_set *set;
    case_result *results;
    atomic_size_t next;
    atomic_bool stop;
    pthread_mutex_t lock; // of the error, whose first one stays
    emlx_error err;
} session;

// Arguments --------------------------------------------------------------------------------------

static bool parse_count(const char *text, size_t most, size_t *out) {
    char *end;
    if (*text < '0' || *text > '9') return false;
    unsigned long value = strtoul(text, &end, 10);
    *out = value;
    return *end == '\0' && value > 0 && value <= most;
}

static size_t core_count(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > THREADS_MAX ? THREADS_MAX : (size_t)cores;
}

static int parse_request(int argc, char **argv, request *r) {
    static const struct option options[] = {
        {"coverage", no_argument, NULL, 'c'},     {"digest", no_argument, NULL, 'd'},
        {"only", required_argument, NULL, 'o'},   {"slowest", required_argument, NULL, 's'},
        {"strict", no_argument, NULL, 'e'},       {"threads", required_argument, NULL, 't'},
        {"device", required_argument, NULL, 'n'}, {0},
    };
    *r = (request){.only = "", .device = "cpu", .threads = core_count()};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":", options, NULL)) != -1;) {
        if (c == 'c')
            r->coverage = true;
        else if (c == 'd')
            r->digest = true;
        else if (c == 'e')
            r->strict = true;
        else if (c == 'o')
            r->only = optarg;
        else if (c == 'n')
            r->device = optarg;
        else if (c == 's' && parse_count(optarg, SIZE_MAX, &r->slowest))
            continue;
        else if (c == 't' && parse_count(optarg, THREADS_MAX, &r->threads))
            continue;
        else if (c == 's' || c == 't')
            return cli_usage("%s is not a number that --%s takes", optarg,
                             c == 's' ? "slowest" : "threads");
        else
            return cli_bad_option(c, argv);
    }
    if (argc - optind != 1) return cli_usage("one folder expected, got %d", argc - optind);
    r->folder = argv[optind];
    return CLI_OK;
}

// Running ----------------------------------------------------------------------------------------

static void keep_error(session *s, const emlx_error *err) {
    pthread_mutex_lock(&s->lock);
    if (!atomic_exchange(&s->stop, true)) s->err = *err;
    pthread_mutex_unlock(&s->lock);
}

static void *run_cases(void *context) {
    session *s = context;
    for (size_t i; (i = atomic_fetch_add(&s->next, 1)) < s->set->count && !atomic_load(&s->stop);) {
        emlx_error err = {0};
        if (case_run(&s->set->items[i], s->set->device, &s->results[i], &err) != EMLX_OK)
            keep_error(s, &err);
    }
    return NULL;
}

// The calling thread is one of them.
static void run_all(session *s, size_t threads) {
    pthread_t ids[THREADS_MAX];
    size_t started = 0;
    while (started + 1 < threads && pthread_create(&ids[started], NULL, run_cases, s) == 0)
        started++;
    run_cases(s);
    for (size_t i = 0; i < started; i++) pthread_join(ids[i], NULL);
}

// Reports ----------------------------------------------------------------------------------------

// Cases by type, of which there may also be none.
typedef size_t type_counts[EMLX_TYPE_COUNT + 1];

static void print_counts(const char *title, const type_counts counts) {
    printf("%-24.24s", title);
    for (int t = 0; t < EMLX_TYPE_COUNT; t++)
        printf(" %*zu", t == EMLX_F8_E4M3FN ? 5 : 4, counts[t]);
    putchar('\n');
}

static size_t op_count(void) {
    size_t count = 0;
    while (emlx_op_at(count) != NULL) count++;
    return count;
}

static size_t op_place(const emlx_op *op, size_t count) {
    size_t place = 0;
    while (place < count && emlx_op_at(place) != op) place++;
    return place;
}

static bool is_bare(const type_counts counts) {
    for (int t = 0; t <= EMLX_TYPE_COUNT; t++)
        if (counts[t] > 0) return false;
    return true;
}

// Ops in the order of the table, and programs that are no case of an op. Ops without a case are
// named at the end.
static void print_coverage(const case_set *set) {
    size_t ops = op_count(), bare = 0;
    type_counts *counts = calloc(ops + 1, sizeof *counts);
    if (counts == NULL) return;
    for (size_t i = 0; i < set->count; i++)
        counts[op_place(set->items[i].covers, ops)][set->items[i].coverage]++;
    printf("%-24s", "");
    for (int t = 0; t < EMLX_TYPE_COUNT; t++)
        printf(" %*.5s", t == EMLX_F8_E4M3FN ? 5 : 4, emlx_type_name((emlx_type)t));
    putchar('\n');
    for (size_t op = 0; op < ops; op++) print_counts(emlx_op_name(emlx_op_at(op)), counts[op]);
    print_counts("programs", counts[ops]);
    for (size_t op = 0; op < ops; op++)
        if (is_bare(counts[op]))
            printf("%s%s", bare++ == 0 ? "no cases: " : ", ", emlx_op_name(emlx_op_at(op)));
    if (bare > 0) putchar('\n');
    free(counts);
}

// The index of a case, with what it is sorted by.
typedef struct timed {
    double seconds;
    size_t index;
} timed;

static int compare_timed(const void *left, const void *right) {
    const timed *a = left, *b = right;
    if (a->seconds != b->seconds) return a->seconds > b->seconds ? -1 : 1;
    return a->index < b->index ? -1 : a->index > b->index;
}

static void print_slowest(const session *s, size_t count) {
    timed *order = calloc(s->set->count + 1, sizeof *order);
    if (order == NULL) return;
    for (size_t i = 0; i < s->set->count; i++) order[i] = (timed){s->results[i].seconds, i};
    qsort(order, s->set->count, sizeof *order, compare_timed);
    for (size_t i = 0; i < count && i < s->set->count; i++) {
        const recorded_case *c = &s->set->items[order[i].index];
        printf("%10.3f ms  %s, case %zu\n", order[i].seconds * 1e3, c->file->name, c->index);
    }
    free(order);
}

static void print_digest(const session *s) {
    uint64_t hash = 0;
    for (size_t i = 0; i < s->set->count; i++)
        hash = (hash ^ s->results[i].digest) * 0x9e3779b97f4a7c15;
    printf("digest: %016" PRIx64 "\n", hash);
}

static size_t print_failures(const session *s) {
    size_t failed = 0;
    for (size_t i = 0; i < s->set->count; i++) {
        const char *report = s->results[i].report;
        if (report != NULL && failed++ < REPORTS_MAX) fputs(report, stdout);
    }
    if (failed > REPORTS_MAX) printf("... and %zu more\n", failed - REPORTS_MAX);
    return failed;
}

// The share of f32 elements that differ in the last place is one more thing that can fail.
static bool print_last_places(const session *s) {
    last_places all = {0};
    for (size_t i = 0; i < s->set->count; i++) {
        all.compared += s->results[i].counted.compared;
        all.different += s->results[i].counted.different;
    }
    bool fit = last_places_fit(&all);
    printf("last places of f32: %" PRIu64 " of %" PRIu64 " elements differ%s\n", all.different,
           all.compared, fit ? "" : ", one of 10,000 expected at most");
    return fit;
}

// What the device's engine left to the host.
static void print_handovers(const session *s, bool each) {
    const char *op;
    uint64_t count, all = 0;
    size_t ops = 0;
    for (; emlx_device_handover(s->set->device, ops, &op, &count); ops++) {
        all += count;
        if (each) printf("handed over: %-24s %6" PRIu64 "\n", op, count);
    }
    if (ops > 0) printf("handed over to the host: %" PRIu64 " nodes of %zu ops\n", all, ops);
}

static int print_report(const session *s, const request *r) {
    if (r->coverage) print_coverage(s->set);
    if (r->slowest > 0) print_slowest(s, r->slowest);
    size_t failed = print_failures(s);
    failed += !print_last_places(s);
    print_handovers(s, r->coverage);
    if (r->digest) print_digest(s);
    size_t passed = failed < s->set->count ? s->set->count - failed : 0;
    printf("%zu passed, %zu failed\n", passed, failed);
    return failed == 0 ? CLI_OK : CLI_FAILED;
}

// The command ------------------------------------------------------------------------------------

static int replay_set(const case_set *set, const request *r) {
    session s = {.set = set, .lock = PTHREAD_MUTEX_INITIALIZER};
    s.results = calloc(set->count, sizeof *s.results);
    if (s.results == NULL) return cli_failed(&(emlx_error){.message = "no memory for results"});
    run_all(&s, r->threads);
    int code = atomic_load(&s.stop) ? cli_bad_input(&s.err) : print_report(&s, r);
    for (size_t i = 0; i < set->count; i++) free(s.results[i].report);
    free(s.results);
    return code;
}

int cli_conformance(int argc, char **argv) {
    request r;
    emlx_error err;
    emlx_device *device;
    case_set set;
    int code = parse_request(argc, argv, &r);
    if (code != CLI_OK) return code;
    if (emlx_device_open(r.device, &device, &err) != EMLX_OK) return cli_bad_input(&err);
    if (cases_load(r.folder, r.only, device, r.strict, &set, &err) == EMLX_OK) {
        code = replay_set(&set, &r);
        cases_clear(&set);
    } else {
        code = cli_bad_input(&err);
    }
    emlx_device_release(device);
    return code;
}
