"""The imported network beside its source, run by the frameworks themselves."""

from __future__ import annotations

import os
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends.tflite.compile import compile_float, compile_int8
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.diagnostics import CnnError
from cnnc.ir.model import Model
from cnnc.net import Net
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from cnnc.weights.importing import runnable
from cnnc.weights.importing.verify import require_agreement, verify

SPEC = """model tiny {
  input 8x8x3
  normalize(imagenet)
  conv(3x3, 4, stride=2, padding=valid) | relu
  globalpool | dense(5) | softmax
}
"""
Arrays = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def net() -> Net:
    return cnnc.load_text(SPEC)


@pytest.fixture(scope="module")
def weights(net: Net) -> Arrays:
    return random_weights(net.graph, 0)


@pytest.fixture(scope="module")
def pictures(net: Net) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {f"{i}.png": rng.integers(0, 256, (8, 8, 3), np.uint8) for i in range(3)}


@pytest.fixture
def quiet() -> Iterator[None]:
    """Frameworks warn of how they change when a test writes their files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keras_model(weights: Arrays, *, rescaled: bool = False, classes: bool = True) -> Any:
    keras = pytest.importorskip("keras")
    x = start = keras.Input((8, 8, 3))
    if rescaled:
        x = keras.layers.Normalization(mean=[123.675, 116.28, 103.53], variance=np.square([58.395, 57.12, 57.375]))(x)
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="softmax" if classes else None)(x)
    model = keras.Model(start, x)
    convolution, dense = (arrays for arrays in weights.values() if "kernel" in arrays)
    model.set_weights([convolution["kernel"], convolution["bias"], dense["kernel"], dense["bias"]])
    return model


def torch_module(weights: Arrays) -> Any:
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 5),
    )
    convolution, dense = (arrays for arrays in weights.values() if "kernel" in arrays)
    with torch.no_grad():
        module[0].weight.copy_(torch.tensor(np.array(convolution["kernel"]).transpose(3, 2, 0, 1)))
        module[0].bias.copy_(torch.tensor(np.array(convolution["bias"])))
        module[4].weight.copy_(torch.tensor(np.array(dense["kernel"]).T))
        module[4].bias.copy_(torch.tensor(np.array(dense["bias"])))
    return module.eval()


def test_a_float_tflite_file(net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path) -> None:
    program = compile_float(Model(net.graph, weights))
    (tmp_path / "a.tflite").write_bytes(write_file(File((program,))))
    found = verify(net, weights, tmp_path / "a.tflite", pictures, preparation="pixels")
    assert (found.ran, found.agreeing, found.quantized) == ("LiteRT", 3, False)
    assert [each.picture for each in found.pictures] == list(pictures)
    assert found.difference < 1e-5
    assert found.correlation > 0.9999


def test_an_int8_file_correlates(net: Net, weights: Arrays, tmp_path: Path) -> None:
    samples = [random_sample(net.graph, seed) for seed in range(4)]
    program = compile_int8(Model(net.graph, weights), samples).program
    (tmp_path / "a.tflite").write_bytes(write_file(File((program,))))
    found = verify(net, weights, tmp_path / "a.tflite", {str(i): each["input"][0] for i, each in enumerate(samples)})
    assert found.quantized
    assert found.takes == "pixels of 0 to 255"
    assert 0.98 < found.correlation < 1
    require_agreement(found)
    others = random_weights(net.graph, 1)
    found = verify(net, others, tmp_path / "a.tflite", {str(i): each["input"][0] for i, each in enumerate(samples)})
    with pytest.raises(CnnError, match="computes otherwise than LiteRT; nothing was written"):
        require_agreement(found)


@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("classes", [False, True])
def test_a_keras_model(
    net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path, quiet: None, rescaled: bool, classes: bool
) -> None:
    """With its preparation inside or without, giving probabilities or what enters the softmax."""
    keras_model(weights, rescaled=rescaled, classes=classes).save(tmp_path / "a.keras")
    found = verify(net, weights, tmp_path / "a.keras", pictures)
    assert found.difference < 1e-5
    assert found.agreeing == 3
    require_agreement(found)


def test_other_weights_show(net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path, quiet: None) -> None:
    keras_model(random_weights(net.graph, 1)).save(tmp_path / "a.keras")
    found = verify(net, weights, tmp_path / "a.keras", pictures)
    assert found.difference > 0.05
    with pytest.raises(CnnError, match=r"3 of 3 pictures; 0\.001 of it is the bound"):
        require_agreement(found)


def test_a_class_that_the_network_lacks(
    net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path, quiet: None
) -> None:
    keras = pytest.importorskip("keras")
    model = keras_model(weights, classes=False)
    wider = keras.layers.Concatenate()([model.outputs[0][:, :1] * 0 + 2, model.outputs[0]])
    keras.Model(model.inputs, keras.layers.Softmax()(wider)).save(tmp_path / "a.keras")
    with pytest.raises(CnnError, match="gives 6 values for a picture, and `tiny` gives 5"):
        verify(net, weights, tmp_path / "a.keras", pictures)
    assert verify(net, weights, tmp_path / "a.keras", pictures, drop_class=0).difference < 1e-5
    with pytest.raises(CnnError, match="there is no class 6 to drop"):
        verify(net, weights, tmp_path / "a.keras", pictures, drop_class=6)


def test_a_state_dict_is_verified_with_a_program(
    net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path, quiet: None
) -> None:
    torch = pytest.importorskip("torch")
    module = torch_module(weights)
    torch.save(module.state_dict(), tmp_path / "a.pt")
    with pytest.raises(CnnError, match="holds weights and no network"):
        verify(net, weights, tmp_path / "a.pt", pictures)
    torch.jit.save(torch.jit.script(module), tmp_path / "script.pt")
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 8, 8),)), tmp_path / "a.pt2")
    for name, ran in (("script.pt", "TorchScript"), ("a.pt2", "torch.export")):
        found = verify(net, weights, tmp_path / "a.pt", pictures, program=tmp_path / name)
        assert (found.ran, found.agreeing) == (ran, 3)
        assert found.difference < 1e-5


def test_a_keras_model_with_code_is_not_run(
    net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path, quiet: None
) -> None:
    keras = pytest.importorskip("keras")
    x = start = keras.Input((8, 8, 3))
    x = keras.layers.Lambda(lambda each: each * 2)(keras.layers.Flatten()(x))
    keras.Model(start, keras.layers.Dense(5)(x)).save(tmp_path / "a.keras")
    with pytest.raises(CnnError, match="cannot be run"):
        verify(net, weights, tmp_path / "a.keras", pictures)


def test_a_source_for_pictures_of_another_size(
    net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path
) -> None:
    program = compile_float(Model(net.graph, weights))
    (tmp_path / "a.tflite").write_bytes(write_file(File((program,))))
    larger = {"a.png": np.zeros((9, 9, 3), np.uint8)}
    with pytest.raises(CnnError, match="takes examples of"):
        verify(net, weights, tmp_path / "a.tflite", larger)


def test_there_is_no_such_file(net: Net, weights: Arrays, pictures: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(CnnError, match="there is no file"):
        verify(net, weights, tmp_path / "a.keras", pictures)


@pytest.mark.parametrize("package", ["torch", "keras"])
def test_a_package_that_is_missing_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And Keras is asked to compute with JAX, which is here, unless the user says otherwise."""
    path = tmp_path / "a.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    without = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in without:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Missing(package), *sys.meta_path])
    monkeypatch.setattr(runnable, "read_keras", lambda path: None)
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    with pytest.raises(CnnError) as caught:
        runnable._torch(path, "TorchScript") if package == "torch" else runnable._keras(path)
    assert caught.value.diagnostics[0].code == "install"
    assert f"needs the package `{package}`" in str(caught.value)
    assert os.environ.get("KERAS_BACKEND") == ("jax" if package == "keras" else None)


class Missing:
    """A finder of modules to which one package is not installed."""

    def __init__(self, package: str) -> None:
        self.package = package

    def find_spec(self, name: str, *_: object) -> None:
        if name == self.package:
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
