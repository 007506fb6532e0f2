# SPDX-License-Identifier: Apache-2.0
"""The workloads of chain.c and ops.exs on the array libraries that are installed, for comparison.

Run by `make bench` where python3 is there, as: peers.py [FILE], with what ops.exs has written; each
library that cannot be imported is left out. A library's column is how many times as long it takes.
"""
import statistics
import sys
import time

SIDE, RUNS = 4096, 9


def milliseconds(run):
    run()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def wave(numpy, shape, dtype="float32"):
    """Numbers from -1 to 1 without order, the same as in ops.exs."""
    count = 1
    for length in shape:
        count *= length
    numbers = numpy.arange(count, dtype="int64") * 7919 % 20011 / 10006 - 1
    return numbers.astype(dtype).reshape(shape)


def operands(numpy):
    a = wave(numpy, (SIDE, SIDE))
    m = wave(numpy, (1024, 1024))
    s = wave(numpy, (512, 512), "float64")
    t = wave(numpy, (256, 256), "float64")
    return {
        "a": a,
        "row": wave(numpy, (SIDE,)),
        "i": (a * 1000).astype("int32"),
        "d": wave(numpy, (2048, 2048), "float64"),
        "short": a.reshape(-1, 16),
        "image": wave(numpy, (32, 64, 56, 56)),
        "table": numpy.ascontiguousarray(a[:, :64]),
        "at": numpy.arange(100_000) * 7919 % SIDE,
        "v": wave(numpy, (1_000_000,)),
        "m": m,
        "md": m.astype("float64"),
        "mi": (wave(numpy, (512, 512)) * 100).astype("int32"),
        "batch": wave(numpy, (64, 128, 128)),
        "s": s,
        "large": s @ s.T + numpy.eye(512) * 512,
        "symmetric": t @ t.T + numpy.eye(256) * 256,
        "small": wave(numpy, (10_000, 8, 8), "float64") + numpy.eye(8) * 10,
    }


def with_numpy(numpy):
    o = operands(numpy)
    random = numpy.random.default_rng(1)
    chain = lambda: numpy.tanh(o["a"] * o["row"] + o["a"]) * o["row"]
    return f"numpy {numpy.__version__}", chain, {
        "add f32": lambda: o["a"] + o["a"],
        "exp f32": lambda: numpy.exp(o["a"]),
        "sin f32": lambda: numpy.sin(o["a"]),
        "exp f64": lambda: numpy.exp(o["d"]),
        "sin f64": lambda: numpy.sin(o["d"]),
        "tanh f64": lambda: numpy.tanh(o["d"]),
        "sum f32": lambda: o["a"].sum(),
        "sum rows": lambda: o["a"].sum(1),
        "sum columns": lambda: o["a"].sum(0),
        "argmax rows": lambda: o["a"].argmax(1),
        "running sum of rows": lambda: o["a"].cumsum(1),
        "transpose": lambda: numpy.ascontiguousarray(o["a"].T),
        "take rows": lambda: o["table"][o["at"]],
        "sort 1M": lambda: numpy.sort(o["v"]),
        "argsort 1M": lambda: numpy.argsort(o["v"]),
        "sort rows": lambda: numpy.sort(o["m"], 1),
        "dot f32 1024": lambda: o["m"] @ o["m"],
        "dot f64 1024": lambda: o["md"] @ o["md"],
        "matrix times vector": lambda: o["a"] @ o["row"],
        "fft 1024 of 1024": lambda: numpy.fft.fft(o["m"]),
        "rfft 1024 of 1024": lambda: numpy.fft.rfft(o["m"]),
        "cholesky 512": lambda: numpy.linalg.cholesky(o["large"]),
        "qr 512": lambda: numpy.linalg.qr(o["s"]),
        "svd 256": lambda: numpy.linalg.svd(o["symmetric"]),
        "eigh 256": lambda: numpy.linalg.eigh(o["symmetric"]),
        "solve 512": lambda: numpy.linalg.solve(o["large"], o["s"]),
        "determinants 8x8": lambda: numpy.linalg.det(o["small"]),
        "uniform 1M": lambda: random.random(1_000_000, "float32"),
    }


def with_jax(numpy):
    import jax
    import jax.numpy as jn

    jax.config.update("jax_enable_x64", True)
    o = {name: jn.asarray(array) for name, array in operands(numpy).items()}
    half = o["a"].astype(jn.bfloat16)
    key = jax.random.key(42)

    def on(function, *arguments):
        compiled = jax.jit(function)
        arguments = [o[x] if isinstance(x, str) else x for x in arguments]
        return lambda: jax.block_until_ready(compiled(*arguments))

    def layer_norm(t):
        return (t - t.mean(-1, keepdims=True)) / jn.sqrt(t.var(-1, keepdims=True) + 1e-5)

    def pool(t, start, fold, side, step):
        return jax.lax.reduce_window(t, start, fold, (1, 1, side, side), (1, 1, step, step), "VALID")

    chain = on(lambda a, b: jn.tanh(a * b + a) * b, "a", "row")
    return f"jax {jax.__version__} (XLA)", chain, {
        "add f32": on(jn.add, "a", "a"),
        "add a row f32": on(jn.add, "a", "row"),
        "add s32": on(jn.add, "i", "i"),
        "multiply bf16": on(jn.multiply, half, half),
        "quotient s32": on(lambda i: jax.lax.div(i, jn.int32(7)), "i"),
        "select f32": on(lambda a, b: jn.where(a < b, a, b), "a", "row"),
        "exp f32": on(jn.exp, "a"),
        "sin f32": on(jn.sin, "a"),
        "pow f32": on(lambda a, b: abs(a) ** b, "a", "row"),
        "exp f64": on(jn.exp, "d"),
        "sin f64": on(jn.sin, "d"),
        "tanh f64": on(jn.tanh, "d"),
        "f32 as bf16": on(lambda a: a.astype(jn.bfloat16), "a"),
        "sum f32": on(jn.sum, "a"),
        "sum s32": on(jn.sum, "i"),
        "sum rows": on(lambda a: a.sum(1), "a"),
        "sum columns": on(lambda a: a.sum(0), "a"),
        "sum rows of 16": on(lambda a: a.sum(1), "short"),
        "max rows of 16": on(lambda a: a.max(1), "short"),
        "argmax rows": on(lambda a: a.argmax(1), "a"),
        "argmax columns": on(lambda a: a.argmax(0), "a"),
        "variance": on(jn.var, "a"),
        "softmax": on(jax.nn.softmax, "a"),
        "softmax rows of 16": on(jax.nn.softmax, "short"),
        "layer norm": on(layer_norm, "a"),
        "running sum of rows": on(lambda a: a.cumsum(1), "a"),
        "max pool 2x2": on(lambda t: pool(t, -jn.inf, jax.lax.max, 2, 2), "image"),
        "mean pool 3x3": on(lambda t: pool(t, 0.0, jax.lax.add, 3, 1) / 9, "image"),
        "transpose": on(jn.transpose, "a"),
        "reverse": on(lambda a: a[:, ::-1], "a"),
        "concatenate": on(lambda a: jn.concatenate([a, a], 1), "a"),
        "pad": on(lambda a: jn.pad(a, 1), "a"),
        "take rows": on(lambda t, at: t[at], "table", "at"),
        "sort 1M": on(jn.sort, "v"),
        "argsort 1M": on(jn.argsort, "v"),
        "sort rows": on(lambda m: jn.sort(m, 1), "m"),
        "top 10 of 1M": on(lambda v: jax.lax.top_k(v, 10), "v"),
        "dot f32 1024": on(jn.matmul, "m", "m"),
        "dot f64 1024": on(jn.matmul, "md", "md"),
        "dot s32 512": on(jn.matmul, "mi", "mi"),
        "dot 64 of 128": on(jn.matmul, "batch", "batch"),
        "matrix times vector": on(jn.matmul, "a", "row"),
        "vector times matrix": on(jn.matmul, "row", "a"),
        "fft 1024 of 1024": on(jn.fft.fft, "m"),
        "rfft 1024 of 1024": on(jn.fft.rfft, "m"),
        "fft2 1024": on(jn.fft.fft2, "m"),
        "cholesky 512": on(jn.linalg.cholesky, "large"),
        "qr 512": on(jn.linalg.qr, "s"),
        "svd 256": on(jn.linalg.svd, "symmetric"),
        "eigh 256": on(jn.linalg.eigh, "symmetric"),
        "solve 512": on(jn.linalg.solve, "large", "s"),
        "determinants 8x8": on(jn.linalg.det, "small"),
        "uniform 1M": on(lambda k: jax.random.uniform(k, (1_000_000,), "float32"), key),
    }


def with_torch(numpy):
    import torch
    import torch.nn.functional as f

    o = {name: torch.from_numpy(array) for name, array in operands(numpy).items()}
    half = o["a"].bfloat16()
    chain = lambda: torch.tanh(o["a"] * o["row"] + o["a"]) * o["row"]
    return f"torch {torch.__version__}", chain, {
        "add f32": lambda: o["a"] + o["a"],
        "add a row f32": lambda: o["a"] + o["row"],
        "add s32": lambda: o["i"] + o["i"],
        "multiply bf16": lambda: half * half,
        "quotient s32": lambda: torch.div(o["i"], 7, rounding_mode="trunc"),
        "select f32": lambda: torch.where(o["a"] < o["row"], o["a"], o["row"]),
        "exp f32": lambda: o["a"].exp(),
        "sin f32": lambda: o["a"].sin(),
        "pow f32": lambda: o["a"].abs() ** o["row"],
        "exp f64": lambda: o["d"].exp(),
        "sin f64": lambda: o["d"].sin(),
        "tanh f64": lambda: o["d"].tanh(),
        "f32 as bf16": lambda: o["a"].bfloat16(),
        "sum f32": lambda: o["a"].sum(),
        "sum s32": lambda: o["i"].sum(),
        "sum rows": lambda: o["a"].sum(1),
        "sum columns": lambda: o["a"].sum(0),
        "sum rows of 16": lambda: o["short"].sum(1),
        "max rows of 16": lambda: o["short"].amax(1),
        "argmax rows": lambda: o["a"].argmax(1),
        "argmax columns": lambda: o["a"].argmax(0),
        "variance": lambda: o["a"].var(unbiased=False),
        "softmax": lambda: o["a"].softmax(1),
        "softmax rows of 16": lambda: o["short"].softmax(1),
        "layer norm": lambda: f.layer_norm(o["a"], (SIDE,)),
        "running sum of rows": lambda: o["a"].cumsum(1),
        "max pool 2x2": lambda: f.max_pool2d(o["image"], 2),
        "mean pool 3x3": lambda: f.avg_pool2d(o["image"], 3, 1),
        "transpose": lambda: o["a"].T.contiguous(),
        "reverse": lambda: o["a"].flip(1),
        "concatenate": lambda: torch.cat([o["a"], o["a"]], 1),
        "pad": lambda: f.pad(o["a"], (1, 1, 1, 1)),
        "take rows": lambda: o["table"][o["at"]],
        "sort 1M": lambda: o["v"].sort(),
        "argsort 1M": lambda: o["v"].argsort(),
        "sort rows": lambda: o["m"].sort(1),
        "top 10 of 1M": lambda: o["v"].topk(10),
        "dot f32 1024": lambda: o["m"] @ o["m"],
        "dot f64 1024": lambda: o["md"] @ o["md"],
        "dot s32 512": lambda: o["mi"] @ o["mi"],
        "dot 64 of 128": lambda: o["batch"] @ o["batch"],
        "matrix times vector": lambda: o["a"] @ o["row"],
        "vector times matrix": lambda: o["row"] @ o["a"],
        "fft 1024 of 1024": lambda: torch.fft.fft(o["m"]),
        "rfft 1024 of 1024": lambda: torch.fft.rfft(o["m"]),
        "fft2 1024": lambda: torch.fft.fft2(o["m"]),
        "cholesky 512": lambda: torch.linalg.cholesky(o["large"]),
        "qr 512": lambda: torch.linalg.qr(o["s"]),
        "svd 256": lambda: torch.linalg.svd(o["symmetric"]),
        "eigh 256": lambda: torch.linalg.eigh(o["symmetric"]),
        "solve 512": lambda: torch.linalg.solve(o["large"], o["s"]),
        "determinants 8x8": lambda: torch.linalg.det(o["small"]),
        "uniform 1M": lambda: torch.rand(1_000_000),
    }


def with_mlx(numpy):
    import mlx.core as mx

    mx.set_default_device(mx.cpu)
    o = {name: mx.array(array) for name, array in operands(numpy).items() if array.dtype != "float64"}

    def on(function):
        return lambda: mx.eval(function())

    chain = on(lambda: mx.tanh(o["a"] * o["row"] + o["a"]) * o["row"])
    return "mlx", chain, {
        "add f32": on(lambda: o["a"] + o["a"]),
        "exp f32": on(lambda: mx.exp(o["a"])),
        "sum f32": on(lambda: o["a"].sum()),
        "sum columns": on(lambda: o["a"].sum(0)),
        "argmax rows": on(lambda: o["a"].argmax(1)),
        "softmax": on(lambda: mx.softmax(o["a"], -1)),
        "sort 1M": on(lambda: mx.sort(o["v"])),
        "dot f32 1024": on(lambda: o["m"] @ o["m"]),
        "fft 1024 of 1024": on(lambda: mx.fft.fft(o["m"])),
    }


def read(path):
    with open(path, encoding="utf-8") as file:
        return {name: float(time) for name, time in (line.split("\t") for line in file)}


def main(path=None):
    ours, columns = read(path) if path else {}, []
    for library in (with_numpy, with_jax, with_torch, with_mlx):
        try:
            import numpy

            title, chain, workloads = library(numpy)
        except ImportError as missing:
            print(f"{library.__name__[5:]}: left out, {missing}")
            continue
        print(f"{'chain, ' + title:<28} {milliseconds(chain):7.2f} ms", flush=True)
        times = {name: milliseconds(run) for name, run in workloads.items() if name in ours}
        columns.append((title.split()[0], times))
    if not ours or not columns:
        return
    print(f"{'':<22}{'emlx, ms':>10}" + "".join(f"{title:>8}" for title, _ in columns))
    for name, own in ours.items():
        cells = (f"{times[name] / own:8.2f}" if name in times else " " * 8 for _, times in columns)
        print(f"{name:<22}{own:10.2f}" + "".join(cells))


if __name__ == "__main__":
    main(*sys.argv[1:])
