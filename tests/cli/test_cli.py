"""The command group, its options, its exit codes, and the commands show and list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

import cnnc
from cnnc import specs
from cnnc.cli import COMMANDS, main
from cnnc.cli.options.common import spec_options
from cnnc.overrides import Overrides

TINY = "model tiny(classes=10) {\n  input 8x8x3\n  conv(3x3, 8) | relu | globalpool | dense(classes)\n}\n"
WRONG = "model wrong {\n  input 8x8x3\n  conv(3x3, 8) | reul\n}\n"


def _run(*arguments: str, **options: Any) -> Result:
    return CliRunner().invoke(main, arguments, **options)


@pytest.fixture
def tiny(tmp_path: Path) -> str:
    path = tmp_path / "tiny.cnn"
    path.write_text(TINY)
    return str(path)


@pytest.fixture
def wrong(tmp_path: Path) -> str:
    path = tmp_path / "wrong.cnn"
    path.write_text(WRONG)
    return str(path)


def test_every_command_exists_and_explains_itself() -> None:
    listed = _run("-h")
    assert listed.exit_code == 0
    for name, line in COMMANDS.items():
        assert f"{name} " in listed.output
        assert line in listed.output
        for flag in ("-h", "--help"):
            found = _run(name, flag)
            assert found.exit_code == 0
            assert f"Usage: main {name}" in found.output


@pytest.mark.parametrize("name", ["check", "show", "train"])
def test_commands_with_a_spec_take_all_that_changes_it(name: str) -> None:
    output = _run(name, "-h").output
    for option in ("--variant", "--phi", "--width", "--depth", "--resolution", "--input", "--set"):
        assert option in output


def test_version() -> None:
    assert _run("--version").output == f"cnnc {cnnc.__version__}\n"


def test_no_command_shows_help_and_is_a_usage_error() -> None:
    found = _run()
    assert found.exit_code == 2
    assert "Usage:" in found.output


@pytest.mark.parametrize(
    ("word", "message"), [("chek", "did you mean `check`?"), ("zzz", "the commands are check, show")]
)
def test_an_unknown_command_is_a_usage_error_with_a_suggestion(word: str, message: str) -> None:
    found = _run(word)
    assert found.exit_code == 2
    assert f"there is no command `{word}`" in found.stderr
    assert message in found.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("show", "mlp", "--widht", "2"),
        ("show", "mlp", "--width", "wide"),
        ("show", "mlp", "--width", "nan"),
        ("show", "mlp", "--phi", "inf"),
        ("show", "mlp", "--input", "28x"),
        ("show", "mlp", "--input", "28x-1"),
        ("show", "mlp", "--input", "28*28"),
        ("show", "mlp", "--set", "classes"),
        ("show", "mlp", "--set", "1=2"),
        ("show", "mlp", "--format", "xml"),
        ("show", "mlp", "--graph", "net.gif"),
        ("show", "mlp", "--graph", "net"),
        ("show", "mlp", "--expand", "--format", "json"),
        ("check",),
        ("list", "mlp"),
    ],
)
def test_a_wrong_command_line_exits_with_2_and_names_the_fault(arguments: tuple[str, ...]) -> None:
    found = _run(*arguments)
    assert found.exit_code == 2
    assert "Error:" in found.stderr
    assert found.stdout == ""


def test_a_wrong_spec_exits_with_1_and_renders_to_stderr(wrong: str) -> None:
    found = _run("show", wrong)
    assert found.exit_code == 1
    assert found.stdout == ""
    assert found.stderr.startswith("error[name]: ")
    assert f"--> {wrong}:3:18" in found.stderr
    assert "did you mean `relu`?" in found.stderr


def test_a_wrong_spec_is_json_where_json_was_asked_for(wrong: str) -> None:
    found = _run("show", wrong, "--format", "json")
    assert found.exit_code == 1
    assert found.stderr == ""
    data = json.loads(found.stdout)
    assert data["ok"] is False
    (diagnostic,) = data["diagnostics"]
    assert (diagnostic["code"], diagnostic["line"], diagnostic["column"]) == ("name", 3, 18)
    assert (diagnostic["end_line"], diagnostic["end_column"]) == (3, 22)


def test_an_unknown_spec_suggests_a_bundled_one() -> None:
    found = _run("show", "resent")
    assert found.exit_code == 1
    assert "error[spec]" in found.stderr
    assert "did you mean `resnet`?" in found.stderr


@click.command()
@spec_options
def _echo(spec: str, overrides: Overrides) -> None:
    click.echo(repr((spec, overrides)))  # noqa: TID251  # a command of the test's own


def test_options_become_overrides() -> None:
    arguments = "s --variant b1 --phi 1.5 --width 0.5 --depth 2 --resolution 1.25 --input 8x8x1 --input b=5"
    found = CliRunner().invoke(_echo, [*arguments.split(), "--set", "classes=10", "--set", "act=leaky_relu(0.1)"])
    wanted = Overrides(
        variant="b1",
        phi=1.5,
        width=0.5,
        depth=2.0,
        resolution=1.25,
        input=((None, (8, 8, 1)), ("b", (5,))),
        settings=(("classes", "10"), ("act", "leaky_relu(0.1)")),
    )
    assert found.output == f"{('s', wanted)!r}\n"


def test_show_prints_the_table_and_follows_the_options(tiny: str) -> None:
    found = _run("show", tiny, "--set", "classes=7", "--input", "16x16x1")
    assert found.exit_code == 0
    assert "│ input " in found.stdout
    assert "tiny: 16x16x1 -> 7, 143 parameters (all trainable)" in found.stdout  # 3 * 3 * 8 + 8, 8 * 7 + 7


def test_show_json_is_the_documented_object(tiny: str) -> None:
    found = json.loads(_run("show", tiny, "--format", "json").stdout)
    assert list(found) == ["name", "inputs", "outputs", "params", "trainable_params", "macs", "layers"]
    assert found["params"] == 3 * 3 * 3 * 8 + 8 + 8 * 10 + 10
    assert found["macs"] == 8 * 8 * 8 * 27 + 80 + sum(layer["macs"] for layer in found["layers"][2:4])
    assert [layer["op"] for layer in found["layers"]] == ["input", "conv", "relu", "globalpool", "dense"]


def test_show_all_unfolds() -> None:
    folded, unfolded = _run("show", "resnet50").stdout, _run("show", "resnet50", "--all").stdout
    assert " x 5 " in folded
    assert " x 5 " not in unfolded
    assert len(unfolded.splitlines()) > len(folded.splitlines())
    assert folded.splitlines()[-1] == unfolded.splitlines()[-1]


@pytest.mark.parametrize("name", ["resnet50", "alphazero", "astronet", "mobilenet_v2"])
def test_show_expand_prints_a_spec_of_the_same_network(name: str, tmp_path: Path) -> None:
    path = tmp_path / "expanded.cnn"
    path.write_text(_run("show", name, "--expand").stdout)
    one, two = (json.loads(_run("show", spec, "--format", "json").stdout) for spec in (name, str(path)))
    for key in ("params", "trainable_params", "macs", "inputs"):
        assert one[key] == two[key]
    assert [layer["output_shape"] for layer in one["layers"]] == [layer["output_shape"] for layer in two["layers"]]


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<svg "), ("PNG", b"\x89PNG"), ("mmd", b"---\ntitle: tiny")])
def test_show_graph_draws_a_file(tiny: str, tmp_path: Path, ending: str, start: bytes) -> None:
    path = tmp_path / f"net.{ending}"
    found = _run("show", tiny, "--graph", str(path))
    assert found.stdout == f"drew {path}\n"
    assert path.read_bytes().startswith(start)


def test_show_graph_into_no_folder_is_an_error(tiny: str, tmp_path: Path) -> None:
    found = _run("show", tiny, "--graph", str(tmp_path / "none" / "net.svg"))
    assert found.exit_code == 1
    assert "there is no folder" in found.stderr


def test_a_folder_in_a_spec_s_place_is_called_one(tmp_path: Path) -> None:
    run = tmp_path / "exp1"
    run.mkdir()
    assert (
        f"`{run}` is a folder, and a spec is wanted\n  = help: name a .cnn file in it" in _run("show", str(run)).stderr
    )
    (run / "spec.cnn").write_text("conv(3x3, 8)\n")
    assert f"help: name the spec in it: {run}/spec.cnn" in _run("check", str(run)).stderr


@pytest.mark.parametrize("format", [pytest.param("table", marks=pytest.mark.slow), "json"])
def test_list_has_every_bundled_spec_with_its_variants(format: str) -> None:
    output = _run("list", "--format", format).stdout
    if format == "json":
        found = {(each["name"], each["variant"]): each["trainable_params"] for each in json.loads(output)}
        assert {name for name, _ in found} == {*specs.names()}
        assert found["resnet", "50"] == 25_557_032
        assert found["efficientnet", "b7"] == 66_347_960
    else:
        assert all(name in output for name in specs.names())
        assert "25,557,032" in output


def test_a_table_wider_than_the_terminal_is_fitted() -> None:
    import pty

    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80"}
    command = [sys.executable, "-c", "from cnnc.cli import main; main()", "show", "mobilenet_v2"]
    with subprocess.Popen(command, stdout=slave, env=environment):
        os.close(slave)
        chunks = []
        with suppress(OSError):  # Linux says EIO where the other end is closed
            while chunk := os.read(master, 4096):
                chunks.append(chunk)
    os.close(master)
    lines = b"".join(chunks).decode().splitlines()
    assert {len(line) for line in lines[:-1]} == {80}


def test_a_reader_that_leaves_early_hears_no_complaint() -> None:
    command = f"{sys.executable} -c 'from cnnc.cli import main; main()' show resnet152 --all"
    done = subprocess.run(f"{command} | head -n 1", shell=True, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("┌")
    assert done.stderr == ""


def test_an_interrupt_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cnnc.cli.show.load_spec", interrupt)
    found = _run("show", "mlp")
    assert found.exit_code == 130
    assert found.stderr == "\ninterrupted\n"


def test_output_that_the_terminal_cannot_show_is_replaced() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-c", "from cnnc.cli import main; main()", "show", "mlp"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert "mlp: 28x28x1 -> 10, 669,706 parameters" in done.stdout
