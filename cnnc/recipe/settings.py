"""How to train a network: what the `train` section of a spec says, as values.

Every class is written in a spec by one of its `names`, with its fields as arguments.
"""

from __future__ import annotations

import math
from typing import Literal

from cnnc.frozen import dataclass
from cnnc.ops.signature import Floats
from cnnc.recipe.augmentations import Augment as Augment
from cnnc.recipe.augmentations import AutoAugment as AutoAugment
from cnnc.recipe.augmentations import ColorJitter as ColorJitter
from cnnc.recipe.augmentations import Cutmix as Cutmix
from cnnc.recipe.augmentations import Cutout as Cutout
from cnnc.recipe.augmentations import Flip as Flip
from cnnc.recipe.augmentations import Mix as Mix
from cnnc.recipe.augmentations import Mixup as Mixup
from cnnc.recipe.augmentations import PadCrop as PadCrop
from cnnc.recipe.augmentations import RandAugment as RandAugment
from cnnc.recipe.augmentations import RandomResizedCrop as RandomResizedCrop
from cnnc.recipe.entry import Entry as Entry
from cnnc.recipe.entry import OutOfRange as OutOfRange
from cnnc.recipe.entry import require


@dataclass(frozen=True)
class Loss(Entry):
    """What an output is held to; the losses of several outputs add up by their `weight`."""

    @property
    def weight(self) -> float:
        """How much the loss counts in the sum. A field of every loss, last in its order."""
        raise AssertionError(type(self).__name__)


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy with integer classes; a softmax that ends the network is left out and logits are used.

    `label_smoothing` as in Szegedy et al. 2016, section 7.
    """

    names = ("cross_entropy",)
    label_smoothing: float = 0.0
    weight: float = 1.0

    def validate(self) -> None:
        require(0 <= self.label_smoothing < 1, "`label_smoothing` must be from 0 up to 1", "label_smoothing")
        require(self.weight >= 0, "`weight` must not be negative", "weight")


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy with 0/1 targets; a sigmoid that ends the network is left out and logits are used."""

    names = ("binary_cross_entropy",)
    label_smoothing: float = 0.0
    weight: float = 1.0

    def validate(self) -> None:
        require(0 <= self.label_smoothing < 1, "`label_smoothing` must be from 0 up to 1", "label_smoothing")
        require(self.weight >= 0, "`weight` must not be negative", "weight")


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error. Against integer classes an output of many channels is held to their one-hot vectors."""

    names = ("mse", "mean_squared_error")
    weight: float = 1.0

    def validate(self) -> None:
        require(self.weight >= 0, "`weight` must not be negative", "weight")


@dataclass(frozen=True)
class Optimizer(Entry):
    """How gradients become steps. Weight decay skips norms and biases (`Weight.decay`)."""


@dataclass(frozen=True)
class Sgd(Optimizer):
    """Stochastic gradient descent; decay is added to the gradient, as in the papers that quote it.

    Momentum is v = momentum * v + g; nesterov steps along g + momentum * v (Sutskever et al. 2013).
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
    """Kingma & Ba 2015; decay, if any, is added to the gradient."""

    names = ("adam",)
    b1: float = 0.9
    b2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def validate(self) -> None:
        _require_moments(self.b1, self.b2, self.epsilon, self.weight_decay)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Loshchilov & Hutter 2019; decay is multiplied by the learning rate only."""

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

    Norms and biases are neither scaled so nor shrunk.
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
    """Chen et al. 2023: steps by the sign of a moving average; decay is multiplied by the learning rate only."""

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


@dataclass(frozen=True)
class Schedule(Entry):
    """Learning rate over epochs, never above `peak`."""

    peak: float = 0.01

    def validate(self) -> None:
        require(0 < self.peak < math.inf, "`peak` must be above 0", "peak")


@dataclass(frozen=True)
class Warmed(Schedule):
    """A linear warm-up from zero over `warmup` epochs to `peak`, then the class's own."""

    warmup: float = 0.0

    def validate(self) -> None:
        super().validate()
        require(0 <= self.warmup < math.inf, "`warmup` must not be negative", "warmup")


@dataclass(frozen=True)
class Constant(Warmed):
    """Stays at `peak`."""

    names = ("constant",)


@dataclass(frozen=True)
class Step(Warmed):
    """Is multiplied by `factor` at each of the epochs `at`, counted from the start of training."""

    names = ("step",)
    at: Floats = ()
    factor: float = 0.1

    def validate(self) -> None:
        super().validate()
        require(list(self.at) == sorted(self.at) and all(x > 0 for x in self.at), "`at` must rise from above 0", "at")
        require(0 < self.factor <= 1, "`factor` must be above 0 and at most 1", "factor")


@dataclass(frozen=True)
class Cosine(Warmed):
    """Falls along half a cosine to `floor` times the peak at the last epoch (Loshchilov & Hutter 2017)."""

    names = ("cosine",)
    floor: float = 0.0

    def validate(self) -> None:
        super().validate()
        require(0 <= self.floor <= 1, "`floor` must be from 0 to 1", "floor")


@dataclass(frozen=True)
class Linear(Warmed):
    """Falls along a line to `floor` times the peak at the last epoch."""

    names = ("linear",)
    floor: float = 0.0

    def validate(self) -> None:
        super().validate()
        require(0 <= self.floor <= 1, "`floor` must be from 0 to 1", "floor")


@dataclass(frozen=True)
class Exponential(Warmed):
    """Is multiplied by `factor` every `every` epochs after the warm-up, continuously."""

    names = ("exponential",)
    factor: float = 0.97
    every: float = 1.0

    def validate(self) -> None:
        super().validate()
        require(0 < self.factor <= 1, "`factor` must be above 0 and at most 1", "factor")
        require(self.every > 0, "`every` must be above 0", "every")


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises along half a cosine from `start` times the peak over the share `rise` of all epochs, and falls to `end`.

    The fall is half a cosine too, to `end` times the peak (Smith 2018, as PyTorch's OneCycleLR anneals).
    """

    names = ("one_cycle",)
    rise: float = 0.3
    start: float = 0.04
    end: float = 1e-4

    def validate(self) -> None:
        super().validate()
        require(0 < self.rise < 1, "`rise` must be above 0 and below 1", "rise")
        require(0 <= self.start <= 1, "`start` must be from 0 to 1", "start")
        require(0 <= self.end <= 1, "`end` must be from 0 to 1", "end")


@dataclass(frozen=True)
class Recipe:
    """The whole `train` section, defaults filled in. Every field can be overridden by a flag of `cnnc train`.

    `losses` pairs an output's name with its loss; the name is None where the section gives one loss for all.
    `weights` is the file or run that the first weights come from. `freeze`, `unfreeze` and `rates` name layers by their
    labels and by globs: what does not learn, from which epoch on (counted from 1) it does after all, and the peak of a
    learning rate of its own.

    `accumulate` steps give one update, by the mean of their gradients. `clip` is the most that the norm of all
    gradients together may be. `ema` is the decay of an average of the weights, which is what is evaluated and saved.
    Training stops after `patience` epochs in a row without a better one. `remat` computes activations again in the
    backward pass instead of keeping them. Batch norm's statistics are those of the whole batch, or (`local`) of each
    device's part. `on_nan` says whether a step whose loss or gradient is no number ends the training or is left out.
    """

    data: str | None = None
    augment: tuple[Augment, ...] = ()
    losses: tuple[tuple[str | None, Loss], ...] = ((None, CrossEntropy()),)
    optimizer: Optimizer = Sgd(momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule: Schedule = Cosine(peak=0.05, warmup=1.0)
    batch: int = 64
    epochs: int = 10
    seed: int = 0
    precision: Literal["f32", "bf16"] = "f32"
    weights: str | None = None
    freeze: tuple[str, ...] = ()
    unfreeze: tuple[tuple[int, str], ...] = ()
    rates: tuple[tuple[str, float], ...] = ()
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    patience: int | None = None
    remat: bool = False
    batch_norm: Literal["global", "local"] = "global"
    on_nan: Literal["stop", "skip"] = "stop"
