"""The commands compile, and check for the Edge TPU, end to end: targets, options, and what a user gets wrong."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc.backends.edgetpu import compiler
from cnnc.tflite.metadata import read_description
from cnnc.tflite.read import open_file
from cnnc.training.record import open_run
from tests.calling import call, good, refused
from tests.pictures import make_tree, noise, truncate
from tests.small_runs import train_small

ROOT = Path(__file__).parent.parent

SPEC = """\
model tiny(classes=2) {
  input 8x8x3
  normalize(mean=128, std=64)
  stem: conv(3x3, 8) | bn | relu | dropout(0.1)
  head: maxpool(2x2) | flatten | dense(classes) | softmax
}

train {
  optimizer sgd(momentum=0.9)
  schedule  constant(0.02)
  batch     8
  epochs    3
}
"""
ELU = "input 16x16x3\nstem: conv(3x3, 8) | relu\nbody: conv(3x3, 8) | elu\nglobalpool | dense(3) | softmax\n"
INT8 = ("tflite-int8", "edgetpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), SPEC)


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the PATH has no compiler."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    return tmp_path


# Targets


def test_float_says_what_was_folded_and_predicts_as_the_run(made: Path, empty: Path) -> None:
    result = call("compile", made / "run", "--target", "tflite", "-o", "tiny.tflite")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines()[:2] == [
        "left out, as they do nothing at inference: 1 dropout",
        "batch norms folded into the layers before them: 1 bn",
    ]
    assert "\nfused into the operators before them: 1 activation\n" in result.stdout
    assert "\nin and out: `input` 1x8x8x3 of float32, `head.softmax1` 1x2 of float32\n" in result.stdout
    assert result.stdout.endswith(f"\n\nwrote tiny.tflite, {Path('tiny.tflite').stat().st_size:,} bytes\n")
    picture = next((made / "data/val/light").iterdir())
    of_run, of_file = (good("predict", what, picture)[0]["top"] for what in (made / "run", "tiny.tflite"))
    assert [each["label"] for each in of_file] == [each["label"] for each in of_run]
    assert of_file[0]["probability"] == pytest.approx(of_run[0]["probability"], abs=1e-5)


@pytest.mark.parametrize("target", INT8)
def test_int8_has_the_labels_inside_and_predicts_by_them(made: Path, empty: Path, target: str) -> None:
    assert call("compile", made / "run", "--target", target, "-o", "tiny.tflite").exit_code == 0
    for label in ("dark", "light"):
        picture = next((made / "data/val" / label).iterdir())
        assert good("predict", "tiny.tflite", picture)[0]["top"][0]["label"] == label
    assert good("eval", "tiny.tflite", "--data", made / "data")["top1"] == 1.0
    assert good("diff", made / "run", "tiny.tflite")["int8"]["top1"] == 1.0


def test_two_compilations_give_the_same_bytes(made: Path, empty: Path) -> None:
    for target in ("tflite", *INT8):
        files = [Path(f"{i}.tflite") for i in range(2)]
        for file in files:
            assert call("compile", made / "run", "--target", target, "-o", file).exit_code == 0
        assert files[0].read_bytes() == files[1].read_bytes(), target


def test_the_report_has_everything_as_json(made: Path, empty: Path) -> None:
    found = good("compile", made / "run", "--target", "edgetpu", "--data", made / "data", "-o", "tiny.tflite")
    file = open_file(Path("tiny.tflite"))
    assert (found["model"], found["target"], found["output"]) == ("tiny", "edgetpu", "tiny.tflite")
    assert found["bytes"] == Path("tiny.tflite").stat().st_size
    counted = {(each["op"], each["version"]): each["count"] for each in found["operators"]}
    operators = [(operator.name, operator.version) for operator in file.main]
    assert counted == {each: operators.count(each) for each in operators}
    assert found["fused_activations"] == 1
    passes = {each["pass"]: each for each in found["passes"]}
    assert passes["drop_identities"]["removed"] == ["stem.dropout1"]
    assert passes["fold_batch_norm"]["removed"] == ["stem.bn1"]
    (given,), (answer,) = found["inputs"], found["outputs"]
    assert (given["type"], given["shape"]) == ("uint8", [1, 8, 8, 3])
    assert (answer["type"], answer["shape"]) == ("uint8", [1, 2])
    assert answer["scale"] == pytest.approx(1 / 256)
    assert given["scale"] == pytest.approx(1 / 64)  # of normalize(mean=128, std=64): it is folded into the scale
    assert given["zero_point"] == 128
    quantization = found["quantization"]
    assert quantization["samples"] == f"24 training pictures of {made / 'data'}"
    assert quantization["tried"][0] == quantization["chosen"]
    figures = [each["sqnr_db"] for each in quantization["tried"]]
    assert figures == sorted(figures, reverse=True)
    assert {each["method"] for each in quantization["tried"]} == {"minmax", "percentile", "mse", "entropy"}
    assert {each["bias_correction"] for each in quantization["tried"]} == {True, False}
    assert quantization["float_islands"] == []
    assert found["accuracy"] == {
        "data": f"the 11 validation pictures of {made / 'data'}",
        "count": 11,
        "float_top1": 1.0,
        "int8_top1": 1.0,
        "agreement": 1.0,
    }
    assert found["notes"] == [f"ranges are measured on all 24 training pictures of {made / 'data'}: there are no more"]
    predicted = found["edgetpu"]
    assert len(predicted["operators"]) == len(operators)
    assert {"index", "op", "version", "name", "mapped", "reason"} <= set(predicted["operators"][0])
    assert all(each["mapped"] and each["reason"] is None for each in predicted["operators"])
    assert {"cached_bytes", "streamed_bytes", "activation_bytes", "latency_ms"} <= set(predicted)
    assert found["compiler"] == {"found": False}
    assert predicted == {
        key: value
        for key, value in good("check", "tiny.tflite", "--target", "edgetpu").items()
        if key not in ("ok", "diagnostics")
    }


def test_top1_of_float_and_int8_stand_side_by_side(made: Path, empty: Path) -> None:
    result = call("compile", made / "run", "--target", "tflite-int8", "--data", made / "data")
    assert (
        f"\ntop-1 on the 11 validation pictures of {made / 'data'}: float 100.00 %, int8 100.00 %; "
        "the same answer to 100.00 %\n"
    ) in result.stdout
    assert result.stderr.startswith("note: ranges are measured on all 24 training pictures")


def test_files_lie_in_the_run_or_here_unless_it_is_said_where(made: Path, empty: Path) -> None:
    assert call("compile", made / "run", "--target", "tflite").exit_code == 0
    assert (made / "run/tiny.tflite").is_file()
    weights = made / "run/weights/best.safetensors"
    assert call("compile", made / "tiny.cnn", "--target", "tflite", "--weights", weights).exit_code == 0
    assert call("compile", "mlp", "--target", "edgetpu", "--random-weights").exit_code == 0
    assert sorted(path.name for path in empty.iterdir()) == ["mlp_int8.tflite", "tiny.tflite"]


@pytest.mark.parametrize(("io", "types"), [(None, ("INT8", "INT8")), ("uint8", ("UINT8", "UINT8"))])
def test_the_ends_have_the_type_that_is_asked_for(made: Path, empty: Path, io: str | None, types: object) -> None:
    options = ("--io", io) if io else ()
    assert call("compile", made / "run", "--target", "tflite-int8", *options, "-o", "a.tflite").exit_code == 0
    program = open_file(Path("a.tflite")).main
    assert (program[program.inputs[0]].type, program[program.outputs[0]].type) == types


def test_float_ends_of_an_int8_file_answer_alike(made: Path, empty: Path) -> None:
    for name, io in (("a.tflite", "int8"), ("b.tflite", "float32")):
        command = ("compile", made / "run", "--target", "tflite-int8", "--io", io, "-o", name)
        assert call(*command).exit_code == 0
    picture = next((made / "data/val/dark").iterdir())
    first, second = (good("predict", name, picture)[0]["top"][0] for name in ("a.tflite", "b.tflite"))
    assert first["label"] == second["label"] == "dark"
    assert first["probability"] == pytest.approx(second["probability"], abs=0.05)


def test_one_way_to_choose_ranges_is_taken_as_it_is_said(made: Path, empty: Path) -> None:
    command = ("compile", made / "run", "--target", "tflite-int8", "--ranges", "entropy", "-o", "a.tflite")
    (only,) = good(*command)["quantization"]["tried"]
    assert only["method"] == "entropy"
    assert "\nranges: entropy with biases corrected, measured on 24 training pictures" in call(*command).stdout


def test_the_last_weights_are_taken_where_that_is_said(made: Path, empty: Path) -> None:
    for which, options in (("best", ()), ("last", ("--last",))):
        assert call("compile", made / "run", "--target", "tflite", "-o", "a.tflite", *options).exit_code == 0
        weights = open_run(made / "run", which).weights  # type: ignore[arg-type]  # a literal
        program = open_file(Path("a.tflite")).main
        (kernel,) = (t.data for t in program.tensors.values() if t.data is not None and t.shape == (2, 128))
        assert np.array_equal(kernel, np.asarray(weights["head.dense1"]["kernel"]).T)


def test_the_file_describes_itself(made: Path, empty: Path) -> None:
    assert call("compile", made / "run", "--target", "tflite-int8", "-o", "a.tflite").exit_code == 0
    found = read_description(open_file(Path("a.tflite")), Path("a.tflite").read_bytes())
    assert found is not None
    assert found.name == "tiny"
    assert re.fullmatch("[0-9a-f]{64}", found.spec_sha256)
    assert (found.inputs[0].is_image, found.inputs[0].colours) == (True, "rgb")


def test_jax_is_a_module_of_its_own_with_the_weights_beside_it(made: Path, empty: Path) -> None:
    found = good("compile", made / "run", "--target", "jax", "-o", "net.py")
    assert [each["path"] for each in found["files"]] == ["net.py", "net.safetensors"]
    script = """
import sys
import net, numpy as np
from safetensors.numpy import load_file
params = {}
for name, array in load_file("net.safetensors").items():
    node, weight = name.rsplit(".", 1)
    params.setdefault(node, {})[weight] = array
assert not any(name.startswith("cnnc") for name in sys.modules)
print(np.asarray(net.apply(params, np.load("x.npy")))[0].tolist())
"""
    picture = next((made / "data/val/dark").iterdir())
    np.save("x.npy", np.asarray(Image.open(picture))[None].astype(np.float32))
    environment = {**os.environ, "PYTHONPATH": str(empty)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    expected = {each["label"]: each["probability"] for each in good("predict", made / "run", picture)[0]["top"]}
    assert json.loads(done.stdout) == pytest.approx([expected["dark"], expected["light"]], abs=1e-5)


def test_weights_that_are_there_already_are_left_alone(made: Path, empty: Path) -> None:
    """`--weights tiny.safetensors` and a module tiny.py share the file."""
    shutil.copy(made / "run/weights/best.safetensors", "tiny.safetensors")
    before = Path("tiny.safetensors").read_bytes()
    command = ("compile", made / "tiny.cnn", "--weights", "tiny.safetensors", "--target", "jax", "-o", "tiny.py")
    assert call(*command).exit_code == 0
    assert Path("tiny.safetensors").read_bytes() == before


def test_stablehlo_is_text_or_what_jax_reads(made: Path, empty: Path) -> None:
    from jax import export

    assert call("compile", made / "run", "--target", "stablehlo", "-o", "net.mlir").exit_code == 0
    assert "stablehlo.convolution" in Path("net.mlir").read_text()
    assert call("compile", made / "run", "--target", "stablehlo", "-o", "net.bin").exit_code == 0
    exported: Any = export.deserialize(bytearray(Path("net.bin").read_bytes()))
    assert exported.call(np.zeros((1, 8, 8, 3), np.float32)).shape == (1, 2)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["keras", "savedmodel"])
def test_keras_and_savedmodel_are_written(made: Path, empty: Path, target: str) -> None:
    pytest.importorskip("tensorflow")
    environment = {key: value for key, value in os.environ.items() if key != "KERAS_BACKEND"}
    command = ["compile", str(made / "run"), "--target", target, "-o", "net.keras"]
    code = f"from cnnc.cli import main\nmain({command})"
    for _ in range(2):  # the second time in the place of the first
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, env={**environment, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("wrote net.keras, ")
    assert Path("net.keras").is_dir() == (target == "savedmodel")


def test_random_weights_show_the_structure_without_data(empty: Path) -> None:
    found = good("compile", "mnist_cnn", "--random-weights", "--target", "edgetpu", "--samples", 3, "-o", "a.tflite")
    assert found["quantization"]["samples"] == "3 random samples"
    assert {each["mapped"] for each in found["edgetpu"]["operators"]} == {True}


# Calibration


def test_ranges_are_measured_on_any_folder_of_pictures(made: Path, empty: Path) -> None:
    """Sorted by class or not: ranges need no labels."""
    make_tree(empty / "sorted", {"cat": 9, "dog": 9})
    (empty / "loose").mkdir()
    for i in range(18):
        Image.fromarray(noise(20, 30, 3, seed=i)).save(empty / "loose" / f"{i}.png")
    for folder in ("sorted", "loose"):
        command = ("compile", made / "run", "--target", "tflite-int8", "--calibrate", folder, "-o", "a.tflite")
        assert good(*command)["quantization"]["samples"] == f"18 pictures of {folder}"
        few = call(*command, "--samples", 4)
        assert few.exit_code == 0
        assert few.stderr == (
            f"note: ranges are measured on only 4 pictures of {folder}, and the next may leave them; "
            "100 are a safer number\n"
        )


def test_pictures_without_contrast_are_refused(made: Path, empty: Path) -> None:
    (empty / "black").mkdir()
    for i in range(3):
        Image.new("RGB", (8, 8)).save(empty / "black" / f"{i}.png")
    command = ("compile", made / "run", "--target", "tflite-int8", "--calibrate", "black", "-o", "a.tflite")
    assert "each of the 3 calibration pictures of `black` is of a single colour" in refused("calibration", *command)
    assert not Path("a.tflite").exists()


def test_calibration_data_that_is_missing_or_cannot_be_read_is_named(made: Path, empty: Path) -> None:
    make_tree(empty / "broken", {"cat": 9})
    truncate(empty / "broken/cat/003.png", 0.4)
    (empty / "none").mkdir()
    Path("board.cnn").write_text("input 9x9x17\nconv(3x3, 4) | relu | flatten | dense(2)\n")
    command = ("compile", made / "run", "--target", "tflite-int8", "-o", "a.tflite", "--calibrate")
    assert "there is no data set and no folder `digitz`" in refused("data", *command, "digitz")
    assert "`none` holds no pictures" in refused("data", *command, "none")
    assert "003.png" in refused("picture", *command, "broken")
    board = (
        "compile",
        "board.cnn",
        "--random-weights",
        "--target",
        "edgetpu",
        "-o",
        "a.tflite",
        "--calibrate",
        "digits",
    )
    assert "pictures of 17 channels, and the data's have 1" in refused("data", *board)
    assert "it is not said on which" in refused(
        "calibration",
        *("compile", made / "tiny.cnn", "--weights", made / "run/weights/best.safetensors"),
        *("--target", "tflite-int8", "-o", "a.tflite"),
    )
    assert not Path("a.tflite").exists()
    assert good(*command, "broken", "--skip-corrupt")["quantization"]["samples"] == "8 pictures of broken"


def test_data_of_other_classes_measures_nothing(made: Path, empty: Path) -> None:
    make_tree(empty / "pets", {"cat": 3, "dog": 3, "owl": 3})
    command = ("compile", made / "run", "--target", "tflite-int8", "-o", "a.tflite", "--data", "pets")
    assert "a class `cat` that the network was not trained on" in refused("labels", *command)
    spec = ("compile", "mlp", "--random-weights", "--target", "tflite-int8", "-o", "a.tflite", "--data", "pets")
    assert "the data has 3 classes, and `mlp` has 10 outputs" in refused("labels", *spec)
    assert not Path("a.tflite").exists()


# The Edge TPU


@pytest.mark.parametrize(
    "spec",
    [
        "mlp",
        "mnist_cnn",
        "cifar_cnn",
        "mobilenet_v2",
        "resnet50",
        "efficientnet --set excite=0",
        pytest.param("vgg19", marks=pytest.mark.slow),
    ],
)
def test_bundled_specs_are_predicted_to_be_mapped_whole(spec: str) -> None:
    found = good("check", *spec.split(), "--target", "edgetpu")
    assert found["compiles"]
    assert found["cut"] is None
    assert all(each["mapped"] for each in found["operators"])


def test_squeeze_and_excite_is_mapped_with_a_warning() -> None:
    result = call("check", "efficientnet", "--target", "edgetpu")
    assert result.exit_code == 0
    assert "is predicted to map all 243 operators of efficientnet" in result.stdout
    assert "as in squeeze-and-excite, is not known to be mapped (and 15 more like this)" in result.stdout
    assert "\n  leave squeeze-and-excite out" in result.stdout


def test_a_layer_that_the_edge_tpu_lacks_is_shown_in_the_spec(empty: Path) -> None:
    Path("net.cnn").write_text(ELU)
    for command in (
        ("check", "net.cnn", "--target", "edgetpu"),
        ("compile", "net.cnn", "--random-weights", "--target", "edgetpu", "-o", "a.tflite"),
    ):
        said = refused("target", *command)
        assert (
            "error[target]: the Edge TPU cannot run layer `body.elu1`, which becomes ELU: operation not supported\n"
            " --> net.cnn:3:22\n"
            "  |\n"
            "3 | body: conv(3x3, 8) | elu\n"
            "  |                      ^^^\n"
        ) in said
    assert "--allow-cpu leaves such layers, and those after them, to the CPU" in said
    assert os.listdir() == ["net.cnn"]


def test_allow_cpu_leaves_the_layer_and_what_follows_to_the_cpu(empty: Path) -> None:
    Path("net.cnn").write_text(ELU)
    command = ("compile", "net.cnn", "--random-weights", "--target", "edgetpu", "--allow-cpu", "-o", "a.tflite")
    predicted = good(*command)["edgetpu"]
    mapped = [each["mapped"] for each in predicted["operators"]]
    cut = predicted["cut"]
    assert predicted["operators"][cut]["op"] == "ELU"
    assert all(mapped[:cut])
    assert not any(mapped[cut:])


def test_float_islands_are_named_and_the_edge_tpu_refuses_them(empty: Path) -> None:
    Path("net.cnn").write_text("input 6x6x6x2\nbody: conv(3x3x3, 4) | maxpool(2)\nflatten | dense(3) | softmax\n")
    command = ("compile", "net.cnn", "--random-weights", "-o", "a.tflite", "--target")
    assert good(*command, "tflite-int8")["quantization"]["float_islands"] == ["body.conv1"]
    result = call(*command, "tflite-int8")
    assert "\nstay in float, as TFLite has no int8 form of them: `body.conv1`\n" in result.stdout
    Path("a.tflite").unlink()
    said = refused("target", *command, "edgetpu")
    assert "net.cnn:2:7" in said
    assert "--allow-cpu writes the file for LiteRT on a CPU all the same" in said
    assert not Path("a.tflite").exists()
    assert good(*command, "edgetpu", "--allow-cpu")["edgetpu"]["compiles"] is False


def test_check_takes_specs_and_files_side_by_side(made: Path, empty: Path) -> None:
    assert call("compile", made / "run", "--target", "tflite", "-o", "float.tflite").exit_code == 0
    result = call("check", "mlp", "float.tflite", "--target", "edgetpu")
    assert result.exit_code == 1
    assert "is predicted to map all 8 operators of mlp" in result.stdout
    assert "is predicted to refuse float.tflite" in result.stdout
    assert "error[target]: the Edge TPU's compiler would refuse `float.tflite`: Model not quantized" in result.stderr
    assert "it is not said what to check it for" in refused("target", "check", "float.tflite")


# Google's compiler


def fake(path: Path, rows: Mapping[str, str], *, after: str = "") -> Path:
    """A program that stands for edgetpu_compiler 16: it maps the operators of its rows, and copies the model."""
    table = "\n".join(f"{op:<30} {status}" for op, status in rows.items())
    path.write_text(
        f"""#!/bin/sh
/bin/cp "$4" "$3/model_edgetpu.tflite"
/bin/cat <<END
Edge TPU Compiler version 16.0.384591198
Model compiled successfully in 42 ms.

On-chip memory used for caching model parameters: 1.25KiB
On-chip memory remaining for caching model parameters: 7.90MiB
Off-chip memory used for streaming uncached model parameters: 0.00B
Number of Edge TPU subgraphs: 1

Operator                       Count      Status

{table}
END
{after}
"""
    )
    path.chmod(0o755)
    return path


MAPPED = "Mapped to Edge TPU"
ROWS = {
    "QUANTIZE": f"2          {MAPPED}",
    "CONV_2D": f"1          {MAPPED}",
    "MAX_POOL_2D": f"1          {MAPPED}",
    "RESHAPE": f"1          {MAPPED}",
    "FULLY_CONNECTED": f"1          {MAPPED}",
    "SOFTMAX": f"1          {MAPPED}",
}

needs_shell = pytest.mark.skipif(os.name != "posix", reason="stands for a program by shell scripts")


@needs_shell
def test_the_compiler_on_the_path_is_run_and_its_outcome_set_beside_the_prediction(
    made: Path, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "bin").mkdir()
    fake(empty / "bin/edgetpu_compiler", ROWS)
    monkeypatch.setenv("PATH", str(empty / "bin"))
    command = ("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite")
    found = good(*command)["compiler"]
    assert (found["found"], found["as_predicted"], found["version"]) == (True, True, "16.0.384591198")
    assert (found["output"], found["subgraphs"]) == ("tiny_edgetpu.tflite", 1)
    assert Path("tiny_edgetpu.tflite").read_bytes() == Path("tiny.tflite").read_bytes()
    text = call(*command).stdout
    assert "the prediction held" in text
    assert text.endswith(f"wrote tiny_edgetpu.tflite, {found['bytes']:,} bytes\n")


@needs_shell
def test_what_was_not_predicted_is_told(made: Path, empty: Path) -> None:
    rows = {
        **ROWS,
        "SOFTMAX": "1          Operation is otherwise supported, but not mapped due to some unspecified limitation",
    }
    program = fake(empty / "other", rows)
    command = ("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite", "--edgetpu-compiler", program)
    found = good(*command)["compiler"]
    assert found["as_predicted"] is False
    differing = [each["op"] for each in found["operators"] if each["predicted"] != each["actual"]]
    assert differing == ["SOFTMAX"]
    assert "the prediction did not hold for all operators" in call(*command).stdout


def test_without_the_compiler_it_says_how_to_get_it(made: Path, empty: Path) -> None:
    result = call("compile", made / "run", "--target", "edgetpu", "-o", "tiny.tflite")
    assert result.exit_code == 0
    assert "edgetpu_compiler is not on the PATH" in result.stdout
    assert "apt-get install edgetpu-compiler" in result.stdout
    assert result.stdout.endswith("then: edgetpu_compiler -s tiny.tflite\n")


@needs_shell
@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo 'ERROR: no luck'; exit 3", "edgetpu_compiler failed"),
        ("kill -SEGV $$", "edgetpu_compiler was ended by SIGSEGV"),
        ("echo bananas", "edgetpu_compiler did what was not expected"),
        ("while :; do :; done", "edgetpu_compiler did not end within 0.3 s"),
        (None, "cannot be run: exec format error"),
    ],
)
def test_a_compiler_that_fails_leaves_the_int8_file(
    made: Path, empty: Path, script: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "run_compiler", partial(compiler.run_compiler, timeout=0.3))
    Path("fake").write_text("no program\n" if script is None else f"#!/bin/sh\n{script}\n")
    Path("fake").chmod(0o755)
    command = ("compile", made / "run", "--target", "edgetpu", "--ranges", "minmax", "-o", "tiny.tflite")
    said = refused("compiler", *command, "--edgetpu-compiler", "fake")
    assert message in said
    assert "= the int8 file is written: tiny.tflite" in said
    assert sorted(os.listdir()) == ["fake", "tiny.tflite"]


def test_what_is_no_program_is_told_before_the_work(made: Path, empty: Path) -> None:
    Path("text").write_text("no program\n")
    for name in ("gone", "text", "."):
        command = ("compile", made / "run", "--target", "edgetpu", "-o", "a.tflite", "--edgetpu-compiler", name)
        assert f"`{name}` is no program that can be run" in refused("compiler", *command)
    assert os.listdir() == ["text"]


# Bad input


def test_places_that_cannot_be_written_are_told_before_the_work(made: Path, empty: Path) -> None:
    (empty / "folder").mkdir()
    (empty / "file").write_text("")
    command = ("compile", made / "run", "--calibrate", "digitz", "-o")
    for place, words in (
        ("folder", "it is a folder"),
        ("gone/a.tflite", "there is no folder `gone`"),
        ("file/a.tflite", "there is no folder `file`"),
    ):
        assert words in refused("run", *command, place, "--target", "tflite-int8")
    assert "it is a folder" in refused("run", "compile", made / "run", "-o", "folder", "--target", "savedmodel")
    assert "its weights would lie there" in refused(
        "run", "compile", made / "run", "-o", "a.safetensors", "--target", "jax"
    )
    assert sorted(os.listdir()) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="may write everywhere")
def test_a_folder_that_may_not_be_written_is_told(made: Path, empty: Path) -> None:
    (empty / "locked").mkdir(mode=0o500)
    assert "no permission" in refused("run", "compile", made / "run", "--target", "tflite", "-o", "locked/a.tflite")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that takes no files")
def test_a_write_that_fails_leaves_nothing(made: Path) -> None:
    assert "cannot write `/proc/a.tflite`" in refused(
        "run", "compile", made / "run", "--target", "tflite", "-o", "/proc/a.tflite"
    )


def test_weights_have_to_be_the_specs(made: Path, empty: Path) -> None:
    weights = made / "run/weights/best.safetensors"
    Path("text.safetensors").write_text("once upon a time")
    command = ("compile", "mlp", "--target", "tflite", "-o", "a.tflite")
    assert "does not hold the weights of `mlp`" in refused("weights", *command, "--weights", weights)
    refused("weights", *command, "--weights", "gone.safetensors")
    refused("weights", *command, "--weights", "text.safetensors")
    assert "name a run's folder instead" in refused("weights", *command)
    assert os.listdir() == ["text.safetensors"]


def test_what_is_compiled_is_a_run_or_a_spec(made: Path, empty: Path) -> None:
    Path("a.tflite").write_bytes(b"")
    refused("spec", "compile", "gone.cnn", "--target", "tflite", "--random-weights")
    refused("spec", "compile", "resnt", "--target", "tflite", "--random-weights")
    refused("run", "compile", made, "--target", "tflite")
    assert "is a TFLite file, and a run or a spec is compiled" in refused(
        "spec", "compile", "a.tflite", "--target", "tflite"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("RUN", "Missing option '--target'"),
        ("RUN --target onnx", "'onnx' is not one of"),
        ("RUN --target edgetpu --samples 0", "0 is not in the range"),
        ("RUN --target edgetpu --width 2", "`--width` goes with a SPEC"),
        ("RUN --target edgetpu --set classes=3", "`--set` goes with a SPEC"),
        ("RUN --target edgetpu --random-weights", "`--random-weights` goes with a SPEC"),
        ("RUN --target edgetpu --weights w.safetensors", "`--weights` goes with a SPEC"),
        ("mlp --target tflite --last", "`--last` goes with a run's folder"),
        ("mlp --target tflite --random-weights --weights w.safetensors", "either `--weights` or `--random-weights`"),
        ("RUN --target tflite --io int8", "`--io` goes with the targets tflite-int8 and edgetpu"),
        ("RUN --target jax --calibrate digits", "`--calibrate` goes with the targets"),
        ("RUN --target tflite --samples 100", "`--samples` goes with the targets"),
        ("RUN --target tflite --ranges auto", "`--ranges` goes with the targets"),
        ("RUN --target keras --data digits", "`--data` goes with the targets"),
        ("RUN --target tflite-int8 --allow-cpu", "`--allow-cpu` goes with the target edgetpu"),
        ("RUN --target tflite-int8 --edgetpu-compiler x", "`--edgetpu-compiler` goes with the target edgetpu"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(made: Path, empty: Path, options: str, message: str) -> None:
    result = call("compile", *(made / "run" if word == "RUN" else word for word in options.split()))
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert os.listdir() == []


def test_the_manual_names_options_that_there_are() -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    helps = "".join(call(command, "-h").stdout for command in ("compile", "check", "predict", "eval", "bench", "diff"))
    for option in sorted(set(re.findall(r"`(--?[a-z-]+)", manual))):
        assert option in helps, option
    for option in re.findall(r"^  (?:-o, )?(--[a-z-]+)", call("compile", "-h").stdout, re.MULTILINE):
        if option not in ("--variant", "--phi", "--width", "--depth", "--resolution", "--input", "--set"):
            assert option in manual, option


def test_the_manual_shows_what_check_prints(empty: Path) -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```console\n(.*?)^```", manual, re.MULTILINE | re.DOTALL)
    Path("net.cnn").write_text(ELU)
    command, *lines = shown.splitlines()
    result = call(*command.removeprefix("$ cnnc ").split())
    assert lines[0] in result.stdout.splitlines()
    assert result.stderr.splitlines() == lines[1:]


def test_links_of_the_manual_lead_somewhere() -> None:
    manual = (ROOT / "docs" / "compiling.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^#)]+)", manual):
        assert (ROOT / "docs" / target).exists(), target
