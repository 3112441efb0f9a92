"""Bundled specs as graphs, each built once: the large ones take a while."""

from __future__ import annotations

from functools import cache

import cnnc
from cnnc.ir import Graph


@cache
def built(name: str) -> Graph:
    """The network of a spec or of a variant, `resnet` or `resnet18`."""
    return cnnc.load(name).graph
