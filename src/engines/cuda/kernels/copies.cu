// SPDX-License-Identifier: Apache-2.0
// copies.cu - copies of tensors whose elements go into another order.

// Elements of one or two bytes, of which the innermost in memory are not the innermost that are
// written: [batch][outer][inner], read 1 apart along outer, of which four at a time are there; padded
// with zeros. Blocks of 64 by 64, a thread turns 4 by 4.
template <class E>
DEVICE void turn_squares(ll from, ll to, ll outer, ll inner, ll inner_step, ll batch_step, ll padded_outer,
                         ll padded_inner) {
    typedef Vector<E, 4> Four;
    __shared__ Four turned[64][17];
    ll across = (padded_outer + 63) / 64, down = (padded_inner + 63) / 64;
    ll o0 = blockIdx.x % across * 64, k0 = blockIdx.x / across % down * 64, batch = blockIdx.x / across / down;
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    Four x[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ll k = k0 + ty * 4 + i, o = o0 + tx * 4;
        if (k < inner && o < outer)
            x[i] = *(const Four *)((const E *)from + batch * batch_step + k * inner_step + o);
    }
    __syncthreads(); // another copy of this launch may have used it
#pragma unroll
    for (int j = 0; j < 4; j++) {
        Four y;
#pragma unroll
        for (int i = 0; i < 4; i++) y.x[i] = x[i].x[j];
        turned[tx * 4 + j][ty] = y;
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ll o = o0 + ty * 4 + i, k = k0 + tx * 4;
        if (o < padded_outer && k < padded_inner)
            *(Four *)((E *)to + (batch * padded_outer + o) * padded_inner + k) = turned[ty * 4 + i][tx];
    }
}
