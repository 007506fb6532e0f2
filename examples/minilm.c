// SPDX-License-Identifier: Apache-2.0
// minilm.c - how alike sentences are, without Elixir: the model that minilm.exs exports, its
// weights mapped from the file.
//
//     minilm minilm.safetensors minilm.ids.npy minilm.mask.npy
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emlx.h"

enum { INPUTS = 2 };

static emlx_error err;

static void must(emlx_status status) {
    if (status == EMLX_OK) return;
    fprintf(stderr, "minilm: %s\n", err.message);
    exit(1);
}

// The inputs' order is the program's own.
static void put_input(const emlx_program *program, const char *name, emlx_tensor *t,
                      emlx_tensor **inputs) {
    for (size_t i = 0; i < INPUTS; i++)
        if (strcmp(emlx_program_input(program, i)->name, name) == 0) inputs[i] = t;
}

// Vectors have length 1, so that their products are the cosines of the angles between them.
static void report(const float *vectors, int64_t count, int64_t size) {
    for (int64_t i = 0; i < count; i++) {
        for (int64_t j = 0; j < count; j++) {
            double sum = 0;
            for (int64_t k = 0; k < size; k++) sum += vectors[i * size + k] * vectors[j * size + k];
            printf("%.3f  ", sum);
        }
        putchar('\n');
    }
}

int main(int argc, char **argv) {
    emlx_device *device;
    emlx_program *program;
    emlx_tensor *ids, *mask, *inputs[INPUTS] = {NULL}, *vectors;
    const void *data;
    if (argc != 4) {
        fprintf(stderr, "usage: minilm PROGRAM.safetensors IDS.npy MASK.npy\n");
        return 2;
    }
    must(emlx_device_open("cpu", &device, &err));
    must(emlx_program_load(argv[1], device, &program, &err));
    if (emlx_program_input_count(program) != INPUTS || emlx_program_output_count(program) != 1) {
        fprintf(stderr, "minilm: %s is not what minilm.exs exports\n", argv[1]);
        return 1;
    }
    must(emlx_npy_load(argv[2], device, &ids, &err));
    must(emlx_npy_load(argv[3], device, &mask, &err));
    put_input(program, "ids", ids, inputs);
    put_input(program, "mask", mask, inputs);
    must(emlx_program_run(program, inputs, INPUTS, &vectors, 1, &err));
    must(emlx_tensor_data(vectors, &data, &err));
    report(data, emlx_tensor_shape(vectors)->dims[0], emlx_tensor_shape(vectors)->dims[1]);
    emlx_tensor_release(vectors);
    emlx_tensor_release(ids);
    emlx_tensor_release(mask);
    emlx_program_release(program);
    emlx_device_release(device);
    return 0;
}
