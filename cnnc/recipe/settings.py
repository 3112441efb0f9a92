"""How to train a network: the `train` section of a spec as a value, and the table of its settings.

What is stated here at each field of `Recipe` is all that is stated of a setting. The reader and the printer of the
section, its form in a run's `args.yaml`, the flags of `cnnc train`, the keywords of `cnnc.train` and the tables of the
manual follow `SETTINGS`.

To add a setting: a field here, the type of its keyword in `cnnc.recipe.changes`, the code that obeys it, and the tables
of the manual by `pytest --update-golden tests/project/test_language_page.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, Final, Literal, TypeVar, get_args

from cnnc.frozen import dataclass
from cnnc.recipe.augmentations import Augment
from cnnc.recipe.entry import OPEN_UNIT, POSITIVE, Entry, Range
from cnnc.recipe.losses import CrossEntropy, Loss
from cnnc.recipe.optimizers import Optimizer, Sgd
from cnnc.recipe.schedules import Cosine, Schedule

T = TypeVar("T")
Precision = Literal["f32", "bf16"]
BatchNormStatistics = Literal["global", "local"]
OnNan = Literal["stop", "skip"]
Kind = Literal[
    "name",  # a word, or a path in quotes
    "path",  # a path in quotes
    "whole",  # a whole number of the `range`; `none` too if that is the default
    "number",  # a number of the `range`; `none` too if that is the default
    "choice",  # one of the words `choices`
    "switch",  # `on` or `off`
    "call",  # an entry `of` a class, with its arguments
    "calls",  # several, joined by `|`; `none`
    "loss_by_output",  # an entry for all outputs, or one for each, by its label
    "patterns",  # labels of layers, or patterns in quotes
    "epoch_by_label",  # an epoch of the `range` for each of several labels; pairs of an epoch and a label
    "rate_by_label",  # a learning rate for each of several labels; pairs of a label and a rate
]
"""How a setting is written in the train section."""
MOST: Final = 2**31 - 1
"""The largest whole number that a setting takes."""
AT_LEAST_ONE: Final = Range(1)


@dataclass(frozen=True)
class Setting:
    """An entry of the train section: `name` there, and `field` of a `Recipe`.

    `purpose` is what it is for, as the manual and `help(cnnc.train)` say it. `flag` is how the command line overrides
    it, where that is not `--name`; `help` is what its option says, where that is not the purpose up to a semicolon.
    `resumable` says whether `cnnc train --resume` takes that option too.
    """

    name: str
    field: str
    default: Any
    kind: Kind
    purpose: str
    help: str = ""
    flag: str = ""
    resumable: bool = False
    choices: tuple[str, ...] = ()
    of: type[Entry] = Entry
    range: Range = AT_LEAST_ONE


def setting(default: T, kind: Kind, purpose: str, help: str = "", **more: Any) -> T:
    """A field of `Recipe`, and what `Setting` says of it."""
    return field(default=default, metadata={"kind": kind, "purpose": purpose, "help": help, **more})


@dataclass(frozen=True)
class Recipe:
    """The whole `train` section, defaults filled in.

    `losses` pairs an output's name with its loss; the name is None where the section gives one loss for all.

    >>> Recipe(epochs=3).batch
    64
    """

    data: str | None = setting(None, "name", "the data set, by its name or the path of its folder")
    augment: tuple[Augment, ...] = setting((), "calls", "random changes of the training pictures", of=Augment)
    losses: tuple[tuple[str | None, Loss], ...] = setting(
        ((None, CrossEntropy()),), "loss_by_output", "what the outputs are held to", of=Loss, name="loss"
    )
    optimizer: Optimizer = setting(
        Sgd(momentum=0.9, nesterov=True, weight_decay=5e-4), "call", "how gradients become steps", of=Optimizer
    )
    schedule: Schedule = setting(
        Cosine(peak=0.05, warmup=1.0), "call", "the learning rate over the epochs", of=Schedule, flag="--lr"
    )
    batch: int = setting(64, "whole", "pictures a step")
    epochs: int = setting(10, "whole", "passes over the data", resumable=True)
    seed: int = setting(
        0, "whole", "of all that is random; first weights, shuffling, augmentation, dropout", range=Range(0, MOST)
    )
    precision: Precision = setting(
        "f32", "choice", "what to compute in; weights are float32 either way", choices=get_args(Precision)
    )
    weights: str | None = setting(
        None, "path", "what to start from; a file of weights or a run, and layers that it does not fit start anew"
    )
    freeze: tuple[str, ...] = setting((), "patterns", "layers, labels or globs that do not learn")
    unfreeze: tuple[tuple[int, str], ...] = setting(
        (),
        "epoch_by_label",
        "what of the frozen layers learns from an epoch on, counted from 1",
        flag="--unfreeze 5:features",
        range=Range(2),
    )
    rates: tuple[tuple[str, float], ...] = setting(
        (), "rate_by_label", "the schedule's peak for layers of their own", flag="--lr head=0.01", range=POSITIVE
    )
    accumulate: int = setting(
        1, "whole", "steps whose gradients give one update; by their mean, and an epoch's last step always makes one"
    )
    clip: float | None = setting(
        None, "number", "most that the norm of all gradients may be; longer ones are scaled down", range=POSITIVE
    )
    ema: float | None = setting(
        None,
        "number",
        "decay of a moving average of weights and statistics, which is then what is evaluated and kept",
        "Decay of an average of the weights: 0.999.",
        range=OPEN_UNIT,
    )
    patience: int | None = setting(
        None,
        "whole",
        "epochs in a row without a better one after which training stops",
        "Stop after N epochs without a better one.",
        resumable=True,
    )
    remat: bool = setting(False, "switch", "compute activations again in the backward pass, for memory")
    batch_norm: BatchNormStatistics = setting(
        "global", "choice", "statistics of the batch, or a device's part", choices=get_args(BatchNormStatistics)
    )
    on_nan: OnNan = setting(
        "stop",
        "choice",
        "whether a step whose loss or gradient is no number ends the training or is left out",
        "When a loss is no number.",
        choices=get_args(OnNan),
        resumable=True,
    )


SETTINGS: Final[Mapping[str, Setting]] = {
    each.name: each
    for each in (
        Setting(**{"name": one.name, "field": one.name, "default": one.default, **one.metadata})
        for one in fields(Recipe)
    )
}
"""Every setting by its name in the train section, in the order of `Recipe`."""
