"""Linear layers merged: sums of convolutions of one input, and convolutions in a row, are the function they were."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops
from cnnc.ir import Graph
from cnnc.net import Net
from cnnc.ops import Op
from cnnc.passes.merge_branches import merge_branches
from cnnc.passes.merge_convolutions import merge_convolutions
from cnnc.passes.pipelines import INFERENCE, INFERENCE_INT8, run
from tests.support.models import assert_same_function, random_model
from tests.support.networks import Builder

CALM = list(HealthCheck)
Draw = Any


def names(graph: Graph) -> list[str]:
    return [node.op.name for node in graph]


def merged(text: str, seed: int = 0) -> Graph:
    """The graph of a spec after the linear passes, which is the same function in float64."""
    model = random_model(cnnc.load_text(text).graph, seed)
    after = run(model, INFERENCE)
    assert_same_function(model, after)
    return after.graph


# Sums


@st.composite
def sums(draw: Draw) -> Net:
    """A sum of convolutions of all kinds, batch norms and identities of one input; some are read elsewhere too."""
    rank, channels = draw(st.integers(1, 2)), draw(st.sampled_from([1, 4, 6]))
    sizes = tuple(draw(st.integers(3, 8)) for _ in range(rank))
    stride = tuple(draw(st.integers(1, 2)) for _ in range(rank))
    filters = channels * draw(st.sampled_from([1, 1, 2]))
    builder = Builder()
    x = builder.add("start", ops.Relu(), builder.input("x", (*sizes, channels)))
    plain = stride == (1,) * rank and filters == channels
    ends, others = [], []
    for i in range(draw(st.integers(2, 5))):
        kind = draw(st.sampled_from(["conv", "conv", "normed", "bn", "identity"] if plain else ["conv", "normed"]))
        end = x
        if kind in ("conv", "normed"):
            end = builder.add(f"conv{i}", _same_size_convolution(draw, sizes, stride, channels, filters), end)
        if kind in ("bn", "normed"):
            end = builder.add(f"bn{i}", ops.BatchNorm(), end)
        if draw(st.integers(0, 9)) == 0:
            end = builder.add(f"relu{i}", ops.Relu(), end)
        if draw(st.integers(0, 9)) == 0:
            others.append(builder.add(f"other{i}", ops.Relu(), end))
        ends.append(end)
    last = builder.add("last", ops.Relu(), builder.add("sum", ops.Add(), *ends))
    return builder.net(output=last, **{name: name for name in others})


def _same_size_convolution(
    draw: Draw, sizes: tuple[int, ...], stride: tuple[int, ...], channels: int, filters: int
) -> Op:
    """A convolution whose output has as many places as that of `same`: ceil(size / stride)."""
    groups = draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == filters % g == 0]))
    kernel, dilation = (tuple(draw(st.integers(1, most)) for _ in sizes) for most in (4, 2))
    padding: Any = "same"
    if draw(st.booleans()):
        pairs = []
        for n, k, s, d in zip(sizes, kernel, stride, dilation, strict=True):
            total = (-(-n // s) - 1) * s + (k - 1) * d + 1 - n
            before = draw(st.integers(0, max(total, 0)))
            pairs.append((before, max(total - before, 0) + draw(st.integers(0, s - 1)) * (total >= 0)))
        padding = tuple(pairs)
    return ops.Conv(kernel, filters, stride, padding, dilation, groups, draw(st.booleans()))


def assert_merges(net: Net, seed: int) -> None:
    model = random_model(net.graph, seed)
    for passes in ([merge_branches], [merge_convolutions], INFERENCE, INFERENCE_INT8):
        after = run(model, passes)
        assert_same_function(model, after)
        assert len(after.graph) <= len(net.graph)
        assert after.graph.mac_count <= net.graph.mac_count + _norm_macs(net.graph)
        assert run(after, passes).graph == after.graph


def _norm_macs(graph: Graph) -> int:
    """What batch norms multiply, which a graph's count leaves out."""
    return sum(int(np.prod(node.shape)) for node in graph if isinstance(node.op, ops.BatchNorm))


@given(sums(), st.integers(0, 9))
@settings(max_examples=60, suppress_health_check=CALM)
def test_random_sums_of_branches_stay_the_same_function(net: Net, seed: int) -> None:
    assert_merges(net, seed)


@pytest.mark.slow
@given(sums(), st.integers(0, 1000))
@settings(max_examples=2000, derandomize=False, suppress_health_check=CALM)
def test_many_random_sums_of_branches_stay_the_same_function(net: Net, seed: int) -> None:
    assert_merges(net, seed)


BRANCHES = {
    "RepVGG": ("conv(3x3, 4, padding=half) | bn\nconv(1x1, 4) | bn\nbn", "conv(3x3, 4)"),
    "strided": ("conv(3x3, 8, stride=2, padding=half) | bn\nconv(1x1, 8, stride=2) | bn", "conv"),
    "SAME of an even size reads one more at the end": ("conv(3x3, 8, stride=2)\nconv(1x1, 8, stride=2)", "conv"),
    "even kernels": ("conv(4x4, 4)\nconv(2x2, 4)\nidentity", "conv"),
    "sides": ("conv(3x3, 4)\nconv(1x3, 4) | bn\nconv(3x1, 4) | bn", "conv"),  # Ding et al. 2019, ACNet
    "dilated, of an even size": ("conv(2x2, 4, dilation=3)\nconv(2x2, 4, dilation=3)", "conv"),
    "dilated": ("conv(3x3, 4, dilation=2)\nconv(1x1, 4)\nidentity", "conv"),
    "depthwise": ("depthwise(3x3) | bn\ndepthwise(1x1) | bn\nbn", "depthwise"),
    "multiplied": ("depthwise(3x3, multiplier=2)\nconv(1x1, 8, groups=in.channels)", "depthwise"),
    "groups of groups": ("conv(3x3, 8, groups=2) | bn\nconv(1x1, 8, groups=4) | bn", "conv"),
    "a channel by itself beside all": ("conv(3x3, 4)\ndepthwise(3x3)\nidentity", "conv"),
    "nested": ("add { conv(3x3, 4)\n conv(1x1, 4) }\nidentity", "conv"),
    "normed as a whole": ("add { conv(3x3, 4)\n conv(1x1, 4) } | bn\nconv(1x1, 4)", "conv"),
    "padded before": ("pad(1) | conv(3x3, 4, padding=valid)\nconv(1x1, 4)", "conv"),
    "a row": ("conv(3x3, 4) | bn | conv(1x1, 4) | bn\nconv(1x1, 4) | bn", "conv"),
    "norms alone": ("bn\nidentity", "depthwise"),
}


@pytest.mark.fault("Q5")
@pytest.mark.parametrize("branches", BRANCHES)
def test_branches_of_one_input_are_one_convolution(branches: str) -> None:
    text, op = BRANCHES[branches]
    graph = merged(f"input 6x8x4\nrelu | add {{\n{text}\n}}\nrelu")
    assert names(graph) == ["input", "relu", op.partition("(")[0], "relu"]


KEPT = {
    "an activation between": ("conv(3x3, 4) | relu\nconv(1x1, 4) | relu", ["conv", "relu", "conv", "relu", "add"]),
    "more work": ("conv(1x3, 4)\nconv(3x1, 4)", ["conv", "conv", "add"]),
    "a small kernel of all channels beside a large one of single ones": (
        "conv(1x1, 4)\ndepthwise(3x3)",
        ["conv", "depthwise", "add"],
    ),
    "dilations that no small kernel spans": ("conv(3x3, 4)\nconv(3x3, 4, dilation=2)", ["conv", "conv", "add"]),
    "nothing but the input": ("identity\nidentity", ["add"]),
    "a norm before padding": ("bn | conv(3x3, 4)\nconv(3x3, 4)", ["bn", "conv", "conv", "add"]),
    "one value for all places": (
        "globalpool(keepdims=true) | conv(1x1, 4)\nconv(1x1, 4)",
        ["globalpool", "conv", "conv", "add"],
    ),
    "a window of all places": ("conv(6x8, 4, padding=valid)\nconv(1x1, 4)", ["conv", "conv", "add"]),
}


@pytest.mark.parametrize("branches", KEPT)
def test_branches_that_are_no_single_convolution_stay(branches: str) -> None:
    text, ops = KEPT[branches]
    assert names(merged(f"input 6x8x4\nrelu | add {{\n{text}\n}}\nrelu")) == ["input", "relu", *ops, "relu"]


def test_what_something_else_reads_stays() -> None:
    text = (
        "input 6x8x4\nx: relu\na: x | conv(1x1, 4)\nsum: add(a, x | conv(3x3, 4))\nother: a | relu\noutput sum, other"
    )
    assert sorted(names(merged(text))) == ["add", "conv", "conv", "input", "relu", "relu"]


def test_a_sum_that_something_else_reads_stays() -> None:
    text = (
        "input 6x8x4\nx: relu\nfirst: add(x | conv(3, 4), x | conv(1, 4))\n"
        "second: add(first, x | conv(1, 4))\nother: first | relu\noutput second, other"
    )
    assert sorted(names(merged(text))) == ["add", "conv", "conv", "input", "relu", "relu"]


def test_what_is_summed_beside_the_branches_stays_in_the_sum() -> None:
    text = "input 6x8x4\nx: relu\nadd { conv(3x3, 4)\n conv(1x1, 4)\n relu | conv(1x1, 4)\n identity }\nrelu"
    assert sorted(names(merged(text))) == ["add", "conv", "conv", "input", "relu", "relu", "relu"]


def test_strides_that_differ_stay_apart() -> None:
    text = "input 6x1x4\nrelu | add {\nconv(1x1, 4, stride=2x1)\nconv(1x1, 4, stride=2x2)\n}\nrelu"
    assert names(merged(text)) == ["input", "relu", "conv", "conv", "add", "relu"]


def test_the_largest_branch_keeps_its_name_and_its_place() -> None:
    net = cnnc.load_text("input 6x8x4\nrelu | add { bn\n small: conv(1x1, 4) | bn\n large: conv(3x3, 4) | bn }\nrelu")
    after = run(random_model(net.graph), INFERENCE).graph
    (conv,) = [node for node in after if isinstance(node.op, ops.Conv)]
    assert conv.name == "large.conv1"
    assert conv.origin is net.graph["large.conv1"].origin


# Rows

ROWS = {
    "after": ("conv(3x3, 4) | bn | conv(1x1, 4) | bn", ["conv"]),
    "strided after": ("conv(3x3, 8, stride=2) | conv(1x1, 4, stride=2)", ["conv"]),
    "before, without a bias": ("conv(1x1, 8, bias=false) | conv(3x3, 4)", ["conv"]),
    "before, where nothing is padded": ("conv(1x1, 8) | bn | conv(3x3, 4, padding=valid)", ["conv"]),
    "three": ("conv(1x1, 8) | conv(1x1, 8) | conv(1x1, 4)", ["conv"]),
    "a scale a channel": ("depthwise(1x1, bias=false) | depthwise(3x3)", ["depthwise"]),
    "groups": ("conv(3x3, 8, groups=2) | conv(1x1, 8, groups=2)", ["conv"]),
    "a column before a row": ("conv(3x1, 8, bias=false) | conv(1x3, 4)", ["conv"]),
    "a window before padding": ("conv(3x3, 8, bias=false) | conv(3x3, 4)", ["conv", "conv"]),
    "fewer products of more weights": ("conv(1x1, 1) | conv(1x1, 4, stride=2)", ["conv", "conv"]),
    "more products of fewer weights": ("conv(1x1, 2, bias=false) | conv(1x1, 4, padding=1)", ["conv", "conv"]),
    "a bias that a padding would meet": ("conv(1x1, 8) | conv(3x3, 4)", ["conv", "conv"]),
    "a norm's shift that a padding would meet": ("conv(1x1, 8) | bn | conv(3x3, 4)", ["conv", "conv"]),
    "a stride before padding": ("conv(1x1, 8, stride=2, bias=false) | conv(3x3, 4)", ["conv", "conv"]),
    "more work": ("depthwise(3x3) | bn | conv(1x1, 4) | bn", ["depthwise", "conv"]),
    "a bottleneck": ("conv(1x1, 1) | bn | conv(1x1, 4) | bn", ["conv", "conv"]),
}


@pytest.mark.fault("Q5")
@pytest.mark.parametrize("row", ROWS)
def test_convolutions_in_a_row_are_one_where_that_saves_work_and_changes_no_border(row: str) -> None:
    text, ops = ROWS[row]
    assert names(merged(f"input 6x8x4\nrelu | {text} | relu")) == ["input", "relu", *ops, "relu"]


def test_an_output_on_the_way_stays() -> None:
    text = "input 6x8x4\nfirst: conv(3x3, 4)\nlast: conv(1x1, 4)\noutput first, last"
    assert names(merged(text)) == ["input", "conv", "conv"]
