// SPDX-License-Identifier: Apache-2.0
// digits.c - trains a neural network on handwritten digits, without Elixir: the programs that
// digits.exs exports are loaded and driven through the C interface.
//
//     digits FOLDER     where digits-*.safetensors and data/digits.npy are
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "emlx.h"

enum { EPOCHS = 30, BAR = 30, MOST = 64 };

static emlx_error err;

static void must(emlx_status status) {
    if (status == EMLX_OK) return;
    fprintf(stderr, "digits: %s\n", err.message);
    exit(1);
}

static emlx_program *load_program(const char *folder, const char *name, emlx_device *device) {
    char path[4096];
    emlx_program *program;
    snprintf(path, sizeof path, "%s/digits-%s.safetensors", folder, name);
    must(emlx_program_load(path, device, &program, &err));
    return program;
}

static void progress(int epoch, emlx_tensor *loss) {
    float value;
    must(emlx_tensor_read(loss, 0, &value, sizeof value, &err));
    printf("\repoch %2d/%d [", epoch, EPOCHS);
    for (int i = 0; i < BAR; i++) putchar(i < epoch * BAR / EPOCHS ? '#' : '.');
    printf("] loss %.4f", value);
    if (epoch == EPOCHS) putchar('\n');
    fflush(stdout);
}

static void report(const int32_t *seen, const uint8_t *meant, int64_t count) {
    int counts[10][10] = {{0}}, right = 0;
    for (int64_t i = 0; i < count; i++) {
        if (meant[i] < 10 && seen[i] >= 0 && seen[i] < 10) counts[meant[i]][seen[i]]++;
        right += seen[i] == meant[i];
    }
    printf("\nrows: the digit meant; columns: the digit seen\n    ");
    for (int d = 0; d < 10; d++) printf("%4d", d);
    for (int row = 0; row < 10; row++) {
        printf("\n%4d", row);
        for (int d = 0; d < 10; d++) {
            if (counts[row][d] > 0)
                printf("%4d", counts[row][d]);
            else
                printf("   .");
        }
    }
    printf("\n\naccuracy: %.3f\n", (double)right / (double)count);
}

// The state (weights, moments, step, random key) is the first outputs of `setup` and `epoch`, and
// the first inputs of `epoch` and `predict`.
static void train(emlx_program *epoch, emlx_tensor **state, emlx_tensor *training) {
    size_t count = emlx_program_output_count(epoch) - 1;
    for (int i = 1; i <= EPOCHS; i++) {
        emlx_tensor *inputs[MOST], *outputs[MOST];
        memcpy(inputs, state, count * sizeof *inputs);
        inputs[count] = training;
        must(emlx_program_run(epoch, inputs, count + 1, outputs, count + 1, &err));
        progress(i, outputs[count]);
        emlx_tensor_release(outputs[count]);
        for (size_t n = 0; n < count; n++) emlx_tensor_release(state[n]);
        memcpy(state, outputs, count * sizeof *state);
    }
}

int main(int argc, char **argv) {
    const char *folder = argc > 1 ? argv[1] : "examples";
    char path[4096];
    emlx_device *device;
    emlx_tensor *table, *outputs[MOST], *inputs[MOST], *results[2];
    must(emlx_device_open("cpu", &device, &err));
    snprintf(path, sizeof path, "%s/data/digits.npy", folder);
    must(emlx_npy_load(path, device, &table, &err));
    emlx_program *setup = load_program(folder, "setup", device);
    emlx_program *epoch = load_program(folder, "epoch", device);
    emlx_program *predict = load_program(folder, "predict", device);

    size_t count = emlx_program_output_count(setup);
    if (count < 3 || count > MOST || emlx_program_output_count(epoch) != count - 1 ||
        emlx_program_input_count(predict) != count - 1) {
        fprintf(stderr, "digits: the programs in %s do not belong together\n", folder);
        return 1;
    }
    must(emlx_program_run(setup, &table, 1, outputs, count, &err));
    emlx_tensor *training = outputs[count - 2], *held_out = outputs[count - 1];
    train(epoch, outputs, training);

    memcpy(inputs, outputs, (count - 2) * sizeof *inputs);
    inputs[count - 2] = held_out;
    must(emlx_program_run(predict, inputs, count - 1, results, 2, &err));
    const void *seen, *meant;
    must(emlx_tensor_data(results[0], &seen, &err));
    must(emlx_tensor_data(results[1], &meant, &err));
    report(seen, meant, emlx_tensor_shape(results[0])->dims[0]);

    for (size_t i = 0; i < count; i++) emlx_tensor_release(outputs[i]);
    for (size_t i = 0; i < 2; i++) emlx_tensor_release(results[i]);
    emlx_program_release(setup);
    emlx_program_release(epoch);
    emlx_program_release(predict);
    emlx_tensor_release(table);
    emlx_device_release(device);
    return 0;
}
