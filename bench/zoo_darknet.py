"""A network as a cfg of the kind that darknet reads: a section a layer, every one written out.

Sections and keys are those of darknet and of its fork by A. Bochkovskiy, which knows `groups`, `dilation`,
`scale_channels`, `local_avgpool` and `deconvolutional`. A section reads the one before it; `route` fetches another.
What such a file has no word for is named in `missing`, and stands in it as a section of our own operator's name, so
that lines can be counted all the same. SAME padding is `pad=1`, half the kernel on both sides: the format has no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from cnnc import ops
from cnnc.ir import Graph, Node

_ACTIVATIONS: Mapping[type[ops.Op], str] = {
    ops.Relu: "relu",
    ops.Relu6: "relu6",
    ops.LeakyRelu: "leaky",
    ops.Elu: "elu",
    ops.Swish: "swish",
    ops.Mish: "mish",
    ops.Gelu: "gelu",
    ops.Sigmoid: "logistic",
    ops.Tanh: "tanh",
}
_NOTHING = (ops.Normalize, ops.Bgr, ops.Flatten, ops.Squeeze, ops.DropPath)
"""Pixels are scaled by the program that reads the file, dense layers flatten, and paths are not dropped."""


@dataclass(frozen=True)
class Cfg:
    """The file, and what of the network it cannot say."""

    text: str
    missing: tuple[str, ...]

    @property
    def lines(self) -> int:
        """Lines that are not empty."""
        return sum(bool(line) for line in self.text.splitlines())


def cfg(graph: Graph) -> Cfg:
    """The cfg of a graph."""
    writer = _Writer(graph)
    first, *others = graph.inputs
    for is_missing, what in (
        (bool(others), "several inputs"),
        (len(first.shape) != 3, f"an input of rank {len(first.shape)}"),
        (len(graph.outputs) > 1, "several outputs"),
    ):
        if is_missing:
            writer.miss(what)
    done: set[str] = set()
    for node in graph:
        if node.name not in done:
            done.update(writer.add(node))
    height, width, channels = first.shape if len(first.shape) == 3 else (first.shape[0], 1, first.shape[-1])
    head = ["[net]", "batch=1", f"height={height}", f"width={width}", f"channels={channels}"]
    text = "\n\n".join("\n".join(lines) for lines in [head, *writer.sections])
    return Cfg(f"{text}\n", tuple(writer.missing))


@dataclass
class _Writer:
    """Writes node after node; `places` maps a node's name to the section whose result it is, -1 being the picture."""

    graph: Graph
    sections: list[list[str]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)
    missing: dict[str, None] = field(default_factory=dict)

    def add(self, node: Node) -> list[str]:
        """Write a node, and those after it that are lines of its section; their names."""
        match node.op:
            case ops.Input():
                self.places[node.name] = -1
                return [node.name]
            case ops.Add() | ops.Mul():
                return self._joined(node)
            case ops.Conv() | ops.Depthwise() | ops.ConvTranspose() | ops.Dense():
                return self._linear(node)
            case op if isinstance(op, _NOTHING):
                self.places[node.name] = self.places[node.inputs[0]]
                return [node.name]
            case ops.Concat():
                return self._section([node.name], "route", f"layers={self._places(node.inputs)}")
            case _:
                for name in reversed(node.inputs):
                    self._fetch(name)
                return self._section([node.name], *self._single(node))

    def miss(self, what: str) -> None:
        """Note what the format has no word for."""
        self.missing[what] = None

    def _linear(self, node: Node) -> list[str]:
        self._fetch(node.inputs[0])
        names = [node.name]
        lines = ["batch_normalize=1"] if self._next(names, lambda op: isinstance(op, ops.BatchNorm)) else []
        match node.op:
            case ops.Dense(units=units):
                kind = "connected"
                lines.append(f"output={units}")
            case ops.Conv() | ops.Depthwise() | ops.ConvTranspose() as op:
                kind = "deconvolutional" if isinstance(op, ops.ConvTranspose) else "convolutional"
                lines += [f"filters={node.shape[-1]}", *self._window(op.kernel, op.stride, op.padding)]
                channels = self.graph.input_shapes(node)[0][-1]
                groups = op.groups if isinstance(op, ops.Conv) else channels if isinstance(op, ops.Depthwise) else 1
                lines += [f"groups={groups}"] if groups > 1 else []
                lines += [f"dilation={op.dilation[0]}"] if set(op.dilation) != {1} else []
            case op:
                raise AssertionError(op)
        activation = self._activation(names)
        return self._section(names, kind, *lines, f"activation={activation}")

    def _joined(self, node: Node) -> list[str]:
        """A sum, or a map times a number a channel: of the last section and others."""
        if isinstance(node.op, ops.Add):
            kind = "shortcut"
            *others, last = sorted(node.inputs, key=lambda name: self.places[name])
        else:
            kind = "scale_channels"
            *others, last = sorted(node.inputs, key=lambda name: self.graph[name].shape, reverse=True)
            if self.graph[last].shape == node.shape:
                self.miss("a product of maps")
        self._fetch(last)
        names = [node.name]
        activation = self._activation(names)
        return self._section(names, kind, f"from={self._places(others)}", f"activation={activation}")

    def _single(self, node: Node) -> list[str]:
        match node.op:
            case ops.MaxPool() as op:
                return self._pool("maxpool", op)
            case ops.AvgPool() as op:
                return self._pool("local_avgpool", op)
            case ops.GlobalPool(mode="average"):
                return ["avgpool"]
            case ops.Softmax():
                return ["softmax"]
            case ops.Dropout(rate=rate):
                return ["dropout", f"probability={rate:g}"]
            case ops.BatchNorm():
                return ["batchnorm"]
            case ops.LocalResponseNorm(radius=radius, alpha=alpha, beta=beta, bias=bias):
                size = 2 * radius + 1  # by which darknet divides alpha
                return ["normalization", f"size={size}", f"alpha={alpha * size:g}", f"beta={beta:g}", f"kappa={bias:g}"]
            case ops.Slice(start=start, stop=int(stop)) if start % (stop - start) == 0:
                groups = self.graph.input_shapes(node)[0][-1] // (stop - start)
                return ["route", "layers=-1", f"groups={groups}", f"group_id={start // (stop - start)}"]
            case op if type(op) in _ACTIVATIONS:
                return ["activation", f"activation={_ACTIVATIONS[type(op)]}"]
        self.miss(f"`{node.op.name}`")
        return [node.op.name]

    def _window(
        self, kernel: tuple[int, ...], stride: tuple[int, ...], padding: str | tuple[tuple[int, int], ...]
    ) -> list[str]:
        lines, zeros = self._strided(kernel, stride, padding)
        if zeros is not None:
            return [*lines, f"padding={zeros[0]}"] if zeros != (0, 0) else lines
        return [*lines, "pad=1"]

    def _pool(self, kind: str, op: ops.MaxPool | ops.AvgPool) -> list[str]:
        """A pool's padding is that of both sides together, and gives SAME's sizes unless told."""
        lines, zeros = self._strided(op.kernel, op.stride or op.kernel, op.padding)
        return [kind, *lines, f"padding={sum(zeros)}"] if zeros is not None else [kind, *lines]

    def _strided(
        self, kernel: tuple[int, ...], stride: tuple[int, ...], padding: str | tuple[tuple[int, int], ...]
    ) -> tuple[list[str], tuple[int, int] | None]:
        """The lines of size and stride, and the zeros on both sides of an axis, None for SAME."""
        if len(kernel) != 2:
            self.miss("windows of one axis" if len(kernel) == 1 else f"windows of {len(kernel)} axes")
        if len(set(kernel)) > 1:
            self.miss("kernels that are not square")
        lines = [f"size={kernel[0]}", f"stride={stride[0]}"]
        if isinstance(padding, str):
            return lines, None if padding == "same" else (0, 0)
        if padding[0][0] != padding[0][1]:
            self.miss("padding on one side")
        return lines, padding[0]

    def _activation(self, names: list[str]) -> str:
        found = self._next(names, lambda op: type(op) in _ACTIVATIONS)
        return _ACTIVATIONS[type(found.op)] if found else "linear"

    def _next(self, names: list[str], wanted: Callable[[ops.Op], bool]) -> Node | None:
        """The only reader of the last of `names`, added to them, if it is what is wanted."""
        readers = self.graph.consumers[names[-1]]
        if len(readers) != 1 or not wanted(readers[0].op) or any(name == names[-1] for _, name in self.graph.outputs):
            return None
        names.append(readers[0].name)
        return readers[0]

    def _fetch(self, name: str) -> None:
        """Make a node's result that of the last section."""
        if self.places[name] != len(self.sections) - 1:
            if self.places[name] < 0:
                self.miss("a second reader of the input")
            self._section([], "route", f"layers={self._places([name])}")

    def _places(self, names: Sequence[str]) -> str:
        return ",".join(str(self.places[name] - len(self.sections)) for name in names)

    def _section(self, names: list[str], kind: str, *lines: str) -> list[str]:
        """Add a section, the result of which is that of these nodes."""
        self.sections.append([f"[{kind}]", *lines])
        self.places.update(dict.fromkeys(names, len(self.sections) - 1))
        return names
