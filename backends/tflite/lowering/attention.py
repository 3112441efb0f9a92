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
    positions, channels = prod(shape[:-1]), shape[-1]
    flat = site.out.reshape(site.x, (1, 1, positions, channels), site.part("places"))
    rows = _attend(site, *_project_inputs(site, flat))
    name = site.name if site.shape == (1, 1, positions, channels) else site.part("output")
    kernel, bias = site.weights["output_kernel"].reshape(-1, channels), site.weights["output_bias"]
    return site.out.reshape(_project(site, rows, kernel, bias, "output", name), site.shape, site.name)


def _project_inputs(site: Site, flat: str) -> list[str]:
    """Queries, keys and values of all heads, `(1, 1, positions, heads * features)`."""
    channels, _, features = site.weights["query_kernel"].shape
    # The scores' 1 / sqrt(features) goes into the queries.
    scales = {"query": 1 / sqrt(features), "key": 1.0, "value": 1.0}
    return [
        _project(
            site,
            flat,
            site.weights[f"{part}_kernel"].reshape(channels, -1) * scale,
            site.weights[f"{part}_bias"].reshape(-1) * scale,
            part,
        )
        for part, scale in scales.items()
    ]


def _attend(site: Site, *projections: str) -> str:
    """The values of every head, weighted by softmax(queries keys^T): `(1, 1, positions, heads * features)`."""
    out, (_, heads, features) = site.out, site.weights["query_kernel"].shape
    positions = out.shape(projections[0])[2]
    out.islands = True
    queries, keys, values = (
        transpose(
            site,
            out.reshape(x, (1, positions, heads, features), site.part(f"{part}_heads")),
            (0, 2, 1, 3),
            site.part(f"{part}_turned"),
        )
        for part, x in zip(("query", "key", "value"), projections, strict=True)
    )
    square, name = (1, heads, positions, positions), site.part("scores")
    scores = out.emit("BATCH_MATMUL", (queries, keys), square, name, adjoint_x=False, adjoint_y=True)
    shares = out.emit("SOFTMAX", (scores,), square, site.part("shares"), beta=1.0)
    by_head, name = (1, heads, positions, features), site.part("mixed")
    mixed = out.emit("BATCH_MATMUL", (shares, values), by_head, name, adjoint_x=False, adjoint_y=False)
    together = transpose(site, mixed, (0, 2, 1, 3), site.part("together"))
    rows = out.reshape(together, (1, 1, positions, heads * features), site.part("rows"))
    out.islands = False
    return rows


def _project(site: Site, x: str, kernel: Array, bias: Array, part: str, name: str = "") -> str:
    """Map the features of every position by a matrix: a convolution of one value."""
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
