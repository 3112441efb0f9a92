"""How to train a network: what the `train` section of a spec says, as a value."""

from __future__ import annotations

from typing import Literal

from cnnc.frozen import dataclass
from cnnc.recipe.augmentations import Augment
from cnnc.recipe.losses import CrossEntropy, Loss
from cnnc.recipe.optimizers import Optimizer, Sgd
from cnnc.recipe.schedules import Cosine, Schedule


@dataclass(frozen=True)
class Recipe:
    """The whole `train` section, defaults filled in. Every field can be overridden by a flag of `cnnc train`.

    `losses` pairs an output's name with its loss; the name is None where the section gives one loss for all.
    `weights` is the file or run that the first weights come from. `freeze`, `unfreeze` and `rates` name layers by their
    labels and by globs: what does not learn, from which epoch on (counted from 1) it does after all, and the peak of a
    learning rate of its own.

    `accumulate` steps give one update, by the mean of their gradients. `clip` is the most that the norm of all
    gradients together may be. `ema` is the decay of an average of the weights, which is what is evaluated and saved.
    Training stops after `patience` epochs in a row without a better one. `remat` computes activations again in the
    backward pass instead of keeping them. Batch norm's statistics are those of the whole batch, or (`local`) of each
    device's part. `on_nan` says whether a step whose loss or gradient is no number ends the training or is left out.
    """

    data: str | None = None
    augment: tuple[Augment, ...] = ()
    losses: tuple[tuple[str | None, Loss], ...] = ((None, CrossEntropy()),)
    optimizer: Optimizer = Sgd(momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule: Schedule = Cosine(peak=0.05, warmup=1.0)
    batch: int = 64
    epochs: int = 10
    seed: int = 0
    precision: Literal["f32", "bf16"] = "f32"
    weights: str | None = None
    freeze: tuple[str, ...] = ()
    unfreeze: tuple[tuple[int, str], ...] = ()
    rates: tuple[tuple[str, float], ...] = ()
    accumulate: int = 1
    clip: float | None = None
    ema: float | None = None
    patience: int | None = None
    remat: bool = False
    batch_norm: Literal["global", "local"] = "global"
    on_nan: Literal["stop", "skip"] = "stop"
