"""Layers that stay off the Edge TPU, at their places in the spec: an error each, with what to use instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from cnnc import ops
from cnnc.backends.edgetpu import facts
from cnnc.backends.edgetpu.prediction import Report, Verdict
from cnnc.diagnostics import Diagnostic, Label, clause
from cnnc.frozen import dataclass
from cnnc.ir import Graph, Node


def locate(report: Report, graph: Graph) -> list[Diagnostic]:
    """The faults of a graph's layers, one for each place in the spec however many layers it makes.

    Of consequences nothing is said: of operators after a cut, and of conversions round layers that stay float.
    """
    faults: dict[object, list[_Fault]] = {}
    conversions: dict[object, list[_Fault]] = {}
    for fault in _faults(report, graph):
        into = conversions if fault.verdict.op in _CONVERSIONS else faults
        into.setdefault(fault.location, []).append(fault)
    whole = [
        Diagnostic("target", f"the Edge TPU cannot run `{graph.name}`: {clause(each.message)}", help=each.remedy)
        for each in report.refused
        if each.index < 0
    ]
    return [*whole, *map(_diagnostic, (faults or conversions).values())]


_CONVERSIONS: Final = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class _Fault:
    """An operator that stays on the CPU, and the layer that it computes; None where no layer of the spec does."""

    verdict: Verdict
    node: Node | None
    reason: str
    remedy: str

    @property
    def layer(self) -> str:
        return self.node.name if self.node is not None else self.verdict.name

    @property
    def location(self) -> object:
        """Equal for layers of one place: where it is written, and where the spec itself calls that."""
        origin = self.node.origin if self.node is not None else None
        if origin is None:
            return self.layer
        spans = (origin.span, *(frame.span for frame in reversed(origin.frames)))
        own = next(span for span in spans if span.source.name == spans[-1].source.name)
        return tuple((span.source.name, span.start, span.end) for span in (origin.span, own))


def _faults(report: Report, graph: Graph) -> Iterator[_Fault]:
    refused = {refusal.index: refusal for refusal in report.refused}
    for verdict in report.operators:
        node = _computed(graph, verdict)
        refusal = refused.get(verdict.index)
        if refusal is not None:
            yield _Fault(verdict, node, clause(refusal.message), _instead(node) or refusal.remedy)
        elif not verdict.mapped and verdict.reason not in (None, facts.SUBGRAPH):
            converts = verdict.op in _CONVERSIONS
            is_float = node is not None and verdict.reason == facts.DATA_TYPE and not converts
            reason = _NO_INT8 if is_float else clause(str(verdict.reason))
            yield _Fault(verdict, node, reason, (None if converts else _instead(node)) or verdict.remedy)


def _computed(graph: Graph, verdict: Verdict) -> Node | None:
    """The layer that an operator computes: of one with an activation in it the layer that the activation reads."""
    node = graph.by_name.get(verdict.origin)
    if node is None or not isinstance(node.op, ops.Relu | ops.Relu6) or verdict.op in ("RELU", "RELU6"):
        return node
    before = graph[node.inputs[0]]
    is_folded = isinstance(before.op, ops.BatchNorm) and isinstance(graph[before.inputs[0]].op, _TAKE_NORMS)
    return graph[before.inputs[0]] if is_folded else before


_TAKE_NORMS: Final = (ops.Conv, ops.Depthwise, ops.Dense, ops.ConvTranspose)
_NO_INT8: Final = "TFLite has no int8 form of it"
_BATCH_NORM: Final = "use bn, which the convolution or dense layer before it takes in"
_INSTEAD: Final[Mapping[type[ops.Op], str]] = {
    ops.LayerNorm: _BATCH_NORM,
    ops.GroupNorm: _BATCH_NORM,
    ops.LocalResponseNorm: f"leave it out, or {_BATCH_NORM}",
    ops.Attention: "mix positions with convolutions",
    ops.Matmul: "multiply by weights, with conv or dense, not by another activation",
    ops.Elu: "use relu, relu6 or swish",
    ops.Mish: "use swish, which is nearly the same",
    ops.Embedding: "look the table up outside the network, and give it the vectors",
}
"""Advice for the place of a layer that the Edge TPU never runs."""


def _instead(node: Node | None) -> str | None:
    if node is None:
        return None
    if len(node.shape) == 4 and isinstance(node.op, ops.Conv | ops.Depthwise | ops.ConvTranspose | ops.MaxPool):
        return "use layers of two dimensions, with the third as channels"
    return _INSTEAD.get(type(node.op))


def _diagnostic(faults: list[_Fault]) -> Diagnostic:
    first, count = faults[0], len({fault.layer for fault in faults})
    named = f"layer `{first.layer}`" if first.node is not None else f"`{first.layer}`"
    among = f", one of {count} written here" if count > 1 else ""
    becomes = "" if first.reason == _NO_INT8 else f", which becomes {first.verdict.op}"
    message = f"the Edge TPU cannot run {named}{among}{becomes}: {first.reason}"
    origin = first.node.origin if first.node is not None else None
    if origin is None:
        return Diagnostic("target", message, help=first.remedy)
    return Diagnostic("target", message, Label(origin.span), notes=origin.notes, help=first.remedy)
