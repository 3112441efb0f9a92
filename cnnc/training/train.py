"""Train a network on a data set and leave a run's folder behind."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Unpack

from cnnc.backends.protocols import ProcessGroup
from cnnc.data.sources.arrays import Arrays, arrays_data_set
from cnnc.data.sources.by_name import NAMES, load_data
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.folder import Options
from cnnc.data.sources.parts import HELD_OUT
from cnnc.net import Net, Weights
from cnnc.recipe.changes import Changes, accept_keywords, apply_changes
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


@accept_keywords(Changes)
def train(
    net: Net,
    data: Data,
    val: tuple[Arrays, Arrays] | None = None,
    *,
    lr: float | None = None,
    weights: str | os.PathLike[str] | Weights | None = None,
    out: str | os.PathLike[str] | None = None,
    skip_corrupt: bool = False,
    workers: int | None = None,
    save_minutes: float = 10.0,
    profile: bool = False,
    mesh: str | None = None,
    group: ProcessGroup | None = None,
    origin: Origin | None = None,
    report: Report = ignore,
    **changes: Unpack[Changes],
) -> TrainingResult:
    """Train a network as the train section of its spec says, or as the arguments do that are not None.

    Args:
        net: the network.
        data: arrays `(x, y)`, where either may be a tuple or a dict by name for several inputs or outputs; or the name
            of a data set, or a folder of pictures; or a `DataSet`.
        val: arrays to validate on; without them a fifth of `data` is held out.
        lr: the schedule's peak.
        weights: what to start from: a file of weights or a run's folder, or arrays by node and short name. Layers that
            they do not fit are initialised and named.
        out: the run's folder, new or empty; by default the next free `runs/<model>/exp<n>`.
        skip_corrupt: leave out pictures that cannot be decoded.
        workers: threads that decode and augment pictures, one a core by default; they change nothing but the time.
        save_minutes: a checkpoint is written after every epoch, and this often within one.
        profile: measure first what every layer takes of a step.
        mesh: how the devices share the work, such as `data=4,model=2`; by default each takes a part of every batch.
        group: the processes that train together, as `cnnc.backends.jax.distributed.processes.group_of` gives them.
        origin: where a `DataSet` came from.
        report: is told how it goes.
        {settings}

    Raises:
        CnnError: the data does not fit the network, or the loss stopped being a number.
    """
    make_ready(report)
    cluster = cluster_of(mesh, group)
    net = replace(net, recipe=apply_changes(net.recipe, lr=lr, weights=weights, **changes))
    recipe, groups = net.recipe, group_layers(net)
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
