# SPDX-License-Identifier: Apache-2.0
"""The array libraries that are compared, each with the same few functions:

put(array, type)      an operand from what `emlx.STORED` holds the type in
lacks                         types that it has not got
prepare(function, operands)   a call without arguments that computes and waits
read(result)          results as a list of numpy arrays of float64 (complex128, int64)

A library that cannot be imported is left out. All compute on THREADS threads.
"""
import os

import numpy

import emlx

THREADS = min(2, os.cpu_count())


def widen(array, type):
    """Elements held as bits become numbers, and all as wide as there is."""
    if type == "bf16":
        array = (array.astype("u4") << 16).view("f4")
    elif type == "f8":
        array = (array.astype("u2") << 8).view("f2")
    if numpy.iscomplexobj(array):
        return array.astype("c16")
    return array.astype("i8" if array.dtype.kind in "iub" else "f8")


def narrow(array, type):
    """An array of f32 or integers as elements of a type; to nearest, ties to even."""
    if type == "bf16":
        bits = array.astype("f4").view("u4")
        return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype("u2")
    if type == "f8":
        return ((array.astype("f2").view("u2") + 0x7F) >> 8).astype("u1")
    return array.astype(emlx.STORED[type])


class Ours:
    name, lacks = "emlx", ()

    def __init__(self):
        self.device = emlx.Device()
        self.title = f"emlx {emlx.LIBRARY.emlx_version().decode()}, {self.device.describe()}"

    def put(self, array, type):
        return emlx.tensor(self.device, array, type)

    def prepare(self, function, operands):
        program = emlx.compile(self.device, function, operands)
        return lambda: program(*operands)

    def load(self, path, operands):
        program = emlx.load_program(self.device, path)
        return lambda: program(*operands)

    def read(self, result):
        return [widen(t.numpy(), t.type) for t in result]


def flat(result):
    return list(result) if isinstance(result, (tuple, list)) else [result]


class Numpy:
    name, lacks = "numpy", ("bf16", "f8")

    def __init__(self):
        self.module, self.title = numpy, f"numpy {numpy.__version__}"

    def put(self, array, type):
        return array

    def prepare(self, function, operands):
        return lambda: function(numpy, *operands)

    def read(self, result):
        return [widen(numpy.asarray(r), "") for r in flat(result)]


class Torch:
    name, lacks = "torch", ()
    types = {"bf16": "bfloat16", "f16": "float16", "f8": "float8_e5m2"}

    def __init__(self):
        import torch

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self.module, self.title = torch, f"torch {torch.__version__}"

    def put(self, array, type):
        torch = self.module
        if type in self.types:
            bits = numpy.ascontiguousarray(array).view("i2" if type != "f8" else "u1")
            return torch.from_numpy(bits.copy()).view(getattr(torch, self.types[type]))
        return torch.from_numpy(array.copy())

    def prepare(self, function, operands):
        return lambda: function(self.module, *operands)

    def read(self, result):
        torch = self.module
        return [widen((r.to(torch.float64) if r.is_floating_point() else r).numpy(), "")
                for r in flat(result)]


class Jax:
    name, lacks = "jax", ()

    def __init__(self):
        # XLA takes as many threads as the process may run on.
        import jax

        jax.config.update("jax_enable_x64", True)
        jax.config.update("jax_platforms", "cpu")
        self.jax, self.title = jax, f"jax {jax.__version__} (XLA)"
        self.types = {"bf16": jax.numpy.bfloat16, "f16": jax.numpy.float16,
                      "f8": jax.numpy.float8_e5m2}

    def put(self, array, type):
        if type in self.types:
            return self.jax.numpy.asarray(numpy.ascontiguousarray(array).view(self.types[type]))
        return self.jax.numpy.asarray(array)

    def prepare(self, function, operands):
        compiled = self.jax.jit(lambda *xs: function(self.jax.numpy, *xs))
        return lambda: self.jax.block_until_ready(compiled(*operands))

    def read(self, result):
        return [widen(numpy.asarray(r.astype("float64") if r.dtype.itemsize < 4 and
                                    self.jax.numpy.issubdtype(r.dtype, self.jax.numpy.floating)
                                    else r), "") for r in flat(result)]


class Mlx:
    name, lacks = "mlx", ("f64", "f8", "c128")

    def __init__(self):
        import mlx.core

        self.module, self.title = mlx.core, "mlx " + mlx.core.__version__
        mlx.core.set_default_device(mlx.core.cpu)

    def put(self, array, type):
        values = self.module.array(array)
        return values.view(self.module.bfloat16) if type == "bf16" else values

    def prepare(self, function, operands):
        def run():
            result = function(self.module, *operands)
            self.module.eval(result)
            return result

        return run

    def read(self, result):
        mx = self.module
        return [widen(numpy.array(r.astype(mx.float32) if r.dtype == mx.bfloat16 else r), "")
                for r in flat(result)]


def installed(names=None):
    """Ours first, then those that are there, and why others are not."""
    found, missing = [], {}
    for library in (Ours, Numpy, Torch, Jax, Mlx):
        if names and library.name not in names and library is not Ours:
            continue
        try:
            found.append(library())
        except (ImportError, OSError) as reason:
            missing[library.name] = str(reason).split("\n")[0]
    return found, missing
