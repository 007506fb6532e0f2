// SPDX-License-Identifier: Apache-2.0
// functions.h - the functions that Elixir sees.
#ifndef EMLX_NIF_FUNCTIONS_H
#define EMLX_NIF_FUNCTIONS_H

#include <erl_nif.h>

#define NIF_FUNCTION_MAP(XX)                                                                       \
    XX(version, 0)                                                                                 \
    XX(ops, 0)                                                                                     \
    XX(devices, 0)                                                                                 \
    XX(device_open, 2)                                                                             \
    XX(devices_missing, 0)                                                                         \
    XX(device_describe, 1)                                                                         \
    XX(device_capture, 3)                                                                          \
    XX(device_host_memory, 1)                                                                      \
    XX(device_reset, 2)                                                                            \
    XX(device_address, 2)                                                                          \
    XX(device_export, 2)                                                                           \
    XX(device_memory_open, 3)                                                                      \
    XX(handovers, 1)                                                                               \
    XX(refuse_handovers, 1)                                                                        \
    XX(observe, 1)                                                                                 \
    XX(memory_info, 0)                                                                             \
    XX(memory_reset_peak, 0)                                                                       \
    XX(device_memory_info, 1)                                                                      \
    XX(device_memory_reset_peak, 1)                                                                \
    XX(memory_relieve, 2)                                                                          \
    XX(from_binary, 5)                                                                             \
    XX(to_binary, 3)                                                                               \
    XX(deallocate, 1)                                                                              \
    XX(tensor_copy, 3)                                                                             \
    XX(tensor_info, 1)                                                                             \
    XX(tensor_type, 1)                                                                             \
    XX(tensor_address, 1)                                                                          \
    XX(binary_address, 1)                                                                          \
    XX(shm_write, 3)                                                                               \
    XX(shm_read, 4)                                                                                \
    XX(apply, 5)                                                                                   \
    XX(eval, 4)                                                                                    \
    XX(program_compile, 3)                                                                         \
    XX(program_save, 3)                                                                            \
    XX(program_load, 3)                                                                            \
    XX(program_info, 1)                                                                            \
    XX(program_run, 5)                                                                             \
    XX(program_resume, 4)                                                                          \
    XX(program_drop, 1)                                                                            \
    XX(archive_read, 3)                                                                            \
    XX(queue_new, 1)                                                                               \
    XX(queue_sync, 2)

// These run on the VM's dirty schedulers.
#define NIF_SLOW_FUNCTION_MAP(XX)                                                                  \
    XX(memory_set_limit, 1)                                                                        \
    XX(memory_set_cache_limit, 1)                                                                  \
    XX(memory_clear_cache, 0)                                                                      \
    XX(device_memory_set_limit, 2)                                                                 \
    XX(device_memory_set_cache_limit, 2)                                                           \
    XX(device_memory_clear_cache, 1)                                                               \
    XX(from_address, 5)                                                                            \
    XX(shm_unlink, 1)

#define XX(name, arity)                                                                            \
    ERL_NIF_TERM nif_##name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
NIF_FUNCTION_MAP(XX)
NIF_SLOW_FUNCTION_MAP(XX)
#undef XX

// Tells the VM how long computing took that was done within a call: it takes no notice by itself,
// and a process whose turn, of a millisecond, has many such calls would keep its scheduler for
// long.
void account(ErlNifEnv *env, ErlNifTime started);

#endif
