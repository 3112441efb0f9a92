"""Trainings on the devices of one process, run by tests in a process of its own: jax fixes their number as it starts.

`python -m tests.support.device_cases COUNT CASE [ARGUMENT...]` prints a JSON value of what a case found.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.paths import ROOT

SMALL = """\
model small(classes=10) {
  input 8x8x1
  normalize(mean=8, std=8) | conv(3x3, 8) | bn | relu | maxpool(2) | conv(3x3, 16) | bn | relu | flatten
  dropout(0.2) | dense(classes) | softmax
}
train {
  data digits
  optimizer sgd(momentum=0.9)
  schedule constant(0.05)
  batch 64
  epochs 2
}
"""
LARGE = """\
model large(classes=10) {
  input 8x8x1
  normalize(mean=8, std=8) | flatten | dense(1024) | relu | dense(1024) | relu | dropout(0.2) | dense(classes) | softmax
}
train {
  data digits
  optimizer adamw(weight_decay=0.01)
  schedule constant(0.0001)
  batch 64
  epochs 2
  ema 0.9
}
"""


def run_case(count: int, case: str, *arguments: str) -> Any:
    """What a case finds on so many devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.device_cases", str(count), case, *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


class Training:
    """A few steps on digits, on a mesh or without one."""

    def __init__(self, text: str, mesh: str | None, **changes: Any) -> None:
        from cnnc.backends.jax import init
        from cnnc.backends.jax.distributed import devices
        from cnnc.backends.jax.training import state, step
        from cnnc.backends.protocols import Criterion
        from cnnc.data.feeding.feed import Shard, prepare
        from cnnc.data.sources.digits import load_digits
        from cnnc.evaluation.output_losses import output_losses
        from cnnc.loading import load_text

        net = load_text(text)
        self.graph, recipe = net.graph, replace(net.recipe, **changes)
        self.devices = devices.devices_of(mesh) if mesh else devices.ONE_DEVICE
        self.batch = recipe.batch
        self.devices.require_even(self.batch)
        shapes = [node.shape for node in self.graph.inputs]
        data = load_digits()
        self.feed, self.val = (
            replace(prepare(part, shapes), shard=Shard(*self.devices.part)) for part in (data.train, data.val)
        )
        losses = output_losses(net)
        self.recipe, self.net = recipe, net
        criteria = tuple(Criterion(loss, True) for loss in losses)
        self.take_step = step.training_step(self.graph, recipe, criteria, devices=self.devices)
        weights = init.initialize(self.graph, recipe.seed)
        self.state = self.devices.place_state(self.graph, state.first_state(self.graph, recipe, weights))

    def losses_of(self, epochs: int, first: int = 1) -> list[float]:
        """The loss of every step."""
        from cnnc.data.feeding.batches import training_batches
        from cnnc.evaluation.network import name_inputs

        totals = []
        for epoch in range(first, first + epochs):
            for batch in training_batches(self.feed, self.batch, epoch):
                given = self.devices.place_batch((name_inputs(self.graph, batch.inputs), batch.targets))
                rate = float(np.float32(self.recipe.schedule.peak))
                self.state, measured = self.take_step(self.state, given[0], given[1], rate)
                totals.append(measured.total)
        return [float(total) for total in totals]

    def scores(self) -> list[Any]:
        """Count, loss, right answers and confusions on the validation set."""
        from cnnc.evaluation.evaluate import evaluate
        from cnnc.evaluation.network import network_predictor
        from cnnc.runs.trained import Trained

        predictor = network_predictor(Trained(self.net, self.state.weights), self.devices)
        scores = evaluate(predictor, self.val, self.batch, devices=self.devices)[0]
        assert scores.confusion is not None
        return [scores.count, scores.loss, scores.top1, scores.confusion.tolist()]


def curves(mesh: str, which: str, epochs: str) -> Any:
    """The losses with and without a mesh, of the small or the large network, and where its largest weight lies."""
    text = {"small": SMALL, "large": LARGE}[which]
    # In the command's order: what makes XLA have enough threads comes before all else.
    many, one = Training(text, mesh), Training(text, None)
    found = [one.losses_of(int(epochs)), many.losses_of(int(epochs))]
    kernels = sorted({str(leaf.sharding.spec) for leaf in _leaves(many.state) if leaf.size >= 1 << 20})
    return {"losses": found, "scores": [one.scores(), many.scores()], "kernels": kernels, "part": many.devices.part}


def local_norm(mesh: str) -> Any:
    """The losses of batch norm by shards on the mesh, and as a whole."""
    local = Training(SMALL, mesh, batch_norm="local")
    return [
        local.losses_of(1),
        Training(SMALL, mesh).losses_of(1),
        Training(SMALL, None, batch_norm="local").losses_of(1),
    ]


def saved(mesh: str, folder: str, which: str) -> Any:
    """An epoch, a checkpoint, and the losses of the epoch after it."""
    import orbax.checkpoint as ocp  # type: ignore[import-untyped]  # ships no types

    training = Training({"small": SMALL, "large": LARGE}[which], mesh)
    training.losses_of(1)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(Path(folder) / "state", training.state)
    return training.losses_of(1, first=2)


def restored(mesh: str, folder: str, which: str) -> Any:
    """The losses of the epoch after a checkpoint of another mesh."""
    import orbax.checkpoint as ocp

    training = Training({"small": SMALL, "large": LARGE}[which], mesh or None)
    with ocp.StandardCheckpointer() as checkpointer:
        target = training.devices.target(training.graph, training.state)
        training.state = checkpointer.restore(Path(folder) / "state", target)
    return training.losses_of(1, first=2)


def errors(*meshes: str) -> Any:
    """What is said of meshes that do not fit."""
    from cnnc.diagnostics import CnnError

    said = []
    for mesh in meshes:
        try:
            Training(SMALL, mesh, batch=60)
        except CnnError as error:
            found = error.diagnostics[0]
            said.append([found.code, found.message, found.help])
    return said


def _leaves(tree: Any) -> list[Any]:
    import jax

    return jax.tree.leaves(tree)


CASES: Mapping[str, Callable[..., Any]] = {
    case.__name__: case for case in (curves, local_norm, saved, restored, errors)
}

if __name__ == "__main__":
    _, _, name, *rest = sys.argv
    print(json.dumps(CASES[name](*rest)))
