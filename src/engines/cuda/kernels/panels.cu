// SPDX-License-Identifier: Apache-2.0
// panels.cu - LU factors of real matrices of a few hundred rows, in double, down their
// columns, of which SIDE make a panel. A block factors a panel, a row a thread (or ROWS of them), in
// registers; then many blocks take it from the columns beside it. Matrices lie one after another.

enum { BESIDE = 8, BESIDE_THREADS = 256 };

// What a panel is taken from: columns of the matrix, and right sides behind them.
struct Columns {
    double *matrix, *right;
    ll n;
    METHOD double *at(ll j) const { return j < n ? matrix + j * n : right + (j - n) * n; }
};
DEVICE Columns columns_of(ll matrices, ll rights, ll n, ll other, ll which) {
    return {(double *)matrices + which * n * n, (double *)rights + which * n * other, n};
}

template <int SIDE, int ROWS>
DEVICE void panel_load(double (&x)[ROWS][SIDE], const double *a, ll n, ll first, int m) {
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int p = r * blockDim.x + threadIdx.x;
#pragma unroll
        for (int k = 0; k < SIDE; k++) x[r][k] = p < m && k < m ? a[(first + k) * n + first + p] : 0;
    }
}

// LU ----------------------------------------------------------------------------------------------

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
DEVICE unsigned warp_most(unsigned x) { return __reduce_max_sync(~0u, x); }
DEVICE unsigned warp_least(unsigned x) { return __reduce_min_sync(~0u, x); }
#else
DEVICE unsigned warp_most(unsigned x) {
    for (int by = 16; by > 0; by /= 2) x = max(x, __shfl_xor_sync(~0u, x, by));
    return x;
}
DEVICE unsigned warp_least(unsigned x) {
    for (int by = 16; by > 0; by /= 2) x = min(x, __shfl_xor_sync(~0u, x, by));
    return x;
}
#endif

// A size as a number that is ordered as sizes are, above 0, and its place.
struct Best {
    ull size;
    unsigned place;
};
DEVICE ull size_of(double x) { return x == x ? (ull)__double_as_longlong(fabs(x)) + 2 : 1; }
// The largest of a warp, the first of equal ones.
DEVICE Best best_of_warp(Best mine) {
    unsigned high = (unsigned)(mine.size >> 32), most = warp_most(high);
    unsigned low = high == most ? (unsigned)mine.size : 0, least = warp_most(low);
    bool same = high == most && (unsigned)mine.size == least;
    return {(ull)most << 32 | least, warp_least(same ? mine.place : ~0u)};
}

// Of the rows that are not done: each warp's.
template <int SIDE, int ROWS>
DEVICE void find_pivots(const double (&x)[ROWS][SIDE], int done, int m, Best *found) {
    Best mine = {0, ~0u};
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int p = r * blockDim.x + threadIdx.x;
        ull size = size_of(x[r][0]);
        if (p >= done && p < m && size > mine.size) mine = {size, (unsigned)p};
    }
    mine = best_of_warp(mine);
    if (threadIdx.x % 32 == 0) found[threadIdx.x / 32] = mine;
}

// With exchanged rows: `pivots` as LAPACK counts them, and where each of the rows from `first` on
// comes from. `total`: the same of the whole matrix. Of a row not yet done x has what is left of it,
// and behind that its factors so far: both move on by one a column. A row that is done is stored.
template <int SIDE, int ROWS>
DEVICE void lu_panel(ll matrices, ll pivots, ll from, ll total, ll infos, ll n, ll first) {
    __shared__ Best found[32];
    alignas(16) __shared__ double chosen[SIDE], left[SIDE], other[SIDE];
    __shared__ int chosen_origin, other_origin, order[1024];
    double *a = (double *)matrices + blockIdx.x * n * n, x[ROWS][SIDE];
    int *pivot = (int *)pivots + blockIdx.x * n + first, *whole = (int *)total + blockIdx.x * n;
    int m = (int)(n - first), wide = m < SIDE ? m : SIDE, lane = threadIdx.x % 32, origin[ROWS], singular = 0;
    panel_load<SIDE, ROWS>(x, a, n, first, m);
#pragma unroll
    for (int r = 0; r < ROWS; r++) origin[r] = r * blockDim.x + threadIdx.x;
    if (threadIdx.x < 32) found[threadIdx.x] = {0, ~0u};
    __syncthreads();
    find_pivots<SIDE, ROWS>(x, 0, m, found);
    ONE_BY_ONE(int c = 0; c < wide; c++) {
        __syncthreads();
        int best = (int)best_of_warp(found[lane]).place;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int p = r * blockDim.x + threadIdx.x;
            if (p == best) {
#pragma unroll
                for (int k = 0; k < SIDE; k++) {
                    chosen[k] = x[r][k];
                    left[k] = k < SIDE - c ? x[r][k] : 0;
                }
                chosen_origin = origin[r];
            }
            if (p == c) {
#pragma unroll
                for (int k = 0; k < SIDE; k++) other[k] = x[r][k];
                other_origin = origin[r];
            }
        }
        __syncthreads();
        double pivoted = left[0], by = pivoted == 0 ? 0 : 1 / pivoted, factors[ROWS];
        if (pivoted == 0 && singular == 0) singular = (int)first + c + 1;
        if (threadIdx.x == 0) pivot[c] = (int)first + best + 1;
        if (threadIdx.x < SIDE) {
            int k = (c + threadIdx.x) % SIDE;
            if (k < wide) a[(first + k) * n + first + c] = chosen[threadIdx.x];
        }
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            int p = r * blockDim.x + threadIdx.x;
            if (p == c) origin[r] = chosen_origin;
            if (p == best && best != c) {
#pragma unroll
                for (int k = 0; k < SIDE; k++) x[r][k] = other[k];
                origin[r] = other_origin;
            }
            factors[r] = isfinite(by) ? x[r][0] * by : x[r][0] / pivoted;
            if (p > c) x[r][0] = fma(-factors[r], left[1], x[r][1]);
        }
        // The next search overlaps with what is left to do for this column.
        find_pivots<SIDE, ROWS>(x, c + 1, m, found);
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            if (r * blockDim.x + threadIdx.x <= c) continue;
#pragma unroll
            for (int k = 2; k < SIDE; k++) x[r][k - 1] = fma(-factors[r], left[k], x[r][k]);
            x[r][SIDE - 1] = factors[r];
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int p = r * blockDim.x + threadIdx.x;
        if (p >= m) continue;
        order[p] = first > 0 ? whole[first + origin[r]] : origin[r];
        ((int *)from)[blockIdx.x * n + p] = origin[r];
        if (p < wide) continue;
#pragma unroll
        for (int k = 0; k < SIDE; k++) a[(first + k) * n + first + p] = x[r][k];
    }
    __syncthreads();
    EACH(p, 0, m) whole[first + p] = order[p];
    if (threadIdx.x == 0 && (first == 0 || singular > 0)) {
        int *info = (int *)infos + blockIdx.x;
        if (first == 0 || *info == 0) *info = singular;
    }
}

// The rows of columns beside a panel are exchanged as its own were; from those behind it, it is
// taken. A block has BESIDE columns that are all before or all behind; those BEFORE may be left alone.
template <int SIDE, int ROWS, bool BEFORE>
DEVICE void lu_beside(ll matrices, ll rights, ll from, ll n, ll other, ll first) {
    alignas(16) __shared__ double top[SIDE][BESIDE], corner[SIDE][SIDE + 1];
    int m = (int)(n - first), wide = m < SIDE ? m : SIDE;
    ll before = BEFORE ? first / BESIDE : 0, groups = before + (m - wide + other + BESIDE - 1) / BESIDE;
    ll which = blockIdx.x / groups, group = blockIdx.x % groups;
    Columns all = columns_of(matrices, rights, n, other, which);
    bool behind = group >= before;
    ll begin = behind ? (group - before) * BESIDE + first + wide : group * BESIDE, end = behind ? n + other : first;
    int count = (int)(end - begin < BESIDE ? end - begin : BESIDE);
    const int *order = (const int *)from + which * n;
    double x[ROWS][BESIDE];
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int p = r * blockDim.x + threadIdx.x, origin = p < m ? order[p] : 0;
#pragma unroll
        for (int k = 0; k < BESIDE; k++)
            x[r][k] = p < m && k < count ? all.at(begin + k)[first + origin] : 0;
        if (p < wide && behind)
#pragma unroll
            for (int k = 0; k < BESIDE; k++) top[p][k] = x[r][k];
    }
    if (behind) EACH(t, 0, wide *wide) corner[t % wide][t / wide] = all.matrix[(first + t / wide) * n + first + t % wide];
    __syncthreads();
    // The first rows: a warp a column, a row a lane.
    int lane = threadIdx.x % 32;
    for (int k = threadIdx.x / 32; k < BESIDE && behind; k += blockDim.x / 32) {
        double mine = lane < wide ? top[lane][k] : 0;
        for (int j = 0; j < wide; j++) {
            double done = __shfl_sync(~0u, mine, j);
            if (lane > j && lane < wide) mine = fma(-corner[lane][j], done, mine);
        }
        if (lane < wide) top[lane][k] = mine;
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
        int p = r * blockDim.x + threadIdx.x;
        if (p >= m) continue;
        if (behind && p < wide) {
#pragma unroll
            for (int k = 0; k < BESIDE; k++) x[r][k] = top[p][k];
        } else if (behind) {
            const double *factors = all.matrix + first * n + first + p;
#pragma unroll 8
            for (int j = 0; j < wide; j++) {
                double factor = factors[j * n];
#pragma unroll
                for (int k = 0; k < BESIDE; k++) x[r][k] = fma(-factor, top[j][k], x[r][k]);
            }
        } else if (order[p] == p) {
            continue;
        }
#pragma unroll
        for (int k = 0; k < BESIDE; k++)
            if (k < count) all.at(begin + k)[first + p] = x[r][k];
    }
}

// Right sides that the lower factor has been taken from, by the upper one: a block has COUNT of
// them, and goes up panel by panel.
template <int SIDE, int MOST, int COUNT>
DEVICE void upper_solve(ll matrices, ll rights, ll n, ll other) {
    alignas(16) __shared__ double x[MOST][COUNT];
    __shared__ double corner[SIDE][SIDE + 1];
    ll groups = (other + COUNT - 1) / COUNT, which = blockIdx.x / groups, begin = blockIdx.x % groups * COUNT;
    const double *a = (const double *)matrices + which * n * n;
    double *b = (double *)rights + which * n * other + begin * n;
    int count = (int)(other - begin < COUNT ? other - begin : COUNT), lane = threadIdx.x % 32;
    EACH(t, 0, n *count) x[t % n][t / n] = b[t];
    for (int first = (int)(n - 1) / SIDE * SIDE; first >= 0; first -= SIDE) {
        int wide = (int)n - first < SIDE ? (int)n - first : SIDE;
        EACH(t, 0, wide *wide) corner[t % wide][t / wide] = a[(first + t / wide) * n + first + t % wide];
        __syncthreads();
        for (int k = threadIdx.x / 32; k < count; k += blockDim.x / 32) {
            double mine = lane < wide ? x[first + lane][k] : 0, by = lane < wide ? 1 / corner[lane][lane] : 0;
            for (int j = wide - 1; j >= 0; j--) {
                if (lane == j) mine *= by;
                double done = __shfl_sync(~0u, mine, j);
                if (lane < j) mine = fma(-corner[lane][j], done, mine);
            }
            if (lane < wide) x[first + lane][k] = mine;
        }
        __syncthreads();
        EACH(p, 0, first) {
            double rest[COUNT];
#pragma unroll
            for (int k = 0; k < COUNT; k++) rest[k] = x[p][k];
#pragma unroll 8
            for (int j = 0; j < wide; j++) {
                double factor = a[(first + j) * n + p];
#pragma unroll
                for (int k = 0; k < COUNT; k++) rest[k] = fma(-factor, x[first + j][k], rest[k]);
            }
#pragma unroll
            for (int k = 0; k < COUNT; k++) x[p][k] = rest[k];
        }
        __syncthreads();
    }
    EACH(t, 0, n *count) b[t] = x[t % n][t / n];
}
