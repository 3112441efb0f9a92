"""Weights out of TFLite files: what LiteRT computes with them is what the layers say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends.tflite.compile import Settings, compile_float, compile_int8
from cnnc.backends.tflite.litert.runner import COMPILED as CUSTOM
from cnnc.backends.tflite.litert.runner import open_model
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File, Operator, Program, Tensor
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.layers.file_layers import Read
from cnnc.weights.importing.readers.tflite import COMPILED
from tests.support.paths import SHARED
from tests.support.tflite_programs import constant, one_operator, tensor
from tests.support.weight_files import said

GOOGLE = SHARED / "data" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
SPEC = """model tiny {
  input 8x8x3
  conv(3x3, 4, stride=2) | relu
  add {
    identity
    depthwise(3x3) | relu | conv(1x1, 4)
  }
  concat {
    conv(1x1, 2)
    conv(3x3, 3)
  }
  globalpool | dense(5) | softmax
}
"""


def write(path: Path, program: Program) -> Path:
    path.write_bytes(write_file(File((program,))))
    return path


def chain(*steps: tuple[str, list[Tensor], Tensor], x: Tensor, **options: Any) -> Program:
    """Operators each of which reads what the one before it gives, and constants."""
    tensors, operators, last = {x.name: x}, [], x
    for kind, constants, y in steps:
        tensors |= {each.name: each for each in (*constants, y)}
        operators.append(
            Operator(kind, (last.name, *(each.name for each in constants)), (y.name,), options.get(kind, {}))
        )
        last = y
    return Program("main", tensors, tuple(operators), (x.name,), (last.name,))


@pytest.fixture(scope="module")
def model() -> Model:
    graph = cnnc.load_text(SPEC).graph
    return Model(graph, random_weights(graph, 0))


def test_our_own_float_file_gives_back_what_was_written(model: Model, tmp_path: Path) -> None:
    source = read_source(write(tmp_path / "a.tflite", compile_float(model)))
    assert (source.format, source.order, source.channels_first) == ("TFLite, float", "running", False)
    kinds = [layer.kind for layer in source.layers]
    assert kinds == ["linear", "depthwise", "linear", "linear", "linear", "linear"]
    wanted = [arrays for arrays in model.weights.values() if "kernel" in arrays]
    for layer, arrays in zip(source.layers, wanted, strict=True):
        (layout,) = layer.tensors["kernel"].layouts
        found = layer.tensors["kernel"].array
        axes = {"OHWI": (1, 2, 3, 0), "1HWC": (1, 2, 3, 0), "OI": (1, 0)}[layout]
        np.testing.assert_array_equal(found.transpose(axes), arrays["kernel"])
        np.testing.assert_array_equal(layer.tensors["bias"].array, arrays["bias"])


def test_a_layer_reads_through_sums_and_concatenations(model: Model, tmp_path: Path) -> None:
    source = read_source(write(tmp_path / "a.tflite", compile_float(model)))
    assert [layer.reads for layer in source.layers] == [
        (),
        (Read(0),),
        (Read(1),),
        (Read(0), Read(2)),
        (Read(0), Read(2)),
        (Read(3, "0"), Read(4, "1")),
    ]


def test_an_int8_file_gives_back_numbers_half_a_step_off_at_most(model: Model, tmp_path: Path) -> None:
    samples = [random_sample(model.graph, seed) for seed in range(4)]
    settings = Settings(method="minmax", correct_biases=False, equalize=False)
    source = read_source(write(tmp_path / "a.tflite", compile_int8(model, samples, settings).program))
    exact = read_source(write(tmp_path / "b.tflite", compile_float(model)))
    assert source.format == "TFLite, int8"
    for layer, wanted in zip(source.layers, exact.layers, strict=True):
        assert layer.reads == wanted.reads
        for role in ("kernel", "bias"):
            found, true = layer.tensors[role].array, wanted.tensors[role].array
            axes = {4: (1, 2, 3), 2: (0, 1), 1: (0,)}[true.ndim] if layer.kind == "linear" else (0, 1, 2)[: true.ndim]
            reach = np.abs(true).max(axes, keepdims=True)  # 127 steps
            assert (np.abs(found - true) <= (reach / 254 * 1.1 if role == "kernel" else 0.01)).all()


def test_another_scale_for_a_concatenation_is_no_step(tmp_path: Path) -> None:
    """A sigmoid's values get the scale of those that they are joined to, which multiplies them by one."""
    text = "input 8x8x3\nconv(3, 4) | concat {\nrelu\nsigmoid\n}\nglobalpool | dense(5)"
    graph = cnnc.load_text(text).graph
    model = Model(graph, random_weights(graph, 0))
    samples = [random_sample(graph, seed) for seed in range(4)]
    program = compile_int8(model, samples, Settings(method="minmax")).program
    assert [operator.kind for operator in program].count("MUL") == 1
    found = read_source(write(tmp_path / "a.tflite", program)).layers
    wanted = read_source(write(tmp_path / "b.tflite", compile_float(model))).layers
    assert [repr((layer.reads, layer.sees)) for layer in found] == [repr((layer.reads, layer.sees)) for layer in wanted]


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's model in ../shared")
def test_the_mobilenet_of_google() -> None:
    source = read_source(GOOGLE)
    assert source.format == "TFLite, int8"
    assert len(source.layers) == 53
    assert [layer.kind for layer in source.layers].count("depthwise") == 17
    assert source.layers[0].name == "MobileNetV2/Conv2d_0_0"
    assert source.layers[-1].name == "MobileNetV2/top/Conv2d_1x1_output"
    assert source.layers[-1].tensors["kernel"].array.shape == (1001, 1, 1, 1280)
    # Keras's weights but means and variances, less gamma and beta put into one bias, and the class that is none
    assert sum(t.array.size for layer in source.layers for t in layer.tensors.values()) == 3_504_872 - 17_056 + 1_281
    assert source.layers[9].reads == (Read(5), Read(8))


def test_asymmetric_uint8_weights_with_their_bias(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = tensor("x", (1, 4, 4, 3), "UINT8", 0.02, 120), tensor("y", (1, 4, 4, 2), "UINT8", 0.05, 128)
    kernel = constant("w", rng.integers(0, 256, (2, 1, 1, 3), np.uint8), 0.01, 131)
    bias = constant("b", np.array([50, -70], np.int32), 0.0002)
    program = one_operator("CONV_2D", [x, kernel, bias], y, padding="SAME", stride_h=1, stride_w=1)
    path = write(tmp_path / "a.tflite", program)
    (layer,) = read_source(path).layers
    data = rng.integers(0, 256, (1, 4, 4, 3), np.uint8)
    found = open_model(path)({"x": data})["y"]
    real = (data.astype(np.float64) - 120) * 0.02
    wanted = real @ layer.tensors["kernel"].array[:, 0, 0].T + layer.tensors["bias"].array
    assert np.abs(found - np.clip(wanted, -128 * 0.05, 127 * 0.05)).max() < 0.051


def test_a_bias_without_a_scale_is_in_steps_of_input_times_kernel(tmp_path: Path) -> None:
    x, y = tensor("x", (1, 3), "INT8", 0.5), tensor("y", (1, 2), "INT8", 1.0)
    kernel = constant("w", np.ones((2, 3), np.int8), [0.1, 0.2])
    program = one_operator("FULLY_CONNECTED", [x, kernel, constant("b", np.array([3, 5], np.int32))], y)
    (layer,) = read_source(write(tmp_path / "a.tflite", program)).layers
    np.testing.assert_allclose(layer.tensors["bias"].array, [3 * 0.05, 5 * 0.1], rtol=1e-6)


def test_half_precision_weights_behind_dequantize(tmp_path: Path) -> None:
    kernel = np.arange(6, dtype=np.float16).reshape(2, 3) / 7
    x, y, half = tensor("x", (1, 3)), tensor("y", (1, 2)), constant("half", kernel)
    whole = tensor("whole", (2, 3))
    operators = (Operator("DEQUANTIZE", ("half",), ("whole",)), Operator("FULLY_CONNECTED", ("x", "whole", ""), ("y",)))
    program = Program("main", {each.name: each for each in (x, half, whole, y)}, operators, ("x",), ("y",))
    source = read_source(write(tmp_path / "a.tflite", program))
    assert source.format == "TFLite, half precision"
    tensors = source.layers[0].tensors
    assert tensors["kernel"].name == "half"
    assert "bias" not in tensors
    np.testing.assert_array_equal(tensors["kernel"].array, kernel.astype(np.float32))


def test_a_batch_norm_that_was_not_folded(tmp_path: Path) -> None:
    """What MUL and ADD make of values is what a batch norm of the layer's arrays makes of them."""
    rng = np.random.default_rng(0)
    x = tensor("x", (1, 2, 2, 3))
    scale, shift = (constant(name, rng.normal(size=3).astype(np.float32)) for name in "sb")
    slope = constant("slope", np.full((1, 1, 3), 0.25, np.float32))
    program = chain(
        ("PRELU", [slope], tensor("a", (1, 2, 2, 3))),
        ("MUL", [scale], tensor("p", (1, 2, 2, 3))),
        ("ADD", [shift], tensor("y", (1, 2, 2, 3))),
        x=x,
    )
    prelu, norm = read_source(write(tmp_path / "a.tflite", program)).layers
    assert (prelu.kind, norm.kind, norm.epsilon, norm.reads) == ("prelu", "batch_norm", 0.0, (Read(0),))
    np.testing.assert_array_equal(prelu.tensors["alpha"].array, [0.25] * 3)
    values = rng.normal(size=(1, 2, 2, 3)).astype(np.float32)
    found = open_model(tmp_path / "a.tflite")({"x": values})["y"]
    arrays = {role: each.array for role, each in norm.tensors.items()}
    fed = np.where(values > 0, values, 0.25 * values)
    wanted = (fed - arrays["mean"]) / np.sqrt(arrays["variance"]) * arrays["gamma"] + arrays["beta"]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_a_vector_that_is_added_is_a_bias_and_one_that_is_multiplied_a_layer_scale(tmp_path: Path) -> None:
    kernel = constant("w", np.ones((2, 3), np.float32))
    program = chain(
        ("FULLY_CONNECTED", [kernel], tensor("a", (1, 2))),
        ("ADD", [constant("b", np.array([1, 2], np.float32))], tensor("s", (1, 2))),
        ("LOGISTIC", [], tensor("l", (1, 2))),
        ("MUL", [constant("g", np.array([3, 4], np.float32))], tensor("y", (1, 2))),
        x=tensor("x", (1, 3)),
    )
    dense, scale = read_source(write(tmp_path / "a.tflite", program)).layers
    np.testing.assert_array_equal(dense.tensors["bias"].array, [1, 2])
    assert (scale.kind, scale.reads) == ("layer_scale", (Read(0),))
    np.testing.assert_array_equal(scale.tensors["gamma"].array, [3, 4])


def test_what_shifts_pictures_before_the_first_layer_is_told_and_no_weight(tmp_path: Path) -> None:
    program = chain(
        ("SUB", [constant("mean", np.array([1, 2, 3], np.float32))], tensor("a", (1, 3))),
        ("MUL", [constant("part", np.array(0.1, np.float32))], tensor("b", (1, 3))),
        ("FULLY_CONNECTED", [constant("w", np.ones((2, 3), np.float32))], tensor("y", (1, 2))),
        x=tensor("x", (1, 3)),
    )
    source = read_source(write(tmp_path / "a.tflite", program))
    assert [layer.name for layer in source.layers] == ["y"]
    assert source.ignored is not None
    assert set(source.ignored) == {"mean", "part"}


def test_a_constant_of_an_operator_that_is_not_read_is_named(tmp_path: Path) -> None:
    program = one_operator(
        "BATCH_MATMUL",
        [tensor("x", (1, 4, 3)), constant("table", np.ones((1, 3, 2), np.float32))],
        tensor("y", (1, 4, 2)),
    )
    message = said(write(tmp_path / "a.tflite", program))
    assert "`table` of 1 x 3 x 2 is an input of BATCH_MATMUL" in message


def test_a_file_for_the_edge_tpu_hides_its_weights(tmp_path: Path) -> None:
    assert COMPILED == CUSTOM
    program = one_operator("CUSTOM", [tensor("x", (1, 4), "INT8", 0.5)], tensor("y", (1, 4), "INT8", 0.5))
    program = replace(program, operators=(replace(program.operators[0], custom=COMPILED),))
    assert "compiled for the Edge TPU" in said(write(tmp_path / "a.tflite", program))


def test_a_value_that_is_no_number_is_named(tmp_path: Path) -> None:
    kernel = np.ones((2, 3), np.float32)
    kernel[1, 1] = np.nan
    program = one_operator("FULLY_CONNECTED", [tensor("x", (1, 3)), constant("w", kernel)], tensor("y", (1, 2)))
    assert "`w` has 1 of 6 values that are not a number" in said(write(tmp_path / "a.tflite", program))


def test_a_file_cut_short(tmp_path: Path) -> None:
    kernel = constant("w", np.ones((200, 300), np.float32))
    data = write_file(File((one_operator("FULLY_CONNECTED", [tensor("x", (1, 300)), kernel], tensor("y", (1, 200))),)))
    (tmp_path / "a.tflite").write_bytes(data[: len(data) // 2])
    assert "cut short" in said(tmp_path / "a.tflite", "tflite")
