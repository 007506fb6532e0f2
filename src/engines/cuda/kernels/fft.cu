// SPDX-License-Identifier: Apache-2.0
// fft.cu - Fourier transforms: short lines whole and in double; what surrounds a library's transform
// of others.

DEVICE T_c128 as_pair(float x) { return {x, 0}; }
DEVICE T_c128 as_pair(double x) { return {x, 0}; }
DEVICE T_c128 as_pair(T_c64 z) { return {z.re, z.im}; }
DEVICE T_c128 as_pair(T_c128 z) { return z; }
DEVICE void put_pair(float &to, T_c128 z) { to = (float)z.re; }
DEVICE void put_pair(double &to, T_c128 z) { to = z.re; }
DEVICE void put_pair(T_c64 &to, T_c128 z) { to = {(float)z.re, (float)z.im}; }
DEVICE void put_pair(T_c128 &to, T_c128 z) { to = z; }

// Where line number `line` begins, of lines of that length, `beside` of which lie side by side,
// element by element.
DEVICE ll line_at(ll line, ll length, ll beside) { return line / beside * beside * length + line % beside; }

// Element k of a line that is cut or padded with zeros to `given` elements, of which those past
// `half` mirror the others (half = n: none does).
template <class T> DEVICE T_c128 line_element(const T *line, ll beside, ll given, ll half, ll n, ll k) {
    bool mirrored = k >= half;
    ll at = mirrored ? n - k : k;
    if (at >= given) return {0, 0};
    T_c128 z = as_pair(line[at * beside]);
    return mirrored ? T_c128{z.re, -z.im} : z;
}

// What becomes of a result: parts up to `almost` are zero.
template <class T> DEVICE void put_result(T &to, T_c128 z, double by, double almost) {
    z = {z.re / by, z.im / by};
    put_pair(to, {fabs(z.re) <= almost ? 0 : z.re, fabs(z.im) <= almost ? 0 : z.im});
}

// As `times`; of a turn by quarters without what would be zero times infinity.
DEVICE T_c128 turned(T_c128 z, T_c128 w) {
    if (w.im == 0) return {z.re * w.re, z.im * w.re};
    if (w.re == 0) return {-z.im * w.im, z.re * w.im};
    return times(z, w);
}

// A block a line: every result is a sum over the line, with turns from a table.
template <class F, class T, int ROOM, bool INVERSE>
DEVICE void transform_line(ll in, ll out, ll given, ll half, ll n, ll results, ll beside, double almost) {
    __shared__ T_c128 x[ROOM], turns[ROOM];
    const F *line = (const F *)in + line_at(blockIdx.x, given, beside);
    T *to = (T *)out + line_at(blockIdx.x, results, beside);
    bool plain = true;
    for (int k = threadIdx.x; k < n; k += blockDim.x) {
        double re, im;
        x[k] = line_element(line, beside, given, half, n, k);
        plain = plain && isfinite(x[k].re) && isfinite(x[k].im);
        sincospi(2.0 * k / (double)n, &im, &re);
        turns[k] = {re, INVERSE ? im : -im};
    }
    plain = !__syncthreads_or(!plain);
    for (int k = threadIdx.x; k < results; k += blockDim.x) {
        T_c128 sum = {0, 0};
        int at = 0, by = k % (int)n;
        for (int j = 0; j < n; j++) {
            sum = f_add(sum, plain ? times(x[j], turns[at]) : turned(x[j], turns[at]));
            at += by;
            if (at >= n) at -= (int)n;
        }
        put_result(to[k * beside], sum, INVERSE ? (double)n : 1.0, almost);
    }
}

// A library takes dense lines of its own types.
template <class F, class T>
DEVICE void bring_line(ll in, ll out, ll given, ll half, ll n, ll length, ll beside, ll t) {
    const F *line = (const F *)in + line_at(t / length, given, beside);
    put_pair(((T *)out)[t], line_element(line, beside, given, half, n, t % length));
}
template <class F, class T>
DEVICE void take_line(ll in, ll out, ll there, ll results, ll beside, double by, double almost, ll t) {
    ll line = t / results, k = t % results;
    T *to = (T *)out + line_at(line, results, beside) + k * beside;
    put_result(*to, as_pair(((const F *)in)[line * there + k]), by, almost);
}
