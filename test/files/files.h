// SPDX-License-Identifier: Apache-2.0
// files.h - the file that a test of files works on, removed at its end, and those beside it.
#ifndef EMLX_TEST_FILES_H
#define EMLX_TEST_FILES_H

#include "test.h"

// Set while a group made by RUN_WITH_FILE runs.
extern char test_path[64];
int make_test_path(void **state);
int remove_test_path(void **state);
#define RUN_WITH_FILE(name, tests)                                                                 \
    cmocka_run_group_tests_name(name, tests, make_test_path, remove_test_path)

void write_bytes(const void *data, size_t size);
// Returns how many there were, at most `room`.
size_t read_bytes(void *data, size_t room);

// A safetensors file whose path has this suffix, of one array of `count` bytes.
void write_shard(const char *suffix, const char *name, size_t count);
void remove_shard(const char *suffix);
// An index of "x" in one of them and "y" in another.
void write_index(const char *first, const char *second);

// Loads that file as a program and lets go of it.
emlx_status load_program(emlx_error *err);

#endif
