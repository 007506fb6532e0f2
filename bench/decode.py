#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Language models of real shapes with random weights: tokens a second of prompts and of decoding,
ours beside llama.cpp (llama-cpp-python), compiled torch and MLX, interleaved as in run.py.

usage: decode.py --files DIR [--model NAME] [--kinds a,b] [--rounds N] [--contexts a,b]
                 [--prompt N] [--busy] [--libraries a,b] [--json FILE]

DIR keeps the models' files, which are made at the first run (they need llama-cpp-python and gguf).
A round is 8 tokens of each library, then a reading of 512 MB by two threads, in several ways of which
the quickest counts: what is printed is the median over rounds, and, beside it, of ours the time that
reading the weights once would take at the rate of the same round. --busy has a thread of another
process compute meanwhile.
"""
import argparse
import json
import multiprocessing
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads are ours

import numpy

import models

AFFINE = {"affine_4": dict(mode="affine", bits=4, group_size=64),
          "affine_8": dict(mode="affine", bits=8, group_size=64)}
TOKENS = 8


class Memory:
    """How many bytes a second all threads read together: the quickest of some ways to read, as one
    stream a thread without anything asked for ahead is slower than what memory gives."""

    def __init__(self):
        from concurrent.futures import ThreadPoolExecutor

        self.parts = numpy.array_split(numpy.ones(1 << 26, "f8"), models.THREADS)
        self.pool = ThreadPoolExecutor(models.THREADS)

    @staticmethod
    def largest(part):
        part.max()

    @staticmethod
    def bits(part):
        numpy.bitwise_or.reduce(part.view("u8"))

    @staticmethod
    def halves(part):
        middle = part.size // 2
        numpy.dot(part[:middle], part[middle:2 * middle])

    def rate(self):
        times = []
        for way in (self.largest, self.bits, self.halves):
            start = time.perf_counter()
            list(self.pool.map(way, self.parts))
            times.append(time.perf_counter() - start)
        return sum(p.nbytes for p in self.parts) / min(times)


def compute():
    while True:
        sum(range(1000))


def open_models(decoder, kind, folder, room, names):
    base = models.file_of(decoder, "bf16" if kind in AFFINE else kind, folder)
    found = [models.Ours(decoder, base, room, AFFINE.get(kind))]
    if "llama.cpp" in names and kind not in AFFINE:
        found.append(models.LlamaCpp(decoder, base, room))
    if "torch" in names and kind == "bf16":
        found.append(models.Torch(decoder, base, room))
    if "mlx" in names and (kind == "bf16" or kind in AFFINE):
        found.append(models.Mlx(decoder, base, room, AFFINE.get(kind)))
    return found


def timed(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def run_prompt(found, count, rounds):
    """Seconds by library, and how far its logits are from the first other's."""
    tokens = [7 * i % 1000 for i in range(count)]
    times, logits, states = {m.name: [] for m in found}, {}, {}
    for turn in range(rounds + 1):
        for m in found:
            time.sleep(0.05)
            caches = m.new_caches()
            seconds, (token, values, caches) = timed(m.prompt, tokens, caches)
            if turn > 0:
                times[m.name].append(seconds)
            states[m.name] = token, caches
            logits[m.name] = values
    return times, states, logits


def run_decode(found, states, context, rounds, memory):
    times, rates = {m.name: [] for m in found}, []
    at = context
    for turn in range(rounds + 1):
        for m in found[turn % len(found):] + found[:turn % len(found)]:
            time.sleep(0.05)
            seconds, states[m.name] = timed(m.decode, states[m.name][0], at, TOKENS,
                                            states[m.name][1])
            if turn > 0:
                times[m.name].append(seconds / TOKENS)
        at += TOKENS
        rates.append(memory.rate())
    return times, rates


def flat(logits):
    if hasattr(logits, "numpy"):
        bits = logits.numpy()
        return (bits.astype("u4") << 16).view("f4").ravel()
    return numpy.asarray(logits, "f4").ravel()


def line_of(found, times, count, rates=None):
    medians = {n: statistics.median(t) for n, t in times.items() if t}
    line = {"tokens/s": {n: round(count / t, 1) for n, t in medians.items()}}
    ours = times["emlx"]
    line["ratio"] = {n: round(statistics.median(x / y for x, y in zip(t, ours)), 2)
                     for n, t in times.items() if n != "emlx" and t}
    if rates:
        streams = [found[0].bytes / r for r in rates[1:]]
        line["ours/streaming"] = round(statistics.median(y / s for y, s in zip(ours, streams)), 2)
        line["GB/s"] = round(statistics.median(rates) / 1e9, 1)
    return line


def run_kind(options, decoder, kind, memory):
    room = max(options.contexts + [options.prompt]) + (options.rounds + 2) * TOKENS
    room = (room + 255) // 256 * 256
    found = open_models(decoder, kind, options.files, room, options.libraries)
    for context in options.contexts:
        prompts, states, logits = run_prompt(found, context, 0 if context != options.prompt
                                             else options.rounds // 2)
        if any(prompts.values()):
            yield f"prompt {context}", line_of(found, prompts, context)
        ours = flat(logits["emlx"])
        far = {n: round(float(numpy.abs(flat(x) - ours).max() / numpy.abs(ours).max()), 4)
               for n, x in logits.items() if n != "emlx"}
        times, rates = run_decode(found, states, context, options.rounds, memory)
        line = line_of(found, times, 1, rates)
        line["logits"] = far
        yield f"decode at {context}", line


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", required=True)
    parser.add_argument("--model", default="qwen3-0.6b")
    parser.add_argument("--kinds", default="bf16,q8_0,q4_0,q4_k,affine_4,affine_8")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--contexts", default="64,512")
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--libraries", default="llama.cpp,torch,mlx")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--json")
    options = parser.parse_args()
    options.contexts = [int(c) for c in options.contexts.split(",")]
    decoder, memory, lines = models.DECODERS[options.model], Memory(), []
    if options.busy:
        multiprocessing.Process(target=compute, daemon=True).start()
    for kind in options.kinds.split(","):
        for what, line in run_kind(options, decoder, kind, memory):
            lines.append({"model": decoder.name, "kind": kind, "what": what, **line})
            print(f"{decoder.name} {kind:9} {what:14} {line}", flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as out:
            json.dump(lines, out, indent=1)


if __name__ == "__main__":
    main()
