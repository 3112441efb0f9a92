"""Bad TFLite files: whatever the bytes are, reading them ends, with a file or a CnnError."""

from __future__ import annotations

import struct
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnc.diagnostics import CnnError
from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.program import File
from cnnc.tflite_file.read import open_file, read_file
from cnnc.tflite_file.schema import OPERATORS, TENSOR_TYPES
from cnnc.tflite_file.write import IDENTIFIER, write_file
from tests.support.tflite_programs import constant, one_operator, tensor

X = tensor("x", (1, 8), "INT8", 0.5)
Y = tensor("y", (1, 4), "INT8", 0.5)
WEIGHTS = constant("w", np.arange(32, dtype=np.int8).reshape(4, 8), [0.1, 0.2, 0.3, 0.4])
SOUND = write_file(File((one_operator("FULLY_CONNECTED", [X, WEIGHTS, None], Y, activation="NONE"),)))


def require_tflite(error: CnnError) -> None:
    """A refusal has the code of damaged files."""
    assert [diagnostic.code for diagnostic in error.diagnostics] == ["tflite"]


def refusal(data: bytes) -> str:
    """What is said of a file that cannot be read."""
    with pytest.raises(CnnError) as caught:
        read_file(data, "bad.tflite")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "tflite"
    assert "`bad.tflite`" in diagnostic.message
    return diagnostic.message


def test_a_sound_file_is_read() -> None:
    program = read_file(SOUND).main
    assert [operator.kind for operator in program] == ["FULLY_CONNECTED"]
    assert program["w"].data is not None
    assert np.array_equal(program["w"].data, np.arange(32).reshape(4, 8))


def test_an_empty_file() -> None:
    assert "is empty" in refusal(b"")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00",
        b"hello",
        b"PK\x03\x04" + bytes(100),
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"\x08\x00\x00\x00TFL2" + bytes(40),
    ],
)
def test_a_file_of_another_format(data: bytes) -> None:
    assert "is no TFLite file" in refusal(data)


def test_every_truncation_is_refused_or_read() -> None:
    for size in range(len(SOUND)):
        try:
            read_file(SOUND[:size], "bad.tflite")
        except CnnError as error:
            require_tflite(error)


@pytest.mark.parametrize("root", [0, 1, 4, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_root_that_is_nowhere(root: int) -> None:
    refusal(struct.pack("<I", root) + SOUND[4:])


def test_tables_that_contain_each_other_end() -> None:
    """A table whose subgraphs are the table itself, again and again."""
    vtable = struct.pack("<HHHHHH", 10, 8, 0, 0, 4, 0)
    start = 8 + len(vtable)
    table = struct.pack("<iI", len(vtable), 4)
    vector = struct.pack("<I", 3) + struct.pack("<iii", *(-(8 + 4 * (i + 1)) for i in range(3)))
    data = struct.pack("<I", start) + IDENTIFIER.encode() + vtable + table + vector
    begun = monotonic()
    refusal(data)
    assert monotonic() - begun < 5


def test_a_directory_a_missing_file_and_a_float_model(tmp_path: Path) -> None:
    with pytest.raises(CnnError, match="there is no file"):
        open_file(tmp_path / "none.tflite")
    with pytest.raises(CnnError, match="cannot be read"):
        open_file(tmp_path)


def model(**changes: Any) -> bytes:
    """A file of one RELU, with fields of its tables replaced: `operator_inputs=[7]`, `x_shape=[-1]`."""

    def fields(of: str, **values: Any) -> dict[str, Any]:
        return values | {key.removeprefix(f"{of}_"): v for key, v in changes.items() if key.startswith(f"{of}_")}

    int8 = TENSOR_TYPES.index("INT8")
    subgraph = {
        "tensors": [
            fields("x", shape=[1, 8], type=int8, buffer=0, name="x"),
            fields("y", shape=[1, 8], type=int8, buffer=0, name="y"),
        ],
        "operators": [fields("operator", code_index=0, inputs=[0], outputs=[1])],
    }
    relu = OPERATORS.index("RELU")
    table = {
        "version": 3,
        "codes": [fields("code", deprecated_code=relu, code=relu, version=1)],
        "subgraphs": [fields("subgraph", inputs=[0], outputs=[1], **subgraph)],
        "buffers": [{}],
    }
    return flatbuffer.write("Model", fields("model", **table), IDENTIFIER)


def test_a_file_of_more_than_two_gibibytes_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.tflite").open("wb") as file:
        file.truncate((2 << 30) + 1)
    with pytest.raises(CnnError, match="it has more than 2,147,483,648 bytes"):
        open_file(tmp_path / "large.tflite")


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ((1 << 20, 1 << 20), (0,), None),
        ((1 << 20, (1 << 20) + 1), (0,), "tensor `x` has a size of 1048577"),
        ((1 << 20, 1 << 20), (1,), "its tensors take more than 1 TiB together"),
        ((1 << 20, (1 << 20) - 1), (1 << 20,), None),
    ],
)
def test_tensors_have_a_tebibyte_at_most(x: tuple[int, ...], y: tuple[int, ...], message: str | None) -> None:
    data = model(x_shape=list(x), y_shape=list(y))
    if message is None:
        assert [tensor.shape for tensor in read_file(data).main.tensors.values()] == [x, y]
    else:
        assert message in refusal(data)


SCALES = {"scale": [0.1, 0.2], "zero_point": [0, 0], "axis": 5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operator_inputs": [7]}, "tensor 7 of 2"),
        ({"operator_inputs": [-2]}, "tensor -2 of 2"),
        ({"operator_outputs": [99]}, "tensor 99 of 2"),
        ({"operator_outputs": [0]}, "which something else does too"),
        ({"operator_inputs": [1]}, "before it is computed"),
        ({"operator_code_index": 3}, "code 3 of 1"),
        ({"subgraph_inputs": [5]}, "an input is tensor 5 of 2"),
        ({"subgraph_outputs": [5]}, "an output is tensor 5 of 2"),
        ({"subgraph_outputs": [-1]}, "is absent"),
        ({"x_buffer": 9}, "buffer 9 of 1"),
        ({"x_type": 99}, "unknown type, number 99"),
        ({"x_shape": [1, -8]}, "a size of -8"),
        ({"x_shape": [2**31 - 1] * 4}, "a size of"),
        ({"x_quantization": SCALES}, "2 scales along axis 5"),
        ({"x_quantization": {"scale": [0.1], "zero_point": [0, 0, 0]}}, "1 scales and 3 zero points"),
        ({"code_code": -5, "code_deprecated_code": -5}, "has the code -5"),
        ({"model_subgraphs": []}, "holds no graph"),
        ({"model_buffers": []}, "buffer 0 of 0"),
        ({"model_metadata": [{"name": "m", "buffer": 4}]}, "buffer 4 of 1"),
        ({"model_buffers": [{"data": [1, 2, 3]}]}, "wants 8 bytes, and has 3"),
        ({"model_buffers": [{"offset": 1000, "size": 1 << 40}]}, "ends at byte"),
        ({"operator_options_type": 11, "operator_options": {"activation": 77}}, "unknown activation, number 77"),
    ],
)
def test_indices_and_sizes_out_of_range(changes: dict[str, Any], message: str) -> None:
    assert message in refusal(model(**changes))


def test_the_changed_file_is_sound_without_changes() -> None:
    assert [operator.kind for operator in read_file(model()).main] == ["RELU"]


def test_a_code_that_no_one_knows_has_its_number_for_a_name() -> None:
    file = read_file(model(code_code=4000, code_deprecated_code=127))
    assert file.main.operators[0].kind == "BUILTIN_4000"


def test_tensors_of_one_name_are_told_apart() -> None:
    assert len(read_file(model(y_name="x")).main.tensors) == 2


def test_more_outputs_than_an_operator_has() -> None:
    assert "operator 0, RELU, has 2 outputs, 1 too many" in refusal(model(operator_outputs=[1, -1]))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(SOUND) - 4), st.integers(0, 2**32 - 1)), min_size=1, max_size=20),
    st.integers(0, len(SOUND)),
)
def test_mutated_bytes_end_with_a_file_or_an_error(changes: list[tuple[int, int]], size: int) -> None:
    data = bytearray(SOUND)
    for place, value in changes:
        struct.pack_into("<I", data, place, value)
    for each in (bytes(data), bytes(data[:size])):
        try:
            assert read_file(each, "bad.tflite").programs
        except CnnError as error:
            require_tflite(error)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_with_the_right_letters_end(tail: bytes) -> None:
    for root in (8, 12, 16):
        try:
            read_file(struct.pack("<I", root) + IDENTIFIER.encode() + tail, "bad.tflite")
        except CnnError as error:
            require_tflite(error)
