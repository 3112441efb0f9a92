"""A loss that is no number any more: in which step, from which layer on, with which pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cnnc.backends.protocols import TrainingState, load_training
from cnnc.data.feeding.batches import Batch
from cnnc.data.feeding.feed import example_name
from cnnc.diagnostics import CnnError
from cnnc.evaluation.network import name_inputs
from cnnc.files import write_atomically
from cnnc.recipe import Recipe
from cnnc.training.layer_groups import LayerGroup
from cnnc.training.session import Session

_NO_CAUSE: Final = "computed once more, the step has finite values"
_NAMED: Final = 3
_CAUSES: Final = {
    "input": "the input `{}` holds values that are not finite numbers",
    "target": "what the output `{}` is held to is no finite number",
    "value": "the first layer whose values are no finite numbers is `{}`",
    "loss": "all layers have finite values, and the loss of the output `{}` has none",
    "gradient": "loss and layers are finite; the first gradient that is not, from the output back, is that of `{}`",
}


def divergence_error(
    message: str, recipe: Recipe, folder: Path, *, notes: Sequence[str] = (), can_skip: bool = False
) -> CnnError:
    """The error of a training that cannot go on."""
    peak = recipe.schedule.peak
    skip = f", or without such steps: cnnc train --resume {folder} --on-nan skip" if can_skip else ""
    return CnnError.of(
        "diverged",
        message,
        notes=list(notes),
        help=f"lower the learning rate, which peaks at {peak:g}: --lr {peak / 10:g}{skip}",
    )


def find_cause(session: Session, groups: Sequence[LayerGroup], state: TrainingState, batch: Batch) -> str:
    """The line that says where a step goes wrong: every process takes its part of it once more, slowly."""
    graph, recipe, factors = session.net.graph, session.net.recipe, [group.factors for group in groups]
    local, inputs = session.cluster.devices.fetch(state), name_inputs(graph, batch.inputs)
    origin = load_training().first_nonfinite(graph, recipe, session.criteria, factors, local, inputs, batch.targets)
    line = _NO_CAUSE if origin is None else _CAUSES[origin.kind].format(origin.node)
    return next((cause for cause in session.cluster.gather(line) if cause != _NO_CAUSE), _NO_CAUSE)


def list_examples(path: Path, session: Session, batch: Batch) -> str:
    """Write a line for every example of a batch, of all processes together, and name the first of them."""
    feed, cluster = session.train, session.cluster
    parts = dict(cluster.gather((feed.shard.index, batch.indices.tolist())))
    names = [str(example_name(feed, index)) for _, indices in sorted(parts.items()) for index in indices]
    if cluster.is_leader:
        write_atomically(path, "".join(f"{name}\n" for name in names))
    more = f", ... all {len(names)} are listed in {path}" if len(names) > _NAMED else ""
    return f"the step's examples: {', '.join(names[:_NAMED])}{more}"
