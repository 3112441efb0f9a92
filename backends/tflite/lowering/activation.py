"""Activations as TFLite's operators; what the Edge TPU or old readers lack is written out of what they have."""

from __future__ import annotations

from math import pi, sqrt
from typing import Final

import numpy as np

from cnnc import ops
from cnnc.backends.tflite.lowering.lowering_site import Site, lower_op
from cnnc.backends.tflite.lowering.tensor_moves import rows

_SIMPLE: Final = {
    ops.Relu: "RELU",
    ops.Relu6: "RELU6",
    ops.Sigmoid: "LOGISTIC",
    ops.Tanh: "TANH",
}


@lower_op.register
def _(op: ops.Relu | ops.Relu6 | ops.Sigmoid | ops.Tanh, site: Site) -> str:
    return site.out.emit(_SIMPLE[type(op)], (site.x,), site.shape, site.name)


@lower_op.register
def _(op: ops.Softmax, site: Site) -> str:
    return site.out.emit("SOFTMAX", (site.x,), site.shape, site.name, beta=1.0)


@lower_op.register
def _(op: ops.LeakyRelu, site: Site) -> str:
    if site.flavour == "edgetpu":  # has no LEAKY_RELU; a PRELU of one slope is the same
        return prelu(site, np.full(site.shape[-1], op.slope, np.float32))
    return site.out.emit("LEAKY_RELU", (site.x,), site.shape, site.name, alpha=op.slope)


@lower_op.register
def _(op: ops.Prelu, site: Site) -> str:
    return prelu(site, site.weights["alpha"])


def prelu(site: Site, alpha: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> str:
    """PRELU with a slope for every channel."""
    flat = rows(site.shape) if len(site.shape) > 4 else site.shape
    slopes = site.out.constant(f"{site.name}.alpha", alpha.reshape((1,) * (len(flat) - 2) + (-1,)))
    x = site.out.reshape(site.x, flat, site.part("rows"))
    name = site.name if flat == site.shape else site.part("bent")
    return site.out.reshape(site.out.emit("PRELU", (x, slopes), flat, name), site.shape, site.name)


@lower_op.register
def _(op: ops.Elu, site: Site) -> str:
    if op.alpha == 1:
        return site.out.emit("ELU", (site.x,), site.shape, site.name)
    # TFLite's has alpha = 1: relu(x) + alpha * elu(min(x, 0)).
    above = site.out.emit("RELU", (site.x,), site.shape, site.part("above"))
    zero = site.out.constant(site.part("zero"), np.float32(0))
    below = site.out.emit("MINIMUM", (site.x, zero), site.shape, site.part("below"))
    bent = site.out.emit("ELU", (below,), site.shape, site.part("bent"))
    scaled = _times(site, bent, op.alpha, "scaled")
    return site.out.emit("ADD", (above, scaled), site.shape, site.name, activation="NONE")


@lower_op.register
def _(op: ops.Swish, site: Site) -> str:
    gate = site.out.emit("LOGISTIC", (site.x,), site.shape, site.part("gate"))
    return _product(site, site.x, gate, site.name)


@lower_op.register
def _(op: ops.HardSwish, site: Site) -> str:
    if site.flavour != "edgetpu":
        return site.out.emit("HARD_SWISH", (site.x,), site.shape, site.name)
    return _product(site, site.x, _hard_sigmoid(site, site.part("gate")), site.name)


@lower_op.register
def _(op: ops.HardSigmoid, site: Site) -> str:
    return _hard_sigmoid(site, site.name)


def _hard_sigmoid(site: Site, name: str) -> str:
    three = site.out.constant(f"{name}:three", np.float32(3))
    shifted = site.out.emit("ADD", (site.x, three), site.shape, f"{name}:shifted", activation="RELU6")
    return _times(site, shifted, 1 / 6, name=name)


@lower_op.register
def _(op: ops.Gelu, site: Site) -> str:
    """`x` * Phi(x). Phi(x) = sigmoid(u(x)): by Hendrycks & Gimpel's tanh u = 2 sqrt(2 / pi) (x + 0.044715 x^3).

    GELU itself is an operator that readers before 2.9 lack, the Edge TPU's among them. In int8 the tanh form is exact
    to well under a step. In float32 Phi by the error function takes a longer odd polynomial u, exact to 3e-6.
    """
    if op.approximate or site.flavour != "float":
        slope = 2 * sqrt(2 / pi)
        return _gated(site, site.x, (slope, slope * 0.044715))
    low, high = (site.out.constant(site.part("bound"), np.float32(b)) for b in (-_GELU_BOUND, _GELU_BOUND))
    bounded = site.out.emit("MAXIMUM", (site.x, low), site.shape, site.part("bounded"))
    bounded = site.out.emit("MINIMUM", (bounded, high), site.shape, site.part("bounded"))
    return _gated(site, bounded, _GELU_ODD)


_GELU_BOUND: Final = 5.5
_GELU_ODD: Final = (1.595656, 0.07293757, -0.0002497134, -6.11641e-05, 2.238291e-06)
"""Own fit, reweighted least squares of `x` * sigmoid(u(x)) against `x` * Phi(x) on -5.5 to 5.5."""


def _gated(site: Site, bounded: str, odd: tuple[float, ...]) -> str:
    """`x` * sigmoid(u) with u = `bounded` * (odd[0] + odd[1] * s + odd[2] * s^2 + ...), s = `bounded`^2."""
    square = _product(site, bounded, bounded, site.part("square"))
    total = _times(site, square, odd[-1], "term")
    for coefficient in reversed(odd[1:-1]):
        total = _plus(site, total, coefficient, "sum")
        total = _product(site, total, square, site.part("term"))
    inner = _product(site, _plus(site, total, odd[0], "sum"), bounded, site.part("inner"))
    gate = site.out.emit("LOGISTIC", (inner,), site.shape, site.part("gate"))
    return _product(site, site.x, gate, site.name)


@lower_op.register
def _(op: ops.Mish, site: Site) -> str:
    """`x` * tanh(log(1 + exp(x))) = x * (1 - r^2) / (1 + r^2) with r = sigmoid(-x)."""
    site.out.islands = True
    turned = _times(site, site.x, -1, "turned")
    gate = site.out.emit("LOGISTIC", (turned,), site.shape, site.part("gate"))
    square = _product(site, gate, gate, site.part("square"))
    above = _plus(site, _times(site, square, -1, "minus"), 1, "above")
    below = _plus(site, square, 1, "below")
    ratio = site.out.emit("DIV", (above, below), site.shape, site.part("ratio"), activation="NONE")
    y = _product(site, site.x, ratio, site.name)
    site.out.islands = False
    return y


def _product(site: Site, a: str, b: str, name: str) -> str:
    return site.out.emit("MUL", (a, b), site.shape, name, activation="NONE")


def _times(site: Site, x: str, factor: float, part: str = "", *, name: str = "") -> str:
    constant = site.out.constant(f"{name or site.part(part)}:factor", np.float32(factor))
    return site.out.emit("MUL", (x, constant), site.shape, name or site.part(part), activation="NONE")


def _plus(site: Site, x: str, term: float, part: str) -> str:
    constant = site.out.constant(f"{site.part(part)}:constant", np.float32(term))
    return site.out.emit("ADD", (x, constant), site.shape, site.part(part), activation="NONE")
