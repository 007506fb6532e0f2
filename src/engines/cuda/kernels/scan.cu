// SPDX-License-Identifier: Apache-2.0
// scan.cu - running folds along an axis. A line is cut into pieces where there are few lines: their
// folds come first, then the folds of all pieces before each, then the pieces. Nothing depends on
// which block is faster, so that results are the same bits each time.

// Element i of a line of `length`, from the end in reverse.
template <int REVERSE> DEVICE ll scan_place(ll i, ll length) {
    return REVERSE ? length - 1 - i : i;
}

// The folds of all threads before this one, and after the call of all threads in `total`.
template <class A, int THREADS> DEVICE A fold_before(A *shared, const A &mine, A &total) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    A running = mine, before;
    for (int by = 1; by < 32; by *= 2) {
        A other = from_before(running, by);
        if (lane >= by) {
            other.merge(running);
            running = other;
        }
    }
    before = from_before(running, 1);
    if (lane == 0) before.init();
    if (lane == 31) shared[warp] = running;
    __syncthreads();
    A warps;
    warps.init();
    total.init();
    for (int w = 0; w < THREADS / 32; w++) {
        if (w < warp) warps.merge(shared[w]);
        total.merge(shared[w]);
    }
    warps.merge(before);
    __syncthreads();
    return warps;
}

// Elements `at` to `at + WIDTH` of a line, as one vector.
template <class T, int WIDTH, int REVERSE> DEVICE void vector_load(const T *in, T *x) {
    Vector<T, WIDTH> v = *(const Vector<T, WIDTH> *)in;
#pragma unroll
    for (int j = 0; j < WIDTH; j++) x[j] = v.x[REVERSE ? WIDTH - 1 - j : j];
}
template <class T, int WIDTH, int REVERSE> DEVICE void vector_store(T *out, const T *x) {
    Vector<T, WIDTH> v;
#pragma unroll
    for (int j = 0; j < WIDTH; j++) v.x[REVERSE ? WIDTH - 1 - j : j] = x[j];
    *(Vector<T, WIDTH> *)out = v;
}
// Where a vector of a line lies.
template <int WIDTH, int REVERSE> DEVICE ll vector_place(ll length, ll at) {
    return REVERSE ? length - at - WIDTH : at;
}

// What a warp reads and writes goes through shared memory: whole lines of it outside, a thread's own
// run of elements inside. Runs are kept apart, so that threads do not meet at a bank.
template <class T> struct Staging {
    static const int ITEMS = sizeof(T) > 8 ? 4 : sizeof(T) > 4 ? 8 : 16;
    static const int RUN = ITEMS + (sizeof(T) > 8 ? 1 : 16 / (int)sizeof(T));
    alignas(16) T x[32 * RUN];
    METHOD T *at(int element) { return x + element / ITEMS * RUN + element % ITEMS; }
};

// The warp's elements from `first` on, as far as there are any before `to`, as they lie together.
template <class T, int WIDTH, int REVERSE>
DEVICE void fetch(const T *in, ll length, ll first, ll to, T *x) {
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < Staging<T>::ITEMS; i += WIDTH) {
        int e = i * 32 + lane * WIDTH;
        if (first + e < to)
            vector_load<T, WIDTH, REVERSE>(in + vector_place<WIDTH, REVERSE>(length, first + e), x + i);
    }
}

// Of what the warp has fetched a thread's own.
template <class T, int WIDTH> DEVICE void stage_in(Staging<T> &s, T *x) {
    const int ITEMS = Staging<T>::ITEMS;
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < ITEMS; i += WIDTH)
        vector_store<T, WIDTH, 0>(s.at(i * 32 + lane * WIDTH), x + i);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < ITEMS; i += WIDTH) vector_load<T, WIDTH, 0>(s.at(lane * ITEMS + i), x + i);
    __syncwarp();
}

template <class T, int WIDTH, int REVERSE>
DEVICE void stage_out(Staging<T> &s, T *out, ll length, ll first, ll to, const T *x) {
    const int ITEMS = Staging<T>::ITEMS;
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < ITEMS; i += WIDTH) vector_store<T, WIDTH, 0>(s.at(lane * ITEMS + i), x + i);
    __syncwarp();
#pragma unroll
    for (int i = 0; i < ITEMS; i += WIDTH) {
        int e = i * 32 + lane * WIDTH;
        if (first + e < to)
            vector_store<T, WIDTH, REVERSE>(out + vector_place<WIDTH, REVERSE>(length, first + e),
                                            s.at(e));
    }
    __syncwarp();
}

// One piece of one line of neighbouring elements: its fold only, or with TOTAL 0 its scan, which
// begins with `carry`. Lines are whole vectors.
template <class A, class T, int WIDTH, int REVERSE, int TOTAL>
DEVICE void scan_row(const T *in, T *out, ll length, ll from, ll to, A &carry) {
    const int ITEMS = Staging<T>::ITEMS, THREADS = 256, STEP = THREADS * ITEMS;
    __shared__ A shared[THREADS / 32];
    __shared__ Staging<T> staging[THREADS / 32];
    Staging<T> &own = staging[threadIdx.x / 32];
    ll begin = from + threadIdx.x / 32 * (32 * ITEMS);
    T x[ITEMS], next[ITEMS];
    fetch<T, WIDTH, REVERSE>(in, length, begin, to, next);
    for (ll tile = from; tile < to; tile += STEP, begin += STEP) {
        ll first = tile + threadIdx.x * ITEMS;
        A mine, total;
        mine.init();
#pragma unroll
        for (int i = 0; i < ITEMS; i++) x[i] = next[i];
        stage_in<T, WIDTH>(own, x);
        if (tile + STEP < to) fetch<T, WIDTH, REVERSE>(in, length, begin + STEP, to, next);
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            if (first + i < to) mine.step(x[i], 0);
        A before = fold_before<A, THREADS>(shared, mine, total), running = carry;
        running.merge(before);
        carry.merge(total);
        if (TOTAL) continue;
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            if (first + i < to) {
                running.step(x[i], 0);
                x[i] = running.finish();
            }
        stage_out<T, WIDTH, REVERSE>(own, out, length, begin, to, x);
    }
}

// Lines of neighbours. Phase 0: the folds of pieces; 1: of the pieces before each; 2: the scan.
template <class A, class T, int WIDTH, int REVERSE, int PHASE>
DEVICE void scan_rows(ll in, ll out, ll length, ll piece, ll pieces, ll parts) {
    ll line = blockIdx.x / (unsigned)pieces, number = blockIdx.x % (unsigned)pieces;
    ll from = number * piece, to = from + piece < length ? from + piece : length;
    A carry;
    carry.init();
    if (PHASE == 2 && pieces > 1) carry = ((const A *)parts)[blockIdx.x];
    scan_row<A, T, WIDTH, REVERSE, PHASE == 0>((const T *)in + line * length,
                                               (T *)out + line * length, length, from, to, carry);
    if (PHASE == 0 && threadIdx.x == 0) ((A *)parts)[blockIdx.x] = carry;
}

// Columns: a thread a piece of a line, whose elements are `inner` apart; parts are
// [outer, piece, inner]. X is a type that counts the elements.
template <class X, class A, class T, int REVERSE, int PHASE>
DEVICE void scan_columns(ll in, ll out, ll length, ll piece, ll pieces, ll parts, ll inner, ll units) {
    ll t = blockIdx.x * 256ll + threadIdx.x;
    if (t >= units) return;
    X line = (X)t / (X)inner, outer = line / (X)pieces;
    ll column = t - line * inner, number = line - outer * pieces;
    ll from = number * piece, to = from + piece < length ? from + piece : length;
    const T *source = (const T *)in + outer * length * inner + column;
    T *target = (T *)out + outer * length * inner + column;
    A carry;
    carry.init();
    if (PHASE == 2 && pieces > 1) carry = ((const A *)parts)[t];
    ll i = from;
    for (; i + 8 <= to; i += 8) {
        T x[8];
#pragma unroll
        for (int u = 0; u < 8; u++) x[u] = source[scan_place<REVERSE>(i + u, length) * inner];
#pragma unroll
        for (int u = 0; u < 8; u++) {
            carry.step(x[u], 0);
            if (PHASE) target[scan_place<REVERSE>(i + u, length) * inner] = carry.finish();
        }
    }
    for (; i < to; i++) {
        carry.step(source[scan_place<REVERSE>(i, length) * inner], 0);
        if (PHASE) target[scan_place<REVERSE>(i, length) * inner] = carry.finish();
    }
    if (!PHASE) ((A *)parts)[t] = carry;
}

// Replaces the folds of a line's pieces by those of all pieces before: a thread a line, whose parts
// are `inner` apart.
template <class X, class A> DEVICE void scan_parts(ll parts, ll pieces, ll inner, ll lines) {
    ll t = blockIdx.x * 256ll + threadIdx.x;
    if (t >= lines) return;
    ll outer = (X)t / (X)inner;
    A *part = (A *)parts + outer * pieces * inner + (t - outer * inner), before;
    before.init();
    for (ll i = 0; i < pieces; i++) {
        A own = part[i * inner];
        part[i * inner] = before;
        before.merge(own);
    }
}
