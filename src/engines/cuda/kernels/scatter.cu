// SPDX-License-Identifier: Apache-2.0
// scatter.cu - updates that are sorted by the slice they go to, put or added into the target.
// SLICE::offset says where an element of a slice lies in it, and keys count what is `unit` elements
// of the target long. X is a type that counts the elements of all updates.

// Of the updates of one slice the last wins.
template <class X, class T, class K, class SLICE, class W>
DEVICE void put_last(const W &p, ll keys_at, ll places_at, ll count, ll slice, ll updates, ll target,
                     ll unit) {
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x;
    if (t >= count * slice) return;
    ll i = (X)t / (X)slice, element = t - i * slice;
    K key = keys[i];
    if (key == ~(K)0 || (i + 1 < count && keys[i + 1] == key)) return;
    ll from = ((const unsigned *)places_at)[i];
    ((T *)target)[(ll)key * unit + SLICE::offset(p, element)] = ((const T *)updates)[from * slice + element];
}

// A thread sums runs of equal keys within its chunk of the updates, for one element of the slice. All
// that it reads is read first. Runs that lie in it entirely are added to the target. What belongs to a run that began before
// becomes the chunk's head, what goes on behind its tail.
template <class X, class ADD, class K, class SLICE, int CHUNK, class W>
DEVICE void add_chunks(const W &p, ll keys_at, ll places_at, ll count, ll slice, ll updates, ll target,
                       ll heads, ll tails, ll unit) {
    typedef typename ADD::T T;
    typedef typename ADD::A A;
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x, chunks = (count + CHUNK - 1) / CHUNK;
    if (t >= chunks * slice) return;
    ll chunk = (X)t / (X)slice, element = t - chunk * slice, from = chunk * CHUNK;
    ll to = from + CHUNK < count ? from + CHUNK : count, offset = SLICE::offset(p, element);
    bool began_here = from == 0 || keys[from - 1] != keys[from], empty = true;
    A sum = A();
    T all[CHUNK], before[CHUNK];
    K key[CHUNK + 1];
#pragma unroll
    for (int i = 0; i < CHUNK; i++) {
        ll at = from + i < to ? from + i : from;
        key[i] = keys[at];
        all[i] = ((const T *)updates)[((const unsigned *)places_at)[at] * slice + element];
    }
    key[CHUNK] = keys[to < count ? to : from];
#pragma unroll
    for (int i = 0; i < CHUNK; i++)
        before[i] = key[i] == ~(K)0 ? T() : ((const T *)target)[(ll)key[i] * unit + offset];
#pragma unroll
    for (int n = 0; n < CHUNK; n++) {
        ll i = from + n;
        if (i >= to) break;
        A x = ADD::wide(all[n]);
        sum = empty ? x : ADD::add(sum, x);
        empty = false;
        bool ends = i + 1 == count || key[n + 1] != key[n];
        if (!ends && i + 1 < to) continue;
        if (!began_here) {
            ((A *)heads)[chunk * slice + element] = sum;
        } else if (!ends) {
            ((A *)tails)[chunk * slice + element] = sum;
        } else if (key[n] != ~(K)0) {
            ((T *)target)[(ll)key[n] * unit + offset] = ADD::sum(ADD::wide(before[n]), sum);
        }
        began_here = true;
        empty = true;
    }
}

// Runs that several chunks share: whoever has the beginning adds what the others have.
template <class X, class ADD, class K, class SLICE, int CHUNK, class W>
DEVICE void add_joined(const W &p, ll keys_at, ll, ll count, ll slice, ll, ll target, ll heads,
                       ll tails, ll unit) {
    typedef typename ADD::T T;
    typedef typename ADD::A A;
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x, chunks = (count + CHUNK - 1) / CHUNK;
    if (t >= chunks * slice) return;
    ll chunk = (X)t / (X)slice, element = t - chunk * slice, from = chunk * CHUNK, last = from + CHUNK - 1;
    if (last + 1 >= count || keys[last + 1] != keys[last]) return;
    K key = keys[last];
    if (key == ~(K)0 || (keys[from] == key && from > 0 && keys[from - 1] == key)) return;
    A sum = ((const A *)tails)[chunk * slice + element];
    for (ll next = chunk + 1; next < chunks && keys[next * CHUNK] == key; next++)
        sum = ADD::add(sum, ((const A *)heads)[next * slice + element]);
    T *place = (T *)target + (ll)key * unit + SLICE::offset(p, element);
    *place = ADD::sum(ADD::wide(*place), sum);
}

// Sums in any order -----------------------------------------------------------------------------

// Integers wrap, so that their sums do not depend on the order.
template <class T> struct Wrapped {
    typedef unsigned U;
};
template <> struct Wrapped<T_s64> {
    typedef ull U;
};
template <> struct Wrapped<T_u64> {
    typedef ull U;
};

// Neither do sums of floats that are exact: a number of f32 is added to bins of 40 bits each, from
// its smallest bit on, of 64 bits that have room for 2^23 numbers. What is no number is marked.
enum { BINS = 8, BIN_BITS = 40, MARK_HIGH = 1, MARK_LOW = 2, MARK_NAN = 4 };

DEVICE void split_number(float x, int &bin, ll &low, ll &high) {
    unsigned bits = __float_as_uint(x), exponent = bits >> 23 & 255, place = exponent > 0 ? exponent - 1 : 0;
    ull mantissa = (bits & 0x7fffff) | (exponent > 0 ? 0x800000 : 0);
    bin = (int)(place / BIN_BITS);
    ull shifted = mantissa << place % BIN_BITS;
    low = (ll)(shifted & ((1ull << BIN_BITS) - 1));
    high = (ll)(shifted >> BIN_BITS);
    if (bits >> 31) {
        low = -low;
        high = -high;
    }
}

DEVICE int mark_of(float x) {
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffff) < 0x7f800000) return 0;
    return (bits & 0x7fffffff) > 0x7f800000 ? MARK_NAN : bits >> 31 ? MARK_LOW : MARK_HIGH;
}

// Adds a number to what belongs to an element of the target.
DEVICE void add_to_bins(ll bins, ll marks, ll place, float x) {
    int bin, mark = mark_of(x);
    ll low, high;
    if (mark != 0) {
        atomicOr((unsigned *)marks + place, (unsigned)mark);
        return;
    }
    split_number(x, bin, low, high);
    ull *to = (ull *)bins + place * BINS + bin;
    if (low != 0) atomicAdd(to, (ull)low);
    if (high != 0) atomicAdd(to + 1, (ull)high);
}

// Bins without carries, of a sum that is not negative; true if it was.
DEVICE bool settle_bins(ll (&bin)[BINS]) {
    bool negative = false;
    for (int turn = 0; turn < 2; turn++) {
#pragma unroll
        for (int b = 0; b + 1 < BINS; b++) {
            ll carry = bin[b] >> BIN_BITS;
            bin[b] -= carry << BIN_BITS;
            bin[b + 1] += carry;
        }
        if (bin[BINS - 1] >= 0) return negative;
        negative = true;
#pragma unroll
        for (int b = 0; b < BINS; b++) bin[b] = -bin[b];
    }
    return negative;
}

// The sum as a double from which any narrower number is rounded as from the sum itself.
DEVICE double sum_of_bins(ll (&bin)[BINS]) {
    bool negative = settle_bins(bin);
    int top = 0;
    ull first = (ull)bin[0], second = 0, below = 0;
#pragma unroll
    for (int b = 1; b < BINS; b++)
        if (bin[b] != 0) {
            top = b;
            first = (ull)bin[b];
            second = (ull)bin[b - 1];
        }
    // Bits below the second bin only matter in that there are some.
#pragma unroll
    for (int b = 0; b < BINS; b++)
        if (b + 1 < top) below |= (ull)bin[b];
    bool fits = first < 1ull << 23;
    ull joined = fits ? first << BIN_BITS | second : first << 15 | second >> 25;
    if (below != 0 || (!fits && (second & 0x1ffffff) != 0)) joined |= 1;
    double sum = ldexp((double)integer_to_odd((T_u64)joined), top * BIN_BITS - 149 - (fits ? BIN_BITS : 15));
    return negative ? -sum : sum;
}

DEVICE double marked_sum(unsigned marks) {
    if (marks & MARK_NAN || (marks & MARK_HIGH && marks & MARK_LOW)) return NOT_A_NUMBER;
    return marks & MARK_HIGH ? INFINITE : -INFINITE;
}

DEVICE void clear_bins(ll bins, ll marks, ll count) {
    ll t = blockIdx.x * 256ll + threadIdx.x;
    if (t < count * BINS / 2) ((Sixteen *)bins)[t] = Sixteen{0, 0};
    if (t < count) ((unsigned *)marks)[t] = 0;
}

// What is added to a target's element; false where nothing is.
DEVICE bool read_bins(ll bins, ll marks, ll place, float target, double &sum) {
    ll bin[BINS], low, high, any = 0;
    int at;
    unsigned mark = ((const unsigned *)marks)[place];
#pragma unroll
    for (int b = 0; b < BINS; b++) any |= bin[b] = ((const ll *)bins)[place * BINS + b];
    if (any == 0 && mark == 0) return false;
    mark |= mark_of(target);
    split_number(target, at, low, high);
#pragma unroll
    for (int b = 0; b < BINS; b++) bin[b] += b == at ? low : b == at + 1 ? high : 0;
    sum = mark != 0 ? marked_sum(mark) : sum_of_bins(bin);
    return true;
}
