"""Where a compiled network's accuracy goes: a run beside the TFLite file made of it, tensor by tensor.

A file's tensors bear the names of the nodes whose values they hold in the graph that is compiled, which is the run's
with batch norms folded, and so on; its outputs bear those that the spec gives them. Each is held to what that graph
computes in float32. Errors add up on the way: a layer's figure holds what its inputs brought along, and a layer is to
blame where the figures fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import log10, prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.backends.tflite.fidelity import input_forms
from cnnc.backends.tflite.runtime import Runner, dequantized
from cnnc.data.batches import Batch, evaluation_batches, prefetch
from cnnc.data.decode import undecodable
from cnnc.data.draws import permutation
from cnnc.data.feed import Feed, prepare
from cnnc.data.sources import Part, take
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.ops import BatchNorm, Dropout, Flatten, Input, format_shape
from cnnc.passes import model as passes_model
from cnnc.passes import run as passes
from cnnc.passes.equalize import HOMOGENEOUS
from cnnc.passes.linear import Linear
from cnnc.running import Model, open_tflite, places, stored
from cnnc.tflite.conversion import is_conversion
from cnnc.tflite.program import Program, Tensor
from cnnc.training.events import Report, ignore
from cnnc.training.measure import tested_on
from cnnc.training.record import Run
from cnnc.training.tested import by_name

LAYER_SAMPLES: Final = 64
"""So many pictures are looked at layer by layer, unless fewer are asked for."""
_HELD: Final = 1 << 26
"""Values of all layers that are held at once."""
_BATCH: Final = 64
_GAIN: Final = 6.0
"""dB: a layer that comes nearer by more than this when each channel may have a factor has been equalised."""
_CUT: Final = 0.01
"""Unless so many of its values are cut off, which makes channels smaller too."""
_EXACT: Final = 1e-12
"""Of the signal's power: less is the last bits of float32, and no error."""
_PASSES: Final = HOMOGENEOUS | BatchNorm | Dropout | Flatten
"""What a factor of a channel passes through, on its way to the weights that take it back."""


@dataclass(frozen=True)
class Layer:
    """A tensor of the file beside the float network's value of that name.

    `sqnr` is the ratio of the float value's power to the error's in dB, None where there is no error or nothing but
    zeros; `cosine` is of the angle between them. `used` is the share of the type's codes from the lowest to the highest
    that were seen, `clipped` the share of float values beyond the codes' range; both are None for a float tensor.
    `equalized` says that the compiler moved factors of channels to the next layer, and that they are divided out.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    sqnr: float | None
    cosine: float | None
    used: float | None
    clipped: float | None
    equalized: bool


@dataclass(frozen=True, eq=False)
class Difference:
    """Layers in the network's order, as seen on `samples` pictures; top-1 of both on `count` pictures of `what`.

    `inputs` are the network's inputs as the file's operators see them. `agreeing` is the share of pictures that both
    take for the same class. Without classes the three are None.
    """

    inputs: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    samples: int
    what: str
    count: int
    float_top1: float | None
    file_top1: float | None
    agreeing: float | None

    @property
    def worst_first(self) -> list[Layer]:
        """The layers by their SQNR."""
        return sorted(self.layers, key=_nearness)


def diff(
    run: Run,
    path: Path,
    data: str | None = None,
    *,
    samples: int | None = None,
    folder: Path | None = None,
    held_out: float | None = None,
    skip_corrupt: bool = False,
    threads: int | None = None,
    report: Report = ignore,
) -> Difference:
    """A run beside the int8 file that was compiled of it, on test data as `cnnc eval` takes it.

    Args:
        run: the run.
        path: the file.
        data: the data, by default what the run was trained on.
        samples: pictures to look at, drawn at random but always the same; by default all, and 64 layer by layer.
        folder: where the files of a data set by name lie.
        held_out: the share of a folder without parts that is held out.
        skip_corrupt: whether pictures that cannot be decoded are left out.
        threads: of the CPU for the file.
        report: is told what takes long.

    Raises:
        CnnError: the file is damaged, has no 8-bit tensors, or is of another network than the run.
    """
    watching = open_tflite(path, threads=threads, all_tensors=True)
    graph = run.net.graph
    folded = passes.run(_model(run), passes.INFERENCE_INT8)
    tensors = matched(watching.runner.program, folded.graph, path)
    _require_8_bits(watching.runner.program, path)
    tested = tested_on(run, data, folder, held_out, skip_corrupt, report)
    part = by_name(tested.part, tested.classes, run.data.classes or tested.classes)
    feed = _feed(_drawn(part, samples), graph, skip_corrupt)
    few = _feed(_drawn(part, min(samples or LAYER_SAMPLES, LAYER_SAMPLES)), graph, skip_corrupt)
    inputs, layers = _layers(folded, run.net.graph, watching, tensors, few)
    what = tested.what if samples is None else f"{len(feed):,} of {tested.what}"
    counted = _top1(run, open_tflite(path, threads=threads), feed)
    return Difference(inputs, layers, len(few), what, *counted)


def _model(run: Run) -> passes_model.Model:
    weights = {node: {short: np.asarray(a) for short, a in arrays.items()} for node, arrays in run.weights.items()}
    return passes_model.Model(run.net.graph, weights)


def matched(program: Program, graph: Graph, path: Path) -> dict[str, Tensor]:
    """The tensors that hold a node's value by the node's name, in the order of the operators that write them.

    Raises:
        CnnError: the file is of another network than the graph.
    """
    ports = [program[name] for name in program.inputs]
    inputs = [node.shape for node in graph.inputs]
    if [_sizes(port.shape) for port in ports] != [_sizes(shape) for shape in inputs]:
        wanted = ", ".join(map(format_shape, inputs))
        raise _another(path, graph, f"it takes {', '.join(str(list(p.shape)) for p in ports)}, and the run {wanted}")
    found: dict[str, Tensor] = {}
    for tensor, name in nodes(program, graph).items():  # of a node's tensors the first: others are of another type
        found.setdefault(name, program[tensor])
    within = [name for operator in program for name in operator.outputs if name not in program.outputs]
    if not found or (within and not any(name in graph.by_name for name in within)):  # an `output` is in any network
        raise _another(path, graph, f"none of its {len(within)} inner tensors has the name of a layer of the run's")
    for name, holder in found.items():
        shape = graph[name].shape
        if holder.size != prod(shape):
            raise _another(
                path, graph, f"its `{holder.name}` is {list(holder.shape)}, and the run's {format_shape(shape)}"
            )
    return found


def nodes(program: Program, graph: Graph) -> dict[str, str]:
    """The node whose value it holds for each tensor that has one's name, or is the output that the node is."""
    labels = dict(graph.outputs)
    ends = {name: labels.get(label, "") for name, label in zip(program.outputs, program.output_names, strict=False)}
    written = [name for operator in program for name in operator.outputs]
    found = {name: ends.get(name) or name for name in written}
    return {
        name: node for name, node in found.items() if node in graph.by_name and not isinstance(graph[node].op, Input)
    }


def _require_8_bits(program: Program, path: Path) -> None:
    written = [program[name] for operator in program for name in operator.outputs]
    if not any(tensor.type in ("INT8", "UINT8") for tensor in written):
        raise CnnError.of(
            "tflite",
            f"`{path}` computes in {written[0].type.lower() if written else 'nothing'}, and an int8 file is wanted",
            help="cnnc compile RUN --target tflite-int8 -o model.tflite",
        )


def _sizes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _another(path: Path, graph: Graph, reason: str) -> CnnError:
    return CnnError.of(
        "tflite",
        f"`{path}` was not compiled from a run of `{graph.name}`: {reason}",
        help="cnnc compile RUN --target tflite-int8 -o model.tflite",
    )


def _drawn(part: Part, samples: int | None) -> Part:
    if samples is None or samples >= len(part):
        return part
    return take(part, np.sort(permutation(0, 0, len(part))[:samples]))


def _feed(part: Part, graph: Graph, skip_corrupt: bool) -> Feed:
    return prepare(part, [node.shape for node in graph.inputs], skip_corrupt=skip_corrupt)


def _batches(feed: Feed, most: int) -> Iterator[Batch]:
    """Batches without the pictures that fill the last one up or cannot be decoded."""
    for item in prefetch(evaluation_batches(feed, min(most, len(feed)))):
        valid = item.valid
        if valid.any():
            inputs, targets = (tuple(array[valid] for array in arrays) for arrays in (item.inputs, item.targets))
            yield Batch(inputs, targets, item.indices[valid], valid[valid])


# Layers


class Gathered:
    """Sums over a tensor's values by channel, in float64, and what they tell of it."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor
        channels = tensor.shape[-1] if tensor.shape else 1
        self.sums: dict[str, NDArray[np.float64]] = {key: np.zeros(channels) for key in ("rr", "qq", "rq", "ee")}
        self.low, self.high, self.beyond, self.cut, self.count = np.inf, -np.inf, 0, 0, 0

    def see(self, real: NDArray[Any], codes: NDArray[Any]) -> None:
        """The float network's values, and what the file stores for the same pictures."""
        channels = len(self.sums["rr"])
        r = np.asarray(real, np.float64).reshape(-1, channels)
        q = np.asarray(dequantized(self.tensor, codes), np.float64).reshape(-1, channels)
        for key, (a, b) in {"rr": (r, r), "qq": (q, q), "rq": (r, q), "ee": (r - q, r - q)}.items():
            self.sums[key] += np.einsum("ij,ij->j", a, b)
        self.count += r.size
        if self.tensor.quantization is not None:
            scale, zero = self.tensor.quantization.scale[0], self.tensor.quantization.zero_point[0]
            limits = np.iinfo(codes.dtype)
            steps = r / scale + zero
            self.beyond += int(((steps < limits.min - 0.5) | (steps > limits.max + 0.5)).sum())
            self.cut += int((codes == limits.max).sum())
            self.low, self.high = min(self.low, float(codes.min())), max(self.high, float(codes.max()))

    @property
    def factors(self) -> NDArray[np.float64]:
        """By how much each channel's values are larger in the file: what comes nearest, 0 where the run has zeros."""
        rr, rq = self.sums["rr"], self.sums["rq"]
        return np.divide(rq, rr, out=np.zeros_like(rr), where=rr > 0)

    def layer(self, name: str, kind: str, shape: tuple[int, ...], *, equalizable: bool) -> Layer:
        rr, qq, rq, ee = (self.sums[key] for key in ("rr", "qq", "rq", "ee"))
        sqnr, cosine = _decibels(rr.sum(), ee.sum()), _cosine(rr.sum(), qq.sum(), rq.sum())
        factors = self.factors
        scaled = _decibels(float((factors**2 * rr).sum()), float((qq - factors * rq).sum()))
        # Rounding leaves a channel's size alone; a whole layer of other sizes is the equaliser's doing.
        nearer = sqnr is not None and scaled is not None and scaled > sqnr + _GAIN
        equalized = equalizable and nearer and self.cut <= _CUT * self.count
        if equalized:
            sqnr, cosine = scaled, _cosine(float((factors**2 * rr).sum()), qq.sum(), float((factors * rq).sum()))
        eight = self.tensor.quantization is not None and self.tensor.type in ("INT8", "UINT8")
        used = (self.high - self.low + 1) / 256 if eight else None
        clipped = self.beyond / self.count if eight and not equalized else None
        return Layer(name, kind, shape, sqnr, cosine, used, clipped, equalized)


def _decibels(signal: float, noise: float) -> float | None:
    return None if signal <= 0 or noise <= _EXACT * signal else 10 * log10(signal / noise)


def _cosine(rr: float, qq: float, rq: float) -> float | None:
    return None if rr <= 0 or qq <= 0 else float(min(1.0, rq / (rr * qq) ** 0.5))


def _layers(
    folded: passes_model.Model, graph: Graph, model: Model, matched: Mapping[str, Tensor], feed: Feed
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """The inputs, and the layers, of a file beside those of the network that it was compiled of."""
    program = model.runner.program
    values = float_values(folded, list(matched))
    doors = entrances(program, graph)
    names = [*doors, *(tensor.name for tensor in matched.values())]
    gathered: dict[str, list[Gathered]] = {}
    most = max(1, min(32, _HELD // sum(prod(node.shape) for node in folded.graph)))
    for item in _batches(feed, most):
        codes = model.runner.tensors(file_inputs(model, item.inputs), names)
        real = values(_padded(item.inputs, most))
        given = {node.name: array for node, array in zip(graph.inputs, item.inputs, strict=True)}
        forms = {name: input_forms(graph, node, given[node]) for name, node in doors.items()}
        forms |= {tensor.name: [real[name][: len(item.valid)]] for name, tensor in matched.items()}
        for name, each in forms.items():
            for form, sums in zip(
                each, gathered.setdefault(name, [Gathered(program[name]) for _ in each]), strict=True
            ):
                sums.see(form, codes[name])
    kinds = {name: operator.name for operator in program for name in operator.outputs}
    inputs = (
        [each.layer(name, kinds.get(name, "input"), graph[node].shape, equalizable=False) for each in gathered[name]]
        for name, node in doors.items()
    )
    layers = (
        gathered[tensor.name][0].layer(
            name, kinds[tensor.name], folded.graph[name].shape, equalizable=is_equalizable(folded.graph, name)
        )
        for name, tensor in matched.items()
    )
    return tuple(max(forms, key=_nearness) for forms in inputs), tuple(layers)


def entrances(program: Program, graph: Graph) -> dict[str, str]:
    """The tensors of 8 bits in which a file's operators find an input, with its node: as it comes, or converted."""
    found = dict(zip(program.inputs, (node.name for node in graph.inputs), strict=True))
    for operator in program:
        if operator.inputs[0] in found and is_conversion(program, operator):
            found[operator.outputs[0]] = found[operator.inputs[0]]
    eight = {name: node for name, node in found.items() if program[name].type in ("INT8", "UINT8")}
    read = {name for operator in program if not is_conversion(program, operator) for name in operator.inputs}
    return {name: node for name, node in eight.items() if name in read}


def _nearness(layer: Layer) -> float:
    return float("inf") if layer.sqnr is None else layer.sqnr


def is_equalizable(graph: Graph, name: str) -> bool:
    """Whether a node's channels may have been given factors: all that reads it comes to weights, which take them."""
    readers = graph.consumers[name]
    if not readers or any(node == name for _, node in graph.outputs):
        return False
    return all(
        isinstance(reader.op, Linear) or (isinstance(reader.op, _PASSES) and is_equalizable(graph, reader.name))
        for reader in readers
    )


def _padded(inputs: tuple[NDArray[Any], ...], size: int) -> tuple[NDArray[Any], ...]:
    """Batches of one size, so that one compilation serves all."""
    return tuple(np.concatenate([a, np.repeat(a[:1], max(0, size - len(a)), axis=0)]) for a in inputs)


def float_values(
    folded: passes_model.Model, names: list[str]
) -> Callable[[tuple[NDArray[Any], ...]], Mapping[str, NDArray[Any]]]:
    apply, compiler = backends.load("jax", "apply"), backends.load("jax", "compile")
    graph = folded.graph

    def some(weights: Any, inputs: Any) -> dict[str, Any]:
        found = apply.activations(graph, weights, inputs, precision="f32")
        return {name: found[name] for name in names}

    compiled = compiler.jit(some)

    def values(inputs: tuple[NDArray[Any], ...]) -> Mapping[str, NDArray[Any]]:
        named = {node.name: array for node, array in zip(graph.inputs, inputs, strict=True)}
        return {name: np.asarray(array) for name, array in compiled(folded.weights, named).items()}

    return values


def file_inputs(model: Model, inputs: tuple[NDArray[Any], ...]) -> dict[str, NDArray[Any]]:
    """Arrays as the file takes them: pictures as its one input does, others as real numbers."""
    runner: Runner = model.runner
    if len(inputs) == 1 and inputs[0].dtype == np.uint8:
        return {runner.inputs[0].name: stored(model, inputs[0])}
    return {port.name: array for port, array in zip(runner.inputs, inputs, strict=True)}


# Top-1


def _top1(run: Run, model: Model, feed: Feed) -> tuple[int, float | None, float | None, float | None]:
    graph = run.net.graph
    ports = model.runner.outputs
    shapes = [graph[node].shape for _, node in graph.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 1 or len(ports) != 1 or feed.targets[0].dtype.kind not in "iu":
        return len(feed), None, None, None
    forward = backends.load("jax", "apply").forward(graph)
    ((label, _),) = graph.outputs
    count = max(2, shapes[0][0])
    order = np.array(places(model, run.data.classes, count) if run.data.classes else range(count))
    hits, size = np.zeros(3), 0
    most = min(_BATCH, len(feed))
    for item in _batches(feed, most):
        named = {node.name: array for node, array in zip(graph.inputs, _padded(item.inputs, most), strict=True)}
        outputs, _ = forward(run.weights, named, key=None, train=False, precision="f32", logits=False)
        real = _decided(np.asarray(outputs[label])[: len(item.valid)])
        file = _decided(model.runner(file_inputs(model, item.inputs))[ports[0].name])
        truth = item.targets[0]
        hits += [(real == truth).sum(), (file == order[truth]).sum(), (file == order[real]).sum()]
        size += len(truth)
    if not size:
        raise undecodable(len(feed))
    float_top1, file_top1, agreeing = (float(each) for each in hits / size)
    return size, float_top1, file_top1, agreeing


def _decided(values: NDArray[Any]) -> NDArray[np.int64]:
    """The likeliest class of each; a single sigmoid decides between two."""
    flat = values.reshape(len(values), -1)
    return (flat[:, 0] > 0.5).astype(np.int64) if flat.shape[1] == 1 else flat.argmax(axis=1)
