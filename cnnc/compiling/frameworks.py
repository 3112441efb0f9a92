"""A subject to other frameworks: a Python module, StableHLO, a Keras file or a SavedModel."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from cnnc import backends
from cnnc.compiling.subject import Subject
from cnnc.files import write_atomically

Framework = Literal["jax", "stablehlo", "keras", "savedmodel"]
_FORMS: Final = {".mlir": "text", ".mlirbc": "bytecode"}
"""StableHLO by the file's ending; every other is what `jax.export.deserialize` reads."""


def write(subject: Subject, target: Framework, place: Path) -> int:
    """Write a target at a place; how many bytes that takes.

    A Python module holds no weights: those of a run's subject are written beside it, as safetensors.

    Raises:
        CnnError: an operator that the target lacks, a package that is missing, a place that cannot be written.
    """
    graph = subject.net.graph
    if target == "jax":
        from cnnc.weights.checkpoint import save_weights

        weights = place.with_suffix(".safetensors")
        save_weights(weights, subject.weights, {"model": subject.net.name})
        text = backends.load("jax", "source").write_module(graph, weights_file=weights.name)
        write_atomically(place, text)
        return len(text.encode()) + weights.stat().st_size
    if target == "stablehlo":
        form = _FORMS.get(place.suffix, "artifact")
        data = backends.load("jax", "export").stablehlo(graph, subject.weights, form=form)
        write_atomically(place, data)
        return len(data)
    backends.load("keras", "save").save(graph, subject.weights, place, target)
    files = [place] if place.is_file() else [path for path in place.rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)
