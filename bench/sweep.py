#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Sizes in small steps, past every threshold at which the library does something in another way: does
any step cost much more than its work?

usage: sweep.py [--all] [--cpu] [NAME...]

A NAME keeps to the sweeps that contain it. Of each size the least time of four passes over all of them
counts, as other work comes and goes. A step is how many times as long an element (a multiplication, ...) takes as at the size before: 1 or less where nothing changes,
more where a cache ends or another way begins. Shown are the largest steps, each with the sizes between
which it lies; --all shows every size. --cpu takes the time that the process' threads compute instead of
the time that passes.
"""
import sys
import time

import numpy

import libraries
import workloads

PASSES, LEAST, SLICE, SHOWN = 4, 3, 3e-3, 3


def between(low, high, steps=4):
    """Sizes from low to high, `steps` of them in a doubling."""
    sizes, at = [], float(low)
    while at < high * 1.001:
        sizes.append(round(at))
        at *= 2 ** (1 / steps)
    return sorted(set(sizes))


def smooth(low, high):
    """Lengths without large primes."""
    return sorted(2 ** a * 3 ** b for a in range(20) for b in range(3) if low <= 2 ** a * 3 ** b <= high)


def wave(*shape, kind="f32"):
    return workloads.wave(shape, kind, 100.0 if kind[0] in "su" else 1.0)


def lines(count, n):
    return wave(max(1, count // n), n)


def square(kind):
    return lambda n: [wave(n, n, kind=kind)] * 2


M = 1 << 20


def sweep(name, sizes, operands, function, work):
    return name, sizes, operands, function, work


def row_sweeps():
    lengths = between(2, 4 * 65536, 3)
    along = {"sum": lambda nx, x: nx.sum(x, axes=[1]),
             "max": lambda nx, x: nx.reduce_max(x, axes=[1]),
             "softmax": lambda nx, x: nx.softmax(x), "variance": workloads.row_variance,
             "running sum": lambda nx, x: nx.cumulative_sum(x, axis=1),
             "sort": lambda nx, x: nx.sort(x, axis=1)}
    return [sweep(f"{name} of 1M in rows of n", lengths, lambda n: [lines(M, n)], f,
                  lambda n: max(1, M // n) * n * (numpy.log2(n) if name == "sort" else 1))
            for name, f in along.items()]


def product_sweeps():
    def few(kind):
        return lambda m: [wave(m, 1024, kind=kind), wave(1024, 1024, kind=kind)]

    def times(nx, a, b):
        return nx.matmul(a, b)

    found = [sweep(f"{kind} n x n by n x n", between(4, 768), square(kind), times, lambda n: n ** 3)
             for kind in ("f32", "f64", "bf16", "s8", "s32")]
    found += [sweep(f"{kind} m x 1024 by 1024 x 1024", range(1, 41), few(kind), times, lambda m: m)
              for kind in ("f32", "bf16", "s8")]
    found.append(sweep("f32 1 x n by n x n", between(8, 4096), lambda n: [wave(1, n), wave(n, n)], times,
                       lambda n: n * n))
    return found


def other_sweeps():
    def attend(nx, q, k, v):
        return nx.apply("attention", (q, k, v), scale=0.125)

    def convolve(nx, x, k):
        return nx.conv(x, k, padding=[1, 1, 1, 1])

    counts = between(4, 4 * M)
    return [
        sweep("add of n", counts, lambda n: [wave(n)] * 2, lambda nx, a, b: a + b, lambda n: n),
        sweep("exp of n", counts, lambda n: [wave(n)], lambda nx, a: nx.exp(a), lambda n: n),
        sweep("sum of n", counts, lambda n: [wave(n)], lambda nx, a: nx.sum(a), lambda n: n),
        sweep("sort of n", between(4, M), lambda n: [wave(n)], lambda nx, a: nx.sort(a, axis=0),
              lambda n: n * numpy.log2(n)),
        sweep("transpose of n x n", between(4, 2048), lambda n: [wave(n, n)],
              lambda nx, a: nx.transpose(a, axes=[1, 0]), lambda n: n * n),
        sweep("fft of 1M in lines of n", smooth(8, 1 << 18), lambda n: [lines(M, n)],
              lambda nx, a: nx.fft(a, axis=1), lambda n: M // n * n * numpy.log2(n)),
        sweep("conv 3x3, n to n on 28x28", between(1, 128), lambda n: [wave(1, n, 28, 28), wave(n, n, 3, 3)],
              convolve, lambda n: n * n),
        sweep("cholesky n x n", between(4, 512), lambda n: [workloads.definite(n)],
              lambda nx, a: nx.cholesky(nx.as_type(a, type="f32")), lambda n: n ** 3),
        sweep("qr n x n", between(4, 512), lambda n: [wave(n, n)],
              lambda nx, a: nx.apply("qr", (a,), results=2), lambda n: n ** 3),
    ]


clock = time.perf_counter


def least_time(call):
    call()
    start = clock()
    call()
    count = max(1, min(1000, int(SLICE / LEAST / max(clock() - start, 1e-7))))
    found = []
    for _ in range(LEAST):
        start = clock()
        for _ in range(count):
            call()
        found.append((clock() - start) / count)
    return min(found)


def run(ours, name, sizes, operands, function, work, everything):
    sizes = list(sizes)
    calls = [ours.prepare(function, [ours.put(*o) for o in operands(n)]) for n in sizes]
    passes = [[least_time(call) for call in calls] for _ in range(PASSES)]
    costs = [min(times) / work(n) for n, *times in zip(sizes, *passes)]
    steps = [(b / a, m, n) for a, b, m, n in zip(costs, costs[1:], sizes, sizes[1:])]
    worst = sorted(steps, reverse=True)[:SHOWN]
    print(f"{name:34}" + "".join(f"  {step:5.2f} {f'{m} to {n}':16}" for step, m, n in worst), flush=True)
    for n, cost in zip(sizes, costs) if everything else ():
        print(f"{n:>10} {cost * work(n) * 1e6:12.2f} us {cost * 1e9:10.3f} ns")


def main():
    global clock
    names = [n for n in sys.argv[1:] if n[:2] != "--"]
    if "--cpu" in sys.argv:
        clock = time.process_time
    ours = libraries.Ours()
    for found in other_sweeps() + row_sweeps() + product_sweeps():
        if any(n in found[0] for n in names or [""]):
            run(ours, *found, "--all" in sys.argv)


if __name__ == "__main__":
    main()
