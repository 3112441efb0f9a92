"""Kernels widened by zeros in place of a PAD: LiteRT computes the same of both, in float and in int8."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
from cnnc.activations.first_filters import first_filters
from cnnc.activations.model_view import view_file
from cnnc.backends.tflite.lowering import widen as widening
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.lowering.widen import narrow as narrow_again
from cnnc.backends.tflite.lowering.widen import widen
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.backends.tflite.structure import outline
from cnnc.evaluation.tflite import open_tflite
from cnnc.ir.model import Model
from cnnc.passes.pipelines import INFERENCE, INFERENCE_INT8, run
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing.readers.tflite import read_tflite

pytest.importorskip("ai_edge_litert")
from cnnc.backends.tflite.compile import Settings, compile_int8  # after LiteRT is known to be there
from cnnc.backends.tflite.litert.execute import execute

LARGE = "conv(3x3, 64) | relu | conv(3x3, 64) | relu | conv(3x3, 64)"
"""Layers beside which what one more costs is little."""


def model_of(text: str) -> Model:
    graph = cnnc.load_text(text).graph
    return Model(graph, random_weights(graph, 0))


def kinds(program: Program) -> list[str]:
    return [operator.kind for operator in program]


def run_litert(program: Program, x: NDArray[Any]) -> NDArray[Any]:
    with execute(program) as infer:
        return np.array(infer({program.inputs[0]: x})[program.outputs[0]])


def kernel_of(program: Program) -> tuple[int, ...]:
    (found,) = [op for op in program if op.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    return program[found.inputs[1]].shape[1:3]


WIDENED = {
    "an even size": ("input 8x8x3", "conv(3, 4, stride=2, padding=half)", (4, 4)),
    "down alone": ("input 8x9x3", "conv(3, 4, stride=2, padding=half)", (4, 3)),
    "across alone": ("input 9x8x3", "conv(3, 4, stride=2, padding=half)", (3, 4)),
    "five": ("input 12x10x3", "conv(5, 4, stride=2, padding=half)", (6, 6)),
    "seven": ("input 16x12x3", "conv(7, 4, stride=2, padding=half)", (8, 8)),
    "a stride of 3": ("input 12x12x3", "conv(3, 4, stride=3, padding=half)", (5, 5)),
    "a stride of 3 and two places more": ("input 14x14x3", "conv(5, 4, stride=3, padding=half)", (6, 6)),
    "strides that differ": ("input 12x12x3", "conv(3x5, 4, stride=2x3, padding=half)", (4, 7)),
    "a signal": ("input 12x3", "conv(5, 4, stride=2, padding=half)", (1, 6)),
    "groups": ("input 8x8x4", "conv(3, 8, stride=2, padding=half, groups=2)", (4, 4)),
    "depthwise": ("input 8x8x4", "depthwise(3, stride=2, padding=half)", (4, 4)),
    "several filters a channel": ("input 8x8x4", "depthwise(5, stride=2, multiplier=2, padding=half)", (6, 6)),
    "dilated": ("input 9x9x3", "conv(3, 4, dilation=2, padding=[[3, 1], [3, 1]])", (4, 4)),
    "all at the end": ("input 9x9x3", "conv(3, 4, padding=[[0, 2], [0, 2]])", (4, 4)),
    "all at the start": ("input 9x9x3", "conv(3, 4, padding=[[2, 0], [2, 0]])", (5, 5)),
    "an even kernel": ("input 8x8x3", "conv(2, 4, padding=[[1, 0], [1, 0]])", (3, 3)),
    "causal": ("input 16x3", "conv(2, 4, padding=[1, 0]) | tanh", (1, 3)),
    "a frame before": ("input 8x8x3", "pad(1) | conv(3, 4, stride=2, padding=valid)", (4, 4)),
}


@pytest.fixture
def at_any_price(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widening, "_SHARE", 100)


@pytest.mark.parametrize("case", WIDENED)
@pytest.mark.usefixtures("at_any_price")
def test_a_wider_kernel_computes_what_pad_and_the_narrow_one_do(case: str) -> None:
    head, layers, kernel = WIDENED[case]
    net = cnnc.load_text(f"{head}\n{layers}")
    model = model_of(f"{head}\n{layers}")
    narrow = lower(run(model, INFERENCE), "float").program
    wide = lower(run(model, INFERENCE), "int8").program
    assert "PAD" in kinds(narrow)
    assert "PAD" not in kinds(wide)
    assert kernel_of(wide) == kernel
    x = np.random.default_rng(0).standard_normal((1, *net.graph.inputs[0].shape)).astype(np.float32)
    found = run_litert(wide, x)
    for expected in (run_litert(narrow, x), np.asarray(net.apply(model.weights, x))):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.ptp(expected))


@pytest.mark.parametrize("case", WIDENED)
def test_a_wider_kernel_gives_the_same_codes_in_int8(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, layers, _ = WIDENED[case]
    model = model_of(f"{head}\n{layers}")
    rng = np.random.default_rng(1)
    name, shape = model.graph.inputs[0].name, (1, *model.graph.inputs[0].shape)
    samples = [{name: rng.standard_normal(shape).astype(np.float32)} for _ in range(4)]
    programs = []
    for share in (0, 100):
        monkeypatch.setattr(widening, "_SHARE", share)
        programs.append(compile_int8(model, samples, Settings("int8", "minmax", correct_biases=False)).program)
    assert ["PAD" in kinds(program) for program in programs] == [True, False]
    codes = rng.integers(-128, 128, shape).astype(np.int8)
    narrow, wide = (run_litert(program, codes) for program in programs)
    assert len(np.unique(narrow)) > 8
    np.testing.assert_array_equal(wide, narrow)
    assert kernel_of(narrow_again(programs[1])) == kernel_of(programs[0])
    np.testing.assert_array_equal(run_litert(narrow_again(programs[1]), codes), narrow)


KEPT = {
    "an output larger than SAME's": "input 8x8x3\nconv(3, 4, padding=2)",
    "an output smaller than SAME's": "input 9x9x3\nconv(5, 4, padding=1)",
    "more before than twice the kernel has": "input 9x9x3\nconv(2, 4, stride=9, padding=[[8, 0], [8, 0]])",
    "several readers": "input 8x8x3\nx: pad(1)\nadd(x | conv(3, 4, stride=2, padding=valid), x | avgpool(3, stride=2, "
    "padding=valid) | conv(1, 4))",
    "an output of its own": "input 8x8x3\nx: pad(1)\ny: conv(3, 4, stride=2, padding=valid)\noutput x, y",
    "another reader": "input 8x8x3\npad(1) | maxpool(3, stride=2, padding=valid)",
}


@pytest.mark.parametrize("case", KEPT)
@pytest.mark.usefixtures("at_any_price")
def test_what_no_wider_kernel_gives_stays_a_pad(case: str) -> None:
    model = model_of(KEPT[case])
    assert "PAD" in kinds(lower(run(model, INFERENCE), "int8").program)


HALF = "conv(3x3, {filters}, stride=2, padding=half)"


@pytest.mark.parametrize(
    ("flavour", "layers", "pads"),
    [
        ("float", HALF.format(filters=8), 1),
        # 7 more taps of 9 are most of a small network's work, and 1 % of a large one's.
        ("int8", HALF.format(filters=8), 1),
        ("int8", f"{LARGE} | {HALF.format(filters=8)}", 0),
        # The cheapest first, until 2 % are spent.
        ("int8", f"{LARGE} | {HALF.format(filters=8)} | relu | {HALF.format(filters=8)} | relu", 0),
        ("int8", f"{LARGE} | {HALF.format(filters=8)} | relu | {HALF.format(filters=512)} | relu", 1),
        # The Edge TPU multiplies 100 times while a byte moves, and 7/8 are due for a filter and a byte.
        ("edgetpu", HALF.format(filters=96), 0),
        ("edgetpu", HALF.format(filters=128), 1),
        ("edgetpu", "depthwise(3x3, stride=2, padding=half)", 1),
    ],
)
def test_a_kernel_is_widened_where_that_is_cheap_on_the_device(flavour: Flavour, layers: str, pads: int) -> None:
    graph = cnnc.load_text(f"input 32x32x64\n{layers}").graph
    assert kinds(outline(graph, flavour)).count("PAD") == pads


def test_a_program_without_pads_is_the_same_one() -> None:
    program = lower(run(model_of("input 8x8x3\nconv(3, 4, stride=2)"), INFERENCE_INT8), "float").program
    for flavour in ("float", "int8", "edgetpu"):
        assert widen(program, flavour) is program


def test_a_kernel_that_two_layers_read_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passes give every layer a kernel of its own; files do not."""
    monkeypatch.setattr(widening, "_SHARE", 0)
    text = "input 8x8x3\na: conv(3, 3, stride=2, padding=half)\nb: conv(3, 3, stride=2, padding=half)"
    program = lower(run(model_of(text), INFERENCE_INT8), "int8").program
    first, second = [operator for operator in program if operator.kind == "CONV_2D"]
    shared = replace(second, inputs=(second.inputs[0], *first.inputs[1:]))
    operators = tuple(shared if operator is second else operator for operator in program)
    monkeypatch.setattr(widening, "_SHARE", 100)
    program = replace(program, operators=operators)
    assert widen(program, "int8") is program


@pytest.mark.parametrize(
    ("layer", "turn"),
    [
        ("conv(3, 4, stride=2, padding=half)", (1, 2, 3, 0)),  # OHWI
        ("depthwise(5, stride=2, padding=half)", (1, 2, 3, 0)),  # 1HWC
    ],
)
@pytest.mark.usefixtures("at_any_price")
def test_a_file_with_wider_kernels_holds_the_layers_own(layer: str, turn: tuple[int, ...], tmp_path: Path) -> None:
    model = model_of(f"input 8x8x4\n{layer}")
    path = tmp_path / "wide.tflite"
    path.write_bytes(write_file(File((lower(run(model, INFERENCE_INT8), "int8").program,))))
    (found,) = read_tflite(path).layers
    (own,) = model.weights.values()
    np.testing.assert_array_equal(found.tensors["kernel"].array.transpose(turn), own["kernel"])
    assert found.window is not None
    assert found.window.padding == "valid"
    assert found.sees.window is not None
    assert found.sees.window.padding == (((1, 0), (1, 0)) if own["kernel"].shape[0] == 3 else ((2, 1), (2, 1)))


def test_the_filters_of_a_file_are_shown_without_the_zeros(tmp_path: Path) -> None:
    model = model_of(f"input 16x16x3\nconv(3x3, 8, stride=2, padding=half) | relu | {LARGE}")
    path = tmp_path / "wide.tflite"
    path.write_bytes(write_file(File((lower(run(model, INFERENCE_INT8), "int8").program,))))
    file = view_file(open_tflite(path, all_tensors=True))
    program = file.program
    assert program[program.operators[0].inputs[1]].shape[1:3] == (4, 4)
    found = first_filters(file)
    assert found is not None
    own = next(iter(model.weights.values()))["kernel"]
    np.testing.assert_array_equal(found.kernel, own)
    assert found.in_colour


@pytest.mark.parametrize(
    "zeros",
    ["0,0,0,0", "1,0,0,0", "0,1,0,0", "0,9,0,0", "9,9,9,9", "0,1,0,1,", "", "0,9999,0,1", f"0,{'9' * 5000},0,1"],
    ids=lambda zeros: zeros[:10],
)
@pytest.mark.parametrize("stride", [0, 2])
def test_a_name_that_lies_about_zeros_means_nothing(zeros: str, stride: int) -> None:
    program = lower(run(model_of("input 8x8x3\nconv(4, 4, stride=2)"), INFERENCE_INT8), "int8").program
    (operator,) = program.operators
    kernel = replace(program[operator.inputs[1]], name=f"k:zeros={zeros}")
    changed = replace(
        operator,
        inputs=(operator.inputs[0], kernel.name, *operator.inputs[2:]),
        options={**operator.options, "stride_h": stride},
    )
    program = replace(program, tensors={**program.tensors, kernel.name: kernel}, operators=(changed,))
    found = narrow_again(program)
    if zeros == "0,0,0,0" and stride:
        assert kernel_of(found) == (4, 4)
    else:
        assert found.operators == program.operators
