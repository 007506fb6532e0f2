// SPDX-License-Identifier: Apache-2.0
// sanitize.h - what sanitizers are told of memory, which otherwise costs nothing.
#ifndef EMLX_BASE_SANITIZE_H
#define EMLX_BASE_SANITIZE_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#if __has_feature(memory_sanitizer)
#define SANITIZE_MEMORY 1
#endif
#endif

// Memory that must not be touched, and the end of that.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define MEMORY_HIDE(address, size) ASAN_POISON_MEMORY_REGION(address, size)
#define MEMORY_SHOW(address, size) ASAN_UNPOISON_MEMORY_REGION(address, size)
#else
#define MEMORY_HIDE(address, size) ((void)(address), (void)(size))
#define MEMORY_SHOW(address, size) ((void)(address), (void)(size))
#endif

// Memory whose contents nobody has made yet, and memory that a library writes, or has written, that
// was built without the sanitizer. Code between the last two, which works with such a library, is
// not looked at: what it writes counts as written.
#if defined(SANITIZE_MEMORY)
#include <sanitizer/msan_interface.h>
#define MEMORY_UNSET(address, size) __msan_poison(address, size)
#define MEMORY_WRITTEN(address, size) __msan_unpoison(address, size)
// Around a call of such a library: what libc is given there.
#define UNSEEN_CALL __msan_scoped_disable_interceptor_checks()
#define UNSEEN_CALL_END __msan_scoped_enable_interceptor_checks()
#define UNSEEN_BEGIN                                                                               \
    _Pragma("clang attribute push(__attribute__((no_sanitize(\"memory\"))), apply_to = function)")
#define UNSEEN_END _Pragma("clang attribute pop")
#else
#define MEMORY_UNSET(address, size) ((void)(address), (void)(size))
#define MEMORY_WRITTEN(address, size) ((void)(address), (void)(size))
#define UNSEEN_CALL ((void)0)
#define UNSEEN_CALL_END ((void)0)
#define UNSEEN_BEGIN
#define UNSEEN_END
#endif

#endif
