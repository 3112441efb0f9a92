"""Start-up time: `cnnc check` and `cnnc show` of every bundled spec, whole processes, against three imports.

    python bench/startup.py [--rounds N] [SPEC...]

A round runs every command once, so that a slow spell of the machine meets them all; medians are compared. The target is
a ratio of 2 at most.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

from cnnc import specs
from cnnc.rendering.text_table import box

BASELINE = (sys.executable, "-c", "import numpy, lark, click")
CNNC = str(Path(sys.executable).with_name("cnnc"))
TARGET = 2.0


def main() -> int:
    """Measure, print a table, and return 1 where a median is above the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("specs", nargs="*", default=specs.names())
    arguments = parser.parse_args()
    commands = {f"{verb} {spec}": (CNNC, verb, spec) for spec in arguments.specs for verb in ("check", "show")}
    times = measure({"baseline": BASELINE, **commands}, arguments.rounds)
    baseline = median(times.pop("baseline"))
    ratios = {name: median(found) / baseline for name, found in times.items()}
    rows = [[name, f"{median(found) * 1000:.0f}", f"{ratios[name]:.2f}"] for name, found in times.items()]
    first = [["import numpy, lark, click", f"{baseline * 1000:.0f}", "1.00"]]
    print(box(["command", "ms", "ratio"], [first, rows], right=(1, 2)))
    name, worst = max(ratios.items(), key=lambda each: each[1])
    print(f"worst: {name}, {worst:.2f} times the baseline; target {TARGET:g}")
    return int(worst > TARGET)


def measure(commands: dict[str, tuple[str, ...]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every command in every round, after one that warms the caches."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            start = perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment)
            if turn:
                times[name].append(perf_counter() - start)
    return times


if __name__ == "__main__":
    sys.exit(main())
