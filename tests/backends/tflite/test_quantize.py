"""int8 programs: scales as TFLite's specification has them, and no case of weights that breaks one on LiteRT."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import cnnc
from cnnc.backends import reference
from cnnc.backends.tflite.compile import Quantized, Settings, compile_float, compile_int8
from cnnc.backends.tflite.litert.execute import execute
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.quantization.fidelity import as_input
from cnnc.backends.tflite.quantization.scale_groups import MOVES, moved_inputs
from cnnc.backends.tflite.quantization.scales import affine, decode, encode, span, weight_scales
from cnnc.backends.tflite.random_weights import random_sample, random_weights
from cnnc.diagnostics import CnnError
from cnnc.ir.model import Model
from cnnc.tflite_file.conversion import is_conversion
from cnnc.tflite_file.program import File, Program
from cnnc.tflite_file.write import write_file
from tests.support.models import random_inputs, random_model
from tests.support.paths import SHARED
from tests.support.spec_texts import Random, random_specs
from tests.support.tflite_programs import run_litert

pytest.importorskip("ai_edge_litert")
CALM = list(HealthCheck)
PLAIN = Settings(method="minmax")
Arrays = dict[str, Any]


def run_program(program: Program, inputs: Arrays) -> Arrays:
    with execute(program) as infer:
        named = zip(program.inputs, program.input_names, strict=True)
        found = infer({tensor: as_input(program[tensor], inputs[name]) for tensor, name in named})
        return {name: np.array(found[name]) for name in program.outputs}


def compiled(
    text: str, seed: int = 0, *, flavour: Flavour = "int8", settings: Settings = PLAIN, count: int = 4
) -> tuple[Model, Quantized, list[Arrays]]:
    """A spec's text with conditioned random weights, its int8 program, and the samples that its ranges are from."""
    graph = cnnc.load_text(text).graph
    model = Model(graph, random_weights(graph, seed))
    samples = [random_sample(graph, i) for i in range(count)]
    return model, compile_int8(model, samples, settings, flavour), samples


# Whole networks


def assert_runs_on_litert(spec: Random, seed: int) -> None:
    """With weights of every kind the float program gives what the reference does, and the int8 ones run."""
    graph = cnnc.load_text(spec.text).graph
    model = random_model(graph, seed, np.float32)
    samples = [{name: _narrow(x) for name, x in random_inputs(graph, s, 1).items()} for s in range(4)]
    wide = {node: {short: np.float64(x) for short, x in own.items()} for node, own in model.weights.items()}
    expected = reference.run(graph, wide, samples[3])
    exact = compile_float(model)
    found = run_program(exact, samples[3])
    for tensor, (_, name) in zip(exact.outputs, graph.outputs, strict=True):
        size = max(1e-3, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(found[tensor], expected[name], rtol=0, atol=1e-4 * size, err_msg=spec.text)
    for flavour in ("int8", "edgetpu"):
        program = compile_int8(model, samples[:3], PLAIN, flavour).program
        for name, value in run_program(program, samples[3]).items():
            assert value.shape == program[name].shape, spec.text


def _narrow(x: Any) -> Any:
    return x.astype(np.float32 if x.dtype.kind == "f" else np.int32)


@settings(max_examples=15, deadline=None, suppress_health_check=CALM)
@given(random_specs(), st.integers(0, 100))
def test_random_networks_run_on_litert(spec: Random, seed: int) -> None:
    assert_runs_on_litert(spec, seed)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=CALM, phases=[Phase.generate])
@given(random_specs(), st.integers(0, 100))
def test_a_thousand_random_networks_run_on_litert(spec: Random, seed: int) -> None:
    assert_runs_on_litert(spec, seed)


NETWORK = """
input 16x16x3
normalize(mean=127, std=128)
conv(3, 8, stride=2) | bn | relu6
add { depthwise(3) | bn | swish | conv(1, 8) | bn
      identity }
relu
concat { maxpool(2)
         avgpool(2) | conv(1, 4) | sigmoid }
globalpool | dense(5) | softmax
"""


def test_the_same_input_gives_the_same_bytes() -> None:
    first, second = (write_file(File((compiled(NETWORK, settings=Settings())[1].program,))) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("flavour", ["int8", "edgetpu"])
def test_nothing_is_float_where_all_has_an_int8_form(flavour: Flavour) -> None:
    program = compiled(NETWORK, flavour=flavour)[1].program
    assert {tensor.type for tensor in program.tensors.values()} == {"INT8", "INT32"}


@pytest.mark.parametrize(("io", "type"), [("int8", "INT8"), ("uint8", "UINT8"), ("float32", "FLOAT32")])
def test_the_ends_have_the_type_that_is_asked_for(io: Any, type: str) -> None:
    model, quantized, samples = compiled(NETWORK, settings=Settings(io, "minmax"))
    program = quantized.program
    assert {program[name].type for name in (*program.inputs, *program.outputs)} == {type}
    plain = compile_int8(model, samples, PLAIN).program
    (one,), (other,) = (run_program(p, samples[0]).values() for p in (program, plain))
    code = {"int8": other, "uint8": other.astype(int) + 128, "float32": (other.astype(float) + 128) / 256}[io]
    np.testing.assert_allclose(one, code, atol=1e-6)


def test_pixels_go_in_as_they_are_and_the_scale_holds_the_normalisation() -> None:
    program = compiled(NETWORK)[1].program
    found = program[program.inputs[0]].quantization
    assert found is not None
    assert found.scale == (1 / 128,)
    assert found.zero_point == (127 - 128,)
    assert program.operators[0].kind == "CONV_2D"


def test_a_mean_between_two_pixels_goes_into_the_biases() -> None:
    """normalize(symmetric) is (p - 127.5) / 127.5; a zero point is whole, and half a pixel is too much to lose."""
    text = "input 16x16x3\nnormalize(symmetric)\nconv(3, 8, padding=valid) | relu\nglobalpool | dense(4)"
    model, quantized, samples = compiled(text, count=16, settings=Settings("int8", "minmax", equalize=False))
    exact = compile_float(model)
    errors = []
    for sample in samples:
        program = quantized.program
        (codes,) = run_program(program, sample).values()
        found = program[program.outputs[0]].quantization
        assert found is not None
        (truth,) = run_program(exact, sample).values()
        errors.append((decode(codes, found) - truth) / found.scale[0])
    # Without the half pixel each convolution's sum is off by half its weights' sum, about a step and all one way.
    assert abs(np.mean(errors)) < 0.5


# Scales


def test_what_only_moves_values_has_one_scale() -> None:
    program = compiled(NETWORK)[1].program
    for operator in program:
        if operator.kind in MOVES:
            tensors = [program[name] for name in (*moved_inputs(operator), *operator.outputs)]
            assert len({(t.quantization.scale, t.quantization.zero_point) for t in tensors if t.quantization}) == 1


def test_a_sigmoid_beside_wider_values_is_requantised_for_the_concatenation() -> None:
    """Logistic's scale is fixed at 1/256; to share it would cut the pool's values at 1."""
    program = compiled(NETWORK)[1].program
    concat = next(operator for operator in program if operator.kind == "CONCATENATION")
    gate = program.operators[program.producers[concat.inputs[1]]]
    assert is_conversion(program, gate)
    assert program.operators[program.producers[gate.inputs[0]]].kind == "LOGISTIC"


KERNELS = {"XNNPACK": {}, "built in": {"xnnpack": False}, "reference": {"reference": True}}


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    "ways",
    [
        ("normalize(mean=220.3, std=152)", "normalize(unit)"),  # ratios of 256ths and a half, which QUANTIZE gets wrong
        ("normalize(mean=174.3, std=128)", "normalize(unit)"),
        ("normalize(unit)", "normalize(mean=64, std=254)"),
        ("normalize(symmetric)", "normalize(mean=30, std=41)"),
        ("normalize(unit) | tanh", "normalize(mean=100, std=20) | sigmoid"),
    ],
)
def test_another_scale_for_a_concatenation_costs_half_a_step(ways: tuple[str, str], kernels: str) -> None:
    graph = cnnc.load_text(f"input a 16x16x1\ninput b 16x16x1\nx: a | {ways[0]}\ny: b | {ways[1]}\nconcat(x, y)").graph
    every = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    program = compile_int8(Model(graph, {}), [{"a": every, "b": every}], PLAIN).program
    joint = program[program.outputs[0]].quantization
    assert joint is not None
    changed = [op for op in program if is_conversion(program, op)]
    assert changed
    for operator in changed:
        read, written = (program[name] for name in (operator.inputs[0], operator.outputs[0]))
        assert read.quantization is not None
        assert written.quantization == joint
        codes = every.astype(np.int64) - 128
        tensors = {name: program[name] for name in (*operator.inputs, *operator.outputs)}
        part = Program("main", tensors, (operator,), (read.name,), (written.name,))
        (found,) = run_litert(part, {read.name: codes.astype(np.int8)}, **KERNELS[kernels]).values()
        exact = decode(codes, read.quantization) / joint.scale[0] + joint.zero_point[0]
        errors = found - np.clip(exact, -128, 127)
        assert np.abs(errors).max() <= 0.51
        if kernels == "XNNPACK":
            assert abs(errors.mean()) <= 0.02


def test_softmax_and_sigmoid_have_the_scale_of_the_specification() -> None:
    program = compiled(NETWORK)[1].program
    for operator in program:
        if operator.kind in ("SOFTMAX", "LOGISTIC"):
            found = program[operator.outputs[0]].quantization
            assert found is not None
            assert (found.scale, found.zero_point) == ((1 / 256,), (-128,))


def test_convolutions_have_a_scale_a_filter_and_dense_layers_one() -> None:
    program = compiled(NETWORK)[1].program
    for operator in program:
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            x, kernel, bias = (program[name] for name in operator.inputs)
            assert kernel.quantization is not None
            assert bias.quantization is not None
            assert x.quantization is not None
            assert kernel.quantization.per_channel == (operator.kind != "FULLY_CONNECTED")
            np.testing.assert_allclose(
                bias.quantization.scale, x.quantization.scale[0] * np.array(kernel.quantization.scale), rtol=1e-6
            )


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_a_range_holds_its_ends_and_zero_exactly(one: float, other: float) -> None:
    low, high = min(one, other), max(one, other)
    found = affine(low, high)
    step = found.scale[0]
    assert step > 0
    first, last = span(found)
    assert first - step <= min(low, 0)
    assert max(high, 0) <= last + step
    assert decode(encode(np.zeros(1), found), found) == 0


@pytest.mark.parametrize("constant", [0.0, 1e-12, -1e-9])
def test_a_range_of_nothing_gets_a_scale_that_compilers_take(constant: float) -> None:
    assert affine(constant, constant).scale == (float(np.float32(1 / 255)),)


def test_a_filter_of_tiny_weights_keeps_its_bias() -> None:
    """Bias / (input scale * weight scale) would not fit 32 bits, unless the weight scale is widened."""
    kernel = np.full((1, 1, 1, 4), 1e-12)
    found = weight_scales(kernel, np.array([5.0]), 0.01, 0.1, 0)
    # Half of what 32 bits hold, so that the products have room.
    assert 5.0 / (0.01 * found.scale[0]) == pytest.approx(2**30)


def test_a_dead_filter_has_a_scale_above_zero() -> None:
    found = weight_scales(np.zeros((2, 1, 1, 4)), np.zeros(2), 0.01, 0.1, 0)
    assert all(scale > 0 for scale in found.scale)


# Float islands


ISLAND = "input 8x8x4\nconv(3, 8) | lrn | relu | flatten | dense(3) | softmax"


def test_what_has_no_int8_form_is_a_float_island_and_is_named() -> None:
    _, quantized, _ = compiled(ISLAND)
    program = quantized.program
    assert quantized.islands == ("lrn1",)  # the activation is of it
    types = {operator.kind: program[operator.outputs[0]].type for operator in program}
    assert types["LOCAL_RESPONSE_NORMALIZATION"] == "FLOAT32"
    assert types["FULLY_CONNECTED"] == "INT8"
    kinds = [operator.kind for operator in program]
    assert kinds.index("DEQUANTIZE") < kinds.index("LOCAL_RESPONSE_NORMALIZATION") < kinds.index("QUANTIZE")


# Choosing


def test_the_best_candidate_is_taken_and_all_are_told() -> None:
    _, quantized, _ = compiled(NETWORK, settings=Settings())
    figures = [candidate.sqnr for candidate in quantized.candidates]
    assert figures == sorted(figures, key=lambda figure: -(figure or 0))
    assert {candidate.method for candidate in quantized.candidates} == {"minmax", "percentile", "mse", "entropy"}
    assert any(not candidate.correct_biases for candidate in quantized.candidates)


@pytest.mark.parametrize("groups", [1, pytest.param(4, marks=pytest.mark.fault("Q4"))])
def test_corrected_biases_take_back_what_rounding_adds_on_average(groups: int) -> None:
    conv = f"conv(3, 32, padding=valid, groups={groups})"
    text = f"input 8x8x16\n{conv} | relu | {conv} | relu | globalpool | dense(8)"
    graph = cnnc.load_text(text).graph
    model = Model(graph, random_weights(graph, 0))
    samples = [{k: np.abs(v) for k, v in random_sample(graph, i).items()} for i in range(16)]
    found = {}
    for correct in (True, False):
        search = Settings("int8", "minmax", correct_biases=correct)
        quantized = compile_int8(model, samples, search)
        exact, program = compile_float(model), quantized.program
        output = program[program.outputs[0]].quantization
        assert output is not None
        errors = [
            decode(run_program(program, sample)[program.outputs[0]], output)
            - run_program(exact, sample)[exact.outputs[0]]
            for sample in samples
        ]
        found[correct] = float(np.abs(np.mean(errors, axis=0)).mean())
    assert found[True] < found[False]


def test_no_samples_are_an_error() -> None:
    graph = cnnc.load_text(NETWORK).graph
    with pytest.raises(CnnError, match="0 samples"):
        compile_int8(Model(graph, random_weights(graph, 0)), [], PLAIN)


def with_weight(short: str, value: float, layer: str = "conv(3, 2)") -> Model:
    """A network of one layer with weights, of which some of the first output channel have a value."""
    graph = cnnc.load_text(f"input 4x4x1\nstem: {layer} | relu\nglobalpool").graph
    weights = {name: dict(own) for name, own in random_weights(graph, 0).items()}
    weights[graph.nodes[1].name][short][..., 0] = value
    return Model(graph, weights)


def test_a_network_that_is_not_finite_is_an_error_that_names_the_layer() -> None:
    model = with_weight("bias", 3e38)  # sixteen of which are too much for float32
    with pytest.raises(CnnError, match=r"`globalpool1` is not finite on calibration sample 1"):
        compile_int8(model, [random_sample(model.graph, 0)], PLAIN)


@pytest.mark.parametrize("layer", ["conv(3, 2)", "conv_transpose(2, 2)"])
@pytest.mark.parametrize(("short", "value"), [("kernel", np.nan), ("kernel", -np.inf), ("bias", -np.inf)])
def test_a_weight_that_is_not_finite_is_an_error_though_an_activation_hides_it(
    layer: str, short: str, value: float
) -> None:
    model = with_weight(short, value, layer)
    sample = {"input": np.ones((1, 4, 4, 1), np.float32)}
    with pytest.raises(CnnError, match=rf"weights of `stem\..*` are not finite: `stem\..*{short}`"):
        compile_int8(model, [sample], PLAIN)


# Versions


def test_versions_are_those_that_the_edge_tpu_compiler_knows() -> None:
    facts = SHARED / "edgetpu" / "ops.json"
    if not facts.is_file():
        pytest.skip("the facts on the Edge TPU are not beside the project")
    known = {
        entry["tflite_op"]: entry["op_versions"]["plain_int8_version"]
        for entry in json.loads(facts.read_text(encoding="utf-8"))["ops"]
        if entry["op_versions"]
    }
    text = """
    input 16x16x3
    conv(3, 8, groups=1) | relu6 | depthwise(3) | pad(1) | crop(1) | prelu
    add { mul { identity
                tanh }
          sigmoid }
    concat { maxpool(2)
             avgpool(2)
             resize(scale=2) | space_to_depth | conv(1, 8) | maxpool(2) }
    conv(3, 16, groups=2) | conv_transpose(3, 4, stride=2) | flatten | dense(10) | softmax
    """
    program = compiled(text, flavour="edgetpu")[1].program
    assert len({operator.kind for operator in program}) >= 17
    for operator in program:
        assert operator.version <= known[operator.kind], operator


@pytest.mark.fault("T")
def test_a_product_of_two_results_is_an_island_that_ends_with_it() -> None:
    _, quantized, _ = compiled("input 8x8\nkeys: dense(8)\nscores: matmul(input, keys | transpose)\ndense(3)")
    types = {operator.kind: quantized.program[operator.outputs[0]].type for operator in quantized.program}
    assert quantized.islands == ("scores",)
    assert types["BATCH_MATMUL"] == "FLOAT32"
