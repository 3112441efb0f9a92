"""The page of `cnnc activations`, read back as a browser would."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path


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
