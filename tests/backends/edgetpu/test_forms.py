"""What is written otherwise for the Edge TPU: it is mapped, and computes to the bit what LiteRT computes elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

import cnnc
from cnnc.backends.edgetpu.prediction import check
from cnnc.backends.tflite.compile import Settings, compile_int8
from cnnc.backends.tflite.lowering.lowering_site import Flavour
from cnnc.backends.tflite.structure import outline
from cnnc.ir.model import Model
from cnnc.net import Net
from cnnc.tflite_file.program import File, Program
from tests.support.tflite_programs import Array, run_litert

pytest.importorskip("ai_edge_litert")

ASPP = """
model aspp {
  input 17x17x8
  x: conv(3, 8) | relu
  near: x | conv(1, 4) | relu
  whole: x | avgpool(17) | conv(1, 4) | relu | resize(size=17x17, method=METHOD)
  concat(near, whole) | conv(1, 4)
}
"""
"""The image pooling of DeepLab v3 (Chen et al. 2017, figure 5), small."""
DILATED = "model signal {\n  input 32x8\n  conv(3, 16, dilation=2) | relu\n}\n"
UNLIKE = "model unlike {\n  input 12x12x4\n  conv(3x3, 6, dilation=2x1) | relu | depthwise(3x3, dilation=1x2)\n}\n"
FORMS = {
    "resize of one pixel, bilinear": pytest.param(ASPP.replace("METHOD", "bilinear"), marks=pytest.mark.fault("Q12")),
    "resize of one pixel, nearest": pytest.param(ASPP.replace("METHOD", "nearest"), marks=pytest.mark.fault("Q12")),
    "dilated signal": pytest.param(DILATED, marks=pytest.mark.fault("Q6")),
    "unlike dilations": pytest.param(UNLIKE, marks=pytest.mark.fault("Q6")),
}
forms = pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())


@forms
def test_all_of_it_is_mapped(text: str) -> None:
    report = check(File((outline(cnnc.load_text(text).graph),)))
    assert report.compiles
    assert all(verdict.mapped for verdict in report.operators)
    assert report.mapped["unknown"] == 0


@forms
def test_the_bits_are_those_of_any_litert(text: str) -> None:
    net, samples = cnnc.load_text(text), np.random.default_rng(0).standard_normal
    given = [{"input": samples((1, *net.graph.inputs[0].shape)).astype(np.float32)} for _ in range(2)]
    own, other = (compiled(net, given, flavour) for flavour in ("edgetpu", "int8"))
    codes = np.random.default_rng(1).integers(-128, 128, own[own.inputs[0]].shape, np.int8)
    (found,), (expected,) = (run_litert(each, {"input": codes}, xnnpack=False).values() for each in (own, other))
    assert len(np.unique(found)) > 20
    np.testing.assert_array_equal(found, expected)


def compiled(net: Net, samples: Sequence[dict[str, Array]], flavour: Flavour) -> Program:
    settings = Settings(method="minmax", correct_biases=False, equalize=False)
    return compile_int8(Model(net.graph, net.init(0)), samples, settings, flavour).program
