"""Attention and its parts: projections are convolutions, what lies between them a float island of matrix products."""

from __future__ import annotations

from math import prod, sqrt

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import rows, transpose
from cnnc.tflite_file.program import Array


@lower_op.register
def _(op: ops.Matmul, site: Site) -> str:
    # A float island in int8, as attention's own products.
    flat = [site.out.reshape(x, rows(site.out.shape(x)), site.part("rows")) for x in site.inputs]
    name = site.name if len(site.shape) == 4 else site.part("product")
    site.out.islands = True
    y = site.out.emit("BATCH_MATMUL", flat, rows(site.shape), name, adjoint_x=False, adjoint_y=False)
    site.out.islands = False
    return site.out.reshape(y, site.shape, site.name)


@lower_op.register
def _(op: ops.Positions, site: Site) -> str:
    table = site.out.constant(site.part("table"), op.table(site.shapes[0])[None, None])
    return site.out.emit("ADD", (site.x, table), site.shape, site.name, activation="NONE")


@lower_op.register
def _(op: ops.Attention, site: Site) -> str:
    shape = site.out.shape(site.x)
    places, channels = prod(shape[:-1]), shape[-1]
    heads, features = site.weights["query_kernel"].shape[1:]
    flat = site.out.reshape(site.x, (1, 1, places, channels), site.part("places"))
    # The scores' 1 / sqrt(features) goes into the queries.
    scales = {"query": 1 / sqrt(features), "key": 1.0, "value": 1.0}
    parts = {
        part: _projected(
            site,
            flat,
            site.weights[f"{part}_kernel"].reshape(channels, -1) * scale,
            site.weights[f"{part}_bias"].reshape(-1) * scale,
            part,
        )
        for part, scale in scales.items()
    }
    site.out.islands = True
    split = {
        part: transpose(
            site,
            site.out.reshape(x, (1, places, heads, features), site.part(f"{part}_heads")),
            (0, 2, 1, 3),
            site.part(f"{part}_turned"),
        )
        for part, x in parts.items()
    }
    square = (1, heads, places, places)
    scores = site.out.emit(
        "BATCH_MATMUL",
        (split["query"], split["key"]),
        square,
        site.part("scores"),
        adjoint_x=False,
        adjoint_y=True,
    )
    shares = site.out.emit("SOFTMAX", (scores,), square, site.part("shares"), beta=1.0)
    mixed = site.out.emit(
        "BATCH_MATMUL",
        (shares, split["value"]),
        (1, heads, places, features),
        site.part("mixed"),
        adjoint_x=False,
        adjoint_y=False,
    )
    together = transpose(site, mixed, (0, 2, 1, 3), site.part("together"))
    rows = site.out.reshape(together, (1, 1, places, heads * features), site.part("rows"))
    site.out.islands = False
    name = site.name if site.shape == (1, 1, places, channels) else site.part("output")
    y = _projected(
        site,
        rows,
        site.weights["output_kernel"].reshape(-1, channels),
        site.weights["output_bias"],
        "output",
        name,
    )
    return site.out.reshape(y, site.shape, site.name)


def _projected(site: Site, x: str, kernel: Array, bias: Array, part: str, name: str = "") -> str:
    """A dense map of every place: a convolution of one value."""
    shape = (*site.out.shape(x)[:-1], kernel.shape[-1])
    weights = site.out.constant(f"{site.name}.{part}_kernel", kernel.T[:, None, None])
    shift = site.out.constant(f"{site.name}.{part}_bias", bias)
    return site.out.emit(
        "CONV_2D",
        (x, weights, shift),
        shape,
        name or site.part(part),
        padding="VALID",
        stride_h=1,
        stride_w=1,
        dilation_h=1,
        dilation_w=1,
        activation="NONE",
    )
