"""What tests share: how other frameworks are set up, how hypothesis runs, golden files, and a folder to work in."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest
from hypothesis import settings
from PIL import Image

from cnnc.files import write_atomically

os.environ["KERAS_BACKEND"] = "jax"
os.environ.setdefault("MPLBACKEND", "agg")

# No deadline: the first example of a shape compiles. The same examples every time: a red build can be run again.
settings.register_profile("cnnc", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("cnnc")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The twenty facts first: where one of them fails, the rest says little."""
    items.sort(key=lambda item: item.path.name != "test_tiny.py")


def pytest_collection_finish() -> None:
    """Collect garbage rarely: each time all tests and all that jax keeps are walked through, a tenth of the work."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


@pytest.fixture(autouse=True, scope="session")
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Caches of the tests' own, of data and of compiled programs, and a secret: the user's are left alone."""
    names = ("CNNC_DATA", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        os.environ[name] = str(tmp_path_factory.mktemp(name.lower()))
    yield
    for name, value in before.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


@pytest.fixture
def data_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of data of the test's own."""
    monkeypatch.setenv("CNNC_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True, scope="session")
def blank_pictures() -> Iterator[Callable[[pytest.MonkeyPatch], None]]:
    """Have runs save blank pictures, whose drawing is most of a short run; what draws them in truth is returned."""
    from matplotlib.figure import Figure

    from cnnc.training import plots

    save = plots._save

    def draw(patch: pytest.MonkeyPatch) -> None:
        patch.setattr(plots, "Figure", Figure)
        patch.setattr(plots, "_save", save)

    content = io.BytesIO()
    Image.new("L", (1, 1)).save(content, "png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "Figure", MagicMock)
        patch.setattr(plots, "_save", lambda _, path: write_atomically(path, content.getvalue()))
        yield draw


@pytest.fixture
def drawn_pictures(blank_pictures: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs draw their pictures, for a test that looks at them."""
    blank_pictures(monkeypatch)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be written."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, where the PATH has no compiler."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    return tmp_path
