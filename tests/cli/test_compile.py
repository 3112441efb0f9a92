"""The command compile, end to end: what every target writes, what it says of it, and that it predicts as the run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnnc import load_text
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.runs.trained import open_run
from cnnc.tflite_file.metadata import read_description
from cnnc.tflite_file.read import open_file
from cnnc.weights.weights_file import save_weights
from tests.support.calling import call, good
from tests.support.paths import ROOT
from tests.support.small_runs import CONVOLUTIONS, train_small

INT8 = ("tflite-int8", "edgetpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), CONVOLUTIONS)


def test_float_says_what_was_folded_and_predicts_as_the_run(made: Path, empty: Path) -> None:
    result = call("compile", made / "run", "--target", "tflite", "-o", "tiny.tflite")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines()[:2] == [
        "left out, as they do nothing at inference: 1 dropout",
        "batch norms folded into the layers before them: 1 bn",
    ]
    assert "\nfused into the operators before them: 1 activation\n" in result.stdout
    assert "\nin and out: `input` 1x8x8x3 of float32, `output` 1x2 of float32\n" in result.stdout
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


@pytest.mark.fault("Q8")
@pytest.mark.parametrize("ranges", ["minmax", "percentile", "mse", "entropy"])
def test_every_file_is_measured_however_its_ranges_are_chosen(made: Path, empty: Path, ranges: str) -> None:
    command = ("compile", made / "run", "--target", "tflite-int8", "--ranges", ranges, "-o", "a.tflite")
    measured = good(*command)["quantization"]["signal_to_noise"]
    assert measured["samples"] == 24
    (output,) = measured["outputs"]
    assert output["name"] == "output"
    assert output["sqnr_db"] > 10
    assert measured["tensors"][0]["name"] == "input"
    assert {"name", "layer", "sqnr_db", "clipped"} == set(measured["tensors"][0])


@pytest.mark.fault("Q2")
def test_what_a_file_loses_is_told_and_the_file_is_written(made: Path, empty: Path) -> None:
    Path("net.cnn").write_text(
        "input 8x8x3\nstem: conv(3x3, 8) | relu\nboxes: conv(1x1, 4)\nscores: stem | conv(1x1, 3) | sigmoid\n"
        "all: concat(boxes, scores)\noutput all\n"
    )
    graph = load_text(Path("net.cnn").read_text()).graph
    weights = {node: dict(arrays) for node, arrays in random_weights(graph, 0).items()}
    weights["boxes"]["kernel"] = weights["boxes"]["kernel"] * 1000
    save_weights(Path("w.safetensors"), weights, {})
    command = ("compile", "net.cnn", "--weights", "w.safetensors", "--calibrate", made / "data/train/light")
    result = call(*command, "--target", "tflite-int8", "-o", "a.tflite")
    assert result.exit_code == 0
    assert "\nsignal to noise beside the float file, on 12 samples: `all` " in result.stdout
    assert "\n  it falls at `scores.sigmoid1:for all`, from " in result.stdout
    assert "warning[quantization]: `all` joins its inputs on one scale" in result.stderr
    assert " --> net.cnn:5:6\n" in result.stderr
    told = good(*command, "--target", "tflite-int8", "-o", "a.tflite")["warnings"]
    assert {(each["code"], each["line"]) for each in told} == {("quantization", 5)}
    assert Path("a.tflite").is_file()


@pytest.mark.fault("Q8")
def test_figures_of_random_samples_are_said_to_be_of_the_structure_alone(empty: Path) -> None:
    result = call(
        "compile", "mlp", "--random-weights", "--ranges", "minmax", "--target", "tflite-int8", "-o", "a.tflite"
    )
    assert "\nsignal to noise beside the float file, on 20 samples: `output` " in result.stdout
    assert result.stderr == (
        "note: the samples are random: what is measured on them tells of the structure alone, not of accuracy\n"
    )


def test_the_last_weights_are_taken_where_that_is_said(made: Path, empty: Path) -> None:
    for which, options in (("best", ()), ("last", ("--last",))):
        assert call("compile", made / "run", "--target", "tflite", "-o", "a.tflite", *options).exit_code == 0
        weights = open_run(made / "run", last=which == "last").weights
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
