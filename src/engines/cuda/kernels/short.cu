// SPDX-License-Identifier: Apache-2.0
// short.cu - functions of f32 in as few operations of double as round to the right f32: an error below
// 2^-40 is enough. Comparisons are made in f32. No C++, so that a test can run them on the host.

#if defined(__CUDA_ARCH__)
DEVICE double reciprocal_guess(double d) {
    double r;
    asm("rcp.approx.ftz.f64 %0, %1;" : "=d"(r) : "d"(d));
    return r;
}
#else
DEVICE double reciprocal_guess(double d) { return (double)(1 / (float)d); }
#endif
DEVICE double reciprocal_short(double d) {
    double r = reciprocal_guess(d), e = fma(-d, r, 1.0);
    return fma(r, fma(e, e, e), r);
}
// Constants in memory of their own are operands; in the text each would be moved to registers first, word
// by word. These are of exp(r) - 1, with 1 / ln 2 and -ln 2 behind them.
static __constant__ double exp_terms[10] = {2.7625115538962956e-06,
                                            2.4876178960310242e-05,
                                            0.0001984120873265277,
                                            0.001388882165071539,
                                            0.008333333353729286,
                                            0.04166666689109171,
                                            0.1666666666664829,
                                            0.49999999999797773,
                                            1.4426950408889634,
                                            -0.69314718055994531};
// Of y = k ln 2 + r: exp(r) - 1, and in `scale` 2^k.
DEVICE double exp_parts(double y, double *scale) {
    const double magic = 0x1.8p52;
    double k = fma(y, exp_terms[8], magic), r = fma(k - magic, exp_terms[9], y), q = exp_terms[0];
    *scale = __hiloint2double((int)((unsigned)(__double2loint(k) + 1023) << 20), 0);
#pragma unroll
    for (int i = 1; i < 8; i++) q = fma(q, r, exp_terms[i]);
    return r * fma(q, r, 1.0);
}
DEVICE double exp_wide(float x) {
    double scale, p = exp_parts(fminf(fmaxf(x, -150.f), 150.f), &scale);
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
    double scale, p = exp_parts(2 * fminf(fabsf(x), 20.f), &scale), t = fma(scale, p, scale - 1);
    return x != x ? x : copysignf((float)(t * reciprocal_short(t + 2)), x);
}
// Of 32 intervals of m, of which one has 1 in its middle: what stands above the middle of a double that
// is 2^1022 / m, and -log of what it makes of m (below).
static __device__ const unsigned log_turns[32] = {
    0x7fd6c16c, 0x7fd642c8, 0x7fd5c988, 0x7fd55555, 0x7fd4e5e1, 0x7fd47ae1, 0x7fd41414, 0x7fd3b13b,
    0x7fd3521d, 0x7fd2f685, 0x7fd29e41, 0x7fd24925, 0x7fd1f704, 0x7fd1a7b9, 0x7fd15b1e, 0x7fd11111,
    0x7fd0c971, 0x7fd08421, 0x7fd04104, 0x7fd00000, 0x7fcf07c2, 0x7fce1e1e, 0x7fcd41d4, 0x7fcc71c7,
    0x7fcbacf9, 0x7fcaf287, 0x7fca41a4, 0x7fc9999a, 0x7fc8f9c2, 0x7fc86186, 0x7fc7d05f, 0x7fc745d1};
static __device__ const double log_steps[32] = {
    -0x1.68ac7fe9c69f4p-2, -0x1.522ad0738a1d8p-2, -0x1.3c251f7333104p-2, -0x1.269611134d992p-2,
    -0x1.1178f9227e23ap-2, -0x1.f991aacb3b069p-3, -0x1.d103772655e3bp-3, -0x1.a93ecbc8ad9a3p-3,
    -0x1.823c18551a3bep-3, -0x1.5bf422b543aa2p-3, -0x1.365fb90158ed2p-3, -0x1.117918227db7cp-3,
    -0x1.da72063842e22p-4, -0x1.93358dd593a69p-4, -0x1.4d30bdd206f8cp-4, -0x1.08597b59e3987p-4,
    -0x1.894a0949f9cb3p-5, -0x1.0415c89e74404p-5, -0x1.0205258935647p-6, 0,
    0x1.f82990e783380p-6,  0x1.f0a32c01163a6p-5,  0x1.6f0d38ae56bccp-4,  0x1.e27086e2af366p-4,
    0x1.29553581ff547p-3,  0x1.5ff2f30a79564p-3,  0x1.9525b1cf456f4p-3,  0x1.c8ff5c79a9e22p-3,
    0x1.fb9162d5e433bp-3,  0x1.1675cebaba62ep-2,  0x1.2e8e36ae11e23p-2,  0x1.4618d021c61e2p-2};
static __constant__ double log_terms[7] = {0x1.24a79fb427175p-3,
                                           -0x1.556d56af01454p-3,
                                           0x1.999999199024bp-3,
                                           -0x1.ffffff6ff5990p-3,
                                           0x1.55555555558e4p-2,
                                           -0x1.0000000000200p-1,
                                           0.69314718055994530942};
// For a positive normal x, which is m 2^n with m from 0.695 to 1.391, and m (1 + r) one of 32 numbers:
// |r| < 2^-6. Fit error 2^-50.
DEVICE double log_of(double x) {
    unsigned bits = (unsigned)__double2hiint(x) - 0x00064000, at = bits >> 15 & 31;
    double turn = __hiloint2double((int)(log_turns[at] - (bits & 0xfff00000)), 0);
    double n = __hiloint2double(0x43300000, (int)(bits >> 20)) - (0x1p52 + 1022);
    double r = fma(turn, x, -1.0), p = log_terms[0];
#pragma unroll
    for (int i = 1; i < 6; i++) p = fma(p, r, log_terms[i]);
    return fma(r, fma(p, r, 1.0), fma(n, log_terms[6], log_steps[at]));
}
DEVICE float log_of_edge(float x) { return x == 0 ? -(float)INFINITE : x > 0 ? x : (float)NOT_A_NUMBER; }
DEVICE float log_short(float x) {
    float y = (float)log_of(x);
    return x > 0 && x < (float)INFINITE ? y : log_of_edge(x);
}
DEVICE float log1p_short(float f) {
    double x = f;
    float y = (float)(fabsf(f) < 0x1p-29f ? fma(x, x * -0.5, x) : log_of(1 + x));
    return f > -1 && f < (float)INFINITE ? y : log_of_edge(f + 1);
}

// The reference's polynomials (Giles, 2010) of w = -log(1 - y^2), less 2.5, and of its root, less 3.
static __constant__ double erf_inv_near[9] = {2.81022636e-08,  3.43273939e-07, -3.5233877e-06,
                                              -4.39150654e-06, 0.00021858087,  -0.00125372503,
                                              -0.00417768164,  0.246640727,    1.50140941};
static __constant__ double erf_inv_far[9] = {-0.000200214257, 0.000100950558, 0.00134934322,
                                             -0.00367342844,  0.00573950773,  -0.0076224613,
                                             0.00943887047,   1.00167406,     2.83297682};
// Where w is 5 or more: one number in 300.
DEVICE double erf_inv_edge(float x, double w) {
    float guess = rsqrtf((float)w);
    double root = w * guess, b = fma(fma(-root, root, w), 0.5 * guess, root) - 3.0, p = erf_inv_far[0];
#pragma unroll
    for (int i = 1; i < 9; i++) p = fma(p, b, erf_inv_far[i]);
    return fabsf(x) < 1 ? p : fabsf(x) == 1 ? INFINITE : NOT_A_NUMBER;
}
DEVICE float erf_inv_short(float x) {
    double y = x, w = -log_of(fma(-y, y, 1.0)), a = w - 2.5, p = erf_inv_near[0];
#pragma unroll
    for (int i = 1; i < 9; i++) p = fma(p, a, erf_inv_near[i]);
    if (!(fabsf(x) < 0x1.fe45aep-1f)) p = erf_inv_edge(x, w);
    return (float)(p * y);
}
