// SPDX-License-Identifier: Apache-2.0
// main.c - the command line: a table of subcommands, and help.
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *usage;
    const char *help;
} commands[] = {
    {"run", cli_run,
     "FILE [--input NAME=x.npy]... [--output NAME=y.npy]... [--device NAME] "
     "[--repeat COUNT [--until NAME]]",
     "run a program file"},
    {"info", cli_info, "[FILE]", "describe this installation, or a file of a program or of arrays"},
    {"ops", cli_ops, "", "list the ops: name, fewest and most operands, attributes"},
    {"conformance", cli_conformance,
     "DIR [--device NAME] [--threads N] [--only TEXT] [--coverage] [--slowest N] [--digest] "
     "[--strict]",
     "replay recorded cases"},
};

enum { COMMAND_COUNT = sizeof commands / sizeof *commands };

static void print_help(void) {
    printf("usage: emlx COMMAND [ARGUMENTS]\n\n");
    for (int i = 0; i < COMMAND_COUNT; i++)
        printf("  emlx %s %s\n      %s\n", commands[i].name, commands[i].usage, commands[i].help);
    printf(
        "  emlx --help, --version\n\n"
        "An input or output is named as the program names it, or by its position from 0.\n"
        "Without --output the results are printed. With --repeat the program is run up to COUNT\n"
        "times: outputs become the inputs of the same name, of which those not given begin as\n"
        "zeros, and the others are printed each time; --until ends it once that output is not\n"
        "zero. Exit status: 0 when all went well, 1 when running failed, 2 when the command line\n"
        "or a file given is wrong.\n");
}

static int finish(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    return cli_broken("cannot write the output");
}

static bool is_help(const char *text) {
    return strcmp(text, "--help") == 0 || strcmp(text, "-h") == 0;
}

// Takes the places of standard streams that are closed, so that no file gets them and the messages
// with them. Writing there fails as before.
static void fill_standard_streams(void) {
    int fd;
    do fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

int main(int argc, char **argv) {
    fill_standard_streams();
    if (argc < 2) return cli_usage("no command given (see emlx --help)");
    if (is_help(argv[1])) {
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
        cli_name(name);
        if (argc > 2 && is_help(argv[2])) {
            printf("usage: %s %s\n", name, commands[i].usage);
            return finish(CLI_OK);
        }
        return finish(commands[i].run(argc - 1, argv + 1));
    }
    return cli_usage("unknown command \"%s\" (see emlx --help)", argv[1]);
}
