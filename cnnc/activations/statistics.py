"""A layer's values in figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Figures:
    """`low`, `high` and `mean` are of the finite values, 0 where there are none; `zeros` is the share of zeros.

    `dead` counts the filters, of all `filters`, that are zero everywhere on this picture; `broken` the values that are
    no finite numbers.
    """

    low: float
    high: float
    mean: float
    zeros: float
    filters: int
    dead: int
    broken: int


def figures(values: NDArray[Any]) -> Figures:
    """The figures of a layer's values `(..., filters)`."""
    by_filter = values.reshape(-1, values.shape[-1])
    finite = by_filter[np.isfinite(by_filter)]
    known = finite.astype(np.float64) if finite.size else np.zeros(1)
    return Figures(
        float(known.min()),
        float(known.max()),
        float(known.mean()),
        float((by_filter == 0).mean()),
        by_filter.shape[1],
        int((by_filter == 0).all(axis=0).sum()),
        by_filter.size - finite.size,
    )
