// SPDX-License-Identifier: Apache-2.0
// command.h - running the command line in a folder of the test's own, and looking at what it
// prints.
#ifndef EMLX_TEST_COMMAND_H
#define EMLX_TEST_COMMAND_H

#include "test.h"

// Set while a group made with these runs.
extern char test_folder[64];
extern const char *test_cli;
int make_folder(void **state);
int remove_folder(void **state);
// The path of a file there, until the next call.
const char *in_folder(const char *name);

// What the last command printed, on both streams.
extern char printed[65536];

// Runs `emlx ARGUMENTS`, or another program, in the test's folder, checks its exit status, keeps
// what it prints.
void emlx(int expected, const char *arguments);
void run_command(int expected, const char *program, const char *arguments);
void assert_prints(const char *text);
// One line, of this text.
void assert_line(const char *text);

#endif
