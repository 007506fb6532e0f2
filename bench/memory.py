#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Memory of whole programs, by library: what is resident before, with the library loaded and the operands
there, and how much more is at the highest, compiling included.

usage: memory.py [NAME...]

A NAME keeps to the rows of workloads.py that contain it, else those of whole programs are taken. Each row of
each library runs in a process of its own. Linux only.
"""
import gc
import json
import subprocess
import sys

import workloads

RUNS = 5


def megabytes(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def measure(name, row):
    import numpy

    import libraries

    library = {x.name: x for x in (libraries.Ours, libraries.Torch, libraries.Jax)}[name]()
    one = [library.put(numpy.ones(16, "f4"), "f32")]
    library.read(library.prepare(lambda xp, x: x + 1.0, one)())
    operands = [library.put(*o[1](*o[2:])) for o in row.operands]
    gc.collect()
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    before = megabytes("VmRSS")
    call = library.prepare(row.function(name), operands)
    for _ in range(RUNS):
        call()
    return before, megabytes("VmHWM") - before


def rows(names):
    for family in workloads.FAMILIES:
        for row in family():
            if any(name in row.name for name in names):
                yield row


def main():
    if len(sys.argv) > 3 and sys.argv[1] == "--one":
        print(json.dumps(measure(sys.argv[2], next(r for r in rows(sys.argv[3:]) if r.name == sys.argv[3]))))
        return
    for row in rows(sys.argv[1:] or ["program: "]):
        for name in ("emlx", "torch", "jax"):
            out = subprocess.run([sys.executable, __file__, "--one", name, row.name],
                                 capture_output=True, text=True)
            if out.returncode == 0:
                before, more = json.loads(out.stdout)
                print(f"{row.name:36} {name:6} {before:8.1f} MB before {more:8.1f} MB more", flush=True)


if __name__ == "__main__":
    main()
