"""A training that ended before its end, for whatever reason, goes on."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Unpack

from cnnc.data.sources.arrays import Arrays, arrays_data_set
from cnnc.data.sources.by_name import NAMES, load_data
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.folder import Options
from cnnc.diagnostics import CnnError
from cnnc.recipe import Recipe
from cnnc.recipe.changes import ResumeChanges, accept_keywords, apply_changes
from cnnc.runs.calibration import keep_examples
from cnnc.runs.checkpoint import Checkpoints, Saved
from cnnc.runs.events import Report, Said, ignore
from cnnc.runs.folder import require_text
from cnnc.runs.position import Position
from cnnc.runs.processes import Group, make_ready, team_of
from cnnc.runs.run_record import DataNote, Record, open_record, versions, write_record
from cnnc.training.layer_groups import learning_groups
from cnnc.training.loop import is_over
from cnnc.training.preparation import carried_out, data_digest, prepared
from cnnc.training.train import Trained, facts, plan_of, starting_weights, trained


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
    group: Group | None = None,
    report: Report = ignore,
    **changes: Unpack[ResumeChanges],
) -> Trained:
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
    team = team_of(mesh, group)
    record = open_record(Path(run))
    folder, net, note = record.folder, record.net, record.data
    require_text(folder.path)
    recipe = apply_changes(record.recipe, lr=lr, epochs=_total_epochs(record.recipe, epochs), **changes)
    saved, told = Checkpoints(folder.checkpoints).newest()
    for line in (*told, *_other_versions(record)):
        report(Said(line))
    # One that was killed after its last epoch still lacks the pictures and the page of its end.
    if saved is not None and is_over(recipe, saved.position) and folder.report.exists():
        raise _finished(folder.path, saved, recipe)
    data_set = _same_data(note, data, val, data_dir, record, report)
    ready = prepared(net, recipe, data_set, skip_corrupt=note.skip_corrupt, workers=workers, report=report, team=team)
    if (len(ready.train), len(ready.val)) != (note.train_count, note.val_count):
        raise _other_data(f"{len(ready.train)} and {len(ready.val)} pictures can be read", note)
    layers = learning_groups(net.graph, recipe)
    if saved is None and recipe.weights == "arrays":
        raise CnnError.of("run", f"`{folder.path}` has no checkpoint, and the arrays that it started from are not kept")
    first, _ = starting_weights(net, replace(recipe, weights=None) if saved else recipe, None)
    checkpoint = {"the checkpoint": saved.path.name if saved else "none"}
    team.agree({**facts(net, recipe, note, first), **checkpoint})
    team.led(folder.path)
    if team.leads:
        write_record(folder, net, recipe, note)
        if note.data not in NAMES:
            keep_examples(folder, net.graph, data_set, recipe.seed)
    if saved is None:
        report(Said(f"{folder.path} has no checkpoint, and starts anew"))
    elif saved.position != Position():
        report(Said(f"{folder.path} goes on after {saved.position.in_words()}"))
    plan = plan_of(net, recipe, ready, folder, layers, team, save_minutes)
    return trained(plan, carried_out(plan, note.classes, first, report, saved))


def _total_epochs(recipe: Recipe, epochs: int | str | None) -> int | None:
    """How many epochs a run is to have, which may be said as `+50` for so many more."""
    if not isinstance(epochs, str):
        return epochs
    more = epochs.removeprefix("+")
    if not (more.isascii() and more.isdigit() and 0 < int(more) < 2**31):
        raise CnnError.of("value", f"`{epochs}` is no number of epochs", help="write 80, or +50 for so many more")
    return int(more) + (recipe.epochs if epochs.startswith("+") else 0)


def _finished(path: Path, saved: Saved, recipe: Recipe) -> CnnError:
    done = saved.position.epoch - 1
    early = done < recipe.epochs
    return CnnError.of(
        "run",
        f"the training of `{path}` is finished: its patience of {recipe.patience} ended after epoch {done}"
        if early
        else f"the training of `{path}` is finished, with epoch {done}",
        help=f"go on all the same: --patience {2 * (recipe.patience or 1)}" if early else "add epochs: --epochs +10",
    )


def _same_data(
    note: DataNote,
    data: tuple[Arrays, Arrays] | str | os.PathLike[str] | None,
    val: tuple[Arrays, Arrays] | None,
    data_dir: Path | None,
    record: Record,
    report: Report,
) -> DataSet:
    """The data that the run was trained on. Raises CnnError when it is other data."""
    options = Options(note.held_out, note.seed, note.skip_corrupt)
    if isinstance(data, tuple):
        found = arrays_data_set(record.net.graph, data, val, seed=note.seed)
    elif data is None and note.data == "arrays":
        raise CnnError.of(
            "data",
            "the run was trained on arrays, which it does not keep",
            help="go on from Python: cnnc.resume(run, (pictures, labels))",
        )
    else:
        folder = data_dir or (Path(note.folder) if note.folder else None)
        name = note.data if data is None else os.fspath(data)
        found = load_data(name, folder=folder, options=options, report=lambda line: report(Said(line)))
    if note.digest and data_digest(found.train, found.val) == note.digest:
        return found  # what classes are called may have changed
    if found.classes != note.classes:
        raise _other_data(f"its classes are {', '.join(found.classes[:8])}", note)
    if note.digest:
        raise _other_data("files, labels or values differ", note)
    return found


def _other_data(found: str, note: DataNote) -> CnnError:
    return CnnError.of(
        "data",
        f"the data is not what the run was trained on: {found}",
        notes=[f"it was trained on {note.train_count} examples of `{note.data}` and watched with {note.val_count}"],
        help="put the data back as it was; to train on from its weights with other data: cnnc train SPEC --weights RUN",
    )


def _other_versions(record: Record) -> list[str]:
    now = versions()
    other = [
        f"{name} {was} then, {now[name]} now" for name, was in record.versions.items() if now.get(name, was) != was
    ]
    return [f"other versions than it began with, so the last bits may differ: {', '.join(other)}"] if other else []
