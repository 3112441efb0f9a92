"""Which pixel a strided window begins at, by a picture that numbers them: `half` is PyTorch's place, not SAME's."""

from __future__ import annotations

import numpy as np
import pytest

import cnnc
from cnnc import ops
from cnnc.ops.window import windows
from tests.support.bundled import built

ROWS = np.arange(1.0, 37.0, dtype=np.float32).reshape(1, 6, 6, 1)
"""A picture of 6x6 with the numbers 1 to 36."""
HALF = [[0, 0, 0], [0, 8, 10], [0, 20, 22]]
"""The first pixel of windows of 3x3 with stride 2 and a frame of one zero: worked out by hand."""
SAME = [[1, 3, 5], [13, 15, 17], [25, 27, 29]]
"""SAME puts its one zero at the end: the first window begins at the first pixel."""


@pytest.mark.fault("T")
@pytest.mark.parametrize(
    "layer", ["conv(3x3, 1, stride=2, bias=false, padding={})", "depthwise(3x3, stride=2, bias=false, padding={})"]
)
@pytest.mark.parametrize(("padding", "first"), [("half", HALF), ("1", HALF), ("same", SAME)])
def test_a_strided_window_begins_where_its_padding_says(layer: str, padding: str, first: list[list[int]]) -> None:
    net = cnnc.load_text(f"input 6x6x1\n{layer.format(padding)}")
    (node,) = (node for node in net.graph if not isinstance(node.op, ops.Input))
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[0, 0] = 1
    found = np.asarray(net.apply({node.name: {"kernel": kernel}}, ROWS))
    assert found[0, :, :, 0].tolist() == first


@pytest.mark.fault("T")
@pytest.mark.parametrize(
    ("padding", "last"),
    [("half", [[8, 10, 12], [20, 22, 24], [32, 34, 36]]), ("same", [[15, 17, 18], [27, 29, 30], [33, 35, 36]])],
)
def test_a_strided_pool_begins_where_its_padding_says(padding: str, last: list[list[int]]) -> None:
    """The largest number is the last pixel of a window: by hand, as above."""
    net = cnnc.load_text(f"input 6x6x1\nmaxpool(3x3, stride=2, padding={padding})")
    assert np.asarray(net.apply({}, ROWS))[0, :, :, 0].tolist() == last


@pytest.mark.fault("T")
@pytest.mark.parametrize("name", ["resnet", "resnext", "wide_resnet", "densenet"])
def test_networks_from_pytorch_and_caffe_have_their_frame_of_zeros(name: str) -> None:
    """Every layer of stride 2 and a kernel k has k // 2 zeros before the picture, as torchvision's models have."""
    graph, begins = built(name), {}
    for node in graph:
        if isinstance(op := node.op, ops.Conv | ops.Depthwise | ops.MaxPool) and max(op.stride or (1,)) > 1:
            (shape,) = graph.input_shapes(node)
            assert op.stride is not None
            found = windows(shape, op.kernel, op.stride, (1,) * len(op.kernel), op.padding)
            begins[node.name] = [(axis.before, size // 2) for axis, size in zip(found, op.kernel, strict=True)]
    assert len(begins) >= 2
    assert all(before == half for pairs in begins.values() for before, half in pairs), begins
