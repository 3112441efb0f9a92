"""Many devices: a mesh is read and refused, and a training on it follows the curve of one device."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from cnnc.backends.jax import init
from cnnc.backends.jax.distributed import devices
from cnnc.backends.jax.distributed.mesh_layout import Layout, layout_of, require_even
from cnnc.backends.jax.layers.normalization import batch_norm_of_shards
from cnnc.backends.jax.training.state import first_state
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.ops import BatchNorm
from tests.support.device_cases import LARGE, run_case
from tests.support.paths import ROOT


@pytest.mark.parametrize(
    ("text", "count", "layout"),
    [
        (None, 1, (1, 1)),
        (None, 8, (8, 1)),
        ("data=8", 8, (8, 1)),
        ("model=2", 8, (4, 2)),
        (" model = 2 , data = 4 ", 8, (4, 2)),
        ("model=8", 8, (1, 8)),
    ],
)
def test_what_a_mesh_does_not_say_goes_to_data(text: str | None, count: int, layout: Layout) -> None:
    assert layout_of(text, count) == layout


@pytest.mark.parametrize(
    ("text", "message", "help"),
    [
        ("data=4", "the mesh `data=4` wants 4 devices, and there are 8 devices", "--mesh data=8"),
        ("model=3", "the mesh `model=3` wants 6 devices, and there are 8 devices", "--mesh data=4,model=2"),
        ("model=16", "the mesh `model=16` wants 16 devices, and there are 8 devices", "--mesh data=1,model=8"),
        ("data=8,model=2", "the mesh `data=8,model=2` wants 16 devices", "--mesh data=4,model=2"),
        ("date=8", "a mesh has no axis `date`", "did you mean `data`?"),
        ("pipeline=8", "a mesh has no axis `pipeline`", "its axes are `data` and `model`"),
        ("data=2,data=4", "the mesh `data=2,data=4` says `data` twice", None),
        ("8", "is not of the form `data=8,model=2`: found `8`", None),
        ("data=0", "is not of the form", None),
        ("data=-8", "is not of the form", None),
        ("data=8,", "is not of the form `data=8,model=2`: found ``", None),
        ("", "is not of the form", None),
    ],
)
def test_a_mesh_that_cannot_be_is_refused(text: str, message: str, help: str | None) -> None:
    with pytest.raises(CnnError) as caught:
        layout_of(text, 8)
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert help is None or help in (found.help or "")


def test_a_batch_that_does_not_split_is_refused_with_those_that_do() -> None:
    require_even(64, Layout(8, 2))
    with pytest.raises(CnnError, match="a batch of 60 does not split into the 8 equal parts") as caught:
        require_even(60, Layout(8, 2))
    assert caught.value.diagnostics[0].help == "--batch 64 or 56"
    with pytest.raises(CnnError) as caught:
        require_even(5, Layout(8, 1))
    assert caught.value.diagnostics[0].help == "--batch 8"
    for batch, help in ((12, "--batch 8"), (5, "give it more examples, or fewer devices")):
        with pytest.raises(CnnError) as caught:
            require_even(batch, Layout(8, 1), batch)
        assert caught.value.diagnostics[0].help == help


def test_on_one_device_nothing_is_placed() -> None:
    one = devices.ONE_DEVICE
    tree = {"a": np.ones(3)}
    assert one.place_batch(tree) is tree
    assert one.whole(tree) is tree
    assert one.part == (0, 1)
    assert one.greatest(3) == 3
    graph = load_text(LARGE).graph
    assert one.place_state(graph, tree) is tree
    assert one.sharding_of(graph, tree) is None


def test_only_large_dense_layers_and_what_is_remembered_of_them_are_split() -> None:
    import jax
    from jax.sharding import Mesh

    net = load_text(LARGE)
    mesh = devices.Devices(Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model")))
    state = first_state(net.graph, net.recipe, init.initialize(net.graph, 0))
    places = jax.tree_util.tree_leaves_with_path(mesh.sharding_of(net.graph, state))
    split = {jax.tree_util.keystr(path): place.spec for path, place in places if place.spec}
    layer = "['dense2']"
    assert {name: tuple(spec) for name, spec in split.items()} == {
        f"{of}{layer}['{short}']": spec
        for of in (".trainable", ".average", ".optimizer[0][0].mu", ".optimizer[0][0].nu")
        for short, spec in (("kernel", (None, "model")), ("bias", ("model",)))
    }


def test_batch_norm_by_shards_is_that_of_pytorch_on_each_shard() -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(2, 3, (6, 4, 4, 5)).astype(np.float32)
    weights: dict[str, Any] = {
        "gamma": np.linspace(0.5, 2, 5, dtype=np.float32),
        "beta": np.linspace(-1, 1, 5, dtype=np.float32),
        "mean": np.zeros(5, np.float32),
        "variance": np.ones(5, np.float32),
    }
    y, statistics = batch_norm_of_shards(BatchNorm(momentum=0.9, epsilon=1e-3), weights, jnp.asarray(x), 3)
    means = []
    for i, part in enumerate(np.split(x, 3)):
        layer = torch.nn.BatchNorm2d(5, eps=1e-3, momentum=0.1)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(weights["gamma"]))
            layer.bias.copy_(torch.tensor(weights["beta"]))
            out = layer(torch.tensor(part.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
        np.testing.assert_allclose(y[2 * i : 2 * i + 2], out, rtol=1e-5, atol=1e-5)
        means.append(layer.running_mean.numpy())
    np.testing.assert_allclose(statistics["mean"], np.mean(means, axis=0), rtol=1e-5)


def test_eight_devices_follow_the_curve_of_one() -> None:
    found = run_case(8, "curves", "data=8", "small", "1")
    one, many = found["losses"]
    np.testing.assert_allclose(many, one, rtol=1e-4)
    assert one[-1] < 0.3 * one[0]
    assert found["scores"][0][0] == found["scores"][1][0] == 359
    assert found["scores"][0][2:] == found["scores"][1][2:]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mesh", "which", "spec"),
    [
        ("data=8", "small", []),
        ("data=4,model=2", "large", ["P(None, 'model')"]),
        ("model=8", "large", ["P(None, 'model')"]),
        ("data=8", "large", ["P()"]),
    ],
)
def test_a_mesh_follows_the_curve_of_one_device_for_epochs(mesh: str, which: str, spec: list[str]) -> None:
    found = run_case(8, "curves", mesh, which, "2")
    one, many = found["losses"]
    # What two orders of summation make of float32 grows with the steps.
    np.testing.assert_allclose(many[:23], one[:23], rtol=1e-3)
    np.testing.assert_allclose(many, one, rtol=0.05, atol=2e-3)
    np.testing.assert_allclose(found["scores"][1][1], found["scores"][0][1], rtol=0.02)
    assert found["kernels"] == (spec if which == "large" else [])


@pytest.mark.slow
def test_local_batch_norm_normalises_every_shard_by_itself() -> None:
    local, whole, one = run_case(8, "local_norm", "data=8")
    assert local[0] != pytest.approx(whole[0], rel=1e-5)
    assert one == pytest.approx(whole, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("which", "mesh", "counts"),
    [("small", "data=8", [(4, "data=4"), (1, "")]), ("large", "data=4,model=2", [(4, "model=4"), (8, "data=8")])],
)
def test_a_checkpoint_goes_on_the_same_curve_on_another_mesh(
    tmp_path: Path, which: str, mesh: str, counts: list[tuple[int, str]]
) -> None:
    wanted = run_case(8, "saved", mesh, str(tmp_path), which)
    for count, other in counts:
        np.testing.assert_allclose(run_case(count, "restored", other, str(tmp_path), which), wanted, rtol=2e-3)


@pytest.mark.slow
def test_the_command_line_follows_the_same_curve_on_a_mesh(tmp_path: Path) -> None:
    (tmp_path / "large.cnn").write_text(LARGE)
    rows = {}
    for name, options in {"one": [], "mesh": ["--mesh", "data=4,model=2"], "data": []}.items():
        count = 1 if name == "one" else 8
        flags = f"--xla_force_host_platform_device_count={count}"
        environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags}
        command = [sys.executable, "-c", "from cnnc.cli import main; main()", "train", "large.cnn", "--out", name]
        subprocess.run([*command, *options], cwd=tmp_path, env=environment, check=True)
        with (tmp_path / name / "results.csv").open() as file:
            rows[name] = [(float(row["train_loss"]), float(row["val_loss"])) for row in csv.DictReader(file)]
    np.testing.assert_allclose(rows["mesh"], rows["one"], rtol=2e-3)
    np.testing.assert_allclose(rows["data"], rows["one"], rtol=2e-3)


def test_a_mesh_is_checked_against_the_devices_and_the_batch() -> None:
    few, uneven = run_case(8, "errors", "data=4", "data=8")
    assert few[:2] == ["value", "the mesh `data=4` wants 4 devices, and there are 8 devices"]
    assert uneven[2] == "--batch 64 or 56"
