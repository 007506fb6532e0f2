// SPDX-License-Identifier: Apache-2.0
// linalg.cu - routines of linear algebra, a block a matrix, in double whatever the type, with the
// order and the signs that Nx gives. Real numbers are A = double, complex ones A = T_c128. `work`
// is memory of the block's own, shared where the matrix is small. Blocks have a power of two of
// threads, and all of them go the same way.

DEVICE double wide_of(float x) { return x; }
DEVICE double wide_of(double x) { return x; }
DEVICE T_c128 wide_of(T_c64 z) { return {z.re, z.im}; }
DEVICE T_c128 wide_of(T_c128 z) { return z; }
DEVICE void set(float &to, double x) { to = (float)x; }
DEVICE void set(double &to, double x) { to = x; }
DEVICE void set(T_c64 &to, T_c128 z) { to = {(float)z.re, (float)z.im}; }
DEVICE void set(T_c128 &to, T_c128 z) { to = z; }
DEVICE void set(T_c64 &to, double x) { to = {(float)x, 0}; }
DEVICE void set(T_c128 &to, double x) { to = {x, 0}; }
DEVICE double conjugated(double x) { return x; }
DEVICE T_c128 conjugated(T_c128 z) { return {z.re, -z.im}; }
DEVICE double real_part(double x) { return x; }
DEVICE double real_part(T_c128 z) { return z.re; }
DEVICE double length_of(double x) { return fabs(x); }
DEVICE double length_of(T_c128 z) { return hypot(z.re, z.im); }
DEVICE double square_of(double x) { return x * x; }
DEVICE double square_of(T_c128 z) { return z.re * z.re + z.im * z.im; }
// x / size, its phase.
DEVICE double phase_of(double x, double) { return x < 0 ? -1 : 1; }
DEVICE T_c128 phase_of(T_c128 z, double size) { return {z.re / size, z.im / size}; }
// By what LAPACK chooses pivots.
DEVICE double pivot_size(double x) { return fabs(x); }
DEVICE double pivot_size(T_c128 z) { return fabs(z.re) + fabs(z.im); }
DEVICE bool is_finite(double x) { return isfinite(x); }
DEVICE bool is_finite(T_c128 z) { return isfinite(z.re) && isfinite(z.im); }
DEVICE bool is_none(double x) { return x == 0; }
DEVICE bool is_none(T_c128 z) { return z.re == 0 && z.im == 0; }
DEVICE double scaled(double x, double by) { return x * by; }
DEVICE T_c128 scaled(T_c128 z, double by) { return {z.re * by, z.im * by}; }
DEVICE double over(double x, double y) { return x / y; }
DEVICE T_c128 over(T_c128 x, double y) { return {x.re / y, x.im / y}; }
// Scaled, so that nothing overflows on the way.
DEVICE T_c128 over(T_c128 x, T_c128 y) {
    double most = fmax(fabs(y.re), fabs(y.im));
    if (!(most > 0) || !isfinite(most)) most = 1;
    double c = y.re / most, d = y.im / most, size = (c * c + d * d) * most;
    return {(x.re * c + x.im * d) / size, (x.im * c - x.re * d) / size};
}
template <class A> struct Unit {
    static METHOD A of(double x) { return x; }
    // Not a number, in all parts.
    static METHOD A none() { return NOT_A_NUMBER; }
};
template <> struct Unit<T_c128> {
    static METHOD T_c128 of(double x) { return {x, 0}; }
    static METHOD T_c128 none() { return {NOT_A_NUMBER, NOT_A_NUMBER}; }
};
// sum - x y
template <class A> DEVICE A without(A sum, A x, A y) { return f_subtract(sum, f_multiply(x, y)); }

// Loops, and what is rarely or often called and waits for all threads, are there once: compiling
// takes as long as the code is.
#define ONCE static __device__ __noinline__
#define ONE_BY_ONE _Pragma("unroll 1") for
#define EACH(i, from, to)                                                                          \
    ONE_BY_ONE(int i = (int)(from) + threadIdx.x; i < (int)(to); i += blockDim.x)

enum { BLOCK_MOST = 256 };

// The sum, or the largest, of what all threads have.
ONCE double block_sum(double x) {
    __shared__ double room[BLOCK_MOST];
    room[threadIdx.x] = x;
    __syncthreads();
    for (int by = blockDim.x / 2; by > 0; by /= 2) {
        if (threadIdx.x < by) room[threadIdx.x] += room[threadIdx.x + by];
        __syncthreads();
    }
    x = room[0];
    __syncthreads();
    return x;
}
ONCE double block_most(double x) {
    __shared__ double room[BLOCK_MOST];
    room[threadIdx.x] = x;
    __syncthreads();
    for (int by = blockDim.x / 2; by > 0; by /= 2) {
        if (threadIdx.x < by) room[threadIdx.x] = fmax(room[threadIdx.x], room[threadIdx.x + by]);
        __syncthreads();
    }
    x = room[0];
    __syncthreads();
    return x;
}

// The length of `count` numbers that are `step` apart; nothing overflows on the way.
template <class A> ONCE double block_length(const A *x, int count, int step) {
    double most = 0, sum = 0;
    EACH(i, 0, count) most = fmax(most, length_of(x[(ll)i * step]));
    most = block_most(most);
    if (!(most > 0)) return most;
    EACH(i, 0, count) sum += square_of(over(x[(ll)i * step], most));
    return most * sqrt(block_sum(sum));
}

// The number of size 1 that turns the vector's largest element, the first of about equal ones, into
// a positive one; 1 for a vector of zeros. One thread's work.
template <class A> ONCE A turn_of(const A *x, int n, int step) {
    double most = 0;
    ONE_BY_ONE(int i = 0; i < n; i++) most = fmax(most, length_of(x[(ll)i * step]));
    ONE_BY_ONE(int i = 0; i < n && most > 0; i++) {
        A first = x[(ll)i * step];
        if (length_of(first) < most * (1 - 1e-5)) continue;
        return over(conjugated(first), length_of(first));
    }
    return Unit<A>::of(1);
}

// Triangular factors ------------------------------------------------------------------------------

// Column by column. False where the matrix is not positive definite. `plain` is Nx's way with such:
// a zero on the diagonal leaves the column below as good as zero, and a negative number gives NaN.
template <class T, class A> DEVICE bool cholesky_columns(const T *a, A *l, int n, bool plain) {
    for (int j = 0; j < n; j++) {
        EACH(i, j, n) {
            A rest = wide_of(a[(ll)i * n + j]);
            for (int k = 0; k < j; k++)
                rest = without(rest, l[(ll)i * n + k], conjugated(l[(ll)j * n + k]));
            l[(ll)i * n + j] = rest;
        }
        __syncthreads();
        double diagonal = sqrt(real_part(l[(ll)j * n + j]));
        if (!plain && !(diagonal > 0)) return false;
        __syncthreads();
        EACH(i, j, n) {
            A value = over(l[(ll)i * n + j], diagonal == 0 ? 1e-10 : diagonal);
            if (plain && length_of(value) <= 1e-10) value = Unit<A>::of(0);
            l[(ll)i * n + j] = i == j ? Unit<A>::of(diagonal) : value;
        }
        __syncthreads();
    }
    return true;
}
template <class T, class A> DEVICE void cholesky(const T *a, T *out, A *work, int n) {
    if (!cholesky_columns<T, A>(a, work, n, false)) {
        __syncthreads();
        cholesky_columns<T, A>(a, work, n, true);
    }
    EACH(at, 0, n *n) {
        if (at % n > at / n)
            set(out[at], 0.0);
        else
            set(out[at], work[at]);
    }
}

// Solves op(a) x = b in place: element [i][j] of op(a) is a[i * down + j * right], [i][j] of b is
// b[i * b_down + j * b_right]. `unit`: the diagonal counts as ones.
template <class A>
ONCE void substitute(const A *a, int down, int right, bool lower, bool unit, int n, A *b, int b_down,
                       int b_right, int count) {
    for (int step = 0; step < n; step++) {
        int i = lower ? step : n - 1 - step, first = lower ? i + 1 : 0, left = n - 1 - step;
        EACH(c, 0, count)
        if (!unit) b[(ll)i * b_down + c * b_right] =
            over(b[(ll)i * b_down + c * b_right], a[(ll)i * down + i * right]);
        __syncthreads();
        EACH(at, 0, left *count) {
            int k = first + at / count, c = at % count;
            A *to = &b[(ll)k * b_down + c * b_right];
            *to = without(*to, a[(ll)k * down + i * right], b[(ll)i * b_down + c * b_right]);
        }
        __syncthreads();
    }
}
template <class T, class A> DEVICE void widen(const T *from, A *to, int count) {
    EACH(i, 0, count) to[i] = wide_of(from[i]);
}

// False where the diagonal has a zero.
template <class T, class A, bool TRANSPOSED, bool CONJUGATE, bool RIGHT, bool UPPER>
DEVICE bool triangular_solve(const T *in, const T *b, T *out, A *work, int n, int count) {
    const bool FLIPPED = TRANSPOSED != RIGHT;
    A *a = work, *x = work + n * n;
    double zeros = 0;
    widen(in, a, n * n);
    EACH(i, 0, n) zeros += is_none(wide_of(in[(ll)i * n + i]));
    EACH(i, 0, n *count) x[i] = CONJUGATE ? conjugated(wide_of(b[i])) : wide_of(b[i]);
    if (block_sum(zeros) > 0) return false;
    substitute(a, FLIPPED ? 1 : n, FLIPPED ? n : 1, UPPER == FLIPPED, false, n, x, RIGHT ? 1 : count,
               RIGHT ? n : 1, count);
    EACH(i, 0, n *count) set(out[i], CONJUGATE ? conjugated(x[i]) : x[i]);
    return true;
}

// Factors with exchanged rows: `from` says where each row of the product comes from. `singular`: a
// pivot is zero; `odd`: an odd number of exchanges.
template <class A>
DEVICE void factor(A *a, int *from, int n, bool &singular, bool &odd) {
    __shared__ int chosen;
    singular = odd = false;
    EACH(i, 0, n) from[i] = i;
    for (int j = 0; j < n; j++) {
        double most = -1;
        EACH(i, j, n) most = fmax(most, pivot_size(a[(ll)i * n + j]));
        most = block_most(most);
        if (threadIdx.x == 0) {
            int best = j;
            while (best < n - 1 && !(pivot_size(a[(ll)best * n + j]) == most)) best++;
            if (!(pivot_size(a[(ll)best * n + j]) == most)) best = j;
            chosen = best;
            int row = from[j];
            from[j] = from[best];
            from[best] = row;
        }
        __syncthreads();
        int other = chosen;
        odd = odd != (other != j);
        EACH(k, 0, other == j ? 0 : n) {
            A value = a[(ll)j * n + k];
            a[(ll)j * n + k] = a[(ll)other * n + k];
            a[(ll)other * n + k] = value;
        }
        __syncthreads();
        A pivot = a[(ll)j * n + j];
        if (is_none(pivot)) {
            singular = true;
            continue;
        }
        EACH(i, j + 1, n) a[(ll)i * n + j] = over(a[(ll)i * n + j], pivot);
        __syncthreads();
        int left = n - 1 - j;
        EACH(at, 0, left *left) {
            int i = j + 1 + at / left, k = j + 1 + at % left;
            a[(ll)i * n + k] = without(a[(ll)i * n + k], a[(ll)i * n + j], a[(ll)j * n + k]);
        }
        __syncthreads();
    }
}

// False where the matrix is singular.
template <class T, class A>
DEVICE bool solve(const T *in, const T *b, T *out, A *work, int n, int count) {
    A *a = work, *x = work + n * n;
    int *from = (int *)(x + n * count);
    bool singular, odd;
    widen(in, a, n * n);
    __syncthreads();
    factor(a, from, n, singular, odd);
    if (singular) return false;
    EACH(at, 0, n *count) x[at] = wide_of(b[(ll)from[at / count] * count + at % count]);
    __syncthreads();
    substitute(a, n, 1, true, true, n, x, count, 1, count);
    substitute(a, n, 1, false, false, n, x, count, 1, count);
    EACH(i, 0, n *count) set(out[i], x[i]);
    return true;
}

template <class T, class A> DEVICE void lu(const T *in, T *out, A *work, int n) {
    int *from = (int *)(work + n * n);
    T *l = out + (ll)n * n, *u = l + (ll)n * n;
    bool singular, odd;
    widen(in, work, n * n);
    __syncthreads();
    factor(work, from, n, singular, odd);
    EACH(at, 0, n *n) {
        int i = at / n, j = at % n;
        set(out[at], from[j] == i ? 1.0 : 0.0);
        if (j < i) {
            set(l[at], work[at]);
            set(u[at], 0.0);
        } else {
            set(l[at], i == j ? 1.0 : 0.0);
            set(u[at], work[at]);
        }
    }
}

template <class T, class A> DEVICE void determinant(const T *in, T *out, A *work, int n) {
    A *a = work, result = Unit<A>::of(1);
    bool singular, odd = false;
    widen(in, a, n * n);
    __syncthreads();
    if (n == 1) {
        result = a[0];
    } else if (n == 2) {
        result = without(f_multiply(a[0], a[3]), a[1], a[2]);
    } else if (n == 3) {
        result = Unit<A>::of(0);
        ONE_BY_ONE(int j = 0; j < 3; j++)
            result = f_add(result, f_multiply(f_multiply(a[j], a[3 + (j + 1) % 3]), a[6 + (j + 2) % 3]));
        ONE_BY_ONE(int j = 0; j < 3; j++)
            result = without(result, f_multiply(a[j], a[3 + (j + 2) % 3]), a[6 + (j + 1) % 3]);
    } else {
        factor(a, (int *)(a + n * n), n, singular, odd);
        ONE_BY_ONE(int i = 0; i < n; i++) result = f_multiply(result, a[(ll)i * n + i]);
    }
    if (threadIdx.x == 0) set(*out, odd ? f_negate(result) : result);
}

// Orthogonal factors ------------------------------------------------------------------------------

// The reflection 1 - tau v v' that leaves nothing of x but its first element, which it makes
// positive, or of the opposite phase where there are phases: Nx's conventions. v[0] = 1 is not
// stored, the rest of v replaces that of x, and *top is what the first element becomes. A real x
// that is as good as done, `whole` being its length before earlier reflections, is left alone.
DEVICE double mirror_top(double first, double rest, double whole, double length, double &tau, double &top) {
    tau = 0;
    top = first;
    if (length == 0 || rest <= 1e-14 * whole) return 1;
    double by = first <= 0 ? first - length : -rest * (rest / (first + length));
    tau = -by / length;
    top = length;
    return by;
}
DEVICE T_c128 mirror_top(T_c128 first, double, double, double length, double &tau, T_c128 &top) {
    double size = length_of(first);
    tau = 0;
    top = first;
    if (length == 0) return {1, 0};
    T_c128 phase = size == 0 ? T_c128{1, 0} : over(first, size);
    tau = (size + length) / length;
    top = scaled(phase, -length);
    return scaled(phase, size + length);
}

// a -= tau v (v' a) for `count` columns, a thread each; v is 1 and what lies in the column `v`.
template <class A>
DEVICE void mirror(const A *v, int v_step, double tau, A *a, int width, int from, int count, int m) {
    EACH(c, from, count) {
        A product = a[c];
        for (int i = 1; i < m; i++)
            product = f_add(product, f_multiply(conjugated(v[(ll)i * v_step]), a[(ll)i * width + c]));
        product = scaled(product, tau);
        a[c] = f_subtract(a[c], product);
        for (int i = 1; i < m; i++)
            a[(ll)i * width + c] = without(a[(ll)i * width + c], product, v[(ll)i * v_step]);
    }
}

// Nx has rows of zeros below a wide matrix, so that the last row of a complex one is turned too.
template <class T, class A> DEVICE void qr(const T *in, T *out, A *work, int m, int n, int inner) {
    int k = m < n ? m : n;
    A *a = work, *q = a + (ll)m * n;
    double *taus = (double *)(q + (ll)m * inner);
    T *r = out + (ll)m * inner;
    widen(in, a, m * n);
    EACH(at, 0, m *inner) q[at] = Unit<A>::of(at / inner == at % inner);
    EACH(j, 0, k) taus[j] = 0;
    __syncthreads();
    for (int j = 0; j < k; j++) {
        if (j == m - 1 && m >= n) break;
        A *x = a + (ll)j * n + j, top;
        double whole = block_length(a + j, m, n), rest = block_length(x + n, m - j - 1, n), tau;
        A first = x[0], by = mirror_top(first, rest, whole, hypot(length_of(first), rest), tau, top);
        if (tau == 0) continue;
        __syncthreads();
        EACH(i, 1, m - j) x[(ll)i * n] = over(x[(ll)i * n], by);
        if (threadIdx.x == 0) {
            x[0] = top;
            taus[j] = tau;
        }
        __syncthreads();
        mirror(x, n, tau, a + (ll)j * n, n, j + 1, n, m - j);
        __syncthreads();
    }
    for (int j = k - 1; j >= 0; j--) {
        if (taus[j] != 0) mirror(a + (ll)j * n + j, n, taus[j], q + (ll)j * inner, inner, 0, inner, m - j);
        __syncthreads();
    }
    EACH(at, 0, m *inner) set(out[at], q[at]);
    EACH(at, 0, inner *n) {
        if (at % n < at / n)
            set(r[at], 0.0);
        else
            set(r[at], a[at]);
    }
}

// Eigenvalues and singular values -----------------------------------------------------------------

// Pair `i` of round `r` where each of `n` (even) meets each other once in n - 1 rounds.
DEVICE void pair_of(int i, int r, int n, int &p, int &q) {
    int a = r + i, b = r - i;
    if (a >= n - 1) a -= n - 1;
    if (b < 0) b += n - 1;
    if (i == 0) a = n - 1;
    p = a < b ? a : b;
    q = a < b ? b : a;
}

// The rotation that makes two rows and columns independent, `apart` being the difference of the
// diagonal's elements and `beside` the size of what is beside it.
DEVICE void rotation(double apart, double beside, double &c, double &s) {
    double angle = apart / (2 * beside);
    double t = (angle < 0 ? -1 : 1) / (fabs(angle) + sqrt(1 + angle * angle));
    c = 1 / sqrt(1 + t * t);
    s = t * c;
}

// The same in fewer steps, for numbers that are not far from 1: the angle to the digits of f32, which
// leaves some 1e-7 of what is beside, and a turn of length 1 to all digits. `s` has the sign of
// `beside`.
DEVICE void quick_rotation(double apart, double beside, double &c, double &s) {
    double angle = fabs(apart) * reciprocal_short(2 * beside), t = 0.5 / angle;
    if (angle < 1e6) {
        double root = fma(angle, angle, 1.0);
        t = reciprocal_short(fma(root, (double)rsqrtf((float)root), angle));
    }
    if (apart < 0) t = -t;
    c = rsqrt(fma(t, t, 1.0));
    s = t * c;
}

// Of rows and columns p and q: p becomes c p - s q, q becomes conjugated(s) p + c q.
template <class A> struct Turn {
    double c;
    int p, q;
    A s;
};

// c x + s y
DEVICE double mixed(double c, double x, double s, double y) { return fma(c, x, s * y); }
DEVICE T_c128 mixed(double c, T_c128 x, T_c128 s, T_c128 y) {
    return {fma(c, x.re, fma(s.re, y.re, -(s.im * y.im))), fma(c, x.im, fma(s.re, y.im, s.im * y.re))};
}
// What a turn makes of two numbers in its columns, and in its rows.
template <class A> DEVICE void turn_columns(const Turn<A> &t, A &p, A &q) {
    A first = mixed(t.c, p, f_negate(t.s), q);
    q = mixed(t.c, q, conjugated(t.s), p);
    p = first;
}
template <class A> DEVICE void turn_rows(const Turn<A> &t, A &p, A &q) {
    A first = mixed(t.c, p, f_negate(conjugated(t.s)), q);
    q = mixed(t.c, q, t.s, p);
    p = first;
}

template <class A> DEVICE Turn<A> turn_for(const A *a, int step, int p, int q, double little) {
    Turn<A> t = {1, p, q, Unit<A>::of(0)};
    A beside = a[p * step + q];
    double size = length_of(beside), s;
    if (!(size > little)) return t;
    quick_rotation(real_part(a[q * step + q]) - real_part(a[p * step + p]), size, t.c, s);
    t.s = scaled(phase_of(conjugated(beside), size), s);
    return t;
}

enum { SWEEPS = 40 };

// A block where two pairs meet, of which the columns of one and the rows of the other turn.
template <class A> struct Meeting {
    A pp, pq, qp, qq;
    METHOD void load(const A *a, int step, const Turn<A> &rows, const Turn<A> &columns) {
        const A *x = a + rows.p * step, *y = a + rows.q * step;
        pp = x[columns.p], pq = x[columns.q], qp = y[columns.p], qq = y[columns.q];
    }
    METHOD void turn(const Turn<A> &rows, const Turn<A> &columns) {
        turn_columns(columns, pp, pq);
        turn_columns(columns, qp, qq);
        turn_rows(rows, pp, qp);
        turn_rows(rows, pq, qq);
    }
    METHOD void store(A *a, int step, const Turn<A> &rows, const Turn<A> &columns) const {
        A *x = a + rows.p * step, *y = a + rows.q * step;
        x[columns.p] = pp, x[columns.q] = pq, y[columns.p] = qp, y[columns.q] = qq;
    }
};

// Every pair that meets in round `r` turns: blocks of the matrix, and the vectors' columns.
template <class A>
DEVICE void turn_all(A *a, A *v, const Turn<A> *turns, int n, int half, int step) {
    // A row of so many items by a product: they are fewer than 2^14.
    unsigned inverse = (1u << 20) / half + 1;
    EACH(at, 0, (half + n) * half) {
        int row = at * inverse >> 20;
        Turn<A> by = turns[at - row * half];
        if (row < half) {
            Meeting<A> m;
            m.load(a, step, turns[row], by);
            m.turn(turns[row], by);
            m.store(a, step, turns[row], by);
        } else {
            A *x = v + (row - half) * step, p = x[by.p], q = x[by.q];
            turn_columns(by, p, q);
            x[by.p] = p;
            x[by.q] = q;
        }
    }
}

template <class A> DEVICE bool is_diagonal(const A *a, int even, int step, double little) {
    int beside = 0;
    EACH(at, 0, even *even) {
        int i = at / even, j = at % even;
        beside |= i < j && length_of(a[i * step + j]) > little;
    }
    return !__syncthreads_or(beside);
}

// Jacobi's rotations, half of the rows of `even` at a time. Rows are `step` apart. False if they do
// not end.
template <class A>
DEVICE bool jacobi(A *a, A *v, Turn<A> *turns, int n, int even, int step, double little) {
    int half = even / 2;
    ONE_BY_ONE(int sweep = 0; sweep < SWEEPS; sweep++) {
        ONE_BY_ONE(int r = 0; r < even - 1; r++) {
            EACH(i, 0, half) {
                int p, q;
                pair_of(i, r, even, p, q);
                turns[i] = turn_for(a, step, p, q, little);
            }
            __syncthreads();
            turn_all(a, v, turns, n, half, step);
            __syncthreads();
        }
        if (is_diagonal(a, even, step, little)) return true;
    }
    return false;
}

// In the order of descending size, lower first among equals. False if the iteration does not end.
// What is computed is near 1, a power of two away from the matrix.
template <class T, class R, class A> DEVICE bool eigh(const T *in, T *out, A *work, int n) {
    int even = n + n % 2, step = even + 1;
    A *a = work, *v = a + even * step;
    Turn<A> *turns = (Turn<A> *)(v + n * step);
    double most = 0, sum = 0;
    bool bad = false;
    EACH(at, 0, even *even) {
        int i = at / even, j = at % even;
        A value = Unit<A>::of(0);
        if (i < n && j < n)
            value = i <= j ? wide_of(in[i * n + j]) : conjugated(wide_of(in[j * n + i]));
        if (i == j) value = Unit<A>::of(real_part(value));
        a[i * step + j] = value;
        if (i < n) v[i * step + j] = Unit<A>::of(i == j);
        most = fmax(most, length_of(value));
        bad = bad || !is_finite(value);
    }
    if (__syncthreads_or(bad)) {
        EACH(at, 0, n *(n + 1)) set(out[at], Unit<A>::none());
        return true;
    }
    most = block_most(most);
    int power = most > 0 ? max(ilogb(most), -1000) : 0;
    EACH(at, 0, even *even) {
        A *x = &a[at / even * step + at % even];
        *x = scaled(*x, ldexp(1.0, -power));
        sum += square_of(*x);
    }
    double little = sqrt(block_sum(sum)) * (sizeof(R) == 4 ? 0x1p-40 : 0x1p-56);
    if (!jacobi(a, v, turns, n, even, step, little)) return false;
    EACH(i, 0, n) {
        int rank = 0;
        R own = (R)ldexp(real_part(a[i * (step + 1)]), power), size = own < 0 ? -own : own;
        ONE_BY_ONE(int j = 0; j < n; j++) {
            R other = (R)ldexp(real_part(a[j * (step + 1)]), power);
            R other_size = other < 0 ? -other : other;
            rank += other_size > size ||
                    (other_size == size && (other < own || (other == own && j < i)));
        }
        A by = turn_of(v + i, n, step);
        set(out[rank], (double)own);
        ONE_BY_ONE(int k = 0; k < n; k++)
            set(out[(ll)(k + 1) * n + rank], f_add(f_multiply(v[k * step + i], by), Unit<A>::of(0)));
    }
    return true;
}

DEVICE double warp_sum(double x) {
    for (int by = 16; by > 0; by /= 2) x += __shfl_xor_sync(~0u, x, by);
    return x;
}

// Rotates rows of `w` until all are orthogonal to each other, and those of `v` with them; a warp a
// pair. False if they do not end.
DEVICE bool orthogonalize(double *w, double *v, int count, int length) {
    int even = count + count % 2, half = even / 2, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    ONE_BY_ONE(int sweep = 0; sweep < SWEEPS; sweep++) {
        double turned = 0;
        ONE_BY_ONE(int r = 0; r < even - 1; r++) {
            ONE_BY_ONE(int i = threadIdx.x / 32; i < half; i += warps) {
                int p, q;
                double alpha = 0, beta = 0, gamma = 0, c, s;
                pair_of(i, r, even, p, q);
                if (q >= count) continue;
                double *x = w + (ll)p * length, *y = w + (ll)q * length;
                ONE_BY_ONE(int k = lane; k < length; k += 32) {
                    alpha += x[k] * x[k];
                    beta += y[k] * y[k];
                    gamma += x[k] * y[k];
                }
                alpha = warp_sum(alpha);
                beta = warp_sum(beta);
                gamma = warp_sum(gamma);
                if (!(fabs(gamma) > 0x1p-52 * sqrt(alpha) * sqrt(beta))) continue;
                turned = 1;
                rotation(beta - alpha, gamma, c, s);
                ONE_BY_ONE(int k = lane; k < length; k += 32) {
                    double xk = x[k], yk = y[k];
                    x[k] = c * xk - s * yk;
                    y[k] = s * xk + c * yk;
                }
                x = v + (ll)p * count;
                y = v + (ll)q * count;
                ONE_BY_ONE(int k = lane; k < count; k += 32) {
                    double xk = x[k], yk = y[k];
                    x[k] = c * xk - s * yk;
                    y[k] = s * xk + c * yk;
                }
            }
            __syncthreads();
        }
        if (block_sum(turned) == 0) return true;
    }
    return false;
}

// Makes row `at` a vector of length 1 that is orthogonal to the rows whose `done` is set: what is
// left of the unit vector that is furthest from them.
ONCE void complete(double *w, const int *done, int rows, int at, int length) {
    __shared__ int chosen;
    double most = -1;
    int best = 0;
    EACH(i, 0, length) {
        double left = 1;
        ONE_BY_ONE(int r = 0; r < rows; r++)
            if (done[r]) left -= w[(ll)r * length + i] * w[(ll)r * length + i];
        if (left > most) {
            most = left;
            best = i;
        }
    }
    double all = block_most(most);
    if (threadIdx.x == 0) chosen = length;
    __syncthreads();
    // The first of those that are furthest.
    ONE_BY_ONE(int t = 0; t < (int)blockDim.x; t++) {
        if (threadIdx.x == t && most == all && best < chosen) chosen = best;
        __syncthreads();
    }
    double *x = w + (ll)at * length;
    EACH(i, 0, length) x[i] = i == chosen;
    __syncthreads();
    ONE_BY_ONE(int again = 0; again < 2; again++)
        ONE_BY_ONE(int r = 0; r < rows; r++) {
            if (!done[r]) continue;
            const double *y = w + (ll)r * length;
            double product = 0;
            EACH(i, 0, length) product += x[i] * y[i];
            product = block_sum(product);
            EACH(i, 0, length) x[i] -= product * y[i];
            __syncthreads();
        }
    double size = block_length(x, length, 1);
    EACH(i, 0, length) x[i] /= size;
    __syncthreads();
}

// Rows of `w` are the vectors of the longer side, those of `v` the shorter side's.
template <class T> struct Spectrum {
    double *w, *v, *sizes;
    int *order, *done;
    int length, count, vectors;
};

template <class T> DEVICE Spectrum<T> spectrum_in(double *work, int m, int n, bool full) {
    Spectrum<T> s;
    s.length = m > n ? m : n;
    s.count = m < n ? m : n;
    s.vectors = full ? s.length : s.count;
    s.w = work;
    s.v = s.w + (ll)s.vectors * s.length;
    s.sizes = s.v + (ll)s.count * s.count;
    s.order = (int *)(s.sizes + s.count);
    s.done = s.order + s.count;
    return s;
}

// False if the iteration does not end.
template <class T, class A, bool FULL>
DEVICE bool svd(const T *in, T *out, A *work, int m, int n, double tolerance) {
    Spectrum<T> f = spectrum_in<T>(work, m, n, FULL);
    bool tall = m >= n;
    int u_columns = tall ? f.vectors : m, vt_rows = tall ? n : f.vectors;
    T *u = out, *s = u + (ll)m * u_columns, *vt = s + f.count;
    double bad = 0;
    EACH(at, 0, m *n) {
        int i = at / n, j = at % n;
        double x = wide_of(in[at]);
        bad += !is_finite(x);
        f.w[tall ? (ll)j * f.length + i : (ll)i * f.length + j] = x;
    }
    EACH(at, 0, f.count *f.count) f.v[at] = at / f.count == at % f.count;
    if (block_sum(bad) > 0) {
        EACH(at, 0, m *u_columns + f.count + vt_rows * n) set(out[at], NOT_A_NUMBER);
        return true;
    }
    if (!orthogonalize(f.w, f.v, f.count, f.length)) return false;
    ONE_BY_ONE(int r = 0; r < f.count; r++) {
        double size = block_length(f.w + (ll)r * f.length, f.length, 1);
        if (threadIdx.x == 0) f.sizes[r] = size;
    }
    __syncthreads();
    ONE_BY_ONE(int r = threadIdx.x; r < f.vectors; r += blockDim.x) {
        f.done[r] = r < f.count && f.sizes[r] > 0;
        if (r >= f.count) continue;
        int rank = 0;
        ONE_BY_ONE(int j = 0; j < f.count; j++)
            rank += f.sizes[j] > f.sizes[r] || (f.sizes[j] == f.sizes[r] && j < r);
        f.order[rank] = r;
    }
    EACH(at, 0, f.count *f.length)
    if (f.sizes[at / f.length] > 0) f.w[at] /= f.sizes[at / f.length];
    __syncthreads();
    ONE_BY_ONE(int r = 0; r < f.vectors; r++) {
        if (f.done[r]) continue;
        complete(f.w, f.done, f.vectors, r, f.length);
        if (threadIdx.x == 0) f.done[r] = 1;
        __syncthreads();
    }
    double largest = f.sizes[f.order[0]];
    ONE_BY_ONE(int r = threadIdx.x; r < f.vectors; r += blockDim.x) {
        int from = r < f.count ? f.order[r] : r;
        const double *x = f.w + (ll)from * f.length, *y = f.v + (ll)from * f.count;
        double by = r < f.count ? turn_of(y, f.count, 1) : turn_of(x, f.length, 1);
        ONE_BY_ONE(int i = 0; i < f.length; i++)
            set(tall ? u[(ll)i * u_columns + r] : vt[(ll)r * n + i], x[i] * by + 0);
        if (r >= f.count) continue;
        ONE_BY_ONE(int i = 0; i < f.count; i++)
            set(tall ? vt[(ll)r * n + i] : u[(ll)i * u_columns + r], y[i] * by + 0);
        double size = f.sizes[from];
        set(s[r], r > 0 && size <= tolerance * largest ? 0.0 : size);
    }
    return true;
}

// Small work memory is shared.
template <class A, int ROOM> DEVICE A *work_memory(ll scratch, ll each) {
    __shared__ A room[ROOM > 0 ? ROOM : 1];
    return ROOM > 0 ? room : (A *)(scratch + blockIdx.x * each);
}
