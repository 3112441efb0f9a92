"""The command activations, a small network for it, and what its page holds."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from click.testing import Result

from tests.support.calling import call
from tests.support.paths import SHARED

CORAL = SHARED / "data" / "coral"
GOOGLE = CORAL / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
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
"""The layers of it that are shown by default."""


def activations(*arguments: object) -> Result:
    """How `cnnc activations` ended."""
    return call("activations", *arguments)


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


def read_page(folder: Path) -> Page:
    """The page that `cnnc activations` wrote to a folder: it asks for nothing else, and its links lead somewhere."""
    text = (folder / "index.html").read_text(encoding="utf-8")
    page = Page(text)
    assert all(each.startswith("data:") for each in page.asked)
    assert "script" not in page.counts
    assert "url(" not in text
    assert all(link.startswith("#") and link[1:] in page.anchors for link in page.links)
    return page
