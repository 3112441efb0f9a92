"""The page of the command activations: its parts, its folder, and in a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from tests.support.activations import CORAL, GOOGLE, SHOWN, Page, activations, read_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def test_a_run_s_layers_have_a_picture_each_and_a_page(models: Path, tmp_path: Path) -> None:
    result = activations(models / "run", models / "picture.png", "-o", tmp_path / "out", "--format", "json")
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
    assert read_page(tmp_path / "out").counts["img"] == 4 + 1 + 1 + 3


def test_a_folder_with_other_things_is_left_alone(models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("<p>mine")
    result = activations(models / "run", models / "picture.png", "-o", tmp_path / "mine")
    assert result.exit_code == 1
    assert "has other things in it, such as `index.html`" in result.stderr
    assert (tmp_path / "mine" / "index.html").read_text() == "<p>mine"
    assert activations(models / "run", models / "picture.png", "-o", models / "picture.png").exit_code == 1
    assert activations(models / "run", models / "picture.png", "-o", tmp_path / "no" / "folder").exit_code == 1


def test_an_earlier_look_is_written_over_and_nothing_deleted(models: Path, tmp_path: Path) -> None:
    assert activations(models / "run", models / "picture.png", "-o", tmp_path / "o").exit_code == 0
    before = {path.name for path in (tmp_path / "o").iterdir()}
    result = activations(models / "run", models / "picture.png", "-o", tmp_path / "o", "--layers", "stem.conv1")
    assert result.exit_code == 0
    assert "left from before" in result.stderr
    assert before < {path.name for path in (tmp_path / "o").iterdir()}


@pytest.mark.skipif(not GOOGLE.exists(), reason="needs Google's models in ../shared")
@pytest.mark.slow
def test_a_page_of_mobilenet_v2_is_below_15_mb(tmp_path: Path) -> None:
    assert activations(GOOGLE, CORAL / "cat.bmp", "-o", tmp_path / "o").exit_code == 0
    assert (tmp_path / "o" / "index.html").stat().st_size < 15e6
    assert read_page(tmp_path / "o").counts["details"] == 62


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_opens_in_a_browser_without_a_request(models: Path, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    arguments = (models / "run", models / "picture.png", "-o", tmp_path / "o", "--compare", models / "int8.tflite")
    assert activations(*arguments).exit_code == 0
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
