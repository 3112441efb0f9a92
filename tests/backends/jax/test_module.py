"""The module that `source` writes, with functions of `portable`: what it computes, what it imports, how it reads."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc import ops, specs
from cnnc.backends import reference
from cnnc.backends.jax.export.module import write_module
from cnnc.backends.jax.export.module_functions import channel_shuffle
from cnnc.backends.jax.export.op_calls import term
from cnnc.diagnostics import CnnError
from cnnc.ir import Graph
from cnnc.net import Net
from cnnc.ops import Op
from tests.support.networks import Builder, sequential
from tests.support.spec_texts import Random, random_specs
from tests.support.strategies import Case, cases, random_inputs, random_weights
from tests.support.zoo import samples, small

QUICK = {"xla_backend_optimization_level": 0}
COMPUTED = [op for op in Op.__subclasses__() if op is not ops.Input]
SPECS = [*specs.names(), "resnet_cifar", "resnet18", "alphazero_small"]
calm = settings(max_examples=2, suppress_health_check=list(HealthCheck))
thorough = settings(max_examples=30, derandomize=False, suppress_health_check=list(HealthCheck))
seeds = st.integers(0, 2**32 - 1)


def module_of(graph: Graph, **options: Any) -> Any:
    """The written module, run."""
    module = ModuleType("written")
    exec(compile(write_module(graph, **options), "written.py", "exec"), vars(module))
    return module


def evaluate(graph: Graph, weights: Any, inputs: Any) -> dict[str, Any]:
    """What the written module makes of a batch, by the outputs' names, in float64."""
    module = module_of(graph)
    parameters = list(ast.parse(write_module(graph)).body)
    (apply,) = (each for each in parameters if isinstance(each, ast.FunctionDef) and each.name == "apply")
    names = [argument.arg for argument in apply.args.kwonlyargs]
    arrays = list(inputs.values())
    with jax.enable_x64(True):
        compiled = jax.jit(module.apply, compiler_options=QUICK)
        found = compiled(weights, **dict(zip(names, arrays, strict=True))) if names else compiled(weights, *arrays)
    labels = [label for label, _ in graph.outputs]
    assert isinstance(found, dict) == (len(labels) > 1)
    return dict(found) if isinstance(found, dict) else {labels[0]: found}


def assert_agrees(graph: Graph, weights: Any, inputs: Any) -> None:
    found = evaluate(graph, weights, inputs)
    expected = reference.run(graph, weights, inputs)
    assert found.keys() == {label for label, _ in graph.outputs}
    for label, name in graph.outputs:
        np.testing.assert_allclose(found[label], expected[name], rtol=1e-7, atol=1e-9)


def assert_case_agrees(case: Case, seed: int) -> None:
    builder = Builder()
    dtype = "int" if isinstance(case.op, ops.Embedding) else "float"
    names = [builder.input(f"in{place}", shape, dtype) for place, shape in enumerate(case.shapes)]
    builder.add("layer", case.op, *names)
    inputs = dict(zip(names, random_inputs(case, seed), strict=True))
    assert_agrees(builder.net(output="layer").graph, {"layer": random_weights(case, seed)}, inputs)


def assert_net_agrees(net: Net, batch: int = 2) -> None:
    rng = np.random.default_rng(0)
    weights = jax.tree.map(np.float64, net.init(0))
    inputs: dict[str, Any] = {
        node.name: rng.integers(2, size=(batch, *node.shape))
        if isinstance(node.op, ops.Input) and node.op.dtype == "int"
        else rng.standard_normal((batch, *node.shape))
        for node in net.graph.inputs
    }
    assert_agrees(net.graph, weights, inputs)


@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
def test_every_operator_is_written(cls: type[Op]) -> None:
    assert term.dispatch(cls) is not term.dispatch(Op)


@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
@given(data=st.data(), seed=seeds)
@calm
def test_a_written_layer_is_the_reference(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_case_agrees(data.draw(cases(cls)), seed)


@pytest.mark.slow
@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
@given(data=st.data(), seed=seeds)
@thorough
def test_a_written_layer_is_the_reference_at_length(cls: type[Op], data: st.DataObject, seed: int) -> None:
    assert_case_agrees(data.draw(cases(cls)), seed)


@given(random_specs())
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_a_written_network_is_the_reference(spec: Random) -> None:
    assert_net_agrees(cnnc.load_text(spec.text))


@pytest.mark.slow
@given(random_specs())
@settings(max_examples=400, derandomize=False, suppress_health_check=list(HealthCheck))
def test_many_written_networks_are_the_reference(spec: Random) -> None:
    assert_net_agrees(cnnc.load_text(spec.text))


@pytest.mark.parametrize("name", ["mnist_cnn", "resnet_cifar"])
def test_a_written_spec_gives_what_the_backend_gives(name: str) -> None:
    assert_gives_what_the_backend_gives(cnnc.load(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", SPECS)
def test_every_written_spec_gives_what_the_backend_gives(name: str) -> None:
    assert_gives_what_the_backend_gives(small(name))


def assert_gives_what_the_backend_gives(net: Net) -> None:
    weights, inputs = net.init(0), samples(net, 1)
    module = module_of(net.graph)
    named = {"global": "global_"}
    given = {named.get(name, name): x for name, x in inputs.items()}
    found = module.apply(weights, **given) if len(given) > 1 else module.apply(weights, *given.values())
    expected = net.apply(weights, inputs)
    for mine, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["mnist_cnn", "efficientnet", "alphazero", "astronet"])
def test_init_makes_the_arrays_that_the_graph_declares(name: str) -> None:
    graph = cnnc.load(name).graph
    made = jax.eval_shape(module_of(graph).init, jax.random.key(0))
    declared = {node.name: graph.weights(node) for node in graph if graph.weights(node)}
    assert made.keys() == declared.keys()
    for layer, arrays in made.items():
        assert {short: array.shape for short, array in arrays.items()} == {
            short: weight.shape for short, weight in declared[layer].items()
        }
        assert {array.dtype for array in arrays.values()} == {np.dtype(np.float32)}


INITIALIZERS = ("he_normal", "he_uniform", "glorot_normal", "glorot_uniform", "lecun_normal", "normal")


@pytest.mark.parametrize("init", INITIALIZERS)
def test_init_draws_as_the_backend_does(init: Any) -> None:
    net = sequential((16, 16, 32), ops.Conv((3, 3), 64, init=init), ops.Prelu(), ops.BatchNorm())
    drawn = module_of(net.graph).init(jax.random.key(1))
    expected = net.init(1)
    for mine, theirs in zip(jax.tree.leaves(drawn), jax.tree.leaves(expected), strict=True):
        assert mine.std() == pytest.approx(float(theirs.std()), rel=0.03)
        assert mine.mean() == pytest.approx(float(theirs.mean()), abs=0.01)
        # A normal variable goes well beyond three deviations, a uniform one not beyond the square root of three.
        assert abs(mine).max() == pytest.approx(float(abs(theirs).max()), rel=0.3)


def test_a_module_imports_jax_alone() -> None:
    for name in ("mnist_cnn", "efficientnet"):
        text = write_module(cnnc.load(name).graph)
        imports = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]
        found = {
            name.partition(".")[0]
            for node in imports
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
        }
        assert found == {"jax"}


def test_a_module_runs_where_cnnc_is_not(tmp_path: Path) -> None:
    (tmp_path / "network.py").write_text(write_module(cnnc.load("mlp").graph))
    script = (
        "import sys, jax, network\n"
        "print(network.apply(network.init(jax.random.key(0)), jax.numpy.zeros((2, 28, 28, 1))).shape)\n"
        "assert 'cnnc' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout == "(2, 10)\n"


def test_modules_are_formatted_and_have_nothing_unused(tmp_path: Path) -> None:
    for name in SPECS:
        (tmp_path / f"{name}.py").write_text(write_module(cnnc.load(name).graph, weights_file="weights.safetensors"))
    for command in (["format", "--check"], ["check", "--select=E,F,W,I,UP,B,D", "--ignore=D2,D4,E741"]):
        run = [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "--target-version=py311", "."]
        done = subprocess.run(run, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr


@given(random_specs())
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
def test_the_module_of_a_random_network_is_formatted(spec: Random) -> None:
    assert_formatted(write_module(cnnc.load_text(spec.text).graph))


@pytest.mark.parametrize("cls", COMPUTED, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=1, suppress_health_check=list(HealthCheck))
def test_the_module_of_a_layer_is_formatted(cls: type[Op], data: st.DataObject) -> None:
    case = data.draw(cases(cls))
    builder = Builder()
    names = [builder.input(f"a_rather_long_name_of_an_input_{place}", shape) for place, shape in enumerate(case.shapes)]
    builder.add("a_rather_long_name_of_a_layer", case.op, *names)
    assert_formatted(write_module(builder.net(output="a_rather_long_name_of_a_layer").graph))


def assert_formatted(text: str) -> None:
    run = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "-"]
    done = subprocess.run(run, capture_output=True, text=True, input=text)
    assert done.returncode == 0, done.stdout + done.stderr


def test_forty_alike_blocks_are_one_function_and_a_loop() -> None:
    text = write_module(cnnc.load("alphazero").graph)
    assert text.count("def residual_block(") == 1
    assert '    for i in range(40):\n        x = residual_block(params, f"trunk.residual1.{i}", x)' in text
    assert "    trunk = x\n" in text
    assert '    return {"policy": policy, "value": value}\n' in text
    assert len(text.splitlines()) < 200


@pytest.mark.parametrize(("turns", "is_loop"), [(2, False), (3, True)])
def test_three_alike_blocks_are_a_loop_and_two_are_not(turns: int, is_loop: bool) -> None:
    text = write_module(cnnc.load_text(f"input 8x8x4\nbody: {turns} x residual(4)\n").graph)
    assert text.count("= body_block(params") == (1 if is_loop else turns)


def test_a_network_with_words_of_python_as_labels_is_written() -> None:
    text = """
model words {
  input lambda 8x8x3
  input jax 8x8x3
  flatten_: lambda | conv(3x3, 4)
  params: jax | conv(3x3, 4)
  apply: add(flatten_, params) | relu
  x: apply | conv(1x1, 4)
  y: concat(x, apply) | flatten | dense(3)
  output y, x
}
"""
    assert_net_agrees(cnnc.load_text(text))


@pytest.mark.parametrize("name", ["w.safetensors", 'of """all""" and \\.safetensors'])
def test_the_file_of_weights_stands_in_the_description(name: str) -> None:
    text = write_module(sequential((4,), ops.Dense(2)).graph, weights_file=name)
    description = ast.get_docstring(ast.parse(text))
    assert description is not None
    assert f'load_file("{name}")' in description


def test_the_description_shows_how_the_inputs_are_given() -> None:
    one = write_module(cnnc.load_text("input 4\ndense(2)").graph)
    two = write_module(cnnc.load_text("input left 4\ninput right 4\nadd(left, right) | dense(2)").graph)
    assert "output = apply(params, x)" in (ast.get_docstring(ast.parse(one)) or "")
    assert "output = apply(params, left=left, right=right)" in (ast.get_docstring(ast.parse(two)) or "")


def test_shuffled_channels_take_turns() -> None:
    assert channel_shuffle(jnp.arange(6.0)[None], 2)[0].tolist() == [0, 3, 1, 4, 2, 5]


def test_an_operator_that_is_not_written_is_named() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnc.backends.jax.export.module_body.term", term.dispatch(Op))
        with pytest.raises(CnnError) as caught:
            write_module(sequential((4,), ops.Relu()).graph)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "backend"
    assert diagnostic.message == "the target `jax` has no operator `relu`, which `relu0` needs"
