"""A network with weights to other frameworks: a Python module, StableHLO, a Keras file or a SavedModel."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from cnnc import backends
from cnnc.diagnostics import CnnError
from cnnc.files import write_atomically
from cnnc.runs.trained import Trained

Framework = Literal["jax", "stablehlo", "keras", "savedmodel"]
_FORMS: Final = {".mlir": "text", ".mlirbc": "bytecode"}
"""StableHLO by the file's ending; every other is what `jax.export.deserialize` reads."""


def write(trained: Trained, target: Framework, place: Path) -> dict[Path, int]:
    """Write a target at a place; the paths written, each with its bytes.

    A Python module holds no weights: they are written beside it, as safetensors, unless they lie there already.

    Raises:
        CnnError: an operator that the target lacks, a package that is missing, a place that cannot be written.
    """
    graph = trained.net.graph
    if target == "jax":
        from cnnc.weights.weights_file import save_weights

        weights = place.with_suffix(".safetensors")
        if weights == place:
            raise CnnError.of(
                "run", f"`{place}` is for the module, and its weights would lie there", help="-o model.py"
            )
        given = trained.weights_file
        if given is None or not (weights.exists() and given.samefile(weights)):
            save_weights(weights, trained.weights, {"model": trained.net.name})
        text = backends.load("jax", "export.module").write_module(graph, weights_file=weights.name)
        write_atomically(place, text)
        return {place: len(text.encode()), weights: weights.stat().st_size}
    if target == "stablehlo":
        form = _FORMS.get(place.suffix, "artifact")
        data = backends.load("jax", "export.stablehlo").stablehlo(graph, trained.weights, form=form)
        write_atomically(place, data)
        return {place: len(data)}
    # TensorFlow tells of CPUs and GPUs while it is imported.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backends.load("keras", "save").save(graph, trained.weights, place, target)
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return {place: sum(path.stat().st_size for path in files)}
