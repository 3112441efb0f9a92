"""The Edge TPU's prediction beside what Google's compiler and devices did: markdown tables for docs/edgetpu.md.

    python -m bench.edgetpu [--fit] [../shared/edgetpu]

Pairs are models with their compiled forms; latencies are rows of Coral's pages, for networks that
`edgetpu_networks.py` can build (it needs Keras, and takes some minutes). `--fit` works the constants of
cnnc/backends/edgetpu/latency.py out again, and their error on networks left out one at a time.
"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.edgetpu_networks import networks, program_of
from cnnc.backends.edgetpu import latency
from cnnc.backends.edgetpu.latency import macs, moved_bytes
from cnnc.backends.edgetpu.memory import parameters
from cnnc.backends.edgetpu.prediction import Report, check
from cnnc.tflite_file.program import Program
from cnnc.tflite_file.read import open_file

SHARED = Path(__file__).parents[2] / "shared" / "edgetpu"
INCONSISTENT = "Inception-ResNet V2 (299x299)"
"""Its printed 57 ms are less than its 49 MB of parameters take by USB 3: left out of the fit, not of the table."""
TWICE = ("EfficientNet-EdgeTpu (M)", "EfficientNet-EdgeTpu (S)", "Inception V1", "Inception V4")
"""Rows of the one page for networks that the other has too."""
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("shared", nargs="?", type=Path, default=SHARED)
    arguments = parser.parse_args()
    print(pairs_table(arguments.shared))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    times = published(arguments.shared)
    programs = {name: program_of(build()).main for name, build in networks().items()}
    print(latency_table(arguments.shared, programs, times))
    if arguments.fit:
        print(fit_table(programs, times))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def pairs_table(shared: Path) -> str:
    """What was left on the CPU and what was cached, predicted and actual."""
    rows, right, errors = [], 0, []
    for pair in json.loads((shared / "pairs.json").read_text()):
        name = Path(pair["model"]).name.removesuffix("_edgetpu.tflite")
        report = check(open_file(shared / "models" / f"{name}.tflite"))
        predicted, actual = on_cpu(report), {key.removeprefix("CUSTOM:"): n for key, n in pair["cpu_ops"].items()}
        right += predicted == actual
        cached = pair["parameter_bytes"]["PARAMETER_CACHING"]
        streamed = pair["parameter_bytes"]["EXECUTION_ONLY"]
        assert report.cost is not None, name
        held = report.cost.parameters
        error = held.cached / cached - 1
        if any(verdict.op in CONVOLUTIONS for verdict in report.operators):
            errors.append(abs(error))
        rows.append(
            [
                name,
                told(predicted),
                "the same" if predicted == actual else told(actual),
                f"{held.cached:,}",
                f"{cached:,}",
                f"{error:+.1%}",
                f"{held.streamed:,}",
                f"{streamed:,}",
            ]
        )
    head = ["model", "CPU, predicted", "CPU, actual", "cached", "actual", "error", "streamed", "actual"]
    foot = (
        f"\nOperators left on the CPU predicted exactly: {right} of {len(rows)}. Cached bytes of the {len(errors)} "
        f"models with convolutions: median error {median(errors):.1%}, within 3 %: "
        f"{sum(error <= 0.03 for error in errors)}.\n"
    )
    return table(head, rows) + foot


def on_cpu(report: Report) -> dict[str, int]:
    """Operators and versions that are predicted to stay on the CPU."""
    return dict(Counter(f"{v.op}@{v.version}" for v in report.operators if not v.mapped))


def told(counts: Mapping[str, int]) -> str:
    """Counts as text."""
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def published(shared: Path) -> dict[str, float]:
    """Milliseconds by USB 3 on a desktop, by network, of both of Coral's pages."""
    data = json.loads((shared / "benchmarks.json").read_text())
    times = {row["model"]: row["latency_ms"] for row in data["coral_models_classification"]["rows"]}
    return times | {row["model"]: row["desktop_plus_usb3_edgetpu_ms"] for row in data["coral_benchmarks_page"]["rows"]}


def latency_table(shared: Path, programs: Mapping[str, Program], times: Mapping[str, float]) -> str:
    """Estimated and published latencies, and which rows have no network here."""
    from cnnc.tflite_file.program import File

    reports = {name: check(File((program,))) for name, program in programs.items()}
    deeplab = shared / "models" / "deeplabv3_mnv2_pascal_quant.tflite"
    reports["DeepLab V3 (513x513)"] = check(open_file(deeplab))
    rows, errors = [], []
    for name, report in sorted(reports.items()):
        assert report.cost is not None, name
        time, found = times[name], report.cost.latency
        errors.append(abs(found.ms / time - 1))
        inside = "yes" if found.low <= time <= found.high else "no"
        rows.append(
            [
                name,
                f"{found.ms:.1f}",
                f"{found.low:.1f} to {found.high:.1f}",
                f"{time:g}",
                f"{found.ms / time - 1:+.0%}",
                inside,
            ]
        )
    missing = sorted(set(times) - set(reports) - set(TWICE))
    head = ["network", "estimated ms", "range", "published ms", "error", "in the range"]
    foot = (
        f"\nMedian error {median(errors):.1%} over {len(errors)} networks. "
        f"Rows without a network here: {'; '.join(missing)}.\n"
    )
    return table(head, rows) + foot


def features(program: Program) -> list[float]:
    """What the estimate multiplies by its constants: 1, MACs, bytes of activations, bytes streamed."""
    work = sum(macs(program, operator) for operator in program)
    moved = sum(moved_bytes(program, operator) for operator in program)
    return [1.0, work / 1e9, moved / 1e6, parameters(program, program.operators).streamed / 1e6]


def fit(rows: np.ndarray[Any, Any], times: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Constants that make the relative errors small: least squares, reweighted towards absolute values."""
    relative, weights = rows / times[:, None], np.ones(len(times))
    for _ in range(200):
        found = np.linalg.lstsq(relative * weights[:, None], weights)[0]
        weights = 1 / np.sqrt(np.maximum(np.abs(relative @ found - 1), 0.03))
    return np.asarray(found)


def fit_table(programs: Mapping[str, Program], times: Mapping[str, float]) -> str:
    """The constants, and the error on each network when it is left out of the fit."""
    names = [name for name in programs if name != INCONSISTENT]
    rows, actual = np.array([features(programs[name]) for name in names]), np.array([times[name] for name in names])
    constants = fit(rows, actual)
    lines = []
    for i, name in enumerate(names):
        others = np.arange(len(names)) != i
        lines.append((name, float(rows[i] @ fit(rows[others], actual[others]) / actual[i] - 1)))
    head = ["network left out", "error"]
    foot = (
        f"\nConstants: {constants[0]:.3f} ms, {1 / constants[1]:.3f}e9 MAC/ms, {1 / constants[2]:.2f}e6 bytes/ms, "
        f"{1 / constants[3]:.3f}e6 streamed bytes/ms; in use {latency.FIXED_MS}, {latency.MACS_PER_MS:.4g}, "
        f"{latency.BYTES_PER_MS:.4g}, {latency.STREAMED_PER_MS:.4g}. Median error left out: "
        f"{median(abs(error) for _, error in lines):.1%}.\n"
    )
    return table(head, [[name, f"{error:+.0%}"] for name, error in lines]) + foot


if __name__ == "__main__":
    main()
