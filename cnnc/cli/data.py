"""`cnnc data stats` and `cnnc data verify`: what a data set holds, and whether all of it can be read."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from cnnc.cli.console.extras import extra
from cnnc.cli.console.terminal import echo, echo_block, echo_json
from cnnc.cli.options.common import format_option
from cnnc.diagnostics import CnnError
from cnnc.rendering.text_table import box

if TYPE_CHECKING:
    from cnnc.data.sources.data_set import DataSet
    from cnnc.data.statistics import PartStatistics, Repeated

_LISTED = 20


@click.group("data")
def data() -> None:
    """Look at a data set before training on it: D is a name, a folder of pictures or of record files."""


def _options(command: Any) -> Any:
    for option in (
        format_option("text", "json"),
        click.option("--grey", is_flag=True, help="Measure brightness in place of the three colours."),
        click.option(
            "--data-dir",
            type=click.Path(path_type=Path),
            metavar="DIR",
            help="Where the files of a data set by name lie; without it they are downloaded once.",
        ),
        click.argument("name", metavar="D"),
    ):
        command = option(command)
    return command


@data.command("stats")
@_options
def stats(name: str, data_dir: Path | None, grey: bool, format: Literal["text", "json"]) -> None:
    """Count pictures, classes and sizes of D, and measure its colours.

    The last line is the layer that brings the training pictures to mean 0 and deviation 1.
    """
    from cnnc.data.statistics import normalize_line

    data_set, found, repeated = _inspected(name, data_dir, grey)
    if format == "json":
        parts = [{**_in_words(part, data_set), "normalize": normalize_line(part)} for part in found]
        echo_json({"data": name, "parts": parts, "repeated": len(repeated)})
        return
    echo(f"{name}: {len(data_set.classes)} classes")
    for note in data_set.notes:
        echo(note)
    rows = [
        (
            part.part,
            f"{part.count:,}",
            f"{len(part.broken):,}",
            _sizes(part),
            f"{part.bytes / 1e6:,.1f} MB" if part.bytes else "",
            " ".join(f"{value:.1f}" for value in part.mean),
            " ".join(f"{value:.1f}" for value in part.deviation),
        )
        for part in found
    ]
    echo_block(box(("part", "pictures", "broken", "sizes", "files", "mean", "deviation"), [rows], right=(1, 2, 4)))
    _show_classes(data_set, found)
    if repeated:
        echo(f"{len(repeated):,} pictures are in two parts; `cnnc data verify` names them")
    echo("", f"  {normalize_line(found[0])}")


@data.command("verify")
@_options
def verify(name: str, data_dir: Path | None, grey: bool, format: Literal["text", "json"]) -> None:
    """Decode every picture of D, and name those that cannot be read and those that two parts have.

    Exit status 1 when there are any.
    """
    foreign = _foreign(name, data_dir)
    data_set, found, repeated = _inspected(name, data_dir, grey)
    broken = [each for part in found for each in part.broken]
    empty = [(part.part, data_set.classes[i]) for part in found for i, n in enumerate(part.counts) if not n]
    if format == "json":
        echo_json(
            {
                "data": name,
                "pictures": sum(part.count for part in found),
                "foreign": foreign,
                "broken": [{"name": str(each.name), "reason": each.reason} for each in broken],
                "repeated": [{key: str(value) for key, value in asdict(each).items()} for each in repeated],
                "empty": [{"part": part, "class": label} for part, label in empty],
            }
        )
    else:
        if foreign:
            echo(foreign)
        for each in broken:
            echo(each.reason if str(each.name) in each.reason else f"`{each.name}`: {each.reason}")
        for twice in repeated:
            echo(f"`{twice.name}` ({twice.part}) is the same picture as `{twice.other}` ({twice.other_part})")
        for part, label in empty:
            echo(f"class `{label}` has no pictures in {part}")
        total = sum(part.count for part in found)
        echo(f"{total:,} pictures: {len(broken):,} broken, {len(repeated):,} in two parts")
    if broken or repeated or foreign:
        click.get_current_context().exit(1)


def _foreign(name: str, folder: Path | None) -> str | None:
    """The refusal of training for the first file among the pictures that is none, if there is one."""
    with extra("train", "looking at data"):
        from cnnc.data.sources.by_name import load_data
        from cnnc.data.sources.folder import Options
    try:
        load_data(name, folder=folder)
    except CnnError as error:
        # What is worse than that, the next load says too.
        load_data(name, folder=folder, options=Options(skip_corrupt=True))
        return error.diagnostics[0].message
    return None


def _inspected(name: str, folder: Path | None, grey: bool) -> tuple[DataSet, list[PartStatistics], list[Repeated]]:
    with extra("train", "looking at data"):
        from cnnc.data.sources.by_name import load_data
        from cnnc.data.sources.folder import Options
        from cnnc.data.statistics import inspect
    options = Options(skip_corrupt=True)
    data_set = load_data(name, folder=folder, options=options, report=lambda line: echo(line, err=True))
    if not data_set.classes:
        raise CnnError.of("data", f"`{name}` has no classes")
    return data_set, *inspect(data_set, 1 if grey else 3)


def _in_words(part: PartStatistics, data_set: DataSet) -> dict[str, Any]:
    words = asdict(part)
    words["counts"] = dict(zip(data_set.classes, part.counts, strict=True))
    words["broken"] = [str(each.name) for each in part.broken]
    return words


def _sizes(part: PartStatistics) -> str:
    """The commonest size, or the range."""
    if not part.sizes:
        return ""
    if len(part.sizes) == 1:
        return f"{part.sizes[0].width}x{part.sizes[0].height}x{part.sizes[0].channels}"
    widths, heights = [size.width for size in part.sizes], [size.height for size in part.sizes]
    return f"{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high"


def _show_classes(data_set: DataSet, found: list[PartStatistics]) -> None:
    from cnnc.data.statistics import unbalanced

    names = data_set.classes
    rows = [(label, *(f"{part.counts[i]:,}" for part in found)) for i, label in enumerate(names[:_LISTED])]
    echo_block(box(("class", *(part.part for part in found)), [rows], right=tuple(range(1, len(found) + 1))))
    if len(names) > _LISTED:
        echo(f"and {len(names) - _LISTED:,} classes more; `--format json` has them all")
    ratio = unbalanced(found[0].counts)
    if ratio > 1.5:
        echo(f"the largest class has {ratio:.1f} times the training pictures of the smallest")
