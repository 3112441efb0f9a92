"""Writes how parameters are first drawn: a dict a layer, alike turns of a repeat as a loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from cnnc.backends.jax.export.module_body import Item, Line, Turn, items_of
from cnnc.backends.jax.export.python_names import relative
from cnnc.ir import Graph
from cnnc.ops import BatchNorm, Weight

_INDICES = "ijklmn"
_FANS = {"he_normal": 1, "he_uniform": 1, "lecun_normal": 1, "glorot_normal": 2, "glorot_uniform": 2, "normal": 0}
"""How many of fan_in and fan_out an initialiser takes."""


@dataclass(frozen=True)
class _Layer:
    """A layer's path below the loop around it, and its arrays as an expression."""

    path: str
    value: str


@dataclass(frozen=True)
class _Loop:
    """The turns `start` up to, not including, `stop` of a group, all with the same layers."""

    group: str
    start: int
    stop: int
    body: tuple[_Step, ...]


_Step = _Layer | _Loop


def write_init(graph: Graph) -> tuple[list[Line], set[str]]:
    """The lines of `init` between its head and its return, and the functions of `module_functions` that they call."""
    functions: set[str] = set()
    steps = _steps(graph, tuple(items_of(graph.nodes)), "", functions)
    drawn = sum(w.initializer in _FANS for node in graph for w in graph.weights(node).values())
    keys = [Line(f"keys = iter(jax.random.split(key, {drawn}))")] if drawn else []
    return [*keys, Line("params: Params = {}"), *_lines(steps, "", 1)], functions


def _steps(graph: Graph, items: Sequence[Item], prefix: str, functions: set[str]) -> tuple[_Step, ...]:
    """The steps for the layers of a scope, neighbouring turns that are alike taken together."""
    steps: list[_Step] = []
    for item in items:
        if isinstance(item, Turn):
            body = _steps(graph, item.items, item.prefix, functions)
            group = relative(item.group, prefix)
            before = steps[-1] if steps else None
            if isinstance(before, _Loop) and (before.group, before.stop, before.body) == (group, item.index, body):
                steps[-1] = _Loop(group, before.start, item.index + 1, body)
            elif body:
                steps.append(_Loop(group, item.index, item.index + 1, body))
        elif weights := graph.weights(item):
            path = "" if item.name == prefix else relative(item.name, prefix)
            steps.append(_Layer(path, _value(item.op, weights, functions)))
    return tuple(steps)


def _value(op: object, weights: Mapping[str, Weight], functions: set[str]) -> str:
    if isinstance(op, BatchNorm) and op.scale and op.center:
        functions.add("new_batch_norm")
        return f"new_batch_norm({weights['mean'].shape[0]})"
    drawn = (f'"{short}": {_drawn(weight, functions)}' for short, weight in weights.items())
    return f"{{{', '.join(drawn)}}}"


def _drawn(weight: Weight, functions: set[str]) -> str:
    shape = str(weight.shape[0] if len(weight.shape) == 1 else weight.shape)
    match weight.initializer:
        case float(value):
            return f"jnp.full({shape}, {value})"
        case "zeros":
            return f"jnp.zeros({shape})"
        case "ones":
            return f"jnp.ones({shape})"
        case "quarter":
            return f"jnp.full({shape}, 0.25)"
    functions.add(weight.initializer)
    fans = (weight.fan_in, weight.fan_out)[: _FANS[weight.initializer]]
    return f"{weight.initializer}({', '.join(['next(keys)', str(weight.shape), *map(str, fans)])})"


def _lines(steps: Sequence[_Step], path: str, depth: int, loops: int = 0) -> Iterator[Line]:
    """The steps as statements. `path` leads to them; it names the variables of the `loops` around."""
    for step in steps:
        if isinstance(step, _Layer):
            name = _joined(path, step.path).replace('"', '\\"')
            yield Line(f'params[{"f" if loops else ""}"{name}"] = {step.value}', depth)
        elif step.stop == step.start + 1:
            yield from _lines(step.body, f"{_joined(path, step.group)}.{step.start}", depth, loops)
        else:
            index = _INDICES[loops]
            start = f"{step.start}, " if step.start else ""
            yield Line(f"for {index} in range({start}{step.stop}):", depth)
            yield from _lines(step.body, f"{_joined(path, step.group)}.{{{index}}}", depth + 1, loops + 1)


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)
