# SPDX-License-Identifier: Apache-2.0
"""libemlx from Python, as far as benchmarks need it: ops by name, traced into programs.

A function of the operands is written with `nx`, whose attributes are the ops of the table:

    program = compile(device, lambda nx, a: nx.sum(a * 2.0, axes=[1]), [array])
    result, = program(array)

Calls of programs are compiled, from bench/python/calls.c, where there is a compiler and what
Python's own extensions are made with; else they go through ctypes, which is said once.
"""
import ctypes
import importlib.util
import os
import shlex
import subprocess
import sys
import sysconfig

import numpy

TYPES = ("u2 u4 u8 u16 u32 u64 s2 s4 s8 s16 s32 s64 f8 f8_e4m3fn bf16 f16 f32 f64 c64 c128").split()
DEFAULT = len(TYPES)
# What numpy holds the elements in; narrow floats that it lacks are held as their bits.
STORED = {"u8": "u1", "u16": "u2", "u32": "u4", "u64": "u8", "s8": "i1", "s16": "i2", "s32": "i4",
          "s64": "i8", "f8": "u1", "bf16": "u2", "f16": "f2", "f32": "f4", "f64": "f8", "c64": "c8",
          "c128": "c16"}


class Shape(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_int32), ("dims", ctypes.c_int64 * 16)]


class Error(ctypes.Structure):
    _fields_ = [("code", ctypes.c_int), ("message", ctypes.c_char * 496)]


class NumberValue(ctypes.Union):
    _fields_ = [("s", ctypes.c_int64), ("u", ctypes.c_uint64), ("f", ctypes.c_double * 2)]


class Number(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("value", NumberValue)]


class Attr(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("kind", ctypes.c_int), ("value", Number),
                ("ints", ctypes.POINTER(ctypes.c_int64)), ("count", ctypes.c_size_t),
                ("text", ctypes.c_char_p), ("function", ctypes.c_void_p)]


INT, INTS, BOOL, NUMBER, TEXT = range(5)
SIGNED, UNSIGNED, REAL, COMPLEX = range(4)


def load(path=None):
    """The library, `path` or the one of this tree's build."""
    here = os.path.dirname(os.path.abspath(__file__))
    library = ctypes.CDLL(path or os.path.join(here, "..", "build", "libemlx.so"))
    pointers = ("emlx_op_find", "emlx_tensor_shape", "emlx_block_shape", "emlx_program_output",
                "emlx_archive_entry")
    for name in pointers:
        getattr(library, name).restype = ctypes.c_void_p
    library.emlx_version.restype = ctypes.c_char_p
    library.emlx_tensor_bytes.restype = ctypes.c_size_t
    library.emlx_program_output_count.restype = ctypes.c_size_t
    library.emlx_program_input_count.restype = ctypes.c_size_t
    return library


LIBRARY = load(os.environ.get("EMLX_LIBRARY"))


def address(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def build_calls():
    """The module of python/calls.c, built unless it is there."""
    here = os.path.dirname(os.path.abspath(__file__))
    source = os.path.join(here, "python", "calls.c")
    paths = sysconfig.get_paths()
    built = os.path.join(here, "..", "build", "bench", "calls" +
                         sysconfig.get_config_var("EXT_SUFFIX"))
    if not os.path.exists(built) or os.path.getmtime(built) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(built), exist_ok=True)
        new = f"{built}.{os.getpid()}"
        subprocess.run(shlex.split(sysconfig.get_config_var("LDSHARED")) +
                       ["-O2", "-fPIC", f"-I{paths['include']}",
                        "-I" + os.path.join(here, "..", "include"), source, "-o", new],
                       check=True, capture_output=True)
        os.replace(new, built)
    found = importlib.util.spec_from_file_location("calls", built)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


class CtypesCalls:
    """What python/calls.c has, for where it cannot be built."""

    class Handle:
        __slots__ = ("address",)

        def __new__(cls, address, release):
            handle = super().__new__(cls)
            handle.address = address
            return handle

        def __del__(self):
            LIBRARY.emlx_tensor_release(ctypes.c_void_p(self.address))

    class Caller:
        def __new__(cls, program, results, run, release, type):
            caller = super().__new__(cls)
            caller.error, caller.type = Error(), type
            caller.results = (ctypes.c_void_p * results)()
            return caller

        def __call__(self, *tensors):
            inputs = (ctypes.c_void_p * max(1, len(tensors)))(*[t.address for t in tensors])
            if LIBRARY.emlx_program_run(self.pointer, inputs, ctypes.c_size_t(len(tensors)),
                                        self.results, ctypes.c_size_t(self.outputs),
                                        ctypes.byref(self.error)) != 0:
                raise RuntimeError(f"emlx_program_run: {self.error.message.decode()}")
            return [self.type(r) for r in self.results]


try:
    calls = build_calls()
except (OSError, ImportError, subprocess.CalledProcessError) as reason:
    print(f"emlx.py: calls go through ctypes, which takes 2 us each: {reason}", file=sys.stderr)
    calls = CtypesCalls


def call(name, *arguments):
    error = Error()
    if getattr(LIBRARY, name)(*arguments, ctypes.byref(error)) != 0:
        raise RuntimeError(f"{name}: {error.message.decode()}")


def make_shape(dims):
    shape = Shape(rank=len(dims))
    shape.dims[:len(dims)] = dims
    return shape


def dims(shape):
    return tuple(shape.dims[:shape.rank])


def read_shape(pointer):
    return dims(ctypes.cast(pointer, ctypes.POINTER(Shape)).contents)


def number(value):
    if isinstance(value, int):
        return Number(SIGNED, NumberValue(s=value))
    return Number(REAL, NumberValue(f=(value, 0.0)))


def make_attr(name, value):
    attr = Attr(name=name.encode())
    if isinstance(value, bool):
        attr.kind, attr.value = BOOL, number(int(value))
    elif isinstance(value, str):
        attr.kind, attr.text = TEXT, value.encode()
    elif isinstance(value, (list, tuple)):
        attr.kind, attr.count = INTS, len(value)
        attr.ints = (ctypes.c_int64 * max(1, len(value)))(*value)
    elif isinstance(value, int) and name != "value":
        attr.kind, attr.value = INT, number(value)
    else:
        attr.kind, attr.value = NUMBER, number(value)
    return attr


class Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("format", ctypes.c_char_p), ("type", ctypes.c_int),
                ("shape", Shape), ("block_values", ctypes.c_size_t),
                ("block_bytes", ctypes.c_size_t), ("bytes", ctypes.c_uint64)]


class Archive:
    """Named arrays of a safetensors or a GGUF file."""

    def __init__(self, path):
        self.pointer = ctypes.c_void_p()
        call("emlx_archive_open", path.encode(), ctypes.byref(self.pointer))
        self.entries, at = {}, 0
        while entry := LIBRARY.emlx_archive_entry(self.pointer, ctypes.c_size_t(at)):
            entry = ctypes.cast(entry, ctypes.POINTER(Entry)).contents
            self.entries[entry.name.decode()] = entry
            at += 1

    def __del__(self):
        LIBRARY.emlx_archive_release(self.pointer)

    def tensor(self, device, entry):
        """Without a copy where that is possible; packed blocks are u8."""
        out = ctypes.c_void_p()
        call("emlx_archive_tensor", self.pointer, entry.name, DEFAULT, device.pointer,
             ctypes.byref(out))
        return Tensor(out.value)


class Device:
    def __init__(self, name="cpu"):
        self.pointer = ctypes.c_void_p()
        call("emlx_device_open", name.encode(), ctypes.byref(self.pointer))

    def describe(self):
        text = ctypes.create_string_buffer(256)
        LIBRARY.emlx_device_describe(self.pointer, text, ctypes.c_size_t(256))
        return text.value.decode()


class Tensor(calls.Handle):
    """An array of the library's, on its device."""

    __slots__ = ()

    def __new__(cls, pointer, release=address(LIBRARY.emlx_tensor_release)):
        return super().__new__(cls, pointer, release)

    @property
    def pointer(self):
        return ctypes.c_void_p(self.address)

    @property
    def type(self):
        return TYPES[LIBRARY.emlx_tensor_type(self.pointer)]

    @property
    def shape(self):
        return read_shape(LIBRARY.emlx_tensor_shape(self.pointer))

    def wait(self):
        """Until it is there: a device's work may go on when a call has returned, and reading a
        number, of four bytes or two, waits for it."""
        number = ctypes.create_string_buffer(2)
        call("emlx_tensor_read", self.pointer, ctypes.c_size_t(0), number, ctypes.c_size_t(2))

    @property
    def bytes(self):
        return LIBRARY.emlx_tensor_bytes(self.pointer)

    def numpy(self):
        """A copy of its elements, as STORED says."""
        out = numpy.empty(self.shape, STORED[self.type])
        call("emlx_tensor_read", self.pointer, ctypes.c_size_t(0),
             ctypes.c_void_p(out.ctypes.data), ctypes.c_size_t(out.nbytes))
        return out


def tensor(device, array, type):
    """A copy of elements that are held as STORED says."""
    array = numpy.asarray(array, STORED[type], order="C")
    out, shape = ctypes.c_void_p(), make_shape(array.shape)
    call("emlx_tensor_from_data", device.pointer, TYPES.index(type), ctypes.byref(shape),
         ctypes.c_void_p(array.ctypes.data), ctypes.c_size_t(array.nbytes), ctypes.byref(out))
    return Tensor(out.value)


class Value:
    """What a traced function works on."""

    def __init__(self, trace, id):
        self.trace, self.id = trace, id

    @property
    def type(self):
        type = ctypes.c_int()
        LIBRARY.emlx_block_shape(self.trace.block, ctypes.c_uint32(self.id), ctypes.byref(type))
        return TYPES[type.value]

    @property
    def shape(self):
        return read_shape(LIBRARY.emlx_block_shape(self.trace.block, ctypes.c_uint32(self.id),
                                                   None))

    def with_other(self, op, other, swapped=False):
        pair = (self, self.trace.scalar(other, self.type))
        return self.trace.apply(op, pair[::-1] if swapped else pair)

    def __add__(self, other): return self.with_other("add", other)
    def __sub__(self, other): return self.with_other("subtract", other)
    def __mul__(self, other): return self.with_other("multiply", other)
    def __truediv__(self, other): return self.with_other("divide", other)
    def __radd__(self, other): return self.with_other("add", other, True)
    def __rsub__(self, other): return self.with_other("subtract", other, True)
    def __rmul__(self, other): return self.with_other("multiply", other, True)
    def __rtruediv__(self, other): return self.with_other("divide", other, True)
    def __lt__(self, other): return self.with_other("less", other)
    def __neg__(self): return self.trace.apply("negate", (self,))


class Trace:
    """A block under construction; its attributes are the ops."""

    def __init__(self):
        self.block = ctypes.c_void_p()
        call("emlx_block_new", ctypes.byref(self.block))

    def __getattr__(self, op):
        return lambda *operands, type=None, **attrs: self.apply(op, operands, type, **attrs)

    def apply(self, name, operands, type=None, results=1, **attrs):
        op = LIBRARY.emlx_op_find(name.encode())
        ids = (ctypes.c_uint32 * max(1, len(operands)))(*[o.id for o in operands])
        rows = (Attr * max(1, len(attrs)))(*[make_attr(k, v) for k, v in attrs.items()])
        value = ctypes.c_uint32()
        call("emlx_block_apply", self.block, ctypes.c_void_p(op), ids,
             ctypes.c_size_t(len(operands)), rows, ctypes.c_size_t(len(attrs)),
             DEFAULT if type is None else TYPES.index(type), ctypes.byref(value))
        if results == 1:
            return Value(self, value.value)
        return tuple(Value(self, value.value + i) for i in range(results))

    @classmethod
    def of(cls, function, types_and_shapes):
        """The trace of a function of values."""
        trace = cls()
        values = [trace.input(type, shape) for type, shape in types_and_shapes]
        trace.outputs(function(trace, *values))
        return trace

    def input(self, type, shape):
        value, shape = ctypes.c_uint32(), make_shape(shape)
        call("emlx_block_input", self.block, None, TYPES.index(type), ctypes.byref(shape),
             ctypes.byref(value))
        return Value(self, value.value)

    def outputs(self, values):
        for i, out in enumerate(values if isinstance(values, tuple) else (values,)):
            call("emlx_block_output", self.block, str(i).encode(), ctypes.c_uint32(out.id))

    def loop(self, condition, body, state):
        """Repeats `body` of the state while `condition` of it holds."""
        like = [(s.type, s.shape) for s in state]
        blocks = [Trace.of(function, like).block for function in (condition, body)]
        ids, first = (ctypes.c_uint32 * len(state))(*[s.id for s in state]), ctypes.c_uint32()
        call("emlx_block_while", self.block, *blocks, ids, ctypes.c_size_t(len(state)),
             ctypes.byref(first))
        return tuple(Value(self, first.value + i) for i in range(len(state)))

    def scalar(self, value, type):
        """A number beside an operand of that type takes it, as in Nx."""
        if isinstance(value, Value):
            return value
        return self.apply("constant", (), type, shape=[], value=value)

    # What Nx composes, in its words.

    def matmul(self, a, b):
        return self.dot(a, b, contract_left=[len(a.shape) - 1], batch_left=[],
                        contract_right=[0], batch_right=[])

    def mean(self, a, axis):
        return self.sum(a, axes=[axis], keep_axes=True) / float(a.shape[axis])

    def softmax(self, a):
        last = [len(a.shape) - 1]
        e = self.exp(a - self.reduce_max(a, axes=last, keep_axes=True))
        return e / self.sum(e, axes=last, keep_axes=True)


class Program(calls.Caller):
    """A call gives a list of its results."""

    def __new__(cls, pointer):
        program = super().__new__(cls, pointer.value, LIBRARY.emlx_program_output_count(pointer),
                                  address(LIBRARY.emlx_program_run),
                                  address(LIBRARY.emlx_tensor_release), Tensor)
        program.pointer = pointer
        program.outputs = LIBRARY.emlx_program_output_count(pointer)
        program.inputs = LIBRARY.emlx_program_input_count(pointer)
        return program

    def __del__(self):
        LIBRARY.emlx_program_release(self.pointer)

    def run(self, tensors, given):
        """`given` are among the tensors, and are nobody's afterwards: results may take their memory."""
        inputs = (ctypes.c_void_p * max(1, len(tensors)))(*[t.address for t in tensors])
        outputs = (ctypes.c_void_p * self.outputs)()
        gone = {id(t) for t in given}
        flags = (ctypes.c_bool * max(1, len(tensors)))(*[id(t) in gone for t in tensors])
        for t in given:
            t.address = 0
        call("emlx_program_run_given", self.pointer, inputs, flags, ctypes.c_size_t(len(tensors)),
             outputs, ctypes.c_size_t(self.outputs))
        return [Tensor(o) for o in outputs]


def compile(device, function, tensors):
    trace, pointer = Trace.of(function, [(t.type, t.shape) for t in tensors]), ctypes.c_void_p()
    call("emlx_program_compile", trace.block, device.pointer, ctypes.byref(pointer))
    return Program(pointer)


def load_program(device, path):
    pointer = ctypes.c_void_p()
    call("emlx_program_load", path.encode(), device.pointer, ctypes.byref(pointer))
    return Program(pointer)
