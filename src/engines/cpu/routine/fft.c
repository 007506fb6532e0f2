// SPDX-License-Identifier: Apache-2.0
// fft.c - Fourier transforms of any length, in double. Lengths without a large prime go through
// passes that sort the line on their way (after Stockham); others become a convolution of a length
// that has none (after Bluestein). Real lines of even length are transformed as complex ones of
// half the length.
#include <math.h>
#include <string.h>

#include "base/cancel.h"
#include "base/error.h"
#include "base/types.h"
#include "engines/cpu/routine/routine.h"

enum {
    MOST_PASSES = 64,
    MOST_LINES = 8,          // transformed side by side
    LINES_ELEMENTS = 1 << 13 // as long as they have this many elements
};

struct fft_form {
    int64_t length;
    int64_t room; // elements of a line while it is transformed
    int pass_count;
    fft_pass passes[MOST_PASSES];
    // Of a length with a large prime: the convolution's, exp(-pi i k k / length), and the
    // transformed conjugates of those, real parts first.
    const fft_form *longer;
    const double *chirp, *filter_re, *filter_im;
    // Of an even length: the transform of half of it, and exp(-2 pi i k / length).
    const fft_form *half;
    const double *turns;
};

// What a form is made with. It may take long, and so looks at the flag on its way.
typedef struct fft_maker {
    arena *memory;
    const cpu_run *run; // or NULL
} fft_maker;

// Whether to go on, asked in a loop of many short turns.
static bool goes_on(const fft_maker *m, int64_t turn) {
    enum { TURNS = 4096 };
    return turn % TURNS != 0 || m->run == NULL || task_goes_on(m->run);
}

// Roots of unity --------------------------------------------------------------------------------

// exp(-2 pi i k / n) for any k below n as the product of two entries of small tables, for angles up
// to an eighth of the circle, from where the others follow exactly.
typedef struct roots {
    int64_t n, block;
    long double *fine, *coarse; // cosine, sine of 2 pi j / 8n, and of j * block instead
} roots;

static bool roots_start(roots *r, int64_t n, const fft_maker *m) {
    const long double eighth = 0.785398163397448309615660845819875721L; // pi / 4
    r->n = n;
    r->block = (int64_t)sqrt((double)n) + 1;
    r->fine = arena_array(m->memory, (size_t)r->block * 2, sizeof *r->fine);
    r->coarse = arena_array(m->memory, (size_t)(n / r->block + 1) * 2, sizeof *r->coarse);
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

static void small_root(const roots *r, int64_t x, double *cosine, double *sine) {
    const long double *a = r->coarse + 2 * (x / r->block), *b = r->fine + 2 * (x % r->block);
    *cosine = (double)(a[0] * b[0] - a[1] * b[1]);
    *sine = (double)(a[0] * b[1] + a[1] * b[0]);
}

static void root_at(const roots *r, int64_t k, double *to) {
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

// Forms -----------------------------------------------------------------------------------------

// Takes factors out of the length. What is left over is 1, or has a prime that is too large.
static int64_t find_factors(int64_t n, int64_t *factors, int *count) {
    *count = 0;
    while (n % 4 == 0) {
        factors[(*count)++] = 4;
        n /= 4;
    }
    for (int64_t p = 2; p <= FFT_LARGEST; p += p == 2 ? 1 : 2)
        for (; n % p == 0; n /= p) factors[(*count)++] = p;
    return n;
}

static bool make_pass(fft_pass *pass, int64_t radix, int64_t rest, int64_t stride, const roots *r,
                      const fft_maker *m) {
    size_t turns = (size_t)(rest * (radix - 1));
    double *turn = arena_array(m->memory, turns * 2 + 2, sizeof *turn);
    double *root = arena_array(m->memory, (size_t)radix * 2, sizeof *root);
    if (turn == NULL || root == NULL) return false;
    *pass = (fft_pass){radix, rest, stride, turn, root};
    // The whole circle is radix * rest * stride.
    for (int64_t p = 0; p < rest; p++) {
        if (!goes_on(m, p)) return false;
        for (int64_t j = 1; j < radix; j++, turn += 2) root_at(r, p * j * stride, turn);
    }
    for (int64_t j = 0; j < radix; j++) root_at(r, j * rest * stride, root + 2 * j);
    return true;
}

static bool make_passes(fft_form *f, const int64_t *factors, int count, const fft_maker *m) {
    roots r;
    if (!roots_start(&r, f->length, m)) return false;
    int64_t rest = f->length, stride = 1;
    for (int i = 0; i < count; i++) {
        rest /= factors[i];
        if (!make_pass(&f->passes[i], factors[i], rest, stride, &r, m)) return false;
        stride *= factors[i];
    }
    f->pass_count = count;
    f->room = f->length;
    return true;
}

static const fft_form *make_line_form(int64_t n, bool halves, const fft_maker *m);

typedef struct parts {
    double *re, *im;
} parts;

static void forward(const cpu_run *run, const fft_form *f, fft_fn pass, int64_t lines, parts *x,
                    parts *spare);

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

// The chirp's exponent k k is counted around the circle of 2n.
static bool make_chirp(fft_form *f, const fft_maker *maker) {
    arena *memory = maker->memory;
    int64_t n = f->length, m = smooth_length(2 * n - 1);
    roots r;
    f->longer = make_line_form(m, false, maker);
    double *chirp = arena_array(memory, (size_t)n * 2, sizeof *chirp);
    double *filter = arena_array(memory, (size_t)m * 4, sizeof *filter);
    if (f->longer == NULL || chirp == NULL || filter == NULL || !roots_start(&r, 2 * n, maker))
        return false;
    parts x = {filter, filter + m}, spare = {filter + 2 * m, filter + 3 * m};
    for (int64_t k = 0, square = 0; k < n; k++) {
        if (!goes_on(maker, k)) return false;
        root_at(&r, square, chirp + 2 * k);
        x.re[k] = x.re[(m - k) % m] = chirp[2 * k];
        x.im[k] = x.im[(m - k) % m] = -chirp[2 * k + 1];
        square = (square + 2 * k + 1) % (2 * n);
    }
    forward(maker->run, f->longer, cpu_kernels_baseline.fft, 1, &x, &spare);
    f->chirp = chirp;
    f->filter_re = x.re;
    f->filter_im = x.im;
    f->room = m;
    return true;
}

static bool make_half(fft_form *f, const fft_maker *m) {
    roots r;
    double *turns = arena_array(m->memory, (size_t)f->length + 2, sizeof *turns);
    f->half = make_line_form(f->length / 2, false, m);
    f->turns = turns;
    if (turns == NULL || f->half == NULL || !roots_start(&r, f->length, m)) return false;
    for (int64_t k = 0; k <= f->length / 2; k++) {
        if (!goes_on(m, k)) return false;
        root_at(&r, k, turns + 2 * k);
    }
    return true;
}

static const fft_form *make_line_form(int64_t n, bool halves, const fft_maker *m) {
    int64_t factors[MOST_PASSES];
    int count;
    fft_form *f = arena_alloc(m->memory, sizeof *f);
    if (f == NULL) return NULL;
    f->length = n;
    bool smooth = find_factors(n, factors, &count) == 1;
    bool made = smooth ? make_passes(f, factors, count, m) : make_chirp(f, m);
    if (made && halves && n % 2 == 0) made = make_half(f, m);
    return made ? f : NULL;
}

const fft_form *fft_prepare(int64_t length, const cpu_run *run, arena *memory) {
    return make_line_form(length, true, &(fft_maker){memory, run});
}

// Transforms ------------------------------------------------------------------------------------

static void exchange(parts *a, parts *b) {
    parts old = *a;
    *a = *b;
    *b = old;
}

// The inverse is the forward transform of exchanged parts, which come out exchanged.
static parts turned(parts x) { return (parts){x.im, x.re}; }

// x[e] *= turns[e], where there is one turn for the element e of each line.
static void multiply_pairs(parts x, const double *re, const double *im, int64_t step, int64_t count,
                           int64_t lines) {
    for (int64_t e = 0; e < count; e++) {
        double c = re[e * step], s = im[e * step];
        for (int64_t i = e * lines; i < (e + 1) * lines; i++) {
            double a = x.re[i], b = x.im[i];
            x.re[i] = a * c - b * s;
            x.im[i] = a * s + b * c;
        }
    }
}

static void convolve(const cpu_run *run, const fft_form *f, fft_fn pass, int64_t lines, parts *x,
                     parts *spare) {
    int64_t n = f->length, m = f->longer->length;
    size_t zeros = (size_t)((m - n) * lines) * sizeof(double);
    multiply_pairs(*x, f->chirp, f->chirp + 1, 2, n, lines);
    memset(x->re + n * lines, 0, zeros);
    memset(x->im + n * lines, 0, zeros);
    forward(run, f->longer, pass, lines, x, spare);
    multiply_pairs(*x, f->filter_re, f->filter_im, 1, m, lines);
    parts back = turned(*x), other = turned(*spare);
    forward(run, f->longer, pass, lines, &back, &other);
    *x = turned(back);
    *spare = turned(other);
    multiply_pairs(*x, f->chirp, f->chirp + 1, 2, n, lines);
    for (int64_t i = 0; i < n * lines; i++) {
        x->re[i] /= (double)m;
        x->im[i] /= (double)m;
    }
}

// Leaves the result in x, which may have become what spare was. Between the passes of long lines
// others have their turn; `run` may be NULL.
static void forward(const cpu_run *run, const fft_form *f, fft_fn pass, int64_t lines, parts *x,
                    parts *spare) {
    if (f->longer != NULL) {
        convolve(run, f, pass, lines, x, spare);
        return;
    }
    for (int i = 0; i < f->pass_count; i++) {
        if (run != NULL && !task_goes_on(run)) return;
        pass(&f->passes[i], lines, x->re, x->im, spare->re, spare->im);
        exchange(x, spare);
    }
}

// Lines -----------------------------------------------------------------------------------------

typedef struct fft_work {
    const fft_form *form;
    const routine_params *params;
    const cpu_run *run;
    fft_fn pass;
    unfold_fn unfold;
    emlx_type from_type, to_type;
    tile_fn to_double, from_double; // of their parts
    const char *from;
    char *to;
    int64_t from_length, to_length; // of a line in memory
    int64_t lines, block, group;    // in all, side by side, and blocks of them in a task
    bool inverse, folded;
    task_errors errors;
} fft_work;

// Numbers of a line go through a buffer on the stack, for conversion.
enum { CHUNK = 128 };

// One line, cut or padded, as line number i of several. Folded: pairs become complex numbers.
static void load_line(const fft_work *w, const char *line, int64_t i, int64_t lines, parts x) {
    int64_t n = w->form->length, length = w->params->kind == ROUTINE_irfft ? n / 2 + 1 : n;
    emlx_type part = type_part(w->from_type);
    bool pairs = w->folded || part != w->from_type;
    int64_t width = part != w->from_type ? 2 : 1; // numbers of an element
    int64_t there = least(w->from_length, length) * width, count = length * width;
    double numbers[CHUNK];
    for (int64_t at = 0; at < count; at += CHUNK) {
        int64_t wanted = least(count - at, CHUNK), given = least(there - at, wanted);
        if (given < 0) given = 0;
        w->to_double(numbers, line + at * (int64_t)type_size(part), NULL, NULL, (size_t)given);
        memset(numbers + given, 0, (size_t)(wanted - given) * sizeof *numbers);
        double *re = x.re + (pairs ? at / 2 : at) * lines + i;
        double *im = x.im + (pairs ? at / 2 : at) * lines + i;
        for (int64_t k = 0; k < wanted; k += pairs ? 2 : 1, re += lines, im += lines) {
            *re = numbers[k];
            *im = pairs ? numbers[k + 1] : 0;
        }
    }
    // The other half is the first one's mirror image, where that has a partner.
    for (int64_t k = length; k < n; k++) {
        int64_t mirrored = (n - k) * lines + i;
        x.re[k * lines + i] = x.re[mirrored];
        x.im[k * lines + i] = -x.im[mirrored];
    }
}

// Elements `from` to `to` of a line, where x.re and x.im point to the first of them and the next is
// `step` further; x.im times `sign`. Parts that are almost zero are zero, and no zero is negative.
static void store_range(const fft_work *w, char *line, int64_t from, int64_t to, parts x,
                        int64_t step, double sign) {
    emlx_type part = type_part(w->to_type);
    int64_t width = part != w->to_type ? 2 : 1;
    double numbers[CHUNK], almost = w->params->tolerance, by = (double)w->form->length;
    for (int64_t at = from; at < to; at += CHUNK / 2) {
        int64_t count = least(to - at, CHUNK / 2);
        for (int64_t k = 0; k < count; k++, x.re += step, x.im += step) {
            numbers[k * width + width - 1] = *x.im * sign;
            numbers[k * width] = *x.re;
        }
        count *= width;
        for (int64_t k = 0; w->inverse && k < count; k++) numbers[k] /= by;
        for (int64_t k = 0; k < count; k++)
            numbers[k] = fabs(numbers[k]) <= almost ? 0 : numbers[k];
        w->from_double(line + at * width * (int64_t)type_size(part), numbers, NULL, NULL,
                       (size_t)count);
    }
}

static void store_line(const fft_work *w, char *line, int64_t i, int64_t lines, parts x) {
    int64_t n = w->form->length, own = w->folded ? least(n / 2 + 1, w->to_length) : w->to_length;
    double sign = w->folded && w->inverse ? -1 : 1;
    store_range(w, line, 0, own, (parts){x.re + i, x.im + i}, lines, sign);
    int64_t mirrored = (n - own) * lines + i;
    store_range(w, line, own, w->to_length, (parts){x.re + mirrored, x.im + mirrored}, -lines,
                -sign);
}

static void transform_block(const fft_work *w, int64_t first, int64_t lines, double *memory) {
    int64_t room = (w->form->room + 2) * lines;
    int64_t from_size = w->from_length * (int64_t)type_size(w->from_type);
    int64_t to_size = w->to_length * (int64_t)type_size(w->to_type);
    parts x = {memory, memory + room}, spare = {memory + 2 * room, memory + 3 * room};
    for (int64_t i = 0; i < lines; i++)
        load_line(w, w->from + (first + i) * from_size, i, lines, x);
    if (w->folded) {
        forward(w->run, w->form->half, w->pass, lines, &x, &spare);
        w->unfold(w->form->length / 2, w->form->turns, lines, x.re, x.im, spare.re, spare.im);
        exchange(&x, &spare);
    } else if (w->inverse) {
        parts back = turned(x), other = turned(spare);
        forward(w->run, w->form, w->pass, lines, &back, &other);
        x = turned(back);
    } else {
        forward(w->run, w->form, w->pass, lines, &x, &spare);
    }
    for (int64_t i = 0; i < lines; i++) store_line(w, w->to + (first + i) * to_size, i, lines, x);
}

static void fft_task(void *context, int64_t index) {
    fft_work *w = context;
    size_t size = (size_t)((w->form->room + 2) * w->block) * 4 * sizeof(double);
    _Alignas(64) char room[ROOM_SIZE];
    void *memory;
    emlx_error err;
    if (room_take(room, size, &memory, &err) != EMLX_OK) {
        task_failed(&w->errors, &err);
        return;
    }
    int64_t line = index * w->group * w->block, end = line + w->group * w->block;
    for (end = end < w->lines ? end : w->lines; line < end; line += w->block)
        transform_block(w, line, end - line < w->block ? end - line : w->block, memory);
    room_end(room, memory, size);
}

static emlx_status transform_lines(const cpu_run *run, const fft_form *form, emlx_error *err) {
    const plan_kernel *k = run->call->kernel;
    const routine_params *p = k->params;
    const plan_value *value = output_value(run);
    const emlx_shape *shape = &k->shapes[0];
    fft_work w = {.run = run, .form = form, .params = p, .pass = run->kernels->fft, .lines = 1};
    w.unfold = run->kernels->fft_unfold;
    w.from_type = k->accesses[0].type;
    w.to_type = value->type;
    w.to_double = run->kernels->cast[type_part(w.from_type)][EMLX_F64];
    w.from_double = run->kernels->cast[EMLX_F64][type_part(w.to_type)];
    w.from = operand_data(run, 0);
    w.to = output_data(run);
    w.from_length = shape->dims[shape->rank - 1];
    w.to_length = value->shape.dims[value->shape.rank - 1];
    w.inverse = p->kind == ROUTINE_irfft || (p->flags & ROUTINE_INVERSE);
    w.folded = form->half != NULL && !type_is_complex(w.from_type) && p->kind != ROUTINE_irfft;
    for (int32_t d = 0; d + 1 < shape->rank; d++) w.lines *= shape->dims[d];
    if (w.lines == 0) return EMLX_OK;
    w.block = LINES_ELEMENTS / form->room;
    w.block = w.block < 1 ? 1 : w.block > MOST_LINES ? MOST_LINES : w.block;
    int64_t elements = form->room * w.block;
    w.group = elements >= TASK_ELEMENTS ? 1 : TASK_ELEMENTS / elements;
    int64_t task = w.group * w.block;
    TRY(run_tasks(run, (w.lines - 1) / task + 1, fft_task, &w, err));
    // A line that was given up on the way is no result.
    if (cancel_raised(run->call->cancel)) return error_set(err, EMLX_CANCELLED, "cancelled");
    return task_result(&w.errors, err);
}

emlx_status run_fft(const cpu_run *run, emlx_error *err) {
    const routine_params *p = run->call->kernel->params;
    if (run->form->fft != NULL) return transform_lines(run, run->form->fft, err);
    arena memory = {0};
    const emlx_cancel *cancel = run->call->cancel;
    const fft_form *form = fft_prepare(p->length, run, &memory);
    emlx_status status;
    if (form != NULL)
        status = transform_lines(run, form, err);
    else if (cancel_raised(cancel))
        status = error_set(err, EMLX_CANCELLED, "cancelled");
    else
        status = error_set(err, EMLX_OUT_OF_MEMORY, "no memory for a transform of length %lld",
                           (long long)p->length);
    arena_clear(&memory);
    return status;
}
