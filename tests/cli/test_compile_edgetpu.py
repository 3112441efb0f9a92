"""What compile and check predict of the Edge TPU: what it maps, and what it would refuse, shown in the spec."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.calling import call, good, refused
from tests.support.small_runs import CONVOLUTIONS, ELU, train_small


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures of two classes, and a run trained on them."""
    return train_small(tmp_path_factory.mktemp("made"), CONVOLUTIONS)


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
    Path("net.cnn").write_text(
        "input 6x6x6x2\nbody: conv(3x3x3, 4) | bn | relu | maxpool(2)\nflatten | dense(3) | softmax\n"
    )
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
