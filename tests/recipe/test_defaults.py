"""What entries of the train section are where nothing is said: the values of the papers that they come from."""

from __future__ import annotations

from typing import Any

import pytest

from cnnc.recipe import (
    Adam,
    AdamW,
    ColorJitter,
    Cutmix,
    Cutout,
    Flip,
    Lars,
    Lion,
    Mixup,
    OneCycle,
    PadCrop,
    RandAugment,
    RandomResizedCrop,
)


@pytest.mark.parametrize(
    ("entry", "values"),
    [
        (Adam(), {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8}),  # Kingma & Ba 2015, algorithm 1
        (AdamW(), {"b1": 0.9, "b2": 0.999, "epsilon": 1e-8}),  # Loshchilov & Hutter 2019, algorithm 2
        (Lars(), {"momentum": 0.9, "trust": 0.001}),  # You et al. 2017, section 5
        (Lion(), {"b1": 0.9, "b2": 0.99}),  # Chen et al. 2023, program 1
        (OneCycle(), {"rise": 0.3, "start": 1 / 25, "end": 1e-4}),  # PyTorch's OneCycleLR
        (PadCrop(), {"pixels": 4}),  # He et al. 2016, section 4.2
        (Flip(), {"probability": 0.5}),  # the same
        (RandomResizedCrop(), {"minimum_area": 0.08, "maximum_area": 1}),  # Szegedy et al. 2015, section 6
        (ColorJitter(), {"brightness": 0.4, "contrast": 0.4}),  # fb.resnet.torch
        (Cutout(), {"size": 16}),  # DeVries & Taylor 2017, CIFAR-10
        (RandAugment(), {"layers": 2, "magnitude": 9}),  # Cubuk et al. 2020, ResNet-50
        (Mixup(), {"alpha": 0.2}),  # Zhang et al. 2018, ImageNet
        (Cutmix(), {"alpha": 1}),  # Yun et al. 2019, section 3.1
    ],
)
def test_defaults_are_those_of_the_papers(entry: Any, values: dict[str, float]) -> None:
    assert {name: getattr(entry, name) for name in values} == pytest.approx(values)
