"""StableHLO of a network: read back it gives what the backend gives, in one form and the other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax import export

import cnnc
from cnnc import ops
from cnnc.backends.jax.export.stablehlo import PLATFORMS, stablehlo
from cnnc.diagnostics import CnnError
from cnnc.net import Net
from tests.support.networks import Builder, sequential
from tests.support.paths import ROOT


def small() -> Net:
    return sequential(
        (8, 8, 3),
        ops.Normalize("unit"),
        ops.Conv((3, 3), 8, (2, 2)),
        ops.BatchNorm(),
        ops.Relu6(),
        ops.Depthwise((3, 3)),
        ops.MaxPool((2, 2)),
        ops.Dropout(),
        ops.GlobalPool(),
        ops.Dense(4),
        ops.Softmax(),
    )


def assert_reads_back(net: Net, batch: int) -> None:
    weights = net.init(0)
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {
        node.name: rng.integers(3, size=(batch, *node.shape), dtype=np.int32)
        if isinstance(node.op, ops.Input) and node.op.dtype == "int"
        else rng.uniform(0, 1, (batch, *node.shape)).astype(np.float32)
        for node in net.graph.inputs
    }
    read: Any = export.deserialize(bytearray(stablehlo(net.graph, weights, batch=batch)))
    assert read.platforms == PLATFORMS
    found, expected = read.call(*inputs.values()), net.apply(weights, inputs)
    assert isinstance(found, dict) == isinstance(expected, dict)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch", [1, 3])
def test_an_artifact_gives_what_the_backend_gives(batch: int) -> None:
    assert_reads_back(small(), batch)


def test_an_artifact_of_several_inputs_and_outputs_gives_what_the_backend_gives() -> None:
    builder = Builder()
    words, picture = builder.input("words", (5,), "int"), builder.input("global", (4, 4, 3))
    embedded = builder.add("embedded", ops.GlobalPool(), builder.add("embedding", ops.Embedding(3, 3), words))
    seen = builder.add("seen", ops.GlobalPool(), picture)
    total = builder.add("sum", ops.Add(), embedded, seen)
    assert_reads_back(builder.net(total=total, seen=seen), 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist_cnn", "resnet_cifar", "astronet", "voxnet", "efficientnet"])
def test_an_artifact_of_a_spec_gives_what_the_backend_gives(name: str) -> None:
    assert_reads_back(cnnc.load(name, resolution=1 / 7 if name == "efficientnet" else None), 1)


def test_the_text_is_stablehlo_with_the_weights_in_it() -> None:
    net = small()
    text = stablehlo(net.graph, net.init(0), batch=2, form="text").decode()
    assert "func.func public @main(%arg0: tensor<2x8x8x3xf32>) -> (tensor<2x4xf32>" in text
    assert text.count("stablehlo.convolution") == 2
    assert "stablehlo.reduce_window" in text
    assert "feature_group_count = 8" in text
    assert "..." not in text


def test_the_bytecode_is_mlir() -> None:
    net = small()
    code = stablehlo(net.graph, net.init(0), form="bytecode")
    assert code.startswith(b"ML\xefR")
    assert b"StableHLO_v" in code[:64]


@pytest.mark.parametrize("form", ["text", "bytecode", "artifact"])
def test_the_bytes_are_the_same_each_time_and_name_no_folder(form: Any) -> None:
    net = small()
    weights = net.init(0)
    first = stablehlo(net.graph, weights, form=form)
    assert first == stablehlo(net.graph, weights, form=form)
    assert str(ROOT).encode() not in first


@pytest.mark.slow
def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    script = (
        "import sys, cnnc\n"
        "from cnnc.backends.jax.export.stablehlo import stablehlo\n"
        "net = cnnc.load('resnet_cifar')\n"
        "sys.stdout.buffer.write(stablehlo(net.graph, net.init(0)))"
    )
    run = [sys.executable, "-c", script]
    once, again = (subprocess.run(run, capture_output=True, check=True, cwd=ROOT).stdout for _ in range(2))
    assert once == again


def test_what_does_not_fit_is_told() -> None:
    net = small()
    weights = net.init(0)
    with pytest.raises(CnnError, match="`batch` must be 1 or more, found 0"):
        stablehlo(net.graph, weights, batch=0)
    with pytest.raises(CnnError, match=r"`conv1.kernel` is missing"):
        stablehlo(net.graph, {**weights, "conv1": {}})
