// SPDX-License-Identifier: Apache-2.0
// product_test.c - the inner loops of matrix products at each level against plain loops, on small
// whole numbers, whose sums are exact in every type and wrap as integers do.
#include "engines/cpu/kernels/tables/product.h"

#include "support.h"

enum { MOST = 300, STEP = 320 };

// An array of the type whose elements are small whole numbers, also in `values`.
static void *whole_numbers(emlx_type type, double *values, size_t count) {
    char *data = malloc(count * type_size(type));
    assert_non_null(data);
    bool negative = type_class_of(type) != CLASS_UNSIGNED;
    for (size_t i = 0; i < count; i++) {
        values[i] = (double)(random_bits() % 5) - (negative ? 2 : 0);
        emlx_number number = number_real(values[i]);
        type_store(type, &number, data + i * type_size(type));
    }
    return data;
}

// Sums of integers are those of the elements' type once they are wrapped to its width.
static void check_sum(emlx_type element, emlx_type type, const void *sums, size_t i,
                      double wanted) {
    char found[16] = {0}, held[16] = {0};
    bool whole = type_is_integer(element);
    emlx_number number = whole ? number_signed((int64_t)wanted) : number_real(wanted);
    emlx_number sum = type_load(type, (const char *)sums + i * type_size(type));
    type_store(whole ? element : type, &number, held);
    type_store(whole ? element : type, &sum, found);
    assert_memory_equal(found, held, sizeof held);
}

static void check_vector(const vector_fns *fns, emlx_type type, bool down, size_t lines,
                         size_t columns) {
    static double m[MOST * STEP], v[MOST];
    void *matrix = whole_numbers(type, m, lines * STEP);
    void *x = whole_numbers(fns->sum, v, MOST);
    size_t count = down ? columns : lines;
    char *sums = calloc(count + 1, type_size(fns->sum));
    (down ? fns->down : fns->across)(matrix, STEP, lines, x, columns, sums);
    for (size_t i = 0; i < count; i++) {
        double sum = 0;
        for (size_t t = 0; t < (down ? lines : columns); t++)
            sum += v[t] * (down ? m[t * STEP + i] : m[i * STEP + t]);
        check_sum(type, fns->sum, sums, i, sum);
    }
    check_sum(type, fns->sum, sums, count, 0);
    free(matrix);
    free(x);
    free(sums);
}

static void test_vectors(void **state) {
    (void)state;
    static const size_t sizes[][2] = {{1, 1},  {1, 300}, {3, 17},  {4, 64},  {5, 33},
                                      {8, 15}, {9, 129}, {17, 31}, {64, 63}, {31, 200}};
    FOR_EACH_LEVEL(k)
    for (emlx_type type = 0; type < EMLX_TYPE_COUNT; type++)
        for (size_t i = 0; k->vector[type].across != NULL && i < sizeof sizes / sizeof *sizes; i++)
            for (int down = 0; down < 2; down++)
                check_vector(&k->vector[type], type, down, sizes[i][0], sizes[i][1]);
}

// Packs `lines` lines of a matrix laid out by rows or by columns.
static void *pack_some(const product_fns *fns, const panel_form *form, const void *side,
                       bool by_rows, size_t lines, size_t terms, size_t whole) {
    size_t bytes = (size_t)form->lines * whole * type_size(fns->packed);
    char *panel = aligned_alloc(64, (bytes + 63) / 64 * 64);
    assert_non_null(panel);
    memset(panel, 0, bytes);
    form->pack(panel, side, by_rows ? STEP : 1, by_rows ? 1 : STEP, lines, terms);
    size_t group = (size_t)form->group, size = type_size(fns->packed);
    for (size_t l = lines; l < (size_t)form->lines; l++)
        for (size_t t = 0; t < terms; t++) {
            static const char zero[16];
            size_t at = (t / group * (size_t)form->lines + l) * group + t % group;
            assert_memory_equal(panel + at * size, zero, size);
        }
    return panel;
}

// The types of both sides: bytes of either may have signs, whatever they are packed as.
typedef struct tile_types {
    emlx_type left, right, sum;
} tile_types;

// Of row `row` of the table.
static tile_types types_of(const product_fns *fns, int row) {
    static const emlx_type bytes[2] = {EMLX_U8, EMLX_S8};
    if (row < EMLX_TYPE_COUNT) return (tile_types){fns->packed, fns->packed, (emlx_type)row};
    if (row == PRODUCT_HALVES) return (tile_types){fns->packed, fns->packed, fns->sum};
    int signs = row - PRODUCT_BYTES;
    return (tile_types){bytes[signs / 2], bytes[signs % 2], fns->sum};
}

static void check_tile(const product_fns *fns, tile_types types, bool left_rows, bool right_rows,
                       size_t rows, size_t columns, size_t terms) {
    static double l[MOST * STEP], r[MOST * STEP];
    size_t group =
        (size_t)(fns->left.group > fns->right.group ? fns->left.group : fns->right.group);
    size_t whole = (terms + group - 1) / group * group;
    void *left = whole_numbers(types.left, l, MOST * STEP);
    void *right = whole_numbers(types.right, r, MOST * STEP);
    void *a = pack_some(fns, &fns->left, left, left_rows, rows, terms, whole);
    void *b = pack_some(fns, &fns->right, right, right_rows, columns, terms, whole);
    int64_t step = fns->right.lines + 3;
    void *sums = calloc((size_t)(fns->left.lines * step), type_size(fns->sum));
    if (fns->enter != NULL) fns->enter();
    fns->tile((int64_t)whole, a, b, sums, step, false);
    fns->tile((int64_t)whole, a, b, sums, step, true);
    if (fns->leave != NULL) fns->leave();
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++) {
            double sum = 0;
            for (size_t t = 0; t < terms; t++)
                sum += l[left_rows ? i * STEP + t : t * STEP + i] *
                       r[right_rows ? j * STEP + t : t * STEP + j];
            check_sum(types.sum, fns->sum, sums, i * (size_t)step + j, 2 * sum);
        }
    free(left), free(right), free(a), free(b), free(sums);
}

// Lines of a left side where they are give the bits that those of a panel do.
static void check_lines(const product_fns *fns, size_t rows, size_t terms) {
    static double l[MOST * STEP], r[MOST * STEP];
    size_t columns = (size_t)fns->right.lines, size = type_size(fns->sum), most = rows + 1;
    void *left = whole_numbers(fns->packed, l, MOST * STEP);
    void *right = whole_numbers(fns->packed, r, MOST * STEP);
    void *b = pack_some(fns, &fns->right, right, false, columns, terms, terms);
    char *wanted = calloc((rows + (size_t)fns->left.lines) * columns, size);
    char *found = calloc(most * columns, size);
    for (size_t i = 0; i < rows; i += (size_t)fns->left.lines) {
        size_t some = rows - i < (size_t)fns->left.lines ? rows - i : (size_t)fns->left.lines;
        const char *line = (const char *)left + i * STEP * type_size(fns->packed);
        void *a = pack_some(fns, &fns->left, line, true, some, terms, terms);
        for (int add = 0; add < 2; add++)
            fns->tile((int64_t)terms, a, b, wanted + i * columns * size, (int64_t)columns, add);
        free(a);
    }
    for (int add = 0; add < 2; add++)
        fns->lines((int64_t)terms, left, STEP, (int64_t)rows, b, found, (int64_t)columns, add);
    assert_memory_equal(found, wanted, rows * columns * size);
    for (size_t i = rows * columns * size; i < most * columns * size; i++)
        assert_int_equal(found[i], 0);
    free(left), free(right), free(b), free(wanted), free(found);
}

static void test_lines(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k)
    for (emlx_type type = 0; type < EMLX_TYPE_COUNT; type++)
        for (size_t rows = 1; k->product[type].lines != NULL && rows < 30; rows++)
            check_lines(&k->product[type], rows, rows % 2 ? 256 : 2 * rows + 1);
}

static void test_tiles(void **state) {
    (void)state;
    static const size_t terms[] = {1, 3, 16, 31, 64, 100, 256};
    FOR_EACH_LEVEL(k)
    for (int row = 0; row < PRODUCT_COUNT; row++) {
        const product_fns *fns = &k->product[row];
        if (fns->tile == NULL) continue;
        tile_types types = types_of(fns, row);
        size_t rows = (size_t)fns->left.lines, columns = (size_t)fns->right.lines;
        for (size_t i = 0; i < sizeof terms / sizeof *terms; i++)
            for (unsigned layout = 0; layout < 4; layout++) {
                check_tile(fns, types, layout & 1, layout >> 1, rows, columns, terms[i]);
                check_tile(fns, types, layout & 1, layout >> 1, rows - 1, columns - 3, terms[i]);
            }
    }
}

// Numbers below the normal ones are found, and nothing else is.
static void test_flushes(void **state) {
    (void)state;
    FOR_EACH_LEVEL(k) {
        const product_fns *fns = &k->product[EMLX_BF16];
        uint16_t panel[100] = {0, 0x8000, 0x0080, 0x8080, 0x3f80, 0x7f80, 0x7fc0, 0xffff};
        if (fns->flushes == NULL) continue;
        assert_false(fns->flushes(panel, 100));
        for (size_t i = 0; i < 100; i += 33) {
            panel[i] = i % 2 == 0 ? 0x0001 : 0x807f;
            assert_true(fns->flushes(panel, 100));
            panel[i] = 0;
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_tiles),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_flushes),
    };
    return cmocka_run_group_tests_name("product", tests, NULL, NULL);
}
