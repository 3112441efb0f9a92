"""The networks of Coral's published latencies, as int8 programs of shapes alone: what a converter would make of them.

Weights are never drawn: a constant is one zero that NumPy stretches to its shape, so that VGG-19 takes no memory.
Keras has most of these networks; Inception v1 and v4 and EfficientNet-EdgeTPU are written down from TF-Slim and from
tensorflow/tpu. The batch norm that follows a convolution is folded into it, as converters do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from cnnc.tflite_file.program import File, Operator, Program, Quantization, Tensor

_SCALE = Quantization((0.5,), (0,))
_FOLDED = ("BatchNormalization", "Dropout", "InputLayer", "Rescaling", "Normalization")


def program_of(model: Any) -> File:
    """The program of a Keras model whose layers are those of convolutional networks."""
    return _Walk(model).file()


class _Walk:
    """Follows a functional Keras model layer by layer; `names` maps its tensors to the program's."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.names: dict[int, str] = {}
        self.tensors: dict[str, Tensor] = {}
        self.operators: list[Operator] = []
        self.readers: dict[int, int] = {}
        for layer in model.layers:
            for tensor in _inputs(layer):
                self.readers[id(tensor)] = self.readers.get(id(tensor), 0) + 1

    def file(self) -> File:
        for layer in self.model.layers:
            self.layer(layer)
        inputs = tuple(self.names[id(tensor)] for tensor in self.model.inputs)
        outputs = tuple(self.names[id(tensor)] for tensor in self.model.outputs)
        return File((Program(self.model.name, self.tensors, tuple(self.operators), inputs, outputs),))

    def layer(self, layer: Any) -> None:
        kind = type(layer).__name__
        output = layer.output
        if kind == "InputLayer":
            output = output[0] if isinstance(output, list) else output
            self.names[id(output)] = self.activation(layer.name, output.shape)
            return
        read = [self.names[id(tensor)] for tensor in _inputs(layer)]
        if kind in _FOLDED and self.is_folded(kind, layer, read):
            self.names[id(output)] = read[0]
        elif kind in ("Activation", "ReLU"):
            self.names[id(output)] = self.activate(layer, read[0], output.shape)
        else:
            self.names[id(output)] = self.emit(kind, layer, read, output.shape)

    def is_folded(self, kind: str, layer: Any, read: list[str]) -> bool:
        """Whether a layer goes into its producer: all but a batch norm that follows no convolution of its own."""
        if kind != "BatchNormalization":
            return True
        producer = next((op for op in self.operators if read[0] in op.outputs), None)
        once = self.readers[id(_inputs(layer)[0])] == 1
        return once and producer is not None and producer.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")

    def activate(self, layer: Any, name: str, shape: Any) -> str:
        """A ReLU goes into its producer, where that has no other reader; the rest are operators."""
        kind = _activation(layer)
        if kind is None:
            return name
        producer = next((i for i, op in enumerate(self.operators) if name in op.outputs), None)
        alone = self.readers[id(_inputs(layer)[0])] == 1
        if kind.startswith("RELU") and producer is not None and alone:
            op = self.operators[producer]
            if op.options.get("activation") == "NONE" and op.kind not in ("CONCATENATION", "AVERAGE_POOL_2D"):
                self.operators[producer] = Operator(
                    op.kind, op.inputs, op.outputs, {**op.options, "activation": kind}, op.version
                )
                return name
        return self.add(kind, layer.name, [name], shape)

    def emit(self, kind: str, layer: Any, read: list[str], shape: Any) -> str:
        if kind == "BatchNormalization":
            each = (int(shape[-1]),)
            scaled = self.add("MUL", f"{layer.name}_scale", [*read, self.constant(layer.name, each)], shape)
            return self.add("ADD", layer.name, [scaled, self.constant(f"{layer.name}_add", each)], shape)
        if kind in ("Conv2D", "DepthwiseConv2D"):
            return self.convolution(kind, layer, read, shape)
        if kind == "Dense":
            out = self.dense(layer, read, shape)
            return (
                self.add("SOFTMAX", f"{layer.name}_softmax", [out], shape) if _activation(layer) == "SOFTMAX" else out
            )
        if kind == "ZeroPadding2D":
            return self.add("PAD", layer.name, [*read, self.constant(layer.name, (4, 2), "INT32")], shape)
        if kind in ("MaxPooling2D", "AveragePooling2D"):
            height, width = layer.pool_size
            options: dict[str, Any] = {
                "filter_h": height,
                "filter_w": width,
                "stride_h": layer.strides[0],
                "stride_w": layer.strides[1],
            }
            name = "MAX_POOL_2D" if kind == "MaxPooling2D" else "AVERAGE_POOL_2D"
            return self.add(name, layer.name, read, shape, {**options, "padding": layer.padding.upper()})
        if kind == "GlobalAveragePooling2D":
            _, height, width, channels = self.tensors[read[0]].shape
            options = {"filter_h": height, "filter_w": width, "stride_h": 1, "stride_w": 1, "padding": "VALID"}
            return self.add("AVERAGE_POOL_2D", layer.name, read, (1, 1, 1, channels), options)
        if kind in ("Flatten", "Reshape"):
            return self.add("RESHAPE", layer.name, read, shape)
        if kind == "Concatenate":
            return self.add("CONCATENATION", layer.name, read, shape, {"axis": 3})
        if kind in ("Add", "CustomScaleLayer"):
            return self.add("ADD", layer.name, read, shape)
        raise AssertionError(kind)

    def convolution(self, kind: str, layer: Any, read: list[str], shape: Any) -> str:
        height, width = layer.kernel_size
        channels_in, channels = self.tensors[read[0]].shape[-1], int(shape[-1])
        depthwise = kind == "DepthwiseConv2D"
        kernel = (1, height, width, channels) if depthwise else (channels, height, width, channels_in)
        options: dict[str, Any] = {"padding": layer.padding.upper(), "stride_h": layer.strides[0]}
        options |= {"stride_w": layer.strides[1], "dilation_h": 1, "dilation_w": 1}
        weights = [self.constant(layer.name, kernel), self.constant(f"{layer.name}_bias", (channels,), "INT32")]
        name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        if depthwise:
            options["multiplier"] = layer.depth_multiplier
        activation = _activation(layer)
        return self.add(name, layer.name, [*read, *weights], shape, options, activation or "NONE")

    def dense(self, layer: Any, read: list[str], shape: Any) -> str:
        units = int(shape[-1])
        inputs = int(np.prod(self.tensors[read[0]].shape[1:]))
        weights = [self.constant(layer.name, (units, inputs)), self.constant(f"{layer.name}_bias", (units,), "INT32")]
        activation = _activation(layer)
        return self.add(
            "FULLY_CONNECTED", layer.name, [*read, *weights], shape, {}, activation if activation == "RELU" else "NONE"
        )

    def add(
        self,
        kind: str,
        name: str,
        inputs: list[str],
        shape: Any,
        options: Mapping[str, Any] | None = None,
        activation: str = "NONE",
    ) -> str:
        output = self.activation(name, shape)
        found = {**(options or {}), "activation": activation}
        self.operators.append(Operator(kind, tuple(inputs), (output,), found, origin=name))
        return output

    def activation(self, name: str, shape: Any) -> str:
        self.tensors[name] = Tensor(name, tuple(int(size or 1) for size in shape), "INT8", _SCALE)
        return name

    def constant(self, name: str, shape: tuple[int, ...], kind: str = "INT8") -> str:
        zero = np.zeros((), np.int8 if kind == "INT8" else np.int32)
        scales = shape[0] if len(shape) == 4 and shape[0] > 1 else shape[-1] if len(shape) == 4 else 1
        axis = 0 if len(shape) == 4 and shape[0] > 1 else max(len(shape) - 1, 0) if scales > 1 else 0
        found = Quantization(tuple(0.1 + i / 1e6 for i in range(scales)), (0,) * scales, axis)
        self.tensors[f"{name}/c"] = Tensor(f"{name}/c", shape, kind, found, np.broadcast_to(zero, shape))
        return f"{name}/c"


def _inputs(layer: Any) -> list[Any]:
    if type(layer).__name__ == "InputLayer":
        return []
    return list(layer._inbound_nodes[0].input_tensors)


def _activation(layer: Any) -> str | None:
    if type(layer).__name__ == "ReLU":
        return "RELU6" if layer.max_value == 6 else "RELU"
    found = getattr(layer, "activation", None)
    name = "linear" if found is None else found.__name__
    return {"linear": None, "relu": "RELU", "relu6": "RELU6", "softmax": "SOFTMAX", "sigmoid": "LOGISTIC"}[name]


def networks() -> Mapping[str, Callable[[], Any]]:
    """Functions that build Keras models, by the names of rows in the published tables."""
    from keras import applications

    def of(maker: Callable[..., Any], size: int, **arguments: Any) -> Callable[[], Any]:
        return lambda: maker(input_shape=(size, size, 3), weights=None, **arguments)

    return {
        "DenseNet (224x224)": of(applications.DenseNet121, 224),
        "Inception v1 (224x224)": inception_v1,
        "Inception V3": of(applications.InceptionV3, 299),
        "Inception v4 (299x299)": inception_v4,
        "Inception-ResNet V2 (299x299)": of(applications.InceptionResNetV2, 299),
        "MobileNet v1 (224x224)": of(applications.MobileNet, 224),
        "MobileNet v2 (224x224)": of(applications.MobileNetV2, 224),
        "MobileNet V1 0.25": of(applications.MobileNet, 128, alpha=0.25),
        "ResNet-50 V1 (299x299)": of(applications.ResNet50, 299),
        "ResNet-50 V2 (299x299)": of(applications.ResNet50V2, 299),
        "ResNet-152 V2 (299x299)": of(applications.ResNet152V2, 299),
        "VGG16 (224x224)": of(applications.VGG16, 224),
        "VGG19 (224x224)": of(applications.VGG19, 224),
        "EfficientNet-EdgeTpu-S": lambda: efficientnet_edgetpu(1.0, 1.0, 224),
        "EfficientNet-EdgeTpu-M": lambda: efficientnet_edgetpu(1.0, 1.1, 240),
        "EfficientNet-EdgeTpu (L)": lambda: efficientnet_edgetpu(1.2, 1.4, 300),
    }


def _conv(x: Any, filters: int, kernel: int | tuple[int, int], stride: int = 1, padding: str = "same") -> Any:
    from keras import layers

    x = layers.Conv2D(filters, kernel, stride, padding, use_bias=False)(x)
    return layers.ReLU()(layers.BatchNormalization()(x))


def _pool(x: Any, kind: str, stride: int = 2, padding: str = "same", size: int = 3) -> Any:
    from keras import layers

    return (layers.MaxPooling2D if kind == "max" else layers.AveragePooling2D)(size, stride, padding)(x)


def inception_v1() -> Any:
    """GoogLeNet as TF-Slim has it (5 x 5 convolutions as 3 x 3): Szegedy et al. 2014, table 1."""
    import keras
    from keras import layers

    image = keras.Input((224, 224, 3))
    x = _pool(_conv(image, 64, 7, 2), "max")
    x = _pool(_conv(_conv(x, 64, 1), 192, 3), "max")
    blocks = (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
        3,
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
        2,
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    )
    for block in blocks:
        if isinstance(block, int):
            x = _pool(x, "max", size=block)
            continue
        a, b, c, d, e, f = block
        parts = [_conv(x, a, 1), _conv(_conv(x, b, 1), c, 3), _conv(_conv(x, d, 1), e, 3)]
        x = layers.Concatenate()([*parts, _conv(_pool(x, "max", 1), f, 1)])
    return keras.Model(image, layers.Dense(1001, "softmax")(layers.GlobalAveragePooling2D()(x)))


def inception_v4() -> Any:
    """Szegedy et al. 2016, figures 3 to 9."""
    import keras
    from keras import layers

    def join(*parts: Any) -> Any:
        return layers.Concatenate()(list(parts))

    image = keras.Input((299, 299, 3))
    x = _conv(_conv(_conv(image, 32, 3, 2, "valid"), 32, 3, 1, "valid"), 64, 3)
    x = join(_pool(x, "max", padding="valid"), _conv(x, 96, 3, 2, "valid"))
    left = _conv(_conv(x, 64, 1), 96, 3, 1, "valid")
    x = join(left, _conv(_conv(_conv(_conv(x, 64, 1), 64, (1, 7)), 64, (7, 1)), 96, 3, 1, "valid"))
    x = join(_conv(x, 192, 3, 2, "valid"), _pool(x, "max", padding="valid"))
    for _ in range(4):
        double = _conv(_conv(_conv(x, 64, 1), 96, 3), 96, 3)
        x = join(_conv(x, 96, 1), _conv(_conv(x, 64, 1), 96, 3), double, _conv(_pool(x, "average", 1), 96, 1))
    deep = _conv(_conv(_conv(x, 192, 1), 224, 3), 256, 3, 2, "valid")
    x = join(_conv(x, 384, 3, 2, "valid"), deep, _pool(x, "max", padding="valid"))
    for _ in range(7):
        short = _conv(_conv(_conv(x, 192, 1), 224, (1, 7)), 256, (7, 1))
        long = _conv(_conv(_conv(x, 192, 1), 192, (7, 1)), 224, (1, 7))
        long = _conv(_conv(long, 224, (7, 1)), 256, (1, 7))
        x = join(_conv(x, 384, 1), short, long, _conv(_pool(x, "average", 1), 128, 1))
    right = _conv(_conv(_conv(_conv(x, 256, 1), 256, (1, 7)), 320, (7, 1)), 320, 3, 2, "valid")
    x = join(_conv(_conv(x, 192, 1), 192, 3, 2, "valid"), right, _pool(x, "max", padding="valid"))
    for _ in range(3):
        short, long = _conv(x, 384, 1), _conv(_conv(_conv(x, 384, 1), 448, (3, 1)), 512, (1, 3))
        forks = [
            _conv(short, 256, (1, 3)),
            _conv(short, 256, (3, 1)),
            _conv(long, 256, (1, 3)),
            _conv(long, 256, (3, 1)),
        ]
        x = join(_conv(x, 256, 1), *forks, _conv(_pool(x, "average", 1), 256, 1))
    return keras.Model(image, layers.Dense(1001, "softmax")(layers.GlobalAveragePooling2D()(x)))


def efficientnet_edgetpu(width: float, depth: float, size: int) -> Any:
    """tensorflow/tpu, models/official/efficientnet/edgetpu: repeats, kernel, stride, expansion, filters, fused."""
    from math import ceil

    import keras
    from keras import layers

    def rounded(filters: int) -> int:
        scaled = filters * width
        near = max(8, int(scaled + 4) // 8 * 8)
        return near if near >= 0.9 * scaled else near + 8

    image = keras.Input((size, size, 3))
    x = _conv(image, rounded(32), 3, 2)
    declared = rounded(24)  # what the first block expands, though the stem gives 32
    blocks = (
        (1, 3, 1, 4, 24, True),
        (2, 3, 2, 8, 32, True),
        (4, 3, 2, 8, 48, True),
        (5, 5, 2, 8, 96, False),
        (4, 5, 1, 8, 144, False),
        (2, 5, 2, 8, 192, False),
    )
    for repeats, kernel, stride, expansion, filters, fused in blocks:
        for i in range(ceil(repeats * depth)):
            x = _inverted(x, kernel, stride if i == 0 else 1, declared * expansion, rounded(filters), fused)
            declared = rounded(filters)
    x = layers.GlobalAveragePooling2D()(_conv(x, rounded(1280), 1))
    return keras.Model(image, layers.Dense(1001, "softmax")(x))


def _inverted(x: Any, kernel: int, stride: int, expanded: int, filters: int, fused: bool) -> Any:
    from keras import layers

    if fused:
        y = _conv(x, expanded, kernel, stride)
    else:
        y = _conv(x, expanded, 1)
        y = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization()(y))
    y = layers.BatchNormalization()(layers.Conv2D(filters, 1, use_bias=False)(y))
    return layers.Add()([x, y]) if stride == 1 and int(x.shape[-1]) == filters else y
