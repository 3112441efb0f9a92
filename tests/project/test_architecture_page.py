"""docs/architecture.md names what there is: every module, function and path, and every folder in order."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from cnnc.loading import load_text
from tests.project.test_layers import LAYERS
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`(cnnc(?:\.\w+)+)`", PAGE)))
PATHS = sorted(set(re.findall(r"`((?:cnnc|backends|tests|grammar|specs|docs)/[\w/.]*\w)`", PAGE)))


def _exists(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            value = import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(value, part):
                return False
            value = getattr(value, part)
        return True
    return False


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_there(name: str) -> None:
    if name.startswith("cnnc.backends.keras"):
        pytest.importorskip("keras")
    assert _exists(name)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_there(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)\)", PAGE))
def test_a_link_leads_somewhere(link: str) -> None:
    assert (ROOT / "docs" / link).exists()


def test_every_folder_is_named() -> None:
    folders = [name for layer in LAYERS for name in layer.split() if (ROOT / "cnnc" / name).is_dir()]
    missing = [name for name in folders if not re.search(rf"`(cnnc/)?{name}`", PAGE) and Path(name).name != "backends"]
    assert missing == []


def test_the_spec_is_one() -> None:
    (text,) = re.findall(r"```cnn\n(.*?)```", PAGE, re.DOTALL)
    assert load_text(text).graph.name == "tiny"
