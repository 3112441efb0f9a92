"""How many ways a mesh of devices splits the batch and the large weights: `data=8,model=2` read and checked."""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

from cnnc.diagnostics import CnnError, did_you_mean

AXES: Final = ("data", "model")


class Layout(NamedTuple):
    """Parts that every batch is split into, and parts of every large dense layer."""

    data: int
    model: int


def layout_of(text: str | None, count: int) -> Layout:
    """The layout that a text such as `data=8,model=2` asks of so many devices; what is not said goes to data.

    Raises:
        CnnError: of code `value` for an unknown axis, one that is no positive number or said twice, and for a product
            that is not the number of devices.
    """
    sizes: dict[str, int] = {}
    for part in text.split(",") if text is not None else ():
        name, equals, number = (word.strip() for word in part.partition("="))
        if not equals or not (number.isascii() and number.isdigit()) or not int(number[:9]):
            raise CnnError.of("value", f"the mesh `{text}` is not of the form `data=8,model=2`: found `{part}`")
        if name not in AXES:
            raise CnnError.of(
                "value",
                f"a mesh has no axis `{name}`",
                help=did_you_mean(name, AXES) or "its axes are `data` and `model`, as in data=8,model=2",
            )
        if name in sizes:
            raise CnnError.of("value", f"the mesh `{text}` says `{name}` twice")
        sizes[name] = int(number)
    model = sizes.get("model", 1)
    data = sizes.get("data", max(count // model, 1))
    wanted = data * model
    if wanted != count:
        there = "is 1 device" if count == 1 else f"are {count} devices"
        raise CnnError.of(
            "value", f"the mesh `{text}` wants {wanted} devices, and there {there}", help=_fitting(model, count)
        )
    return Layout(data, model)


def require_even(batch: int, layout: Layout, most: int | None = None) -> None:
    """Raises CnnError of code `value` when the mesh does not split a batch into equal parts.

    `most` is the greatest batch that the data has examples for.
    """
    if batch % layout.data:
        upper = ceil(batch / layout.data) * layout.data
        possible = [str(size) for size in (upper, upper - layout.data) if 0 < size <= (most or upper)]
        raise CnnError.of(
            "value",
            f"a batch of {batch} does not split into the {layout.data} equal parts of the mesh's data axis",
            help=f"--batch {' or '.join(possible)}" if possible else "give it more examples, or fewer devices",
        )


def _fitting(model: int, count: int) -> str:
    """The layout of all devices with as many parts of large weights as asked for, or the most below that."""
    if count % model:
        model = max(size for size in range(1, model) if count % size == 0)
    return f"--mesh data={count // model}" + (f",model={model}" if model > 1 else "")
