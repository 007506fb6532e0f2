// SPDX-License-Identifier: Apache-2.0
// main.c - the command line: a table of subcommands, help and errors.
#include <fcntl.h>
#include <getopt.h>
#include <stdarg.h>
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

static const char *command = "emlx"; // the subcommand that is running, for messages

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

void cli_make_plain(char *text) {
    for (char *c = text; *c != '\0'; c++) {
        uint8_t byte = (uint8_t)*c, next = (uint8_t)c[1];
        // Two bytes are a control character as well.
        bool wide = byte == 0xc2 && next >= 0x80 && next < 0xa0;
        if (wide) *c++ = '?';
        if (wide || byte < 0x20 || byte == 0x7f) *c = '?';
    }
}

int cli_usage(const char *format, ...) {
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    // What the user typed may have line breaks; a message has one line.
    cli_make_plain(text);
    fprintf(stderr, "%s: %s\n", command, text);
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

static bool has_letter(const char *text, int letter) {
    return text != NULL && text[0] == '-' && text[1] != '-' && strchr(text, letter) != NULL;
}

int cli_bad_option(int c, char **argv) {
    const char *last = argv[optind - 1];
    if (c == ':') return cli_usage("option %s needs an argument", last);
    // A letter with others behind it leaves `optind` at its argument.
    if (optopt != 0 && (has_letter(last, optopt) || has_letter(argv[optind], optopt)))
        return cli_usage("unknown option -%c (see emlx --help)", optopt);
    return cli_usage("unknown option %s (see emlx --help)", last);
}

static int finish(int code) {
    if (fflush(stdout) == 0 && !ferror(stdout)) return code;
    fprintf(stderr, "%s: cannot write the output\n", command);
    return CLI_FAILED;
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
        command = name;
        if (argc > 2 && is_help(argv[2])) {
            printf("usage: %s %s\n", name, commands[i].usage);
            return finish(CLI_OK);
        }
        return finish(commands[i].run(argc - 1, argv + 1));
    }
    return cli_usage("unknown command \"%s\" (see emlx --help)", argv[1]);
}
