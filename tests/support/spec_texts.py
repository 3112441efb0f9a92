"""Random specs with the shape of their result: a second, small account of what the language means.

Every spec is valid, and stays so when it is made wider, deeper or larger.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st

from cnnc.ops import Shape

Draw = Callable[[st.SearchStrategy[Any]], Any]


@dataclass(frozen=True)
class Random:
    """A spec, and the shape of each of its outputs."""

    text: str
    outputs: dict[str, Shape]


@dataclass(frozen=True)
class Flow:
    """What flows in a pipeline: its size along every axis, and its channels."""

    sizes: tuple[int, ...]
    channels: int

    @property
    def shape(self) -> Shape:
        return (*self.sizes, self.channels)

    def wide(self, channels: int) -> Flow:
        return replace(self, channels=channels)

    def strided(self, stride: int) -> Flow:
        return replace(self, sizes=tuple(-(-size // stride) for size in self.sizes))


@dataclass(frozen=True)
class Layer:
    """A layer's text and what it makes of a flow."""

    text: str
    effect: Callable[[Flow], Flow] = lambda flow: flow


KEEPING = (
    *("bn", "layer_norm", "group_norm(1)", "lrn", "normalize(mean=0.5, std=2)", "bn(scale=false)"),
    *("relu", "relu6", "leaky_relu(0.2)", "prelu", "elu", "swish", "silu", "hard_swish", "hard_sigmoid"),
    *("gelu", "gelu(approximate=true)", "mish", "sigmoid", "tanh", "softmax", "identity"),
)
DROPPING = ("dropout(0.3)", "drop_path(0.2)")
BLOCKS = """
block gated(f: channels, act: layer = relu, norm: layer = bn) {
  wide: conv(3, f) | norm | act
  mul {
    identity
    globalpool(keepdims=true) | conv(1, wide.channels) | sigmoid
  }
}

block fit(f: channels, stride=1) {
  if stride != 1 or in.channels != f {
    conv(1, f, stride=stride) | bn
  } else {
    depthwise(3)
  }
}

block halve(turns: repeats = 1, kernel: dims = 3) {
  turns x (depthwise(kernel) | conv(1, in.channels, groups=in.channels))
  add { avgpool(2)
    maxpool(2) | tanh if in.channels > 0
    identity if in.channels < 0 }
}

block twice(unit: layer) {
  unit(in.channels) | unit(4, stride=2)
}
"""

_few = st.sampled_from([2, 3, 4, 6])
_stride = st.sampled_from([1, 1, 2])


@st.composite
def random_specs(draw: Draw, *, of_pixels: bool = False) -> Random:
    """A model of one to three lines, each from the one above it or from an earlier one, with one output or several.

    One `of_pixels` prepares one input or two of them first, in one of the ways that there are.
    """
    rank = draw(st.sampled_from([0, 1, 1, 2, 2, 2, 3, 3]))
    least, most = {0: (3, 6), 1: (3, 12), 2: (3, 7), 3: (3, 4)}[rank]
    if of_pixels:
        least, most = {0: (3, 6), 1: (8, 16), 2: (8, 11), 3: (4, 6)}[rank]
    sizes = tuple(draw(st.integers(least, most)) for _ in range(rank))
    flow = Flow(sizes, draw(st.sampled_from([1, 3, 4])))
    lines = [f"input {'x'.join(map(str, flow.shape))}"]
    if of_pixels:
        lines, flow = _preparation(draw, flow)
    results: dict[str, Flow] = {}
    unread: list[str] = []
    for index in range(draw(st.integers(1, 3))):
        start = ""
        if results and draw(st.booleans()):
            label = draw(st.sampled_from(sorted(results)))
            start, flow = f"{label} | ", results[label]
            unread = [name for name in unread if name != label]
        elif unread:
            unread.pop()
        layers, flow = _pipeline(draw, flow, draw(st.integers(1, 3)))
        results[f"part{index}"] = flow
        unread.append(f"part{index}")
        lines.append(f"part{index}: {start}{layers}")
    if draw(st.booleans()):
        outputs = {label: results[label].shape for label in unread}
        lines.append(f"output {', '.join(unread)}")
    else:
        outputs = {"output": (3,)}
        lines.extend(f"flat_{label}: {label} | {'globalpool' if rank else 'flatten'}" for label in unread)
        lines.append(f"concat({', '.join(f'flat_{label}' for label in unread)}) | dense(3) | softmax")
    body = "\n".join(lines)
    return Random(f"model random {{\n{body}\n}}\n{BLOCKS}", outputs)


def _preparation(draw: Draw, flow: Flow) -> tuple[list[str], Flow]:
    """One input or two of pixels, made ready for the network: normalised or not, in either order of colours."""
    size = "x".join(map(str, flow.shape))
    if draw(st.booleans()):
        return [f"input {size}", draw(st.sampled_from(["bn", _normalization(draw, flow)]))], flow
    names = ("left", "right")
    lines = [f"input {name} {size}" for name in names]
    lines += [f"{name}_ready: {name} | {_normalization(draw, flow)}" for name in names]
    return [*lines, "concat(left_ready, right_ready)"], flow.wide(2 * flow.channels)


def _normalization(draw: Draw, flow: Flow) -> str:
    mean, std = draw(st.integers(-50, 255)), draw(st.integers(40, 255))
    means, stds = (draw(st.lists(st.integers(40, 200), min_size=3, max_size=3)) for _ in range(2))
    ways = ["normalize(unit)", "normalize(symmetric)"]
    ways += [f"normalize(mean={mean}, std={std})", f"normalize(mean={mean + 0.3}, std={std})"]
    if flow.channels == 3:
        ways += ["normalize(imagenet)", f"normalize(mean={means}, std={stds})"]
        ways += ["bgr | normalize(unit)", "normalize(symmetric) | bgr"]
    way: str = draw(st.sampled_from(ways))
    return way


def _pipeline(draw: Draw, flow: Flow, length: int) -> tuple[str, Flow]:
    texts = []
    for _ in range(length):
        layer = draw(st.sampled_from(_SPATIAL if flow.sizes else _FLAT))(draw, flow)
        texts.append(layer.text)
        flow = layer.effect(flow)
    return draw(st.sampled_from([" | ", "\n    | ", " |\n    "])).join(texts), flow


def _keeping(draw: Draw, flow: Flow) -> Layer:
    # Networks that drop are compared at inference only.
    return Layer(draw(st.sampled_from(KEEPING * 3 + DROPPING)))


def _dense(draw: Draw, flow: Flow) -> Layer:
    units = draw(_few)
    return Layer(f"dense({units})", lambda flow: flow.wide(units))


def _kernel(draw: Draw, flow: Flow) -> str:
    if draw(st.booleans()):
        return str(draw(st.integers(1, 3)))
    return "x".join(str(draw(st.integers(1, 3))) for _ in flow.sizes)


def _conv(draw: Draw, flow: Flow) -> Layer:
    filters, stride = draw(_few), draw(_stride)
    extra = draw(st.sampled_from(["", ", bias=false", ", bias=true", ", init=lecun_normal"]))
    if stride == 1:
        extra += draw(st.sampled_from(["", ", dilation=2"]))
    return Layer(
        f"conv({_kernel(draw, flow)}, {filters}, stride={stride}{extra})",
        lambda flow: flow.strided(stride).wide(filters),
    )


def _explicit(draw: Draw, flow: Flow) -> Layer:
    """A kernel of 3 with `padding` at each end, or without any where it fits."""
    filters, padding = draw(_few), draw(st.integers(1, 2))
    if min(flow.sizes) >= 3 and draw(st.booleans()):
        return Layer(f"conv(3, {filters}, padding=valid)", lambda flow: _shrunk(flow, 2).wide(filters))
    return Layer(f"conv(3, {filters}, padding={padding})", lambda flow: _shrunk(flow, 2 - 2 * padding).wide(filters))


def _shrunk(flow: Flow, by: int) -> Flow:
    return replace(flow, sizes=tuple(size - by for size in flow.sizes))


def _depthwise(draw: Draw, flow: Flow) -> Layer:
    multiplier, stride = draw(st.integers(1, 2)), draw(_stride)
    return Layer(
        f"depthwise({_kernel(draw, flow)}, stride={stride}, multiplier={multiplier})",
        lambda flow: flow.strided(stride).wide(flow.channels * multiplier),
    )


def _pool(draw: Draw, flow: Flow) -> Layer:
    kind, kernel = draw(st.sampled_from(["maxpool", "avgpool"])), draw(st.integers(2, 3))
    if draw(st.booleans()):
        return Layer(f"{kind}({kernel})", lambda flow: flow.strided(kernel))
    stride = draw(_stride)
    return Layer(f"{kind}({kernel}, stride={stride})", lambda flow: flow.strided(stride))


def _reshaping(draw: Draw, flow: Flow) -> Layer:
    filters = draw(_few)

    def doubled(flow: Flow) -> Flow:
        return replace(flow, sizes=tuple(2 * size for size in flow.sizes))

    if max(flow.sizes) > 6:
        return Layer("pad(1) | crop([2, 1])", lambda flow: _shrunk(flow, 1))
    layer: Layer = draw(
        st.sampled_from(
            [
                Layer("resize(scale=2, method=bilinear)", doubled),
                Layer("resize(scale=2)", doubled),
                Layer(f"conv_transpose(2, {filters}, stride=2)", lambda flow: doubled(flow).wide(filters)),
                Layer("pad(1)", lambda flow: _shrunk(flow, -2)),
                Layer("pad([0, 1], value=0.5)", lambda flow: _shrunk(flow, -1)),
                Layer("attention(2, key_features=3)"),
            ]
        )
    )
    return layer


def _block(draw: Draw, flow: Flow) -> Layer:
    """A block of the prelude's or of the spec's own."""
    f, stride = draw(_few), draw(_stride)

    def to(channels: int, stride: int = stride) -> Callable[[Flow], Flow]:
        return lambda flow: flow.strided(stride).wide(channels)

    layer: Layer = draw(
        st.sampled_from(
            [
                Layer("residual(act=swish)"),
                Layer(f"residual({f}, norm=layer_norm)", to(f, 1)),
                Layer(f"basic({f}, stride={stride})", to(f)),
                Layer(f"bottleneck({f}, stride={stride}, expansion=2)", to(2 * f)),
                Layer("se(2)"),
                Layer(f"mbconv(filters={f}, expand=2, stride={stride})", to(f)),
                Layer(f"fused_mbconv(filters={f}, expand=2, stride={stride})", to(f)),
                Layer(f"inverted_residual({f}, stride={stride}, expand=1)", to(f)),
                Layer(f"depthwise_separable({f}, stride={stride}, skip=true)", to(f)),
                Layer(f"conv_bn_act({f}, stride={stride}, act=leaky_relu(0.3))", to(f)),
                Layer(f"shortcut({f}, {stride})", to(f)),
                Layer(f"vgg({f}, 1)", to(f, 2)),
                Layer(f"gated({f}, norm=group_norm(1), act=tanh | relu)", to(f, 1)),
                Layer(f"fit({f}, {stride})", to(f)),
                Layer("halve(2, kernel=1)", lambda flow: flow.strided(2)),
                Layer("twice(conv(3, bias=false))", to(4, 2)),
            ]
        )
    )
    return layer


def _branches(draw: Draw, flow: Flow) -> Layer:
    f = draw(_few)
    keep = _keeping(draw, flow).text
    kind = draw(st.sampled_from(["identity", "project", "concat", "gate"] if flow.sizes else ["identity", "concat"]))
    if kind == "identity":
        return Layer(f"add {{\n{keep} | {_keeping(draw, flow).text}\nidentity\nidentity if 1 > 2\n}}")
    if kind == "project":
        return Layer(f"add {{\nconv(3, {f}) | {keep}\nconv(1, {f})\n}}", lambda flow: flow.wide(f))
    if kind == "gate":
        return Layer("mul {\nidentity\nglobalpool(keepdims=true) | sigmoid\n}")
    first, second = (_branch(draw, flow), _branch(draw, flow))
    return Layer(
        f"concat {{\n{first.text}\n{second.text} if 2 > 1\nidentity\n}}",
        lambda flow: flow.wide(first.effect(flow).channels + second.effect(flow).channels + flow.channels),
    )


def _branch(draw: Draw, flow: Flow) -> Layer:
    """A branch that keeps the size along every axis."""
    f = draw(_few)
    if not flow.sizes:
        return Layer(f"dense({f})", lambda flow: flow.wide(f))
    return Layer(f"conv({_kernel(draw, flow)}, {f}) | {_keeping(draw, flow).text}", lambda flow: flow.wide(f))


def _repeats(draw: Draw, flow: Flow) -> Layer:
    turns = draw(st.integers(1, 3))
    kind = draw(st.sampled_from(["group", "stride", "list", "stages"] if flow.sizes else ["flat"]))
    if kind == "flat":
        units = [draw(_few) for _ in range(turns)]
        return Layer(f"{turns} x (dense({units}) | {_keeping(draw, flow).text})", lambda flow: flow.wide(units[-1]))
    if kind == "group":
        layers = [_keeping(draw, flow), draw(st.sampled_from([_conv, _depthwise, _block]))(draw, flow)]
        effect = layers[1].effect

        def repeated(flow: Flow) -> Flow:
            for _ in range(turns):
                flow = effect(flow)
            return flow

        return Layer(f"{turns} x ({' | '.join(layer.text for layer in layers)})", repeated)
    if kind == "stride":
        layer = draw(st.sampled_from(["conv(3, {f}, stride=2)", "fit({f}, 2)", "basic({f}, stride=2)"]))
        f = draw(_few)
        return Layer(f"{turns} x {layer.format(f=f)}", lambda flow: flow.strided(2).wide(f))
    filters = [draw(_few), draw(_few)]
    if kind == "list":
        return Layer(f"2 x conv(3, {filters}, stride=[1, 2])", lambda flow: flow.strided(2).wide(filters[1]))
    block = draw(st.sampled_from(["conv(3, {}, stride=[2, 1])", "mbconv(filters={}, expand=[1, 2], stride=[2, 1])"]))
    return Layer(f"[{turns}, 1] x {block.format(filters)}", lambda flow: flow.strided(2).wide(filters[1]))


_FLAT = (_keeping, _dense, _branches, _repeats)
_SPATIAL = (*_FLAT, _conv, _conv, _explicit, _depthwise, _pool, _reshaping, _block, _block)
