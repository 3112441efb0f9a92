"""What a training needs before its first step: data ready for the network, checked against its losses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cnnc.data.feeding.batches import training_batches
from cnnc.data.feeding.feed import Feed, Shard, prepare
from cnnc.data.sources.data_set import DataSet, Examples, Files, Part, Records
from cnnc.evaluation.output_losses import output_losses, require_classes, require_targets
from cnnc.evaluation.places import require_movable
from cnnc.net import Net
from cnnc.recipe import Loss, Recipe
from cnnc.runs.events import Report, Said, told_to
from cnnc.runs.processes import Team
from cnnc.runs.run_record import open_record
from cnnc.training.loop import Fitted, Plan, fit
from cnnc.training.plots import draw_batch, draw_confusion
from cnnc.training.report_page import write_page
from cnnc.training.tensorboard import recording

_DRAWN = 32


@dataclass(frozen=True, eq=False)
class Prepared:
    """A network's losses, and the data that it is trained on and watched with."""

    losses: tuple[Loss, ...]
    train: Feed
    val: Feed
    classes: tuple[str, ...]


def prepared(
    net: Net,
    recipe: Recipe,
    data: DataSet,
    *,
    skip_corrupt: bool,
    workers: int | None,
    report: Report,
    team: Team | None = None,
) -> Prepared:
    """The data set made ready, this process's part of it where several train. What the user should know is reported.

    Raises:
        CnnError: it does not fit the network, or its batches the devices.
    """
    losses = output_losses(net, recipe)
    require_classes(net, losses, data.classes)
    for line in data.notes:
        report(Said(line))
    shapes = [node.shape for node in net.graph.inputs]
    shard = Shard() if team is None else team.shard
    held = prepare(data.val, shapes, skip_corrupt=skip_corrupt, workers=workers, shard=shard)
    feed = prepare(
        data.train,
        shapes,
        augment=recipe.augment,
        seed=recipe.seed,
        skip_corrupt=skip_corrupt,
        widths=[net.graph[node].shape[-1] for _, node in net.graph.outputs],
        workers=workers,
        shard=shard,
    )
    if team is not None:
        team.devices.require_even(min(recipe.batch, len(feed)), len(feed))
    for part in (feed, held):
        require_targets(net, losses, part)
    require_movable(net, losses, feed)
    say_broken(report, feed, held)
    return Prepared(losses, feed, held, data.classes)


def carried_out(plan: Plan, classes: Sequence[str], weights: Any, report: Report, saved: Any = None) -> Fitted:
    """Train by a plan, with the pictures that come before and after it."""
    if not plan.team.leads:
        return fit(plan, weights, report, saved)
    if not plan.folder.first_batch.exists():
        _draw_first_batch(plan, classes)
    with recording() as record:
        fitted = fit(plan, weights, told_to(report, record), saved)
    head = None if plan.headline is None else fitted.best.scores[plan.headline]
    confusion = None if head is None else head.confusion
    if confusion is not None:
        names = classes or [str(i) for i in range(len(confusion))]
        draw_confusion(plan.folder.confusion, plan.net.name, confusion, names)
    say_broken(report, *(part for part in (plan.train, plan.val) if part.size is not None))
    write_page(open_record(plan.folder.path), fitted.rows, fitted.best.row, head)
    return fitted


def data_digest(*parts: Part) -> str:
    """SHA-256 of names, sizes, places, labels and, of what is in memory, values of all examples, in their order."""
    found = hashlib.sha256()
    for part in parts:
        match part:
            case Examples():
                arrays = [*part.inputs, *part.targets]
            case Files():
                found.update(_sizes(part.paths, lambda path: f"{path.parent.name}/{path.name}"))
                arrays = [part.labels]
            case Records():
                found.update(_sizes(part.paths, lambda path: path.name))
                arrays = [part.file, part.offset, part.length, part.labels]
        for array in arrays:
            found.update(f"{array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()


def _sizes(paths: Sequence[Path], name: Callable[[Path], str]) -> bytes:
    """A line for every file: what it is called wherever its folder lies, and its bytes; of one that is gone none."""
    sizes = (path.stat().st_size if path.exists() else "gone" for path in paths)
    lines = (f"{name(path)} {size}\n" for path, size in zip(paths, sizes, strict=True))
    return "".join(lines).encode(errors="surrogateescape")


def say_broken(report: Report, *feeds: Feed) -> None:
    """Name the pictures that were left out."""
    broken = sorted(set().union(*(feed.broken for feed in feeds)))
    if broken:
        named = ", ".join(str(path) for path in broken[:3]) + (", ..." if len(broken) > 3 else "")
        count = "1 picture" if len(broken) == 1 else f"{len(broken)} pictures"
        report(Said(f"left out, as it cannot be decoded: {count} ({named})"))


def _draw_first_batch(plan: Plan, classes: Sequence[str]) -> None:
    """The first batch of the first epoch, as the network is about to see it; of pictures only."""
    shape = plan.train.shapes[0]
    if len(shape) != 3:
        return
    batch = next(training_batches(plan.train, plan.batch, 1))
    count = min(plan.batch, _DRAWN)
    labels = [_in_words(target, classes) for target in batch.targets[0][:count]]
    draw_batch(plan.folder.first_batch, batch.inputs[0][:count], labels)


def _in_words(target: NDArray[Any], classes: Sequence[str]) -> str:
    """A label by its class's name; mixed ones by both names and the greater's share; nothing for other targets."""
    if target.ndim == 0 and target.dtype == np.int32:
        return classes[int(target)] if classes else str(target)
    if target.ndim != 1 or len(target) != len(classes):
        return ""
    first, *rest = (int(i) for i in np.argsort(-target, kind="stable")[:2] if target[i] > 0.005)
    return " / ".join([f"{classes[first]} {100 * target[first]:.0f} %", *(classes[i] for i in rest)])
