"""Every bundled network as a TFLite file: float as jax computes it, int8 near the float, in old operators."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import cnnc
from bench.int8_signal import signal_to_noise
from cnnc import specs
from cnnc.backends.tflite.compile import Settings, compile_float, compile_int8
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.quantization.fidelity import as_input
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.backends.tflite.structure import outline
from cnnc.ir.model import Model
from cnnc.net import Net
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.write import write_file
from tests.support.paths import SHARED
from tests.support.zoo import SMALL as SMALLER
from tests.support.zoo import small

pytest.importorskip("ai_edge_litert")
SMALL = ("mlp", "mnist_cnn", "cifar_cnn", "astronet", "voxnet")
ALL = [
    name if name in SMALL else pytest.param(name, marks=pytest.mark.slow)
    for name in (*specs.names(), "vgg19", "resnet18", "resnet34", "resnet_cifar", "efficientnet_b3", "densenet201")
]
WITH_ISLANDS = ("alexnet", "convnext", "inception_v1", "qanet", "resnet3d", "voxnet")
"""Networks of layers that TFLite has no int8 form of."""
OFF_THE_DEVICE = {"alphafold": {"ELU"}, "wavenet": {"GATHER"}}
"""Operators that have an int8 form of which the Edge TPU's compiler knows nothing."""
FACTS = SHARED / "edgetpu" / "ops.json"


def model_of(name: str) -> tuple[Net, Model]:
    net = small(name) if name in SMALLER else cnnc.load(name)
    return net, Model(net.graph, random_weights(net.graph, 0))


def run_program(program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    with execute(program) as infer:
        found = infer({name: as_input(program[name], inputs[name]) for name in program.inputs})
        return {name: np.array(found[name]) for name in program.outputs}


@pytest.mark.parametrize("name", ALL)
def test_the_float_file_computes_what_jax_does(name: str) -> None:
    net, model = model_of(name)
    inputs = random_sample(net.graph, 100)
    program = compile_float(model)
    found = run_program(program, inputs)
    expected = net.apply(model.weights, inputs)
    named = expected if isinstance(expected, dict) else {net.graph.outputs[0][0]: expected}
    for tensor, label in zip(program.outputs, program.output_names, strict=True):
        truth = np.asarray(named[label])
        size = max(float(np.ptp(truth)), float(np.abs(truth).max()))
        np.testing.assert_allclose(found[tensor], truth, rtol=0, atol=1e-4 * size)


@pytest.mark.parametrize("name", ALL)
def test_the_int8_file_takes_bytes_as_well_as_floats(name: str) -> None:
    """And is of int8 throughout, where all has an int8 form. How near it is by itself is in docs/compiling.md."""
    net, model = model_of(name)
    samples = [random_sample(net.graph, seed) for seed in range(4)]
    exact, figures = compile_float(model), {}
    for io in ("uint8", "float32"):
        quantized = compile_int8(model, samples, Settings(io, "minmax"), "edgetpu")
        figures[io] = min(signal_to_noise(exact, quantized.program, samples).values())
        assert bool(quantized.islands) == (name in WITH_ISLANDS)
        if io == "uint8" and name not in WITH_ISLANDS:
            assert {tensor.type for tensor in quantized.program.tensors.values()} <= {"INT8", "UINT8", "INT32"}
    assert figures["uint8"] >= figures["float32"] - 1


@pytest.mark.parametrize("name", ALL)
def test_a_file_is_one_static_graph_of_old_operators(name: str) -> None:
    program = outline(cnnc.load(name).graph)
    file = read_file(write_file(File((program,))))
    assert len(file.programs) == 1
    for tensor in file.main.tensors.values():
        assert tensor.signature is None
        assert all(size > 0 for size in tensor.shape)
    if not FACTS.is_file():
        pytest.skip("the facts on the Edge TPU are not beside the project")
    known = {
        entry["tflite_op"]: entry["op_versions"]["plain_int8_version"]
        for entry in json.loads(FACTS.read_text(encoding="utf-8"))["ops"]
        if entry["op_versions"]
    }
    for operator in file.main:
        if operator.kind in known:
            assert operator.version <= known[operator.kind], operator
        else:
            assert name in WITH_ISLANDS or operator.kind in OFF_THE_DEVICE.get(name, ()), operator
