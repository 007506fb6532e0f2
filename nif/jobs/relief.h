// SPDX-License-Identifier: Apache-2.0
// relief.h - giving memory back.
#ifndef EMLX_NIF_RELIEF_H
#define EMLX_NIF_RELIEF_H

#include <erl_nif.h>
#include <stdatomic.h>

#include "emlx.h"

// Whether the caller is to collect its garbage before it computes more: it is answered :pressure.
// Calls that compute are told whether it has done so, and then do not ask for it again.
bool memory_pressure(void);
bool relief_load(ErlNifEnv *env, ErlNifResourceFlags flags);

// Tensors whose pending computation keeps alive far more memory than they will take. They are
// computed when what they keep alive is not held by anything else any more.
typedef struct pin {
    struct pin *next, *previous; // guarded by relief.c's lock
    emlx_tensor *tensor;
    _Atomic bool linked;
} pin;

void pin_add(pin *pin, emlx_tensor *tensor);
void pin_remove(pin *pin);
// Takes note that the VM has dropped a tensor, before the tensor goes.
void pins_dropped(emlx_tensor *tensor);

#endif
