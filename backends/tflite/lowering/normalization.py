"""Norms over a sample's own values, which have no int8 form: float islands of means and square roots."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import rows


@lower_op.register
def _(op: ops.LayerNorm, site: Site) -> str:
    site.out.islands = True
    x = site.out.reshape(site.x, rows(site.shape), site.part("rows"))
    y = _scaled(site, _standardized(site, x, (3,), op.epsilon, site.part("standard")))
    site.out.islands = False
    return y


@lower_op.register
def _(op: ops.GroupNorm, site: Site) -> str:
    site.out.islands = True
    channels = site.shape[-1]
    if op.groups == channels:  # means over height and width alone, which XNNPACK is fast at
        grouped, axes = rows(site.shape), (1, 2)
    else:
        grouped, axes = (1, prod(site.shape[1:-1]), op.groups, channels // op.groups), (1, 3)
    x = site.out.reshape(site.x, grouped, site.part("groups"))
    x = _standardized(site, x, axes, op.epsilon, site.part("standard"))
    y = _scaled(site, site.out.reshape(x, rows(site.shape), site.part("together")))
    site.out.islands = False
    return y


@lower_op.register
def _(op: ops.LayerScale, site: Site) -> str:
    return _scaled(site, site.out.reshape(site.x, rows(site.shape), site.part("rows")))


@lower_op.register
def _(op: ops.LocalResponseNorm, site: Site) -> str:
    site.out.islands = True
    shape = site.shape if len(site.shape) == 4 else (1, 1, prod(site.shape[1:-1]), site.shape[-1])
    x = site.out.reshape(site.x, shape, site.part("rows"))
    name = site.name if shape == site.shape else site.part("normal")
    y = site.out.emit(
        "LOCAL_RESPONSE_NORMALIZATION",
        (x,),
        shape,
        name,
        radius=op.radius,
        bias=op.bias,
        alpha=op.alpha,
        beta=op.beta,
    )
    y = site.out.reshape(y, site.shape, site.name)
    site.out.islands = False
    return y


def _standardized(site: Site, x: str, axes: Sequence[int], epsilon: float, name: str) -> str:
    """(x - mean) / sqrt(variance + epsilon) over some axes."""
    shape = site.out.shape(x)
    reduced = [1 if axis in axes else size for axis, size in enumerate(shape)]
    which = site.out.constant(f"{name}:axes", list(axes))
    mean = site.out.emit("MEAN", (x, which), reduced, f"{name}:mean", keep_dims=True)
    centred = site.out.emit("SUB", (x, mean), shape, f"{name}:centred", activation="NONE")
    square = site.out.emit("MUL", (centred, centred), shape, f"{name}:square", activation="NONE")
    variance = site.out.emit("MEAN", (square, which), reduced, f"{name}:variance", keep_dims=True)
    term = site.out.constant(f"{name}:epsilon", np.float32(epsilon))
    safe = site.out.emit("ADD", (variance, term), reduced, f"{name}:safe", activation="NONE")
    inverse = site.out.emit("RSQRT", (safe,), reduced, f"{name}:inverse")
    return site.out.emit("MUL", (centred, inverse), shape, name, activation="NONE")


def _scaled(site: Site, x: str) -> str:
    """The learnt scale and shift of every channel; the last operator bears the node's name."""
    steps = [("MUL", "gamma"), ("ADD", "beta")]
    operations = [(kind, site.weights[short]) for kind, short in steps if short in site.weights]
    if not operations:  # nothing is learnt: one more product keeps the node's name on its value
        operations = [("MUL", np.ones(1, np.float32))]
    flat = site.out.shape(x)
    for i, (kind, array) in enumerate(operations, start=1):
        constant = site.out.constant(site.part(kind.lower()), array.reshape(1, 1, 1, -1))
        name = site.name if i == len(operations) and flat == site.shape else site.part("scaled")
        x = site.out.emit(kind, (x, constant), flat, name, activation="NONE")
    return site.out.reshape(x, site.shape, site.name)
