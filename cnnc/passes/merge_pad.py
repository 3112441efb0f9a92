"""Merge a frame of zeros into the convolution that reads it: what it pads with is zeros too."""

from __future__ import annotations

from dataclasses import replace

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model
from cnnc.passes.edit import hidden_readers, rewrite
from cnnc.passes.padding import Pairs, zeros_read


def merge_pad(model: Model) -> Model:
    """Merge every `pad` by 0 that one convolution reads, or that several do for all of which it makes SAME.

    With several readers of another kind the one frame would have to be laid again for each.
    """
    graph = model.graph
    readers = hidden_readers(graph)
    nodes: dict[str, Node] = {}
    aliases: dict[str, str] = {}
    for node in graph:
        if not isinstance(node.op, ops.Pad) or node.op.value != 0 or not readers[node.name]:
            continue
        merged = [_merged(node, reader) for reader in readers[node.name]]
        if all(merged) and (len(merged) == 1 or all(_is_same(graph, node, each) for each in merged if each)):
            nodes.update({each.name: each for each in merged if each})
            aliases[node.name] = node.inputs[0]
    return rewrite(model, nodes=nodes, aliases=aliases)


def _merged(pad: Node, reader: Node) -> Node | None:
    """A convolution that pads by itself what `pad` does, or None where the reader is none."""
    if not isinstance(reader.op, ops.Conv | ops.Depthwise):
        return None
    assert isinstance(pad.op, ops.Pad), pad
    assert not isinstance(pad.op.amount, str), pad
    own = zeros_read(reader.op, pad.shape)
    total = tuple((a + b, c + d) for (a, c), (b, d) in zip(pad.op.amount, own, strict=True))
    return replace(reader, op=replace(reader.op, padding=total))


def _is_same(graph: Graph, pad: Node, merged: Node) -> bool:
    assert isinstance(merged.op, ops.Conv | ops.Depthwise), merged
    (shape,) = graph.input_shapes(pad)
    op = merged.op
    found: Pairs = zeros_read(op, shape)
    same = replace(op, padding="same")
    return same.infer(shape) == merged.shape and zeros_read(same, shape) == found
