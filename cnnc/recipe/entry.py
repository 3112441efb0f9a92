"""What an entry of the train section may name: a class with names, and with its arguments as fields."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from cnnc.frozen import dataclass

E = TypeVar("E", bound="Entry")


class OutOfRange(ValueError):
    """A field outside its range; `attribute` names it."""

    def __init__(self, message: str, attribute: str) -> None:
        super().__init__(message)
        self.message = message
        self.attribute = attribute


def require(holds: bool, message: str, attribute: str) -> None:
    """Raises OutOfRange with the message unless the condition holds."""
    if not holds:
        raise OutOfRange(message, attribute)


@dataclass(frozen=True)
class Entry:
    """What an entry of the train section may name; `noun` says which kind it is of."""

    names: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = ""

    def validate(self) -> None:
        """Raises OutOfRange when a field is outside its range."""


def entries(kind: type[E]) -> dict[str, type[E]]:
    """The classes of a kind (optimizers, say) by each of the names that a spec may call them."""
    found = {name: kind for name in kind.names}
    for each in kind.__subclasses__():
        found |= entries(each)
    return found
