"""Cost against layers: whole processes of `cnnc check` and `cnnc show --all` on generated specs of many layers.

    python bench/scale.py [--layers 1000,2000,5000,10000,20000,40000] [--picture scale.png]

Half of each spec's layers are written out line by line, half come from repeats of a residual block. Seconds are the
processor's, the least of some rounds, so that other programs hardly count. A straight line is fitted to seconds over
layers, by least squares: its slope is the cost of a layer, and R squared says how straight it is.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import correlation, linear_regression

from cnnc.rendering.text_table import box

CNNC = str(Path(sys.executable).with_name("cnnc"))
VERBS = {"check": ("check",), "show": ("show", "--all")}
LINE = "  conv(3x3, 16) | bn | relu"
BLOCK = """block unit() {
  add {
    conv(3x3, 16) | bn | relu
    identity
  }
  relu
}"""
PER_UNIT = 5


def main() -> None:
    """Measure, print a table and the lines, and draw them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", default="1000,2000,5000,10000,20000,40000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    layers = [int(count) for count in arguments.layers.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        times = {verb: [measure(Path(folder), verb, n, arguments.rounds) for n in layers] for verb in VERBS}
    rows = [[f"{n:,}", *(f"{times[verb][i]:.2f}" for verb in VERBS)] for i, n in enumerate(layers)]
    print(box(["layers", *(f"{verb}, s" for verb in VERBS)], [rows], right=range(3)))
    for verb in VERBS:
        fit = linear_regression(layers, times[verb])
        straightness = correlation(layers, times[verb]) ** 2
        print(f"{verb}: {fit.intercept:.2f} s and {fit.slope * 1e6:.0f} us a layer, R squared {straightness:.4f}")
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
        start = _spent()
        subprocess.run([CNNC, *VERBS[verb], path], check=True, stdout=subprocess.DEVNULL)
        times.append(_spent() - start)
    return min(times)


def _spent() -> float:
    """Processor seconds of all child processes so far."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


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
