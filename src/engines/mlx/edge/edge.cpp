// SPDX-License-Identifier: Apache-2.0
// edge.cpp - the adapter: obeys lists of instructions with MLX. It decides nothing, and no exception
// leaves it. The only C++ of the project; a shared object of its own, with one visible symbol.
#include "engines/mlx/edge/edge.h"

#include <atomic>
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "mlx/compile_impl.h"
#include "mlx/mlx.h"

namespace mx = mlx::core;
using mx::array;
using arrays = std::vector<array>;

static const mx::Dtype dtypes[] = {
#define XX(name, theirs, size) mx::theirs,
    MLX_DTYPE_MAP(XX)
#undef XX
};

struct mlx_session {
    mx::Stream stream;
    bool compiles;
};

struct mlx_block {
    array bytes; // of u8, evaluated
};

struct mlx_function {
    const mlx_list *list;
    std::function<arrays(const arrays &)> call;
    uintptr_t id; // 0: not compiled
};

// Runs `work`, and turns what it throws into a message.
template <typename F> static bool guarded(char *message, F work) {
    try {
        work();
        return true;
    } catch (const std::exception &e) {
        std::snprintf(message, MLX_MESSAGE_SIZE, "%s", e.what());
    } catch (...) {
        std::snprintf(message, MLX_MESSAGE_SIZE, "an unknown exception");
    }
    return false;
}

// Instructions ------------------------------------------------------------------------------------

namespace {

// The integers of one instruction, taken from the front.
struct ints {
    const int64_t *at;
    size_t left;

    int next() {
        left--;
        return (int)*at++;
    }
    mx::Shape shape(size_t count) {
        mx::Shape s;
        for (size_t i = 0; i < count; i++) s.push_back(next());
        return s;
    }
    std::vector<int> axes(size_t count) {
        std::vector<int> list;
        for (size_t i = 0; i < count; i++) list.push_back(next());
        return list;
    }
    std::vector<int> axes() { return axes(left); }
    mx::Shape shape() { return shape(left); }
};

array literal(mx::Dtype dtype, int64_t bits) {
    if (mx::issubdtype(dtype, mx::inexact)) {
        double number;
        std::memcpy(&number, &bits, sizeof number);
        if (dtype == mx::complex64) return array(mx::complex64_t((float)number, 0.0f));
        return array(number, dtype);
    }
    return dtype == mx::uint64 ? array((uint64_t)bits, dtype) : array(bits, dtype);
}

array as_strided(const array &x, ints n, mx::Stream s) {
    size_t offset = (size_t)*n.at;
    n.next();
    size_t rank = (size_t)n.next();
    mx::Shape shape = n.shape(rank);
    mx::Strides strides(n.at, n.at + rank);
    return mx::as_strided(x, shape, strides, offset, s);
}

array slice(const array &x, ints n, mx::Stream s) {
    size_t rank = n.left / 3;
    mx::Shape start = n.shape(rank), stop = n.shape(rank), step = n.shape(rank);
    return mx::slice(x, start, stop, step, s);
}

array slice_at(const array &x, const array &starts, ints n, mx::Stream s) {
    std::vector<int> axes = n.axes((size_t)n.next());
    return mx::slice(x, starts, axes, n.shape(), s);
}

array slice_update(const array &x, const array &source, ints n, mx::Stream s) {
    size_t rank = n.left / 3;
    mx::Shape start = n.shape(rank), stop = n.shape(rank), step = n.shape(rank);
    return mx::slice_update(x, source, start, stop, step, s);
}

array pair(const array &re, const array &im, mx::Stream s) {
    array both = mx::stack(mx::broadcast_arrays({re, im}, s), -1, s);
    return mx::squeeze(mx::view(both, mx::complex64, s), -1, s);
}

array gather(const arrays &in, ints n, mx::Stream s) {
    arrays indices(in.begin() + 1, in.end());
    std::vector<int> axes = n.axes(indices.size());
    return mx::gather(in[0], indices, axes, n.shape(), s);
}

array scatter(const arrays &in, ints n, bool adds, mx::Stream s) {
    arrays indices(in.begin() + 1, in.end() - 1);
    return adds ? mx::scatter_add(in[0], indices, in.back(), n.axes(), s)
                : mx::scatter(in[0], indices, in.back(), n.axes(), s);
}

array cumprod(const array &x, int axis, bool reverse, mx::Stream s) {
#if MLX_VERSION_NUMERIC >= 32000
    return mx::cumprod(x, axis, reverse, true, std::nullopt, s);
#else
    return mx::cumprod(x, axis, reverse, true, s);
#endif
}

array cumulate(int code, const array &x, ints n, mx::Stream s) {
    int axis = n.next();
    bool reverse = n.next() != 0;
    switch (code) {
    case MLX_cumsum: return mx::cumsum(x, axis, reverse, true, s);
    case MLX_cumprod: return cumprod(x, axis, reverse, s);
    case MLX_cummax: return mx::cummax(x, axis, reverse, true, s);
    default: return mx::cummin(x, axis, reverse, true, s);
    }
}

array fold(int code, const array &x, ints n, mx::Stream s) {
    bool keep = n.next() != 0;
    std::vector<int> axes = n.axes();
    switch (code) {
    case MLX_sum: return mx::sum(x, axes, keep, s);
    case MLX_prod: return mx::prod(x, axes, keep, s);
    case MLX_max: return mx::max(x, axes, keep, s);
    case MLX_min: return mx::min(x, axes, keep, s);
    case MLX_logsumexp: return mx::logsumexp(x, axes, keep, s);
    default: return mx::any(x, axes, keep, s);
    }
}

array conv(const array &x, const array &kernel, ints n, mx::Stream s) {
    std::vector<int> strides, dilation, none, ones;
    int axes = n.next(), groups = n.next();
    for (int d = 0; d < axes; d++) {
        strides.push_back(n.next());
        dilation.push_back(n.next());
        none.push_back(0);
        ones.push_back(1);
    }
    return mx::conv_general(x, kernel, strides, none, none, dilation, ones, groups, false, s);
}

double real(int64_t bits) {
    double number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}

array layer_norm(const arrays &in, ints n, mx::Stream s) {
    std::optional<array> bias;
    if (in.size() > 2) bias = in[2];
    return mx::fast::layer_norm(in[0], in[1], bias, (float)real(*n.at), s);
}

array rope(const arrays &in, ints n, mx::Stream s) {
    int dims = n.next();
    bool traditional = n.next() != 0;
    float base = (float)real(n.at[0]), scale = (float)real(n.at[1]);
    if (in.size() > 2)
        return mx::fast::rope(in[0], dims, traditional, std::nullopt, scale, in[1], in[2], s);
    return mx::fast::rope(in[0], dims, traditional, base, scale, in[1], std::nullopt, s);
}

array attention(const arrays &in, ints n, mx::Stream s) {
    const char *mask = n.at[1] != 0 ? "causal" : "";
    std::optional<array> sinks;
    if (n.at[2] != 0) sinks = in[3];
#if MLX_VERSION_NUMERIC >= 32004
    return mx::fast::scaled_dot_product_attention(in[0], in[1], in[2], (float)real(n.at[0]), mask,
                                                  std::nullopt, sinks, false, s);
#else
    return mx::fast::scaled_dot_product_attention(in[0], in[1], in[2], (float)real(n.at[0]), mask,
                                                  std::nullopt, sinks, s);
#endif
}

const char *const modes[] = {
#define XX(name) #name,
    MLX_MODE_MAP(XX)
#undef XX
};

array quantized_matmul(const arrays &in, ints n, mx::Stream s) {
    std::optional<array> biases;
    if (in.size() > 3) biases = in[3];
    const char *mode = modes[n.next()];
    int group = n.next(), bits = n.next();
    return mx::quantized_matmul(in[0], in[1], in[2], biases, true, group, bits, mode, s);
}

array obey(const mlx_instruction &i, const arrays &in, ints n, mx::Stream s) {
    mx::Dtype dtype = dtypes[i.dtype];
    switch (i.code) {
#define UNARY(name)                                                                                \
    case MLX_##name: return mx::name(in[0], s);
#define BINARY(name)                                                                               \
    case MLX_##name: return mx::name(in[0], in[1], s);
#define OTHER(name)
#include "engines/mlx/edge/codes.def"
#undef UNARY
#undef BINARY
#undef OTHER
    case MLX_literal: return literal(dtype, *n.at);
    case MLX_zeros: return mx::zeros(n.shape(), dtype, s);
    case MLX_arange: return mx::arange(0.0, (double)*n.at, 1.0, dtype, s);
    case MLX_astype: return mx::astype(in[0], dtype, s);
    case MLX_view: return mx::view(in[0], dtype, s);
    case MLX_from_fp8: return mx::from_fp8(in[0], dtype, s);
    case MLX_contiguous: return mx::contiguous(in[0], false, s);
    case MLX_reshape: return mx::reshape(in[0], n.shape(), s);
    case MLX_broadcast_to: return mx::broadcast_to(in[0], n.shape(), s);
    case MLX_transpose: return mx::transpose(in[0], n.axes(), s);
    case MLX_as_strided: return as_strided(in[0], n, s);
    case MLX_slice: return slice(in[0], n, s);
    case MLX_slice_at: return slice_at(in[0], in[1], n, s);
    case MLX_slice_update: return slice_update(in[0], in[1], n, s);
    case MLX_slice_update_at: return mx::slice_update(in[0], in[1], in[2], n.axes(), s);
    case MLX_concatenate: return mx::concatenate(in, n.next(), s);
    case MLX_pair: return pair(in[0], in[1], s);
    case MLX_where: return mx::where(in[0], in[1], in[2], s);
    case MLX_sum:
    case MLX_prod:
    case MLX_max:
    case MLX_min:
    case MLX_any: return fold(i.code, in[0], n, s);
    case MLX_argmax: return mx::argmax(in[0], 0, false, s);
    case MLX_take: return mx::take(in[0], in[1], n.next(), s);
    case MLX_gather: return gather(in, n, s);
    case MLX_take_along_axis: return mx::take_along_axis(in[0], in[1], n.next(), s);
    case MLX_scatter: return scatter(in, n, false, s);
    case MLX_scatter_add: return scatter(in, n, true, s);
    case MLX_sort: return mx::sort(in[0], n.next(), s);
    case MLX_argsort: return mx::argsort(in[0], n.next(), s);
    case MLX_cumsum:
    case MLX_cumprod:
    case MLX_cummax:
    case MLX_cummin: return cumulate(i.code, in[0], n, s);
    case MLX_softmax: return mx::softmax(in[0], n.axes(), true, s);
    case MLX_logsumexp: return fold(i.code, in[0], n, s);
    case MLX_rms_norm: return mx::fast::rms_norm(in[0], in[1], (float)real(*n.at), s);
    case MLX_layer_norm: return layer_norm(in, n, s);
    case MLX_rope: return rope(in, n, s);
    case MLX_attention: return attention(in, n, s);
    case MLX_quantized_matmul: return quantized_matmul(in, n, s);
    case MLX_conv: return conv(in[0], in[1], n, s);
    default: throw std::invalid_argument("an instruction that this adapter does not know");
    }
}

// Outputs first, each dense; MLX evaluates them together.
arrays trace(const mlx_list &list, const arrays &inputs, mx::Stream s) {
    arrays values = inputs, outputs, in;
    values.reserve(list.input_count + list.count);
    for (uint32_t k = 0; k < list.count; k++) {
        const mlx_instruction &i = list.code[k];
        in.clear();
        for (uint32_t o = 0; o < i.operand_count; o++)
            in.push_back(values[list.operands[i.operands + o]]);
        values.push_back(obey(i, in, {list.ints + i.ints, i.int_count}, s));
    }
    for (uint32_t o = 0; o < list.output_count; o++)
        outputs.push_back(mx::contiguous(values[list.outputs[o]], false, s));
    return outputs;
}

// A name of another type and shape for the block's memory.
array named(const mlx_block &block, const mlx_input &in) {
    mx::Shape shape;
    for (int32_t d = 0; d < in.rank; d++) shape.push_back((int)in.dims[d]);
    array a(shape, dtypes[in.dtype], nullptr, {});
    mx::Strides strides((size_t)in.rank);
    size_t count = 1;
    for (int32_t d = in.rank; d-- > 0; count *= (size_t)in.dims[d]) strides[(size_t)d] = (int64_t)count;
    array::Flags flags{};
    flags.contiguous = flags.row_contiguous = true;
    flags.col_contiguous = count <= 1 || in.rank <= 1;
    a.copy_shared_buffer(block.bytes, strides, flags, count);
    a.set_status(array::Status::available);
    return a;
}

} // namespace

// Sessions ------------------------------------------------------------------------------------------

static bool edge_available(mlx_target target, char *message) {
    bool there = false;
    bool asked = guarded(message, [&] {
        there = target == MLX_TARGET_CPU || mx::is_available(mx::Device::gpu);
        if (!there) std::snprintf(message, MLX_MESSAGE_SIZE, "this MLX has no GPU here");
    });
    return asked && there;
}

static bool edge_is_metal(mlx_target target) {
    return target == MLX_TARGET_GPU && mx::metal::is_available();
}

static bool edge_shares_memory(mlx_target target) {
    return target == MLX_TARGET_CPU || edge_is_metal(target);
}

// On its CPU MLX's compile would start a C++ compiler. Streams belong to the thread that makes them.
static bool edge_open(mlx_target target, mlx_session **out, char *message) {
    return guarded(message, [&] {
        mx::Device device = target == MLX_TARGET_CPU ? mx::Device::cpu : mx::Device::gpu;
        if (target == MLX_TARGET_CPU) mx::disable_compile();
        mx::set_default_device(device);
        *out = new mlx_session{mx::new_stream(device), target == MLX_TARGET_GPU};
    });
}

static void edge_close(mlx_session *session) { delete session; }

// Blocks ----------------------------------------------------------------------------------------------

static bool edge_block_new(mlx_session *session, size_t size, mlx_block **out, char *message) {
    (void)session;
    return guarded(message, [&] {
        if (size > INT32_MAX) {
            // A shape's lengths are 32 bits: two axes.
            int rows = (int)(size >> 20) + 1;
            *out = new mlx_block{array(mx::allocator::malloc((size_t)rows << 20), {rows, 1 << 20},
                                       mx::uint8)};
        } else {
            *out = new mlx_block{array(mx::allocator::malloc(size + (size == 0)),
                                       {(int)(size + (size == 0))}, mx::uint8)};
        }
    });
}

static void *edge_block_data(mlx_block *block) { return block->bytes.data<char>(); }
static void edge_block_free(mlx_block *block) { delete block; }

// Functions -------------------------------------------------------------------------------------------

// Numbers and not addresses: MLX keeps what it compiled beyond the function's life.
static std::atomic<uintptr_t> next_id{1};

static bool edge_compile(mlx_session *session, const mlx_list *list, mlx_function **out,
                         char *message) {
    return guarded(message, [&] {
        mx::Stream stream = session->stream;
        auto function = [list, stream](const arrays &in) { return trace(*list, in, stream); };
        uintptr_t id = session->compiles ? next_id++ : 0;
        *out = new mlx_function{list, function, id};
        if (id != 0) (*out)->call = mx::detail::compile(function, id, false, {});
    });
}

static bool edge_run(mlx_session *session, mlx_function *function, mlx_block *const *inputs,
                     mlx_block **outputs, char *message) {
    (void)session;
    const mlx_list &list = *function->list;
    uint32_t made = 0;
    bool done = guarded(message, [&] {
        arrays in;
        for (uint32_t i = 0; i < list.input_count; i++) in.push_back(named(*inputs[i], list.inputs[i]));
        arrays out = function->call(in);
        mx::eval(out);
        for (; made < list.output_count; made++) outputs[made] = new mlx_block{out[made]};
    });
    if (!done)
        while (made > 0) delete outputs[--made];
    return done;
}

static void edge_drop(mlx_session *session, mlx_function *function) {
    (void)session;
    char unused[MLX_MESSAGE_SIZE];
    guarded(unused, [&] {
#if MLX_VERSION_NUMERIC >= 32000
        if (function->id != 0) mx::detail::compile_erase(mx::detail::compile_cache(), function->id);
#else
        if (function->id != 0) mx::detail::compile_erase(function->id);
#endif
    });
    delete function;
}

// Memory and captures -----------------------------------------------------------------------------------

static void edge_memory(mlx_memory *out) {
    *out = {mx::get_active_memory(), mx::get_peak_memory(), mx::get_cache_memory()};
}

static bool edge_capture_start(const char *path, char *message) {
    return guarded(message, [&] { mx::metal::start_capture(path); });
}

static bool edge_capture_stop(char *message) {
    return guarded(message, [&] { mx::metal::stop_capture(); });
}

static const char *edge_mlx_version(void) { return mx::version(); }

static const mlx_edge edge = {
    MLX_EDGE_VERSION,    edge_mlx_version,      edge_available,      edge_shares_memory,
    edge_is_metal,       edge_open,             edge_close,          edge_block_new,
    edge_block_data,     edge_block_free,       edge_compile,        edge_run,
    edge_drop,           edge_memory,           mx::clear_cache,     mx::set_memory_limit,
    mx::set_cache_limit, mx::reset_peak_memory, edge_capture_start,  edge_capture_stop,
};

extern "C" __attribute__((visibility("default"))) const mlx_edge *emlx_mlx_edge(void) {
    return &edge;
}
