// SPDX-License-Identifier: Apache-2.0
// sort.cu - stable merge sort of lines of keys, and of what goes with them: their places, or what
// has the keys.
//
// Runs of one tile are sorted within a block; each pass then merges two runs into one. Threads find
// by bisection which part of both runs is theirs (a "merge path"), so that each merges equally many.

// The key of a float's bits: larger floats have larger keys, NaN the largest, zeros the same.
DEVICE ull float_key(ull bits, unsigned width, unsigned mantissa) {
    ull sign = 1ull << (width - 1), size = bits & (sign - 1);
    ull infinity = (sign - 1) >> mantissa << mantissa;
    if (size > infinity) return sign | (sign - 1);
    if (size == 0) return sign;
    return bits & sign ? (sign - 1) - size : sign | size;
}

// How many of the first `diagonal` merged keys come from a; of equals, those of a come first.
template <class K> DEVICE ll merge_path(const K *a, ll a_count, const K *b, ll b_count, ll diagonal) {
    ll low = diagonal > b_count ? diagonal - b_count : 0, high = diagonal < a_count ? diagonal : a_count;
    while (low < high) {
        ll middle = (low + high) / 2;
        if (a[middle] <= b[diagonal - 1 - middle])
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

// ITEMS merged keys of two runs in shared memory from `diagonal` on.
template <class K, int ITEMS>
DEVICE void merge_serial(const K *keys, const unsigned *places, int a, int a_end, int b, int b_end,
                         K (&key)[ITEMS], unsigned (&place)[ITEMS]) {
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        bool left = b >= b_end || (a < a_end && keys[a] <= keys[b]);
        int at = left ? a++ : b++;
        if (at >= b_end) at = b_end - 1;
        key[i] = keys[at];
        place[i] = places[at];
    }
}

// Tiles are merged with each other, starting with single threads' items.
template <class K, int THREADS, int ITEMS>
DEVICE void sort_block(K *keys, unsigned *places, K (&key)[ITEMS], unsigned (&place)[ITEMS]) {
#pragma unroll
    for (int round = 0; round < ITEMS; round++)
#pragma unroll
        for (int i = round % 2; i + 1 < ITEMS; i += 2)
            if (key[i + 1] < key[i]) {
                K k = key[i];
                key[i] = key[i + 1];
                key[i + 1] = k;
                unsigned q = place[i];
                place[i] = place[i + 1];
                place[i + 1] = q;
            }
#pragma unroll 1
    for (int width = ITEMS; width < THREADS * ITEMS; width *= 2) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            keys[threadIdx.x * ITEMS + i] = key[i];
            places[threadIdx.x * ITEMS + i] = place[i];
        }
        __syncthreads();
        int first = threadIdx.x * ITEMS, a = first / (2 * width) * (2 * width), b = a + width;
        int from = (int)merge_path(keys + a, (ll)width, keys + b, (ll)width, (ll)(first - a));
        merge_serial(keys, places, a + from, b, b + (first - a) - from, b + width, key, place);
    }
}

// One tile of one line. Places beyond the line's end have the largest key and stay last.
template <class KEY, int THREADS, int ITEMS, class W>
DEVICE void sort_tile(const W &p, ll length, ll to, ll places_at) {
    typedef typename KEY::K K;
    const int TILE = THREADS * ITEMS;
    __shared__ K keys[TILE];
    __shared__ unsigned places[TILE];
    unsigned tiles = (unsigned)((length + TILE - 1) / TILE);
    ll line = blockIdx.x / tiles, first = (ll)(blockIdx.x % tiles) * TILE;
    K key[ITEMS];
    unsigned place[ITEMS];
    for (int i = threadIdx.x; i < TILE; i += THREADS)
        keys[i] = first + i < length ? KEY::key(p, line, first + i) : ~(K)0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        key[i] = keys[threadIdx.x * ITEMS + i];
        ll at = first + threadIdx.x * ITEMS + i;
        place[i] = at < length ? KEY::load(p, line, at) : 0;
    }
    sort_block<K, THREADS, ITEMS>(keys, places, key, place);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        keys[threadIdx.x * ITEMS + i] = key[i];
        places[threadIdx.x * ITEMS + i] = place[i];
    }
    __syncthreads();
    K *out = (K *)to + line * length + first;
    unsigned *out_places = (unsigned *)(to + places_at) + line * length + first;
    for (int i = threadIdx.x; i < TILE && first + i < length; i += THREADS) {
        out[i] = keys[i];
        out_places[i] = places[i];
    }
}

// Pass `pass` merges runs of TILE << pass keys, from one buffer to the other.
template <class K, int THREADS, int ITEMS>
DEVICE void merge_runs(ll length, ll pass, ll first, ll second, ll places_at) {
    const int TILE = THREADS * ITEMS;
    __shared__ K keys[TILE];
    __shared__ unsigned places[TILE];
    __shared__ ll cuts[2];
    ll from = pass % 2 ? second : first, to = pass % 2 ? first : second;
    unsigned tiles = (unsigned)((length + TILE - 1) / TILE);
    ll line = blockIdx.x / tiles, begin = (ll)(blockIdx.x % tiles) * TILE, width = (ll)TILE << pass;
    ll a = begin / (2 * width) * (2 * width), b = a + width < length ? a + width : length;
    ll b_end = b + width < length ? b + width : length, end = begin + TILE;
    if (end > b_end) end = b_end;
    const K *in = (const K *)from + line * length;
    const unsigned *in_places = (const unsigned *)(from + places_at) + line * length;
    if (threadIdx.x < 2)
        cuts[threadIdx.x] = merge_path(in + a, b - a, in + b, b_end - b,
                                       (threadIdx.x == 0 ? begin : end) - a);
    __syncthreads();
    ll a_from = a + cuts[0], a_to = a + cuts[1];
    ll b_from = b + (begin - a) - cuts[0], b_to = b + (end - a) - cuts[1];
    int a_count = (int)(a_to - a_from), b_count = (int)(b_to - b_from), count = a_count + b_count;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        ll at = i < a_count ? a_from + i : b_from + (i - a_count);
        keys[i] = in[at];
        places[i] = in_places[at];
    }
    __syncthreads();
    K key[ITEMS];
    unsigned place[ITEMS];
    int mine = threadIdx.x * ITEMS < count ? threadIdx.x * ITEMS : count;
    int left = (int)merge_path(keys, (ll)a_count, keys + a_count, (ll)b_count, (ll)mine);
    merge_serial(keys, places, left, a_count, a_count + mine - left, count, key, place);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        if (mine + i < count) {
            keys[mine + i] = key[i];
            places[mine + i] = place[i];
        }
    __syncthreads();
    K *out = (K *)to + line * length + begin;
    unsigned *out_places = (unsigned *)(to + places_at) + line * length + begin;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        out[i] = keys[i];
        out_places[i] = places[i];
    }
}
