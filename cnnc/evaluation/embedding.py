"""Feature vectors: what a layer of a network makes of pictures, before the classifier by default."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cnnc import backends
from cnnc.data.feeding.batches import evaluation_batches, prefetch
from cnnc.data.feeding.feed import prepare
from cnnc.data.pictures.decode import undecodable
from cnnc.data.sources.data_set import Files
from cnnc.data.sources.folder import Options, load_loose
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.files import write_atomically
from cnnc.ir import Graph
from cnnc.ops import Dense, Dropout, Input, format_shape
from cnnc.runs.trained import Trained

ENDINGS: Final = (".npz", ".csv")
_BATCH: Final = 64


@dataclass(frozen=True, eq=False)
class Embedded:
    """A vector `(features,)`, float32, for every picture; the layer they are of, the pictures left out."""

    paths: tuple[Path, ...]
    features: NDArray[np.float32]
    layer: str
    broken: tuple[Path, ...]


def embed(
    network: Trained,
    pictures: Sequence[Path],
    *,
    layer: str | None = None,
    crop: float = 1.0,
    skip_corrupt: bool = False,
) -> Embedded:
    """Feature vectors of pictures, in their order, from a layer; of a map its mean over the positions, per channel.

    Args:
        network: a run, or a spec with weights.
        pictures: files, and folders of which every picture in them is meant.
        layer: its name, or a label of which the last layer is meant; by default what enters the last dense layer.
        crop: the share of the shorter side of every picture that is looked at.
        skip_corrupt: leave out pictures that cannot be decoded.

    Raises:
        CnnError: there is no such layer, a picture cannot be decoded, or the network takes none.
    """
    graph = network.net.graph
    name = classifier_input(graph) if layer is None else named_layer(graph, layer)
    paths = _picture_files(pictures, skip_corrupt)
    # The labels are the pictures' places: they tell which are left when some are left out.
    files = Files(paths, np.arange(len(paths), dtype=np.int32))
    feed = prepare(files, [node.shape for node in graph.inputs], skip_corrupt=skip_corrupt, crop=crop)
    cut = Graph(graph.name, graph.nodes, (("features", name),))
    forward = backends.load("jax", "apply").forward(cut)
    precision = network.net.recipe.precision
    parts, kept = [], []
    for batch in prefetch(evaluation_batches(feed, min(_BATCH, len(feed)))):
        named = {node.name: array for node, array in zip(graph.inputs, batch.inputs, strict=True)}
        outputs, _ = forward(network.weights, named, train=False, key=None, precision=precision, logits=False)
        values = np.asarray(outputs["features"], np.float32)[batch.valid]
        parts.append(values.mean(axis=tuple(range(1, values.ndim - 1))) if values.ndim > 2 else values)
        kept.append(batch.targets[0][batch.valid])
    places = np.concatenate(kept)
    if not len(places):
        raise undecodable(len(paths))
    return Embedded(tuple(paths[i] for i in places), np.concatenate(parts), name, tuple(sorted(feed.broken)))


def _picture_files(pictures: Sequence[Path], skip_corrupt: bool) -> tuple[Path, ...]:
    """The files among pictures and folders of them. Raises CnnError for one that is not there."""
    options = Options(skip_corrupt=skip_corrupt)
    paths = tuple(
        path for given in pictures for path in (load_loose(given, options).paths if given.is_dir() else (given,))
    )
    for path in paths:
        if not path.is_file():
            raise CnnError.of("picture", f"there is no picture `{path}`")
    return paths


def classifier_input(graph: Graph) -> str:
    """The layer whose values enter the last dense layer, before any dropout there.

    Raises:
        CnnError: the network does not end in a dense layer, or has several outputs.
    """
    ends = [name for _, name in graph.outputs]
    name = ends[0]
    while len(graph[name].inputs) == 1 and not graph.weights(graph[name]):
        name = graph[name].inputs[0]
    if len(ends) != 1 or not isinstance(graph[name].op, Dense):
        raise CnnError.of(
            "argument",
            f"`{graph.name}` does not end in a dense layer, before which its features would be",
            help=f"say of which layer they are to be: --layer {ends[0]}",
        )
    name = graph[name].inputs[0]
    while isinstance(graph[name].op, Dropout):
        name = graph[name].inputs[0]
    return name


def named_layer(graph: Graph, layer: str) -> str:
    """The layer of a name, or the last of those that lie in a label. Raises CnnError where there is none."""
    within = [node.name for node in graph if node.name == layer or node.name.startswith((f"{layer}.", f"{layer}/"))]
    computed = [node.name for node in graph if not isinstance(node.op, Input)]
    if not within or within[-1] not in computed:
        labels = list(dict.fromkeys(name.partition(".")[0] for name in computed))
        raise CnnError.of(
            "argument",
            f"`--layer`: `{graph.name}` has no layer `{layer}`",
            help=did_you_mean(layer, [*labels, *computed]) or f"its labels are {', '.join(labels[:12])}",
        )
    return within[-1]


def write_features(path: Path, found: Embedded) -> None:
    """Write features: an `.npz` of `features` (pictures, n), `paths` and `layer`, or a `.csv` with a line a picture."""
    names = [str(each) for each in found.paths]
    if path.suffix.lower() == ".npz":
        content = io.BytesIO()
        np.savez(content, features=found.features, paths=np.array(names), layer=np.array(found.layer))
        write_atomically(path, content.getvalue())
        return
    assert path.suffix.lower() == ".csv", path
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["path", *(f"f{i}" for i in range(found.features.shape[1]))])
    for name, row in zip(names, found.features, strict=True):
        # Nine digits are a float32 whole.
        writer.writerow([name, *(f"{value:.9g}" for value in row)])
    write_atomically(path, text.getvalue())


def described(graph: Graph, found: Embedded) -> str:
    """A sentence that describes the features."""
    shape = graph[found.layer].shape
    mean = "" if len(shape) == 1 else f", means over the positions of {format_shape(shape)}"
    return f"{len(found.paths):,} vectors of {found.features.shape[1]:,} numbers from `{found.layer}`{mean}"
