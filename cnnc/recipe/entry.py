"""The base of everything that an entry of the train section names: a class with names, its arguments as fields."""

from __future__ import annotations

from dataclasses import field, fields
from math import inf
from typing import ClassVar, Final, TypeVar

from cnnc.frozen import dataclass

E = TypeVar("E", bound="Entry")
T = TypeVar("T")


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
class Range:
    """The finite numbers from `low` to `high`, without these where it is open `below` or `above`.

    >>> 1 in Range(0, 1, above=True)
    False
    >>> print(Range(0, 1, above=True))
    be from 0 up to 1
    """

    low: float
    high: float = inf
    below: bool = False
    above: bool = False

    def __contains__(self, number: float) -> bool:
        least = self.low < number if self.below else self.low <= number
        return least and (number < self.high if self.above or self.high == inf else number <= self.high)

    @property
    def bounds(self) -> str:
        """Where a number must lie, as the options and keywords of a training say it."""
        if self.high == inf:
            return f"{'above' if self.below else 'at least'} {self.low}"
        return f"between {self.low} and {self.high}"

    def __str__(self) -> str:
        """The condition on a number, as the train section says it."""
        if self.high == inf:
            return f"be {self.bounds}" if self.below or self.low else "not be negative"
        if self.below:
            return f"be above {self.low} and {'below' if self.above else 'at most'} {self.high}"
        return f"be from {self.low} {'up to' if self.above else 'to'} {self.high}"


UNIT: Final = Range(0, 1)
OPEN_UNIT: Final = Range(0, 1, below=True, above=True)
FRACTION: Final = Range(0, 1, above=True)
POSITIVE: Final = Range(0, below=True)
SHARE: Final = Range(0, 1, below=True)
NOT_NEGATIVE: Final = Range(0)


def number(default: T, range: Range) -> T:
    """A field of an entry that is a number in a range."""
    return field(default=default, metadata={"range": range})


@dataclass(frozen=True)
class Entry:
    """The base of what an entry of the train section names; `noun` says which kind it is of."""

    names: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = ""

    def validate(self) -> None:
        """Raises OutOfRange when a field is outside its range."""
        for each in fields(self):
            if range := each.metadata.get("range"):
                value = getattr(self, each.name)
                wanted = "be finite" if value == inf == range.high else range
                require(value in range, f"`{each.name}` must {wanted}", each.name)


def entries(kind: type[E]) -> dict[str, type[E]]:
    """The classes of a kind (optimizers, say) by each of the names that a spec may call them."""
    found = {name: kind for name in kind.names}
    for each in kind.__subclasses__():
        found |= entries(each)
    return found
