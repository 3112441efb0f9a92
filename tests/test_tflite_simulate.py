"""The simulation of TFLite programs computes what LiteRT computes: to the last bit of int8, rarely a step beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.backends.tflite.simulate import KEEPS_SCALE, simulate, supports
from cnnc.diagnostics import CnnError
from cnnc.tflite.program import Program
from cnnc.tflite.read import open_file
from tests.tflite_cases import CASES, cases
from tests.tflite_programs import Array, constant, one_operator, random_inputs, run_litert, tensor

SHARED = Path(__file__).parents[1].parent / "shared"

FLOAT_ONLY = {"CONV_3D", "CONV_3D_TRANSPOSE", "DIV", "LOCAL_RESPONSE_NORMALIZATION"}
"""Operators that LiteRT has in no type of 8 bits, or, of DIV, only a wrong one."""

TO_FLOAT = {"DEQUANTIZE", "CAST"}

INT8_ONLY = {
    "NEG",
    "RSQRT",
    "EXP",
    "SQUARED_DIFFERENCE",
    "ABS",
    "ELU",
    "BATCH_MATMUL",
    "TRANSPOSE_CONV",
    "PRELU",
    "SUM",
}
"""Operators that LiteRT has in int8 and not in uint8, or that nobody writes in it."""

FLOAT = sorted(set(CASES) - {"QUANTIZE"})
INT8 = sorted(set(CASES) - FLOAT_ONLY - TO_FLOAT)
UINT8 = sorted(set(INT8) - INT8_ONLY)


def assert_near(program: Program, inputs: dict[str, Array], expected: dict[str, Array]) -> None:
    """Floats agree to 1e-5; whole numbers within a step, all but one in a thousand to the bit."""
    found = simulate(program, inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        if value.dtype.kind == "f":
            largest = float(np.abs(value).max(initial=1.0))
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-5 * largest)
        else:
            away = np.abs(found[name].astype(np.int64) - value.astype(np.int64))
            assert away.max(initial=0) <= 1
            assert np.count_nonzero(away) <= max(1, value.size // 1000)


def agree(program: Program, seed: int, **options: Any) -> None:
    inputs = random_inputs(program, seed)
    if program.operators[0].kind in ("RSQRT", "DIV"):  # not defined for all numbers
        inputs = {name: np.abs(x) + 1 if x.dtype.kind == "f" else x for name, x in inputs.items()}
    assert_near(program, inputs, run_litert(program, inputs, **options))


@pytest.mark.parametrize("examples", [4, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", FLOAT)
def test_float_operators_agree_with_litert(kind: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(program=cases(kind, "FLOAT32"), seed=st.integers(0, 99))
    def check(program: Program, seed: int) -> None:
        agree(program, seed)

    check()


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", INT8)
def test_int8_operators_agree_with_litert(kind: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(program=cases(kind, "INT8"), seed=st.integers(0, 99))
    def check(program: Program, seed: int) -> None:
        agree(program, seed)

    check()


@pytest.mark.parametrize("examples", [4, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", UINT8)
def test_uint8_operators_agree_with_litert(kind: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(program=cases(kind, "UINT8"), seed=st.integers(0, 99))
    def check(program: Program, seed: int) -> None:
        agree(program, seed)

    check()


@pytest.mark.parametrize("examples", [5, pytest.param(30, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"])
def test_weighed_sums_agree_with_litert_without_xnnpack_within_a_step(kind: str, examples: int) -> None:
    @settings(max_examples=examples)
    @given(program=cases(kind, "INT8"), seed=st.integers(0, 99))
    def check(program: Program, seed: int) -> None:
        inputs = random_inputs(program, seed)
        (found,), (expected,) = (
            list(values.values()) for values in (simulate(program, inputs), run_litert(program, inputs, xnnpack=False))
        )
        assert np.abs(found.astype(int) - expected.astype(int)).max(initial=0) <= 1

    check()


@pytest.mark.parametrize("kind", sorted(KEEPS_SCALE & CASES.keys()))
def test_a_move_between_scales_is_refused(kind: str) -> None:
    @settings(max_examples=3)
    @given(program=cases(kind, "INT8"))
    def check(program: Program) -> None:
        name = program.outputs[0]
        found = program[name].quantization
        assert found is not None
        other = replace(program[name], quantization=replace(found, scale=(found.scale[0] * 1.5,)))
        changed = replace(program, tensors={**program.tensors, name: other})
        with pytest.raises(CnnError, match="different scales"):
            simulate(changed, random_inputs(changed, 0))

    check()


def test_every_operator_with_cases_is_supported() -> None:
    assert all(supports(kind, quantized=False) for kind in FLOAT)
    assert all(supports(kind, quantized=True) for kind in INT8)
    assert not supports("UNIDIRECTIONAL_SEQUENCE_LSTM", quantized=True)


def test_an_unknown_operator_is_a_users_error() -> None:
    program = one_operator("RANK", [tensor("x", (1, 2))], tensor("y", (), "INT32"))
    with pytest.raises(CnnError, match="no operator `RANK` in int32") as caught:
        simulate(program, random_inputs(program, 0))
    assert caught.value.diagnostics[0].code == "backend"


def test_a_wrong_shape_in_a_file_is_told() -> None:
    program = one_operator("RELU", [tensor("x", (1, 2))], tensor("y", (1, 3)))
    with pytest.raises(CnnError, match=r"gives \[1, 2\], and its output `y` is said to be \[1, 3\]"):
        simulate(program, random_inputs(program, 0))


def network(rng: np.random.Generator) -> Program:
    """A convolution, a reshape and a dense layer in int8, for one picture."""
    kernel = rng.integers(-127, 128, (6, 3, 3, 2), np.int8)
    parts = [
        one_operator(
            "CONV_2D",
            [
                tensor("x", (1, 5, 4, 2), "INT8", 0.05, 3),
                constant("kernel", kernel, rng.uniform(0.001, 0.004, 6)),
                constant("bias", np.zeros(6, np.int32), 0.05 * rng.uniform(0.001, 0.004, 6)),
            ],
            tensor("conv", (1, 5, 4, 6), "INT8", 0.03, -128),
            padding="SAME",
            stride_h=1,
            stride_w=1,
            activation="RELU",
        ),
        one_operator(
            "RESHAPE",
            [tensor("conv", (1, 5, 4, 6), "INT8", 0.03, -128), constant("shape", np.array([1, 120], np.int32))],
            tensor("flat", (1, 120), "INT8", 0.03, -128),
            new_shape=(1, 120),
        ),
        one_operator(
            "FULLY_CONNECTED",
            [
                tensor("flat", (1, 120), "INT8", 0.03, -128),
                constant("weights", rng.integers(-127, 128, (7, 120), np.int8), 0.002),
            ],
            tensor("y", (1, 7), "INT8", 0.06, 5),
        ),
    ]
    tensors = {name: each for part in parts for name, each in part.tensors.items()}
    return Program("main", tensors, tuple(o for part in parts for o in part), ("x",), ("y",))


def test_a_batch_gives_what_its_pictures_give_alone() -> None:
    rng = np.random.default_rng(0)
    program = network(rng)
    x = rng.integers(-128, 128, (3, 5, 4, 2), np.int8)
    together = simulate(program, {"x": x})["y"]
    np.testing.assert_array_equal(together, np.concatenate([simulate(program, {"x": each[None]})["y"] for each in x]))
    np.testing.assert_array_equal(together[:1], run_litert(program, {"x": x[:1]})["y"])


def test_keep_returns_every_activation() -> None:
    program = network(np.random.default_rng(1))
    inputs = random_inputs(program, 0)
    kept = simulate(program, inputs, keep=True)
    assert kept.keys() == {"x", "conv", "flat", "y"}
    np.testing.assert_array_equal(kept["y"], simulate(program, inputs)["y"])


FILES = sorted([*SHARED.glob("edgetpu/models/*.tflite"), *SHARED.glob("data/coral/*.tflite")])
LARGEST = 200_000
"""Values of the inputs of files that every run of the tests compares; the others are slow."""


def known_part(program: Program) -> Program:
    """The operators before the first one that is unknown, and all that they give."""
    known = [supports(o.kind, quantized=program[o.outputs[0]].type in ("INT8", "UINT8")) for o in program]
    operators = program.operators[: known.index(False) if False in known else len(known)]
    read = {name for operator in operators for name in operator.inputs}
    outputs = tuple(name for operator in operators for name in operator.outputs if name not in read)
    used = {*read, *outputs, *program.inputs} - {""}
    tensors = {name: each for name, each in program.tensors.items() if name in used}
    return Program(program.name, tensors, operators, program.inputs, outputs)


def assert_files_agree(paths: list[Path]) -> None:
    for path in paths:
        program = known_part(open_file(path).main)
        inputs = random_inputs(program, 0)
        found, expected = simulate(program, inputs), run_litert(program, inputs)
        for name, value in expected.items():
            np.testing.assert_array_equal(found[name], value, err_msg=f"{path.name} {name}")


def is_large(path: Path) -> bool:
    program = open_file(path).main
    return sum(program[name].size for name in program.inputs) > LARGEST


@pytest.mark.skipif(not FILES, reason="the real files are not there")
def test_whole_networks_of_others_agree_with_litert_to_the_bit() -> None:
    """Of MobileNet v1 and v2 and small ones, quantised by other tools, in int8 and in uint8."""
    assert_files_agree([path for path in FILES if not is_large(path)])


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="the real files are not there")
def test_large_networks_of_others_agree_with_litert_to_the_bit() -> None:
    """Of DeepLab v3 and PoseNet."""
    assert_files_agree([path for path in FILES if is_large(path)])
