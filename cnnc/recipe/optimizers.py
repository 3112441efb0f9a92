"""How gradients become steps, as the train section's `optimizer` names it."""

from __future__ import annotations

import math

from cnnc.frozen import dataclass
from cnnc.recipe.entry import Entry, require


@dataclass(frozen=True)
class Optimizer(Entry):
    r"""How gradients become steps. Weight decay skips norms and biases (`Weight.decay`).

    In the formulas w are the weights, g their gradient, r the learning rate and d = `weight_decay`, 0 for norms and
    biases; v and m start at 0.

    >>> from cnnc import load_text
    >>> load_text("input 4\ndense(2)\ntrain { optimizer sgd(0.9) }").recipe.optimizer
    Sgd(momentum=0.9, nesterov=False, weight_decay=0.0)
    """

    noun = "optimizer"


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent; decay is added to the gradient, as in the papers that quote it.

    v <- momentum v + g + d w
    w <- w - r v,    with `nesterov` w - r (g + d w + momentum v)    (Sutskever et al. 2013)
    """

    names = ("sgd",)
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def validate(self) -> None:
        require(0 <= self.momentum < 1, "`momentum` must be from 0 up to 1", "momentum")
        require(not self.nesterov or self.momentum > 0, "`nesterov` needs a `momentum` above 0", "nesterov")
        require(self.weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma & Ba 2015; decay, if any, is added to the gradient.

    At the update t, counted from 1, with g' = g + d w:

        m <- b1 m + (1 - b1) g',    v <- b2 v + (1 - b2) g'^2
        w <- w - r m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)
    """

    names = ("adam",)
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def validate(self) -> None:
        _require_moments(self.b1, self.b2, self.epsilon, self.weight_decay)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Loshchilov & Hutter 2019; decay is multiplied by the learning rate only.

    With m and v as `Adam` has them, of g alone in place of g':

        w <- w - r (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + d w)
    """

    names = ("adamw",)
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 1e-4

    def validate(self) -> None:
        _require_moments(self.b1, self.b2, self.epsilon, self.weight_decay)


@dataclass(frozen=True)
class RmsProp(Optimizer):
    """Tieleman & Hinton 2012 in TensorFlow's form: epsilon within the root, momentum over the scaled steps.

        v <- decay v + (1 - decay) g'^2,    g' = g + d w
        m <- momentum m + r g' / sqrt(v + epsilon)
        w <- w - m

    MobileNet and EfficientNet use decay 0.9, momentum 0.9, epsilon 1e-3.
    """

    names = ("rmsprop",)
    decay: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def validate(self) -> None:
        require(0 <= self.decay < 1, "`decay` must be from 0 up to 1", "decay")
        require(0 <= self.momentum < 1, "`momentum` must be from 0 up to 1", "momentum")
        require(self.epsilon > 0, "`epsilon` must be above 0", "epsilon")
        require(self.weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")


@dataclass(frozen=True)
class Lars(Optimizer):
    """You et al. 2017: a layer's step is `trust` times its weights' norm long, times the rate; then momentum.

    Of each array of weights by itself, with norms |.|:

        u = r trust |w| / |g'| g',    g' = g + d w;    of norms and biases u = r g
        v <- momentum v + u
        w <- w - v,    with `nesterov` w - u - momentum v
    """

    names = ("lars",)
    momentum: float = 0.9
    weight_decay: float = 1e-4
    trust: float = 0.001
    nesterov: bool = False

    def validate(self) -> None:
        require(0 <= self.momentum < 1, "`momentum` must be from 0 up to 1", "momentum")
        require(self.weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")
        require(0 < self.trust < math.inf, "`trust` must be above 0", "trust")
        require(not self.nesterov or self.momentum > 0, "`nesterov` needs a `momentum` above 0", "nesterov")


@dataclass(frozen=True)
class Lion(Optimizer):
    """Chen et al. 2023: steps by the sign of a moving average; decay is multiplied by the learning rate only.

    w <- w - r (sign(b1 m + (1 - b1) g) + d w)
    m <- b2 m + (1 - b2) g
    """

    names = ("lion",)
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.0

    def validate(self) -> None:
        _require_moments(self.b1, self.b2, math.inf, self.weight_decay)


def _require_moments(b1: float, b2: float, epsilon: float, weight_decay: float) -> None:
    require(0 <= b1 < 1, "`b1` must be from 0 up to 1", "b1")
    require(0 <= b2 < 1, "`b2` must be from 0 up to 1", "b2")
    require(epsilon > 0, "`epsilon` must be above 0", "epsilon")
    require(weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")
