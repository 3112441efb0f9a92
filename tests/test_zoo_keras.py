"""Networks of the specs beside those of keras.applications: the same weights give the same outputs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.net import Net

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

from tests.keras_weights import moved, randomize  # noqa: E402  # needs Keras

TOLERANCE = 1e-4
"""Of the range of the logits."""


@dataclass(frozen=True)
class Peer:
    """A network of Keras, and the spec's that it is: with what overrides, for pictures of what size."""

    name: str
    spec: str
    options: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    module: str = ""
    """Of keras.applications: whose `preprocess_input` goes before the network. Without one it preprocesses itself."""
    size: int = 64


WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
PEERS = [
    *(Peer("MobileNet", f"mobilenet_v1_w{100 * a:.0f}", {"alpha": a}, {}, "mobilenet") for a in (0.25, 0.5, 0.75, 1.0)),
    *(Peer("MobileNetV2", f"mobilenet_v2_w{100 * a:.0f}", {"alpha": a}, {}, "mobilenet_v2") for a in WIDTHS),
    *(Peer(f"MobileNetV3{size}", f"mobilenet_v3_{size.lower()}") for size in ("Large", "Small")),
    *(
        Peer(f"MobileNetV3{size}", f"mobilenet_v3_{size.lower()}", {"alpha": 0.75}, {"width": 0.75})
        for size in ("Large", "Small")
    ),
    *(Peer(f"EfficientNetB{size}", f"efficientnet_b{size}") for size in range(8)),
    *(Peer(f"EfficientNetV2{size}", f"efficientnet_v2_{size.lower()}") for size in ("B0", "B1", "B2", "B3", "S")),
    *(Peer(f"DenseNet{size}", f"densenet{size}", {}, {}, "densenet") for size in (121, 169, 201)),
    Peer("ConvNeXtTiny", "convnext_tiny"),
    Peer("Xception", "xception", {}, {}, "xception", 75),
]


@pytest.mark.slow
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: f"{peer.spec}{peer.overrides.get('width', '')}")
def test_kerass_weights_give_kerass_outputs(peer: Peer) -> None:
    shape = (peer.size, peer.size, 3)
    model = getattr(keras.applications, peer.name)(
        weights=None, input_shape=shape, classifier_activation=None, **peer.options
    )
    randomize(model, seed=0)
    net = cnnc.load(peer.spec, input=shape, **peer.overrides)
    assert_same_logits(peer, model, net, moved(model, net.graph))


def assert_same_logits(peer: Peer, model: Any, net: Net, weights: Any) -> None:
    pictures = np.random.default_rng(1).integers(256, size=(2, *net.graph.inputs[0].shape)).astype(np.float32)
    given = getattr(keras.applications, peer.module).preprocess_input(pictures.copy()) if peer.module else pictures
    expected = np.asarray(model(given, training=False))
    found = np.asarray(net.apply(weights, pictures, logits=True))
    extent = np.ptp(expected)
    assert np.abs(expected[0] - expected[1]).max() > 0.01 * extent, "the pictures make no difference"
    difference = np.abs(found - expected).max() / extent
    print(f"{peer.name} {peer.options or ''}: {net.graph.trainable_count:,} parameters, difference {difference:.1e}")
    assert difference < TOLERANCE
