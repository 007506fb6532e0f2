// SPDX-License-Identifier: Apache-2.0
// cli.h - what the subcommands of `emlx` share. They know the public interface only.
#ifndef EMLX_CLI_H
#define EMLX_CLI_H

#include <stdio.h>

#include "emlx.h"

// Exit codes.
enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

// Each gets its own name as argv[0] and returns an exit code.
int cli_run(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_ops(int argc, char **argv);
int cli_conformance(int argc, char **argv);

// What messages begin with, kept.
void cli_name(const char *name);

// Print one line on stderr and return the exit code for it.
int cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_broken(const char *what);
int cli_failed(const emlx_error *err);
// As above for an error that wrong input causes, unless it is the machine that failed.
int cli_bad_input(const emlx_error *err);

// Puts a '?' in place of line breaks and other control characters, as users and files may have
// them.
void cli_make_plain(char *text);

// After getopt_long has returned `c`, '?' or ':': says which option was wrong.
int cli_bad_option(int c, char **argv);

// "f32[2, 3]"
void cli_print_signature(FILE *to, emlx_type type, const emlx_shape *shape);
// The elements, a few of each axis if there are many.
emlx_status cli_print_tensor(FILE *to, emlx_tensor *tensor, emlx_error *err);

#endif
