// SPDX-License-Identifier: Apache-2.0
// eval.h - computing pending tensors, in competition with other threads that do the same.
#ifndef EMLX_RUN_EVAL_H
#define EMLX_RUN_EVAL_H

#include "engine.h"

// As emlx_eval, and stops early with EMLX_CANCELLED when `cancel` (may be NULL) is raised.
emlx_status eval_tensors(emlx_tensor *const *tensors, size_t count, const emlx_cancel *cancel,
                         emlx_error *err);

#endif
