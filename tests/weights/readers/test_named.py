"""Weights told by their names alone: safetensors of ours, archives of NumPy, folders of raw numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import cnnc
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine
from cnnc.weights.weights_file import save_weights
from tests.support.paths import SHARED
from tests.support.weight_files import kinds, layouts, named, said, save_archive

ALEXNET = SHARED / "data" / "alexnet"


def test_safetensors_of_cnnc(tmp_path: Path) -> None:
    graph = cnnc.load_text(
        "input 8x8x3\nconv(3x3, 4) | bn | relu\ndepthwise(3x3)\nconv(1x1, 6) | attention(2)\nglobalpool | dense(5)\n"
    ).graph
    weights = random_weights(graph, 0)
    save_weights(tmp_path / "a.safetensors", weights, {"name": "x"})
    source = read_source(tmp_path / "a.safetensors")
    assert source.format == "safetensors of cnnc"
    assert set(named(source)) == set(weights)
    for name, layer in named(source).items():
        assert set(layer.tensors) == set(weights[name])
        for role, tensor in layer.tensors.items():
            np.testing.assert_array_equal(tensor.array.reshape(-1), weights[name][role].reshape(-1))
    assert layouts(named(source)["depthwise1"])["kernel"] == ("HWIO", "HWCM", "HWOI")


def test_safetensors_cut_short(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a.weight": np.zeros((100, 100), np.float32)}, tmp_path / "a.safetensors")
    data = (tmp_path / "a.safetensors").read_bytes()
    for size in (4, 30, len(data) // 2):
        (tmp_path / "a.safetensors").write_bytes(data[:size])
        assert "cut short" in said(tmp_path / "a.safetensors")


def test_names_of_many_makers(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> Any:
        return rng.normal(size=shape).astype(np.float32)

    arrays = {
        "conv1/kernel:0": draw(3, 3, 3, 8),
        "conv1/bias:0": draw(8),
        "bn/scale": draw(8),
        "bn/bias": draw(8),
        "bn/mean": draw(8),
        "bn/var": draw(8),
        "step": np.array(3),
    }
    save_archive(tmp_path / "a.npz", arrays)
    source = read_source(tmp_path / "a.npz")
    assert kinds(source) == [("bn", "batch_norm"), ("conv1", "linear")]
    assert set(named(source)["bn"].tensors) == {"gamma", "beta", "mean", "variance"}
    assert layouts(named(source)["conv1"])["kernel"] == ("HWIO",)
    assert source.channels_first is False

    np.savez(tmp_path / "a.npz", conv1_W=draw(8, 3, 5, 5), conv1_b=draw(8), conv2_W=draw(3, 3, 8, 8), fc_W=draw(9, 4))
    layers = named(read_source(tmp_path / "a.npz"))
    assert layouts(layers["conv1"]) == {"kernel": ("OIHW",), "bias": ("O",)}  # its bias says where outputs are
    assert layouts(layers["conv2"]) == {"kernel": ("HWIO", "OIHW")}
    assert layouts(layers["fc"]) == {"kernel": ("IO", "OI")}

    save_archive(tmp_path / "a.npz", {"conv1.weight": draw(8, 3, 5, 5), "unheard.of": draw(2, 3)})
    layers = named(read_source(tmp_path / "a.npz"))
    assert layouts(layers["conv1"]) == {"kernel": ("OIHW",)}
    assert (layers["unheard.of"].kind, layouts(layers["unheard.of"])) == (None, {"kernel": ()})


def test_flax_names_a_transposed_convolution_that_is_not_turned_round(tmp_path: Path) -> None:
    """lax.conv_transpose goes over its inputs as a convolution does; transposed ones elsewhere as its gradient."""
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    kernel, x = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 4, 5), (1, 6, 6, 4)))
    save_archive(tmp_path / "a.npz", {"ConvTranspose_0/kernel": kernel})
    (layer,) = read_source(tmp_path / "a.npz").layers
    assert (layer.kind, layouts(layer)) == ("transposed", {"kernel": ("HWIO",)})
    numbers = ("NHWC", "HWIO", "NHWC")
    flax = jax.lax.conv_transpose(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    turned = layer.tensors["kernel"].array.swapaxes(2, 3)  # HWOI, as TensorFlow's
    gradient = jax.lax.conv_transpose(x, turned, (1, 1), "SAME", dimension_numbers=numbers, transpose_kernel=True)
    np.testing.assert_allclose(flax, gradient, atol=1e-4)


def test_an_archive_cut_short(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a_W=np.zeros((50, 50), np.float32))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    assert "cut short" in said(tmp_path / "a.npz")


@pytest.mark.skipif(not ALEXNET.is_dir(), reason="needs ../shared/data/alexnet")
def test_the_alexnet_of_the_article() -> None:
    source = read_source(ALEXNET)
    assert (source.order, source.channels_first, source.bgr) == ("names", True, True)
    assert kinds(source) == [(f"conv{i}", "linear") for i in range(1, 6)]
    layers = named(source)
    assert set(layers["conv4"].tensors) == {"bias"}
    assert layers["conv1"].tensors["kernel"].array.shape == (11 * 11 * 3 * 96,)
    assert layouts(layers["conv1"]) == {"kernel": ("OIHW",), "bias": ("O",)}


def test_a_folder_of_raw_numbers(tmp_path: Path) -> None:
    for name in ("conv2", "conv10", "fc6"):
        np.arange(12, dtype="<f4").tofile(tmp_path / f"{name}.weights")
        np.arange(3, dtype="<f4").tofile(tmp_path / f"{name}.biases")
    (tmp_path / "readme.txt").write_text("x")
    source = read_source(tmp_path)
    assert [layer.name for layer in source.layers] == ["conv2", "conv10", "fc6"]
    assert layouts(named(source)["fc6"])["kernel"] == ("OI",)
    assert source.ignored == {"readme.txt": "neither weights nor biases by its ending"}
    (tmp_path / "conv2.biases").write_bytes(bytes(7))
    assert "`conv2.biases` has 7 bytes, and a float32 value takes 4" in said(tmp_path)
    (tmp_path / "conv2.biases").write_bytes(b"")
    assert "`conv2.biases` is empty" in said(tmp_path)


@pytest.mark.fault("S9")
@pytest.mark.parametrize(
    "name",
    ["²", "a\nb", "9" * 5000, "0" * 5000, "٣", "\0", "..", "model." * 2000],
    ids=["power", "line", "nines", "zeros", "arabic", "null", "points", "wrappers"],
)
def test_names_of_any_letters_are_read(tmp_path: Path, name: str) -> None:
    graph = cnnc.load_text("input 4\ndense(3) | relu | dense(3) | relu | dense(3)\n").graph
    kernel = np.ones((3, 3), np.float32)
    arrays = {f"{name}.{place}.weight": kernel for place in ("1", "2")} | {f"{name}.0.weight": kernel[:, [0, 0, 0, 0]]}
    save_file({each: np.ascontiguousarray(array) for each, array in arrays.items()}, tmp_path / "a.safetensors")
    found = combine(graph, read_source(tmp_path / "a.safetensors"), Options(partial=True))
    assert [line.source[-1] for line in found.lines] == ["0", "1", "2"]


def test_a_layer_of_the_right_name_whose_kernel_is_none_is_said(tmp_path: Path) -> None:
    graph = cnnc.load_text("input 4x4x3\nconv(3x3, 4)\n").graph
    save_file({"conv1.weight": np.ones((1,) * 6, np.float32)}, tmp_path / "a.safetensors")
    with pytest.raises(CnnError, match=r"`conv1.weight` is 1x1x1x1x1x1, which no kernel of `conv1` can be"):
        combine(graph, read_source(tmp_path / "a.safetensors"), Options())


@pytest.mark.parametrize(
    ("name", "bias", "first"),
    [("upconv", 4, "IOHW"), ("up1", 4, "IOHW"), ("conv", 4, "OIHW"), ("upconv", None, "IOHW"), ("conv", None, "OIHW")],
)
def test_a_name_says_which_axis_of_a_square_kernel_is_the_outputs(
    name: str, bias: int | None, first: str, tmp_path: Path
) -> None:
    """PyTorch keeps a transposed convolution's inputs first, and sizes tell nothing where both are 4."""
    arrays: dict[str, Any] = {f"{name}.weight": np.zeros((4, 4, 2, 2), np.float32)}
    if bias is not None:
        arrays[f"{name}.bias"] = np.zeros(bias, np.float32)
    save_file(arrays, tmp_path / "a.safetensors")
    (layer,) = read_source(tmp_path / "a.safetensors").layers
    assert layer.tensors["kernel"].layouts[0] == first
