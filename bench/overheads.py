#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What each library takes beside computing: from the start of a process to its first result, the
memory that is resident then, compiling a program of 100 ops, and a call of one, of few elements.

usage: overheads.py [LIBRARY...]

Each library runs in processes of its own, three of them; the least of each figure counts. What it takes
to start Python with numpy, which all have, is shown first.
"""
import json
import resource
import statistics
import subprocess
import sys
import time

OPS, CALLS = 100, 2000


def chain(tanh, x):
    for _ in range(OPS // 2):
        x = tanh(x) + 1.0
    return x


def measure(name):
    import numpy

    figures = {}
    if name != "python":
        import libraries

        library = {x.name: x for x in (libraries.Ours, libraries.Torch, libraries.Jax)}[name]()
        one = [library.put(numpy.ones(16, "f4"), "f32")]
        few = library.prepare(lambda xp, x: x + 1.0, one)
        library.read(few())
    figures["start to first result, ms"] = (time.time() - float(sys.argv[3])) * 1e3
    figures["resident, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if name == "python":
        return figures
    start = time.process_time()
    call = library.prepare(lambda xp, x: chain(xp.tanh, x), one)
    call()
    figures[f"compiling {OPS} ops, ms"] = (time.process_time() - start) * 1e3
    for kind, run in (("call of 1 op, us", few), (f"call of {OPS} ops, us", call)):
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        figures[kind] = statistics.median(times) * 1e6
    return figures


def main():
    if len(sys.argv) > 3 and sys.argv[1] == "--one":
        print(json.dumps(measure(sys.argv[2])))
        return
    for name in ["python"] + (sys.argv[1:] or ["emlx", "torch", "jax"]):
        found = []
        for _ in range(3):
            out = subprocess.run([sys.executable, __file__, "--one", name, str(time.time())],
                                 capture_output=True, text=True)
            if out.returncode == 0:
                found.append(json.loads(out.stdout))
        least = {k: min(f[k] for f in found) for k in found[0]} if found else {}
        print(f"{name:8}" + "".join(f"  {k}: {v:.1f}" for k, v in least.items()), flush=True)


if __name__ == "__main__":
    main()
