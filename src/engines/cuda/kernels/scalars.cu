// SPDX-License-Identifier: Apache-2.0
// scalars.cu - the scalar functions of integers and real numbers, and those of complex numbers that
// are a few operations each. f_name is the function scalar_table calls name; b_name one that needs
// the width of the type. These names are looked for (text/scalar.c), with what stands in front of
// them: OF_WHOLE, OF_REAL, nothing for floats, and parameters that are complex numbers.

// Integers --------------------------------------------------------------------------------------

#define OF_WHOLE template <class T> DEVICE
#define OF_REAL OF_WHOLE // of floats as well
#define WIDE typename Whole<T>::W
OF_WHOLE bool negative(T x) { return Whole<T>::is_signed && (typename Whole<T>::S)x < 0; }
// The compiler (13.0 to 13.2, for sm_90 and sm_100) takes the least or largest of three numbers, one of
// them negated, for that of the three as they are. It does not see through this.
DEVICE unsigned inverted(unsigned x) {
    unsigned r;
    asm("not.b32 %0, %1;" : "=r"(r) : "r"(x));
    return r;
}
DEVICE ull inverted(ull x) { return ~x; }
OF_WHOLE T f_negate(T x) { return (T)(inverted((WIDE)x) + 1); }
OF_WHOLE T f_abs(T x) { return negative(x) ? (T)(0 - (WIDE)x) : x; }
OF_WHOLE T f_sign(T x) { return (T)((x > 0) - negative(x)); }
OF_WHOLE T f_floor(T x) { return x; }
OF_WHOLE T f_ceil(T x) { return x; }
OF_WHOLE T f_round(T x) { return x; }
OF_WHOLE T f_bitwise_not(T x) { return (T) ~(WIDE)x; }
OF_WHOLE T b_population_count(T x, int bits) { return (T)__popcll((ull)x & (~0ull >> (64 - bits))); }
OF_WHOLE T b_count_leading_zeros(T x, int bits) {
    return (T)(__clzll((ll)((ull)x & (~0ull >> (64 - bits)))) - (64 - bits));
}
// The card's shifts of 32 bits give what is wanted for any amount.
#if defined(__CUDA_ARCH__)
#define SHIFT_32(instruction, x, y)                                                                \
    if (sizeof(T) == 4) {                                                                          \
        unsigned shifted;                                                                          \
        asm(instruction " %0, %1, %2;" : "=r"(shifted) : "r"((unsigned)x), "r"((unsigned)y));      \
        return (T)shifted;                                                                         \
    }
#else
#define SHIFT_32(instruction, x, y)
#endif
OF_WHOLE T b_left_shift(T x, T y, int bits) {
    SHIFT_32("shl.b32", x, y)
    typename Whole<T>::U by = (typename Whole<T>::U)y;
    return by < bits ? (T)((WIDE)x << (by % bits)) : (T)0;
}
OF_WHOLE T b_right_shift(T x, T y, int bits) {
    if (Whole<T>::is_signed) {
        SHIFT_32("shr.s32", x, y)
    } else {
        SHIFT_32("shr.u32", x, y)
    }
    typename Whole<T>::U by = (typename Whole<T>::U)y;
    return by < bits ? (T)(x >> (by % bits)) : negative(x) ? (T)-1 : (T)0;
}
OF_WHOLE unsigned char f_truth(T x) { return x != 0; }
OF_WHOLE unsigned char f_logical_not(T x) { return x == 0; }
OF_WHOLE unsigned char f_is_nan(T x) { return 0; }
OF_WHOLE unsigned char f_is_infinity(T x) { return 0; }
OF_WHOLE T f_add(T x, T y) { return (T)((WIDE)x + (WIDE)y); }
OF_WHOLE T f_subtract(T x, T y) { return (T)((WIDE)x - (WIDE)y); }
OF_WHOLE T f_multiply(T x, T y) { return (T)((WIDE)x * (WIDE)y); }
OF_WHOLE T f_max(T x, T y) { return x < y ? y : x; }
OF_WHOLE T f_min(T x, T y) { return y < x ? y : x; }
OF_WHOLE T f_bitwise_and(T x, T y) { return (T)(x & y); }
OF_WHOLE T f_bitwise_or(T x, T y) { return (T)(x | y); }
OF_WHOLE T f_bitwise_xor(T x, T y) { return (T)(x ^ y); }
OF_WHOLE T f_quotient(T x, T y) {
    if (y == 0) return 0;
    return Whole<T>::is_signed && y == (T)-1 ? (T)(0 - (WIDE)x) : (T)(x / y);
}
OF_WHOLE T f_remainder(T x, T y) {
    return y == 0 || (Whole<T>::is_signed && y == (T)-1) ? (T)0 : (T)(x % y);
}
OF_WHOLE T f_pow(T base, T exponent) {
    if (negative(exponent)) {
        bool minus_one = Whole<T>::is_signed && base == (T)-1;
        return minus_one ? ((exponent & 1) ? (T)-1 : (T)1) : (T)(base == 1);
    }
    WIDE result = 1, square = (WIDE)base;
    for (typename Whole<T>::U left = (typename Whole<T>::U)exponent; left; left >>= 1) {
        if (left & 1) result *= square;
        square *= square;
    }
    return (T)result;
}
OF_REAL unsigned char f_equal(T x, T y) { return x == y; }
OF_REAL unsigned char f_not_equal(T x, T y) { return x != y; }
OF_REAL unsigned char f_less(T x, T y) { return x < y; }
OF_REAL unsigned char f_less_equal(T x, T y) { return x <= y; }
OF_REAL unsigned char f_greater(T x, T y) { return x > y; }
OF_REAL unsigned char f_greater_equal(T x, T y) { return x >= y; }
OF_REAL T f_clip(T x, T low, T high) {
    T y = x > low ? x : low;
    return y < high ? y : high;
}
OF_REAL T f_real(T x) { return x; }
OF_REAL T f_conjugate(T x) { return x; }
OF_REAL T f_imag(T x) { return (T)0; }
OF_REAL T f_select(unsigned char c, T a, T b) { return c ? a : b; }

// Real numbers ----------------------------------------------------------------------------------

// S is what the names of f32's functions end in.
#define REAL(T, S)                                                                                 \
    DEVICE T f_negate(T x) { return -x; }                                                          \
    DEVICE T f_abs(T x) { return fabs##S(x); }                                                     \
    DEVICE T f_sign(T x) { return x < 0 || x > 0 ? copysign##S((T)1, x) : x; }                     \
    DEVICE T f_floor(T x) { return floor##S(x); }                                                  \
    DEVICE T f_ceil(T x) { return ceil##S(x); }                                                    \
    DEVICE T f_round(T x) {                                                                        \
        T whole = trunc##S(x);                                                                     \
        T near = fabs##S(x - whole) >= (T)0.5 ? whole + copysign##S((T)1, x) : whole;              \
        return near + (T)0;                                                                        \
    }                                                                                              \
    DEVICE unsigned char f_is_nan(T x) { return x != x; }                                          \
    DEVICE unsigned char f_is_infinity(T x) { return fabs##S(x) == (T)INFINITE; }                  \
    DEVICE unsigned char f_truth(T x) { return x != 0; }                                           \
    DEVICE unsigned char f_logical_not(T x) { return x == 0; }                                     \
    DEVICE T f_add(T x, T y) { return x + y; }                                                     \
    DEVICE T f_subtract(T x, T y) { return x - y; }                                                \
    DEVICE T f_multiply(T x, T y) { return x * y; }                                                \
    DEVICE T f_divide(T x, T y) { return x / y; }                                                  \
    DEVICE T f_max(T x, T y) { return y > x || y != y ? y : x; }                                   \
    DEVICE T f_min(T x, T y) { return y < x || y != y ? y : x; }                                   \
    DEVICE T f_remainder(T x, T y) { return fmod##S(x, y); }                                       \
    DEVICE Complex<T> f_complex(T x, T y) { return Complex<T>{x, y}; }                             \
    DEVICE T f_phase(T x) { return atan2##S((T)0, x); }
REAL(float, f)
REAL(double, )

DEVICE double erf_inv(double y) {
    const double near[9] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                            -4.39150654e-06, 0.00021858087,  -0.00125372503,
                            -0.00417768164,  0.246640727,    1.50140941};
    const double far[9] = {-0.000200214257, 0.000100950558, 0.00134934322,
                           -0.00367342844,  0.00573950773,  -0.0076224613,
                           0.00943887047,   1.00167406,     2.83297682};
    double w = -log((1.0 - y) * (1.0 + y)), a = w - 2.5, b = sqrt(w) - 3.0;
    double p = near[0], q = far[0];
    for (int i = 1; i < 9; i++) {
        p = p * a + near[i];
        q = q * b + far[i];
    }
    if (fabs(y) == 1) return copysign(INFINITE, y);
    return fabs(y) <= 1 ? (w < 5.0 ? p : q) * y : NOT_A_NUMBER;
}
DEVICE double sigmoid(double x) {
    double e = exp(x < 0 ? x : -x);
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
DEVICE float sigmoidf(float x) {
    float e = expf(x < 0 ? x : -x);
    return x < 0 ? e / (1 + e) : 1 / (1 + e);
}
DEVICE double inverse_sqrt(double x) { return 1.0 / sqrt(x); }

// What rounds to the right f32: an error below 2^-40 is enough. The fewer operations in double the
// better, so that comparisons are made in f32.
DEVICE double reciprocal_short(double d) {
    double r, e;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(d));
    e = fma(-d, r, 1.0);
    return fma(r, fma(e, e, e), r);
}
// Of y = k ln 2 + r: exp(r) - 1, and in `scale` 2^k.
DEVICE double exp_parts(double y, double &scale) {
    const double magic = 0x1.8p52;
    double k = fma(y, 1.4426950408889634, magic), q = 2.7625115538962956e-06;
    double r = fma(k - magic, -0.69314718055994531, y);
    scale = __hiloint2double((__double2loint(k) + 1023) << 20, 0);
    q = fma(q, r, 2.4876178960310242e-05);
    q = fma(q, r, 0.0001984120873265277);
    q = fma(q, r, 0.001388882165071539);
    q = fma(q, r, 0.008333333353729286);
    q = fma(q, r, 0.04166666689109171);
    q = fma(q, r, 0.1666666666664829);
    q = fma(q, r, 0.49999999999797773);
    q = fma(q, r, 1.0);
    return r * q;
}
DEVICE double exp_wide(float x) {
    double scale, p = exp_parts(fminf(fmaxf(x, -150.f), 150.f), scale);
    return fma(scale, p, scale);
}
DEVICE float exp_by_wide(float x) { return x != x ? x : (float)exp_wide(x); }
// 2^(i / 16) to nearest, and behind them the logarithms of what they lack.
static __device__ const float exp_steps[32] = {
    0x1p+0f,         0x1.0b5586p+0f,   0x1.172b84p+0f,   0x1.2387a6p+0f,   0x1.306fep+0f,
    0x1.3dea64p+0f,  0x1.4bfdaep+0f,   0x1.5ab07ep+0f,   0x1.6a09e6p+0f,   0x1.7a1148p+0f,
    0x1.8ace54p+0f,  0x1.9c4918p+0f,   0x1.ae89fap+0f,   0x1.c199bep+0f,   0x1.d5818ep+0f,
    0x1.ea4afap+0f,  0,                0x1.8d96d4p-25f,  -0x1.9c0c22p-27f, 0x1.964902p-25f,
    0x1.125002p-25f, 0x1.370be4p-25f,  -0x1.0a3552p-25f, -0x1.00d8acp-27f, 0x1.26055cp-26f,
    -0x1.05cb44p-25f, 0x1.67a1cap-28f, 0x1.a3b5e4p-28f,  -0x1.f9c306p-27f, -0x1.6961b4p-28f,
    -0x1.a5217cp-28f, 0x1.61428ep-28f};
// As the CPU's (exp_lanes.h): x = r + k ln(2) / 16, and exp(r) from a step of the table on, all in two
// parts of f32. Of a thousand numbers three have a sum of both that might round either way.
DEVICE float exp_short(float x) {
    const float error = 0x1p-33f, magic = 0x1.8p23f;
    float shifted = fmaf(x, 0x1.715476p+0f * 16, magic), k = shifted - magic;
    const float *at = exp_steps + (__float_as_int(shifted) & 15);
    float step = at[0], high = fmaf(k, -0x1.62e43p-1f / 16, x);
    float low = fmaf(k, 0x1.05c61p-29f / 16, at[16] + error), r = high + low;
    float p = fmaf(fmaf(r, 0x1.55576ap-5f, 0x1.55571ep-3f), r, 0.5f);
    float first = fmaf(step, high, step), lost = fmaf(step, high, step - first);
    float most = fmaf(step, fmaf(r * r, p, low), lost), y = first + most;
    if (x < -104) return 0;
    if (!(fabsf(x) < 86) || y != first + fmaf(step, -2 * error, most)) return exp_by_wide(x);
    return __int_as_float(__float_as_int(y) + (int)((unsigned)__float_as_int(shifted) << 19 & 0xff800000));
}
DEVICE float sigmoid_short(float x) {
    double e = exp_wide(-fabsf(x)), r = reciprocal_short(1 + e);
    return x != x ? x : (float)(x < 0 ? e * r : r);
}
// With t = exp(2 a) - 1 it is t / (t + 2).
DEVICE float tanh_short(float x) {
    double scale, p = exp_parts(2 * fminf(fabsf(x), 20.f), scale), t = fma(scale, p, scale - 1);
    return x != x ? x : copysignf((float)(t * reciprocal_short(t + 2)), x);
}
// 2 atanh((m - 1) / (m + 1)) of x = m 2^n, m between the roots of 1/2 and 2.
DEVICE double log_of(double x) {
    if (!(x > 0) || x == INFINITE) return x == 0 ? -INFINITE : x > 0 ? x : NOT_A_NUMBER;
    const ll root = 0x3fe6a09e00000000ll;
    ll bits = __double_as_longlong(x) - root;
    double n = (double)(int)(bits >> 52);
    double m = __longlong_as_double((bits & 0xfffffffffffffll) + root);
    double s = (m - 1) * reciprocal_short(m + 1), z = s * s, p = 1.0 / 19;
#pragma unroll
    for (int i = 17; i > 1; i -= 2) p = fma(p, z, 1.0 / i);
    return fma(n, 0.69314718055994530942, 2 * fma(s * z, p, s));
}
DEVICE float log_short(float x) { return (float)log_of(x); }
DEVICE float log1p_short(float f) {
    double x = f;
    return (float)(fabs(x) < 0x1p-29 ? x * (1 - x / 2) : log_of(1 + x));
}

// erf_inv of f32: its polynomial for numbers near 1 only where there are such.
DEVICE float erf_inv_short(float x) {
    const double near[9] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                            -4.39150654e-06, 0.00021858087,  -0.00125372503,
                            -0.00417768164,  0.246640727,    1.50140941};
    double y = x, w = -log_of((1.0 - y) * (1.0 + y)), a = w - 2.5, p = near[0];
    if (!(fabsf(x) < 0.9966f)) return (float)erf_inv(y);
#pragma unroll
    for (int i = 1; i < 9; i++) p = fma(p, a, near[i]);
    return (float)(p * y);
}

#define DOUBLE(op, function)                                                                       \
    DEVICE double op(double x) { return function(x); }
// Where f64 runs at half the rate of f32 or so, f32 functions are computed in double and rounded
// once, as on the CPU; elsewhere in f32. What is only rounded further, to a type with DROPPED digits
// less, is computed in f32, and in double where that would leave open to what: to f32 first, or
// ONCE to the narrower type.
#if F32_IN_DOUBLE
#define MATH_AS(op, function, brief, single)                                                       \
    DOUBLE(op, function)                                                                           \
    DEVICE float op(float x) { return brief(x); }                                                  \
    template <int DROPPED, bool ONCE> DEVICE float op(float x) {                                   \
        float y = single(x);                                                                       \
        if (rounds_surely<DROPPED>(y)) return y;                                                   \
        return ONCE ? to_odd(function((double)x)) : brief(x);                                      \
    }
#define MATH(op, function, single)                                                                 \
    DEVICE float op##_of_f32(float x) { return (float)function((double)x); }                       \
    MATH_AS(op, function, op##_of_f32, single)
#else
#define MATH_AS(op, function, brief, single)                                                       \
    DOUBLE(op, function)                                                                           \
    DEVICE float op(float x) { return single(x); }                                                 \
    template <int DROPPED, bool ONCE> DEVICE float op(float x) {                                   \
        float y = single(x);                                                                       \
        return !ONCE || rounds_surely<DROPPED>(y) ? y : to_odd(function((double)x));               \
    }
#define MATH(op, function, single) MATH_AS(op, function, function, single)
#endif
MATH_AS(f_exp, exp, exp_short, expf)
MATH(f_expm1, expm1, expm1f)
MATH_AS(f_log, log, log_short, logf)
MATH_AS(f_log1p, log1p, log1p_short, log1pf)
MATH_AS(f_sigmoid, sigmoid, sigmoid_short, sigmoidf)
MATH(f_sin, sin, sinf)
MATH(f_cos, cos, cosf)
MATH(f_tan, tan, tanf)
MATH(f_sinh, sinh, sinhf)
MATH(f_cosh, cosh, coshf)
MATH_AS(f_tanh, tanh, tanh_short, tanhf)
MATH(f_asin, asin, asinf)
MATH(f_acos, acos, acosf)
MATH(f_atan, atan, atanf)
MATH(f_asinh, asinh, asinhf)
MATH(f_acosh, acosh, acoshf)
MATH(f_atanh, atanh, atanhf)
MATH(f_rsqrt, inverse_sqrt, rsqrtf)
MATH(f_cbrt, cbrt, cbrtf)
MATH(f_erf, erf, erff)
MATH(f_erfc, erfc, erfcf)
DOUBLE(f_sqrt, sqrt)
DOUBLE(f_erf_inv, erf_inv)
DEVICE float f_sqrt(float x) { return sqrtf(x); }
DEVICE float f_erf_inv(float x) { return erf_inv_short(x); }
DEVICE double f_pow(double x, double y) { return pow(x, y); }
DEVICE double f_atan2(double x, double y) { return atan2(x, y); }
#if F32_IN_DOUBLE
DEVICE float f_pow(float x, float y) { return (float)pow((double)x, (double)y); }
DEVICE float f_atan2(float x, float y) { return (float)atan2((double)x, (double)y); }
#else
DEVICE float f_pow(float x, float y) { return powf(x, y); }
DEVICE float f_atan2(float x, float y) { return atan2f(x, y); }
#endif

// Complex numbers -------------------------------------------------------------------------------

#define OF_COMPLEX template <class R> DEVICE
OF_COMPLEX Complex<R> f_negate(Complex<R> z) { return {-z.re, -z.im}; }
OF_COMPLEX Complex<R> f_conjugate(Complex<R> z) { return {z.re, -z.im}; }
OF_COMPLEX R f_real(Complex<R> z) { return z.re; }
OF_COMPLEX R f_imag(Complex<R> z) { return z.im; }
OF_COMPLEX R f_phase(Complex<R> z) { return (R)atan2((double)z.im, (double)z.re); }
OF_COMPLEX unsigned char f_truth(Complex<R> z) { return (z.re != 0) | (z.im != 0); }
OF_COMPLEX unsigned char f_logical_not(Complex<R> z) { return (z.re == 0) & (z.im == 0); }
OF_COMPLEX unsigned char f_is_nan(Complex<R> z) { return (z.re != z.re) | (z.im != z.im); }
OF_COMPLEX unsigned char f_is_infinity(Complex<R> z) {
    return fabs((double)z.re) == INFINITE || fabs((double)z.im) == INFINITE;
}
OF_COMPLEX unsigned char f_equal(Complex<R> x, Complex<R> y) {
    return (x.re == y.re) & (x.im == y.im);
}
OF_COMPLEX unsigned char f_not_equal(Complex<R> x, Complex<R> y) {
    return (x.re != y.re) | (x.im != y.im);
}
OF_COMPLEX Complex<R> f_select(unsigned char c, Complex<R> a, Complex<R> b) { return c ? a : b; }
OF_COMPLEX Complex<R> f_add(Complex<R> x, Complex<R> y) { return {x.re + y.re, x.im + y.im}; }
OF_COMPLEX Complex<R> f_subtract(Complex<R> x, Complex<R> y) { return {x.re - y.re, x.im - y.im}; }
DEVICE T_c128 times(T_c128 x, T_c128 y) {
    return {x.re * y.re - x.im * y.im, x.im * y.re + x.re * y.im};
}
DEVICE T_c128 f_multiply(T_c128 x, T_c128 y) { return times(x, y); }
DEVICE T_c64 f_multiply(T_c64 x, T_c64 y) {
    T_c128 r = times({x.re, x.im}, {y.re, y.im});
    return {(float)r.re, (float)r.im};
}
// Infinite if a part is, even beside a NaN.
DEVICE float f_abs(T_c64 z) {
    double a = z.re, b = z.im, size = sqrt(a * a + b * b);
    return f_is_infinity(z) ? (float)INFINITE : (float)size;
}
DEVICE double f_abs(T_c128 z) { return hypot(z.re, z.im); }
// Nothing overflows. What is finite over an infinite real number is 0.
DEVICE T_c64 f_divide(T_c64 x, T_c64 y) {
    double a = x.re, b = x.im, c = y.re, d = y.im, size = c * c + d * d;
    double re = (a * c + b * d) / size, im = (b * c - a * d) / size, none = a * 0 + b * 0;
    bool vanishes = (d == 0) & (fabs(c) == INFINITE) & (none == 0);
    return {vanishes ? 0.f : (float)re, vanishes ? 0.f : (float)im};
}
