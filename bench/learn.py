"""Accuracy per minute on CIFAR-10: `cnnc` beside the same recipe, pictures and first weights in PyTorch.

    python -m bench.learn PEERS DATA [--pictures 50000] [--epochs 30] [--test 10000] [--slice 20] [--out curve.json]

PEERS is the folder with `peer_train.py`, whose network is taken over, DATA the one with CIFAR-10's pictures. The recipe
is that of `resnet18_cifar.cnn`; `--pictures` and `--epochs` shorten it, its schedule included. Both trainings are
processes that take turns: one is stopped while the other has the machine, and each one's clock counts its own turns
only, so that both meet the machine's other work alike. Prints a Markdown table: minutes and test accuracy after every
epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.train import moved_to_pytorch, peers_network
from cnnc.data.feeding.batches import evaluation_batches, prefetch, step_count, training_batches
from cnnc.data.feeding.feed import Feed, prepare
from cnnc.data.sources.by_name import load_data
from cnnc.data.sources.data_set import DataSet, take
from cnnc.data.sources.folder import Options
from cnnc.loading import find, load_spec
from cnnc.net import Net
from cnnc.ops import Normalize
from cnnc.overrides import Overrides
from cnnc.recipe import CrossEntropy, Sgd
from cnnc.training.learning_rate import learning_rate

SPEC = Path(__file__).with_name("resnet18_cifar.cnn")
SIDES = ("cnnc", "torch")


def prepared(asked: argparse.Namespace) -> tuple[Net, DataSet]:
    """The network with its recipe, shortened, and so many pictures, the same in every process."""
    net = load_spec(find(str(SPEC)), Overrides())
    net = replace(net, recipe=replace(net.recipe, epochs=asked.epochs))
    whole = load_data(str(asked.data), options=Options(), report=lambda line: None)
    train, test = (
        take(part, np.random.default_rng(0).permutation(len(part))[:count])
        for part, count in ((whole.train, asked.pictures), (whole.test, asked.test))
    )
    return net, DataSet("cifar10", train, test, test, whole.classes)


def ours(asked: argparse.Namespace) -> None:
    """Train as a user does, and print a line an epoch."""
    from cnnc.runs.events import EpochEnd, Event
    from cnnc.training.train import train

    def tell(event: Event) -> None:
        if isinstance(event, EpochEnd):
            say(event.row.epoch, event.row.val_top1 or 0.0, event.row.train_loss)

    net, data = prepared(asked)
    train(net, data, out=asked.folder, report=tell)


def pytorch(asked: argparse.Namespace) -> None:
    """The same in PyTorch: the same batches in the same order, first weights, rates, decay and statistics."""
    import torch
    from torch.nn import functional

    net, data = prepared(asked)
    recipe = net.recipe
    assert isinstance(recipe.optimizer, Sgd)
    loss = recipe.losses[0][1]
    assert isinstance(loss, CrossEntropy)
    module = peers_network("resnet18", asked.peers)
    moved_to_pytorch(net.graph, net.init(recipe.seed), module)
    decayed = [p for p in module.parameters() if p.ndim > 1]
    rest = [p for p in module.parameters() if p.ndim <= 1]
    settings = {"momentum": recipe.optimizer.momentum, "nesterov": recipe.optimizer.nesterov}
    decay = recipe.optimizer.weight_decay
    groups = [{"params": decayed, "weight_decay": decay}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=recipe.schedule.peak, **settings)
    normalize = net.graph["pixels"].op
    assert isinstance(normalize, Normalize)
    mean, std = (torch.tensor(values, dtype=torch.float32) for values in (normalize.mean, normalize.std))
    feed, held = feeds(net, data)

    def tensors(batch: Any) -> tuple[Any, Any]:
        pictures = (torch.from_numpy(np.ascontiguousarray(batch.inputs[0])).float() - mean) / std
        return pictures.permute(0, 3, 1, 2), torch.from_numpy(batch.targets[0].astype(np.int64))

    steps = step_count(feed, recipe.batch)
    for epoch in range(1, recipe.epochs + 1):
        module.train()
        total = 0.0
        for number, batch in enumerate(prefetch(training_batches(feed, recipe.batch, epoch))):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(recipe.schedule, epoch - 1 + number / steps, recipe.epochs)
            pictures, labels = tensors(batch)
            optimizer.zero_grad()
            value = functional.cross_entropy(module(pictures), labels, label_smoothing=loss.label_smoothing)
            value.backward()
            optimizer.step()
            total += value.item()
        module.eval()
        right = 0
        with torch.no_grad():
            for batch in prefetch(evaluation_batches(held, recipe.batch)):
                pictures, labels = tensors(batch)
                right += int(((module(pictures).argmax(1) == labels).numpy() & batch.valid).sum())
        say(epoch, right / len(held), total / steps)


def feeds(net: Net, data: DataSet) -> tuple[Feed, Feed]:
    """What both train on and are tested with."""
    shapes = [node.shape for node in net.graph.inputs]
    widths = [net.graph[node].shape[-1] for _, node in net.graph.outputs]
    train = prepare(data.train, shapes, augment=net.recipe.augment, seed=net.recipe.seed, widths=widths)
    return train, prepare(data.test, shapes)


def say(epoch: int, top1: float, loss: float) -> None:
    print(json.dumps({"epoch": epoch, "top1": top1, "loss": loss}), flush=True)


class Contender:
    """A training process that runs only in its turns, and the epochs that it has told of."""

    def __init__(self, side: str, arguments: list[str]) -> None:
        self.side, self.ran, self.since = side, 0.0, 0.0
        self.told: list[dict[str, float]] = []
        command = [sys.executable, "-m", "bench.learn", *arguments, "--one", side]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.process.send_signal(signal.SIGSTOP)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.told.append({**json.loads(line), "minutes": (self.ran + time.monotonic() - self.since) / 60})

    def take_turn(self, seconds: float) -> None:
        """Run for so long, or to the end."""
        self.since = time.monotonic()
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGSTOP)
        self.ran += time.monotonic() - self.since

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None


def compare(asked: argparse.Namespace, arguments: list[str]) -> Iterator[str]:
    """The table's lines."""
    contenders = [Contender(side, arguments) for side in SIDES]
    try:
        while not all(one.is_over for one in contenders):
            for one in contenders:
                if not one.is_over:
                    one.take_turn(asked.slice)
    finally:
        for one in contenders:
            if not one.is_over:
                one.process.kill()
    if failed := [one.side for one in contenders if one.process.returncode]:
        raise SystemExit(f"failed: {', '.join(failed)}")
    first, second = contenders
    if asked.out:
        asked.out.write_text(json.dumps({one.side: one.told for one in contenders}, indent=1))
    yield f"| epoch | {' | '.join(f'{side}: minutes | loss | top-1' for side in SIDES)} |"
    yield "|---" * 7 + "|"
    for pair in zip(first.told, second.told, strict=True):
        cells = [f"{told['minutes']:.1f} | {told['loss']:.3f} | {100 * told['top1']:.2f} %" for told in pair]
        yield f"| {pair[0]['epoch']:.0f} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description="accuracy per minute beside PyTorch")
    parser.add_argument("peers", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pictures", type=int, default=50000)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--slice", type=float, default=20.0, help="seconds of a turn")
    parser.add_argument("--out", type=Path, help="a JSON file for the curves")
    parser.add_argument("--folder", type=Path, help="a new folder for our run")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        (ours if asked.one == "cnnc" else pytorch)(asked)
        return
    for line in compare(asked, sys.argv[1:]):
        print(line, flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
