"""Give every node that uses another's weights those arrays as its own, so that passes and backends see plain graphs.

What is the same twice is the same function: y = f(w, f(w, x)) has two nodes of equal w. The arrays are not copied, and
a file of TFLite stores equal constants once.
"""

from __future__ import annotations

from dataclasses import replace

from cnnc.ir.model import Model
from cnnc.passes.edit import rewrite


def unshare(model: Model) -> Model:
    """The model without shared weights; itself where there are none."""
    sharing = [node for node in model.graph if node.weights_of]
    return rewrite(
        model,
        nodes={node.name: replace(node, weights_of=None) for node in sharing},
        weights={node.name: model.weights[node.owner] for node in sharing},
    )
