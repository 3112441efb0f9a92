"""docs/diagnostics.md has every code, and its examples are what the program says. `--update-golden` writes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from cnnc import backends
from cnnc.backends.jax.distributed.process_errors import require_same
from cnnc.backends.tflite.compile import Settings, compile_int8
from cnnc.backends.tflite.litert.runner import open_model
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.cli.console.edgetpu import check_graph, run_edgetpu_compiler
from cnnc.cli.console.extras import extra
from cnnc.cli.console.shortage import shortage_of
from cnnc.data.pictures.decode import decode
from cnnc.data.sources.by_name import load_data
from cnnc.deployment.calibration_samples import samples_of
from cnnc.diagnostics import CODES, CnnError, render
from cnnc.evaluation.network import outputs_of
from cnnc.evaluation.output_losses import require_classes
from cnnc.ir.model import Model
from cnnc.loading import find, load, load_text
from cnnc.runs.trained import open_run, open_trained
from cnnc.tflite_file.program import File, Operator, Program
from cnnc.tflite_file.read import open_file
from cnnc.tflite_file.write import write_file
from cnnc.training.train import train
from cnnc.weights.weights_file import load_weights
from tests.language.test_golden import CASES, GOLDEN
from tests.support.paths import ROOT
from tests.support.tflite_programs import tensor
from tests.training.test_train import tiny, tree

PAGE = ROOT / "docs" / "diagnostics.md"


def _labels() -> None:
    net = load("mlp")
    require_classes(outputs_of(net), ("cat", "dog", "bird"), net.text)


def _install() -> None:
    with extra("train", "training"):
        raise ModuleNotFoundError(name="optax")


def _decode_text() -> None:
    Path("cat.jpg").write_text("no picture")
    decode(Path("cat.jpg"), (32, 32), 3)


def _read_text() -> None:
    Path("cat.tflite").write_text("no model")
    open_file(Path("cat.tflite"))


def _target() -> None:
    net = load_text("input 8x8x3\nconv(3x3, 8) | elu\nglobalpool | dense(10) | softmax\n", "mine.cnn")
    raise CnnError(check_graph(net.graph, "mine.cnn", None)[1])


def _calibrate_on_black() -> None:
    Path("black").mkdir()
    for i in range(20):
        Image.new("L", (28, 28)).save(f"black/{i}.png")
    samples_of(open_trained("mlp", random_seed=0), "black")


def _boxes_and_scores() -> None:
    text = (
        "input 16x16x3\nstem: conv(3x3, 8) | relu\nboxes: conv(1x1, 4)\nscores: stem | conv(1x1, 3) | sigmoid\n"
        "all: concat(boxes, scores)\noutput all\n"
    )
    graph = load_text(text, "detector.cnn").graph
    weights = {node: dict(arrays) for node, arrays in random_weights(graph, 0).items()}
    weights["boxes"]["kernel"] *= 300
    weights["boxes"]["bias"] = np.full(4, 800, np.float32)
    raise CnnError(
        compile_int8(Model(graph, weights), [random_sample(graph, 0)], Settings(method="minmax")).warnings[-1:]
    )


def _compiler() -> None:
    """What version 16 prints for a model that is too large, google-coral/edgetpu 439."""
    printed = (
        "ERROR: Restored original execution plan after delegate application failure.",
        "Compilation failed: Compilation failed due to large activation tensors in model.",
        "Compilation failed!",
    )
    Path("edgetpu_compiler").write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in printed) + "exit 1\n")
    Path("edgetpu_compiler").chmod(0o755)
    predicted, _ = check_graph(load("mlp").graph, "mlp", None)
    run_edgetpu_compiler(predicted, b"", Path("mine.tflite"), Path("edgetpu_compiler").absolute())


def _run_compiled_on_the_cpu() -> None:
    operator = Operator("CUSTOM", ("x",), ("y",), custom="edgetpu-custom-op")
    tensors = {name: tensor(name, (1, 4)) for name in ("x", "y")}
    file = File((Program("main", tensors, (operator,), ("x",), ("y",)),))
    Path("mine_edgetpu.tflite").write_bytes(write_file(file))
    open_model(Path("mine_edgetpu.tflite"))


def _fill_the_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        jnp.zeros(1 << 50, jnp.uint8)
    shortage = shortage_of(caught.value)
    assert shortage is not None
    raise shortage


OUTSIDE: Mapping[str, tuple[str, Callable[[], object]]] = {
    "spec": ("cnnc check resnt", lambda: find("resnt")),
    "data": ("cnnc train mlp --data mnits", lambda: load_data("mnits")),
    "picture": ("cnnc predict runs/mlp/exp1 cat.jpg", _decode_text),
    "labels": ("cnnc train mlp --data pets", _labels),
    "weights": ("", lambda: load_weights(Path("best.safetensors"), load("mlp").graph)),
    "run": ("cnnc eval runs/mlp/exp7", lambda: open_run(Path("runs/mlp/exp7"))),
    "diverged": ("", lambda: train(tiny(), tree(Path("data")), lr=1e30, out=Path("runs/tiny/exp1"))),
    "process": ("", lambda: require_same([{"`seed`": "0"}, {"`seed`": "1"}])),
    "backend": ("", lambda: backends.load("jaxx")),
    "tflite": ("cnnc check cat.tflite --target edgetpu", _read_text),
    "target": ("cnnc check mine.cnn --target edgetpu", _target),
    "calibration": ("cnnc compile runs/mlp/exp1 --target edgetpu --calibrate black", _calibrate_on_black),
    "quantization": ("", _boxes_and_scores),
    "compiler": ("", _compiler),
    "device": ("cnnc bench mine_edgetpu.tflite", _run_compiled_on_the_cpu),
    "memory": ("cnnc eval runs/mlp/exp1", _fill_the_memory),
    "install": ("cnnc train mlp --data digits", _install),
}
"""For each code that no spec has by itself: a command that ends so, if one does alone, and what raises it."""
WARNINGS = ("quantization",)
"""Codes of what is told when all the same a file is made."""


def _outside(code: str) -> str:
    command, action = OUTSIDE[code]
    with pytest.raises(CnnError) as caught:
        action()
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == code
    return "```text\n" + (f"$ {command}\n" if command else "") + render(diagnostic, _severity(code)) + "\n```"


def _severity(code: str) -> Literal["error", "warning"]:
    return "warning" if code in WARNINGS else "error"


def _golden(case: str) -> str:
    path = GOLDEN / f"{case}.cnn"
    spec, said = path.read_text(encoding="utf-8"), path.with_suffix(".out").read_text(encoding="utf-8")
    shown = f"```cnn\n{spec.rstrip()}\n```\n\n" if len(spec) < 600 else ""
    return f"{shown}```text\n{said.rstrip()}\n```"


def _page() -> str:
    """The page with its examples written anew behind their marks."""
    kept = re.sub(r"(<!-- .*? -->\n)(?:\n```(?:cnn|text)\n(?s:.*?)\n```\n)+", r"\1", PAGE.read_text(encoding="utf-8"))
    shown = re.sub(r"<!-- golden: (.*) -->\n", lambda m: f"{m[0]}\n{_golden(m[1])}\n", kept)
    return re.sub(r"<!-- shown by: (.*) -->\n", lambda m: f"{m[0]}\n{_outside(m[1])}\n", shown)


def test_the_examples_are_what_the_program_says(
    update_golden: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = _page()
    if update_golden:
        PAGE.write_text(page, encoding="utf-8")
    assert page == PAGE.read_text(encoding="utf-8")


def test_every_code_has_its_section_and_its_example() -> None:
    sections = re.findall(r"^## `(\w+)`\n\n(.*)\n((?:(?!^## )(?s:.))*)", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [code for code, _, _ in sections] == list(CODES)
    for code, first, rest in sections:
        assert first == f"{CODES[code][0].upper()}{CODES[code][1:]}."
        assert f"{_severity(code)}[{code}]" in rest


def test_every_code_of_the_language_has_a_golden() -> None:
    said = "".join((GOLDEN / case).with_suffix(".out").read_text(encoding="utf-8") for case in CASES)
    assert set(re.findall(r"^error\[(\w+)\]", said, re.MULTILINE)) == set(CODES) - set(OUTSIDE)


def test_every_code_is_raised_somewhere() -> None:
    folders = [ROOT / "cnnc", ROOT / "backends"]
    paths = [path for folder in folders for path in folder.rglob("*.py") if path.name != "diagnostics.py"]
    calls = [n for path in paths for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call)]
    values = [v for call in calls for v in (*call.args, *(k.value for k in call.keywords))]
    raised = {v.value for v in values if isinstance(v, ast.Constant)}
    assert set(CODES) <= raised | {"shape"}  # an OpError's own
