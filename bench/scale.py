"""Cost against layers: whole processes of `cnnc check` and `cnnc show --all` on generated specs of many layers.

    python bench/scale.py [--layers 1000,2000,5000,10000,20000,40000] [--picture scale.png]

Half of each spec's layers are written out line by line, half come from repeats of a residual block. The exponent is the
slope of log(seconds) over log(layers) once the process's own start is taken off: 1 is linear.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from math import log
from pathlib import Path
from statistics import fmean
from time import perf_counter

from cnnc.boxes import box

CNNC = str(Path(sys.executable).with_name("cnnc"))
VERBS = {"check": ("check",), "show": ("show", "--all")}
LINE = "  conv(3x3, 16) | bn | relu"
BLOCK = "block unit() { add { conv(3x3, 16) | bn | relu  identity }  relu }"
PER_UNIT = 5


def main() -> None:
    """Measure, print a table and the exponents, and draw them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="1000,2000,5000,10000,20000,40000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    layers = [int(count) for count in arguments.layers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            verb: [measure(Path(folder), verb, count, arguments.rounds) for count in [10, *layers]] for verb in VERBS
        }
    start = {verb: seconds[0] for verb, seconds in found.items()}
    times = {verb: seconds[1:] for verb, seconds in found.items()}
    rows = [
        [f"{count:,}", *(f"{times[verb][i]:.2f}" for verb in VERBS), f"{times['check'][i] / count * 1e6:.0f}"]
        for i, count in enumerate(layers)
    ]
    print(box(["layers", *(f"{verb}, s" for verb in VERBS), "check, us a layer"], [rows], right=range(4)))
    for verb in VERBS:
        print(f"{verb}: exponent {exponent(layers, [t - start[verb] for t in times[verb]]):.2f}")
    if arguments.picture:
        draw(layers, times, arguments.picture)


def spec(layers: int) -> str:
    """A model of about so many layers."""
    lines = [LINE] * (layers // 6)
    repeats = f"  {max(1, layers // 2 // PER_UNIT)} x unit()"
    return "\n".join(["model deep {", "  input 16x16x16", *lines, repeats, "}", "", BLOCK, ""])


def measure(folder: Path, verb: str, layers: int, rounds: int) -> float:
    """The least seconds of a command on a spec of so many layers, which is counted first."""
    path = folder / f"deep{layers}.cnn"
    path.write_text(spec(layers), encoding="utf-8")
    shown = subprocess.run([CNNC, "show", path, "--format", "json"], check=True, capture_output=True)
    assert abs(len(json.loads(shown.stdout)["layers"]) - layers) < 0.01 * layers + PER_UNIT + 3
    times = []
    for _ in range(rounds):
        start = perf_counter()
        subprocess.run([CNNC, *VERBS[verb], path], check=True, stdout=subprocess.DEVNULL)
        times.append(perf_counter() - start)
    return min(times)


def exponent(layers: Sequence[int], seconds: Sequence[float]) -> float:
    """The slope of log(seconds) over log(layers), by least squares."""
    xs, ys = [log(count) for count in layers], [log(each) for each in seconds]
    x, y = fmean(xs), fmean(ys)
    return sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)


def draw(layers: Sequence[int], times: dict[str, list[float]], path: Path) -> None:
    """A picture of seconds over layers."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for verb, seconds in times.items():
        axes.plot(layers, seconds, marker="o", label=f"cnnc {verb}")
    axes.set(xlabel="layers", ylabel="seconds", xlim=(0, None), ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)
    print(f"drew {path}")


if __name__ == "__main__":
    main()
