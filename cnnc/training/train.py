"""Train a network on a data set and leave a run's folder behind."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from cnnc.backends.protocols import ProcessGroup
from cnnc.data.sources.arrays import Arrays, arrays_data_set
from cnnc.data.sources.by_name import NAMES, load_data
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.folder import Options
from cnnc.data.sources.parts import HELD_OUT
from cnnc.diagnostics import CnnError
from cnnc.net import Net, Weights
from cnnc.recipe import Recipe
from cnnc.runs.data_note import DataNote
from cnnc.runs.events import Message, Report, ignore
from cnnc.runs.folder import RunFolder, claim
from cnnc.runs.processes import cluster_of, make_ready
from cnnc.training.data_digest import data_digest
from cnnc.training.execution import execute, list_facts, record
from cnnc.training.initial_weights import initial_weights
from cnnc.training.layer_groups import describe_frozen, group_layers
from cnnc.training.loop import TrainingResult
from cnnc.training.session import Session, open_session

Data = DataSet | tuple[Arrays, Arrays] | str | os.PathLike[str]


@dataclass(frozen=True)
class Origin:
    """Where a data set came from, for the run's record: what `--data`, `--data-dir` and `--split` said."""

    data: str = "arrays"
    folder: Path | None = None
    held_out: float = HELD_OUT


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
    accumulate: int | None = None,
    clip: float | None = None,
    ema: float | None = None,
    patience: int | None = None,
    remat: bool | None = None,
    batch_norm: Literal["global", "local"] | None = None,
    on_nan: Literal["stop", "skip"] | None = None,
    weights: str | os.PathLike[str] | Weights | None = None,
    freeze: str | Sequence[str] | None = None,
    unfreeze: Sequence[tuple[int, str]] | None = None,
    rates: Mapping[str, float] | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_corrupt: bool = False,
    workers: int | None = None,
    save_minutes: float = 10.0,
    profile: bool = False,
    mesh: str | None = None,
    group: ProcessGroup | None = None,
    origin: Origin | None = None,
    report: Report = ignore,
) -> TrainingResult:
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
        accumulate: steps whose gradients give one update.
        clip: the most that the norm of all gradients together may be.
        ema: decay of an average of the weights, which is then what is evaluated and kept.
        patience: epochs without a better one after which it stops.
        remat: compute activations again in the backward pass, which saves memory.
        batch_norm: statistics of the whole batch, or of each device's part.
        on_nan: whether a step whose loss is no number ends the training or is left out.
        weights: what to start from: a file of weights or a run's folder, or arrays by node and short name. Layers that
            they do not fit are initialised and named.
        freeze: layers that do not learn, by their names, the labels that they lie in, or globs of these.
        unfreeze: pairs of an epoch, counted from 1, and a pattern of what learns from it on.
        rates: the schedule's peak for layers of their own, by pattern.
        out: the run's folder, new or empty; by default the next free `runs/<model>/exp<n>`.
        skip_corrupt: leave out pictures that cannot be decoded.
        workers: threads that decode and augment pictures, one a core by default; they change nothing but the time.
        save_minutes: a checkpoint is written after every epoch, and this often within one.
        profile: measure first what every layer takes of a step.
        mesh: how the devices share the work, such as `data=4,model=2`; by default each takes a part of every batch.
        group: the processes that train together, as `cnnc.backends.jax.distributed.processes.group_of` gives them.
        origin: where a `DataSet` came from.
        report: is told how it goes.

    Raises:
        CnnError: the data does not fit the network, or the loss stopped being a number.
    """
    changes = {
        **{"epochs": epochs, "batch": batch, "seed": seed, "precision": precision, "accumulate": accumulate},
        **{"clip": clip, "ema": ema, "patience": patience, "remat": remat, "batch_norm": batch_norm, "on_nan": on_nan},
    }
    make_ready(report)
    cluster = cluster_of(mesh, group)
    recipe = overridden(net.recipe, lr=lr, **changes)
    recipe = transferring(recipe, weights=weights, freeze=freeze, unfreeze=unfreeze, rates=rates)
    net = replace(net, recipe=recipe)
    groups = group_layers(net)
    first, notes = initial_weights(net, weights if isinstance(weights, Mapping) else recipe.weights)
    data_set, origin = _data_set(net, data, val, Options(seed=recipe.seed, skip_corrupt=skip_corrupt), origin, report)
    session = open_session(net, data_set, groups, cluster, skip_corrupt=skip_corrupt, workers=workers, report=report)
    for line in (*notes, *describe_frozen(net.graph, groups)):
        report(Message(line))
    if recipe.batch > session.batch:
        report(Message(f"a batch is {session.batch}, as there are no more pictures"))
    note = _data_note(session, data_set, origin, skip_corrupt)
    cluster.agree(list_facts(net, note, first))
    path = claim(net.name, None if out is None else Path(out)).path if cluster.is_leader else None
    folder = RunFolder(cluster.share_folder(path))
    record(session, folder, data_set, note)
    return execute(session, folder, first, report, save_minutes=save_minutes, profile=profile)


def overridden(recipe: Recipe, *, lr: float | None, **changes: Any) -> Recipe:
    """The recipe with what is not None in place of its own. Raises CnnError for a value outside its range."""
    given = {name: value for name, value in changes.items() if value is not None}
    for name in ("epochs", "batch", "accumulate", "patience"):
        if given.get(name, 1) < 1:
            raise CnnError.of("value", f"`{name}` must be at least 1, found {given[name]}")
    for name, value in (("lr", lr), ("clip", given.get("clip"))):
        if value is not None and not 0 < value < float("inf"):
            raise CnnError.of("value", f"`{name}` must be above 0, found {value}")
    if not 0 < given.get("ema", 0.5) < 1:
        raise CnnError.of("value", f"`ema` must be between 0 and 1, found {given['ema']}")
    changed = replace(recipe, **given)
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
        loaded = load_data(os.fspath(data), options=options, report=lambda line: report(Message(line)))
        return loaded, Origin(os.fspath(data))
    return arrays_data_set(net.graph, data, val, seed=options.seed), Origin()


def _data_note(session: Session, data: DataSet, origin: Origin, skip_corrupt: bool) -> DataNote:
    """The record of a data set, by which it is found again."""
    return DataNote(
        origin.data if origin.data in (*NAMES, "arrays") else os.path.abspath(os.path.expanduser(origin.data)),
        None if origin.folder is None else os.path.abspath(origin.folder),
        origin.held_out,
        session.net.recipe.seed,
        data.classes,
        len(session.train),
        len(session.val),
        skip_corrupt,
        data_digest(data.train, data.val),
    )
