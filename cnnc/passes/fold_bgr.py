"""Fold the reversal of channels, R, into the layers that read it: L (R x) = (L R) x, the kernel's inputs reversed.

R passes through what treats all channels alike, f(R x) = R f(x), and through a normalisation with its own numbers
reversed: (R x - m) / s = R ((x - R m) / R s).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from cnnc import ops
from cnnc.ir import Node
from cnnc.ir.model import Arrays, Model
from cnnc.passes.edit import hidden_readers, rewrite

ALIKE = ops.AvgPool | ops.Crop | ops.Dropout | ops.GlobalPool | ops.MaxPool | ops.Pad | ops.Resize


def fold_bgr(model: Model) -> Model:
    """Fold every `bgr` whose readers, near or through the above, are convolutions of all channels and dense layers."""
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    weights: dict[str, Arrays] = {}
    aliases: dict[str, str] = {}
    for node in graph:
        if not isinstance(node.op, ops.Bgr):
            continue
        reached = _reached(readers, node)
        if reached is None:
            continue
        for each in reached:
            if isinstance(each.op, ops.Normalize):
                nodes[each.name] = replace(each, op=_reversed(each.op))
            elif _takes_reversal(each):
                own = model.weights[each.name]
                axis = -1 if isinstance(each.op, ops.ConvTranspose) else -2
                weights[each.name] = {**own, "kernel": np.ascontiguousarray(np.flip(own["kernel"], axis))}
        aliases[node.name] = node.inputs[0]
    return rewrite(model, nodes=nodes, weights=weights, aliases=aliases)


def _reached(readers: dict[str, tuple[Node, ...]], bgr: Node) -> list[Node] | None:
    """All nodes that see the reversal, up to and with the kernels that undo it; None where one of them cannot."""
    reached: list[Node] = []
    open_nodes = [bgr]
    while open_nodes:
        found = readers[open_nodes.pop().name]
        for node in found:
            if isinstance(node.op, ALIKE | ops.Normalize):
                open_nodes.append(node)
            elif not _takes_reversal(node):
                return None
        if not found:
            return None
        reached.extend(found)
    return reached


def _takes_reversal(node: Node) -> bool:
    return isinstance(node.op, ops.Dense | ops.ConvTranspose) or (isinstance(node.op, ops.Conv) and node.op.groups == 1)


def _reversed(op: ops.Normalize) -> ops.Normalize:
    return replace(op, mean=op.mean[::-1], std=op.std[::-1])
