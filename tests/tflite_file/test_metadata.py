"""Descriptions of TFLite files: Google's own are read, ours come back, and files behind a model are read with care."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnc.diagnostics import CnnError
from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.metadata import (
    LARGEST_FILES,
    MOST_FILES,
    NAME,
    RUNTIME,
    Description,
    InputNote,
    OutputNote,
    _input_table,
    attach,
    label_files,
    pack,
    read_description,
    read_labels,
    unpack,
)
from cnnc.tflite_file.program import File, Operator
from cnnc.tflite_file.read import open_file, read_file
from cnnc.tflite_file.runtimes import oldest_runtime
from cnnc.tflite_file.write import write_file
from tests.support.paths import SHARED
from tests.support.tflite_programs import one_operator, run_litert, tensor

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
MODELS = SHARED / "edgetpu" / "models"

needs_shared = pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")

PROGRAM = one_operator("RELU", [tensor("x", (1, 4))], tensor("y", (1, 4)))
DESCRIPTION = Description(
    "mnist_cnn",
    "Digits, 28x28, grey.",
    "0.1.0",
    "0123456789abcdef" * 4,
    (InputNote("image", "pixels from 0 to 255", True, "grey", (127.5,), (64.0,)),),
    (OutputNote("label", "probabilities", ("none", "eins", "zwölf")), OutputNote("embedding")),
    "Apache-2.0",
)


@needs_shared
@pytest.mark.parametrize("path", [GOOGLE, MODELS / "mobilenet_v1_0.25_128_quant.tflite"], ids=lambda p: p.name)
def test_google_s_descriptions_are_read_with_their_labels(path: Path) -> None:
    found = read_description(open_file(path), path.read_bytes(), str(path))
    assert found is not None
    assert found.name == "ImageClassifier"
    assert found.description.startswith("Identify the most prominent object in the image")
    assert found.inputs == (InputNote("image", "Input image to be classified.", True, "rgb", (127.5,), (127.5,)),)
    (output,) = found.outputs
    assert output.name == "probability"
    assert output.labels == tuple((CORAL / "imagenet_labels.txt").read_text().splitlines())


@needs_shared
def test_the_oldest_runtime_is_what_tensorflow_s_converter_wrote() -> None:
    known = {p: open_file(p) for p in sorted(MODELS.glob("*.tflite"))}
    written = {p: file for p, file in known.items() if RUNTIME in file.metadata}
    assert len(written) > 20
    for path, file in written.items():
        assert oldest_runtime(file.main).encode() == file.metadata[RUNTIME].rstrip(b"\0"), path


def test_the_newest_operator_decides_and_unknown_ones_do_not_count() -> None:
    def oldest(*versions: tuple[str, int]) -> str:
        return oldest_runtime(Operator(kind, (), (), version=version) for kind, version in versions)

    assert oldest() == "1.5.0"
    assert oldest(("CONV_2D", 1), ("CONV_2D", 3)) == "1.14.0"
    assert oldest(("RELU", 1), ("RELU", 2), ("SOFTMAX", 2)) == "2.1.0"
    assert oldest(("CONV_2D", 99), ("STABLEHLO_PAD", 1)) == "1.5.0"


def test_a_description_comes_back_whole_and_the_model_runs_as_before() -> None:
    data = pack(write_file(attach(File((PROGRAM,)), DESCRIPTION)), label_files(DESCRIPTION))
    file = read_file(data)
    assert read_description(file, data) == DESCRIPTION
    assert file.metadata[RUNTIME] == b"1.5.0".ljust(16, b"\0")
    x = np.array([[-1, 0, 1, 2]], np.float32)
    np.testing.assert_array_equal(run_litert(data, {"x": x})["y"], np.maximum(x, 0))


def test_without_its_bytes_a_file_has_no_labels_and_without_a_description_nothing() -> None:
    file = attach(File((PROGRAM,)), DESCRIPTION)
    found = read_description(file)
    assert found is not None
    assert [output.labels for output in found.outputs] == [(), ()]
    assert read_description(File((PROGRAM,))) is None


def test_a_bare_description_and_one_with_two_lists_come_back() -> None:
    plain = Description("x", inputs=(InputNote("a"),), outputs=(OutputNote("b"),))
    both = replace(plain, outputs=(OutputNote("b", labels=("p", "q")), OutputNote("c", labels=("r",))))
    for description in (plain, both):
        data = pack(write_file(attach(File((PROGRAM,)), description)), label_files(description))
        assert read_description(read_file(data), data) == description


def test_the_spec_s_hash_is_in_what_tools_show() -> None:
    words = flatbuffer.read(attach(File((PROGRAM,)), DESCRIPTION).metadata[NAME], "ModelMetadata", "M001", "it")
    assert words["description"].splitlines() == ["Digits, 28x28, grey.", f"spec sha256: {DESCRIPTION.spec_sha256}"]
    assert words["min_parser_version"] == "1.0.0"


@pytest.mark.parametrize(("mean", "std"), [((1.0,), (0.0,)), ((float("nan"),), (1.0,)), ((1.0,), ())])
def test_a_normalisation_that_cannot_be_is_refused(mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    file = attach(File((PROGRAM,)), Description("x", inputs=(InputNote("a", mean=mean, std=std),)))
    with pytest.raises(CnnError, match="its normalisation is by"):
        read_description(file)


@given(st.integers(0, 10**6), st.integers(0, 255))
def test_a_changed_description_is_read_or_refused(place: int, byte: int) -> None:
    file = attach(File((PROGRAM,)), DESCRIPTION)
    words = bytearray(file.metadata[NAME])
    words[place % len(words)] = byte
    with suppress(CnnError):
        read_description(replace(file, metadata={NAME: bytes(words)}))


def test_labels_may_be_numbered_where_that_is_said() -> None:
    assert read_labels(b"0  background\n1  tench\n\n", numbered=True) == ("background", "tench")
    assert read_labels(b"0: cat\n1: dog\n", numbered=True) == ("cat", "dog")
    assert read_labels(b"0 cat\n2 dog\n", numbered=True) == ("0 cat", "2 dog")
    assert read_labels(b"0\n1\n", numbered=True) == ("0", "1")
    assert read_labels(b"0 cat\n1 dog\n") == ("0 cat", "1 dog")
    assert read_labels("\ufeffKäse\r\n".encode()) == ("Käse",)


def test_labels_that_are_no_utf_8_come_back_as_the_bytes_that_they_are() -> None:
    folder = os.fsdecode("Käse".encode("latin-1"))
    description = replace(DESCRIPTION, outputs=(replace(DESCRIPTION.outputs[0], labels=(folder, "b")),))
    data = pack(write_file(attach(File((PROGRAM,)), description)), label_files(description))
    assert b"K\xe4se\nb\n" in data
    assert read_description(read_file(data), data) == description


# Files behind a model

names = st.text("abcxyz_.", min_size=1, max_size=8)


@given(st.binary(max_size=200), st.dictionaries(names, st.binary(max_size=100), max_size=4))
def test_files_come_back_and_their_bytes_are_always_the_same(data: bytes, files: dict[str, bytes]) -> None:
    packed = pack(data, files)
    assert packed.startswith(data)
    assert unpack(packed) == files
    assert pack(data, dict(reversed(files.items()))) == packed
    assert pack(packed, {"other": b"1"}) == pack(data, {"other": b"1"})
    assert pack(packed, {}) == data


def test_the_archive_is_as_google_s_tools_write_it() -> None:
    """Stored, not deflated, and with places that count from the file's first byte."""
    packed = pack(b"x" * 100, {"labels.txt": b"a\nb\n"})
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.compress_type, entry.header_offset) == ("labels.txt", zipfile.ZIP_STORED, 100)
        assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    directory = packed.index(b"PK\x01\x02")
    assert int.from_bytes(packed[directory + 42 : directory + 46], "little") == 100


def archive(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as made:
        for name, content in files.items():
            made.writestr(name, content)
    return stream.getvalue()


def test_an_archive_that_unpacks_without_end_is_refused() -> None:
    bomb = archive({"labels.txt": bytes(LARGEST_FILES + 1)})
    assert len(bomb) < LARGEST_FILES / 100
    with pytest.raises(CnnError, match="cannot be unpacked: they are larger than 64 MiB"):
        unpack(bomb, "model.tflite")
    parts = archive({f"{i}": bytes(LARGEST_FILES // 4) for i in range(5)})
    with pytest.raises(CnnError, match="larger than"):
        unpack(parts)
    whole = {f"{i}": bytes(LARGEST_FILES // 4) for i in range(4)}
    assert unpack(archive(whole)) == whole


def test_an_archive_of_many_files_or_of_another_compression_is_refused() -> None:
    with pytest.raises(CnnError, match="there are 257, and 256 are read"):
        unpack(archive({str(i): b"" for i in range(MOST_FILES + 1)}))
    assert len(unpack(archive({str(i): b"" for i in range(MOST_FILES)}))) == MOST_FILES
    with pytest.raises(CnnError, match="compressed in a way that is not read"):
        unpack(archive({"a": b"x"}, zipfile.ZIP_LZMA))


def test_an_encrypted_archive_is_refused() -> None:
    data = bytearray(archive({"a": b"x"}, zipfile.ZIP_STORED))
    for mark, distance in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + distance] |= 1
    with pytest.raises(CnnError, match=r"cannot be unpacked: .*encrypted"):
        unpack(bytes(data))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=6), st.integers(0, 60))
def test_a_damaged_archive_is_read_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(pack(b"model", {"labels.txt": b"a\nb\n", "more.txt": b"c" * 50}))
    for place, byte in changes:
        data[place % len(data)] = byte
    damaged = bytes(data[: len(data) - cut])
    pack(damaged, {"a": b"b"})
    with suppress(CnnError):
        unpack(damaged)


def test_a_file_without_a_name_behind_a_model_is_read() -> None:
    """As damage makes it of the name's length: `zipfile` of Python 3.11 asks for its last letter."""
    data = bytearray(pack(bytes(16), {"labels.txt": b"a"}))
    place = data.index(b"PK\x01\x02")
    struct.pack_into("<HHH", data, place + 28, 0, 0, len("labels.txt"))  # its name is its comment
    with pytest.raises(CnnError, match="cannot be unpacked: file name in directory '' and header"):
        unpack(bytes(data), "m.tflite")


def test_pixels_go_from_0_to_255() -> None:
    table = _input_table(InputNote("x", is_image=True, colours="rgb", mean=(0.0,), std=(1.0,)))
    assert table["stats"] == {"max": [255.0], "min": [0.0]}
