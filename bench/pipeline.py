"""How many pictures a second the input pipeline makes, beside PyTorch's DataLoader and tf.data with the same work.

    python bench/pipeline.py [--cifar FOLDER] [--photos FOLDER] [--workers N] [--rounds 7]

`--cifar` holds CIFAR-10 as JPEG files, `train/<class>/*.jpg`: padded by 4, cut to 32x32, flipped. `--photos` holds
JPEG files, of which parts of 8 % to 100 % are cut out, resized to 224x224 and flipped. Every contender has a process of
its own and as many workers as the others (PyTorch's are processes, the rest's are threads). They take turns, a round
each; what is printed are medians over the rounds: pictures a second, and what a picture costs of a core, which a busy
machine changes less. Nothing but reading, decoding and augmenting is measured. `cnnc processes` and `grain` do our
decoding by other means: in processes, and on the threads of Grain, if it is installed.

    decoding    every picture is read and decoded in every round
    cached      what was decoded is kept: here in the cache's file, by tf.data's `cache()` in memory

tf.data resizes without antialiasing unless it is told to; `tf.data` is told to, as Pillow always does it, and
`tf.data plain` is not, and decodes the part that it wants only.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
CIFAR_COUNT, PHOTO_COUNT = 8192, 640
BATCH = {"cifar": 128, "photos": 64}
SIZE = {"cifar": 32, "photos": 224}
CONTENDERS = {
    "cifar decoding": ("cnnc", "cnnc processes", "grain", "torch", "tf.data"),
    "cifar cached": ("cnnc", "tf.data"),
    "photos decoding": ("cnnc", "cnnc processes", "grain", "torch", "tf.data", "tf.data plain"),
}

Epochs = Iterator[Iterable[Any]]
"""An epoch's batches, over and over."""


def cnnc_epochs(paths: Sequence[Path], what: str, cached: bool, workers: int) -> Epochs:
    """Ours: threads."""
    from cnnc.data.feeding import feed as feeds
    from cnnc.data.feeding.batches import prefetch, training_batches
    from cnnc.data.sources import decoded_cache

    feeds.SMALL_BYTES = 0
    if not cached:
        os.environ["CNNC_CACHE_BYTES"] = "0"
        decoded_cache.MEMORY_BYTES = 0
    feed = _feed(paths, what, workers)
    epoch = 0
    while True:
        epoch += 1
        yield prefetch(training_batches(feed, BATCH[what], epoch))


def process_epochs(paths: Sequence[Path], what: str, cached: bool, workers: int) -> Epochs:
    """Ours in processes: each makes every `workers`th batch and sends it."""
    import multiprocessing

    assert not cached
    with multiprocessing.get_context("spawn").Pool(workers, _start, (paths, what)) as pool:
        steps = -(-len(paths) // BATCH[what])
        epoch = 0
        while True:
            epoch += 1
            yield pool.imap(_make, [(epoch, step) for step in range(steps)])


_OWN: list[Any] = []


def _start(paths: Sequence[Path], what: str) -> None:
    from cnnc.data.feeding import feed as feeds
    from cnnc.data.sources import decoded_cache

    feeds.SMALL_BYTES = decoded_cache.MEMORY_BYTES = 0
    os.environ["CNNC_CACHE_BYTES"] = "0"
    _OWN[:] = [_feed(paths, what, 1), BATCH[what]]


def _make(job: tuple[int, int]) -> Any:
    from cnnc.data.feeding.batches import training_batches

    feed, batch = _OWN
    batches = training_batches(feed, batch, *job)
    made = next(batches)
    batches.close()
    return made.inputs[0], made.targets[0]


def grain_epochs(paths: Sequence[Path], what: str, cached: bool, workers: int) -> Epochs:
    """Our decoding and augmenting, a picture at a time, on Grain's threads."""
    import grain  # type: ignore[import-not-found,import-untyped,unused-ignore]  # optional

    from cnnc.data.feeding.feed import _produce

    assert not cached
    feed = _feed(paths, what, 1)

    def picture(index: int) -> Any:
        return _produce(feed, np.array([index]), 1).inputs[0][0], 0

    while True:
        data = grain.MapDataset.source(range(len(paths))).shuffle(seed=0).map(picture)
        reading = grain.ReadOptions(num_threads=workers, prefetch_buffer_size=4 * BATCH[what])
        yield data.to_iter_dataset(reading).batch(BATCH[what])


def _feed(paths: Sequence[Path], what: str, workers: int) -> Any:
    from cnnc.data.feeding.feed import prepare
    from cnnc.data.sources.data_set import Files
    from cnnc.recipe import Augment, Flip, PadCrop, RandomResizedCrop

    entries: list[Augment] = [PadCrop(4), Flip()] if what == "cifar" else [RandomResizedCrop(), Flip()]
    files = Files(tuple(paths), np.zeros(len(paths), np.int32))
    return prepare(files, [(SIZE[what], SIZE[what], 3)], augment=entries, workers=workers)


def torch_epochs(paths: Sequence[Path], what: str, cached: bool, workers: int) -> Epochs:
    """PyTorch's DataLoader over a Dataset of Pillow's, as torchvision's transforms work on its pictures."""
    import torch
    from PIL import Image, ImageOps
    from torch.utils.data import DataLoader, Dataset

    assert not cached

    class Pictures(Dataset[Any]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> Any:
            with Image.open(paths[index]) as image:
                picture = image.convert("RGB")
            if what == "cifar":
                picture = ImageOps.expand(picture, 4)
                top, left = torch.randint(9, (2,)).tolist()
                picture = picture.crop((left, top, left + 32, top + 32))
            else:
                box = _crop(*picture.size, *torch.rand(4).tolist())
                picture = picture.resize((224, 224), Image.Resampling.BILINEAR, box)
            if torch.rand(1).item() < 0.5:
                picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return torch.from_numpy(np.array(picture)), 0

    loader = DataLoader(
        Pictures(), BATCH[what], shuffle=True, num_workers=workers, persistent_workers=True, prefetch_factor=4
    )
    while True:
        yield loader


def tf_epochs(paths: Sequence[Path], what: str, cached: bool, workers: int, antialias: bool = True) -> Epochs:
    """tf.data on a pool of threads."""
    import tensorflow as tf

    def decoded(path: Any) -> Any:
        picture = tf.io.decode_jpeg(tf.io.read_file(path), 3)
        picture.set_shape((32, 32, 3))
        return picture

    def changed(picture: Any) -> Any:
        picture = tf.image.random_crop(tf.pad(picture, ((4, 4), (4, 4), (0, 0))), (32, 32, 3))
        return tf.image.random_flip_left_right(picture), 0

    def cut(path: Any) -> Any:
        raw = tf.io.read_file(path)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.io.extract_jpeg_shape(raw),
            tf.zeros((1, 0, 4)),
            area_range=(0.08, 1.0),
            aspect_ratio_range=(3 / 4, 4 / 3),
            use_image_if_no_bounding_boxes=True,
        )
        window = tf.concat([begin[:2], size[:2]], 0)
        picture = tf.image.resize(tf.image.decode_and_crop_jpeg(raw, window, 3), (224, 224), antialias=antialias)
        return tf.cast(tf.image.random_flip_left_right(picture), tf.uint8), 0

    data = tf.data.Dataset.from_tensor_slices([str(path) for path in paths])
    auto = tf.data.AUTOTUNE
    if what == "photos":
        data = data.shuffle(len(paths)).map(cut, num_parallel_calls=auto)
    elif cached:
        data = data.map(decoded, num_parallel_calls=auto).cache().shuffle(len(paths)).map(changed, auto)
    else:
        data = data.shuffle(len(paths)).map(lambda path: changed(decoded(path)), num_parallel_calls=auto)
    options = tf.data.Options()
    options.threading.private_threadpool_size = workers
    options.deterministic = True
    data = data.batch(BATCH[what]).prefetch(4).with_options(options)
    while True:
        yield data


def _crop(width: int, height: int, area: float, aspect: float, x: float, y: float) -> tuple[float, float, float, float]:
    """The part that a picture is cut to: the same as everybody's."""
    target = width * height * (0.08 + area * 0.92)
    ratio = (3 / 4) * (16 / 9) ** aspect
    ratio = min(max(ratio, target / height**2), width**2 / target)
    cut_width, cut_height = min((target * ratio) ** 0.5, width), min((target / ratio) ** 0.5, height)
    left, top = x * (width - cut_width), y * (height - cut_height)
    return left, top, left + cut_width, top + cut_height


SOURCES: dict[str, Callable[..., Epochs]] = {
    "cnnc": cnnc_epochs,
    "cnnc processes": process_epochs,
    "grain": grain_epochs,
    "torch": torch_epochs,
    "tf.data": tf_epochs,
    "tf.data plain": lambda paths, what, cached, workers: tf_epochs(paths, what, cached, workers, antialias=False),
}


def serve(name: str, case: str, folder: Path, workers: int) -> None:
    """A contender's process: for every line that comes in, an epoch, and its pictures a second."""
    what, kind = case.split()
    paths = sorted(folder.rglob("*.jpg"))
    if what == "cifar":
        paths = paths[:: len(paths) // CIFAR_COUNT][:CIFAR_COUNT]
    paths = paths[:PHOTO_COUNT] if what == "photos" else paths
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    epochs = SOURCES[name](paths, what, kind == "cached", workers)
    for _ in sys.stdin:
        began, used, count = time.perf_counter(), cpu_seconds(), 0
        for batch in next(epochs):
            count += len(batch.indices) if hasattr(batch, "indices") else len(batch[0])
        cost = (cpu_seconds() - used) / count
        print(json.dumps([count / (time.perf_counter() - began), 1e6 * cost]), file=out, flush=True)


def cpu_seconds() -> float:
    """Time on a core of this process and its children, as Linux counts it."""
    processes, ticks = [os.getpid()], 0
    for process in processes:
        for children in Path(f"/proc/{process}/task").glob("*/children"):
            processes += map(int, children.read_text().split())
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(case: str, folder: Path, workers: int, rounds: int) -> dict[str, list[list[float]]]:
    """Pictures a second and microseconds a picture of every contender in every round but the first, a warm-up."""
    command = [sys.executable, __file__, "--workers", str(workers), "--folder", str(folder), "--case", case]
    with tempfile.TemporaryDirectory() as cache, open(os.devnull, "w") as quiet:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CNNC_DATA": cache, "TF_CPP_MIN_LOG_LEVEL": "3"}
        processes = {
            name: subprocess.Popen(
                [*command, "--serve", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=quiet,
                text=True,
                env=environment,
            )
            for name in CONTENDERS[case]
            if name != "grain" or find_spec("grain")
        }
        found: dict[str, list[list[float]]] = {name: [] for name in processes}
        for _ in range(rounds + 1):
            for name, process in processes.items():
                assert process.stdin is not None
                assert process.stdout is not None
                process.stdin.write("go\n")
                process.stdin.flush()
                found[name].append(json.loads(process.stdout.readline()))
        for process in processes.values():
            process.communicate()
    return {name: rows[1:] for name, rows in found.items()}


def main() -> None:
    """Measure what there are folders for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "shared/data/imagenet-samples")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--serve", choices=SOURCES, help=argparse.SUPPRESS)
    parser.add_argument("--case", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.case, given.folder, given.workers)
        return
    for case in CONTENDERS:
        folder = given.cifar / "train" if case.startswith("cifar") and given.cifar else given.photos
        if (case.startswith("cifar") and not given.cifar) or not folder.is_dir():
            print(f"{case}: no folder")
            continue
        found = measure(case, folder, given.workers, given.rounds)
        print(f"{case}, {given.workers} workers, median of {given.rounds} rounds")
        own, own_cost = (median(column) for column in zip(*found["cnnc"], strict=True))
        for name, rows in found.items():
            speeds, costs = zip(*rows, strict=True)
            middle, cost, spread = median(speeds), median(costs), f"{min(speeds):,.0f} to {max(speeds):,.0f}"
            print(
                f"  {name:<16} {middle:>9,.0f} pictures/s ({spread:>18}), cnnc's {own / middle:.2f} times that;"
                f" {cost:>6,.0f} us of a core each, {cost / own_cost:.2f} times cnnc's"
            )


if __name__ == "__main__":
    main()
