"""Patterns over the layers of a network: names, the labels and blocks that layers lie in, and globs of either.

`stem` is every layer beneath the label, `blocks.0` a block, `resnet.2.*.bn*` the norms of a stage, `*` all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from cnnc.diagnostics import CnnError, Span, did_you_mean
from cnnc.ir import Graph

_LISTED: Final = 12


def layers_of(graph: Graph, pattern: str, span: Span | None = None) -> frozenset[str]:
    """The nodes that a pattern means, and those that share weights with them.

    Raises:
        CnnError: of code `train`, when it means none that has weights; `span` is where it is written.
    """
    named = {node.name for node in graph if matches(node.name, pattern)}
    weighted = [node for node in graph if graph.weights(node)]
    owners = {graph[name].owner for name in named} & {node.name for node in weighted}
    if not owners:
        known = [name for node in weighted for name in (*scopes(node.name), node.name)]
        labels = list(dict.fromkeys(re.split(r"[./]", name)[0] for name in known))
        listed = ", ".join(f"`{label}`" for label in labels[:_LISTED]) + (", ..." if labels[_LISTED:] else "")
        what = "has no weights in" if named else "matches no layer of"
        close = did_you_mean(pattern, known)
        help = f"its labels are {listed}" if close is None or len(labels) <= _LISTED // 2 else ""
        raise CnnError.of(
            "train",
            f"`{pattern}` {what} `{graph.name}`",
            span,
            help=" ".join(part for part in (close, help) if part),
        )
    return frozenset(named | {node.name for node in graph if node.owner in owners})


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern means a layer: by its name, or by a label or block that it lies in."""
    return fnmatchcase(name, pattern) or any(fnmatchcase(scope, pattern) for scope in scopes(name))


def scopes(name: str) -> Iterator[str]:
    """The labels and blocks that a name lies in, outermost first: `a` and `a.0` of `a.0.conv1`."""
    for found in re.finditer(r"[./]", name):
        if found.start():
            yield name[: found.start()]
