"""Measures which form of each layer of a network is fastest on this machine: the entries of a `choice.Table`.

A layer is timed where it will stand, in a training step between two batch norms with ReLU: what XLA fuses with its
neighbours decides more than the layer alone. The forms take turns, so that a busy machine slows all alike.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import jax
import jax.numpy as jnp

from cnnc import ops
from cnnc.backends.jax.forms import lower
from cnnc.backends.jax.forms.choice import Entry, Layer, Table
from cnnc.backends.jax.xla.compile import jit
from cnnc.ir import Graph
from cnnc.ops import Op, Shape

Report = Callable[[str], None]

KINDS: Final = (ops.Conv, ops.Depthwise, ops.MaxPool, ops.BatchNorm)
"""Operators that have forms to choose among."""


class Trial(Table):
    """Says what each part is computed in: the one form that an entry names. The rest is plain."""

    def choose(self, layer: Layer, possible: Iterable[str]) -> str:
        names = list(possible)
        for entry in self.entries:
            if entry.layer == layer:
                return next((name for name in entry.milliseconds if name in names), names[0])
        return names[0]


def measure(layers: Mapping[tuple[Op, Shape, int], None], rounds: int, report: Report) -> Table:
    """The table of the layers `(operator, its input's shape, batch)`, with the least of `rounds` steps.

    What other work on the machine adds to a step is no property of a form.
    """
    entries: dict[Layer, Entry] = {}
    for number, (op, shape, batch) in enumerate(layers, 1):
        settled: tuple[Entry, ...] = ()
        for layer, names in parts_of(op, shape, batch):
            if layer not in entries:
                times = _times(op, shape, batch, layer, names, settled, rounds)
                entries[layer] = Entry(layer, times)
                told = ", ".join(f"{name} {value:.2f}" for name, value in times.items())
                report(f"{number}/{len(layers)} {layer.part} {_dims(layer)}: {told} ms")
            # Later parts are timed with the best of the earlier ones.
            best = entries[layer].best(names)
            assert best is not None, layer
            settled = (*settled, Entry(layer, {best: 0.0}))
    return Table(machine(), tuple(entries.values()))


def layers_of(graph: Graph, batch: int) -> dict[tuple[Op, Shape, int], None]:
    """The layers of a network that have forms, each once."""
    return {
        (node.op, graph.input_shapes(node)[0], batch): None
        for node in graph
        if isinstance(node.op, KINDS) and any(len(names) > 1 for _, names in parts_of(*_key(graph, node, batch)))
    }


def parts_of(op: Op, shape: Shape, batch: int) -> Iterator[tuple[Layer, tuple[str, ...]]]:
    """The choice for a layer, and the forms of each that are possible."""
    x = _struct((batch, *shape))
    found: list[tuple[Layer, tuple[str, ...]]] = []

    class Listing(Table):
        def choose(self, layer: Layer, possible: Iterable[str]) -> str:
            names = tuple(possible)
            found.append((layer, names))
            return names[0]

    jax.eval_shape(lambda x, w: _lowered(op, Listing("", ()), w, x), x, _structs(op, shape))
    yield from (each for each in found if len(each[1]) > 1)


def machine() -> str:
    """This machine in a few words."""
    return f"{platform.machine()}, {os.cpu_count()} cores, jax {jax.__version__}"


def _times(
    op: Op, shape: Shape, batch: int, layer: Layer, names: tuple[str, ...], settled: tuple[Entry, ...], rounds: int
) -> dict[str, float]:
    weights = jax.tree.map(lambda struct: jnp.full(struct.shape, 0.1), _structs(op, shape))
    x = jax.random.normal(jax.random.key(0), (batch, *shape))
    finish: Callable[[Any], Any] = jax.block_until_ready
    steps = {}
    for name in names:
        step = _sandwich(op, Trial("", (*settled, Entry(layer, {name: 0.0}))))
        finish(step(weights, x))
        steps[name] = step
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            finish(step(weights, x))
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: round(min(values), 3) for name, values in taken.items()}


def _sandwich(op: Op, table: Table) -> Any:
    """The layer between batch norms, with all its gradients, compiled as a training step is."""
    by_hand = lower.BATCH_NORM["by_hand"]

    def normal(x: Any) -> Any:
        channels = x.shape[-1]
        neutral = {"mean": jnp.zeros(channels), "variance": jnp.ones(channels)}
        return jax.nn.relu(by_hand(ops.BatchNorm(scale=False, center=False), neutral, x)[0])

    def loss(weights: Any, x: Any) -> Any:
        # A picture is not normalised by a layer that learns: it needs no gradient.
        seen = x if x.shape[-1] <= 4 else normal(x)
        y = _lowered(op, table, weights, seen)
        return jnp.sum(jnp.square(y if isinstance(op, ops.BatchNorm) else normal(y)))

    def both(weights: Any, x: Any) -> Any:
        return jax.grad(loss, (0, 1) if x.shape[-1] > 4 else 0)(weights, x)

    return jit(both)


def _lowered(op: Op, table: Table, weights: Any, x: Any) -> Any:
    if isinstance(op, ops.BatchNorm):
        return lower.batch_norm_tuned(op, table, weights, x)[0]
    return lower.lower_tuned(op, table, weights, x)


def _structs(op: Op, shape: Shape) -> Any:
    return {short: _struct(weight.shape) for short, weight in op.weights(shape).items()}


def _struct(shape: Shape) -> Any:
    struct: Any = jax.ShapeDtypeStruct
    return struct(shape, jnp.float32)


def _key(graph: Graph, node: Any, batch: int) -> tuple[Op, Shape, int]:
    return node.op, graph.input_shapes(node)[0], batch


def _dims(layer: Layer) -> str:
    kernel = "x".join(map(str, layer.kernel))
    return f"{kernel} {layer.size} {layer.channels}->{layer.filters} batch {layer.batch}".strip()
