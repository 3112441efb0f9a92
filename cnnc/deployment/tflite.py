"""A network with weights to a TFLite file, float32, int8, or int8 for the Edge TPU, which describes itself to tools."""

from __future__ import annotations

from typing import Any, Final

from cnnc import backends
from cnnc.deployment.calibration_samples import Samples
from cnnc.deployment.report import Compiled
from cnnc.evaluation.answers import description_of, stated_reading
from cnnc.ir.model import Model
from cnnc.ir.pixels import is_picture_shape, takes_pixels
from cnnc.passes.pipelines import Change, describe
from cnnc.runs.calibration import NO_PIXELS, extents_unlike_pixels
from cnnc.runs.trained import Trained
from cnnc.tflite_file import metadata
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.write import write_file

TARGETS: Final = ("tflite", "tflite-int8", "edgetpu")


def compile_tflite(trained: Trained, target: str, samples: Samples | None, settings: Any) -> Compiled:
    """The file of a target.

    Args:
        trained: the network and its weights.
        target: one of `TARGETS`. `tflite` is float32, the others int8.
        samples: what int8 ranges are measured on.
        settings: the tflite backend's `Settings` for int8.
    """
    assert target in TARGETS, target
    compiler = backends.load("tflite", "compile")
    changes: list[Change] = []

    def trace(name: str, before: Model, after: Model) -> None:
        changes.append(describe(name, before, after))

    if target == "tflite":
        plain = compiler.compile_float(trained.model, trace)
        return Compiled(target, pack(trained, plain), trained.net.name, plain, tuple(changes))
    assert samples is not None, target
    flavour = "edgetpu" if target == "edgetpu" else "int8"
    quantized = compiler.compile_int8(trained.model, samples.arrays, settings, flavour, trace)
    return Compiled(
        target,
        pack(trained, quantized.program),
        trained.net.name,
        quantized.program,
        tuple(changes),
        quantized.candidates,
        samples.what,
        quantized.islands,
        notes=samples.notes,
        measurement=quantized.measurement,
        warnings=quantized.warnings,
    )


def pack(trained: Trained, program: Program) -> bytes:
    """The bytes of a program with its description and labels."""
    description = describe_file(trained)
    file = metadata.attach(File((program,), description="made by cnnc"), description)
    return metadata.pack(write_file(file), metadata.label_files(description))


def describe_file(trained: Trained) -> metadata.Description:
    """The description that the file carries: pixels go in as they are, since the network's own `normalize` is within.

    Of a run of arrays that were no pixels it says what they were.
    """
    graph = trained.net.graph
    extents = extents_unlike_pixels(trained.calibration, graph)
    inputs = []
    for node in graph.inputs:
        is_image = is_picture_shape(node.shape) and takes_pixels(graph, node.name) and node.name not in extents
        colours = {1: "grey", 3: "rgb"}.get(node.shape[-1], "") if is_image else ""
        text = "pixels of 0 to 255, as they are" if is_image else ""
        if node.name in extents:
            text = f"{NO_PIXELS}, which {extents[node.name]}"
        unit = ((0.0,), (1.0,)) if is_image else ((), ())
        inputs.append(metadata.InputNote(node.name, text, is_image, colours, *unit))  # type: ignore[arg-type]  # a literal
    outputs = []
    for label, name in graph.outputs:
        classes = trained.classes if graph[name].shape == (len(trained.classes),) else ()
        reading = stated_reading(trained, label)
        text = "" if reading is None else description_of(reading, graph[name].op)
        outputs.append(metadata.OutputNote(label, text, classes))
    return metadata.Description(
        trained.net.name,
        f"{trained.net.name}, compiled by cnnc",
        spec_sha256=trained.spec_sha256,
        inputs=tuple(inputs),
        outputs=tuple(outputs),
    )
