"""How often a float program and its int8 form are right, side by side on LiteRT, over a test set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cnnc import backends
from cnnc.deployment.array_data import labelled_examples
from cnnc.deployment.calibration_samples import is_own
from cnnc.deployment.report import Accuracy
from cnnc.deployment.trained_network import Subject
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import Program
from cnnc.wording import number_of

if TYPE_CHECKING:
    from cnnc.data.sources.data_set import Part
    from cnnc.data.sources.folder import Options

_BATCH = 64


def compare(
    subject: Subject, rounded: Program, data: str, *, folder: Path | None, skip_corrupt: bool = False, crop: float = 1.0
) -> Accuracy:
    """Top-1 of a subject's int8 program, and of its float one, over the test part of a data set.

    A folder of class folders that is not the run's own counts as a whole, and so does an `.npz` of inputs and classes,
    which have the names of the network's inputs and of its output. `crop` is the share of the shorter side
    of every picture that the network sees.

    Raises:
        CnnError: the data cannot be read or does not fit, or the network's output is none of classes.
    """
    from cnnc.data.feeding.batches import evaluation_batches
    from cnnc.data.feeding.feed import prepare
    from cnnc.data.sources.folder import Options

    graph = subject.net.graph
    ends = [graph[name].shape for _, name in graph.outputs]
    if len(ends) != 1 or len(ends[0]) != 1 or ends[0][0] < 2:
        raise CnnError.of("data", f"`{subject.net.name}` has no single output of classes to measure top-1 of")
    part, what = _part(subject, data, folder, Options(subject.held_out, subject.seed, skip_corrupt), ends[0][0])
    feed = prepare(part, [node.shape for node in graph.inputs], skip_corrupt=skip_corrupt, crop=crop)
    execute = backends.load("tflite", "litert.execute").execute
    compiler = backends.load("tflite", "compile")
    fed, exact = backends.load("tflite", "quantization.fidelity").fed, compiler.compile_float(subject.model)
    hits = np.zeros(3, np.int64)
    count = 0
    with execute(exact) as run_exact, execute(rounded) as run_rounded:
        for batch in evaluation_batches(feed, _BATCH):
            (label,) = batch.targets
            for i in np.flatnonzero(batch.valid):
                arrays = {n.name: x[i : i + 1] for n, x in zip(graph.inputs, batch.inputs, strict=True)}
                answers = []
                for program, run in ((exact, run_exact), (rounded, run_rounded)):
                    named = zip(program.inputs, graph.inputs, strict=True)
                    values = run({name: fed(program[name], arrays[node.name]) for name, node in named})
                    answers.append(int(values[program.outputs[0]].argmax()))
                    del values
                first, second = answers
                hits += (first == label[i], second == label[i], first == second)
                count += 1
    shares = hits / max(count, 1)
    return Accuracy(what, count, float(shares[0]), float(shares[1]), float(shares[2]))


def _part(subject: Subject, data: str, folder: Path | None, options: Options, count: int) -> tuple[Part, str]:
    """What is measured on, labelled by the network's outputs, of which there are `count`, and what to call it."""
    from cnnc.data.sources.array_files import is_array_file
    from cnnc.evaluation.test_set import by_name, part_to_test

    if is_array_file(data):
        examples = labelled_examples(subject.net.graph, Path(data).expanduser(), count)
        return examples, f"the {number_of(len(examples), 'example')} of {data}"
    tested = part_to_test(data, folder, options, whole=not is_own(subject, data), report=lambda event: None)
    part = by_name(tested.part, tested.classes, subject.classes) if subject.classes else tested.part
    if not subject.classes and len(tested.classes) != count:
        raise CnnError.of(
            "labels",
            f"the data has {number_of(len(tested.classes), 'class')}, and `{subject.net.name}` has"
            f" {number_of(count, 'output')}",
        )
    return part, tested.what
