"""What docs/language.md is made of: its examples, and the tables that the code could write, also of other pages."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnc import ops
from cnnc.diagnostics import Source
from cnnc.elaboration import arithmetic, graph_builder, limits, location, namespace
from cnnc.language import brackets, parse, parser, tree_reader
from cnnc.ops import (
    Op,
    activation,
    attention,
    convolution,
    dense,
    merge,
    normalization,
    pooling,
    preprocessing,
    regularization,
    shape,
)
from cnnc.ops.signature import REQUIRED, Parameter, signature_of
from cnnc.recipe import SETTINGS, Entry, Setting
from cnnc.recipe.entry import entries
from tests.support.paths import ROOT
from tests.support.strategies import ranks

MANUAL = ROOT / "docs" / "language.md"
TRAINING = ROOT / "docs" / "training.md"


@dataclass(frozen=True)
class Example:
    """A fenced block: the words after the fence, its text, and the line of the manual that it starts on."""

    words: tuple[str, ...]
    text: str
    line: int


def examples() -> list[Example]:
    """Every fenced block of the manual, in order."""
    manual = MANUAL.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"^```(.*)\n((?s:.*?))^```$", manual, re.MULTILINE):
        found.append(Example(tuple(match[1].split()), match[2], manual[: match.start()].count("\n") + 2))
    return found


# Tables

_MODULES: Mapping[str, ModuleType] = {
    "convolution": convolution,
    "dense": dense,
    "normalization": normalization,
    "activation": activation,
    "pooling": pooling,
    "merge": merge,
    "shape": shape,
    "preprocessing": preprocessing,
    "regularization": regularization,
    "attention": attention,
}
_KINDS: Mapping[str, type[Entry]] = {each.name: each.of for each in SETTINGS.values() if each.of is not Entry}


def tables() -> dict[str, str]:
    """The tables by the names in their markers, `<!-- table: convolution -->`."""
    found = {name: _operators(module) for name, module in _MODULES.items()}
    found |= {name: _entries(name, kind) for name, kind in _KINDS.items()}
    return found | {"blocks": _blocks(), "recipe": _recipe(), "limits": _limits()}


PAGES: Mapping[Path, Callable[[], Mapping[str, str]]] = {MANUAL: tables, TRAINING: lambda: {"settings": _settings()}}
"""The pages that have tables of the code, each with these."""


def with_tables(page: Path) -> str:
    """A page of the manual with every table as the code has it now."""
    manual = page.read_text(encoding="utf-8")
    for name, table in PAGES[page]().items():
        pattern = rf"(<!-- table: {name} -->\n).*?(<!-- end -->)"
        manual, count = re.subn(pattern, lambda m, table=table: f"{m[1]}{table}\n{m[2]}", manual, flags=re.DOTALL)  # type: ignore[misc]  # bound at once
        assert count == 1, f"{page.name} has {count} places for the table {name}"
    return manual


def _operators(module: ModuleType) -> str:
    rows = [("operator", "parameters", "axes", "what it does")]
    for kind in Op.__subclasses__():
        if kind.__module__ == module.__name__ and kind.names:
            rows.append((_names(kind.names), _parameters(kind), _axes(kind), _summary(kind)))
    return _table(rows)


def _entries(name: str, kind: type[Entry]) -> str:
    rows = [(name, "parameters", "what it does")]
    rows += [(_names(each.names), _parameters(each), _summary(each)) for each in dict.fromkeys(entries(kind).values())]
    return _table(rows)


def _blocks() -> str:
    text = files("cnnc.grammar").joinpath("prelude.cnn").read_text(encoding="utf-8")
    rows = [("block", "parameters", "what it is")]
    for block in parse(Source("prelude", text)).blocks:
        parameters = ", ".join(" ".join(p.span.text.split()) for p in block.parameters)
        above = text[: block.span.start].rstrip("\n").split("\n")
        comments: list[str] = []
        while above and above[-1].startswith("#"):
            comments.insert(0, above.pop().lstrip("# "))
        if comments:  # without a comment it is the prelude's own affair
            rows.append((f"`{block.name.text}`", f"`{parameters}`", " ".join(comments)))
    return _table(rows)


def _recipe() -> str:
    rows = [(f"`{each.name}`", _taken(each), _left_out(each)) for each in SETTINGS.values()]
    return _table([("entry", "what it takes", "left out"), *rows])


def _settings() -> str:
    rows = [(f"`{each.name}`", _taken(each), each.purpose, _flag(each)) for each in SETTINGS.values()]
    return _table([("entry", "what it takes", "what it is for", "flag"), *rows])


def _taken(setting: Setting) -> str:
    takes_none = setting.default in (None, ()) and setting.kind in ("whole", "number", "calls")
    return {
        "name": "a name, or a path in quotes",
        "path": "a path in quotes",
        "whole": f"a whole number from {setting.range.low}",
        "number": f"a number {str(setting.range).removeprefix('be ')}",
        "choice": " or ".join(map(_code, setting.choices)),
        "switch": "`on` or `off`",
        "call": _names(tuple(entries(setting.of))),
        "calls": f"{_names(tuple(entries(setting.of)))}, joined by `\\|`",
        "loss_by_output": f"{_names(tuple(entries(setting.of)))}, or one for each output: `label: mse`",
        "patterns": '`stem, "blocks.*"`: labels, or patterns in quotes',
        "epoch_by_label": "`features: 5`: a label and an epoch, or several",
        "rate_by_label": "`head: 0.01`: a label and a rate, or several",
    }[setting.kind] + (", or `none`" if takes_none else "")


def _left_out(setting: Setting) -> str:
    match setting.kind:
        case "name":
            return f"what `--{setting.name}` says"
        case "call":
            return _code(_call(setting.default))
        case "loss_by_output":
            return _code(_call(setting.default[0][1]))
        case "switch":
            return "`on`" if setting.default else "`off`"
        case "path" | "patterns" | "epoch_by_label" | "rate_by_label":
            return "nothing"
    return "`none`" if setting.default in (None, ()) else _code(setting.default)


def _flag(setting: Setting) -> str:
    if not setting.flag and setting.kind in ("call", "calls", "loss_by_output"):
        return ""
    flag = _code(setting.flag or f"--{setting.name.replace('_', '-')}")
    return f"{flag}, also with `--resume`" if setting.resumable else flag


def _code(text: object) -> str:
    return f"`{text}`"


def _limits() -> str:
    rows = [
        ("limit", ""),
        ("characters in a file", f"{parser.LONGEST_FILE:,}"),
        ("words, numbers and signs in a file", f"{parser.MOST_TOKENS:,}"),
        ("characters in a name, in a string", f"{tree_reader.LONGEST_NAME:,}, {tree_reader.LONGEST_STRING:,}"),
        ("digits of a number", f"{tree_reader.MOST_DIGITS}, and as many of what it is computed to"),
        ("entries in a pair of brackets", f"{tree_reader.MOST_ENTRIES:,}"),
        ("brackets within brackets", f"{brackets.DEEPEST_BRACKETS}"),
        ("expressions within expressions", f"{tree_reader.DEEPEST_EXPRESSION}"),
        ("files imported, in all and one by another", f"{namespace.MOST_FILES}, {namespace.DEEPEST_IMPORTS} deep"),
        ("blocks that call blocks", f"{location.DEEPEST_CALLS} deep"),
        ("steps of expansion", f"{limits.MOST_STEPS:,}, and {limits.STEPS_A_LAYER} for each layer"),
        ("layers", f"{graph_builder.MOST_NODES:,}"),
        (
            "values of a result, weights of a network",
            f"{graph_builder.LARGEST_TENSOR:,}, {graph_builder.MOST_WEIGHTS:,}",
        ),
    ]
    assert 10**tree_reader.MOST_DIGITS == arithmetic.LARGEST
    return _table(rows)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _parameters(kind: type) -> str:
    written = ", ".join(_parameter(p) for p in signature_of(kind))
    return f"`{written}`" if written else ""


def _parameter(parameter: Parameter) -> str:
    if parameter.default is REQUIRED:
        return parameter.name
    return f"{parameter.name}={_default(parameter)}"


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if value is None:
        return "auto"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, value))}]" if len(value) != 1 else _written(value[0])
    return _written(value)


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _call(entry: Entry) -> str:
    """An entry as a spec would say it, with what is not its default."""
    given = [(p.name, getattr(entry, p.name)) for p in signature_of(type(entry)) if getattr(entry, p.name) != p.default]
    arguments = ", ".join(f"{name}={_written(value)}" for name, value in given)
    return f"{entry.names[0]}({arguments})" if arguments else entry.names[0]


def _axes(kind: type[Op]) -> str:
    found = ranks(kind)
    if len(found) == 1:
        return f"{found[0]}"
    return "any" if 0 in found else f"{found[0]} to {found[-1]}"


def _summary(kind: type) -> str:
    """The first paragraph of a docstring, on one line."""
    paragraph = cleandoc(kind.__doc__ or "").split("\n\n")[0]
    return " ".join(paragraph.split()).replace("|", "\\|")


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    head, *body = rows
    lines = [head, tuple("---" for _ in head), *body]
    return "\n".join(f"| {' | '.join(cell for cell in row)} |" for row in lines)


def every_name() -> Iterator[str]:
    """All that the manual has to mention: operators, blocks, and the entries of the train section."""
    yield from ops.OPS
    yield from SETTINGS
    for kind in _KINDS.values():
        yield from entries(kind)
