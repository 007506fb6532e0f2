// SPDX-License-Identifier: Apache-2.0
// generate.c - tokens after a prompt, without Elixir: a program that
// EMLXAxon.TextGeneration.export/3 writes, its weights mapped from the file. One with `chunk: n`
// gives its tokens as they come.
//
//     generate PROGRAM.safetensors PROMPT.npy
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emlx.h"

static emlx_error err;

static void must(emlx_status status) {
    if (status == EMLX_OK) return;
    fprintf(stderr, "generate: %s\n", err.message);
    exit(1);
}

// One input or output of each, the program's own and what is kept from turn to turn.
typedef struct ports {
    size_t inputs, outputs;
    emlx_tensor **in, **made;
    bool *given;  // inputs whose memory a turn may write its outputs to
    size_t *next; // of each output, the input that it becomes, or `inputs`
} ports;

static size_t find_input(const emlx_program *program, const char *name) {
    size_t i = 0;
    for (const emlx_port *at; (at = emlx_program_input(program, i)) != NULL; i++)
        if (strcmp(at->name, name) == 0) break;
    return i;
}

static size_t find_output(const emlx_program *program, const char *name) {
    size_t i = 0;
    for (const emlx_port *at; (at = emlx_program_output(program, i)) != NULL; i++)
        if (strcmp(at->name, name) == 0) break;
    return i;
}

// The state of the first turn.
static emlx_tensor *zeros(emlx_device *device, const emlx_port *port) {
    emlx_tensor *t;
    size_t size = (size_t)emlx_shape_count(&port->shape) * emlx_type_size(port->type);
    void *data = calloc(size + 1, 1);
    if (data == NULL) exit(1);
    must(emlx_tensor_from_data(device, port->type, &port->shape, data, size, &t, &err));
    free(data);
    return t;
}

static ports open_ports(const emlx_program *program, emlx_device *device, emlx_tensor *prompt) {
    ports p = {.inputs = emlx_program_input_count(program),
               .outputs = emlx_program_output_count(program)};
    p.in = calloc(p.inputs + 1, sizeof *p.in);
    p.given = calloc(p.inputs + 1, sizeof *p.given);
    p.made = calloc(p.outputs + 1, sizeof *p.made);
    p.next = calloc(p.outputs + 1, sizeof *p.next);
    if (p.in == NULL || p.given == NULL || p.made == NULL || p.next == NULL) exit(1);
    size_t tokens = find_input(program, "tokens");
    for (size_t i = 0; i < p.inputs; i++)
        p.in[i] = i == tokens ? emlx_tensor_retain(prompt)
                              : zeros(device, emlx_program_input(program, i));
    for (size_t i = 0; i < p.outputs; i++) {
        p.next[i] = find_input(program, emlx_program_output(program, i)->name);
        if (p.next[i] < p.inputs) p.given[p.next[i]] = true;
    }
    return p;
}

static void close_ports(ports *p) {
    for (size_t i = 0; i < p->inputs; i++) emlx_tensor_release(p->in[i]);
    free(p->in);
    free(p->given);
    free(p->made);
    free(p->next);
}

static void print_tokens(emlx_tensor *drawn) {
    const void *data;
    must(emlx_tensor_data(drawn, &data, &err));
    int64_t count = emlx_shape_count(emlx_tensor_shape(drawn));
    for (int64_t i = 0; i < count && ((const int32_t *)data)[i] >= 0; i++)
        printf("%d ", ((const int32_t *)data)[i]);
    fflush(stdout);
}

// Whether there is another turn.
static bool turn(emlx_program *program, ports *p, size_t drawn, size_t done) {
    uint8_t ended = 1;
    must(emlx_program_run_given(program, p->in, p->given, p->inputs, p->made, p->outputs, &err));
    print_tokens(p->made[drawn]);
    if (done < p->outputs) must(emlx_tensor_read(p->made[done], 0, &ended, 1, &err));
    for (size_t i = 0; i < p->outputs; i++) {
        size_t to = p->next[i];
        if (to < p->inputs) {
            p->in[to] = p->made[i];
        } else {
            emlx_tensor_release(p->made[i]);
        }
    }
    return ended == 0;
}

int main(int argc, char **argv) {
    emlx_device *device;
    emlx_program *program;
    emlx_tensor *prompt;
    if (argc != 3) {
        fprintf(stderr, "usage: generate PROGRAM.safetensors PROMPT.npy\n");
        return 2;
    }
    must(emlx_device_open("cpu", &device, &err));
    must(emlx_program_load(argv[1], device, &program, &err));
    must(emlx_npy_load(argv[2], device, &prompt, &err));
    // The one output of a whole generation is its tokens.
    size_t drawn = find_output(program, "drawn"), done = find_output(program, "state.done");
    if (drawn == emlx_program_output_count(program)) drawn = 0;
    if (find_input(program, "tokens") == emlx_program_input_count(program) ||
        emlx_program_output(program, drawn) == NULL ||
        emlx_program_output(program, drawn)->type != EMLX_S32) {
        fprintf(stderr, "generate: %s is not what EMLXAxon.TextGeneration exports\n", argv[1]);
        return 1;
    }
    ports p = open_ports(program, device, prompt);
    while (turn(program, &p, drawn, done)) continue;
    putchar('\n');
    close_ports(&p);
    emlx_tensor_release(prompt);
    emlx_program_release(program);
    emlx_device_release(device);
    return 0;
}
