// SPDX-License-Identifier: Apache-2.0
// routine.c - linear algebra and Fourier transforms of single matrices and lines, by the textbook,
// in long double. Eigenvalues and singular values are not here: they go to the host's engine.
#include <math.h>
#include <string.h>

#include "pairs.h"
#include "plain.h"

#undef I
#undef complex

typedef long double _Complex number;

// One element of the batch. Matrices lie by rows.
typedef struct element {
    const routine_params *params;
    bool complex_numbers;
    int64_t rows, columns, others; // of the matrix, and columns (or rows) of the second operand
    number *a, *b, *out;
    number *spare; // as much as one matrix takes, and one with as many rows and columns as `rows`
    emlx_error *err;
} element;

typedef emlx_status (*element_fn)(const element *e);

static void identity(number *m, int64_t n) {
    for (int64_t i = 0; i < n * n; i++) m[i] = i / n == i % n;
}

// Triangles --------------------------------------------------------------------------------------

// A zero on the diagonal leaves nothing below it, and a negative number gives NaN, as in Nx.
static emlx_status cholesky(const element *e) {
    int64_t n = e->rows;
    for (int64_t i = 0; i < n * n; i++) e->out[i] = 0;
    for (int64_t j = 0; j < n; j++)
        for (int64_t i = j; i < n; i++) {
            number rest = e->a[i * n + j];
            for (int64_t k = 0; k < j; k++) rest -= e->out[i * n + k] * conjl(e->out[j * n + k]);
            number above = e->out[j * n + j];
            if (i == j)
                rest = sqrtl(creall(rest));
            else
                rest = above == 0 ? rest / 1e-10L : rest / above;
            if (i > j && cabsl(rest) <= 1e-10L) rest = 0;
            e->out[i * n + j] = rest;
        }
    return EMLX_OK;
}

// Element [i][j] of the triangle as it is asked for.
static number triangle_at(const element *e, int64_t i, int64_t j) {
    int64_t flags = e->params->flags;
    bool flipped = flags & ROUTINE_TRANSPOSE;
    number x = flipped ? e->a[j * e->rows + i] : e->a[i * e->rows + j];
    return flags & ROUTINE_CONJUGATE ? conjl(x) : x;
}

// Solves t x = b, or x t = b, for one column, or row, of b: number `which`.
static void substitute(const element *e, int64_t which) {
    int64_t n = e->rows, flags = e->params->flags;
    bool right = flags & ROUTINE_RIGHT, upper = flags & ROUTINE_UPPER;
    bool downwards = (upper != 0) == (((flags & ROUTINE_TRANSPOSE) != 0) != right);
    int64_t step = right ? 1 : e->others, first = right ? which * n : which;
    for (int64_t at = 0; at < n; at++) {
        int64_t i = downwards ? at : n - 1 - at;
        number sum = e->b[first + i * step];
        for (int64_t known = 0; known < at; known++) {
            int64_t k = downwards ? known : n - 1 - known;
            number factor = right ? triangle_at(e, k, i) : triangle_at(e, i, k);
            sum -= factor * e->out[first + k * step];
        }
        e->out[first + i * step] = sum / triangle_at(e, i, i);
    }
}

static emlx_status triangular_solve(const element *e) {
    for (int64_t i = 0; i < e->rows; i++)
        if (e->a[i * e->rows + i] == 0) return guard_error(GUARD_TRIANGLE, NULL, e->err);
    for (int64_t i = 0; i < e->others; i++) substitute(e, i);
    return EMLX_OK;
}

// Elimination ------------------------------------------------------------------------------------

static void swap_rows(number *m, int64_t columns, int64_t i, int64_t j) {
    for (int64_t k = 0; k < columns; k++) {
        number kept = m[i * columns + k];
        m[i * columns + k] = m[j * columns + k];
        m[j * columns + k] = kept;
    }
}

// The size by which pivots are chosen.
static long double rough_size(number x) { return fabsl(creall(x)) + fabsl(cimagl(x)); }

// Turns `a` into its factors, one below the diagonal. Rows of `other` are exchanged as those of `a`
// are. Returns the sign of the exchanges, or 0 where a pivot is 0.
static int eliminate(number *a, int64_t n, number *other, int64_t columns) {
    int sign = 1;
    bool singular = false;
    for (int64_t j = 0; j < n; j++) {
        int64_t pivot = j;
        for (int64_t i = j + 1; i < n; i++)
            if (rough_size(a[i * n + j]) > rough_size(a[pivot * n + j])) pivot = i;
        if (pivot != j) {
            swap_rows(a, n, j, pivot);
            swap_rows(other, columns, j, pivot);
            sign = -sign;
        }
        if (a[j * n + j] == 0) singular = true;
        for (int64_t i = j + 1; i < n && a[j * n + j] != 0; i++) {
            a[i * n + j] /= a[j * n + j];
            for (int64_t k = j + 1; k < n; k++) a[i * n + k] -= a[i * n + j] * a[j * n + k];
        }
    }
    return singular ? 0 : sign;
}

static emlx_status solve(const element *e) {
    int64_t n = e->rows, m = e->others;
    memcpy(e->out, e->b, (size_t)(n * m) * sizeof *e->out);
    if (eliminate(e->a, n, e->out, m) == 0) return guard_error(GUARD_SYSTEM, NULL, e->err);
    for (int64_t j = 0; j < m; j++) {
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < i; k++)
                e->out[i * m + j] -= e->a[i * n + k] * e->out[k * m + j];
        for (int64_t i = n - 1; i >= 0; i--) {
            for (int64_t k = i + 1; k < n; k++)
                e->out[i * m + j] -= e->a[i * n + k] * e->out[k * m + j];
            e->out[i * m + j] /= e->a[i * n + i];
        }
    }
    return EMLX_OK;
}

// The permutation is the inverse of the exchanges.
static emlx_status lu(const element *e) {
    int64_t n = e->rows;
    number *p = e->out, *l = p + n * n, *u = l + n * n;
    identity(e->spare, n);
    eliminate(e->a, n, e->spare, n);
    for (int64_t i = 0; i < n; i++)
        for (int64_t j = 0; j < n; j++) {
            number x = e->a[i * n + j];
            p[j * n + i] = e->spare[i * n + j];
            l[i * n + j] = j < i ? x : j == i;
            u[i * n + j] = j < i ? 0 : x;
        }
    return EMLX_OK;
}

// Small ones by the rule, so that whole numbers stay whole.
static number small_determinant(const number *a, int64_t n) {
    if (n == 1) return a[0];
    if (n == 2) return a[0] * a[3] - a[1] * a[2];
    number sum = 0;
    for (int j = 0; j < 3; j++) {
        sum += a[j] * a[3 + (j + 1) % 3] * a[6 + (j + 2) % 3];
        sum -= a[j] * a[3 + (j + 2) % 3] * a[6 + (j + 1) % 3];
    }
    return sum;
}

static emlx_status determinant(const element *e) {
    int64_t n = e->rows;
    if (n <= 3) {
        *e->out = small_determinant(e->a, n);
        return EMLX_OK;
    }
    int sign = eliminate(e->a, n, e->spare, 0);
    number product = sign < 0 ? -1 : 1;
    for (int64_t i = 0; i < n; i++) product *= e->a[i * n + i];
    *e->out = product;
    return EMLX_OK;
}

// Orthogonal factors -----------------------------------------------------------------------------

static long double length_of(const number *column, int64_t count, int64_t step) {
    long double sum = 0;
    for (int64_t i = 0; i < count; i++) sum = hypotl(sum, cabsl(column[i * step]));
    return sum;
}

// The reflection 1 - tau v v' that leaves nothing of column j below the diagonal; see Nx: what is
// left is positive, or for complex numbers of the opposite phase. A real column that has nothing
// there already stays as it is. Returns tau.
static long double find_mirror(const element *e, int64_t j, number *v) {
    int64_t m = e->rows, n = e->columns;
    const number *x = e->a + j * n + j;
    long double whole = length_of(x - j * n, m, n), rest = length_of(x + n, m - j - 1, n);
    long double length = hypotl(cabsl(*x), rest), size = cabsl(*x);
    if (length == 0 || (!e->complex_numbers && rest <= 1e-14L * whole)) return 0;
    number top = *x - length;
    if (e->complex_numbers)
        top = (size == 0 ? 1 : *x / size) * (size + length);
    else if (creall(*x) > 0)
        top = -rest * (rest / (creall(*x) + length));
    for (int64_t i = 0; i < m; i++) v[i] = i < j ? 0 : i == j ? 1 : x[(i - j) * n] / top;
    return e->complex_numbers ? (size + length) / length : -creall(top) / length;
}

// m -= tau v (v' m)
static void reflect(const number *v, long double tau, number *m, int64_t rows, int64_t columns) {
    for (int64_t k = 0; k < columns; k++) {
        number sum = 0;
        for (int64_t i = 0; i < rows; i++) sum += conjl(v[i]) * m[i * columns + k];
        for (int64_t i = 0; i < rows; i++) m[i * columns + k] -= tau * sum * v[i];
    }
}

// q' is the product of the reflections, which turn the matrix into r.
static emlx_status qr(const element *e) {
    int64_t m = e->rows, n = e->columns, least = m < n ? m : n;
    int64_t inner = e->params->flags & ROUTINE_FULL ? m : least;
    number *turned = e->spare, *v = turned + m * m, *q = e->out, *r = q + m * inner;
    identity(turned, m);
    for (int64_t j = 0; j < least; j++) {
        if (j == m - 1 && n <= m) break;
        long double tau = find_mirror(e, j, v);
        if (tau == 0) continue;
        reflect(v, tau, e->a, m, n);
        reflect(v, tau, turned, m, m);
    }
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < inner; j++) q[i * inner + j] = conjl(turned[j * m + i]);
    for (int64_t i = 0; i < inner; i++)
        for (int64_t j = 0; j < n; j++) r[i * n + j] = j < i ? 0 : e->a[i * n + j];
    return EMLX_OK;
}

static const element_fn of_matrices[ROUTINE_COUNT] = {
    [ROUTINE_cholesky] = cholesky,
    [ROUTINE_triangular_solve] = triangular_solve,
    [ROUTINE_solve] = solve,
    [ROUTINE_qr] = qr,
    [ROUTINE_lu] = lu,
    [ROUTINE_determinant] = determinant,
};

bool routine_is_known(const routine_params *p) {
    return routine_elements[p->kind] == ROUTINE_OF_LINE || of_matrices[p->kind] != NULL;
}

// Batches ----------------------------------------------------------------------------------------

static number read_number(const array *a, int64_t position) {
    emlx_number x = array_get(a, position);
    return CMPLXL(x.as.f[0], x.kind == EMLX_NUMBER_COMPLEX ? x.as.f[1] : 0);
}

static void write_number(array *a, int64_t position, number x) {
    emlx_number n = {.kind = EMLX_NUMBER_REAL, .as.f = {(double)creall(x), (double)cimagl(x)}};
    if (type_is_complex(a->type)) n.kind = EMLX_NUMBER_COMPLEX;
    array_set(a, position, n);
}

static int64_t batch_of(const node_run *r) {
    int64_t count = 1;
    const routine_params *p = r->node->params;
    for (int32_t d = 0; d < p->batch; d++) count *= r->out.shape->dims[d];
    return count;
}

static emlx_status run_element(node_run *r, element *e, int64_t i, const int64_t *sizes) {
    for (int64_t k = 0; k < sizes[0]; k++) e->a[k] = read_number(&r->in[0], i * sizes[0] + k);
    for (int64_t k = 0; k < sizes[1]; k++) e->b[k] = read_number(&r->in[1], i * sizes[1] + k);
    TRY(of_matrices[e->params->kind](e));
    for (int64_t k = 0; k < sizes[2]; k++) write_number(&r->out, i * sizes[2] + k, e->out[k]);
    return EMLX_OK;
}

static emlx_status run_matrices(node_run *r) {
    const emlx_shape *shape = r->in[0].shape;
    int64_t count = batch_of(r);
    element e = {.params = r->node->params,
                 .complex_numbers = type_is_complex(r->out.type),
                 .rows = shape->dims[shape->rank - 2],
                 .columns = shape->dims[shape->rank - 1],
                 .err = r->err};
    if (count == 0) return EMLX_OK;
    int64_t sizes[3] = {r->in[0].count / count, 0, r->out.count / count};
    if (r->node->operand_count > 1) sizes[1] = r->in[1].count / count;
    e.others = sizes[1] / e.rows;
    int64_t spare = (e.rows + 1) * e.rows;
    size_t size = (size_t)(sizes[0] + sizes[1] + sizes[2] + spare) * sizeof(number);
    e.a = mem_alloc(size);
    if (e.a == NULL) return error_no_memory(r->err, "for a matrix");
    e.b = e.a + sizes[0];
    e.out = e.b + sizes[1];
    e.spare = e.out + sizes[2];
    emlx_status status = EMLX_OK;
    for (int64_t i = 0; i < count && status == EMLX_OK; i++) status = run_element(r, &e, i, sizes);
    mem_free(e.a, size);
    return status;
}

// Transforms -------------------------------------------------------------------------------------

// Number t of a line that is cut, or followed by zeros; of one that is given by its first half, the
// other half mirrors it.
static number line_at(const node_run *r, int64_t first, int64_t step, int64_t given, int64_t t) {
    const routine_params *p = r->node->params;
    int64_t half = p->length / 2 + 1;
    bool mirrored = p->kind == ROUTINE_irfft && t >= half;
    if (mirrored) t = p->length - t;
    number x = t < given ? read_number(&r->in[0], first + t * step) : 0;
    return mirrored ? conjl(x) : x;
}

// Parts that are as good as 0 are 0.
static long double cleared(long double x, double tolerance) {
    return fabsl(x) <= tolerance ? 0 : x;
}

static emlx_status run_lines(node_run *r) {
    const long double circle = 6.28318530717958647693L;
    const routine_params *p = r->node->params;
    const emlx_shape *shape = r->in[0].shape;
    int64_t given = shape->dims[p->batch], wanted = r->out.shape->dims[p->batch];
    int64_t n = p->length, inner = 1;
    for (int32_t d = p->batch + 1; d < shape->rank; d++) inner *= shape->dims[d];
    bool inverse = p->kind == ROUTINE_irfft || (p->flags & ROUTINE_INVERSE);
    for (int64_t i = 0; i < r->out.count; i++) {
        number sum = 0;
        int64_t k = i / inner % wanted, first = i / inner / wanted * given * inner + i % inner;
        for (int64_t t = 0; t < n; t++) {
            long double angle = circle * (long double)(k * t % n) / (long double)n;
            number turn = CMPLXL(cosl(angle), inverse ? sinl(angle) : -sinl(angle));
            sum += line_at(r, first, inner, given, t) * turn;
        }
        if (inverse) sum /= (long double)n;
        write_number(
            &r->out, i,
            CMPLXL(cleared(creall(sum), p->tolerance), cleared(cimagl(sum), p->tolerance)));
    }
    return EMLX_OK;
}

emlx_status run_routine(node_run *r) {
    const routine_params *p = r->node->params;
    return routine_elements[p->kind] == ROUTINE_OF_LINE ? run_lines(r) : run_matrices(r);
}
