"""Arithmetic with constants beside the layers of a TFLite file gives what LiteRT computes, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.tflite_file.program import File, Operator, Program, Tensor
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine
from tests.support.tflite_programs import constant, run_litert, tensor
from tests.support.weight_files import said, save_archive

pytestmark = pytest.mark.fault("T")
BIAS = "input 5x3\ndense(4) | relu | dense(4)\n"
NORM = "input 5x3\ndense(4, bias=false) | bn | relu | dense(4)\n"
SCALE = "input 5x3\ndense(4, bias=false) | layer_scale | relu | dense(4)\n"
CASES: dict[str, tuple[str, list[tuple[str, bool]]]] = {
    # Operators, and whether the constant is the second operand.
    "add": (BIAS, [("ADD", True)]),
    "add to a constant": (BIAS, [("ADD", False)]),
    "subtract": (BIAS, [("SUB", True)]),
    "subtract twice": (BIAS, [("SUB", True), ("SUB", True)]),
    "multiply": (SCALE, [("MUL", True)]),
    "multiply a constant": (SCALE, [("MUL", False)]),
    "divide": (SCALE, [("DIV", True)]),
    "divide and subtract": (NORM, [("DIV", True), ("SUB", True)]),
    "subtract and divide": (NORM, [("SUB", True), ("DIV", True)]),
    "multiply and add": (NORM, [("MUL", True), ("ADD", False)]),
    "subtract, multiply, add": (NORM, [("SUB", True), ("MUL", True), ("ADD", True)]),
    "subtract from a constant": (NORM, [("SUB", False)]),
    "multiply and subtract from a constant": (NORM, [("MUL", True), ("SUB", False)]),
}


def program(steps: list[tuple[str, bool]], size: int = 4) -> Program:
    """A dense layer without bias, the arithmetic, a rectifier and another layer."""
    rng = np.random.default_rng(0)
    tensors: dict[str, Tensor] = {"x": tensor("x", (1, 5, 3))}
    operators: list[Operator] = []

    def run(kind: str, inputs: list[str], **options: Any) -> str:
        name = f"t{len(operators)}"
        tensors[name] = tensor(name, (1, 5, 4))
        operators.append(Operator(kind, tuple(inputs), (name,), options))
        return name

    def given(array: Any) -> str:
        name = f"c{len(tensors)}"
        tensors[name] = constant(name, array.astype(np.float32))
        return name

    y = run("FULLY_CONNECTED", ["x", given(rng.normal(size=(4, 3)))], keep_num_dims=True)
    for kind, is_second in steps:
        vector = given(rng.uniform(0.5, 2, size) * rng.choice([-1, 1], size))
        y = run(kind, [y, vector] if is_second else [vector, y])
    y = run("RELU", [y])
    y = run("FULLY_CONNECTED", [y, given(rng.normal(size=(4, 4))), given(rng.normal(size=4))], keep_num_dims=True)
    return Program("main", tensors, tuple(operators), ("x",), (y,))


@pytest.mark.parametrize("name", CASES)
def test_arithmetic_is_what_litert_computes(name: str, tmp_path: Path) -> None:
    text, steps = CASES[name]
    theirs = program(steps)
    (tmp_path / "a.tflite").write_bytes(write_file(File((theirs,))))
    net = cnnc.load_text(text)
    found = combine(net.graph, read_source(tmp_path / "a.tflite"), Options())
    x = np.random.default_rng(1).normal(size=(1, 5, 3)).astype(np.float32)
    (wanted,) = run_litert(theirs, {"x": x}).values()
    np.testing.assert_allclose(np.asarray(net.apply(found.weights, x)), wanted, rtol=1e-3, atol=1e-4)


def test_a_constant_divided_by_values_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(write_file(File((program([("DIV", False)]),))))
    assert "is an input of DIV, which is not read" in said(tmp_path / "a.tflite")


def test_rows_are_looked_up_along_the_first_axis_alone(tmp_path: Path) -> None:
    """Of a table that is gathered along another axis the rows are no rows."""
    table = constant("table", np.arange(12, dtype=np.float32).reshape(3, 4))
    for axis, shape in ((0, (1, 2, 4)), (1, (3, 1, 2))):
        x, y = tensor("x", (1, 2), "INT32"), tensor("y", shape)
        gather = Operator("GATHER", ("table", "x"), ("y",), {"axis": axis})
        file = Program("main", {each.name: each for each in (x, table, y)}, (gather,), ("x",), ("y",))
        (tmp_path / "a.tflite").write_bytes(write_file(File((file,))))
        if axis:
            assert "`table` of 3 x 4 is an input of GATHER, which is not read" in said(tmp_path / "a.tflite")
            continue
        net = cnnc.load_text("input 2 int\nembedding(3, 4)\n")
        found = combine(net.graph, read_source(tmp_path / "a.tflite"), Options())
        rows = np.array([[2, 0]], np.int32)
        (wanted,) = run_litert(file, {"x": rows}).values()
        np.testing.assert_array_equal(np.asarray(net.apply(found.weights, rows)), wanted)


def test_a_bias_where_the_spec_has_none_is_said(tmp_path: Path) -> None:
    kernel = np.ones((3, 4), np.float32)
    save_archive(tmp_path / "a.npz", {"fc.weight": kernel, "fc.bias": kernel[:, 0]})
    net = cnnc.load_text("input 4\ndense(3, bias=false)\n")
    with pytest.raises(CnnError, match=r"the file has the bias `fc\.bias`, and `dense1` has none"):
        combine(net.graph, read_source(tmp_path / "a.npz"), Options())
    save_archive(tmp_path / "a.npz", {"fc.weight": kernel, "fc.bias": 0 * kernel[:, 0]})
    found = combine(net.graph, read_source(tmp_path / "a.npz"), Options())  # as of TFLite's convolutions
    assert set(found.weights["dense1"]) == {"kernel"}
    assert not found.unused


def test_a_bias_before_a_norm_that_the_file_lacks_goes_into_its_mean(tmp_path: Path) -> None:
    kernel = np.ones((3, 4, 1, 1), np.float32)
    other = {"bn.running_mean": np.ones(5, np.float32), "bn.running_var": np.ones(5, np.float32)}
    save_archive(tmp_path / "a.npz", {"fc.weight": kernel, "fc.bias": kernel[:, 0, 0, 0], **other})
    net = cnnc.load_text("input 4x4x4\nconv(1x1, 3, bias=false) | bn\n")
    found = combine(net.graph, read_source(tmp_path / "a.npz"), Options(partial=True))
    np.testing.assert_array_equal(found.weights["bn1"]["mean"], [-1, -1, -1])
