"""Signatures: the named, typed parameters with defaults of a layer, a block or an entry of the train section.

An operator states its parameters once, as the annotated fields of a frozen dataclass; `signature_of` reads them. Blocks
state theirs in the language. Both meet here, so one binder and one set of error messages serve all.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, fields
from functools import cache, cached_property
from typing import Annotated, Any, Final, Literal, get_args, get_origin

from cnnc.frozen import dataclass


@dataclass(frozen=True)
class Type:
    """A parameter's type: `int float bool string dims channels repeats layer tensor padding floats choice any`.

    `choices` are the words that a choice accepts; `optional` admits the word `auto`, which becomes None.
    """

    kind: str
    choices: tuple[str, ...] = ()
    optional: bool = False

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words that stand for themselves where a value of this type is wanted."""
        return (*self.choices, *(("auto",) if self.optional else ()), *(PADDINGS if self.kind == "padding" else ()))

    def __str__(self) -> str:
        return " or ".join(f"`{c}`" for c in self.choices) if self.kind == "choice" else self.kind


class _Required:
    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Final = _Required()


@dataclass(frozen=True)
class Parameter:
    """A named parameter. `default` is `REQUIRED`, a plain value, or (for blocks) an expression tree."""

    name: str
    type: Type
    default: Any = REQUIRED


Dims = Annotated[tuple[int, ...], Type("dims")]
"""One size an axis. In a spec `3x3`; a plain `3` counts for every axis (resolved by `Op.resolve`)."""
OptionalDims = Annotated[tuple[int, ...] | None, Type("dims", optional=True)]
"""Dims that the operator derives when they are None: a pool's stride is its kernel."""
OptionalInt = Annotated[int | None, Type("int", optional=True)]
"""A whole number that the operator derives when it is None: where a slice ends."""
Channels = Annotated[int, Type("channels")]
"""A count of channels: scaled by `width` where a model's body states it."""
Floats = Annotated[tuple[float, ...], Type("floats")]
"""A list of numbers; a plain number is a list of one."""
PADDINGS = ("same", "valid", "half")
"""The words that padding may be."""
Padding = Annotated[str | tuple[tuple[int, int], ...], Type("padding")]
"""`same` (Keras's), `valid`, `half`, or explicit (before, after) an axis; `1` and `1x2` are symmetric."""
Auto = Annotated[bool | None, Type("bool", optional=True)]
"""A bool that the compiler decides when it is None (`auto`)."""

_PLAIN: Mapping[Any, str] = {int: "int", float: "float", bool: "bool", str: "string"}


def signature_of(cls: type) -> tuple[Parameter, ...]:
    """The parameters of a dataclass whose fields are annotated with the types above, `Literal` for choices."""
    return _signature_of(cls)


@cache
def _signature_of(cls: type) -> tuple[Parameter, ...]:
    owners = {name: kind.__module__ for kind in reversed(cls.__mro__) for name in vars(kind).get("__annotations__", ())}
    return tuple(
        Parameter(f.name, type_of(_hint(str(f.type), owners[f.name])), REQUIRED if f.default is MISSING else f.default)
        for f in fields(cls)
        if f.init
    )


@cache
def _hint(annotation: str, module: str) -> Any:
    """An annotation's value, as `get_type_hints` finds it; that evaluates all of a class, which takes longer."""
    return eval(annotation, vars(sys.modules[module]))


def type_of(hint: Any) -> Type:
    """The type that an evaluated annotation states."""
    if get_origin(hint) is Literal:
        return Type("choice", get_args(hint))
    if get_origin(hint) is Annotated:
        kind = get_args(hint)[1]
        assert isinstance(kind, Type), hint
        return kind
    return Type(_PLAIN[hint])
