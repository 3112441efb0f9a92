"""Layers that bring activations to a common scale."""

from __future__ import annotations

from collections.abc import Mapping

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape, Weight
from cnnc.ops.bounds import require_at_least, require_groups, require_positive


@dataclass(frozen=True)
class BatchNorm(Op):
    """Ioffe & Szegedy 2015: every channel to mean 0 and variance 1 over the batch and space, then gamma and beta.

    In training over the batch at hand (the biased variance), else by the running statistics, which training updates to
    momentum * old + (1 - momentum) * batch's, as Keras does.
    """

    names = ("bn", "batch_norm")
    momentum: float = 0.9
    epsilon: float = 1e-5
    scale: bool = True
    center: bool = True

    def validate(self) -> None:
        super().validate()
        if not 0 <= self.momentum <= 1:
            raise OpError(f"`momentum` must be from 0 to 1, but is {self.momentum}", code="value", attribute="momentum")
        require_positive(self, "epsilon")

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1:]
        return {
            **_scale_and_center(channels, self.scale, self.center),
            "mean": Weight(channels, "zeros", trainable=False, decay=False),
            "variance": Weight(channels, "ones", trainable=False, decay=False),
        }


@dataclass(frozen=True)
class LayerNorm(Op):
    """Ba et al. 2016, over the channels of every position, as transformers and ConvNeXt use it."""

    names = ("layer_norm", "ln")
    epsilon: float = 1e-6
    scale: bool = True
    center: bool = True

    def validate(self) -> None:
        super().validate()
        require_positive(self, "epsilon")

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        return _scale_and_center(inputs[0][-1:], self.scale, self.center)


@dataclass(frozen=True)
class GroupNorm(Op):
    """Wu & He 2018: mean 0 and variance 1 over space and each of `groups` runs of neighbouring channels."""

    names = ("group_norm", "gn")
    groups: int = 32
    epsilon: float = 1e-5
    scale: bool = True
    center: bool = True

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "groups")
        require_positive(self, "epsilon")

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        require_groups(shape[-1], self.groups)
        return shape

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        return _scale_and_center(inputs[0][-1:], self.scale, self.center)


@dataclass(frozen=True)
class LayerScale(Op):
    """Every channel times a learnt number that is `value` at first (Touvron et al. 2021, CaiT, section 2).

    It ends a residual branch that is to begin as almost nothing. As norms, it is left alone by weight decay.
    """

    names = ("layer_scale",)
    value: float = 1e-6

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        return {"gamma": Weight(inputs[0][-1:], self.value, decay=False)}


@dataclass(frozen=True)
class LocalResponseNorm(Op):
    """Krizhevsky et al. 2012, section 3.3: x_c / (bias + alpha * sum of x_i^2 for |i - c| <= radius)^beta."""

    names = ("lrn", "local_response_norm")
    radius: int = 2
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 2.0

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 0, "radius", "alpha")
        require_positive(self, "bias")


def _scale_and_center(channels: Shape, scale: bool, center: bool) -> Mapping[str, Weight]:
    gamma = {"gamma": Weight(channels, "ones", decay=False)} if scale else {}
    beta = {"beta": Weight(channels, "zeros", decay=False)} if center else {}
    return {**gamma, **beta}
