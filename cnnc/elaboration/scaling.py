"""The arithmetic of scaling: channels by width, repeats by depth, pictures by resolution (Tan & Le 2019)."""

from __future__ import annotations

from math import ceil

from cnnc.frozen import dataclass

DIVISOR = 8


@dataclass(frozen=True)
class Scale:
    """The three factors of compound scaling."""

    width: float = 1.0
    depth: float = 1.0
    resolution: float = 1.0


def compound(phi: float) -> Scale:
    """Tan & Le 2019, equation 3, with the paper's alpha, beta and gamma: each step of `phi` doubles the MACs."""
    return Scale(width=1.1**phi, depth=1.2**phi, resolution=1.15**phi)


def round_channels(channels: int, width: float) -> int:
    """Channels times width, rounded by `round8`; as is at width 1."""
    return channels if width == 1.0 else round8(channels * width)


def round8(target: float) -> int:
    """The nearest multiple of 8, at least 8 and never more than 10 % down (Sandler et al. 2018, their code)."""
    rounded = max(DIVISOR, int(target + DIVISOR / 2) // DIVISOR * DIVISOR)
    return rounded + DIVISOR if rounded < 0.9 * target else rounded


def round_repeats(repeats: int, depth: float) -> int:
    """Repeats times depth, rounded up; a whole number that floating point misses by a hair counts as whole."""
    return ceil(round(repeats * depth, 9))


def scale_size(size: int, resolution: float) -> int:
    """A picture's side times resolution, rounded to the nearest whole number, at least 1."""
    return max(1, round(size * resolution))
