"""Writes a network in the forms that TensorFlow's tools read: a `.keras` file, or a SavedModel folder."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from cnnc import backends
from cnnc.diagnostics import CnnError
from cnnc.files import require_file, require_folder
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.wording import reason_of

Form = Literal["keras", "savedmodel"]


def save(graph: Graph, weights: Weights, path: Path, form: Form) -> None:
    """Write the network, whole or not at all. A file, or a SavedModel, that is there already is replaced.

    A `.keras` file needs nothing but Keras to be read; a SavedModel has the signature `serve`, of any batch, and needs
    TensorFlow only. Keras is imported here if it is not yet, and takes TensorFlow for a SavedModel, else jax where
    that is installed.

    Raises:
        CnnError: a package is missing, Keras runs on another backend already, or the path cannot be written.
    """
    _choose_backend(form)
    model = backends.load("keras", "build").build(graph, weights)
    place = require_file(path) if form == "keras" else require_saved_model(path)
    try:
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as folder:
            written = Path(folder) / ("model.keras" if form == "keras" else "model")
            if form == "keras":
                model.save(written)
            else:
                model.export(written, format="tf_saved_model", verbose=False)
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(written, place)
    except OSError as error:
        raise CnnError.of("run", f"cannot write `{path}`: {reason_of(error)}") from error


def require_saved_model(path: Path) -> Path:
    """The path, its links followed, where a SavedModel is that may be replaced, or nothing is yet.

    Raises:
        CnnError: of code `run`, with what is there instead.
    """
    if not path.is_dir():
        require_folder(path)
        return require_file(path)
    if not (path / "saved_model.pb").is_file():
        raise CnnError.of("run", f"cannot write `{path}`: it is a folder already, and no SavedModel")
    return path.resolve()


def _choose_backend(form: Form) -> None:
    """Settle what Keras runs on, where nothing has yet."""
    if form == "savedmodel" and find_spec("tensorflow") is None:
        raise CnnError.of(
            "install",
            "a SavedModel needs the package `tensorflow`, which is not installed",
            help='pip install "cnnc[tensorflow]"',
        )
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        needs_tensorflow = form == "savedmodel" or find_spec("jax") is None
        os.environ["KERAS_BACKEND"] = "tensorflow" if needs_tensorflow else "jax"
    if form == "savedmodel":
        found = sys.modules["keras"].backend.backend() if "keras" in sys.modules else os.environ["KERAS_BACKEND"]
        if found != "tensorflow":
            raise CnnError.of(
                "install",
                f"Keras writes a SavedModel on TensorFlow, but runs on {found}",
                help="set KERAS_BACKEND=tensorflow before the program starts",
            )
