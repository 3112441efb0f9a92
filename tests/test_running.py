"""TFLite files on LiteRT: what they are fed, what comes out, what is said where something is missing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cnnc.backends.tflite import runtime
from cnnc.backends.tflite.runtime import COMPILED, dequantized, open_model, quantized
from cnnc.diagnostics import CnnError
from cnnc.running import measure, open_tflite, places, predict, probabilities, stored
from cnnc.tflite.metadata import Description, InputNote, OutputNote, attach, label_files, pack
from cnnc.tflite.program import File, Operator, Program, Tensor
from cnnc.tflite.write import write_file
from cnnc.timing import bench
from tests.pictures import SHARED, make_tree, noise, truncate
from tests.tflite_programs import constant, one_operator, run_litert, tensor

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
MODELS = SHARED / "edgetpu" / "models"
CLASSES = ("dark", "light")


def identity(kind: str, scale: float | None = None, zero: int = 0) -> Program:
    """What goes into a picture's input comes out as it is stored."""
    shape = constant("shape", np.array([1, 12], np.int32))
    return one_operator(
        "RESHAPE", [tensor("x", (1, 2, 2, 3), kind, scale, zero), shape], tensor("y", (1, 12), kind, scale, zero)
    )


def brightness(*, swapped: bool = False, softmax: bool = True) -> Program:
    """A float classifier of 8x8 pictures: dark below a mean of 128, and light above."""
    sign = -1 if swapped else 1
    kernel = constant("kernel", np.array([[-0.02] * 3, [0.02] * 3], np.float32) * sign)
    bias = constant("bias", np.array([0.06 * 128, -0.06 * 128], np.float32) * sign)
    pooled, logits, shares = tensor("mean", (1, 1, 1, 3)), tensor("logits", (1, 2)), tensor("shares", (1, 2))
    x = tensor("image", (1, 8, 8, 3))
    window = {"stride_w": 1, "stride_h": 1, "filter_w": 8, "filter_h": 8, "padding": "VALID"}
    operators = [
        Operator("AVERAGE_POOL_2D", ("image",), ("mean",), window),
        Operator("FULLY_CONNECTED", ("mean", "kernel", "bias"), ("logits",)),
        Operator("SOFTMAX", ("logits",), ("shares",), {"beta": 1.0}),
    ]
    tensors = {each.name: each for each in (x, pooled, kernel, bias, logits, shares)}
    if not softmax:
        del operators[-1], tensors["shares"]
    end = operators[-1].outputs
    return Program("brightness", tensors, tuple(operators), ("image",), end, ("picture",), ("class",))


def write(path: Path, program: Program, description: Description | None = None) -> Path:
    file = File((program,))
    data = write_file(file if description is None else attach(file, description))
    path.write_bytes(data if description is None else pack(data, label_files(description)))
    return path


def described(labels: tuple[str, ...] = CLASSES, **note: Any) -> Description:
    return Description("m", inputs=(InputNote("image", is_image=True, **note),), outputs=(OutputNote("o", "", labels),))


# Values in and out


@pytest.mark.parametrize("seed", range(3))
def test_a_runner_says_what_litert_says_of_every_example(seed: int) -> None:
    program = brightness()
    pictures = np.random.default_rng(seed).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    found = open_model(write_file(File((program,))))({"picture": pictures})["class"]
    assert found.shape == (5, 2)
    for picture, row in zip(pictures, found, strict=True):
        plain = replace(program, input_names=(), output_names=())
        np.testing.assert_allclose(row, run_litert(plain, {"image": picture[None]})["shares"][0], atol=1e-6)


def test_real_numbers_are_quantised_and_come_back_dequantised() -> None:
    runner = open_model(write_file(File((identity("INT8", 0.5, -3),))))
    real = np.array([-100, -1, -0.25, -0.24, 0, 0.24, 0.25, 0.5, 0.75, 1, 60, 1000], np.float32).reshape(1, 2, 2, 3)
    codes = np.array([[-128, -5, -4, -3, -3, -3, -2, -2, -1, -1, 117, 127]], np.int8)
    np.testing.assert_array_equal(runner.raw({"x": real})["y"], codes)
    np.testing.assert_array_equal(runner({"x": real})["y"], (codes.astype(np.float32) + 3) * 0.5)
    np.testing.assert_array_equal(runner.raw({"x": codes.reshape(1, 2, 2, 3)})["y"], codes)


def test_quantisation_is_litert_s_own() -> None:
    real = np.random.default_rng(0).normal(0, 3, (1, 500)).astype(np.float32)
    out = tensor("y", (1, 500), "INT8", 0.037, 5)
    theirs = run_litert(one_operator("QUANTIZE", [tensor("x", (1, 500))], out), {"x": real}, xnnpack=False)["y"]
    np.testing.assert_array_equal(quantized(out, real), theirs)
    back = run_litert(one_operator("DEQUANTIZE", [out], tensor("z", (1, 500))), {"y": theirs}, xnnpack=False)["z"]
    np.testing.assert_allclose(dequantized(out, theirs), back, rtol=1e-6)  # its kernel multiplies before it subtracts


def test_every_tensor_can_be_looked_at() -> None:
    runner = open_model(write_file(File((brightness(),))), all_tensors=True)
    pictures = np.stack([np.full((8, 8, 3), level, np.float32) for level in (0, 128, 255)])
    found = runner.tensors({"picture": pictures}, ["mean", "logits"])
    np.testing.assert_allclose(found["mean"].reshape(3, 3), np.repeat([[0.0], [128.0], [255.0]], 3, axis=1))
    np.testing.assert_allclose(found["logits"][1], 0, atol=1e-5)


def test_an_example_of_another_size_is_refused() -> None:
    runner = open_model(write_file(File((brightness(),))))
    with pytest.raises(CnnError, match=r"takes examples of \[8, 8, 3\], found \[9, 8, 3\]"):
        runner({"picture": np.zeros((1, 9, 8, 3), np.float32)})
    assert runner({"picture": np.zeros((2, 192), np.float32)})["class"].shape == (2, 2)


def test_litert_s_chatter_is_kept_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    open_model(write_file(File((brightness(),)))).raw({"picture": np.zeros((1, 8, 8, 3), np.float32)})
    assert capfd.readouterr() == ("", "")


# Pictures


@pytest.mark.parametrize(
    ("kind", "scale", "description", "expected"),
    [
        ("UINT8", 1 / 127.5, None, lambda p: p),
        ("UINT8", 1 / 127.5, described(mean=(127.5,), std=(127.5,)), lambda p: p),
        ("INT8", 1 / 64, None, lambda p: p.astype(int) - 128),
        ("FLOAT32", None, None, lambda p: p.astype(float)),
        ("FLOAT32", None, described(mean=(127.5,), std=(127.5,)), lambda p: (p - 127.5) / 127.5),
        ("FLOAT32", None, described(mean=(1, 2, 3), std=(4, 5, 6)), lambda p: (p - np.arange(1, 4)) / np.arange(4, 7)),
        ("FLOAT32", None, described(mean=(1, 2), std=(4, 5)), lambda p: p.astype(float)),
    ],
)
def test_a_picture_becomes_what_the_input_takes(
    tmp_path: Path,
    kind: str,
    scale: float | None,
    description: Description | None,
    expected: Callable[[NDArray[np.uint8]], NDArray[Any]],
) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", identity(kind, scale), description))
    picture = noise(2, 2, 3)[None]
    got = model.runner.raw({"x": stored(model, picture)})["y"]
    np.testing.assert_allclose(got, expected(picture).reshape(1, 12), rtol=1e-6)


def test_a_float_file_that_says_nothing_of_pixels_is_noted_and_ours_is_not(tmp_path: Path) -> None:
    program = identity("FLOAT32")
    (note,) = open_tflite(write(tmp_path / "theirs.tflite", program)).notes
    assert "does not say how pixels become its float input" in note
    ours = replace(described(), spec_sha256="0" * 64)
    assert open_tflite(write(tmp_path / "ours.tflite", program, ours)).notes == ()
    assert open_tflite(write(tmp_path / "int8.tflite", identity("INT8", 1.0))).notes == ()


def test_predictions_are_the_labels_of_the_file_or_of_a_list(tmp_path: Path) -> None:
    Image.new("L", (20, 30), 40).save(tmp_path / "night.png")
    Image.new("RGB", (8, 8), (200, 210, 220)).save(tmp_path / "day.png")
    pictures = [tmp_path / "night.png", tmp_path / "day.png"]
    path = write(tmp_path / "m.tflite", brightness(), described())
    found = predict(open_tflite(path), pictures)
    assert [guesses[0].label for guesses in found] == ["dark", "light"]
    assert sum(guess.probability for guess in found[0]) == pytest.approx(1)
    (tmp_path / "names.txt").write_text("0 Nacht\n1 Tag\n")
    found = predict(open_tflite(path, labels=tmp_path / "names.txt"), pictures, 1)
    assert [[guess.label for guess in guesses] for guesses in found] == [["Nacht"], ["Tag"]]
    found = predict(open_tflite(write(tmp_path / "bare.tflite", brightness())), pictures, 1)
    assert [guesses[0].label for guesses in found] == ["0", "1"]


def test_logits_are_turned_into_probabilities(tmp_path: Path) -> None:
    Image.new("L", (8, 8), 140).save(tmp_path / "day.png")
    shares = predict(open_tflite(write(tmp_path / "a.tflite", brightness())), [tmp_path / "day.png"])
    logits = predict(open_tflite(write(tmp_path / "b.tflite", brightness(softmax=False))), [tmp_path / "day.png"])
    assert [guess.probability for guess in logits[0]] == pytest.approx([guess.probability for guess in shares[0]])


def test_a_single_sigmoid_is_of_two_classes() -> None:
    np.testing.assert_allclose(probabilities(np.array([[0.25], [1.0]]), "sigmoid"), [[0.75, 0.25], [0.0, 1.0]])
    np.testing.assert_allclose(probabilities(np.array([[0.25, 0.5]]), "sigmoid"), [[0.25, 0.5]])
    np.testing.assert_allclose(probabilities(np.array([[0.0, np.log(3)]]), "logits"), [[0.25, 0.75]])


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_google_s_mobilenet_sees_what_is_there() -> None:
    found = predict(open_tflite(GOOGLE), [CORAL / name for name in ("cat.bmp", "bird.bmp", "parrot.jpg")], 1)
    assert [guesses[0].label for guesses in found] == ["Egyptian cat", "chickadee", "macaw"]


# Measuring


@pytest.mark.parametrize("swapped", [False, True])
def test_classes_are_told_by_their_names(tmp_path: Path, swapped: bool) -> None:
    make_tree(tmp_path / "data", {"dark": 7, "light": 5})
    names = ("Light", "dark") if swapped else CLASSES
    model = open_tflite(write(tmp_path / "m.tflite", brightness(swapped=swapped), described(names)))
    found = measure(model, str(tmp_path / "data"), batch=4)
    assert (found.scores.top1, found.scores.count, found.classes) == (1.0, 12, names)
    assert found.scores.confusion is not None
    assert found.scores.confusion.tolist() == ([[5, 0], [0, 7]] if swapped else [[7, 0], [0, 5]])
    assert found.what == f"all 12 pictures of {tmp_path / 'data'}"


def test_wrong_answers_count_as_such(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 3, "light": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(swapped=True)))
    found = measure(model, str(tmp_path / "data"))
    assert found.scores.top1 == 0.0
    assert found.scores.loss > 1
    assert found.classes == CLASSES  # the data's, in order, as the file has none


def test_the_loss_is_the_cross_entropy(tmp_path: Path) -> None:
    for level, name in ((100, "dark"), (150, "light")):
        (tmp_path / "data" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8), (level,) * 3).save(tmp_path / "data" / name / "a.png")
    found = measure(open_tflite(write(tmp_path / "m.tflite", brightness())), str(tmp_path / "data"))
    margins = np.array([0.12 * 28, 0.12 * 22])
    assert found.scores.loss == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)


def test_classes_that_the_file_lacks_are_listed(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 2, "lihgt": 2, "grey": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(), described()))
    with pytest.raises(CnnError) as caught:
        measure(model, str(tmp_path / "data"))
    assert "2 classes of the data are not among the labels" in str(caught.value)
    assert "`grey`, `lihgt`" in str(caught.value)
    bare = open_tflite(write(tmp_path / "bare.tflite", brightness()))
    with pytest.raises(CnnError, match="has 2 and no labels"):
        measure(bare, str(tmp_path / "data"))


def test_a_class_is_found_by_any_name_that_is_one_label_s_alone(tmp_path: Path) -> None:
    names = ("tench, Tinca tinca", "crane", "crane", "crayfish, crawfish", "lobster, crayfish", "fly, bee")
    model = replace(open_tflite(write(tmp_path / "m.tflite", brightness())), labels=names)
    assert places(model, ("Tinca_tinca", "tench", "crawfish", "Lobster", "bee"), 6) == [0, 0, 3, 4, 5]
    assert places(model, ("crayfish",), 6) == [3]  # the first name of one goes before the second of another
    with pytest.raises(CnnError, match=r"several labels of .* have the name of a class of the data: `crane`"):
        places(model, ("tench", "crane"), 6)


def test_labels_of_another_number_than_the_classes_are_refused(tmp_path: Path) -> None:
    make_tree(tmp_path / "data", {"dark": 2, "light": 2})
    model = open_tflite(write(tmp_path / "m.tflite", brightness(), described(("a", "b", "c"))))
    with pytest.raises(CnnError, match=r"there are 3 labels, and .* has 2 classes"):
        measure(model, str(tmp_path / "data"))
    with pytest.raises(CnnError, match="there are 3 labels"):
        predict(model, [])


def test_latencies_are_in_order_and_to_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.tflite", brightness()) for i in range(2)]
    first, second = bench(paths, 20, threads=1)
    assert (first.model, second.model) == tuple(paths)
    assert 0 < first.low <= first.median <= first.high
    assert first.ratio == 1
    assert second.ratio == pytest.approx(second.median / first.median)


@pytest.mark.parametrize("kind", ["UINT8", "INT8", "FLOAT32", "INT32"])
def test_every_kind_of_input_can_be_timed(kind: str) -> None:
    runner = open_model(write_file(File((identity(kind),))))
    runner.fill()
    runner.invoke()


# Bad input


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.tflite", brightness())
    for name, content, words in (
        ("empty", b"", "is empty"),
        ("text", b"this is a text\n", "is no TFLite file"),
        ("cut", good.read_bytes()[:900], "is damaged"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CnnError, match=words):
            open_tflite(tmp_path / name)
    with pytest.raises(CnnError, match="there is no file"):
        open_tflite(tmp_path / "gone.tflite")


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_a_real_file_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    source = MODELS / "gabor_64x64_p4.tflite"
    for share in (0.05, 0.3, 0.6, 0.9):
        shutil.copyfile(source, tmp_path / "m.tflite")
        truncate(tmp_path / "m.tflite", share)
        with pytest.raises(CnnError) as caught:
            open_tflite(tmp_path / "m.tflite")
        assert caught.value.diagnostics[0].code == "tflite"


def test_an_operator_that_litert_lacks_is_named(tmp_path: Path) -> None:
    program = one_operator("CUSTOM", [tensor("x", (1, 4))], tensor("y", (1, 4)))
    odd = replace(program, operators=(replace(program.operators[0], custom="OddOp"),))
    with pytest.raises(CnnError, match=r"is refused by LiteRT: encountered unresolved custom op: OddOp\.$"):
        open_tflite(write(tmp_path / "m.tflite", odd))


def test_a_size_that_changes_is_refused() -> None:
    program = identity("FLOAT32")
    tensors: dict[str, Tensor] = {**program.tensors, "x": replace(program["x"], signature=(1, -1, -1, 3))}
    with pytest.raises(CnnError, match=r"has no fixed size: \[1, -1, -1, 3\]"):
        runtime._require_fixed(replace(program, tensors=tensors), "m.tflite")
    batch = {**tensors, "x": replace(program["x"], signature=(-1, 2, 2, 3))}
    runtime._require_fixed(replace(program, tensors=batch), "m.tflite")


def test_labels_that_cannot_be_unpacked_are_left_out_and_said(tmp_path: Path) -> None:
    path = write(tmp_path / "m.tflite", brightness(), described(mean=(0.0,), std=(1.0,)))
    data = bytearray(path.read_bytes())
    data[data.index(b"dark\nlight\n")] ^= 1  # its checksum is of other bytes
    path.write_bytes(bytes(data))
    model = open_tflite(path)
    assert model.labels == ()
    assert any("cannot be unpacked: bad CRC-32" in note for note in model.notes)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (one_operator("ADD", [tensor("a", (1, 8, 8, 3)), tensor("b", (1, 8, 8, 3))], tensor("c", (1, 8, 8, 3))), "sev"),
        (one_operator("RELU", [tensor("a", (1, 8, 8, 3))], tensor("c", (1, 8, 8, 3))), "gives `c` of 8x8x3"),
        (one_operator("RELU", [tensor("a", (1, 8, 8, 5))], tensor("c", (1, 8, 8, 5))), "a picture is height x"),
        (one_operator("RELU", [tensor("a", (1, 7))], tensor("c", (1, 7))), "takes 7, and a picture"),
    ],
)
def test_what_is_no_classifier_of_pictures_predicts_nothing(tmp_path: Path, program: Program, words: str) -> None:
    model = open_tflite(write(tmp_path / "m.tflite", program))
    with pytest.raises(CnnError, match=words):
        predict(model, [tmp_path / "x.png"])


# LiteRT and the Edge TPU


def test_no_litert_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_file(File((brightness(),)))
    monkeypatch.setattr(runtime, "_INTERPRETERS", ("no_such_package.interpreter", "ai_edge_litert.interpreter"))
    open_model(data)
    monkeypatch.setattr(runtime, "_INTERPRETERS", ("no_such_package.interpreter",))
    with pytest.raises(CnnError, match="needs the package `ai-edge-litert`") as caught:
        open_model(data)
    assert caught.value.diagnostics[0].code == "install"
    assert caught.value.diagnostics[0].help == 'pip install "cnnc[tflite]"'


def compiled() -> Program:
    program = one_operator("CUSTOM", [tensor("x", (1, 4))], tensor("y", (1, 4)))
    return replace(program, operators=(replace(program.operators[0], custom=COMPILED),))


def code_of(caught: pytest.ExceptionInfo[CnnError]) -> str:
    return caught.value.diagnostics[0].code


def test_a_compiled_file_wants_its_device() -> None:
    with pytest.raises(CnnError, match="is compiled for the Edge TPU, and the CPU cannot run it") as caught:
        open_model(write_file(File((compiled(),))))
    assert code_of(caught) == "device"


def test_the_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "LIBRARIES", dict.fromkeys(runtime.LIBRARIES, "libnosuchedgetpu.so.1"))
    with pytest.raises(CnnError, match=r"`libnosuchedgetpu\.so\.1` cannot be loaded") as caught:
        open_model(write_file(File((brightness(),))), delegate="edgetpu")
    assert code_of(caught) == "device"
    monkeypatch.setattr(runtime, "LIBRARIES", {})
    with pytest.raises(CnnError, match="Google has no Edge TPU library for"):
        open_model(write_file(File((brightness(),))), delegate="edgetpu")


DELEGATE = """
#include <stddef.h>
void* tflite_plugin_create_delegate(char** keys, char** values, size_t count, void (*report)(const char*)) {
  report("No device of any kind");
  return NULL;
}
void tflite_plugin_destroy_delegate(void* delegate) {}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_library_without_a_device_is_told_from_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fake.c").write_text(DELEGATE)
    library = tmp_path / "libfakeedgetpu.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "fake.c"], check=True)
    monkeypatch.setattr(runtime, "LIBRARIES", dict.fromkeys(runtime.LIBRARIES, str(library)))
    with pytest.raises(CnnError, match="no Edge TPU is found") as caught:
        open_model(write_file(File((brightness(),))), delegate="edgetpu")
    assert code_of(caught) == "device"
    assert caught.value.diagnostics[0].notes[0].endswith("No device of any kind")


PYCORAL = """
from ai_edge_litert.interpreter import Interpreter

def list_edge_tpus():
    return {devices}

def make_interpreter(content):
    return Interpreter(model_content=content)
"""


def forget_pycoral(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pycoral", "pycoral.utils", "pycoral.utils.edgetpu"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))  # so that it is put back as it is, which is absent
        del sys.modules[name]


@pytest.mark.parametrize("devices", ["[]", "[{'type': 'usb', 'path': '/sys/x'}]"])
def test_google_s_pycoral_is_used_where_it_is(devices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycoral" / "utils").mkdir(parents=True)
    for name in ("", "utils"):
        (tmp_path / "pycoral" / name / "__init__.py").touch()
    (tmp_path / "pycoral" / "utils" / "edgetpu.py").write_text(PYCORAL.format(devices=devices))
    monkeypatch.syspath_prepend(tmp_path)
    forget_pycoral(monkeypatch)
    data = write_file(File((brightness(),)))
    if devices == "[]":
        with pytest.raises(CnnError, match="no Edge TPU is found"):
            open_model(data, delegate="edgetpu")
    else:
        found = open_model(data, delegate="edgetpu")({"picture": np.zeros((1, 8, 8, 3), np.float32)})
        assert found["class"].argmax() == 0
        model = open_tflite(write(tmp_path / "m.tflite", brightness(), described()), delegate="edgetpu")
        assert any("no part of" in note for note in model.notes)


def test_another_project_of_that_name_is_not_even_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pycoral").mkdir()
    (tmp_path / "pycoral" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    forget_pycoral(monkeypatch)
    assert runtime._google_pycoral() is None
