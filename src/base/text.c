// SPDX-License-Identifier: Apache-2.0
// text.c - text that may be shown. Names and paths come from files and from users: a line break in
// one would make two lines of a message, and half a character is no text for Elixir.
#include "base/text.h"

#include <stdint.h>

// Bytes of the character that begins there; 0 for a control character, what is not UTF-8, and the
// end.
static size_t plain_length(const char *text) {
    const uint8_t *at = (const uint8_t *)text;
    if (at[0] < 0x80) return at[0] >= 0x20 && at[0] != 0x7f;
    size_t length = at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    uint32_t code = at[0] & (0x7fu >> length);
    if (at[0] < 0xc0 || at[0] > 0xf4) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (at[i] & 0x3f);
    }
    // The lowest codes of each length; below 0xa0 are more controls, and surrogates are none.
    static const uint32_t lowest[] = {[2] = 0xa0, [3] = 0x800, [4] = 0x10000};
    bool character = code >= lowest[length] && code <= 0x10ffff && code >> 11 != 0xd800 >> 11;
    return character ? length : 0;
}

bool text_is_plain(const char *text) {
    for (size_t length; (length = plain_length(text)) > 0;) text += length;
    return *text == '\0';
}

void text_make_plain(char *text) {
    while (*text != '\0') {
        size_t length = plain_length(text);
        if (length == 0) *text = '?';
        text += length == 0 ? 1 : length;
    }
}
