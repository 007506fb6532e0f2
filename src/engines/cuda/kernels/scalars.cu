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
    double w = -log((1.0 - y) * (1.0 + y)), a = w - 2.5, b = sqrt(w) - 3.0;
    double p = erf_inv_near[0], q = erf_inv_far[0];
    for (int i = 1; i < 9; i++) {
        p = p * a + erf_inv_near[i];
        q = q * b + erf_inv_far[i];
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
