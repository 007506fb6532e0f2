// SPDX-License-Identifier: Apache-2.0
// ports.c - the named inputs, or the outputs, of a block. No two of them have the same name.
#include "program/ports.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define NAME_MAX_BYTES 255

// The set of names -------------------------------------------------------------------------------

static bool is_name(const void *context, uintptr_t item, const void *name) {
    (void)context;
    return strcmp((const char *)item, name) == 0;
}

static hash_slot *find_name(const port_list *ports, const char *name) {
    return hash_find(&ports->names, hash_text(name), is_name, NULL, name);
}

// Ports ------------------------------------------------------------------------------------------

// A name of digits only could be taken for another port's position.
static bool name_is_number(const char *name) { return name[strspn(name, "0123456789")] == '\0'; }

static emlx_status check_name(const char *name, const port_list *ports, emlx_error *err) {
    size_t length = strlen(name), position = ports->count;
    if (length == 0 || length > NAME_MAX_BYTES)
        return error_set(err, EMLX_INVALID, "the name of %s %zu has %zu bytes, 1 to %d expected",
                         ports->what, position, length, NAME_MAX_BYTES);
    if (!text_is_plain(name))
        return error_set(err, EMLX_INVALID,
                         "the name of %s %zu, \"%s\", has characters that cannot be shown",
                         ports->what, position, name);
    char number[24];
    snprintf(number, sizeof number, "%zu", position);
    if (name_is_number(name) && strcmp(name, number) != 0)
        return error_set(err, EMLX_INVALID, "%s %zu cannot be named \"%s\", another one's position",
                         ports->what, position, name);
    if (ports->names.count == 0 || find_name(ports, name)->item == 0) return EMLX_OK;
    size_t other = 0;
    while (strcmp(ports->items[other].name, name) != 0) other++;
    return error_set(err, EMLX_INVALID, "%ss %zu and %zu are both named \"%s\"", ports->what, other,
                     position, name);
}

emlx_status ports_add(port_list *ports, const char *name, uint32_t value, emlx_error *err) {
    char number[24];
    bool named = name != NULL;
    if (named) TRY(check_name(name, ports, err));
    if (!list_reserve(ports, 1) || (named && !mem_reserve_slot(&ports->names)))
        return error_no_memory(err, "for the ports of a program block");
    snprintf(number, sizeof number, "%zu", ports->count);
    const char *text = named ? name : number;
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    if (copy == NULL) return error_no_memory(err, "for the ports of a program block");
    memcpy(copy, text, size);
    ports->items[ports->count++] = (block_port){copy, value};
    if (named) hash_take(&ports->names, find_name(ports, copy), hash_text(copy), (uintptr_t)copy);
    return EMLX_OK;
}

void ports_clear(port_list *ports) {
    for (size_t i = 0; i < ports->count; i++)
        mem_free(ports->items[i].name, strlen(ports->items[i].name) + 1);
    list_free(ports);
    mem_free_table(&ports->names);
}
