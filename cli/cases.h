// SPDX-License-Identifier: Apache-2.0
// cases.h - recorded cases: reading them from a folder, and running one.
// docs/conformance-format.md describes the files.
#ifndef EMLX_CLI_CASES_H
#define EMLX_CLI_CASES_H

#include <jansson.h>
#include <stdio.h>

#include "compare.h"
#include "emlx.h"
#include "error.h"

// A file of cases. With a program, the cases are runs of that.
typedef struct case_file {
    char *name;
    emlx_archive *archive;
    emlx_program *program;
    json_t *document;
} case_file;

typedef struct recorded_case {
    const case_file *file;
    size_t index; // in its file
    const json_t *json;
    const emlx_op *op;     // NULL for a program
    emlx_type type;        // of an op's result
    const char *title;     // the op's name, or the file's
    const emlx_op *covers; // the op that the case is counted under: its own, or that which a
                           // program names, or NULL
    emlx_type coverage;    // the type that the case is counted under
    const tolerance *tolerance;
    emlx_status fails; // the error that is expected, or EMLX_OK
} recorded_case;

typedef struct case_set {
    emlx_device *device;
    const char *tolerances; // the device whose they are; "": those of every engine
    case_file *files;
    size_t file_count;
    recorded_case *items;
    size_t count;
} case_set;

// What came out of a case. The report says what is wrong, in lines; NULL when all is well.
typedef struct case_result {
    char *report;
    double seconds;
    uint64_t digest; // of the results' bytes, or the error's code
    last_places counted;
} case_result;

// Reads the folder's MANIFEST and all files in it, those whose name contains `only`. The form of
// everything is checked here, so that running a case can fail only by its result. `strict`: no
// tolerances of the device's engine.
emlx_status cases_load(const char *folder, const char *only, emlx_device *device, bool strict,
                       case_set *out, emlx_error *err);
void cases_clear(case_set *set);

// May be called from several threads. Fails when an array of the file is not as described.
emlx_status case_run(const recorded_case *c, emlx_device *device, case_result *out,
                     emlx_error *err);

#endif
