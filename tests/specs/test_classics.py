"""Classics whose parameters are in no documentation, counted from their papers, and the sizes in their tables."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import cnnc
from cnnc.ir import Graph, Node


def conv(kernel: int, channels: int, filters: int, *, norm: int = 0) -> int:
    """Parameters of a convolution over `kernel` values: a bias, or a batch norm's one or two numbers a filter."""
    return kernel * channels * filters + (norm or 1) * filters


def of(graph: Graph, *operators: str) -> Iterator[Node]:
    return (node for node in graph if node.op.name in operators)


def test_alexnets_layers_have_the_sizes_of_figure_2() -> None:
    graph = cnnc.load("alexnet_original").graph
    assert [n.shape for n in of(graph, "conv")] == [
        *((55, 55, 96), (27, 27, 256), (13, 13, 384), (13, 13, 384), (13, 13, 256)),
    ]
    assert [n.shape for n in of(graph, "maxpool")] == [(27, 27, 96), (13, 13, 256), (6, 6, 256)]
    assert [n.shape for n in of(graph, "dense")] == [(4096,), (4096,), (1000,)]


def test_alexnet_in_small_has_one_stream_and_two_classes() -> None:
    graph = cnnc.load("alexnet").graph
    convolutions = conv(121, 3, 96) + conv(25, 96, 256) + conv(9, 256, 384) + conv(9, 384, 384) + conv(9, 384, 256)
    assert graph.trainable_count == convolutions + 9216 * 256 + 256 + 256 * 256 + 256 + 256 * 2 + 2


def test_googlenets_rows_have_the_sizes_of_table_1() -> None:
    """Szegedy et al. 2015."""
    shapes = [node.shape for node in of(cnnc.load("inception_v1").graph, "concat")]
    assert [s[0] for s in shapes] == [28] * 2 + [14] * 5 + [7] * 2
    assert [s[-1] for s in shapes] == [256, 480, 512, 512, 512, 528, 832, 832, 1024]


def test_inception_v3s_grids_have_the_sizes_of_table_1() -> None:
    """Szegedy et al. 2016."""
    graph = cnnc.load("inception_v3").graph
    shapes = [node.shape for node in of(graph, "concat") if "spread" not in node.name]
    assert [s[0] for s in shapes] == [35] * 3 + [17] * 5 + [8] * 3
    assert [s[-1] for s in shapes] == [256, 288, 288, *[768] * 5, 1280, 2048, 2048]


def test_nasnets_cells_see_the_two_outputs_before_them() -> None:
    """Zoph et al. 2018, figure 2: both inputs of a cell are read by it, and the first cell's are one."""
    graph = cnnc.load("nasnet").graph
    cells = ["reduction1", "reduction2", *(f"normal1.{i}" for i in range(4)), "reduction3"]
    results = {"stem": "stem.norm1.bn1"}
    for name in cells:
        results[name] = [n.name for n in graph if n.name.startswith(f"cells.{name}.concat")][-1]
    order = ["stem", "stem", *cells]
    for index, name in enumerate(cells):
        within = f"cells.{name}."
        read = {
            source for n in graph if n.name.startswith(within) for source in n.inputs if not source.startswith(within)
        }
        assert read == {results[order[index]], results[order[index + 1]]}


def test_wide_resnet_is_table_1() -> None:
    """Zagoruyko & Komodakis 2016: for 28-10 three groups of four blocks, 160, 320 and 640 wide at 32, 16 and 8."""
    graph = cnnc.load("wide_resnet28_10").graph
    assert [graph[f"resnet.{group}.3.add1"].shape for group in range(3)] == [(32, 32, 160), (16, 16, 320), (8, 8, 640)]


@pytest.mark.parametrize(("variant", "size", "result"), [("valid", 572, 388), ("same", 512, 512)])
def test_unet_is_figure_1(variant: str, size: int, result: int) -> None:
    """Ronneberger et al. 2015: 23 convolutions, of 2x2 on the way up."""
    graph = cnnc.load("unet", variant=variant).graph
    pairs = [(1, 64), (64, 128), (128, 256), (256, 512), (512, 1024)]
    down = sum(conv(9, before, after) + conv(9, after, after) for before, after in pairs)
    up = sum(conv(4, 2 * n, n) + conv(9, 2 * n, n) + conv(9, n, n) for n in (512, 256, 128, 64))
    assert graph.trainable_count == down + up + conv(1, 64, 2)
    assert sum(1 for _ in of(graph, "conv", "conv_transpose")) == 23
    assert graph.inputs[0].shape == (size, size, 1)
    assert graph[graph.outputs[0][1]].shape == (result, result, 2)


def test_unet_crops_what_it_copies() -> None:
    graph = cnnc.load("unet").graph
    assert [n.shape[0] for n in of(graph, "crop")] == [56, 104, 200, 392]
    assert [n.shape[0] for n in of(graph, "maxpool")] == [284, 140, 68, 32]


def test_alphafold_is_220_dilated_blocks() -> None:
    """Senior et al. 2020, methods: 7 groups of 4 blocks of 256 channels, 48 of 128; dilations of 1, 2, 4 and 8."""
    graph = cnnc.load("alphafold").graph

    def block(channels: int) -> int:
        half = channels // 2
        return channels + conv(1, channels, half) + conv(9, half, half) + conv(1, half, channels)

    ends = conv(9, 675, 256) + conv(9, 256, 128) + conv(1, 128, 64)
    assert graph.trainable_count == ends + 28 * block(256) + 192 * block(128)
    dilations = [n.op.dilation[0] for n in of(graph, "conv") if n.repeats and n.op.kernel == (3, 3)]  # type: ignore[attr-defined]
    assert dilations == [1, 2, 4, 8] * 55
    assert graph[graph.outputs[0][1]].shape == (64, 64, 64)


def test_wavenet_sees_a_thousand_samples_a_cycle() -> None:
    """Van den Oord et al. 2016, section 2.1: dilations of 1, 2, 4, ..., 512 see 1,024 values."""
    graph = cnnc.load("wavenet").graph
    dilations = [n.op.dilation[0] for n in of(graph, "conv") if n.name.endswith(".z.conv1")]  # type: ignore[attr-defined]
    assert dilations == [2**i for i in range(10)] * 3
    assert 1 + sum(dilations[:10]) == 1024
    layer = 2 * conv(2, 32, 32) + conv(1, 32, 512)
    front, head = 256 * 32 + conv(2, 32, 32), conv(1, 512, 512) + conv(1, 512, 256)
    assert graph.trainable_count == front + 30 * layer + 29 * conv(1, 32, 32) + head
    assert len(graph["head.add1"].inputs) == 30
