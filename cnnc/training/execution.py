"""A session carried out in the folder of a run: its record before, the loop, and the pictures and the page after."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cnnc.data.feeding.batches import training_batches
from cnnc.data.sources.by_name import NAMES
from cnnc.data.sources.data_set import DataSet
from cnnc.diagnostics import CnnError
from cnnc.net import Net, Weights
from cnnc.recipe.yaml_form import recipe_in_words
from cnnc.runs.calibration import keep_examples
from cnnc.runs.checkpoint import Checkpoint
from cnnc.runs.data_note import DataNote
from cnnc.runs.events import Report, broadcast
from cnnc.runs.folder import RunFolder
from cnnc.runs.run_record import graph_hash, open_record, versions, write_record
from cnnc.training.loop import TrainingResult, fit
from cnnc.training.plots import draw_batch, draw_confusion
from cnnc.training.profiling import profile as profile_steps
from cnnc.training.report_page import write_page
from cnnc.training.session import Session, report_corrupt
from cnnc.training.tensorboard import record_curves

_DRAWN = 32


def list_facts(net: Net, data: DataNote, weights: Weights) -> dict[str, str]:
    """All that processes must agree on before they train together, by name."""
    return {
        "the network": f"{net.name}, whose graph has the hash {graph_hash(net.graph)[:12]}",
        **{f"`{name}`": json.dumps(value, sort_keys=True) for name, value in recipe_in_words(net.recipe).items()},
        "the number of pictures to train on": str(data.train_count),
        "the number of pictures to validate on": str(data.val_count),
        "the data": f"`{data.data}` of the hash {(data.digest or '')[:12]}",
        # Those drawn by a seed are what the seed makes them.
        **({} if net.recipe.weights is None else {"what it starts from": f"of the hash {_digest(weights)[:12]}"}),
        **{f"the version of {name}": version for name, version in versions().items()},
    }


def record(session: Session, folder: RunFolder, data: DataSet, note: DataNote) -> None:
    """Write what a run's folder says of it before the first step; one of several processes does."""
    if session.cluster.is_leader:
        write_record(folder, session.net, note)
        if note.data not in NAMES:
            keep_examples(folder, session.net.graph, data, session.net.recipe.seed)


def execute(
    session: Session,
    folder: RunFolder,
    weights: Weights,
    report: Report,
    *,
    checkpoint: Checkpoint | None = None,
    save_minutes: float = 10.0,
    profile: bool = False,
) -> TrainingResult:
    """Train from `weights` on, or from a checkpoint, with the pictures that come before and after it.

    Raises:
        CnnError: `save_minutes` is not above 0, or all that `fit` raises.
    """
    if not save_minutes > 0:
        raise CnnError.of("value", f"checkpoints cannot be {save_minutes:g} minutes apart", help="such as 10")
    seconds = 60 * save_minutes
    if not session.cluster.is_leader:
        return fit(session, folder, weights, report, checkpoint=checkpoint, save_seconds=seconds)
    if profile:
        profile_steps(session, folder.path, weights, report)
    if not folder.first_batch.exists():
        _draw_first_batch(session, folder.first_batch)
    with record_curves() as curves:
        both = broadcast(report, curves)
        result = fit(session, folder, weights, both, checkpoint=checkpoint, save_seconds=seconds)
    head = None if session.headline is None else result.scores[session.headline]
    if head is not None and head.confusion is not None:
        names = session.classes or [str(i) for i in range(len(head.confusion))]
        draw_confusion(folder.confusion, session.net.name, head.confusion, names)
    report_corrupt(report, *(feed for feed in (session.train, session.val) if feed.size is not None))
    write_page(open_record(folder.path), result.rows, result.best, head)
    return result


def _digest(weights: Weights) -> str:
    digest = hashlib.sha256()
    for node, arrays in weights.items():
        for short, array in arrays.items():
            digest.update(f"{node}.{short}".encode() + np.asarray(array).tobytes())
    return digest.hexdigest()


def _draw_first_batch(session: Session, path: Path) -> None:
    """The first batch of the first epoch, as the network is about to see it; of pictures only."""
    shape = session.train.shapes[0]
    if len(shape) != 3:
        return
    batch = next(training_batches(session.train, session.batch, 1))
    count = min(session.batch, _DRAWN)
    labels = [_label(target, session.classes) for target in batch.targets[0][:count]]
    draw_batch(path, batch.inputs[0][:count], labels)


def _label(target: NDArray[np.generic], classes: Sequence[str]) -> str:
    """A label by its class's name; mixed ones by both names and the greater's share; nothing for other targets."""
    if target.ndim == 0 and target.dtype == np.int32:
        return classes[int(target)] if classes else str(target)
    if target.ndim != 1 or len(target) != len(classes):
        return ""
    first, *rest = (int(i) for i in np.argsort(np.negative(target), kind="stable")[:2] if target[i] > 0.005)
    return " / ".join([f"{classes[first]} {100 * target[first]:.0f} %", *(classes[i] for i in rest)])
