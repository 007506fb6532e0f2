// SPDX-License-Identifier: Apache-2.0
// replay.c - runs one recorded case, compares, and says what is wrong.
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/sanitize.h"
#include "cases.h"
#include "cli.h"
#include "files/attrs.h"

// The tensors of a case while it runs. `results` and `expected` have the same places.
typedef struct replay {
    const recorded_case *c;
    emlx_device *device;
    size_t input_count, result_count;
    emlx_tensor **inputs, **results, **expected;
} replay;

// Tensors ----------------------------------------------------------------------------------------

static void free_tensors(emlx_tensor **tensors, size_t count) {
    for (size_t i = 0; tensors != NULL && i < count; i++) emlx_tensor_release(tensors[i]);
    free(tensors);
}

static emlx_status load_arrays(const replay *r, const char *which, size_t count, emlx_tensor **out,
                               emlx_error *err) {
    const json_t *list = json_object_get(r->c->json, which);
    emlx_status status = EMLX_OK;
    for (size_t i = 0; i < count && status == EMLX_OK; i++) {
        const json_t *pair = json_array_get(list, i);
        emlx_type type;
        status = emlx_type_parse(json_string_value(json_array_get(pair, 1)), &type, err);
        if (status == EMLX_OK)
            status =
                emlx_archive_tensor(r->c->file->archive, json_string_value(json_array_get(pair, 0)),
                                    type, r->device, &out[i], err);
    }
    if (status != EMLX_OK) {
        emlx_error inner = *err;
        cases_error(err, EMLX_FORMAT, "%.80s: case %zu: %.380s", r->c->file->name, r->c->index,
                    inner.message);
    }
    return status;
}

static emlx_status load_all(replay *r, emlx_error *err) {
    r->input_count = json_array_size(json_object_get(r->c->json, "inputs"));
    r->result_count = r->c->op != NULL ? emlx_op_results(r->c->op)
                                       : emlx_program_output_count(r->c->file->program);
    size_t expected = json_array_size(json_object_get(r->c->json, "outputs"));
    if (r->c->fails == EMLX_OK && expected != r->result_count)
        return cases_error(err, EMLX_FORMAT, "%.80s: case %zu: %zu outputs, %zu expected",
                           r->c->file->name, r->c->index, expected, r->result_count);
    r->inputs = calloc(r->input_count + 1, sizeof *r->inputs);
    r->results = calloc(r->result_count + 1, sizeof *r->results);
    r->expected = calloc(r->result_count + 1, sizeof *r->expected);
    if (r->inputs == NULL || r->results == NULL || r->expected == NULL)
        return cases_error(err, EMLX_OUT_OF_MEMORY, "no memory for a case");
    emlx_status status = load_arrays(r, "inputs", r->input_count, r->inputs, err);
    if (status == EMLX_OK && r->c->fails == EMLX_OK)
        status = load_arrays(r, "outputs", r->result_count, r->expected, err);
    return status;
}

// Running ----------------------------------------------------------------------------------------

static emlx_status run_op(replay *r, emlx_error *err) {
    json_attrs attrs;
    emlx_status status =
        json_attrs_read(r->c->op, json_object_get(r->c->json, "attrs"), NULL, NULL, &attrs, err);
    if (status != EMLX_OK) return status;
    status = emlx_apply(r->c->op, r->device, r->inputs, r->input_count, attrs.items, attrs.count,
                        r->c->type, r->results, err);
    json_attrs_free(&attrs);
    return status == EMLX_OK ? emlx_eval(r->results, r->result_count, err) : status;
}

static emlx_status run_case(replay *r, emlx_error *err) {
    if (r->c->op != NULL) return run_op(r, err);
    return emlx_program_run(r->c->file->program, r->inputs, r->input_count, r->results,
                            r->result_count, err);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

// Reporting --------------------------------------------------------------------------------------

static void print_element(FILE *to, const replay *r, emlx_tensor *tensor, int64_t index) {
    uint8_t bytes[16];
    size_t size = emlx_type_size(emlx_tensor_type(tensor));
    emlx_shape scalar = {0};
    emlx_tensor *element;
    emlx_error err;
    if (emlx_tensor_read(tensor, (size_t)index * size, bytes, size, &err) != EMLX_OK) return;
    if (emlx_tensor_from_data(r->device, emlx_tensor_type(tensor), &scalar, bytes, size, &element,
                              &err) != EMLX_OK)
        return;
    cli_print_tensor(to, element, &err);
    emlx_tensor_release(element);
}

static void print_head(FILE *to, const replay *r) {
    const recorded_case *c = r->c;
    const char *origin = json_string_value(json_object_get(c->json, "origin"));
    const char *decided = json_string_value(json_object_get(c->json, "decided"));
    fprintf(to, "%s (%s, case %zu, from %s): ", c->title, c->file->name, c->index,
            origin != NULL ? origin : "nowhere");
    for (size_t i = 0; i < r->input_count; i++) {
        if (i > 0) fputs(", ", to);
        cli_print_signature(to, emlx_tensor_type(r->inputs[i]), emlx_tensor_shape(r->inputs[i]));
    }
    UNSEEN_CALL;
    char *attrs = json_dumps(json_object_get(c->json, "attrs"), JSON_COMPACT);
    UNSEEN_CALL_END;
    if (attrs != NULL) fprintf(to, " %s", attrs);
    free(attrs);
    if (c->type != EMLX_TYPE_DEFAULT) fprintf(to, " as %s", emlx_type_name(c->type));
    fputc('\n', to);
    if (decided != NULL) fprintf(to, "  decided: %s\n", decided);
}

static FILE *start_report(case_result *out, size_t *size, const replay *r) {
    FILE *to = open_memstream(&out->report, size);
    if (to != NULL) print_head(to, r);
    return to;
}

static void report_status(case_result *out, const replay *r, emlx_status status,
                          const emlx_error *failure) {
    size_t size;
    FILE *to = start_report(out, &size, r);
    if (to == NULL) return;
    if (status == EMLX_OK)
        fprintf(to, "  went well, expected to fail with: %s\n", emlx_status_text(r->c->fails));
    else
        fprintf(to, "  failed: %s\n", failure->message);
    fclose(to);
}

static void report_signature(case_result *out, const replay *r, size_t index) {
    size_t size;
    FILE *to = start_report(out, &size, r);
    if (to == NULL) return;
    const emlx_tensor *a = r->results[index], *b = r->expected[index];
    fprintf(to, "  output %zu is ", index);
    cli_print_signature(to, emlx_tensor_type(a), emlx_tensor_shape(a));
    fputs(", expected ", to);
    cli_print_signature(to, emlx_tensor_type(b), emlx_tensor_shape(b));
    fputc('\n', to);
    fclose(to);
}

static void report_element(case_result *out, const replay *r, size_t index, int64_t element) {
    size_t size;
    FILE *to = start_report(out, &size, r);
    if (to == NULL) return;
    fprintf(to, "  output %zu, element %" PRId64 " is ", index, element);
    print_element(to, r, r->results[index], element);
    fprintf(to, "  expected ");
    print_element(to, r, r->expected[index], element);
    fclose(to);
}

// Comparing --------------------------------------------------------------------------------------

// FNV-1a, 64 bits.
static uint64_t digest(uint64_t hash, const void *data, size_t size) {
    const uint8_t *bytes = data;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

// A copy of the elements, for the caller to free: the host may not be able to read them in place.
static emlx_status copy_elements(emlx_tensor *tensor, void **out, emlx_error *err) {
    size_t size = emlx_tensor_bytes(tensor);
    void *data = malloc(size + 1);
    if (data == NULL) return cases_error(err, EMLX_OUT_OF_MEMORY, "no memory for results");
    emlx_status status = emlx_tensor_read(tensor, 0, data, size, err);
    if (status == EMLX_OK)
        *out = data;
    else
        free(data);
    return status;
}

static double largest_of(emlx_tensor *tensor) {
    void *data;
    if (copy_elements(tensor, &data, NULL) != EMLX_OK) return 0;
    double largest = compare_largest(emlx_tensor_type(tensor), data,
                                     emlx_shape_count(emlx_tensor_shape(tensor)));
    free(data);
    return largest;
}

static double scale_of(const replay *r, size_t index) {
    double largest = largest_of(r->expected[index]);
    for (size_t i = 0; i < r->input_count; i++) {
        double other = largest_of(r->inputs[i]);
        if (other > largest) largest = other;
    }
    return largest;
}

static bool same_signature(const emlx_tensor *a, const emlx_tensor *b) {
    const emlx_shape *x = emlx_tensor_shape(a), *y = emlx_tensor_shape(b);
    return emlx_tensor_type(a) == emlx_tensor_type(b) && x->rank == y->rank &&
           memcmp(x->dims, y->dims, (size_t)x->rank * sizeof *x->dims) == 0;
}

static void compare_elements(replay *r, size_t index, const void *actual, const void *expected,
                             case_result *out) {
    const emlx_tensor *t = r->results[index];
    if (!same_signature(t, r->expected[index])) {
        report_signature(out, r, index);
        return;
    }
    int64_t at = compare_first_difference(r->c->tolerance, emlx_tensor_type(t), actual, expected,
                                          emlx_shape_count(emlx_tensor_shape(t)),
                                          scale_of(r, index), &out->counted);
    if (at >= 0) report_element(out, r, index, at);
}

static emlx_status compare_result(replay *r, size_t index, case_result *out, emlx_error *err) {
    void *actual = NULL, *expected = NULL;
    emlx_status status = copy_elements(r->results[index], &actual, err);
    if (status == EMLX_OK) status = copy_elements(r->expected[index], &expected, err);
    if (status == EMLX_OK) {
        out->digest = digest(out->digest, actual, emlx_tensor_bytes(r->results[index]));
        if (out->report == NULL) compare_elements(r, index, actual, expected, out);
    }
    free(actual);
    free(expected);
    return status;
}

static emlx_status replay_case(replay *r, case_result *out, emlx_error *err) {
    emlx_error failure = {0};
    emlx_status status = load_all(r, err);
    if (status != EMLX_OK || r->results == NULL || r->expected == NULL) return status;
    double start = now();
    emlx_status outcome = run_case(r, &failure);
    out->seconds = now() - start;
    out->digest = digest(0xcbf29ce484222325, &outcome, sizeof outcome);
    if (outcome != r->c->fails) report_status(out, r, outcome, &failure);
    for (size_t i = 0; outcome == EMLX_OK && r->c->fails == EMLX_OK && i < r->result_count; i++)
        if ((status = compare_result(r, i, out, err)) != EMLX_OK) return status;
    return EMLX_OK;
}

emlx_status case_run(const recorded_case *c, emlx_device *device, case_result *out,
                     emlx_error *err) {
    replay r = {.c = c, .device = device};
    *out = (case_result){0};
    emlx_status status = replay_case(&r, out, err);
    free_tensors(r.inputs, r.input_count);
    free_tensors(r.results, r.result_count);
    free_tensors(r.expected, r.result_count);
    return status;
}
