// SPDX-License-Identifier: Apache-2.0
// form.c - what transforms of a length need: factors, roots of unity, and the forms of the shorter
// transforms that they are made of. Tables take about the square root of a long length.
#include <math.h>

#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/fft/fft.h"
#include "engines/cpu/routine/routine.h"

enum {
    MOST_FACTORS = 64,
    LEAST_SPLIT = 1025,  // elements of a line that may go as a matrix
    MOST_PANEL = 4096,   // and of one that may go through a panel
    KEPT_FILTER = 131072 // elements of a filter that is kept
};

// Roots of unity --------------------------------------------------------------------------------

// exp(-2 pi i k / n) for any k below n as the product of two entries of small tables, for angles up
// to an eighth of the circle, from where the others follow exactly.
typedef struct circle {
    int64_t n, block;
    long double *fine, *coarse; // cosine, sine of 2 pi j / 8n, and of j * block instead
} circle;

static bool circle_start(circle *r, int64_t n, arena *memory) {
    const long double eighth = 0.785398163397448309615660845819875721L; // pi / 4
    r->n = n;
    r->block = (int64_t)sqrt((double)n) + 1;
    r->fine = arena_array(memory, (size_t)r->block * 2, sizeof *r->fine);
    r->coarse = arena_array(memory, (size_t)(n / r->block + 1) * 2, sizeof *r->coarse);
    if (r->fine == NULL || r->coarse == NULL) return false;
    for (int64_t j = 0; j < r->block; j++) {
        r->fine[2 * j] = cosl(eighth * (long double)j / (long double)n);
        r->fine[2 * j + 1] = sinl(eighth * (long double)j / (long double)n);
    }
    for (int64_t j = 0; j <= n / r->block; j++) {
        r->coarse[2 * j] = cosl(eighth * (long double)(j * r->block) / (long double)n);
        r->coarse[2 * j + 1] = sinl(eighth * (long double)(j * r->block) / (long double)n);
    }
    return true;
}

static void small_root(const circle *r, int64_t x, double *cosine, double *sine) {
    const long double *a = r->coarse + 2 * (x / r->block), *b = r->fine + 2 * (x % r->block);
    *cosine = (double)(a[0] * b[0] - a[1] * b[1]);
    *sine = (double)(a[0] * b[1] + a[1] * b[0]);
}

static void root_at(const circle *r, int64_t k, double *to) {
    int64_t n = r->n, x = 8 * k;
    bool below = x > 4 * n, left, steep;
    if (below) x = 8 * n - x;
    left = x > 2 * n;
    if (left) x = 4 * n - x;
    steep = x > n;
    if (steep) x = 2 * n - x;
    double c, s;
    small_root(r, x, steep ? &s : &c, steep ? &c : &s);
    to[0] = left ? -c : c;
    to[1] = below ? s : -s;
}

static bool roots_start(fft_roots *roots, const circle *r, arena *memory) {
    roots->n = r->n;
    for (roots->shift = 0; r->n >> roots->shift >> roots->shift > 1;) roots->shift++;
    int64_t fine = (int64_t)1 << roots->shift, coarse = (r->n >> roots->shift) + 1;
    double *table = arena_array(memory, (size_t)(fine + coarse) * 2, sizeof *table);
    if (table == NULL) return false;
    for (int64_t j = 0; j < fine; j++) root_at(r, j % r->n, table + 2 * j);
    roots->fine = table;
    table += 2 * fine;
    for (int64_t j = 0; j < coarse; j++) root_at(r, (j << roots->shift) % r->n, table + 2 * j);
    roots->coarse = table;
    return true;
}

// Numbers of a form -----------------------------------------------------------------------------

// What a form is made with. `wide`: in f64.
typedef struct fft_maker {
    arena *memory;
    const cpu_kernels *kernels;
    bool wide;
} fft_maker;

static void put_number(const fft_form *f, void *to, int64_t i, double x) {
    if (f->size == sizeof(float))
        ((float *)to)[i] = (float)x;
    else
        ((double *)to)[i] = x;
}

static void put_root(const fft_form *f, void *to, int64_t i, const circle *r, int64_t k) {
    double root[2];
    root_at(r, k, root);
    put_number(f, to, 2 * i, root[0]);
    put_number(f, to, 2 * i + 1, root[1]);
}

static fft_form *form_new(int64_t length, const fft_maker *m) {
    fft_form *f = arena_alloc(m->memory, sizeof *f);
    if (f == NULL) return NULL;
    f->length = length;
    f->fns = &m->kernels->fft[m->wide ? 1 : 0];
    f->size = m->wide ? sizeof(double) : sizeof(float);
    return f;
}

// Passes ----------------------------------------------------------------------------------------

// Takes factors out of the length, eights first, then those that are left of it. What is left over
// is 1, or has a prime that is too large.
static int64_t find_factors(int64_t n, int64_t *factors, int32_t *count) {
    *count = 0;
    for (; n % 8 == 0; n /= 8) factors[(*count)++] = 8;
    // Two passes of four are quicker than one of eight and one of two.
    if (n % 2 == 0 && n % 4 != 0 && *count > 0) {
        factors[*count - 1] = 4;
        n *= 2;
    }
    for (; n % 4 == 0; n /= 4) factors[(*count)++] = 4;
    for (int64_t p = 2; p <= FFT_LARGEST; p += p == 2 ? 1 : 2)
        for (; n % p == 0; n /= p) factors[(*count)++] = p;
    return n;
}

static bool make_pass(const fft_form *f, fft_pass *pass, int64_t radix, int64_t rest,
                      int64_t stride, const circle *r, arena *memory) {
    void *turns = arena_array(memory, (size_t)(rest * (radix - 1) + 1) * 2, f->size);
    void *roots = arena_array(memory, (size_t)radix * 2, f->size);
    if (turns == NULL || roots == NULL) return false;
    *pass = (fft_pass){radix, rest, stride, turns, roots};
    // The whole circle is radix * rest * stride.
    for (int64_t p = 0, i = 0; p < rest; p++)
        for (int64_t j = 1; j < radix; j++, i++) put_root(f, turns, i, r, p * j * stride);
    for (int64_t j = 0; j < radix; j++) put_root(f, roots, j, r, j * rest * stride);
    return true;
}

static bool make_passes(fft_form *f, const int64_t *factors, int32_t count, const circle *r,
                        const fft_maker *m) {
    fft_pass *passes = arena_array(m->memory, (size_t)count + 1, sizeof *passes);
    if (passes == NULL) return false;
    int64_t rest = f->length, stride = 1;
    for (int32_t i = 0; i < count; i++) {
        rest /= factors[i];
        if (!make_pass(f, &passes[i], factors[i], rest, stride, r, m->memory)) return false;
        stride *= factors[i];
    }
    f->passes = passes;
    f->pass_count = count;
    return true;
}

// A length without large primes, with passes whatever it is.
static const fft_form *make_short(int64_t length, const fft_maker *m) {
    int64_t factors[MOST_FACTORS];
    int32_t count;
    circle r;
    fft_form *f = form_new(length, m);
    if (f == NULL || !circle_start(&r, length, m->memory)) return NULL;
    find_factors(length, factors, &count);
    return make_passes(f, factors, count, &r, m) ? f : NULL;
}

// Columns and rows ------------------------------------------------------------------------------

static int64_t greatest_divisor_up_to_root(int64_t n) {
    int64_t d = (int64_t)sqrt((double)n);
    while (n % d != 0) d--;
    return d;
}

static bool make_split(fft_form *f, const circle *r, const fft_maker *m) {
    int64_t columns = greatest_divisor_up_to_root(f->length), lines = f->fns->lines;
    f->columns = make_short(columns, m);
    f->rows = make_short(f->length / columns, m);
    void *base = arena_array(m->memory, (size_t)(columns * lines) * 2, f->size);
    f->base = base;
    if (f->columns == NULL || f->rows == NULL || base == NULL) return false;
    for (int64_t e = 0; e < columns; e++)
        for (int64_t l = 0; l < lines; l++) {
            double root[2];
            root_at(r, e * l % f->length, root);
            put_number(f, base, 2 * e * lines + l, root[0]);
            put_number(f, base, (2 * e + 1) * lines + l, root[1]);
        }
    return roots_start(&f->roots, r, m->memory);
}

// Large primes ----------------------------------------------------------------------------------

// The least length of at least `least` with factors 2, 3 and 5 of which the last two occur once.
static int64_t smooth_length(int64_t least) {
    int64_t best = INT64_MAX;
    static const int64_t odd[] = {1, 3, 5, 15};
    for (int i = 0; i < 4; i++) {
        int64_t n = odd[i];
        while (n < least) n *= 2;
        if (n < best) best = n;
    }
    return best;
}

static const fft_form *make_complex(int64_t length, const fft_maker *m);

static bool make_chirp(fft_form *f, const fft_maker *m) {
    circle r;
    int64_t longer = smooth_length(2 * f->length - 1);
    f->longer = make_complex(longer, m);
    f->convolve = fft_convolve;
    if (f->longer == NULL || !circle_start(&r, 2 * f->length, m->memory)) return false;
    if (!roots_start(&f->roots, &r, m->memory)) return false;
    if (longer > KEPT_FILTER) return true;
    double *filter = arena_array(m->memory, (size_t)longer * 2, sizeof *filter);
    char *memory = arena_alloc(m->memory, fft_room(f, 1, false));
    fft_job alone = {0};
    emlx_error err;
    if (filter == NULL || memory == NULL) return false;
    f->filter = filter;
    return fft_filter(&alone, f, filter, memory, &err) == EMLX_OK;
}

// Forms -----------------------------------------------------------------------------------------

static const fft_form *make_complex(int64_t length, const fft_maker *m) {
    int64_t factors[MOST_FACTORS];
    int32_t count;
    circle r;
    fft_form *f = form_new(length, m);
    if (f == NULL) return NULL;
    if (find_factors(length, factors, &count) != 1) return make_chirp(f, m) ? f : NULL;
    if (!circle_start(&r, length, m->memory)) return NULL;
    if (length <= MOST_PANEL && !make_passes(f, factors, count, &r, m)) return NULL;
    if (length >= LEAST_SPLIT && !make_split(f, &r, m)) return NULL;
    return f;
}

// The turns of mixings; roots are of the length.
static bool make_half(fft_form *f, const fft_maker *m) {
    circle r;
    f->half = make_complex(f->length / 2, m);
    if (f->half == NULL || !circle_start(&r, f->length, m->memory)) return false;
    if (!roots_start(&f->roots, &r, m->memory)) return false;
    for (int fold = 0; fold < 2; fold++) {
        void *turns = arena_array(m->memory, 2 * FFT_MIXED, f->size);
        if (turns == NULL) return false;
        f->turns[fold] = turns;
        for (int64_t k = 0; k < FFT_MIXED && k < f->length; k++) {
            double root[2];
            root_at(&r, k, root);
            put_number(f, turns, 2 * k, fold ? -root[0] : root[0]);
            put_number(f, turns, 2 * k + 1, root[1]);
        }
    }
    return true;
}

// In f32 where it errs by less than the tolerance of transforms.
static bool is_wide(int64_t length, emlx_type type) {
    int64_t factors[MOST_FACTORS];
    int32_t count;
    return type_part(type) != EMLX_F32 || find_factors(length, factors, &count) != 1;
}

const fft_form *fft_prepare(int64_t length, emlx_type type, bool real, const cpu_kernels *kernels,
                            arena *memory) {
    fft_maker m = {memory, kernels, is_wide(length, type)};
    if (!real || length % 2 != 0) return make_complex(length, &m);
    fft_form *f = form_new(length, &m);
    return f != NULL && make_half(f, &m) ? f : NULL;
}
