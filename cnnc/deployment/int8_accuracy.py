"""How often a network's float file and its int8 file are right, side by side on LiteRT, over a test set."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from cnnc import backends
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.array_files import is_array_file
from cnnc.deployment.array_data import labelled_examples
from cnnc.deployment.tflite import pack
from cnnc.evaluation.evaluate import Agreement, compare, require_vector_output
from cnnc.evaluation.output_losses import require_classes
from cnnc.evaluation.predictor import Predictor
from cnnc.evaluation.test_set import TestSet, label_as, load_test_set
from cnnc.evaluation.tflite import TFLitePredictor, open_tflite
from cnnc.runs.trained import Trained
from cnnc.tflite_file.program import Program
from cnnc.wording import number_of


def compare_files(
    trained: Trained,
    int8: Program,
    data: str,
    *,
    folder: Path | None = None,
    skip_corrupt: bool = False,
    crop: float = 1.0,
) -> Agreement:
    """Top-1 of a network's float file and of its int8 program over the test part of a data set.

    A folder of class folders that is not the run's own counts as a whole, and so does an `.npz` of inputs and classes,
    which have the names of the network's inputs and of its output. `crop` is the share of the shorter side of every
    picture that the network sees.

    Raises:
        CnnError: the data cannot be read or does not fit, or the network's output is none of classes.
    """
    plain, rounded = (_opened(trained, program) for program in (_float_program(trained), int8))
    require_vector_output(plain)
    test_set = _test_set(trained, plain, data, folder, skip_corrupt)
    part, names = label_as(plain, test_set)
    require_classes(plain.outputs, names)
    shapes = [each.shape for each in plain.inputs]
    feed = prepare(part, shapes, skip_corrupt=skip_corrupt, crop=crop)
    return compare(plain, rounded, feed, test_set.what)


def _float_program(trained: Trained) -> Program:
    program: Program = backends.load("tflite", "compile").compile_float(trained.model)
    return program


def _opened(trained: Trained, program: Program) -> TFLitePredictor:
    file = open_tflite(pack(trained, program), threads=os.cpu_count())
    return replace(file, name=trained.net.name, classes=trained.classes, data=trained.data)


def _test_set(trained: Trained, predictor: Predictor, data: str, folder: Path | None, skip_corrupt: bool) -> TestSet:
    if is_array_file(data):
        width = predictor.outputs[0].shape[-1]
        examples = labelled_examples(trained.net.graph, Path(data).expanduser(), width)
        return TestSet(examples, (), f"the {number_of(len(examples), 'example')} of {data}")
    return load_test_set(predictor, data, folder=folder, skip_corrupt=skip_corrupt)
