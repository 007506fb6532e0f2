#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A GPT-2 with random weights in bf16 on a GPU: what it takes to read 8 times 512 tokens, written out
and with attention taken whole, and one more word; ours beside compiled PyTorch where it is installed.

usage: gpt2.py [--device NAME] [--rounds N] [--small] [--ours]

What is printed are microseconds of one run among others that follow each other, the median over
rounds, in which the libraries take turns, and how many milliseconds the first run took from the function on.
"""
import argparse
import math
import statistics
import time

import numpy

import emlx
import libraries


class Shape:
    def __init__(self, small):
        self.layers, self.size, self.heads, self.words, self.length, self.batch = (
            (2, 64, 4, 128, 32, 2) if small else (12, 768, 12, 50304, 512, 8))
        self.head = self.size // self.heads


LAYER = 12  # weights of a layer


def weight_shapes(s):
    c = s.size
    layer = [(c,), (c,), (c, 3 * c), (3 * c,), (c, c), (c,), (c,), (c,), (c, 4 * c), (4 * c,),
             (4 * c, c), (c,)]
    return [(s.words, c), (s.length, c), (c,), (c,)] + layer * s.layers


def make_weights(s):
    """f32 arrays: the first vector of a pair is a scale near one."""
    generator = numpy.random.default_rng(0)
    out = [generator.standard_normal(shape, "f4") * 0.02 for shape in weight_shapes(s)]
    for at in [2] + [4 + LAYER * i + j for i in range(s.layers) for j in (0, 6)]:
        out[at] += 1
    return out


# Ours -------------------------------------------------------------------------------------------


def product(nx, x, w):
    return nx.dot(x, w, contract_left=[len(x.shape) - 1], contract_right=[0], batch_left=[],
                  batch_right=[])


def norm(nx, x, scale, offset):
    x = nx.as_type(x, type="f32")
    x = x - nx.mean(x, len(x.shape) - 1)
    x = x * nx.rsqrt(nx.mean(x * x, len(x.shape) - 1) + 1e-5)
    return nx.as_type(x, type="bf16") * scale + offset


def gelu(nx, x):
    return 0.5 * x * (1.0 + nx.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))


def attend_plain(nx, s, q, k, v, mask):
    scores = nx.dot(q, k, contract_left=[3], contract_right=[3], batch_left=[0, 1], batch_right=[0, 1])
    scores = nx.as_type(scores, type="f32") * s.head ** -0.5
    mask = nx.broadcast(mask, shape=scores.shape, axes=[2, 3][2 - len(mask.shape):])
    far = nx.broadcast(nx.scalar(-1e9, "f32"), shape=scores.shape, axes=[])
    weights = nx.as_type(nx.softmax(nx.select(mask, scores, far)), type="bf16")
    return nx.dot(weights, v, contract_left=[3], contract_right=[2], batch_left=[0, 1],
                  batch_right=[0, 1])


def block(nx, s, x, w, attend):
    batch, length, size = x.shape
    mixed = product(nx, norm(nx, x, w[0], w[1]), w[2]) + w[3]
    parts = [nx.slice(mixed, starts=[0, 0, i * size], lengths=[batch, length, size]) for i in range(3)]
    q, k, v = (nx.transpose(nx.reshape(p, shape=[batch, length, s.heads, s.head]), axes=[0, 2, 1, 3])
               for p in parts)
    y = nx.reshape(nx.transpose(attend(q, k, v), axes=[0, 2, 1, 3]), shape=[batch, length, size])
    x = x + product(nx, y, w[4]) + w[5]
    h = gelu(nx, product(nx, norm(nx, x, w[6], w[7]), w[8]) + w[9])
    return x + product(nx, h, w[10]) + w[11]


def logits(nx, x, w):
    return nx.dot(norm(nx, x, w[2], w[3]), w[0], contract_left=[2], contract_right=[1], batch_left=[],
                  batch_right=[])


def layer_weights(w, i):
    return w[4 + LAYER * i:4 + LAYER * (i + 1)]


def ours_forward(s, whole):
    def forward(nx, ids, *w):
        x = nx.take(w[0], ids, axis=0) + w[1]
        rows, columns = (nx.iota(shape=[s.length, s.length], axis=a, type="s32") for a in (0, 1))
        mask = nx.less_equal(columns, rows)

        def attend(q, k, v):
            if whole:
                return nx.attention(q, k, v, scale=s.head ** -0.5, causal=True)
            return attend_plain(nx, s, q, k, v, mask)
        for i in range(s.layers):
            x = block(nx, s, x, layer_weights(w, i), attend)
        return logits(nx, x, w)
    return forward


def ours_word(s):
    """The results are the logits and the caches with the word in."""
    def word(nx, id, position, *operands):
        caches, w = operands[:2 * s.layers], operands[2 * s.layers:]
        zero = nx.scalar(0, "s32")
        x = nx.take(w[0], id, axis=0) + nx.take(w[1], nx.reshape(position, shape=[1, 1]), axis=0)
        mask = nx.less_equal(nx.iota(shape=[s.length], axis=0, type="s32"), position)
        kept = []
        for i in range(s.layers):
            def attend(q, k, v, i=i):
                pair = [nx.put_slice(c, t, zero, zero, position, zero)
                        for c, t in zip(caches[2 * i:2 * i + 2], (k, v))]
                kept.extend(pair)
                return attend_plain(nx, s, q, *pair, mask)
            x = block(nx, s, x, layer_weights(w, i), attend)
        return (logits(nx, x, w), *kept)
    return word


class Ours:
    name = "emlx"

    def __init__(self, s, device, weights):
        self.s, self.device = s, emlx.Device(device)
        self.weights = [emlx.tensor(self.device, libraries.narrow(w, "bf16"), "bf16") for w in weights]

    def integers(self, values):
        return emlx.tensor(self.device, numpy.asarray(values, "i4"), "s32")

    def forward(self, whole):
        s = self.s
        ids = numpy.arange(s.batch * s.length) * 7919 % s.words
        operands = [self.integers(ids.reshape(s.batch, s.length))] + self.weights
        program = emlx.compile(self.device, ours_forward(s, whole), operands)
        return lambda: program(*operands)[0]

    def word(self):
        s = self.s
        empty = numpy.zeros((1, s.heads, s.length, s.head), "u2")
        caches = [emlx.tensor(self.device, empty, "bf16") for _ in range(2 * s.layers)]
        fixed = [self.integers([[5]]), self.integers(s.length - 2)]
        program = emlx.compile(self.device, ours_word(s), fixed + caches + self.weights)

        def run():
            nonlocal caches
            out = program.run(fixed + caches + self.weights, caches)
            caches = out[1:]
            return out[0]
        return run

    @staticmethod
    def wait(result):
        result.wait()

    @staticmethod
    def array(result):
        return libraries.widen(result.numpy(), "bf16")


# PyTorch ----------------------------------------------------------------------------------------


class Torch:
    name = "torch"

    def __init__(self, s, device, weights):
        import torch

        self.s, self.torch, self.device = s, torch, "cpu" if device == "cpu" else "cuda"
        torch.set_grad_enabled(False)
        self.weights = [self.fixed(torch.from_numpy(w).to(self.device, torch.bfloat16)) for w in weights]

    def fixed(self, tensor):
        """Graphs then take it from where it lies."""
        self.torch._dynamo.mark_static_address(tensor)
        return tensor

    def norm(self, x, scale, offset):
        x = x.float()
        x = x - x.mean(-1, keepdim=True)
        return (x * self.torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5)).bfloat16() * scale + offset

    def plain(self, q, k, v, mask):
        scores = (q @ k.transpose(-1, -2)).float() * self.s.head ** -0.5
        return scores.masked_fill(~mask, -1e9).softmax(-1).bfloat16() @ v

    def block(self, x, w, attend):
        s, (batch, length, size) = self.s, x.shape
        mixed = self.norm(x, w[0], w[1]) @ w[2] + w[3]
        q, k, v = (p.reshape(batch, length, s.heads, s.head).permute(0, 2, 1, 3)
                   for p in mixed.split(size, -1))
        x = x + attend(q, k, v).permute(0, 2, 1, 3).reshape(batch, length, size) @ w[4] + w[5]
        h = self.norm(x, w[6], w[7]) @ w[8] + w[9]
        h = 0.5 * h * (1 + self.torch.tanh(0.7978845608 * (h + 0.044715 * h * h * h)))
        return x + h @ w[10] + w[11]

    def logits(self, x, w):
        return self.norm(x, w[2], w[3]) @ w[0].T

    def forward(self, whole):
        t, s, w = self.torch, self.s, self.weights
        ids = (t.arange(s.batch * s.length, device=self.device) * 7919 % s.words).reshape(s.batch, s.length)
        mask = t.ones(s.length, s.length, device=self.device, dtype=t.bool).tril()

        def attend(q, k, v):
            if whole:
                return t.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            return self.plain(q, k, v, mask)

        def function(ids, *w):
            x = w[0][ids] + w[1]
            for i in range(s.layers):
                x = self.block(x, layer_weights(w, i), attend)
            return self.logits(x, w)
        compiled = t.compile(function, dynamic=False)
        return lambda: compiled(ids, *w)

    def word(self):
        t, s, w = self.torch, self.s, self.weights
        id, position = t.full((1, 1), 5, device=self.device), t.full((1,), s.length - 2, device=self.device)
        mask = t.arange(s.length, device=self.device) <= s.length - 2
        caches = [self.fixed(t.zeros(1, s.heads, s.length, s.head, device=self.device, dtype=t.bfloat16))
                  for _ in range(2 * s.layers)]

        def function(id, position, caches, *w):
            x = w[0][id] + w[1][position]
            for i in range(s.layers):
                def attend(q, k, v, i=i):
                    pair = [c.index_copy_(2, position, z) for c, z in zip(caches[2 * i:2 * i + 2], (k, v))]
                    return self.plain(q, *pair, mask)
                x = self.block(x, layer_weights(w, i), attend)
            return self.logits(x, w)
        mode = {} if self.device == "cpu" else {"mode": "reduce-overhead"}
        compiled = t.compile(function, dynamic=False, **mode)
        return lambda: compiled(id, position, caches, *w)

    def wait(self, result):
        if self.device == "cuda":
            self.torch.cuda.synchronize()

    @staticmethod
    def array(result):
        return result.float().cpu().numpy()


# Measuring --------------------------------------------------------------------------------------


def round_of(library, run, seconds=0.05):
    start = time.perf_counter()
    library.wait(run())
    count = max(2, min(200, int(seconds / (time.perf_counter() - start))))
    start = time.perf_counter()
    for _ in range(count):
        result = run()
    library.wait(result)
    return (time.perf_counter() - start) / count * 1e6


def measure(name, compared, make, rounds):
    runs, results, columns = [], [], []
    for library in compared:
        start = time.perf_counter()
        run = make(library)
        result = run()
        library.wait(result)
        columns.append(f"{library.name}'s first {(time.perf_counter() - start) * 1e3:.0f} ms")
        results.append(library.array(result))
        runs.append(run)
    for library, run in zip(compared, runs):
        for _ in range(3):
            library.wait(run())
    times = [[round_of(library, run) for library, run in zip(compared, runs)] for _ in range(rounds)]
    medians = [statistics.median(column) for column in zip(*times)]
    ratios = [statistics.median(row[i] / row[0] for row in times) for i in range(len(runs))]
    text = "  ".join(f"{library.name} {median:8.1f} us ({ratio:.2f})"
                     for library, median, ratio in zip(compared, medians, ratios))
    off = [float(numpy.abs(results[0] - other).max() / numpy.abs(other).max()) for other in results[1:]]
    print(f"{name:32} {text}  apart by {max(off, default=0):.1e}; {', '.join(columns)}", flush=True)
    if not all(math.isfinite(x) and x < 0.05 for x in off):
        raise SystemExit(f"{name}: results differ")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--ours", action="store_true")
    options = parser.parse_args()
    s = Shape(options.small)
    weights, compared = make_weights(s), []
    for kind in (Ours,) if options.ours else (Ours, Torch):
        try:
            compared.append(kind(s, options.device, weights))
        except ImportError as reason:
            print(f"skipped: {kind.name}; {reason}")
    if options.device == "cpu" and not options.small:
        print("this is meant for a GPU: --small is for a CPU")
    measure("8 x 512 tokens, written out", compared, lambda of: of.forward(False), options.rounds)
    measure("8 x 512 tokens, attention whole", compared, lambda of: of.forward(True), options.rounds)
    measure("one word behind 510", compared, lambda of: of.word(), options.rounds)


if __name__ == "__main__":
    main()
