"""Depthwise convolutions whose value and gradients are each computed in a named form.

All are sums of shifted products, a term for every value of the kernel; XLA's own depthwise convolution is tens of
times slower on a CPU, and so is the weight's gradient that autodiff makes of the sum: a pass over the arrays a term.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import product
from typing import Any, Final

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnc.backends.jax.forms.convolution import Forms, Geometry
from cnnc.backends.jax.layers.convolution import convolve_depthwise, shifted

PLAIN: Final = Forms("padded", "autodiff", "autodiff")


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def convolve_depthwise_as(x: Array, kernel: Array, geometry: Geometry, forms: Forms) -> Array:
    """`convolution.convolve_depthwise` of `x` `(batch, ..., channels)` with `kernel` `(*sizes, channels, 1)`."""
    assert kernel.shape[-1] == 1, kernel.shape
    return FORWARD[forms.forward](x, kernel, geometry)


def _forward(x: Array, kernel: Array, geometry: Geometry, forms: Forms) -> tuple[Array, tuple[Array, Array]]:
    return convolve_depthwise_as(x, kernel, geometry, forms), (x, kernel)


def _backward(geometry: Geometry, forms: Forms, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    x, kernel = kept
    return (
        INPUT_GRADIENT[forms.input_gradient](x, kernel, slope, geometry),
        WEIGHT_GRADIENT[forms.weight_gradient](x, kernel, slope, geometry),
    )


convolve_depthwise_as.defvjp(_forward, _backward)


def by_padding(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """Shifted cuts of the padded input."""
    return convolve_depthwise(x, kernel, geometry.windows, geometry.stride, geometry.dilation)


def by_phases(x: Array, kernel: Array, geometry: Geometry) -> Array:
    """For strides: the input is parted by position modulo the stride, and each term shifts one part."""
    total: Array | None = None
    for tap, starts in _taps(kernel, geometry):
        remainders = [start % step for start, step in zip(starts, geometry.stride, strict=True)]
        part = x[(slice(None), *(slice(r, None, s) for r, s in zip(remainders, geometry.stride, strict=True)))]
        offsets = [(start - r) // s for start, r, s in zip(starts, remainders, geometry.stride, strict=True)]
        moved = _moved(part, offsets, [axis.size for axis in geometry.windows])
        term = moved * kernel[(*tap, slice(None), 0)]
        total = term if total is None else total + term
    assert total is not None, kernel.shape
    return total


def input_gradient_by_autodiff(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """JAX's own gradient: the terms, each put back where it was cut."""
    (gradient,) = jax.linear_transpose(lambda x: by_padding(x, kernel, geometry), x)(slope)
    return gradient  # type: ignore[no-any-return]  # linear_transpose is untyped


def input_gradient_gathered(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """Shifted cuts of the padded slope: the input's positions with one remainder modulo the stride at a time."""
    sizes, stride = x.shape[1:-1], geometry.stride
    quotients = [-(-size // step) for size, step in zip(sizes, stride, strict=True)]
    terms = list(_terms(kernel, geometry))
    starts = [[starts[axis] for _, _, starts in terms] for axis in range(len(sizes))]
    before = [max(0, -min(own)) for own in starts]
    after = [
        max(0, max(own) + count - found.size)
        for own, count, found in zip(starts, quotients, geometry.windows, strict=True)
    ]
    padded = jnp.pad(slope, [(0, 0), *zip(before, after, strict=True), (0, 0)])
    ones = [1] * len(sizes)
    phases = []
    for phase in product(*map(range, stride)):
        total = jnp.zeros((x.shape[0], *quotients, x.shape[-1]), x.dtype)
        for tap, own, start in terms:
            if own == phase:
                cut = shifted(padded, [at + pad for at, pad in zip(start, before, strict=True)], ones, quotients)
                total = total + cut * kernel[(*tap, slice(None), 0)]
        phases.append(total)
    if len(phases) == 1:
        return phases[0]
    rank = len(sizes)
    grid = jnp.stack(phases).reshape(*stride, x.shape[0], *quotients, x.shape[-1])
    mixed = grid.transpose(rank, *(axis for i in range(rank) for axis in (rank + 1 + i, i)), 2 * rank + 1)
    whole = mixed.reshape(x.shape[0], *(q * s for q, s in zip(quotients, stride, strict=True)), x.shape[-1])
    return whole[(slice(None), *map(slice, sizes))]


def weight_gradient_by_autodiff(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """JAX's own gradient: a sum over batch and space for every value of the kernel by itself."""
    (gradient,) = jax.linear_transpose(lambda kernel: by_padding(x, kernel, geometry), kernel)(slope)
    return gradient  # type: ignore[no-any-return]  # linear_transpose is untyped


def weight_gradient_at_once(x: Array, kernel: Array, slope: Array, geometry: Geometry) -> Array:
    """One reduction over space that sums the products of all the kernel's values in one pass; then over the batch.

    The products are in float32 at least.
    """
    wide = jnp.promote_types(x.dtype, jnp.float32)
    padded = jnp.pad(x, [(0, 0), *((axis.before, axis.after) for axis in geometry.windows), (0, 0)])
    # Keeps the padding apart until late: 7.2 against 9.3 ms for the layer alone, measured once on a busy machine.
    barrier: Any = lax.optimization_barrier
    padded = barrier(padded).astype(wide)
    outputs = [axis.size for axis in geometry.windows]
    origins = [axis.before for axis in geometry.windows]
    terms = [
        shifted(padded, [at + before for at, before in zip(starts, origins, strict=True)], geometry.stride, outputs)
        * slope.astype(wide)
        for _, starts in _taps(kernel, geometry)
    ]
    zeros = tuple(jnp.zeros((), wide) for _ in terms)
    sums = lax.reduce(tuple(terms), zeros, _add_each, (x.ndim - 2,))
    rest = tuple(range(x.ndim - 2))
    return jnp.stack([total.sum(rest) for total in sums]).reshape(kernel.shape).astype(kernel.dtype)


FORWARD: Final[Mapping[str, Callable[[Array, Array, Geometry], Array]]] = {"padded": by_padding, "phases": by_phases}
INPUT_GRADIENT: Final[Mapping[str, Callable[[Array, Array, Array, Geometry], Array]]] = {
    "autodiff": input_gradient_by_autodiff,
    "gathered": input_gradient_gathered,
}
WEIGHT_GRADIENT: Final[Mapping[str, Callable[[Array, Array, Array, Geometry], Array]]] = {
    "autodiff": weight_gradient_by_autodiff,
    "at_once": weight_gradient_at_once,
}


def _taps(kernel: Array, geometry: Geometry) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Each value of the kernel, and where in the input (negative: in the padding) its first window meets it."""
    axes = list(zip(geometry.dilation, geometry.windows, strict=True))
    for tap in product(*map(range, kernel.shape[:-2])):
        yield tap, [i * step - found.before for i, (step, found) in zip(tap, axes, strict=True)]


def _terms(kernel: Array, geometry: Geometry) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], list[int]]]:
    """Each value of the kernel, the remainder of the input's positions that it reaches, and where in the output.

    Position `stride * quotient + remainder` of the input meets the value in the output's window `quotient + start`.
    """
    for tap, starts in _taps(kernel, geometry):
        remainder = tuple(start % step for start, step in zip(starts, geometry.stride, strict=True))
        yield tap, remainder, [-(start // step) for start, step in zip(starts, geometry.stride, strict=True)]


def _moved(x: Array, offsets: list[int], sizes: list[int]) -> Array:
    """`sizes` values of `x` from the offsets on, zeros beyond its ends."""
    axes = zip(offsets, sizes, x.shape[1:-1], strict=True)
    pads = [(-offset, size + offset - length, 0) for offset, size, length in axes]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])


def _add_each(left: Any, right: Any) -> Any:
    return tuple(a + b for a, b in zip(left, right, strict=True))
