"""Weights told by their names, in files that PyTorch, safetensors, NumPy and Orbax themselves wrote."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.backends.tflite.condition import random_weights
from cnnc.diagnostics import CnnError
from cnnc.weights.checkpoint import save_weights
from cnnc.weights.importing.read import KINDS, read_source
from cnnc.weights.importing.source import Source, SourceLayer
from tests.pictures import SHARED

ALEXNET = SHARED / "data" / "alexnet"
BIRD = SHARED / "data" / "coral" / "bird.bmp"


def said(path: Path) -> str:
    """What is said of a path that cannot be read."""
    with pytest.raises(CnnError) as caught:
        read_source(path)
    (found,) = caught.value.diagnostics
    assert found.code == "weights"
    assert str(path) in found.message
    return "\n".join([found.message, *found.notes, found.help or ""])


def named(source: Source) -> dict[str, SourceLayer]:
    return {layer.name: layer for layer in source.layers}


def kinds(source: Source) -> list[tuple[str, str | None]]:
    return [(layer.name, layer.kind) for layer in source.layers]


def layouts(layer: SourceLayer) -> dict[str, tuple[str, ...]]:
    return {role: tensor.layouts for role, tensor in layer.tensors.items()}


# PyTorch


@pytest.fixture(scope="module")
def module() -> Any:
    torch = pytest.importorskip("torch")
    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.PReLU(),
        nn.Conv2d(8, 8, 3, groups=8, bias=False),
        nn.ConvTranspose2d(8, 4, 2),
        nn.MultiheadAttention(16, 4),
        nn.Conv1d(4, 6, 3),
        nn.LayerNorm(6),
        nn.Linear(6, 3),
    )


def test_a_state_dict_in_the_order_of_its_code(module: Any, tmp_path: Path) -> None:
    import torch

    torch.save(module.state_dict(), tmp_path / "a.pt")
    source = read_source(tmp_path / "a.pt")
    assert (source.format, source.order, source.channels_first) == ("PyTorch state dict", "written", True)
    assert kinds(source) == [
        ("0", "linear"),
        ("1", "batch_norm"),
        ("2", "prelu"),
        ("3", None),  # depthwise, or of one input channel
        ("4", "transposed"),
        ("5", "attention"),
        ("6", "linear"),
        ("7", "norm"),
        ("8", "linear"),
    ]
    layers = named(source)
    assert layouts(layers["0"]) == {"kernel": ("OIHW",), "bias": ("O",)}
    assert set(layers["1"].tensors) == {"gamma", "beta", "mean", "variance"}
    assert layouts(layers["3"]) == {"kernel": ("C1HW", "OIHW")}
    assert layouts(layers["4"])["kernel"] == ("IOHW",)
    assert layouts(layers["6"])["kernel"] == ("OIW",)
    assert layouts(layers["8"])["kernel"] == ("OI",)
    np.testing.assert_array_equal(layers["0"].tensors["kernel"].array, module[0].weight.detach().numpy())
    assert source.ignored == {"1.num_batches_tracked": "a counter"}


def test_attention_in_one_matrix_is_taken_apart(module: Any, tmp_path: Path) -> None:
    """Its parts give what PyTorch's own layer gives."""
    import torch

    torch.save(module.state_dict(), tmp_path / "a.pt")
    arrays: dict[str, Any] = {
        role: each.array for role, each in named(read_source(tmp_path / "a.pt"))["5"].tensors.items()
    }
    x = np.random.default_rng(0).normal(size=(7, 16)).astype(np.float32)
    query, key, value = (
        (x @ arrays[f"{part}_kernel"].T + arrays[f"{part}_bias"]).reshape(7, 4, 4) for part in ("query", "key", "value")
    )
    scores = np.einsum("qhf,khf->hqk", query, key) / 2
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    mixed = np.einsum("hqk,khf->qhf", shares, value).reshape(7, 16)
    found = mixed @ arrays["output_kernel"].T + arrays["output_bias"]
    wanted, _ = module[5](*[torch.from_numpy(x)[:, None]] * 3)
    np.testing.assert_allclose(found, wanted[:, 0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("new", [True, False])
def test_what_trainers_put_around_a_state_dict(module: Any, tmp_path: Path, new: bool) -> None:
    import torch

    inside = {f"module.model.{name}": value for name, value in module.state_dict().items()}
    checkpoint = {"epoch": 3, "state_dict": inside, "model_ema": inside, "optimizer": {"lr": 0.1}}
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    source = read_source(tmp_path / "a.pth")
    assert [layer.name for layer in source.layers] == list("012345678")
    assert source.ignored is not None
    assert source.ignored["model_ema"] == "beside `state_dict`, which is read"


class Harmful:
    """Writes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, (os.environ["HARMFUL"],)


@pytest.fixture
def harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """What is there when code of a file was run."""
    monkeypatch.setenv("HARMFUL", str(tmp_path / "harm"))
    yield tmp_path / "harm"
    assert not (tmp_path / "harm").exists(), "the code of the file was run"


@pytest.mark.parametrize("new", [True, False])
def test_code_in_a_state_dict_is_not_run(tmp_path: Path, harm: Path, new: bool) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"a.weight": torch.zeros(2, 2), "b": Harmful()}, tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    assert "a pickle with code inside" in said(tmp_path / "a.pt")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_plain_pickle_is_not_run(tmp_path: Path, harm: Path, protocol: int) -> None:
    pytest.importorskip("torch")
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Harmful(), protocol))
    assert "which was not run" in said(tmp_path / "a.pt")


def test_a_pickled_model_is_refused(module: Any, tmp_path: Path) -> None:
    import torch

    torch.save(module, tmp_path / "a.pt")
    message = said(tmp_path / "a.pt")
    assert "`torch.nn.modules.container.Sequential`, which was not run" in message
    assert "torch.save(model.state_dict(), FILE)" in message


@pytest.mark.filterwarnings("ignore")
def test_programs_are_refused_with_advice(module: Any, tmp_path: Path) -> None:
    import torch

    torch.jit.save(torch.jit.script(module[:3]), tmp_path / "a.pt")
    assert "torch.jit.load(FILE).state_dict()" in said(tmp_path / "a.pt")
    torch.export.save(torch.export.export(module[:3].eval(), (torch.zeros(1, 3, 9, 9),)), tmp_path / "a.pt2")
    assert "torch.export.load(FILE).state_dict" in said(tmp_path / "a.pt2")


def test_what_holds_no_state_dict(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save([1, 2], tmp_path / "a.pt")
    assert "it holds a list, and no state dict" in said(tmp_path / "a.pt")
    torch.save({"epoch": 3, "lr": 0.1}, tmp_path / "a.pt")
    assert "but `epoch`, `lr`" in said(tmp_path / "a.pt")


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.95])
def test_a_state_dict_cut_short(module: Any, tmp_path: Path, new: bool, part: float) -> None:
    import torch

    torch.save(module.state_dict(), tmp_path / "a.pt", _use_new_zipfile_serialization=new)
    data = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "a.pt").write_bytes(data[: int(len(data) * part)])
    assert "cut short" in said(tmp_path / "a.pt")


@pytest.mark.parametrize(("value", "words"), [(np.nan, "not a number"), (np.inf, "infinite")])
def test_a_tensor_that_is_not_finite_is_named(module: Any, tmp_path: Path, value: float, words: str) -> None:
    import torch

    found = {name: each.clone() for name, each in module.state_dict().items()}
    found["0.weight"][0, 0] = value
    torch.save(found, tmp_path / "a.pt")
    assert f"`0.weight` has 9 of 216 values that are {words}" in said(tmp_path / "a.pt")


# safetensors


@pytest.mark.parametrize("half", [None, "float16", "bfloat16"])
def test_safetensors_of_pytorch_in_natural_order(module: Any, tmp_path: Path, half: str | None) -> None:
    import torch
    from safetensors.torch import save_file

    dtype = getattr(torch, half or "float32")
    state = module.state_dict()
    tensors = {
        f"model.layers.{11 - int(name[0])}{name[1:]}": each.to(dtype) if each.is_floating_point() else each
        for name, each in state.items()
    }
    save_file(tensors, tmp_path / "a.safetensors")
    source = read_source(tmp_path / "a.safetensors")
    assert (source.format, source.order, source.channels_first) == ("safetensors", "names", True)
    assert [layer.name for layer in source.layers] == [f"layers.{i}" for i in range(3, 12)]
    found = named(source)["layers.11"].tensors["kernel"].array
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, module[0].weight.detach().to(dtype).float().numpy())


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


# NumPy


def save(path: Path, arrays: dict[str, Any]) -> None:
    """An archive whose names are no Python words."""
    np.savez(path, **arrays)


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
    save(tmp_path / "a.npz", arrays)
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

    save(tmp_path / "a.npz", {"conv1.weight": draw(8, 3, 5, 5), "unheard.of": draw(2, 3)})
    layers = named(read_source(tmp_path / "a.npz"))
    assert layouts(layers["conv1"]) == {"kernel": ("OIHW",)}
    assert (layers["unheard.of"].kind, layouts(layers["unheard.of"])) == (None, {"kernel": ()})


def test_flax_names_a_transposed_convolution_that_is_not_turned_round(tmp_path: Path) -> None:
    """lax.conv_transpose goes over its inputs as a convolution does; transposed ones elsewhere as its gradient."""
    jax = pytest.importorskip("jax")
    rng = np.random.default_rng(0)
    kernel, x = (rng.normal(size=shape).astype(np.float32) for shape in ((3, 3, 4, 5), (1, 6, 6, 4)))
    save(tmp_path / "a.npz", {"ConvTranspose_0/kernel": kernel})
    (layer,) = read_source(tmp_path / "a.npz").layers
    assert (layer.kind, layouts(layer)) == ("transposed", {"kernel": ("HWIO",)})
    numbers = ("NHWC", "HWIO", "NHWC")
    flax = jax.lax.conv_transpose(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
    turned = layer.tensors["kernel"].array.swapaxes(2, 3)  # HWOI, as TensorFlow's
    gradient = jax.lax.conv_transpose(x, turned, (1, 1), "SAME", dimension_numbers=numbers, transpose_kernel=True)
    np.testing.assert_allclose(flax, gradient, atol=1e-4)


def test_objects_in_an_archive_are_not_unpickled(tmp_path: Path, harm: Path) -> None:
    save(tmp_path / "a.npz", {"a.weight": np.array([Harmful()], object)})
    assert "`a.weight` is an array of objects, a pickle that may hold code" in said(tmp_path / "a.npz")


def test_an_archive_cut_short(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a_W=np.zeros((50, 50), np.float32))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    assert "cut short" in said(tmp_path / "a.npz")


# Orbax


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Orbax's own when it writes
        orbax = pytest.importorskip("orbax.checkpoint")
        folder = tmp_path_factory.mktemp("orbax")
        ones = np.ones(4, np.float32)
        tree = {
            "params": {
                "Conv_0": {"kernel": np.arange(108, dtype=np.float32).reshape(3, 3, 3, 4), "bias": ones},
                "BatchNorm_0": {"scale": ones, "bias": ones},
                "Dense_10": {"kernel": np.ones((4, 2), np.float32)},
                "Dense_9": {"kernel": np.ones((4, 4), np.float32)},
            },
            "batch_stats": {"BatchNorm_0": {"mean": ones, "var": ones}},
            "opt_state": [{"mu": ones}],
            "step": 3,
        }
        with orbax.StandardCheckpointer() as checkpointer:
            checkpointer.save(folder / "standard", tree)
            checkpointer.wait_until_finished()
        orbax.PyTreeCheckpointer().save(folder / "tree", tree)
        with orbax.CheckpointManager(folder / "managed") as manager:
            for step in (3, 12):
                manager.save(step, args=orbax.args.StandardSave(tree))
            manager.wait_until_finished()
    return folder


@pytest.mark.parametrize("name", ["standard", "tree", "managed/12"])
def test_an_orbax_checkpoint(checkpoints: Path, name: str) -> None:
    source = read_source(checkpoints / name)
    assert (source.format, source.order, source.channels_first) == ("Orbax checkpoint", "names", False)
    assert kinds(source) == [
        ("BatchNorm_0", "batch_norm"),
        ("Conv_0", "linear"),
        ("Dense_9", "linear"),
        ("Dense_10", "linear"),
    ]
    layers = named(source)
    assert set(layers["BatchNorm_0"].tensors) == {"gamma", "beta", "mean", "variance"}
    kernel = layers["Conv_0"].tensors["kernel"]
    assert kernel.layouts == ("HWIO",)
    np.testing.assert_array_equal(kernel.array.reshape(-1), np.arange(108))
    assert source.ignored is not None
    assert set(source.ignored) == {"opt_state/0/mu", "step"}


def test_checkpoints_of_several_steps(checkpoints: Path) -> None:
    message = said(checkpoints / "managed")
    assert "the checkpoints of steps, `3`, `12`" in message
    assert str(checkpoints / "managed" / "12") in message


def test_an_incomplete_orbax_checkpoint(checkpoints: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(checkpoints / "tree", tmp_path / "tree")
    (tmp_path / "tree" / "_METADATA").unlink()
    assert "`_METADATA`" in said(tmp_path / "tree")
    shutil.copytree(checkpoints / "tree", tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "d")
    assert "it lacks `d`, where its arrays are" in said(tmp_path / "other")


# Folders of raw numbers


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


# What is no file of weights


def test_what_is_read_is_listed(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    message = said(tmp_path / "a.txt")
    assert "of no known kind" in message
    assert all(kind in message for kind in KINDS)


def test_a_missing_file(tmp_path: Path) -> None:
    assert "there is no file or folder" in said(tmp_path / "a.pt")


def test_an_empty_file_and_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    assert "an empty folder" in said(tmp_path / "folder")
    (tmp_path / "a.safetensors").touch()
    assert "it is empty" in said(tmp_path / "a.safetensors")


def test_folders_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "cat.txt").touch()
    assert "a folder of `cat.txt`" in said(tmp_path)
    (tmp_path / "saved_model.pb").touch()
    assert "a SavedModel is not read" in said(tmp_path)


@pytest.mark.skipif(not BIRD.exists(), reason="needs ../shared/data/coral")
def test_a_picture(tmp_path: Path) -> None:
    assert "a BMP picture" in said(BIRD)


def test_a_pointer_of_git_lfs(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    assert "a pointer of Git LFS" in said(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("package", "name", "help"),
    [("torch", "a.pt", "cnnc[torch]"), ("h5py", "a.h5", "cnnc[weights]"), ("orbax.checkpoint", "o", "cnnc[weights]")],
)
def test_a_package_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, name: str, help: str
) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps({}))
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "o").mkdir()
    for each in ("_METADATA", "manifest.ocdbt", "d"):
        (tmp_path / "o" / each).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CnnError) as caught:
        read_source(tmp_path / name)
    (found,) = caught.value.diagnostics
    assert found.code == "install"
    assert f"the package `{package}`, which is not installed" in found.message
    assert help in (found.help or "")
