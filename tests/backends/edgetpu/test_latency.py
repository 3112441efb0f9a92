"""How long an inference takes: work and bytes by hand, times against what Coral's pages say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from cnnc.backends.edgetpu.latency import latency, macs, moved_bytes, show_ms
from cnnc.backends.edgetpu.prediction import check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.backends.tflite.structure import outline
from cnnc.loading import load
from cnnc.tflite_file.program import File, Operator, Program
from tests.backends.edgetpu.test_memory import act, weights
from tests.support.tflite_programs import constant, one_operator, tensor


def layer(kind: str, x: Sequence[int], w: Sequence[int], y: Sequence[int]) -> Program:
    return one_operator(kind, [act("x", *x), weights("w", *w)], act("y", *y))


@pytest.mark.parametrize(
    ("program", "work"),
    [
        (layer("CONV_2D", (1, 8, 8, 3), (16, 3, 3, 3), (1, 4, 4, 16)), 4 * 4 * 16 * 27),
        (layer("DEPTHWISE_CONV_2D", (1, 8, 8, 3), (1, 5, 5, 6), (1, 8, 8, 6)), 8 * 8 * 6 * 25),
        (layer("FULLY_CONNECTED", (1, 100), (10, 100), (1, 10)), 1_000),
        (layer("FULLY_CONNECTED", (7, 100), (10, 100), (7, 10)), 7_000),
        (layer("ADD", (1, 100), (1, 100), (1, 100)), 0),
        (layer("PRELU", (1, 4, 4, 8), (1, 1, 8), (1, 4, 4, 8)), 0),
    ],
    ids=["conv", "depthwise", "dense", "dense of rows", "add", "prelu"],
)
def test_multiplications_of_a_layer(program: Program, work: int) -> None:
    assert macs(program, program.operators[0]) == work


def test_multiplications_of_a_transposed_convolution_are_those_of_its_input() -> None:
    """Every value of 4x4x8 goes by every weight of 2x2 to each of 3 filters."""
    shape = constant("s", np.array([1, 8, 8, 3], np.int32))
    program = one_operator(
        "TRANSPOSE_CONV", [shape, weights("w", 3, 2, 2, 8), act("x", 1, 4, 4, 8)], act("y", 1, 8, 8, 3)
    )
    assert macs(program, program.operators[0]) == 4 * 4 * 8 * 4 * 3


def test_moved_bytes_are_values_in_and_out_without_constants() -> None:
    program = one_operator(
        "ADD", [act("x", 1, 8), tensor("z", (1, 8), "INT32", 0.5), weights("w", 9, 9)], act("y", 1, 4)
    )
    assert moved_bytes(program, program.operators[0]) == 8 + 32 + 4


def test_the_estimate_is_its_formula() -> None:
    """A millisecond for 1.155e9 multiplications, 11.52 MB or 0.508 MB that are streamed; 0.792 at least."""
    program = layer("CONV_2D", (1, 120, 96, 1000), (1000, 1, 1, 1000), (1, 120, 96, 1000))
    work, moved = 120 * 96 * 10**6, 2 * 11_520_000
    found = latency(program, [0], 508_000)
    assert found.ms == pytest.approx(0.792 + work / 1.155e9 + moved / 11.52e6 + 1, rel=1e-3)
    assert (found.low, found.high) == pytest.approx((0.75 * found.ms, 1.6 * found.ms))
    assert found.cpu_ms == pytest.approx(work / 30e6 + moved / 4e6)
    assert found.with_edge_tpu_ms == found.ms
    assert not found.is_cpu_faster


def test_what_stays_on_the_cpu_costs_what_it_does_there() -> None:
    """MobileNet v1 took 53 ms for its 569 million on the desktop of the published tables: 10.7 million each."""
    program = layer("CONV_2D", (1, 1, 1, 1000), (1000, 1, 1, 1000), (1, 1, 1, 1000))
    assert latency(program, [], 0).ms == pytest.approx(10**6 / 10.7e6)
    resize = one_operator("RESIZE_BILINEAR", [act("x", 1, 10, 10, 1000)], act("y", 1, 20, 20, 1000))
    assert latency(resize, [], 0).ms == pytest.approx(1)


def test_an_operator_that_stays_on_the_cpu_makes_no_cpu_faster() -> None:
    """Work that a CPU does in either case is no reason to do without the Edge TPU."""
    tensors = {name: act(name, 1, 1, 1, 4000) for name in ("x", "a", "y")}
    tensors |= {name: weights(name, 4000, 1, 1, 4000) for name in ("v", "w")}
    operators = (Operator("CONV_2D", ("x", "v"), ("a",)), Operator("CONV_2D", ("a", "w"), ("y",)))
    found = latency(Program("main", tensors, operators, ("x",), ("y",)), [0], 0)
    assert found.ms > 1.5 * found.cpu_ms
    assert found.with_edge_tpu_ms < found.cpu_ms * 1.5
    assert not found.is_cpu_faster


@pytest.mark.parametrize(("spec", "published"), [("mobilenet_v2", 2.6), ("mobilenet_v1", 2.4)])
def test_estimates_are_near_what_coral_published(spec: str, published: float) -> None:
    """Milliseconds of coral.ai/docs/edgetpu/benchmarks and coral.ai/models, USB 3 on a desktop, 224 pixels."""
    cost = check(File((outline(load(spec).graph),))).cost
    assert cost is not None
    assert cost.latency.ms == pytest.approx(published, rel=0.15)
    assert cost.latency.low < published < cost.latency.high


@pytest.mark.fault("E6")
@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "0"),
        (5.8e-05, "under 0.001"),
        (0.0123456, "0.0123"),
        (0.79249, "0.792"),
        (1.0, "1.00"),
        (2.965, "2.96"),
        (41.25, "41.2"),
        (99.96, "100.0"),
        (219.7, "220"),
        (1234.5, "1,230"),
        (98765.4, "98,800"),
    ],
)
def test_times_have_three_digits_and_no_powers(ms: float, text: str) -> None:
    assert show_ms(ms) == text


RELU = one_operator("RELU", [act("x", 1, 8)], act("y", 1, 8))
UNTELLABLE = {
    "compiled": Program(
        "main", RELU.tensors, (Operator("CUSTOM", ("x",), ("y",), custom="edgetpu-custom-op"),), ("x",), ("y",)
    ),
    "refused": Program("main", RELU.tensors, (Operator("RELU", ("x",), ("y",), version=9),), ("x",), ("y",)),
    "float": one_operator("RELU", [tensor("x", (1, 8))], tensor("y", (1, 8))),
    "nothing mapped": one_operator("ELU", [act("x", 1, 8)], act("y", 1, 8)),
}


@pytest.mark.fault("E6")
@pytest.mark.parametrize("kind", UNTELLABLE)
def test_what_cannot_be_told_is_not_told(kind: str) -> None:
    """Not as 0 bytes, not as a time of what never runs there, nor as a CPU that is faster."""
    report = check(File((UNTELLABLE[kind],)))
    text, words = render(report), to_json(report)
    assert report.warnings == ()
    for name in ("parameters:", "activations:", "latency:", "faster", " 0 B"):
        assert name not in text
    for key in ("cached_bytes", "streamed_bytes", "activation_bytes", "latency_ms", "cpu_ms", "cpu_faster"):
        assert words[key] is None


def test_a_compiled_file_is_given_no_advice_on_its_operators() -> None:
    text = render(check(File((UNTELLABLE["compiled"],))))
    assert "is predicted to refuse the model\nrefused: the model is compiled for the Edge TPU already" in text
    assert "the graph is cut" not in text
    assert "status once" not in text
