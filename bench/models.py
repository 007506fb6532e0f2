# SPDX-License-Identifier: Apache-2.0
"""Decoders of real shapes with random weights: GGUF files of every kind that llama.cpp writes, the
same model as a program of ours over the mapped file, and written for torch and for MLX."""
import ctypes
import os

import numpy

import emlx

THREADS = min(2, os.cpu_count())


class Decoder:
    """A family's shape. `heads` share `groups` of keys and values of `size` numbers each."""

    def __init__(self, name, arch, layers, hidden, heads, groups, size, ffn, vocabulary, theta):
        self.name, self.arch, self.layers, self.hidden = name, arch, layers, hidden
        self.heads, self.groups, self.size, self.ffn = heads, groups, size, ffn
        self.vocabulary, self.theta = vocabulary, theta
        self.eps = 1e-6

    @property
    def norms_heads(self):
        return self.arch == "qwen3"

    def matrices(self):
        """{name: (rows, columns)} by the names that GGUF files have."""
        yield "token_embd.weight", (self.vocabulary, self.hidden)
        for i in range(self.layers):
            layer = f"blk.{i}."
            yield layer + "attn_q.weight", (self.heads * self.size, self.hidden)
            yield layer + "attn_k.weight", (self.groups * self.size, self.hidden)
            yield layer + "attn_v.weight", (self.groups * self.size, self.hidden)
            yield layer + "attn_output.weight", (self.hidden, self.heads * self.size)
            yield layer + "ffn_gate.weight", (self.ffn, self.hidden)
            yield layer + "ffn_up.weight", (self.ffn, self.hidden)
            yield layer + "ffn_down.weight", (self.hidden, self.ffn)

    def vectors(self):
        yield "output_norm.weight", self.hidden
        for i in range(self.layers):
            layer = f"blk.{i}."
            yield layer + "attn_norm.weight", self.hidden
            yield layer + "ffn_norm.weight", self.hidden
            if self.norms_heads:
                yield layer + "attn_q_norm.weight", self.size
                yield layer + "attn_k_norm.weight", self.size

    def weight_bytes(self, archive):
        return sum(entry.bytes for entry in archive.entries.values())


DECODERS = {d.name: d for d in (
    Decoder("qwen3-0.6b", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, 1e6),
    Decoder("llama-1b", "llama", 16, 2048, 32, 8, 64, 8192, 128256, 5e5),
    Decoder("tiny", "qwen3", 2, 256, 4, 2, 64, 512, 1024, 1e6),
)}

# How our files are called, and what llama.cpp calls their kinds.
KINDS = {"bf16": None, "q8_0": 7, "q4_0": 2, "q4_k": 15}

# Files ------------------------------------------------------------------------------------------


def random_bf16(generator, shape):
    return (generator.standard_normal(shape, "f4") * 0.02).view("u4").__rshift__(16).astype("u2")


def write_bf16(decoder, path):
    import gguf

    generator = numpy.random.default_rng(1)
    writer = gguf.GGUFWriter(path, decoder.arch)
    writer.add_context_length(4096)
    writer.add_embedding_length(decoder.hidden)
    writer.add_block_count(decoder.layers)
    writer.add_feed_forward_length(decoder.ffn)
    writer.add_head_count(decoder.heads)
    writer.add_head_count_kv(decoder.groups)
    writer.add_key_length(decoder.size)
    writer.add_value_length(decoder.size)
    writer.add_layer_norm_rms_eps(decoder.eps)
    writer.add_rope_freq_base(decoder.theta)
    writer.add_rope_dimension_count(decoder.size)
    writer.add_vocab_size(decoder.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    for name, length in decoder.vectors():
        writer.add_tensor(name, 1 + 0.1 * generator.standard_normal(length, "f4"))
    for name, (rows, columns) in decoder.matrices():
        data = random_bf16(generator, (rows, columns))
        writer.add_tensor(name, data.view("u1"), raw_shape=(rows, columns * 2),
                          raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def file_of(decoder, kind, folder):
    """The path of the model's file of that kind, which is made where it is missing."""
    path = os.path.join(folder, f"{decoder.name}-{kind}.gguf")
    if os.path.exists(path):
        return path
    source = file_of(decoder, "bf16", folder) if kind != "bf16" else None
    part = path + ".part"
    if source is None:
        write_bf16(decoder, part)
    else:
        import llama_cpp

        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread = KINDS[kind], 2
        if llama_cpp.llama_model_quantize(source.encode(), part.encode(),
                                          ctypes.byref(parameters)) != 0:
            raise RuntimeError(f"llama.cpp did not write {path}")
    os.rename(part, path)
    return path


# Ours -------------------------------------------------------------------------------------------


class Weights:
    """The tensors of a file as operands of a program: those of packed matrices stay packed."""

    def __init__(self, device, path, repack=None):
        archive = emlx.Archive(path)
        self.names, self.tensors, self.modes, self.bytes = [], [], [], 0
        for entry in archive.entries.values():
            mode = entry.format.decode().lower() if entry.block_values > 1 else None
            if mode is None and repack and len(emlx.dims(entry.shape)) == 2:
                self.add(entry.name.decode(), repack, *self.pack(device, archive, entry, repack))
                continue
            self.add(entry.name.decode(), mode, archive.tensor(device, entry))

    def pack(self, device, archive, entry, repack):
        dense = archive.tensor(device, entry)
        program = emlx.compile(device, lambda nx, x: nx.quantize(x, results=3, **repack), [dense])
        return program(dense)

    def add(self, name, mode, *tensors):
        self.names.append(name)
        self.modes.append((mode, len(tensors)))
        self.tensors.extend(tensors)
        self.bytes += sum(t.bytes for t in tensors)

    def values(self, nx, operands):
        """{name: value} inside of a program whose operands are the tensors."""
        out, at = {}, 0
        for name, (mode, count) in zip(self.names, self.modes):
            of = operands[at:at + count]
            at += count
            if mode is None:
                out[name] = of[0]
            else:
                how = {"mode": mode} if isinstance(mode, str) else mode
                out[name] = nx.dequantize(*of, type="bf16", **how)
        return out


def linear(nx, x, w):
    return nx.dot(x, w, contract_left=[len(x.shape) - 1], batch_left=[], contract_right=[1],
                  batch_right=[], type="bf16")


def norm(nx, x, weight, eps):
    return nx.rms_norm(x, weight, eps=eps)


def heads(nx, x, count, size):
    x = nx.reshape(x, shape=[1, x.shape[0], count, size])
    return nx.transpose(x, axes=[0, 2, 1, 3])


def attend(nx, decoder, w, layer, x, position, cache):
    d, count = decoder, x.shape[0]
    zero = nx.scalar(0, "s32")
    q = heads(nx, linear(nx, x, w[layer + "attn_q.weight"]), d.heads, d.size)
    k = heads(nx, linear(nx, x, w[layer + "attn_k.weight"]), d.groups, d.size)
    v = heads(nx, linear(nx, x, w[layer + "attn_v.weight"]), d.groups, d.size)
    if d.norms_heads:
        q = norm(nx, q, w[layer + "attn_q_norm.weight"], d.eps)
        k = norm(nx, k, w[layer + "attn_k_norm.weight"], d.eps)
    q, k = (nx.rope(t, position, dims=d.size, traditional=d.arch == "llama", base=d.theta)
            for t in (q, k))
    keys, values = (nx.put_slice(c, nx.as_type(t, type=c.type), zero, zero, position, zero)
                    for c, t in zip(cache, (k, v)))
    out = nx.attention(q, keys, values, position, scale=d.size ** -0.5, offset=True)
    out = nx.reshape(nx.transpose(out, axes=[0, 2, 1, 3]), shape=[count, d.heads * d.size])
    return linear(nx, out, w[layer + "attn_output.weight"]), (keys, values)


def forward(nx, decoder, w, tokens, position, caches):
    """Logits {vocabulary} after the last of the tokens, and the caches with them in."""
    x = nx.as_type(nx.take(w["token_embd.weight"], tokens, axis=0), type="bf16")
    kept = []
    for i in range(decoder.layers):
        layer = f"blk.{i}."
        attended, cache = attend(nx, decoder, w, layer,
                                 norm(nx, x, w[layer + "attn_norm.weight"], decoder.eps),
                                 position, caches[2 * i:2 * i + 2])
        kept += cache
        x = x + attended
        y = norm(nx, x, w[layer + "ffn_norm.weight"], decoder.eps)
        gate, up = (linear(nx, y, w[f"{layer}ffn_{n}.weight"]) for n in ("gate", "up"))
        x = x + linear(nx, nx.swiglu(gate, up), w[layer + "ffn_down.weight"])
    if x.shape[0] > 1:
        x = nx.slice(x, starts=[x.shape[0] - 1, 0], lengths=[1, decoder.hidden])
    x = norm(nx, x, w["output_norm.weight"], decoder.eps)
    return linear(nx, x, w["token_embd.weight"]), kept


def next_token(nx, logits):
    return nx.as_type(nx.reshape(nx.argmax(logits, axis=1), shape=[1]), type="s32")


class Ours:
    """A prompt is one program, and so are some tokens: a loop with the caches in its state."""

    name = "emlx"

    def __init__(self, decoder, path, room, repack=None):
        self.decoder, self.device = decoder, emlx.Device()
        self.weights = Weights(self.device, path, repack)
        self.room, self.programs = room, {}
        self.bytes = self.weights.bytes

    def new_caches(self):
        d = self.decoder
        empty = numpy.zeros((1, d.groups, self.room, d.size), "u2")
        return [emlx.tensor(self.device, empty, "bf16") for _ in range(2 * d.layers)]

    def scalar(self, value):
        return emlx.tensor(self.device, numpy.array(value, "i4"), "s32")

    def prompt(self, tokens, caches):
        tokens = emlx.tensor(self.device, numpy.asarray(tokens, "i4"), "s32")
        operands = [tokens, self.scalar(0), *caches, *self.weights.tensors]
        if tokens.shape not in self.programs:
            count = len(caches)

            def function(nx, tokens, position, *rest):
                w = self.weights.values(nx, rest[count:])
                logits, kept = forward(nx, self.decoder, w, tokens, position, rest[:count])
                return (next_token(nx, logits), logits, *kept)

            self.programs[tokens.shape] = emlx.compile(self.device, function, operands)
        token, logits, *caches = self.programs[tokens.shape].run(operands, caches)
        return token, logits, caches

    def decode(self, token, position, count, caches):
        """`count` tokens, each after the one before; gives the last one, and the caches."""
        state = [self.scalar(0), token, self.scalar(position), *caches]
        operands = [self.scalar(count), *state, *self.weights.tensors]
        if "loop" not in self.programs:
            self.programs["loop"] = self.loop(operands, len(state))
        _, token, position, *caches = self.programs["loop"].run(operands, caches)
        return token, caches

    def loop(self, operands, size):
        def condition(nx, count, turn, *_):
            return nx.less(turn, count)

        def body(nx, count, turn, token, position, *rest):
            caches, weights = rest[:size - 3], rest[size - 3:]
            w = self.weights.values(nx, weights)
            logits, kept = forward(nx, self.decoder, w, token, position, caches)
            return (count, turn + 1, next_token(nx, logits), position + 1, *kept, *weights)

        def function(nx, *values):
            return tuple(nx.loop(condition, body, values)[1:size + 1])

        return emlx.compile(self.device, function, operands)


# Others -----------------------------------------------------------------------------------------


def arrays_of(path):
    """{name: array} of a file in bf16, matrices as bytes."""
    import gguf

    return {t.name: t.data for t in gguf.GGUFReader(path).tensors}


class LlamaCpp:
    """The same file by llama.cpp, without a tokenizer; one token at a time is how it is asked."""

    name = "llama.cpp"

    def __init__(self, decoder, path, room):
        import llama_cpp

        self.lib, self.decoder = llama_cpp, decoder
        llama_cpp.llama_backend_init()
        LlamaCpp.quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(LlamaCpp.quiet, None)
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params())
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = room, 512, 512
        parameters.n_threads = parameters.n_threads_batch = THREADS
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)

    def run(self, tokens):
        """The logits' largest after the last."""
        lib = self.lib
        tokens = (lib.llama_token * len(tokens))(*tokens)  # lives as long as the batch
        batch = lib.llama_batch_get_one(tokens, len(tokens))
        if lib.llama_decode(self.context, batch) != 0:
            raise RuntimeError("llama.cpp did not decode")
        logits = lib.llama_get_logits(self.context)
        return numpy.ctypeslib.as_array(logits, (self.decoder.vocabulary,))

    def prompt(self, tokens, _caches=None):
        self.lib.llama_memory_clear(self.lib.llama_get_memory(self.context), True)
        logits = self.run([int(t) for t in tokens])
        return int(logits.argmax()), logits.copy(), None

    def decode(self, token, _position, count, _caches=None):
        for _ in range(count):
            token = int(self.run([token]).argmax())
        return token, None

    def new_caches(self):
        return None


class Torch:
    """Its compiled layers over preallocated caches, in bf16."""

    name = "torch"

    def __init__(self, decoder, path, room):
        import torch

        torch.set_num_threads(THREADS)
        torch.set_grad_enabled(False)
        self.torch, self.decoder, self.room = torch, decoder, room
        self.weights = {n: self.tensor(a) for n, a in arrays_of(path).items()}
        self.layer = torch.compile(self.plain_layer, dynamic=False)
        self.head = torch.compile(self.plain_head, dynamic=False)
        angles = torch.arange(room)[:, None] * decoder.theta ** (
            -torch.arange(0, decoder.size, 2) / decoder.size)
        self.cos, self.sin = (f(angles).repeat(1, 2).bfloat16() for f in (torch.cos, torch.sin))

    def tensor(self, array):
        torch = self.torch
        if array.dtype == numpy.uint8:
            return torch.from_numpy(array.copy()).view(torch.bfloat16)
        return torch.from_numpy(array.astype("f4")).bfloat16()

    def new_caches(self):
        d, torch = self.decoder, self.torch
        return [torch.zeros(1, d.groups, self.room, d.size, dtype=torch.bfloat16)
                for _ in range(2 * d.layers)]

    def norm(self, x, weight):
        return self.torch.nn.functional.rms_norm(x, weight.shape, weight, self.decoder.eps)

    def turn(self, x, cos, sin):
        if self.decoder.arch == "llama":
            half = self.torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
            cos, sin = (t[..., :t.shape[-1] // 2].repeat_interleave(2, -1) for t in (cos, sin))
        else:
            a, b = x.chunk(2, -1)
            half = self.torch.cat((-b, a), -1)
        return x * cos + half * sin

    def plain_layer(self, x, w, keys, values, at, cos, sin, mask):
        torch, d = self.torch, self.decoder
        linear = torch.nn.functional.linear
        y = self.norm(x, w["attn_norm"])
        q, k, v = (linear(y, w["attn_" + n]).view(1, -1, h, d.size).transpose(1, 2)
                   for n, h in (("q", d.heads), ("k", d.groups), ("v", d.groups)))
        if d.norms_heads:
            q, k = self.norm(q, w["attn_q_norm"]), self.norm(k, w["attn_k_norm"])
        q, k = self.turn(q, cos, sin), self.turn(k, cos, sin)
        keys.index_copy_(2, at, k)
        values.index_copy_(2, at, v)
        out = torch.nn.functional.scaled_dot_product_attention(
            q, keys, values, attn_mask=mask, enable_gqa=True)
        x = x + linear(out.transpose(1, 2).flatten(2), w["attn_output"])
        y = self.norm(x, w["ffn_norm"])
        gate = torch.nn.functional.silu(linear(y, w["ffn_gate"]))
        return x + linear(gate * linear(y, w["ffn_up"]), w["ffn_down"])

    def plain_head(self, x, norm, head):
        return self.torch.nn.functional.linear(self.norm(x[:, -1], norm), head)

    def run(self, tokens, position, caches):
        torch, d = self.torch, self.decoder
        at = torch.arange(position, position + len(tokens))
        x = self.weights["token_embd.weight"][torch.as_tensor(tokens)][None]
        mask = torch.arange(self.room)[None, :] <= at[:, None]
        for i in range(d.layers):
            prefix = f"blk.{i}."
            w = {n[len(prefix):-len(".weight")]: t for n, t in self.weights.items()
                 if n.startswith(prefix)}
            x = self.layer(x, w, caches[2 * i], caches[2 * i + 1], at, self.cos[at], self.sin[at],
                           mask)
        return self.head(x, self.weights["output_norm.weight"], self.weights["token_embd.weight"])

    def prompt(self, tokens, caches):
        logits = self.run(tokens, 0, caches)
        return int(logits.argmax()), logits.float().numpy(), caches

    def decode(self, token, position, count, caches):
        for i in range(count):
            token = int(self.run([token], position + i, caches).argmax())
        return token, caches


class Mlx:
    """On the CPU over preallocated caches, in bf16 or with its own packed weights."""

    name = "mlx"

    def __init__(self, decoder, path, room, packed=None):
        import mlx.core

        self.mx, self.decoder, self.room = mlx.core, decoder, room
        mlx.core.set_default_device(mlx.core.cpu)
        self.weights = {n: self.tensor(a, packed) for n, a in arrays_of(path).items()}
        self.packed = packed
        mlx.core.eval(list(self.weights.values()))

    def tensor(self, array, packed):
        mx = self.mx
        if array.dtype != numpy.uint8:
            return mx.array(array.astype("f4")).astype(mx.bfloat16)
        dense = mx.array(array.copy().view("u2")).view(mx.bfloat16)
        return mx.quantize(dense, **packed) if packed else dense

    def new_caches(self):
        d, mx = self.decoder, self.mx
        return [mx.zeros((1, d.groups, self.room, d.size), mx.bfloat16)
                for _ in range(2 * d.layers)]

    def linear(self, x, weight):
        if self.packed:
            return self.mx.quantized_matmul(x, *weight, **self.packed)
        return x @ weight.T

    def embed(self, tokens):
        rows = self.weights["token_embd.weight"]
        if self.packed:
            return self.mx.dequantize(*(part[tokens] for part in rows), **self.packed)
        return rows[tokens]

    def norm(self, x, weight):
        return self.mx.fast.rms_norm(x, weight, self.decoder.eps)

    def layer(self, x, w, position, cache):
        fast, d, count = self.mx.fast, self.decoder, x.shape[0]
        y, out = self.norm(x, w["attn_norm"]), []
        for n, h in (("q", d.heads), ("k", d.groups), ("v", d.groups)):
            t = self.linear(y, w["attn_" + n]).reshape(1, count, h, d.size)
            if n != "v":
                t = self.norm(t, w[f"attn_{n}_norm"]) if d.norms_heads else t
            t = t.transpose(0, 2, 1, 3)
            out.append(t if n == "v" else fast.rope(t, d.size, traditional=d.arch == "llama",
                                                    base=d.theta, scale=1.0, offset=position))
        q, end = out[0], position + count
        for held, new in zip(cache, out[1:]):
            held[:, :, position:end] = new
        y = fast.scaled_dot_product_attention(
            q, *(held[:, :, :end] for held in cache), scale=d.size ** -0.5,
            mask="causal" if count > 1 else None)
        x = x + self.linear(y.transpose(0, 2, 1, 3).reshape(count, -1), w["attn_output"])
        y = self.norm(x, w["ffn_norm"])
        gate = self.linear(y, w["ffn_gate"])
        return x + self.linear(gate * self.mx.sigmoid(gate) * self.linear(y, w["ffn_up"]),
                               w["ffn_down"])

    def run(self, tokens, position, caches):
        mx = self.mx
        x = self.embed(mx.array(tokens))
        for i in range(self.decoder.layers):
            prefix = f"blk.{i}."
            w = {n[len(prefix):-len(".weight")]: t for n, t in self.weights.items()
                 if n.startswith(prefix)}
            x = self.layer(x, w, position, caches[2 * i:2 * i + 2])
        x = self.norm(x[-1:], self.weights["output_norm.weight"])
        logits = self.linear(x, self.weights["token_embd.weight"])
        mx.eval(logits, caches)
        return logits

    def prompt(self, tokens, caches):
        logits = self.run(tokens, 0, caches)
        return (int(logits.argmax()), numpy.array(logits.astype(self.mx.float32)), caches)

    def decode(self, token, position, count, caches):
        for i in range(count):
            token = int(self.run([token], position + i, caches).argmax())
        return token, caches
