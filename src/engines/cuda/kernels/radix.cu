// SPDX-License-Identifier: Apache-2.0
// radix.cu - stable sort of long lines of keys with their places, eight bits of the keys a pass.
//
// A pass counts the digits of each tile, adds up the counts of the tiles before, digit by digit,
// and moves every key behind those of lower digits and of equal ones that came before. A tile is
// put in order in shared memory first, so that what is written lies together.
enum { RADIX = 256 }; // digits, and threads of a block

// x[i] is `from` of element `start` + i * `step`, or of the line's last.
template <class T, int ITEMS, class F>
DEVICE void radix_each(ll start, int step, ll length, T (&x)[ITEMS], F from) {
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        ll at = start + i * step;
        x[i] = from(at < length ? at : length - 1);
    }
}
// Pass 0 makes keys and loads, each pass reads what the one before wrote. What lies beyond the line's
// end has the largest key, and so comes last.
template <class KEY, int ITEMS, class W>
DEVICE void radix_keys(const W &p, ll line, ll start, int step, ll length, ll pass,
                       const typename KEY::K *in, typename KEY::K (&key)[ITEMS]) {
    if (pass == 0)
        radix_each(start, step, length, key, [&](ll at) { return KEY::key(p, line, at); });
    else
        radix_each(start, step, length, key, [&](ll at) { return in[at]; });
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        if (start + i * step >= length) key[i] = ~(typename KEY::K)0;
}
template <class KEY, int ITEMS, class W>
DEVICE void radix_loads(const W &p, ll line, ll start, int step, ll length, ll pass,
                        const unsigned *in, unsigned (&load)[ITEMS]) {
    if (pass == 0)
        radix_each(start, step, length, load, [&](ll at) { return KEY::load(p, line, at); });
    else
        radix_each(start, step, length, load, [&](ll at) { return in[at]; });
}

// counts[line][digit][tile], and in the first pass others[line][tile].
template <class KEY, int ITEMS, class W>
DEVICE void radix_count(const W &p, ll length, ll pass, ll first, ll second, ll counts, ll others) {
    typedef typename KEY::K K;
    const int TILE = RADIX * ITEMS;
    __shared__ unsigned seen[RADIX / 32][RADIX];
    unsigned tiles = (unsigned)((length + TILE - 1) / TILE);
    ll line = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    ll start = tile * TILE + threadIdx.x;
    int shift = (int)(8 * pass), warp = threadIdx.x / 32;
    K key[ITEMS];
    for (int w = 0; w < RADIX / 32; w++) seen[w][threadIdx.x] = 0;
    radix_keys<KEY>(p, line, start, RADIX, length, pass,
                    (const K *)(pass % 2 ? first : second) + line * length, key);
    if (KEY::TELLS && pass == 0) {
        bool other = false;
        for (ll at = start; at < tile * TILE + TILE && at < length; at += RADIX)
            other |= KEY::told(KEY::key(p, line, at)) != KEY::load(p, line, at);
        other = __syncthreads_or(other);
        if (threadIdx.x == 0) ((unsigned *)others)[blockIdx.x] = other;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        if (start + i * RADIX < length)
            atomicAdd(&seen[warp][(int)(key[i] >> shift) & (RADIX - 1)], 1u);
    __syncthreads();
    unsigned sum = 0;
    for (int w = 0; w < RADIX / 32; w++) sum += seen[w][threadIdx.x];
    ((unsigned *)counts)[(line * RADIX + threadIdx.x) * tiles + tile] = sum;
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

// Whether all keys of a line tell their loads is known when those of its tiles do: tells[line].
DEVICE void radix_tells(ll others, ll tells, ll tiles) {
    ll line = blockIdx.x / RADIX;
    bool other = false;
    if (blockIdx.x % RADIX != 0) return;
    for (ll i = threadIdx.x; i < tiles; i += RADIX)
        other |= ((const unsigned *)others)[line * tiles + i] != 0;
    other = __syncthreads_or(other);
    if (threadIdx.x == 0) ((unsigned *)tells)[line] = !other;
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

// How the keys of a block are put in the order of one digit.
struct Ranking {
    unsigned seen[RADIX / 32][RADIX]; // by warps before, of each digit
    unsigned begin[RADIX];            // where each digit begins
};

// The threads of the warp with the same digit. The instruction for that takes as many turns as there
// are digits.
DEVICE unsigned same_digit(int digit) {
    unsigned same = ~0u;
#pragma unroll
    for (int bit = 1; bit < RADIX; bit *= 2) {
        unsigned with = __ballot_sync(~0u, (digit & bit) != 0);
        same &= digit & bit ? with : ~with;
    }
    return same;
}

// Ranks keys among those of the same digit in their warp. Warps have their keys in order, and each
// the first of all its threads before the second.
template <class K, int ITEMS>
DEVICE void rank_digits(Ranking &r, const K (&key)[ITEMS], int shift, unsigned (&rank)[ITEMS]) {
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    unsigned sum = 0, all;
#pragma unroll
    for (int w = 0; w < RADIX / 32; w++) r.seen[w][threadIdx.x] = 0;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        int digit = (int)(key[i] >> shift) & (RADIX - 1);
        unsigned same = same_digit(digit), before = r.seen[warp][digit];
        int lower = __popc(same & ((1u << lane) - 1));
        __syncwarp();
        if (lower == 0) r.seen[warp][digit] = before + __popc(same);
        __syncwarp();
        rank[i] = before + lower;
    }
    __syncthreads();
#pragma unroll
    for (int w = 0; w < RADIX / 32; w++) {
        unsigned count = r.seen[w][threadIdx.x];
        r.seen[w][threadIdx.x] = sum;
        sum += count;
    }
    r.begin[threadIdx.x] = sum_before(sum, all);
    __syncthreads();
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        int digit = (int)(key[i] >> shift) & (RADIX - 1);
        rank[i] += r.begin[digit] + r.seen[warp][digit];
    }
}

// What is done with a key that has found its place: it is kept, with its load. Others write a result.
struct Kept {
    template <class K, class W>
    static METHOD void put(const W &, ll to, ll loads_at, ll, ll place, K key, unsigned load) {
        ((K *)to)[place] = key;
        ((unsigned *)(to + loads_at))[place] = load;
    }
};

// `load` goes with a key: its place, or what has it; where keys tell it stays behind. In pass `last` OUT
// has them.
template <class KEY, class OUT, int ITEMS, class W>
DEVICE void radix_move(const W &p, ll length, ll pass, ll first, ll second, ll loads_at, ll counts,
                       ll totals, ll tells_at, ll last) {
    typedef typename KEY::K K;
    const int TILE = RADIX * ITEMS;
    __shared__ K keys[TILE];
    __shared__ unsigned loads[TILE];
    __shared__ Ranking ranking;
    __shared__ ll target[RADIX];
    ll from = pass % 2 ? first : second, to = pass % 2 ? second : first;
    unsigned tiles = (unsigned)((length + TILE - 1) / TILE);
    ll line = blockIdx.x / tiles, tile = blockIdx.x % tiles;
    ll start = tile * TILE, mine = start + threadIdx.x / 32 * (32 * ITEMS) + threadIdx.x % 32;
    int shift = (int)(8 * pass);
    K key[ITEMS];
    unsigned rank[ITEMS], load[ITEMS], all;
    bool tells = KEY::TELLS && ((const unsigned *)tells_at)[line] != 0;
    radix_keys<KEY>(p, line, mine, 32, length, pass, (const K *)from + line * length, key);
    if (!tells)
        radix_loads<KEY>(p, line, mine, 32, length, pass,
                         (const unsigned *)(from + loads_at) + line * length, load);
    rank_digits(ranking, key, shift, rank);
    ll digit_at = line * RADIX + threadIdx.x;
    target[threadIdx.x] = (ll)sum_before(((const unsigned *)totals)[digit_at], all) +
                          ((const unsigned *)counts)[digit_at * tiles + tile] -
                          ranking.begin[threadIdx.x];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        keys[rank[i]] = key[i];
        if (!tells) loads[rank[i]] = load[i];
    }
    __syncthreads();
#pragma unroll
    for (int j = 0; j < ITEMS; j++) {
        int i = j * RADIX + threadIdx.x;
        if (start + i >= length) continue;
        K own = keys[i];
        ll at = line * length + target[(int)(own >> shift) & (RADIX - 1)] + i;
        if (pass == last)
            OUT::put(p, to, loads_at, line, at, own, tells ? KEY::told(own) : loads[i]);
        else if (tells)
            ((K *)to)[at] = own;
        else
            Kept::put(p, to, loads_at, line, at, own, loads[i]);
    }
}

// A whole line of up to RADIX * ITEMS keys, in shared memory from the first digit to the last. Loads
// stay where they are if keys tell what they were.
template <class KEY, class OUT, int ITEMS, class W>
DEVICE void radix_line(const W &p, ll length, ll passes, ll to, ll loads_at) {
    typedef typename KEY::K K;
    __shared__ K keys[RADIX * ITEMS];
    __shared__ unsigned loads[RADIX * ITEMS];
    __shared__ Ranking ranking;
    ll line = blockIdx.x;
    int mine = threadIdx.x / 32 * (32 * ITEMS) + threadIdx.x % 32;
    K key[ITEMS];
    unsigned rank[ITEMS], load[ITEMS];
    bool tells = KEY::TELLS;
    radix_keys<KEY>(p, line, (ll)mine, 32, length, 0, (const K *)0, key);
    radix_loads<KEY>(p, line, (ll)mine, 32, length, 0, (const unsigned *)0, load);
    if (KEY::TELLS) {
        bool other = false;
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            other |= mine + i * 32 < length && KEY::told(key[i]) != load[i];
        tells = !__syncthreads_or(other);
    }
    for (int pass = 0; pass < passes; pass++) {
        rank_digits(ranking, key, 8 * pass, rank);
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            keys[rank[i]] = key[i];
            if (!tells) loads[rank[i]] = load[i];
        }
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ITEMS; i++) {
            key[i] = keys[mine + i * 32];
            if (!tells) load[i] = loads[mine + i * 32];
        }
    }
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        if (mine + i * 32 < length)
            OUT::put(p, to, loads_at, line, line * length + mine + i * 32, key[i],
                     tells ? KEY::told(key[i]) : load[i]);
}

// Lines of which the square of the length is no large number: a block has 32 keys, of each of which
// its warps count those that come before it, an eighth of the line each.
template <class KEY, class OUT, int MOST, class W>
DEVICE void sort_counting(const W &p, ll length, ll to, ll loads_at) {
    typedef typename KEY::K K;
    typedef Vector<K, 4> Four;
    __shared__ __align__(16) K keys[MOST];
    __shared__ int counts[RADIX / 32][32];
    int blocks = (int)((length + 31) / 32), lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    ll line = blockIdx.x / blocks;
    int begin = (int)(blockIdx.x % blocks) * 32, mine = begin + lane, count = 0;
    for (int i = threadIdx.x; i < blocks * 32; i += RADIX)
        keys[i] = i < length ? KEY::key(p, line, i) : ~(K)0;
    __syncthreads();
    K own = keys[mine];
    int from = warp * blocks * 4, end = from + blocks * 4;
#pragma unroll 4
    for (int i = from; i < (end < begin ? end : begin); i += 4) {
        Four k = *(const Four *)&keys[i];
#pragma unroll
        for (int j = 0; j < 4; j++) count += k.x[j] <= own;
    }
#pragma unroll 4
    for (int i = from > begin + 32 ? from : begin + 32; i < end; i += 4) {
        Four k = *(const Four *)&keys[i];
#pragma unroll
        for (int j = 0; j < 4; j++) count += k.x[j] < own;
    }
    counts[warp][lane] = count;
    __syncthreads();
    if (warp != 0 || mine >= length) return;
    ll place = line * length;
    for (int w = 0; w < RADIX / 32; w++) place += counts[w][lane];
    for (int i = 0; i < 32; i++) place += i < lane ? keys[begin + i] <= own : keys[begin + i] < own;
    OUT::put(p, to, loads_at, line, place, own, KEY::load(p, line, mine));
}

// The first ones of lines ------------------------------------------------------------------------

// What a block knows of the key that is the last one wanted: its highest digits, and how many of the
// keys that share them are wanted.
struct Bound {
    unsigned digit, wanted, all;
};

// The digit below which fewer than `wanted` of the counts lie, and with which there are enough.
DEVICE Bound find_digit(unsigned count, unsigned wanted) {
    __shared__ Bound found;
    unsigned all, before = sum_before(count, all);
    if (before < wanted && wanted <= before + count) found = Bound{threadIdx.x, wanted - before, count};
    __syncthreads();
    Bound b = found;
    __syncthreads();
    return b;
}

// Pieces of RADIX * ITEMS elements of each line give their `keep` first ones in order, which lie one
// after another: a line that is shorter, for the next turn, or what was asked for. Of equal ones
// those that come first are first. In the first turn, which has no `in_keys`, keys are made, then read.
template <class KEY, int ITEMS, class W>
DEVICE void first_keys(const W &p, ll length, ll keep, ll pieces, ll in_keys, ll in_loads, ll out_keys,
                       ll out_loads) {
    typedef typename KEY::K K;
    const int DIGITS = sizeof(K);
    const bool first = in_keys == 0;
    __shared__ unsigned seen[RADIX], taken, warps[RADIX / 32];
    __shared__ K keys[RADIX];
    __shared__ unsigned places[RADIX];
    ll line = blockIdx.x / (unsigned)pieces, piece = blockIdx.x % (unsigned)pieces;
    ll start = piece * (RADIX * ITEMS);
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, mine = warp * (32 * ITEMS) + lane;
    ll there = length - start < RADIX * ITEMS ? length - start : RADIX * ITEMS;
    unsigned wanted = (unsigned)(keep < there ? keep : there);
    K key[ITEMS], prefix = 0, mask = 0;
    radix_keys<KEY>(p, line, start + mine, 32, length, first ? 0 : 1, (const K *)in_keys + line * length,
                    key);
    if (threadIdx.x == 0) taken = 0;
#pragma unroll 1
    for (int shift = 8 * (DIGITS - 1); shift >= 0; shift -= 8) {
        seen[threadIdx.x] = 0;
        __syncthreads();
#pragma unroll
        for (int i = 0; i < ITEMS; i++)
            if (mine + i * 32 < there && (key[i] & mask) == prefix)
                atomicAdd(&seen[(int)(key[i] >> shift) & (RADIX - 1)], 1u);
        __syncthreads();
        Bound b = find_digit(seen[threadIdx.x], wanted);
        wanted = b.wanted;
        prefix |= (K)b.digit << shift;
        mask |= (K)(RADIX - 1) << shift;
        if (b.all == wanted) break;
    }
    // Those below the bound in any order, as they are sorted with their places; of those on it the
    // first ones.
    unsigned on = 0;
#pragma unroll
    for (int i = 0; i < ITEMS; i++)
        on += __popc(__ballot_sync(~0u, mine + i * 32 < there && (key[i] & mask) == prefix));
    if (lane == 0) warps[warp] = on;
    keys[threadIdx.x] = ~(K)0;
    places[threadIdx.x] = ~0u;
    __syncthreads();
    unsigned before = 0;
    for (int w = 0; w < warp; w++) before += warps[w];
#pragma unroll
    for (int i = 0; i < ITEMS; i++) {
        bool is_there = mine + i * 32 < there;
        bool equal = is_there && (key[i] & mask) == prefix;
        unsigned all = __ballot_sync(~0u, equal);
        bool take = is_there && (key[i] & mask) < prefix;
        if (equal) take = before + __popc(all & ((1u << lane) - 1)) < wanted;
        before += __popc(all);
        if (take) {
            unsigned at = atomicAdd(&taken, 1u);
            keys[at] = key[i];
            places[at] = (unsigned)(mine + i * 32);
        }
    }
    __syncthreads();
#pragma unroll 1
    for (int size = 2; size <= RADIX; size *= 2)
#pragma unroll 1
        for (int by = size / 2; by > 0; by /= 2) {
            int a = threadIdx.x, b = a ^ by;
            if (b > a) {
                bool above = keys[a] > keys[b] || (keys[a] == keys[b] && places[a] > places[b]);
                if (above == ((a & size) == 0)) {
                    K k = keys[a];
                    unsigned at = places[a];
                    keys[a] = keys[b];
                    places[a] = places[b];
                    keys[b] = k;
                    places[b] = at;
                }
            }
            __syncthreads();
        }
    if (threadIdx.x >= keep) return;
    ll to = (line * pieces + piece) * keep + threadIdx.x;
    unsigned at = places[threadIdx.x];
    ((K *)out_keys)[to] = keys[threadIdx.x];
    if (at == ~0u)
        ((unsigned *)out_loads)[to] = 0;
    else
        ((unsigned *)out_loads)[to] =
            first ? KEY::load(p, line, start + at) : ((const unsigned *)in_loads)[line * length + start + at];
}
