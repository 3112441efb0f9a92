"""Which data a network was trained on: enough to evaluate it on the same again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cnnc.data.sources.parts import HELD_OUT

ARRAYS: Final = "arrays"
"""The name of data that a run does not keep: arrays in memory, or none at all."""


@dataclass(frozen=True)
class DataNote:
    """A data set, and how it was divided.

    Attributes:
        data: the name of the set, its folder, or `ARRAYS`.
        folder: where the files of a set by name lie.
        held_out: the share of a folder without parts that is held out.
        seed: of the recipe, by which that part is drawn.
        classes: their names, in the order of the labels.
        train_count: examples to train on.
        val_count: examples to validate on.
        skip_corrupt: whether pictures that cannot be decoded were left out.
        digest: of all examples, so that a run goes on with no others; empty for runs of old.
    """

    data: str = ARRAYS
    folder: str | None = None
    held_out: float = HELD_OUT
    seed: int = 0
    classes: tuple[str, ...] = ()
    train_count: int = 0
    val_count: int = 0
    skip_corrupt: bool = False
    digest: str = ""

    @property
    def name(self) -> str | None:
        """The set's name or folder; None for arrays, which are not kept."""
        return None if self.data == ARRAYS else self.data


NO_DATA: Final = DataNote()
