// SPDX-License-Identifier: Apache-2.0
// complex.cu - functions of complex numbers, computed in double. Branch cuts, and what comes of
// infinities and NaN, are those of Nx's formulas; finite numbers are computed so that both parts
// keep their digits.

#define HALF_PI 1.57079632679489661923
#define LN2 0.693147180559945309417

DEVICE T_c128 pair(double re, double im) { return {re, im}; }
DEVICE T_c128 unknown() { return {NOT_A_NUMBER, NOT_A_NUMBER}; }
DEVICE bool finite(T_c128 z) { return isfinite(z.re) && isfinite(z.im); }
DEVICE bool is_zero(T_c128 z) { return z.re == 0 && z.im == 0; }
DEVICE bool infinite(double x) { return fabs(x) == INFINITE; }

// Division --------------------------------------------------------------------------------------

// a * b + c * d with the sign of a 0 that the plain sum has (Kahan's method).
DEVICE double sum_of_products(double a, double b, double c, double d) {
    double product = c * d, lost = fma(c, d, -product), sum = fma(a, b, product);
    return lost == 0 ? sum : sum + lost;
}
DEVICE T_c128 divide_plain(T_c128 x, T_c128 y) {
    if (infinite(y.re) && y.im == 0 && finite(x)) return {0, 0};
    double size = y.re * y.re + y.im * y.im;
    return {(x.re * y.re + x.im * y.im) / size, (x.im * y.re - x.re * y.im) / size};
}
DEVICE T_c128 quotient(double a, double b, double c, double d) {
    double size = c * c + d * d;
    return {sum_of_products(a, c, b, d) / size, sum_of_products(b, c, -a, d) / size};
}
DEVICE bool is_moderate(double x) { return x == 0 || (fabs(x) > 0x1p-250 && fabs(x) < 0x1p250); }
DEVICE int exponent_of(T_c128 z) { return ilogb(fmax(fabs(z.re), fabs(z.im))); }
DEVICE T_c128 scaled(T_c128 z, int by) { return {scalbn(z.re, by), scalbn(z.im, by)}; }

DEVICE T_c128 f_divide(T_c128 x, T_c128 y) {
    if (is_zero(y) || is_zero(x)) return divide_plain(x, y);
    if (is_moderate(x.re) && is_moderate(x.im) && is_moderate(y.re) && is_moderate(y.im))
        return quotient(x.re, x.im, y.re, y.im);
    if (!finite(y) || !finite(x)) return divide_plain(x, y);
    int up = exponent_of(x), down = exponent_of(y);
    T_c128 a = scaled(x, -up), b = scaled(y, -down);
    return scaled(quotient(a.re, a.im, b.re, b.im), up - down);
}

DEVICE T_c128 f_sign(T_c128 z) {
    if (is_zero(z)) return z;
    if (z.re != z.re || z.im != z.im) return unknown();
    if (infinite(z.re) || infinite(z.im))
        z = {copysign(infinite(z.re) ? 1.0 : 0.0, z.re), copysign(infinite(z.im) ? 1.0 : 0.0, z.im)};
    T_c128 near = scaled(z, -exponent_of(z));
    double size = hypot(near.re, near.im);
    return {near.re / size, near.im / size};
}

// Exponentials ----------------------------------------------------------------------------------

// exp(x) times both parts, where exp(x) alone may be out of range.
DEVICE T_c128 times_exp(double x, double re, double im) {
    int up = x > 709 ? 1000 : x < -707 ? -1000 : 0;
    double e = exp(up == 0 ? x : x - up * LN2);
    T_c128 r = {e * re, e * im};
    return up == 0 ? r : scaled(r, up);
}
DEVICE T_c128 exp_finite(T_c128 z) {
    if (z.im == 0) return {exp(z.re), z.im};
    return times_exp(z.re, cos(z.im), sin(z.im));
}
DEVICE double infinity_like(double x) {
    return x > 0 ? INFINITE : x < 0 ? -INFINITE : NOT_A_NUMBER;
}
DEVICE T_c128 f_exp(T_c128 z) {
    double x = z.re, y = z.im;
    if (finite(z)) return exp_finite(z);
    if (x < 0 && infinite(x)) return {0, 0};
    if (infinite(x) && isfinite(y)) return {infinity_like(cos(y)), infinity_like(sin(y))};
    return infinite(x) && y != y ? z : unknown();
}
DEVICE T_c128 f_expm1(T_c128 z) {
    if (!finite(z) || z.re > 1) return f_add(f_exp(z), pair(-1, 0));
    double s = sin(z.im / 2);
    return {expm1(z.re) * cos(z.im) - 2 * s * s, exp(z.re) * sin(z.im)};
}
DEVICE T_c128 f_sigmoid(T_c128 z) {
    const T_c128 one = {1, 0};
    if (!finite(z)) return f_divide(one, f_add(f_exp(f_negate(z)), one));
    T_c128 e = exp_finite(z.re < 0 ? z : f_negate(z));
    return f_divide(z.re < 0 ? e : one, f_add(e, one));
}
DEVICE T_c128 f_sinh(T_c128 z) {
    if (!finite(z)) {
        T_c128 twice = f_subtract(f_exp(z), f_exp(f_negate(z)));
        return {twice.re / 2, twice.im / 2};
    }
    if (z.im == 0) return {sinh(z.re), z.im};
    if (fabs(z.re) > 22)
        return times_exp(fabs(z.re), copysign(0.5, z.re) * cos(z.im), 0.5 * sin(z.im));
    return {sinh(z.re) * cos(z.im), cosh(z.re) * sin(z.im)};
}
DEVICE T_c128 f_cosh(T_c128 z) {
    if (!finite(z)) {
        T_c128 twice = f_add(f_exp(z), f_exp(f_negate(z)));
        return {twice.re / 2, twice.im / 2};
    }
    if (z.im == 0) return {cosh(z.re), z.re * z.im};
    if (z.re == 0) return {cos(z.im), z.re * sin(z.im)};
    if (fabs(z.re) > 22)
        return times_exp(fabs(z.re), 0.5 * cos(z.im), copysign(0.5, z.re) * sin(z.im));
    return {cosh(z.re) * cos(z.im), sinh(z.re) * sin(z.im)};
}
DEVICE T_c128 tanh_finite(T_c128 z) {
    if (z.im == 0) return {tanh(z.re), z.im};
    double s = sin(z.im), c = cos(z.im), h = sinh(z.re);
    if (fabs(z.re) > 22) {
        T_c128 far = times_exp(-2 * fabs(z.re), 0, 4 * s * c);
        return {copysign(1.0, z.re), far.im};
    }
    double size = h * h + c * c;
    return {h * cosh(z.re) / size, s * c / size};
}
DEVICE T_c128 f_tanh(T_c128 z) {
    return finite(z) ? tanh_finite(z) : divide_plain(f_sinh(z), f_cosh(z));
}
// The functions of a circle are those of a hyperbola, turned.
DEVICE T_c128 turned(T_c128 z) { return {-z.im, z.re}; }
DEVICE T_c128 turned_back(T_c128 z) { return {z.im, -z.re}; }
DEVICE T_c128 f_sin(T_c128 z) {
    if (!finite(z)) return isfinite(z.re) && infinite(z.im) ? pair(z.re * z.im, z.im) : unknown();
    return turned_back(f_sinh(turned(z)));
}
DEVICE T_c128 f_cos(T_c128 z) {
    if (!finite(z))
        return isfinite(z.re) && infinite(z.im) ? pair(INFINITE, -z.im * z.re) : unknown();
    return f_cosh(turned(z));
}
DEVICE T_c128 f_tan(T_c128 z) {
    return finite(z) ? turned_back(tanh_finite(turned(z))) : divide_plain(f_sin(z), f_cos(z));
}

// Logarithms and roots --------------------------------------------------------------------------

DEVICE double lost_in_sum(double a, double b) {
    double sum = a + b, part = sum - a;
    return (a - (sum - part)) + (b - part);
}
// log |z|: near 1 from |z|^2 - 1, whose terms are summed with what each step loses.
DEVICE double log_size(double x, double y) {
    x = fabs(x);
    y = fabs(y);
    if (x < y) {
        double t = x;
        x = y;
        y = t;
    }
    if (infinite(x) || infinite(y)) return INFINITE;
    if (x > 0.5 && x < 2 && y < 2) {
        double near = x - 1, far = x + 1, a = near * far, b = y * y, sum = a + b;
        double lost = fma(near, far, -a) + near * lost_in_sum(x, 1) + fma(y, y, -b) +
                      lost_in_sum(a, b);
        if (sum + lost > -0.5 && sum < 3) return log1p(sum + lost) / 2;
    }
    if (x > 0x1p500 || (x < 0x1p-500 && x > 0)) {
        int e = ilogb(x);
        return log(hypot(scalbn(x, -e), scalbn(y, -e))) + e * LN2;
    }
    return log(hypot(x, y));
}
DEVICE T_c128 f_log(T_c128 z) { return {log_size(z.re, z.im), atan2(z.im, z.re)}; }
DEVICE T_c128 f_log1p(T_c128 z) {
    double x = z.re, y = z.im;
    T_c128 above = {1 + x, 0.0 + y};
    if (!(fabs(x) < 4 && fabs(y) < 4)) return f_log(above);
    double xx = x * x, yy = y * y, sum = 2 * x + xx, excess = sum + yy;
    double lost = fma(x, x, -xx) + fma(y, y, -yy) + lost_in_sum(2 * x, xx) + lost_in_sum(sum, yy);
    if (excess < -0.5) return f_log(above);
    return {log1p(excess + lost) / 2, atan2(above.im, above.re)};
}
// The root with a part that is not negative, of a number scaled so that nothing overflows.
DEVICE T_c128 sqrt_finite(T_c128 z) {
    int e = exponent_of(z) & ~1;
    T_c128 near = scaled(z, -e);
    double size = hypot(near.re, near.im), root = sqrt((fabs(near.re) + size) / 2);
    double other = near.im / (2 * root);
    T_c128 r = near.re >= 0 ? pair(root, other) : pair(fabs(other), copysign(root, near.im));
    return scaled(r, e / 2);
}
DEVICE T_c128 f_sqrt(T_c128 z) {
    double x = z.re, y = z.im;
    if (is_zero(z)) return z;
    if (x != x || y != y) return unknown();
    if (infinite(y)) return {INFINITE, y};
    if (infinite(x)) return x > 0 ? pair(x, 0) : pair(0, -x);
    if (y == 0 && x < 0) return {y, sqrt(-x)};
    return sqrt_finite(z);
}
DEVICE T_c128 f_rsqrt(T_c128 z) { return f_divide(pair(1, 0), f_sqrt(z)); }
DEVICE T_c128 f_cbrt(T_c128 z) {
    double size = hypot(z.re, z.im), angle = atan2(z.im, z.re) / 3, root = cbrt(size);
    if (infinite(size) && finite(z)) root = 2 * cbrt(hypot(z.re / 8, z.im / 8));
    return angle == 0 ? pair(root, 0) : pair(root * cos(angle), root * sin(angle));
}
DEVICE T_c128 f_pow(T_c128 x, T_c128 y) {
    double c = y.re, d = y.im;
    bool from_zero = is_zero(x);
    if (from_zero && infinite(c) && c > 0 && d == 0) return {0, 0};
    if (!finite(x) || !finite(y)) return unknown();
    if (from_zero) return {is_zero(y) ? 1.0 : 0.0, 0};
    if (c == 1 && d == 0) return x;
    if (c == -1 && d == 0) return f_divide(pair(1, 0), x);
    T_c128 polar = f_log(x);
    double angle = polar.im, size = pow(hypot(x.re, x.im), c) * exp(-d * angle);
    double turn = c * angle + d * polar.re;
    return {size * cos(turn), size * sin(turn)};
}

// Inverse functions -----------------------------------------------------------------------------

// For x, y not negative: asinh's real part and asin of the angle, by the method of Hull, Fairgrieve
// and Tang, "Implementing the complex arcsine and arccosine functions using exception handling".
struct Inverse {
    double real;     // acosh of the larger half axis
    double b, b_root; // the sine of the angle, and what its cosine is made of: see angle_*
    double a_minus;  // sqrt(a^2 - y^2)
    bool usable;     // b is small enough for asin
};
// (hypot(a, b) - b) / 2 for b of any sign, without cancellation.
DEVICE double half_excess(double a, double b, double size) {
    if (b < 0) return (size - b) / 2;
    return b == 0 ? a / 2 : a * a / (size + b) / 2;
}
DEVICE Inverse inverse_of(double x, double y) {
    Inverse r;
    double up = hypot(x, y + 1), down = hypot(x, y - 1), a = (up + down) / 2;
    if (a < 1) a = 1;
    if (a < 10) {
        double less;
        if (y == 1 && x < 0x1p-106 / 128)
            r.real = sqrt(x);
        else if (x >= 0x1p-52 * fabs(y - 1)) {
            less = half_excess(x, 1 + y, up) + half_excess(x, 1 - y, down);
            r.real = log1p(less + sqrt(less * (a + 1)));
        } else if (y < 1) {
            r.real = x / sqrt((1 - y) * (1 + y));
        } else {
            r.real = log1p((y - 1) + sqrt((y - 1) * (y + 1)));
        }
    } else {
        r.real = log(a + sqrt(a * a - 1));
    }
    r.b = y / a;
    r.usable = r.b <= 0.6417;
    r.b_root = y;
    if (r.usable) return r;
    if (y == 1 && x < 0x1p-52 / 128) {
        r.a_minus = sqrt(x) * sqrt((a + y) / 2);
    } else if (x >= 0x1p-52 * fabs(y - 1)) {
        double more = half_excess(x, y + 1, up) + half_excess(x, y - 1, down);
        r.a_minus = sqrt(more * (a + y));
    } else if (y > 1) {
        r.a_minus = x * (4 / 0x1p-52 / 0x1p-52) * y / sqrt((y + 1) * (y - 1));
        r.b_root = y * (4 / 0x1p-52 / 0x1p-52);
    } else {
        r.a_minus = sqrt((1 - y) * (1 + y));
    }
    return r;
}
// asinh of a finite number, its parts not negative.
DEVICE T_c128 asinh_quadrant(double x, double y) {
    if (x > 0x1p52 || y > 0x1p52) return {log_size(x, y) + LN2, atan2(y, x)};
    if (x < 0x1p-28 && y < 0x1p-28) return {x, y};
    Inverse r = inverse_of(x, y);
    return {r.real, r.usable ? asin(r.b) : atan2(r.b_root, r.a_minus)};
}
DEVICE T_c128 asinh_finite(T_c128 z) {
    T_c128 r = asinh_quadrant(fabs(z.re), fabs(z.im));
    return {copysign(r.re, z.re), copysign(r.im, z.im)};
}
DEVICE T_c128 asin_finite(T_c128 z) {
    T_c128 r = asinh_finite({z.im, z.re});
    return {r.im, r.re};
}
DEVICE T_c128 acos_finite(T_c128 z) {
    double x = fabs(z.re), y = fabs(z.im);
    bool left = signbit(z.re);
    double angle, size;
    if (x > 0x1p52 || y > 0x1p52) {
        angle = atan2(y, z.re);
        size = log_size(x, y) + LN2;
    } else if (x < 0x1p-28 && y < 0x1p-28) {
        angle = HALF_PI - z.re;
        size = y;
    } else {
        Inverse r = inverse_of(y, x);
        size = r.real;
        angle = r.usable ? acos(left ? -r.b : r.b) : atan2(r.a_minus, left ? -r.b_root : r.b_root);
    }
    return {angle, signbit(z.im) ? size : -size};
}
// y^2 + x^2 added up so that small parts are not lost beside 1.
DEVICE T_c128 atanh_finite(T_c128 z) {
    double x = fabs(z.re), y = fabs(z.im), re, im;
    if (y == 0 && x <= 1) return {atanh(z.re), z.im};
    if (x == 0) return {z.re, atan(z.im)};
    if (x > 0x1p52 || y > 0x1p52) {
        T_c128 near = f_divide(pair(1, 0), pair(x, y));
        return {copysign(near.re, z.re), copysign(HALF_PI, z.im)};
    }
    double from_one = (x - 1) * (x - 1) + y * y;
    if (x == 1 && y < 0x1p-52)
        re = (LN2 - log(y)) / 2;
    else
        re = log1p(4 * x / from_one) / 4;
    if (x == 1)
        im = atan2(2.0, -y) / 2;
    else
        im = atan2(2 * y, (1 - x) * (1 + x) - y * y) / 2;
    return {copysign(re, z.re), copysign(im, z.im)};
}

// Nx's: log(z + sqrt(z^2 + one)).
DEVICE T_c128 log_of_sum(T_c128 z, double one) {
    return f_log(f_add(z, f_sqrt(f_add(times(z, z), pair(one, 0)))));
}
DEVICE T_c128 f_asin(T_c128 z) {
    if (!finite(z)) return unknown();
    return asin_finite(z.im == 0 && fabs(z.re) > 1 ? pair(z.re, -copysign(0.0, z.re)) : z);
}
DEVICE T_c128 f_acos(T_c128 z) {
    double x = z.re, y = z.im;
    if (!finite(z)) return unknown();
    bool left = y == 0 && x < -1, near = x == 0 || (y == 0 && x <= 1);
    bool negated = !left && !near && signbit(x) != signbit(y);
    T_c128 r = acos_finite(pair(x, left ? -0.0 : near && y == 0 ? 0.0 : y));
    return negated ? f_negate(r) : r;
}
DEVICE T_c128 f_atan(T_c128 z) {
    if (!finite(z)) return unknown();
    if (z.re == 0 && fabs(z.im) > 1) z.re = copysign(0.0, z.im);
    return turned_back(atanh_finite(turned(z)));
}
DEVICE T_c128 f_asinh(T_c128 z) {
    if (!finite(z)) return log_of_sum(z, 1);
    return asinh_finite(z.re == 0 && fabs(z.im) > 1 ? pair(copysign(0.0, z.im), z.im) : z);
}
DEVICE T_c128 f_acosh(T_c128 z) {
    if (!finite(z)) return log_of_sum(z, -1);
    T_c128 c = f_acos(z);
    return {-c.im, c.re};
}
DEVICE T_c128 f_atanh(T_c128 z) {
    if (!finite(z)) return unknown();
    T_c128 value = atanh_finite(z);
    bool on_cut = z.im == 0 && fabs(z.re) > 1;
    return on_cut ? pair(value.re, copysign(HALF_PI, -z.re)) : value;
}

// Of c64 by those of c128, rounded once.
#define OF_C64(op)                                                                                 \
    DEVICE T_c64 op(T_c64 z) {                                                                     \
        T_c128 r = op(T_c128{z.re, z.im});                                                         \
        return {(float)r.re, (float)r.im};                                                         \
    }
OF_C64(f_sign)
OF_C64(f_exp)
OF_C64(f_expm1)
OF_C64(f_sigmoid)
OF_C64(f_sin)
OF_C64(f_cos)
OF_C64(f_tan)
OF_C64(f_sinh)
OF_C64(f_cosh)
OF_C64(f_tanh)
OF_C64(f_log)
OF_C64(f_log1p)
OF_C64(f_sqrt)
OF_C64(f_rsqrt)
OF_C64(f_cbrt)
OF_C64(f_asin)
OF_C64(f_acos)
OF_C64(f_atan)
OF_C64(f_asinh)
OF_C64(f_acosh)
OF_C64(f_atanh)
DEVICE T_c64 f_pow(T_c64 x, T_c64 y) {
    T_c128 r = f_pow(T_c128{x.re, x.im}, T_c128{y.re, y.im});
    return {(float)r.re, (float)r.im};
}
