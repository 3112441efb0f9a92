"""Where a compiled network's accuracy goes: a run beside the TFLite file made of it, tensor by tensor.

A file's tensors bear the names of the nodes whose values they hold in the graph that is compiled, which is the run's
with batch norms folded, and so on; its outputs bear those that the spec gives them. Each is held to what that graph
computes in float32. Errors add up on the way: a layer's figure holds what its inputs brought along, and a layer is to
blame where the figures fall.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.backends.tflite.quantization.fidelity import input_forms
from cnnc.data.augmentation.random_draws import permutation
from cnnc.data.feeding.batches import Batch, evaluation_batches, prefetch
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.sources.data_set import Part, take
from cnnc.diagnostics import CnnError
from cnnc.evaluation.correspondence import entrances, match_tensors
from cnnc.evaluation.distortion import ChannelSums, Layer, is_equalizable
from cnnc.evaluation.evaluate import Agreement, compare, has_vector_output
from cnnc.evaluation.network import NetworkPredictor, network_predictor
from cnnc.evaluation.output_losses import classified
from cnnc.evaluation.predictor import Predictor
from cnnc.evaluation.test_set import TestSet, label_as, load_test_set
from cnnc.evaluation.tflite import TFLitePredictor, open_tflite
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.passes import pipelines as passes
from cnnc.runs.trained import Trained
from cnnc.tflite_file.program import Program, Tensor

LAYER_SAMPLES: Final = 64
"""So many pictures are looked at layer by layer, unless fewer are asked for."""
_HELD: Final = 1 << 26
"""Values of all layers that are held at once."""


@dataclass(frozen=True, eq=False)
class Difference:
    """Layers in the network's order, as seen on `samples` pictures, and top-1 of both on `count` pictures of `what`.

    `inputs` are the network's inputs as the file's operators see them. Without classes there is no `agreement`.
    """

    inputs: tuple[Layer, ...]
    layers: tuple[Layer, ...]
    samples: int
    what: str
    count: int
    agreement: Agreement | None

    @property
    def worst_first(self) -> list[Layer]:
        """The layers by their SQNR."""
        return sorted(self.layers, key=_nearness)


def diff(
    run: Trained,
    path: Path,
    load: Callable[[Predictor], TestSet] = load_test_set,
    *,
    samples: int | None = None,
    skip_corrupt: bool = False,
    threads: int | None = None,
) -> Difference:
    """A run beside the int8 file that was compiled of it, on test data as `cnnc eval` takes it.

    Args:
        run: the run.
        path: the file.
        load: loads the test set for a predictor, by default that of the data which the run was trained on.
        samples: pictures to look at, drawn at random but always the same; by default all, and 64 layer by layer.
        skip_corrupt: whether pictures that cannot be decoded are left out.
        threads: of the CPU for the file.

    Raises:
        CnnError: the file is damaged, has no 8-bit tensors, or is of another network than the run.
    """
    watching = open_tflite(path, threads=threads, all_tensors=True)
    graph = run.net.graph
    folded = passes.run(run.model, passes.INFERENCE_INT8)
    tensors = match_tensors(watching.program, folded.graph, path)
    _require_8_bits(watching.program, path)
    network = _in_float32(run)
    test_set = load(network)
    part, has_labels = test_set.part, _has_labels(network, test_set)
    if has_labels:
        part, _ = label_as(network, test_set)
    feed = _feed(_drawn(part, samples), graph, skip_corrupt)
    few = _feed(_drawn(part, min(samples or LAYER_SAMPLES, LAYER_SAMPLES)), graph, skip_corrupt)
    inputs, layers = _layers(folded, graph, watching, tensors, few)
    what = test_set.what if samples is None else f"{len(feed):,} of {test_set.what}"
    file, agreement = open_tflite(path, threads=threads), None
    if has_labels and has_vector_output(file) and all(classified(network.outputs, feed)):
        agreement = compare(network, file, feed, what)
    return Difference(inputs, layers, len(few), what, len(feed), agreement)


def _has_labels(network: NetworkPredictor, test_set: TestSet) -> bool:
    """Whether the classes of a test set are what a network tells apart; layers are compared on any pictures."""
    if not has_vector_output(network):
        return False
    return bool(network.classes) or len(test_set.classes) == max(2, *network.outputs[0].shape)


def _in_float32(run: Trained) -> NetworkPredictor:
    """What a file is held to, whatever the run was trained in."""
    return network_predictor(replace(run, net=replace(run.net, recipe=replace(run.net.recipe, precision="f32"))))


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
    folded: Model, graph: Graph, file: TFLitePredictor, tensors: Mapping[str, Tensor], feed: Feed
) -> tuple[tuple[Layer, ...], tuple[Layer, ...]]:
    """The inputs, and the layers, of a file beside those of the network that it was compiled of."""
    program = file.program
    values = float_values(folded, list(tensors))
    doors = entrances(program, graph)
    names = [*doors, *(tensor.name for tensor in tensors.values())]
    gathered: dict[str, list[ChannelSums]] = {}
    most = max(1, min(32, _HELD // sum(prod(node.shape) for node in folded.graph)))
    for item in _batches(feed, most):
        codes = file.runner.tensors(file.feed(item.inputs), names)
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


def float_values(folded: Model, names: list[str]) -> Callable[[tuple[NDArray[Any], ...]], Mapping[str, NDArray[Any]]]:
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
