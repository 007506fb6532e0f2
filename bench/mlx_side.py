#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mlx_side.py - our engine, MLX through our adapter, and MLX from Python (where it is installed), side by
side: chains of small and of large operations, products of matrices, rows. Microseconds a call, the
fastest of many. Needs `make mlx` and numpy; DEVICE=mlx times MLX's GPU.

    bench/mlx_side.py
"""

import os
import time

import numpy as np

import emlx

try:
    import mlx.core as mx
except ImportError:
    mx = None

STEPS = 30
NAME = os.environ.get("DEVICE", "mlx-cpu")


def chain(_, a, b):
    """Adds and products in turn: nothing of it can be left out."""
    for i in range(STEPS):
        a = a + b if i % 2 == 0 else a * b
    return a


def product(nx, a, b):
    return nx.dot(a, b, contract_left=[1], batch_left=[], contract_right=[0], batch_right=[])


def mlx_product(_, a, b):
    return mx.matmul(a, b)


def softmax(nx, a, _):
    return nx.apply("softmax", (a,), axes=[1])


def mlx_softmax(_, a, __):
    return mx.softmax(a, axis=1)


ROWS = [
    (f"{STEPS} steps of 16", (16,), chain, chain, STEPS),
    (f"{STEPS} steps of 262,144", (262144,), chain, chain, STEPS),
    ("product of 256 x 256", (256, 256), product, mlx_product, 1),
    ("softmax of 512 x 512", (512, 512), softmax, mlx_softmax, 1),
]


def fastest(call):
    """Seconds of the fastest of the calls of half a second, at least 5."""
    best, until, count = float("inf"), time.perf_counter() + 0.5, 0
    while count < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        count += 1
    return best


def ours(device, function, arrays):
    tensors = [emlx.tensor(device, array, "f32") for array in arrays]
    program = emlx.compile(device, function, tensors)
    return fastest(lambda: program(*tensors))


def from_python(function, arrays):
    values = [mx.array(array) for array in arrays]
    return fastest(lambda: mx.eval(function(mx, *values)))


def main():
    cpu, device = emlx.Device("cpu"), emlx.Device(NAME)
    if mx is not None:
        mx.set_default_device(mx.gpu if NAME == "mlx" else mx.cpu)
    print(f"{'us':28} {'cpu':>10} {NAME:>10} {'python':>10}   us more a primitive")
    random = np.random.default_rng(1)
    for title, shape, function, theirs, primitives in ROWS:
        arrays = [random.random(shape, dtype=np.float32) for _ in range(2)]
        times = [ours(cpu, function, arrays), ours(device, function, arrays)]
        line = f"{title:28} {times[0] * 1e6:10.1f} {times[1] * 1e6:10.1f}"
        if mx is not None:
            python = from_python(theirs, arrays)
            line += f" {python * 1e6:10.1f} {(times[1] - python) * 1e6 / primitives:10.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
