"""Runs a graph: a pure function of weights and inputs, for use under `jit`, `grad` and `vmap`.

Weights stay float32. `precision="bf16"` computes in bfloat16 but keeps norms and softmax in float32. What training
changes beside the weights is explicit: batch norm's new statistics are returned, dropout's randomness comes from `key`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal
from zlib import crc32

import jax
import jax.numpy as jnp
from jax import Array

from cnnc.backends.jax import compile, randomness
from cnnc.backends.jax.choice import PLAIN, Table
from cnnc.backends.jax.lower import FLOAT32, lower
from cnnc.backends.jax.normalization import batch_norm_of_shards, widened
from cnnc.backends.jax.tuned import batch_norm_tuned, lower_tuned
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.ops import BatchNorm, Dropout, DropPath, Input, Op, Sigmoid, Softmax

Weights = Mapping[str, Mapping[str, Array]]
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
    shards: int = 1,
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
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
        shards: in training, the equal parts of the batch that batch norm normalises each by its own statistics.
    """
    ends = {label: _logits_of(graph, name) if logits else name for label, name in graph.outputs}
    values, statistics = _evaluate(
        graph,
        weights,
        inputs,
        set(ends.values()),
        train=train,
        key=key,
        precision=precision,
        frozen=frozen,
        table=table,
        shards=shards,
    )
    return {label: widened(values[name]) for label, name in ends.items()}, statistics


def activations(
    graph: Graph, weights: Weights, inputs: Mapping[str, Array], *, precision: Precision = "f32"
) -> dict[str, Array]:
    """The value of every node at inference, by its name."""
    wanted = set(graph.by_name)
    return _evaluate(graph, weights, inputs, wanted, train=False, key=None, precision=precision, table=PLAIN)[0]


def forward(graph: Graph) -> Callable[..., tuple[dict[str, Array], dict[str, dict[str, Array]]]]:
    """`apply` of one graph, compiled: for this machine when called on arrays, else for the caller's transformation.

    jax takes compiler options at the outermost `jit` only.
    """
    plain = partial(apply, graph)
    options = ("train", "precision", "logits")
    outermost = compile.jit(plain, static_argnames=options)
    inner = jax.jit(plain, static_argnames=options)

    def call(
        weights: Weights, inputs: Mapping[str, Array], *, key: Array | None, train: bool, precision: str, logits: bool
    ) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
        # Under jit even a fresh constant is a tracer; under grad and vmap only what they were given is.
        leaves = (*jax.tree.leaves((weights, inputs, key)), jnp.zeros(()))
        compiled = inner if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves) else outermost
        result: tuple[dict[str, Array], dict[str, dict[str, Array]]]
        result = compiled(weights, inputs, key=key, train=train, precision=precision, logits=logits)
        return result

    return call


def has_dropout(graph: Graph) -> bool:
    """Whether training needs a key: some dropout or stochastic depth has a rate above 0."""
    return any(_drops(node.op) for node in graph)


def _evaluate(
    graph: Graph,
    weights: Weights,
    inputs: Mapping[str, Array],
    wanted: set[str],
    *,
    train: bool,
    key: Array | None,
    precision: Precision,
    frozen: frozenset[str] = frozenset(),
    table: Table,
    shards: int = 1,
) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    dtype = jnp.dtype(_DTYPES[precision])
    wide = jnp.promote_types(dtype, jnp.float32)
    values: dict[str, Array] = {}
    statistics: dict[str, dict[str, Array]] = {}
    for node in _ancestors(graph, wanted):
        if isinstance(node.op, Input):
            # Never bfloat16: pixels are normalised before they are rounded.
            values[node.name] = inputs[node.name].astype(jnp.int32 if node.op.dtype == "int" else wide)
            continue
        operands = [values[name] for name in node.inputs]
        arrays = weights.get(node.owner, {})
        if not isinstance(node.op, FLOAT32):
            operands = [_cast(operand, dtype) for operand in operands]
            arrays = {short: _cast(array, dtype) for short, array in arrays.items()}
        match node.op:
            case BatchNorm() if train and node.owner not in frozen:
                # One that is used again goes on from what its last use made of the statistics.
                arrays = {**arrays, **statistics.get(node.owner, {})}
                values[node.name], statistics[node.owner] = (
                    batch_norm_tuned(node.op, table, arrays, operands[0])
                    if shards == 1
                    else batch_norm_of_shards(node.op, arrays, operands[0], shards)
                )
            case Dropout() if train and _drops(node.op):
                values[node.name] = randomness.dropout(node.op.rate, _key_of(node, key), operands[0])
            case DropPath() if train and _drops(node.op):
                values[node.name] = randomness.drop_path(node.op.rate, _key_of(node, key), operands[0])
            case _:
                values[node.name] = _lowered(node, arrays, operands, table if train else PLAIN)
    return values, statistics


def _lowered(node: Node, arrays: Mapping[str, Array], operands: list[Array], table: Table) -> Array:
    if lower.dispatch(type(node.op)) is lower.dispatch(Op):
        raise CnnError.of(
            "backend",
            f"the backend `jax` has no operator `{node.op.name}`, which `{node.name}` needs",
            node.origin.span if node.origin else None,
            notes=node.origin.notes if node.origin else (),
        )
    # The name shows in profiles and in jax's own error messages.
    with jax.named_scope(node.name):
        return lower_tuned(node.op, table, arrays, *operands)


def _ancestors(graph: Graph, wanted: set[str]) -> list[Node]:
    """The nodes that the wanted ones depend on, in topological order."""
    needed = set(wanted)
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return [node for node in graph if node.name in needed]


def _cast(array: Array, dtype: jnp.dtype) -> Array:
    return array.astype(dtype) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _logits_of(graph: Graph, name: str) -> str:
    node = graph[name]
    return node.inputs[0] if isinstance(node.op, Softmax | Sigmoid) else name


def _drops(op: Op) -> bool:
    return isinstance(op, Dropout | DropPath) and op.rate > 0


def _key_of(node: Node, key: Array | None) -> Array:
    """A key of the node's own: other layers come and go without changing what it drops."""
    if key is None:
        raise ValueError(f"`{node.name}` drops at random when train=True: pass key=jax.random.key(seed)")
    return jax.random.fold_in(key, crc32(node.name.encode()))
