"""What is written: regular files, whole or not at all, by every command, and nothing else is ever replaced."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest

from cnnc.cli import COMMANDS, main
from cnnc.cli.options.common import Output
from cnnc.data.pictures.decode import decode
from cnnc.data.sources.class_table import read_class_list
from cnnc.diagnostics import CnnError
from cnnc.evaluation.class_labels import labels_of
from cnnc.files import read_bytes, require_file, require_folder, write_atomically
from cnnc.tflite_file.read import open_file
from cnnc.weights.importing.matching.by_user import read_mapping
from tests.project.test_layers import MODULES
from tests.support.calling import call, refused

Make = Callable[[Path], None]
NULL = os.makedev(1, 3)
"""The device that swallows what it is given, as a node of our own: the machine's is never named here."""


def _device(place: Path) -> None:
    try:
        os.mknod(place, 0o600 | stat.S_IFCHR, NULL)
    except PermissionError:
        pytest.skip("only root makes devices")


def _socket(place: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(place))


def _link_to_a_pipe(place: Path) -> None:
    os.mkfifo(place.with_name("p"))
    place.symlink_to("p")


SPECIAL: dict[str, tuple[Make, str]] = {
    "device": (_device, "it is a device"),
    "pipe": (os.mkfifo, "it is a pipe"),
    "socket": (_socket, "it is a socket"),
    "dangling link": (lambda place: place.symlink_to("gone"), "it is a link to `gone`, which is not there"),
    "circle": (lambda place: place.symlink_to(place.name), "link"),
    "link to a pipe": (_link_to_a_pipe, "it is a pipe"),
}
"""What is no place for a file, how it is made, and what is said of it."""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _seen(folder: Path) -> dict[str, tuple[int, int]]:
    """What lies in a folder: the kind and the inode of each thing by its name."""
    return {each.name: (each.lstat().st_mode, each.lstat().st_ino) for each in folder.iterdir()}


READERS: dict[str, Callable[[Path], object]] = {
    "labels": labels_of,
    "classes": read_class_list,
    "mapping": read_mapping,
    "TFLite file": open_file,
    "picture": lambda path: decode(path, (8, 8), 3),
}


@pytest.mark.fault("S6")
@pytest.mark.parametrize("reader", READERS)
def test_a_file_that_is_far_too_large_is_not_read(reader: str, here: Path) -> None:
    path = here / "large"
    with path.open("wb") as file:
        file.truncate(1 << 42)  # takes no room on the disk
    with pytest.raises(CnnError, match=r"`large`.* has more than [\d,]+ bytes"):
        READERS[reader](Path("large"))


@pytest.mark.fault("S6")
def test_what_has_no_size_and_no_end_is_read_up_to_the_bound(here: Path) -> None:
    endless = here / "endless"
    try:
        os.mknod(endless, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # zeros
        with pytest.raises(OSError, match="has more than 1,000 bytes"):
            read_bytes(endless, 1000)
    except PermissionError:
        pytest.skip("only root makes devices")
    endless.unlink()
    os.mkfifo(endless)
    with ThreadPoolExecutor(1) as pool:
        content = pool.submit(read_bytes, endless, 1000)
        endless.write_bytes(b"of a pipe")
        assert content.result() == b"of a pipe"


@pytest.mark.fault("S1")
@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_regular_file_is_never_replaced(kind: str, here: Path) -> None:
    make, message = SPECIAL[kind]
    make(here / "x")
    before = _seen(here)
    for require in (require_file, lambda path: write_atomically(path, "content"), require_folder):
        with pytest.raises(CnnError, match=message) as caught:
            require(here / "x")
        assert caught.value.diagnostics[0].message.startswith(f"cannot write `{here / 'x'}`: ")
    assert _seen(here) == before


@pytest.mark.fault("S1")
def test_places_that_no_file_can_have_are_named() -> None:
    Path("folder").mkdir()
    Path("file").write_text("")
    for place, message in (
        ("folder", "it is a folder"),
        ("", "it is a folder"),
        ("gone/x", "there is no folder `gone`"),
        ("file/x", "`file` is a file"),
        ("file/deep/x", "`file` is a file"),
        ("x" * 300, "file name too long"),
    ):
        with pytest.raises(CnnError, match=message):
            require_file(Path(place))
    require_folder(Path("folder/new/deep"))
    for place in ("file", "file/x"):
        with pytest.raises(CnnError, match="is a file"):
            require_folder(Path(place))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_what_may_not_be_written_is_said() -> None:
    Path("locked").mkdir(mode=0o500)
    Path("kept").touch(mode=0o400)
    for require in (require_file, require_folder):
        with pytest.raises(CnnError, match="no permission to write in"):
            require(Path("locked/x"))
    with pytest.raises(CnnError, match="without permission to write it"):
        require_file(Path("kept"))


def test_a_link_stays_and_the_file_that_it_leads_to_is_replaced(here: Path) -> None:
    (here / "folder").mkdir()
    Path("folder/file").write_text("before")
    Path("link").symlink_to("folder/file")
    write_atomically(Path("link"), "after")
    assert Path("link").is_symlink()
    assert Path("folder/file").read_text() == "after"
    assert os.listdir("folder") == ["file"]


def test_a_file_that_is_written_again_keeps_who_may_read_it() -> None:
    before = os.umask(0o022)
    try:
        write_atomically(Path("new"), "")
        Path("private").touch(mode=0o600)
        write_atomically(Path("private"), "secret")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(Path(name).stat().st_mode) for name in ("new", "private")] == [0o644, 0o600]


def test_names_that_are_no_utf_8_are_written_as_the_bytes_that_they_are(here: Path) -> None:
    write_atomically(here / "x", f"Käse, {os.fsdecode(b'k' + bytes([0xFF]))}")
    assert (here / "x").read_bytes() == "Käse, k".encode() + b"\xff"


def test_the_longest_name_that_a_file_can_have_is_written() -> None:
    write_atomically(Path("x" * 255), "content")
    assert os.listdir() == ["x" * 255]


def _commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(main)
    for name in COMMANDS:
        command = main.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


READ = {
    *("run", "what", "model", "models", "images", "image", "file", "pictures", "program", "mapping", "compare"),
    *("weights", "compare_weights", "labels", "classes", "data_dir", "resume", "edgetpu_compiler"),
}
"""Parameters that are paths which a command reads."""
WRITERS = {
    ("show", "picture"): ("show", "gone.cnn", "--graph"),
    ("train", "out"): ("train", "gone.cnn", "--out"),
    ("find-lr", "out"): ("find-lr", "gone.cnn", "--out"),
    ("import-weights", "out"): ("import-weights", "gone.cnn", "gone.npz", "-o"),
    ("embed", "out"): ("embed", "gone.cnn", "gone.png", "-o"),
    ("compile", "out"): ("compile", "gone.cnn", "--random-weights", "--target", "tflite", "-o"),
    ("diff", "out"): ("diff", "gone", "gone.tflite", "-o"),
    ("activations", "out"): ("activations", "gone.cnn", "gone.png", "-o"),
    ("tune", "output"): ("tune", "gone.cnn", "-o"),
    ("demo", "out"): ("demo", "--out"),
}
"""The command and the parameter that names what it writes: a call whose work would fail at once."""


def test_every_path_of_every_command_is_read_or_known_to_be_written() -> None:
    written = set()
    for name, command in _commands():
        for parameter in command.params:
            if isinstance(parameter.type, click.Path) and parameter.name not in READ:
                assert parameter.name is not None
                assert isinstance(parameter.type, Output) or name == "compile", (name, parameter)
                written.add((name, parameter.name))
    assert written == set(WRITERS)


@pytest.mark.fault("S1")
@pytest.mark.parametrize("writer", [*WRITERS, "savedmodel", "keras", "jax"], ids=str)
def test_every_command_refuses_what_is_no_regular_file_before_its_work(writer: object, here: Path) -> None:
    command: tuple[str, ...]
    if isinstance(writer, tuple):
        command = WRITERS[writer]
    else:
        command = ("compile", "gone.cnn", "--random-weights", "--target", str(writer), "-o")
    for number, (make, message) in enumerate(SPECIAL.values()):
        place = here / f"x{number}"
        try:
            make(place)
        except pytest.skip.Exception:
            continue
        before = _seen(here)
        result = call(*command, place)
        assert result.exit_code == 1, result.output
        assert f"error[run]: cannot write `{place}`: " in result.stderr
        assert message in result.stderr
        assert _seen(here) == before
        Path("p").unlink(missing_ok=True)


def test_such_an_error_is_json_where_json_is_asked_for(here: Path) -> None:
    os.mkfifo(here / "x")
    assert "it is a pipe" in refused("run", "diff", "gone", "gone.tflite", "-o", here / "x")


@pytest.mark.fault("S1")
def test_what_is_written_beside_the_output_is_looked_at_too(here: Path) -> None:
    command = ("compile", "gone.cnn", "--random-weights", "-o")
    os.mkfifo("model.safetensors")
    assert "cannot write `model.safetensors`" in refused("run", *command, "model.py", "--target", "jax")
    compiler = here / "edgetpu_compiler"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    os.mkfifo("model_edgetpu.tflite")
    assert "cannot write `model_edgetpu.tflite`" in refused(
        "run", *command, "model.tflite", "--target", "edgetpu", "--edgetpu-compiler", compiler
    )


@pytest.mark.fault("S1")
def test_a_spec_that_is_a_pipe_is_not_laid_out(here: Path) -> None:
    os.mkfifo("x.cnn")
    assert "cannot write `x.cnn`: it is a pipe" in call("fmt", "x.cnn").stderr
    assert Path("x.cnn").is_fifo()


@pytest.mark.fault("S1")
def test_the_lock_of_a_run_leaves_alone_what_a_link_leads_to(here: Path) -> None:
    from cnnc.runs.checkpoint import lock

    Path("run").mkdir()
    Path("thesis").write_text("all of it")
    Path("run/.lock").symlink_to("../thesis")
    with lock(Path("run")):
        assert Path("thesis").read_text() == "all of it"
    Path("run/.lock").unlink()
    os.mkfifo("run/.lock")
    with pytest.raises(CnnError, match="it is a pipe"), lock(Path("run")):
        pass


WRITES = re.compile(
    r"\.write_(text|bytes)\(|\bos\.replace\(|\bmkstemp\(|\bopen\((\w+, )?\"[rbt]*[wax+]|\.tofile\(|\"w\+\""
)
OWN = {
    "cnnc.files",
    "cnnc.language.parse_table",  # the table that is part of the package
    "cnnc.runs.checkpoint",  # folders that it has made, and the lock
    "cnnc.data.sources.decoded_cache",  # caches
    "cnnc.data.sources.tfrecord",
    "cnnc.backends.edgetpu.compiler",  # temporary folders
    "cnnc.backends.tflite.litert.interpreter",
    "cnnc.backends.keras.save",  # Keras writes into one, and its place was looked at
}
"""Modules that write something else than what a user has named."""


def test_every_other_module_writes_by_write_atomically() -> None:
    found = {module for module, path in MODULES.items() if WRITES.search(path.read_text(encoding="utf-8"))}
    assert found == OWN
