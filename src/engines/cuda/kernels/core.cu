// SPDX-License-Identifier: Apache-2.0
// core.cu - what every kernel knows: element types, words, conversions. The first part of each
// program that is compiled at run time; there are no headers.
#define DEVICE static __device__ __forceinline__
#define METHOD __device__ __forceinline__
typedef long long ll;
typedef unsigned long long ull;

typedef unsigned char T_u2, T_u4, T_u8, T_f8, T_f8_e4m3fn;
typedef unsigned short T_u16, T_bf16, T_f16;
typedef unsigned int T_u32;
typedef unsigned long long T_u64;
typedef signed char T_s2, T_s4, T_s8;
typedef short T_s16;
typedef int T_s32;
typedef long long T_s64;
typedef float T_f32;
typedef double T_f64;
template <class R> struct alignas(2 * sizeof(R)) Complex {
    R re, im;
};
typedef Complex<float> T_c64;
typedef Complex<double> T_c128;
struct alignas(16) Sixteen {
    ull low, high;
};

// The parameters of a kernel: numbers and addresses, which its text names by their places.
template <int N> struct Words {
    ll w[N];
};
// What is read and written at once.
template <class T, int N> struct alignas(sizeof(T) * N) Vector {
    T x[N];
};

#define INFINITE __longlong_as_double(0x7ff0000000000000ll)
#define NOT_A_NUMBER __longlong_as_double(0x7ff8000000000000ll)

template <class A, class B> DEVICE A bits_of(B x) {
    static_assert(sizeof(A) == sizeof(B), "");
    A a;
    memcpy(&a, &x, sizeof a);
    return a;
}

// Indices ---------------------------------------------------------------------------------------

// n / d for n of 31 bits, `by` being what emit_quotient makes of d.
DEVICE int quotient(int n, ll by) {
    return (int)((__umulhi((unsigned)n, (unsigned)by) + (unsigned)n) >> (int)(by >> 32));
}

// Reports ---------------------------------------------------------------------------------------

// The first thread that reports claims the word; the host reads what it wrote when the work is
// done. A code, and the place of an index.
DEVICE void report(ll claim, ll words, int code, ll place) {
    if (atomicCAS((int *)claim, 0, 1) != 0) return;
    volatile ll *out = (volatile ll *)words;
    out[1] = place;
    __threadfence_system();
    out[0] = code;
}

// A start given at run time, moved into its limits.
template <class T> DEVICE ll start_at(ll address, ll limit) {
    T v = *(const T *)address;
    if (v < 0) return 0;
    return (ull)v > (ull)limit ? limit : (ll)v;
}

// Narrow floats ---------------------------------------------------------------------------------

struct Narrow {
    unsigned mantissa, bias, sign, top, nan;
};
#define FORM_F8 (Narrow{2, 15, 0x80, 0x7c, 0x7e})
#define FORM_F8_E4M3FN (Narrow{3, 7, 0x80, 0x7e, 0x7f})

DEVICE unsigned encode(float x, Narrow f) {
    unsigned bits = __float_as_uint(x), size = bits & 0x7fffffff, shift = 23 - f.mantissa;
    unsigned half = (1u << (shift - 1)) - 1 + ((size >> shift) & 1);
    unsigned normal = ((size + half) >> shift) - ((127 - f.bias) << f.mantissa);
    unsigned rounder = (127 + 24 - f.bias - f.mantissa) << 23;
    unsigned subnormal =
        __float_as_uint(__uint_as_float(size) + __uint_as_float(rounder)) - rounder;
    unsigned code = size < (128 - f.bias) << 23 ? subnormal : normal;
    code = code > f.top ? f.top : code;
    code |= bits >> 31 ? f.sign : 0;
    return size > 0x7f800000 ? f.nan : code;
}
DEVICE float decode(unsigned code, Narrow f) {
    unsigned size = code & (f.sign - 1);
    float scale = __uint_as_float((254 - f.bias) << 23);
    unsigned bits = __float_as_uint(__uint_as_float(size << (23 - f.mantissa)) * scale);
    bits |= (code & f.sign) ? 0x80000000u : 0;
    unsigned special = size == f.nan || size > f.top ? 0x7fc00000u : (bits | 0x7f800000u);
    unsigned last = f.top == f.nan - 1 ? f.nan : f.top;
    return __uint_as_float(size >= last ? special : bits);
}
DEVICE float from_f16(unsigned short x) {
    float r;
    asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(x));
    return r;
}
// Two numbers at once take a fourth of the time of one, of which the card has another instruction.
DEVICE unsigned short near_f16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned r;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(0.f), "f"(x));
    return (unsigned short)r;
#else
    unsigned short r;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r) : "f"(x));
    return r;
#endif
}
DEVICE unsigned short to_f16(float x) { return x != x ? (unsigned short)0x7e00 : near_f16(x); }
// Whether a number that errs by less than eight units in its last place rounds to as many digits as
// bf16 (16 are dropped) or f16 (13) has like the exact one: it is not in the middle of two.
template <int DROPPED> DEVICE bool rounds_surely(float x) {
    const int half = 1 << (DROPPED - 1), off = (int)(__float_as_uint(x) & (2 * half - 1)) - half;
    bool has_all = DROPPED == 16 || x == 0 || fabsf(x) >= 0x1p-14f; // subnormal numbers of f16 have fewer digits
    return (off < -8 || off > 8) && has_all;
}
DEVICE float from_bf16(unsigned short x) { return __uint_as_float((unsigned)x << 16); }
// NaN may become any NaN.
DEVICE unsigned short near_bf16(float x) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(0.f), "f"(x));
    return (unsigned short)r;
#else
    unsigned b = __float_as_uint(x), r = (b + 0x7fff + ((b >> 16) & 1)) >> 16;
    return x != x ? 0x7fff : r;
#endif
}
DEVICE unsigned short to_bf16(float x) { return x != x ? (unsigned short)0x7fc0 : near_bf16(x); }
DEVICE float from_f8(unsigned char x) { return decode(x, FORM_F8); }
DEVICE float from_f8_e4m3fn(unsigned char x) { return decode(x, FORM_F8_E4M3FN); }
DEVICE unsigned char to_f8(float x) { return encode(x, FORM_F8); }
DEVICE unsigned char to_f8_e4m3fn(float x) { return encode(x, FORM_F8_E4M3FN); }

// A double as a float from which any narrower one is rounded as from the double itself: what is cut
// off leaves its mark in the last bit.
DEVICE float to_odd(double x) {
    float near = (float)x;
    double back = near;
    unsigned bits = __float_as_uint(near), toward = bits - (fabs(back) > fabs(x) ? 1 : 0);
    return __uint_as_float(back < x || back > x ? toward | 1 : bits);
}

// The same for integers that may be too long for a double.
DEVICE ull shorten(ull x) { return (x & ~0xfffull) | ((x & 0xfff) != 0 ? 0x800 : 0); }
DEVICE T_u64 integer_to_odd(T_u64 x) { return x >> 53 != 0 ? shorten(x) : x; }
DEVICE T_s64 integer_to_odd(T_s64 x) {
    ll top = x >> 53;
    return top != 0 && top != -1 ? (T_s64)shorten((ull)x) : x;
}

// Integers --------------------------------------------------------------------------------------

// Truncated modulo 2^64; infinities become the ends of the type, NaN 0.
DEVICE ull to_integer(double x, ull lowest, ull highest) {
    if (fabs(x) < 0x1p63) return (ull)(ll)x;
    ull bits = (ull)__double_as_longlong(x);
    int shift = (int)(bits >> 52 & 0x7ff) - 1075;
    if (shift == 2047 - 1075) return bits << 12 ? 0 : bits >> 63 ? lowest : highest;
    ull significand = (bits & 0x000fffffffffffffull) | 0x0010000000000000ull;
    ull size = shift < 64 ? significand << shift : 0;
    return bits >> 63 ? 0 - size : size;
}
DEVICE T_u2 wrap_u2(ull x) { return x & 3; }
DEVICE T_u4 wrap_u4(ull x) { return x & 15; }
DEVICE T_s2 wrap_s2(ull x) { return (T_s2)((int)((x & 3) ^ 2) - 2); }
DEVICE T_s4 wrap_s4(ull x) { return (T_s4)((int)((x & 15) ^ 8) - 8); }

// Facts about integer types: the type without a sign, and the type that is computed in.
template <class T> struct Whole;
#define WHOLE(T, UNSIGNED, SIGNED, WIDE, IS_SIGNED, LOWEST, HIGHEST)                               \
    template <> struct Whole<T> {                                                                  \
        typedef UNSIGNED U;                                                                        \
        typedef SIGNED S;                                                                          \
        typedef WIDE W;                                                                            \
        static const bool is_signed = IS_SIGNED;                                                   \
        static METHOD T lowest() { return (T)(LOWEST); }                                           \
        static METHOD T highest() { return (T)(HIGHEST); }                                         \
    };
WHOLE(unsigned char, unsigned char, signed char, unsigned, false, 0, 255)
WHOLE(unsigned short, unsigned short, short, unsigned, false, 0, 65535)
WHOLE(unsigned, unsigned, int, unsigned, false, 0, 0xffffffffu)
WHOLE(ull, ull, ll, ull, false, 0, ~0ull)
WHOLE(signed char, unsigned char, signed char, unsigned, true, -128, 127)
WHOLE(short, unsigned short, short, unsigned, true, -32768, 32767)
WHOLE(int, unsigned, int, unsigned, true, 0x80000000, 0x7fffffff)
WHOLE(ll, ull, ll, ull, true, 1ull << 63, ~0ull >> 1)

// The ends of a type's order.
template <class T> struct Ends {
    static METHOD T lowest() { return Whole<T>::lowest(); }
    static METHOD T highest() { return Whole<T>::highest(); }
};
template <> struct Ends<float> {
    static METHOD float lowest() { return -(float)INFINITE; }
    static METHOD float highest() { return (float)INFINITE; }
};
template <> struct Ends<double> {
    static METHOD double lowest() { return -INFINITE; }
    static METHOD double highest() { return INFINITE; }
};
