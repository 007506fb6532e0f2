// SPDX-License-Identifier: Apache-2.0
// bytes.cu - what is around a library's products of bytes: operands whose terms lie together, padded
// with zeros, and results cut from 32 bits; wider integers as digits of eight bits.

// [outer, inner] of one batch element into [padded outer, padded inner], an element a thread.
DEVICE void bring_bytes(ll in, ll out, ll outer, ll inner, ll outer_step, ll inner_step, ll batch_step,
                        ll padded_outer, ll padded_inner, ll t) {
    ll k = t % padded_inner, row = t / padded_inner % padded_outer, batch = t / padded_inner / padded_outer;
    bool there = k < inner && row < outer;
    ((T_u8 *)out)[t] =
        there ? ((const T_u8 *)in)[batch * batch_step + row * outer_step + k * inner_step] : 0;
}

// WIDTH neighbours of a result a thread.
template <int WIDTH> DEVICE void take_bytes(ll in, ll out, ll columns, ll padded, ll t) {
    ll row = t * WIDTH / columns, column = t * WIDTH - row * columns;
    Vector<int, WIDTH> x = *(const Vector<int, WIDTH> *)((const int *)in + row * padded + column);
    Vector<T_u8, WIDTH> y;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) y.x[i] = (T_u8)x.x[i];
    ((Vector<T_u8, WIDTH> *)out)[t] = y;
}

// Digits ----------------------------------------------------------------------------------------

// Integers, as T, as DIGITS digits from -128 to 127, the lowest first or last: [outer, inner] of one batch
// element into [padded outer, digit, padded inner], by blocks of 32 by 64 elements. ACROSS says that
// neighbours lie along the outer axis.
template <class F, class T, int DIGITS, bool REVERSED, bool ACROSS>
DEVICE void bring_digits(ll in, ll out, ll outer, ll inner, ll outer_step, ll inner_step, ll batch_step,
                         ll padded_outer, ll padded_inner) {
    typedef typename Whole<T>::U U;
    __shared__ U tile[32][65];
    unsigned across = (unsigned)((padded_outer + 31) / 32), down = (unsigned)((padded_inner + 63) / 64);
    ll o0 = (ll)(blockIdx.x % across) * 32, k0 = (ll)(blockIdx.x / across % down) * 64;
    ll batch = blockIdx.x / across / down;
    const F *from = (const F *)in + batch * batch_step;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int at = threadIdx.x + i * 256, o = ACROSS ? at % 32 : at / 64, k = ACROSS ? at / 32 : at % 64;
        bool there = o0 + o < outer && k0 + k < inner;
        tile[o][k] = there ? (U)(T)from[(o0 + o) * outer_step + (k0 + k) * inner_step] : (U)0;
    }
    __syncthreads();
    for (int o = threadIdx.x / 16, k = threadIdx.x % 16 * 4; o < 32; o += 16) {
        if (o0 + o >= padded_outer || k0 + k >= padded_inner) continue;
        unsigned digits[DIGITS] = {};
#pragma unroll
        for (int j = 0; j < 4; j++) {
            U x = tile[o][k + j];
#pragma unroll
            for (int d = 0; d < DIGITS; d++) {
                signed char digit = (signed char)x;
                digits[d] |= (unsigned)(unsigned char)digit << (8 * j);
                x = (U)(x - (U)digit);
                x = (U)(x >> 8);
            }
        }
        T_u8 *to = (T_u8 *)out + (batch * padded_outer + o0 + o) * DIGITS * padded_inner + k0 + k;
#pragma unroll
        for (int d = 0; d < DIGITS; d++)
            *(unsigned *)(to + (REVERSED ? DIGITS - 1 - d : d) * padded_inner) = digits[d];
    }
}

// A result of sums that count 1, 256, ..., `plane` apart.
template <class T, int DIGITS> DEVICE T join_digits(ll in, ll plane, ll at) {
    typedef typename Whole<T>::U U;
    U sum = 0;
#pragma unroll
    for (int d = 0; d < DIGITS; d++) {
        U part = (U)((const int *)in)[d * plane + at];
        sum = (U)(sum + (U)(part << (8 * d)));
    }
    return (T)sum;
}
