// SPDX-License-Identifier: Apache-2.0
// setting.h - a number of the environment, by which an engine for tests is set up.
#ifndef EMLX_TEST_SETTING_H
#define EMLX_TEST_SETTING_H

#include <stdlib.h>

static inline unsigned setting(const char *name, unsigned otherwise) {
    const char *text = getenv(name);
    return text != NULL ? (unsigned)atoi(text) : otherwise;
}

#endif
