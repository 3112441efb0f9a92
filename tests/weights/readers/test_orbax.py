"""Weights in checkpoints that Orbax wrote."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from tests.support.weight_files import kinds, named, said


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Orbax's own when it writes
        orbax = pytest.importorskip("orbax.checkpoint")
        folder = tmp_path_factory.mktemp("orbax")
        ones = np.ones(4, np.float32)
        tree = {
            "params": {
                "Conv_0": {"kernel": np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4), "bias": ones},
                "BatchNorm_0": {"scale": ones, "bias": ones},
                "Dense_10": {"kernel": np.ones((4, 2), np.float32)},
                "Dense_9": {"kernel": np.ones((4, 4), np.float32)},
            },
            "batch_stats": {"BatchNorm_0": {"mean": ones, "var": ones}},
            "opt_state": [{"mu": ones}],
            "step": 3,
        }
        with orbax.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "standard", tree)
            checkpointer.wait_until_finished()
        orbax.PyTreeCheckpointer().save(folder / "tree", tree)
        with orbax.CheckpointManager(folder / "managed") as manager:
            for step in (3, 12):
                manager.save(step, args=orbax.args.StandardSave(tree))
            manager.wait_until_finished()
    return folder


@pytest.mark.parametrize("name", ["standard", "tree", "managed/12"])
def test_an_orbax_checkpoint(checkpoints: Path, name: str) -> None:
    source = read_source(checkpoints / name)
    assert (source.format, source.order, source.channels_first) == ("Orbax checkpoint", "names", False)
    assert kinds(source) == [
        ("BatchNorm_0", "batch_norm"),
        ("Conv_0", "linear"),
        ("Dense_9", "linear"),
        ("Dense_10", "linear"),
    ]
    layers = named(source)
    assert set(layers["BatchNorm_0"].tensors) == {"gamma", "beta", "mean", "variance"}
    kernel = layers["Conv_0"].tensors["kernel"]
    assert kernel.layouts == ("HWIO",)
    np.testing.assert_array_equal(kernel.array.reshape(-1), np.arange(108))
    assert source.ignored is not None
    assert set(source.ignored) == {"opt_state/0/mu", "step"}


@pytest.mark.fault("S6")
def test_the_arrays_of_a_checkpoint_are_counted_before_they_are_read(checkpoints: Path) -> None:
    size = 4 * (108 + 4 + 4 + 4 + 8 + 16 + 4 + 4 + 4 + 1)  # the step is one number
    read_source(checkpoints / "tree", size)
    with pytest.raises(CnnError, match="it says that it holds"):
        read_source(checkpoints / "tree", size - 1)


def test_checkpoints_of_several_steps(checkpoints: Path) -> None:
    message = said(checkpoints / "managed")
    assert "the checkpoints of steps, `3`, `12`" in message
    assert str(checkpoints / "managed" / "12") in message


def test_an_incomplete_orbax_checkpoint(checkpoints: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(checkpoints / "tree", tmp_path / "tree")
    (tmp_path / "tree" / "_METADATA").unlink()
    assert "`_METADATA`" in said(tmp_path / "tree")
    (tmp_path / "tree" / "_METADATA").write_text("{}")
    assert "it lacks `tree_metadata`" in said(tmp_path / "tree")
    shutil.copytree(checkpoints / "tree", tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "d")
    assert "it lacks `d`, where its arrays are" in said(tmp_path / "other")
