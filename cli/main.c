// SPDX-License-Identifier: Apache-2.0
// main.c - the command line: a table of subcommands, help and errors.
#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
    const char *help;
} commands[] = {
    {"run", cli_run, "FILE [--input NAME=x.npy]... [--output NAME=y.npy]... [--device NAME]",
     "run a program file"},
    {"info", cli_info, "[FILE]", "describe this installation, or a program file"},
    {"ops", cli_ops, "", "list the ops: name, fewest and most operands, attributes"},
    {"conformance", cli_conformance,
     "DIR [--threads N] [--only TEXT] [--coverage] [--slowest N] [--digest]",
     "replay recorded cases"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static const char *command = "emlx"; // the subcommand that is running, for messages

static void print_help(void) {
    printf("usage: emlx COMMAND [ARGUMENTS]\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("  emlx %s %s\n      %s\n", commands[i].name, commands[i].usage, commands[i].help);
    printf("  emlx --help, --version\n\n"
           "An input or output is named as the program names it, or by its position from 0.\n"
           "Without --output the results are printed. Exit status: 0 when all went well, 1 when\n"
           "running failed, 2 when the command line or a file given is wrong.\n");
}

int cli_usage(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "%s: ", command);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    return CLI_USAGE;
}

int cli_failed(const emlx_error *err) {
    fprintf(stderr, "%s: %s\n", command, err->message);
    return CLI_FAILED;
}

int cli_bad_input(const emlx_error *err) {
    bool machine = err->code == EMLX_OUT_OF_MEMORY || err->code == EMLX_INTERNAL;
    cli_failed(err);
    return machine ? CLI_FAILED : CLI_USAGE;
}

int cli_bad_option(char **argv) {
    // `optopt` is the letter of a known option that lacks its argument.
    if (optopt != 0) return cli_usage("option %s needs an argument", argv[optind - 1]);
    return cli_usage("unknown option %s (see emlx --help)", argv[optind - 1]);
}

static int finish(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "%s: cannot write the output\n", command);
    return CLI_FAILED;
}

int main(int argc, char **argv) {
    if (argc < 2) return cli_usage("no command given (see emlx --help)");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help();
        return finish(CLI_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("emlx %s\n", emlx_version());
        return finish(CLI_OK);
    }
    for (int i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        static char name[32];
        snprintf(name, sizeof name, "emlx %s", commands[i].name);
        command = name;
        if (argc > 2 && strcmp(argv[2], "--help") == 0) {
            printf("usage: %s %s\n", name, commands[i].usage);
            return finish(CLI_OK);
        }
        return finish(commands[i].run(argc - 1, argv + 1));
    }
    return cli_usage("unknown command \"%s\" (see emlx --help)", argv[1]);
}
