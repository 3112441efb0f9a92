"""A training that ended before its end, for whatever reason, goes on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from cnnc.backends.protocols import ProcessGroup
from cnnc.data.sources.arrays import Arrays, arrays_data_set
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.folder import Options
from cnnc.diagnostics import CnnError
from cnnc.net import Net
from cnnc.recipe import Recipe
from cnnc.recipe.changes import ResumeChanges, accept_keywords, apply_changes
from cnnc.runs.checkpoint import Checkpoint, Checkpoints
from cnnc.runs.data_note import DataNote
from cnnc.runs.events import Message, Report, ignore
from cnnc.runs.folder import RunFolder, require_text
from cnnc.runs.position import Position
from cnnc.runs.processes import cluster_of, make_ready
from cnnc.runs.run_record import Record, open_record, versions
from cnnc.training.data_digest import data_digest
from cnnc.training.execution import execute, list_facts, record
from cnnc.training.initial_weights import initial_weights
from cnnc.training.layer_groups import group_layers
from cnnc.training.loop import TrainingResult, is_over
from cnnc.training.session import open_session


@accept_keywords(ResumeChanges)
def resume(
    run: str | os.PathLike[str],
    data: tuple[Arrays, Arrays] | str | os.PathLike[str] | None = None,
    val: tuple[Arrays, Arrays] | None = None,
    *,
    epochs: int | str | None = None,
    lr: float | None = None,
    data_dir: Path | None = None,
    workers: int | None = None,
    save_minutes: float = 10.0,
    mesh: str | None = None,
    group: ProcessGroup | None = None,
    report: Report = ignore,
    **changes: Unpack[ResumeChanges],
) -> TrainingResult:
    """Go on with a run from its last checkpoint that is whole.

    On the same machine with the same packages it ends in the same weights, bit for bit, as one that was never stopped,
    unless it is asked for something else.

    Args:
        run: its folder.
        data: what it was trained on, where that has moved; the arrays, for a run that was trained on arrays.
        val: as for `train`.
        epochs: how many it shall have in all, or `"+50"` for so many more.
        lr: another peak of the schedule.
        data_dir: where the files of a data set by name lie.
        workers: threads that read pictures.
        save_minutes: a checkpoint is written after every epoch, and this often within one.
        mesh: how the devices share the work; they may be others than before.
        group: the processes that train together; they may be more or fewer than before.
        report: is told how it goes.
        {settings}

    Raises:
        CnnError: the folder is no run, the run is finished, its data has changed, or all that `train` raises.
    """
    make_ready(report)
    cluster = cluster_of(mesh, group)
    opened = open_record(Path(run))
    folder, note = opened.folder, opened.data
    require_text(folder.path)
    total = _total_epochs(opened.net.recipe, epochs)
    net = replace(opened.net, recipe=apply_changes(opened.net.recipe, lr=lr, epochs=total, **changes))
    checkpoint, notes = Checkpoints(folder.checkpoints).newest()
    for line in (*notes, *_other_versions(opened)):
        report(Message(line))
    _require_unfinished(folder, net.recipe, checkpoint)
    data_set = _same_data(net, note, data, val, data_dir, report)
    groups, skip_corrupt = group_layers(net), note.skip_corrupt
    session = open_session(net, data_set, groups, cluster, skip_corrupt=skip_corrupt, workers=workers, report=report)
    session = replace(session, classes=note.classes)
    if (len(session.train), len(session.val)) != (note.train_count, note.val_count):
        raise _other_data(f"{len(session.train)} and {len(session.val)} pictures can be read", note)
    if checkpoint is None and net.recipe.weights == "arrays":
        raise CnnError.of("run", f"`{folder.path}` has no checkpoint, and the arrays that it started from are not kept")
    first, _ = initial_weights(net, None if checkpoint else net.recipe.weights)
    cluster.agree({**list_facts(net, note, first), "the checkpoint": checkpoint.path.name if checkpoint else "none"})
    cluster.share_folder(folder.path)
    record(session, folder, data_set, note)
    if checkpoint is None:
        report(Message(f"{folder.path} has no checkpoint, and starts anew"))
    elif checkpoint.position != Position():
        report(Message(f"{folder.path} goes on after {checkpoint.position.describe()}"))
    return execute(session, folder, first, report, checkpoint=checkpoint, save_minutes=save_minutes)


def _total_epochs(recipe: Recipe, epochs: int | str | None) -> int | None:
    """How many epochs a run is to have, which may be said as `+50` for so many more."""
    if not isinstance(epochs, str):
        return epochs
    more = epochs.removeprefix("+")
    if not (more.isascii() and more.isdigit() and 0 < int(more) < 2**31):
        raise CnnError.of("value", f"`{epochs}` is no number of epochs", help="write 80, or +50 for so many more")
    return int(more) + (recipe.epochs if epochs.startswith("+") else 0)


def _require_unfinished(folder: RunFolder, recipe: Recipe, checkpoint: Checkpoint | None) -> None:
    """Raises CnnError where a run has nothing left to do."""
    # One that was killed after its last epoch still lacks the pictures and the page of its end.
    if checkpoint is None or not is_over(recipe, checkpoint.position) or not folder.report.exists():
        return
    last = checkpoint.position.epoch - 1
    message, help = f"finished, with epoch {last}", "add epochs: --epochs +10"
    if last < recipe.epochs:
        message = f"finished: its patience of {recipe.patience} ended after epoch {last}"
        help = f"go on all the same: --patience {2 * (recipe.patience or 1)}"
    raise CnnError.of("run", f"the training of `{folder.path}` is {message}", help=help)


def _same_data(
    net: Net,
    note: DataNote,
    data: tuple[Arrays, Arrays] | str | os.PathLike[str] | None,
    val: tuple[Arrays, Arrays] | None,
    data_dir: Path | None,
    report: Report,
) -> DataSet:
    """The data that the run was trained on. Raises CnnError when it is other data."""
    options = Options(note.held_out, note.seed, note.skip_corrupt)
    if isinstance(data, tuple):
        data_set = arrays_data_set(net.graph, data, val, seed=note.seed)
    elif data is None and note.data == "arrays":
        raise CnnError.of(
            "data",
            "the run was trained on arrays, which it does not keep",
            help="go on from Python: cnnc.resume(run, (pictures, labels))",
        )
    else:
        folder = data_dir or (Path(note.folder) if note.folder else None)
        name = note.data if data is None else os.fspath(data)
        data_set = load_data(name, folder=folder, options=options, report=lambda line: report(Message(line)))
    if note.digest and data_digest(data_set.train, data_set.val) == note.digest:
        return data_set  # what classes are called may have changed
    if data_set.classes != note.classes:
        raise _other_data(f"its classes are {', '.join(data_set.classes[:8])}", note)
    if note.digest:
        raise _other_data("files, labels or values differ", note)
    return data_set


def _other_data(difference: str, note: DataNote) -> CnnError:
    return CnnError.of(
        "data",
        f"the data is not what the run was trained on: {difference}",
        notes=[f"it was trained on {note.train_count} examples of `{note.data}` and watched with {note.val_count}"],
        help="put the data back as it was; to train on from its weights with other data: cnnc train SPEC --weights RUN",
    )


def _other_versions(record: Record) -> list[str]:
    now = versions()
    other = [
        f"{name} {was} then, {now[name]} now" for name, was in record.versions.items() if now.get(name, was) != was
    ]
    return [f"other versions than it began with, so the last bits may differ: {', '.join(other)}"] if other else []
