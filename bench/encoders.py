#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""MiniLM's and GPT-2's shapes with random weights in f32: milliseconds of a pass over all tokens,
ours beside compiled torch, MLX and llama.cpp, interleaved as in run.py.

usage: encoders.py --files DIR [--model NAME] [--rounds N] [--libraries a,b]

DIR keeps the files for llama.cpp, which are made at the first run. llama.cpp looks the embeddings up
as well, and of GPT-2 multiplies the last token by them; it has the tanh form of gelu.
"""
import argparse
import os
import statistics
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # threads are ours

import numpy

import libraries
import programs
from models import THREADS

EPS, POSITIONS = 1e-5, 512
# By the order of programs.layer_shapes: weights and biases by turns.
NAMES = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down"]


class Encoder:
    def __init__(self, name, arch, layers, heads, batch, length, size, vocabulary):
        self.name, self.arch, self.layers, self.heads = name, arch, layers, heads
        self.batch, self.length, self.size, self.vocabulary = batch, length, size, vocabulary
        generator = numpy.random.default_rng(1)

        def numbers(shape):
            wide = generator.standard_normal(shape, "f4")
            return wide * 0.04 if len(shape) == 2 else 0.1 * wide

        self.weights = [numbers(s) for s in programs.layer_shapes(size) * layers]
        for at in range(0, len(self.weights), programs.LAYER):
            self.weights[at + 12] += 1
            self.weights[at + 14] += 1
        self.tokens = [7 * i % 1000 for i in range(batch * length)]
        self.embedding, self.position = numbers((vocabulary, size)), numbers((POSITIONS, size))
        x = self.embedding[self.tokens].reshape(batch, length, size) + self.position[:length]
        self.x = normal(x) if arch == "bert" else x

    @property
    def causal(self):
        return self.arch == "gpt2"

    def tensors(self):
        """(name, array) as GGUF has them: what leads to a number is a row."""
        yield "token_embd.weight", self.embedding
        yield "position_embd.weight", self.position
        one, none = numpy.ones(self.size, "f4"), numpy.zeros(self.size, "f4")
        norms = ("attn_norm", "ffn_norm") if self.causal else ("attn_output_norm",
                                                               "layer_output_norm")
        if self.causal:
            yield from (("output_norm.weight", one), ("output_norm.bias", none))
        else:
            yield from (("token_embd_norm.weight", one), ("token_embd_norm.bias", none),
                        ("token_types.weight", numpy.zeros((2, self.size), "f4")))
        for i in range(self.layers):
            w = self.weights[i * programs.LAYER:(i + 1) * programs.LAYER]
            named = dict(zip(NAMES, zip(w[0:12:2], w[1:12:2])))
            if self.causal:
                parts = [named.pop(n) for n in NAMES[:3]]
                named["attn_qkv"] = (numpy.concatenate([p[0] for p in parts], 1),
                                     numpy.concatenate([p[1] for p in parts]))
            for name, (weight, bias) in named.items():
                yield f"blk.{i}.{name}.weight", numpy.ascontiguousarray(weight.T)
                yield f"blk.{i}.{name}.bias", bias
            for at, name in zip((12, 14), norms):
                yield f"blk.{i}.{name}.weight", w[at]
                yield f"blk.{i}.{name}.bias", w[at + 1]


def normal(x):
    return (x - x.mean(-1, keepdims=True)) / numpy.sqrt(x.var(-1, keepdims=True) + EPS)


def write(encoder, path):
    import gguf

    writer = gguf.GGUFWriter(path, encoder.arch)
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(encoder.size)
    writer.add_block_count(encoder.layers)
    writer.add_feed_forward_length(4 * encoder.size)
    writer.add_head_count(encoder.heads)
    writer.add_layer_norm_eps(EPS)
    writer.add_vocab_size(encoder.vocabulary)
    writer.add_tokenizer_model("no_vocab")
    if not encoder.causal:
        writer.add_causal_attention(False)
        writer.add_token_type_count(2)
    for name, array in encoder.tensors():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    name = "llama.cpp"

    def __init__(self, encoder, folder):
        import llama_cpp

        path = os.path.join(folder, encoder.name + "-f32.gguf")
        if not os.path.exists(path):
            write(encoder, path + ".part")
            os.rename(path + ".part", path)
        self.lib, self.encoder = llama_cpp, encoder
        llama_cpp.llama_backend_init()
        LlamaCpp.quiet = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(LlamaCpp.quiet, None)
        self.model = llama_cpp.llama_model_load_from_file(
            path.encode(), llama_cpp.llama_model_default_params())
        count = encoder.batch * encoder.length
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = count
        parameters.n_seq_max = encoder.batch
        parameters.n_threads = parameters.n_threads_batch = THREADS
        if not encoder.causal:
            parameters.embeddings = True
            parameters.pooling_type = llama_cpp.LLAMA_POOLING_TYPE_NONE
        self.context = llama_cpp.llama_init_from_model(self.model, parameters)
        self.batch = self.make_batch(count)

    def make_batch(self, count):
        e, batch = self.encoder, self.lib.llama_batch_init(count, 0, 1)
        batch.n_tokens = count
        for i, token in enumerate(e.tokens):
            batch.token[i], batch.pos[i] = token, i % e.length
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, i // e.length
            batch.logits[i] = not e.causal or i == count - 1
        return batch

    def run(self):
        lib, e = self.lib, self.encoder
        if e.causal:
            lib.llama_memory_clear(lib.llama_get_memory(self.context), True)
        step = lib.llama_decode if e.causal else lib.llama_encode
        if step(self.context, self.batch) != 0:
            raise RuntimeError("llama.cpp did not compute")
        if e.causal:
            at = lib.llama_get_logits_ith(self.context, len(e.tokens) - 1)
            return numpy.ctypeslib.as_array(at, (e.vocabulary,)).copy()
        at = lib.llama_get_embeddings(self.context)
        return numpy.ctypeslib.as_array(at, (len(e.tokens), e.size)).copy()


class Written:
    """An encoder of programs.py in a library of libraries.py."""

    def __init__(self, library, function, encoder):
        self.name, self.library, self.encoder = library.name, library, encoder
        operands = [library.put(a, "f32") for a in [encoder.x, *encoder.weights]]
        self.call = library.prepare(function(encoder.heads, encoder.causal), operands)

    def run(self):
        return self.call()

    def read(self, result):
        """What llama.cpp gives: the tokens, or, of a decoder, what the last one's logits are."""
        hidden = self.library.read(result)[0].reshape(-1, self.encoder.size)
        return normal(hidden[-1]) @ self.encoder.embedding.T if self.encoder.causal else hidden


class CompiledTorch(libraries.Torch):
    def prepare(self, function, operands):
        compiled = self.module.compile(lambda *xs: function(self.module, *xs), dynamic=False)
        return lambda: compiled(*operands)


def open_all(encoder, folder, names):
    found = [Written(libraries.Ours(), programs.ours_encoder, encoder)]
    if "torch" in names:
        found.append(Written(CompiledTorch(), programs.torch_encoder, encoder))
    if "mlx" in names:
        found.append(Written(libraries.Mlx(), programs.mlx_encoder, encoder))
    if "llama.cpp" in names:
        found.append(LlamaCpp(encoder, folder))
    return found


ENCODERS = {"minilm": ("minilm", "bert", 6, 12, 8, 128, 384, 30522),
            "gpt2": ("gpt2", "gpt2", 12, 12, 1, 128, 768, 50257)}


def measure(encoder, found, rounds):
    times, results = {m.name: [] for m in found}, {}
    for turn in range(rounds + 1):
        for m in found[turn % len(found):] + found[:turn % len(found)]:
            time.sleep(0.05)
            start = time.perf_counter()
            results[m.name] = m.run()
            if turn > 0:
                times[m.name].append(time.perf_counter() - start)
    wanted = found[0].read(results["emlx"])
    for m in found:
        got = m.read(results[m.name]) if isinstance(m, Written) else results[m.name]
        far = float(numpy.abs(got - wanted).max() / numpy.abs(wanted).max())
        ratio = statistics.median(t / o for t, o in zip(times[m.name], times["emlx"]))
        print(f"{encoder.name} {encoder.batch}x{encoder.length} {m.name:10}"
              f" {statistics.median(times[m.name]) * 1e3:9.1f} ms {ratio:7.2f}  off by {far:.1e}",
              flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--files", required=True)
    parser.add_argument("--model", default="minilm,gpt2")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--libraries", default="llama.cpp,torch,mlx")
    options = parser.parse_args()
    os.makedirs(options.files, exist_ok=True)
    for name in options.model.split(","):
        encoder = Encoder(*ENCODERS[name])
        measure(encoder, open_all(encoder, options.files, options.libraries), options.rounds)


if __name__ == "__main__":
    main()
