"""How to train a network: what the `train` section of a spec says, as values.

Every class is written in a spec by one of its `names`, with its fields as arguments.
"""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from cnnc.record import dataclass
from cnnc.signature import Floats


class OutOfRange(ValueError):
    """A field outside its range; `attribute` names it."""

    def __init__(self, message: str, attribute: str) -> None:
        super().__init__(message)
        self.message = message
        self.attribute = attribute


def _require(holds: bool, message: str, attribute: str) -> None:
    if not holds:
        raise OutOfRange(message, attribute)


@dataclass(frozen=True)
class Entry:
    """What an entry of the train section may name."""

    names: ClassVar[tuple[str, ...]] = ()

    def validate(self) -> None:
        """Raises OutOfRange when a field is outside its range."""


@dataclass(frozen=True)
class Augment(Entry):
    """A random change of a training picture, `(height, width, channels)` uint8 or float."""


@dataclass(frozen=True)
class PadCrop(Augment):
    """Pad every side by `pixels` of zeros, cut the original size out at random (He et al. 2015, section 4.2)."""

    names = ("pad_crop",)
    pixels: int = 4

    def validate(self) -> None:
        _require(0 < self.pixels <= 1024, "`pixels` must be from 1 to 1024", "pixels")


@dataclass(frozen=True)
class Flip(Augment):
    """Mirror left and right with probability `probability`."""

    names = ("flip",)
    probability: float = 0.5

    def validate(self) -> None:
        _require(0 <= self.probability <= 1, "`probability` must be from 0 to 1", "probability")


@dataclass(frozen=True)
class RandomResizedCrop(Augment):
    """Cut a random part out and resize it to the input (Szegedy et al. 2015).

    The part has `minimum_area` up to `maximum_area` of the picture's area and an aspect of 3/4 up to 4/3.
    """

    names = ("random_resized_crop",)
    minimum_area: float = 0.08
    maximum_area: float = 1.0

    def validate(self) -> None:
        _require(0 < self.minimum_area <= 1, "`minimum_area` must be above 0 and at most 1", "minimum_area")
        _require(
            self.minimum_area <= self.maximum_area <= 1,
            "`maximum_area` must be from `minimum_area` to 1",
            "maximum_area",
        )


@dataclass(frozen=True)
class ColorJitter(Augment):
    """Change brightness, contrast and saturation by a factor within 1 +- the field, and hue by a share of the circle.

    The four come in a random order (Szegedy et al. 2015; Howard 2013).
    """

    names = ("color_jitter",)
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.0

    def validate(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            _require(0 <= getattr(self, name) <= 1, f"`{name}` must be from 0 to 1", name)
        _require(0 <= self.hue <= 0.5, "`hue` must be from 0 to 0.5", "hue")


@dataclass(frozen=True)
class Cutout(Augment):
    """Grey a square of `size` pixels a side round a random pixel, cut off at the sides (DeVries & Taylor 2017)."""

    names = ("cutout",)
    size: int = 16

    def validate(self) -> None:
        _require(0 < self.size <= 4096, "`size` must be from 1 to 4096", "size")


@dataclass(frozen=True)
class RandAugment(Augment):
    """Apply `layers` of 14 operations, drawn at random, each at `magnitude` of 10 (Cubuk et al. 2019)."""

    names = ("rand_augment",)
    layers: int = 2
    magnitude: float = 9.0

    def validate(self) -> None:
        _require(0 < self.layers <= 8, "`layers` must be from 1 to 8", "layers")
        _require(0 <= self.magnitude <= 30, "`magnitude` must be from 0 to 30", "magnitude")


@dataclass(frozen=True)
class AutoAugment(Augment):
    """Apply one of the 25 pairs of operations that were learned on a data set (Cubuk et al. 2018, tables 7 and 9)."""

    names = ("auto_augment",)
    policy: Literal["imagenet", "cifar10"] = "imagenet"


@dataclass(frozen=True)
class Mix(Augment):
    """A change that mixes pairs of pictures and their labels: targets become shares of classes."""

    @property
    def alpha(self) -> float:
        """The share of each is drawn from Beta(alpha, alpha). A field of every mix."""
        raise AssertionError(type(self).__name__)


@dataclass(frozen=True)
class Mixup(Mix):
    """Lay another picture of the batch over each, and mix the labels alike (Zhang et al. 2018)."""

    names = ("mixup",)
    alpha: float = 0.2

    def validate(self) -> None:
        _require(0 < self.alpha <= 100, "`alpha` must be above 0 and at most 100", "alpha")


@dataclass(frozen=True)
class Cutmix(Mix):
    """Set a box of another picture of the batch into each, and mix the labels by its area (Yun et al. 2019)."""

    names = ("cutmix",)
    alpha: float = 1.0

    def validate(self) -> None:
        _require(0 < self.alpha <= 100, "`alpha` must be above 0 and at most 100", "alpha")


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
        _require(0 <= self.label_smoothing < 1, "`label_smoothing` must be from 0 up to 1", "label_smoothing")
        _require(self.weight >= 0, "`weight` must not be negative", "weight")


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Sigmoid cross-entropy with 0/1 targets; a sigmoid that ends the network is left out and logits are used."""

    names = ("binary_cross_entropy",)
    label_smoothing: float = 0.0
    weight: float = 1.0

    def validate(self) -> None:
        _require(0 <= self.label_smoothing < 1, "`label_smoothing` must be from 0 up to 1", "label_smoothing")
        _require(self.weight >= 0, "`weight` must not be negative", "weight")


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """Mean squared error. Against integer classes an output of many channels is held to their one-hot vectors."""

    names = ("mse", "mean_squared_error")
    weight: float = 1.0

    def validate(self) -> None:
        _require(self.weight >= 0, "`weight` must not be negative", "weight")


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
        _require(0 <= self.momentum < 1, "`momentum` must be from 0 up to 1", "momentum")
        _require(not self.nesterov or self.momentum > 0, "`nesterov` needs a `momentum` above 0", "nesterov")
        _require(self.weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")


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
        _require(0 <= self.decay < 1, "`decay` must be from 0 up to 1", "decay")
        _require(0 <= self.momentum < 1, "`momentum` must be from 0 up to 1", "momentum")
        _require(self.epsilon > 0, "`epsilon` must be above 0", "epsilon")
        _require(self.weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")


def _require_moments(b1: float, b2: float, epsilon: float, weight_decay: float) -> None:
    _require(0 <= b1 < 1, "`b1` must be from 0 up to 1", "b1")
    _require(0 <= b2 < 1, "`b2` must be from 0 up to 1", "b2")
    _require(epsilon > 0, "`epsilon` must be above 0", "epsilon")
    _require(weight_decay >= 0, "`weight_decay` must not be negative", "weight_decay")


@dataclass(frozen=True)
class Schedule(Entry):
    """Learning rate over epochs: a linear warm-up from zero over `warmup` epochs to `peak`, then the class's own."""

    peak: float = 0.01
    warmup: float = 0.0

    def validate(self) -> None:
        _require(0 < self.peak < math.inf, "`peak` must be above 0", "peak")
        _require(0 <= self.warmup < math.inf, "`warmup` must not be negative", "warmup")


@dataclass(frozen=True)
class Constant(Schedule):
    """Stays at `peak`."""

    names = ("constant",)


@dataclass(frozen=True)
class Step(Schedule):
    """Is multiplied by `factor` at each of the epochs `at`, counted from the start of training."""

    names = ("step",)
    at: Floats = ()
    factor: float = 0.1

    def validate(self) -> None:
        super().validate()
        _require(list(self.at) == sorted(self.at) and all(x > 0 for x in self.at), "`at` must rise from above 0", "at")
        _require(0 < self.factor <= 1, "`factor` must be above 0 and at most 1", "factor")


@dataclass(frozen=True)
class Cosine(Schedule):
    """Falls along half a cosine to `floor` times the peak at the last epoch (Loshchilov & Hutter 2017)."""

    names = ("cosine",)
    floor: float = 0.0

    def validate(self) -> None:
        super().validate()
        _require(0 <= self.floor <= 1, "`floor` must be from 0 to 1", "floor")


@dataclass(frozen=True)
class Linear(Schedule):
    """Falls along a line to `floor` times the peak at the last epoch."""

    names = ("linear",)
    floor: float = 0.0

    def validate(self) -> None:
        super().validate()
        _require(0 <= self.floor <= 1, "`floor` must be from 0 to 1", "floor")


@dataclass(frozen=True)
class Exponential(Schedule):
    """Is multiplied by `factor` every `every` epochs after the warm-up, continuously."""

    names = ("exponential",)
    factor: float = 0.97
    every: float = 1.0

    def validate(self) -> None:
        super().validate()
        _require(0 < self.factor <= 1, "`factor` must be above 0 and at most 1", "factor")
        _require(self.every > 0, "`every` must be above 0", "every")


@dataclass(frozen=True)
class Recipe:
    """The whole `train` section, defaults filled in. Every field can be overridden by a flag of `cnnc train`.

    `losses` pairs an output's name with its loss; the name is None where the section gives one loss for all.
    `weights` is the file or run that the first weights come from. `freeze`, `unfreeze` and `rates` name layers by their
    labels and by globs: what does not learn, from which epoch on (counted from 1) it does after all, and the peak of a
    learning rate of its own.
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
