"""Leave out nodes that give back what they read: f(x) = x.

Dropout and drop_path always do at inference. So do a reshape, resize, pad, crop or slice to the shape that is there, a
concat of one, a pool of windows of one value, a global pool of one position that keeps its axes, space_to_depth by 1, a
channel_shuffle of one group or of groups of one, and a normalisation by mean 0 and deviation 1.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc import ops
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model
from cnnc.passes.edit import rewrite


def drop_identities(model: Model) -> Model:
    """The model without identities, save those that make an output of an input: an output has to be computed."""
    graph = model.graph
    outputs = {name for _, name in graph.outputs}
    aliases: dict[str, str] = {}
    nodes: dict[str, Node] = {}
    for node in graph:
        if not is_identity(graph, node):
            continue
        (source,) = node.inputs
        found = aliases.get(source, source)
        if node.name in outputs and isinstance(graph[found].op, ops.Input):
            nodes[node.name] = replace(node, inputs=(found,))
        else:
            aliases[node.name] = found
    return rewrite(model, nodes=nodes, aliases=aliases) if aliases else model


def is_identity(graph: Graph, node: Node) -> bool:
    """Whether a node gives back the value that it reads, at inference."""
    op = node.op
    if len(node.inputs) != 1 or graph[node.inputs[0]].shape != node.shape:
        return False
    if isinstance(op, ops.MaxPool | ops.AvgPool):
        return set(op.kernel) == {1} and set(op.stride or ()) == {1}
    if isinstance(op, ops.GlobalPool):
        return set(node.shape[:-1]) == {1}
    if isinstance(op, ops.Normalize):
        return op.preset == "none" and set(op.mean) == {0.0} and set(op.std) == {1.0}
    if isinstance(op, ops.ChannelShuffle):
        return op.groups in (1, node.shape[-1])
    return isinstance(
        op,
        ops.Dropout
        | ops.DropPath
        | ops.Flatten
        | ops.Reshape
        | ops.Resize
        | ops.Pad
        | ops.Crop
        | ops.Concat
        | ops.Slice
        | ops.SpaceToDepth,
    )
