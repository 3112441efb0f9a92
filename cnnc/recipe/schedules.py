"""The learning rate over a training, as the train section's `schedule` names it."""

from __future__ import annotations

from cnnc.frozen import dataclass
from cnnc.ops.signature import Floats
from cnnc.recipe.entry import NOT_NEGATIVE, OPEN_UNIT, POSITIVE, SHARE, UNIT, Entry, number, require


@dataclass(frozen=True)
class Schedule(Entry):
    r"""Learning rate over epochs, never above `peak`.

    In the formulas e is the time since the start in epochs, with fractions, and E how many epochs there are in all.

    >>> from cnnc import load_text
    >>> load_text("input 4\ndense(2)\ntrain { schedule cosine(0.1, warmup=2) }").recipe.schedule
    Cosine(peak=0.1, warmup=2.0, floor=0.0)
    """

    noun = "schedule"
    peak: float = number(0.01, POSITIVE)


@dataclass(frozen=True)
class Warmed(Schedule):
    """A linear warm-up from zero over `warmup` epochs to `peak`, then the class's own.

    The rate is peak e / warmup until then. In the formulas of what follows, s is the share that is gone of the epochs
    after the warm-up: s = (e - warmup) / (E - warmup).
    """

    warmup: float = number(0.0, NOT_NEGATIVE)


@dataclass(frozen=True)
class Constant(Warmed):
    """Stays at `peak`.

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(Constant(0.1, warmup=2), epoch, epochs=10):.3f}" for epoch in (0, 1, 2, 10)]
    ['0.000', '0.050', '0.100', '0.100']
    """

    names = ("constant",)


@dataclass(frozen=True)
class Step(Warmed):
    """Is multiplied by `factor` at each of the epochs `at`, counted from the start of training.

    With n of these epochs gone the rate is peak factor^n.

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(Step(1.0, at=(3, 6)), epoch, epochs=10):.3f}" for epoch in (0, 3, 5, 6, 10)]
    ['1.000', '0.100', '0.100', '0.010', '0.010']
    """

    names = ("step",)
    at: Floats = ()
    factor: float = number(0.1, SHARE)

    def validate(self) -> None:
        super().validate()
        require(list(self.at) == sorted(self.at) and all(x > 0 for x in self.at), "`at` must rise from above 0", "at")


@dataclass(frozen=True)
class Cosine(Warmed):
    """Falls along half a cosine to `floor` times the peak at the last epoch (Loshchilov & Hutter 2017).

    The rate is peak (floor + (1 - floor) (1 + cos(pi s)) / 2).

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(Cosine(0.1, warmup=2), epoch, epochs=10):.3f}" for epoch in (1, 2, 6, 10)]
    ['0.050', '0.100', '0.050', '0.000']
    """

    names = ("cosine",)
    floor: float = number(0.0, UNIT)


@dataclass(frozen=True)
class Linear(Warmed):
    """Falls along a line to `floor` times the peak at the last epoch.

    The rate is peak (floor + (1 - floor) (1 - s)).

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(Linear(0.1, warmup=2), epoch, epochs=10):.3f}" for epoch in (1, 2, 4, 10)]
    ['0.050', '0.100', '0.075', '0.000']
    """

    names = ("linear",)
    floor: float = number(0.0, UNIT)


@dataclass(frozen=True)
class Exponential(Warmed):
    """Is multiplied by `factor` every `every` epochs after the warm-up, continuously.

    The rate is peak factor^((e - warmup) / every).

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(Exponential(1.0, factor=0.5, every=2), epoch, epochs=10):.3f}" for epoch in (0, 1, 2, 4)]
    ['1.000', '0.707', '0.500', '0.250']
    """

    names = ("exponential",)
    factor: float = number(0.97, SHARE)
    every: float = number(1.0, POSITIVE)


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Rises along half a cosine from `start` times the peak over the share `rise` of all epochs, and falls to `end`.

    The fall is half a cosine too, to `end` times the peak (Smith 2018, as PyTorch's OneCycleLR anneals). With s = e / E
    and half a cosine h(a, b, t) = b + (a - b) (1 + cos(pi t)) / 2 from a to b the rate is

        peak h(start, 1, s / rise) before the share `rise`, then peak h(1, end, (s - rise) / (1 - rise))

    >>> from cnnc.training.learning_rate import learning_rate
    >>> [f"{learning_rate(OneCycle(1.0, rise=0.5), epoch, epochs=10):.3f}" for epoch in (0, 2.5, 5, 7.5, 10)]
    ['0.040', '0.520', '1.000', '0.500', '0.000']
    """

    names = ("one_cycle",)
    rise: float = number(0.3, OPEN_UNIT)
    start: float = number(0.04, UNIT)
    end: float = number(1e-4, UNIT)
