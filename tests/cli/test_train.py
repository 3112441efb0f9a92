"""The commands train, eval, predict and demo, end to end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from cnnc.cli.console.watch import watching
from cnnc.runs.events import EpochEnd, Message, Progress, Row, TrainingStart
from tests.support.calling import call
from tests.support.pictures import make_tree, truncate
from tests.support.small_runs import dense_text, train_small

SPEC = dense_text(epochs=2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec, a tree of pictures, and a run."""
    return train_small(tmp_path_factory.mktemp("trained"), SPEC, "--epochs", 3)


def test_train_prints_a_line_an_epoch_and_what_to_type_next(trained: Path, tmp_path: Path) -> None:
    result = call("train", trained / "tiny.cnn", "--data", trained / "data", "--out", tmp_path / "run")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "the validation pictures serve as test set too"
    assert lines[1] == f"tiny: 782 parameters, into {tmp_path / 'run'}"
    assert lines[2] == "24 examples to train on, 11 to validate; 2 epochs of 3 steps of 8"
    assert [line[:9] for line in lines[3:5]] == ["epoch 1/2", "epoch 2/2"]
    assert any(line.startswith("best: ") for line in lines)
    assert f"  cnnc eval {tmp_path / 'run'}" in lines
    assert f"  cnnc predict {tmp_path / 'run'} PICTURE..." in lines
    assert "\x1b" not in result.stdout


def test_runs_are_numbered_under_the_models_name(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert call("train", trained / "tiny.cnn", "--data", trained / "data", "--epochs", 1).exit_code == 0
    assert sorted(p.as_posix() for p in Path("runs/tiny").iterdir()) == ["runs/tiny/exp1", "runs/tiny/exp2"]


def test_flags_override_the_train_section(trained: Path, tmp_path: Path) -> None:
    import yaml

    flags = ["--epochs", "1", "--batch", "6", "--lr", "0.5", "--seed", "9", "--precision", "bf16"]
    arguments = ("train", trained / "tiny.cnn", "--data", trained / "data", "--out", tmp_path / "run", *flags)
    assert call(*arguments).exit_code == 0
    train = yaml.safe_load((tmp_path / "run/args.yaml").read_text())["train"]
    assert train["schedule"] == {"constant": {"peak": 0.5, "warmup": 0.0}}
    assert (train["epochs"], train["batch"], train["seed"], train["precision"]) == (1, 6, 9, "bf16")


@pytest.mark.parametrize(
    "flags",
    [
        "--epochs 0",
        "--batch -1",
        "--lr 0",
        "--lr nan",
        "--lr fast",
        "--seed -1",
        "--precision f16",
        "--split 1",
        "--split 0",
    ],
)
def test_flags_that_make_no_sense_are_usage_errors(trained: Path, flags: str) -> None:
    result = call("train", trained / "tiny.cnn", "--data", trained / "data", *flags.split())
    assert result.exit_code == 2
    assert "Usage:" in result.stderr


def test_eval_says_how_good_it_is_class_by_class(trained: Path) -> None:
    result = call("eval", trained / "run")
    assert result.exit_code == 0
    assert "on the 11 validation pictures of" in result.stdout
    assert "top-1 100.00 %" in result.stdout
    assert [line.split()[:2] for line in result.stdout.splitlines()[-2:]] == [["dark", "5"], ["light", "6"]]


def test_eval_gives_the_same_as_json(trained: Path) -> None:
    found = json.loads(call("eval", trained / "run", "--data", trained / "data", "--format", "json").stdout)
    assert found["top1"] == 1.0
    assert found["top5"] is None
    assert found["confusion"] == [[5, 0], [0, 6]]
    assert found["count"] == 11
    assert found["classes"][0] == {"name": "dark", "count": 5, "recall": 1.0, "precision": 1.0}


def test_eval_of_a_plain_folder_takes_all_of_it_by_the_classes_names(trained: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "new", {"light": 3})
    found = json.loads(call("eval", trained / "run", "--data", tmp_path / "new", "--format", "json").stdout)
    assert found["count"] == 3
    assert sum(found["confusion"][1]) == 3
    assert found["classes"][0]["recall"] is None
    part = json.loads(
        call("eval", trained / "run", "--data", tmp_path / "new", "--split", 0.4, "--format", "json").stdout
    )
    assert part["count"] == 1


def test_eval_refuses_classes_that_were_not_trained_on(trained: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "new", {"ligth": 3, "dark": 2})
    result = call("eval", trained / "run", "--data", tmp_path / "new")
    assert result.exit_code == 1
    assert "error[labels]: a class of the data is not among the labels of `tiny`: `ligth`" in result.stderr
    assert "did you mean `light`?" in result.stderr


def test_eval_counts_what_it_skips(trained: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "new", {"dark": 3, "light": 3})
    truncate(tmp_path / "new/dark/001.png", 0.3)
    result = call("eval", trained / "run", "--data", tmp_path / "new")
    assert result.exit_code == 1
    assert "001.png" in result.stderr
    arguments = ("eval", trained / "run", "--data", tmp_path / "new", "--skip-corrupt", "--format", "json")
    found = json.loads(call(*arguments).stdout)
    assert found["count"] == 5
    assert [Path(p).name for p in found["skipped"]] == ["001.png"]


def test_predict_gives_labels_and_probabilities(trained: Path, tmp_path: Path) -> None:
    pictures = []
    for name, level in (("night", 40), ("day", 210)):
        Image.new("L", (20, 30), level).save(tmp_path / f"{name}.jpg")
        pictures.append(tmp_path / f"{name}.jpg")
    result = call("predict", trained / "run", *pictures, "--top", 1)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == str(pictures[0])
    assert lines[1].split()[0] == "dark"
    assert lines[3].split()[0] == "light"
    found = json.loads(call("predict", trained / "run", *pictures, "--format", "json").stdout)
    assert [answer["top"][0]["label"] for answer in found] == ["dark", "light"]
    assert sum(guess["probability"] for guess in found[0]["top"]) == pytest.approx(1)


def test_predict_names_what_it_cannot_read(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    result = call("predict", trained / "run", tmp_path / "broken.jpg")
    assert result.exit_code == 1
    assert "error[picture]: cannot decode" in result.stderr
    result = call("predict", trained / "run", tmp_path / "gone.jpg", "--format", "json")
    assert result.exit_code == 1
    (diagnostic,) = json.loads(result.stdout)["diagnostics"]
    assert diagnostic["code"] == "picture"
    assert call("predict", trained / "run").exit_code == 2


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_what_is_no_run_is_refused(trained: Path, command: str) -> None:
    extra = ["picture.jpg"] if command == "predict" else []
    result = call(command, trained / "data", *extra)
    assert result.exit_code == 1
    assert "error[run]" in result.stderr


def test_another_number_of_classes_names_the_setting(trained: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {f"{part}/{name}": 2 for part in ("train", "val") for name in "abc"})
    arguments = ("train", trained / "tiny.cnn", "--data", tmp_path / "data", "--out", tmp_path / "run", "--epochs", 1)
    result = call(*arguments)
    assert result.exit_code == 1
    assert "help: --set classes=3" in result.stderr
    assert call(*arguments, "--set", "classes=3").exit_code == 0


@pytest.mark.parametrize(
    ("folder", "message"),
    [("gone", "there is no data set and no folder"), ("empty", "holds no class folders")],
)
def test_missing_and_empty_data_are_said(trained: Path, tmp_path: Path, folder: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    data = tmp_path / folder if folder == "empty" else folder
    result = call("train", trained / "tiny.cnn", "--data", data, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert message in result.stderr


def test_data_must_be_said_somewhere(trained: Path) -> None:
    result = call("train", trained / "tiny.cnn")
    assert result.exit_code == 1
    assert "it is not said what to train on" in result.stderr
    assert "--data digits" in result.stderr


def test_a_diverging_training_ends_with_advice(trained: Path, tmp_path: Path) -> None:
    arguments = ("train", trained / "tiny.cnn", "--data", trained / "data", "--out", tmp_path / "run", "--lr", "1e30")
    result = call(*arguments)
    assert result.exit_code == 1
    assert "error[diverged]" in result.stderr
    assert "--lr 1e+29" in result.stderr


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT to a process")
def test_ctrl_c_leaves_the_last_weights_and_says_where(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        "from cnnc.cli import main; main()",
        "train",
        str(trained / "tiny.cnn"),
        "--data",
        str(trained / "data"),
    ]
    with subprocess.Popen(
        [*command, "--epochs", "100000", "--out", str(run)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 120
        while not (run / "results.csv").is_file():
            assert time.monotonic() < deadline
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; saved up to epoch " in errors
    assert f"go on with: cnnc train --resume {run}" in errors
    assert "Traceback" not in errors
    found = call("eval", run, "--last", "--format", "json")
    assert found.exit_code == 0
    assert json.loads(found.stdout)["epoch"] >= 1


@pytest.mark.slow
@pytest.mark.usefixtures("drawn_pictures")
def test_the_demo_reads_97_of_100_digits(tmp_path: Path) -> None:
    result = call("demo", "--out", tmp_path / "demo")
    assert result.exit_code == 0, result.output
    (line,) = [line for line in result.stdout.splitlines() if "are read right" in line]
    assert float(line.split()[0]) >= 97
    for name in ("results.png", "confusion_matrix.png", "batch0.png"):
        assert str(tmp_path / "demo" / name) in result.stdout
        assert (tmp_path / "demo" / name).stat().st_size > 5000


def test_a_terminal_gets_a_bar_and_the_lines_stay() -> None:
    console = Console(force_terminal=True, width=100, record=True, file=open(os.devnull, "w"))  # noqa: SIM115  # as long as it is
    row = Row(1, 2.5, 0.1, 0.5, 0.75, 0.4, 0.8, None)
    with watching(console) as report:
        report(Message("a [note]"))
        report(TrainingStart(Path("runs/m/exp1"), "m", 10, 24, 11, 8, 3, 2))
        report(Progress(1, 2, 0.6, 0.7, 1234.0))
        report(EpochEnd(row, best=True))
    console.file.close()
    text = console.export_text()
    assert "a [note]" in text
    assert "epoch 1/2  loss 0.5000 top-1 75.00 %  val loss 0.4000 top-1 80.00 %  2.5 s  *" in text


def test_help_says_what_the_options_are() -> None:
    for command in ("train", "eval", "predict", "demo"):
        result = call(command, "-h")
        assert result.exit_code == 0
        assert "Usage:" in result.stdout
