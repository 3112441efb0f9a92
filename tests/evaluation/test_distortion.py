"""How far a tensor is from the network's values, beside figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cnnc.evaluation.distortion import ChannelSums, Layer
from cnnc.tflite_file.program import Quantization, Tensor

TENSOR = Tensor("both", (1, 2), "INT8", Quantization((1.0,), (-128,)))
LARGE = np.arange(256.0)
"""A channel that an int8 tensor of step 1 holds exactly."""


def layer_of(*channels: np.ndarray, codes: list[np.ndarray] | None = None) -> Layer:
    """The figures of channels, stored as the nearest codes if no others are given."""
    real = np.stack(channels, axis=1)
    stored = np.clip(np.rint(real), 0, 255) - 128 if codes is None else np.stack(codes, axis=1)
    sums = ChannelSums(replace(TENSOR, shape=(1, len(channels))))
    sums.see(real, stored.astype(np.int8))
    return sums.layer("both", "CONCATENATION", (len(channels),), equalizable=False)


@pytest.mark.parametrize("size", [0.4, 0.1, 1e-3, 1e-6, 1e-12])
def test_a_small_channel_that_is_lost_is_no_exact_layer(size: float) -> None:
    """All of it is error, which is 0 dB, and is told once the whole has less error than rounding leaves."""
    small = size * np.linspace(0.5, 1, 256)
    whole = 10 * np.log10(((LARGE**2).sum() + (small**2).sum()) / (small**2).sum())
    found = layer_of(LARGE, small).sqnr
    assert found == pytest.approx(whole if size == 0.4 else 0, abs=1e-6)


def test_the_worst_of_small_channels_has_the_say() -> None:
    twos = np.where(np.arange(256) % 64 == 0, 2.0, 0.0)
    found = layer_of(LARGE, twos * 1.0005, np.full(256, 1e-4), codes=[LARGE - 128, twos - 128, np.full(256, -128)])
    assert found.sqnr == pytest.approx(0, abs=1e-6)
    found = layer_of(LARGE, twos * 1.0005, np.zeros(256), codes=[LARGE - 128, twos - 128, np.full(256, -128)])
    assert found.sqnr == pytest.approx(20 * np.log10(1.0005 / 0.0005), abs=1e-6)


def test_a_layer_whose_channels_are_all_stored_is_exact() -> None:
    found = layer_of(LARGE, np.ones(256), np.zeros(256))
    assert found.sqnr is None
    assert found.cosine == pytest.approx(1)
    assert layer_of(np.zeros(256), np.zeros(256)).sqnr is None


def test_an_error_in_a_channel_of_zeros_is_told_beside_the_whole() -> None:
    large = np.full(256, 255.0)
    codes = [large - 128, np.where(np.arange(256) == 0, -127, -128)]
    assert layer_of(large, np.zeros(256), codes=codes).sqnr == pytest.approx(10 * np.log10(256 * 255**2), abs=1e-6)
