"""Networks of Hugging Face's transformers beside the specs': their weights, imported from files, give their outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("transformers", reason="Hugging Face's transformers is not installed")

from bench.zoo_comparison import TOLERANCE, compare  # after PyTorch is known to be there
from bench.zoo_peers import TRANSFORMERS, Peer
from bench.zoo_transformers import answer, build, write
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine

REPEATS = [1, 2, 1, 1]
SMALL = (
    Peer(
        "transformers",
        "ResNet",
        "resnet18",
        {"depths": REPEATS, "hidden_sizes": [8, 16, 24, 32], "layer_type": "basic"},
        {"repeats": REPEATS, "widths": [8, 16, 24, 32], "classes": 10},
        "imagenet",
        size=48,
    ),
    Peer(
        "transformers",
        "ResNet",
        "resnet50",
        {"depths": REPEATS, "hidden_sizes": [32, 64, 96, 128]},
        {"repeats": REPEATS, "widths": [8, 16, 24, 32], "classes": 10},
        "imagenet",
        size=48,
    ),
    Peer("transformers", "MobileNetV1", "mobilenet_v1_w25", {"depth_multiplier": 0.25}, {}, "symmetric", size=128),
    Peer("transformers", "MobileNetV2", "mobilenet_v2_w35", {"depth_multiplier": 0.35}, {}, "symmetric", size=128),
    Peer(
        "transformers",
        "EfficientNet",
        "efficientnet_b0",
        {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280},
        {"classes": 10},
        "imagenet",
        size=64,
    ),
    Peer(
        "transformers",
        "ConvNext",
        "convnext",
        {"depths": [1, 1, 2, 1], "hidden_sizes": [96, 96, 128, 160]},
        {"repeats": [1, 1, 2, 1], "widths": [96, 96, 128, 160], "classes": 10},
        "imagenet",
        size=64,
    ),
)


def assert_same_logits(peer: Peer) -> None:
    found = compare(peer)
    assert found.moved > 0.01 * found.extent, "the pictures make no difference"
    assert found.relative < TOLERANCE


@pytest.mark.parametrize("peer", SMALL, ids=str)
def test_a_small_network_gives_transformers_outputs(peer: Peer) -> None:
    assert_same_logits(peer)


@pytest.mark.slow
@pytest.mark.parametrize("peer", TRANSFORMERS, ids=str)
def test_a_network_gives_transformers_outputs(peer: Peer) -> None:
    assert_same_logits(peer)


@pytest.mark.parametrize("peer", SMALL, ids=str)
def test_both_files_of_a_network_give_the_same_weights(peer: Peer) -> None:
    """torch.save keeps the order of layers, safetensors sorts them by name."""
    net = peer.net()
    pictures = np.zeros((1, *net.graph.inputs[0].shape), np.float32)
    suffixes: tuple[Literal[".safetensors"], Literal[".pt"]] = (".safetensors", ".pt")
    ours, others = (answer(peer, net, pictures, suffix)[1] for suffix in suffixes)
    assert ours.keys() == others.keys()
    for node, arrays in ours.items():
        for short, array in arrays.items():
            np.testing.assert_array_equal(array, others[node][short], err_msg=f"{node}.{short}")


def test_the_class_for_nothing_can_be_left_out(tmp_path: Path) -> None:
    """Google's MobileNets have 1001 classes, as transformers' configuration of them has by default."""
    net = SMALL[2].net()
    model = build("MobileNetV1", {"depth_multiplier": 0.25, "num_labels": 1001})
    write(tmp_path / "model.safetensors", model.state_dict())
    source = read_source(tmp_path / "model.safetensors")
    weights = combine(net.graph, source, Options(drop_class=0)).weights
    expected = model.classifier.weight.detach().numpy()[1:].T
    dense = next(
        name for name, arrays in weights.items() if "kernel" in arrays and arrays["kernel"].shape[-2:] == expected.shape
    )
    np.testing.assert_array_equal(weights[dense]["kernel"].reshape(expected.shape), expected)
    np.testing.assert_array_equal(weights[dense]["bias"], model.classifier.bias.detach().numpy()[1:])


def test_another_padding_is_noticed() -> None:
    peer = SMALL[2]
    assert compare(replace(peer, options={**peer.options, "tf_padding": False})).relative > TOLERANCE
