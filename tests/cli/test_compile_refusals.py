"""What compile refuses before it begins: places, weights, sources and options that cannot be."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cnnc.cli.compile import compile
from cnnc.runs.trained import open_run
from cnnc.weights.weights_file import read_arrays, save_weights
from tests.support.calling import call, refused
from tests.support.small_runs import CONVOLUTIONS, train_small

TARGETS = next(option.type.choices for option in compile.params if option.name == "target")  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), CONVOLUTIONS)


def test_places_that_cannot_be_written_are_told_before_the_work(made: Path, empty: Path) -> None:
    (empty / "folder").mkdir()
    (empty / "file").write_text("")
    command = ("compile", made / "run", "--calibrate", "digitz", "-o")
    for place, words in (
        ("folder", "it is a folder"),
        ("gone/a.tflite", "there is no folder `gone`"),
        ("file/a.tflite", "`file` is a file"),
    ):
        assert words in refused("run", *command, place, "--target", "tflite-int8")
    assert "it is a folder" in refused("run", "compile", made / "run", "-o", "folder", "--target", "savedmodel")
    assert "its weights would lie there" in refused(
        "run", "compile", made / "run", "-o", "a.safetensors", "--target", "jax"
    )
    assert sorted(os.listdir()) == ["file", "folder"]


def test_what_is_read_is_not_written_over(made: Path, empty: Path) -> None:
    run = Path(shutil.copytree(made / "run", empty / "run"))
    weights = Path(shutil.copy(run / "weights/best.safetensors", "w.safetensors"))
    spec, samples = Path(shutil.copy(run / "spec.cnn", "own.cnn")), Path("samples.npy")
    np.save(samples, np.zeros((20, 12, 12, 3), np.uint8))
    of_spec = ("compile", spec, "--weights", weights, "--target")
    for place, command in (
        (spec, (*of_spec, "tflite")),
        (weights, (*of_spec, "tflite")),
        (samples, (*of_spec, "tflite-int8", "--calibrate", samples)),
        (run / "spec.cnn", ("compile", run, "--target", "jax")),
        (run / "args.yaml", ("compile", run, "--target", "tflite")),
        (run / "weights/best.safetensors", ("compile", run, "--target", "stablehlo")),
        (samples, ("diff", run, samples)),
    ):
        before = place.read_bytes()
        assert f"cannot write `{place}`: it is read, and stays as it is" in refused("run", *command, "-o", place)
        assert place.read_bytes() == before
    assert f"cannot write `{spec}`: it is read" in call("tune", spec, "-o", spec).stderr


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


def copied(run: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """A run's weights, to be changed."""
    weights = open_run(run).weights
    return {node: {short: np.array(array) for short, array in arrays.items()} for node, arrays in weights.items()}


@pytest.mark.fault("Q9")
@pytest.mark.parametrize("target", TARGETS)
def test_weights_that_cannot_be_a_layer_s_are_refused_in_every_target(made: Path, empty: Path, target: str) -> None:
    broken = copied(made / "run")
    for array, value, words in (
        ("stem.conv1.kernel", np.nan, "has 1 of 216 values that are NaN"),
        ("head.dense1.bias", -np.inf, "has 1 of 2 values that are infinite"),
        ("stem.bn1.variance", -0.25, "has 1 of 8 values that are negative, as no variance is: the least is -0.25"),
    ):
        node, _, short = array.rpartition(".")
        kept = broken[node][short].flat[0]
        broken[node][short].flat[0] = value
        save_weights(empty / "w.safetensors", broken, {})
        broken[node][short].flat[0] = kept
        command = ("compile", made / "tiny.cnn", "--weights", "w.safetensors", "--target", target, "-o", "out")
        told = refused("weights", *command)
        assert f"`{array}` of `w.safetensors` {words}" in told
        assert f"{made / 'tiny.cnn'}:" in told
    assert os.listdir() == ["w.safetensors"]


@pytest.mark.fault("Q9")
def test_a_run_whose_weights_are_no_numbers_is_neither_compiled_nor_asked(made: Path, empty: Path) -> None:
    place = made / "run/weights/best.safetensors"
    whole = place.read_bytes()
    weights, (_, facts) = copied(made / "run"), read_arrays(place)
    weights["stem.conv1"]["kernel"][0, 0, 0, 0] = np.nan
    save_weights(place, weights, facts)
    try:
        for command in (
            ("compile", made / "run", "--target", "tflite", "-o", "a.tflite"),
            ("predict", made / "run", next((made / "data/val/dark").iterdir())),
            ("eval", made / "run"),
        ):
            assert "`stem.conv1.kernel` of" in refused("weights", *command)
    finally:
        place.write_bytes(whole)


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
