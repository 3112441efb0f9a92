"""Results within blocks: `a.before` is what came into one, `stack.skip` what its line `skip` gave, turn by turn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cnnc.diagnostics import CnnError
from cnnc.elaboration.expressions import evaluate
from cnnc.elaboration.names import SIZES
from cnnc.elaboration.values import POISON, Poison, Scope, Tensor
from cnnc.ir import Graph, Node
from cnnc.language import syntax


def of_block(result: Tensor, incoming: Tensor, values: Mapping[str, Any], labels: Iterable[str]) -> Tensor:
    """A block's result with what came into it and its labels; as it is where the block added nothing."""
    if result == incoming:
        return result
    inner = {label: values[label] for label in labels if isinstance(values.get(label), Tensor | Poison)}
    return replace(result, before=incoming, inner=inner)


def of_turns(turns: Sequence[Tensor]) -> Tensor:
    """The last turn's result; its labels are lists of all turns' results."""
    names = dict.fromkeys(name for turn in turns for name in turn.inner)
    inner = {name: [each for turn in turns for each in _listed(turn.inner.get(name, []))] for name in names}
    return replace(turns[-1], inner=inner)


def start(layer: syntax.Incoming | syntax.Attribute, scope: Scope) -> Tensor | Poison | None:
    """The result that a pipeline starts from, `in`, `in.before` or `up.x`; None where the expression is a number.

    Raises:
        CnnError: `type`, for the results of several turns.
    """
    if isinstance(layer, syntax.Attribute) and layer.name.text in SIZES:
        return None
    if isinstance(layer, syntax.Incoming) and isinstance(scope.incoming, Poison):
        return POISON
    value = evaluate(layer, scope)
    if isinstance(value, list):
        text = layer.span.text
        message = f"`{text}` is {len(value)} results, one a turn"
        raise CnnError.of("type", message, layer.span, help=f"join them: add({text}) or concat({text})")
    assert isinstance(value, Tensor), layer
    return value


def of_all_turns(branch: syntax.Branch, scope: Scope) -> Sequence[Tensor] | None:
    """The results that a branch such as `stack.skip` stands for, where it is those of several turns."""
    if branch.label is not None or not isinstance(branch.value, syntax.Attribute):
        return None
    value = evaluate(branch.value, scope)
    return value if isinstance(value, list) else None


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def without_unread(graph: Graph, values: Mapping[str, Any]) -> Graph:
    """The graph without the results of labelled blocks that nothing reads, and without what only those needed.

    Only where something reads the block's own labels from outside: a block that nothing reads at all is a slip.
    """
    outputs = {name for _, name in graph.outputs}
    gone: set[str] = set()
    for label, result in values.items():
        if not isinstance(result, Tensor) or result.node in outputs or graph.consumers.get(result.node):
            continue
        within = f"{label}."
        own = [each.node for each in _flat(result.inner.values())]
        if not any(not reader.name.startswith(within) for name in own for reader in graph.consumers[name]):
            continue
        gone.add(result.node)
        for node in reversed(graph.nodes):
            readers = graph.consumers[node.name]
            if node.name.startswith(within) and node.name not in outputs and readers:
                gone.update({node.name} if all(reader.name in gone for reader in readers) else ())
    return replace(graph, nodes=tuple(_kept(graph, gone))) if gone else graph


def _kept(graph: Graph, gone: set[str]) -> Iterator[Node]:
    """The nodes that stay. Weights whose owner goes are those of the first node that stays and uses them."""
    heirs: dict[str, str] = {}
    for node in graph:
        if node.name in gone:
            continue
        if node.weights_of in gone:
            heir = heirs.setdefault(node.owner, node.name)
            yield replace(node, weights_of=None if heir == node.name else heir)
        else:
            yield node


def _flat(values: Iterable[Any]) -> Iterator[Tensor]:
    return (each for value in values for each in _listed(value) if isinstance(each, Tensor))
