# SPDX-License-Identifier: Apache-2.0
"""Whole programs: steps of training and encoders, as a user would write them for each library."""
import math

from libraries import narrow  # noqa: F401  (the rows' types are made by it)


def classes(count, of):
    """One of each example's classes is 1."""
    import numpy

    labels = numpy.arange(count) * 7 % of
    return numpy.eye(of, dtype="f4")[labels], "f32"


# Training -----------------------------------------------------------------------------------------

def columns(nx, x, w):
    """x times the transpose of w; and the transpose of x times w."""
    return nx.dot(x, w, contract_left=[1], batch_left=[], contract_right=[1], batch_right=[])


def rows(nx, x, w):
    return nx.dot(x, w, contract_left=[0], batch_left=[], contract_right=[0], batch_right=[])


def relu(nx, x):
    return nx.max(x, nx.scalar(0.0, "f32"))


def passed(nx, x, g):
    """What a gradient leaves of relu."""
    return nx.select(nx.less(nx.scalar(0.0, "f32"), x), g, nx.scalar(0.0, "f32"))


def loss_gradient(nx, scores, wanted):
    return (nx.softmax(scores) - wanted) / float(scores.shape[0])


def dense_back(nx, x, w, g):
    """Gradients of the input, the weights and the bias."""
    return columns(nx, g, w), rows(nx, x, g), nx.sum(g, axes=[0])


RATE = 0.1


def mlp_step(nx, x, wanted, w1, b1, w2, b2):
    hidden = nx.matmul(x, w1) + b1
    active = relu(nx, hidden)
    g = loss_gradient(nx, nx.matmul(active, w2) + b2, wanted)
    back, gw2, gb2 = dense_back(nx, active, w2, g)
    _, gw1, gb1 = dense_back(nx, x, w1, passed(nx, hidden, back))
    return tuple(p - d * RATE for p, d in ((w1, gw1), (b1, gb1), (w2, gw2), (b2, gb2)))


def torch_step(forward):
    def step(xp, x, wanted, *parameters):
        with xp.enable_grad():
            held = [p.detach().requires_grad_() for p in parameters]
            scores = forward(xp, x, *held)
            loss = -(wanted * scores.log_softmax(-1)).sum() / x.shape[0]
            gradients = xp.autograd.grad(loss, held)
        return [p - RATE * g for p, g in zip(parameters, gradients)]
    return step


def jax_step(forward):
    def step(xp, x, wanted, *parameters):
        import jax

        def loss(held):
            return -(wanted * jax.nn.log_softmax(forward(xp, x, *held))).sum() / x.shape[0]
        gradients = jax.grad(loss)(list(parameters))
        return [p - RATE * g for p, g in zip(parameters, gradients)]
    return step


def mlp(xp, x, w1, b1, w2, b2):
    return xp.maximum(x @ w1 + b1, 0 * b1) @ w2 + b2


EXCHANGED = [1, 0, 2, 3]


def plane_bias(nx, x, b):
    return x + nx.reshape(b, shape=[1, b.shape[0], 1, 1])


def pool(nx, x):
    return nx.window_max(x, window=[1, 1, 2, 2], strides=[1, 1, 2, 2])


def pool_back(nx, x, g):
    return nx.window_scatter_max(x, g, nx.scalar(0.0, "f32"), window=[1, 1, 2, 2],
                                 strides=[1, 1, 2, 2])


def kernel_gradient(nx, x, g, padding):
    return nx.conv(x, g, padding=[padding] * 4, input_permutation=EXCHANGED,
                   kernel_permutation=EXCHANGED, output_permutation=EXCHANGED)


def lenet_step(nx, x, wanted, k1, c1, k2, c2, w1, b1, w2, b2, w3, b3):
    p1 = plane_bias(nx, nx.conv(x, k1, padding=[2] * 4), c1)
    a1 = relu(nx, p1)
    m1 = pool(nx, a1)
    p2 = plane_bias(nx, nx.conv(m1, k2), c2)
    a2 = relu(nx, p2)
    m2 = pool(nx, a2)
    flat = nx.reshape(m2, shape=[x.shape[0], w1.shape[0]])
    d1 = nx.matmul(flat, w1) + b1
    h1 = relu(nx, d1)
    d2 = nx.matmul(h1, w2) + b2
    h2 = relu(nx, d2)
    g = loss_gradient(nx, nx.matmul(h2, w3) + b3, wanted)
    g, gw3, gb3 = dense_back(nx, h2, w3, g)
    g, gw2, gb2 = dense_back(nx, h1, w2, passed(nx, d2, g))
    g, gw1, gb1 = dense_back(nx, flat, w1, passed(nx, d1, g))
    g = passed(nx, p2, pool_back(nx, a2, nx.reshape(g, shape=list(m2.shape))))
    gc2, gk2 = nx.sum(g, axes=[0, 2, 3]), kernel_gradient(nx, m1, g, 0)
    g = nx.conv(g, nx.reverse(k2, axes=[2, 3]), padding=[4] * 4, kernel_permutation=EXCHANGED)
    g = passed(nx, p1, pool_back(nx, a1, g))
    gc1, gk1 = nx.sum(g, axes=[0, 2, 3]), kernel_gradient(nx, x, g, 2)
    pairs = ((k1, gk1), (c1, gc1), (k2, gk2), (c2, gc2), (w1, gw1), (b1, gb1), (w2, gw2),
             (b2, gb2), (w3, gw3), (b3, gb3))
    return tuple(p - d * RATE for p, d in pairs)


def torch_lenet(xp, x, k1, c1, k2, c2, w1, b1, w2, b2, w3, b3):
    f = xp.nn.functional
    x = f.max_pool2d(f.relu(f.conv2d(x, k1, c1, padding=2)), 2)
    x = f.max_pool2d(f.relu(f.conv2d(x, k2, c2)), 2).flatten(1)
    return f.relu(f.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3


def jax_lenet(xp, x, k1, c1, k2, c2, w1, b1, w2, b2, w3, b3):
    import jax

    def layer(x, k, b, padding):
        x = jax.lax.conv_general_dilated(x, k, (1, 1), [(padding, padding)] * 2) + b[:, None, None]
        return jax.lax.reduce_window(jax.nn.relu(x), -xp.inf, jax.lax.max, (1, 1, 2, 2),
                                     (1, 1, 2, 2), "VALID")
    x = layer(layer(x, k1, c1, 2), k2, c2, 0).reshape(x.shape[0], -1)
    return jax.nn.relu(jax.nn.relu(x @ w1 + b1) @ w2 + b2) @ w3 + b3


# Encoders -----------------------------------------------------------------------------------------

LAYER = 16  # weights of a layer: those of each product, its bias, and of two norms


def layer_shapes(size):
    square, wide = (size, size), (size, 4 * size)
    shapes = [s for _ in range(4) for s in (square, (size,))]
    return shapes + [wide, (4 * size,), (4 * size, size), (size,)] + [(size,)] * 4


def layers(x, weights, causal, attend, feed, norm):
    """Norms come before what they belong to where attention looks back only, else behind."""
    for at in range(0, len(weights), LAYER):
        w = weights[at:at + LAYER]
        if causal:
            x = x + attend(norm(x, w, 12), w)
            x = x + feed(norm(x, w, 14), w)
        else:
            x = norm(x + attend(x, w), w, 12)
            x = norm(x + feed(x, w), w, 14)
    return x


def ours_encoder(heads, causal):
    def encode(nx, x, *weights):
        batch, length, size = x.shape
        x = nx.reshape(x, shape=[batch * length, size])

        def product(x, w, b):
            return nx.matmul(x, w) + b

        def split(x):
            x = nx.reshape(x, shape=[batch, length, heads, size // heads])
            return nx.transpose(x, axes=[0, 2, 1, 3])

        def attend(x, w):
            q, k, v = (split(product(x, w[2 * i], w[2 * i + 1])) for i in range(3))
            x = nx.attention(q, k, v, scale=(size // heads) ** -0.5, causal=causal)
            x = nx.reshape(nx.transpose(x, axes=[0, 2, 1, 3]), shape=[batch * length, size])
            return product(x, w[6], w[7])

        def feed(x, w):
            x = product(x, w[8], w[9])
            x = x * 0.5 * (nx.erf(x * math.sqrt(0.5)) + 1.0)
            return product(x, w[10], w[11])

        def norm(x, w, i):
            return nx.layer_norm(x, w[i], w[i + 1], eps=1e-5)

        return layers(x, weights, causal, attend, feed, norm)
    return encode


def torch_encoder(heads, causal):
    def encode(xp, x, *weights):
        f, (batch, length, size) = xp.nn.functional, x.shape

        def split(x):
            return x.view(batch, length, heads, size // heads).transpose(1, 2)

        def attend(x, w):
            q, k, v = (split(x @ w[2 * i] + w[2 * i + 1]) for i in range(3))
            x = f.scaled_dot_product_attention(q, k, v, is_causal=causal)
            return x.transpose(1, 2).reshape(batch, length, size) @ w[6] + w[7]

        def feed(x, w):
            return f.gelu(x @ w[8] + w[9]) @ w[10] + w[11]

        def norm(x, w, i):
            return f.layer_norm(x, (size,), w[i], w[i + 1])

        return layers(x, weights, causal, attend, feed, norm).reshape(batch * length, size)
    return encode


def jax_encoder(heads, causal):
    def encode(xp, x, *weights):
        import jax

        batch, length, size = x.shape

        def split(x):
            return x.reshape(batch, length, heads, size // heads).swapaxes(1, 2)

        def attend(x, w):
            q, k, v = (split(x @ w[2 * i] + w[2 * i + 1]) for i in range(3))
            scores = q @ k.swapaxes(2, 3) * (size // heads) ** -0.5
            if causal:
                scores = xp.where(xp.tril(xp.ones((length, length), bool)), scores, -xp.inf)
            x = (jax.nn.softmax(scores, -1) @ v).swapaxes(1, 2).reshape(batch, length, size)
            return x @ w[6] + w[7]

        def feed(x, w):
            return jax.nn.gelu(x @ w[8] + w[9], approximate=False) @ w[10] + w[11]

        def norm(x, w, i):
            mean = x.mean(-1, keepdims=True)
            scale = jax.lax.rsqrt(x.var(-1, keepdims=True) + xp.float32(1e-5))
            return (x - mean) * scale * w[i] + w[i + 1]

        return layers(x, weights, causal, attend, feed, norm).reshape(batch * length, size)
    return encode


def mlx_encoder(heads, causal):
    def encode(xp, x, *weights):
        batch, length, size = x.shape

        def split(x):
            return x.reshape(batch, length, heads, size // heads).transpose(0, 2, 1, 3)

        def attend(x, w):
            q, k, v = (split(x @ w[2 * i] + w[2 * i + 1]) for i in range(3))
            x = xp.fast.scaled_dot_product_attention(q, k, v, scale=(size // heads) ** -0.5,
                                                     mask="causal" if causal else None)
            return x.transpose(0, 2, 1, 3).reshape(batch, length, size) @ w[6] + w[7]

        def feed(x, w):
            x = x @ w[8] + w[9]
            return (x * 0.5 * (xp.erf(x * math.sqrt(0.5)) + 1.0)) @ w[10] + w[11]

        def norm(x, w, i):
            return xp.fast.layer_norm(x, w[i], w[i + 1], 1e-5)

        return layers(x, weights, causal, attend, feed, norm).reshape(batch * length, size)
    return encode


# Rows ---------------------------------------------------------------------------------------------

def parameters(shapes, wave):
    """Weights of a size that keeps what is computed about as large as what comes."""
    return [(f"p{i}", wave, s, "f32", 0.5 / math.sqrt(s[0] if len(s) == 2 else
                                                      math.prod(s[1:]) or 1))
            for i, s in enumerate(shapes)]


def programs(Row, wave):
    image, digits = ("x", wave, (64, 1, 28, 28)), ("x", wave, (64, 784))
    wanted = ("wanted", classes, 64, 10)
    lenet = parameters([(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (400, 120), (120,), (120, 84),
                        (84,), (84, 10), (10,)], wave)
    dense = parameters([(784, 128), (128,), (128, 10), (10,)], wave)

    def encoder(name, layers, heads, batch, length, size, causal):
        weights = parameters(layer_shapes(size) * layers, wave)
        return Row(name, [("x", wave, (batch, length, size))] + weights,
                   ours_encoder(heads, causal), torch=torch_encoder(heads, causal),
                   jax=jax_encoder(heads, causal), tolerance=1e-3, rate="f32",
                   flops=2 * layers * batch * length * size * (12 * size + 2 * length))

    return [
        Row("program: MLP step, 64 digits", [digits, wanted] + dense, mlp_step,
            torch=torch_step(mlp), jax=jax_step(mlp), tolerance=1e-3),
        Row("program: LeNet step, 64 digits", [image, wanted] + lenet, lenet_step,
            torch=torch_step(torch_lenet), jax=jax_step(jax_lenet), tolerance=1e-3),
        encoder("program: MiniLM encoder, 8x128", 6, 12, 8, 128, 384, False),
        encoder("program: GPT-2 small, 1x128", 12, 12, 1, 128, 768, True),
    ]
