"""Weights of others in our networks: the same outputs, whatever names and orders their layers have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
from cnnc.net import Net
from cnnc.ops import Normalize
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Imported, Options, combine

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from tests.support import torch_named  # noqa: E402

transformers = pytest.importorskip("transformers", reason="Hugging Face's transformers are not installed")

CLOSE = 1e-4
"""Of the outputs' range."""


def imported(module: Any, net: Net, path: Path, options: Options | None = None) -> Imported:
    """The module's weights through a file: its state dict in order, or by names in safetensors."""
    state = {name: value.contiguous() for name, value in module.state_dict().items()}
    if path.suffix == ".safetensors":
        from safetensors.torch import save_file

        save_file(state, path)
    else:
        torch.save(state, path)
    return combine(net.graph, read_source(path), options or Options())


def difference(module: Any, net: Net, weights: Any) -> float:
    """The largest difference between the logits of both on two pictures of noise, as a part of their range."""
    shape = net.graph.inputs[0].shape
    pixels = np.random.default_rng(0).uniform(0, 255, (2, *shape)).astype(np.float32)
    with torch.no_grad():
        theirs = module(torch.from_numpy(normalized(net, pixels).transpose(0, 3, 1, 2).copy()))
    values = getattr(theirs, "logits", theirs).numpy()
    ours = np.asarray(net.apply(weights, pixels, logits=True))
    return float(np.abs(ours - values).max() / np.ptp(values))


def normalized(net: Net, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    (first,) = [node.op for node in net.graph if isinstance(node.op, Normalize)]
    mean, std = (np.array(values, np.float32) for values in (first.mean, first.std))
    values: NDArray[np.float32] = (pixels - mean) / std
    return values


def hugging_face(name: str, **settings: Any) -> Any:
    config = getattr(transformers, f"{name}Config")(num_labels=1000, **settings)
    return getattr(transformers, f"{name}ForImageClassification")(config)


def hugging_face_resnet(repeats: list[int], kind: str) -> Any:
    wide = 1 if kind == "basic" else 4
    sizes = [64 * wide, 128 * wide, 256 * wide, 512 * wide]
    return hugging_face("ResNet", depths=repeats, layer_type=kind, hidden_sizes=sizes)


FAST: dict[str, tuple[Callable[[], Any], Callable[[], Net]]] = {
    "torchvision resnet50": (
        lambda: torch_named.ResNet((3, 4, 6, 3)),
        lambda: cnnc.load("resnet50", input=(64, 64, 3)),
    ),
    # Of odd sizes TensorFlow's padding, which the spec has, is PyTorch's.
    "torchvision mobilenet_v2": (torch_named.MobileNetV2, lambda: cnnc.load("mobilenet_v2", input=(65, 65, 3))),
    "timm efficientnet_b0": (torch_named.EfficientNetB0, lambda: cnnc.load("efficientnet_b0", input=(64, 64, 3))),
    "transformers resnet18": (
        lambda: hugging_face_resnet([2, 2, 2, 2], "basic"),
        lambda: cnnc.load("resnet18", input=(64, 64, 3)),
    ),
    "transformers mobilenet_v2": (
        lambda: hugging_face("MobileNetV2"),
        lambda: cnnc.load("mobilenet_v2", input=(64, 64, 3)),
    ),
}
WHOLE: dict[str, tuple[Callable[[], Any], Callable[[], Net]]] = {
    "torchvision resnet101": (lambda: torch_named.ResNet((3, 4, 23, 3)), lambda: cnnc.load("resnet101")),
}
"""Hugging Face's are compared whole in `bench.zoo_comparison`."""


def hold(make: Callable[[], Any], load: Callable[[], Net], folder: Path) -> None:
    module, net = make(), load()
    torch_named.randomize(module, 0)
    by_name = imported(module, net, folder / "theirs.safetensors")
    in_order = imported(module, net, folder / "theirs.pth")
    assert not by_name.initial
    assert not by_name.unused
    assert difference(module, net, by_name.weights) < CLOSE
    for node, arrays in by_name.weights.items():
        for short, array in arrays.items():
            np.testing.assert_array_equal(array, in_order.weights[node][short], f"{node}.{short}")


@pytest.mark.slow  # compiling the networks takes its time
@pytest.mark.parametrize("name", FAST)
def test_layers_are_found_whatever_they_are_called(name: str, tmp_path: Path) -> None:
    hold(*FAST[name], tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", WHOLE)
def test_whole_networks_compute_the_same(name: str, tmp_path: Path) -> None:
    hold(*WHOLE[name], tmp_path)


def test_a_header_as_long_as_pickles_begin(tmp_path: Path) -> None:
    """The first byte of safetensors is its header's length, which may be a pickle's first byte."""
    from safetensors.numpy import save

    array = np.ones((3, 2), np.float32)
    files = (save({"fc.weight": array, "fc.bias": array[:, 0].copy()}, {"note": "x" * n}) for n in range(256))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(next(data for data in files if data[0] == 0x80))
    assert read_source(path).format == "safetensors"
