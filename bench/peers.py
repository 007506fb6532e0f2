# SPDX-License-Identifier: Apache-2.0
"""The workload of chain.c on the array libraries that are installed, for comparison.

Run by `make bench` where python3 is there; each library that cannot be imported is left out.
"""
import statistics
import time

SIDE, RUNS = 4096, 9


def report(name, run):
    run()
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(f"{name:<24} {statistics.median(times) * 1e3:7.2f} ms", flush=True)


def inputs(numpy):
    count = SIDE * SIDE
    a = (numpy.arange(count) % 1999 / 1000 - 1).astype("float32").reshape(SIDE, SIDE)
    b = (numpy.arange(count) % 1777 / 1000 - 0.9).astype("float32").reshape(SIDE, SIDE)
    return a, b


def bench_numpy():
    import numpy

    a, b = inputs(numpy)
    report(f"numpy {numpy.__version__}", lambda: numpy.tanh(a * b + a) * b)


def bench_jax():
    import jax
    import numpy

    a, b = map(jax.numpy.asarray, inputs(numpy))
    chain = jax.jit(lambda a, b: jax.numpy.tanh(a * b + a) * b)
    report(f"jax {jax.__version__} (XLA)", lambda: chain(a, b).block_until_ready())


def bench_torch():
    import numpy
    import torch

    a, b = map(torch.from_numpy, inputs(numpy))
    report(f"torch {torch.__version__}"[:24], lambda: torch.tanh(a * b + a) * b)


def bench_mlx():
    import mlx.core as mx
    import numpy

    mx.set_default_device(mx.cpu)
    a, b = map(mx.array, inputs(numpy))
    report("mlx", lambda: mx.eval(mx.tanh(a * b + a) * b))


if __name__ == "__main__":
    for bench in (bench_numpy, bench_jax, bench_torch, bench_mlx):
        try:
            bench()
        except ImportError as missing:
            print(f"{bench.__name__[6:]}: left out, {missing}")
