"""Train a network on a data set and leave a run's folder behind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.arrays import Arrays, arrays_data_set
from cnnc.data.batches import training_batches
from cnnc.data.feed import Feed, prepare
from cnnc.data.folder import Options
from cnnc.data.load import NAMES, load_data
from cnnc.data.sources import DataSet
from cnnc.diagnostics import CnnError
from cnnc.net import Net
from cnnc.recipe import Recipe
from cnnc.training.evaluation import Weights
from cnnc.training.events import Report, Row, Said, ignore
from cnnc.training.first import first_weights
from cnnc.training.fit import Plan, fit
from cnnc.training.folder import RunFolder, claim
from cnnc.training.learning import in_words, learning_groups
from cnnc.training.metrics import Scores
from cnnc.training.objective import classified, output_losses, require_classes, require_targets
from cnnc.training.plots import draw_batch, draw_confusion
from cnnc.training.record import DataNote, graph_hash, write_record

_DRAWN = 32

Data = DataSet | tuple[Arrays, Arrays] | str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Trained:
    """A training's outcome. `weights` are those of the best epoch, `scores` its validation scores for every output."""

    folder: Path
    rows: tuple[Row, ...]
    best: Row
    scores: tuple[Scores, ...]
    weights: Weights


@dataclass(frozen=True)
class Origin:
    """Where a data set came from, for the run's record: what `--data`, `--data-dir` and `--split` said."""

    data: str = "arrays"
    folder: Path | None = None
    held_out: float = 0.2


def train(
    net: Net,
    data: Data,
    val: tuple[Arrays, Arrays] | None = None,
    *,
    epochs: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    precision: Literal["f32", "bf16"] | None = None,
    weights: str | os.PathLike[str] | Weights | None = None,
    freeze: str | Sequence[str] | None = None,
    unfreeze: Sequence[tuple[int, str]] | None = None,
    rates: Mapping[str, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_corrupt: bool = False,
    workers: int | None = None,
    origin: Origin | None = None,
    report: Report = ignore,
) -> Trained:
    """Train a network as the train section of its spec says, or as the arguments do that are not None.

    Args:
        net: the network.
        data: arrays `(x, y)`, where either may be a tuple or a dict by name for several inputs or outputs; or the name
            of a data set, or a folder of pictures; or a `DataSet`.
        val: arrays to validate on; without them a fifth of `data` is held out.
        epochs: passes over the data.
        batch: examples a step.
        lr: the schedule's peak.
        seed: of the first weights, the order of examples, augmentation and dropout.
        precision: what to compute in; weights are float32 either way.
        weights: what to start from: a file of weights or a run's folder, or arrays by node and short name. Layers that
            they do not fit are initialised and named.
        freeze: layers that do not learn, by their names, the labels that they lie in, or globs of these.
        unfreeze: pairs of an epoch, counted from 1, and a pattern of what learns from it on.
        rates: the schedule's peak for layers of their own, by pattern.
        out: the run's folder, new or empty; by default the next free `runs/<model>/exp<n>`.
        skip_corrupt: leave out pictures that cannot be decoded.
        workers: threads that decode and augment pictures, one a core by default; they change nothing but the time.
        origin: where a `DataSet` came from.
        report: is told how it goes.

    Raises:
        CnnError: the data does not fit the network, or the loss stopped being a number.
    """
    recipe = overridden(net.recipe, epochs=epochs, batch=batch, lr=lr, seed=seed, precision=precision)
    recipe = transferring(recipe, weights=weights, freeze=freeze, unfreeze=unfreeze, rates=rates)
    groups = learning_groups(net.graph, recipe)
    first = backends.load("jax", "init").initialize(net.graph, recipe.seed)
    given = recipe.weights if weights is None or isinstance(weights, str | os.PathLike) else weights
    notes = in_words(net.graph, groups)
    if given is not None:
        first, told = first_weights(net.graph, given, first)
        notes = [*told, *notes]
    losses = output_losses(net, recipe)
    data_set, origin = _data_set(net, data, val, Options(seed=recipe.seed, skip_corrupt=skip_corrupt), origin, report)
    require_classes(net, losses, data_set.classes)
    for line in (*data_set.notes, *notes):
        report(Said(line))
    shapes = [node.shape for node in net.graph.inputs]
    held = prepare(data_set.val, shapes, skip_corrupt=skip_corrupt, workers=workers)
    feed = prepare(
        data_set.train,
        shapes,
        augment=recipe.augment,
        seed=recipe.seed,
        skip_corrupt=skip_corrupt,
        widths=[net.graph[node].shape[-1] for _, node in net.graph.outputs],
        workers=workers,
    )
    for part in (feed, held):
        require_targets(net, losses, part)
    _say_broken(report, feed, held)
    if recipe.batch > len(feed):
        report(Said(f"a batch is {len(feed)}, as there are no more pictures"))
    folder = claim(net.name, None if out is None else Path(out))
    note = DataNote(
        origin.data if origin.data in (*NAMES, "arrays") else os.path.abspath(os.path.expanduser(origin.data)),
        None if origin.folder is None else os.path.abspath(origin.folder),
        origin.held_out,
        recipe.seed,
        data_set.classes,
        len(feed),
        len(held),
    )
    write_record(folder, net, recipe, note)
    metadata = {"model": net.name, "graph_sha256": graph_hash(net.graph)}
    plan = Plan(net, recipe, losses, classified(net, losses, feed), feed, held, folder, metadata, groups)
    _draw_first_batch(plan, data_set.classes)
    fitted = fit(plan, first, report)
    _draw_confusion(plan, folder, fitted.best.scores, data_set.classes)
    _say_broken(report, *(part for part in (feed, held) if part.size is not None))
    return Trained(folder.path, fitted.rows, fitted.best.row, fitted.best.scores, fitted.best.weights)


def overridden(
    recipe: Recipe,
    *,
    epochs: int | None,
    batch: int | None,
    lr: float | None,
    seed: int | None,
    precision: Literal["f32", "bf16"] | None,
) -> Recipe:
    """The recipe with what is not None in place of its own. Raises CnnError for a value outside its range."""
    for name, value in (("epochs", epochs), ("batch", batch)):
        if value is not None and value < 1:
            raise CnnError.of("value", f"`{name}` must be at least 1, found {value}")
    if lr is not None and not 0 < lr < float("inf"):
        raise CnnError.of("value", f"`lr` must be above 0, found {lr}")
    changes: dict[str, Any] = {"epochs": epochs, "batch": batch, "seed": seed, "precision": precision}
    changed = replace(recipe, **{name: value for name, value in changes.items() if value is not None})
    return changed if lr is None else replace(changed, schedule=replace(recipe.schedule, peak=lr))


def transferring(
    recipe: Recipe,
    *,
    weights: str | os.PathLike[str] | Weights | None,
    freeze: str | Sequence[str] | None,
    unfreeze: Sequence[tuple[int, str]] | None,
    rates: Mapping[str, float] | None,
) -> Recipe:
    """The recipe with what is not None in place of its own; arrays are called `arrays`."""
    if weights is not None:
        recipe = replace(recipe, weights=os.fspath(weights) if isinstance(weights, str | os.PathLike) else "arrays")
    if freeze is not None:
        recipe = replace(recipe, freeze=(freeze,) if isinstance(freeze, str) else tuple(freeze))
    if unfreeze is not None:
        recipe = replace(recipe, unfreeze=tuple(unfreeze))
    return recipe if rates is None else replace(recipe, rates=tuple(rates.items()))


def _data_set(
    net: Net, data: Data, val: tuple[Arrays, Arrays] | None, options: Options, origin: Origin | None, report: Report
) -> tuple[DataSet, Origin]:
    if isinstance(data, DataSet):
        return data, origin or Origin(data.name)
    if isinstance(data, str | os.PathLike):
        loaded = load_data(os.fspath(data), options=options, report=lambda line: report(Said(line)))
        return loaded, Origin(os.fspath(data))
    return arrays_data_set(net.graph, data, val, seed=options.seed), Origin()


def _say_broken(report: Report, *feeds: Feed) -> None:
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


def _draw_confusion(plan: Plan, folder: RunFolder, scores: tuple[Scores, ...], classes: Sequence[str]) -> None:
    confusion = None if plan.headline is None else scores[plan.headline].confusion
    if confusion is not None:
        names = classes or [str(i) for i in range(len(confusion))]
        draw_confusion(folder.confusion, plan.net.name, confusion, names)
