#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every workload on our library and on each that is installed, interleaved in one run.

usage: run.py [--rounds N] [--libraries a,b] [--json FILE] [--earlier FILE] [--seconds N]
              [--results FILE] [--cpu] [NAME...]

A NAME keeps to the rows that contain it. For each row the libraries' results are compared, then
they take turns: in each round every library runs until some milliseconds have passed, and its
median of that round is set beside ours of the same round. What is printed is the median over
rounds: our milliseconds, how many times as long each other takes, and how far from the machine's
limit we are: the memory's rate, as an addition of two arrays in place has it, or for products the
best rate that any library reaches for that type. --cpu takes the time that the process' threads
compute instead of the time that passes, for a machine that others use at the same time.
"""
import argparse
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

# A library's threads must not spin while another one is timed.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy

import libraries
import workloads

SLICE, PAUSE = 8e-3, 3e-3
TOLERANCES = {"f8": 2e-1, "bf16": 2e-2, "f16": 4e-3, "f64": 1e-9}


class Limits:
    """What memory allows: an addition into an array that is there, on all threads."""

    COUNT = 1 << 24

    def __init__(self):
        self.arrays = [numpy.ones(self.COUNT, "f4") for _ in range(3)]
        self.pool = ThreadPoolExecutor(libraries.THREADS)

    def rate(self):
        a, b, c = (numpy.array_split(x, libraries.THREADS) for x in self.arrays)
        times = []
        for _ in range(3):
            start = clock()
            list(self.pool.map(numpy.add, a, b, c))
            times.append(clock() - start)
        return 12 * self.COUNT / min(times)


clock = time.perf_counter


def repeat(run, count):
    times = []
    for _ in range(count):
        start = clock()
        run()
        times.append(clock() - start)
    return statistics.median(times)


def prepare(row, library, operands):
    """The call, or why there is none."""
    function = row.function(library.name)
    if function is None:
        return None, None
    if any(type in library.lacks for _, type in operands):
        return None, None
    try:
        call = library.prepare(function, [library.put(*o) for o in operands])
        return call, library.read(call())
    except Exception as reason:
        return None, f"{type(reason).__name__}: {reason}".split("\n")[0][:120]


def distance(found, wanted):
    worst = 0.0
    for x, y in zip(found, wanted):
        if x.shape != y.shape:
            return numpy.inf
        scale = numpy.abs(y).max(initial=0) or 1.0
        worst = max(worst, float(numpy.abs(x - y).max(initial=0) / scale))
    return worst


def compare(row, results):
    """Those whose results are far from the first other's, ours included."""
    names = [n for n in results if n != "emlx"]
    if not row.check or not names or "emlx" not in results:
        return {}
    kind = row.operands[0][3] if len(row.operands[0]) > 3 else "f32"
    tolerance = row.tolerance or TOLERANCES.get(kind, 1e-4)
    far = {n: distance(results[n], results["emlx"]) for n in names}
    return {n: d for n, d in far.items() if not d <= tolerance}


def take_turns(row, calls, rounds, limits):
    """Every library's medians of each round, and the memory's rate meanwhile."""
    times, bandwidth = {name: [] for name in calls}, []
    counts = {name: max(1, min(200, int(SLICE / max(repeat(call, 1), 1e-7))))
              for name, call in calls.items()}
    names = list(calls)
    for turn in range(rounds):
        if row.bytes:
            bandwidth.append(limits.rate())
        for name in names[turn % len(names):] + names[:turn % len(names)]:
            time.sleep(PAUSE)
            gc.collect()
            calls[name]()
            times[name].append(repeat(calls[name], counts[name]))
    return times, bandwidth


def measure(row, found, rounds, limits):
    operands = [o[1](*o[2:]) for o in row.operands]
    calls, results, refused = {}, {}, {}
    for library in found:
        call, result = prepare(row, library, operands)
        if call is not None:
            calls[library.name], results[library.name] = call, result
        elif result is not None:
            refused[library.name] = result
    differs = compare(row, results)
    del results
    times, bandwidth = take_turns(row, calls, rounds, limits)
    return summarise(row, times, bandwidth, refused, differs)


def summarise(row, times, bandwidth, refused, differs):
    line = {"row": row.name}
    for key, value in (("refused", refused), ("differs", differs), ("note", row.note)):
        if value:
            line[key] = value
    line["ms"] = {n: round(statistics.median(t) * 1e3, 5) for n, t in times.items()}
    ours = times.get("emlx")
    if ours:
        line["ratio"] = {n: round(statistics.median(x / y for x, y in zip(t, ours)), 3)
                         for n, t in times.items() if n != "emlx"}
        if bandwidth:
            seconds = [row.bytes / b for b in bandwidth]
            line["memory"] = round(statistics.median(y / s for y, s in zip(ours, seconds)), 3)
    if row.flops:
        line["rate"] = row.rate
        line["gflops"] = {n: round(row.flops / statistics.median(t) / 1e9, 2)
                          for n, t in times.items()}
    return line


def add_product_limits(lines):
    """Against the highest rate of any library for that type in this run."""
    best = {}
    for line in lines:
        for rate in line.get("gflops", {}).values():
            best[line["rate"]] = max(best.get(line["rate"], 0), rate)
    for line in lines:
        if "emlx" in line.get("gflops", {}):
            line["product"] = round(best[line["rate"]] / line["gflops"]["emlx"], 3)


def limit_of(line):
    """The limit that binds: the one that is nearer."""
    return min((line[k] for k in ("memory", "product") if k in line), default=None)


def table(lines, names):
    width = max(len(line["row"]) for line in lines) + 2
    yield f"{'':<{width}}{'emlx, ms':>10}" + "".join(f"{n:>9}" for n in names) + \
          f"{'best/ours':>11}{'ours/limit':>12}"
    for line in lines:
        ratios = line.get("ratio", {})
        cells = "".join(f"{ratios[n]:8.2f}{'!' if n in line.get('differs', {}) else ' '}"
                        if n in ratios else " " * 9 for n in names)
        best = f"{min(ratios.values()):11.2f}" if ratios else " " * 11
        limit = limit_of(line)
        yield f"{line['row']:<{width}}{line['ms'].get('emlx', float('nan')):10.3f}{cells}{best}" + \
              (f"{limit:12.2f}" if limit else "")


def machine(found, missing):
    def first(command):
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True,
                                  cwd=os.path.dirname(os.path.abspath(__file__))).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return "unknown"

    model = "unknown"
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as info:
            names = [x.split(":")[1].strip() for x in info if x.startswith("model name")]
            model = names[0] if names else model
    return {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {model}",
            "commit": first(["git", "describe", "--always", "--dirty"]),
            "threads": libraries.THREADS, "libraries": [x.title for x in found],
            "missing": missing}


def write_results(path, about, lines, names):
    with open(path, "w", encoding="utf-8") as out:
        out.write("# The last run that was kept\n\nWritten by `bench/run.py --results`. First our median in "
                  "milliseconds, then how many times as\nlong each other library takes (below 1 it "
                  "is ahead of us), the smallest of these, and how many times\nas long as the "
                  "machine's limit we take: the memory's rate, or for products the best rate that any"
                  "\nlibrary reached for the type in this run.\n\n")
        out.write(f"- {about['machine']}, {about['threads']} threads\n- commit {about['commit']}\n")
        out.write(f"- times are {about['times']}; rows: {about['rows']}\n")
        out.write("".join(f"- {title}\n" for title in about["libraries"]))
        out.write("\n```\n" + "\n".join(table(lines, names)) + "\n```\n")
        for line in lines:
            if "note" in line:
                out.write(f"\n- {line['row']}: {line['note']}")
        out.write("\n" if any("note" in line for line in lines) else "")


def keep(path, about, lines):
    if path:
        with open(path, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(x) + "\n" for x in [about] + lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--libraries", default="")
    parser.add_argument("--json", default="")
    parser.add_argument("--earlier", default="", help="rows that --json has written and that are kept")
    parser.add_argument("--seconds", type=float, default=1e9,
                        help="how long; --earlier goes on from there")
    parser.add_argument("--results", default="")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    global clock
    clock = time.process_time if options.cpu else time.perf_counter
    found, missing = libraries.installed([x for x in options.libraries.split(",") if x])
    about, limits, lines = machine(found, missing), Limits(), []
    about["times"] = "those that threads computed, added up" if options.cpu else "those that passed"
    about["rows"] = ", ".join(f"'{n}'" for n in options.names) or "all"
    print("\n".join([about["machine"], f"commit {about['commit']}"] + about["libraries"]))
    for name, reason in missing.items():
        print(f"{name}: left out, {reason}")
    if options.earlier and os.path.exists(options.earlier):
        with open(options.earlier, encoding="utf-8") as kept:
            lines += [line for line in map(json.loads, kept) if "row" in line]
    known, end = {line["row"] for line in lines}, time.perf_counter() + options.seconds
    for family in workloads.FAMILIES:
        for row in family():
            wanted = any(n in row.name for n in options.names or [""])
            if row.name in known or not wanted or time.perf_counter() > end:
                continue
            lines.append(measure(row, found, options.rounds, limits))
            keep(options.json, about, lines)
            if sys.stderr.isatty():
                print(f"\r{len(lines)} {row.name}\x1b[K", end="", file=sys.stderr, flush=True)
    if not lines:
        sys.exit("no such row")
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
    add_product_limits(lines)
    names = [x.name for x in found if x.name != "emlx"]
    print("\n".join(table(lines, names)))
    for line in lines:
        for kind in ("refused", "differs"):
            for name, reason in line.get(kind, {}).items():
                print(f"{line['row']}: {name} {kind}: {reason}")
    keep(options.json, about, lines)
    if options.results:
        write_results(options.results, about, lines, names)


if __name__ == "__main__":
    main()
