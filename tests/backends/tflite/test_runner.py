"""TFLite files on LiteRT: what they are fed as real numbers, what comes out, and how long it takes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cnnc.backends.tflite.litert import runner as runtime
from cnnc.backends.tflite.litert.runner import dequantized, open_model, quantized
from cnnc.diagnostics import CnnError
from cnnc.evaluation.latency import _WARMING as WARMING
from cnnc.evaluation.latency import bench
from cnnc.tflite_file.program import File, Tensor
from cnnc.tflite_file.write import write_file
from tests.support.tflite_pictures import brightness, identity, write
from tests.support.tflite_programs import one_operator, run_litert, tensor


@pytest.mark.parametrize("seed", range(3))
def test_a_runner_says_what_litert_says_of_every_example(seed: int) -> None:
    program = brightness()
    pictures = np.random.default_rng(seed).uniform(0, 255, (5, 8, 8, 3)).astype(np.float32)
    found = open_model(write_file(File((program,))))({"picture": pictures})["class"]
    assert found.shape == (5, 2)
    for picture, row in zip(pictures, found, strict=True):
        plain = replace(program, input_names=(), output_names=())
        np.testing.assert_allclose(row, run_litert(plain, {"image": picture[None]})["shares"][0], atol=1e-6)


def test_real_numbers_are_quantised_and_come_back_dequantised() -> None:
    runner = open_model(write_file(File((identity("INT8", 0.5, -3),))))
    real = np.array([-100, -1, -0.25, -0.24, 0, 0.24, 0.25, 0.5, 0.75, 1, 60, 1000], np.float32).reshape(1, 2, 2, 3)
    codes = np.array([[-128, -5, -4, -3, -3, -3, -2, -2, -1, -1, 117, 127]], np.int8)
    np.testing.assert_array_equal(runner.raw({"x": real})["y"], codes)
    np.testing.assert_array_equal(runner({"x": real})["y"], (codes.astype(np.float32) + 3) * 0.5)
    np.testing.assert_array_equal(runner.raw({"x": codes.reshape(1, 2, 2, 3)})["y"], codes)


def test_quantisation_is_litert_s_own() -> None:
    real = np.random.default_rng(0).normal(0, 3, (1, 500)).astype(np.float32)
    out = tensor("y", (1, 500), "INT8", 0.037, 5)
    theirs = run_litert(one_operator("QUANTIZE", [tensor("x", (1, 500))], out), {"x": real}, xnnpack=False)["y"]
    np.testing.assert_array_equal(quantized(out, real), theirs)
    back = run_litert(one_operator("DEQUANTIZE", [out], tensor("z", (1, 500))), {"y": theirs}, xnnpack=False)["z"]
    np.testing.assert_allclose(dequantized(out, theirs), back, rtol=1e-6)  # its kernel multiplies before it subtracts


def test_every_tensor_can_be_looked_at() -> None:
    runner = open_model(write_file(File((brightness(),))), all_tensors=True)
    pictures = np.stack([np.full((8, 8, 3), level, np.float32) for level in (0, 128, 255)])
    found = runner.tensors({"picture": pictures}, ["mean", "logits"])
    np.testing.assert_allclose(found["mean"].reshape(3, 3), np.repeat([[0.0], [128.0], [255.0]], 3, axis=1))
    np.testing.assert_allclose(found["logits"][1], 0, atol=1e-5)


def test_an_example_of_another_size_is_refused() -> None:
    runner = open_model(write_file(File((brightness(),))))
    with pytest.raises(CnnError, match=r"takes examples of \[8, 8, 3\], found \[9, 8, 3\]"):
        runner({"picture": np.zeros((1, 9, 8, 3), np.float32)})
    assert runner({"picture": np.zeros((2, 192), np.float32)})["class"].shape == (2, 2)


def test_litert_s_chatter_is_kept_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    open_model(write_file(File((brightness(),)))).raw({"picture": np.zeros((1, 8, 8, 3), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_latencies_are_in_order_and_to_the_first(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.tflite", brightness()) for i in range(2)]
    first, second = bench(paths, 20, threads=1)
    assert (first.model, second.model) == tuple(paths)
    assert 0 < first.low <= first.median <= first.high
    assert first.ratio == 1
    assert second.ratio == pytest.approx(second.median / first.median)


def test_latencies_are_of_the_runs_in_milliseconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([9.0] * WARMING + [0.004, 0.002, 0.003, 0.001, 0.005])
    monkeypatch.setattr("cnnc.backends.tflite.litert.runner.Runner.time", lambda runner: next(seconds))
    (found,) = bench([write(tmp_path / "model.tflite", brightness())], 5)
    assert (found.low, found.median, found.high) == pytest.approx((1.4, 3, 4.6))


@pytest.mark.parametrize("kind", ["UINT8", "INT8", "FLOAT32", "INT32"])
def test_every_kind_of_input_can_be_timed(kind: str) -> None:
    runner = open_model(write_file(File((identity(kind),))))
    runner.fill()
    assert runner.time() > 0


def test_a_size_that_changes_is_refused() -> None:
    program = identity("FLOAT32")
    tensors: dict[str, Tensor] = {**program.tensors, "x": replace(program["x"], signature=(1, -1, -1, 3))}
    with pytest.raises(CnnError, match=r"has no fixed size: \[1, -1, -1, 3\]"):
        runtime._require_runnable(replace(program, tensors=tensors), "m.tflite")
    batch = {**tensors, "x": replace(program["x"], signature=(-1, 2, 2, 3))}
    runtime._require_runnable(replace(program, tensors=batch), "m.tflite")


def test_a_graph_without_outputs_is_refused() -> None:
    with pytest.raises(CnnError, match="`<bytes>` has no output"):
        open_model(write_file(File((replace(brightness(), outputs=(), output_names=()),))))


def test_a_scale_of_0_is_refused() -> None:
    with pytest.raises(CnnError, match="the tensor `x` of `<bytes>` has a scale of 0"):
        open_model(write_file(File((identity("INT8", 0.0),))))


@pytest.mark.parametrize("shape", [(1, 0, 2, 3), (0,)])
def test_an_input_that_holds_nothing_is_refused(shape: tuple[int, ...]) -> None:
    program = one_operator("RELU", [tensor("x", shape)], tensor("y", shape))
    with pytest.raises(CnnError, match=r"the input `x` of `<bytes>` has no fixed size"):
        open_model(write_file(File((program,))))


@pytest.mark.fault("S3")
def test_complex_numbers_are_refused() -> None:
    model = open_model(
        write_file(File((one_operator("CAST", [tensor("x", (1, 4))], tensor("y", (1, 4), "COMPLEX64")),)))
    )
    with pytest.raises(CnnError, match="`y` holds complex numbers, and real ones are wanted"):
        model({"x": np.zeros((1, 4), np.float32)})
