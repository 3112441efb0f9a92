"""Graphs that are none: what is wrong is said before LiteRT sees them. What it takes by itself is not refused here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as litert
from PIL import Image

from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import File, Operator, Program, Quantization, Tensor
from cnnc.tflite_file.read import open_file, read_file
from cnnc.tflite_file.schema import OPERATORS, OPTIONS_OF, UNIONS
from cnnc.tflite_file.verify import SIGNATURES, faults
from cnnc.tflite_file.write import write_file
from tests.support.calling import call
from tests.support.paths import SHARED
from tests.support.pictures import noise
from tests.support.tflite_programs import constant, one_operator, tensor

FIELD = SHARED / "field"

X = tensor("x", (1, 4, 4, 2))
Y = tensor("y", (1, 4, 4, 3))
KERNEL = constant("kernel", np.zeros((3, 1, 1, 2), np.float32))
STRIDES = {"stride_h": 1, "stride_w": 1, "dilation_h": 1, "dilation_w": 1, "padding": "SAME"}


def conv(*inputs: Tensor | None, y: Tensor = Y, **options: Any) -> Program:
    """A program of one convolution."""
    return one_operator("CONV_2D", inputs, y, **STRIDES | options)


def quantized(quantization: Quantization, kind: str = "INT8") -> Program:
    """A program whose input has a quantisation."""
    program = one_operator("RELU", [Tensor("x", (1, 4), kind, quantization)], Tensor("y", (1, 4), kind))
    return program


def test_what_converters_write_is_sound() -> None:
    assert not [*faults(conv(X, KERNEL, None))]
    assert not [*faults(conv(X, KERNEL))]


MEAN = one_operator("MEAN", [X, constant("axes", np.array([1, 2], np.float32))], tensor("y", (1, 2)))
DENSE = one_operator("FULLY_CONNECTED", [tensor("x", (1, 4)), None, None], tensor("y", (1, 2)))
SOUND = conv(X, KERNEL)
WRONG = {
    "has `kernel` of uint32 for its `kernel`, which takes weights": conv(
        X, constant("kernel", np.zeros((3, 1, 1, 2), np.uint32))
    ),
    "operator 0, MEAN, has `axes` of float32 for its `axes`, which takes int32": MEAN,
    "operator 0, FULLY_CONNECTED, lacks its input 1, `kernel`": DENSE,
    "operator 0, CONV_2D, lacks its input 1, `kernel`": conv(X),
    "operator 0, CONV_2D, has 4 inputs, 1 too many": conv(X, KERNEL, None, None),
    r"has `x` of \[1, 4, 4, 2, 1\] for its `x`, which takes 4 axes": conv(tensor("x", (1, 4, 4, 2, 1)), KERNEL),
    r"has `y` of \[1, 48\] for its `y`, which takes 4 axes": conv(X, KERNEL, y=tensor("y", (1, 48))),
    "operator 0, CONV_2D, has a stride_h of 0": conv(X, KERNEL, stride_h=0),
    "operator 0, CONV_2D, has a dilation_w of -1": conv(X, KERNEL, dilation_w=-1),
    "operator 0, CONV_2D, has a stride_w of 0": one_operator("CONV_2D", [X, KERNEL], Y),
    "nothing computes its output `z`": replace(
        SOUND, outputs=("z",), tensors={**SOUND.tensors, "z": tensor("z", (1,))}
    ),
    "operator 0, CONV_2D, reads `x`, which nothing computes": replace(SOUND, inputs=()),
    "operator 0, CONV_2D, reads `x` before it is computed": replace(
        SOUND,
        inputs=("w",),
        operators=(*SOUND.operators, Operator("RELU", ("w",), ("x",))),
        tensors={**SOUND.tensors, "w": tensor("w", (1, 4, 4, 2))},
    ),
    "operator 1, RELU, writes `y`, which something else does too": replace(
        SOUND, operators=(*SOUND.operators, Operator("RELU", ("y",), ("y",)))
    ),
    "tensor `x` has a scale of nan": quantized(Quantization((float("nan"),), (0,))),
    "tensor `x` has a scale of inf": quantized(Quantization((float("inf"),), (0,))),
    "tensor `x` has a scale of -1": quantized(Quantization((-1.0,), (0,))),
    "tensor `x` of uint8 has the zero point -1": quantized(Quantization((1.0,), (-1,)), "UINT8"),
    "tensor `x` of int8 has the zero point 128": quantized(Quantization((1.0,), (128,))),
    r"tensor `x` has 3 scales along axis 1 of shape \[1, 4\]": quantized(Quantization((1.0,) * 3, (0,) * 3, 1)),
    r"tensor `x` has 4 scales along axis 2 of shape \[1, 4\]": quantized(Quantization((1.0,) * 4, (0,) * 4, 2)),
    "says that it has 3 splits, and has 2": one_operator(
        "SPLIT", [constant("axis", np.array(3, np.int32)), X], [tensor(name, (1, 4, 4, 1)) for name in "ab"], splits=3
    ),
    "its tensors take more than 1 TiB together": one_operator(
        "ADD", [tensor("x", (2**19, 2**19)), tensor("y", (2**19, 2**19))], tensor("z", (2**19, 2**19))
    ),
}


@pytest.mark.fault("S3", "S10")
@pytest.mark.parametrize("reason", WRONG)
def test_what_is_wrong_is_said(reason: str) -> None:
    with pytest.raises(CnnError, match=f"`m.tflite` is damaged: .*{reason}"):
        read_file(write_file(File((WRONG[reason],))), "m.tflite")


def test_options_of_another_operator_are_refused() -> None:
    pool = one_operator(
        "AVERAGE_POOL_2D", [X], Y, **{k: v for k, v in STRIDES.items() if k[:8] != "dilation"}, filter_h=1, filter_w=1
    )
    data = bytearray(write_file(File((pool,))))
    code = OPERATORS.index("AVERAGE_POOL_2D")
    places = [i for i in range(len(data) - 4) if data[i : i + 4] == bytes([code, 0, 0, 0])]
    said = []
    for place in places:
        changed = bytearray(data)
        changed[place] = OPERATORS.index("BATCH_MATMUL")
        try:
            read_file(bytes(changed), "m.tflite")
        except CnnError as error:
            said.append(error.diagnostics[0].message)
    assert any("operator 0, BATCH_MATMUL, has Pool2DOptions, and takes BatchMatMulOptions" in each for each in said)


def test_signatures_are_of_operators_that_there_are() -> None:
    assert {*SIGNATURES} <= {*OPERATORS}
    without = {each for each in OPERATORS if each not in SIGNATURES and not each.startswith("STABLEHLO")}
    unread = "CALL CONCAT_EMBEDDINGS CUSTOM DELEGATE DILATE PLACEHOLDER_FOR_GREATER_OP_CODES REDUCE_WINDOW"
    assert without == {*unread.split()}


def test_the_schema_is_litert_s_own() -> None:
    operators = {name: number for name, number in vars(litert.BuiltinOperator).items() if name.isupper()}
    assert {name: OPERATORS.index(name) for name in operators} == operators
    options = {number: name for name, number in vars(litert.BuiltinOptions).items() if name[0] != "_"}
    assert UNIONS["Options"].items() <= options.items()
    assert {*OPTIONS_OF.values()} <= {*options.values()}


def test_a_bias_may_give_the_axis_of_its_kernel() -> None:
    """As some converters write it; of one axis there is but one."""
    scales = Quantization((0.5, 0.25), (0, 0), 3)
    program = one_operator("RELU", [Tensor("x", (2,), "INT32", scales)], Tensor("y", (2,), "INT32"))
    assert read_file(write_file(File((program,)))).main["x"].quantization == replace(scales, axis=0)


@pytest.mark.fault("E8")
def test_litert_s_refusal_of_a_tensor_names_it_and_what_reads_it(tmp_path: Path) -> None:
    scales = Quantization((0.5, 0.25, 0.5), (0,) * 3, 3)
    bias = replace(constant("the_bias", np.zeros(3, np.int32)), quantization=scales)
    kernel = constant("kernel", np.zeros((3, 1, 1, 2), np.int8), [1.0, 0.5, 1.0])
    program = conv(tensor("x", (1, 4, 4, 2), "INT8", 0.5), kernel, bias, y=tensor("y", (1, 4, 4, 3), "INT8", 1.0))
    path = tmp_path / "m.tflite"
    path.write_bytes(write_file(File((program,))))
    said = call("bench", path).output
    assert "is refused by LiteRT: tensor `the_bias`, an input of operator 0, CONV_2D, has invalid quantization" in said
    assert "quantized_dimension must be in range [0, 1). Was 3" in said
    assert call("check", path, "--target", "edgetpu").exit_code == 0


@pytest.mark.fault("E8")
def test_an_operator_that_nobody_knows_is_named(tmp_path: Path) -> None:
    program = one_operator("CUSTOM", [X], Y)
    program = replace(program, operators=(replace(program.operators[0], custom="TheirOwn"),))
    (tmp_path / "m.tflite").write_bytes(write_file(File((program,))))
    said = call("bench", tmp_path / "m.tflite").output
    assert "operator 0, TheirOwn, failed to prepare" in said
    assert "LiteRT does not have it" in said


@pytest.mark.fault("S10")
def test_activations_of_several_inputs_are_refused(tmp_path: Path) -> None:
    program = one_operator("ADD", [tensor("x", (1, 8, 8, 3)), tensor("y", (1, 8, 8, 3))], tensor("z", (1, 8, 8, 3)))
    (tmp_path / "m.tflite").write_bytes(write_file(File((program,))))
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    said = call("activations", tmp_path / "m.tflite", tmp_path / "p.png", "-o", tmp_path / "page")
    assert said.exit_code == 1
    assert "has several inputs, `x`, `y`, and one of pictures is wanted" in said.output


COMMANDS: dict[str, Callable[[Path, Path], list[object]]] = {
    "predict": lambda path, root: [path, root / "p.png"],
    "eval": lambda path, root: [path, "--data", "digits"],
    "activations": lambda path, root: [path, root / "p.png", "-o", root / "page"],
    "bench": lambda path, root: [path, "--runs", "1"],
    "check": lambda path, root: [path, "--target", "edgetpu"],
    "import-weights": lambda path, root: ["mlp", path, "-o", root / "w.safetensors"],
}
SAID = {
    "cli_159a4fcf": "nothing computes its output `head.softmax1`",
    "cli_30939e6c": "has `body.conv1.kernel` of uint32 for its `kernel`",
    "cli_339e5704": "operator 2, BATCH_MATMUL, has Pool2DOptions, and takes BatchMatMulOptions",
    "cli_3df3cba7": "says that `head.softmax1` is [1, 10], and LiteRT makes it [1, 8, 8, 1]",
    "cli_7c122959": "operator 2, STRIDED_SLICE, has ReducerOptions, and takes StridedSliceOptions",
    "cli_8c4ed9b0": "operator 2, MEAN, has `head.globalpool1:axes` of float32 for its `axes`, which takes int32",
}


@pytest.mark.fault("S3", "S10")
@pytest.mark.skipif(not FIELD.is_dir(), reason="the files lie in ../shared, which is not here")
@pytest.mark.parametrize("name", SAID)
def test_the_field_s_damaged_files_are_told_of(name: str, tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    for command in ("predict", "eval", "activations"):
        said = call(command, *COMMANDS[command](FIELD / "files" / f"{name}.tflite", tmp_path))
        assert said.exit_code == 1
        assert SAID[name] in said.output


@pytest.mark.slow
@pytest.mark.fault("E7", "E8", "S10")
@pytest.mark.skipif(not FIELD.is_dir(), reason="the files lie in ../shared, which is not here")
@pytest.mark.parametrize("command", COMMANDS)
def test_every_file_of_the_field_works_or_is_told_of(command: str, tmp_path: Path) -> None:
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    for path in sorted((FIELD / "tflite").glob("*.tflite")):
        said = call(command, *COMMANDS[command](path, tmp_path))
        assert said.exit_code == 0 or "error[" in said.output, said.output
        assert "is damaged" not in said.output


@pytest.mark.skipif(not FIELD.is_dir(), reason="the files lie in ../shared, which is not here")
def test_no_file_that_others_published_is_taken_for_damaged() -> None:
    for path in FIELD.parent.rglob("*.tflite"):
        if path.parent != FIELD / "files":
            assert open_file(path).main.operators
