// SPDX-License-Identifier: Apache-2.0
// code.c - building the code of a kernel: text, words and launches.
#include "engines/cuda/text/code.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "memory/list.h"

enum { BLOCK = 256 };

void code_clear(kernel_code *code) {
    mem_free(code->text, code->room);
    mem_free(code->words, code->word_room * sizeof *code->words);
    mem_free(code->patches, code->patch_room * sizeof *code->patches);
    mem_free(code->launches, code->launch_room * sizeof *code->launches);
    *code = (kernel_code){0};
}

void code_text(kernel_code *code, const char *format, ...) {
    for (int tries = 0; tries < 2 && !code->failed; tries++) {
        va_list list;
        va_start(list, format);
        size_t left = code->room - code->length;
        int length = vsnprintf(left > 0 ? code->text + code->length : NULL, left, format, list);
        va_end(list);
        if ((size_t)length < left) {
            code->length += (size_t)length;
            return;
        }
        size_t room = code->room * 2 + (size_t)length + 1024;
        char *grown = mem_grow(code->text, code->room, room);
        code->failed = grown == NULL;
        if (grown == NULL) return;
        code->text = grown;
        code->room = room;
    }
}

uint32_t code_word(kernel_code *code, int64_t value) {
    if (!mem_reserve(&code->words, &code->word_room, code->word_count, 1, sizeof *code->words)) {
        code->failed = true;
        return 0;
    }
    code->words[code->word_count] = value;
    return code->word_count++;
}

uint32_t code_double(kernel_code *code, double value) {
    int64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return code_word(code, bits);
}

uint32_t code_patch_word(kernel_code *code, patch_kind kind, uint32_t index, int64_t offset) {
    bool pair = kind == PATCH_CONSTANT;
    if (pair && code->word_count % 2 == 1) code_word(code, 0);
    uint32_t word = code_word(code, 0);
    if (pair) code_word(code, 0);
    if (!mem_reserve(&code->patches, &code->patch_room, code->patch_count, 1,
                     sizeof *code->patches)) {
        code->failed = true;
        return word;
    }
    code->patches[code->patch_count++] = (code_patch){word, kind, index, offset};
    return word;
}

code_launch *code_launch_add(kernel_code *code, char suffix, int64_t threads, int64_t most) {
    static _Thread_local code_launch none;
    if (!mem_reserve(&code->launches, &code->launch_room, code->launch_count, 1,
                     sizeof *code->launches)) {
        code->failed = true;
        return &none;
    }
    int64_t blocks = (threads + BLOCK - 1) / BLOCK;
    if (most > 0 && blocks > most) blocks = most;
    code_launch *launch = &code->launches[code->launch_count++];
    *launch = (code_launch){suffix, BLOCK, blocks, 1, UINT32_MAX, 0, 0};
    return launch;
}
