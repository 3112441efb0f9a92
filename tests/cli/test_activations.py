"""The command activations, end to end: runs, specs and files, alone and in pairs, and its page in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from cnnc.activations.collection import look
from cnnc.activations.models import watch_network
from cnnc.activations.page import page
from cnnc.runs.trained import open_run
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.weights_file import save_weights
from tests.support.calling import call, refused
from tests.support.paths import ROOT, SHARED
from tests.support.pictures import noise, truncate
from tests.support.small_runs import train_small
from tests.support.tflite_programs import one_operator, tensor

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

SPEC = """\
model tiny(classes=2) {
  input 16x16x3
  normalize(mean=128, std=64)
  stem: conv(3x3, 8) | bn | relu | conv(3x3, 12, stride=2) | relu
  body: maxpool(2x2)
  head: flatten | dense(classes) | softmax
}

train {
  optimizer sgd(momentum=0.9)
  schedule  constant(0.02)
  batch     8
  epochs    2
}
"""
SHOWN = ["stem.relu1", "stem.relu2", "body"]


def watch(*arguments: object) -> Result:
    """How `cnnc activations` ended."""
    return call("activations", *arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures, a run, and the run's float and int8 files."""
    root = train_small(tmp_path_factory.mktemp("made"), SPEC, size=(16, 16))
    Image.fromarray(noise(30, 20, 3)).save(root / "picture.png")
    for arguments in (
        ["compile", root / "run", "--target", "tflite", "-o", root / "float.tflite"],
        ["compile", root / "run", "--target", "tflite-int8", "--ranges", "minmax", "-o", root / "int8.tflite"],
    ):
        result = call(*arguments)
        assert result.exit_code == 0, result.output
    return root


class Page(HTMLParser):
    """Counts what a page holds, and gathers what it asks for."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.asked: list[str] = []
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.counts[tag] = self.counts.get(tag, 0) + 1
        found = dict(attrs)
        self.asked += [found[key] or "" for key in ("src", "srcset") if key in found]
        if tag == "link":
            self.asked.append(found.get("href") or "")
        if tag == "img":
            assert found.get("alt"), attrs
        if tag == "a":
            self.links.append(found.get("href") or "")
        if found.get("id"):
            self.anchors.add(found["id"] or "")


def read(folder: Path) -> Page:
    text = (folder / "index.html").read_text(encoding="utf-8")
    found = Page(text)
    assert all(each.startswith("data:") for each in found.asked)
    assert "script" not in found.counts
    assert "url(" not in text
    assert all(link.startswith("#") and link[1:] in found.anchors for link in found.links)
    return found


def test_a_run_s_layers_have_a_picture_each_and_a_page(made: Path, tmp_path: Path) -> None:
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "out", "--format", "json")
    assert result.exit_code == 0, result.output
    words = json.loads(result.stdout)
    assert [layer["name"] for layer in words["layers"]] == SHOWN
    assert words["cam"]["layer"] == "stem.relu2"
    assert {each["label"] for each in words["top"]} == {"dark", "light"}
    first = words["layers"][0]
    assert (first["shape"], first["op"], first["min"], first["filters"]) == ([16, 16, 8], "relu", 0.0, 8)
    for layer in words["layers"]:
        with Image.open(layer["picture"]) as image:
            assert image.size[0] > 400
    # Input and its 3 channels, Grad-CAM, filters, a grid a layer.
    assert read(tmp_path / "out").counts["img"] == 4 + 1 + 1 + 3


def test_the_figures_are_those_of_the_reference(made: Path, tmp_path: Path) -> None:
    from cnnc.backends import reference
    from cnnc.data.pictures.decode import decode

    words = json.loads(watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--format", "json").stdout)
    run = open_run(made / "run")
    weights = {node: {s: np.asarray(a) for s, a in arrays.items()} for node, arrays in run.weights.items()}
    pixels = decode(made / "picture.png", (16, 16), 3)[None].astype(np.float64)
    values = reference.run(run.net.graph, weights, {"input": pixels})
    for layer in words["layers"]:
        expected = values[layer["name"]]
        assert layer["max"] == pytest.approx(float(expected.max()), rel=1e-4)
        assert layer["zeros"] == pytest.approx(float((expected == 0).mean()), abs=0.01)


@pytest.mark.parametrize("name", ["int8", "float"])
def test_a_run_beside_its_file_differs_as_diff_says(made: Path, tmp_path: Path, name: str) -> None:
    arguments = (made / "picture.png", "--format", "json", "-o")
    result = watch(made / "run", *arguments, tmp_path / "a", "--compare", made / f"{name}.tflite")
    assert result.exit_code == 0, result.output
    words = json.loads(result.stdout)
    assert [layer["name"] for layer in words["layers"]] == SHOWN
    assert words["other"]["paired"] == "by name"
    least = 20 if name == "int8" else 90
    assert all(layer["sqnr_db"] is None or layer["sqnr_db"] > least for layer in words["layers"])
    # Input and its channels, Grad-CAM, filters, three grids a layer.
    assert read(tmp_path / "a").counts["img"] == 4 + 1 + 1 + 9
    turned = watch(made / f"{name}.tflite", *arguments, tmp_path / "b", "--compare", made / "run")
    assert turned.exit_code == 0, turned.output
    for mine, theirs in zip(words["layers"], json.loads(turned.stdout)["layers"], strict=True):
        assert mine["sqnr_db"] == pytest.approx(theirs["sqnr_db"], abs=1e-3)
        assert mine["largest_difference"] == pytest.approx(theirs["largest_difference"], rel=1e-4)
    assert "no Grad-CAM: a TFLite file has no gradients" in turned.stderr


def test_the_differences_of_one_picture_are_those_of_cnnc_diff(made: Path, tmp_path: Path) -> None:
    (tmp_path / "one" / "dark").mkdir(parents=True)
    shutil.copy(made / "picture.png", tmp_path / "one" / "dark")
    arguments = ["diff", made / "run", made / "int8.tflite", "--data", tmp_path / "one", "--format", "json"]
    by_diff = json.loads(call(*arguments).stdout)
    sqnr = {layer["name"]: layer["sqnr_db"] for layer in by_diff["layers"]}
    result = watch(
        *(made / "run", made / "picture.png", "--compare", made / "int8.tflite", "-o", tmp_path / "o"),
        *("--layers", "*", "--format", "json"),
    )
    for layer in json.loads(result.stdout)["layers"]:
        assert layer["sqnr_db"] == pytest.approx(sqnr[layer["name"]], abs=0.01)


def test_files_are_compared_by_name_and_the_worst_layers_are_told(made: Path, tmp_path: Path) -> None:
    result = watch(made / "float.tflite", made / "picture.png", "-o", tmp_path / "o", "--compare", made / "int8.tflite")
    assert result.exit_code == 0, result.output
    told = re.findall(r"^  (\S+) +([\d.]+) dB", result.stdout, re.MULTILINE)
    assert sorted(name for name, _ in told) == sorted(SHOWN)
    assert [float(sqnr) for _, sqnr in told] == sorted(float(sqnr) for _, sqnr in told)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("stem.conv2", ["stem.conv2"]),
        ("stem", ["stem.relu1", "stem.relu2"]),
        ("*.relu?", ["stem.relu1", "stem.relu2"]),
        ("b*", ["body"]),
        ("head.dense1", ["head.dense1"]),
    ],
)
def test_patterns_name_layers_labels_and_globs(made: Path, tmp_path: Path, pattern: str, names: list[str]) -> None:
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--layers", pattern, "--format", "json")
    assert [layer["name"] for layer in json.loads(result.stdout)["layers"]] == names


def test_a_pattern_that_matches_nothing_is_told_with_what_is_near(made: Path, tmp_path: Path) -> None:
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--layers", "stem.rely1")
    assert result.exit_code == 1
    assert f"error[argument]: `stem.rely1` matches no layer of `{made / 'run'}`" in result.stderr
    assert "did you mean `stem.relu1`?" in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_class_may_be_named_or_numbered(made: Path, tmp_path: Path) -> None:
    for place, wanted in enumerate(["light", "1"]):
        result = watch(
            *(made / "run", made / "picture.png", "-o", tmp_path / str(place), "--class", wanted, "--format", "json")
        )
        assert json.loads(result.stdout)["cam"]["class"] == "light"
    for wanted in ("lihgt", "2"):
        result = watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--class", wanted)
        assert result.exit_code == 1
        assert f"there is no class `{wanted}`" in result.stderr


def test_a_layer_that_is_no_map_has_no_grad_cam(made: Path, tmp_path: Path) -> None:
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--cam-layer", "head.dense1")
    assert result.exit_code == 1
    assert "`head.dense1` names no map of height and width" in result.stderr
    result = watch(made / "int8.tflite", made / "picture.png", "-o", tmp_path / "o", "--cam-layer", "stem.relu1")
    assert "which has no gradients" in result.stderr


def test_what_is_no_picture_is_refused_and_nothing_written(made: Path, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_text("no picture")
    shutil.copy(made / "picture.png", tmp_path / "cut.png")
    truncate(tmp_path / "cut.png")
    for name in ("words.png", "cut.png", "missing.png"):
        for model in ("run", "int8.tflite"):
            result = watch(made / model, tmp_path / name, "-o", tmp_path / "o")
            assert result.exit_code == 1
            assert "error[picture]" in result.stderr
            assert name in result.stderr
            assert "skip-corrupt" not in result.stderr
    assert not (tmp_path / "o").exists()


def test_a_folder_with_other_things_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<p>mine")
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "mine")
    assert result.exit_code == 1
    assert "has other things in it, such as `index.html`" in result.stderr
    assert (tmp_path / "mine" / "index.html").read_text() == "<p>mine"
    assert watch(made / "run", made / "picture.png", "-o", made / "picture.png").exit_code == 1
    assert watch(made / "run", made / "picture.png", "-o", tmp_path / "no" / "folder").exit_code == 1


def test_an_earlier_look_is_written_over_and_nothing_deleted(made: Path, tmp_path: Path) -> None:
    assert watch(made / "run", made / "picture.png", "-o", tmp_path / "o").exit_code == 0
    before = {path.name for path in (tmp_path / "o").iterdir()}
    result = watch(made / "run", made / "picture.png", "-o", tmp_path / "o", "--layers", "stem.conv1")
    assert result.exit_code == 0
    assert "left from before" in result.stderr
    assert before < {path.name for path in (tmp_path / "o").iterdir()}


def test_a_spec_wants_weights_or_that_random_ones_are_asked_for(made: Path, tmp_path: Path) -> None:
    arguments = (made / "tiny.cnn", made / "picture.png", "-o")
    result = watch(*arguments, tmp_path / "a")
    assert result.exit_code == 1
    assert "--random-weights shows the structure alone" in result.stderr
    assert watch(*arguments, tmp_path / "b", "--random-weights").exit_code == 0
    assert "random weights" in (tmp_path / "b" / "index.html").read_text(encoding="utf-8")
    save_weights(tmp_path / "w.safetensors", open_run(made / "run").weights, {})
    (tmp_path / "labels.txt").write_text("night\nday\n")
    result = watch(
        *(*arguments, tmp_path / "c", "--weights", tmp_path / "w.safetensors", "--labels", tmp_path / "labels.txt"),
        *("--compare", made / "int8.tflite", "--format", "json"),
    )
    words = json.loads(result.stdout)
    assert {guess["label"] for guess in words["top"]} == {"night", "day"}
    assert {guess["label"] for guess in words["other"]["top"]} == {"dark", "light"}
    (tmp_path / "labels.txt").write_text("night\nday\ndusk\n")
    result = watch(*arguments, tmp_path / "d", "--random-weights", "--labels", tmp_path / "labels.txt")
    assert "the list 3 labels" in result.stderr


def test_options_that_do_not_go_together_are_refused(made: Path, tmp_path: Path) -> None:
    start = (made / "run", made / "picture.png", "-o", tmp_path / "o")
    for more in (["--weights", "w"], ["--random-weights"], ["--labels", "l"], ["--width", "2"]):
        result = watch(*start, *more)
        assert result.exit_code == 2, more
    assert watch(made / "int8.tflite", made / "picture.png", "-o", tmp_path / "o", "--last").exit_code == 2


def test_other_networks_are_not_compared(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.cnn"
    other.write_text("input 16x16x3\nconv(3x3, 4) | relu | globalpool | dense(2) | softmax\n")
    start = (made / "picture.png", "-o", tmp_path / "o", "--random-weights", "--compare")
    result = watch(other, *start, made / "int8.tflite")
    assert result.exit_code == 1
    assert "cannot be paired" in result.stderr
    other.write_text("input 8x8x3\nconv(3x3, 4) | relu | globalpool | dense(2) | softmax\n")
    result = watch(other, *start, made / "run")
    assert "takes 8x8x3" in result.stderr


def test_a_file_of_complex_layers_has_nothing_to_show(tmp_path: Path) -> None:
    """LiteRT computes them; a picture has real values."""
    program = one_operator("CAST", [tensor("x", (1, 8, 8, 3))], tensor("y", (1, 8, 8, 3), "COMPLEX64"))
    path = tmp_path / "m.tflite"
    path.write_bytes(write_file(File((program,))))
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "p.png")
    said = refused("tflite", "activations", path, tmp_path / "p.png", "--out", tmp_path / "out")
    assert "has no layer of real numbers whose size is fixed" in said
    assert not (tmp_path / "out").exists()


def test_others_files_are_paired_by_order_and_shape(made: Path, tmp_path: Path) -> None:
    text = SPEC.replace("stem:", "first:").replace("body:", "second:")
    (tmp_path / "renamed.cnn").write_text(text)
    result = watch(
        *(tmp_path / "renamed.cnn", made / "picture.png", "-o", tmp_path / "o", "--random-weights"),
        *("--compare", made / "int8.tflite", "--format", "json"),
    )
    words = json.loads(result.stdout)
    assert words["other"]["paired"] == "by order and shape"
    assert [layer["name"] for layer in words["layers"]] == ["first.relu1", "first.relu2", "second"]


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("input 40x2\nconv(5, 6) | relu | conv(3, 8, stride=2) | relu | globalpool | dense(3) | softmax\n", (40, 2)),
        ("input 8x10x12x1\nconv(3x3x3, 6) | relu | globalpool | dense(3) | softmax\n", (8, 10, 12, 1)),
        ("input 20\ndense(30) | relu | dense(3) | softmax\n", (20,)),
    ],
)
def test_signals_volumes_and_vectors_come_from_arrays(tmp_path: Path, text: str, shape: tuple[int, ...]) -> None:
    (tmp_path / "net.cnn").write_text(text)
    array = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.save(tmp_path / "x.npy", array)
    start = (tmp_path / "net.cnn", tmp_path / "x.npy", "-o", tmp_path / "o", "--random-weights")
    result = watch(*start)
    assert result.exit_code == 0, result.output
    assert "no Grad-CAM" in result.stderr
    assert read(tmp_path / "o").counts["img"] >= 1
    Image.fromarray(noise(8, 8, 3)).save(tmp_path / "p.png")
    result = watch(tmp_path / "net.cnn", tmp_path / "p.png", "-o", tmp_path / "o", "--random-weights")
    assert "as a .npy file" in result.stderr
    np.save(tmp_path / "x.npy", array[:-1])
    assert "and `" in watch(*start).stderr
    (tmp_path / "x.npy").write_bytes(b"\x80\x04K\x01.")
    assert "cannot read" in watch(*start).stderr


def test_weights_that_are_no_numbers_are_told(made: Path, tmp_path: Path) -> None:
    subject = open_run(made / "run")
    bias = np.full(12, np.nan, np.float32)
    broken = {**subject.weights, "stem.conv2": {**subject.weights["stem.conv2"], "bias": bias}}
    found = look(watch_network(replace(subject, weights=broken), "broken"), made / "picture.png")
    assert found.shown[1].figures.broken == 8 * 8 * 12
    assert found.cam is None
    assert "not finite" in found.no_cam
    assert "not finite" in page(found)


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
def test_google_s_file_says_egyptian_cat_and_where(tmp_path: Path) -> None:
    result = watch(GOOGLE, CORAL / "cat.bmp", "-o", tmp_path / "o", "--layers", "*expanded_conv_4*", "--format", "json")
    words = json.loads(result.stdout)
    assert words["top"][0]["label"] == "Egyptian cat"
    assert words["cam"]["method"] == "CAM"
    assert all("StatefulPartitionedCall" not in layer["name"] for layer in words["layers"])


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
@pytest.mark.slow
def test_a_page_of_mobilenet_v2_is_below_15_mb(tmp_path: Path) -> None:
    assert watch(GOOGLE, CORAL / "cat.bmp", "-o", tmp_path / "o").exit_code == 0
    assert (tmp_path / "o" / "index.html").stat().st_size < 15e6
    assert read(tmp_path / "o").counts["details"] == 62


def test_a_file_by_itself_needs_no_jax(made: Path, tmp_path: Path) -> None:
    arguments = ["activations", str(made / "int8.tflite"), str(made / "picture.png"), "-o", str(tmp_path / "o")]
    code = (
        f"import sys\nfrom cnnc.cli import main\ntry: main({arguments})\nexcept SystemExit: pass\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.splitlines()[-1].split()}
    assert (tmp_path / "o" / "index.html").is_file()
    assert loaded.isdisjoint({"jax", "matplotlib", "optax", "tensorflow", "torch"})


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_opens_in_a_browser_without_a_request(made: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    arguments = (made / "run", made / "picture.png", "-o", tmp_path / "o", "--compare", made / "int8.tflite")
    assert watch(*arguments).exit_code == 0
    log = tmp_path / "net.json"
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *("--disable-component-update", "--disable-sync", "--no-first-run", f"--log-net-log={log}"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "o" / "index.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    dom = Page(done.stdout)
    assert dom.counts["img"] == 4 + 1 + 1 + 9
    assert dom.counts["details"] == 3
    assert all(each.startswith("data:image/png") for each in dom.asked if each != "data:,")
    asked = re.findall(r'"url":"(?!data:)([^"]*)"', log.read_text(encoding="utf-8", errors="replace"))
    assert [url for url in asked if "index.html" not in url and url.startswith("file")] == []
