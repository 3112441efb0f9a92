"""A process that trains, for tests that stop and kill it.

`python -m tests.support.training_process RUN DATA LOG EPOCHS`; a fifth argument, `--resume`, has it go on.

Every batch that is handed to a step is noted in LOG: its epoch, the places of its examples, and a sum of its values.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from cnnc.cli.train import Stopped, told_how_to_go_on
from cnnc.data.feeding import batches
from cnnc.diagnostics import CnnError
from cnnc.loading import load_text
from cnnc.training import loop
from cnnc.training.resume import resume
from cnnc.training.train import train

SPEC = """\
model tried(classes=2) {
  input 12x12x3
  normalize(mean=128, std=64)
  conv(3x3, 8) | bn | relu | maxpool(2x2) | conv(3x3, 8) | bn | relu | flatten | dropout(0.3) | dense(classes) | softmax
}

train {
  augment    pad_crop(2) | flip
  loss       cross_entropy(label_smoothing=0.1)
  optimizer  sgd(momentum=0.9, nesterov=true, weight_decay=5e-4)
  schedule   cosine(peak=0.05, warmup=1)
  batch      4
  seed       5
  accumulate 3
  ema        0.9
  clip       5.0
}
"""


def main(run: str, data: str, log: str, epochs: str, *rest: str) -> int:
    """Train, or go on, and give the exit status."""

    def noted(feed: Any, batch: int, epoch: int, start: int = 0) -> Iterator[batches.Batch]:
        for step, made in enumerate(batches.training_batches(feed, batch, epoch, start), start + 1):
            places = ",".join(map(str, made.indices))
            values = zlib.crc32(np.ascontiguousarray(made.inputs[0]).tobytes())
            with Path(log).open("a") as file:
                file.write(f"{epoch} {step} {places} {values}\n")
            yield made

    loop.training_batches = noted  # type: ignore[assignment,attr-defined]
    try:
        with told_how_to_go_on():
            if "--resume" in rest:
                resume(run, save_minutes=0.002)
            else:
                train(load_text(SPEC), data, out=run, epochs=int(epochs), save_minutes=0.002)
    except CnnError as error:
        print(error, file=sys.stderr)
        return 1
    except Stopped as stop:
        stop.show()
        return stop.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
