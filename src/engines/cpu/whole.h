// SPDX-License-Identifier: Apache-2.0
// whole.h - the functions of an `either` that the CPU engine computes whole.
#ifndef EMLX_CPU_WHOLE_H
#define EMLX_CPU_WHOLE_H

#include "engines/cpu/run.h"

bool cpu_takes(const emlx_device *device, const emlx_tensor *either);
emlx_status run_either(const cpu_run *run, emlx_error *err);

// Attention. See attention/attention.c.
bool attention_takes(const emlx_device *device, const emlx_tensor *either);
emlx_status run_attention(const cpu_run *run, emlx_error *err);
// A product with weights of few bits. See matrix/packed.c.
bool packed_takes(const emlx_device *device, const emlx_tensor *either);
// Folds over windows, only as others hand them over. See index/window.c.
emlx_status run_window(const cpu_run *run, emlx_error *err);

#endif
