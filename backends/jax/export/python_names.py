"""Python names for what a spec names: labels where there are some, never a name that means something already."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterable, Iterator, Sequence

from cnnc.backends.jax.export import module_functions
from cnnc.ir import Node

TAKEN = frozenset(
    {*vars(module_functions), *dir(builtins), *keyword.kwlist, *keyword.softkwlist}
    | {"Params", "params", "name", "init", "apply", "key", "keys", "x", "y", "i", "p"}
)
"""Names that a written module uses itself."""
_AUTOMATIC = re.compile(r"[A-Za-z_0-9]*[0-9]")
"""As the compiler names what has no label: `conv1`, `repeat2`, or the number of a turn."""


class Names:
    """Names of one function, each given once."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._given = {*TAKEN, *taken}

    def give(self, wanted: str) -> str:
        """The name that is wanted, or one like it that is free."""
        word = re.sub(r"\W", "_", wanted, flags=re.ASCII) or "value"
        word = f"_{word}" if word[0].isdigit() else word
        found = f"{word}_" if word in TAKEN else word
        number = 2
        while found in self._given:
            found, number = f"{word}_{number}", number + 1
        self._given.add(found)
        return found


def label_of(node: Node, readers: Sequence[Node], is_output: bool, prefix: str) -> str | None:
    """The label of a value: the outermost scope that holds the node and not all of its readers, or the node itself.

    None where the spec gives no label, and the compiler's own name is all there is. `prefix` is the scope of the
    function that is written, whose own name says nothing in it.
    """
    label = outermost(node, readers, is_output, prefix)
    return None if _AUTOMATIC.fullmatch(label) else label


def outermost(node: Node, readers: Sequence[Node], is_output: bool, prefix: str) -> str:
    """The first part of a node's path, below `prefix`, that its readers do not share."""
    own = relative(node.name, prefix).split(".")
    shared = len(own) - 1
    for reader in readers:
        other = relative(reader.name, prefix).split(".")
        shared = min(shared, sum(1 for _ in _common(own, other)))
    return own[0 if is_output else shared]


def relative(name: str, prefix: str) -> str:
    """A node's name within a scope; names outside it, which share nothing with it, are empty."""
    if not prefix:
        return name
    return name.removeprefix(f"{prefix}.") if name.startswith(f"{prefix}.") else ""


def _common(own: Sequence[str], other: Sequence[str]) -> Iterator[str]:
    for mine, theirs in zip(own[:-1], other, strict=False):
        if mine != theirs:
            return
        yield mine
