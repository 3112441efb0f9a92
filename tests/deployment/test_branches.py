"""Networks whose branches are there for training: the file is a plain chain, and LiteRT computes what they do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import cnnc
from cnnc import ops
from cnnc.backends.tflite.compile import compile_float, decisive
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.quantization.quantize import Io
from cnnc.backends.tflite.structure import outline
from cnnc.ir import Graph
from cnnc.ir.model import Model
from cnnc.net import Net
from cnnc.passes.pipelines import INFERENCE_INT8, run
from cnnc.tflite_file.program import Program
from tests.support.paths import SHARED

pytest.importorskip("ai_edge_litert")

REP_VGG = """
model rep_vgg {
  input 16x12x3
  rep(8, stride=2)
  [2, 3] x rep([8, 16], stride=2)
  globalpool | dense(10)
}
block rep(filters: channels, stride: dims = 1) {
  add {
    conv(3x3, filters, stride=stride, padding=half) | bn
    conv(1x1, filters, stride=stride) | bn
    bn if stride == 1 and in.channels == filters
  }
  relu
}
"""
MOBILE_ONE = """
model mobile_one {
  input 16x12x3
  normalize(imagenet)
  one(8, 3, 2, groups=1)
  [1, 2] x unit([8, 16], stride=2)
  globalpool | dense(10)
}
block unit(filters: channels, stride: dims = 1) {
  one(in.channels, 3, stride, groups=in.channels) | one(filters, 1, 1, groups=1)
}
block one(filters: channels, kernel: dims, stride: dims, groups: int) {
  add {
    in | conv(kernel, filters, stride=stride, padding=half, groups=groups) | bn
    in | conv(kernel, filters, stride=stride, padding=half, groups=groups) | bn
    in | conv(1x1, filters, stride=stride, groups=groups) | bn if kernel != 1
    in | bn if stride == 1 and in.channels == filters
  }
  relu
}
"""


def trained(net: Net, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Weights of which no statistic is neutral."""
    rng = np.random.default_rng(seed)
    weights = {name: {short: np.array(array) for short, array in own.items()} for name, own in net.init(seed).items()}
    for own in weights.values():
        if "variance" in own:
            shape = own["mean"].shape
            own |= {"variance": rng.uniform(0.5, 2, shape), "mean": rng.normal(0, 0.3, shape)}
            own |= {"gamma": rng.uniform(0.5, 1.5, shape), "beta": rng.normal(0, 0.3, shape)}
    return {name: {s: np.asarray(a, np.float32) for s, a in own.items()} for name, own in weights.items()}


def run_litert(program: Program, x: Any) -> Any:
    with execute(program) as infer:
        return np.array(infer({program.inputs[0]: x})[program.outputs[0]])


def kinds(program: Program) -> list[str]:
    return [operator.kind for operator in program]


@pytest.mark.fault("Q5")
@pytest.mark.parametrize("flavour", ["float", "edgetpu"])
@pytest.mark.parametrize("text", [REP_VGG, MOBILE_ONE], ids=["RepVGG", "MobileOne"])
def test_the_chain_computes_what_the_training_graph_does(text: str, flavour: Flavour) -> None:
    net = cnnc.load_text(text)
    weights = trained(net)
    model = Model(net.graph, weights)
    program = compile_float(model) if flavour == "float" else lower(run(model, INFERENCE_INT8), flavour).program
    assert "ADD" not in kinds(program)
    x = np.random.default_rng(1).uniform(0, 255, (1, 16, 12, 3)).astype(np.float32)
    expected = np.asarray(net.apply(weights, x))
    np.testing.assert_allclose(run_litert(program, x), expected, rtol=0, atol=1e-5 * np.ptp(expected))


@pytest.mark.fault("Q5")
def test_a_rep_vgg_of_pytorch_s_is_the_chain_that_it_becomes() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    net = cnnc.load_text(REP_VGG)
    weights = trained(net)
    program = compile_float(Model(net.graph, weights))
    blocks = 1 + 2 + 3
    assert kinds(program).count("CONV_2D") == blocks
    assert set(kinds(program)) <= {"CONV_2D", "PAD", "MEAN", "RESHAPE", "FULLY_CONNECTED"}
    x = np.random.default_rng(1).standard_normal((1, 16, 12, 3)).astype(np.float32)
    expected = _rep_vgg_of_pytorch(torch, net.graph, weights, x)
    np.testing.assert_allclose(run_litert(program, x), expected, rtol=0, atol=1e-5 * np.ptp(expected))


def _rep_vgg_of_pytorch(torch: Any, graph: Graph, weights: Any, x: Any) -> Any:
    """The blocks of Ding et al. 2021, figure 2 (b), with the weights of a graph in its order."""
    own = iter([weights[node.name] for node in graph if graph.weights(node)])

    def convolved(value: Any, padding: int, stride: int) -> Any:
        kernel = torch.from_numpy(next(own)["kernel"]).permute(3, 2, 0, 1)
        return normed(torch.nn.functional.conv2d(value, kernel, None, stride, padding))

    def normed(value: Any) -> Any:
        norm = {short: torch.from_numpy(array) for short, array in next(own).items()}
        statistics = norm["mean"], norm["variance"], norm["gamma"], norm["beta"]
        return torch.nn.functional.batch_norm(value, *statistics, training=False)

    value = torch.from_numpy(x).permute(0, 3, 1, 2)
    for stride in (2, 2, 1, 2, 1, 1):
        parts = [convolved(value, 1, stride), convolved(value, 0, stride)]
        value = torch.relu(sum([*parts, normed(value)] if stride == 1 else parts))
    head = next(own)
    return (value.mean((2, 3)) @ torch.from_numpy(head["kernel"]) + torch.from_numpy(head["bias"])).numpy()


PLAIN = {
    # Vasu et al. 2023, table 2: a stem, and depthwise and pointwise of 2 + 8 + 10 + 1 blocks, four of stride 2.
    "mobileone_groups": {"DEPTHWISE_CONV_2D": 1 + 21, "CONV_2D": 1 + 21, "PAD": 4},
    # Ding et al. 2021, table 2: a stem, and 2 + 4 + 14 + 1 blocks.
    "repvgg": {"DEPTHWISE_CONV_2D": 1, "CONV_2D": 1 + 21, "PAD": 2},
}
"""By kind what is not at the ends of the files for the Edge TPU; one depthwise convolution normalises the picture."""
ENDS = {"QUANTIZE": 2, "AVERAGE_POOL_2D": 1, "FULLY_CONNECTED": 1, "SOFTMAX": 1}


@pytest.mark.fault("Q3")
@pytest.mark.fault("Q5")
@pytest.mark.parametrize("name", PLAIN)
def test_networks_of_papers_deploy_as_plain_chains(name: str) -> None:
    net = field_network(name)
    program = outline(net.graph)
    assert Counter(kinds(program)) == {**PLAIN[name], **ENDS}


@pytest.mark.fault("Q5")
@pytest.mark.parametrize(("flavour", "io"), [("int8", "int8"), ("edgetpu", "uint8")])
def test_rep_vgg_a0_is_a_chain_of_thirty_operators(flavour: Flavour, io: Io) -> None:
    program = outline(field_network("repvgg").graph, flavour, io)
    assert len(program.operators) <= 30
    assert "ADD" not in kinds(program)
    assert all(len(readers) <= 1 for name, readers in program.consumers.items() if program[name].data is None)


@pytest.mark.slow
@pytest.mark.fault("Q5")
@pytest.mark.parametrize("flavour", ["int8", "edgetpu"])
def test_the_chain_of_rep_vgg_a0_computes_what_it_was_trained_as(flavour: Flavour) -> None:
    """Before its numbers are rounded: with kernels widened, and the picture normalised pixel by pixel."""
    net = field_network("repvgg")
    weights = trained(net)
    program = lower(run(Model(net.graph, weights), INFERENCE_INT8), flavour).program
    (scores,) = decisive(program)
    program = replace(program, outputs=(scores,))
    x = np.random.default_rng(1).uniform(0, 255, (1, 224, 224, 3)).astype(np.float32)
    (softmax,) = [node for node in net.graph if isinstance(node.op, ops.Softmax)]
    head = Net(replace(net.graph, outputs=(("scores", softmax.inputs[0]),)))
    expected = np.asarray(head.apply(weights, x))
    np.testing.assert_allclose(run_litert(program, x), expected, rtol=0, atol=1e-5 * np.ptp(expected))


def field_network(name: str) -> Net:
    spec = SHARED / "field" / "files" / f"{name}.cnn"
    if not spec.is_file():
        pytest.skip("the files of the field trial are not beside the project")
    return cnnc.load(spec)
