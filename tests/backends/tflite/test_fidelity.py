"""What is said of an int8 file: how near each output is to the float file on LiteRT, where it falls back, and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
import cnnc.backends.tflite.compile as compiling
from cnnc.backends.tflite.compile import Quantized, Settings, compile_float, compile_int8
from cnnc.backends.tflite.quantization.fidelity import decibels, measure
from cnnc.backends.tflite.quantization.quantize import Io
from cnnc.backends.tflite.quantization.warnings import warnings
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.diagnostics import Diagnostic, render
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File, Program, Quantization
from cnnc.tflite_file.write import write_file

interpreter = pytest.importorskip("ai_edge_litert.interpreter")

Weights = dict[str, dict[str, NDArray[Any]]]
CHAIN = "input 16x16x3\nnormalize(symmetric) | conv(3, 8, stride=2) | relu | conv(3, 8) | relu\nflatten | dense(10)"
DETECTOR = """\
input 16x16x3
stem: normalize(symmetric) | conv(3, 8, stride=2) | relu
boxes: conv(1, 4) | reshape(64x4)
scores: stem | conv(1, 3) | sigmoid | reshape(64x3)
"""
PICTURES = [
    {"input": np.random.default_rng(seed).integers(0, 256, (1, 16, 16, 3)).astype(np.uint8)} for seed in range(4)
]


def as_they_are(weights: Weights) -> None:
    """For networks in good condition."""


def times(node: str, factor: float) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        weights[node] = {short: (array * factor).astype(np.float32) for short, array in weights[node].items()}

    return change


def model_of(text: str, change: Callable[[Weights], None] = as_they_are) -> Model:
    graph = cnnc.load_text(text, "net.cnn").graph
    weights = {node: dict(arrays) for node, arrays in random_weights(graph, 0).items()}
    change(weights)
    return Model(graph, weights)


def quantized(model: Model, io: Io = "int8") -> Quantized:
    return compile_int8(model, PICTURES, Settings(io, "minmax"))


def said(found: Quantized) -> str:
    return "\n".join(render(each, "warning") for each in found.warnings)


def outputs_of(program: Program) -> dict[str, NDArray[np.float64]]:
    """What LiteRT's own interpreter makes of the pictures, in real numbers by its own parameters."""
    reader = interpreter.Interpreter(model_content=write_file(File((program,))))
    reader.allocate_tensors()
    (given,) = reader.get_input_details()
    rows: dict[str, list[NDArray[np.float64]]] = {}
    for picture in PICTURES:
        pixels = picture["input"].astype(np.int16) - (128 if given["dtype"] is np.int8 else 0)
        reader.set_tensor(given["index"], pixels.astype(given["dtype"]))
        reader.invoke()
        for each in reader.get_output_details():
            scale, zero = each["quantization"]
            codes = reader.get_tensor(each["index"]).astype(np.float64)
            rows.setdefault(each["name"], []).append(scale * (codes - zero) if scale else codes)
    return {name: np.stack(each) for name, each in rows.items()}


# Figures


@pytest.mark.fault("Q8")
@pytest.mark.parametrize("io", ["int8", "uint8", "float32"])
def test_every_output_has_the_figure_that_litert_and_numpy_give(io: Io) -> None:
    model = model_of(DETECTOR.replace("| sigmoid", "") + "output boxes, scores")
    found = quantized(model, io)
    exact, rounded = outputs_of(compile_float(model)), outputs_of(found.program)
    assert list(found.measurement.outputs) == list(exact) == ["boxes", "scores"]
    for name, each in found.measurement.outputs.items():
        noise = ((rounded[name] - exact[name]) ** 2).mean()
        assert each.sqnr == pytest.approx(10 * np.log10(exact[name].var() / noise), abs=0.05)
        assert each.sqnr > 25
    assert said(found) == ""


@pytest.mark.fault("Q8")
def test_inputs_of_bytes_and_of_real_numbers_are_fed_as_their_user_feeds_them() -> None:
    scaled = "x: a | normalize(unit)\ny: b | normalize(mean=1, std=2)\nconcat(x, y) | conv(3, 4)"
    model, rng = model_of(f"input a 8x8x3\ninput b 8x8x3\n{scaled}"), np.random.default_rng(0)
    samples: list[dict[str, NDArray[Any]]] = [
        {
            "a": rng.integers(0, 256, (1, 8, 8, 3)).astype(np.uint8),
            "b": rng.normal(1, 2, (1, 8, 8, 3)).astype(np.float32),
        }
        for _ in range(4)
    ]
    found = compile_int8(model, samples, Settings(method="minmax"))
    values = []
    for program in (compile_float(model), found.program):
        reader = interpreter.Interpreter(model_content=write_file(File((program,))))
        reader.allocate_tensors()
        (end,), rows = reader.get_output_details(), []
        for sample in samples:
            for each in reader.get_input_details():
                scale, zero = each["quantization"]
                array = sample[each["name"]].astype(np.float64)
                if scale:
                    array = array - 128 if each["name"] == "a" else np.clip(np.rint(array / scale) + zero, -128, 127)
                reader.set_tensor(each["index"], array.astype(each["dtype"]))
            reader.invoke()
            scale, zero = end["quantization"]
            codes = reader.get_tensor(end["index"]).astype(np.float64)
            rows.append(scale * (codes - zero) if scale else codes)
        values.append(np.stack(rows))
    expected = 10 * np.log10(values[0].var() / ((values[1] - values[0]) ** 2).mean())
    assert found.measurement.outputs["output"].sqnr == pytest.approx(expected, abs=0.05)
    assert found.measurement.tensors["b"].sqnr > 35


@pytest.mark.fault("Q8")
def test_no_output_hides_behind_another() -> None:
    """Values of 1e-22 are taken for zero, which a mean over outputs of the size of 1 would not show."""
    model = model_of(DETECTOR + "output boxes, scores", times("boxes.conv1", 1e-22))
    found = compile_int8(model, PICTURES, Settings(method="auto"))
    figures = {name: each.sqnr for name, each in found.measurement.outputs.items()}
    assert figures["boxes"] < 1
    assert figures["scores"] > 25
    assert all(each.sqnr is not None and each.sqnr < 1 for each in found.candidates)
    assert "the int8 output `boxes` is not the float network's: " in said(found)
    assert "output `scores`" not in said(found)
    assert "values below 1e-06 are taken for zero" in said(found)


@pytest.mark.fault("Q8")
def test_values_of_1e22_are_measured_as_others_are() -> None:
    """LiteRT's HARD_SWISH gets them wrong, and every other operator of this network right."""
    found = quantized(model_of("input 16x16x3\nconv(3, 8) | hard_swish", times("conv1", 1e22)))
    assert found.measurement.tensors["conv1"].sqnr > 30
    assert found.measurement.outputs["output"].sqnr < 10
    told = said(found)
    assert "warning[quantization]: the int8 output `output` is not the float network's: " in told
    assert "--> net.cnn:2:14" in told
    assert "a batch norm brings them to the size of 1" in told
    good = quantized(model_of("input 16x16x3\nconv(3, 8) | relu", times("conv1", 1e22)))
    assert 30 < good.measurement.outputs["output"].sqnr < inf
    assert said(good) == ""


@pytest.mark.fault("Q8")
@pytest.mark.parametrize("end", ["softmax", "sigmoid", "softmax | reshape(5x2)"])
def test_figures_are_of_what_enters_the_last_softmax(end: str) -> None:
    """Rounded to 1/256, probabilities tell little of the error before them."""
    found = compile_int8(model_of(f"{CHAIN} | {end}"), PICTURES, Settings(correct_biases=True))
    plain = compile_int8(model_of(CHAIN), PICTURES, Settings(correct_biases=True))
    assert found.measurement.outputs["output"].sqnr == pytest.approx(plain.measurement.outputs["output"].sqnr, abs=0.01)
    assert [each.sqnr for each in found.candidates] == pytest.approx([each.sqnr for each in plain.candidates], abs=0.01)
    assert "output" not in found.measurement.tensors


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100, 1, 20), (1, 0, inf), (0, 0, inf), (0, 1, -inf), (inf, 1, -inf), (1, np.nan, -inf), (1e44, 1e40, 40)],
)
def test_decibels_are_no_numbers_only_where_values_are_none(signal: float, noise: float, expected: float) -> None:
    assert decibels(signal, noise) == pytest.approx(expected)


# Places


def spoilt(found: Quantized, name: str, factor: float) -> Program:
    """The program with a tensor's scale changed, so that all after it reads other values."""
    program = found.program
    before = program[name].quantization
    assert before is not None
    changed = Quantization(tuple(scale * factor for scale in before.scale), before.zero_point)
    return replace(program, tensors={**program.tensors, name: replace(program[name], quantization=changed)})


def told_of(model: Model, program: Program) -> tuple[Diagnostic, ...]:
    exact = compile_float(model)
    return warnings(exact, program, model.graph, measure(exact, program, model.graph, PICTURES))


@pytest.mark.fault("Q8")
def test_the_first_tensor_that_falls_is_named_at_its_layer_s_place() -> None:
    model = model_of(CHAIN)
    first, *_ = told_of(model, spoilt(quantized(model), "relu2", 200.0))
    assert "the int8 output `output` is not the float network's" in first.message
    assert first.primary is not None
    assert first.primary.span.text == "relu"
    assert first.primary.span.location == "net.cnn:2:67"
    assert first.primary.message.startswith("`relu2` is the first below 10 dB: ")


@pytest.mark.fault("Q8")
def test_a_tensor_that_is_cut_off_is_named_with_its_range() -> None:
    model = model_of(CHAIN)
    program = spoilt(quantized(model), "relu2", 0.1)
    (cut,) = (each for each in told_of(model, program) if "is cut off" in each.message)
    assert cut.message.startswith("`relu2` is cut off in int8: ")
    assert cut.help is not None
    assert "--ranges minmax" in cut.help


@pytest.mark.fault("Q1")
def test_the_fault_of_q1_would_be_named_where_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of pixels, 0 to 255, for a program that holds normalised values: two codes are left of each pixel."""
    monkeypatch.setattr(compiling, "_as_real", lambda array, given: array.astype(np.float32))
    told = said(quantized(model_of("input 16x16x3\nnormalize(unit) | flatten | dense(10)")))
    assert "`input:for flatten1` is the first below 10 dB: " in told
    assert ", without an error before it" in told
    assert "--> net.cnn:2:19" in told
    assert "--io float32 keeps the input's values" in told


@pytest.mark.fault("Q1")
def test_an_input_that_is_spoilt_is_the_first_to_be_named() -> None:
    model = model_of(CHAIN)
    found = quantized(model)
    assert next(iter(found.measurement.tensors)) == "input"
    assert found.measurement.tensors["input"].sqnr > 35
    first, *_ = told_of(model, spoilt(found, "input", 9.0))
    assert first.primary is not None
    assert first.primary.message.startswith("`input` is the first below 10 dB: ")
    assert "--io float32" in (first.help or "")


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("before", ["bgr", "dropout", "bgr | pad(0)"])
def test_an_input_is_held_to_a_normalisation_behind_what_the_passes_leave_out(before: str) -> None:
    found = quantized(model_of(f"input 16x16x3\n{before} | normalize(symmetric) | conv(3, 4, stride=2)"))
    assert found.measurement.tensors["input"].sqnr > 35
    assert not found.warnings


# Joins


def of_boxes(weights: Weights) -> None:
    """Boxes of 0 to some 1,700, as detectors give them in pixels."""
    times("boxes.conv1", 300)(weights)
    weights["boxes.conv1"]["bias"] = np.full(4, 800, np.float32)


@pytest.mark.fault("Q2")
def test_scores_that_lose_all_beside_boxes_are_named() -> None:
    model = model_of(DETECTOR + "all: concat(boxes, scores)\noutput all", of_boxes)
    found = quantized(model)
    columns = outputs_of(found.program)["all"].reshape(-1, 7)
    truth = outputs_of(compile_float(model))["all"].reshape(-1, 7)
    assert (np.ptp(columns, axis=0)[4:] == 0).all()  # as LiteRT says
    assert (np.ptp(truth, axis=0)[4:] > 0.1).all()
    assert found.measurement.outputs["all"].sqnr > 25  # the figure of all is good
    told = said(found)
    assert "the int8 output `all` is constant in 3 of 7 channels that vary in the float one" in told
    assert "`all` joins its inputs on one scale, of whose 256 codes `scores.reshape1` keeps 1" in told
    assert "--> net.cnn:5:6" in told
    assert "declare them as outputs of their own" in told
    assert said(quantized(model_of(DETECTOR + "output boxes, scores", of_boxes))) == ""


@pytest.mark.fault("Q2")
def test_a_branch_that_an_addition_rounds_away_is_named() -> None:
    text = "input 16x16x3\nconv(3, 4)\nadd {\nconv(1, 4) | relu\nidentity\n}\nconv(3, 4)"
    told = said(quantized(model_of(text, times("conv2", 1e-4))))
    assert "`add1` joins its inputs on one scale, of whose 256 codes `relu1` keeps 1" in told
    assert "bring its inputs to like ranges" in told
    assert said(quantized(model_of(text))) == ""


def test_many_joins_of_a_kind_are_told_once() -> None:
    def change(weights: Weights) -> None:
        for node in ("conv2", "conv3", "conv4"):
            times(node, 1e-4)(weights)

    text = "input 16x16x3\nconv(3, 4)\n" + 3 * "add {\nconv(1, 4) | relu\nidentity\n}\n"
    (only,) = quantized(model_of(text, change)).warnings
    assert only.notes[-1] == "and 2 more layers like it, at net.cnn:7:1, net.cnn:11:1"


def test_what_a_softmax_or_swish_makes_nothing_of_is_no_warning() -> None:
    for layers in ("conv(3, 8) | swish | conv(3, 8) | swish", "flatten | dense(40) | softmax", "conv(3, 8) | sigmoid"):
        assert said(compile_int8(model_of(f"input 16x16x3\n{layers}"), PICTURES)) == "", layers


def test_factors_that_equalisation_moves_to_the_next_layer_are_no_error() -> None:
    def change(weights: Weights) -> None:
        weights["depthwise1"]["kernel"] = (
            weights["depthwise1"]["kernel"] * np.logspace(0, 2, 8, dtype=np.float32)[:, None]
        )

    model = model_of("input 16x16x3\nconv(3, 8) | relu | depthwise(3) | relu | conv(1, 4)", change)
    found = compile_int8(model, PICTURES, Settings(method="minmax", equalize=True))
    exact = compile_float(model)
    plain = measure(exact, found.program, model.graph, PICTURES)
    assert min(each.sqnr for each in plain.tensors.values()) < 10
    assert min(each.sqnr for each in found.measurement.tensors.values()) > 20
    assert said(found) == ""
