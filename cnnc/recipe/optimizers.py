"""How gradients become steps, as the train section's `optimizer` names it."""

from __future__ import annotations

from cnnc.frozen import dataclass
from cnnc.recipe.entry import FRACTION, NOT_NEGATIVE, POSITIVE, Entry, number, require


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
    momentum: float = number(0.0, FRACTION)
    nesterov: bool = False
    weight_decay: float = number(0.0, NOT_NEGATIVE)

    def validate(self) -> None:
        super().validate()
        require(not self.nesterov or self.momentum > 0, "`nesterov` needs a `momentum` above 0", "nesterov")


@dataclass(frozen=True)
class Adam(Optimizer):
    """Kingma & Ba 2015; decay, if any, is added to the gradient.

    At the update t, counted from 1, with g' = g + d w:

        m <- b1 m + (1 - b1) g',    v <- b2 v + (1 - b2) g'^2
        w <- w - r m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon)
    """

    names = ("adam",)
    b1: float = number(0.9, FRACTION)
    b2: float = number(0.999, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    weight_decay: float = number(0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Loshchilov & Hutter 2019; decay is multiplied by the learning rate only.

    With m and v as `Adam` has them, of g alone in place of g':

        w <- w - r (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + d w)
    """

    names = ("adamw",)
    b1: float = number(0.9, FRACTION)
    b2: float = number(0.999, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    weight_decay: float = number(1e-4, NOT_NEGATIVE)


@dataclass(frozen=True)
class RmsProp(Optimizer):
    """Tieleman & Hinton 2012 in TensorFlow's form: epsilon within the root, momentum over the scaled steps.

        v <- decay v + (1 - decay) g'^2,    g' = g + d w
        m <- momentum m + r g' / sqrt(v + epsilon)
        w <- w - m

    MobileNet and EfficientNet use decay 0.9, momentum 0.9, epsilon 1e-3.
    """

    names = ("rmsprop",)
    decay: float = number(0.9, FRACTION)
    momentum: float = number(0.0, FRACTION)
    epsilon: float = number(1e-8, POSITIVE)
    weight_decay: float = number(0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class Lars(Optimizer):
    """You et al. 2017: a layer's step is `trust` times its weights' norm long, times the rate; then momentum.

    Of each array of weights by itself, with norms |.|:

        u = r trust |w| / |g'| g',    g' = g + d w;    of norms and biases u = r g
        v <- momentum v + u
        w <- w - v,    with `nesterov` w - u - momentum v
    """

    names = ("lars",)
    momentum: float = number(0.9, FRACTION)
    weight_decay: float = number(1e-4, NOT_NEGATIVE)
    trust: float = number(0.001, POSITIVE)
    nesterov: bool = False

    def validate(self) -> None:
        super().validate()
        require(not self.nesterov or self.momentum > 0, "`nesterov` needs a `momentum` above 0", "nesterov")


@dataclass(frozen=True)
class Lion(Optimizer):
    """Chen et al. 2023: steps by the sign of a moving average; decay is multiplied by the learning rate only.

    w <- w - r (sign(b1 m + (1 - b1) g) + d w)
    m <- b2 m + (1 - b2) g
    """

    names = ("lion",)
    b1: float = number(0.9, FRACTION)
    b2: float = number(0.99, FRACTION)
    weight_decay: float = number(0.0, NOT_NEGATIVE)
