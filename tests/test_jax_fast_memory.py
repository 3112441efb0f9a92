"""Freed memory stays with a training process on the CPU, so that the next step need not ask the system for it anew."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import pytest

from cnnc.backends.jax import memory

PROGRAM = """
import resource, sys
import numpy as np
import jax
from cnnc.backends.jax.memory import keep_freed_memory

jax.config.update("jax_platforms", "cpu")
if sys.argv[1] == "kept":
    assert keep_freed_memory()
faults = []
for _ in range(20):
    np.ones(2**23)  # 64 MiB, beyond what malloc ever keeps by itself
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[9])
"""


@pytest.mark.skipif(not memory._is_glibc(), reason="the C library is not glibc")
def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    def faults(what: str) -> int:
        return int(subprocess.run([sys.executable, "-c", PROGRAM, what], check=True, capture_output=True).stdout)

    assert faults("kept") < 100
    # Ten arrays of 2**14 pages of 4 KiB, or of 2**5 huge ones.
    assert faults("given back") > 2 * faults("kept")


def test_elsewhere_malloc_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("malloc was touched")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    with monkeypatch.context() as patched:
        patched.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=8")
        assert not memory.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setenv("MALLOC_TOP_PAD_", "0")
        assert not memory.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setattr(memory, "_is_glibc", lambda: False)
        assert not memory.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "default_backend", lambda: "gpu")
        assert not memory.keep_freed_memory()
