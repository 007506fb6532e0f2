// SPDX-License-Identifier: Apache-2.0
// whole.c - the functions of an `either` that the CPU engine computes whole, one row each: whether
// it does with that type and those operands, and how.
#include "engines/cpu/whole.h"

#include "base/error.h"

static const struct {
    bool (*takes)(const emlx_device *device, const emlx_tensor *either);
    emlx_status (*run)(const cpu_run *run, emlx_error *err);
} wholes[EITHER_COUNT] = {
    [EITHER_attention] = {attention_takes, run_attention},
    [EITHER_quantized_dot] = {packed_takes, run_products},
    [EITHER_window] = {NULL, run_window},
};

bool cpu_takes(const emlx_device *device, const emlx_tensor *either) {
    uint32_t function = ((const either_params *)either->params)->function;
    return wholes[function].takes != NULL && wholes[function].takes(device, either);
}

emlx_status run_either(const cpu_run *run, emlx_error *err) {
    return wholes[((const either_params *)run->call->kernel->params)->function].run(run, err);
}
