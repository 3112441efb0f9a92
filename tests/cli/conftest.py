"""A small run and its files, made once for all that looks into them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.support.activations import SPEC
from tests.support.calling import call
from tests.support.pictures import noise
from tests.support.small_runs import train_small


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a run, and the run's float and int8 files."""
    root = train_small(tmp_path_factory.mktemp("models"), SPEC, size=(16, 16))
    Image.fromarray(noise(30, 20, 3)).save(root / "picture.png")
    for arguments in (
        ["compile", root / "run", "--target", "tflite", "-o", root / "float.tflite"],
        ["compile", root / "run", "--target", "tflite-int8", "--ranges", "minmax", "-o", root / "int8.tflite"],
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
    return root
