"""Descriptions within TFLite files, for tools: how inputs are made, what outputs mean, which files go with them.

The description is a flatbuffer of its own in a buffer of the file; label lists and other files are a ZIP archive behind
the file's bytes, where readers of either format find what is theirs.

Source: https://ai.google.dev/edge/litert/models/metadata; metadata_schema.fbs of tflite-support.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from math import isfinite
from typing import Any, Final, Literal

from cnnc.diagnostics import CnnError, clause
from cnnc.tflite_file import flatbuffer
from cnnc.tflite_file.program import File
from cnnc.tflite_file.runtimes import oldest_runtime

NAME: Final = "TFLITE_METADATA"
RUNTIME: Final = "min_runtime_version"
_IDENTIFIER: Final = "M001"
_PARSER: Final = "1.0.0"
_RUNTIME_BYTES: Final = 16
_LABELS: Final = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_FEATURE, _IMAGE = 1, 2  # ContentProperties
_NORMALIZATION: Final = 1  # ProcessUnitOptions
_HASH: Final = "spec sha256: "

Colours = Literal["", "rgb", "grey"]
_COLOURS: Final[tuple[Colours, ...]] = ("", "rgb", "grey")

MOST_FILES: Final = 256
LARGEST_FILES: Final = 64 << 20
"""Bytes that the files behind a model may unpack to, together."""


@dataclass(frozen=True)
class InputNote:
    """An input's description. The model's value for a pixel is `(pixel - mean) / std`, of one channel or of each."""

    name: str
    description: str = ""
    is_image: bool = False
    colours: Colours = ""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()


@dataclass(frozen=True)
class OutputNote:
    """An output's description; `labels` name its values along the last axis, and may be none."""

    name: str
    description: str = ""
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Description:
    """A model's description, its inputs and outputs in the file's order.

    `spec_sha256` is the hash of the spec's text, which is written as the last line of what tools show.
    """

    name: str
    description: str = ""
    version: str = ""
    spec_sha256: str = ""
    inputs: tuple[InputNote, ...] = ()
    outputs: tuple[OutputNote, ...] = ()
    licence: str = ""


def attach(file: File, description: Description) -> File:
    """The file with a description, and with the oldest runtime that has its operators.

    Lists of labels are only named in it: `pack(write_file(attach(file, d)), label_files(d))` is the whole.
    """
    operators = [operator for program in file.programs for operator in program]
    runtime = oldest_runtime(operators).encode().ljust(_RUNTIME_BYTES, b"\0")
    words = flatbuffer.write("ModelMetadata", _table(description), _IDENTIFIER)
    return replace(file, metadata={**file.metadata, RUNTIME: runtime, NAME: words})


def read_description(file: File, data: bytes = b"", what: str = "<bytes>") -> Description | None:
    """The description within a file; None where it has none.

    Args:
        file: the file.
        data: its bytes, which its labels stand behind; without them it has none.
        what: the file, for messages.

    Raises:
        CnnError: `tflite`, when the description is damaged, or the files behind it.
    """
    if NAME not in file.metadata:
        return None
    table = flatbuffer.read(file.metadata[NAME], "ModelMetadata", _IDENTIFIER, f"the description in {what}")
    files = unpack(data, what)
    graph: flatbuffer.Table = next(iter(table.get("subgraphs", ())), {})
    text, _, digest = str(table.get("description", "")).partition(_HASH)
    return Description(
        table.get("name", ""),
        text.rstrip("\n"),
        table.get("version", ""),
        digest,
        tuple(_input(entry, what) for entry in graph.get("inputs", ())),
        tuple(_output(entry, files) for entry in graph.get("outputs", ())),
        table.get("license", ""),
    )


def label_files(description: Description) -> dict[str, bytes]:
    """The lists of labels that a description names, by their file's name: a label a line."""
    return {
        _label_file(description, i): "".join(f"{' '.join(label.split())}\n" for label in output.labels).encode(
            errors="surrogateescape"
        )
        for i, output in enumerate(description.outputs)
        if output.labels
    }


def read_labels(content: bytes, *, numbered: bool = False) -> tuple[str, ...]:
    """The labels of a list, a line each; where it may be `numbered`, numbers that count the lines are dropped.

    Bytes that are no UTF-8 stay what they are, as in names of folders (PEP 383).
    """
    lines = [line.strip() for line in content.decode("utf-8-sig", "surrogateescape").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    parts = [line.replace(":", " ", 1).split(maxsplit=1) for line in lines]
    if numbered and all(len(part) == 2 and part[0] == str(i) for i, part in enumerate(parts)):
        return tuple(label for _, label in parts)
    return tuple(lines)


def pack(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """A TFLite file's bytes with files behind them, in the place of any that are there; the same bytes for the same."""
    stream = BytesIO()
    stream.write(data[: _end(data)])
    if not files:
        return stream.getvalue()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # else they are the machine's
            archive.writestr(entry, content)
    return stream.getvalue()


def unpack(data: bytes, what: str = "<bytes>") -> dict[str, bytes]:
    """The files behind a TFLite file's bytes, by name.

    Raises:
        CnnError: `tflite`, when there is an archive that is damaged, encrypted, or larger than `LARGEST_FILES`.
    """
    if not zipfile.is_zipfile(BytesIO(data)):
        return {}
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return _contents(archive)
    except _BROKEN as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CnnError.of("tflite", f"the files behind `{what}` cannot be unpacked: {clause(reason)}") from error


_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,  # a way of compression
    RuntimeError,  # a password
    EOFError,
    OSError,
    ValueError,
    OverflowError,
)


def _contents(archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    if len(entries) > MOST_FILES:
        raise zipfile.BadZipFile(f"there are {len(entries)}, and {MOST_FILES} are read")
    found: dict[str, bytes] = {}
    left = LARGEST_FILES
    for entry in entries:
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise zipfile.BadZipFile("they are compressed in a way that is not read")
        with archive.open(entry) as stream:
            content = stream.read(left + 1)  # what the entry says of its size may be a lie
        left -= len(content)
        if left < 0:
            raise zipfile.BadZipFile(f"they are larger than {LARGEST_FILES >> 20} MiB")
        found[entry.filename] = content
    return found


def _end(data: bytes) -> int:
    """Where the model's own bytes end and an archive begins."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            return min((entry.header_offset for entry in archive.infolist()), default=archive.start_dir)
    except _BROKEN:
        return len(data)


def _table(description: Description) -> dict[str, Any]:
    lines = [description.description] if description.description else []
    lines += [f"{_HASH}{description.spec_sha256}"] if description.spec_sha256 else []
    graph = {
        "inputs": [_input_table(note) for note in description.inputs],
        "outputs": [_output_table(note, _label_file(description, i)) for i, note in enumerate(description.outputs)],
    }
    return {
        "name": description.name,
        "description": "\n".join(lines) or None,
        "version": description.version or None,
        "subgraphs": [graph],
        "license": description.licence or None,
        "min_parser_version": _PARSER,
    }


def _input_table(note: InputNote) -> dict[str, Any]:
    properties: dict[str, Any] = {"properties_type": _FEATURE, "properties": {}}
    if note.is_image:
        properties = {"properties_type": _IMAGE, "properties": {"color_space": _COLOURS.index(note.colours)}}
    unit = {"options_type": _NORMALIZATION, "options": {"mean": note.mean, "std": note.std}}
    return {
        "name": note.name,
        "description": note.description or None,
        "content": properties,
        "process_units": [unit] if note.mean else None,
        "stats": {"max": [255.0], "min": [0.0]} if note.is_image else None,
    }


def _output_table(note: OutputNote, file: str) -> dict[str, Any]:
    labels = {"name": file, "description": "the labels, a line each", "type": _LABELS}
    return {
        "name": note.name,
        "description": note.description or None,
        "content": {"properties_type": _FEATURE, "properties": {}},
        "files": [labels] if note.labels else None,
    }


def _label_file(description: Description, output: int) -> str:
    several = sum(bool(note.labels) for note in description.outputs) > 1
    return f"labels_{output}.txt" if several else "labels.txt"


def _input(entry: flatbuffer.Table, what: str) -> InputNote:
    content = entry.get("content", {})
    is_image = content.get("properties_type") == _IMAGE
    colours = int(content.get("properties", {}).get("color_space", 0)) if is_image else 0
    units = [unit for unit in entry.get("process_units", ()) if unit.get("options_type") == _NORMALIZATION]
    options = units[0].get("options", {}) if units else {}
    mean, std = (tuple(map(float, options.get(key, ()))) for key in ("mean", "std"))
    if not all(map(isfinite, (*mean, *std))) or 0 in std or bool(mean) != bool(std):
        raise CnnError.of("tflite", f"the description in {what} is damaged: its normalisation is by {mean} and {std}")
    return InputNote(
        entry.get("name", ""),
        entry.get("description", ""),
        is_image,
        _COLOURS[colours] if 0 <= colours < len(_COLOURS) else "",
        mean,
        std,
    )


def _output(entry: flatbuffer.Table, files: Mapping[str, bytes]) -> OutputNote:
    lists = [file.get("name", "") for file in entry.get("files", ()) if file.get("type") == _LABELS]
    known = [files[name] for name in lists if name in files]
    labels = read_labels(known[0]) if known else ()
    return OutputNote(entry.get("name", ""), entry.get("description", ""), labels)
