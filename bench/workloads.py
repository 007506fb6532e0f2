# SPDX-License-Identifier: Apache-2.0
"""What is compared: rows by family. A row says what it reads, and how each library writes it.

`ours` gets the ops of the table (see emlx.py); `peers` gets numpy's module or another of its form
(torch, jax.numpy, mlx.core); a library's own name (`torch=`, ...) takes the place of that, and None
leaves it out. Rows of XLA are compiled, those of torch and numpy computed op by op, those of MLX
evaluated as a whole.
"""
import numpy

import programs
from libraries import narrow


class Row:
    def __init__(self, name, operands, ours, peers=None, *, bytes=0, flops=0, rate=None,
                 tolerance=None, check=True, note="", **libraries):
        self.name, self.operands, self.note = name, operands, note
        self.bytes, self.flops, self.rate = bytes, flops, rate
        self.tolerance, self.check = tolerance, check
        self.ours, self.peers, self.libraries = ours, peers, libraries

    def function(self, library):
        if library == "emlx":
            return self.ours
        return self.libraries.get(library, self.peers)


def wave(shape, type="f32", scale=1.0, shift=0.0):
    """Numbers from -1 to 1 without order, then scaled, of a type; and the type."""
    count = int(numpy.prod(shape))
    numbers = numpy.arange(count, dtype="int64") * 7919 % 20011 / 10006 - 1
    return narrow((numbers * scale + shift).reshape(shape), type), type


def definite(n):
    a, _ = wave((n, n), "f64")
    return a @ a.T + numpy.eye(n) * n, "f64"


SIDE = 4096
M = 1 << 20


def tensors(**makers):
    return makers


def element_wise():
    a, row = ("a", wave, (SIDE, SIDE)), ("row", wave, (SIDE,))
    d = ("d", wave, (2048, 2048), "f64")
    i = ("i", wave, (SIDE, SIDE), "s32", 1000)
    h = ("h", wave, (SIDE, SIDE), "bf16")
    f = ("f", wave, (SIDE, SIDE), "f16")
    full = SIDE * SIDE

    def unary(name, peer=None, operand=a, size=4, **more):
        peer = peer or name
        kind = operand[3] if len(operand) > 3 else "f32"
        count = full if operand is not d else 2048 * 2048
        return Row(f"{name} {kind}", [operand], lambda nx, x: getattr(nx, name)(x),
                   lambda xp, x: getattr(xp, peer)(x), bytes=2 * size * count, **more)

    return [
        Row("chain tanh(a * b + a) * b", [a, row], lambda nx, a, b: nx.tanh(a * b + a) * b,
            lambda xp, a, b: xp.tanh(a * b + a) * b, bytes=8 * full),
        Row("add f32", [a, a], lambda nx, a, b: a + b, lambda xp, a, b: a + b, bytes=8 * full),
        Row("add a row f32", [a, row], lambda nx, a, b: a + b, lambda xp, a, b: a + b,
            bytes=8 * full),
        Row("add s32", [i, i], lambda nx, a, b: a + b, lambda xp, a, b: a + b, bytes=8 * full),
        Row("multiply bf16", [h, h], lambda nx, a, b: a * b, lambda xp, a, b: a * b,
            bytes=4 * full),
        Row("quotient s32", [i], lambda nx, a: nx.quotient(a, nx.scalar(7, "s32")),
            numpy=lambda xp, a: xp.trunc(a / 7).astype("i4"),
            torch=lambda xp, a: xp.div(a, 7, rounding_mode="trunc"),
            jax=lambda xp, a: __import__("jax").lax.div(a, xp.int32(7)), bytes=8 * full),
        Row("select f32", [a, row], lambda nx, a, b: nx.select(a < b, a, b),
            lambda xp, a, b: xp.where(a < b, a, b), bytes=8 * full),
        unary("exp"), unary("sin"), unary("tanh"),
        *[unary(name, operand=of, size=2) for of in (h, f) for name in ("exp", "sin", "tanh")],
        Row("pow f32", [a, row], lambda nx, a, b: nx.pow(nx.abs(a), b),
            lambda xp, a, b: xp.abs(a) ** b, bytes=8 * full),
        unary("exp", operand=d, size=8), unary("sin", operand=d, size=8),
        unary("tanh", operand=d, size=8),
        Row("f32 as bf16", [a], lambda nx, a: nx.as_type(a, type="bf16"),
            torch=lambda xp, a: a.bfloat16(), jax=lambda xp, a: a.astype(xp.bfloat16),
            mlx=lambda xp, a: a.astype(xp.bfloat16), bytes=6 * full),
    ]


def layer_norm(nx, t):
    centred = t - nx.mean(t, 1)
    return centred / nx.sqrt(nx.mean(centred * centred, 1) + 1e-5)


def peer_norm(xp, t):
    centred = t - t.mean(1, keepdims=True)
    return centred / xp.sqrt((centred * centred).mean(1, keepdims=True) + 1e-5)


def variance(nx, t):
    count = float(numpy.prod(t.shape))
    centred = t - nx.sum(t) / count
    return nx.sum(centred * centred) / count


def peer_softmax(xp, t):
    e = xp.exp(t - t.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(nx, t):
    last = [len(t.shape) - 1]
    t = t - nx.reduce_max(t, axes=last, keep_axes=True)
    return t - nx.log(nx.sum(nx.exp(t), axes=last, keep_axes=True))


def peer_log_softmax(xp, t):
    t = t - t.max(-1, keepdims=True)
    return t - xp.log(xp.exp(t).sum(-1, keepdims=True))


def log_sum_exp(nx, t):
    highest = nx.reduce_max(t, axes=[1], keep_axes=True)
    return nx.log(nx.sum(nx.exp(t - highest), axes=[1], keep_axes=True)) + highest


def peer_log_sum_exp(xp, t):
    highest = t.max(-1, keepdims=True)
    return xp.log(xp.exp(t - highest).sum(-1, keepdims=True)) + highest


def row_variance(nx, t):
    centred = t - nx.mean(t, 1)
    return nx.mean(centred * centred, 1)


def rows_of(length):
    """Folds along rows and maps between them, over as many elements whatever the length."""
    full = SIDE * SIDE
    t = (f"rows of {length}", wave, (full // length, length))

    def row(name, ours, peers, out=full, **more):
        return Row(f"{name}, rows of {length}", [t], ours, peers, bytes=4 * (full + out), **more)

    return [
        row("softmax", lambda nx, x: nx.softmax(x), peer_softmax, torch=lambda xp, x: x.softmax(1),
            jax=lambda xp, x: __import__("jax").nn.softmax(x)),
        row("log-softmax", log_softmax, peer_log_softmax, torch=lambda xp, x: x.log_softmax(1),
            jax=lambda xp, x: __import__("jax").nn.log_softmax(x)),
        row("layer norm", layer_norm, peer_norm,
            torch=lambda xp, x: xp.nn.functional.layer_norm(x, (length,))),
        row("RMS norm", lambda nx, x: x / nx.sqrt(nx.mean(x * x, 1) + 1e-5),
            lambda xp, x: x / xp.sqrt((x * x).mean(1, keepdims=True) + 1e-5),
            torch=lambda xp, x: xp.nn.functional.rms_norm(x, (length,), eps=1e-5)),
        row("variance", row_variance, lambda xp, x: xp.var(x, -1, keepdims=True), full // length,
            torch=lambda xp, x: xp.var(x, 1, unbiased=False, keepdim=True)),
        row("logsumexp", log_sum_exp, peer_log_sum_exp, full // length,
            torch=lambda xp, x: xp.logsumexp(x, 1, keepdim=True),
            jax=lambda xp, x: __import__("jax").nn.logsumexp(x, 1, keepdims=True)),
        row("sum", lambda nx, x: nx.sum(x, axes=[1]), lambda xp, x: x.sum(1), full // length),
        row("max", lambda nx, x: nx.reduce_max(x, axes=[1]), lambda xp, x: x.max(1),
            full // length, torch=lambda xp, x: x.amax(1)),
    ]


def rows():
    return [row for length in (16, 64, 1024, 4096, M) for row in rows_of(length)]


def jax_pool(start, fold, side, step, scale):
    def pool(xp, t):
        lax = __import__("jax").lax
        return lax.reduce_window(t, start, getattr(lax, fold), (1, 1, side, side),
                                 (1, 1, step, step), "VALID") / scale
    return pool


def torch_max_gradient(xp, x, g):
    best, at = xp.nn.functional.max_pool2d(x, 2, return_indices=True)
    return xp.ops.aten.max_pool2d_with_indices_backward(g, x, [2, 2], [2, 2], [0, 0], [1, 1], False,
                                                        at)


def jax_gradient(start, fold, side, step):
    """Of a pool with respect to its operand; of a mean, which is linear, the operand does not matter."""
    def gradient(xp, *operands):
        import jax

        pool = lambda t: jax_pool(start, fold, side, step, 1 if fold == "max" else side * side)(xp, t)
        x, g = operands if len(operands) == 2 else (xp.zeros((32, 64, 56, 56), "float32"), *operands)
        return jax.vjp(pool, x)[1](g)[0]
    return gradient


def folds():
    a = ("a", wave, (SIDE, SIDE))
    i = ("i", wave, (SIDE, SIDE), "s32", 1000)
    image = ("image", wave, (32, 64, 56, 56))
    half, inner = ("half", wave, (32, 64, 28, 28)), ("inner", wave, (32, 64, 54, 54))
    full, pixels = SIDE * SIDE, 32 * 64 * 56 * 56
    softmax = dict(torch=lambda xp, t: t.softmax(-1), mlx=lambda xp, t: xp.softmax(t, -1),
                   jax=lambda xp, t: __import__("jax").nn.softmax(t))

    def fold(name, op, peer, operand=a, axis=None, out=0, **more):
        axes = [] if axis is None else [axis]
        attrs = {} if axis is None else {"axes": axes}
        return Row(name, [operand], lambda nx, x: getattr(nx, op)(x, **attrs),
                   lambda xp, x: getattr(xp, peer)(x, *axes), bytes=4 * (full + out), **more)

    def arg(name, axis):
        return Row(name, [a], lambda nx, x: nx.argmax(x, axis=axis),
                   lambda xp, x: xp.argmax(x, axis), bytes=4 * full)

    return [
        fold("sum f32", "sum", "sum", tolerance=1e-2), fold("sum s32", "sum", "sum", i, check=False),
        fold("sum rows", "sum", "sum", axis=1), fold("sum columns", "sum", "sum", axis=0),
        arg("argmax rows", 1), arg("argmax columns", 0),
        Row("variance", [a], variance, lambda xp, x: xp.var(x), bytes=4 * full,
            torch=lambda xp, x: xp.var(x, unbiased=False)),
        Row("softmax", [a], lambda nx, x: nx.softmax(x), peer_softmax, bytes=8 * full, **softmax),
        Row("layer norm", [a], layer_norm, peer_norm, bytes=8 * full,
            torch=lambda xp, t: xp.nn.functional.layer_norm(t, (SIDE,)),
            mlx=lambda xp, t: xp.fast.layer_norm(t, None, None, 1e-5)),
        Row("running sum of rows", [a], lambda nx, x: nx.cumulative_sum(x, axis=1),
            lambda xp, x: xp.cumsum(x, 1), bytes=8 * full),
        Row("max pool 2x2", [image],
            lambda nx, x: nx.window_max(x, window=[1, 1, 2, 2], strides=[1, 1, 2, 2]),
            torch=lambda xp, x: xp.nn.functional.max_pool2d(x, 2),
            jax=jax_pool(-numpy.inf, "max", 2, 2, 1), bytes=5 * pixels),
        Row("max pool 2x2, gradient", [image, half],
            lambda nx, x, g: nx.window_scatter_max(x, g, nx.scalar(0.0, "f32"), window=[1, 1, 2, 2],
                                                   strides=[1, 1, 2, 2]),
            torch=torch_max_gradient, jax=jax_gradient(-numpy.inf, "max", 2, 2),
            check=False, bytes=4 * (2 * pixels + pixels // 4)),
        Row("mean pool 3x3, gradient", [inner],
            lambda nx, g: nx.window_sum(g / 9.0, window=[1, 1, 3, 3],
                                        padding=[0, 0, 0, 0, 2, 2, 2, 2]),
            torch=lambda xp, g: xp.ops.aten.avg_pool2d_backward(
                g, xp.empty(32, 64, 56, 56), [3, 3], [1, 1], [0, 0], False, True, None),
            jax=jax_gradient(0.0, "add", 3, 1), bytes=8 * pixels),
        Row("mean pool 3x3", [image],
            lambda nx, x: nx.window_sum(x, window=[1, 1, 3, 3]) / 9.0,
            torch=lambda xp, x: xp.nn.functional.avg_pool2d(x, 3, 1),
            jax=jax_pool(0.0, "add", 3, 1, 9), bytes=8 * pixels),
    ]


def movement():
    a = ("a", wave, (SIDE, SIDE))
    table = ("table", wave, (SIDE, 64))
    at = ("at", lambda: ((numpy.arange(100_000) * 7919 % SIDE), "s64"))
    v, m = ("v", wave, (1_000_000,)), ("m", wave, (1024, 1024))
    full = SIDE * SIDE
    return [
        Row("transpose", [a], lambda nx, x: nx.transpose(x, axes=[1, 0]),
            lambda xp, x: xp.ascontiguousarray(x.T), torch=lambda xp, x: x.T.contiguous(),
            jax=lambda xp, x: xp.transpose(x), mlx=lambda xp, x: xp.contiguous(x.T),
            bytes=8 * full),
        Row("reverse", [a], lambda nx, x: nx.reverse(x, axes=[1]),
            numpy=lambda xp, x: x[:, ::-1].copy(), jax=lambda xp, x: x[:, ::-1],
            torch=lambda xp, x: x.flip(1), mlx=lambda xp, x: xp.contiguous(x[:, ::-1]),
            bytes=8 * full),
        Row("concatenate", [a], lambda nx, x: nx.concatenate(x, x, axis=1),
            lambda xp, x: xp.concatenate([x, x], 1), bytes=12 * full),
        Row("pad", [a], lambda nx, x: nx.pad(x, nx.scalar(0.0, "f32"), padding=[1, 1, 0, 1, 1, 0]),
            lambda xp, x: xp.pad(x, 1), torch=lambda xp, x: xp.nn.functional.pad(x, (1, 1, 1, 1)),
            bytes=8 * full),
        Row("take rows", [table, at], lambda nx, t, i: nx.take(t, i, axis=0),
            lambda xp, t, i: t[i], bytes=4 * 2 * 64 * 100_000),
        Row("sort 1M", [v], lambda nx, x: nx.sort(x, axis=0), lambda xp, x: xp.sort(x),
            torch=lambda xp, x: xp.sort(x)[0]),
        Row("argsort 1M", [v], lambda nx, x: nx.argsort(x, axis=0), lambda xp, x: xp.argsort(x),
            check=False),
        Row("sort rows", [m], lambda nx, x: nx.sort(x, axis=1), lambda xp, x: xp.sort(x, 1),
            torch=lambda xp, x: xp.sort(x, 1)[0]),
        Row("top 10 of 1M", [v], lambda nx, x: nx.apply("top_k", (x,), results=2, k=10)[0],
            numpy=lambda xp, x: xp.sort(xp.partition(x, -10)[-10:])[::-1],
            torch=lambda xp, x: xp.topk(x, 10)[0], mlx=None,
            jax=lambda xp, x: __import__("jax").lax.top_k(x, 10)[0]),
    ]


BYTES = {"bf16": 2, "f16": 2, "f8": 1, "s8": 1, "u8": 1, "s32": 4, "f32": 4, "f64": 8}


def contract_last(nx, a, b):
    """a times the transpose of b, as layers whose weights are [out, in] have it."""
    return nx.dot(a, b, contract_left=[1], batch_left=[], contract_right=[1], batch_right=[])


def product(kind, m, k, n, turned=False, scale=1.0, **more):
    """[m, k] times [k, n], or times the transpose of [n, k]."""
    a = (f"a{m}x{k}{kind}", wave, (m, k), kind, scale)
    b = (f"b{k}x{n}{kind}{turned}", wave, (n, k) if turned else (k, n), kind, scale)
    name = f"dot {kind} {m}x{k} by {k}x{n}" + (", transposed" if turned else "")
    ours = contract_last if turned else lambda nx, a, b: nx.matmul(a, b)
    peers = (lambda xp, a, b: xp.matmul(a, b.T)) if turned else lambda xp, a, b: xp.matmul(a, b)
    row = Row(name, [a, b], ours, peers, flops=2 * m * k * n, rate=kind,
              bytes=BYTES[kind] * (m * k + k * n + m * n), **more)
    if kind in ("s8", "u8"):
        # The instruction's own sums, where a library has them; results wrap in ours.
        row.libraries["torch"] = ((lambda xp, a, b: xp._int_mm(a, b.T)) if turned else
                                  lambda xp, a, b: xp._int_mm(a, b)) if kind == "s8" else None
        row.check = False
    if m * k * n > 512 ** 3:
        # What goes term by term, for seconds.
        row.libraries["mlx"] = None
        if kind[0] in "su":
            row.libraries.update(numpy=None, jax=None)
        elif kind == "f16":
            row.libraries["numpy"] = None
    return row


def batched(kind, count, n):
    """`count` products of n x n each."""
    operand = (f"{count} of {n} {kind}", wave, (count, n, n), kind)
    return Row(f"dot {kind} {count} of {n}", [operand] * 2,
               lambda nx, a, b: nx.dot(a, b, contract_left=[2], batch_left=[0], contract_right=[1],
                                       batch_right=[0]),
               lambda xp, a, b: xp.matmul(a, b), flops=2 * count * n ** 3, rate=kind,
               bytes=3 * BYTES[kind] * count * n * n)


def widened(kind, to, m, k, n):
    """The same of operands that are converted to a wider type first."""
    row = product(kind, m, k, n, scale=100.0 if kind[0] in "su" else 1.0)
    row.name = row.name.replace(f"dot {kind}", f"dot {kind} to {to}")
    row.ours = lambda nx, a, b: nx.matmul(nx.as_type(a, type=to), nx.as_type(b, type=to))
    if to == "f32":
        row.libraries["torch"] = lambda xp, a, b: xp.matmul(a.float(), b.float())
        row.check = False
    return row


def attention(nx, q, k):
    return nx.dot(q, k, contract_left=[3], batch_left=[0, 1], contract_right=[3],
                  batch_right=[0, 1])


def products():
    batch = ("batch", wave, (64, 128, 128))
    q, k = ("q", wave, (8, 12, 128, 64)), ("k", wave, (8, 12, 128, 64), "f32", 0.5)
    rows = [product(kind, n, n, n, scale=100.0 if kind[0] in "su" else 1.0)
            for n in (64, 256, 1024, 2048) for kind in ("f32", "f64", "bf16", "f16", "s8", "u8")]
    rows.append(product("f8", 1024, 1024, 1024))
    rows += [product("s32", n, n, n, scale=100.0) for n in (64, 256, 512)]
    rows += [batched(kind, 256, 64) for kind in ("f32", "f64", "bf16", "f16")]
    rows += [batched(kind, 16, 256) for kind in ("f32", "f64", "bf16", "f16")]
    rows += [product(kind, 1, 4096, 4096, turned, scale=100.0 if kind[0] in "su" else 1.0)
             for kind in ("f32", "f64", "bf16", "f16", "f8", "s8", "u8")
             for turned in (False, True)]
    rows += [product(kind, m, 1024, 3072, True) for kind in ("f32", "bf16") for m in (4, 16, 128)]
    rows += [widened("s8", "s32", 1024, 1024, 1024), widened("s8", "s32", 16, 1024, 3072),
             widened("u8", "s32", 1024, 1024, 1024),
             widened("bf16", "f32", 1, 4096, 4096)]
    rows += [product("f32", n, n, n) for n in (8, 16, 32, 96, 200, 512)]
    rows += [
        Row("dot 64 of 128", [batch, batch],
            lambda nx, a, b: nx.dot(a, b, contract_left=[2], batch_left=[0], contract_right=[1],
                                    batch_right=[0]),
            lambda xp, a, b: xp.matmul(a, b), flops=2 * 64 * 128 ** 3, rate="f32"),
        Row("attention scores 8x12x128x64", [q, k], attention,
            lambda xp, q, k: xp.matmul(q, xp.swapaxes(k, 2, 3)),
            flops=2 * 96 * 128 * 128 * 64, rate="f32"),
        Row("matrix times vector f32", [("m4", wave, (SIDE, SIDE)), ("v4", wave, (SIDE,))],
            lambda nx, a, v: nx.matmul(a, v), lambda xp, a, v: xp.matmul(a, v),
            bytes=4 * SIDE * SIDE),
        Row("dense layer f32 128x1024x3072", [("x", wave, (128, 1024)), ("w", wave, (1024, 3072)),
                                              ("b", wave, (3072,))],
            lambda nx, x, w, b: nx.max(nx.matmul(x, w) + b, nx.scalar(0.0, "f32")),
            lambda xp, x, w, b: xp.maximum(xp.matmul(x, w) + b, 0),
            torch=lambda xp, x, w, b: xp.relu(xp.addmm(b, x, w)),
            flops=2 * 128 * 1024 * 3072, rate="f32"),
    ]
    return rows


def torch_attention(**options):
    def attend(xp, q, k, v):
        return xp.nn.functional.scaled_dot_product_attention(q, k, v, **options)
    return attend


def attend_row(name, kind, shape, keys=None, groups=None, **options):
    """Attention of {batch, heads, queries, size} to as many keys, or `keys` of `groups` heads."""
    batch, heads, queries, size = shape
    groups, keys = groups or heads, keys or queries
    causal = options.pop("is_causal", False)
    operands = [(f"q{shape}{kind}", wave, shape, kind)]
    operands += [(f"{n}{batch}{groups}{keys}{size}{kind}", wave, (batch, groups, keys, size), kind,
                  0.5 + i) for i, n in enumerate("kv")]
    if causal:
        options["is_causal"] = True
    share = 0.5 if causal and queries == keys else 1
    return Row(f"attention {kind} {name}", operands,
               lambda nx, q, k, v: nx.attention(q, k, v, scale=size ** -0.5, causal=causal),
               torch=torch_attention(**options), rate="f32", tolerance=2e-2 if kind == "bf16" else 1e-4,
               flops=4 * batch * heads * queries * keys * size * share,
               bytes=BYTES[kind] * 2 * batch * groups * keys * size if queries == 1 else 0)


def language():
    x, w = ("x", wave, (4096, 1024)), ("w", wave, (1024,))
    gate = ("gate", wave, (4096, 3072))
    size = 4096 * 1024

    def layers(xp):
        return xp.nn.functional

    return [
        attend_row("8x16x1024x64", "f32", (8, 16, 1024, 64)),
        attend_row("8x16x1024x64 causal", "f32", (8, 16, 1024, 64), is_causal=True),
        attend_row("8x16x1024x64", "bf16", (8, 16, 1024, 64)),
        attend_row("1x16x4096x64 causal", "f32", (1, 16, 4096, 64), is_causal=True),
        attend_row("1x16x128x128", "f32", (1, 16, 128, 128)),
        attend_row("1 of 4096, 16 heads of 8 groups", "bf16", (1, 16, 1, 128), 4096, 8,
                   enable_gqa=True),
        attend_row("1 of 4096, 16 heads", "f32", (1, 16, 1, 128), 4096),
        attend_row("1 of 512, 16 heads", "f32", (1, 16, 1, 64), 512),
        Row("softmax f32 4096x1024", [x], lambda nx, x: nx.softmax(x),
            torch=lambda xp, x: xp.softmax(x, -1), bytes=8 * size),
        Row("rms_norm f32 4096x1024", [x, w], lambda nx, x, w: nx.rms_norm(x, w, eps=1e-6),
            torch=lambda xp, x, w: layers(xp).rms_norm(x, (1024,), w, 1e-6), bytes=8 * size),
        Row("layer_norm f32 4096x1024", [x, w, w],
            lambda nx, x, w, b: nx.layer_norm(x, w, b, eps=1e-5),
            torch=lambda xp, x, w, b: layers(xp).layer_norm(x, (1024,), w, b), bytes=8 * size),
        Row("swiglu f32 4096x3072", [gate, gate], lambda nx, g, u: nx.swiglu(g, u),
            torch=lambda xp, g, u: layers(xp).silu(g) * u, bytes=12 * 4096 * 3072),
    ]


def algebra():
    m = ("m", wave, (1024, 1024))
    square, large, symmetric = (("s", wave, (512, 512), "f64"), ("large", definite, 512),
                                ("symmetric", definite, 256))
    small = ("small", lambda: (wave((10_000, 8, 8), "f64")[0] + numpy.eye(8) * 10, "f64"))

    def module(name, **more):
        return dict(numpy=lambda xp, *x: getattr(xp.linalg, name)(*x),
                    torch=lambda xp, *x: getattr(xp.linalg, name)(*x),
                    jax=lambda xp, *x: getattr(xp.linalg, name)(*x), **more)

    def transform(name, op=None, **attrs):
        return Row(f"{name} 1024 of 1024", [m], lambda nx, x: getattr(nx, name)(x, **attrs),
                   lambda xp, x: getattr(xp.fft, name)(x), bytes=(4 + 8) * M)

    return [
        transform("fft"), transform("rfft"),
        Row("fft2 1024", [m], lambda nx, x: nx.fft2(x, axes=[0, 1]),
            lambda xp, x: xp.fft.fft2(x), bytes=12 * M),
        Row("cholesky 512", [large], lambda nx, x: nx.cholesky(x), **module("cholesky")),
        Row("qr 512", [square], lambda nx, x: nx.apply("qr", (x,), results=2), check=False,
            **module("qr")),
        Row("svd 256", [symmetric], lambda nx, x: nx.apply("svd", (x,), results=3)[1],
            numpy=lambda xp, x: xp.linalg.svd(x)[1], torch=lambda xp, x: xp.linalg.svd(x)[1],
            jax=lambda xp, x: xp.linalg.svd(x)[1]),
        Row("eigh 256", [symmetric], lambda nx, x: nx.apply("eigh", (x,), results=2), check=False,
            **module("eigh")),
        Row("solve 512", [large, square], lambda nx, a, b: nx.solve(a, b), **module("solve")),
        Row("determinants 8x8", [small], lambda nx, x: nx.determinant(x), **module("det")),
    ]


def convolution(shape, filters, side, padding, groups=1):
    """Rows of a convolution, of the gradient of its kernel and of that of its input."""
    n, c, h, w = shape
    out = (n, filters, h + 2 * padding - side + 1, w + 2 * padding - side + 1)
    x, k = ("x", wave, shape), ("k", wave, (filters, c // groups, side, side))
    g = ("g", wave, out)
    exchanged = [1, 0, 2, 3]
    pads, back = [padding] * 4, [side - 1 - padding] * 4

    def xla(xp, x, k):
        return __import__("jax").lax.conv_general_dilated(
            x, k, (1, 1), [(padding, padding)] * 2, feature_group_count=groups)

    def xla_gradient(which):
        def gradient(xp, a, b):
            zeros = xp.zeros(shape if which == 0 else k[2], "float32")
            other = b if which == 0 else a
            run = (lambda z: xla(xp, z, other)) if which == 0 else lambda z: xla(xp, other, z)
            return __import__("jax").linear_transpose(run, zeros)(b if which else a)[0]
        return gradient

    name = f"conv {side}x{side} {c} to {filters} on {n}x{h}x{w}"
    name += f", {groups} groups" if groups > 1 else ""
    flops = 2 * n * filters * (c // groups) * side * side * out[2] * out[3]
    rows = [Row(name, [x, k], lambda nx, x, k: nx.conv(x, k, padding=pads, feature_group_size=groups),
                torch=lambda xp, x, k: xp.nn.functional.conv2d(x, k, padding=padding, groups=groups),
                jax=xla, flops=flops, rate="f32")]
    if groups > 1:
        return rows
    return rows + [
        Row(name + ", kernel's gradient", [x, g],
            lambda nx, x, g: nx.conv(x, g, padding=pads, input_permutation=exchanged,
                                     kernel_permutation=exchanged, output_permutation=exchanged),
            torch=lambda xp, x, g: xp.nn.grad.conv2d_weight(x, k[2], g, padding=padding),
            jax=xla_gradient(1), flops=flops, rate="f32"),
        Row(name + ", input's gradient", [g, k],
            lambda nx, g, k: nx.conv(g, nx.reverse(k, axes=[2, 3]), padding=back,
                                     kernel_permutation=exchanged),
            torch=lambda xp, g, k: xp.nn.grad.conv2d_input(shape, k, g, padding=padding),
            jax=xla_gradient(0), flops=flops, rate="f32")]


def convolutions():
    return (convolution((64, 1, 28, 28), 6, 5, 2) + convolution((64, 6, 14, 14), 16, 5, 0) +
            convolution((4, 64, 28, 28), 64, 3, 1) + convolution((8, 64, 56, 56), 64, 3, 1, 64))


def threefry(nx, count):
    """Uniform numbers of f32 as Nx.Random makes them: 20 rounds on halves of a counter."""
    def number(value):
        return nx.scalar(value, "u32")

    half = count // 2
    keys = [0, 42]
    keys.append(keys[0] ^ keys[1] ^ 0x1BD11BDA)
    x = [nx.add(nx.apply("iota", (), "u32", shape=[half]), number(keys[0])),
         nx.add(nx.apply("iota", (), "u32", shape=[half]), number(half + keys[1]))]
    turns = ((13, 15, 26, 6), (17, 29, 16, 24))
    for step in range(5):
        for turn in turns[step % 2]:
            x[0] = nx.add(x[0], x[1])
            turned = nx.bitwise_or(nx.left_shift(x[1], number(turn)),
                                   nx.right_shift(x[1], number(32 - turn)))
            x[1] = nx.bitwise_xor(x[0], turned)
        x[0] = nx.add(x[0], number(keys[(step + 1) % 3]))
        x[1] = nx.add(x[1], number(keys[(step + 2) % 3] + step + 1))
    bits = nx.concatenate(*x, axis=0)
    mantissa = nx.bitwise_or(nx.right_shift(bits, number(9)), number(0x3F800000))
    return nx.apply("bitcast", (mantissa,), "f32") - 1.0


def random():
    def row(name, count):
        return Row(name, [("none", wave, (1,))], lambda nx, x: threefry(nx, count),
                   torch=lambda xp, x: xp.rand(count),
                   jax=lambda xp, x: __import__("jax").random.uniform(
                       __import__("jax").random.key(42), (count,), "float32"), check=False)

    return [row("uniform 1M", M), row("uniform 10M", 10 * M)]


def sizes():
    """Around thresholds: no size is much slower an element than those beside it."""
    few = [product(kind, m, 1024, 3072, turned) for kind in ("f32", "bf16", "f16", "s8")
           for m in (2, 5, 8, 16, 32, 64) for turned in (False, True)]
    lines = [Row(f"fft of {n}, {M // n} lines", [(f"line{n}", wave, (M // n, n))],
                 lambda nx, x: nx.fft(x), lambda xp, x: xp.fft.fft(x), bytes=12 * M)
             for n in (16, 64, 256, 1024, 4096, 1 << 14, 1 << 17, M)]
    sums = [Row(f"add of {n}", [(f"v{n}", wave, (n,))] * 2, lambda nx, a, b: a + b,
                lambda xp, a, b: a + b, bytes=12 * n)
            for n in (8, 1000, 30_000, 70_000, 300_000, 2_000_000)]
    return few + lines + sums


def whole():
    return programs.programs(Row, wave)


FAMILIES = (whole, element_wise, folds, rows, movement, products, language, algebra, convolutions, random,
            sizes)
