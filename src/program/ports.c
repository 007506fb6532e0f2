// SPDX-License-Identifier: Apache-2.0
// ports.c - the named inputs, or the outputs, of a block. No two of them have the same name.
#include "program/ports.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"

#define NAME_MAX_BYTES 255

// The set of names -------------------------------------------------------------------------------

// The slot that holds the name, or the free one where it belongs.
static size_t slot_of(const char *const *names, size_t room, const char *name) {
    // FNV-1a, 64 bits.
    uint64_t hash = 0xcbf29ce484222325;
    for (const char *c = name; *c != '\0'; c++) hash = (hash ^ (uint8_t)*c) * 0x100000001b3;
    size_t slot = (size_t)(hash ^ hash >> 32) & (room - 1);
    while (names[slot] != NULL && strcmp(names[slot], name) != 0) slot = (slot + 1) & (room - 1);
    return slot;
}

static bool has_name(const port_list *ports, const char *name) {
    return ports->name_room > 0 &&
           ports->names[slot_of(ports->names, ports->name_room, name)] != NULL;
}

static void free_names(port_list *ports) {
    mem_free(ports->names, ports->name_room * sizeof *ports->names);
}

// Makes room for one more; false when there is no memory.
static bool reserve_name(port_list *ports) {
    if (ports->name_count < ports->name_room / 2) return true;
    size_t room = ports->name_room == 0 ? 16 : ports->name_room * 2;
    const char **names = mem_alloc(room * sizeof *names);
    if (names == NULL) return false;
    for (size_t i = 0; i < ports->name_room; i++)
        if (ports->names[i] != NULL) names[slot_of(names, room, ports->names[i])] = ports->names[i];
    free_names(ports);
    ports->names = names;
    ports->name_room = room;
    return true;
}

static void add_name(port_list *ports, const char *name) {
    ports->names[slot_of(ports->names, ports->name_room, name)] = name;
    ports->name_count++;
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
    if (!has_name(ports, name)) return EMLX_OK;
    size_t other = 0;
    while (strcmp(ports->items[other].name, name) != 0) other++;
    return error_set(err, EMLX_INVALID, "%ss %zu and %zu are both named \"%s\"", ports->what, other,
                     position, name);
}

emlx_status ports_add(port_list *ports, const char *name, uint32_t value, emlx_error *err) {
    char number[24];
    bool named = name != NULL;
    if (named) TRY(check_name(name, ports, err));
    if (!list_reserve(ports, 1) || (named && !reserve_name(ports)))
        return error_no_memory(err, "for the ports of a program block");
    snprintf(number, sizeof number, "%zu", ports->count);
    const char *text = named ? name : number;
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);
    if (copy == NULL) return error_no_memory(err, "for the ports of a program block");
    memcpy(copy, text, size);
    ports->items[ports->count++] = (block_port){copy, value};
    if (named) add_name(ports, copy);
    return EMLX_OK;
}

void ports_clear(port_list *ports) {
    for (size_t i = 0; i < ports->count; i++)
        mem_free(ports->items[i].name, strlen(ports->items[i].name) + 1);
    list_free(ports);
    free_names(ports);
}
