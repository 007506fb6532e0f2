// SPDX-License-Identifier: Apache-2.0
// attention.cu - softmax(q k^T) v in one pass over the keys: scores of a tile of keys are made, and
// what was added up of values before is scaled when a larger score turns up.
//
// AT says what is computed: where rows lie, what is hidden, how it is scaled. Scores are in units of
// which AT::step() are a power of two. What is hidden has the score HIDDEN, so that rows that see
// nothing have the mean of all values; what is beyond the last key has minus infinity.

// Kinds of elements.
struct Bf16 {
    typedef unsigned short T;
    static const unsigned INFINITE_BITS = 0x7f80;
    static METHOD float wide(T x) { return from_bf16(x); }
    static METHOD T narrow(float x) { return to_bf16(x); }
};
struct F16 {
    typedef unsigned short T;
    static const unsigned INFINITE_BITS = 0x7c00;
    static METHOD float wide(T x) { return from_f16(x); }
    static METHOD T narrow(float x) { return to_f16(x); }
};
struct F32 {
    typedef float T;
    static METHOD float wide(T x) { return x; }
    static METHOD T narrow(float x) { return x; }
};

// Instructions ----------------------------------------------------------------------------------

DEVICE char *shared_room() {
    extern __shared__ __align__(1024) char room[];
    return room;
}
DEVICE unsigned shared_at(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }
// Sixteen bytes, of which those behind the first `bytes` become zeros.
DEVICE void copy_begin(unsigned to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}
DEVICE void copy_group() { asm volatile("cp.async.commit_group;"); }
template <int GROUPS> DEVICE void copy_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(GROUPS) : "memory");
}
DEVICE float power_of_two(float x) {
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
// Four blocks of 8 by 8 elements of two bytes; each thread gives the place of a row of one.
DEVICE void load_blocks(unsigned at, unsigned (&r)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
DEVICE void load_turned(unsigned at, unsigned (&r)[4]) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at));
}
// Adds the product of 16 by 16 and 16 by 8 elements.
#define ADD_PRODUCT(KIND, type)                                                                    \
    DEVICE void add_product(KIND, float(&d)[4], const unsigned(&a)[4], unsigned b0, unsigned b1) { \
        asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type ".f32 {%0,%1,%2,%3}, " \
                     "{%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                      \
                     : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])                              \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));              \
    }                                                                                              \
    DEVICE unsigned two_of(KIND, float low, float high) {                                          \
        unsigned r;                                                                                \
        asm("cvt.rn." type "x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));                  \
        return r;                                                                                  \
    }
ADD_PRODUCT(Bf16, "bf16")
ADD_PRODUCT(F16, "f16")
// Products of groups of four warps, where a card has them: AT::scores and AT::values.
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define WARP_GROUPS 1
DEVICE void group_sees() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
DEVICE void group_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void group_end() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int GROUPS> DEVICE void group_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(GROUPS) : "memory");
}
// What was waited for is there: keeps the compiler from reading it before.
template <int BLOCKS> DEVICE void group_has(float (&d)[BLOCKS][4]) {
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
#pragma unroll
        for (int i = 0; i < 4; i++) asm volatile("" : "+f"(d[b][i])::"memory");
}
#else
#define WARP_GROUPS 0
DEVICE void group_sees() {}
#endif
// Where an operand lies: eight rows take 1,024 bytes, and stripes are `stripe` bytes apart.
DEVICE ull place_of(unsigned at, unsigned stripe) {
    return (ull)(at >> 4 & 0x3fff) | (ull)(stripe >> 4) << 16 | 64ull << 32 | 1ull << 62;
}

// Tiles -----------------------------------------------------------------------------------------

#define HIDDEN -1e30f
#define LOG2_E 1.4426950408889634f

// The words of a kernel, from the first of them on.
enum {
    AT_OUT,
    AT_HEADS,
    AT_GROUPS,
    AT_QUERIES,
    AT_KEYS,
    AT_SIZE,
    AT_WIDTH,
    AT_STEP,    // of scores, as a float's bits
    AT_SPLITS,  // of the keys, each of AT_SPAN of them
    AT_SPAN,
    AT_SUMS,    // working memory of splits
    AT_STRIDES  // of queries, keys and values, four each, in bytes
};

#if WARP_GROUPS
#define GROUP_METHODS(...) __VA_ARGS__
#else
#define GROUP_METHODS(...)
#endif

// What an AT has that hides nothing.
struct Seen {
    template <class W> static METHOD int limit(const W &, int) { return 0; }
    template <class W> static METHOD float score(const W &, int, int, int, int, float x) { return x; }
    template <class W> static METHOD float sink(const W &, int) { return 0; }
};

// A tile of rows of two-byte elements is cut into stripes of 64 columns. In each the eight pieces of
// 16 bytes of a row are in an order of their own, so that neither rows nor columns share banks.
template <int ROWS> DEVICE unsigned tile_at(int row, int column) {
    return ((column / 64 * ROWS + row) * 8 + ((column / 8 ^ row) & 7)) * 16;
}
template <int ROWS, int COLUMNS> struct Tile {
    static const int STRIPE = ROWS * 128, BYTES = (COLUMNS + 63) / 64 * STRIPE;
};

// Rows of queries of one head, or of all heads of a group, one after the other.
struct Rows {
    ll at, head_step, row_step, step;
    int queries;
    METHOD ll row(int i) const { return at + (i / queries) * head_step + (i % queries) * row_step; }
};
struct Lines {
    ll at, row_step, step;
    METHOD ll row(int i) const { return at + i * row_step; }
};

// Brings tiles of ROWS rows: each thread the same pieces of each, so that little is computed on the
// way. What is beyond the last row, and beyond `columns`, becomes zeros.
template <int ROWS, int COLUMNS, int THREADS, bool VECTORS> struct Carrier {
    static const int ACROSS = COLUMNS <= 16 ? 2 : COLUMNS <= 32 ? 4 : COLUMNS <= 64 ? 8 : COLUMNS <= 128 ? 16 : 32;
    static const int STEP = THREADS / ACROSS, TURNS = ROWS > STEP ? ROWS / STEP : 1;
    ll from, row_step, step;
    int row, column, left; // columns from the piece on

    template <class PLACE> METHOD Carrier(const PLACE &place, int columns) {
        column = threadIdx.x % ACROSS * 8;
        row = threadIdx.x / ACROSS;
        left = row < ROWS && column < COLUMNS ? columns - column : 0;
        from = place.at + column * place.step;
        row_step = place.row_step;
        step = place.step;
    }
    // Rows `first` and on, of those below `rows`.
    METHOD void bring(char *room, int first, int rows) const {
        if (row >= ROWS || (COLUMNS < 8 * ACROSS && column >= COLUMNS)) return;
        ll at = from + (first + row) * row_step;
        // Every eighth row has its pieces in the same order.
        unsigned to = tile_at<ROWS>(row, column);
#pragma unroll
        for (int i = 0; i < TURNS; i++)
            piece(room + (STEP % 8 == 0 ? to + i * STEP * 128 : tile_at<ROWS>(row + i * STEP, column)),
                  at + i * STEP * row_step, first + row + i * STEP < rows);
    }
    METHOD void piece(char *to, ll from, bool there) const {
        if (VECTORS) {
            copy_begin(shared_at(to), (const void *)from, there && left > 0 ? 16 : 0);
            return;
        }
        Vector<unsigned short, 8> v;
#pragma unroll
        for (int j = 0; j < 8; j++)
            v.x[j] = there && j < left ? *(const unsigned short *)(from + j * step) : (unsigned short)0;
        *(Vector<unsigned short, 8> *)to = v;
    }
};

// The same once, of rows that PLACE finds.
template <int ROWS, int COLUMNS, int THREADS, class PLACE>
DEVICE void bring_rows(char *room, const PLACE &place, int first, int rows, int columns) {
    for (int i = threadIdx.x; i < ROWS * COLUMNS / 8; i += THREADS) {
        int row = i / (COLUMNS / 8), c = i % (COLUMNS / 8) * 8;
        Vector<unsigned short, 8> v;
#pragma unroll
        for (int j = 0; j < 8; j++)
            v.x[j] = first + row < rows && c + j < columns
                         ? *(const unsigned short *)(place.row(first + row) + (c + j) * place.step)
                         : (unsigned short)0;
        *(Vector<unsigned short, 8> *)(room + tile_at<ROWS>(row, c)) = v;
    }
}

// The same for f32, row by row.
template <int COLUMNS, int STEP>
DEVICE void bring_floats(float *room, const Lines &place, int first, int rows, int columns) {
    for (int i = threadIdx.x; i < 64 * COLUMNS; i += 256) {
        int row = i / COLUMNS, c = i % COLUMNS;
        bool there = first + row < rows && c < columns;
        room[row * STEP + c] = there ? *(const float *)(place.row(first + row) + c * place.step) : 0;
    }
}

// What a thread has of the softmax of a warp's 16 rows: of row lane / 4, and of eight rows further.
struct Softmax {
    float most[2], sum[2];
};
// And which they are.
struct Lane {
    int batch, head[2], query[2], seen[2]; // keys that the row sees, masks aside
};

template <class AT, int BLOCKS, class W>
DEVICE void hide_scores(const W &p, float (&s)[BLOCKS][4], int first, int keys, const Lane &l) {
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int key = first + b * 8 + threadIdx.x % 4 * 2 + i % 2;
            float x = s[b][i];
            if (AT::MASKED)
                x = AT::score(p, l.batch, l.head[i / 2], l.query[i / 2], key < keys ? key : 0, x);
            if (AT::LIMITED && key >= l.seen[i / 2]) x = HIDDEN;
            s[b][i] = key < keys ? x : -(float)INFINITE;
        }
}

// Scores become weights; what was added up before is to be multiplied by `scale`.
template <int BLOCKS>
DEVICE void weigh_scores(float (&s)[BLOCKS][4], Softmax &m, float step, float (&scale)[2]) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float most = m.most[r], sum = 0;
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) most = fmaxf(most, fmaxf(s[b][2 * r], s[b][2 * r + 1]));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        scale[r] = power_of_two((m.most[r] - most) * step);
        m.most[r] = most;
        float less = -most * step;
#pragma unroll
        for (int b = 0; b < BLOCKS; b++)
#pragma unroll
            for (int i = 2 * r; i < 2 * r + 2; i++) {
                s[b][i] = power_of_two(__fmaf_rn(s[b][i], step, less));
                sum += s[b][i];
            }
        m.sum[r] = __fmaf_rn(m.sum[r], scale[r], sum);
    }
}

template <int BLOCKS> DEVICE void scale_sums(float (&o)[BLOCKS][4], const float (&scale)[2]) {
#pragma unroll
    for (int b = 0; b < BLOCKS; b++)
#pragma unroll
        for (int i = 0; i < 4; i++) o[b][i] *= scale[i / 2];
}

// Weights as the left sides of products, and what they lose by being rounded.
template <class AT, int BLOCKS> struct Weights {
    unsigned main[BLOCKS / 2][4], rest[AT::EXACT ? BLOCKS / 2 : 1][4];
};
template <class AT, int BLOCKS>
DEVICE void take_weights(const float (&s)[BLOCKS][4], Weights<AT, BLOCKS> &w) {
    typedef typename AT::Kind Kind;
#pragma unroll
    for (int k = 0; k < BLOCKS / 2; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float low = s[2 * k + i / 2][i % 2 * 2], high = s[2 * k + i / 2][i % 2 * 2 + 1];
            unsigned both = w.main[k][i] = two_of(Kind(), low, high);
            if (AT::EXACT)
                w.rest[AT::EXACT ? k : 0][i] = two_of(Kind(), low - Kind::wide((unsigned short)both),
                                                      high - Kind::wide((unsigned short)(both >> 16)));
        }
}

template <class AT, int ROWS>
DEVICE void take_queries(unsigned tile, int first, unsigned (&q)[AT::SIZE / 16][4]) {
    int lane = threadIdx.x % 32, i = lane / 8;
#pragma unroll
    for (int k = 0; k < AT::SIZE / 16; k++)
        load_blocks(tile + tile_at<ROWS>(first + i % 2 * 8 + lane % 8, k * 16 + i / 2 * 8), q[k]);
}

// A warp's 16 rows times keys `first` and on of a tile, and their weights times the values.
template <class AT, int TILE, int BLOCKS>
DEVICE void warp_scores(float (&s)[BLOCKS][4], const unsigned (&q)[AT::SIZE / 16][4], unsigned tile,
                        int first) {
    int lane = threadIdx.x % 32, i = lane / 8;
#pragma unroll
    for (int b = 0; b < BLOCKS; b += 2) {
#pragma unroll
        for (int j = 0; j < 4; j++) s[b][j] = s[b + 1][j] = 0;
#pragma unroll
        for (int k = 0; k < AT::SIZE / 16; k++) {
            unsigned r[4];
            int row = first + b * 8 + i / 2 * 8 + lane % 8;
            load_blocks(tile + tile_at<TILE>(row, k * 16 + i % 2 * 8), r);
            add_product(typename AT::Kind(), s[b], q[k], r[0], r[1]);
            add_product(typename AT::Kind(), s[b + 1], q[k], r[2], r[3]);
        }
    }
}
// Two numbers, 0 in place of what is infinite or NaN: what weights lose may be below 0, and infinity
// times that would take back what it is times the weight.
template <class KIND> DEVICE unsigned finite_pair(unsigned both) {
    const unsigned low = KIND::INFINITE_BITS, high = low << 16;
    return ((both & low) == low ? 0 : both & 0xffff) | ((both & high) == high ? 0 : both & 0xffff0000);
}
template <class AT, int TILE, int BLOCKS>
DEVICE void warp_values(float (&o)[AT::WIDTH / 8][4], const Weights<AT, BLOCKS> &weights,
                        unsigned tile, int first) {
    int lane = threadIdx.x % 32, i = lane / 8;
#pragma unroll
    for (int k = 0; k < BLOCKS / 2; k++) {
        const unsigned(&a)[4] = weights.main[k], (&rest)[4] = weights.rest[AT::EXACT ? k : 0];
#pragma unroll
        for (int n = 0; n < AT::WIDTH / 16; n++) {
            unsigned r[4];
            int row = first + k * 16 + i % 2 * 8 + lane % 8;
            load_turned(tile + tile_at<TILE>(row, n * 16 + i / 2 * 8), r);
            add_product(typename AT::Kind(), o[2 * n], a, r[0], r[1]);
            add_product(typename AT::Kind(), o[2 * n + 1], a, r[2], r[3]);
            if (!AT::EXACT) continue;
#pragma unroll
            for (int j = 0; j < 4; j++) r[j] = finite_pair<typename AT::Kind>(r[j]);
            add_product(typename AT::Kind(), o[2 * n], rest, r[0], r[1]);
            add_product(typename AT::Kind(), o[2 * n + 1], rest, r[2], r[3]);
        }
    }
}

// The same for 64 rows of four warps and all keys of a tile, where a card has that: both begin, and
// go on while others compute.
#if WARP_GROUPS
template <class AT, int TILE>
DEVICE void begin_scores(float (&s)[TILE / 8][4], const unsigned (&q)[AT::SIZE / 16][4],
                         unsigned tile) {
    group_begin();
#pragma unroll
    for (int k = 0; k < AT::SIZE / 16; k++) {
        unsigned at = tile + k / 4 * Tile<TILE, AT::SIZE>::STRIPE + k % 4 * 32;
        AT::scores(s, q[k], place_of(at, 16), k > 0);
    }
    group_end();
}
template <class AT, int TILE>
DEVICE void begin_values(float (&o)[AT::WIDTH / 8][4], const Weights<AT, TILE / 8> &w, unsigned tile) {
    if (AT::EXACT) {
        warp_values<AT, TILE, TILE / 8>(o, w, tile, 0);
        return group_end(); // as a group of nothing: who waits counts groups
    }
    group_begin();
#pragma unroll
    for (int k = 0; k < TILE / 16; k++) {
        ull place = place_of(tile + k * 2048, Tile<TILE, AT::WIDTH>::STRIPE);
        AT::values(o, w.main[k], place, 1);
    }
    group_end();
}
#else
template <class AT, int TILE>
DEVICE void begin_scores(float (&s)[TILE / 8][4], const unsigned (&q)[AT::SIZE / 16][4],
                         unsigned tile) {
    warp_scores<AT, TILE>(s, q, tile, 0);
}
template <class AT, int TILE>
DEVICE void begin_values(float (&o)[AT::WIDTH / 8][4], const Weights<AT, TILE / 8> &w, unsigned tile) {
    warp_values<AT, TILE, TILE / 8>(o, w, tile, 0);
}
template <int GROUPS> DEVICE void group_wait() {}
template <int BLOCKS> DEVICE void group_has(float (&)[BLOCKS][4]) {}
#endif

// Rows that see nothing -------------------------------------------------------------------------

template <class KIND>
static __device__ __noinline__ float mean_value(const Lines values, int keys, int column) {
    float sum = 0;
    for (int i = 0; i < keys; i++)
        sum += KIND::wide(*(const typename KIND::T *)(values.row(i) + column * values.step));
    return sum / keys;
}

// In the columns that are a thread's in a row of attend_rows. Where values lie is found anew, so that
// it takes no registers meanwhile.
template <class AT, class W>
static __device__ __noinline__ void put_means(const W &p, const ll *w, int batch, int group,
                                              typename AT::Kind::T *to) {
    const ll *vs = w + AT_STRIDES + 8;
    const Lines v_rows = {AT::value(p) + batch * vs[0] + group * vs[1], vs[2], vs[3]};
    for (int c = threadIdx.x % 4 * 2; c < w[AT_WIDTH]; c += c % 2 == 0 ? 1 : 7)
        to[c] = AT::Kind::narrow(mean_value<typename AT::Kind>(v_rows, (int)w[AT_KEYS], c));
}

// Many rows -------------------------------------------------------------------------------------

// A block's share: ROWS rows of one head, 16 a warp, and its keys tile by tile, of which the next
// ones are on their way meanwhile.
template <class AT, int TILE, class W> DEVICE void attend_rows(const W &p, const ll *w) {
    const int ROWS = 128, THREADS = 256, BLOCKS = TILE / 8;
    const int queries = (int)w[AT_QUERIES], keys = (int)w[AT_KEYS], heads = (int)w[AT_HEADS];
    const int width = (int)w[AT_WIDTH], size = (int)w[AT_SIZE];
    const int parts = (queries + ROWS - 1) / ROWS, first = (parts - 1 - (int)(blockIdx.x % parts)) * ROWS;
    const int head = (int)(blockIdx.x / parts % heads), batch = (int)(blockIdx.x / parts / heads);
    const int group = head / (heads / (int)w[AT_GROUPS]);
    const ll *qs = w + AT_STRIDES, *ks = qs + 4, *vs = qs + 8;
    const Lines q_rows = {AT::query(p) + batch * qs[0] + head * qs[1], qs[2], qs[3]};
    const Lines k_rows = {AT::key(p) + batch * ks[0] + group * ks[1], ks[2], ks[3]};
    const Lines v_rows = {AT::value(p) + batch * vs[0] + group * vs[1], vs[2], vs[3]};
    const int lane = threadIdx.x % 32, own = threadIdx.x / 32 * 16;
    const float step = __int_as_float((int)w[AT_STEP]);
    char *q_room = shared_room(), *k_room = q_room + Tile<ROWS, AT::SIZE>::BYTES;
    char *v_room = k_room + 2 * Tile<TILE, AT::SIZE>::BYTES;
    const int limit = AT::LIMITED ? AT::limit(p, batch) : keys;
    Lane l = {batch, {head, head}};
    Softmax m;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int query = first + own + lane / 4 + r * 8;
        l.query[r] = query < queries ? query : queries - 1;
        l.seen[r] = limit + query;
        m.most[r] = AT::SINKS ? AT::sink(p, head) : HIDDEN;
        m.sum[r] = AT::SINKS && lane % 4 == 0;
    }
    int last = keys, whole = keys / TILE;
    if (AT::LIMITED) {
        int most = limit + (first + ROWS < queries ? first + ROWS : queries) - 1;
        last = most < 0 ? 0 : most < keys ? most : keys;
        int least = limit + first;
        whole = least < 0 ? 0 : least / TILE < whole ? least / TILE : whole;
    }
    const int tiles = (last + TILE - 1) / TILE;
    const int K_BYTES = Tile<TILE, AT::SIZE>::BYTES, V_BYTES = Tile<TILE, AT::WIDTH>::BYTES;
    const Carrier<TILE, AT::SIZE, THREADS, AT::VECTORS> k_carrier(k_rows, size);
    const Carrier<TILE, AT::WIDTH, THREADS, AT::VECTORS> v_carrier(v_rows, width);
    auto bring_keys = [&](int t) {
        if (t < tiles) k_carrier.bring(k_room + t % 2 * K_BYTES, t * TILE, keys);
    };
    auto bring_values = [&](int t) {
        if (t < tiles) v_carrier.bring(v_room + t % 2 * V_BYTES, t * TILE, keys);
    };
    float o[AT::WIDTH / 8][4] = {};
    unsigned q[AT::SIZE / 16][4];
    float s[BLOCKS][4], scale[2];
    Weights<AT, BLOCKS> weights;
    Carrier<ROWS, AT::SIZE, THREADS, AT::VECTORS>(q_rows, size).bring(q_room, first, queries);
    bring_keys(0);
    copy_group();
    bring_keys(1);
    bring_values(0);
    copy_group();
    copy_wait<1>();
    group_sees();
    __syncthreads();
    take_queries<AT, ROWS>(shared_at(q_room), own, q);
    if (tiles > 0) {
        begin_scores<AT, TILE>(s, q, shared_at(k_room));
        group_wait<0>();
        group_has(s);
        if (AT::MASKED || whole == 0) hide_scores<AT>(p, s, 0, keys, l);
        weigh_scores(s, m, step, scale);
    }
    // The values of a tile are weighed while the scores of the next one are.
    for (int t = 0; t < tiles; t++) {
        take_weights(s, weights);
        copy_wait<0>();
        group_sees();
        __syncthreads();
        bring_keys(t + 2);
        bring_values(t + 1);
        copy_group();
        if (t + 1 == tiles) break;
        begin_scores<AT, TILE>(s, q, shared_at(k_room + (t + 1) % 2 * K_BYTES));
        begin_values<AT, TILE>(o, weights, shared_at(v_room + t % 2 * V_BYTES));
        group_wait<1>();
        group_has(s);
        if (AT::MASKED || t + 1 >= whole) hide_scores<AT>(p, s, (t + 1) * TILE, keys, l);
        weigh_scores(s, m, step, scale);
        group_wait<0>();
        group_has(o);
        if (__any_sync(~0u, scale[0] != 1 || scale[1] != 1)) scale_sums(o, scale);
    }
    if (tiles > 0) {
        begin_values<AT, TILE>(o, weights, shared_at(v_room + (tiles - 1) % 2 * V_BYTES));
        group_wait<0>();
        group_has(o);
    }
    copy_wait<0>();
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int query = first + own + lane / 4 + r * 8;
        float sum = m.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if (query >= queries) continue;
        typename AT::Kind::T *to = (typename AT::Kind::T *)w[AT_OUT] +
                                   (((ll)batch * heads + head) * queries + query) * width;
        bool none = (AT::MASKED || AT::LIMITED) && m.most[r] <= HIDDEN;
        float by = 1 / sum;
#pragma unroll
        for (int b = 0; b < AT::WIDTH / 8; b++) {
            int c = b * 8 + lane % 4 * 2;
            float x = o[b][2 * r] * by, y = o[b][2 * r + 1] * by;
            if (width % 2 == 0 && c < width) *(unsigned *)(to + c) = two_of(typename AT::Kind(), x, y);
            if (width % 2 == 1 && c < width) to[c] = AT::Kind::narrow(x);
            if (width % 2 == 1 && c + 1 < width) to[c + 1] = AT::Kind::narrow(y);
        }
        if (none) put_means<AT>(p, w, batch, group, to);
    }
}

// Few rows --------------------------------------------------------------------------------------

// Up to 16 rows, those of all heads of a group. Each warp has a quarter of a tile's keys; blocks
// have a part of the keys each where there are SPLITS of them.
template <class AT, int TILE, bool SPLIT, class W> DEVICE void attend_few(const W &p, const ll *w) {
    const int ROWS = 16, WARPS = 4, THREADS = 128, BLOCKS = TILE / 8 / WARPS;
    const int queries = (int)w[AT_QUERIES], keys = (int)w[AT_KEYS], heads = (int)w[AT_HEADS];
    const int width = (int)w[AT_WIDTH], size = (int)w[AT_SIZE], groups = (int)w[AT_GROUPS];
    const int each = heads / groups, rows = each * queries, splits = (int)w[AT_SPLITS];
    const int split = (int)(blockIdx.x % splits), pair = (int)(blockIdx.x / splits);
    const int batch = pair / groups, group = pair % groups;
    const ll *qs = w + AT_STRIDES, *ks = qs + 4, *vs = qs + 8;
    const Rows q_rows = {AT::query(p) + batch * qs[0] + group * each * qs[1], qs[1], qs[2], qs[3],
                         queries};
    const Lines k_rows = {AT::key(p) + batch * ks[0] + group * ks[1], ks[2], ks[3]};
    const Lines v_rows = {AT::value(p) + batch * vs[0] + group * vs[1], vs[2], vs[3]};
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, own = warp * (TILE / WARPS);
    const float step = __int_as_float((int)w[AT_STEP]);
    char *q_room = shared_room(), *k_room = q_room + Tile<ROWS, AT::SIZE>::BYTES;
    char *v_room = k_room + 2 * Tile<TILE, AT::SIZE>::BYTES;
    const int limit = AT::LIMITED ? AT::limit(p, batch) : keys;
    const int from = split * (int)w[AT_SPAN];
    int last = from + (int)w[AT_SPAN] < keys ? from + (int)w[AT_SPAN] : keys;
    if (AT::LIMITED) last = limit + queries - 1 < last ? limit + queries - 1 : last;
    const int tiles = last > from ? (last - from + TILE - 1) / TILE : 0;
    Lane l = {batch};
    Softmax m;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = lane / 4 + r * 8;
        row = row < rows ? row : 0;
        l.head[r] = group * each + row / queries;
        l.query[r] = row % queries;
        l.seen[r] = limit + l.query[r];
        bool sinks = AT::SINKS && split == 0 && warp == 0;
        m.most[r] = sinks ? AT::sink(p, l.head[r]) : HIDDEN;
        m.sum[r] = sinks && lane % 4 == 0;
    }
    float o[AT::WIDTH / 8][4] = {};
    unsigned q[AT::SIZE / 16][4];
    const int K_BYTES = Tile<TILE, AT::SIZE>::BYTES, V_BYTES = Tile<TILE, AT::WIDTH>::BYTES;
    const Carrier<TILE, AT::SIZE, THREADS, AT::VECTORS> k_carrier(k_rows, size);
    const Carrier<TILE, AT::WIDTH, THREADS, AT::VECTORS> v_carrier(v_rows, width);
    if (tiles > 0) k_carrier.bring(k_room, from, keys);
    copy_group();
    if (tiles > 0) v_carrier.bring(v_room, from, keys);
    copy_group();
    bring_rows<ROWS, AT::SIZE, THREADS>(q_room, q_rows, 0, rows, size);
    for (int t = 0; t < tiles; t++) {
        const int stage = t % 2, next = stage ^ 1, start = from + (t + 1) * TILE;
        float s[BLOCKS][4], scale[2];
        Weights<AT, BLOCKS> weights;
        copy_wait<1>();
        __syncthreads();
        if (t == 0) take_queries<AT, ROWS>(shared_at(q_room), 0, q);
        if (t + 1 < tiles) k_carrier.bring(k_room + next * K_BYTES, start, keys);
        copy_group();
        warp_scores<AT, TILE>(s, q, shared_at(k_room + stage * K_BYTES), own);
        hide_scores<AT>(p, s, start - TILE + own, last > keys ? keys : last, l);
        weigh_scores(s, m, step, scale);
        scale_sums(o, scale);
        copy_wait<1>();
        __syncthreads();
        if (t + 1 < tiles) v_carrier.bring(v_room + next * V_BYTES, start, keys);
        copy_group();
        take_weights(s, weights);
        warp_values<AT, TILE, BLOCKS>(o, weights, shared_at(v_room + stage * V_BYTES), own);
    }
    copy_wait<0>();
    __syncthreads();
    // What the warps have is put together in shared memory.
    float *sums = (float *)shared_room(), *stats = sums + WARPS * ROWS * AT::WIDTH;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int row = warp * ROWS + lane / 4 + r * 8;
        float sum = m.sum[r];
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        stats[2 * row] = m.most[r];
        stats[2 * row + 1] = sum;
#pragma unroll
        for (int b = 0; b < AT::WIDTH / 8; b++)
#pragma unroll
            for (int i = 0; i < 2; i++)
                sums[row * AT::WIDTH + b * 8 + lane % 4 * 2 + i] = o[b][2 * r + i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < rows * width; i += THREADS) {
        int row = i / width, c = i % width;
        float most = HIDDEN, sum = 0, value = 0;
        for (int j = 0; j < WARPS; j++) most = fmaxf(most, stats[2 * (j * ROWS + row)]);
        for (int j = 0; j < WARPS; j++) {
            int at = j * ROWS + row;
            float scale = power_of_two((stats[2 * at] - most) * step);
            sum = __fmaf_rn(stats[2 * at + 1], scale, sum);
            value = __fmaf_rn(sums[at * AT::WIDTH + c], scale, value);
        }
        if (SPLIT) {
            float *to = (float *)w[AT_SUMS] + ((ll)blockIdx.x * ROWS + row) * (width + 2);
            to[c] = value;
            if (c == 0) to[width] = most;
            if (c == 0) to[width + 1] = sum;
        } else {
            ll head = (ll)batch * heads + group * each + row / queries;
            bool none = (AT::MASKED || AT::LIMITED) && most <= HIDDEN;
            ((typename AT::Kind::T *)w[AT_OUT])[(head * queries + row % queries) * width + c] =
                AT::Kind::narrow(none ? mean_value<typename AT::Kind>(v_rows, keys, c) : value / sum);
        }
    }
}

// Puts up to 32 splits of a row together: a block a row, a thread an element.
template <class AT, class W> DEVICE void attend_joined(const W &p, const ll *w) {
    const int ROWS = 16;
    const int queries = (int)w[AT_QUERIES], heads = (int)w[AT_HEADS], groups = (int)w[AT_GROUPS];
    const int width = (int)w[AT_WIDTH], each = heads / groups, splits = (int)w[AT_SPLITS];
    const int rows = each * queries, row = (int)(blockIdx.x % rows), pair = (int)(blockIdx.x / rows);
    const int batch = pair / groups, group = pair % groups, lane = threadIdx.x % 32, c = threadIdx.x;
    const float step = __int_as_float((int)w[AT_STEP]);
    const float *from = (const float *)w[AT_SUMS] + ((ll)pair * splits * ROWS + row) * (width + 2);
    const ll further = (ll)ROWS * (width + 2);
    float own = lane < splits ? from[lane * further + width] : HIDDEN, most = own;
    float sum = lane < splits ? from[lane * further + width + 1] : 0, value = 0;
    for (int by = 16; by > 0; by /= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, by));
    float scale = power_of_two((own - most) * step);
    sum *= scale;
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(~0u, sum, by);
#pragma unroll 8
    for (int j = 0; j < splits; j++)
        value = __fmaf_rn(c < width ? from[j * further + c] : 0, __shfl_sync(~0u, scale, j), value);
    if (c >= width) return;
    if ((AT::MASKED || AT::LIMITED) && most <= HIDDEN) {
        const ll *vs = w + AT_STRIDES + 8;
        const Lines v_rows = {AT::value(p) + batch * vs[0] + group * vs[1], vs[2], vs[3]};
        value = mean_value<typename AT::Kind>(v_rows, (int)w[AT_KEYS], c);
        sum = 1;
    }
    ll head = (ll)batch * heads + group * each + row / queries;
    ((typename AT::Kind::T *)w[AT_OUT])[(head * queries + row % queries) * width + c] =
        AT::Kind::narrow(value / sum);
}

// Any rows of f32 -------------------------------------------------------------------------------

// A block has 64 rows of one head, and 64 keys at a time; a thread 4 by 4 scores, and of its rows a
// sixteenth of the results.
template <class AT, class W> DEVICE void attend_plain(const W &p, const ll *w) {
    const int SIDE = 64, THREADS = 256, ROOM = AT::SIZE + 4 > AT::WIDTH ? AT::SIZE + 4 : AT::WIDTH;
    const int queries = (int)w[AT_QUERIES], keys = (int)w[AT_KEYS], heads = (int)w[AT_HEADS];
    const int width = (int)w[AT_WIDTH], size = (int)w[AT_SIZE], parts = (queries + SIDE - 1) / SIDE;
    const int first = (parts - 1 - (int)(blockIdx.x % parts)) * SIDE;
    const int head = (int)(blockIdx.x / parts % heads), batch = (int)(blockIdx.x / parts / heads);
    const int group = head / (heads / (int)w[AT_GROUPS]);
    const ll *qs = w + AT_STRIDES, *ks = qs + 4, *vs = qs + 8;
    const Lines q_rows = {AT::query(p) + batch * qs[0] + head * qs[1], qs[2], qs[3]};
    const Lines k_rows = {AT::key(p) + batch * ks[0] + group * ks[1], ks[2], ks[3]};
    const Lines v_rows = {AT::value(p) + batch * vs[0] + group * vs[1], vs[2], vs[3]};
    const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    const float step = __int_as_float((int)w[AT_STEP]);
    typedef Vector<float, 4> Four;
    float *q = (float *)shared_room(), *room = q + SIDE * (AT::SIZE + 4);
    float *weights = room + SIDE * ROOM;
    const int limit = AT::LIMITED ? AT::limit(p, batch) : keys;
    int last = limit + (first + SIDE < queries ? first + SIDE : queries) - 1;
    if (!AT::LIMITED || last > keys) last = keys;
    float most[4], sum[4], o[4][AT::WIDTH / 64][4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        most[i] = AT::SINKS ? AT::sink(p, head) : HIDDEN;
        sum[i] = AT::SINKS;
    }
    bring_floats<AT::SIZE, AT::SIZE + 4>(q, q_rows, first, queries, size);
    for (int start = 0; start < last; start += SIDE) {
        float s[4][4] = {};
        __syncthreads();
        bring_floats<AT::SIZE, AT::SIZE + 4>(room, k_rows, start, keys, size);
        __syncthreads();
#pragma unroll 2
        for (int d = 0; d < AT::SIZE; d += 4) {
            Four a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = *(Four *)&q[(ty * 4 + i) * (AT::SIZE + 4) + d];
#pragma unroll
            for (int j = 0; j < 4; j++) b[j] = *(Four *)&room[(tx + 16 * j) * (AT::SIZE + 4) + d];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
#pragma unroll
                    for (int e = 0; e < 4; e++) s[i][j] = __fmaf_rn(a[i].x[e], b[j].x[e], s[i][j]);
        }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int query = first + ty * 4 + i;
            float before = most[i];
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int key = start + tx + 16 * j;
                if (AT::MASKED)
                    s[i][j] = AT::score(p, batch, head, query < queries ? query : 0,
                                        key < keys ? key : 0, s[i][j]);
                if (AT::LIMITED && key >= limit + query) s[i][j] = HIDDEN;
                if (key >= keys) s[i][j] = -(float)INFINITE;
                most[i] = fmaxf(most[i], s[i][j]);
            }
            for (int by = 1; by < 16; by *= 2) most[i] = fmaxf(most[i], __shfl_xor_sync(~0u, most[i], by));
            float scale = power_of_two((before - most[i]) * step), part = 0;
#pragma unroll
            for (int j = 0; j < 4; j++) {
                float x = power_of_two((s[i][j] - most[i]) * step);
                weights[(ty * 4 + i) * (SIDE + 4) + tx + 16 * j] = x;
                part += x;
            }
            for (int by = 1; by < 16; by *= 2) part += __shfl_xor_sync(~0u, part, by);
            sum[i] = __fmaf_rn(sum[i], scale, part);
#pragma unroll
            for (int n = 0; n < AT::WIDTH / 64; n++)
#pragma unroll
                for (int e = 0; e < 4; e++) o[i][n][e] *= scale;
        }
        __syncthreads();
        bring_floats<AT::WIDTH, AT::WIDTH>(room, v_rows, start, keys, width);
        __syncthreads();
#pragma unroll 2
        for (int key = 0; key < SIDE; key += 4) {
            Four a[4];
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = *(Four *)&weights[(ty * 4 + i) * (SIDE + 4) + key];
#pragma unroll
            for (int f = 0; f < 4; f++)
#pragma unroll
                for (int n = 0; n < AT::WIDTH / 64; n++) {
                    Four b = *(Four *)&room[(key + f) * AT::WIDTH + n * 64 + tx * 4];
#pragma unroll
                    for (int i = 0; i < 4; i++)
#pragma unroll
                        for (int e = 0; e < 4; e++)
                            o[i][n][e] = __fmaf_rn(a[i].x[f], b.x[e], o[i][n][e]);
                }
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int query = first + ty * 4 + i;
        bool none = (AT::MASKED || AT::LIMITED) && most[i] <= HIDDEN;
        if (query >= queries) continue;
        float *to = (float *)w[AT_OUT] + (((ll)batch * heads + head) * queries + query) * width;
#pragma unroll
        for (int n = 0; n < AT::WIDTH / 64; n++)
#pragma unroll
            for (int e = 0; e < 4; e++) {
                int c = n * 64 + tx * 4 + e;
                if (c < width) to[c] = none ? mean_value<F32>(v_rows, keys, c) : o[i][n][e] / sum[i];
            }
    }
}
