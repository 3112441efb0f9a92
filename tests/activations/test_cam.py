"""Grad-CAM as in its equations, held to PyTorch; CAM of a TFLite file held to Grad-CAM; filters of the first layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import cnnc
from cnnc.activations.cam import cam, cam_tensor, grad_cam
from cnnc.activations.first_filters import first_filters
from cnnc.activations.input_picture import channels
from cnnc.activations.model_view import FileView, NetworkView, open_file, view_network
from cnnc.backends.tflite.compile import compile_float
from cnnc.backends.tflite.random_weights import random_weights
from cnnc.runs.trained import Trained
from cnnc.tflite_file.program import File
from cnnc.tflite_file.write import write_file
from tests.support.pictures import noise

FLAT = """\
model flat(classes=5) {
  input 12x12x3
  normalize(mean=128, std=64)
  body: conv(3x3, 6) | bn | relu | conv(3x3, 8, stride=2) | relu | maxpool(2x2)
  head: flatten | dense(classes) | softmax
}
"""
AVERAGED = """\
model averaged(classes=5) {
  input 12x12x3
  normalize(mean=128, std=64)
  body: conv(3x3, 6) | bn | relu | conv(3x3, 8, stride=2) | bn | relu
  head: globalpool | dense(classes) | softmax
}
"""


def network(text: str) -> NetworkView:
    net = cnnc.load_text(text)
    return view_network(Trained(net, random_weights(net.graph, 3)), net.name)


def test_grad_cam_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    net, picture = network(FLAT), noise(12, 12, 3)
    weights = net.trained.weights
    maps = torch.tensor(net.evaluate(picture, ["body.relu2"])["body.relu2"], requires_grad=True)
    pooled = torch.nn.functional.max_pool2d(maps.permute(2, 0, 1)[None], 2)
    kernel, bias = (torch.tensor(np.asarray(weights["head.dense1"][short])) for short in ("kernel", "bias"))
    scores = pooled[0].permute(1, 2, 0).reshape(-1) @ kernel + bias
    for index in (0, 3):
        (slopes,) = torch.autograd.grad(scores[index], maps, retain_graph=True)
        expected = torch.relu((maps * slopes.mean(dim=(0, 1))).sum(dim=-1)).detach().numpy()
        found = grad_cam(net, picture, index)
        assert found.layer == "body.relu2"  # the last map before the pool
        np.testing.assert_allclose(found.heat, expected, rtol=1e-4, atol=1e-5)
    assert grad_cam(net, picture, 0, "body.relu1").heat.shape == (12, 12)


def test_the_classes_of_a_single_sigmoid_have_opposite_scores() -> None:
    net = network(AVERAGED.replace("classes=5", "classes=1").replace("softmax", "sigmoid"))
    picture = noise(12, 12, 3)
    kernel = np.asarray(net.trained.weights["head.dense1"]["kernel"])[:, 0]
    maps = net.evaluate(picture, ["body.relu2"])["body.relu2"]
    for index, sign in ((0, -1), (1, 1)):
        expected = np.maximum(maps @ (sign * kernel) / 36, 0)
        np.testing.assert_allclose(grad_cam(net, picture, index).heat, expected, rtol=1e-4, atol=1e-6)


@pytest.fixture
def file(tmp_path: Path) -> FileView:
    net = network(AVERAGED)
    path = tmp_path / "averaged.tflite"
    path.write_bytes(write_file(File((compile_float(net.trained.model),))))
    return open_file(path, None)


def test_cam_of_a_file_is_grad_cam_times_the_places(file: FileView) -> None:
    picture = noise(12, 12, 3)
    name = cam_tensor(file)
    assert name == "body.relu2"
    values = file.evaluate(picture, [name])
    for index in (1, 4):
        expected = grad_cam(network(AVERAGED), picture, index).heat * 36
        np.testing.assert_allclose(cam(file, values, index).heat, expected, rtol=1e-3, atol=1e-3)


def test_a_file_that_flattens_has_no_cam(tmp_path: Path) -> None:
    net = network(FLAT)
    path = tmp_path / "flat.tflite"
    path.write_bytes(write_file(File((compile_float(net.trained.model),))))
    assert cam_tensor(open_file(path, None)) is None


def test_heat_over_a_picture_is_red_where_it_is_most(file: FileView) -> None:
    found = grad_cam(network(AVERAGED), noise(12, 12, 3), 0)
    heat: NDArray[Any] = np.zeros((6, 6), np.float32)
    heat[0, 0] = 1
    over = type(found)(found.method, found.layer, 0, heat).over(np.full((60, 60, 3), 128, np.uint8)).astype(int)
    assert over[2, 2, 0] > over[2, 2, 2] + 40
    np.testing.assert_array_equal(over[-1, -1], [128, 128, 128])
    cold = type(found)(found.method, found.layer, 0, np.zeros((6, 6), np.float32))
    np.testing.assert_array_equal(cold.over(np.full((9, 9, 3), 128, np.uint8)), 128)


def test_first_filters_of_a_network_and_its_file_agree(file: FileView) -> None:
    net = network(AVERAGED)
    found = first_filters(net)
    assert found is not None
    assert found.in_colour
    np.testing.assert_array_equal(found.kernel, net.trained.weights["body.conv1"]["kernel"])
    of_file = first_filters(file)
    assert of_file is not None
    assert of_file.in_colour
    # The file's have the batch norm's factors and the normalisation's in them.
    for i in range(6):
        a, b = found.kernel[..., i].ravel(), of_file.kernel[..., i].ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) > 0.999
    assert found.picture(300).shape[-1] == 4


def test_filters_and_channels_of_a_bgr_network_are_turned_round() -> None:
    text = "model caffe() {\n  input 8x8x3\n  bgr\n  normalize(caffe)\n  conv(3x3, 4) | relu\n}\n"
    net, picture = network(text), noise(8, 8, 3)
    found = first_filters(net)
    assert found is not None
    assert found.in_colour
    kernel = np.asarray(net.trained.weights["conv1"]["kernel"])
    np.testing.assert_array_equal(found.kernel, kernel[..., ::-1, :])
    seen = channels(net, picture)
    assert [each.name for each in seen] == ["blue", "green", "red"]
    assert seen[0].high == pytest.approx(float(picture[..., 2].max()) - 103.939, abs=1e-3)


def test_filters_of_other_inputs_are_blue_and_red() -> None:
    found = first_filters(network("input 8x8x1\nconv(3x3, 4) | relu\n"))
    assert found is not None
    assert not found.in_colour
    assert found.picture(200).shape[-1] == 4
    signal = first_filters(network("input 32x2\nconv(5, 4) | relu\n"))
    assert signal is not None
    assert signal.kernel.shape == (5, 2, 4)
    assert signal.picture(200).size
    assert first_filters(network("input 8\ndense(3)\n")) is None
