"""What is printed: whatever others called their classes, files, tensors and layers, a terminal obeys none of it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from safetensors.numpy import save_file

from cnnc.cli import main
from cnnc.cli.console.terminal import echo_json
from cnnc.diagnostics import CnnError
from cnnc.printable import printable
from cnnc.rendering.drawing.scene import Scene, Text
from cnnc.rendering.drawing.svg import to_svg
from cnnc.rendering.html_page import document, escape
from cnnc.rendering.text_table import box
from cnnc.tflite_file.read import read_file
from cnnc.tflite_file.write import write_file
from tests.support.calling import call
from tests.support.pictures import noise
from tests.support.small_runs import dense_text
from tests.support.weight_files import save_archive

EVIL = "\x1b[31mred\x1b]0;title\x07\x08\x9b2J\x7f\u202egnp\u2066\u200b\u2028\ufeff\r\nerror: fake [bold]$\\frac{$<b>&"
"""A name of a class, a file or a tensor: escapes, what turns text or has no width, ends of lines, markup."""
LABELS = (f"{EVIL}a", f"{EVIL}b")
OWN_STYLE = re.compile("\x1b\\[(31|1|0)m")


def _assert_harmless(text: str) -> None:
    """Nothing but printable characters and ends of lines, and no line that is another's."""
    bad = {c for c in text if not c.isprintable() and c != "\n"}
    assert not bad, (bad, text)
    assert not any(line.startswith("error: fake") for line in text.split("\n")), text


def said(*arguments: object) -> str:
    """All that a command prints, which is harmless as text and JSON as JSON."""
    result = call(*arguments)
    _assert_harmless(result.stdout)
    _assert_harmless(result.stderr)
    return result.stdout + result.stderr


@pytest.mark.fault("S8")
def test_what_a_terminal_would_obey_is_spelt_out() -> None:
    assert printable("\x1b[2J\x7f\x9b\r\n\t") == "\\x1b[2J\\x7f\\x9b\\r\\n\\t"
    assert printable("a\u202eb\u2066\u200b\u2028\ufeff") == "a\\u202eb\\u2066\\u200b\\u2028\\ufeff"
    assert printable("\udcff\U000e0041") == "\\udcff\\U000e0041"
    assert printable("Käse, 猫, кот, קול, 🐈") == "Käse, 猫, кот, קול, 🐈"


def test_every_character_is_one_that_prints_afterwards() -> None:
    for start in (0, 0x2000, 0xD000, 0xF000, 0xE0000):
        assert printable("".join(map(chr, range(start, start + 0x1000)))).isprintable()


def test_a_table_keeps_its_lines_whatever_its_cells_hold() -> None:
    lines = box([EVIL, "n"], [[[EVIL, "1"]], [["plain", "2"]]]).split("\n")
    assert len(lines) == 7
    assert len({len(line) for line in lines}) == 1
    _assert_harmless("\n".join(lines))


def test_json_is_ascii_and_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    echo_json({EVIL: [EVIL]})
    out = capsys.readouterr().out
    assert out.isascii()
    _assert_harmless(out)
    assert json.loads(out) == {EVIL: [EVIL]}


@pytest.mark.fault("S8")
def test_an_error_shows_what_it_quotes_and_keeps_its_lines() -> None:
    error = CnnError.of("data", f"`{EVIL}` is gone", notes=[EVIL], help=f"{EVIL}\nsecond")
    _assert_harmless(str(error).replace("\nerror: fake", ""))
    assert str(error).startswith("error[data]: `\\x1b[31mred")


def test_our_own_style_survives(tmp_path: Path) -> None:
    path = tmp_path / "x.cnn"
    path.write_text("input 4x4x3 | \x1b[32m")
    result = CliRunner().invoke(main, ["check", str(path)], color=True)
    assert result.stderr.startswith("\x1b[31m\x1b[1merror[")
    _assert_harmless(OWN_STYLE.sub("", result.stderr))


class _Reader(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)


@pytest.mark.fault("S8")
def test_pages_and_drawings_hold_no_markup_and_no_control_of_others() -> None:
    page = document(EVIL, EVIL, escape(EVIL), "cnnc", [("a", EVIL, f"<p>{escape(EVIL)}</p>")])
    reader = _Reader()
    reader.feed(page)
    assert "b" not in reader.tags
    _assert_harmless(page)
    drawing = to_svg(Scene(10, 10, (Text(0, 0, EVIL, 10),)), EVIL).decode()
    _assert_harmless(drawing)
    ElementTree.fromstring(drawing)  # a control character is no XML


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree of pictures whose classes and files have evil names, a `run` on it, and a TFLite file of the run."""
    root = tmp_path_factory.mktemp("made")
    (root / "tiny.cnn").write_text(dense_text(epochs=1))
    data = root / EVIL
    for part, count in (("train", 6), ("val", 1)):
        for label in LABELS:
            (data / part / label).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(noise(8, 8, 3, number)).save(data / part / label / f"{EVIL}{number}.png", "PNG")
    said("train", root / "tiny.cnn", "--data", data, "--out", root / "evil")
    said("compile", root / "evil", "--target", "tflite", "-o", root / "evil.tflite")
    return root


COMMANDS: dict[str, Callable[[Path, Path], tuple[object, ...]]] = {
    "stats": lambda root, data: ("data", "stats", data),
    "verify": lambda root, data: ("data", "verify", data),
    "eval": lambda root, data: ("eval", root / "evil"),
    "eval a file": lambda root, data: ("eval", root / "evil.tflite", "--data", data),
    "predict": lambda root, data: ("predict", root / "evil", *_pictures(data)),
    "predict by a file": lambda root, data: ("predict", root / "evil.tflite", *_pictures(data)),
    "embed": lambda root, data: ("embed", root / "evil", data, "-o", root / "features.csv"),
    "activations": lambda root, data: ("activations", root / "evil", _pictures(data)[0], "-o", root / "maps"),
    "find-lr": lambda root, data: (
        "find-lr",
        root / "tiny.cnn",
        "--data",
        data,
        "--out",
        root / "lr",
        "--steps",
        "20",
        "--batch",
        "1",
    ),
    "resume": lambda root, data: ("train", "--resume", root / "evil", "--epochs", "2"),
    "train on what is gone": lambda root, data: ("train", root / "tiny.cnn", "--data", data / "gone"),
    "compile": lambda root, data: (
        *("compile", root / "evil", "--target", "tflite-int8", "--data", data),
        *("-o", root / "int8.tflite"),
    ),
    "no such file": lambda root, data: ("predict", root / "evil", root / f"{EVIL}.png"),
    "no such option": lambda root, data: ("predict", f"--{EVIL}"),
    "no such command": lambda root, data: (EVIL,),
    "no such spec": lambda root, data: ("check", f"{EVIL}.cnn"),
    "no such value": lambda root, data: ("check", "mlp", "--set", f"classes={EVIL}"),
}


TRAINING = ("resume", "find-lr", "compile")
SLOW = pytest.mark.slow
NAMELESS = ("embed", "find-lr", "resume", "compile")
"""Commands that print nothing of what their data is called."""


def _pictures(data: Path) -> list[Path]:
    return sorted((data / "val" / LABELS[0]).iterdir())


@pytest.mark.fault("S8")
@pytest.mark.parametrize("command", [pytest.param(name, marks=SLOW) if name in TRAINING else name for name in COMMANDS])
def test_no_command_prints_what_a_terminal_would_obey(command: str, made: Path) -> None:
    arguments = COMMANDS[command](made, made / EVIL)
    told = said(*arguments)
    assert "\\x1b[31mred" in told or command in NAMELESS
    if command in ("stats", "verify", "eval", "predict", "activations"):
        _assert_harmless(call(*arguments, "--format", "json").stdout)


@pytest.mark.fault("S8")
def test_a_picture_that_is_broken_is_named_harmlessly(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(made / EVIL, data)
    (data / "train" / LABELS[0] / f"{EVIL}1.png").write_bytes(b"no picture")
    for arguments in (("data", "verify", data), ("data", "stats", data)):
        said(*arguments)
    told = said("train", made / "tiny.cnn", "--data", data, "--out", tmp_path / "run")
    assert "\\x1b[31mred" in told


@pytest.mark.fault("S8")
def test_pages_of_a_run_are_harmless(made: Path) -> None:
    page = (made / "evil" / "report.html").read_text()
    _assert_harmless(page)
    assert "\\x1b[31mred" in page


@pytest.mark.fault("S8")
def test_tensors_of_others_are_named_harmlessly(made: Path, tmp_path: Path) -> None:
    file = read_file((made / "evil.tflite").read_bytes(), "evil.tflite")
    (program,) = file.programs
    renamed = {tensor: f"{EVIL}{tensor}" for tensor in program.tensors}
    evil = replace(
        program,
        tensors={renamed[name]: replace(tensor, name=renamed[name]) for name, tensor in program.tensors.items()},
        operators=tuple(
            replace(
                each,
                inputs=tuple(renamed.get(name, name) for name in each.inputs),
                outputs=tuple(renamed[name] for name in each.outputs),
            )
            for each in program.operators
        ),
        inputs=tuple(renamed[name] for name in program.inputs),
        outputs=tuple(renamed[name] for name in program.outputs),
    )
    path = tmp_path / f"{EVIL}.tflite"
    path.write_bytes(write_file(replace(file, programs=(evil,))))
    picture = _pictures(made / EVIL)[0]
    for arguments in (
        ("check", path, "--target", "edgetpu"),
        ("predict", path, picture),
        ("bench", path, "--runs", "1"),
        ("activations", path, picture, "-o", tmp_path / "maps"),
        ("import-weights", made / "tiny.cnn", path, "-o", tmp_path / "w.safetensors"),
        ("eval", path, "--data", made / EVIL),
    ):
        assert "\\x1b[31mred" in said(*arguments), arguments


@pytest.mark.fault("S8")
def test_arrays_of_others_are_named_harmlessly(made: Path, tmp_path: Path) -> None:
    arrays = {f"{EVIL}.weight": np.zeros((4, 192), np.float32), f"{EVIL}2.weight": np.zeros((7, 7), np.float32)}
    save_file(arrays, tmp_path / "theirs.safetensors")
    save_archive(tmp_path / "theirs.npz", {EVIL: np.zeros(3)})
    for name in ("theirs.safetensors", "theirs.npz"):
        for more in ((), ("--partial",)):
            said("import-weights", made / "tiny.cnn", tmp_path / name, "-o", tmp_path / "w.safetensors", *more)


@pytest.mark.fault("S8")
@pytest.mark.parametrize("text", [f"input 4x4x3 | {EVIL}", f"# {EVIL}\ninput 4x4x3 | reul", f'import "{EVIL}"\n', EVIL])
def test_specs_of_others_are_quoted_harmlessly(text: str, tmp_path: Path) -> None:
    path = tmp_path / f"{EVIL}.cnn"
    path.write_text(text, newline="")
    for command in (("check",), ("show",), ("show", "--expand"), ("fmt", "--check")):
        said(*command, path)


def test_a_spec_laid_out_into_a_pipe_is_the_text_itself() -> None:
    result = CliRunner().invoke(main, ["fmt", "-"], input="input 4x4x3 # a\u202eb\nflatten|dense(2)\n")
    assert "# a\u202eb" in result.stdout


FULL = Path("/dev/full")
"""The disk that has no room; it is only written to, and never replaced."""
COMMAND = "from cnnc.cli import main; main(prog_name='cnnc')"


@pytest.mark.skipif(not FULL.exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize(
    "arguments",
    [["show", "mlp", "--expand"], ["list", "--format", "json"], ["--help"], ["fmt", "--help"]],
    ids=" ".join,
)
def test_output_that_finds_no_room_is_said(arguments: list[str]) -> None:
    with FULL.open("w") as full:
        ended = subprocess.run([sys.executable, "-c", COMMAND, *arguments], stdout=full, stderr=subprocess.PIPE)
    assert ended.returncode == 1
    assert ended.stderr.decode().strip() == "error[run]: cannot write the output: no space left on device"


@pytest.mark.skipif(os.name != "posix", reason="it takes a shell")
def test_a_command_without_an_output_does_its_work() -> None:
    command = f"{shlex.join([sys.executable, '-c', COMMAND, 'show', 'mlp'])} >&-"
    ended = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE)
    assert (ended.returncode, ended.stderr) == (0, b"")
