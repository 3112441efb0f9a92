"""Whether what targets say stays true when augmentation moves what is in the pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnc.data.feeding.feed import Feed
from cnnc.diagnostics import CnnError
from cnnc.evaluation.predictor import Output
from cnnc.ops import Shape, format_shape
from cnnc.recipe import Cutmix, Loss, MeanSquaredError


def require_movable(outputs: Sequence[Output], feed: Feed) -> None:
    """Raises CnnError for an augmentation after which targets may be of another picture.

    A class, or shares of classes, of the whole picture are so wherever in it things are; a map of them moves with the
    picture (`cnnc.data.augmentation.augment`). What values of `mse` stand for is not known, a place perhaps, nor is
    where the rows of an output of two axes lie.
    """
    for output, target in zip(outputs, feed.targets, strict=True):
        reason = _immovable(output.name, output.shape, output.loss, target)
        for entry in feed.augment if reason else ():
            if entry.moves or isinstance(entry, Cutmix):
                raise CnnError.of(
                    "train",
                    f"`{entry.names[0]}` moves what is in a picture, and {reason}",
                    help=f"remove `{entry.names[0]}` from the `augment` line, or change pictures and targets yourself",
                )


def _immovable(label: str, output: Shape, loss: Loss, target: NDArray[np.generic]) -> str:
    """Why targets cannot be moved; nothing where they can, or need not be."""
    is_class = target.dtype.kind in "iub" and target.shape[1:] == output[:-1] and output[-1] > 1
    if isinstance(loss, MeanSquaredError) and not is_class:
        return f"the values that `mse` holds `{label}` to may stand for places"
    if len(output) not in (1, 3):
        return f"it is not known where in it the {format_shape(output)} of `{label}` lie"
    return ""
