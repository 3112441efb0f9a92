"""The table of docs/compiling.md: how far the int8 files of the bundled networks are from the float ones, on LiteRT.

    python -m bench.int8 PICTURES [--update docs/compiling.md] [--networks mlp resnet_18 ...] [--largest]

Every spec and variant gets random weights, and its batch norms the statistics of 20 pictures of a folder, as training
would leave them. int8 ranges are the least and largest values of the same pictures (`--ranges minmax`), and what is
measured is of 10 others. A network that takes no pictures gets random samples instead.

`--update` puts each row between the marks `int8` of a page as soon as it is measured, and leaves the others as they
are. `--largest` takes the networks of more than 2.9 G multiply-accumulates, too, which need minutes each.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import jax
import numpy as np

from bench.int8_signal import Sample, signal_to_noise
from bench.tables import replaced, rows, table
from cnnc import specs
from cnnc.backends.jax.apply import apply
from cnnc.backends.tflite.compile import Settings, compile_float, compile_int8
from cnnc.backends.tflite.quantization.quantize import Io
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.deployment.calibration_samples import samples_of
from cnnc.ir.model import Model
from cnnc.ir.pixels import is_picture_shape, takes_pixels
from cnnc.language import parse
from cnnc.loading import find, load
from cnnc.net import Net
from cnnc.ops import BatchNorm
from cnnc.passes.drop_identities import drop_identities
from cnnc.passes.unshare import unshare
from cnnc.runs.trained import Trained

_MOST_MACS: Final = 2.9e9
"""Multiply-accumulates of the largest network that is measured without being asked for."""
_CALIBRATING: Final = 20
_JUDGING: Final = 10
_IOS: Final[tuple[Io, ...]] = ("int8", "float32")
_HEAD: Final = ("network", "samples", "bytes", "floats")


def networks(names: Sequence[str], *, largest: bool) -> Iterator[str]:
    """The names, or all bundled specs, each with all its variants as `spec_variant`."""
    for name in names or specs.names():
        variants = parse(find(name).source).variants if name in specs.names() else ()
        for each in [f"{name}_{variant.name.text}" for variant in variants] or [name]:
            if largest or names or load(each).graph.mac_count <= _MOST_MACS:
                yield each


def draw(net: Net, pictures: Path) -> tuple[list[Sample], str]:
    """Samples to calibrate with and to judge on, `_CALIBRATING` and `_JUDGING` of them, and what they are."""
    count = _CALIBRATING + _JUDGING
    if all(is_picture_shape(node.shape) and takes_pixels(net.graph, node.name) for node in net.graph.inputs):
        drawn = samples_of(Trained(net, {}), str(pictures), count=count).arrays
        # They come sorted by class: every third judges.
        return [*drawn[::3], *drawn[1::3], *drawn[2::3]], "pictures"
    return [random_sample(net.graph, seed) for seed in range(count)], "random"


def conditioned(net: Net, samples: Sequence[Sample]) -> Model:
    """A network with random weights, and the statistics of samples in its batch norms."""
    model = drop_identities(unshare(Model(net.graph, random_weights(net.graph, 0, samples[0]))))
    nodes = [replace(n, op=replace(n.op, momentum=0.0)) if isinstance(n.op, BatchNorm) else n for n in model.graph]
    graph = replace(model.graph, nodes=tuple(nodes))
    inputs = {name: np.concatenate([sample[name] for sample in samples]) for name in samples[0]}
    quick = {"xla_backend_optimization_level": 0}
    statistics = jax.jit(lambda w, x: apply(graph, w, x, train=True)[1], compiler_options=quick)(model.weights, inputs)
    arrays = {
        name: {**own, **jax.tree.map(np.asarray, statistics.get(name, {}))} for name, own in model.weights.items()
    }
    return Model(model.graph, arrays)


def row(name: str, pictures: Path) -> list[str]:
    """The figures of a network: the least of its outputs', in dB, with bytes and with floats at the input."""
    net = load(name)
    samples, kind = draw(net, pictures)
    calibrating, judging = samples[:_CALIBRATING], samples[_CALIBRATING:]
    model = conditioned(net, calibrating)
    exact = compile_float(model)
    files = [compile_int8(model, calibrating, Settings(io, "minmax")).program for io in _IOS]
    figures = [min(signal_to_noise(exact, file, judging).values()) for file in files]
    return [f"`{name}`", kind, *(f"{figure:.1f}" for figure in figures)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--networks", nargs="+", default=[], metavar="SPEC[_VARIANT]")
    parser.add_argument("--largest", action="store_true")
    parser.add_argument("--update", type=Path, metavar="FILE")
    asked = parser.parse_args()
    print(table(_HEAD, []), end="", flush=True)
    for name in networks(asked.networks, largest=asked.largest):
        start = time.perf_counter()
        found = row(name, asked.pictures)
        print(f"| {' | '.join(found)} |", flush=True)
        print(f"{name}: {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
        if asked.update is not None:
            text = asked.update.read_text(encoding="utf-8")
            known = {each[0]: each for each in (*rows(text, "int8"), found)}
            asked.update.write_text(
                replaced(text, "int8", table(_HEAD, [known[key] for key in sorted(known)])), encoding="utf-8"
            )


if __name__ == "__main__":
    main()
