"""One call of jax, or of `module_functions`, for every operator as at inference: what `module_body` writes of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch

from cnnc import ops
from cnnc.ops import Op, Shape


@dataclass(frozen=True)
class Term:
    """`function(operands, arguments)`, with the layer's arrays before the operands where it `owns` some.

    A function of one of `+-*@` stands between the operands instead.
    """

    function: str
    arguments: tuple[str, ...] = ()
    owns: bool = False

    def write(self, operands: Sequence[str], arrays: str) -> str:
        """The expression. `arrays` is how the layer's arrays are reached: `params["stem.conv"]`."""
        if self.function in "+-*@":
            return f" {self.function} ".join(operands)
        given = (*([arrays] if self.owns else ()), *operands, *self.arguments)
        return f"{self.function}({', '.join(given)})"


@singledispatch
def term(op: Op, *shapes: Shape) -> Term:
    """How a resolved operator is written, for inputs of these shapes. `Term.function` is empty for one unknown."""
    return Term("")


@term.register
def _(op: ops.Conv, *shapes: Shape) -> Term:
    groups = (f"groups={op.groups}",) if op.groups > 1 else ()
    return Term("conv", (*_steps(op), *groups), owns=True)


@term.register
def _(op: ops.Depthwise, *shapes: Shape) -> Term:
    return Term("depthwise", _steps(op), owns=True)


@term.register
def _(op: ops.ConvTranspose, *shapes: Shape) -> Term:
    extents = [(k - 1) * d + 1 for k, d in zip(op.kernel, op.dilation, strict=True)]
    found = op.windows(shapes[0])
    pads = tuple((e - 1 - axis.before, e - 1 - axis.after) for e, axis in zip(extents, found, strict=True))
    return Term("conv_transpose", (f"padding={pads}", *_stride(op), *_dilation(op)), owns=True)


@term.register
def _(op: ops.Dense, *shapes: Shape) -> Term:
    return Term("dense", owns=True)


@term.register
def _(op: ops.Embedding, *shapes: Shape) -> Term:
    return Term("embedding", owns=True)


@term.register
def _(op: ops.Attention, *shapes: Shape) -> Term:
    return Term("attention", owns=True)


@term.register
def _(op: ops.BatchNorm, *shapes: Shape) -> Term:
    return Term("batch_norm", (f"epsilon={op.epsilon}",), owns=True)


@term.register
def _(op: ops.LayerNorm, *shapes: Shape) -> Term:
    return Term("layer_norm", (f"epsilon={op.epsilon}",), owns=True)


@term.register
def _(op: ops.GroupNorm, *shapes: Shape) -> Term:
    return Term("group_norm", (f"groups={op.groups}", f"epsilon={op.epsilon}"), owns=True)


@term.register
def _(op: ops.LocalResponseNorm, *shapes: Shape) -> Term:
    names = ("radius", "alpha", "beta", "bias")
    return Term("local_response_norm", tuple(f"{name}={getattr(op, name)}" for name in names))


@term.register
def _(op: ops.Relu, *shapes: Shape) -> Term:
    return Term("jax.nn.relu")


@term.register
def _(op: ops.Relu6, *shapes: Shape) -> Term:
    return Term("jax.nn.relu6")


@term.register
def _(op: ops.LeakyRelu, *shapes: Shape) -> Term:
    return Term("jax.nn.leaky_relu", (str(op.slope),))


@term.register
def _(op: ops.Prelu, *shapes: Shape) -> Term:
    return Term("prelu", owns=True)


@term.register
def _(op: ops.Elu, *shapes: Shape) -> Term:
    return Term("jax.nn.elu", (str(op.alpha),))


@term.register
def _(op: ops.Swish, *shapes: Shape) -> Term:
    return Term("jax.nn.silu")


@term.register
def _(op: ops.HardSwish, *shapes: Shape) -> Term:
    return Term("jax.nn.hard_silu")


@term.register
def _(op: ops.HardSigmoid, *shapes: Shape) -> Term:
    return Term("jax.nn.hard_sigmoid")


@term.register
def _(op: ops.Gelu, *shapes: Shape) -> Term:
    return Term("jax.nn.gelu", (f"approximate={op.approximate}",))


@term.register
def _(op: ops.Mish, *shapes: Shape) -> Term:
    return Term("jax.nn.mish")


@term.register
def _(op: ops.Sigmoid, *shapes: Shape) -> Term:
    return Term("jax.nn.sigmoid")


@term.register
def _(op: ops.Tanh, *shapes: Shape) -> Term:
    return Term("jnp.tanh")


@term.register
def _(op: ops.Softmax, *shapes: Shape) -> Term:
    return Term("jax.nn.softmax")


@term.register
def _(op: ops.MaxPool, *shapes: Shape) -> Term:
    return Term("max_pool", _pool(op))


@term.register
def _(op: ops.AvgPool, *shapes: Shape) -> Term:
    return Term("average_pool", (*_pool(op), *(("count_padding=True",) if op.count_padding else ())))


@term.register
def _(op: ops.GlobalPool, *shapes: Shape) -> Term:
    axes = tuple(range(1, len(shapes[0])))
    keep = ("keepdims=True",) if op.keepdims else ()
    return Term("jnp.mean" if op.mode == "average" else "jnp.max", (f"axis={axes}", *keep))


@term.register
def _(op: ops.Flatten, *shapes: Shape) -> Term:
    return Term("flatten")


@term.register
def _(op: ops.Reshape, *shapes: Shape) -> Term:
    return Term("reshape", (f"shape={op.shape}",))


@term.register
def _(op: ops.Dropout | ops.DropPath, *shapes: Shape) -> Term:
    raise AssertionError(f"{op} is the identity, which nothing is written of")


@term.register
def _(op: ops.Add, *shapes: Shape) -> Term:
    return Term("+")


@term.register
def _(op: ops.Sub, *shapes: Shape) -> Term:
    return Term("-")


@term.register
def _(op: ops.Matmul, *shapes: Shape) -> Term:
    return Term("@")


@term.register
def _(op: ops.Transpose, *shapes: Shape) -> Term:
    return Term("jnp.matrix_transpose")


@term.register
def _(op: ops.Squeeze, *shapes: Shape) -> Term:
    return Term("reshape", (f"shape={op.infer(*shapes)}",))


@term.register
def _(op: ops.Positions, *shapes: Shape) -> Term:
    return Term("positions", (f"base={op.base}",))


@term.register
def _(op: ops.Mul, *shapes: Shape) -> Term:
    return Term("*")


@term.register
def _(op: ops.Concat, *shapes: Shape) -> Term:
    return Term("concat")


@term.register
def _(op: ops.Pad, *shapes: Shape) -> Term:
    return Term("pad", (f"amount={op.amount}", *((f"value={op.value}",) if op.value else ())))


@term.register
def _(op: ops.Crop, *shapes: Shape) -> Term:
    return Term("crop", (f"amount={op.amount}",))


@term.register
def _(op: ops.Resize, *shapes: Shape) -> Term:
    return Term(f"resize_{op.method}", (f"sizes={op.infer(*shapes)[:-1]}",))


@term.register
def _(op: ops.SpaceToDepth, *shapes: Shape) -> Term:
    return Term("space_to_depth", (f"block={op.block}",))


@term.register
def _(op: ops.Slice, *shapes: Shape) -> Term:
    return Term("slice_channels", (f"start={op.start}", f"stop={op.stop}"))


@term.register
def _(op: ops.ChannelShuffle, *shapes: Shape) -> Term:
    return Term("channel_shuffle", (f"groups={op.groups}",))


@term.register
def _(op: ops.LayerScale, *shapes: Shape) -> Term:
    return Term("layer_scale", owns=True)


@term.register
def _(op: ops.Normalize, *shapes: Shape) -> Term:
    assert op.preset == "none", op
    return Term("normalize", (f"mean={op.mean}", f"std={op.std}"))


@term.register
def _(op: ops.Bgr, *shapes: Shape) -> Term:
    return Term("jnp.flip", ("axis=-1",))


def _steps(op: ops.Conv | ops.Depthwise) -> tuple[str, ...]:
    return (*_stride(op), *_padding(op.padding), *_dilation(op))


def _pool(op: ops.MaxPool | ops.AvgPool) -> tuple[str, ...]:
    return (f"window={op.kernel}", f"stride={op.stride}", *_padding(op.padding))


def _stride(op: ops.Conv | ops.Depthwise | ops.ConvTranspose) -> tuple[str, ...]:
    return (f"stride={op.stride}",) if max(op.stride) > 1 else ()


def _dilation(op: ops.Conv | ops.Depthwise | ops.ConvTranspose) -> tuple[str, ...]:
    return (f"dilation={op.dilation}",) if max(op.dilation) > 1 else ()


def _padding(padding: str | tuple[tuple[int, int], ...]) -> tuple[str, ...]:
    """Jax's SAME and VALID are cnnc's; SAME is the default of what takes it."""
    if padding == "same":
        return ()
    return (f'padding="{padding.upper()}"' if isinstance(padding, str) else f"padding={padding}",)
