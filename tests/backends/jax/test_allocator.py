"""Freed memory stays with a training process on the CPU, so that the next step need not ask the system for it anew."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from cnnc.backends.jax.xla import allocator

PROGRAM = """
import resource, sys
import jax
import jax.numpy as jnp
from cnnc.backends.jax.xla.allocator import keep_freed_memory

jax.config.update("jax_platforms", "cpu")
if sys.argv[1] == "kept":
    assert keep_freed_memory()

@jax.jit
def step(x):
    return (x[:, None] * jnp.sort(x * x)[None, :64]).cumsum(0).sum()

x = jnp.ones(2**17)

def faults_of(steps):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step(x).block_until_ready()  # 32 MiB and more, on a thread of jax's own
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults_of(20)  # what is kept grows a few times: which thread frees its block first differs from step to step
print(faults_of(30))
"""


@pytest.mark.skipif(not allocator._is_glibc(), reason="the C library is not glibc")
@pytest.mark.slow
def test_memory_that_is_kept_is_not_asked_for_again() -> None:
    def faults(what: str) -> int:
        found = subprocess.run([sys.executable, "-c", PROGRAM, what], check=True, capture_output=True)
        return int(found.stdout)

    assert 4 * faults("kept") < faults("given back")


def test_elsewhere_malloc_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise AssertionError("malloc was touched")

    monkeypatch.setattr("ctypes.CDLL", refuse)
    monkeypatch.setattr(allocator, "_is_for_cpu", lambda: True)
    with monkeypatch.context() as patched:
        patched.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_max=8")
        assert not allocator.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setenv("MALLOC_TOP_PAD_", "0")
        assert not allocator.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setattr(allocator, "_is_glibc", lambda: False)
        assert not allocator.keep_freed_memory()
    with monkeypatch.context() as patched:
        patched.setattr(allocator, "_is_for_cpu", lambda: False)
        assert not allocator.keep_freed_memory()


def test_whether_jax_computes_on_the_cpu_is_known_before_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    for platforms, expected in (("cpu", True), ("cuda,cpu", False), ("cpu,cuda", True)):
        with monkeypatch.context() as patched:
            patched.setattr(allocator, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms=platforms)))
            assert allocator._is_for_cpu() == expected
    monkeypatch.setattr(allocator, "_has_accelerator", allocator._has_accelerator.__wrapped__)
    monkeypatch.setattr(allocator, "jax", SimpleNamespace(config=SimpleNamespace(jax_platforms=None)))
    monkeypatch.setattr(allocator, "find_spec", lambda name: None)
    for plugins, expected in (((), True), (("cuda",), False)):
        with monkeypatch.context() as patched:
            patched.setattr(allocator, "entry_points", lambda group, plugins=plugins: plugins)
            assert allocator._is_for_cpu() == expected
