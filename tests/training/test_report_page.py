"""`report.html`: what is in it, that nothing gets out of it, and its small sums."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cnnc.data.sources.folder import load_folder
from cnnc.loading import load_text
from cnnc.runs.events import Row
from cnnc.runs.run_record import open_record
from cnnc.training.report_curves import curves, ticks_of
from cnnc.training.report_page import most_confused, page
from cnnc.training.train import train
from tests.support.pictures import make_tree
from tests.support.small_runs import dense_text

SPEC = dense_text(classes=3, epochs=3)
EVIL = "<script>alert('1')&"


class Outline(HTMLParser):
    """The tags of a page that is well formed, what they link to, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attributes if name in ("src", "href")]
        assert not [name for name, _ in attributes if name.startswith("on")]
        if tag not in ("meta", "link", "img", "line", "polyline", "circle"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    counts = {f"{part}/{name}": count for part, count in (("train", 12), ("val", 5)) for name in (EVIL, "b", "c")}
    trained = train(load_text(SPEC), load_folder(make_tree(root / "data", counts)), out=root / "run")
    return trained.folder


def test_every_run_leaves_a_page_that_asks_for_nothing(run: Path) -> None:
    outline = Outline()
    outline.feed((run / "report.html").read_text())
    assert outline.open == []
    assert "script" not in outline.tags
    assert all(link.startswith(("#", "data:")) for link in outline.links), outline.links
    assert "svg" in outline.tags
    assert len([link for link in outline.links if link.startswith("data:image/png")]) == 1
    for text in (EVIL, "36 examples", "watched with 15", "sgd(momentum=0.9, nesterov=False", "top-1, validation"):
        assert text in outline.text
    assert "dense(4)" in outline.text
    assert f"cnnc eval {run}" in outline.text
    assert "jax 0." in outline.text
    assert "(best)" in outline.text


def test_a_name_in_the_page_is_text_wherever_it_is(run: Path) -> None:
    text = (run / "report.html").read_text()
    assert EVIL not in text
    assert text.count("&lt;script&gt;alert(&#x27;1&#x27;)&amp;") >= 3


def test_a_run_without_classes_has_no_section_of_them(run: Path) -> None:
    row = Row(1, 2.0, 0.1, 1.0, None, 0.5, None, None)
    outline = Outline()
    outline.feed(page(open_record(run), [row], row, None))
    assert "Classes" not in outline.text
    assert "0.5000" in outline.text


def test_a_profile_is_in_the_page(run: Path) -> None:
    (run / "profile.csv").write_text("layer,operator,ms,share\ndense1,dense(4),1.5000,0.750000\n")
    row = Row(1, 2.0, 0.1, 1.0, None, 0.5, None, None)
    text = page(open_record(run), [row], row, None)
    (run / "profile.csv").unlink()
    assert "Time of a step" in text
    assert "75.0 %" in text


def test_the_most_confused_are_pairs_in_order() -> None:
    confusion = np.array([[5, 3, 0], [1, 9, 2], [0, 0, 7]])
    assert most_confused(confusion) == [(0, 1, 3, 3 / 8), (1, 2, 2, 2 / 12), (1, 0, 1, 1 / 12)]
    assert most_confused(np.diag([3, 4])) == []
    assert len(most_confused(np.ones((5, 5), np.int64))) == 15


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.25, 0.5, 0.75, 1]),
        (1.49, 2.29, [1.4, 1.6, 1.8, 2.0, 2.2, 2.4]),
        (3, 3, [3, 4]),
        (0, 0, [0, 0.25]),
        (12, 98.2, [0, 25, 50, 75, 100]),
    ],
)
def test_ticks_are_round_and_hold_all(low: float, high: float, ticks: list[float]) -> None:
    found = ticks_of(low, high)
    assert found == pytest.approx(ticks)


def test_a_loss_that_is_no_number_leaves_a_gap() -> None:
    rows = [
        Row(epoch, 1.0, 0.1, loss, None, 1.0, None, None) for epoch, loss in ((1, 2.0), (2, float("nan")), (3, 1.0))
    ]
    text = curves(rows, rows[0])
    assert "nan" not in text
    points = re.search(r'class="train" points="([^"]*)"', text)
    assert points is not None
    assert len(points[1].split()) == 2
