"""The Keras backend: a second implementation of every operator, and the files that it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from keyword import iskeyword
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops, specs
from cnnc.backends import reference
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Net
from cnnc.ops import Op
from tests.support.networks import Builder, sequential
from tests.support.spec_texts import Random, random_specs
from tests.support.strategies import Case, cases, random_inputs, random_weights
from tests.support.zoo import samples, small

keras: Any = pytest.importorskip("keras", reason="Keras is not installed")

from cnnc.backends.keras.build import build  # noqa: E402  # needs Keras
from cnnc.backends.keras.lower import lower  # noqa: E402
from cnnc.backends.keras.save import save  # noqa: E402
from tests.support.paths import ROOT  # noqa: E402

COMPUTED = [op for op in Op.__subclasses__() if op is not ops.Input]
calm = settings(max_examples=1, suppress_health_check=list(HealthCheck))
# Of Keras on jax, where it reads its own variables.
on_saving = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
seeds = st.integers(0, 2**32 - 1)


def graph_of(case: Case) -> Graph:
    """A network of one layer."""
    builder = Builder()
    dtype = "int" if isinstance(case.op, ops.Embedding) else "float"
    names = [builder.input(f"in{place}", shape, dtype) for place, shape in enumerate(case.shapes)]
    return builder.net(output=builder.add("layer.of.a.scope", case.op, *names)).graph


def assert_case_agrees(case: Case, seed: int) -> None:
    graph = graph_of(case)
    weights = {"layer.of.a.scope": random_weights(case, seed)}
    inputs = dict(zip((node.name for node in graph.inputs), random_inputs(case, seed), strict=True))
    expected = reference.run(graph, weights, inputs)["layer.of.a.scope"]
    np.testing.assert_allclose(run(build(graph, weights), inputs), expected, rtol=1e-4, atol=1e-4)


def run(model: Any, inputs: Any) -> Any:
    """What a model makes of a batch, as NumPy arrays."""
    given = {
        f"{name}_" if iskeyword(name) else name: x.astype(
            np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32
        )
        for name, x in inputs.items()
    }
    result = model(given if len(given) > 1 else next(iter(given.values())), training=False)
    return {name: np.asarray(y) for name, y in result.items()} if isinstance(result, dict) else np.asarray(result)


@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
def test_every_operator_has_a_lowering(cls: type[Op]) -> None:
    assert lower.dispatch(cls) is not lower.dispatch(Op)


@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
@given(data=st.data(), seed=seeds)
@calm
def test_a_layer_is_the_reference(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_case_agrees(data.draw(cases(cls)), seed)


@pytest.mark.slow
@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
@given(data=st.data(), seed=seeds)
@settings(max_examples=40, derandomize=False, suppress_health_check=list(HealthCheck))
def test_a_layer_is_the_reference_at_length(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_case_agrees(data.draw(cases(cls)), seed)


UNUSUAL = {
    "conv, strided and dilated": (ops.Conv((3, 3), 4, (2, 2), "same", (2, 2)), (9, 8, 3)),
    "conv, strided, dilated and padded": (ops.Conv((3, 2), 4, (2, 1), ((1, 2), (0, 3)), (1, 2)), (9, 8, 3)),
    "depthwise, of unequal strides": (ops.Depthwise((3, 3), (2, 1), "same", (1, 1), 2), (7, 7, 3)),
    "depthwise, strided and dilated": (ops.Depthwise((3, 3), (2, 2), "valid", (2, 2), 2), (9, 9, 3)),
    "depthwise, in 3-D": (ops.Depthwise((2, 3, 2), (1, 2, 1), "same"), (4, 5, 3, 2)),
    "transposed, strided and dilated": (ops.ConvTranspose((3, 3), 2, (2, 2), "same", (2, 2)), (3, 4, 3)),
    "transposed, cut": (ops.ConvTranspose((2, 3), 2, (3, 2), ((0, 1), (1, 0))), (3, 4, 3)),
    "maximum, padded": (ops.MaxPool((3, 3), (2, 2), ((1, 1), (1, 0))), (7, 6, 2)),
    "average, padded": (ops.AvgPool((3, 3), (2, 2), ((1, 1), (1, 0))), (7, 6, 2)),
    "average, padding counted": (ops.AvgPool((3, 3), (2, 2), "same", True), (7, 6, 2)),
    "resize, to any size": (ops.Resize(size=(5, 9), method="bilinear"), (7, 6, 2)),
    "softmax, of one channel": (ops.Softmax(), (3, 1)),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_what_keras_has_no_layer_for_is_the_reference(what: str) -> None:
    op, shape = UNUSUAL[what]
    assert_case_agrees(Case(op.resolve(shape), (shape,)), 0)


STRANGER = """
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = sys.argv[2]
sys.modules["cnnc"] = None  # which an import of it would fail at
import keras
import numpy as np

for place in sorted(Path(sys.argv[1]).glob("*.keras")):
    model = keras.models.load_model(place)
    if not place.with_suffix(".npz").exists():
        continue
    inputs = dict(np.load(place.with_suffix(".npz")))
    result = model(inputs if len(inputs) > 1 else next(iter(inputs.values())), training=False)
    outputs = result if isinstance(result, dict) else {"output": result}
    np.savez(place.with_suffix(".out.npz"), **{name: np.asarray(value) for name, value in outputs.items()})
"""
"""A process that knows Keras alone: it reads every file, and computes of the arrays beside it, where there are any."""


def read_by_a_stranger(folder: Path, backend: str) -> None:
    done = subprocess.run([sys.executable, "-P", "-c", STRANGER, str(folder), backend], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def saved(place: Path, graph: Graph, weights: Any, inputs: Any) -> None:
    save(graph, weights, place, "keras")
    given = {
        name: x.astype(np.int32 if np.issubdtype(x.dtype, np.integer) else np.float32) for name, x in inputs.items()
    }
    np.savez(place.with_suffix(".npz"), **given)


@on_saving
@pytest.mark.fault("Q11")
def test_every_operator_is_read_by_stock_keras(tmp_path: Path) -> None:
    """In one process without cnnc: each operator in a file of its own, and each way that it is composed in."""
    expected = {}
    for what, case in OF_STOCK.items():
        graph, weights = graph_of(case), {"layer.of.a.scope": random_weights(case, 0)}
        inputs = dict(zip((node.name for node in graph.inputs), random_inputs(case, 0), strict=True))
        saved(tmp_path / f"{what}.keras", graph, weights, inputs)
        expected[what] = reference.run(graph, weights, inputs)["layer.of.a.scope"]
    read_by_a_stranger(tmp_path, "numpy")
    for what, value in expected.items():
        (found,) = np.load(tmp_path / f"{what}.out.npz").values()
        np.testing.assert_allclose(found, value, rtol=1e-4, atol=1e-4, err_msg=what)


def of(op: Any, *shapes: tuple[int, ...]) -> Case:
    return Case(op.resolve(shapes[0]), shapes)


OF_STOCK = {
    "local_response_norm": of(ops.LocalResponseNorm(), (4, 4, 6)),
    "local_response_norm, wide": of(ops.LocalResponseNorm(9, 0.1, 0.5, 2), (4, 3)),
    "pad": of(ops.Pad(((1, 2), (0, 1))), (4, 4, 2)),
    "pad of a value": of(ops.Pad(((1, 2), (0, 1)), 0.5), (4, 4, 2)),
    "pad of a value, signal": of(ops.Pad(((1, 2),), -1.5), (4, 2)),
    "pad of a value, volume": of(ops.Pad(((1, 2), (0, 1), (2, 0)), 0.5), (4, 4, 3, 2)),
    "maximum, padded": of(ops.MaxPool((3, 3), (2, 2), ((1, 1), (1, 0))), (7, 6, 2)),
    "maximum, padded, signal": of(ops.MaxPool((3,), (2,), ((1, 1),)), (7, 2)),
    "average, padded": of(ops.AvgPool((3, 3), (2, 2), ((1, 1), (1, 0))), (7, 6, 2)),
    "average, padded, volume": of(ops.AvgPool((2, 3, 2), (2, 2, 1), ((1, 1), (1, 0), (0, 1))), (4, 7, 6, 2)),
    "average, padding counted": of(ops.AvgPool((3, 3), (2, 2), "same", True), (7, 6, 2)),
    "resize, bilinear": of(ops.Resize(size=(5, 9), method="bilinear"), (7, 6, 2)),
    "resize, bilinear, signal": of(ops.Resize(size=(5,), method="bilinear"), (7, 2)),
    "resize, bilinear, volume": of(ops.Resize(size=(5, 9, 2), method="bilinear"), (7, 6, 3, 2)),
    "resize, nearest": of(ops.Resize(size=(5, 9), method="nearest"), (7, 6, 2)),
    "resize, nearest by 2": of(ops.Resize(scale=(2, 2), method="nearest"), (3, 2, 2)),
    "space_to_depth": of(ops.SpaceToDepth(2), (4, 6, 3)),
    "space_to_depth, signal": of(ops.SpaceToDepth(3), (6, 2)),
    "space_to_depth, volume": of(ops.SpaceToDepth(2), (4, 2, 6, 3)),
    "slice": of(ops.Slice(1, 3), (4, 6, 4)),
    "channel_shuffle": of(ops.ChannelShuffle(3), (4, 6, 6)),
    "channel_shuffle, vector": of(ops.ChannelShuffle(2), (6,)),
    "layer_scale": of(ops.LayerScale(0.1), (4, 6, 3)),
    "layer_scale, vector": of(ops.LayerScale(0.1), (3,)),
    "bgr": of(ops.Bgr(), (4, 3)),
    "gelu by tanh": of(ops.Gelu(True), (4, 3)),
    "positions": of(ops.Positions(), (5, 6)),
    "matmul": of(ops.Matmul(), (3, 4), (4, 5)),
    "normalize of three channels": of(ops.Normalize("imagenet"), (4, 4, 3)),
    "drop_path": of(ops.DropPath(0.3), (4, 4, 3)),
    "attention": of(ops.Attention(2), (4, 4, 6)),
    "crop": of(ops.Crop(((1, 1), (0, 2))), (4, 6, 3)),
    "transposed, cut": of(ops.ConvTranspose((2, 3), 2, (3, 2), ((0, 1), (1, 0))), (3, 4, 3)),
    "softmax of one channel": of(ops.Softmax(), (3, 1)),
    "prelu": of(ops.Prelu(), (4, 3)),
    "squeeze": of(ops.Squeeze(), (1, 1, 3)),
    "transpose": of(ops.Transpose(), (4, 3)),
}


COMPUTED_BY_STOCK = (
    "alexnet",
    "convnext",
    "densenet",
    "inception_v1",
    "mnist_cnn",
    "qanet",
    "resnet_v2",
    "shufflenet_v2",
)
"""Networks that together have all layers that are composed, padded pools and local response norms among them."""


@pytest.mark.slow
@on_saving
@pytest.mark.fault("Q11")
@pytest.mark.parametrize("name", [*specs.names(), "resnet_cifar"])
def test_every_spec_is_read_by_stock_keras(name: str, tmp_path: Path) -> None:
    net = small(name)
    weights, inputs = net.init(0), samples(net, 2)
    place = tmp_path / "spec.keras"
    saved(place, net.graph, weights, {f"{n}_" if iskeyword(n) else n: x for n, x in inputs.items()})
    if name not in COMPUTED_BY_STOCK:
        place.with_suffix(".npz").unlink()
    read_by_a_stranger(tmp_path, "jax")
    if name in COMPUTED_BY_STOCK:
        expected = net.apply(weights, inputs)
        found = dict(np.load(tmp_path / "spec.out.npz"))
        for label, value in (expected if isinstance(expected, dict) else {"output": expected}).items():
            np.testing.assert_allclose(found[label], value, rtol=1e-3, atol=1e-3)


def assert_net_agrees(net: Net, tolerance: float = 1e-4) -> None:
    weights, inputs = net.init(0), samples(net, 2)
    found, expected = run(build(net.graph, weights), inputs), net.apply(weights, inputs)
    if not isinstance(expected, dict):
        found, expected = {"output": found}, {"output": expected}
    assert found.keys() == expected.keys()
    for label, value in expected.items():
        np.testing.assert_allclose(found[label], value, rtol=tolerance, atol=tolerance)


@given(random_specs())
@settings(max_examples=2, suppress_health_check=list(HealthCheck))
def test_a_random_network_gives_what_jax_gives(spec: Random) -> None:
    assert_net_agrees(cnnc.load_text(spec.text))


@pytest.mark.parametrize("name", ["mnist_cnn"])
def test_a_spec_gives_what_jax_gives(name: str) -> None:
    assert_net_agrees(cnnc.load(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*specs.names(), "resnet_cifar"])
def test_every_spec_gives_what_jax_gives(name: str) -> None:
    assert_net_agrees(small(name), 1e-3)


def test_layers_and_outputs_have_the_names_of_the_spec() -> None:
    builder = Builder()
    picture, extra = builder.input("picture", (4, 4, 3)), builder.input("extra", (4, 4, 3))
    total = builder.add("body.0.add1", ops.Add(), picture, extra)
    builder.add("head.relu1", ops.Relu(), total)
    net = builder.net(head="head.relu1", body=total, same="extra")
    model = build(net.graph, {})
    assert [layer.name for layer in model.layers] == ["picture", "extra", "body.0.add1", "head.relu1", "extra.same"]
    found = run(model, {"picture": np.ones((1, 4, 4, 3)), "extra": np.ones((1, 4, 4, 3))})
    assert list(found) == ["head", "body", "same"]
    assert (found["head"] == 2).all()


def test_batch_norms_and_dropout_train_on_as_the_spec_says() -> None:
    net = sequential((4, 4, 3), ops.BatchNorm(momentum=0.7), ops.Dropout(0.3), ops.DropPath(0.2))
    _, norm, dropout, path = build(net.graph, net.init(0)).layers
    assert (norm.momentum, dropout.rate, path.rate) == (0.7, 0.3, 0.2)
    assert tuple(path.noise_shape) == (None, 1, 1, 1)


def test_what_keras_lacks_is_named_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    net = cnnc.load_text("model small {\n  input 4x4x3\n  conv(3x3, 4) | relu\n}\n")
    monkeypatch.setattr("cnnc.backends.keras.build.lower.dispatch", lambda cls: None)
    with pytest.raises(CnnError) as caught:
        build(net.graph, net.init(0))
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "backend"
    assert diagnostic.message == "the backend `keras` has no operator `conv`, which `conv1` needs"
    assert diagnostic.primary is not None
    assert diagnostic.primary.span.location == "<string>:3:3"


def test_weights_that_do_not_fit_are_told() -> None:
    net = sequential((4,), ops.Dense(2))
    with pytest.raises(CnnError, match=r"`dense0.kernel` is missing"):
        build(net.graph, {})
    with pytest.raises(CnnError, match=r"`dense0.bias` must be 2, found 3"):
        build(net.graph, {"dense0": {"kernel": np.zeros((4, 2)), "bias": np.zeros(3)}})


@on_saving
def test_a_path_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    net = sequential((4,), ops.Dense(2))
    (tmp_path / "folder").mkdir()
    with pytest.raises(CnnError, match="it is a folder"):
        save(net.graph, net.init(0), tmp_path / "folder", "keras")
    with pytest.raises(CnnError, match="there is no folder"):
        save(net.graph, net.init(0), tmp_path / "missing" / "model.keras", "keras")
    save(net.graph, net.init(0), tmp_path / "model.keras", "keras")
    save(net.graph, net.init(1), tmp_path / "model.keras", "keras")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "model.keras"]


def test_a_saved_model_is_refused_on_jax(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed", exc_type=ImportError)
    net = sequential((4,), ops.Dense(2))
    with pytest.raises(CnnError, match="Keras writes a SavedModel on TensorFlow, but runs on jax"):
        save(net.graph, net.init(0), tmp_path / "model", "savedmodel")


ON_TENSORFLOW = """
import sys
from pathlib import Path

import numpy as np

import cnnc
from cnnc.backends.keras.save import save

net = cnnc.load_text(Path(sys.argv[1]).read_text())
weights = net.init(0)
for _ in range(2):
    save(net.graph, weights, Path(sys.argv[2]), "savedmodel")

import tensorflow as tf

read = tf.saved_model.load(sys.argv[2])
rng = np.random.default_rng(0)
inputs = {node.name: rng.uniform(0, 255, (3, *node.shape)).astype("f4") for node in net.graph.inputs}
named = {"global_" if name == "global" else name: x for name, x in inputs.items()}
found = read.serve(named if len(inputs) > 1 else next(iter(inputs.values())))
expected = net.apply(weights, inputs)
pairs = [(found[label], expected[label]) for label in expected] if isinstance(expected, dict) else [(found, expected)]
for mine, theirs in pairs:
    np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)
print(sorted(path.name for path in Path(sys.argv[2]).parent.iterdir()))
"""
UNUSUAL_SPEC = """
model unusual {
  input picture 16x16x3
  input global 16x16x3
  first: picture | normalize(imagenet) | bgr | conv(3x3, 8, stride=2, dilation=2) | bn | swish | lrn
  other: global | conv(3x3, 8, groups=1) | prelu | avgpool(3x3, stride=2, padding=1) | gelu(approximate=true)
  wide: add(first, other) | depthwise(3x3, stride=2x1) | maxpool(3x3, stride=1, padding=1)
  both: wide | conv_transpose(3x3, 8, stride=2)
  head: both | resize(size=5x7, method=bilinear) | pad(1, 0.5) | attention(heads=2) | globalpool | dense(4) | softmax
  output head, both
}
"""


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["mnist_cnn", UNUSUAL_SPEC], ids=["mnist_cnn", "unusual"])
def test_a_saved_model_gives_what_jax_gives(spec: str, tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason="TensorFlow is not installed", exc_type=ImportError)
    text = spec if "{" in spec else specs.read(spec)
    (tmp_path / "spec.cnn").write_text(text)
    (tmp_path / "out").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "KERAS_BACKEND"}
    run = [sys.executable, "-c", ON_TENSORFLOW, str(tmp_path / "spec.cnn"), str(tmp_path / "out" / "model")]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['model']"
