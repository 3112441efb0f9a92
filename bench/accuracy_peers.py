"""int8 files by other quantisers, of a network that cnnc knows: the part of `accuracy.py` that needs TensorFlow.

    KERAS_BACKEND=tensorflow python -m bench.accuracy_peers RUN|SPEC PICTURES.npz --out DIR [--weights FILE]

The network becomes a Keras model that takes pixels of 0 to 255. TensorFlow's converter makes `tensorflow` of it, all
int8, and a float file, which ai-edge-quantizer turns into `ai_edge_quantizer` by its recipe for static int8 weights and
activations; it averages the pictures' ranges, where TensorFlow takes their union. PICTURES.npz holds the calibration
pictures `(count, height, width, channels)`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from bench.accuracy import PEERS
from cnnc.backends.keras.build import build
from cnnc.runs.trained import open_trained

Array = NDArray[Any]


def convert(model: Any) -> bytes:
    """The float file."""
    data: bytes = tf.lite.TFLiteConverter.from_keras_model(model).convert()
    return data


def by_tensorflow(model: Any, pictures: Array) -> bytes:
    def representative() -> Iterator[list[Array]]:
        for picture in pictures:
            yield [picture[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    data: bytes = converter.convert()
    return data


def by_ai_edge_quantizer(exact: Path, pictures: Array) -> bytes:
    quantizer, recipe = (import_module(f"ai_edge_quantizer.{name}") for name in ("quantizer", "recipe"))  # has no types
    interpreter = tf.lite.Interpreter(str(exact))
    (signature,) = interpreter.get_signature_list()
    (name,) = interpreter.get_signature_list()[signature]["inputs"]
    tool = quantizer.Quantizer(str(exact))
    tool.load_quantization_recipe(recipe.static_wi8_ai8())
    seen = tool.calibrate({signature: [{name: picture[None]} for picture in pictures]})
    data: bytes = bytes(tool.quantize(seen).quantized_model)
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description="int8 files by other quantisers")
    parser.add_argument("what", type=Path, metavar="RUN|SPEC")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--peers", nargs="+", choices=[*PEERS], default=[*PEERS])
    asked = parser.parse_args()
    trained = open_trained(asked.what, weights=asked.weights)
    pictures = np.load(asked.pictures)["pictures"].astype(np.float32)
    model = build(trained.net.graph, trained.weights)
    if "tensorflow" in asked.peers:
        (asked.out / "tensorflow.tflite").write_bytes(by_tensorflow(model, pictures))
    if "ai_edge_quantizer" in asked.peers:
        exact = asked.out / "tensorflow_float.tflite"
        exact.write_bytes(convert(model))
        (asked.out / "ai_edge_quantizer.tflite").write_bytes(by_ai_edge_quantizer(exact, pictures))


if __name__ == "__main__":
    main()
