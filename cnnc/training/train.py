"""Train a network on a data set and leave a run's folder behind."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

import numpy as np

from cnnc import backends
from cnnc.data.sources.arrays import Arrays, arrays_data_set
from cnnc.data.sources.by_name import NAMES, load_data
from cnnc.data.sources.data_set import DataSet
from cnnc.data.sources.folder import Options
from cnnc.data.sources.parts import HELD_OUT
from cnnc.diagnostics import CnnError
from cnnc.evaluation.output_losses import classified
from cnnc.net import Net, Weights
from cnnc.recipe import Recipe
from cnnc.recipe.changes import Changes, accept_keywords, apply_changes
from cnnc.recipe.yaml_form import recipe_in_words
from cnnc.runs.calibration import keep_examples
from cnnc.runs.events import Report, Row, Said, ignore
from cnnc.runs.folder import RunFolder, claim
from cnnc.runs.metrics import Scores
from cnnc.runs.processes import Group, Team, make_ready, team_of
from cnnc.runs.run_record import DataNote, graph_hash, versions, write_record
from cnnc.training.initial_weights import first_weights
from cnnc.training.layer_groups import Group as Learning
from cnnc.training.layer_groups import in_words, learning_groups
from cnnc.training.loop import Fitted, Plan
from cnnc.training.preparation import Prepared, carried_out, data_digest, prepared
from cnnc.training.profiling import profile as profile_steps

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
    group: Group | None = None,
    origin: Origin | None = None,
    report: Report = ignore,
    **changes: Unpack[Changes],
) -> Trained:
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
    team = team_of(mesh, group)
    recipe = apply_changes(net.recipe, lr=lr, weights=weights, **changes)
    layers = learning_groups(net.graph, recipe)
    first, told = starting_weights(net, recipe, None if isinstance(weights, str | os.PathLike) else weights)
    data_set, origin = _data_set(net, data, val, Options(seed=recipe.seed, skip_corrupt=skip_corrupt), origin, report)
    ready = prepared(net, recipe, data_set, skip_corrupt=skip_corrupt, workers=workers, report=report, team=team)
    for line in (*told, *in_words(net.graph, layers)):
        report(Said(line))
    if recipe.batch > len(ready.train):
        report(Said(f"a batch is {len(ready.train)}, as there are no more pictures"))
    note = DataNote(
        origin.data if origin.data in (*NAMES, "arrays") else os.path.abspath(os.path.expanduser(origin.data)),
        None if origin.folder is None else os.path.abspath(origin.folder),
        origin.held_out,
        recipe.seed,
        data_set.classes,
        len(ready.train),
        len(ready.val),
        skip_corrupt,
        data_digest(data_set.train, data_set.val),
    )
    team.agree(facts(net, recipe, note, first))
    folder = RunFolder(team.led(claim(net.name, None if out is None else Path(out)).path if team.leads else None))
    if team.leads:
        write_record(folder, net, recipe, note)
        if note.data not in NAMES:
            keep_examples(folder, net.graph, data_set, recipe.seed)
    plan = plan_of(net, recipe, ready, folder, layers, team, save_minutes)
    if profile and team.leads:
        profile_steps(plan, first, report)
    return trained(plan, carried_out(plan, data_set.classes, first, report))


def plan_of(
    net: Net,
    recipe: Recipe,
    ready: Prepared,
    folder: RunFolder,
    layers: tuple[Learning, ...],
    team: Team,
    save_minutes: float,
) -> Plan:
    """What the loop follows."""
    if not save_minutes > 0:
        raise CnnError.of("value", f"checkpoints cannot be {save_minutes:g} minutes apart", help="such as 10")
    return Plan(
        net,
        recipe,
        ready.losses,
        classified(net, ready.losses, ready.train),
        ready.train,
        ready.val,
        folder,
        {"model": net.name, "graph_sha256": graph_hash(net.graph)},
        layers,
        team,
        60 * save_minutes,
    )


def facts(net: Net, recipe: Recipe, data: DataNote, weights: Weights) -> dict[str, str]:
    """All that processes must agree on before they train together, by name."""
    return {
        "the network": f"{net.name}, whose graph has the hash {graph_hash(net.graph)[:12]}",
        **{f"`{name}`": json.dumps(value, sort_keys=True) for name, value in recipe_in_words(recipe).items()},
        "the number of pictures to train on": str(data.train_count),
        "the number of pictures to validate on": str(data.val_count),
        "the data": f"`{data.data}` of the hash {(data.digest or '')[:12]}",
        # Those drawn by a seed are what the seed makes them.
        **({} if recipe.weights is None else {"what it starts from": f"of the hash {_weights_hash(weights)[:12]}"}),
        **{f"the version of {name}": version for name, version in versions().items()},
    }


def _weights_hash(weights: Weights) -> str:
    found = hashlib.sha256()
    for node, arrays in weights.items():
        for short, array in arrays.items():
            found.update(f"{node}.{short}".encode() + np.asarray(array).tobytes())
    return found.hexdigest()


def trained(plan: Plan, fitted: Fitted) -> Trained:
    """A training's outcome, as Python gets it."""
    return Trained(plan.folder.path, fitted.rows, fitted.best.row, fitted.best.scores, fitted.best.weights)


def starting_weights(net: Net, recipe: Recipe, arrays: Weights | None) -> tuple[Weights, list[str]]:
    """The weights before the first step, and what the user should know of them.

    Those of the recipe's file, or `arrays`, where they fit; else drawn from the recipe's seed.
    """
    first: Weights = backends.load("jax", "init").initialize(net.graph, recipe.seed)
    given = recipe.weights if arrays is None else arrays
    return (first, []) if given is None else first_weights(net.graph, given, first)


def _data_set(
    net: Net, data: Data, val: tuple[Arrays, Arrays] | None, options: Options, origin: Origin | None, report: Report
) -> tuple[DataSet, Origin]:
    if isinstance(data, DataSet):
        return data, origin or Origin(data.name)
    if isinstance(data, str | os.PathLike):
        loaded = load_data(os.fspath(data), options=options, report=lambda line: report(Said(line)))
        return loaded, Origin(os.fspath(data))
    return arrays_data_set(net.graph, data, val, seed=options.seed), Origin()
