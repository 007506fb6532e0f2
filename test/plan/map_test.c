// SPDX-License-Identifier: Apache-2.0
// map_test.c - composing index maps, against walking through every index.
#include "plan/kernels/fuse.h"
#include "tensors.h"

enum { TIMES = 20000, MOST = 4 };

static emlx_shape random_shape(int32_t rank) {
    emlx_shape shape = {.rank = rank};
    for (int32_t d = 0; d < rank; d++) shape.dims[d] = 1 + draw(4);
    return shape;
}

static int64_t through(const index_map *map, const emlx_shape *space, const int64_t *index) {
    int64_t at = map->offset;
    for (int32_t d = 0; d < space->rank; d++) at += index[d] * map->strides[d];
    return at;
}

// A map from the space into an array of `count` elements, as a random slice of it has; false where
// the drawn one leaves it.
static bool random_map(const emlx_shape *space, int64_t count, index_map *map) {
    int64_t low = 0, high = 0;
    *map = (index_map){0};
    for (int32_t d = 0; d < space->rank; d++) {
        map->strides[d] = (int64_t)draw(13) - 4;
        int64_t reach = map->strides[d] * (space->dims[d] - 1);
        *(reach < 0 ? &low : &high) += reach;
    }
    if (high - low >= count) return false;
    map->offset = (int64_t)draw((uint32_t)(count - (high - low))) - low;
    return true;
}

typedef struct composition {
    emlx_shape space, shape;
    index_map map;
    int64_t offset, strides[EMLX_MAX_RANK];
} composition;

// What an index of the space reaches: by way of the array's own index.
static int64_t walked(const composition *c, int64_t position) {
    int64_t index[EMLX_MAX_RANK], inside[EMLX_MAX_RANK], at = c->offset;
    unravel(&c->space, position, index);
    unravel(&c->shape, through(&c->map, &c->space, index), inside);
    for (int32_t d = 0; d < c->shape.rank; d++) at += inside[d] * c->strides[d];
    return at;
}

static bool agrees(const composition *c, const index_map *map) {
    int64_t index[EMLX_MAX_RANK];
    for (int64_t i = 0; i < emlx_shape_count(&c->space); i++) {
        unravel(&c->space, i, index);
        if (through(map, &c->space, index) != walked(c, i)) return false;
    }
    return true;
}

// The only affine map that can be right: it is at the first index and at each axis' second one.
static index_map only_candidate(const composition *c) {
    index_map map = {.offset = walked(c, 0)};
    int64_t index[EMLX_MAX_RANK] = {0};
    for (int32_t d = 0; d < c->space.rank; d++) {
        if (c->space.dims[d] == 1) continue;
        index[d] = 1;
        map.strides[d] = walked(c, ravel(&c->space, index)) - map.offset;
        index[d] = 0;
    }
    return map;
}

static bool random_composition(composition *c) {
    *c = (composition){.space = random_shape((int32_t)draw(MOST)),
                       .shape = random_shape((int32_t)draw(MOST))};
    c->offset = draw(50);
    for (int32_t d = 0; d < c->shape.rank; d++) c->strides[d] = (int64_t)draw(9) - 3;
    // Half of them as arrays lie, whose axes then are as one.
    if (draw(2) == 0)
        for (int32_t d = c->shape.rank - 1, step = 1; d >= 0; step *= (int)c->shape.dims[d--])
            c->strides[d] = step;
    return random_map(&c->space, emlx_shape_count(&c->shape), &c->map);
}

// What is given is right, and little that is affine is not found: steps back that carry into the
// next axis are.
static void compositions_are_exact(void **state) {
    (void)state;
    int composed = 0, refused = 0, missed = 0;
    draw_seed(7);
    while (composed + refused < TIMES) {
        composition c;
        index_map out;
        if (!random_composition(&c)) continue;
        bool found = map_compose(&c.space, &c.map, &c.shape, c.offset, c.strides, &out);
        index_map candidate = only_candidate(&c);
        bool affine = agrees(&c, &candidate);
        if (found) assert_true(agrees(&c, &out));
        missed += affine && !found;
        composed += found;
        refused += !found;
    }
    assert_true(missed < composed / 20);
    assert_true(composed > TIMES / 10 && refused > TIMES / 100);
}

static void nothing_is_read_of_nothing(void **state) {
    (void)state;
    const emlx_shape space = {1, {0}}, shape = {2, {0, 3}};
    const int64_t strides[2] = {3, 1};
    index_map map = {.strides = {1}}, out;
    assert_true(map_compose(&space, &map, &shape, 0, strides, &out));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(compositions_are_exact),
        cmocka_unit_test(nothing_is_read_of_nothing),
    };
    return RUN_TESTS("plan/map", tests);
}
