"""Networks of the specs beside those of keras.applications: the same weights give the same outputs."""

from __future__ import annotations

from typing import Any

import pytest

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

from bench.zoo_comparison import TOLERANCE, compare  # noqa: E402  # after Keras is known to be there
from bench.zoo_peers import KERAS, Peer  # noqa: E402

WITHOUT_A_SPEC = {
    *("InceptionResNetV2", "NASNetLarge", "EfficientNetV2M", "EfficientNetV2L"),
    *("ConvNeXtSmall", "ConvNeXtBase", "ConvNeXtLarge", "ConvNeXtXLarge"),
}


def assert_same_logits(peer: Peer) -> None:
    found = compare(peer)
    assert found.moved > 0.01 * found.extent, "the pictures make no difference"
    assert found.relative < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("peer", KERAS, ids=str)
def test_kerass_weights_give_kerass_outputs(peer: Peer) -> None:
    assert_same_logits(peer)


@pytest.mark.slow
def test_the_narrowest_mobilenet_is_kerass() -> None:
    assert_same_logits(
        Peer("Keras", "MobileNet", "mobilenet_v1_w25", {"alpha": 0.25, "classes": 10}, {"classes": 10}, "mobilenet")
    )


@pytest.mark.slow
def test_another_preprocessing_is_noticed() -> None:
    peer = Peer("Keras", "MobileNet", "mobilenet_v1_w25", {"alpha": 0.25}, {}, "resnet")
    assert compare(peer).relative > TOLERANCE


def test_every_network_that_keras_has_is_compared_where_there_is_a_spec() -> None:
    theirs = {name for name in dir(keras.applications) if callable(getattr(keras.applications, name))}
    assert {peer.name for peer in KERAS} | WITHOUT_A_SPEC == theirs
    assert len(KERAS) >= 20
