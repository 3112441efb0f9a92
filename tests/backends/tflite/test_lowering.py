"""The float program of every operator of the graph, run by LiteRT, against the reference."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops
from cnnc.backends import reference
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.lowering.graph import lower
from cnnc.backends.tflite.lowering.lowering_site import Flavour, device_shape, lower_op
from cnnc.backends.tflite.structure import outline
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph, Node
from cnnc.ir.model import Model
from cnnc.ops import Op
from cnnc.ops.window import windows
from cnnc.passes.pipelines import INFERENCE, run
from cnnc.tflite_file.program import Program
from cnnc.tflite_file.runtimes import oldest_runtime
from tests.support.strategies import Case, cases, random_inputs, random_weights

pytest.importorskip("ai_edge_litert")

OPS = [cls for cls in Op.__subclasses__() if cls is not ops.Input]
CALM = settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))


def graph_of(case: Case) -> Graph:
    """A graph of one operator."""
    kind: Any = "int" if isinstance(case.op, ops.Embedding) else "float"
    inputs = [Node(f"x{i}", ops.Input(shape, kind), (), shape) for i, shape in enumerate(case.shapes)]
    node = Node("y", case.op, tuple(n.name for n in inputs), case.op.infer(*case.shapes))
    return Graph("one", (*inputs, node), (("result", "y"),))


def run_program(program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    with execute(program) as infer:
        found = infer({name: inputs[name].astype(program[name].dtype) for name in program.inputs})
        return {name: np.array(found[name]) for name in program.outputs}


def assert_lowered(case: Case, seed: int, flavour: Flavour, tolerance: float) -> None:
    graph = graph_of(case)
    weights = {"y": random_weights(case, seed)}
    inputs = dict(zip([node.name for node in graph.inputs], random_inputs(case, seed, batch=1), strict=True))
    expected = reference.run(graph, weights, inputs)["y"]
    program = lower(Model(graph, weights), flavour).program
    (found,) = run_program(program, inputs).values()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("cls", OPS)
@CALM
@given(st.data(), st.integers(0, 10_000))
def test_the_float_program_computes_what_the_reference_does(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_lowered(data.draw(cases(cls)), seed, "float", 2e-5)


@pytest.mark.parametrize("cls", [ops.LeakyRelu, ops.HardSwish, ops.HardSigmoid, ops.Gelu])
@CALM
@given(st.data(), st.integers(0, 10_000))
def test_what_the_edge_tpu_lacks_is_written_out_of_what_it_has(cls: type[Op], data: st.DataObject, seed: int) -> None:
    case = data.draw(cases(cls))
    # Hendrycks & Gimpel's tanh form is within 5e-4 of the error function's.
    assert_lowered(case, seed, "edgetpu", 1e-3 if cls is ops.Gelu else 2e-5)
    program = lower(Model(graph_of(case), {"y": random_weights(case, seed)}), "edgetpu").program
    kinds = {operator.kind for operator in program}
    assert kinds <= {"ADD", "MUL", "LOGISTIC", "PRELU", "RESHAPE"}


def test_every_operator_has_a_lowering() -> None:
    plain = lower_op.dispatch(Op)
    assert [cls.__name__ for cls in OPS if lower_op.dispatch(cls) is plain] == []


def test_an_operator_without_a_lowering_is_named_with_its_place() -> None:
    net = cnnc.load_text("input 4x4x1\nbody: relu | flatten | dense(2)")
    nodes = tuple(replace(node, op=_Unknown()) if isinstance(node.op, ops.Relu) else node for node in net.graph)
    with pytest.raises(CnnError) as raised:
        lower(Model(replace(net.graph, nodes=nodes), net.init()))
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code == "backend"
    assert "`unknown`" in diagnostic.message
    assert diagnostic.primary is not None
    assert diagnostic.primary.span.location == "<string>:2:7"


class _Unknown(ops.Relu):
    names = ("unknown",)


def _register_nothing(op: Op, site: Any) -> str:
    return lower_op.dispatch(Op)(op, site)


lower_op.register(_Unknown, _register_nothing)


def lowered(text: str, flavour: Flavour = "float") -> Program:
    net = cnnc.load_text(text)
    weights = {node: {k: np.asarray(v) for k, v in own.items()} for node, own in net.init(seed=1).items()}
    return lower(run(Model(net.graph, weights), INFERENCE), flavour).program


def kinds(program: Program) -> list[str]:
    return [operator.kind for operator in program]


@pytest.mark.fault("Q4")
@pytest.mark.parametrize(
    ("flavour", "written"), [("float", ["CONV_2D"]), ("edgetpu", ["SPLIT", *["CONV_2D"] * 4, "CONCATENATION"])]
)
def test_a_grouped_convolution_is_one_operator_but_for_the_edge_tpu(flavour: Flavour, written: list[str]) -> None:
    case = Case(ops.Conv((3, 3), 12, (2, 1), "same", (1, 2), groups=4, bias=True), ((7, 8, 8),))
    weights, (x,) = random_weights(case, 0), random_inputs(case, 0, batch=1)
    program = lower(Model(graph_of(case), {"y": weights}), flavour).program
    assert kinds(program) == written
    (found,) = run_program(program, {"x0": x}).values()
    # XLA's own: no code of ours knows what a group is here.
    expected = jax.lax.conv_general_dilated(
        jnp.asarray(x, jnp.float32),
        jnp.asarray(weights["kernel"], jnp.float32),
        (2, 1),
        "SAME",
        None,
        (1, 2),
        ("NHWC", "HWIO", "NHWC"),
        feature_group_count=4,
    )
    np.testing.assert_allclose(found, expected + weights["bias"], rtol=0, atol=1e-4)
    # TensorFlow Lite 2.9 is the first that convolves groups: 2.5 to 2.8 do not know this version.
    versions = {operator.version for operator in program if operator.kind == "CONV_2D"}
    assert (versions, oldest_runtime(program)) == (({6}, "2.9.0") if flavour == "float" else ({1}, "1.5.0"))


def test_activations_go_into_convolutions_sums_and_dense_layers() -> None:
    program = lowered("input 8x8x3\nadd { conv(3, 4) | relu6\n conv(1, 4) }\nrelu\nflatten | dense(5) | relu | softmax")
    assert kinds(program) == ["CONV_2D", "CONV_2D", "ADD", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"]
    fused = [operator.options.get("activation") for operator in program]
    assert fused == ["RELU6", "NONE", "RELU", None, "RELU", None]


def test_pools_and_concatenations_keep_activations_apart() -> None:
    program = lowered("input 8x8x3\nconcat { maxpool(2)\n avgpool(2) }\nrelu")
    assert kinds(program) == ["MAX_POOL_2D", "AVERAGE_POOL_2D", "CONCATENATION", "RELU"]


def test_an_activation_stays_apart_where_its_input_is_read_twice() -> None:
    program = lowered("input 8x8x3\na: conv(1, 3)\nadd { a | relu\n a }")
    assert kinds(program) == ["CONV_2D", "RELU", "ADD"]


def test_a_tensor_is_named_after_the_last_node_that_it_holds() -> None:
    program = lowered("input 8x8x3\nstem: conv(3, 4) | bn | relu\nhead: globalpool | dense(2)")
    net = cnnc.load_text("input 8x8x3\nstem: conv(3, 4) | bn | relu\nhead: globalpool | dense(2)")
    relu = next(node.name for node in net.graph if isinstance(node.op, ops.Relu))
    assert program.operators[0].outputs == (relu,)
    assert all(operator.origin in net.graph.by_name for operator in program)


def test_same_padding_is_asked_for_and_other_padding_padded() -> None:
    same = lowered("input 8x8x3\nconv(3, 4, stride=2)")
    other = lowered("input 8x8x3\nconv(3, 4, stride=2, padding=1)")
    assert kinds(same) == ["CONV_2D"]
    assert kinds(other) == ["PAD", "CONV_2D"]
    assert same.operators[0].options["padding"] == "SAME"
    assert other.operators[1].options["padding"] == "VALID"


def test_padding_before_a_maximum_is_zero_after_relu_and_finite_elsewhere() -> None:
    after = lowered("input 8x8x3\nrelu | maxpool(3, stride=2, padding=1)")
    bare = lowered("input 8x8x3\nconv(1, 3) | maxpool(3, stride=2, padding=1)")
    assert "PADV2" not in kinds(after)
    assert "PADV2" in kinds(bare)
    constants = [t.data for t in bare.tensors.values() if t.data is not None]
    assert all(np.isfinite(data).all() for data in constants)


def test_signals_have_a_height_of_one() -> None:
    program = lowered("input 16x3\nconv(3, 4) | relu | maxpool(2)")
    assert kinds(program) == ["RESHAPE", "CONV_2D", "MAX_POOL_2D", "RESHAPE"]
    assert program[program.inputs[0]].shape == (1, 16, 3)
    assert program[program.outputs[0]].shape == (1, 8, 4)
    assert device_shape((16, 3)) == (1, 1, 16, 3)


def test_an_output_that_is_an_input_is_a_tensor_of_its_own() -> None:
    program = lowered("input 4x4x1\ndropout(0.5)")
    assert set(program.inputs).isdisjoint(program.outputs)


DILATED = {
    "signal": ("input 32x8\nconv(3, 16, dilation=2)", (1, 3)),
    "signal, strided": ("input 32x8\nconv(3, 4, stride=2, padding=1)", (1, 4)),  # a zero in place of a PAD
    "signal, depthwise": ("input 32x8\ndepthwise(5, dilation=3)", (1, 5)),
    "row": ("input 9x12x4\nconv(1x3, 6, dilation=1x2)", (1, 3)),
    "column": ("input 9x12x4\nconv(3x1, 6, dilation=2x1)", (3, 1)),
    "point": ("input 9x12x4\nconv(1x1, 6, dilation=3x2)", (1, 1)),
    "unlike steps": ("input 9x12x4\nconv(3x3, 6, dilation=2x1)", (5, 3)),
    "unlike steps, groups": ("input 9x12x4\nconv(3x3, 6, dilation=1x3, groups=2)", (3, 7)),
    "unlike steps, depthwise": ("input 12x9x4\ndepthwise(3x2, dilation=3x2)", (7, 3)),
}


@pytest.mark.fault("Q6")
@pytest.mark.parametrize("kind", DILATED)
def test_the_edge_tpu_gets_one_dilation_for_both_directions(kind: str) -> None:
    """What PyTorch computes with the steps of the spec."""
    torch = pytest.importorskip("torch")
    text, size = DILATED[kind]
    net = cnnc.load_text(text)
    op: Any = net.graph.nodes[-1].op
    weights = net.init(seed=0)
    program = lower(run(Model(net.graph, weights), INFERENCE), "edgetpu").program
    for operator in (each for each in program if "dilation_h" in each.options):
        assert operator.options["dilation_h"] == operator.options["dilation_w"]
        assert program[operator.inputs[1]].shape[1:3] == size
    x = np.random.default_rng(0).standard_normal((1, *net.graph.nodes[0].shape)).astype(np.float32)
    kernel = torch.from_numpy(np.array(weights[net.graph.nodes[-1].name]["kernel"]))
    if isinstance(op, ops.Depthwise):
        kernel = kernel.swapaxes(-1, -2)
    convolve = {1: torch.conv1d, 2: torch.conv2d}[len(op.kernel)]
    pads = [
        (w.before, w.after) for w in windows(net.graph.nodes[0].shape, op.kernel, op.stride, op.dilation, op.padding)
    ]
    expected = convolve(
        torch.nn.functional.pad(torch.from_numpy(x).movedim(-1, 1), [n for pair in pads[::-1] for n in pair]),
        kernel.movedim((-1, -2), (0, 1)),
        stride=op.stride,
        dilation=op.dilation,
        groups=op.groups if isinstance(op, ops.Conv) else x.shape[-1],
    )
    (found,) = run_program(program, {"input": x}).values()
    np.testing.assert_allclose(found, expected.movedim(1, -1).numpy(), atol=1e-5)


@pytest.mark.parametrize("flavour", ["float", "int8", "edgetpu"])
@pytest.mark.parametrize("pool", ["globalpool", "globalpool(mode=max)", "avgpool(6x4, padding=valid) | flatten"])
def test_a_dense_layer_reads_the_one_place_of_a_pool_without_a_reshape(pool: str, flavour: Flavour) -> None:
    text = f"input 6x4x5\nrelu | {pool} | dense(3)"
    net = cnnc.load_text(text)
    weights = {node: {k: np.asarray(v) for k, v in own.items()} for node, own in net.init(seed=1).items()}
    program = lower(run(Model(net.graph, weights), INFERENCE), flavour).program
    assert "RESHAPE" not in kinds(program)
    x = np.random.default_rng(0).standard_normal((1, 6, 4, 5)).astype(np.float32)
    (found,) = run_program(program, {"input": x}).values()
    np.testing.assert_allclose(found, np.asarray(net.apply(weights, x)), rtol=0, atol=1e-5)


FLAT = {
    "of several places": "relu | flatten | dense(3)",
    "that something else reads": "x: relu | globalpool\na: x | dense(3)\nb: x | relu\noutput a, b",
    "that is an output": "x: relu | globalpool\ny: dense(3)\noutput x, y",
}


@pytest.mark.parametrize("features", FLAT)
def test_a_dense_layer_keeps_the_reshape_of_features(features: str) -> None:
    assert "RESHAPE" in kinds(lowered(f"input 6x4x5\n{FLAT[features]}", "edgetpu"))


@pytest.mark.parametrize(("others", "reshapes"), [("relu", 2), (" | ".join(["conv(3x3, 64)", "relu"] * 3), 0)])
def test_pictures_are_normalised_in_rows_where_the_network_is_small(others: str, reshapes: int) -> None:
    """Rows fill XNNPACK's registers; two operators more are for networks in which that counts."""
    text = f"input 32x32x3\nnormalize(imagenet) | conv(3x3, 8) | {others}"
    program = outline(cnnc.load_text(text).graph, "int8", "int8")
    assert kinds(program).count("RESHAPE") == reshapes
    assert kinds(lowered(text)).count("RESHAPE") == 2


@pytest.mark.parametrize("flavour", ["float", "int8", "edgetpu"])
@pytest.mark.parametrize("cls", OPS)
@CALM
@given(st.data())
def test_a_tensor_bears_the_name_of_the_node_whose_value_it_holds(
    flavour: Flavour, cls: type[Op], data: st.DataObject
) -> None:
    """`cnnc diff` and the activations find layers by these names."""
    case = data.draw(cases(cls))
    graph = graph_of(case)
    after = Node("after", ops.Tanh(), ("y",), graph["y"].shape)
    graph = Graph("two", (*graph.nodes, after), (("result", "after"),))
    program = lower(Model(graph, {"y": random_weights(case, 0)}), flavour).program
    written = {name for operator in program for name in operator.outputs}
    assert "y" in written or not any(operator.kind not in ("TANH", "RESHAPE") for operator in program)
