// SPDX-License-Identifier: Apache-2.0
// factors.cu - what is around a library's factors of large real matrices: operands as doubles,
// column by column where the library wants them so; results with the order and the signs that Nx
// gives. Matrices of a batch lie one after another, as do the numbers of each.

#define ALL(t, count) for (ll t = blockIdx.x * 256ll + threadIdx.x; t < (count); t += gridDim.x * 256ll)

// [count][rows][columns] as W, as it is, or TURNED into columns. CHECKED: what is not finite becomes 0
// and marks its matrix.
template <class T, class W, bool TURNED, bool CHECKED>
DEVICE void bring_matrices(ll from, ll to, ll marks, ll rows, ll columns, ll count) {
    ALL(t, count * rows * columns) {
        ll matrix = t / (rows * columns), at = t % (rows * columns), i = at / columns, j = at % columns;
        double x = wide_of(((const T *)from)[t]);
        if (CHECKED && !is_finite(x)) {
            ((int *)marks)[matrix] = 1;
            x = 0;
        }
        ((W *)to)[TURNED ? matrix * rows * columns + j * rows + i : t] = x;
    }
}

// The lower triangle; matrices that are not positive definite are left to `cholesky_again`.
template <class T, class W> DEVICE void take_cholesky(ll from, ll infos, ll out, ll n, ll count) {
    ALL(t, count * n * n) {
        ll matrix = t / (n * n), i = t / n % n, j = t % n;
        if (((const int *)infos)[matrix] != 0) continue;
        set(((T *)out)[t], j > i ? 0.0 : (double)((const W *)from)[matrix * n * n + j * n + i]);
    }
}
template <class T> DEVICE void cholesky_again(ll in, ll work, ll infos, ll out, ll n) {
    ll place = blockIdx.x * n * n;
    if (((const int *)infos)[blockIdx.x] != 0)
        cholesky<T, double>((const T *)in + place, (T *)out + place, (double *)work + place, (int)n);
}

// Where each row of a product comes from, of rows that were exchanged one after another; a thread a
// matrix. Gives whether their number is odd.
DEVICE bool follow_pivots(const int *pivots, int *from, int n) {
    bool odd = false;
    for (int i = 0; i < n && from != 0; i++) from[i] = i;
    for (int i = 0; i < n; i++) {
        int other = pivots[i] - 1;
        odd = odd != (other != i);
        if (from == 0 || other == i) continue;
        int row = from[i];
        from[i] = from[other];
        from[other] = row;
    }
    return odd;
}
DEVICE void follow_all(ll pivots, ll from, ll n, ll count) {
    ALL(t, count) follow_pivots((const int *)pivots + t * n, (int *)from + t * n, (int)n);
}
template <class T> DEVICE void take_lu(ll in, ll from, ll out, ll n, ll count) {
    ALL(t, count * n * n) {
        ll matrix = t / (n * n), at = t % (n * n), i = at / n, j = at % n;
        double x = ((const double *)in)[matrix * n * n + j * n + i];
        T *p = (T *)out + matrix * 3 * n * n, *l = p + n * n, *u = l + n * n;
        set(p[at], ((const int *)from)[matrix * n + j] == i ? 1.0 : 0.0);
        set(l[at], j < i ? x : i == j ? 1.0 : 0.0);
        set(u[at], j < i ? 0.0 : x);
    }
}
template <class T> DEVICE void take_determinant(ll in, ll pivots, ll out, ll n, ll count) {
    ALL(t, count) {
        const double *x = (const double *)in + t * n * n;
        double product = follow_pivots((const int *)pivots + t * n, 0, (int)n) ? -1 : 1;
        for (ll i = 0; i < n; i++) product *= x[i * (n + 1)];
        set(((T *)out)[t], product);
    }
}
// Columns become rows again. The number of a matrix that was singular, or -1.
template <class T> DEVICE ll take_solution(ll in, ll infos, ll out, ll n, ll other, ll count) {
    ll singular = -1;
    ALL(t, count * n * other) {
        ll matrix = t / (n * other), i = t / other % n, c = t % other;
        if (((const int *)infos)[matrix] > 0) singular = matrix;
        set(((T *)out)[t], ((const double *)in)[matrix * n * other + c * n + i]);
    }
    return singular;
}

// The library's reflections give a diagonal of any sign. Nx has it positive but for the last row of
// a matrix that is not tall, which no reflection turns: its sign follows from those of the others.
// A block a matrix.
DEVICE void find_signs(ll in, ll taus, ll signs, ll m, ll n) {
    ll k = m < n ? m : n, t = blockIdx.x;
    const double *x = (const double *)in + t * m * n, *tau = (const double *)taus + t * k;
    double *sign = (double *)signs + t * k, negative = 0;
    EACH(j, 0, k) {
        bool turned = j != m - 1 && tau[j] != 0 && x[j * (m + 1)] < 0;
        sign[j] = turned ? -1 : 1;
        negative += turned;
    }
    negative = block_sum(negative);
    if (threadIdx.x == 0 && k == m && fmod(negative, 2.0) != 0) sign[m - 1] = -1;
}
template <class T> DEVICE void take_r(ll in, ll signs, ll out, ll m, ll n, ll count) {
    ll k = m < n ? m : n, each = m * k + k * n;
    ALL(t, count * k * n) {
        ll matrix = t / (k * n), i = t / n % k, j = t % n;
        double x = ((const double *)in)[matrix * m * n + j * m + i];
        set(((T *)out)[matrix * each + m * k + i * n + j],
            j < i ? 0.0 : x * ((const double *)signs)[matrix * k + i] + 0);
    }
}
template <class T> DEVICE void take_q(ll in, ll signs, ll out, ll m, ll n, ll count) {
    ll k = m < n ? m : n, each = m * k + k * n;
    ALL(t, count * m * k) {
        ll matrix = t / (m * k), i = t / k % m, j = t % k;
        double x = ((const double *)in)[matrix * m * n + j * m + i];
        set(((T *)out)[matrix * each + i * k + j], x * ((const double *)signs)[matrix * k + j] + 0);
    }
}

// As turn_of, by a block.
DEVICE double block_turn(const double *x, ll n, ll step) {
    double most = 0, first = n;
    EACH(i, 0, n) most = fmax(most, fabs(x[i * step]));
    most = block_most(most);
    EACH(i, 0, n) if (fabs(x[i * step]) >= most * (1 - 1e-5) && i < first) first = i;
    first = -block_most(-first);
    return most > 0 && x[(ll)first * step] < 0 ? -1 : 1;
}

// A block a vector. R: the type in which values are compared.
template <class T> DEVICE void take_eigen(ll vectors, ll values, ll marks, ll out, ll n) {
    ll matrix = blockIdx.x / n;
    int i = (int)(blockIdx.x % n);
    const double *v = (const double *)vectors + matrix * n * n + i * n;
    const double *w = (const double *)values + matrix * n;
    T *to = (T *)out + matrix * n * (n + 1);
    if (((const int *)marks)[matrix] != 0) {
        EACH(k, 0, n + 1) set(to[k * n + i], NOT_A_NUMBER);
        return;
    }
    double rank = 0;
    T own = (T)w[i], size = own < 0 ? -own : own;
    EACH(j, 0, n) {
        T other = (T)w[j], other_size = other < 0 ? -other : other;
        rank += other_size > size || (other_size == size && (other < own || (other == own && j < i)));
    }
    ll place = (ll)block_sum(rank);
    double by = block_turn(v, n, 1);
    if (threadIdx.x == 0) to[place] = own;
    EACH(k, 0, n) set(to[(k + 1) * n + place], v[k] * by + 0);
}

// A block a pair of vectors, of which the longer side has `vectors` and the shorter one `count`,
// turned by the latter's sign; those without a pair by their own. The longer side is that of the
// rows where the matrix is TALL. The shorter one's vectors are ROWS, or one after another.
template <class T, bool TALL, bool ROWS>
DEVICE void take_svd(ll longer, ll shorter, ll values, ll marks, ll out, ll length, ll count, ll vectors,
                     double tolerance) {
    ll matrix = blockIdx.x / vectors, r = blockIdx.x % vectors, step = ROWS ? count : 1;
    const double *x = (const double *)longer + (matrix * vectors + r) * length;
    const double *y = (const double *)shorter + matrix * count * count + r * (ROWS ? 1 : count);
    const double *w = (const double *)values + matrix * count;
    ll m = TALL ? length : count, n = TALL ? count : length, columns = TALL ? vectors : count;
    T *u = (T *)out + matrix * (length * vectors + count * (count + 1)), *s = u + m * columns, *vt = s + count;
    bool pair = r < count, bad = ((const int *)marks)[matrix] != 0;
    double by = pair ? block_turn(y, count, step) : block_turn(x, length, 1);
    EACH(i, 0, length) set(TALL ? u[i * columns + r] : vt[r * n + i], bad ? NOT_A_NUMBER : x[i] * by + 0);
    if (!pair) return;
    EACH(i, 0, count) set(TALL ? vt[r * n + i] : u[i * columns + r], bad ? NOT_A_NUMBER : y[i * step] * by + 0);
    if (threadIdx.x == 0)
        set(s[r], bad ? NOT_A_NUMBER : r > 0 && w[r] <= tolerance * w[0] ? 0.0 : w[r]);
}
