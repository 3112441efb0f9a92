"""The cache of compiled programs: when it is on, what it survives, and that it changes no number."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import pytest

from cnnc.backends.jax.xla import compilation_cache
from cnnc.diagnostics import CnnError
from tests.support.paths import ROOT

CONFIG: Any = jax.config
DEFAULTS = {
    "jax_compilation_cache_dir": None,
    "jax_compilation_cache_max_size": -1,
    "jax_persistent_cache_min_compile_time_secs": 1.0,
}
"""JAX's own; a training of another test has changed them."""


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CNNC_CACHE", raising=False)
    before = {name: getattr(CONFIG, name) for name in DEFAULTS}
    for name, value in DEFAULTS.items():
        CONFIG.update(name, value)
    yield
    for name, value in before.items():
        CONFIG.update(name, value)


def test_it_lies_in_the_users_cache_and_has_a_limit(tmp_path: Path) -> None:
    assert compilation_cache.enable() is None
    folder = Path(CONFIG.jax_compilation_cache_dir)
    assert folder.parent == tmp_path / "cnnc" / "xla"
    assert folder.stat().st_mode & 0o077 == 0
    assert CONFIG.jax_compilation_cache_max_size == 2**30


def test_without_a_place_of_the_users_choice_it_lies_in_their_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert compilation_cache.user_folder().parent == tmp_path / ".cache" / "cnnc" / "xla"


def test_it_is_off_when_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CNNC_CACHE", "off")
    assert compilation_cache.enable() is None
    assert CONFIG.jax_compilation_cache_dir is None
    assert not list(tmp_path.iterdir())


def test_another_wish_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CNNC_CACHE", "no")
    with pytest.raises(CnnError, match="`CNNC_CACHE` is `on` or `off`, found `no`"):
        compilation_cache.enable()


def test_the_users_own_cache_stands(tmp_path: Path) -> None:
    CONFIG.update("jax_compilation_cache_dir", str(tmp_path / "own"))
    assert compilation_cache.enable() is None
    assert CONFIG.jax_compilation_cache_dir == str(tmp_path / "own")
    assert CONFIG.jax_compilation_cache_max_size != 2**30


def test_a_folder_that_cannot_be_written_is_said_and_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cnnc").write_text("in the way")
    assert (
        compilation_cache.enable()
        == f"compiled programs are not kept: cannot write `{compilation_cache.user_folder()}`: not a directory"
    )
    assert CONFIG.jax_compilation_cache_dir is None


def test_what_was_cut_off_is_removed(tmp_path: Path) -> None:
    folder = compilation_cache.user_folder()
    folder.mkdir(parents=True)
    for name in ("whole-cache", "whole-atime", "cut-cache", "empty-atime", "alone-atime"):
        (folder / name).write_bytes(b"12345678")
    (folder / "empty-cache").write_bytes(b"")
    compilation_cache.enable()
    assert sorted(path.name for path in folder.iterdir()) == [".lockfile", "whole-atime", "whole-cache"]


PROGRAM = """
import hashlib, warnings
import numpy as np
warnings.simplefilter("error")
from cnnc.backends.jax.xla import compilation_cache
from cnnc.backends.jax.init import initialize
from cnnc.backends.jax.training.state import first_state
from cnnc.backends.jax.training.step import training_step
from cnnc.backends.protocols import Criterion
from cnnc.recipe import CrossEntropy, Recipe
from cnnc import ops
import jax
from tests.support.networks import sequential
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
assert compilation_cache.enable() is None
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
net = sequential((8, 8, 3), ops.Conv((3,), 8), ops.BatchNorm(), ops.Relu(), ops.GlobalPool(), ops.Dense(3))
recipe = Recipe()
step = training_step(net.graph, recipe, (Criterion(CrossEntropy(), True),))
state = first_state(net.graph, recipe, initialize(net.graph, 0))
draw = np.random.default_rng(0)
inputs = {"input": draw.standard_normal((16, 8, 8, 3)).astype(np.float32)}
for _ in range(5):
    state, _ = step(state, inputs, (np.arange(16, dtype=np.int32) % 3,), 0.1)
digest = hashlib.sha256()
for array in jax.tree.leaves(state.weights):
    digest.update(np.asarray(array).tobytes())
print(hits.count("/jax/compilation_cache/cache_hits"), digest.hexdigest())
"""


def run(**environment: str) -> tuple[int, str]:
    """Programs that were read from the cache, and the weights' digest. Nothing may be said on the way."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    assert (done.returncode, done.stderr) == (0, "")
    hits, digest = done.stdout.split()
    return int(hits), digest


@pytest.mark.slow
def test_programs_are_read_again_and_give_the_same_weights_bit_for_bit() -> None:
    without, first, second = run(CNNC_CACHE="off"), run(), run()
    assert (without[0], first[0]) == (0, 0)
    assert second[0] > 5
    assert without[1] == first[1] == second[1]
    step = next(compilation_cache.user_folder().glob("jit_step-*-cache"))
    step.write_bytes(step.read_bytes()[:100])
    step.with_name(step.name.removesuffix("cache") + "atime").unlink()  # as a kill in the middle leaves it
    assert run() == (second[0] - 1, first[1])
    assert run() == second
