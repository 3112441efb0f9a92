"""Weights fit whatever strides, padding, pools and activations are: where a file's graph says these, it must agree."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.backends.tflite.compile import compile_float
from cnnc.diagnostics import CnnError
from cnnc.ir.model import Model
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.importing.layers.file_layers import Source
from cnnc.weights.importing.matching.by_user import MappingLine
from tests.support import weight_sources as made

pytestmark = [
    pytest.mark.fault("W1"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # of Keras's own
]
BODY = "input 16x16x4\na: conv(3x3, 4) | relu\n{}\nconv(3x3, 8) | relu | globalpool | dense(2)\n"
OTHERS: dict[str, tuple[str, str, str]] = {
    "stride": ("conv(3x3, 4, stride=2) | conv(3x3, 4)", "conv(3x3, 4) | conv(3x3, 4, stride=2)", "stride 2x2"),
    "dilation": ("conv(3x3, 4, dilation=2)", "conv(3x3, 4)", "dilation 2x2"),
    "padding": ("conv(3x3, 4, stride=2)", "conv(3x3, 4, stride=2, padding=half)", "padding same"),
    "padding of a depthwise one": ("depthwise(3x3, stride=2, padding=valid)", "depthwise(3x3, stride=2)", "valid"),
    "zeros around": ("pad(1) | conv(3x3, 4)", "conv(3x3, 4)", "2+2 x 2+2 zeros"),
    "activation": ("conv(3x3, 4) | relu6", "conv(3x3, 4) | relu", "sees relu6 of"),
    "no activation": ("conv(3x3, 4)", "conv(3x3, 4) | relu", "sees relu of"),
    "slope": ("conv(3x3, 4) | leaky_relu(0.1)", "conv(3x3, 4) | leaky_relu(0.2)", "leaky relu 0.1"),
    "swish": ("conv(3x3, 4) | swish", "conv(3x3, 4) | hard_swish", "sees swish of"),
    "gate": ("mul { conv(3x3, 4) | sigmoid \n identity }", "mul { conv(3x3, 4) | tanh \n identity }", "sigmoid"),
    "kind of pool": ("maxpool(2)", "avgpool(2)", "max pool 2x2"),
    "size of a pool": ("maxpool(3, stride=2)", "maxpool(2, stride=2)", "max pool 3x3"),
    "padding of a pool": ("maxpool(3, stride=2)", "maxpool(3, stride=2, padding=half)", "padding same"),
    "no pool": ("identity", "maxpool(2)", "sees relu of `a.relu1`"),
    "method of a resize": ("resize(scale=2)", "resize(scale=2, method=bilinear)", "resize nearest"),
    "factor of a resize": ("resize(scale=2)", "resize(scale=3)", "resize nearest (2, 2)"),
    "sum or product": (
        "add { conv(3x3, 4) | relu \n identity }",
        "mul { conv(3x3, 4) | relu \n identity }",
        "sees sum of",
    ),
    "other sum": ("b: conv(3x3, 4) | relu\nadd(b, a)", "b: conv(3x3, 4) | relu\nadd(b, b)", "of the file sees"),
}


def net_of(body: str) -> cnnc.Net:
    return cnnc.load_text(BODY.format(body))


def tflite(net: cnnc.Net, path: Path) -> Source:
    """The network's own program, with random weights."""
    program = compile_float(Model(net.graph, made.noise(net.graph, 0)))
    path.write_bytes(write_file(File((program,))))
    return read_source(path)


@pytest.mark.parametrize("name", OTHERS)
def test_a_tflite_file_that_computes_otherwise_is_refused(name: str, tmp_path: Path) -> None:
    theirs, ours, message = OTHERS[name]
    for one, other in ((theirs, ours), (ours, theirs)):
        source = tflite(net_of(one), tmp_path / "a.tflite")
        combine(net_of(one).graph, source, Options())
        with pytest.raises(CnnError, match="but the file's network computes otherwise"):
            combine(net_of(other).graph, source, Options())
    source = tflite(net_of(theirs), tmp_path / "a.tflite")
    with pytest.raises(CnnError, match=re.escape(message)):
        combine(net_of(ours).graph, source, Options())


@pytest.mark.fault("T")
def test_a_match_that_the_files_connections_contradict_is_refused(tmp_path: Path) -> None:
    """Two layers of one shape, one behind the other: the user has them change places."""
    net = cnnc.load_text("input 8x8x4\nconv(3x3, 4) | relu | conv(3x3, 4) | relu | conv(3x3, 4)\n")
    source = tflite(net, tmp_path / "a.tflite")
    first, second, third = (layer.name for layer in source.layers)
    right = [(first, "conv1"), (second, "conv2"), (third, "conv3")]
    wrong = [(second, "conv1"), (first, "conv2"), (third, "conv3")]
    combine(net.graph, source, Options(tuple(MappingLine(*pair, "a test") for pair in right)))
    with pytest.raises(CnnError, match=f"`{second}` of the file sees relu of `{first}`, and `conv1` sees the input"):
        combine(net.graph, source, Options(tuple(MappingLine(*pair, "a test") for pair in wrong)))


@pytest.mark.parametrize(("theirs", "ours"), [("", " | conv(5x5, 8) | relu"), (" | conv(5x5, 8) | relu", "")])
def test_a_layer_without_a_counterpart_is_no_contradiction(theirs: str, ours: str, tmp_path: Path) -> None:
    """With `--partial`: what a layer sees of one that only the network, or only the file, has."""
    text = "input 8x8x4\na: conv(3x3, 8)\nrelu{}\nz: conv(1x1, 2)\n"
    source = tflite(cnnc.load_text(text.format(theirs)), tmp_path / "a.tflite")
    names = [layer.name for layer in source.layers]
    given = (MappingLine(names[0], "a", "a test"), MappingLine(names[-1], "z", "a test"))
    found = combine(cnnc.load_text(text.format(ours)).graph, source, Options(given, partial=True))
    assert found.values == 3 * 3 * 4 * 8 + 8 + 8 * 2 + 2
    assert (len(found.initial), len(found.unused)) == (2 * bool(ours), 2 * bool(theirs))


ALIKE = {
    "zeros before a convolution": ("pad(1) | conv(3x3, 4, padding=valid)", "conv(3x3, 4)"),
    "zeros before a pool of positive values": (
        "pad(1) | maxpool(3, stride=2, padding=valid)",
        "maxpool(3, stride=2, padding=half)",
    ),
    "a pool over all": ("avgpool(16) | conv(1x1, 4)", "globalpool(keepdims=true) | conv(1x1, 4)"),
    "stride of one place": ("avgpool(16) | conv(1x1, 4, stride=2)", "avgpool(16) | conv(1x1, 4)"),
    "half of an odd window": ("conv(3x3, 4, padding=half)", "conv(3x3, 4)"),
    "sums in other orders": ("add { conv(3x3, 4) | relu \n identity }", "add { identity \n conv(3x3, 4) | relu }"),
    "sums of sums": (
        "add { add { conv(3x3, 4) | relu \n identity } \n identity }",
        "add { conv(3x3, 4) | relu \n identity \n identity }",
    ),
    "a rectified pool": ("conv(3x3, 4) | maxpool(2) | relu", "conv(3x3, 4) | relu | maxpool(2)"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_another_way_to_write_the_same_is_imported(name: str, tmp_path: Path) -> None:
    theirs, ours = map(net_of, ALIKE[name])
    found = combine(ours.graph, tflite(theirs, tmp_path / "a.tflite"), Options())
    pixels = np.random.default_rng(0).normal(size=(2, 16, 16, 4)).astype(np.float32)
    one = np.asarray(theirs.apply(made.noise(theirs.graph, 0), pixels))
    np.testing.assert_allclose(np.asarray(ours.apply(found.weights, pixels)), one, rtol=1e-4)


def keras_source(path: Path, *between: Any, first: dict[str, Any] | None = None) -> Source:
    keras = pytest.importorskip("keras")
    x = start = keras.Input((16, 16, 4))
    x = keras.layers.Conv2D(4, 3, **{"padding": "same", "activation": "relu"} | (first or {}))(x)
    for layer in between:
        x = layer(x)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(x)
    x = keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x))
    keras.Model(start, x).save(path)
    return read_source(path)


def test_a_keras_model_that_computes_otherwise_is_refused(tmp_path: Path) -> None:
    layers = pytest.importorskip("keras").layers
    cases: list[tuple[list[Any], dict[str, Any], str, str]] = [
        ([], {"strides": 2}, "identity", "has stride 2x2, and `a.conv1` has 1x1"),
        ([], {"dilation_rate": 2}, "identity", "has dilation 2x2"),
        ([], {"activation": "relu6"}, "identity", "sees relu6 of"),
        ([], {"activation": None}, "identity", "sees relu of `a.conv1`"),
        ([], {"padding": "valid"}, "identity", "has padding valid"),
        ([layers.LeakyReLU(negative_slope=0.2)], {"activation": None}, "identity", "sees leaky relu 0.2 of"),
        ([layers.MaxPooling2D(2)], {}, "avgpool(2)", "sees max pool 2x2"),
        ([layers.MaxPooling2D(3, strides=2, padding="same")], {}, "maxpool(3, stride=2, padding=half)", "padding same"),
        ([layers.ZeroPadding2D(1)], {}, "identity", "after 1+1 x 1+1 zeros"),
        ([layers.UpSampling2D(2)], {}, "resize(scale=2, method=bilinear)", "resize nearest"),
        ([layers.Conv2DTranspose(4, 3, strides=2, padding="valid")], {}, "conv_transpose(3x3, 4, stride=2)", "valid"),
    ]
    for between, first, ours, message in cases:
        source = keras_source(tmp_path / "a.keras", *between, first=first)
        with pytest.raises(CnnError, match=re.escape(message)):
            combine(net_of(ours).graph, source, Options())


def test_a_keras_model_that_computes_the_same_is_imported(tmp_path: Path) -> None:
    layers = pytest.importorskip("keras").layers
    cases: list[tuple[list[Any], dict[str, Any], str]] = [
        ([], {}, "identity"),
        ([layers.Activation("relu"), layers.Dropout(0.1)], {"activation": None}, "identity"),
        ([layers.ZeroPadding2D(1), layers.MaxPooling2D(3, strides=2)], {}, "maxpool(3, stride=2, padding=half)"),
        ([layers.ReLU(max_value=5.0)], {}, "leaky_relu"),  # what is not known agrees with all
        ([layers.UpSampling2D(2, interpolation="bilinear")], {}, "resize(scale=2, method=bilinear)"),
        ([layers.Conv2DTranspose(4, 3, strides=2, padding="same")], {}, "conv_transpose(3x3, 4, stride=2)"),
    ]
    for between, first, ours in cases:
        combine(net_of(ours).graph, keras_source(tmp_path / "a.keras", *between, first=first), Options())


def hugging_face(net: cnnc.Net, folder: Path, **config: Any) -> Source:
    """A ResNet as transformers names it, and its configuration."""
    parts = {"conv": "convolution", "bn": "normalization"}
    words = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "variance": "running_var"}
    arrays: dict[str, Any] = {}
    for node, own in made.noise(net.graph, 0).items():
        place, _, last = node.rpartition(".")
        stage = re.fullmatch(r"resnet\.(\d+)\.(\d+)(\.shortcut1)?", place)
        kind, number = last[:-1].rstrip("0123456789"), int(last[-1])
        if stage is None:
            name = f"embedder.embedder.{parts[kind]}" if kind in parts else "classifier.1"
        else:
            inner = "shortcut" if stage[3] else f"layer.{number - 1}"
            name = f"encoder.stages.{stage[1]}.layers.{stage[2]}.{inner}.{parts[kind]}"
        for short, array in own.items():
            if short == "kernel":
                moved = array.T if array.ndim == 2 else np.moveaxis(array, (-1, -2), (0, 1))
                arrays[f"{name}.weight"] = np.ascontiguousarray(moved)
            else:
                arrays[f"{name}.{words.get(short, short)}"] = array
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet", "hidden_act": "relu", **config}))
    return read_source(folder / "model.safetensors")


def test_the_configuration_of_hugging_face_says_where_a_resnet_halves(tmp_path: Path) -> None:
    net = cnnc.load("resnet50", width=1 / 16, input=(32, 32, 3))
    combine(net.graph, hugging_face(net, tmp_path), Options())
    combine(net.graph, hugging_face(net, tmp_path, downsample_in_bottleneck=False), Options())
    with pytest.raises(CnnError, match=r"layer\.0\.convolution` of the file has stride 2x2, and `\S+conv1` has 1"):
        combine(net.graph, hugging_face(net, tmp_path, downsample_in_bottleneck=True), Options())
    with pytest.raises(CnnError, match="configuration has gelu between layers, and the network relu"):
        combine(net.graph, hugging_face(net, tmp_path, hidden_act="gelu"), Options())


@pytest.mark.fault("S9")
@pytest.mark.parametrize("text", ["[" * 20_000, '{"model_type": NaN}', "{", " " * (1 << 21)])
def test_a_configuration_that_cannot_be_read_is_said(tmp_path: Path, text: str) -> None:
    save_file({"a.weight": np.ones((2, 2), np.float32)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CnnError, match=r"`config.json` beside it, which may say how its network computes, cannot be"):
        read_source(tmp_path / "model.safetensors")
    for other in ("[]", "{}", '{"model_type": 3}'):
        (tmp_path / "config.json").write_text(other)
        assert read_source(tmp_path / "model.safetensors").layers
