"""Weights that PyTorch wrote, as state dicts and as safetensors, and what is said of what is no state dict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc.diagnostics import CnnError
from cnnc.weights.importing.any_file import read_source
from cnnc.weights.importing.import_weights import Options, combine
from tests.support.weight_files import kinds, layouts, named, said


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
    checkpoint = {"epoch": 3, "state_dict": inside, "optimizer": {"lr": 0.1}}
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    source = read_source(tmp_path / "a.pth")
    assert [layer.name for layer in source.layers] == list("012345678")


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


@pytest.mark.fault("W3")
def test_the_order_in_which_modules_were_made_is_taken_only_where_it_is_trusted(tmp_path: Path) -> None:
    """PyTorch's own outputs say what is right: modules made as `refine, reduce, expand` run in another order."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    net = cnnc.load_text("input 8x8x4\nconv(3x3, 4) | relu | conv(3x3, 4) | relu | conv(3x3, 4)\n")
    pixels = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype(np.float32)
    for made_as, is_right in ((("refine", "reduce", "expand"), False), (("reduce", "expand", "refine"), True)):
        layers = {name: torch.nn.Conv2d(4, 4, 3, padding=1) for name in made_as}
        torch.save(torch.nn.ModuleDict(layers).state_dict(), tmp_path / "a.pth")
        source = read_source(tmp_path / "a.pth")
        with pytest.raises(CnnError, match="in the order in which their code made them, which need not be") as caught:
            combine(net.graph, source, Options())
        assert "--trust-order" in str(caught.value)
        found = combine(net.graph, source, Options(trust_order=True))
        assert {line.evidence for line in found.lines} == {"order"}
        x = torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
        for name in ("reduce", "expand", "refine"):
            x = layers[name](x if name == "reduce" else torch.relu(x))
        theirs = x.detach().numpy().transpose(0, 2, 3, 1)
        assert np.allclose(net.apply(found.weights, pixels), theirs, atol=1e-5) == is_right
