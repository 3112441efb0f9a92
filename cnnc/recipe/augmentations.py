"""Random changes of training pictures, as the train section's `augment` names them."""

from __future__ import annotations

from typing import ClassVar, Literal

from cnnc.frozen import dataclass
from cnnc.recipe.entry import SHARE, UNIT, Entry, Range, number, require


@dataclass(frozen=True)
class Augment(Entry):
    """A random change of a training picture, `(height, width, channels)` uint8 or float."""

    noun = "augmentation"
    moves: ClassVar[bool] = True
    """Whether what is in the picture moves to other places; else its colours change, or a part of it is covered."""


@dataclass(frozen=True)
class PadCrop(Augment):
    """Pad every side by `pixels` of zeros, cut the original size out at random (He et al. 2015, section 4.2)."""

    names = ("pad_crop",)
    pixels: int = number(4, Range(1, 1024))


@dataclass(frozen=True)
class Flip(Augment):
    """Mirror left and right with probability `probability`."""

    names = ("flip",)
    probability: float = number(0.5, UNIT)


@dataclass(frozen=True)
class RandomResizedCrop(Augment):
    """Cut a random part out and resize it to the input (Szegedy et al. 2015).

    The part has `minimum_area` up to `maximum_area` of the picture's area and an aspect of 3/4 up to 4/3.
    """

    names = ("random_resized_crop",)
    minimum_area: float = number(0.08, SHARE)
    maximum_area: float = 1.0

    def validate(self) -> None:
        super().validate()
        holds = self.minimum_area <= self.maximum_area <= 1
        require(holds, "`maximum_area` must be from `minimum_area` to 1", "maximum_area")


@dataclass(frozen=True)
class ColorJitter(Augment):
    """Change brightness, contrast and saturation by a factor within 1 +- the field, and hue by a share of the circle.

    The four come in a random order (Szegedy et al. 2015; Howard 2013).
    """

    names = ("color_jitter",)
    moves = False
    brightness: float = number(0.4, UNIT)
    contrast: float = number(0.4, UNIT)
    saturation: float = number(0.4, UNIT)
    hue: float = number(0.0, Range(0, 0.5))


@dataclass(frozen=True)
class Cutout(Augment):
    """Grey a square of `size` pixels a side round a random pixel, cut off at the sides (DeVries & Taylor 2017)."""

    names = ("cutout",)
    moves = False
    size: int = number(16, Range(1, 4096))


@dataclass(frozen=True)
class RandAugment(Augment):
    """Apply `layers` of 14 operations, drawn at random, each at `magnitude` of 10 (Cubuk et al. 2019)."""

    names = ("rand_augment",)
    layers: int = number(2, Range(1, 8))
    magnitude: float = number(9.0, Range(0, 30))


@dataclass(frozen=True)
class AutoAugment(Augment):
    """Apply one of the 25 pairs of operations that were learned on a data set (Cubuk et al. 2018, tables 7 and 9)."""

    names = ("auto_augment",)
    policy: Literal["imagenet", "cifar10"] = "imagenet"


@dataclass(frozen=True)
class Mix(Augment):
    """A change that mixes pairs of pictures and their labels: targets become shares of classes."""

    moves = False

    @property
    def alpha(self) -> float:
        """The share of each is drawn from Beta(alpha, alpha). A field of every mix."""
        raise AssertionError(type(self).__name__)


@dataclass(frozen=True)
class Mixup(Mix):
    """Lay another picture of the batch over each, and mix the labels alike (Zhang et al. 2018)."""

    names = ("mixup",)
    alpha: float = number(0.2, Range(0, 100, below=True))


@dataclass(frozen=True)
class Cutmix(Mix):
    """Set a box of another picture of the batch into each, and mix the labels by its area (Yun et al. 2019)."""

    names = ("cutmix",)
    alpha: float = number(1.0, Range(0, 100, below=True))
