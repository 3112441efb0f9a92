"""Rematerialisation (Chen et al. 2016): the gradient keeps few values and computes the others again from these.

Segments are grouped. The values between groups are kept; what a group holds within is computed again when the backward
pass comes to it, at the cost of one more forward pass whatever the grouping. For n equal segments about sqrt(n) values
are kept; as the shapes are known, the best grouping of unequal ones is found too.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

from cnnc.backends.jax.segments import Segment, joined
from cnnc.ir import Node


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
