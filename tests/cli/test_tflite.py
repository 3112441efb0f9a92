"""The commands predict, eval, bench and diff on TFLite files, end to end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnc.backends import reference
from cnnc.backends.tflite.compile import compile_float, compile_int8
from cnnc.data.pictures.decode import decode
from cnnc.runs.trained import Trained, open_run
from cnnc.tflite_file.metadata import Description, InputNote, OutputNote, attach, label_files, pack
from cnnc.tflite_file.program import File, Operator, Program, Quantization
from cnnc.tflite_file.write import write_file
from tests.support.calling import call
from tests.support.paths import ROOT, SHARED
from tests.support.pictures import make_tree, truncate
from tests.support.small_runs import RECIPE, train_small

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"

SPEC = (
    """\
model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64)
  stem: conv(3x3, 8) | relu | conv(1x1, 8) | bn
  head: maxpool(2x2) | flatten | dense(classes) | softmax
}
"""
    + RECIPE
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a run, and the run's float and int8 files."""
    root = train_small(tmp_path_factory.mktemp("made"), SPEC)
    run = open_run(root / "run")
    write(root / "int8.tflite", int8(run, root))
    write(root / "float.tflite", compile_float(run.model))
    return root


def int8(run: Trained, root: Path) -> Program:
    (node,) = run.net.graph.inputs
    samples = [{node.name: decode(p, (8, 8), 3)[None]} for p in sorted((root / "data/train").rglob("*.png"))]
    return compile_int8(run.model, samples).program


def write(path: Path, program: Program) -> Path:
    note = InputNote("input", is_image=True, colours="rgb")
    description = Description("tiny", "", "", "0" * 64, (note,), (OutputNote("class", "", ("dark", "light")),))
    path.write_bytes(pack(write_file(attach(File((program,)), description)), label_files(description)))
    return path


# predict


@pytest.mark.parametrize("name", ["int8", "float"])
def test_predict_says_of_a_file_what_it_says_of_its_run(made: Path, tmp_path: Path, name: str) -> None:
    pictures = []
    for level in (40, 210):
        Image.new("L", (20, 30), level).save(tmp_path / f"{level}.png")
        pictures.append(tmp_path / f"{level}.png")
    result = call("predict", made / f"{name}.tflite", *pictures, "--format", "json")
    assert result.exit_code == 0
    assert result.stderr == ""
    of_run = json.loads(call("predict", made / "run", *pictures, "--format", "json").stdout)
    for mine, theirs in zip(json.loads(result.stdout), of_run, strict=True):
        assert mine["image"] == theirs["image"]
        assert [g["label"] for g in mine["top"]] == [g["label"] for g in theirs["top"]]
        assert [g["probability"] for g in mine["top"]] == pytest.approx(
            [g["probability"] for g in theirs["top"]], abs=0.05
        )
    lines = call("predict", made / f"{name}.tflite", *pictures, "--top", 1).stdout.splitlines()
    assert lines[0] == str(pictures[0])
    assert [lines[1].split()[0], lines[3].split()[0]] == ["dark", "light"]


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_predict_names_what_google_s_model_sees() -> None:
    result = call("predict", GOOGLE, CORAL / "cat.bmp", CORAL / "bird.bmp", CORAL / "parrot.jpg", "--top", 1)
    assert [line.split("  ")[1] for line in result.stdout.splitlines()[1::2]] == ["Egyptian cat", "chickadee", "macaw"]


# eval


def test_eval_of_a_file_is_in_the_form_of_a_run_s(made: Path) -> None:
    arguments = ("--data", made / "data", "--format", "json")
    found = json.loads(call("eval", made / "int8.tflite", *arguments).stdout)
    of_run = json.loads(call("eval", made / "run", *arguments).stdout)
    assert found.pop("model") == str(made / "int8.tflite")
    assert {of_run.pop("run"), of_run.pop("epoch")} >= {str(made / "run")}
    assert found.pop("loss") == pytest.approx(of_run.pop("loss"), abs=0.05)
    assert found == of_run
    lines = call("eval", made / "int8.tflite", "--data", made / "data").stdout.splitlines()
    assert lines[0] == f"int8.tflite on the 11 validation pictures of {made / 'data'}"
    assert "top-1 100.00 %" in lines[1]
    assert [line.split()[:2] for line in lines[3:]] == [["dark", "5"], ["light", "6"]]


def test_eval_counts_what_it_skips(made: Path, tmp_path: Path) -> None:
    make_tree(tmp_path / "new", {"dark": 3, "light": 3})
    truncate(tmp_path / "new/dark/001.png", 0.3)
    result = call("eval", made / "int8.tflite", "--data", tmp_path / "new")
    assert result.exit_code == 1
    assert "001.png" in result.stderr
    result = call("eval", made / "int8.tflite", "--data", tmp_path / "new", "--skip-corrupt", "--format", "json")
    found = json.loads(result.stdout)
    assert found["count"] == 5
    assert [Path(p).name for p in found["skipped"]] == ["001.png"]


def test_eval_of_a_file_wants_data(made: Path) -> None:
    result = call("eval", made / "int8.tflite")
    assert result.exit_code == 1
    assert "error[data]: it is not said what to evaluate on" in result.stderr


# bench


def test_bench_compares_files(made: Path) -> None:
    files = (made / "float.tflite", made / "int8.tflite")
    found = json.loads(call("bench", *files, "--runs", 5, "--threads", 1, "--format", "json").stdout)
    assert (found["runs"], found["threads"], found["delegate"]) == (5, 1, None)
    assert [row["model"] for row in found["models"]] == [str(f) for f in files]
    assert found["models"][0]["ratio"] == 1.0
    assert all(0 < row["p10_ms"] <= row["median_ms"] <= row["p90_ms"] for row in found["models"])
    lines = call("bench", *files, "--runs", 5, "--threads", 1).stdout.splitlines()
    assert lines[0] == "5 runs of each, in turns, on 1 thread; milliseconds"
    assert [line.split()[0] for line in lines[1:]] == ["model", *map(str, files)]


def test_bench_without_a_device_says_so(made: Path) -> None:
    for command in (("bench", made / "int8.tflite"), ("predict", made / "int8.tflite", "x.png")):
        result = call(*command, "--delegate", "edgetpu")
        assert result.exit_code == 1
        assert "error[device]" in result.stderr


# diff


@pytest.mark.usefixtures("drawn_pictures")
def test_diff_sets_float_and_int8_side_by_side(made: Path, tmp_path: Path) -> None:
    result = call("diff", made / "run", made / "int8.tflite", "-o", tmp_path / "layers.png")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0] == f"on the 11 validation pictures of {made / 'data'}"
    assert lines[1] == "top-1: float 100.00 %, int8 100.00 %, nothing lost; the same answer to 100.00 %"
    assert lines[2] == "the input, then layers, worst first, on 11 pictures"
    assert lines[3].split() == ["layer", "operator", "SQNR,", "dB", "cosine", "range", "used", "clipped"]
    assert lines[4].split()[:2] == ["input", "input"]
    assert {line.split()[0] for line in lines[5:-1]} >= {
        "stem.relu1",
        "stem.conv2",
        "head.maxpool1",
        "head.dense1",
        "head.softmax1",
    }
    assert lines[-1] == f"drawn in {tmp_path / 'layers.png'}"
    assert (tmp_path / "layers.png").stat().st_size > 5000


def test_diff_measures_what_numpy_and_litert_say(made: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    found = json.loads(call("diff", made / "run", made / "int8.tflite", "--format", "json").stdout)
    layers = {layer["name"]: layer for layer in found["layers"]}
    run = open_run(made / "run")
    pictures = np.stack([decode(p, (8, 8), 3) for p in sorted((made / "data/val").rglob("*.png"))])
    (node,) = run.net.graph.inputs
    expected = reference.run(run.net.graph, run.model.weights, {node.name: pictures.astype(np.float64)})
    interpreter = Interpreter(
        model_path=str(made / "int8.tflite"),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
        experimental_preserve_all_tensors=True,
    )
    interpreter.allocate_tensors()
    details = {each["name"]: each for each in interpreter.get_tensor_details()}
    tensors = {"head.softmax1": "output"}
    codes: dict[str, list[np.ndarray[tuple[int, ...], np.dtype[np.int8]]]] = {name: [] for name in layers}
    for picture in pictures:
        interpreter.set_tensor(
            interpreter.get_input_details()[0]["index"], (picture.astype(int) - 128)[None].astype("i1")
        )
        interpreter.invoke()
        for name in layers:
            codes[name].append(interpreter.get_tensor(details[tensors.get(name, name)]["index"])[0])
    expected["stem.conv2"] = expected["stem.bn1"]  # which is folded into it
    assert {"stem.relu1", "stem.conv2", "head.dense1"} <= set(layers)
    for name, layer in layers.items():
        scale, zero = details[tensors.get(name, name)]["quantization"]
        whole = np.stack(codes[name]).astype(float)
        real, stored = expected[name], (whole - zero) * scale
        power = 10 * np.log10((real**2).sum() / ((real - stored.reshape(real.shape)) ** 2).sum())
        assert layer["sqnr_db"] == pytest.approx(power, abs=0.3), name
        assert layer["range_used"] == pytest.approx((whole.max() - whole.min() + 1) / 256, abs=0.01)
        assert not layer["equalized"]
    assert [layer["sqnr_db"] for layer in found["layers"]] == sorted(layer["sqnr_db"] for layer in found["layers"])


def test_diff_finds_the_layer_that_was_spoilt(made: Path, tmp_path: Path) -> None:
    """A dense layer whose scale is too small for its values: they are cut off, and that is said."""
    program = int8(open_run(made / "run"), made)
    found = program["head.dense1"].quantization
    assert found is not None
    narrow = Quantization((found.scale[0] / 8,), found.zero_point, found.axis)
    tensors = {**program.tensors, "head.dense1": replace(program["head.dense1"], quantization=narrow)}
    path = write(tmp_path / "spoilt.tflite", replace(program, tensors=tensors))
    first, *others = json.loads(call("diff", made / "run", path, "--format", "json").stdout)["layers"]
    assert first["name"] in ("head.dense1", "head.softmax1")
    spoilt = next(layer for layer in (first, *others) if layer["name"] == "head.dense1")
    assert spoilt["clipped"] > 0.3
    assert spoilt["sqnr_db"] < 15


def test_diff_looks_at_as_few_pictures_as_it_is_told(made: Path) -> None:
    found = json.loads(call("diff", made / "run", made / "int8.tflite", "--samples", 3, "--format", "json").stdout)
    assert (found["count"], found["samples"]) == (3, 3)
    assert found["data"].startswith("3 of the 11 validation pictures")


@pytest.mark.fault("Q1")
def test_diff_starts_at_the_input_and_shows_what_is_lost_there(made: Path, tmp_path: Path) -> None:
    """Between input and first layer two operators that leave every pixel one of two codes, as Q1 did."""
    program = int8(open_run(made / "run"), made)
    (clean,) = json.loads(call("diff", made / "run", made / "int8.tflite", "--format", "json").stdout)["inputs"]
    assert (clean["name"], clean["shape"]) == ("input", [8, 8, 3])
    assert clean["sqnr_db"] is None  # normalize(mean=128, std=64) is exact in bytes
    coarse = Quantization((1.0,), (-128,))
    tensors = {
        **program.tensors,
        "coarse": replace(program["input"], name="coarse", quantization=coarse),
        "fine": replace(program["input"], name="fine"),
    }
    operators = (
        Operator("QUANTIZE", ("input",), ("coarse",)),
        Operator("QUANTIZE", ("coarse",), ("fine",)),
        *(replace(op, inputs=tuple("fine" if name == "input" else name for name in op.inputs)) for op in program),
    )
    path = write(tmp_path / "coarse.tflite", replace(program, tensors=tensors, operators=operators))
    result = call("diff", made / "run", path)
    row = result.stdout.splitlines()[4].split()
    assert row[:2] == ["fine", "QUANTIZE"]
    assert float(row[2]) < 8
    (spoilt,) = json.loads(call("diff", made / "run", path, "--format", "json").stdout)["inputs"]
    assert spoilt["sqnr_db"] < 8


def test_diff_refuses_files_that_are_not_the_run_s_in_int8(made: Path, tmp_path: Path) -> None:
    program = int8(open_run(made / "run"), made)
    names = {name: f"other_{name}" for name in program.tensors}

    def renamed(these: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(names.get(name, name) for name in these)

    foreign = Program(
        program.name,
        {names[name]: replace(each, name=names[name]) for name, each in program.tensors.items()},
        tuple(replace(op, inputs=renamed(op.inputs), outputs=renamed(op.outputs)) for op in program),
        renamed(program.inputs),
        renamed(program.outputs),
    )
    for path, words in (
        (made / "float.tflite", "computes in float32, and an int8 file is wanted"),
        (write(tmp_path / "foreign.tflite", foreign), "none of its"),
        (made / "gone.tflite", "there is no file"),
        (GOOGLE if GOOGLE.exists() else made / "float.tflite", "tflite"),
    ):
        result = call("diff", made / "run", path)
        assert result.exit_code == 1
        assert "error[tflite]" in result.stderr
        assert words in result.stderr
    result = call("diff", made / "run", made / "int8.tflite", "-o", tmp_path / "gone" / "x.png")
    assert result.exit_code == 1
    assert "there is no folder" in result.stderr


# Bad input


@pytest.mark.parametrize("command", ["predict", "eval", "bench", "diff"])
def test_what_is_no_model_is_refused_by_every_command(made: Path, tmp_path: Path, command: str) -> None:
    whole = (made / "int8.tflite").read_bytes()
    files = {"empty": b"", "text": b"once upon a time\n", "cut": whole[:700]}
    for name, content in files.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(content)
        arguments = {
            "predict": ("predict", path, "x.png"),
            "eval": ("eval", path, "--data", "digits"),
            "bench": ("bench", path),
            "diff": ("diff", made / "run", path),
        }[command]
        result = call(*arguments)
        assert result.exit_code == 1
        assert "error[tflite]" in result.stderr, name
        (diagnostic,) = json.loads(call(*arguments, "--format", "json").stdout)["diagnostics"]
        assert diagnostic["code"] == "tflite"


def test_options_that_do_not_go_with_what_is_given_are_refused(made: Path) -> None:
    for arguments in (
        ("predict", made / "run", "x.png", "--delegate", "edgetpu"),
        ("predict", made / "int8.tflite", "x.png", "--last"),
        ("eval", made / "run", "--threads", 2),
        ("eval", made / "run", "--labels", "x.txt"),
    ):
        result = call(*arguments)
        assert result.exit_code == 2
        assert "goes with a" in result.stderr


def test_pictures_and_lists_that_cannot_be_read_are_named(made: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    result = call("predict", made / "int8.tflite", tmp_path / "broken.jpg")
    assert result.exit_code == 1
    assert "error[picture]: cannot decode" in result.stderr
    result = call("predict", made / "int8.tflite", tmp_path / "broken.jpg", "--labels", tmp_path / "gone.txt")
    assert result.exit_code == 1
    assert "error[labels]: the list of labels" in result.stderr


def test_files_run_without_what_training_needs(made: Path) -> None:
    """predict, eval and bench want LiteRT, NumPy and Pillow."""
    picture = next((made / "data/val").rglob("*.png"))
    model = made / "int8.tflite"
    for arguments in (
        ["predict", str(model), str(picture)],
        ["eval", str(model), "--data", str(made / "data")],
        ["bench", str(model), "--runs", "2"],
    ):
        absent = ("jax", "optax", "matplotlib", "pooch", "yaml", "sklearn", "tensorflow", "flatbuffers")
        code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nfrom cnnc.cli import main\nmain({arguments})"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""


def test_the_manual_names_options_that_there_are() -> None:
    manual = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    helps = "".join(call(command, "-h").stdout for command in ("predict", "eval", "embed", "bench", "diff"))
    for option in sorted(set(re.findall(r"`(--?[a-z-]+)", manual))):
        assert option in helps, option
