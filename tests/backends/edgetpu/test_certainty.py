"""How sure it is that an operator is mapped: one grade in table, words and JSON.

Sizes are those of decoded models and of logs of Google's compiler.
"""

from __future__ import annotations

from math import prod
from typing import Any

import pytest

from cnnc.backends.edgetpu.certainty import LARGEST, Certainty
from cnnc.backends.edgetpu.prediction import Report, check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.tflite_file.program import File, Operator, Program, Tensor
from tests.backends.edgetpu.test_rules import act, conv, ints, out, versioned, weights
from tests.support.calling import call, good
from tests.support.tflite_programs import one_operator

GATE = act(1, 1, 1, 4, name="gate")


def unbiased(shape: tuple[int, ...]) -> Program:
    return one_operator("CONV_2D", [act(1, 8, 8, 3), weights(*shape)], out(1, 8, 8, 4))


def like(kind: str, *shape: int, **options: Any) -> Program:
    return one_operator(kind, [act(*shape)], out(*shape), **options)


def pair(kind: str, other: Tensor, **options: Any) -> Program:
    return one_operator(kind, [act(1, 8, 8, 4), other], out(1, 8, 8, 4), **options)


OTHER = act(1, 8, 8, 4, name="z")
GRADES: dict[str, tuple[Certainty, Program]] = {
    "conv": ("known", conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4))),
    "conv, as large as the largest": ("known", conv(act(1, 2000, 2000, 4), weights(4, 1, 1, 4), out(1, 1, 660872, 1))),
    "conv, a byte larger": ("likely", conv(act(1, 2000, 2000, 4), weights(4, 1, 1, 4), out(1, 1, 660873, 1))),
    "conv, 4 times as large": ("likely", conv(act(1, 8000, 2000, 4), weights(4, 1, 1, 4), out(1, 1, 2643488, 1))),
    "conv, larger yet": ("unknown", conv(act(1, 8000, 2000, 4), weights(4, 1, 1, 4), out(1, 1, 2643489, 1))),
    "conv of 16x16": ("known", conv(act(1, 16, 16, 3), weights(4, 16, 16, 3), out(1, 1, 1, 4))),
    "conv of 17x1": ("unknown", conv(act(1, 17, 17, 3), weights(4, 17, 1, 3), out(1, 1, 1, 4))),
    "conv without a bias": ("likely", unbiased((4, 3, 3, 3))),
    "dilated conv": ("likely", conv(act(1, 8, 8, 3), weights(4, 3, 3, 3), out(1, 8, 8, 4), dilation_h=2, dilation_w=2)),
    "relu": ("likely", like("RELU", 1, 8)),
    "tanh": ("likely", like("TANH", 1, 8)),
    "transpose": ("likely", one_operator("TRANSPOSE", [act(1, 8, 8, 4), ints(0, 3, 1, 2)], out(1, 4, 8, 8))),
    "max pool": ("known", like("MAX_POOL_2D", 1, 1024, 1024, 1, activation="NONE")),
    "large max pool": ("likely", like("MAX_POOL_2D", 1, 2048, 1024, 1, activation="NONE")),
    "sum": ("known", pair("ADD", OTHER, activation="NONE")),
    "sum with relu": ("likely", pair("ADD", OTHER, activation="RELU")),
    "dense with relu": (
        "likely",
        one_operator("FULLY_CONNECTED", [act(1, 8), weights(4, 8), None], out(1, 4), activation="RELU"),
    ),
    "product with a gate": ("unknown", pair("MUL", GATE)),
    "sum with a vector": ("unknown", pair("ADD", GATE)),
    "difference of unlike shapes": ("unknown", pair("SUB", GATE)),
    "product with constants": ("known", pair("MUL", weights(1, 1, 1, 4))),
    "mean of 64x128": ("unknown", one_operator("MEAN", [act(1, 64, 128, 4), ints(1, 2)], out(1, 4))),
    "mean of 91x91, of one channel": ("unknown", one_operator("MEAN", [act(1, 91, 91, 1), ints(1, 2)], out(1, 1))),
    "mean of 3x2": ("known", one_operator("MEAN", [act(1, 3, 2, 1024), ints(1, 2)], out(1, 1, 1, 1024))),
    "sure version": ("known", versioned(pair("MUL", OTHER), 4)),
    "version of TensorFlow 2.6": ("likely", versioned(pair("MUL", OTHER), 5)),
    "tile": ("known", one_operator("TILE", [act(1, 1, 1, 128), ints(1, 33, 33, 1)], out(1, 33, 33, 128))),
}


@pytest.mark.fault("E2")
@pytest.mark.parametrize("name", GRADES)
def test_an_operator_has_a_grade_of_certainty(name: str) -> None:
    grade, program = GRADES[name]
    (verdict,) = check(File((program,))).operators
    assert verdict.mapped
    assert verdict.certainty == grade
    assert (verdict.doubt is None) == (grade == "known")


SEEN: dict[str, tuple[tuple[int, ...], ...]] = {
    "ADD": ((129, 129, 24), (129, 129, 24), (129, 129, 24)),
    "AVERAGE_POOL_2D": ((33, 33, 1280), (1, 1, 1280)),
    "CONCATENATION": ((33, 33, 128), (33, 33, 128), (33, 33, 256)),
    "CONV_2D": ((361, 641, 24), (361, 641, 48)),
    "DEPTHWISE_CONV_2D": ((361, 641, 48), (181, 321, 48)),
    "FULLY_CONNECTED": ((16384,), (1,)),
    "LOGISTIC": ((112, 112, 32), (112, 112, 32)),
    "MEAN": ((3, 2, 1024), (1024,)),
    "MUL": ((112, 112, 32), (112, 112, 32), (112, 112, 32)),
    "PAD": ((721, 1281, 3), (722, 1282, 3)),
    "QUANTIZE": ((721, 1281, 3), (721, 1281, 3)),
    "RESHAPE": ((128, 128), (16384,)),
    "RESIZE_BILINEAR": ((24, 24, 24), (48, 48, 24)),
    "SOFTMAX": ((16384,), (16384,)),
    "SUB": ((192, 192, 3), (192, 192, 3)),
    "TILE": ((1, 1, 128), (33, 33, 128)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": ((28, 28), (20,), (20,), (28, 20)),
}
"""What the largest mapped operator of each kind reads and writes: PoseNet, DeepLab slim, MoveNet, YAMNet, the trackers
of LibrEdgeTPU and an LSTM as Google and others compiled them, and YOLOv5s of a log."""


@pytest.mark.parametrize("kind", SEEN)
def test_what_is_known_goes_as_far_as_compiled_models_do(kind: str) -> None:
    assert LARGEST[kind] == sum(prod(shape) for shape in SEEN[kind])
    assert LARGEST.keys() == SEEN.keys()


@pytest.mark.parametrize(
    ("program", "grade"),
    [
        (like("ELU", 1, 8), "known"),
        (like("HARD_SWISH", 1, 8), "likely"),
        (like("ABS", 1, 8), "likely"),
        (like("CAST", 1, 8), "known"),
        (one_operator("SOFTMAX", [act(1, 20000)], out(1, 20000)), "likely"),
        (one_operator("FULLY_CONNECTED", [act(5, 8), weights(4, 8)], out(5, 4)), "known"),
    ],
    ids=["elu", "hard_swish", "abs", "cast", "softmax", "dense of rows"],
)
def test_that_one_stays_on_the_cpu_has_a_grade_too(program: Program, grade: str) -> None:
    (verdict,) = check(File((program,))).operators
    assert (verdict.mapped, verdict.certainty) == (False, grade)


def gated() -> Program:
    """A convolution, squeeze-and-excite's product, and a sum."""
    names = {"x": (1, 8, 8, 4), "g": (1, 1, 1, 4), "a": (1, 8, 8, 4), "b": (1, 8, 8, 4), "y": (1, 8, 8, 4)}
    tensors = {name: act(*shape, name=name) for name, shape in names.items()}
    operators = (
        Operator("LOGISTIC", ("x",), ("a",)),
        Operator("MUL", ("a", "g"), ("b",)),
        Operator("TANH", ("b",), ("y",)),
    )
    return Program("main", tensors, operators, ("x", "g"), ("y",))


@pytest.mark.fault("E2")
def test_table_words_and_json_say_the_same() -> None:
    report = check(File((gated(),)))
    assert report.mapped == {"known": 1, "likely": 1, "unknown": 1}
    text = render(report, "net")
    assert text.startswith(
        "edgetpu_compiler 16.0 is predicted to map 2 of 3 operators of net: 1 known, 1 likely; of 1 it is unknown\n"
    )
    assert "│ MUL      │     1 │ Not known to be mapped │ unknown   │" in text
    assert "│ TANH     │     1 │ Mapped to Edge TPU     │ likely    │" in text
    assert "unknown: no MUL of [1, 8, 8, 4] and [1, 1, 1, 4], as in squeeze-and-excite, has been shown" in text
    assert "if what is unknown stays on the CPU, the graph is cut there, and the Edge TPU gets 1 operator\n" in text
    words = to_json(report)
    assert words["mapped"] == {"known": 1, "likely": 1, "unknown": 1}
    assert words["mapped_at_least"] == 1
    assert [each["certainty"] for each in words["operators"]] == ["known", "unknown", "likely"]
    assert [each["mapped"] for each in words["operators"]] == [True, True, True]


def test_operators_after_a_cut_are_as_sure_as_the_cut() -> None:
    for kind, grade in (("ELU", "known"), ("HARD_SWISH", "likely")):
        tensors = {name: act(1, 8, name=name) for name in ("x", "a", "b", "y")}
        operators = (
            Operator("LOGISTIC", ("x",), ("a",)),
            Operator(kind, ("a",), ("b",)),
            Operator("LOGISTIC", ("b",), ("y",)),
        )
        report = check(File((Program("main", tensors, operators, ("x",), ("y",)),)))
        assert [each.certainty for each in report.operators] == ["known", grade, grade]


def headline(report: Report) -> str:
    return render(report, "net").splitlines()[0].removeprefix("edgetpu_compiler 16.0 is predicted to ")


def test_the_headline_counts_by_certainty() -> None:
    assert headline(check(File((like("LOGISTIC", 1, 8),)))) == "map all 1 operators of net: 1 known"
    assert headline(check(File((like("ELU", 1, 8),)))) == "map 0 of 1 operators of net"
    assert headline(check(File((pair("MUL", GATE),)))) == "map 0 of 1 operators of net; of 1 it is unknown"


@pytest.mark.fault("E2")
def test_squeeze_and_excite_is_one_statement() -> None:
    text = call("check", "mobilenet_v3", "--target", "edgetpu").stdout
    found = good("check", "mobilenet_v3", "--target", "edgetpu")
    counts = found["mapped"]
    total = len(found["operators"])
    assert counts["unknown"] == 8  # the blocks with squeeze-and-excite of table 1 of Howard et al. 2019
    assert f"map {total - 8} of {total} operators of mobilenet_v3: " in text
    assert "; of 8 it is unknown\n" in text
    assert "│ MUL               │     8 │ Not known to be mapped │ unknown   │" in text
    assert "\n  leave squeeze-and-excite out" in text
    assert "warning: MUL" not in text
