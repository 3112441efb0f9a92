"""The functions that a written module may need, in jax alone: `module` copies the text of those that it uses.

So they are short, call nothing but jax and each other, and keep to 88 columns, the default of the user's formatter.
`p` holds the arrays of one layer, `x` is `(batch, ..., channels)`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array, lax


def conv(
    p: dict[str, Array],
    x: Array,
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "SAME",
    dilation: tuple[int, ...] | None = None,
    groups: int = 1,
) -> Array:
    """Convolution by a kernel of (*sizes, channels / groups, filters)."""
    axes = "DHW"[5 - x.ndim :]
    y = lax.conv_general_dilated(
        x,
        p["kernel"],
        stride or (1,) * (x.ndim - 2),
        padding,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"),
        feature_group_count=groups,
    )
    return y + p.get("bias", 0)


def depthwise(
    p: dict[str, Array],
    x: Array,
    stride: tuple[int, ...] | None = None,
    padding: str | tuple[tuple[int, int], ...] = "SAME",
    dilation: tuple[int, ...] | None = None,
) -> Array:
    """Convolution of every channel by itself; the kernel is (*sizes, channels, n)."""
    *sizes, channels, multiplier = p["kernel"].shape
    kernel = p["kernel"].reshape(*sizes, 1, channels * multiplier)
    return conv({**p, "kernel": kernel}, x, stride, padding, dilation, channels)


def conv_transpose(
    p: dict[str, Array],
    x: Array,
    padding: tuple[tuple[int, int], ...],
    stride: tuple[int, ...] | None = None,
    dilation: tuple[int, ...] | None = None,
) -> Array:
    """Transposed convolution by a kernel of (*sizes, filters, channels).

    It is the convolution, by the kernel turned round, of the input spread out by the
    stride, with `padding` zeros around it.
    """
    axes = "DHW"[5 - x.ndim :]
    y = lax.conv_general_dilated(
        x,
        jnp.flip(p["kernel"], range(x.ndim - 2)),
        (1,) * (x.ndim - 2),
        padding,
        lhs_dilation=stride,
        rhs_dilation=dilation,
        dimension_numbers=(f"N{axes}C", f"{axes}OI", f"N{axes}C"),
    )
    return y + p.get("bias", 0)


def dense(p: dict[str, Array], x: Array) -> Array:
    """Affine map of the last axis; the kernel is (channels, units)."""
    return x @ p["kernel"] + p.get("bias", 0)


def embedding(p: dict[str, Array], x: Array) -> Array:
    """A row of the table for every index; an index beyond it gives NaN."""
    return jnp.take(p["table"], x, axis=0, mode="fill")


def attention(p: dict[str, Array], x: Array) -> Array:
    """Multi-head self-attention between all positions (Vaswani et al. 2017)."""
    flat = x.reshape(x.shape[0], -1, x.shape[-1])
    query, key, value = (
        jnp.einsum("bpc,chf->bphf", flat, p[f"{each}_kernel"]) + p[f"{each}_bias"]
        for each in ("query", "key", "value")  # each (batch, position, head, feature)
    )
    scores = jnp.einsum("bqhf,bkhf->bhqk", query, key) / query.shape[-1] ** 0.5
    mixed = jnp.einsum("bhqk,bkhf->bqhf", jax.nn.softmax(scores), value)
    y = jnp.einsum("bqhf,hfc->bqc", mixed, p["output_kernel"]) + p["output_bias"]
    return y.reshape(x.shape)


def positions(x: Array, base: float) -> Array:
    """Sines and cosines of the positions added (Vaswani et al. 2017)."""
    length, channels = x.shape[-2:]
    pair = jnp.arange(channels) // 2
    angles = jnp.arange(length)[:, None] / base ** (2 * pair / channels)
    is_even = jnp.arange(channels) % 2 == 0
    return x + jnp.where(is_even, jnp.sin(angles), jnp.cos(angles))


def batch_norm(p: dict[str, Array], x: Array, epsilon: float) -> Array:
    """Batch norm by the running statistics."""
    scale = lax.rsqrt(p["variance"] + epsilon) * p.get("gamma", 1)
    return (x - p["mean"]) * scale + p.get("beta", 0)


def layer_norm(p: dict[str, Array], x: Array, epsilon: float) -> Array:
    """Every position to mean 0 and variance 1 over its channels."""
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    normal = (x - mean) * lax.rsqrt(variance + epsilon)
    return normal * p.get("gamma", 1) + p.get("beta", 0)


def group_norm(p: dict[str, Array], x: Array, groups: int, epsilon: float) -> Array:
    """Space and each run of neighbouring channels to mean 0 and variance 1."""
    y = x.reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), x.ndim)
    mean, variance = y.mean(axes, keepdims=True), y.var(axes, keepdims=True)
    normal = ((y - mean) * lax.rsqrt(variance + epsilon)).reshape(x.shape)
    return normal * p.get("gamma", 1) + p.get("beta", 0)


def local_response_norm(
    x: Array,
    radius: int,
    alpha: float,
    beta: float,
    bias: float,
) -> Array:
    """Value / (bias + alpha * sum of squares over channels within the radius)^beta."""
    channels = jnp.arange(x.shape[-1])
    near = abs(channels[:, None] - channels) <= radius
    energy = jnp.matmul(x * x, near.astype(x.dtype), precision=lax.Precision.HIGHEST)
    return x / (bias + alpha * energy) ** beta


def prelu(p: dict[str, Array], x: Array) -> Array:
    """`x` where positive, else a learnt slope a channel times x."""
    return jnp.where(x > 0, x, p["alpha"] * x)


def max_pool(
    x: Array,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...] = "SAME",
) -> Array:
    """The largest value of every window; padding never is."""
    if not isinstance(padding, str):
        padding = ((0, 0), *padding, (0, 0))
    sizes, steps = (1, *window, 1), (1, *stride, 1)
    y: Array = lax.reduce_window(x, -jnp.inf, lax.max, sizes, steps, padding)
    return y


def average_pool(
    x: Array,
    window: tuple[int, ...],
    stride: tuple[int, ...],
    padding: str | tuple[tuple[int, int], ...] = "SAME",
    count_padding: bool = False,
) -> Array:
    """The mean of every window, the padding's zeros left out unless they count."""
    if not isinstance(padding, str):
        padding = ((0, 0), *padding, (0, 0))
    sizes, steps = (1, *window, 1), (1, *stride, 1)
    total: Array = lax.reduce_window(x, 0.0, lax.add, sizes, steps, padding)
    counted = jnp.ones_like(x)
    count: Array = lax.reduce_window(counted, 0.0, lax.add, sizes, steps, padding)
    return total / (jnp.prod(jnp.array(window)) if count_padding else count)


def pad(x: Array, amount: tuple[tuple[int, int], ...], value: float = 0.0) -> Array:
    """`amount` of `value` around the spatial axes."""
    return jnp.pad(x, ((0, 0), *amount, (0, 0)), constant_values=value)


def crop(x: Array, amount: tuple[tuple[int, int], ...]) -> Array:
    """The spatial axes without `amount` at their ends."""
    sides = zip(x.shape[1:-1], amount, strict=True)
    return x[:, *(slice(before, n - after) for n, (before, after) in sides)]


def resize_nearest(x: Array, sizes: tuple[int, ...]) -> Array:
    """Output i of m is the input's value at floor((2 i + 1) n / (2 m))."""
    axes = zip(x.shape[1:-1], sizes, strict=True)
    for axis, (n, m) in enumerate(axes, 1):
        x = jnp.take(x, (2 * jnp.arange(m) + 1) * n // (2 * m), axis)
    return x


def resize_bilinear(x: Array, sizes: tuple[int, ...]) -> Array:
    """Output i of m interpolates the input at (i + 1/2) n / m - 1/2, within it."""
    axes = zip(x.shape[1:-1], sizes, strict=True)
    for axis, (n, m) in enumerate(axes, 1):
        at = (jnp.arange(m, dtype=x.dtype) + 0.5) * (n / m) - 0.5
        low = jnp.floor(at).astype(int)
        share = (at - low).reshape(-1, *[1] * (x.ndim - 1 - axis))
        below = jnp.take(x, jnp.clip(low, 0, n - 1), axis)
        above = jnp.take(x, jnp.clip(low + 1, 0, n - 1), axis)
        x = below * (1 - share) + above * share
    return x


def space_to_depth(x: Array, block: int) -> Array:
    """Every cell of `block` values a spatial axis becomes channels."""
    batch, *sizes, channels = x.shape
    rank = len(sizes)
    cells = x.reshape(batch, *(n for s in sizes for n in (s // block, block)), channels)
    y = cells.transpose(0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 2, 2), -1)
    return y.reshape(batch, *(size // block for size in sizes), -1)


def slice_channels(x: Array, start: int, stop: int) -> Array:
    """The channels from `start` up to, not including, `stop`."""
    return x[..., start:stop]


def channel_shuffle(x: Array, groups: int) -> Array:
    """Channels in turns: the first of each of `groups` runs, then each second."""
    return x.reshape(*x.shape[:-1], groups, -1).swapaxes(-1, -2).reshape(x.shape)


def layer_scale(p: dict[str, Array], x: Array) -> Array:
    """Every channel times a learnt number."""
    return x * p["gamma"]


def concat(*inputs: Array) -> Array:
    """The channels of the inputs one after another."""
    return jnp.concatenate(inputs, axis=-1)


def flatten(x: Array) -> Array:
    """All values of a sample in one axis."""
    return x.reshape(x.shape[0], -1)


def reshape(x: Array, shape: tuple[int, ...]) -> Array:
    """The values of a sample, in their order, under another shape."""
    return x.reshape(x.shape[0], *shape)


def normalize(x: Array, mean: tuple[float, ...], std: tuple[float, ...]) -> Array:
    """(x - mean) / std, a number for every channel or one for all."""
    return (x - jnp.array(mean)) / jnp.array(std)


def he_normal(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Of variance 2 / fan_in (He et al. 2015)."""
    return jnp.sqrt(2 / fan_in) * jax.random.normal(key, shape)


def he_uniform(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Of variance 2 / fan_in (He et al. 2015)."""
    return jnp.sqrt(6 / fan_in) * jax.random.uniform(key, shape, minval=-1)


def glorot_normal(
    key: Array,
    shape: tuple[int, ...],
    fan_in: int,
    fan_out: int,
) -> Array:
    """Of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return jnp.sqrt(2 / (fan_in + fan_out)) * jax.random.normal(key, shape)


def glorot_uniform(
    key: Array,
    shape: tuple[int, ...],
    fan_in: int,
    fan_out: int,
) -> Array:
    """Of variance 2 / (fan_in + fan_out) (Glorot & Bengio 2010)."""
    return jnp.sqrt(6 / (fan_in + fan_out)) * jax.random.uniform(key, shape, minval=-1)


def lecun_normal(key: Array, shape: tuple[int, ...], fan_in: int) -> Array:
    """Of variance 1 / fan_in (LeCun et al. 1998)."""
    return jnp.sqrt(1 / fan_in) * jax.random.normal(key, shape)


def normal(key: Array, shape: tuple[int, ...]) -> Array:
    """Of deviation 0.02 (Radford et al. 2019)."""
    return jnp.multiply(0.02, jax.random.normal(key, shape))


def new_batch_norm(channels: int) -> dict[str, Array]:
    """A batch norm that changes nothing yet."""
    return {
        "gamma": jnp.ones(channels),
        "beta": jnp.zeros(channels),
        "mean": jnp.zeros(channels),
        "variance": jnp.ones(channels),
    }
