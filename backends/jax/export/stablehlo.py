"""A network with its weights as StableHLO, which XLA, IREE and other compilers read.

What is exported is what `module` writes: its convolutions and windows are StableHLO's own, not the forms that this
backend trains with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, export

from cnnc.backends.jax.bind import check_weights
from cnnc.backends.jax.export.module import arguments_of, write_module
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Weights
from cnnc.ops import Input

Form = Literal["text", "bytecode", "artifact"]
"""StableHLO as text (`.mlir`), as portable bytecode (`.mlirbc`), or what `jax.export.deserialize` reads."""

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Where an artifact runs. Text and bytecode say the same for all of them."""


def stablehlo(graph: Graph, weights: Weights, *, batch: int = 1, form: Form = "artifact") -> bytes:
    """The network at inference, the weights constants in it: the same bytes for the same input.

    Its function `main` takes an array `(batch, ...)` for every input in the spec's order, and returns the output, or
    several as a mapping by their names (which StableHLO sees in the order of the names).

    Raises:
        CnnError: a batch of nothing, weights that do not fit, or an operator that cannot be written.
    """
    if batch < 1:
        raise CnnError.of("value", f"`batch` must be 1 or more, found {batch}")
    check_weights(graph, weights)
    function = jax.jit(_closed(graph, weights))
    struct: Any = jax.ShapeDtypeStruct
    shapes = [struct((batch, *node.shape), jnp.int32 if _is_integer(node.op) else jnp.float32) for node in graph.inputs]
    with _nameless():
        if form == "text":
            text: str = function.trace(*shapes).lower(lowering_platforms=("cpu",)).as_text()
            return text.encode()
        exported = export.export(function, platforms=("cpu",) if form == "bytecode" else PLATFORMS)(*shapes)
        return exported.mlir_module_serialized if form == "bytecode" else bytes(exported.serialize())


def _closed(graph: Graph, weights: Weights) -> Callable[..., Any]:
    """The written network as a function of its inputs alone, in the spec's order."""
    module: dict[str, Any] = {"__name__": graph.name}
    exec(compile(write_module(graph), f"<{graph.name}>", "exec"), module)
    params = {name: {short: jnp.asarray(array) for short, array in own.items()} for name, own in weights.items()}
    names = arguments_of(graph)

    def main(*inputs: Array) -> Any:
        if len(names) == 1:
            return module["apply"](params, *inputs)
        return module["apply"](params, **dict(zip(names, inputs, strict=True)))

    return main


def _is_integer(op: object) -> bool:
    return isinstance(op, Input) and op.dtype == "int"


@contextmanager
def _nameless() -> Iterator[None]:
    """Leaves the paths of source files, which differ from machine to machine, out of what is lowered."""
    config: Any = jax.config
    before = config.jax_traceback_in_locations_limit
    config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        config.update("jax_traceback_in_locations_limit", before)
