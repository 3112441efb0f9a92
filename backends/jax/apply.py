"""Runs a graph: a pure function of weights and inputs, for use under `jit`, `grad` and `vmap`.

Weights stay float32. `precision="bf16"` computes in bfloat16 but keeps norms and softmax in float32. What training
changes beside the weights is explicit: batch norm's new statistics are returned, dropout's randomness comes from `key`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from itertools import groupby
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax.forms.choice import PLAIN, Table
from cnnc.backends.jax.layers import Weights
from cnnc.backends.jax.layers.normalization import widened
from cnnc.backends.jax.loops import NEVER, chosen, loop
from cnnc.backends.jax.nodes import Mode, Statistics, evaluate
from cnnc.backends.jax.rematerialization import again, grouped
from cnnc.backends.jax.segments import Run, Segment, ancestors, runs, segments
from cnnc.backends.jax.xla import compile
from cnnc.ir import Graph
from cnnc.ops import Input, Sigmoid, Softmax

Precision = Literal["f32", "bf16", "f64"]
"""`f64` is for comparisons: it wants float64 weights, and jax's x64 mode."""

_DTYPES = {"f32": jnp.float32, "bf16": jnp.bfloat16, "f64": jnp.float64}


def apply(
    graph: Graph,
    weights: Weights,
    inputs: Mapping[str, Array],
    *,
    train: bool = False,
    key: Array | None = None,
    precision: Precision = "f32",
    logits: bool = False,
    frozen: frozenset[str] = frozenset(),
    table: Table = PLAIN,
    scan: int = NEVER,
    remat: bool = False,
    shards: int = 1,
) -> tuple[dict[str, Array], Statistics]:
    """The outputs by their names, and batch norm's new running statistics (empty unless `train`).

    Args:
        graph: the network.
        weights: float32 arrays by node and short name, as `initialize` makes them.
        inputs: arrays `(batch, ...)` by the names of the input nodes.
        train: whether batch norm uses the batch's own statistics, and dropout drops.
        key: a `jax.random.key`, wanted when `train` and the graph drops anything.
        precision: what to compute in. Outputs are float32 under `bf16` too.
        logits: whether an output that ends in softmax or sigmoid returns what enters it.
        frozen: nodes whose weights do not learn; batch norm of theirs uses its running statistics and keeps them.
        table: in training, the forms that layers are computed in: `choice.chosen()` where the step is compiled for this
            machine. They have no forward-mode derivative.
        scan: how many alike segments in a row are evaluated in a loop, which compiles faster and computes the same:
            `looping.chosen()` where the function is compiled for this machine.
        remat: in training, whether the gradient computes most of what it needs a second time instead of keeping it.
        shards: in training, the equal parts of the batch that batch norm normalises each by its own statistics.
    """
    ends = {label: _logits_of(graph, name) if logits else name for label, name in graph.outputs}
    mode = Mode(train, key, jnp.dtype(_DTYPES[precision]), frozen, table if train else PLAIN, shards)
    values, statistics = _evaluate(graph, weights, inputs, set(ends.values()), mode, scan, remat and train)
    return {label: widened(values[name]) for label, name in ends.items()}, statistics


def activations(
    graph: Graph, weights: Weights, inputs: Mapping[str, Array], *, precision: Precision = "f32"
) -> dict[str, Array]:
    """The value of every node at inference, by its name."""
    mode = Mode(False, None, jnp.dtype(_DTYPES[precision]), frozenset(), PLAIN)
    return _evaluate(graph, weights, inputs, set(graph.by_name), mode, NEVER, False)[0]


def forward(graph: Graph) -> Callable[..., tuple[dict[str, Array], Statistics]]:
    """`apply` of one graph, compiled: for this machine when called on arrays, else for the caller's transformation.

    jax takes compiler options at the outermost `jit` only.
    """
    plain = partial(apply, graph, scan=chosen())
    options = ("train", "precision", "logits")
    outermost = compile.jit(plain, static_argnames=options)
    inner = jax.jit(plain, static_argnames=options)

    def call(
        weights: Weights, inputs: Mapping[str, Array], *, key: Array | None, train: bool, precision: str, logits: bool
    ) -> tuple[dict[str, Array], Statistics]:
        # Under jit even a fresh constant is a tracer; under grad and vmap only what they were given is.
        leaves = (*jax.tree.leaves((weights, inputs, key)), jnp.zeros(()))
        compiled = inner if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else outermost
        result: tuple[dict[str, Array], Statistics]
        result = compiled(weights, inputs, key=key, train=train, precision=precision, logits=logits)
        return result

    return call


def _evaluate(
    graph: Graph,
    weights: Weights,
    inputs: Mapping[str, Array],
    wanted: set[str],
    mode: Mode,
    scan: int,
    remat: bool,
) -> tuple[dict[str, Array], Statistics]:
    """The values of the wanted nodes, among others, and the new statistics."""
    nodes = ancestors(graph, wanted)
    values = {node.name: _input(node.op, inputs[node.name], mode) for node in nodes if isinstance(node.op, Input)}
    if scan == NEVER and not remat:
        found, statistics = evaluate((node for node in nodes if node.name not in values), weights, values, {}, mode)
        return {**values, **found}, statistics
    statistics = {}
    found_runs = _runs(graph, wanted, mode, scan, remat)
    for run in found_runs:
        # What follows the last segment needs its inside at once.
        again = remat and run is not found_runs[-1]
        if len(run) > 1:
            values[run[-1].exit], changed = loop(run, weights, values[str(run[0].entry)], mode, remat=again)
        else:
            found, changed = _segment(run[0], weights, values, statistics, mode, wanted, again)
            values |= found
        statistics |= changed
    return values, statistics


def _runs(graph: Graph, wanted: set[str], mode: Mode, scan: int, remat: bool) -> list[Run]:
    """The order of evaluation: loops, and segments, which for rematerialisation are grouped."""
    parts = segments(graph, wanted)
    found: list[Run] = [(part,) for part in parts]
    if scan != NEVER:
        found = runs(graph, parts, wanted, mode.frozen, scan)
    if not remat:
        return found
    regrouped: list[Run] = []
    for alone, neighbours in groupby(found, lambda run: len(run) == 1):
        regrouped += [(part,) for part in grouped([part for (part,) in neighbours])] if alone else neighbours
    return regrouped


def _segment(
    part: Segment,
    weights: Weights,
    values: Mapping[str, Array],
    statistics: Statistics,
    mode: Mode,
    wanted: set[str],
    remat: bool,
) -> tuple[dict[str, Array], Statistics]:
    """The segment's values that are read from elsewhere, and its new statistics."""

    def compute(given: _Given, read: Mapping[str, Array]) -> tuple[Array, tuple[dict[str, Array], Statistics]]:
        arrays, before, key = given
        found, changed = evaluate(part.nodes, arrays, read, before, mode._replace(key=key))
        return found[part.exit], ({name: found[name] for name in found.keys() & wanted}, changed)

    owners = {node.owner for node in part.nodes}
    read = {name for node in part.nodes for name in node.inputs}
    given = (
        {owner: weights[owner] for owner in owners & weights.keys()},
        {owner: statistics[owner] for owner in owners & statistics.keys()},
        mode.key,
    )
    value, (found, changed) = (again(compute) if remat else compute)(
        given, {name: values[name] for name in read & values.keys()}
    )
    return {**found, part.exit: value}, changed


_Given = tuple[Weights, Statistics, Array | None]
"""A segment's weights, what earlier uses made of its statistics, and the key of the network."""


def _input(op: Input, array: Array, mode: Mode) -> Array:
    """Never bfloat16: pixels are normalised before they are rounded."""
    return array.astype(jnp.int32 if op.dtype == "int" else jnp.promote_types(mode.dtype, jnp.float32))


def _logits_of(graph: Graph, name: str) -> str:
    node = graph[name]
    return node.inputs[0] if isinstance(node.op, Softmax | Sigmoid) else name
