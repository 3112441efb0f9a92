"""Files made here on older interpreters: each bundled network, float and int8, beside the LiteRT of this environment.

    python bench/runtimes.py PYTHON [PYTHON ...] [--networks mnist_cnn ...]

Each PYTHON is an interpreter of an environment with `tflite_runtime` or `tensorflow`, such as TensorFlow 2.5 on Python
3.9, which is as old as the Edge TPU's own runtime. Prints the largest difference of the outputs, in steps for int8.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

CNNC = str(Path(sys.executable).with_name("cnnc"))
NETWORKS = (
    "mnist_cnn",
    "resnet_cifar",
    "mobilenet_v2",
    "resnet50",
    "efficientnet_b0",
    "densenet",
    "astronet",
    "voxnet",
)
TARGETS = {"tflite": (), "tflite-int8": (), "edgetpu": ("--allow-cpu",)}
RUN = """
import json, sys
import numpy as np
try:
    from ai_edge_litert.interpreter import Interpreter
    version = "LiteRT"
except ImportError:
    try:
        import tflite_runtime
        from tflite_runtime.interpreter import Interpreter
        version = "tflite-runtime " + tflite_runtime.__version__
    except ImportError:
        import tensorflow as tf
        Interpreter, version = tf.lite.Interpreter, "TensorFlow " + tf.__version__
found = {"version": version}
for path in sys.argv[1:]:
    interpreter = Interpreter(model_path=path)
    interpreter.allocate_tensors()
    for number, each in enumerate(interpreter.get_input_details()):
        pixels = np.random.RandomState(number).randint(0, 256, each["shape"])
        shift = 128 if each["dtype"] == np.int8 else 0
        interpreter.set_tensor(each["index"], (pixels - shift).astype(each["dtype"]))
    interpreter.invoke()
    outputs = [interpreter.get_tensor(each["index"]) for each in interpreter.get_output_details()]
    found[path] = np.concatenate([output.ravel().astype(float) for output in outputs]).tolist()
print(json.dumps(found))
"""


def outputs(python: str, files: list[str]) -> dict[str, list[float]]:
    """What an environment makes of each file; `version` names its interpreter."""
    done = subprocess.run([python, "-c", RUN, *files], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{python} failed: {done.stderr[-500:]}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="compiled files on older interpreters")
    parser.add_argument("pythons", nargs="+")
    parser.add_argument("--networks", nargs="+", default=[*NETWORKS])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for network in asked.networks:
            for target, more in TARGETS.items():
                place = str(Path(folder) / f"{network}.{target}.tflite")
                common = ["--random-weights", "--samples", "4", "--ranges", "minmax", "--target", target]
                subprocess.run([CNNC, "compile", network, *common, *more, "-o", place], check=True, capture_output=True)
                files.append(place)
        expected = outputs(sys.executable, files)
        print("| file | interpreter | largest difference | largest value |")
        print("|---|---|---|---|")
        for python in asked.pythons:
            found = outputs(python, files)
            for place in files:
                pairs = list(zip(found[place], expected[place], strict=True))
                worst = max(abs(one - other) for one, other in pairs)
                largest = max(abs(other) for _, other in pairs)
                print(f"| {Path(place).stem} | {found['version']} | {worst:.3g} | {largest:.3g} |")


if __name__ == "__main__":
    main()
