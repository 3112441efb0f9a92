"""int8 files beside the float file, both on LiteRT: bytes at the input lose no more than floats."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import cnnc
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.ir import Graph
from cnnc.ir.model import Model
from tests.support.spec_texts import Random, random_specs

pytest.importorskip("ai_edge_litert")
from bench.int8_signal import signal_to_noise  # after LiteRT is known to be there
from cnnc.backends.tflite.compile import Settings, compile_float, compile_int8
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.quantization.quantize import Io

Samples = list[dict[str, NDArray[Any]]]
IOS: tuple[Io, ...] = ("int8", "uint8", "float32")
TWO = "input a 8x8x3\ninput b 8x8x3"
LEAST = 12.0
"""dB that an int8 file of a network in good condition keeps."""
SLACK = 1.0
"""dB that bytes may lose beside the same network's own float input."""
CLEAR = 0.25
"""dB that a few hundred values may seem to lose by chance; what seems to lose more is measured on `CLOSER` as many."""
CLOSER = 16
EXACT = 100.0
"""dB beyond which two files differ by the last bits of float32 alone: so much is as good as more."""
RARE = 1 / 50
"""Of random networks that may keep less than `LEAST`: weights that cancel, or a norm of two values, which is a sign."""


def figures(model: Model, samples: Samples, flavour: Flavour = "int8", ios: tuple[Io, ...] = IOS) -> Mapping[Io, float]:
    """The signal to noise of a network's worst output in dB, by the type at the ends of its int8 file."""
    exact = compile_float(model)
    return {
        io: min(
            EXACT,
            *signal_to_noise(
                exact, compile_int8(model, samples, Settings(io, "minmax"), flavour).program, samples
            ).values(),
        )
        for io in ios
    }


def pictures(graph: Graph, seed: int) -> dict[str, NDArray[np.uint8]]:
    """Bytes for every input, of any rank: patches with noise on them."""
    rng = np.random.default_rng([seed, 11])
    found = {}
    for node in graph.inputs:
        coarse = rng.integers(0, 256, (1, *(-(-size // 4) for size in node.shape[:-1]), node.shape[-1]))
        for axis, size in enumerate(node.shape[:-1], start=1):
            coarse = coarse.repeat(4, axis).take(range(size), axis)
        found[node.name] = np.clip(coarse + rng.normal(0, 20, coarse.shape), 0, 255).astype(np.uint8)
    return found


def assert_bytes_lose_nothing(text: str, flavour: Flavour = "int8") -> None:
    graph = cnnc.load_text(text).graph
    samples: Samples = [pictures(graph, seed) for seed in range(4)]
    found = figures(Model(graph, random_weights(graph, 0, samples[0])), samples, flavour)
    assert min(found.values()) >= LEAST, (text, found)
    assert min(found["int8"], found["uint8"]) >= found["float32"] - SLACK, (text, found)


NORMALIZATIONS = (
    "normalize(unit)",
    "normalize(symmetric)",
    "normalize(imagenet)",
    "normalize(mean=100.3, std=50)",
    "normalize(mean=[100, 120, 90], std=[40, 50, 60])",
    "normalize(mean=128, std=64) | bgr",
    "bgr | normalize(symmetric)",
    "identity",
)
LAYERS = (
    "conv(3, 4, stride=2)",
    "conv(3, 4, stride=2, padding=half)",
    "depthwise(3, stride=2, padding=half)",
    "conv(3, 6, groups=3)",
    "conv_transpose(2, 4, stride=2)",
    "dense(4)",
    "pad(1) | conv(3, 4, padding=valid)",
    "pad(1, value=0.5) | conv(3, 4)",
    "pad(1, value=0.5) | maxpool(2)",
    "crop(1) | conv(1, 4)",
    "flatten | dense(10)",
    "reshape(128x6) | conv(1, 4)",
    "slice(1) | conv(3, 4)",
    "space_to_depth | conv(1, 4)",
    "channel_shuffle(3) | conv(3, 4)",
    "transpose",
    "resize(scale=2) | conv(3, 4)",
    "resize(scale=2, method=bilinear) | conv(3, 4)",
    "maxpool(2) | conv(3, 4)",
    "maxpool(3, stride=2, padding=half) | conv(3, 4)",
    "avgpool(2) | conv(3, 4)",
    "avgpool(3, stride=2, padding=half) | conv(3, 4)",
    "globalpool(mode=max) | dense(9)",
    "globalpool | dense(9)",
    "relu | conv(3, 4)",
    "concat {\nidentity\nconv(3, 5)\n}\nconv(3, 4)",
    "add {\nidentity\nconv(3, 3)\n}",
    "mul {\nidentity\nconv(3, 3)\n}",
)
"""What reads a picture first: kinds of layers that weigh, move, order, pick and join its values."""


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("normalizations", [NORMALIZATIONS[1:4], pytest.param(NORMALIZATIONS, marks=pytest.mark.slow)])
def test_bytes_lose_nothing_before(layer: str, normalizations: Sequence[str]) -> None:
    for normalization in normalizations:
        assert_bytes_lose_nothing(f"input 16x16x3\n{normalization} | {layer}")


@pytest.mark.fault("Q1")
@pytest.mark.parametrize(
    "text",
    [
        "input 40x3\nnormalize(unit) | conv(3, 4, stride=2, padding=half)",
        "input 40x3\nnormalize(symmetric) | conv(3, 4) | bn | relu | globalpool | dense(5)",
        "input 40x3\nnormalize(unit) | flatten | dense(8)",
        "input 24\nnormalize(unit) | dense(8) | relu | dense(8)",
        "input 24\nnormalize(symmetric) | dense(8)",
        "input 6x8x8x2\nnormalize(symmetric) | conv(3, 4, padding=half) | relu",
        "input 6x8x8x2\nnormalize(unit) | maxpool(2) | conv(1, 4)",
    ],
)
def test_bytes_lose_nothing_in_signals_vectors_and_volumes(text: str) -> None:
    assert_bytes_lose_nothing(text)


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("other", ["normalize(unit)", "normalize(symmetric)", "normalize(imagenet)", "identity"])
def test_bytes_of_several_inputs_lose_nothing(other: str) -> None:
    assert_bytes_lose_nothing(f"{TWO}\nx: a | normalize(unit)\ny: b | {other}\nconcat(x, y) | conv(3, 8)")


@pytest.mark.fault("Q1")
@pytest.mark.parametrize(
    "layers",
    [
        "concat(x, y) | pad(1, value=-1.1)",
        "concat(y, x) | maxpool(2) | pad(1, value=-1.1)",
        "z: concat(y, x)\nconcat {\nz\nz | pad(1, value=-1.1) | crop(1)\n}",
        "z: concat(x, y) | pad(1, value=-1.1)\nconcat(z, z) | pad(1, value=1.3)",
    ],
)
def test_no_value_is_rounded_on_its_way_to_a_wider_join(layers: str) -> None:
    """`y` has half the step of `x`, and the result a slightly wider one: each is rounded to that alone."""
    graph = cnnc.load_text(f"{TWO}\nx: a | normalize(mean=128, std=127)\ny: b | normalize(unit)\n{layers}").graph
    samples: Samples = [pictures(graph, seed) for seed in range(8)]
    found = figures(Model(graph, {}), samples)
    assert found["int8"] >= found["float32"] - 0.1, found


@pytest.mark.fault("Q1")
def test_a_join_that_is_read_as_it_is_keeps_the_bytes_of_its_first_input() -> None:
    """What is requantised for the wider join is `x` alone: the narrow one need not give up the step of `x` for that."""
    text = f"{TWO}\nx: a | normalize(mean=128, std=127)\ny: b | normalize(unit)\nz: concat(x, y)\n"
    graph = cnnc.load_text(text + "v: x | pad(1, value=-1.3)\noutput z, v").graph
    samples: Samples = [{name: x // 2 for name, x in pictures(graph, seed).items()} for seed in range(2)]
    program = compile_int8(Model(graph, {}), samples, Settings("int8", "minmax")).program
    quantization = program[program.outputs[0]].quantization
    assert quantization is not None
    assert quantization.scale == pytest.approx((1 / 127,))


@pytest.mark.fault("Q1")
def test_a_normalisation_of_real_numbers_is_not_taken_for_one_of_bytes() -> None:
    """One input takes pixels, the other numbers: only what the bytes stand for is in the scale."""
    text = f"{TWO}\nx: a | normalize(unit)\ny: b | normalize(mean=1, std=2)\nconcat(x, y) | conv(3, 8)"
    graph = cnnc.load_text(text).graph
    rng = np.random.default_rng(0)
    samples: Samples = [
        {"a": pictures(graph, seed)["a"], "b": rng.normal(1, 2, (1, 8, 8, 3)).astype(np.float32)} for seed in range(4)
    ]
    found = figures(Model(graph, random_weights(graph, 0, samples[0])), samples)
    assert min(found.values()) >= 30, found


@pytest.mark.fault("T")
@pytest.mark.parametrize(
    ("layers", "value"),
    [
        ("prelu", [-0.7, -1.5, 0.4]),
        ("layer_scale", [-0.7, -1.5, -0.4]),
        ("reshape(64x3) | positions", np.linspace(-2, -0.5, 192)),
        ("concat {\nidentity\npad(1, value=-0.5) | crop(1)\n}", 0),
        ("pad(1, value=-0.5) | maxpool(2)", 0),
    ],
)
def test_constants_below_zero_stay_below_it(layers: str, value: Any) -> None:
    graph = cnnc.load_text(f"input 8x8x3\nnormalize(symmetric) | {layers}").graph
    weights = {
        node.name: {short: np.asarray(value, np.float32).reshape(each.shape) for short, each in own.items()}
        for node in graph
        if (own := graph.weights(node))
    }
    samples: Samples = [pictures(graph, seed) for seed in range(4)]
    found = figures(Model(graph, weights), samples)
    assert min(found.values()) >= 30, found


@pytest.mark.fault("T")
@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh"])
@pytest.mark.parametrize("flavour", ["int8", "edgetpu"])
def test_a_padded_mean_goes_on_to_its_activation(activation: str, flavour: Flavour) -> None:
    text = f"input 8x8x3\nnormalize(symmetric) | avgpool(3, stride=2, padding=1) | {activation} | conv(3, 4)"
    assert_bytes_lose_nothing(text, flavour)


@pytest.mark.fault("Q1")
@pytest.mark.parametrize("normalization", ["normalize(symmetric)", "normalize(mean=100.3, std=50)"])
def test_a_mean_between_two_pixels_costs_floats_nothing(normalization: str) -> None:
    """Steps of a pixel cannot hold the rest of the mean: it belongs into the biases, for floats as for bytes."""
    graph = cnnc.load_text(f"input 16x16x3\n{normalization} | conv(3, 4, padding=half)").graph
    samples: Samples = [pictures(graph, seed) for seed in range(4)]
    found = figures(Model(graph, random_weights(graph, 0, samples[0])), samples)
    assert found["float32"] >= found["int8"] - 0.1, found


# Random networks


def loss(spec: Random, seed: int, flavour: Flavour, ios: tuple[Io, ...]) -> tuple[float, float]:
    """The dB that bytes lose beside floats at the input, and those that are left.

    A network that loses more than `SLACK` fails.

    Both files are calibrated and measured on the same samples: as many as give some hundred values, or `CLOSER` times
    as many, as the figure of a few values is a draw of chance, and two files that round apart may lie 2 dB apart in it.
    """
    graph = cnnc.load_text(spec.text).graph
    values = min(prod(shape) for shape in spec.outputs.values())
    count = min(64, max(8, 400 // values))
    model = Model(graph, random_weights(graph, seed, pictures(graph, 0)))
    for number in (count, CLOSER * count):
        samples: Samples = [pictures(graph, i) for i in range(number)]
        found = figures(model, samples, flavour, (*ios, "float32"))
        lost = found["float32"] - min(found.values())
        if lost <= CLEAR:
            break
    assert lost <= SLACK, (spec.text, found)
    return lost, min(found.values())


def assert_signal_is_kept(found: Sequence[tuple[float, float]]) -> None:
    lost, left = np.array(found).T
    assert lost.mean() <= SLACK / 10
    assert (left < LEAST).mean() <= RARE, np.sort(left)[:20]


NETWORKS = random_specs(of_pixels=True)


@pytest.mark.fault("Q1")
def test_random_networks_keep_their_signal() -> None:
    found: list[tuple[float, float]] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(NETWORKS, st.integers(0, 100), st.sampled_from(["int8", "edgetpu"]), st.sampled_from(["int8", "uint8"]))
    def measure(spec: Random, seed: int, flavour: Flavour, io: Io) -> None:
        found.append(loss(spec, seed, flavour, (io,)))

    measure()
    assert_signal_is_kept(found)


@pytest.mark.slow
@pytest.mark.fault("Q1")
def test_a_thousand_random_networks_keep_their_signal() -> None:
    found: dict[tuple[str, int, Flavour], tuple[float, float]] = {}

    @settings(max_examples=1000, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(NETWORKS, st.integers(0, 100), st.sampled_from(["int8", "edgetpu"]))
    def measure(spec: Random, seed: int, flavour: Flavour) -> None:
        assume((spec.text, seed, flavour) not in found)  # hypothesis draws half of them again
        found[spec.text, seed, flavour] = loss(spec, seed, flavour, IOS)

    measure()
    assert len(found) == 1000
    assert_signal_is_kept([*found.values()])
