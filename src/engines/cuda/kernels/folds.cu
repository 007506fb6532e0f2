// SPDX-License-Identifier: Apache-2.0
// folds.cu - folds of all kinds: what is held, a step, how two parts come together, what it gives.
// Parts are merged in a fixed order, so that results are the same bits each time.

// Of the NaNs that a fold may give, the positive one: a sum of f64 makes the other.
template <class T> DEVICE T one_nan(T x) { return x; }
DEVICE float one_nan(float x) { return x != x ? (float)NOT_A_NUMBER : x; }
DEVICE double one_nan(double x) { return x != x ? NOT_A_NUMBER : x; }
template <class R> DEVICE Complex<R> one_nan(Complex<R> z) { return {one_nan(z.re), one_nan(z.im)}; }

template <class T, class A> struct Sum {
    A s;
    METHOD void init() { s = 0; }
    METHOD void step(T x, ll) { s = s + (A)x; }
    METHOD void merge(const Sum &o) { s = s + o.s; }
    METHOD T finish() const { return (T)s; }
};
template <class T, class A> struct Product {
    A s;
    METHOD void init() { s = 1; }
    METHOD void step(T x, ll) { s = s * (A)x; }
    METHOD void merge(const Product &o) { s = s * o.s; }
    METHOD T finish() const { return (T)s; }
};
// Sums of f64 keep what each step loses.
struct ExactSum {
    double s, lost;
    METHOD void init() { s = lost = 0; }
    METHOD void step(double x, ll) {
        double t = s + x, part = t - s;
        lost += (s - (t - part)) + (x - part);
        s = t;
    }
    METHOD void merge(const ExactSum &o) {
        step(o.s, 0);
        lost += o.lost;
    }
    METHOD double finish() const { return isfinite(s) ? s + lost : s; }
};
template <class R> struct ComplexSum {
    ExactSum re, im;
    METHOD void init() {
        re.init();
        im.init();
    }
    METHOD void step(Complex<R> x, ll) {
        re.step(x.re, 0);
        im.step(x.im, 0);
    }
    METHOD void merge(const ComplexSum &o) {
        re.merge(o.re);
        im.merge(o.im);
    }
    METHOD Complex<R> finish() const { return {(R)re.finish(), (R)im.finish()}; }
};
template <class R> struct ComplexProduct {
    T_c128 s;
    METHOD void init() { s = {1, 0}; }
    METHOD void step(Complex<R> x, ll) { s = times(s, {x.re, x.im}); }
    METHOD void merge(const ComplexProduct &o) { s = times(s, o.s); }
    METHOD Complex<R> finish() const { return {(R)s.re, (R)s.im}; }
};
// NaN wins.
template <class T> struct Max {
    T s;
    METHOD void init() { s = Ends<T>::lowest(); }
    METHOD void step(T x, ll) { s = (x > s) | (x != x) ? x : s; }
    METHOD void merge(const Max &o) { step(o.s, 0); }
    METHOD T finish() const { return s; }
};
template <class T> struct Min {
    T s;
    METHOD void init() { s = Ends<T>::highest(); }
    METHOD void step(T x, ll) { s = (x < s) | (x != x) ? x : s; }
    METHOD void merge(const Min &o) { step(o.s, 0); }
    METHOD T finish() const { return s; }
};
// The place of the largest or smallest element: the last NaN, else the first or last of equals.
template <class T, int HIGH, int LEAST> struct Place {
    T value;
    ll index;
    METHOD void init() {
        value = 0;
        index = -1;
    }
    METHOD bool loses_to(T x, ll at) const {
        bool x_nan = x != x, nan = value != value;
        if (x_nan | nan) return x_nan && (!nan || at > index);
        if (x == value) return HIGH ? at > index : at < index;
        return LEAST ? x < value : x > value;
    }
    METHOD void step(T x, ll at) {
        if (at < 0 || (index >= 0 && !loses_to(x, at))) return;
        value = x;
        index = at;
    }
    METHOD void merge(const Place &o) { step(o.value, o.index); }
    METHOD ll finish() const { return index; }
};

// Across threads --------------------------------------------------------------------------------

// A structure from another thread of the warp: from `by` threads further on, or before.
template <class A> union Carried {
    A a;
    int words[(sizeof(A) + 3) / 4];
    METHOD Carried() {}
};
template <class A> DEVICE A from_after(const A &a, int by) {
    Carried<A> c;
    c.a = a;
    for (int i = 0; i < (int)(sizeof(c) / 4); i++)
        c.words[i] = __shfl_down_sync(~0u, c.words[i], by);
    return c.a;
}
template <class A> DEVICE A from_before(const A &a, int by) {
    Carried<A> c;
    c.a = a;
    for (int i = 0; i < (int)(sizeof(c) / 4); i++)
        c.words[i] = __shfl_up_sync(~0u, c.words[i], by);
    return c.a;
}
template <class A> DEVICE void merge_warp(A &a) {
    for (int by = 16; by > 0; by >>= 1) a.merge(from_after(a, by));
}
// The merged parts of all threads of a block, in thread 0. `shared` has a place for each warp.
template <class A, int THREADS> DEVICE void merge_block(A *shared, A &a) {
    merge_warp(a);
    if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = a;
    __syncthreads();
    if (threadIdx.x < 32) {
        a.init();
        if (threadIdx.x < THREADS / 32) a = shared[threadIdx.x];
        merge_warp(a);
    }
    __syncthreads();
}
// The same for all threads of a warp, or of a block.
template <class A> DEVICE void merge_row_warp(A &a) {
    Carried<A> c;
    merge_warp(a);
    c.a = a;
    for (int i = 0; i < (int)(sizeof(c) / 4); i++) c.words[i] = __shfl_sync(~0u, c.words[i], 0);
    a = c.a;
}
template <class A, int THREADS> DEVICE void merge_row(A *shared, A &a) {
    merge_block<A, THREADS>(shared, a);
    if (threadIdx.x == 0) shared[0] = a;
    __syncthreads();
    a = shared[0];
    __syncthreads();
}
