"""Which loss holds which output, and whether a data set's labels fit the network's outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cnnc.data.feeding.feed import Feed
from cnnc.diagnostics import CnnError, did_you_mean
from cnnc.net import Net
from cnnc.ops import Shape, Sigmoid, Softmax, format_shape
from cnnc.recipe import BinaryCrossEntropy, CrossEntropy, Loss, MeanSquaredError
from cnnc.wording import extent, number_of, quoted

if TYPE_CHECKING:
    from cnnc.evaluation.predictor import Output

_ROUNDING: Final = 0.02
"""So far from 1 may shares of classes sum to: 0.33 for each of three."""


def output_losses(net: Net) -> tuple[Loss, ...]:
    """The loss of every output, by the network's recipe, in the graph's order.

    Raises:
        CnnError: `train` when the recipe names an output that is not there, leaves one out, or asks of one what its
            last layer cannot give.
    """
    labels = [label for label, _ in net.graph.outputs]
    named: dict[str | None, Loss] = dict(net.recipe.losses)
    for name in named:
        if name is not None and name not in labels:
            help = did_you_mean(name, labels) or f"the outputs are {quoted(labels)}"
            raise CnnError.of("train", f"a loss is given for `{name}`, which is no output", help=help)
    chosen = []
    for label, node in net.graph.outputs:
        loss = named.get(label, named.get(None))
        if loss is None:
            raise CnnError.of(
                "train", f"the output `{label}` has no loss", help=f"give one for each of {quoted(labels)}"
            )
        _require_fitting_end(loss, label, net, node)
        chosen.append(loss)
    return tuple(chosen)


def classified(outputs: Sequence[Output], feed: Feed) -> tuple[bool, ...]:
    """For every output whether right and wrong answers can be told: its targets are classes, or shares of classes."""
    return tuple(
        _is_classified(output.loss, output.shape, target.shape[1:], integers=target.dtype.kind in "iub")
        for output, target in zip(outputs, feed.targets, strict=True)
    )


def require_classes(outputs: Sequence[Output], classes: tuple[str, ...], text: str | None = None) -> None:
    """Raises CnnError when data has another number of classes than a network has outputs for.

    `text` is of the spec that may be changed, and with it the error says how.
    """
    if not classes:
        return
    if len(outputs) != 1:
        labels = [output.name for output in outputs]
        raise CnnError.of(
            "labels",
            f"the data has one label an example, and the network {number_of(len(labels), 'output')}: {quoted(labels)}",
            help="train a network of several outputs from Python, with an array for each",
        )
    (output,) = outputs
    if len(output.shape) != 1:
        raise CnnError.of(
            "labels",
            f"the data has one label an example, and the output `{output.name}` is {format_shape(output.shape)}",
            help=None if text is None else "end the network with globalpool or flatten, then dense(classes)",
        )
    width, found = output.shape[-1], len(classes)
    wanted = 2 if isinstance(output.loss, BinaryCrossEntropy) and width == 1 else width
    if found != wanted:
        change = f"--set classes={found}" if re.search(r"\bclasses\b", text or "") else None
        raise CnnError.of(
            "labels",
            f"the data has {number_of(found, 'class')}, and the network's output `{output.name}` has {wanted}",
            help=None if text is None else change or f"end the network with dense({found})",
        )


def require_targets(outputs: Sequence[Output], feed: Feed) -> None:
    """Raises CnnError when targets are of another shape than their outputs, or outside them."""
    if len(feed.targets) != len(outputs):
        raise CnnError.of(
            "labels",
            f"the network has {number_of(len(outputs), 'output')}, and the data targets for {len(feed.targets)}",
        )
    for output, target in zip(outputs, feed.targets, strict=True):
        shape, found = output.shape, target.shape[1:]
        integers = target.dtype.kind in "iub"
        fits = found == shape or (found == shape[:-1] and (integers or shape[-1] == 1))
        if not fits:
            kind = "classes" if integers else "values"
            raise CnnError.of(
                "labels",
                f"the targets of `{output.name}` are {kind} of shape {format_shape(found)}, and the output is"
                f" {format_shape(shape)}",
                help="give a class an example, or values of the output's own shape",
            )
        if integers and found != shape:
            _require_range(output.name, target, output.loss, shape[-1])
        elif not np.isfinite(target).all():
            raise CnnError.of("labels", f"the targets of `{output.name}` are not all finite numbers")
        elif not isinstance(output.loss, MeanSquaredError):
            _require_shares(output.name, target, output.loss, found == shape)


def _is_classified(loss: Loss, output: Shape, target: Shape, *, integers: bool) -> bool:
    if isinstance(loss, MeanSquaredError):
        return integers and output[-1] > 1 and target == output[:-1]
    return target == output[:-1] if integers else isinstance(loss, CrossEntropy)


def _require_range(label: str, target: NDArray[np.generic], loss: Loss, size: int) -> None:
    if size == 1 and isinstance(loss, MeanSquaredError):
        return
    count = 2 if size == 1 else size
    low, high = int(target.min()), int(target.max())
    if low < 0 or high >= count:
        raise CnnError.of(
            "labels",
            f"the labels of `{label}` {extent(low, high, plural=True)}, and its outputs stand for 0 to {count - 1}",
            help="0 is for what does not hold and 1 for what does"
            if size == 1
            else f"--set classes={high + 1}"
            if low >= 0
            else "labels count classes from 0",
        )


def _require_shares(label: str, target: NDArray[np.generic], loss: Loss, has_classes: bool) -> None:
    """Raises CnnError for values that are no probabilities, or of classes which exclude each other no shares of one."""
    name = loss.names[0]
    low, high = float(target.min()), float(target.max())
    if low < 0 or high > 1:
        scaled = low >= 0 and high == 255
        raise CnnError.of(
            "labels",
            f"the targets of `{label}` {extent(low, high, '.6g', plural=True)}, and `{name}` wants them from 0 to 1",
            help="divide them by 255"
            if scaled
            else "1 is for what holds and 0 for what does not; mse takes any values",
        )
    if not isinstance(loss, CrossEntropy) or not has_classes:
        return
    sums = target.sum(axis=-1, dtype=np.float64).reshape(len(target), -1)
    wrong = np.abs(sums - 1).max(axis=1) > _ROUNDING
    if wrong.any():
        first = int(wrong.argmax())
        found = sums[first, np.abs(sums[first] - 1).argmax()]
        raise CnnError.of(
            "labels",
            f"the targets of `{label}` are shares of classes, and those of example {first} sum to {found:.6g}, not 1",
            help="where several classes may hold at once: loss binary_cross_entropy",
        )


def _require_fitting_end(loss: Loss, label: str, net: Net, node: str) -> None:
    end, shape = net.graph[node].op, net.graph[node].shape
    if isinstance(loss, CrossEntropy) and isinstance(end, Sigmoid):
        raise CnnError.of(
            "train",
            f"`{label}` ends in `sigmoid`, and cross_entropy wants a softmax or nothing",
            help="loss binary_cross_entropy",
        )
    if isinstance(loss, CrossEntropy) and shape[-1] == 1:
        raise CnnError.of(
            "train",
            f"`{label}` has a single channel, and cross_entropy wants one a class",
            help="loss binary_cross_entropy",
        )
    if isinstance(loss, BinaryCrossEntropy) and isinstance(end, Softmax):
        raise CnnError.of(
            "train",
            f"`{label}` ends in `softmax`, and binary_cross_entropy wants a sigmoid or nothing",
            help="loss cross_entropy",
        )
