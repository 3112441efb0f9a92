"""The options of `cnnc compile` on int8 files: their ends, what ranges are measured on, and their accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click
from click.core import ParameterSource

from cnnc.cli.options.model import crop_option, refuse

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Int8Options:
    """The options on int8 files as they were given."""

    io: Literal["int8", "uint8", "float32"] | None
    calibrate: str | None
    samples: int
    ranges: Literal["auto", "minmax", "percentile", "mse", "entropy"]
    data: str | None
    data_dir: Path | None
    skip_corrupt: bool
    crop: float

    def refuse(self, context: click.Context) -> None:
        """Raises UsageError for those that a target without int8 does not take."""
        ranges_given = context.get_parameter_source("ranges") is ParameterSource.COMMANDLINE
        samples_given = context.get_parameter_source("samples") is ParameterSource.COMMANDLINE
        options: list[tuple[str, object]] = [("--io", self.io), ("--calibrate", self.calibrate)]
        options += [("--samples", samples_given), ("--ranges", ranges_given)]
        options += [("--data", self.data), ("--crop", self.crop != 1)]
        refuse("the targets tflite-int8 and edgetpu", options)


_OPTIONS: Final[tuple[Callable[..., Any], ...]] = (
    click.option("--io", type=click.Choice(["int8", "uint8", "float32"]), help="Type at the ends of an int8 file."),
    click.option(
        "--calibrate",
        metavar="DATA",
        help="What to measure int8 ranges on: a set, a folder, an .npz.  [default: what the run was trained on]",
    ),
    click.option(
        "--samples",
        type=click.IntRange(min=1),
        default=100,
        show_default=True,
        metavar="N",
        help="How many examples.",
    ),
    click.option(
        "--ranges",
        type=click.Choice(["auto", "minmax", "percentile", "mse", "entropy"]),
        default="auto",
        show_default=True,
        help="How to choose int8 ranges; auto tries all ways and takes the one that loses least.",
    ),
    click.option("--data", metavar="D", help="Set top-1 of float and of int8 side by side on this data set."),
    click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Where a data set by name lies."),
    click.option("--skip-corrupt", is_flag=True, help="Leave out pictures that cannot be decoded."),
    crop_option,
)


def int8_options(command: F) -> F:
    """Give a command the options on int8 files, which it receives as `int8`."""

    @wraps(command)
    def collected(*args: Any, **given: Any) -> Any:
        int8 = Int8Options(**{field.name: given.pop(field.name) for field in fields(Int8Options)})
        return command(*args, int8=int8, **given)

    found: Any = collected  # click calls it by keywords, of which it takes more than `command`
    for option in reversed(_OPTIONS):
        found = option(found)
    return found  # type: ignore[no-any-return]
