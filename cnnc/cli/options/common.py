"""The argument and options that every command with a SPEC shares."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from math import isfinite, nan
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import click

from cnnc.cli.console.errors import remember_format
from cnnc.files import require_file, require_folder
from cnnc.overrides import Overrides

F = TypeVar("F", bound=Callable[..., Any])
Named = tuple[str | None, tuple[int, ...]]

_DIMS: Final = re.compile(r"(?:(\w+)=)?(\d{1,9}(?:x\d{1,9})*)", re.ASCII)
_SETTING: Final = re.compile(r"([A-Za-z_]\w*)=(.+)", re.ASCII | re.DOTALL)


class Output(click.Path):
    """A path that a command writes. Whether it can is settled while the command line is read, before any work."""

    def __init__(self, require: Callable[[Path], object]) -> None:
        super().__init__(path_type=Path)
        self.require = require

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Raises CnnError as `require` does. While a shell completes words nothing is looked at."""
        place = Path(value)
        if ctx is None or not ctx.resilient_parsing:
            self.require(place)
        return place


OUTPUT_FILE: Final = Output(require_file)
OUTPUT_FOLDER: Final = Output(require_folder)


def finite(text: str) -> float:
    """A number that is neither infinite nor `nan`."""
    try:
        number = float(text)
    except ValueError:
        number = nan
    if not isfinite(number):
        raise click.BadParameter(f"`{text}` is not a finite number")
    return number


def input_dims(text: str) -> Named:
    """`96x96x1`, or `board=19x19x17` for one of several inputs."""
    match = _DIMS.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"`{text}` is not a shape: write 96x96x1, or board=19x19x17 for one of several inputs")
    return match[1], tuple(map(int, match[2].split("x")))


def setting(text: str) -> tuple[str, str]:
    """`classes=10`."""
    match = _SETTING.fullmatch(text)
    if match is None:
        raise click.BadParameter(f"`{text}` is not NAME=VALUE: write classes=10")
    return match[1], match[2]


def override_options(command: F) -> F:
    """Give a command `--variant`, `--phi`, ..., `--set`; it receives them as `overrides: Overrides`."""
    options = [
        click.option("--variant", metavar="NAME", help="A variant that the spec names, b3 say."),
        click.option("--phi", type=finite, metavar="X", help="Coefficient of the spec's `scale` rule."),
        click.option("--width", type=finite, metavar="X", help="Multiply the channels."),
        click.option("--depth", type=finite, metavar="X", help="Multiply the repeats."),
        click.option("--resolution", type=finite, metavar="X", help="Multiply the input's height and width."),
        click.option("--input", type=input_dims, multiple=True, metavar="DIMS", help="96x96x1, or NAME=DIMS."),
        click.option("--set", "settings", type=setting, multiple=True, metavar="NAME=VALUE", help="classes=10."),
    ]

    @wraps(command)
    def collected(
        *args: Any,
        variant: str | None,
        phi: float | None,
        width: float | None,
        depth: float | None,
        resolution: float | None,
        input: tuple[Named, ...],
        settings: tuple[tuple[str, str], ...],
        **rest: Any,
    ) -> Any:
        overrides = Overrides(variant, phi, width, depth, resolution, input, settings)
        return command(*args, overrides=overrides, **rest)

    for option in reversed(options):
        collected = option(collected)
    return collected  # type: ignore[return-value]  # click calls it by keywords, of which it takes more than `command`


def spec_options(command: F) -> F:
    """Give a command its SPEC and the options that change it; it receives `spec: str, overrides: Overrides`."""
    return click.argument("spec", metavar="SPEC")(override_options(command))


def in_flags(overrides: Overrides) -> list[str]:
    """The options that would give these overrides."""
    plain = {name: getattr(overrides, name) for name in ("variant", "phi", "width", "depth", "resolution")}
    words = [f"--{name}={value}" for name, value in plain.items() if value is not None]
    for name, dims in overrides.input:
        words.append(f"--input={f'{name}=' if name else ''}{'x'.join(map(str, dims))}")
    return [*words, *(f"--set={name}={value}" for name, value in overrides.settings)]


def format_option(*choices: Literal["text", "table", "json"]) -> Callable[[F], F]:
    """`--format`, the first choice being the default; errors come in the format that is asked for."""
    return click.option(
        "--format",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        is_eager=True,
        callback=remember_format,
        help="How to print.",
    )


def split_patterns(given: tuple[str, ...]) -> tuple[str, ...]:
    """Patterns, of which several may be in one text with commas between."""
    return tuple(name.strip() for text in given for name in text.split(",") if name.strip())
