"""Where a compiled network's accuracy goes: a run beside the TFLite file made of it, tensor by tensor.

A file's tensors bear the names of the nodes whose values they hold in the graph that is compiled, which is the run's
with batch norms folded, and so on; its outputs bear those that the spec gives them. Each is held to what that graph
computes in float32. Errors add up on the way: a layer's figure holds what its inputs brought along, and a layer is to
blame where the figures fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.backends.tflite.litert.runner import Runner
from cnnc.backends.tflite.quantization.fidelity import input_forms
from cnnc.data.augmentation.random_draws import permutation
from cnnc.data.feeding.batches import Batch, evaluation_batches, prefetch
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.pictures.decode import undecodable
from cnnc.data.sources.data_set import Part, take
from cnnc.diagnostics import CnnError
from cnnc.evaluation.correspondence import entrances, match_tensors
from cnnc.evaluation.distortion import ChannelSums, Layer, is_equalizable
from cnnc.evaluation.of_run import tested_on
from cnnc.evaluation.of_tflite import Model, open_tflite, places, stored
from cnnc.evaluation.test_set import by_name
from cnnc.ir import Graph
from cnnc.ir import model as passes_model
from cnnc.passes import pipelines as passes
from cnnc.runs.events import Report, ignore
from cnnc.runs.run_record import Run
from cnnc.tflite_file.program import Program, Tensor

LAYER_SAMPLES: Final = 64
"""So many pictures are looked at layer by layer, unless fewer are asked for."""
_HELD: Final = 1 << 26
"""Values of all layers that are held at once."""
_BATCH: Final = 64


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
    tensors = match_tensors(watching.runner.program, folded.graph, path)
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


def _require_8_bits(program: Program, path: Path) -> None:
    written = [program[name] for operator in program for name in operator.outputs]
    if not any(tensor.type in ("INT8", "UINT8") for tensor in written):
        raise CnnError.of(
            "tflite",
            f"`{path}` computes in {written[0].type.lower() if written else 'nothing'}, and an int8 file is wanted",
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


def _layers(
    folded: passes_model.Model, graph: Graph, model: Model, tensors: Mapping[str, Tensor], feed: Feed
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """The inputs, and the layers, of a file beside those of the network that it was compiled of."""
    program = model.runner.program
    values = float_values(folded, list(tensors))
    doors = entrances(program, graph)
    names = [*doors, *(tensor.name for tensor in tensors.values())]
    gathered: dict[str, list[ChannelSums]] = {}
    most = max(1, min(32, _HELD // sum(prod(node.shape) for node in folded.graph)))
    for item in _batches(feed, most):
        codes = model.runner.tensors(file_inputs(model, item.inputs), names)
        real = values(_padded(item.inputs, most))
        given = {node.name: array for node, array in zip(graph.inputs, item.inputs, strict=True)}
        forms = {name: input_forms(graph, node, given[node]) for name, node in doors.items()}
        forms |= {tensor.name: [real[name][: len(item.valid)]] for name, tensor in tensors.items()}
        for name, each in forms.items():
            for form, sums in zip(
                each, gathered.setdefault(name, [ChannelSums(program[name]) for _ in each]), strict=True
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
        for name, tensor in tensors.items()
    )
    return tuple(max(forms, key=_nearness) for forms in inputs), tuple(layers)


def _nearness(layer: Layer) -> float:
    return float("inf") if layer.sqnr is None else layer.sqnr


def _padded(inputs: tuple[NDArray[Any], ...], size: int) -> tuple[NDArray[Any], ...]:
    """Batches of one size, so that one compilation serves all."""
    return tuple(np.concatenate([a, np.repeat(a[:1], max(0, size - len(a)), axis=0)]) for a in inputs)


def float_values(
    folded: passes_model.Model, names: list[str]
) -> Callable[[tuple[NDArray[Any], ...]], Mapping[str, NDArray[Any]]]:
    apply, compiler = backends.load("jax", "apply"), backends.load("jax", "xla.compile")
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
