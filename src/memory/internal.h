// SPDX-License-Identifier: Apache-2.0
// internal.h - what the files of src/memory share among themselves.
#ifndef EMLX_MEMORY_INTERNAL_H
#define EMLX_MEMORY_INTERNAL_H

#include "memory/memory.h"

// Counts one allocation and says whether a test wants it to fail.
bool mem_should_fail(void);

#endif
