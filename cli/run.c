// SPDX-License-Identifier: Apache-2.0
// run.c - `emlx run`: a program file, its inputs from .npy files, its outputs to .npy files or to
// the terminal.
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

// A NAME=PATH argument.
typedef struct binding {
    const char *name;
    size_t name_length;
    const char *path;
} binding;

typedef struct bindings {
    binding *items;
    size_t count;
} bindings;

// What the command line asks for.
typedef struct request {
    const char *file;
    const char *device;
    const char *until; // an output, or NULL
    long repeat;       // runs at most, 0 for one without state
    bindings inputs, outputs;
} request;

// What has been opened so far.
typedef struct session {
    emlx_device *device;
    emlx_program *program;
    emlx_tensor **inputs, **outputs; // one for each of the program's, or NULL
    bool *given;                     // which inputs were outputs of the turn before
} session;

// Arguments --------------------------------------------------------------------------------------

static bool parse_binding(const char *text, bindings *to) {
    const char *equals = strchr(text, '=');
    if (equals == NULL || equals == text || equals[1] == '\0') return false;
    to->items[to->count++] = (binding){text, (size_t)(equals - text), equals + 1};
    return true;
}

static int parse_count(const char *text, long *count) {
    char *end;
    errno = 0;
    *count = strtol(text, &end, 10);
    if (errno == 0 && *end == '\0' && *count > 0) return CLI_OK;
    return cli_usage("--repeat takes a count from 1 on, got \"%s\"", text);
}

static int parse_options(int argc, char **argv, request *r) {
    static const struct option options[] = {
        {"input", required_argument, NULL, 'i'},  {"output", required_argument, NULL, 'o'},
        {"device", required_argument, NULL, 'd'}, {"repeat", required_argument, NULL, 'r'},
        {"until", required_argument, NULL, 'u'},  {0},
    };
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, ":i:o:d:", options, NULL)) != -1;) {
        if (c == 'd') {
            r->device = optarg;
        } else if (c == 'u') {
            r->until = optarg;
        } else if (c == 'r') {
            if (parse_count(optarg, &r->repeat) != CLI_OK) return CLI_USAGE;
        } else if (c == 'i' || c == 'o') {
            if (!parse_binding(optarg, c == 'i' ? &r->inputs : &r->outputs))
                return cli_usage("\"%s\" is not of the form NAME=FILE.npy", optarg);
        } else {
            return cli_bad_option(c, argv);
        }
    }
    if (argc - optind != 1) return cli_usage("one program file expected, got %d", argc - optind);
    if (r->until != NULL && r->repeat == 0) return cli_usage("--until needs --repeat COUNT");
    r->file = argv[optind];
    return CLI_OK;
}

// Ports ------------------------------------------------------------------------------------------

typedef const emlx_port *(*port_fn)(const emlx_program *program, size_t index);

static bool has_text(const binding *b, const char *text) {
    return strlen(text) == b->name_length && strncmp(text, b->name, b->name_length) == 0;
}

static binding name_only(const char *name) { return (binding){name, strlen(name), NULL}; }

// The port of that name; SIZE_MAX when there is none.
static size_t port_named(const emlx_program *program, port_fn port, const binding *b) {
    const emlx_port *at;
    for (size_t i = 0; (at = port(program, i)) != NULL; i++)
        if (has_text(b, at->name)) return i;
    return SIZE_MAX;
}

// The port that a name or position means; SIZE_MAX when there is none.
static size_t find_port(const emlx_program *program, port_fn port, const binding *b) {
    char position[24];
    size_t named = port_named(program, port, b);
    if (named != SIZE_MAX) return named;
    for (size_t i = 0; port(program, i) != NULL; i++) {
        snprintf(position, sizeof position, "%zu", i);
        if (has_text(b, position)) return i;
    }
    return SIZE_MAX;
}

static int no_port(const emlx_program *program, port_fn port, const char *what, const binding *b) {
    char names[512] = "";
    size_t used = 0;
    const emlx_port *at;
    for (size_t i = 0; (at = port(program, i)) != NULL && used < sizeof names; i++)
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "",
                                 at->name);
    return cli_usage("the program has no %s \"%.*s\"; it has: %s", what, (int)b->name_length,
                     b->name, used > 0 ? names : "none");
}

// Inputs -----------------------------------------------------------------------------------------

static bool same_shape(const emlx_shape *a, const emlx_shape *b) {
    return a->rank == b->rank && memcmp(a->dims, b->dims, (size_t)a->rank * sizeof *a->dims) == 0;
}

static int check_input(const emlx_port *port, const char *path, const emlx_tensor *given) {
    if (emlx_tensor_type(given) == port->type && same_shape(emlx_tensor_shape(given), &port->shape))
        return CLI_OK;
    char *text = NULL;
    size_t size;
    FILE *to = open_memstream(&text, &size);
    if (to == NULL) return cli_usage("input %s does not fit", port->name);
    cli_print_signature(to, emlx_tensor_type(given), emlx_tensor_shape(given));
    fputs(", but the program expects ", to);
    cli_print_signature(to, port->type, &port->shape);
    fclose(to);
    int code = cli_usage("input %s: %s holds %s", port->name, path, text);
    free(text);
    return code;
}

static int load_input(session *s, const binding *b) {
    size_t index = find_port(s->program, emlx_program_input, b);
    if (index == SIZE_MAX) return no_port(s->program, emlx_program_input, "input", b);
    if (s->inputs[index] != NULL)
        return cli_usage("input \"%.*s\" is given twice", (int)b->name_length, b->name);
    emlx_error err;
    if (emlx_npy_load(b->path, s->device, &s->inputs[index], &err) != EMLX_OK) {
        s->inputs[index] = NULL;
        return cli_bad_input(&err);
    }
    return check_input(emlx_program_input(s->program, index), b->path, s->inputs[index]);
}

// The input that an output becomes when the program is repeated, or SIZE_MAX.
static size_t next_input(const emlx_program *program, size_t output) {
    const binding name = name_only(emlx_program_output(program, output)->name);
    return port_named(program, emlx_program_input, &name);
}

// State that is not given begins as zeros: inputs that are outputs as well.
static int begin_state(session *s, size_t index) {
    emlx_error err;
    const emlx_port *port = emlx_program_input(s->program, index);
    const binding name = name_only(port->name);
    if (s->inputs[index] != NULL || port_named(s->program, emlx_program_output, &name) == SIZE_MAX)
        return CLI_OK;
    size_t size = (size_t)emlx_shape_count(&port->shape) * emlx_type_size(port->type);
    void *data = calloc(size + 1, 1);
    if (data == NULL)
        return cli_failed(&(emlx_error){.code = EMLX_OUT_OF_MEMORY, .message = "out of memory"});
    emlx_status status = emlx_tensor_from_data(s->device, port->type, &port->shape, data, size,
                                               &s->inputs[index], &err);
    free(data);
    return status == EMLX_OK ? CLI_OK : cli_failed(&err);
}

static int load_inputs(session *s, const request *r) {
    int code = CLI_OK;
    for (size_t i = 0; i < r->inputs.count && code == CLI_OK; i++)
        code = load_input(s, &r->inputs.items[i]);
    for (size_t i = 0; r->repeat > 0 && i < emlx_program_input_count(s->program); i++)
        if (code == CLI_OK) code = begin_state(s, i);
    for (size_t i = 0; i < emlx_program_input_count(s->program) && code == CLI_OK; i++)
        if (s->inputs[i] == NULL)
            code = cli_usage("input %s is missing: give --input %s=FILE.npy",
                             emlx_program_input(s->program, i)->name,
                             emlx_program_input(s->program, i)->name);
    return code;
}

// Outputs ----------------------------------------------------------------------------------------

// Whether a file can be put there, as far as can be told before there is one: in place of another,
// or into it.
static int check_place(const char *path) {
    char folder[4096];
    const char *slash = strrchr(path, '/');
    struct stat info;
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1,
             slash == NULL ? "." : path);
    bool there = stat(path, &info) == 0;
    if (there && S_ISDIR(info.st_mode)) return cli_usage("%s: cannot write: a folder", path);
    if (there && access(path, W_OK) == 0) return CLI_OK;
    if ((!there || S_ISREG(info.st_mode)) && access(folder, W_OK) == 0) return CLI_OK;
    return cli_usage("%s: cannot write: %s", path, strerror(errno));
}

static int check_output_places(const session *s, const request *r) {
    int code = CLI_OK;
    for (size_t i = 0; i < r->outputs.count && code == CLI_OK; i++) {
        const binding *b = &r->outputs.items[i];
        if (find_port(s->program, emlx_program_output, b) == SIZE_MAX)
            return no_port(s->program, emlx_program_output, "output", b);
        for (size_t j = 0; j < i; j++)
            if (strcmp(r->outputs.items[j].path, b->path) == 0)
                return cli_usage("%s is given for two outputs", b->path);
        code = check_place(b->path);
    }
    return code;
}

static int print_output(const session *s, size_t index) {
    emlx_error err;
    const emlx_port *port = emlx_program_output(s->program, index);
    printf("%s: ", port->name);
    cli_print_signature(stdout, port->type, &port->shape);
    putchar('\n');
    return cli_print_tensor(stdout, s->outputs[index], &err) == EMLX_OK ? CLI_OK : cli_failed(&err);
}

// Of a program that is repeated its state is not printed.
static int print_outputs(const session *s, const request *r) {
    int code = CLI_OK;
    for (size_t i = 0; i < emlx_program_output_count(s->program) && code == CLI_OK; i++)
        if (r->repeat == 0 || next_input(s->program, i) == SIZE_MAX) code = print_output(s, i);
    fflush(stdout);
    return code;
}

static int save_outputs(const session *s, const request *r) {
    emlx_error err;
    for (size_t i = 0; i < r->outputs.count; i++) {
        size_t index = find_port(s->program, emlx_program_output, &r->outputs.items[i]);
        if (emlx_npy_save(r->outputs.items[i].path, s->outputs[index], &err) != EMLX_OK)
            return cli_failed(&err);
    }
    return CLI_OK;
}

// The whole --------------------------------------------------------------------------------------

static int run_once(session *s, const request *r) {
    emlx_error err;
    size_t count = emlx_program_input_count(s->program);
    emlx_status status = emlx_program_run_given(s->program, s->inputs, s->given, count, s->outputs,
                                                emlx_program_output_count(s->program), &err);
    for (size_t i = 0; i < count; i++)
        if (s->given[i]) s->inputs[i] = NULL;
    if (status != EMLX_OK) return cli_failed(&err);
    return r->outputs.count > 0 ? CLI_OK : print_outputs(s, r);
}

// Whether the output that is waited for has a byte that is not zero.
static int is_over(const session *s, size_t until, bool *ended) {
    emlx_error err;
    if (until == SIZE_MAX) return CLI_OK;
    uint8_t byte;
    for (size_t i = 0; i < emlx_tensor_bytes(s->outputs[until]) && !*ended; i++) {
        if (emlx_tensor_read(s->outputs[until], i, &byte, 1, &err) != EMLX_OK)
            return cli_failed(&err);
        *ended = byte != 0;
    }
    return CLI_OK;
}

// Outputs become the inputs of the same name.
static void hand_on(session *s) {
    for (size_t i = 0; i < emlx_program_output_count(s->program); i++) {
        size_t to = next_input(s->program, i);
        emlx_tensor *old = s->outputs[i];
        if (to != SIZE_MAX) {
            old = s->inputs[to];
            s->inputs[to] = s->outputs[i];
            s->given[to] = true;
        }
        emlx_tensor_release(old);
        s->outputs[i] = NULL;
    }
}

static int run_program(session *s, const request *r) {
    bool ended = false;
    size_t until = SIZE_MAX;
    if (r->until != NULL) {
        const binding name = name_only(r->until);
        until = find_port(s->program, emlx_program_output, &name);
        if (until == SIZE_MAX) return no_port(s->program, emlx_program_output, "output", &name);
    }
    int code = CLI_OK;
    const long turns = r->repeat > 0 ? r->repeat : 1;
    for (long turn = 0; turn < turns && code == CLI_OK && !ended; turn++) {
        if (turn > 0) hand_on(s);
        code = run_once(s, r);
        if (code == CLI_OK) code = is_over(s, until, &ended);
    }
    return code == CLI_OK ? save_outputs(s, r) : code;
}

static int with_program(session *s, const request *r) {
    s->inputs = calloc(emlx_program_input_count(s->program) + 1, sizeof *s->inputs);
    s->outputs = calloc(emlx_program_output_count(s->program) + 1, sizeof *s->outputs);
    s->given = calloc(emlx_program_input_count(s->program) + 1, sizeof *s->given);
    if (s->inputs == NULL || s->outputs == NULL || s->given == NULL)
        return cli_failed(&(emlx_error){.code = EMLX_OUT_OF_MEMORY, .message = "out of memory"});
    int code = check_output_places(s, r);
    if (code == CLI_OK) code = load_inputs(s, r);
    if (code == CLI_OK) code = run_program(s, r);
    for (size_t i = 0; i < emlx_program_input_count(s->program); i++)
        emlx_tensor_release(s->inputs[i]);
    for (size_t i = 0; i < emlx_program_output_count(s->program); i++)
        emlx_tensor_release(s->outputs[i]);
    return code;
}

static int execute(const request *r) {
    emlx_error err;
    session s = {0};
    if (emlx_device_open(r->device, &s.device, &err) != EMLX_OK) return cli_bad_input(&err);
    int code;
    if (emlx_program_load(r->file, s.device, &s.program, &err) == EMLX_OK) {
        code = with_program(&s, r);
        emlx_program_release(s.program);
    } else {
        code = cli_bad_input(&err);
    }
    free(s.inputs);
    free(s.outputs);
    free(s.given);
    emlx_device_release(s.device);
    return code;
}

int cli_run(int argc, char **argv) {
    request r = {.device = "cpu"};
    r.inputs.items = calloc((size_t)argc, sizeof(binding));
    r.outputs.items = calloc((size_t)argc, sizeof(binding));
    int code = CLI_FAILED;
    if (r.inputs.items == NULL || r.outputs.items == NULL)
        cli_failed(&(emlx_error){.code = EMLX_OUT_OF_MEMORY, .message = "out of memory"});
    else
        code = parse_options(argc, argv, &r);
    if (code == CLI_OK) code = execute(&r);
    free(r.inputs.items);
    free(r.outputs.items);
    return code;
}
