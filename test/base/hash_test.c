// SPDX-License-Identifier: Apache-2.0
// hash_test.c - tables against a plain list, with hashes that are all alike and that are not.
#include "base/hash.h"

#include <stdlib.h>

#include "test.h"

enum { KEYS = 300, STEPS = 20000 };

static bool is_number(const void *context, uintptr_t item, const void *key) {
    assert_int_equal(*(const int *)context, 7);
    return item == *(const uintptr_t *)key;
}

static hash_slot *find(const hash_table *t, uintptr_t key, unsigned kinds) {
    static const int context = 7;
    return hash_find(t, key % kinds, is_number, &context, &key);
}

static void add(hash_table *t, uintptr_t key, unsigned kinds) {
    if (hash_is_full(t)) {
        hash_slot *old = t->slots;
        size_t size = t->size == 0 ? 4 : t->size * 2;
        hash_move(t, calloc(size, sizeof *t->slots), size);
        free(old);
    }
    hash_take(t, find(t, key, kinds), key % kinds, key);
}

// Of `kinds` different hashes.
static void check(unsigned kinds) {
    hash_table t = {0};
    bool there[KEYS + 1] = {false};
    size_t count = 0;
    unsigned random = kinds;
    for (int step = 0; step < STEPS; step++) {
        random = random * 1103515245u + 12345u;
        uintptr_t key = (random >> 8) % KEYS + 1;
        hash_slot *slot = t.size == 0 ? NULL : find(&t, key, kinds);
        assert_int_equal(slot != NULL && slot->item == key, there[key]);
        if (there[key])
            hash_remove(&t, slot);
        else
            add(&t, key, kinds);
        count += there[key] ? (size_t)-1 : 1;
        there[key] = !there[key];
        assert_int_equal(t.count, count);
        for (uintptr_t k = 1; step % 500 == 0 && k <= KEYS; k++)
            assert_int_equal(find(&t, k, kinds)->item, there[k] ? k : 0);
    }
    free(t.slots);
}

static void keeps_what_it_is_given(void **state) {
    (void)state;
    check(1);
    check(3);
    check(KEYS);
}

static void hashes_bytes(void **state) {
    (void)state;
    const char text[] = "softmax of the last axis";
    assert_true(hash_text(text) == hash_bytes(0, text, sizeof text - 1));
    assert_true(hash_text("") != hash_text("a"));
    assert_true(hash_bytes(hash_bytes(0, text, 8), text + 8, 9) == hash_bytes(0, text, 17));
    for (size_t i = 1; i < sizeof text; i++)
        assert_true(hash_bytes(0, text, i) != hash_bytes(0, text, i - 1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_what_it_is_given),
        cmocka_unit_test(hashes_bytes),
    };
    return RUN_TESTS("base/hash", tests);
}
