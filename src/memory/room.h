// SPDX-License-Identifier: Apache-2.0
// room.h - asking before others are made to ask, who do not take no for an answer.
#ifndef EMLX_MEMORY_ROOM_H
#define EMLX_MEMORY_ROOM_H

#include <stdbool.h>
#include <stddef.h>

// Whether the system would give the process that much memory in one piece now.
bool system_has_room(size_t size);

#endif
