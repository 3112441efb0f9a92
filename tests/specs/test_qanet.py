"""QANet beside an implementation in PyTorch that is written from the paper's formulas: one function."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, sin
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
from cnnc import ops
from cnnc.net import Net
from tests.support.zoo import small

pytest.importorskip("torch", reason="PyTorch is not installed")
import torch
from torch import nn
from torch.nn import functional

Arrays = Mapping[str, Mapping[str, NDArray[Any]]]
TOLERANCE = 1e-4
"""Of the range of the logits."""


class Highway(nn.Module):
    """Srivastava et al. 2015, equation 3: H(x) T(x) + x (1 - T(x))."""

    def __init__(self, weights: Arrays, path: str) -> None:
        super().__init__()
        self.gate, self.new = linear(weights, f"{path}.gate.dense1"), linear(weights, f"{path}.new.dense1")

    def forward(self, x: Any) -> Any:
        gate = torch.sigmoid(self.gate(x))
        return functional.relu(self.new(x)) * gate + x * (1 - gate)


class Separable(nn.Module):
    """Chollet 2017: a convolution of each channel by itself, then one of single positions."""

    def __init__(self, weights: Arrays, path: str) -> None:
        super().__init__()
        kernel = weights[f"{path}.depthwise1"]["kernel"]  # (taps, channels, 1)
        taps, channels, _ = kernel.shape
        self.depthwise = nn.Conv1d(channels, channels, taps, padding=taps // 2, groups=channels, bias=False)
        put(self.depthwise.weight, kernel.transpose(1, 2, 0))
        self.pointwise = linear(weights, f"{path}.conv1")

    def forward(self, x: Any) -> Any:
        return functional.relu(self.pointwise(self.depthwise(x.mT).mT))


class Attention(nn.Module):
    """Vaswani et al. 2017, section 3.2.2, as PyTorch has it."""

    def __init__(self, weights: Arrays, path: str) -> None:
        super().__init__()
        own = weights[path]
        channels, heads, _ = own["query_kernel"].shape
        self.attend = nn.MultiheadAttention(channels, heads, batch_first=True)
        parts = ("query", "key", "value")
        put(self.attend.in_proj_weight, np.concatenate([own[f"{p}_kernel"].reshape(channels, -1).T for p in parts]))
        put(self.attend.in_proj_bias, np.concatenate([own[f"{p}_bias"].reshape(-1) for p in parts]))
        put(self.attend.out_proj.weight, own["output_kernel"].reshape(-1, channels).T)
        put(self.attend.out_proj.bias, own["output_bias"])

    def forward(self, x: Any) -> Any:
        return self.attend(x, x, x, need_weights=False)[0]


class Encoder(nn.Module):
    """Figure 1, right: the position encoding, then f(layernorm(x)) + x for every convolution, attention, the rest."""

    def __init__(self, weights: Arrays, path: str, convolutions: int) -> None:
        super().__init__()
        self.layers, self.norms = nn.ModuleList(), nn.ModuleList()
        for index in range(convolutions):
            self.add(weights, f"{path}.sublayer1.{index}", Separable(weights, f"{path}.sublayer1.{index}"))
        self.add(weights, f"{path}.sublayer2", Attention(weights, f"{path}.sublayer2.attention1"))
        first, second = (linear(weights, f"{path}.sublayer3.dense{place}") for place in (1, 2))
        self.add(weights, f"{path}.sublayer3", nn.Sequential(first, nn.ReLU(), second))

    def add(self, weights: Arrays, path: str, layer: Any) -> None:
        own = weights[f"{path}.layer_norm1"]
        norm = nn.LayerNorm(len(own["gamma"]), eps=1e-6)
        put(norm.weight, own["gamma"])
        put(norm.bias, own["beta"])
        self.layers.append(layer)
        self.norms.append(norm)

    def forward(self, x: Any) -> Any:
        x = x + positions(*x.shape[1:])
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = layer(norm(x)) + x
        return x


class QANet(nn.Module):
    """Section 2.2, its five layers."""

    def __init__(self, weights: Arrays) -> None:
        super().__init__()
        self.words = nn.Embedding.from_pretrained(tensor(weights["context_words.embedding1"]["table"]), freeze=False)
        self.characters = nn.Embedding.from_pretrained(tensor(weights["c.embedding1"]["table"]), freeze=False)
        kernel = weights["c.conv1"]["kernel"]  # (1, 5, channels, filters)
        self.spell = nn.Conv2d(*kernel.shape[2:], (1, 5), padding=(0, 2))
        put(self.spell.weight, kernel.transpose(3, 2, 0, 1))
        put(self.spell.bias, weights["c.conv1"]["bias"])
        self.highway = nn.Sequential(*(Highway(weights, path) for path in turns(weights, "c.highway1")))
        self.project = linear(weights, "c.conv2")
        self.embed = Encoder(weights, "c.encoder1", 4)
        parts = ("m0.attend1.s.dense2", "m0.attend1.s.dense1", "m0.attend1.both")  # of q, c and q * c
        trilinear = np.concatenate([weights[part]["kernel"].reshape(-1) for part in parts])
        self.similarity = nn.Linear(len(trilinear), 1, bias=False)
        put(self.similarity.weight, trilinear[None])
        self.mix = linear(weights, "m0.conv1")
        self.stack = nn.Sequential(*(Encoder(weights, path, 2) for path in turns(weights, "m0.encoder1")))
        self.start, self.end = linear(weights, "start.dense1"), linear(weights, "end.dense1")

    def embedded(self, words: Any, characters: Any) -> Any:
        maps = functional.relu(self.spell(self.characters(characters).permute(0, 3, 1, 2)))
        x = torch.cat([self.words(words), maps.amax(3).mT], -1)
        return self.embed(self.project(self.highway(x)))

    def forward(self, context: Any, context_characters: Any, question: Any, question_characters: Any) -> Any:
        c, q = self.embedded(context, context_characters), self.embedded(question, question_characters)
        n, m = c.shape[1], q.shape[1]
        pairs = q[:, None].expand(-1, n, -1, -1), c[:, :, None].expand(-1, -1, m, -1)
        s = self.similarity(torch.cat([*pairs, pairs[0] * pairs[1]], -1)).squeeze(-1)  # (batch, n, m)
        by_row, by_column = s.softmax(2), s.softmax(1)
        a, b = by_row @ q, by_row @ by_column.mT @ c
        m0 = self.stack(self.mix(torch.cat([c, a, c * a, c * b], -1)))
        m1 = self.stack(m0)
        m2 = self.stack(m1)
        heads = self.start(torch.cat([m0, m1], -1)), self.end(torch.cat([m0, m2], -1))
        return {label: y.squeeze(-1) for label, y in zip(("start", "end"), heads, strict=True)}


def turns(weights: Arrays, group: str) -> list[str]:
    """The scopes of a repeat's turns."""
    found = [name.removeprefix(f"{group}.").split(".")[0] for name in weights if name.startswith(f"{group}.")]
    return [f"{group}.{index}" for index in dict.fromkeys(found)]


def tensor(array: Any) -> Any:
    return torch.from_numpy(np.array(array, np.float32))


def put(parameter: Any, array: Any) -> None:
    assert parameter.shape == array.shape
    parameter.data = tensor(array)


def linear(weights: Arrays, path: str) -> Any:
    """A dense layer or a convolution of one position."""
    own = weights[path]
    kernel = own["kernel"].reshape(own["kernel"].shape[-2:])
    layer = nn.Linear(*kernel.shape, bias="bias" in own)
    put(layer.weight, kernel.T)
    if "bias" in own:
        put(layer.bias, own["bias"])
    return layer


def positions(length: int, channels: int) -> Any:
    """Vaswani et al. 2017, section 3.5, value by value."""
    table = torch.zeros(length, channels)
    for position in range(length):
        for i in range(0, channels, 2):
            angle = position / 10_000 ** (i / channels)
            table[position, i], table[position, i + 1] = sin(angle), cos(angle)
    return table


def weights_of(net: Net) -> dict[str, dict[str, NDArray[Any]]]:
    """First weights, biases and norms drawn at random, too."""
    rng = np.random.default_rng(0)
    return {
        node: {
            short: np.asarray(array)
            if array.ndim > 1 and "bias" not in short
            else rng.uniform(0.5, 1.5, array.shape).astype(np.float32)
            if short == "gamma"
            else rng.normal(0, 0.1, array.shape).astype(np.float32)
            for short, array in arrays.items()
        }
        for node, arrays in net.init(0).items()
    }


def sample(net: Net, batch: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(1)
    most = {"context": 50, "question": 50, "context_characters": 30, "question_characters": 30}
    return {n.name: rng.integers(most[n.name], size=(batch, *n.shape)).astype(np.int32) for n in net.graph.inputs}


@pytest.fixture(scope="module")
def net() -> Net:
    return small("qanet")


@pytest.fixture(scope="module")
def weights(net: Net) -> Arrays:
    return weights_of(net)


def theirs(peer: Any, inputs: Mapping[str, NDArray[Any]]) -> Any:
    return peer(**{name: torch.from_numpy(array.astype(np.int64)) for name, array in inputs.items()})


def assert_near(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))


@pytest.mark.slow
def test_qanet_is_the_papers(net: Net, weights: Arrays) -> None:
    inputs = sample(net, 3)
    with torch.no_grad():
        expected = theirs(QANet(weights).eval(), inputs)
    found = net.apply(weights, inputs, logits=True)
    shares = net.apply(weights, inputs)
    for label in ("start", "end"):
        assert expected[label].shape == (3, 12)
        assert np.ptp(expected[label].numpy()) > 0.1
        assert_near(found[label], expected[label])
        assert_near(shares[label], expected[label].softmax(1))


@pytest.mark.slow
def test_the_passes_have_one_set_of_weights(net: Net, weights: Arrays) -> None:
    """As many parameters as PyTorch's, in which modules are called several times; gradients are the sums of all."""
    import jax
    import jax.numpy as jnp

    inputs = sample(net, 2)
    peer = QANet(weights).eval()
    assert net.graph.trainable_count == sum(each.numel() for each in peer.parameters())
    answers = theirs(peer, inputs)
    torch.stack([answers["start"].logsumexp(1), answers["end"][:, 0]]).sum().backward()

    def loss(own: Any) -> Any:
        y = net.apply(own, inputs, logits=True)
        return jax.nn.logsumexp(y["start"], 1).sum() + y["end"][:, 0].sum()

    gradient = jax.jit(jax.grad(loss), compiler_options={"xla_backend_optimization_level": 0})
    found = gradient(jax.tree.map(jnp.asarray, dict(weights)))
    assert found.keys() == weights.keys()
    block = peer.stack[0]
    assert_near(found["m0.encoder1.0.sublayer1.0.conv1"]["kernel"][0].T, block.layers[0].pointwise.weight.grad)
    assert_near(found["m0.encoder1.0.sublayer3.dense1"]["bias"], block.layers[3][0].bias.grad)
    assert_near(found["c.encoder1.sublayer1.0.layer_norm1"]["gamma"], peer.embed.norms[0].weight.grad)
    assert_near(found["context_words.embedding1"]["table"], peer.words.weight.grad)


def test_the_float_file_is_the_papers(net: Net, weights: Arrays) -> None:
    pytest.importorskip("ai_edge_litert")
    from cnnc.backends.tflite.compile import compile_float
    from cnnc.backends.tflite.litert.execute import execute
    from cnnc.ir.model import Model

    inputs = sample(net, 1)
    program = compile_float(Model(net.graph, weights))
    with execute(program) as infer:
        found = {name: np.array(value) for name, value in infer(inputs).items()}
    with torch.no_grad():
        expected = theirs(QANet(weights).eval(), inputs)
    for tensor_name, label in zip(program.outputs, program.output_names, strict=True):
        assert_near(found[tensor_name], expected[label].softmax(1))


def test_qanet_has_the_layers_of_section_2_2() -> None:
    """Yu et al. 2018: 300 and 200 values a word, 128 filters, 8 heads, 4 kernels of 7, 7 times 2 of 5."""
    graph = cnnc.load("qanet").graph

    def block(kernel: int, convolutions: int) -> int:
        separable = 2 * 128 + kernel * 128 + 128 * 128 + 128
        attention = 2 * 128 + 4 * (128 * 128 + 128)
        return convolutions * separable + attention + 2 * 128 + 2 * (128 * 128 + 128)

    embedding = 90_000 * 300 + 1_400 * 200 + 5 * 200 * 200 + 200
    highway = 2 * 2 * (500 * 500 + 500)
    encoder = 500 * 128 + 128 + block(7, 4)
    attention = 3 * 128 + 4 * 128 * 128 + 128
    heads = 2 * 256
    assert graph.trainable_count == embedding + highway + encoder + attention + 7 * block(5, 2) + heads
    assert sum(node.op.name == "attention" for node in graph) == 2 + 3 * 7
    rates = [node.op.rate for node in graph if isinstance(node.op, ops.DropPath) and node.name.startswith("m2.")]
    assert rates == pytest.approx([0.1 * layer / 28 for layer in range(1, 29)])
