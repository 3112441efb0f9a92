"""Embedding of indices, encoding of positions, and attention between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Annotated, Self

from cnnc.frozen import dataclass
from cnnc.ops.base import Op, OpError, Shape, Weight, format_shape
from cnnc.ops.bounds import require_at_least, require_positive
from cnnc.ops.signature import Channels, Type

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Embedding(Op):
    """A learnt vector for every index from 0 up to `vocabulary`: `(length,)` becomes `(length, features)`.

    Table: `(vocabulary, features)`. The input must hold integers.
    """

    names = ("embedding",)
    vocabulary: int
    features: Channels

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "vocabulary", "features")

    def infer(self, *inputs: Shape) -> Shape:
        return (*inputs[0], self.features)

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        return {"table": Weight((self.vocabulary, self.features), "normal", self.vocabulary, self.features)}


@dataclass(frozen=True)
class Positions(Op):
    """The input with sines of its positions added: Vaswani et al. 2017, section 3.5. Nothing of it is learnt.

    Position p gets sin(p / base^(2 i / channels)) in channel 2 i, and the cosine of the same in channel 2 i + 1.
    """

    names = ("positions", "position_encoding")
    base: float = 10_000.0

    def validate(self) -> None:
        super().validate()
        require_positive(self, "base")

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if len(shape) != 2:
            found = f"its input {format_shape(shape)} has {len(shape) - 1}"
            raise OpError(f"`positions` counts along one spatial axis, but {found}")
        return shape

    def table(self, shape: Shape) -> NDArray[np.float64]:
        """The sinusoids added to an input `(positions, channels)`, of its shape."""
        import numpy as np

        length, channels = shape
        angles = np.arange(length)[:, None] / self.base ** (np.arange(channels) // 2 * 2 / channels)
        return np.where(np.arange(channels) % 2 == 0, np.sin(angles), np.cos(angles))


@dataclass(frozen=True)
class Attention(Op):
    """Multi-head self-attention over all positions of `(..., channels)`: Vaswani et al. 2017, section 3.2.2.

    Each of `heads` compares queries with keys of `key_features`, unless given channels / heads, scaled by
    1 / sqrt(key_features), and mixes values of as many. Weights as those of Keras's MultiHeadAttention:
    `query_kernel`, `key_kernel`, `value_kernel` `(channels, heads, key_features)`, `output_kernel`
    `(heads, key_features, channels)`, and a bias each.
    """

    names = ("attention",)
    heads: int = 8
    key_features: Annotated[int | None, Type("int", optional=True)] = None

    def validate(self) -> None:
        super().validate()
        require_at_least(self, 1, "heads", "key_features")

    def resolve(self, *inputs: Shape) -> Self:
        """This operator with `key_features` written out."""
        channels = inputs[0][-1]
        if self.key_features is not None:
            return self
        if channels % self.heads:
            raise OpError(
                f"{channels} channels do not split over {self.heads} heads",
                attribute="heads",
                help="choose heads that divide the channels, or give key_features",
            )
        return replace(self, key_features=channels // self.heads)

    def infer(self, *inputs: Shape) -> Shape:
        (shape,) = inputs
        if len(shape) < 2:
            raise OpError(f"`attention` works between positions, but its input {format_shape(shape)} has none")
        return shape

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        channels = inputs[0][-1]
        heads, features = self.heads, self._features
        found: dict[str, Weight] = {}
        for part in ("query", "key", "value"):
            found[f"{part}_kernel"] = Weight((channels, heads, features), "glorot_uniform", channels, heads * features)
            found[f"{part}_bias"] = Weight((heads, features), "zeros", decay=False)
        found["output_kernel"] = Weight((heads, features, channels), "glorot_uniform", heads * features, channels)
        found["output_bias"] = Weight((channels,), "zeros", decay=False)
        return found

    def macs(self, output: Shape, *inputs: Shape) -> int:
        (shape,) = inputs
        positions, width = prod(shape[:-1]), self.heads * self._features
        return 4 * positions * shape[-1] * width + 2 * positions**2 * width

    @property
    def _features(self) -> int:
        assert self.key_features is not None, "used before resolve"
        return self.key_features
