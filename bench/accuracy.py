"""What int8 costs in accuracy: cnnc's files beside TensorFlow's converter and ai-edge-quantizer, on a whole test set.

    python -m bench.accuracy RUN --data mnist --data-dir DIR
    python -m bench.accuracy SPEC --weights FILE.safetensors --data cifar10 --data-dir DIR [--limit 1000]

Every quantiser gets the same weights and the same calibration pictures; `accuracy_peers.py` makes the peers' files, in
a process of its own. LiteRT runs all of them, picture by picture. Prints a Markdown table: top-1, the points lost from
cnnc's float file, with the standard error of that difference (of pictures that one of the two alone gets right), and
the share of pictures that get the same answer as from it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.backends.tflite.compile import Settings
from cnnc.backends.tflite.litert.runner import open_model
from cnnc.data.augmentation.random_draws import permutation
from cnnc.data.feeding.batches import evaluation_batches
from cnnc.data.feeding.feed import prepare
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import take
from cnnc.data.sources.folder import Options
from cnnc.deployment.calibration_samples import Samples, samples_of
from cnnc.deployment.report import in_words
from cnnc.deployment.tflite import compile_tflite
from cnnc.runs.trained import Trained, open_trained

Array = NDArray[Any]
PEERS: Final = {"tensorflow": "TensorFlow's converter", "ai_edge_quantizer": "ai-edge-quantizer"}
FLOAT: Final = "float"


def ours(trained: Trained, samples: Samples, targets: Sequence[str], folder: Path) -> dict[str, Path]:
    """The files of cnnc by what the table calls them; what was chosen for them goes to standard error."""
    found = {}
    for target in ("tflite", *targets):
        compiled = compile_tflite(trained, target, samples, Settings())
        name = FLOAT if target == "tflite" else f"cnnc, {target}"
        found[name] = folder / f"cnnc_{target}.tflite"
        found[name].write_bytes(compiled.data)
        for line in in_words(compiled):
            if line.lstrip().startswith(("ranges:", "signal")):
                print(f"{name}: {line.strip()}", file=sys.stderr)
    return found


def theirs(what: Path, weights: Path | None, samples: Samples, peers: Sequence[str], folder: Path) -> dict[str, Path]:
    """The peers' files by what the table calls them."""
    if not peers:
        return {}
    pictures = folder / "pictures.npz"
    (name,) = samples.arrays[0]
    np.savez(pictures, pictures=np.concatenate([sample[name] for sample in samples.arrays]))
    command = [sys.executable, "-m", "bench.accuracy_peers", str(what), str(pictures)]
    command += ["--out", str(folder), *(("--weights", str(weights)) if weights else ()), "--peers", *peers]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "KERAS_BACKEND": "tensorflow"}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{done.stderr[-4000:]}\nfailed with {done.returncode}: {' '.join(command)}")
    return {PEERS[peer]: folder / f"{peer}.tflite" for peer in peers}


def examples(trained: Trained, data: str, folder: Path | None, limit: int | None) -> tuple[Array, Array]:
    """Test pictures, as bytes, and their classes; of a limited number, drawn at random but always the same."""
    part = load_data(data, folder=folder, options=Options(trained.data.held_out, trained.data.seed)).test
    if limit is not None and limit < len(part):
        part = take(part, np.sort(permutation(0, 0, len(part))[:limit]))
    feed = prepare(part, [node.shape for node in trained.net.graph.inputs])
    batches = list(evaluation_batches(feed, min(128, len(feed))))
    pictures = np.concatenate([batch.inputs[0][batch.valid] for batch in batches])
    assert pictures.dtype == np.uint8, "pictures are wanted, which all of these take as bytes"
    return pictures, np.concatenate([batch.targets[0][batch.valid] for batch in batches])


def answers(path: Path, pictures: Array, threads: int | None) -> Array:
    """The likeliest class of every picture."""
    runner = open_model(path, threads=threads)
    (port,), (end,) = runner.inputs, runner.outputs
    is_ours = path.name.startswith("cnnc_")

    def stored(some: Array) -> Array:
        if is_ours and port.tensor.type == "INT8":  # pixels as they are: the scale says what they are normalised to
            return (some.astype(np.int16) - 128).astype(np.int8)
        return some.astype(np.float32)  # the network normalises; the runner quantises by the file's scale

    parts = [runner.raw({port.name: stored(some)})[end.name] for some in _slices(pictures, 500)]
    return np.concatenate([part.reshape(len(part), -1).argmax(1) for part in parts])


def _slices(pictures: Array, size: int) -> Iterator[Array]:
    for start in range(0, len(pictures), size):
        yield pictures[start : start + size]


def row(name: str, found: Array, exact: Array, truth: Array, seconds: float) -> str:
    right, was_right = found == truth, exact == truth
    lost = 100 * (was_right.mean() - right.mean())
    error = 100 * np.sqrt((right != was_right).sum()) / len(truth)
    same = 100 * (found == exact).mean()
    figures = ("", "") if name == FLOAT else (f"{lost:+.2f} ± {error:.2f}", f"{same:.2f} %")
    return f"| {name} | {100 * right.mean():.2f} % | {figures[0]} | {figures[1]} | {seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy lost from float to int8, by quantiser")
    parser.add_argument("what", type=Path, metavar="RUN|SPEC")
    parser.add_argument("--weights", type=Path, help="of a SPEC, as safetensors")
    parser.add_argument("--data", required=True)
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--samples", type=int, default=100, help="calibration pictures, of the training part")
    parser.add_argument("--limit", type=int, help="test pictures, of all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--targets", nargs="*", choices=["tflite-int8", "edgetpu"], default=["tflite-int8", "edgetpu"])
    parser.add_argument("--peers", nargs="*", choices=[*PEERS], default=[*PEERS])
    parser.add_argument("--keep", type=Path, metavar="DIR", help="a folder to leave the files in")
    asked = parser.parse_args()
    trained = open_trained(asked.what, weights=asked.weights)
    samples = samples_of(trained, asked.data, folder=asked.data_dir, count=asked.samples)
    pictures, truth = examples(trained, asked.data, asked.data_dir, asked.limit)
    with tempfile.TemporaryDirectory() as temporary:
        folder = asked.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = ours(trained, samples, asked.targets, folder)
        files |= theirs(asked.what, asked.weights, samples, asked.peers, folder)
        print(f"`{trained.net.name}`, {len(truth):,} test pictures of {asked.data}, ranges from {samples.what}\n")
        print("| file | top-1 | points lost | same answer | seconds |")
        print("|---|---|---|---|---|")
        exact = np.zeros(0)
        for name, path in files.items():
            start = time.perf_counter()
            found = answers(path, pictures, asked.threads)
            exact = found if name == FLOAT else exact
            print(row(name, found, exact, truth, time.perf_counter() - start), flush=True)


if __name__ == "__main__":
    main()
