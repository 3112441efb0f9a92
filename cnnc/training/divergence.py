"""A loss that is no number any more: in which step, from which layer on, with which pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cnnc import backends
from cnnc.data.feeding.batches import Batch
from cnnc.data.feeding.feed import Feed, example_name
from cnnc.diagnostics import CnnError
from cnnc.files import write_atomically
from cnnc.recipe import Recipe
from cnnc.runs.processes import Team

NO_CAUSE = "computed once more, the step has finite values"
_NAMED = 3
_SAYS = {
    "input": "the input `{}` holds values that are not finite numbers",
    "target": "what the output `{}` is held to is no finite number",
    "value": "the first layer whose values are no finite numbers is `{}`",
    "loss": "all layers have finite values, and the loss of the output `{}` has none",
    "gradient": "loss and layers are finite; the first gradient that is not, from the output back, is that of `{}`",
}


def diverged(what: str, recipe: Recipe, folder: Path, *, notes: list[str], can_skip: bool = False) -> CnnError:
    """The error of a training that cannot go on. `what` happened when."""
    peak = recipe.schedule.peak
    skip = f", or without such steps: cnnc train --resume {folder} --on-nan skip" if can_skip else ""
    return CnnError.of(
        "diverged",
        what,
        notes=notes,
        help=f"lower the learning rate, which peaks at {peak:g}: --lr {peak / 10:g}{skip}",
    )


def cause(finding: Any) -> str:
    """What `nonfinite.first_nonfinite` found, in words."""
    return NO_CAUSE if finding is None else _SAYS[finding.what].format(finding.node)


def find_cause(graph: Any, recipe: Recipe, aims: Any, groups: Any, state: Any, inputs: Any, targets: Any) -> str:
    """Take the step once more, slowly, to see where it goes wrong."""
    found = backends.load("jax", "training.nonfinite").first_nonfinite(
        graph, recipe, aims, groups, state, inputs, targets
    )
    return cause(found)


def list_examples(path: Path, feed: Feed, batch: Batch, team: Team) -> str:
    """Write a line for every example of a batch, of all processes together, and name the first of them."""
    parts = dict(team.gather([feed.shard.index, batch.indices.tolist()]))
    names = [str(example_name(feed, index)) for _, indices in sorted(parts.items()) for index in indices]
    if team.leads:
        write_atomically(path, "".join(f"{name}\n" for name in names))
    more = f", ... all {len(names)} are listed in {path}" if len(names) > _NAMED else ""
    return f"the step's examples: {', '.join(names[:_NAMED])}{more}"
