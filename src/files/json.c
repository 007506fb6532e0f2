// SPDX-License-Identifier: Apache-2.0
// json.c - reading JSON from files. Jansson parses by recursion and allocates as it likes, so that
// the text is looked through before: how deep it nests, and what it may become at most.
#include "files/json.h"

#include "base/error.h"
#include "base/sanitize.h"
#include "memory/memory.h"

enum {
    // As deep as Jansson goes, of which a level takes some 200 bytes of the stack.
    MOST_DEPTH = 2048,
    // Bytes at most of a value with its place in a list, of the key of a member and its place in a
    // table, and of a list or table itself (seen with Jansson 2.14, as malloc rounds them up).
    VALUE_BYTES = 64,
    MEMBER_BYTES = 128,
    NEST_BYTES = 256
};

typedef struct outline {
    size_t bytes;
    int depth, deepest;
} outline;

static void look_at(outline *o, char c) {
    switch (c) {
    case '[':
    case '{':
        o->bytes += NEST_BYTES;
        if (++o->depth > o->deepest) o->deepest = o->depth;
        break;
    case ']':
    case '}': o->depth--; break;
    case ':': o->bytes += MEMBER_BYTES; break;
    case ',': o->bytes += VALUE_BYTES; break;
    default: break;
    }
}

// Texts are copied, hence twice their length.
static outline look_through(const char *text, size_t length) {
    outline o = {.bytes = 2 * length + VALUE_BYTES};
    bool quoted = false;
    for (size_t i = 0; i < length; i++) {
        if (quoted && text[i] == '\\')
            i++;
        else if (text[i] == '"')
            quoted = !quoted;
        else if (!quoted)
            look_at(&o, text[i]);
    }
    return o;
}

#if defined(SANITIZE_MEMORY)
#include <stdlib.h>
// What jansson makes counts as set.
static void *set_memory(size_t size) { return calloc(1, size); } // made by what jansson asks
static void free_memory(void *memory) { free(memory); }          // made by set_memory
__attribute__((constructor)) static void choose_memory(void) {
    json_set_alloc_funcs(set_memory, free_memory);
}
#endif

emlx_status json_read(const char *text, size_t length, const char *what, json_document *out,
                      emlx_error *err) {
    outline o = look_through(text, length);
    if (o.deepest > MOST_DEPTH)
        return error_set(err, EMLX_FORMAT, "%s nests more than %d levels deep", what, MOST_DEPTH);
    if (!data_reserve(o.bytes))
        return error_set(err, EMLX_OUT_OF_MEMORY,
                         "no memory for reading %s: its %zu bytes may become %zu", what, length,
                         o.bytes);
    json_error_t problem;
    UNSEEN_CALL;
    json_t *root = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    UNSEEN_CALL_END;
    if (root == NULL) {
        MEMORY_WRITTEN(&problem, sizeof problem);
        data_unreserve(o.bytes);
        return error_set(err, EMLX_FORMAT, "%s is not JSON: %.120s (byte %d)", what, problem.text,
                         problem.position);
    }
    *out = (json_document){root, o.bytes};
    return EMLX_OK;
}

void json_clear(json_document *document) {
    if (document->root == NULL) return;
    json_decref(document->root);
    data_unreserve(document->reserved);
    *document = (json_document){0};
}
