"""Inputs and outputs of what is compiled are called as the spec calls them, in the eyes of those who read it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends.tflite.compile import Settings, compile_float, compile_int8
from cnnc.backends.tflite.quantization.quantize import Io
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.write import write_file

interpreter = pytest.importorskip("ai_edge_litert.interpreter")

DETECTOR = """
input 8x8x3
stem: conv(3x3, 4) | relu
boxes: conv(1x1, 4) | reshape(64x4)
scores: stem | conv(1x1, 2) | sigmoid
output boxes, scores
"""
NODES = """
input left 8x8x3
input right 8x8x3
conv1: left | conv(3x3, 4)
other: right | conv(3x3, 4)
sum: add(conv1, other)
twice: sum | conv(3x3, 4)
output twice, conv1, sum, left
"""
"""Outputs that are read within, and one that is an input."""


def compiled(text: str, io: Io | None) -> Program:
    """The file in float, or in int8 with those ends."""
    graph = cnnc.load_text(text).graph
    model = Model(graph, random_weights(graph, 0))
    if io is None:
        return compile_float(model)
    return compile_int8(model, [random_sample(graph, 0)], Settings(io, "minmax")).program


@pytest.mark.fault("Q10")
@pytest.mark.parametrize("io", [None, "int8", "uint8", "float32"])
def test_litert_calls_inputs_and_outputs_as_the_spec_does(io: Io | None) -> None:
    for text, inputs, outputs in (
        (DETECTOR, ["input"], ["boxes", "scores"]),
        ("input 8x8x3\nconv(3x3, 4) | globalpool | softmax", ["input"], ["output"]),
        (NODES, ["left", "right"], ["twice", "conv1", "sum"]),
    ):
        reader = interpreter.Interpreter(model_content=write_file(File((compiled(text, io),))))
        assert [each["name"] for each in reader.get_input_details()] == inputs
        assert [each["name"] for each in reader.get_output_details()][: len(outputs)] == outputs
        names = [each["name"] for each in reader.get_tensor_details()]
        assert len(names) == len(set(names))
        (signature,) = reader.get_signature_list().values()
        assert set(signature["inputs"]) == set(inputs)
        assert set(signature["outputs"]) >= set(outputs)


@pytest.mark.fault("Q10")
def test_names_do_not_change_what_comes_out() -> None:
    net = cnnc.load_text(NODES)
    weights = random_weights(net.graph, 0)
    sample = random_sample(net.graph, 1)
    reader = interpreter.Interpreter(model_content=write_file(File((compile_float(Model(net.graph, weights)),))))
    found = reader.get_signature_runner()(**{name: np.float32(array) for name, array in sample.items()})
    expected: dict[str, Any] = net.apply(weights, sample)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-3)


@pytest.mark.fault("Q10")
def test_keras_and_jax_call_outputs_so_too() -> None:
    from cnnc.backends.jax.export.stablehlo import stablehlo
    from cnnc.backends.keras.build import build

    net = cnnc.load_text(DETECTOR)
    weights = net.init(0)
    assert set(build(net.graph, weights).output) == {"boxes", "scores"}
    text = stablehlo(net.graph, weights, form="text").decode()
    assert re.findall(r"result\['(\w+)'\]", text) == ["boxes", "scores"]
