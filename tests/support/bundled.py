"""Bundled specs as graphs, each built once: the large ones take a while."""

from __future__ import annotations

from functools import cache

import cnnc
from cnnc import specs
from cnnc.diagnostics import Source
from cnnc.ir import Graph
from cnnc.language import parse


@cache
def built(name: str) -> Graph:
    """The network of a spec or of a variant, `resnet` or `resnet18`."""
    return cnnc.load(name).graph


def all_names() -> list[str]:
    """`resnet`, `resnet18`, ...: every spec, and each of its variants."""
    found = []
    for name in specs.names():
        variants = parse(Source(name, specs.read(name))).variants
        found += [name, *(f"{name}_{variant.name.text}" for variant in variants)]
    return found
