// SPDX-License-Identifier: Apache-2.0
// dot.cu - products of matrices for types, sizes and layouts that no library takes: exact for
// integers, which wrap; in double for floats.
//
// A block makes 64 by 64 results, 16 terms at a time from shared memory, 4 by 4 a thread. OP gives
// offsets of rows, columns and terms, elements converted to OP::A, and what becomes of a result.
template <class OP, class W>
DEVICE void dot_tiles(const W &p, ll left, ll right, ll out, ll rows, ll columns, ll terms) {
    typedef typename OP::A A;
    const int SIDE = 64, DEPTH = 16;
    __shared__ A l[DEPTH][SIDE + 1], r[DEPTH][SIDE + 1];
    unsigned across = (unsigned)((columns + SIDE - 1) / SIDE), down = (unsigned)((rows + SIDE - 1) / SIDE);
    ll c0 = (ll)(blockIdx.x % across) * SIDE, r0 = (ll)(blockIdx.x / across % down) * SIDE;
    ll batch = blockIdx.x / across / down;
    const typename OP::L *x = (const typename OP::L *)left + OP::left_batch(p, batch);
    const typename OP::R *y = (const typename OP::R *)right + OP::right_batch(p, batch);
    int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
    // The elements that a thread brings: four of each side.
    int term = OP::TERMS_LIE ? threadIdx.x % 16 : threadIdx.x / 16;
    int other = OP::TERMS_LIE ? threadIdx.x / 16 : threadIdx.x % 16;
    int right_term = OP::TERMS_LIE_RIGHT ? threadIdx.x % 16 : threadIdx.x / 16;
    int right_other = OP::TERMS_LIE_RIGHT ? threadIdx.x / 16 : threadIdx.x % 16;
    ll row[4], column[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        ll at = r0 + other + i * 16;
        row[i] = OP::row(p, at < rows ? at : 0);
        at = c0 + right_other + i * 16;
        column[i] = OP::column(p, at < columns ? at : 0);
    }
    A sum[4][4] = {};
    for (ll k = 0; k < terms; k += DEPTH) {
        // Rows and columns beyond the end repeat the first, and are not stored.
        bool has_left = k + term < terms, has_right = k + right_term < terms;
        ll lk = has_left ? OP::left_term(p, k + term) : 0;
        ll rk = has_right ? OP::right_term(p, k + right_term) : 0;
#pragma unroll
        for (int i = 0; i < 4; i++) {
            l[term][other + i * 16] = has_left ? OP::left(x[row[i] + lk]) : A();
            r[right_term][right_other + i * 16] = has_right ? OP::right(y[column[i] + rk]) : A();
        }
        __syncthreads();
#pragma unroll 4
        for (int d = 0; d < DEPTH; d++)
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++)
                    sum[i][j] = OP::add(sum[i][j], l[d][ty * 4 + i], r[d][tx + j * 16]);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            ll at = r0 + ty * 4 + i, to = c0 + tx + j * 16;
            if (at < rows && to < columns)
                ((typename OP::T *)out)[(batch * rows + at) * columns + to] = OP::result(sum[i][j]);
        }
}
