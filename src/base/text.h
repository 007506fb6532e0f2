// SPDX-License-Identifier: Apache-2.0
// text.h - text that may be shown: UTF-8 without control characters.
#ifndef EMLX_BASE_TEXT_H
#define EMLX_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

// Whether all of it may be shown.
bool text_is_plain(const char *text);
// Puts a '?' for each byte that is not part of a character that may be shown.
void text_make_plain(char *text);

#endif
