"""A diagram as a Mermaid flowchart, which Markdown on many sites shows as a picture."""

from __future__ import annotations

from collections.abc import Iterator

from cnnc.rendering.drawing.diagram import Diagram, Part


def to_mermaid(diagram: Diagram) -> bytes:
    """The bytes of a Mermaid file: a node a box, its lines inside, shapes on the edges."""
    lines = ["---", f"title: {diagram.name}", "---", "flowchart TD"]
    lines.extend(f"  {_node(place, part)}" for place, part in enumerate(diagram.parts))
    for source, target in diagram.edges:
        part = diagram.parts[source]
        label = "" if part.kind == "input" else f'|"{part.shape}"|'
        lines.append(f"  n{source} -->{label} n{target}")
    return "\n".join([*lines, ""]).encode()


def _node(place: int, part: Part) -> str:
    text = "<br/>".join(map(_escaped, _texts(part)))
    opening, closing = {"input": ("([", "])"), "output": ("([", "])"), "repeat": ("[[", "]]")}.get(
        part.kind, ("[", "]")
    )
    return f'n{place}{opening}"{text}"{closing}'


def _texts(part: Part) -> Iterator[str]:
    if part.kind in ("input", "output"):
        yield f"{part.title} {part.shape}"
        return
    count = f" x {part.count}" if part.kind == "repeat" else ""
    if part.title:
        yield f"{part.title}{count}"
    for place, line in enumerate(part.lines):
        skips = [source for source in line.sources if source != place - 1]
        yield line.shown + "".join(" + input" if source < 0 else f" + line {source + 1}" for source in skips)


def _escaped(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
