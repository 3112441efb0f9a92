"""The types by which training and evaluation reach a backend: devices, compiled steps, their state and measurements.

`load_training` gives the module that has it all. `D` and `S` are its own devices and states, into which nobody else
looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, NamedTuple, Protocol, Self, SupportsInt, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from cnnc.backends import load
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.recipe import Loss, Recipe


class Array(Protocol):
    """An array of NumPy or of a backend; `float`, `bool` and `np.asarray` wait for its values."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int: ...
    def __array__(self) -> NDArray[Any]: ...
    def __float__(self) -> float: ...
    def __bool__(self) -> bool: ...


T = TypeVar("T")
A = TypeVar("A", bound=Array, covariant=True)
D = TypeVar("D", bound="Devices")
S = TypeVar("S", bound="TrainingState")
Inputs = Mapping[str, Array]
"""A batch by the names of the graph's inputs, each `(batch, ...)`."""
Targets = tuple[Array, ...]
"""A batch's targets in the order of the graph's outputs, each `(batch, ...)`."""
ParameterGroup = Mapping[str, float]
"""Nodes that start to learn together, each with what the schedule's rate is multiplied by for it."""
Groups = Sequence[ParameterGroup] | None
"""The nodes that learn: all that have weights, at the schedule's rate, if None."""


class Criterion(NamedTuple):
    """The loss of an output, and whether its targets are classes, so that right and wrong answers can be told."""

    loss: Loss
    has_classes: bool


Criteria = tuple[Criterion, ...]
"""Those of all outputs, in the graph's order."""


class Measurement(NamedTuple, Generic[A]):
    """The figures of a batch that a training step takes before it changes the weights."""

    loss: A
    """Mean losses, `(outputs,)`, for every output in order."""
    top1: A
    """Fractions of right answers, `(outputs,)`; 0 where there is no right and wrong."""
    total: A
    """The weighted sum of the losses."""
    norm: A
    """The norm of all gradients of this batch together, before they are clipped."""
    good: A
    """Whether the loss, the norm and batch norm's new statistics are finite numbers; else the step changed nothing."""


class Nonfinite(NamedTuple):
    """The node that something not finite comes from.

    `input`: the batch holds it. `target`: what the output `node` is held to does. `value`: the node's result, or batch
    norm's new statistics. `loss`: the loss of the output `node`. `gradient`: the gradient of the node's weights.
    """

    node: str
    kind: Literal["input", "target", "value", "loss", "gradient"]


@dataclass(frozen=True)
class StepTrace:
    """The times of a step by a profiler.

    Attributes:
        steps: how many were traced.
        plain: seconds a step without the profiler, which slows it.
        traced: seconds a step with it.
        owners: seconds a traced step by what they were spent on; their sum is `traced`.
    """

    steps: int
    plain: float
    traced: float
    owners: Mapping[str, float]


class TrainingState(Protocol):
    """All that a training step changes: weights, what the optimizer remembers, averages and counters."""

    @property
    def evaluation_weights(self) -> Weights:
        """The weights to evaluate and to save: their moving average where there is one."""

    def arrays(self) -> Mapping[str, Array]:
        """Every array by its path, such as `trainable/conv/kernel`."""

    def replace_arrays(self, arrays: Mapping[str, Array]) -> Self:
        """The state with other arrays, by their paths. All of them must be there."""

    def unfreeze(self, graph: Graph, recipe: Recipe, group: ParameterGroup) -> Self:
        """The state with a group more that learns."""

    def rewind(self, steps: int) -> Self:
        """A state that a bad step halted, as it was after `steps` steps, free to go on."""


class TrainingStep(Protocol[S]):
    """A compiled training step. The state is donated.

    With `accumulate` above 1, `update=False` only gathers the batch's gradients for an update that a later step makes.
    """

    def __call__(
        self, state: S, inputs: Inputs, targets: Targets, rate: Array | float, update: bool = True
    ) -> tuple[S, Measurement[Array]]: ...


class EvaluationStep(Protocol):
    """A compiled evaluation of a batch: the values `(batch, ...)` of every output, before a last softmax or sigmoid."""

    def __call__(self, weights: Weights, inputs: Inputs) -> tuple[Array, ...]: ...


class Devices(Protocol):
    """The devices of all processes, and where arrays lie on them: `cnnc.backends.jax.distributed.devices.Devices`."""

    @property
    def part(self) -> tuple[int, int]: ...
    def require_even(self, batch: int, most: int | None = None) -> None: ...
    def place_batch(self, tree: T) -> T: ...
    def place_state(self, graph: Graph, state: T) -> T: ...
    def whole(self, tree: T) -> T: ...
    def fetch(self, tree: T) -> T: ...
    def greatest(self, value: int) -> SupportsInt: ...


class ProcessGroup(Protocol):
    """The processes of a training as one of them sees them: `cnnc.backends.jax.distributed.processes.Group`."""

    index: int
    resume: str | None

    def gather(self, value: T) -> list[T]: ...
    def share(self, value: T) -> T: ...
    def agree(self, facts: Mapping[str, str]) -> None: ...


class TrainingBackend(Protocol[D, S]):
    """A module that trains networks and evaluates them: `cnnc.backends.jax.training`."""

    @property
    def ONE_DEVICE(self) -> D: ...
    def devices_of(self, text: str | None = None) -> D: ...
    def keep_freed_memory(self) -> bool: ...
    def enable_compilation_cache(self) -> str | None: ...
    def steps_ahead(self) -> int: ...
    def initialize(self, graph: Graph, seed: int) -> Weights: ...
    def first_state(self, graph: Graph, recipe: Recipe, weights: Weights, groups: Groups = None) -> S: ...
    def training_step(
        self, graph: Graph, recipe: Recipe, criteria: Criteria, groups: Groups = None, *, devices: D
    ) -> TrainingStep[S]: ...
    def evaluation_step(self, graph: Graph, recipe: Recipe, devices: D) -> EvaluationStep: ...
    def first_nonfinite(
        self,
        graph: Graph,
        recipe: Recipe,
        criteria: Criteria,
        groups: Groups,
        state: S,
        inputs: Inputs,
        targets: Targets,
    ) -> Nonfinite | None: ...
    def trace_steps(
        self,
        step: TrainingStep[S],
        arguments: Callable[[S], tuple[S, Inputs, Targets, Array]],
        state: S,
        nodes: Iterable[str],
        folder: Path,
        seconds: float,
    ) -> StepTrace: ...


def load_training(backend: str = "jax") -> TrainingBackend[Devices, TrainingState]:
    """The module by which a backend trains and evaluates.

    Raises:
        CnnError: a package that it needs is not installed.
    """
    return cast("TrainingBackend[Devices, TrainingState]", load(backend, "training"))
