// SPDX-License-Identifier: Apache-2.0
// kernels.h - the CPU engine's tile kernels: plain loops over contiguous elements, one table of
// them per CPU level. A kernel gets pointers and counts that the caller has checked; it cannot
// fail. Knows types and scalar ops only: nothing of plans or threads.
#ifndef EMLX_CPU_KERNELS_H
#define EMLX_CPU_KERNELS_H

#include "graph/packed.h"

// dst[i] = f(a[i], b[i], c[i]) for i < n. Operands that f does not have are ignored. `dst` may be
// the same array as an operand with elements of the same size, never a shifted one. Pointers are
// aligned to an element only.
typedef void (*tile_fn)(void *dst, const void *a, const void *b, const void *c, size_t n);

// Copies n elements of one size whose distance (in elements) is a stride of any sign or zero:
// dst[i] = src[i * stride], or dst[i * stride] = src[i].
typedef void (*stride_fn)(void *dst, const void *src, int64_t stride, size_t n);

// dst[r * length + i] = src[r * step] for all r < rows, i < length.
typedef void (*repeat_fn)(void *dst, const void *src, int64_t step, size_t rows, size_t length);

// dst[i] = start + i * step, computed in 64-bit wrapping integers, then converted to the type.
typedef void (*iota_fn)(void *dst, int64_t start, int64_t step, size_t n);

// A fold. Accumulators are wider than the elements where that keeps digits: f64 for f32, a pair of
// f64 (compensated) for the sum of f64; integers wrap in their own type. Arg-reductions hold the
// best value and its index. The result of a fold does not depend on how often and where `merge`
// is called, as long as that is the same each time.
typedef struct reduce_fns {
    size_t accumulator; // bytes of one
    // acc[i] = nothing folded yet.
    void (*init)(void *acc, size_t n);
    // Folds row r, of `length` contiguous elements, into acc[r]. `index` is that of the first
    // element of every row in its fold (for arg-reductions).
    void (*rows)(void *acc, const void *x, size_t rows, size_t length, int64_t index);
    // Folds element c of row r into acc[c], for all r in order; rows begin `step` elements apart,
    // and `index` is that of row 0.
    void (*columns)(void *acc, const void *x, size_t rows, size_t columns, int64_t step,
                    int64_t index);
    // Folds other[i], which comes later in order, into acc[i].
    void (*merge)(void *acc, const void *other, size_t n);
    // Writes the results in the element type of the table entry (rounded once), or as s64
    // indices for arg-reductions.
    void (*finish)(void *dst, const void *acc, size_t n);
} reduce_fns;

// Running folds of up to SCAN_COLUMNS columns side by side: element c of row r becomes the fold of
// column c over rows 0 to r. Rows are `stride` elements apart, which may be negative. `state`, of
// SCAN_STATE bytes, is what was folded so far where the fold does not begin here.
typedef void (*scan_fn)(void *dst, const void *src, int64_t rows, int64_t stride, size_t columns,
                        void *state, bool begin);
enum { SCAN_COLUMNS = 512, SCAN_STATE = SCAN_COLUMNS * 16 };

// By kind of fold, sum to min, and element type; NULL where there is none. One for all CPU levels,
// since a running fold waits for the step before it.
extern const scan_fn cpu_scans[REDUCE_COUNT][EMLX_TYPE_COUNT];

// The inner loops of direct convolutions.
typedef struct conv_fns {
    emlx_type sum; // of the accumulators
    // acc[i] += sum over t of weights[t] * x[t][i * step]. Weights are doubles for floats, uint64_t
    // for integers.
    void (*rows)(void *acc, const void *const *x, const void *weights, size_t count, int64_t step,
                 size_t n);
    // acc[i] += sum over t of weights[t][i] * x[t][i]
    void (*products)(void *acc, const void *const *x, const void *const *weights, size_t count,
                     size_t n);
} conv_fns;

// Two scalar functions of one type in one loop, the first's result being the second's first
// operand.
typedef struct pair_fn {
    scalar_op first, second;
    emlx_type type;
    tile_fn fn;
} pair_fn;

// Fourier transforms of `lines` lines side by side, in a panel: an element of all lines is a row of
// it, the real parts first, then the imaginary ones.
//
// One pass, forward: with the elements in front numbered [k][p][q], k < radix, p < rest, q <
// stride, element [p][j][q] behind is the sum over k of [k][p][q] times exp(-2 pi i (j k / radix +
// p j / (radix rest))).
typedef struct fft_pass {
    int64_t radix; // 2, 4, 8, or odd and at most FFT_LARGEST
    int64_t rest, stride;
    const void *turns; // [p][j - 1], j from 1: exp(-2 pi i p j / (radix rest)), real and imaginary
    const void *roots; // of odd radix: exp(-2 pi i j / radix)
} fft_pass;
enum { FFT_LARGEST = 31, FFT_MOST_LINES = 16 };

// Numbers are multiplied, then divided; those of a size up to `almost` become zero, and no zero is
// negative.
typedef struct fft_scale {
    double times, over, almost;
} fft_scale;

// Real lines of 2 half elements as complex ones of half as many, and back. With s = x[k] +
// conj(x[half - k]) and d their difference times the turn w[k], result k is s - i d, and result
// half - k the conjugate of s + i d, for k from `k` to `end`, at most half / 2, scaled.
// Unfolding (w[k] = exp(-pi i k / half), a half of it) makes the transform of a line from that of
// its even and odd elements; folding (w[k] = -exp(pi i k / half)) is the way back. Imaginary parts
// are multiplied by `sign`.
typedef struct fft_mixing {
    const void *from; // half elements; half + 1 where it `folds`
    void *to;         // the other number of elements
    void *mirror;     // or NULL; to[2 half - k] = conj(to[k]) is written here as well
    int64_t half, k, end;
    bool folds;
    const void *base; // w[k + i] = base[i] * start
    double start[2], sign;
    fft_scale scale;
} fft_mixing;

// Places are in numbers: elements of a line are `element` apart and lines `line`. `exchange` takes
// or writes the parts in each other's place.
typedef struct fft_fns {
    int64_t lines;
    void (*pass)(const fft_pass *pass, bool exchange, const void *from, void *to);
    // Into a panel: `terms` numbers of lines whose numbers are `term` apart; and lines whose
    // complex elements are anywhere. Lines that are missing become 0.
    void (*along)(void *panel, const void *from, int64_t line, int64_t term, size_t lines,
                  size_t terms);
    void (*across)(void *panel, const void *from, int64_t element, int64_t line, int64_t lines,
                   int64_t count);
    // Out of it: lines whose elements are side by side, or anywhere.
    void (*back_along)(void *to, const void *panel, bool exchange, int64_t line, int64_t lines,
                       int64_t count);
    void (*back_across)(void *to, const void *panel, bool exchange, int64_t element, int64_t line,
                        int64_t lines, int64_t count);
    // Row e *= starts[e] * base's row e.
    void (*turn)(void *panel, const void *base, const double *starts, int64_t count);
    void (*tidy)(void *numbers, int64_t count, const fft_scale *scale);
    void (*mix)(const fft_mixing *mixing);
} fft_fns;

// Products of a matrix, whose elements are read where they are, and a vector. Both add to `sums`.
typedef struct vector_fns {
    emlx_type sum; // of the sums and of the vector
    // sums[l] += sum over t of matrix[l * step + t] * x[t]
    void (*across)(const void *matrix, int64_t step, size_t lines, const void *x, size_t terms,
                   void *sums);
    // sums[c] += sum over l of matrix[l * step + c] * x[l]
    void (*down)(const void *matrix, int64_t step, size_t lines, const void *x, size_t columns,
                 void *sums);
} vector_fns;

// How a side of a matrix product is packed: in panels of `lines` lines whose terms lie in groups.
// Term t of line l of a panel is at (t / group * lines + l) * group + t % group.
typedef struct panel_form {
    int32_t lines, group;
    // Packs a panel of at most `lines` lines. One of the steps is 1 where it is to be quick. What
    // is missing, up to whole panels and groups, becomes 0.
    void (*pack)(void *panel, const void *side, int64_t line_step, int64_t term_step, size_t lines,
                 size_t terms);
} panel_form;

// The inner loop of products of matrices.
typedef struct product_fns {
    emlx_type packed; // elements of panels, to which operands convert without loss
    emlx_type sum;
    panel_form left, right;
    int64_t terms; // of panels that are worked on at a time, a multiple of both groups
    // sums[i * step + j], for all lines i of a left panel and j of a right one, becomes or, with
    // `add`, grows by the sum over t of left[i][t] * right[j][t]. `terms` are whole groups.
    void (*tile)(int64_t terms, const void *left, const void *right, void *sums, int64_t step,
                 bool add);
    // Whether there is an element that the tiles take for 0, as a dot instruction does numbers
    // below the normal ones: then the product goes elsewhere. NULL where there are none such.
    bool (*flushes)(const void *panel, size_t count);
    // Around the tiles of a task; NULL where nothing is to be done.
    void (*enter)(void);
    void (*leave)(void);
} product_fns;

// Rows of scores of attention, in f32.
typedef struct attention_fns {
    // x[i] = x[i] * by + added[i], which may be NULL; gives the largest, NaNs aside.
    float (*scale)(float *x, float by, const float *added, size_t n);
    // x[i] = -infinity where seen[i] is 0; gives the largest, NaNs aside.
    float (*hide)(float *x, const uint8_t *seen, size_t n);
    // x[i] = exp(x[i] - most), where no x[i] is above `most`; gives the sum.
    float (*powers)(float *x, float most, size_t n);
    void (*multiply)(float *x, float by, size_t n);
} attention_fns;

// Rows of packed weights (graph/packed.def) and vectors. An element's value is code * scale + bias,
// with a scale and a bias for each group of a row; what the codes are, product/packed.h says.
typedef struct packed_row {
    const uint8_t *bits;
    const float *scale, *bias;
} packed_row;

enum { PACKED_CHUNK = 64, PACKED_VECTORS = 4 };

// `terms` and positions are multiples of PACKED_CHUNK.
typedef struct packed_fns {
    // A vector in the form that `dot` reads, and the bytes that it takes.
    size_t (*bytes)(int64_t terms, int64_t group);
    void (*prepare)(void *to, const float *x, int64_t terms, int64_t group);
    // Values `at` to at + PACKED_CHUNK - 1 of a row.
    void (*values)(float *to, const uint8_t *row, int64_t at, const float *scale, const float *bias,
                   int64_t group);
    // sums[v] = the row times vector v, for up to PACKED_VECTORS of them.
    void (*dot)(const packed_row *row, int64_t terms, int64_t group, const void *const *vectors,
                int count, float *sums);
} packed_fns;

typedef struct cpu_kernels {
    const char *level;
    // scalar[function][type it is computed in]; NULL where that makes no sense.
    const tile_fn (*scalar)[EMLX_TYPE_COUNT];
    // All that there are; one without a function is the last.
    const pair_fn *pairs;
    // cast[from][to], by Nx's rules for casts; floats below 32 bits round once, to nearest even.
    // A copy on the diagonal.
    const tile_fn (*cast)[EMLX_TYPE_COUNT];
    // iota[type]
    const iota_fn *iota;
    // By log2 of the element's size in bytes (1, 2, 4, 8, 16).
    const stride_fn *gather;
    const stride_fn *scatter;
    const repeat_fn *repeat;
    // reduce[kind][element type]; `init` is NULL where there is none.
    const reduce_fns (*reduce)[EMLX_TYPE_COUNT];
    // conv[element type]: sums in f64 for floats, in u32 or u64 for integers (which wrap alike for
    // both signs). `rows` is NULL for types that are computed in another one.
    const conv_fns *conv;
    // The same for f32 with sums in f32.
    const conv_fns *conv_quick;
    // Of f32 and of f64.
    const fft_fns *fft;
    // By the matrix's element type. `across` is NULL for types that have none; so is `tile`.
    const vector_fns *vector;
    const product_fns *product;
    const attention_fns *attention;
    const packed_fns *packed; // by packed_kind
} cpu_kernels;

// The tables that this build has; each is complete.
#define CPU_LEVEL(name, runs) extern const cpu_kernels cpu_kernels_##name;
#define CPU_DOTS(name, runs)                                                                       \
    extern const product_fns name##_product_table[EMLX_TYPE_COUNT];                                \
    extern const packed_fns name##_packed_table[PACKED_COUNT];
#include "engines/cpu/kernels/levels.def"
#undef CPU_LEVEL
#undef CPU_DOTS

// The best table for this CPU; EMLX_CPU_LEVEL forces a lower one, by the name that it has in
// levels.def.
const cpu_kernels *cpu_kernels_select(void);
// The tables from the lowest up to that one; NULL past the last.
const cpu_kernels *cpu_kernels_level(size_t i);

#endif
