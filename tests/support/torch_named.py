"""Networks in PyTorch whose layers have the names that torchvision and timm give theirs, written from the papers."""

from __future__ import annotations

from math import ceil, prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def randomize(module: nn.Module, seed: int) -> None:
    """New values for all weights, statistics included: none is neutral, and activations keep their size."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: Tensor, deviation: float) -> Tensor:
        return torch.randn(like.shape, generator=generator) * deviation

    with torch.no_grad():
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            if value.ndim > 1:
                value.copy_(normal(value, (2 / prod(value.shape[1:])) ** 0.5))
            elif name.endswith(("weight", "running_var")):
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
            elif value.ndim == 1:
                value.copy_(normal(value, 0.2))
    module.eval()


class Bottleneck(nn.Module):
    """He et al. 2015, figure 5, as torchvision names it."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = (
            nn.Sequential(nn.Conv2d(inputs, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width))
            if stride != 1 or inputs != 4 * width
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet(nn.Module):
    """He et al. 2015, table 1, with torchvision's names."""

    def __init__(self, repeats: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        inputs = 64
        for stage, (count, width) in enumerate(zip(repeats, (64, 128, 256, 512), strict=True)):
            blocks = []
            for index in range(count):
                blocks.append(Bottleneck(inputs, width, 2 if stage and not index else 1))
                inputs = 4 * width
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.fc = nn.Linear(inputs, 1000)

    def forward(self, x: Tensor) -> Any:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(x.mean((2, 3)))


class MobileNetV2(nn.Module):
    """Sandler et al. 2018, table 2, with torchvision's names, which are numbers."""

    def __init__(self) -> None:
        super().__init__()
        layers, inputs = [self._layer(3, 32, 3, 2)], 32
        table = (
            (1, 16, 1, 1),
            (6, 24, 2, 2),
            (6, 32, 3, 2),
            (6, 64, 4, 2),
            (6, 96, 3, 1),
            (6, 160, 3, 2),
            (6, 320, 1, 1),
        )
        for expand, filters, count, stride in table:
            for index in range(count):
                layers.append(Inverted(inputs, filters, 1 if index else stride, expand))
                inputs = filters
        self.features = nn.Sequential(*layers, self._layer(inputs, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    @staticmethod
    def _layer(inputs: int, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Module:
        conv = nn.Conv2d(inputs, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(filters, eps=1e-3), nn.ReLU6())

    def forward(self, x: Tensor) -> Any:
        return self.classifier(self.features(x).mean((2, 3)))


class Inverted(nn.Module):
    """Sandler et al. 2018, figure 4."""

    def __init__(self, inputs: int, filters: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden, layer = inputs * expand, MobileNetV2._layer
        self.conv = nn.Sequential(
            *([layer(inputs, hidden, 1)] if expand != 1 else []),
            layer(hidden, hidden, 3, stride, hidden),
            nn.Conv2d(hidden, filters, 1, bias=False),
            nn.BatchNorm2d(filters, eps=1e-3),
        )
        self.has_shortcut = stride == 1 and inputs == filters

    def forward(self, x: Tensor) -> Any:
        return x + self.conv(x) if self.has_shortcut else self.conv(x)


class Same(nn.Conv2d):
    """TensorFlow's padding: an odd zero at the end."""

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size, self.stride, strict=True):
            total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        return F.conv2d(F.pad(x, sides), self.weight, self.bias, self.stride, 0, 1, self.groups)


class SqueezeExcite(nn.Module):
    """Hu et al. 2018, as timm names it."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.conv_reduce, self.conv_expand = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.conv_expand(F.silu(self.conv_reduce(x.mean((2, 3), keepdim=True)))))


class Separable(nn.Module):
    """EfficientNet's first block, which expands nothing."""

    def __init__(self, inputs: int, filters: int) -> None:
        super().__init__()
        self.conv_dw, self.bn1 = Same(inputs, inputs, 3, groups=inputs, bias=False), nn.BatchNorm2d(inputs, eps=1e-3)
        self.se = SqueezeExcite(inputs, inputs // 4)
        self.conv_pw, self.bn2 = nn.Conv2d(inputs, filters, 1, bias=False), nn.BatchNorm2d(filters, eps=1e-3)

    def forward(self, x: Tensor) -> Any:
        return self.bn2(self.conv_pw(self.se(F.silu(self.bn1(self.conv_dw(x))))))


class MBConv(nn.Module):
    """Tan & Le 2019, with timm's names: in order of names the depthwise convolution comes before the expansion."""

    def __init__(self, inputs: int, filters: int, kernel: int, stride: int) -> None:
        super().__init__()
        hidden = 6 * inputs
        self.conv_pw, self.bn1 = nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden, eps=1e-3)
        self.conv_dw = Same(hidden, hidden, kernel, stride, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden, eps=1e-3)
        self.se = SqueezeExcite(hidden, inputs // 4)
        self.conv_pwl, self.bn3 = nn.Conv2d(hidden, filters, 1, bias=False), nn.BatchNorm2d(filters, eps=1e-3)
        self.has_shortcut = stride == 1 and inputs == filters

    def forward(self, x: Tensor) -> Any:
        y = F.silu(self.bn2(self.conv_dw(F.silu(self.bn1(self.conv_pw(x))))))
        y = self.bn3(self.conv_pwl(self.se(y)))
        return x + y if self.has_shortcut else y


class EfficientNetB0(nn.Module):
    """Tan & Le 2019, table 1, with timm's names."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem, self.bn1 = Same(3, 32, 3, 2, bias=False), nn.BatchNorm2d(32, eps=1e-3)
        stages, inputs = [nn.Sequential(Separable(32, 16))], 16
        table = ((2, 3, 24, 2), (2, 5, 40, 2), (3, 3, 80, 2), (3, 5, 112, 1), (4, 5, 192, 2), (1, 3, 320, 1))
        for count, kernel, filters, stride in table:
            blocks = []
            for index in range(count):
                blocks.append(MBConv(inputs, filters, kernel, 1 if index else stride))
                inputs = filters
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)
        self.conv_head, self.bn2 = nn.Conv2d(inputs, 1280, 1, bias=False), nn.BatchNorm2d(1280, eps=1e-3)
        self.classifier = nn.Linear(1280, 1000)

    def forward(self, x: Tensor) -> Any:
        x = self.blocks(F.silu(self.bn1(self.conv_stem(x))))
        return self.classifier(F.silu(self.bn2(self.conv_head(x))).mean((2, 3)))
