"""The base of all operators: attributes, a shape rule, parameters with initialisers, and multiply-accumulates.

Shapes are without the batch, channels last: `(height, width, channels)`, `(length, channels)`, `(features,)`. The rank
of a shape is its number of spatial axes. An operator knows nothing of spans, text or backends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from typing import Any, ClassVar, Literal, TypeVar

from cnnc.frozen import dataclass
from cnnc.ops.signature import signature_of

Shape = tuple[int, ...]
T = TypeVar("T")
AnyOp = TypeVar("AnyOp", bound="Op")

LARGEST = 2**31
"""No whole number among the attributes may be larger: it is a slip, and arrays of that size fit no machine."""

Initializer = Literal[
    "zeros",
    "ones",
    "he_normal",
    "he_uniform",
    "glorot_normal",
    "glorot_uniform",
    "lecun_normal",
    "normal",  # of deviation 0.02 (Radford et al. 2019)
    "quarter",  # the constant 0.25 (He et al. 2015, PReLU)
]


class OpError(ValueError):
    """An operator that cannot be: `code` is `shape`, `value` or `arity`; `attribute` names the one at fault, if any."""

    def __init__(
        self, message: str, *, code: str = "shape", attribute: str | None = None, help: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.attribute = attribute
        self.help = help


@dataclass(frozen=True)
class Weight:
    """An array that an operator owns. Its initialiser is a number where it is that number everywhere.

    `fan_in` and `fan_out` are those of Glorot & Bengio 2010 and He et al. 2015. `trainable` is false for batch norm's
    running statistics; `decay` is false for biases and norms, which weight decay leaves alone.
    """

    shape: Shape
    initializer: Initializer | float
    fan_in: int = 0
    fan_out: int = 0
    trainable: bool = True
    decay: bool = True


@dataclass(frozen=True)
class Op:
    """An operator. Subclasses are frozen dataclasses whose fields are the attributes that a spec may give.

    One without attributes inherits all that the decorator would make, and does without its millisecond of import.
    """

    names: ClassVar[tuple[str, ...]] = ()
    """As a spec writes it; the first is canonical, the others are aliases. Empty: not writable in a spec."""
    arity: ClassVar[tuple[int, int | None]] = (1, 1)
    """Fewest and most inputs; None: no upper bound."""

    def infer(self, *inputs: Shape) -> Shape:
        """The output's shape: the first input's, unless an operator says otherwise. Raises OpError for a misfit."""
        return inputs[0]

    def weights(self, *inputs: Shape) -> Mapping[str, Weight]:
        """The arrays the operator owns, by name (`kernel`, `bias`, `gamma`, ...), in a fixed order."""
        return {}

    def macs(self, output: Shape, *inputs: Shape) -> int:
        """Multiply-accumulates for one sample."""
        return 0

    def validate(self) -> None:
        """Raises OpError(code="value") when an attribute is outside its range, whatever the input."""
        for parameter in signature_of(type(self)):
            _require_sane(getattr(self, parameter.name), parameter.name)

    def resolve(self, *inputs: Shape) -> Op:
        """This operator for the rank of its first input, as `spell_out` has it; one form of what has two ways to write.

        Raises OpError when an attribute has another number of axes than the input.
        """
        return spell_out(self, inputs[0]) if inputs else self

    @property
    def name(self) -> str:
        """The canonical name: the first of `names`."""
        return self.names[0]


def spell_out(op: AnyOp, shape: Shape) -> AnyOp:
    """An operator with every `dims` and `padding` attribute written out for the rank of an input."""
    spatial = [p.name for p in signature_of(type(op)) if p.type.kind in ("dims", "padding")]
    if not spatial:
        return op
    rank = spatial_rank(op, shape)
    values = {attribute: getattr(op, attribute) for attribute in spatial}
    spread_out: dict[str, Any] = {a: spread(v, rank, a, shape) for a, v in values.items() if isinstance(v, tuple)}
    if values.get("padding") == "half":
        ones = (1,) * rank
        kernel, dilation = spread_out["kernel"], spread_out.get("dilation", ones)
        is_same = spread_out.get("stride", kernel) == ones and all(k % 2 for k in kernel)
        spread_out["padding"] = "same" if is_same else half_padding(kernel, dilation)
    return replace(op, **spread_out)


def half_padding(kernel: tuple[int, ...], dilation: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """Half the kernel on both sides of every axis, whatever the stride (Dumoulin & Visin 2016, section 2.3).

    That is how the networks of PyTorch pad, and Caffe's before them. With stride 1 and an odd kernel it is `same`.
    """
    sides = ((k - 1) * d // 2 for k, d in zip(kernel, dilation, strict=True))
    return tuple((side, side) for side in sides)


def spread(value: tuple[T, ...], rank: int, attribute: str, shape: Shape) -> tuple[T, ...]:
    """A value an axis: one value counts for every axis, otherwise there must be as many as axes."""
    if len(value) == 1:
        return value * rank
    if len(value) != rank:
        raise OpError(
            f"`{attribute}` has {len(value)} axes, but the input {format_shape(shape)} has {rank}",
            attribute=attribute,
            help=f"write one number for all axes, or {rank} joined by `x`" if rank > 1 else "write one number",
        )
    return value


def spatial_rank(op: Op, shape: Shape) -> int:
    """How many spatial axes a shape has, for an operator that works along 1, 2 or 3 of them."""
    rank = len(shape) - 1
    if rank == 0:
        raise OpError(f"`{op.name}` works along spatial axes, but its input {format_shape(shape)} has none")
    if rank > 3:
        raise OpError(f"`{op.name}` works along at most 3 spatial axes, but its input {format_shape(shape)} has {rank}")
    return rank


def format_shape(shape: Shape) -> str:
    """`56x56x256`, as the field writes it; a scalar is `()`."""
    return "x".join(map(str, shape)) if shape else "()"


def _require_sane(value: object, attribute: str) -> None:
    if isinstance(value, tuple):
        for part in value:
            _require_sane(part, attribute)
    elif isinstance(value, float) and not isfinite(value):
        raise OpError(f"`{attribute}` must be a finite number, but is {value}", code="value", attribute=attribute)
    elif isinstance(value, int) and value > LARGEST:
        raise OpError(f"`{attribute}` must not be above {LARGEST}", code="value", attribute=attribute)
