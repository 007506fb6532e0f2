// SPDX-License-Identifier: Apache-2.0
// messages.c - what subcommands say on stderr, in front of which their name stands.
#include <getopt.h>
#include <stdarg.h>
#include <string.h>

#include "cli.h"

static const char *command = "emlx"; // the subcommand that is running

void cli_name(const char *name) { command = name; }

int cli_broken(const char *what) {
    fprintf(stderr, "%s: %s\n", command, what);
    return CLI_FAILED;
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

int cli_failed(const emlx_error *err) { return cli_broken(err->message); }

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
