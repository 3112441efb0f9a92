"""Keeps the memory of a training step from going back to the system between two steps.

XLA's CPU backend takes what a step needs in blocks of many MiB and frees them after it. glibc gives such blocks back at
once, and at the next step the system fills every page of them with zeros anew: a fifth of a small network's step.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

import jax

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_MAX: Final = -4
"""`malloc.h` of glibc; `man 3 mallopt`."""

_MOST: Final = 2**31 - 1
"""The most that mallopt takes, in bytes: free memory below this stays with the process."""
_PAD: Final = 64 * 2**20


def keep_freed_memory() -> bool:
    """Has glibc's malloc keep what is freed, for the whole process. Returns whether it does.

    Only where training is on the CPU and the process's C library is glibc; elsewhere nothing is changed. Tunables of
    the user's own (`GLIBC_TUNABLES`, `MALLOC_MMAP_MAX_` and its like) go first.
    """
    if jax.default_backend() != "cpu" or not _is_glibc() or _is_chosen():
        return False
    set_option = ctypes.CDLL(None).mallopt
    wishes = ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST), (_M_TOP_PAD, _PAD))
    return all(set_option(option, value) == 1 for option, value in wishes)


def _is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError, OSError):  # no such function (Windows) or no such name (musl, macOS)
        return False


def _is_chosen() -> bool:
    own = ("MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")
    return "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or any(name in os.environ for name in own)
