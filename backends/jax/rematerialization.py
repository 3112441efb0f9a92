"""Rematerialisation (Chen et al. 2016): the gradient keeps few values and computes the others again from these.

Segments are grouped. The values between groups are kept; what a group holds within is computed again when the backward
pass comes to it, at the cost of one more forward pass whatever the grouping. For n equal segments about sqrt(n) values
are kept; as the shapes are known, the best grouping of unequal ones is found too.

XLA may merge what is computed again with what was computed first, which leaves nothing saved. `jax.checkpoint` prevents
that with an optimization barrier, which XLA's CPU backend drops before it merges: there a test of the slope does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from math import prod
from typing import Any, Final, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax

from cnnc.backends.jax.segments import Segment, joined
from cnnc.ir import Node

Given = TypeVar("Given")
Read = TypeVar("Read")
Result = TypeVar("Result")
Function = Callable[[Given, Read], tuple[Array, Result]]
"""Of what it is given, and of the values that it reads, to the value that leads on and others."""


def again(function: Function[Given, Read, Result]) -> Function[Given, Read, Result]:
    """The function, whose gradient computes it anew: of it nothing but its arguments is kept."""
    if jax.default_backend() != "cpu":
        kept: Function[Given, Read, Result] = jax.checkpoint(function)
        return kept
    return _again_on_cpu(function)


def grouped(parts: Sequence[Segment]) -> list[Segment]:
    """Neighbouring segments joined so that the backward pass holds the fewest values at once, by an estimate.

    While it is in a group it holds the values between the groups up to there, and all that are within the group.
    """
    if not parts:
        return []
    sizes = [sum(map(_size, part.nodes)) for part in parts]
    exits = [_size(part.nodes[-1]) for part in parts]
    low, high = max(sizes), sum(sizes)  # a limit that holds may be the least, and one that does
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _ends(sizes, exits, middle) else (middle + 1, high)
    ends = _ends(sizes, exits, high)
    assert ends, (sizes, high)
    return [joined(parts[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _again_on_cpu(function: Function[Given, Read, Result]) -> Function[Given, Read, Result]:
    @jax.custom_vjp
    def computed(given: Given, read: Read) -> tuple[Array, Result]:
        return function(given, read)

    def forward(given: Given, read: Read) -> tuple[tuple[Array, Result], tuple[Given, Read]]:
        return function(given, read), (given, read)

    def backward(kept: tuple[Given, Read], slopes: tuple[Array, Any]) -> Any:
        given, read = kept
        return jax.vjp(function, given, _after(slopes[0], read))[1](slopes)

    computed.defvjp(forward, backward)
    return computed


_NEVER: Final = 0x7FC12345
"""The bits of a float32 that is no number, and of which no arithmetic makes this one."""


def _after(slope: Array, values: Read) -> Read:
    """The values as they are, but in XLA's eyes others than before, and to be had only after the slope.

    Sample by sample, so that a batch that lies on several devices stays where it is.
    """
    if not jnp.issubdtype(slope.dtype, jnp.floating):  # a whole number has none, and nothing is computed again
        return values
    one_each = slope[(slice(None), *[0] * (slope.ndim - 1))].astype(jnp.float32)
    never = lax.bitcast_convert_type(one_each, jnp.uint32) == _NEVER

    def fenced(value: Array) -> Array:
        return jnp.where(never.reshape(-1, *[1] * (value.ndim - 1)), jnp.zeros_like(value), value)

    result: Read = jax.tree.map(fenced, values)
    return result


def _ends(sizes: Sequence[int], exits: Sequence[int], limit: int) -> list[int]:
    """Where groups end, as counts of segments, so that no more than `limit` is held; none if that cannot be.

    For every place the least that groups ending there keep, and where the last of these starts.
    """
    before = list(accumulate(sizes, initial=0))
    kept: list[float] = [0.0]
    starts = [0]
    for end in range(1, len(sizes) + 1):
        best, start_of_best = float("inf"), -1
        for start in range(end - 1, -1, -1):
            within = before[end] - before[start]
            if within > limit:
                break
            if kept[start] + within <= limit and kept[start] < best:
                best, start_of_best = kept[start], start
        kept.append(best + exits[end - 1])
        starts.append(start_of_best)
    if kept[-1] == float("inf"):
        return []
    ends = [len(sizes)]
    while starts[ends[-1]] > 0:
        ends.append(starts[ends[-1]])
    return ends[::-1]


def _size(node: Node) -> int:
    """Values a sample."""
    return prod(node.shape)
