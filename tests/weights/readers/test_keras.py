"""Weights out of files that Keras saved, read without it."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.layers.file_layers import Read, Source
from cnnc.weights.importing.readers import keras_layers
from tests.support.paths import ROOT
from tests.support.weight_files import named, said

keras = pytest.importorskip("keras")
pytest.importorskip("h5py")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
"""Keras on jax says so of itself whenever it saves."""


def network() -> Any:
    """Nested, branched, with a layer of most kinds."""
    layers = keras.layers
    x = start = keras.Input((16, 16, 3))
    x = layers.Rescaling(1 / 255.0)(x)
    x = layers.Normalization(name="colours")(x)
    x = layers.Conv2D(4, 3, name="stem")(x)
    x = layers.BatchNormalization(epsilon=1e-4, name="norm")(x)
    y = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.Add()([x, y])
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    inner = keras.Sequential(
        [layers.Conv2D(5, 1, name="one"), layers.PReLU(shared_axes=[1, 2], name="slope")], name="inner"
    )
    z = layers.Conv2DTranspose(6, 3, padding="same", name="transposed")(x)
    x = layers.Concatenate()([inner(x), z])
    x = layers.LayerNormalization(name="layer_norm")(x)
    x = layers.Reshape((-1, 11))(x)
    x = layers.MultiHeadAttention(2, 5, name="attention")(x, x)
    x = layers.GlobalAveragePooling1D()(x)
    return keras.Model(start, layers.Dense(3, name="head")(x))


@pytest.fixture(scope="module")
def model() -> Any:
    keras.utils.set_random_seed(0)
    found = network()
    rng = np.random.default_rng(0)
    for each in found.weights:
        if each.dtype == "float32":
            each.assign(rng.normal(size=each.shape))
    return found


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("keras")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of its own older format
        model.save(found / "a.keras")
        model.save_weights(found / "a.weights.h5")
        model.save(found / "a.h5")
    return found


def require_weights(source: Source, model: Any) -> None:
    """Every array is there, as the model has it."""
    layers = named(source)
    inner = model.get_layer("inner")
    for name, owner in (("stem", model), ("head", model), ("transposed", model), ("depthwise", model), ("one", inner)):
        kernel, bias = owner.get_layer(name).get_weights()
        tensors = layers[f"inner/{name}" if owner is inner else name].tensors
        np.testing.assert_array_equal(tensors["kernel"].array, kernel)
        np.testing.assert_array_equal(tensors["bias"].array, bias)
    norm = [layers["norm"].tensors[role].array for role in ("gamma", "beta", "mean", "variance")]
    for found, wanted in zip(norm, model.get_layer("norm").get_weights(), strict=True):
        np.testing.assert_array_equal(found, wanted)
    depthwise, pointwise, bias = model.get_layer("separable").get_weights()
    np.testing.assert_array_equal(layers["separable/depthwise"].tensors["kernel"].array, depthwise)
    np.testing.assert_array_equal(layers["separable/pointwise"].tensors["kernel"].array, pointwise)
    np.testing.assert_array_equal(layers["separable/pointwise"].tensors["bias"].array, bias)
    np.testing.assert_array_equal(layers["inner/slope"].tensors["alpha"].array, inner.get_layer("slope").alpha[0, 0])
    attention = model.get_layer("attention").get_weights()
    roles = [f"{part}_{what}" for part in ("query", "key", "value", "output") for what in ("kernel", "bias")]
    for role, wanted in zip(roles, attention, strict=True):
        found = layers["attention"].tensors[role].array  # type: ignore[index]
        np.testing.assert_array_equal(found.reshape(-1), wanted.reshape(-1))
    assert layers["attention"].tensors["output_kernel"].array.shape == (10, 11)
    assert len(source.layers) == 11


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5"])
def test_every_array_is_read(model: Any, folder: Path, name: str) -> None:
    source = read_source(folder / name)
    require_weights(source, model)
    assert source.channels_first is False


def test_a_model_brings_its_graph(folder: Path) -> None:
    source = read_source(folder / "a.keras")
    assert (source.format, source.order) == ("Keras model", "running")
    names = [layer.name for layer in source.layers]
    reads = {layer.name: {(names[read.layer], read.place) for read in layer.reads or ()} for layer in source.layers}
    assert reads == {
        "stem": set(),
        "norm": {("stem", "")},
        "separable/depthwise": {("norm", "")},
        "separable/pointwise": {("separable/depthwise", "")},
        "depthwise": {("norm", ""), ("separable/pointwise", "")},
        "inner/one": {("depthwise", "")},
        "inner/slope": {("inner/one", "")},
        "transposed": {("depthwise", "")},
        "layer_norm": {("inner/slope", "0"), ("transposed", "1")},
        "attention": {("layer_norm", "")},
        "head": {("attention", "")},
    }
    assert source.ignored == {"colours": "what pictures are normalised by, and no weight"}


def test_epsilons_and_axes(folder: Path) -> None:
    layers = named(read_source(folder / "a.keras"))
    assert (layers["norm"].epsilon, layers["layer_norm"].epsilon, layers["stem"].epsilon) == (1e-4, 1e-3, None)
    axes = {name: layer.tensors["kernel"].layouts for name, layer in layers.items() if "kernel" in layer.tensors}
    assert axes == {
        "stem": ("HWIO",),
        "separable/depthwise": ("HWCM",),
        "separable/pointwise": ("HWIO",),
        "depthwise": ("HWCM",),
        "inner/one": ("HWIO",),
        "transposed": ("HWOI",),
        "head": ("IO",),
    }
    assert named(read_source(folder / "a.h5"))["norm"].epsilon == 1e-4


@pytest.mark.parametrize("name", ["MobileNetV2", "DenseNet121"])
@pytest.mark.slow
def test_the_graph_of_keras_applications(name: str, tmp_path: Path) -> None:
    model = getattr(keras.applications, name)(weights=None, input_shape=(64, 64, 3), classes=7)
    model.save(tmp_path / "a.keras")
    source = read_source(tmp_path / "a.keras")
    assert sum(each.array.size for layer in source.layers for each in layer.tensors.values()) == model.count_params()
    assert [layer.reads for layer in source.layers].count(()) == 1
    model.save_weights(tmp_path / "a.weights.h5")
    assert set(named(read_source(tmp_path / "a.weights.h5"))) == set(named(source))


def test_the_form_of_keras_2(tmp_path: Path) -> None:
    """As keras.applications' files are: layers by their names in order, arrays called `kernel:0`."""
    import h5py  # type: ignore[import-untyped]  # ships no types

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"conv2_conv", b"conv2_bn", b"conv10_dw", b"predictions"]
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "input_1": {},
            "conv2_conv": {"kernel:0": (3, 3, 3, 4), "bias:0": (4,)},
            "conv2_bn": {"gamma:0": (4,), "beta:0": (4,), "moving_mean:0": (4,), "moving_variance:0": (4,)},
            "conv10_dw": {"depthwise_kernel:0": (3, 3, 4, 1)},
            "predictions": {"kernel:0": (4, 5), "bias:0": (5,)},
        }
        for layer, arrays in shapes.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}/{name}".encode() for name in arrays]
            for name, shape in arrays.items():
                group[f"{layer}/{name}"] = np.ones(shape, np.float32)
    source = read_source(tmp_path / "a.h5")
    assert (source.format, source.order) == ("Keras weights", "running")
    assert [(layer.name, layer.kind) for layer in source.layers] == [
        ("conv2_conv", "linear"),
        ("conv2_bn", "batch_norm"),
        ("conv10_dw", "depthwise"),
        ("predictions", "linear"),
    ]
    with h5py.File(tmp_path / "a.h5", "a") as file:
        del file["conv2_bn/conv2_bn/beta:0"]
    assert "`conv2_bn/beta:0` of layer `conv2_bn`, and lacks it" in said(tmp_path / "a.h5")


def test_norms_without_gamma_or_beta(tmp_path: Path) -> None:
    layers = keras.layers
    start = keras.Input((8, 8, 3))
    x = layers.BatchNormalization(scale=False, name="a")(start)
    x = layers.BatchNormalization(center=False, name="b")(x)
    x = layers.BatchNormalization(scale=False, center=False, name="c")(x)
    keras.Model(start, x).save(tmp_path / "a.keras")
    roles = {layer.name: set(layer.tensors) for layer in read_source(tmp_path / "a.keras").layers}
    assert roles == {"a": {"beta", "mean", "variance"}, "b": {"gamma", "mean", "variance"}, "c": {"mean", "variance"}}


def test_a_layer_that_is_called_twice_is_one(tmp_path: Path) -> None:
    start = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(3, 3, padding="same", name="shared")
    keras.Model(start, keras.layers.Conv2D(2, 1, name="end")(shared(shared(start)))).save(tmp_path / "a.keras")
    source = read_source(tmp_path / "a.keras")
    assert [layer.name for layer in source.layers] == ["shared", "end"]
    assert source.layers[1].reads == (Read(0),)


@keras.saving.register_keras_serializable("tests")
class LayerScale(keras.layers.Layer):  # type: ignore[misc, name-defined]  # ships no types
    """As ConvNeXt's in keras.applications."""

    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight(shape=(shape[-1],), initializer="ones", name="gamma")

    def call(self, x: Any) -> Any:
        return x * self.gamma


@keras.saving.register_keras_serializable("tests")
class Block(keras.layers.Layer):  # type: ignore[misc, name-defined]  # ships no types
    """A layer whose inside the configuration does not show."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.first = keras.layers.Conv2D(4, 3)
        self.second = keras.layers.Conv2D(5, 3)

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.second.build((*shape[:-1], 4))

    def call(self, x: Any) -> Any:
        return self.second(self.first(x))


def test_layers_of_the_authors_own(tmp_path: Path) -> None:
    start = keras.Input((8, 8, 3))
    keras.Model(start, LayerScale(name="scale")(start)).save(tmp_path / "a.keras")
    (layer,) = read_source(tmp_path / "a.keras").layers
    assert (layer.name, layer.kind, set(layer.tensors)) == ("scale", "layer_scale", {"gamma"})
    keras.Model(start, keras.layers.Conv2D(2, 1)(Block(name="block")(start))).save(tmp_path / "a.keras")
    source = read_source(tmp_path / "a.keras")
    assert [layer.tensors["kernel"].array.shape[-2:] for layer in source.layers] == [(3, 4), (4, 5), (5, 2)]
    assert {layer.reads for layer in source.layers} == {None}


def test_a_lambda_is_not_evaluated(tmp_path: Path) -> None:
    start = keras.Input((4,))
    x = keras.layers.Lambda(lambda each: each * 2)(keras.layers.Dense(3, name="a")(start))
    keras.Model(start, keras.layers.Dense(2, name="b")(x)).save(tmp_path / "a.keras")
    assert [layer.reads for layer in read_source(tmp_path / "a.keras").layers] == [(), (Read(0),)]


def test_keras_is_not_imported(folder: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from cnnc.weights.importing.any_file import read_source
read_source(Path({str(folder / "a.keras")!r}))
assert not {{"keras", "tensorflow", "jax", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["a.keras", "a.weights.h5", "a.h5"])
@pytest.mark.parametrize("part", [0.1, 0.6, 0.98])
def test_a_file_cut_short(folder: Path, tmp_path: Path, name: str, part: float) -> None:
    data = (folder / name).read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * part)])
    assert "cannot read weights" in said(tmp_path / name)


def test_an_archive_with_damaged_parts(folder: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(folder / "a.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    del config["config"]["layers"][3]["config"], config["config"]["layers"][3]["class_name"]
    changes: dict[str, dict[str, bytes | None]] = {
        "no weights": {"model.weights.h5": None},
        "weights cut short": {"model.weights.h5": parts["model.weights.h5"][:900]},
        "no JSON": {"config.json": b"{"},
        "a class left out": {"config.json": json.dumps(config).encode()},
        "a list": {"config.json": b"[]"},
    }
    for change in changes.values():
        with zipfile.ZipFile(tmp_path / "a.keras", "w") as archive:
            for name, data in {**parts, **change}.items():
                if data is not None:
                    archive.writestr(name, data)
        assert "cannot read weights" in said(tmp_path / "a.keras")


def test_a_file_that_is_no_network(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["pictures"] = np.zeros((3, 4))
    assert "it holds no weights" in said(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("count", "roles"),
    [
        (4, ("gamma", "beta", "mean", "variance")),
        (3, ("beta", "mean", "variance")),
        (2, ("mean", "variance")),
    ],
)
def test_a_norm_of_unknown_making_lacks_gamma_first(count: int, roles: tuple[str, ...]) -> None:
    """As keras.applications leaves it out: `scale=False` in Inception, nowhere `center=False` alone."""
    assert keras_layers._roles(keras_layers.CLASSES["BatchNormalization"], count, {}) == roles
