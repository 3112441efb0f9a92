"""Prefixes that all names of a state dict share, and models whose names they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, TypeVar

from cnnc.weights.importing.layers.copies import select_copy

_WRAPPERS: Final = ("module.", "_orig_mod.", "model.", "ema_model.", "network.", "net.")
"""Prefixes that DataParallel, torch.compile and trainers put before every name."""
_MOST_WRAPPERS: Final = 8
_FIRST: Final = (".weight", ".running_mean", ".running_var", ".in_proj_weight")
_LAST: Final = ("kernel", "embedding", "moving_mean", "moving_variance")

T = TypeVar("T")


def without_prefixes(path: Path, arrays: Mapping[str, T], copy: str | None = None) -> dict[str, T]:
    """Arrays by names without the wrappers' prefixes that all of them have; of several copies, those of one."""
    shapes = {name: tuple(getattr(array, "shape", ())) for name, array in arrays.items()}
    found = select_copy(path, arrays, shapes, copy)
    for _ in range(_MOST_WRAPPERS):
        prefix = next((each for each in _WRAPPERS if all(name.startswith(each) for name in found)), None)
        if not found or prefix is None or any(name == prefix for name in found):
            break
        found = {name.removeprefix(prefix): array for name, array in found.items()}
    return found


def conventions(names: Mapping[str, object]) -> bool | None:
    """Whether names are of a framework with channels first; None when they do not tell."""
    if any(name.endswith(_FIRST) for name in names):
        return True
    return False if any(name.rstrip(":0").endswith(_LAST) for name in names) else None
