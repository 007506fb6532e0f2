// SPDX-License-Identifier: Apache-2.0
// names.h - the names of shared memory that this process has given.
#ifndef EMLX_NIF_NAMES_H
#define EMLX_NIF_NAMES_H

#include <stdatomic.h>

#include "emlx.h"

// Those that go with a tensor. Each is removed when somebody has read what is there, when the
// process ends, or some time after its tensor did: a pointer may just have been sent to a reader
// although the tensor is garbage already.
typedef _Atomic(struct shared_name *) shared_names;

emlx_status names_keep(shared_names *names, const char *name, emlx_error *err);
// Removes what they name: now, or after a while.
void names_drop(shared_names *names, bool now);

#endif
