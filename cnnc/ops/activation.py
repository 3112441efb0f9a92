"""Non-linear functions of every value; softmax is one of every vector of channels."""

from __future__ import annotations

from collections.abc import Mapping

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, Shape, Weight


class Relu(Op):
    """max(x, 0)."""

    names = ("relu",)


class Relu6(Op):
    """min(max(x, 0), 6)."""

    names = ("relu6",)


@dataclass(frozen=True)
class LeakyRelu(Op):
    """`x` where positive, else slope * x (Maas et al. 2013)."""

    names = ("leaky_relu",)
    slope: float = 0.01


class Prelu(Op):
    """`x` where positive, else alpha * x with a learnt alpha a channel, 0.25 at first (He et al. 2015).

    The paper exempts alpha from weight decay, which would pull it towards a plain relu.
    """

    names = ("prelu",)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        return {"alpha": Weight(inputs[0][-1:], "quarter", decay=False)}


@dataclass(frozen=True)
class Elu(Op):
    """`x` where positive, else alpha * (exp(x) - 1) (Clevert et al. 2016)."""

    names = ("elu",)
    alpha: float = 1.0


class Swish(Op):
    """`x` * sigmoid(x) (Ramachandran et al. 2017; the SiLU of Elfwing et al. 2018)."""

    names = ("swish", "silu")


class HardSwish(Op):
    """`x` * relu6(x + 3) / 6 (Howard et al. 2019)."""

    names = ("hard_swish",)


class HardSigmoid(Op):
    """relu6(x + 3) / 6 (Howard et al. 2019)."""

    names = ("hard_sigmoid",)


@dataclass(frozen=True)
class Gelu(Op):
    """`x` * Phi(x) (Hendrycks & Gimpel 2016), Phi by the error function, or with `approximate` by their tanh."""

    names = ("gelu",)
    approximate: bool = False


class Mish(Op):
    """`x` * tanh(log(1 + exp(x))) (Misra 2020)."""

    names = ("mish",)


class Sigmoid(Op):
    """1 / (1 + exp(-x))."""

    names = ("sigmoid",)


class Tanh(Op):
    """The hyperbolic tangent."""

    names = ("tanh",)


class Softmax(Op):
    """exp(x) over its sum along the last axis."""

    names = ("softmax",)
