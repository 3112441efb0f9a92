"""The Edge TPU's memory: bytes worked out by hand, and those of models that Google and others compiled.

The figures of compiled models are the sizes of their parts that load parameters, decoded; the models are built here
from their shapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from cnnc.backends.edgetpu.memory import Parameters, activation_bytes, parameters
from cnnc.backends.edgetpu.prediction import Report, check
from cnnc.backends.edgetpu.render import render
from cnnc.tflite_file.program import File, Operator, Program, Quantization, Tensor
from tests.support.tflite_programs import one_operator, tensor

MEBIBYTE = 2**20


def act(name: str, *shape: int) -> Tensor:
    return tensor(name, shape, "INT8", 0.5)


def weights(name: str, *shape: int, scales: int = 1, axis: int = 0) -> Tensor:
    """Weights of any size without the memory for them; many scales differ."""
    zero = np.broadcast_to(np.zeros((), np.int8), shape)
    return Tensor(name, shape, "INT8", Quantization(tuple(0.1 + i for i in range(scales)), (0,) * scales, axis), zero)


def weighted(kind: str, shape: Sequence[int], *, scales: int = 1) -> Program:
    """An operator of these weights; what it reads and writes takes no part in its parameters."""
    w = weights("w", *shape, scales=scales, axis=3 if kind == "DEPTHWISE_CONV_2D" else 0)
    return one_operator(kind, [act("x", 1, 8), w], act("y", 1, 8))


def held(program: Program) -> Parameters:
    return parameters(program, program.operators)


@pytest.mark.parametrize(
    ("kind", "shape", "scales", "size"),
    [
        ("CONV_2D", (16, 3, 3, 4), 1, 16 * (9 * 4 + 4)),
        ("CONV_2D", (16, 3, 3, 3), 1, 16 * (9 * 4 + 4)),  # input channels to 4
        ("CONV_2D", (16, 3, 3, 5), 1, 16 * (9 * 8 + 4)),
        ("CONV_2D", (3, 3, 3, 4), 1, 16 * (9 * 4 + 4)),  # output channels to 16, 32, 64
        ("CONV_2D", (17, 3, 3, 4), 1, 32 * (9 * 4 + 4)),
        ("CONV_2D", (33, 3, 3, 4), 1, 64 * (9 * 4 + 4)),
        ("CONV_2D", (64, 3, 3, 4), 1, 64 * (9 * 4 + 4)),
        ("CONV_2D", (65, 3, 3, 4), 1, 128 * (9 * 4 + 4)),  # and on in 64s
        ("CONV_2D", (129, 3, 3, 4), 1, 192 * (9 * 4 + 4)),
        ("CONV_2D", (16, 3, 3, 4), 16, 16 * (9 * 4 + 8)),  # a scale each
        ("CONV_2D", (1, 1, 1, 3), 1, 16 * 16 * 4 + 16 * 8),
        ("CONV_2D", (1, 1, 1, 5), 1, 16 * 16 * 8 + 16 * 8),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), 1, 16 * (9 * 4 + 4)),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 65), 1, 80 * (9 * 4 + 4)),  # a whole 64, and 16 for the rest
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 96), 1, 96 * (9 * 4 + 4)),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 97), 1, 128 * (9 * 4 + 4)),
        ("DEPTHWISE_CONV_2D", (1, 5, 5, 64), 64, 64 * (25 * 4 + 8)),
        ("DEPTHWISE_CONV_2D", (1, 3, 5, 8), 1, 16 * (15 * 4 + 4)),
        ("FULLY_CONNECTED", (10, 100), 1, 16 * (100 + 4)),
        ("FULLY_CONNECTED", (10, 101), 1, 16 * (104 + 4)),
        ("TRANSPOSE_CONV", (16, 2, 2, 4), 1, 16 * (4 * 4 + 4)),
        ("RELU", (16, 2, 2, 4), 1, 0),
    ],
)
def test_bytes_of_a_layer(kind: str, shape: tuple[int, ...], scales: int, size: int) -> None:
    """Google stores weights in rows of 64 outputs and columns of 4 inputs, with a scale and a bias a row."""
    assert held(weighted(kind, shape, scales=scales)) == Parameters(size, 0)


def test_bytes_of_mobilenet_v1_are_those_of_googles_compiled_file() -> None:
    """mobilenet_v1_1.0_224_quant_embedding_extractor_edgetpu: 3,363,072, of table 1 of Howard et al. 2017."""
    total = held(weighted("CONV_2D", (32, 3, 3, 3))).cached
    widths = [32, 64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    for before, after in pairwise(widths):
        total += held(weighted("DEPTHWISE_CONV_2D", (1, 3, 3, before))).cached
        total += held(weighted("CONV_2D", (after, 1, 1, before))).cached
    assert total == 3_363_072


@pytest.mark.parametrize(("size", "cached"), [(256, 67_584), (1024, 1_056_768)])
def test_bytes_of_dense_layers_are_those_of_compiled_files(size: int, cached: int) -> None:
    """The files dense_256 and dense_1024 of LibrEdgeTPU."""
    assert held(weighted("FULLY_CONNECTED", (size, size), scales=size)) == Parameters(cached, 0)


def tracker(width: int) -> Program:
    """Two dense layers that read a softmax, joined: the files `bright_*` of LibrEdgeTPU."""
    names = {"x": (1, width), "shares": (1, width), "a": (1, 1), "b": (1, 1), "y": (1, 2)}
    tensors = {name: act(name, *shape) for name, shape in names.items()}
    tensors |= {name: weights(name, 1, width) for name in ("wa", "wb")}
    operators = (
        Operator("SOFTMAX", ("x",), ("shares",)),
        Operator("FULLY_CONNECTED", ("shares", "wa"), ("a",)),
        Operator("FULLY_CONNECTED", ("shares", "wb"), ("b",)),
        Operator("CONCATENATION", ("a", "b"), ("y",), {"axis": 1}),
    )
    return Program("main", tensors, operators, ("x",), ("y",))


@pytest.mark.parametrize(
    ("width", "cached", "streamed"), [(256, 8_384, 0), (4_096, 131_264, 0), (16_384, 192, 524_288)]
)
def test_a_wide_dense_layer_is_streamed_as_in_compiled_files(width: int, cached: int, streamed: int) -> None:
    """bright_16x16, bright_64x64 and bright_128x128: 16 rows of 16,384 are 256 KiB for one group of outputs."""
    assert held(tracker(width)) == Parameters(cached, streamed)


def test_a_dense_layer_just_below_the_largest_group_stays() -> None:
    """64 outputs of 4,092 inputs are 261,888 bytes, of 4,096 the 262,144 that are too many."""
    assert held(weighted("FULLY_CONNECTED", (64, 4_092))) == Parameters(64 * 4_096, 0)
    assert held(weighted("FULLY_CONNECTED", (64, 4_096))) == Parameters(64 * 4, 64 * 4_096)
    assert held(weighted("CONV_2D", (64, 1, 1, 4_096))) == Parameters(64 * 4_100, 0)


def test_a_joint_and_a_softmax_of_odd_classes_take_bytes() -> None:
    """As split_concat, three of them with 192 bytes, and the two MobileNets with 1,001 classes."""
    joint = one_operator("CONCATENATION", [act("a", 1, 8), act("b", 1, 8)], act("y", 1, 16), axis=1)
    assert held(joint) == Parameters(64, 0)
    for classes, size in ((1_000, 0), (1_001, 48_048)):
        assert held(one_operator("SOFTMAX", [act("x", 1, classes)], act("y", 1, classes))) == Parameters(size, 0)


def chain(*shapes: Sequence[int], scales: int = 1) -> Program:
    """1x1 convolutions of these weights, one after the other."""
    names = [f"t{i}" for i in range(len(shapes) + 1)]
    tensors = {name: act(name, 1, 1, 1, shapes[0][3]) for name in names}
    tensors |= {f"w{i}": weights(f"w{i}", *shape, scales=scales) for i, shape in enumerate(shapes)}
    operators = tuple(Operator("CONV_2D", (names[i], f"w{i}"), (names[i + 1],)) for i in range(len(shapes)))
    return Program("main", tensors, operators, ("t0",), (names[-1],))


@pytest.mark.fault("E3")
def test_what_does_not_fit_is_streamed_and_the_sum_stays() -> None:
    """Eight layers of a mebibyte and 8 KiB of scales: seven stay, and of the last the scales."""
    program = chain(*[(1024, 1, 1, 1024)] * 8, scales=1024)
    assert held(program) == Parameters(7 * MEBIBYTE + 8 * 8_192, MEBIBYTE)


@pytest.mark.fault("E3")
def test_no_more_is_on_the_chip_than_it_holds() -> None:
    """Scales alone once filled it over the brim: 64 layers whose scales are twice their weights."""
    program = chain((1024, 1, 1, 7_600), *[(65_536, 1, 1, 4)] * 4, scales=65_536)
    found, every = held(program), 4 * 65_536 * 12 + 1024 * 7_608
    assert found.cached <= 7.5 * MEBIBYTE
    assert found.cached + found.streamed == every


@pytest.mark.fault("E3")
def test_the_text_says_what_is_on_the_chip_and_what_is_sent() -> None:
    text = render(check(File((chain(*[(1024, 1, 1, 1024)] * 8, scales=1024),))))
    assert "parameters: 7.06 MiB on the chip, which holds about 7.50 MiB; 1.00 MiB sent with every inference\n" in text
    assert (
        "warning: 1.0 MB of parameters do not fit on the chip and are sent with every inference, about 2.06 ms" in text
    )


def test_a_layer_beyond_the_cache_is_streamed_and_slow() -> None:
    """64 MiB by 0.508 MB a millisecond."""
    report = check(File((weighted("FULLY_CONNECTED", (8192, 8192)),)))
    assert report.cost is not None
    assert report.cost.parameters == Parameters(8192 * 4, 8192 * 8192)
    assert report.cost.latency.ms == pytest.approx(0.792 + 67.108864 / 0.508, rel=1e-2)
    assert report.cost.latency.is_cpu_faster
    assert "FULLY_CONNECTED `y` alone has 64.0 MiB of weights" in messages(report)
    assert "a CPU would likely be faster" in messages(report)


def messages(report: Report) -> str:
    return "\n".join(each.message for each in report.warnings)


def test_activations_are_those_alive_at_once() -> None:
    """The first feeds the second and the sum: it lives on while the third is computed, 100 + 200 + 300 bytes."""
    sizes = {"a": 100, "b": 200, "c": 300, "d": 100}
    operators = (
        Operator("RELU", ("a",), ("b",)),
        Operator("RELU", ("b",), ("c",)),
        Operator("ADD", ("a", "c"), ("d",)),
    )
    tensors = {name: act(name, 1, size) for name, size in sizes.items()}
    program = Program("main", tensors, operators, ("a",), ("d",))
    assert activation_bytes(program, [0, 1, 2]) == 600
    assert activation_bytes(program, [0]) == 300
    assert activation_bytes(program, []) == 0


def test_activations_beyond_the_chip_are_told() -> None:
    """2,048 by 1,024 pixels in and out are 4 MiB; the chip has 3."""
    program = one_operator("TANH", [act("x", 1, 2048, 1024, 1)], act("y", 1, 2048, 1024, 1))
    report = check(File((program,)))
    assert report.cost is not None
    assert report.cost.activation_bytes == 4 * MEBIBYTE
    assert "activations take 4.0 MiB at once, and the chip has 3: the compiler" in messages(report)
    small = one_operator("TANH", [act("x", 1, 1536, 1024, 1)], act("y", 1, 1536, 1024, 1))
    assert "activations" not in messages(check(File((small,))))
