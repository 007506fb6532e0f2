// SPDX-License-Identifier: Apache-2.0
// depthwise.cu - convolutions of channels that lie last, with a filter each: a thread has a vector of
// channels and OP::RESULTS neighbouring results of theirs, so that what these share is loaded once.
// The filters of a block's channels are in shared memory. Sums are of f32.

// The words of a kernel, from the first of them on.
enum {
    DW_IN,
    DW_FILTER,
    DW_OUT,
    DW_CHANNELS,
    DW_IN_STEPS,                      // of batch, rows and columns
    DW_FILTER_STEPS = DW_IN_STEPS + 3, // of channels, rows and columns
    DW_ROWS = DW_FILTER_STEPS + 3,    // of the input
    DW_COLUMNS,
    DW_RESULT_ROWS,
    DW_RESULT_COLUMNS,
    DW_BATCH,
    DW_STRIDE, // of rows; OP has that of columns
    DW_DILATION,
    DW_ABOVE, // padding
    DW_BEFORE
};

// Padding counts as zeros that are multiplied.
template <class OP> DEVICE void convolve_channels(const ll *w) {
    typedef typename OP::T T;
    const int VECTOR = 16 / sizeof(T), LANES = 16, CHANNELS = LANES * VECTOR, RESULTS = OP::RESULTS;
    const int SPAN = (RESULTS - 1) * OP::STRIDE + (OP::COLUMNS - 1) * OP::DILATION + 1;
    typedef Vector<float, VECTOR> Weights;
    __shared__ Weights filters[OP::ROWS * OP::COLUMNS][LANES];
    const int channels = (int)w[DW_CHANNELS], parts = (channels + CHANNELS - 1) / CHANNELS;
    const int first = (int)(blockIdx.x % parts) * CHANNELS, lane = threadIdx.x % LANES;
    const ll *steps = w + DW_FILTER_STEPS;
    for (int i = threadIdx.x; i < OP::ROWS * OP::COLUMNS * CHANNELS; i += 256) {
        int tap = i / CHANNELS, c = i % CHANNELS;
        ll at = (first + c) * steps[0] + tap / OP::COLUMNS * steps[1] + tap % OP::COLUMNS * steps[2];
        filters[tap][c / VECTOR].x[c % VECTOR] =
            first + c < channels ? OP::wide(((const T *)w[DW_FILTER])[at]) : 0;
    }
    __syncthreads();
    const int columns = (int)w[DW_RESULT_COLUMNS], rows = (int)w[DW_RESULT_ROWS];
    const int runs = (columns + RESULTS - 1) / RESULTS;
    const int run = (int)(blockIdx.x / parts) * (256 / LANES) + threadIdx.x / LANES;
    const int line = run / runs, column = (run - line * runs) * RESULTS;
    const int batch = line / rows, row = line - batch * rows, channel = first + lane * VECTOR;
    if (batch >= w[DW_BATCH] || channel >= channels) return;
    const T *in = (const T *)w[DW_IN] + batch * w[DW_IN_STEPS] + channel;
    const int left = column * OP::STRIDE - (int)w[DW_BEFORE], width = (int)w[DW_COLUMNS];
    const int step = (int)w[DW_IN_STEPS + 2];
    float sum[RESULTS][VECTOR] = {};
#pragma unroll(OP::ROWS <= 3 ? OP::ROWS : 1)
    for (int r = 0; r < OP::ROWS; r++) {
        const int y = row * (int)w[DW_STRIDE] + r * (int)w[DW_DILATION] - (int)w[DW_ABOVE];
        const bool inside = y >= 0 && y < w[DW_ROWS];
        const T *own = in + y * w[DW_IN_STEPS + 1];
        Vector<T, VECTOR> x[SPAN];
#pragma unroll
        for (int i = 0; i < SPAN; i++) {
            const int at = left + i;
            x[i] = Vector<T, VECTOR>{};
            if (!inside || at < 0 || at >= width) continue;
            x[i] = *(const Vector<T, VECTOR> *)(own + (ll)at * step);
        }
#pragma unroll
        for (int c = 0; c < OP::COLUMNS; c++) {
            const Weights by = filters[r * OP::COLUMNS + c][lane];
#pragma unroll
            for (int u = 0; u < RESULTS; u++)
#pragma unroll
                for (int v = 0; v < VECTOR; v++)
                    sum[u][v] = __fmaf_rn(OP::wide(x[u * OP::STRIDE + c * OP::DILATION].x[v]),
                                          by.x[v], sum[u][v]);
        }
    }
    T *out = (T *)w[DW_OUT] + ((ll)line * columns + column) * channels + channel;
#pragma unroll
    for (int u = 0; u < RESULTS; u++) {
        Vector<T, VECTOR> y;
#pragma unroll
        for (int v = 0; v < VECTOR; v++) y.x[v] = OP::narrow(sum[u][v]);
        if (column + u < columns) *(Vector<T, VECTOR> *)(out + (ll)u * channels) = y;
    }
}
