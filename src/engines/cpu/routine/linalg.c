// SPDX-License-Identifier: Apache-2.0
// linalg.c - linear algebra by LAPACK, brought to Nx's conventions of order and sign. The code is
// in linalg.inc, once for each type. What takes long is cut into tasks: LAPACK gets panels of a
// matrix, the products with the rest are ours.
#include <complex.h>
#include <math.h>
#include <string.h>

#include "base/sanitize.h"
#include "engines/cpu/matrix/blas.h"
#include "engines/cpu/routine/routine.h"

UNSEEN_BEGIN // LAPACK writes half of it

// Systems of up to this many multiplications are solved by plain substitution: it divides by the
// diagonal where BLAS multiplies by its inverse, and is as quick.
#define SMALL_SOLVE 4096
// Elements of a matrix whose reflections are found here rather than by LAPACK, which takes a column
// that rounding has not left quite zero for one that is to be reflected.
#define SMALL_QR 4096

    // Fortran's functions take the lengths of their texts last.
    typedef size_t text_length;

static int larger(int a, int b) { return a > b ? a : b; }
static int smaller(int a, int b) { return a < b ? a : b; }
static size_t lesser(size_t a, size_t b) { return a < b ? a : b; }
static size_t area(int rows, int columns) { return (size_t)rows * (size_t)columns; }

// Columns of a panel, whose products with the rest of the matrix are tasks: of triangular factors,
// of reflections, and of those that meet a matrix from both sides. Then the sides of a task: a
// square, some columns, rows to copy, and elements that are gone through in order.
enum { WIDE_PANEL = 128, PANEL = 64, NARROW_PANEL = 32 };
enum { TILE = 256, COLUMNS = 64, ROWS = 64, BAND = 1 << 18 };
// Systems of up to this many multiplications are solved by one call of BLAS.
#define ONE_CALL (1 << 24)

static int64_t parts(int count) { return (count + TILE - 1) / TILE; }

// Elements of a matrix that tasks go through.
typedef struct band {
    const void *from;
    void *to;
    int rows, columns, step;
    size_t count;
    bool conjugate;
    double scale;
} band;

#define LAPACK_OF(letter, name) LAPACK_NAME(letter, name)
#define LAPACK_NAME(letter, name) letter##name##_

// A row of a type's symbols.
#define TEXT_OF(name) #name
#define TEXT(name) TEXT_OF(name)
#define SYMBOL(name)                                                                               \
    { TEXT(LAPACK(name)), (void *)&LAPACK(name) }

#define COMPLEX 0
#define CONJ(x) (x)
#define REAL(x) ((double)(x))
#define SIZE(x) fabs((double)(x))
#define BLAS_NUMBER(x) (x)

#define T float
#define R float
#define NAME(name) f32_##name
#define LAPACK(name) LAPACK_OF(s, name)
#define REAL_LAPACK(name) LAPACK_OF(s, name)
#define TRIDIAGONAL sytd2
#define BLAS(name) cblas_s##name
#define TABLE linalg_f32
#define SYMBOLS linalg_symbols_f32
#include "engines/cpu/routine/linalg.inc"

#define T double
#define R double
#define NAME(name) f64_##name
#define LAPACK(name) LAPACK_OF(d, name)
#define REAL_LAPACK(name) LAPACK_OF(d, name)
#define TRIDIAGONAL sytd2
#define BLAS(name) cblas_d##name
#define TABLE linalg_f64
#define SYMBOLS linalg_symbols_f64
#include "engines/cpu/routine/linalg.inc"

#undef COMPLEX
#undef CONJ
#undef REAL
#undef SIZE
#undef BLAS_NUMBER
#define COMPLEX 1
#define REAL(x) creal((double _Complex)(x))
#define SIZE(x) cabs((double _Complex)(x))
#define BLAS_NUMBER(x) (&(x))

#define T float _Complex
#define R float
#define CONJ(x) conjf(x)
#define NAME(name) c64_##name
#define LAPACK(name) LAPACK_OF(c, name)
#define REAL_LAPACK(name) LAPACK_OF(s, name)
#define TRIDIAGONAL hetd2
#define BLAS(name) cblas_c##name
#define TABLE linalg_c64
#define SYMBOLS linalg_symbols_c64
#include "engines/cpu/routine/linalg.inc"

#undef CONJ
#define T double _Complex
#define R double
#define CONJ(x) conj(x)
#define NAME(name) c128_##name
#define LAPACK(name) LAPACK_OF(z, name)
#define REAL_LAPACK(name) LAPACK_OF(d, name)
#define TRIDIAGONAL hetd2
#define BLAS(name) cblas_z##name
#define TABLE linalg_c128
#define SYMBOLS linalg_symbols_c128
#include "engines/cpu/routine/linalg.inc"

UNSEEN_END
