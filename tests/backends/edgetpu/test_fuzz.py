"""The checker on damaged files: it ends, with a report or a CnnError."""

from __future__ import annotations

import json
import struct
from math import prod
from time import monotonic

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.backends.edgetpu.prediction import Report, check, to_json
from cnnc.backends.edgetpu.render import render
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import ABSENT, File, Operator, Program, Quantization, Tensor
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.schema import OPERATORS, TENSOR_TYPES
from tests.support.paths import SHARED

FOLDER = SHARED / "edgetpu" / "models"
SMALL = sorted(path for path in FOLDER.glob("*.tflite") if path.stat().st_size < 20_000)


def require_tflite(error: CnnError) -> None:
    """A refusal has the code of damaged files."""
    assert [diagnostic.code for diagnostic in error.diagnostics] == ["tflite"]


def examine(report: Report) -> None:
    """All that is made of a report."""
    json.dumps(to_json(report))
    assert render(report).endswith("\n")


def examine_bytes(data: bytes) -> None:
    try:
        examine(check(read_file(data, "bad.tflite")))
    except CnnError as error:
        require_tflite(error)


@pytest.mark.skipif(not SMALL, reason="the models lie in ../shared, which is not here")
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_mutated_models_never_crash_the_checker(data: st.DataObject) -> None:
    held = bytearray(data.draw(st.sampled_from(SMALL)).read_bytes())
    words = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000, 0x7F800000])
    for _ in range(data.draw(st.integers(1, 12))):
        struct.pack_into("<I", held, data.draw(st.integers(0, len(held) - 4)), data.draw(words))
    examine_bytes(bytes(held))
    examine_bytes(bytes(held[: data.draw(st.integers(0, len(held)))]))


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 8, 2**31 - 1]), max_size=6).map(tuple)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Programs that a file can hold, and that no converter would write: any operators on any tensors."""
    names = [f"t{i}" for i in range(draw(st.integers(1, 8)))]
    tensors = {}
    for name in names:
        shape = draw(SHAPES)
        kind = draw(st.sampled_from(TENSOR_TYPES) | st.sampled_from(["INT8", "UINT8", "INT32"]))
        scale = st.none() | st.sampled_from([0.0, 0.5, float("inf"), float("nan"), -1.0])
        found = draw(scale.map(lambda value: None if value is None else Quantization((value,), (0,))))
        value = np.array(draw(st.integers(-9, 9)), np.int32)
        data = (
            np.broadcast_to(value, shape)
            if draw(st.booleans()) and prod(max(size, 1) for size in shape) < 2**20
            else None
        )
        signature = draw(st.none() | st.just(tuple(-1 for _ in shape)))
        tensors[name] = Tensor(name, shape, kind, found, data, signature, draw(st.booleans()))
    options = {"axis": 9, "activation": "RELU", "weights_format": 1, "dilation_h": 0, "new_axis_mask": 3}
    operators = []
    for _ in range(draw(st.integers(0, 6))):
        kind = draw(st.sampled_from(OPERATORS) | st.just("BUILTIN_999"))
        given = draw(st.lists(st.sampled_from([*names, ABSENT]), max_size=5))
        made = draw(st.lists(st.sampled_from([*names, ABSENT]), max_size=3))
        chosen = {key: value for key, value in options.items() if draw(st.booleans())}
        version = draw(st.integers(-1, 20))
        custom = "own" if kind == "CUSTOM" else ""
        operators.append(Operator(kind, tuple(given), tuple(made), chosen, version, custom=custom))
    return Program("main", tensors, tuple(operators), (), ())


@settings(max_examples=40, deadline=None)
@given(st.lists(programs(), min_size=1, max_size=2))
def test_programs_of_anything_never_crash_the_checker(found: list[Program]) -> None:
    examine(check(File(tuple(found))))


def test_a_long_chain_is_checked_in_time() -> None:
    count = 3000
    tensors = {f"t{i}": Tensor(f"t{i}", (1, 8), "INT8", Quantization((0.5,), (0,))) for i in range(count + 1)}
    kinds = ("RELU", "ELU")
    operators = tuple(Operator(kinds[i % 7 == 6], (f"t{i}",), (f"t{i + 1}",)) for i in range(count))
    begun = monotonic()
    examine(check(File((Program("main", tensors, operators, ("t0",), (f"t{count}",)),))))
    assert monotonic() - begun < 20
