// SPDX-License-Identifier: Apache-2.0
// info.c - `emlx info`: what this installation can do, or what a file holds: a
// program, or arrays.
#include <getopt.h>
#include <inttypes.h>
#include <string.h>

#include "cli.h"

static int describe_device(const char *name) {
    emlx_error err;
    emlx_device *device;
    if (emlx_device_open(name, &device, &err) != EMLX_OK) return cli_failed(&err);
    char text[512];
    emlx_device_describe(device, text, sizeof text);
    printf("device %s: %s\n", name, text);
    emlx_device_release(device);
    return CLI_OK;
}

static int describe_installation(void) {
    size_t ops = 0;
    while (emlx_op_at(ops) != NULL) ops++;
    printf("emlx %s\n", emlx_version());
    printf("ops: %zu\n", ops);
    const char *name;
    int code = CLI_OK;
    for (size_t i = 0; (name = emlx_device_available(i)) != NULL && code == CLI_OK; i++)
        code = describe_device(name);
    char why[400];
    for (size_t i = 0; (name = emlx_engine_missing(i, why, sizeof why)) != NULL; i++)
        printf("no device %s: %s\n", name, why);
    return code;
}

static void print_port(const char *what, size_t index, const emlx_port *port) {
    printf("%s %zu %s: ", what, index, port->name);
    cli_print_signature(stdout, port->type, &port->shape);
    putchar('\n');
}

static void describe_program(const emlx_program *program) {
    for (size_t i = 0; i < emlx_program_input_count(program); i++)
        print_port("input", i, emlx_program_input(program, i));
    for (size_t i = 0; i < emlx_program_output_count(program); i++)
        print_port("output", i, emlx_program_output(program, i));
    emlx_memory memory;
    emlx_memory_info(&memory);
    printf("ops: %zu\n", emlx_program_op_count(program));
    printf("kernels: %zu\n", emlx_program_kernel_count(program));
    printf("bytes of data: %" PRIu64 "\n", memory.active);
}

// As much of a text from a file as fits on a line, and no half of a character.
static void print_text(const char *text, size_t most) {
    char shown[256];
    size_t length = strlen(text);
    if (most >= sizeof shown) most = sizeof shown - 1;
    if (length > most)
        for (length = most; length > 0 && ((uint8_t)text[length] & 0xc0) == 0x80;) length--;
    snprintf(shown, sizeof shown, "%.*s", (int)length, text);
    cli_make_plain(shown);
    fputs(shown, stdout);
}

static void print_entry(const emlx_entry *e) {
    fputs("array ", stdout);
    print_text(e->name, SIZE_MAX);
    fputs(": ", stdout);
    // What has a type of ours is called so, other elements what the file calls them.
    bool plain = e->block_values == 1 && e->type != EMLX_TYPE_COUNT;
    print_text(plain ? emlx_type_name(e->type) : e->format, SIZE_MAX);
    for (int32_t i = 0; i < e->shape.rank; i++)
        printf("%s%" PRId64, i == 0 ? "[" : ", ", e->shape.dims[i]);
    puts(e->shape.rank > 0 ? "]" : "");
}

static void describe_archive(const emlx_archive *archive) {
    const emlx_entry *e;
    const char *key;
    uint64_t bytes = 0;
    size_t count = 0;
    for (; (e = emlx_archive_entry(archive, count)) != NULL; count++) bytes += e->bytes;
    printf("%s file\narrays: %zu\nbytes of data: %" PRIu64 "\n", emlx_archive_format(archive),
           count, bytes);
    for (size_t i = 0; (key = emlx_archive_key(archive, i)) != NULL; i++) {
        fputs("text ", stdout);
        print_text(key, SIZE_MAX);
        fputs(": ", stdout);
        print_text(emlx_archive_text(archive, key), 80);
        putchar('\n');
    }
    for (size_t i = 0; (e = emlx_archive_entry(archive, i)) != NULL; i++) print_entry(e);
}

static int describe_program_file(const char *path) {
    emlx_error err;
    emlx_device *device;
    emlx_program *program;
    if (emlx_device_open("cpu", &device, &err) != EMLX_OK) return cli_failed(&err);
    int code = CLI_OK;
    if (emlx_program_load(path, device, &program, &err) == EMLX_OK) {
        describe_program(program);
        emlx_program_release(program);
    } else {
        code = cli_bad_input(&err);
    }
    emlx_device_release(device);
    return code;
}

// The header alone says whether it holds a program.
static int describe_file(const char *path) {
    emlx_error err;
    emlx_archive *archive;
    if (emlx_archive_open(path, &archive, &err) != EMLX_OK) return cli_bad_input(&err);
    bool program = emlx_archive_text(archive, "emlx") != NULL;
    if (!program) describe_archive(archive);
    emlx_archive_release(archive);
    return program ? describe_program_file(path) : CLI_OK;
}

int cli_info(int argc, char **argv) {
    static const struct option options[] = {{0}};
    opterr = 0;
    int c = getopt_long(argc, argv, ":", options, NULL);
    if (c != -1) return cli_bad_option(c, argv);
    if (argc - optind > 1) return cli_usage("one file expected, got %d", argc - optind);
    return optind == argc ? describe_installation() : describe_file(argv[optind]);
}
