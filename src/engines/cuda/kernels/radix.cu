// SPDX-License-Identifier: Apache-2.0
// radix.cu - stable sort of long lines of keys with their places, eight bits of the keys a pass.
//
// A pass counts the digits of each tile, adds up the counts of the tiles before, digit by digit,
// and moves every key behind those of lower digits and of equal ones that came before. A tile is
// put in order in shared memory first, so that what is written lies together.
enum { RADIX = 256 }; // digits, and threads of a block

// Pass 0 makes keys; each pass reads what the one before wrote.
template <class KEY, class W>
DEVICE typename KEY::K radix_key(const W &p, ll line, ll at, ll pass, const typename KEY::K *in) {
    return pass == 0 ? KEY::key(p, line, at) : in[at];
}

// counts[line][digit][tile]
template <class KEY, int ITEMS, class W>
DEVICE void radix_count(const W &p, ll length, ll pass, ll first, ll second, ll counts) {
    typedef typename KEY::K K;
    const int TILE = RADIX * ITEMS;
    __shared__ unsigned seen[RADIX];
    ll tiles = (length + TILE - 1) / TILE, line = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const K *in = (const K *)(pass % 2 ? first : second) + line * length;
    seen[threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        ll at = tile * TILE + i * RADIX + threadIdx.x;
        if (at < length)
            atomicAdd(&seen[radix_key<KEY>(p, line, at, pass, in) >> (8 * pass) & (RADIX - 1)], 1u);
    }
    __syncthreads();
    ((unsigned *)counts)[(line * RADIX + threadIdx.x) * tiles + tile] = seen[threadIdx.x];
}

// The sum of what the threads before this one have, and in `total` of all.
DEVICE unsigned sum_before(unsigned mine, unsigned &total) {
    __shared__ unsigned warps[RADIX / 32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned sum = mine, before = 0;
    for (int by = 1; by < 32; by *= 2) {
        unsigned other = __shfl_up_sync(~0u, sum, by);
        if (lane >= by) sum += other;
    }
    if (lane == 31) warps[warp] = sum;
    __syncthreads();
    total = 0;
    for (int w = 0; w < RADIX / 32; w++) {
        if (w < warp) before += warps[w];
        total += warps[w];
    }
    __syncthreads();
    return before + sum - mine;
}

// Counts become those of the tiles before, and totals[line][digit] those of all: a block a digit.
DEVICE void radix_add(ll counts, ll totals, ll tiles) {
    unsigned *own = (unsigned *)counts + blockIdx.x * tiles, total;
    ll each = (tiles + RADIX - 1) / RADIX, from = threadIdx.x * each;
    ll to = from + each < tiles ? from + each : tiles;
    unsigned sum = 0;
    for (ll i = from; i < to; i++) sum += own[i];
    unsigned before = sum_before(sum, total);
    for (ll i = from; i < to; i++) {
        unsigned count = own[i];
        own[i] = before;
        before += count;
    }
    if (threadIdx.x == 0) ((unsigned *)totals)[blockIdx.x] = total;
}

template <class KEY, int ITEMS, class W>
DEVICE void radix_move(const W &p, ll length, ll pass, ll first, ll second, ll places_at, ll counts,
                       ll totals) {
    typedef typename KEY::K K;
    const int TILE = RADIX * ITEMS, WARPS = RADIX / 32;
    __shared__ K keys[TILE];
    __shared__ unsigned places[TILE];
    __shared__ unsigned seen[WARPS][RADIX];
    __shared__ unsigned begin[RADIX];
    __shared__ ll target[RADIX];
    ll from = pass % 2 ? first : second, to = pass % 2 ? second : first;
    ll tiles = (length + TILE - 1) / TILE, line = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    const K *in = (const K *)from + line * length;
    const unsigned *in_places = (const unsigned *)(from + places_at) + line * length;
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    ll start = tile * TILE, mine = start + warp * (32 * ITEMS) + lane;
    K key[ITEMS];
    unsigned rank[ITEMS], all;
#pragma unroll
    for (int i = 0; i < WARPS; i++) seen[i][threadIdx.x] = 0;
    // What lies beyond the line's end has the last digit and comes last.
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        ll at = mine + i * 32;
        key[i] = at < length ? radix_key<KEY>(p, line, at, pass, in) : ~(K)0;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        int digit = (int)(key[i] >> (8 * pass) & (RADIX - 1));
        unsigned same = __match_any_sync(~0u, digit), before = seen[warp][digit];
        int lower = __popc(same & ((1u << lane) - 1));
        __syncwarp();
        if (lower == 0) seen[warp][digit] = before + __popc(same);
        __syncwarp();
        rank[i] = before + lower;
    }
    __syncthreads();
    unsigned sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) {
        unsigned count = seen[w][threadIdx.x];
        seen[w][threadIdx.x] = sum;
        sum += count;
    }
    ll digit_at = line * RADIX + threadIdx.x;
    begin[threadIdx.x] = sum_before(sum, all);
    target[threadIdx.x] = (ll)sum_before(((const unsigned *)totals)[digit_at], all) +
                          ((const unsigned *)counts)[digit_at * tiles + tile] - begin[threadIdx.x];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        ll at = mine + i * 32;
        int digit = (int)(key[i] >> (8 * pass) & (RADIX - 1));
        unsigned local = begin[digit] + seen[warp][digit] + rank[i];
        keys[local] = key[i];
        places[local] = pass == 0 || at >= length ? (unsigned)at : in_places[at];
    }
    __syncthreads();
    K *out = (K *)to + line * length;
    unsigned *out_places = (unsigned *)(to + places_at) + line * length;
    for (int i = threadIdx.x; i < TILE && start + i < length; i += RADIX) {
        K own = keys[i];
        ll at = target[own >> (8 * pass) & (RADIX - 1)] + i;
        out[at] = own;
        out_places[at] = places[i];
    }
}
