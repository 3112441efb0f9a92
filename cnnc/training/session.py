"""A training before its first step: a network with its recipe, data that fits it, and the devices that do the work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from cnnc.backends.protocols import Criteria, Criterion, Inputs, Targets, TrainingState, TrainingStep, load_training
from cnnc.data.feeding.batches import Batch, step_count
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.sources.data_set import DataSet
from cnnc.evaluation.evaluate import evaluate
from cnnc.evaluation.network import name_inputs, network_predictor, outputs_of
from cnnc.evaluation.output_losses import classified, require_classes, require_targets
from cnnc.evaluation.places import require_movable
from cnnc.net import Net, Weights
from cnnc.runs.events import Message, Report
from cnnc.runs.metrics import Scores
from cnnc.runs.processes import Cluster
from cnnc.runs.trained import Trained
from cnnc.training.layer_groups import LayerGroup


@dataclass(frozen=True, eq=False)
class Session:
    """A network that is about to be trained, whether from the start, from a checkpoint or to try learning rates.

    Attributes:
        net: the network with the recipe that it follows.
        criteria: of its outputs, in the graph's order.
        train: this process's part of the examples to learn from.
        val: its part of those to validate on.
        classes: what the classes are called, if they are.
        groups: the layers that learn, in the order in which they start.
        cluster: the devices and processes that share the work.
    """

    net: Net
    criteria: Criteria
    train: Feed
    val: Feed
    classes: tuple[str, ...]
    groups: tuple[LayerGroup, ...]
    cluster: Cluster

    @property
    def batch(self) -> int:
        """The recipe's, or the whole set where that is smaller."""
        return min(self.net.recipe.batch, len(self.train))

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return step_count(self.train, self.batch)

    @property
    def headline(self) -> int | None:
        """The place of the output whose right answers are reported: the first that has any."""
        return next((i for i, criterion in enumerate(self.criteria) if criterion.has_classes), None)

    def groups_of(self, epoch: int) -> list[LayerGroup]:
        """The groups that learn in an epoch."""
        return [group for group in self.groups if group.epoch <= epoch]

    def first_state(self, weights: Weights, groups: Sequence[LayerGroup]) -> TrainingState:
        """The state before the first step, on the devices."""
        factors = [group.factors for group in groups]
        state = load_training().first_state(self.net.graph, self.net.recipe, weights, factors)
        return self.cluster.devices.place_state(self.net.graph, state)

    def compile_step(self, groups: Sequence[LayerGroup]) -> TrainingStep[TrainingState]:
        """The step by which groups learn."""
        graph, recipe, factors = self.net.graph, self.net.recipe, [group.factors for group in groups]
        return load_training().training_step(graph, recipe, self.criteria, factors, devices=self.cluster.devices)

    def place(self, batch: Batch) -> tuple[Inputs, Targets]:
        """The inputs and targets of a batch, on the devices."""
        inputs, targets = name_inputs(self.net.graph, batch.inputs), batch.targets
        return self.cluster.devices.place_batch((inputs, targets))

    def evaluator(self, should_stop: Callable[[], bool]) -> Callable[[Weights, Feed], tuple[Scores, ...]]:
        """A function from weights and a feed to the scores of every output."""
        devices = self.cluster.devices
        predictor = network_predictor(Trained(self.net, {}, self.classes), devices)

        def evaluate_weights(weights: Weights, feed: Feed) -> tuple[Scores, ...]:
            current = replace(predictor, trained=replace(predictor.trained, weights=weights))
            return evaluate(current, feed, self.batch, should_stop=should_stop, devices=devices)

        return evaluate_weights


def open_session(
    net: Net,
    data: DataSet,
    groups: tuple[LayerGroup, ...],
    cluster: Cluster,
    *,
    skip_corrupt: bool = False,
    workers: int | None = None,
    report: Report,
) -> Session:
    """A network's training on a data set, of which a process reads its part. What the user should know is reported.

    Raises:
        CnnError: the data does not fit the network, or its batches the devices.
    """
    recipe, outputs = net.recipe, outputs_of(net)
    require_classes(outputs, data.classes, net.text)
    for line in data.notes:
        report(Message(line))
    shapes = [node.shape for node in net.graph.inputs]
    val = prepare(data.val, shapes, skip_corrupt=skip_corrupt, workers=workers)
    train = prepare(
        data.train,
        shapes,
        augment=recipe.augment,
        seed=recipe.seed,
        skip_corrupt=skip_corrupt,
        widths=[output.shape[-1] for output in outputs],
        workers=workers,
    )
    train, val = replace(train, shard=cluster.shard), replace(val, shard=cluster.shard)
    cluster.devices.require_even(min(recipe.batch, len(train)), len(train))
    for feed in (train, val):
        require_targets(outputs, feed)
    require_movable(outputs, train)
    report_corrupt(report, train, val)
    known = classified(outputs, train)
    criteria = tuple(Criterion(output.loss, has) for output, has in zip(outputs, known, strict=True))
    return Session(net, criteria, train, val, data.classes, groups, cluster)


def report_corrupt(report: Report, *feeds: Feed) -> None:
    """Name the pictures that were left out."""
    broken = sorted(set().union(*(feed.broken for feed in feeds)))
    if broken:
        named = ", ".join(str(path) for path in broken[:3]) + (", ..." if len(broken) > 3 else "")
        count = "1 picture" if len(broken) == 1 else f"{len(broken)} pictures"
        report(Message(f"left out, as it cannot be decoded: {count} ({named})"))
