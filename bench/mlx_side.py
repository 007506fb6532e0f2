#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mlx_side.py - our engine, MLX through our adapter, and MLX from Python (where it is installed), side by
side: chains of small and of large operations, products of matrices, rows, attention. Microseconds a
call and its wait, the fastest of many. Needs `make mlx` and numpy; DEVICE=mlx times MLX's GPU, beside
the engine that OURS names, and with larger arrays.

    bench/mlx_side.py
    DEVICE=mlx OURS=cuda bench/mlx_side.py
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
OURS = os.environ.get("OURS", "cpu")


def chain(_, a, b):
    """Adds and products in turn: nothing of it can be left out."""
    for i in range(STEPS):
        a = a + b if i % 2 == 0 else a * b
    return a


def product(nx, a, b):
    return nx.dot(a, b, contract_left=[1], batch_left=[], contract_right=[0], batch_right=[])


def mlx_product(_, a, b):
    return mx.matmul(a, b)


def softmax(nx, a):
    return nx.apply("softmax", (a,), axes=[1])


def mlx_softmax(_, a):
    return mx.softmax(a, axis=1)


def sum_rows(nx, a):
    return nx.apply("sum", (a,), axes=[1])


def mlx_sum_rows(_, a):
    return mx.sum(a, axis=1)


def attention(nx, q, k, v):
    return nx.apply("attention", (q, k, v), scale=0.125, causal=True)


def mlx_attention(_, q, k, v):
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=0.125, mask="causal")


def rows(type, small, large, side, heads, length):
    return [
        (f"{STEPS} steps of {small}", type, 2 * [(small,)], chain, chain, STEPS),
        (f"{STEPS} steps of {large:,}", type, 2 * [(large,)], chain, chain, STEPS),
        (f"product of {side} x {side}", type, 2 * [(side, side)], product, mlx_product, 1),
        (f"softmax of {2 * side} x {2 * side}", type, [(2 * side, 2 * side)], softmax, mlx_softmax, 1),
        (f"sums of {2 * side} rows", type, [(2 * side, 2 * side)], sum_rows, mlx_sum_rows, 1),
        (f"attention, {heads} heads of {length}", type, 3 * [(1, heads, length, 64)], attention,
         mlx_attention, 1),
    ]


ROWS = (rows("f32", 16, 1 << 24, 4096, 16, 2048) + rows("bf16", 16, 1 << 24, 4096, 16, 2048)
        if NAME == "mlx" else rows("f32", 16, 1 << 18, 256, 4, 256))


def fastest(call):
    """Seconds of the fastest of the calls of half a second, at least 5."""
    best, until, count = float("inf"), time.perf_counter() + 0.5, 0
    while count < 5 or time.perf_counter() < until:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        count += 1
    return best


def stored(array, type):
    """What emlx.tensor takes: bf16 as its bits, cut from those of f32."""
    return (array.view(np.uint32) >> 16).astype(np.uint16) if type == "bf16" else array


# A call of MLX's devices has waited; reading would move its memory.
def ours(device, function, type, arrays, waits):
    tensors = [emlx.tensor(device, stored(array, type), type) for array in arrays]
    program = emlx.compile(device, function, tensors)

    def call():
        results = program(*tensors)
        if not waits:
            for result in results:
                result.wait()

    return fastest(call)


def from_python(function, type, arrays):
    values = [mx.array(array).astype(mx.bfloat16 if type == "bf16" else mx.float32)
              for array in arrays]
    mx.eval(values)
    return fastest(lambda: mx.eval(function(mx, *values)))


def main():
    cpu, device = emlx.Device(OURS), emlx.Device(NAME)
    if mx is not None:
        mx.set_default_device(mx.gpu if NAME == "mlx" else mx.cpu)
    print(f"{'us':34} {OURS:>10} {NAME:>10} {'python':>10}   us more a primitive")
    random = np.random.default_rng(1)
    for title, type, shapes, function, theirs, primitives in ROWS:
        arrays = [random.random(shape, dtype=np.float32) for shape in shapes]
        times = [ours(cpu, function, type, arrays, False), ours(device, function, type, arrays, True)]
        line = f"{type + ' ' + title:34} {times[0] * 1e6:10.1f} {times[1] * 1e6:10.1f}"
        if mx is not None:
            python = from_python(theirs, type, arrays)
            line += f" {python * 1e6:10.1f} {(times[1] - python) * 1e6 / primitives:10.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
