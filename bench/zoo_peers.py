"""Networks of other implementations that specs are held against: whose, with what options, for what pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import cnnc
from cnnc.net import Net

Pictures = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Peer:
    """A network of a library, and the spec's that it is.

    Attributes:
        library: `Keras` is keras.applications, `transformers` Hugging Face's, in PyTorch.
        name: the function, or what the configuration's class begins with.
        spec: the name of ours, with its variant.
        options: what the function or the configuration takes.
        overrides: what our spec takes.
        pixels: what their network wants of pixels. Keras: the module of whose `preprocess_input` it is, empty where the
            network begins with it. transformers: a preset of `normalize`.
        size: of the pictures.
        walked: whether layers of one form meet in the order of a walk from the output on, not in that in which they
            were made. (Keras lists layers of branches in another order than a spec.)
    """

    library: Literal["Keras", "transformers"]
    name: str
    spec: str
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    pixels: str = ""
    size: int = 128
    walked: bool = False

    def __str__(self) -> str:
        return "-".join([self.library, self.spec, *(f"{name}={value}" for name, value in self.overrides.items())])

    def net(self) -> Net:
        """Our network."""
        return cnnc.load(self.spec, input=(self.size, self.size, 3), **self.overrides)


def _keras(name: str, spec: str, **rest: Any) -> Peer:
    return Peer("Keras", name, spec, **rest)


_WIDTHS = (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
_CAFFE = {"preprocess": "bgr | normalize(caffe)"}

KERAS: tuple[Peer, ...] = (
    *(_keras(f"VGG{size}", f"vgg{size}", overrides=_CAFFE, pixels=f"vgg{size}") for size in (16, 19)),
    *(_keras(f"ResNet{size}", f"resnet_v1_{size}", pixels="resnet", walked=True) for size in (50, 101, 152)),
    *(_keras(f"ResNet{size}V2", f"resnet_v2_{size}", pixels="resnet_v2", walked=True) for size in (50, 101, 152)),
    *(
        _keras("MobileNet", f"mobilenet_v1_w{100 * a:.0f}", options={"alpha": a}, pixels="mobilenet")
        for a in (0.25, 0.5, 0.75, 1.0)
    ),
    *(
        _keras("MobileNetV2", f"mobilenet_v2_w{100 * a:.0f}", options={"alpha": a}, pixels="mobilenet_v2")
        for a in _WIDTHS
    ),
    *(
        _keras(f"MobileNetV3{size}", f"mobilenet_v3_{size.lower()}", options=options, overrides=overrides)
        for options, overrides in (({}, {}), ({"alpha": 0.75}, {"width": 0.75}))
        for size in ("Large", "Small")
    ),
    *(_keras(f"DenseNet{size}", f"densenet{size}", pixels="densenet") for size in (121, 169, 201)),
    _keras("InceptionV3", "inception_v3", pixels="inception_v3", size=171, walked=True),
    _keras("Xception", "xception", pixels="xception", size=75),
    _keras("NASNetMobile", "nasnet", pixels="nasnet", size=128, walked=True),
    *(_keras(f"EfficientNetB{size}", f"efficientnet_b{size}") for size in range(8)),
    *(_keras(f"EfficientNetV2{size}", f"efficientnet_v2_{size.lower()}") for size in ("B0", "B1", "B2", "B3", "S")),
    _keras("ConvNeXtTiny", "convnext_tiny"),
)


def _resnet(size: int, depths: list[int], layer: str, widths: list[int]) -> Peer:
    options = {"depths": depths, "layer_type": layer, "hidden_sizes": widths}
    return Peer("transformers", "ResNet", f"resnet{size}", options, pixels="imagenet", size=224)


def _efficientnet(index: int, width: float, depth: float, size: int, head: int, padded: list[int]) -> Peer:
    """`padded` are the blocks whose input has an odd size here: transformers wants them named."""
    options = {"width_coefficient": width, "depth_coefficient": depth, "hidden_dim": head, "depthwise_padding": padded}
    return Peer("transformers", "EfficientNet", f"efficientnet_b{index}", options, pixels="imagenet", size=size)


_NARROW, _WIDE = [64, 128, 256, 512], [256, 512, 1024, 2048]

TRANSFORMERS: tuple[Peer, ...] = (
    _resnet(18, [2, 2, 2, 2], "basic", _NARROW),
    _resnet(34, [3, 4, 6, 3], "basic", _NARROW),
    _resnet(50, [3, 4, 6, 3], "bottleneck", _WIDE),
    _resnet(101, [3, 4, 23, 3], "bottleneck", _WIDE),
    _resnet(152, [3, 8, 36, 3], "bottleneck", _WIDE),
    *(
        Peer(
            "transformers",
            "MobileNetV1",
            f"mobilenet_v1_w{100 * width:.0f}",
            {"depth_multiplier": width},
            pixels="symmetric",
            size=224,
        )
        for width in (0.25, 0.5, 0.75, 1.0)
    ),
    *(
        Peer(
            "transformers",
            "MobileNetV2",
            f"mobilenet_v2_w{100 * width:.0f}",
            {"depth_multiplier": width},
            pixels="symmetric",
            size=224,
        )
        for width in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)
    ),
    _efficientnet(0, 1.0, 1.0, 224, 1280, []),
    _efficientnet(1, 1.0, 1.1, 240, 1280, [16]),
    _efficientnet(2, 1.1, 1.2, 260, 1408, [5, 8, 16]),
    _efficientnet(3, 1.2, 1.4, 300, 1536, [5, 18]),
    Peer("transformers", "ConvNext", "convnext_tiny", pixels="imagenet", size=224),
)

PEERS = KERAS + TRANSFORMERS
