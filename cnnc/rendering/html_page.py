"""Building blocks of HTML pages: one file, no script, nothing loaded from elsewhere.

Cells and sections are HTML already: whoever makes them escapes what is text.
"""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence

from cnnc.printable import printable
from cnnc.rendering.html_style import CSS

Section = tuple[str, str, str]
"""Its anchor, its heading in plain text, and its HTML."""


def document(
    title: str, heading: str, subtitle: str, generator: str, sections: Sequence[Section], css: str = ""
) -> str:
    """A whole page. All but `subtitle`, the sections' HTML and `css` is plain text.

    Args:
        title: of the browser's window.
        heading: over the page.
        subtitle: HTML below it.
        generator: what made the page.
        sections: in their order; links to them come first.
        css: more rules of style.
    """
    links = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{escape(name)}</h2>{content}</section>' for key, name, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{escape(generator)}"><title>{escape(title)}</title>'
        f'<link rel="icon" href="data:,"><style>{CSS}{css}</style></head>\n<body><header><h1>{escape(heading)}</h1>'
        f'<p class="pale">{subtitle}</p><nav aria-label="Sections">{links}</nav></header>\n<main>{body}'
        f"<footer>Made by {escape(generator)}.</footer></main></body></html>\n"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], label: str) -> str:
    """A table that scrolls by itself; `*` before a head marks a column of words."""
    kinds = [' class="word"' if head.startswith("*") else "" for head in heads]
    top = "".join(f'<th scope="col"{kind}>{head.lstrip("*")}</th>' for head, kind in zip(heads, kinds, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, kinds, strict=True)) + "</tr>"
        for row in rows
    )
    found = f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{found}</div>'


def escape(text: str) -> str:
    """A text as it is shown: markup is none, and what would turn or hide letters is spelt out."""
    return html.escape(printable(text))


def breakable(name: str) -> str:
    """A layer's name, escaped, that goes on in the next line between its parts."""
    return re.sub(r"([./])", r"\1<wbr>", escape(name))


def png_address(png: bytes) -> str:
    """A picture as the address of itself."""
    return f"data:image/png;base64,{b64encode(png).decode()}"
