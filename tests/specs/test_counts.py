"""Parameters and multiply-accumulates of the bundled specs, as published, and as Keras has them."""

from __future__ import annotations

from math import prod

import pytest

from tests.support.bundled import built

PARAMETERS = {
    "mlp": 669_706,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "efficientnet_b0": 5_288_548,
    "efficientnet_b1": 7_794_184,
    "efficientnet_b2": 9_109_994,
    "efficientnet_b3": 12_233_232,
    "efficientnet_b4": 19_341_616,
    "efficientnet_b5": 30_389_784,
    "efficientnet_b6": 43_040_704,
    "efficientnet_b7": 66_347_960,
    "mobilenet_v2": 3_504_872,
    "densenet121": 7_978_856,
    "densenet161": 28_681_000,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "voxnet": 921_736,
    "mobilenet_v1_w25": 470_072,  # Keras, as the others of this network
    "mobilenet_v1_w50": 1_331_592,
    "mobilenet_v1_w75": 2_585_560,
    "mobilenet_v1": 4_231_976,
    "mobilenet_v3_large": 5_483_032,  # torchvision's documentation
    "mobilenet_v3_small": 2_542_856,
    "mnasnet_a1": 3_887_038,  # timm
    "mnasnet_b1": 4_383_312,  # torchvision's documentation
    "efficientnet_lite_0": 4_652_008,  # timm
    "efficientnet_lite_1": 5_416_680,
    "efficientnet_lite_2": 6_092_072,
    "efficientnet_lite_3": 8_197_096,
    "efficientnet_lite_4": 13_006_568,
    "efficientnet_v2_b0": 7_139_704,  # Keras, as the others but S, which is in torchvision's documentation
    "efficientnet_v2_b1": 8_141_052,
    "efficientnet_v2_b2": 10_096_086,
    "efficientnet_v2_b3": 14_358_406,
    "efficientnet_v2_s": 21_458_488,
    "squeezenet_v10": 1_248_424,  # torchvision's documentation, down to ConvNeXt
    "squeezenet_v11": 1_235_496,
    "shufflenet_v2_x05": 1_366_792,
    "shufflenet_v2_x10": 2_278_604,
    "shufflenet_v2_x15": 3_503_624,
    "shufflenet_v2_x20": 7_393_996,
    "convnext_tiny": 28_589_128,
    "xception": 22_855_952,  # Chollet 2017, table 3
    "alexnet_imagenet": 62_378_344,
    "alexnet_original": 60_965_224,  # Caffe's bvlc_alexnet
    "inception_v1": 6_998_552,  # Caffe's bvlc_googlenet
    "inception_v3": 23_817_352,  # Keras, down to NASNet
    "resnet_v1_50": 25_583_592,
    "resnet_v1_101": 44_601_832,
    "resnet_v1_152": 60_268_520,
    "resnet_v2_50": 25_568_360,
    "resnet_v2_101": 44_577_896,
    "resnet_v2_152": 60_236_904,
    "nasnet": 5_289_978,
    "resnext50": 25_028_904,  # torchvision's documentation
    "resnext101": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    "resnet3d18": 33_371_472,
    "wide_resnet28_10": 36_479_194,  # Zagoruyko & Komodakis 2016, table 4: 36.5 M
}
"""Trainable parameters, exactly, as the papers' reference implementations have them."""
MACS = {
    "vgg16": 15.47e9,  # torchvision's documentation, as for the ResNets and EfficientNets but B2
    "vgg19": 19.63e9,
    "resnet18": 1.814e9,
    "resnet34": 3.664e9,
    "resnet50": 4.089e9,
    "resnet101": 7.801e9,
    "resnet152": 11.514e9,
    "efficientnet_b0": 0.39e9,
    "efficientnet_b1": 0.69e9,
    "efficientnet_b2": 1.0e9,  # Tan & Le 2019, table 2
    "efficientnet_b3": 1.83e9,
    "efficientnet_b4": 4.39e9,
    "efficientnet_b5": 10.27e9,
    "efficientnet_b6": 19.07e9,
    "efficientnet_b7": 37.75e9,
    "densenet121": 2.83e9,  # torchvision's documentation
    "densenet161": 7.73e9,
    "densenet169": 3.36e9,
    "densenet201": 4.29e9,
    "mobilenet_v2_w35": 59e6,  # the table beside the authors' code
    "mobilenet_v2_w50": 97e6,
    "mobilenet_v2_w75": 209e6,
    "mobilenet_v2": 300e6,
    "mobilenet_v2_w130": 509e6,
    "mobilenet_v2_w140": 582e6,
    "mobilenet_v1_w25": 41e6,  # Howard et al. 2017, table 6
    "mobilenet_v1_w50": 149e6,
    "mobilenet_v1_w75": 325e6,
    "mobilenet_v1": 569e6,
    "mobilenet_v3_large": 219e6,  # Howard et al. 2019, table 3
    "mnasnet_a1": 312e6,  # Tan et al. 2019, table 1
    "mnasnet_b1": 315e6,
    "efficientnet_lite_0": 0.385e9,  # d-li14/efficientnet-lite.pytorch
    "efficientnet_lite_1": 0.600e9,
    "efficientnet_lite_2": 0.860e9,
    "efficientnet_lite_3": 1.383e9,
    "efficientnet_lite_4": 2.553e9,
    "efficientnet_v2_s": 8.37e9,  # torchvision's documentation
    "shufflenet_v2_x10": 146e6,  # Ma et al. 2018, table 8
    "shufflenet_v2_x20": 0.58e9,  # torchvision's documentation
    "convnext_tiny": 4.46e9,
    "xception": 8.4e9,  # timm
    "alexnet_original": 724e6,
    "resnet_v1_101": 7.6e9,  # He et al. 2015, table 1
    "resnet_v1_152": 11.3e9,
    "nasnet": 564e6,  # Zoph et al. 2018, table 2
    "resnext50": 4.23e9,  # torchvision's documentation
    "resnext101": 16.41e9,
    "wide_resnet50_2": 11.40e9,
    "wide_resnet101_2": 22.75e9,
    "inception_v3": 5.71e9,
    "resnet3d18": 40.70e9,
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_are_exact(name: str) -> None:
    assert built(name).trainable_count == PARAMETERS[name]


@pytest.mark.parametrize("name", MACS)
def test_macs_are_the_published_ones_within_a_percent(name: str) -> None:
    assert built(name).mac_count == pytest.approx(MACS[name], rel=0.01)


KERAS = {
    "vgg16": ("VGG16", {}),
    "vgg19": ("VGG19", {}),
    **{f"mobilenet_v2_w{round(100 * a)}": ("MobileNetV2", {"alpha": a}) for a in (0.35, 0.5, 0.75, 1.0, 1.3, 1.4)},
    **{f"efficientnet_b{size}": (f"EfficientNetB{size}", {}) for size in range(8)},
    **{f"densenet{size}": (f"DenseNet{size}", {}) for size in (121, 169, 201)},
    **{f"mobilenet_v1_w{round(100 * a)}": ("MobileNet", {"alpha": a}) for a in (0.25, 0.5, 0.75, 1.0)},
    "mobilenet_v3_large": ("MobileNetV3Large", {}),
    "mobilenet_v3_small": ("MobileNetV3Small", {}),
    **{f"efficientnet_v2_{size.lower()}": (f"EfficientNetV2{size}", {}) for size in ("B0", "B1", "B2", "B3", "S")},
    "convnext_tiny": ("ConvNeXtTiny", {}),
    "xception": ("Xception", {}),
    **{f"resnet_v1_{size}": (f"ResNet{size}", {}) for size in (50, 101, 152)},
    **{f"resnet_v2_{size}": (f"ResNet{size}V2", {}) for size in (50, 101, 152)},
    "inception_v3": ("InceptionV3", {}),
    "nasnet": ("NASNetMobile", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KERAS)
def test_keras_has_as_many_trainable_parameters(name: str) -> None:
    keras = pytest.importorskip("keras")
    kind, arguments = KERAS[name]
    model = getattr(keras.applications, kind)(weights=None, **arguments)
    assert built(name).trainable_count == sum(prod(weight.shape) for weight in model.trainable_weights)
