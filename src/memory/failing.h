// SPDX-License-Identifier: Apache-2.0
// failing.h - allocations that fail because a test wants them to.
#ifndef EMLX_MEMORY_FAILING_H
#define EMLX_MEMORY_FAILING_H

#include "memory/memory.h"

// Counts one allocation and says whether it is to fail; see mem_fail_from.
bool mem_should_fail(void);

#endif
