"""`cnnc compile` beside TensorFlow's converter: whole processes, interleaved; then both files' latency on LiteRT.

    python bench/tflite.py PEERS [--rounds 3] [--samples 20] [--networks mobilenet_v2 ...]

PEERS is the folder with `peer_tflite.py` (a Keras application through `tf.lite.TFLiteConverter`, in one process) and
`peer_latency.py`. Keras's ResNet-50 is not the bundled one: its spec is `resnet50_v1.cnn` beside this file. Both
sides get random weights and as many random calibration pictures. Prints a Markdown table: medians of wall time and of
peak memory, ratios of the medians, sizes, and the ratio of median latencies.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

CNNC = str(Path(sys.executable).with_name("cnnc"))
NETWORKS = {
    "mobilenet_v2": "MobileNetV2",
    "efficientnet_b0": "EfficientNetB0",
    "resnet50_v1": "ResNet50",
    "densenet121": "DenseNet121",
}


def timed(command: list[str]) -> tuple[float, int]:
    """Wall seconds and peak memory in MiB of a process and its children."""
    start = time.perf_counter()
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        process = subprocess.Popen(command, stdout=nothing, stderr=nothing)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"failed with {process.returncode}: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss // 1024


def measure(network: str, peer: str, peers: Path, folder: Path, rounds: int, samples: int) -> dict[str, Any]:
    ours, theirs = folder / f"{network}.tflite", folder / f"{peer}.tflite"
    spec = Path(__file__).with_name(f"{network}.cnn")
    cnnc = [CNNC, "compile", str(spec) if spec.is_file() else network, "--random-weights", "--target", "tflite-int8"]
    commands = {
        "cnnc": [*cnnc, "--samples", str(samples), "-o", str(ours)],
        "tensorflow": [sys.executable, str(peers / "peer_tflite.py"), peer, str(theirs), "--samples", str(samples)],
    }
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            found[name].append(timed(command))
    run = [sys.executable, str(peers / "peer_latency.py"), str(theirs), str(ours), "--runs", "60"]
    lines = subprocess.run(run, check=True, capture_output=True, text=True).stdout.splitlines()
    latency = [json.loads(line) for line in lines if line.startswith("{")]
    return {
        "seconds": {name: median(time for time, _ in each) for name, each in found.items()},
        "memory": {name: median(size for _, size in each) for name, each in found.items()},
        "bytes": {"cnnc": ours.stat().st_size, "tensorflow": theirs.stat().st_size},
        "ms": {"tensorflow": latency[0]["median_ms"], "cnnc": latency[1]["median_ms"]},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="cnnc compile beside TensorFlow's converter")
    parser.add_argument("peers", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--networks", nargs="+", choices=[*NETWORKS], default=[*NETWORKS])
    asked = parser.parse_args()
    print("| network | seconds cnnc / TF | ratio | MiB cnnc / TF | ratio | bytes cnnc / TF | ms cnnc / TF | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        for network in asked.networks:
            found = measure(network, NETWORKS[network], asked.peers, Path(name), asked.rounds, asked.samples)
            cells = [network]
            for figure, digits in (("seconds", 2), ("memory", 0), ("bytes", 0), ("ms", 2)):
                ours, theirs = found[figure]["cnnc"], found[figure]["tensorflow"]
                cells.append(f"{ours:,.{digits}f} / {theirs:,.{digits}f}")
                if figure != "bytes":
                    cells.append(f"{ours / theirs:.3f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
