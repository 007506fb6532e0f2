// SPDX-License-Identifier: Apache-2.0
// packed.cu - products of a few vectors with rows of weights of few bits, which are read once, where
// they are. graph/packed.def says how formats look.
//
// A unit is 32 elements of a row. A format F reads what a unit consists of, makes its elements
// numbers, and gives scale and bias of each half.

enum { UNIT = 32, UNITS = 32, UNIT_ROOM = 36 /* so that lanes meet in no bank */ };

struct Halves {
    float scale[2], bias[2];
};

// A number of `bits` bits in the place of a float's highest digits: 1 + x / 2^bits. That costs no
// conversion; scale and bias undo it.
template <int BITS> DEVICE float digits_of(unsigned x) {
    return __uint_as_float(0x3f800000u | x << (23 - BITS));
}
template <int BITS> DEVICE Halves undo_digits(float scale0, float bias0, float scale1, float bias1) {
    const float much = (float)(1 << BITS);
    return Halves{{scale0 * much, scale1 * much}, {bias0 - scale0 * much, bias1 - scale1 * much}};
}

// Element i of a stream of bits.
template <int BITS, int WORDS> DEVICE unsigned bits_at(const unsigned (&w)[WORDS], int i) {
    int at = i * BITS, word = at / 32, shift = at % 32;
    unsigned x = w[word] >> shift;
    if (shift + BITS > 32) x |= w[(word + 1) % WORDS] << (32 - shift);
    return x & ((1u << BITS) - 1);
}

template <int BITS> DEVICE void read_words(ll elements, ll unit, unsigned (&w)[BITS]) {
    const int STEP = BITS % 4 == 0 ? 4 : BITS % 2 == 0 ? 2 : 1;
    const Vector<unsigned, STEP> *from = (const Vector<unsigned, STEP> *)(elements + unit * BITS * 4);
#pragma unroll
    for (int i = 0; i < BITS / STEP; i++) {
        Vector<unsigned, STEP> v = from[i];
#pragma unroll
        for (int j = 0; j < STEP; j++) w[i * STEP + j] = v.x[j];
    }
}

// The code of E2M1 is the top of a float whose exponent counts from 126 less.
DEVICE float e2m1_number(unsigned code) {
    return __uint_as_float((code & 7) << 22 | (code & 8) << 28) * 0x1p126f;
}
DEVICE float e8m0_number(unsigned code) {
    return __uint_as_float(code == 0 ? 0x400000u : code << 23);
}

// A number of f16 where only bytes are aligned.
DEVICE float half_at(ll at) {
    const unsigned char *b = (const unsigned char *)at;
    return from_f16((unsigned short)(b[0] | b[1] << 8));
}

// SCALE says how a scale is read: T, and wide(T).
template <int BITS, int GROUP, class SCALE> struct Affine {
    static const bool BIASED = true;
    struct Raw {
        unsigned w[BITS];
        typename SCALE::T scale, bias;
    };
    static METHOD void read(Raw &r, ll elements, ll scales, ll biases, ll unit) {
        read_words<BITS>(elements, unit, r.w);
        r.scale = ((const typename SCALE::T *)scales)[unit * UNIT / GROUP];
        r.bias = ((const typename SCALE::T *)biases)[unit * UNIT / GROUP];
    }
    static METHOD float number(const Raw &r, int i) { return digits_of<BITS>(bits_at<BITS>(r.w, i)); }
    static METHOD Halves halves(const Raw &r) {
        float scale = SCALE::wide(r.scale), bias = SCALE::wide(r.bias);
        return undo_digits<BITS>(scale, bias, scale, bias);
    }
};

// mxfp4, mxfp8 and nvfp4: CODE makes numbers of elements, SCALE of scales.
struct E2m1 {
    static METHOD float wide(unsigned code) { return e2m1_number(code); }
};
struct E4m3 {
    static METHOD float wide(unsigned code) { return from_f8_e4m3fn((unsigned char)code); }
};
struct E8m0 {
    static METHOD float wide(unsigned code) { return e8m0_number(code); }
};
template <int BITS, int GROUP, class CODE, class SCALE> struct Micro {
    static const bool BIASED = false;
    struct Raw {
        unsigned w[BITS];
        unsigned char scale[2];
    };
    static METHOD void read(Raw &r, ll elements, ll scales, ll, ll unit) {
        read_words<BITS>(elements, unit, r.w);
        for (int i = 0; i < 2; i++)
            r.scale[i] = ((const unsigned char *)scales)[(unit * UNIT + i * 16) / GROUP];
    }
    static METHOD float number(const Raw &r, int i) { return CODE::wide(bits_at<BITS>(r.w, i)); }
    static METHOD Halves halves(const Raw &r) {
        return Halves{{SCALE::wide(r.scale[0]), SCALE::wide(r.scale[1])}, {0, 0}};
    }
};

// GGUF's blocks. Words of two bytes are what is aligned in them.
template <int WORDS> DEVICE void read_pairs(ll at, unsigned (&w)[WORDS]) {
    const unsigned short *from = (const unsigned short *)at;
#pragma unroll
    for (int i = 0; i < WORDS; i++) w[i] = from[2 * i] | (unsigned)from[2 * i + 1] << 16;
}
template <int WORDS> DEVICE unsigned byte_at(const unsigned (&w)[WORDS], int i) {
    return w[i / 4] >> i % 4 * 8 & 255;
}

struct Q8_0 {
    static const bool BIASED = false;
    struct Raw {
        unsigned w[8];
        float scale;
    };
    static METHOD void read(Raw &r, ll elements, ll, ll, ll unit) {
        read_pairs(elements + unit * 34 + 2, r.w);
        r.scale = half_at(elements + unit * 34);
    }
    static METHOD float number(const Raw &r, int i) { return (float)(signed char)byte_at(r.w, i); }
    static METHOD Halves halves(const Raw &r) { return Halves{{r.scale, r.scale}, {0, 0}}; }
};
struct Q4_0 {
    static const bool BIASED = true;
    struct Raw {
        unsigned w[4];
        float scale;
    };
    static METHOD void read(Raw &r, ll elements, ll, ll, ll unit) {
        read_pairs(elements + unit * 18 + 2, r.w);
        r.scale = half_at(elements + unit * 18);
    }
    static METHOD float number(const Raw &r, int i) {
        return digits_of<4>(byte_at(r.w, i % 16) >> i / 16 * 4 & 15);
    }
    static METHOD Halves halves(const Raw &r) {
        return undo_digits<4>(r.scale, -8 * r.scale, r.scale, -8 * r.scale);
    }
};
struct Q4_k {
    static const bool BIASED = true;
    struct Raw {
        unsigned w[8];
        float scale, bias;
        int shift;
    };
    static METHOD void read(Raw &r, ll elements, ll, ll, ll unit) {
        int j = (int)(unit % 8);
        ll block = elements + unit / 8 * 144;
        const unsigned char *s = (const unsigned char *)block + 4;
        read_pairs(block + 16 + j / 2 * 32, r.w);
        int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
        int bias = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
        r.scale = half_at(block) * (float)scale;
        r.bias = -(half_at(block + 2) * (float)bias);
        r.shift = j % 2 * 4;
    }
    static METHOD float number(const Raw &r, int i) {
        return digits_of<4>(byte_at(r.w, i) >> r.shift & 15);
    }
    static METHOD Halves halves(const Raw &r) {
        return undo_digits<4>(r.scale, r.bias, r.scale, r.bias);
    }
};
// Halves of 128 elements, of four times 32.
struct Q6_k {
    static const bool BIASED = true;
    struct Raw {
        unsigned low[8], high[8];
        float scale[2];
        int part;
    };
    static METHOD void read(Raw &r, ll elements, ll, ll, ll unit) {
        int j = (int)(unit % 8), half = j / 4;
        ll block = elements + unit / 8 * 210;
        r.part = j % 4;
        read_pairs(block + half * 64 + r.part % 2 * 32, r.low);
        read_pairs(block + 128 + half * 32, r.high);
        for (int i = 0; i < 2; i++)
            r.scale[i] = half_at(block + 208) * (float)((const signed char *)block)[192 + j * 2 + i];
    }
    static METHOD float number(const Raw &r, int i) {
        unsigned low = byte_at(r.low, i) >> r.part / 2 * 4 & 15;
        return digits_of<6>(low | (byte_at(r.high, i) >> r.part * 2 & 3) << 4);
    }
    static METHOD Halves halves(const Raw &r) {
        return undo_digits<6>(r.scale[0], -32 * r.scale[0], r.scale[1], -32 * r.scale[1]);
    }
};

// A warp has ROWS rows, and of 1,024 elements of each a unit a lane. Vectors go through shared
// memory as f32. OP::vector gives their elements.
template <class F, class OP, int ROWS, int VECTORS, class W>
DEVICE void packed_rows(const W &p, ll elements, ll scales, ll biases, ll out, ll rows, ll units) {
    const int WARPS = 8;
    __shared__ float x[VECTORS][UNITS * UNIT_ROOM];
    const int lane = threadIdx.x % 32;
    const ll first = ((ll)blockIdx.x * WARPS + threadIdx.x / 32) * ROWS;
    float sum[ROWS][VECTORS] = {};
    for (ll start = 0; start < units; start += UNITS) {
        const ll unit = start + lane;
        typename F::Raw raw[ROWS];
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            ll row = first + r < rows ? first + r : rows - 1;
            F::read(raw[r], elements, scales, biases, row * units + (unit < units ? unit : 0));
        }
        __syncthreads();
        for (int i = threadIdx.x; i < VECTORS * UNITS * UNIT; i += WARPS * 32) {
            int v = i / (UNITS * UNIT), at = i % (UNITS * UNIT);
            bool there = start * UNIT + at < units * UNIT;
            x[v][at / UNIT * UNIT_ROOM + at % UNIT] = there ? OP::vector(p, v, start * UNIT + at) : 0;
        }
        __syncthreads();
        const float *own[VECTORS];
        float all[VECTORS][2] = {};
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            own[v] = &x[v][lane * UNIT_ROOM];
#pragma unroll
            for (int i = 0; i < UNIT && F::BIASED; i++) all[v][i / 16] += own[v][i];
        }
        if (unit >= units) continue;
#pragma unroll
        for (int r = 0; r < ROWS; r++) {
            const Halves h = F::halves(raw[r]);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float part[VECTORS] = {};
#pragma unroll
                for (int i = half * 16; i < half * 16 + 16; i += 4) {
                    float q[4];
#pragma unroll
                    for (int j = 0; j < 4; j++) q[j] = F::number(raw[r], i + j);
#pragma unroll
                    for (int v = 0; v < VECTORS; v++) {
                        Vector<float, 4> y = *(const Vector<float, 4> *)(own[v] + i);
#pragma unroll
                        for (int j = 0; j < 4; j++) part[v] = __fmaf_rn(q[j], y.x[j], part[v]);
                    }
                }
#pragma unroll
                for (int v = 0; v < VECTORS; v++) {
                    sum[r][v] = __fmaf_rn(h.scale[half], part[v], sum[r][v]);
                    if (F::BIASED) sum[r][v] = __fmaf_rn(h.bias[half], all[v][half], sum[r][v]);
                }
            }
        }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
        for (int v = 0; v < VECTORS; v++) {
            float s = sum[r][v];
            for (int by = 16; by > 0; by /= 2) s += __shfl_xor_sync(~0u, s, by);
            if (lane == 0 && first + r < rows)
                ((typename OP::T *)out)[v * rows + first + r] = OP::narrow(s);
        }
}
