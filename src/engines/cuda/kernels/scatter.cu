// SPDX-License-Identifier: Apache-2.0
// scatter.cu - updates that are sorted by the slice they go to, put or added into the target.
// SLICE::offset says where an element of a slice lies in it.

// Of the updates of one slice the last wins.
template <class T, class K, class SLICE, class W>
DEVICE void put_last(const W &p, ll keys_at, ll places_at, ll count, ll slice, ll updates, ll target) {
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x;
    if (t >= count * slice) return;
    ll i = t / slice, element = t % slice;
    K key = keys[i];
    if (key == ~(K)0 || (i + 1 < count && keys[i + 1] == key)) return;
    ll from = ((const unsigned *)places_at)[i];
    ((T *)target)[(ll)key + SLICE::offset(p, element)] = ((const T *)updates)[from * slice + element];
}

// A thread sums runs of equal keys within its chunk of the updates, for one element of the slice.
// Runs that lie in it entirely are added to the target. What belongs to a run that began before
// becomes the chunk's head, what goes on behind its tail.
template <class ADD, class K, class SLICE, int CHUNK, class W>
DEVICE void add_chunks(const W &p, ll keys_at, ll places_at, ll count, ll slice, ll updates, ll target,
                       ll heads, ll tails) {
    typedef typename ADD::T T;
    typedef typename ADD::A A;
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x, chunks = (count + CHUNK - 1) / CHUNK;
    if (t >= chunks * slice) return;
    ll chunk = t / slice, element = t % slice, from = chunk * CHUNK;
    ll to = from + CHUNK < count ? from + CHUNK : count, offset = SLICE::offset(p, element);
    bool began_here = from == 0 || keys[from - 1] != keys[from], empty = true;
    A sum = A();
    for (ll i = from; i < to; i++) {
        A x = ADD::wide(((const T *)updates)[((const unsigned *)places_at)[i] * slice + element]);
        sum = empty ? x : ADD::add(sum, x);
        empty = false;
        bool ends = i + 1 == count || keys[i + 1] != keys[i];
        if (!ends && i + 1 < to) continue;
        if (!began_here) {
            ((A *)heads)[chunk * slice + element] = sum;
        } else if (!ends) {
            ((A *)tails)[chunk * slice + element] = sum;
        } else if (keys[i] != ~(K)0) {
            T *place = (T *)target + (ll)keys[i] + offset;
            *place = ADD::sum(ADD::wide(*place), sum);
        }
        began_here = true;
        empty = true;
    }
}

// Runs that several chunks share: whoever has the beginning adds what the others have.
template <class ADD, class K, class SLICE, int CHUNK, class W>
DEVICE void add_joined(const W &p, ll keys_at, ll, ll count, ll slice, ll, ll target, ll heads,
                       ll tails) {
    typedef typename ADD::T T;
    typedef typename ADD::A A;
    const K *keys = (const K *)keys_at;
    ll t = blockIdx.x * 256ll + threadIdx.x, chunks = (count + CHUNK - 1) / CHUNK;
    if (t >= chunks * slice) return;
    ll chunk = t / slice, element = t % slice, from = chunk * CHUNK, last = from + CHUNK - 1;
    if (last + 1 >= count || keys[last + 1] != keys[last]) return;
    K key = keys[last];
    if (key == ~(K)0 || (keys[from] == key && from > 0 && keys[from - 1] == key)) return;
    A sum = ((const A *)tails)[chunk * slice + element];
    for (ll next = chunk + 1; next < chunks && keys[next * CHUNK] == key; next++)
        sum = ADD::add(sum, ((const A *)heads)[next * slice + element]);
    T *place = (T *)target + (ll)key + SLICE::offset(p, element);
    *place = ADD::sum(ADD::wide(*place), sum);
}
